//! The text that describes a system to LXC. Pure: every line has a key of this file and a value that was looked at letter by
//! letter, so that no input makes a line that was not meant. Includes nothing, runs nothing on this machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use scrap_schema::unit::{Bytes, MilliCpu};
use thiserror::Error;

use super::machine::{Controller, Machine};
use crate::net::{Interface, lxc_keys};
use crate::runtime::System;

/// Rights over the machine that no system needs inside its own users.
const CAPABILITIES: &str = "audit_control audit_read block_suspend bpf checkpoint_restore linux_immutable mac_admin \
    mac_override perfmon sys_module sys_pacct sys_rawio sys_time syslog wake_alarm";

/// Devices that may be used: null, zero, full, random, urandom, tty, console, ptmx, and terminals.
const DEVICES: [&str; 9] = [
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Parts of the machine's own view that a system has no business with, and an empty run directory.
const MOUNTS: [&str; 8] = [
    "tmpfs run tmpfs rw,nosuid,nodev,mode=755,size=10%,optional 0 0",
    "/dev/null proc/kcore none bind,optional 0 0",
    "/dev/null proc/keys none bind,optional 0 0",
    "/dev/null proc/timer_list none bind,optional 0 0",
    "/dev/null proc/sched_debug none bind,optional 0 0",
    "tmpfs proc/scsi tmpfs ro,nosuid,nodev,noexec,size=0,optional 0 0",
    "tmpfs proc/acpi tmpfs ro,nosuid,nodev,noexec,size=0,optional 0 0",
    "tmpfs sys/firmware tmpfs ro,nosuid,nodev,noexec,size=0,optional 0 0",
];

/// Lowest first user of a grain: what is below are users of the machine, or of a tree that is not prepared.
const IDS_MIN: u32 = 1 << 16;
/// Length of a period of processor time, in microseconds.
const PERIOD_US: u64 = 100_000;

/// A value that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {why}")]
pub(super) struct Bad {
    what: String,
    why: String,
}

fn bad(what: impl Into<String>, why: impl Into<String>) -> Bad {
    Bad { what: what.into(), why: why.into() }
}

/// Everything that is written.
#[derive(Debug)]
pub(super) struct Description<'a> {
    pub(super) rootfs: &'a Path,
    pub(super) seccomp: &'a Path,
    /// The path of the grain's group of processes.
    pub(super) group: &'a str,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) memory: Bytes,
    pub(super) cpu: MilliCpu,
    pub(super) system: &'a System,
    pub(super) machine: &'a Machine,
}

/// The text, line by line.
#[derive(Debug, Default)]
struct Lines {
    text: String,
}

impl Lines {
    /// A line of which every letter was chosen here.
    fn put(&mut self, key: &'static str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn put_of_network(&mut self, key: &'static str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "lxc.net.0.{key} = {value}");
    }
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
}

fn hostname(name: &str) -> Result<&str, Bad> {
    let whole = (1..=63).contains(&name.len()) && name.chars().all(is_name_letter);
    if whole && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(name);
    }
    let why = "must be 1 to 63 of a-z, 0-9 and `-`, which is at neither end";
    Err(bad(format!("the host name {name:?}"), why))
}

fn interface_name(name: &str) -> Result<&str, Bad> {
    let letters = name.chars().all(|letter| is_name_letter(letter) || letter == '.');
    if (1..=15).contains(&name.len()) && letters && name.trim_matches('.') == name {
        return Ok(name);
    }
    Err(bad(format!("the interface name {name:?}"), "must be 1 to 15 of a-z, 0-9, `-` and `.`"))
}

/// A path that means the same to LXC as to us.
fn path(path: &Path) -> Result<&str, Bad> {
    let text = path.to_str().unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@,~".contains(letter);
    if text.starts_with('/') && text.chars().all(plain) && !text.split('/').any(|one| one == "..") {
        return Ok(text);
    }
    let why =
        "must be absolute, of ASCII letters, digits and ./_-+@,~ only; choose another directory";
    Err(bad(format!("the path {}", path.display()), why))
}

/// An environment variable. In quotes, so that blanks at its ends stay.
fn variable(name: &str, value: &str) -> Result<String, Bad> {
    let head = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if !head || !name.chars().all(plain) {
        let why =
            "must begin with a letter or `_`, and have only letters, digits, `_`, `.` and `-`";
        return Err(bad(format!("the name of the environment variable {name:?}"), why));
    }
    if value.chars().any(char::is_control) {
        let why = "has a line break or another control character, which no system can be given; put it into a file";
        return Err(bad(format!("the environment variable {name}"), why));
    }
    Ok(format!("\"{name}={value}\""))
}

impl Description<'_> {
    /// The text.
    ///
    /// # Errors
    /// A value has letters that it must not have, or the machine lacks what a limit needs.
    pub(super) fn text(&self) -> Result<String, Bad> {
        let mut lines = Lines::default();
        self.identity(&mut lines)?;
        self.walls(&mut lines)?;
        self.limits(&mut lines)?;
        match &self.system.interface {
            Some(interface) => network(interface, &mut lines)?,
            // Up: then the loopback is, on which a grain's own programs meet.
            None => {
                lines.put("lxc.net.0.type", "empty");
                lines.put("lxc.net.0.flags", "up");
            }
        }
        for (name, value) in self.env {
            lines.put("lxc.environment", variable(name, value)?);
        }
        Ok(lines.text)
    }

    fn identity(&self, lines: &mut Lines) -> Result<(), Bad> {
        let ids = self.system.ids;
        if ids.base < IDS_MIN || ids.count == 0 || ids.base.checked_add(ids.count).is_none() {
            let why = format!("must have a first one of at least {IDS_MIN}, and an end");
            return Err(bad(format!("the range of {} users from {}", ids.count, ids.base), why));
        }
        lines.put("lxc.uts.name", hostname(&self.system.hostname)?);
        lines.put("lxc.rootfs.path", format_args!("dir:{}", path(self.rootfs)?));
        for kind in ["u", "g"] {
            lines.put("lxc.idmap", format_args!("{kind} 0 {} {}", ids.base, ids.count));
        }
        lines.put("lxc.cgroup.dir.monitor", format_args!("{}/monitor", self.group));
        lines.put(
            "lxc.cgroup.dir.container",
            format_args!("{}/{}", self.group, crate::cgroups::SYSTEM),
        );
        lines.put("lxc.signal.halt", "SIGRTMIN+3");
        lines.put("lxc.monitor.signal.pdeath", "SIGKILL");
        // What the console prints goes where the program that makes the system writes: to the keeper.
        lines.put("lxc.console.logfile", "/proc/self/fd/1");
        lines.put("lxc.tty.max", 4);
        lines.put("lxc.pty.max", 1024);
        Ok(())
    }

    fn walls(&self, lines: &mut Lines) -> Result<(), Bad> {
        lines.put("lxc.autodev", 1);
        lines.put("lxc.mount.auto", "proc:mixed sys:ro cgroup:mixed");
        for mount in MOUNTS {
            lines.put("lxc.mount.entry", mount);
        }
        lines.put("lxc.cap.drop", CAPABILITIES);
        lines.put("lxc.seccomp.profile", path(self.seccomp)?);
        lines.put("lxc.apparmor.profile", self.machine.apparmor());
        let (deny, allow) = match self.machine.controller("devices") {
            Controller::First => ("lxc.cgroup.devices.deny", "lxc.cgroup.devices.allow"),
            Controller::Second | Controller::Missing => {
                ("lxc.cgroup2.devices.deny", "lxc.cgroup2.devices.allow")
            }
        };
        lines.put(deny, "a");
        for device in DEVICES {
            lines.put(allow, device);
        }
        Ok(())
    }

    fn limits(&self, lines: &mut Lines) -> Result<(), Bad> {
        if self.memory.0 > 0 {
            self.limit_memory(lines)?;
        }
        if self.system.pids > 0 {
            match self.machine.controller("pids") {
                Controller::First => lines.put("lxc.cgroup.pids.max", self.system.pids),
                Controller::Second => lines.put("lxc.cgroup2.pids.max", self.system.pids),
                Controller::Missing => return Err(no_controller("processes")),
            }
        }
        if self.cpu.0 > 0 {
            self.limit_processor(lines)?;
        }
        Ok(())
    }

    fn limit_memory(&self, lines: &mut Lines) -> Result<(), Bad> {
        let memory = self.memory.0;
        match self.machine.controller("memory") {
            Controller::First => {
                lines.put("lxc.cgroup.memory.limit_in_bytes", memory);
                if self.machine.limits_swap() {
                    lines.put("lxc.cgroup.memory.memsw.limit_in_bytes", memory);
                }
            }
            Controller::Second => {
                lines.put("lxc.cgroup2.memory.max", memory);
                if self.machine.limits_swap() {
                    lines.put("lxc.cgroup2.memory.swap.max", 0);
                }
            }
            Controller::Missing => return Err(no_controller("memory")),
        }
        Ok(())
    }

    fn limit_processor(&self, lines: &mut Lines) -> Result<(), Bad> {
        // The system knows no smaller one than a millisecond.
        let quota = (self.cpu.0.saturating_mul(PERIOD_US) / 1000).max(1000);
        match self.machine.controller("cpu") {
            Controller::First => {
                lines.put("lxc.cgroup.cpu.cfs_period_us", PERIOD_US);
                lines.put("lxc.cgroup.cpu.cfs_quota_us", quota);
            }
            Controller::Second => {
                lines.put("lxc.cgroup2.cpu.max", format_args!("{quota} {PERIOD_US}"));
            }
            Controller::Missing => return Err(no_controller("processor time")),
        }
        Ok(())
    }
}

fn no_controller(what: &str) -> Bad {
    let why = "cannot be kept: the machine has no controller for it in its groups of processes";
    bad(format!("the limit of {what}"), why)
}

/// An interface of its own, to which this machine is a router.
fn network(interface: &Interface, lines: &mut Lines) -> Result<(), Bad> {
    interface_name(&interface.host)?;
    interface_name(&interface.guest)?;
    let v4 = interface.v4.map(|(address, length)| (IpAddr::V4(address), length, 32));
    let v6 = interface.v6.map(|(address, length)| (IpAddr::V6(address), length, 128));
    let mut addresses = v4.into_iter().chain(v6);
    if let Some((address, length, _)) = addresses.find(|(_, length, longest)| length > longest) {
        let what = format!("the length {length} of the prefix of {address}");
        return Err(bad(what, "is too long"));
    }
    for (key, value) in lxc_keys(interface) {
        lines.put_of_network(key, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
