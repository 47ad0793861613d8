//! What a spec must mean, beyond the types of its fields. Both doors use it: manifests and API bodies.
//!
//! Refused is what could never work, what would surprise at the worst moment, and what is larger than anybody needs.

use std::collections::BTreeMap;

use crate::fence::{FenceProtocol, FenceSpec};
use crate::problem::FieldError;
use crate::spec::{
    FailoverMode, GrainSpec, Keep, Labels, NodeSpec, Placement, Policy, Replicate, Resources,
    Template,
};
use crate::strict::{Step, Validate, pointer, within};
use crate::unit::{Bytes, MilliCpu, Span};

mod health;
mod network;

const LABELS_MAX: usize = 64;
const LABEL_LENGTH_MAX: usize = 63;
const VARIABLE_LENGTH_MAX: usize = 255;
const ENV_ENTRIES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 64 << 10;
const APART_MAX: usize = 16;
const MEMORY_MIN: Bytes = Bytes(4 << 20);
const DISK_MIN: Bytes = Bytes(1 << 20);
const CPU_MIN: MilliCpu = MilliCpu(10);
const CPU_MAX: MilliCpu = MilliCpu(1024 * 1000);
const PIDS_MIN: u32 = 16;
const PIDS_MAX: u32 = 4_194_304;
const RECORD_MIN: Bytes = Bytes(4 << 10);
const RECORD_MAX: Bytes = Bytes(128 << 10);
const STOP_TIMEOUT_MAX: Span = Span::from_secs(600);
const REPLICATE_EVERY_MIN: Span = Span::from_secs(1);
const COPIES_MAX: u32 = 8;
const KEEP_MAX: u32 = 10_000;
const FENCE_TIMEOUT_MIN: Span = Span::from_secs(1);
const FENCE_TIMEOUT_MAX: Span = Span::from_secs(300);

const NAME_A_PROGRAM: &str = "name a program, and its arguments after it";

impl Validate for GrainSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = self.program();
        faults.extend(within("/env", environment(&self.env)));
        faults.extend(within("/resources", self.resources.validate()));
        faults.extend(self.addresses());
        if let Some(health) = &self.health {
            faults.extend(within("/health", health.validate()));
        }
        faults.extend(within("/place", self.place.validate()));
        if self.stop.timeout > STOP_TIMEOUT_MAX {
            let detail = format!("{} is too long to wait for a stop", self.stop.timeout);
            let hint = format!("at most {STOP_TIMEOUT_MAX}: a failing node has no more time");
            faults.push(FieldError::new("/stop/timeout", detail).with_hint(hint));
        }
        faults
    }
}

impl GrainSpec {
    fn program(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        match (&self.template, self.command.first()) {
            // The system has an init of its own.
            (Template::Named(_), None) => {}
            (Template::Process, None) => {
                let fault = FieldError::new(
                    "/command",
                    "a grain of the template `process` needs a command",
                );
                faults.push(
                    fault.with_hint("write program and arguments as a list: [/usr/bin/caddy, run]"),
                );
            }
            (Template::Named(_) | Template::Process, Some(_)) => {
                faults.extend(arguments("/command", &self.command));
            }
        }
        faults
    }
}

/// What is wrong with a program and its arguments.
fn arguments(at: &str, command: &[String]) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if command.first().is_some_and(String::is_empty) {
        let fault = FieldError::new(format!("{at}/0"), "the program is an empty text");
        faults.push(fault.with_hint(NAME_A_PROGRAM));
    }
    for (index, argument) in command.iter().enumerate() {
        faults.extend(within(at, no_nul(argument, &[Step::Index(index)]).into_iter().collect()));
    }
    if command.iter().map(String::len).sum::<usize>() > TEXT_BYTES_MAX {
        let detail = format!("the command is longer than {}", Bytes(TEXT_BYTES_MAX as u64));
        faults.push(FieldError::new(at, detail));
    }
    faults
}

/// What is wrong with a program that is to be run inside a grain, at `/command` and `/env`.
#[must_use]
pub fn validate_program(command: &[String], env: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut faults = arguments("/command", command);
    if command.is_empty() {
        let fault = FieldError::new("/command", "the command is empty");
        faults.push(fault.with_hint(NAME_A_PROGRAM));
    }
    faults.extend(within("/env", environment(env)));
    faults
}

/// What is wrong with the environment of a program: of the whole, or at `/<variable>`.
fn environment(env: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let hint = "put it into a file in the grain's data";
    if env.len() > ENV_ENTRIES_MAX {
        let detail = format!("{} variables are more than {ENV_ENTRIES_MAX}", env.len());
        faults.push(FieldError::new("", detail).with_hint(hint));
    }
    if env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > TEXT_BYTES_MAX {
        let detail = format!("the environment is larger than {}", Bytes(TEXT_BYTES_MAX as u64));
        faults.push(FieldError::new("", detail).with_hint(hint));
    }
    for (name, value) in env {
        let path = [Step::Key(name.clone())];
        if let Some(reason) = bad_variable(name) {
            let detail = format!("`{}` is not a name for a variable: {reason}", short(name));
            let fault = FieldError::new(pointer(&path), detail);
            faults.push(
                fault.with_hint("choose another name: letters, digits and `_`, such as `PORT`"),
            );
        }
        faults.extend(no_nul(value, &path));
    }
    faults
}

fn bad_variable(name: &str) -> Option<&'static str> {
    let mut bytes = name.bytes();
    if name.len() > VARIABLE_LENGTH_MAX {
        return Some("it is longer than 255 characters");
    }
    match bytes.next() {
        None => return Some("it is empty"),
        Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => {}
        Some(_) => return Some("it must begin with a letter or `_`"),
    }
    if !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some("only letters, digits and `_` are allowed");
    }
    name.starts_with("SCRAP_").then_some("names that begin with `SCRAP_` are set by scrapd")
}

fn no_nul(text: &str, path: &[Step]) -> Option<FieldError> {
    let fault = FieldError::new(pointer(path), "the text holds a NUL character");
    text.contains('\0').then(|| fault.with_hint("leave it out: no program can be given one"))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Validate for Resources {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.cpu < CPU_MIN || self.cpu > CPU_MAX {
            let detail = format!("{} cores are not between {CPU_MIN} and {CPU_MAX}", self.cpu);
            faults.push(FieldError::new("/cpu", detail));
        }
        for (pointer, what, size, least) in
            [("/memory", "memory", self.memory, MEMORY_MIN), ("/disk", "disk", self.disk, DISK_MIN)]
        {
            if size < least {
                faults.push(FieldError::new(
                    pointer,
                    format!("{size} of {what} is less than {least}"),
                ));
            }
        }
        if let Some(pids) = self.pids.filter(|pids| *pids < PIDS_MIN || *pids > PIDS_MAX) {
            let detail = format!("{pids} processes are not between {PIDS_MIN} and {PIDS_MAX}");
            faults.push(FieldError::new("/pids", detail));
        }
        if let Some(reserve) = self.reserve.filter(|reserve| *reserve > self.disk) {
            let detail = format!("{reserve} are more than the {} of `disk`", self.disk);
            faults.push(FieldError::new("/reserve", detail).with_hint("raise `disk`, or less"));
        }
        if let Some(size) = self.record_size {
            let sound = size.0.is_power_of_two() && (RECORD_MIN..=RECORD_MAX).contains(&size);
            if !sound {
                let detail = format!("blocks cannot be {size} large");
                let hint = "4KiB, 8KiB, 16KiB, 32KiB, 64KiB or 128KiB";
                faults.push(FieldError::new("/recordSize", detail).with_hint(hint));
            }
        }
        faults
    }
}

impl Validate for Placement {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = within("/require", validate_labels(&self.require));
        if self.apart_from.len() > APART_MAX {
            let detail =
                format!("{} sets of labels are more than {APART_MAX}", self.apart_from.len());
            faults.push(FieldError::new("/apartFrom", detail));
        }
        for (index, labels) in self.apart_from.iter().enumerate() {
            let at = format!("/apartFrom/{index}");
            if labels.is_empty() {
                let fault = FieldError::new(at.clone(), "a set without labels means every grain");
                faults.push(fault.with_hint("name at least one label, such as {app: mail}"));
            }
            faults.extend(within(&at, validate_labels(labels)));
        }
        faults
    }
}

impl Validate for Policy {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = within("/replicate", self.replicate.validate());
        let (every, loss) = (self.replicate.every, self.failover.max_data_loss);
        let promotes = match self.failover.mode {
            FailoverMode::Auto => self.replicate.copies > 0,
            FailoverMode::Manual => false,
        };
        if promotes && loss < every {
            let detail = format!(
                "copies are made every {every}, so when the owner dies the newest is mostly older than {loss} and never promoted"
            );
            let hint = format!("at least {every} (`replicate.every`), better twice that");
            faults.push(FieldError::new("/failover/maxDataLoss", detail).with_hint(hint));
        }
        faults.extend(within("/snapshots", self.snapshots.validate()));
        faults
    }
}

impl Validate for Replicate {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.every < REPLICATE_EVERY_MIN {
            let detail =
                format!("copies every {} are closer than {REPLICATE_EVERY_MIN}", self.every);
            faults.push(FieldError::new("/every", detail));
        }
        if self.copies > COPIES_MAX {
            let detail = format!("{} copies are more than {COPIES_MAX}", self.copies);
            faults.push(FieldError::new("/copies", detail));
        }
        if let Some(reason) = self.spread.as_deref().and_then(bad_key) {
            let detail = format!("this is not the key of a node's label: {reason}");
            faults.push(FieldError::new("/spread", detail).with_hint("for example `zone`"));
        }
        if self.alert_after < self.every {
            let detail = format!(
                "copies are made every {}, so an alarm after {} would never be silent",
                self.every, self.alert_after
            );
            faults.push(FieldError::new("/alertAfter", detail).with_hint("several times `every`"));
        }
        faults
    }
}

impl Validate for Keep {
    fn validate(&self) -> Vec<FieldError> {
        let counts = [
            ("/keep-last", self.keep_last),
            ("/keep-hourly", self.keep_hourly),
            ("/keep-daily", self.keep_daily),
        ];
        let many = counts.into_iter().filter(|(_, count)| *count > KEEP_MAX);
        many.map(|(at, count)| {
            FieldError::new(at, format!("{count} snapshots are more than {KEEP_MAX}"))
        })
        .collect()
    }
}

impl Validate for NodeSpec {
    fn validate(&self) -> Vec<FieldError> {
        // Destructured so that a new field comes by here.
        let Self { cordoned: _, fence } = self;
        fence.as_ref().map_or_else(Vec::new, |fence| within("/fence", fence.validate()))
    }
}

impl Validate for FenceSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let is_agent = self.program.as_str().starts_with("fence_");
        match self.protocol {
            // Anything else that is in their folder is no agent, and some of it is a shell.
            FenceProtocol::Agent if !is_agent => {
                let detail = format!(
                    "`{}` is no fence agent: their names begin with `fence_`",
                    self.program
                );
                let hint = "for a program of your own say `protocol: hook`";
                faults.push(FieldError::new("/program", detail).with_hint(hint));
            }
            FenceProtocol::Agent | FenceProtocol::Hook => {}
        }
        if self.timeout < FENCE_TIMEOUT_MIN || self.timeout > FENCE_TIMEOUT_MAX {
            let detail = format!("{} is no limit for a power cut", self.timeout);
            let hint = format!("from {FENCE_TIMEOUT_MIN} to {FENCE_TIMEOUT_MAX}");
            faults.push(FieldError::new("/timeout", detail).with_hint(hint));
        }
        faults
    }
}

/// What is wrong with labels, each at `/<key>`.
#[must_use]
pub fn validate_labels(labels: &Labels) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if labels.len() > LABELS_MAX {
        faults.push(FieldError::new(
            "",
            format!("{} labels are more than {LABELS_MAX}", labels.len()),
        ));
    }
    for (key, value) in labels {
        let at = pointer(&[Step::Key(key.clone())]);
        if let Some(reason) = bad_key(key) {
            let detail = format!("`{}` is not a key for a label: {reason}", short(key));
            faults.push(FieldError::new(at.clone(), detail));
        }
        if let Some(reason) = bad_label(value) {
            let detail = format!("`{}` is not a value for a label: {reason}", short(value));
            faults.push(
                FieldError::new(at, detail).with_hint("longer texts belong in `annotations`"),
            );
        }
    }
    faults
}

/// What is wrong with the key of a label or annotation.
pub(crate) fn bad_key(key: &str) -> Option<&'static str> {
    if key.is_empty() { Some("it is empty") } else { bad_label(key) }
}

fn bad_label(text: &str) -> Option<&'static str> {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    if text.len() > LABEL_LENGTH_MAX {
        return Some("it is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
    {
        return Some("only letters, digits and `-`, `_`, `.`, `/` are allowed");
    }
    let (first, last) = (text.bytes().next(), text.bytes().last());
    (!edge(first) || !edge(last)).then_some("it must begin and end with a letter or digit")
}

#[cfg(test)]
mod tests;
