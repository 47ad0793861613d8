//! One run of a program that knows the device: its lines, its end, the last that it said.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use scrap_schema::fence::{FenceProtocol, Power};
use scrap_schema::id::Name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::{Action, FenceError, STATUS_OFF};
use crate::run::command;

/// So much of what a program says is remembered.
const SAID_MAX: usize = 4 << 10;
/// So much of its last line is shown.
const SHOWN_MAX: usize = 200;
/// What it wrote just before its end is waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Where a program finds others. Nothing of the daemon's own environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program, ready to be run.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) protocol: FenceProtocol,
    pub(super) node: Name,
    pub(super) lines: Vec<String>,
}

/// How a run has ended.
pub(super) struct Ended {
    program: String,
    action: Action,
    status: ExitStatus,
    said: String,
}

/// A program and everything that it has started: killed when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Once its end was seen there is no such number any more, and nothing is signalled that is another's.
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Program {
    fn shown(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Runs it to its end.
    pub(super) async fn run(&self, action: Action) -> Result<Ended, FenceError> {
        let what = format!("run `{}`", self.path.display());
        let failed = |source| FenceError::Io { what: what.clone(), source };
        let arguments = match self.protocol {
            FenceProtocol::Agent => Vec::new(),
            FenceProtocol::Hook => vec![action.word().to_owned(), self.node.to_string()],
        };
        let mut command = command(self.path.as_os_str(), &arguments);
        command.env("PATH", PATH).env("LC_ALL", "C").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group(command.spawn().map_err(failed)?);
        if let Some(mut input) = group.0.stdin.take() {
            // One that does not read its lines says so by its end.
            let _ = input.write_all(self.input(action).as_bytes()).await;
        }
        let (status, said) = end(&mut group.0).await.map_err(failed)?;
        Ok(Ended { program: self.shown(), action, status, said })
    }

    /// The lines on its standard input. Of two with one key the last one counts: ours.
    fn input(&self, action: Action) -> String {
        let mut input = String::new();
        for line in &self.lines {
            input.push_str(line);
            input.push('\n');
        }
        input + &format!("nodename={}\naction={}\n", self.node, action.word())
    }
}

/// Waits for its end, and keeps the end of what it says meanwhile.
async fn end(child: &mut Child) -> std::io::Result<(ExitStatus, String)> {
    let Some(mut output) = child.stderr.take() else {
        return Ok((child.wait().await?, String::new()));
    };
    let (mut said, mut buffer, mut open) = (Vec::new(), [0; 1024], true);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            read = output.read(&mut buffer), if open => {
                open = keep(&mut said, &buffer, read.unwrap_or(0));
            }
        }
    };
    // What it has left running may hold the pipe open for ever, or fill it for ever.
    for _ in 0..SAID_MAX / buffer.len() {
        if !open {
            break;
        }
        let read = tokio::time::timeout(LAST_WORDS, output.read(&mut buffer)).await;
        open = keep(&mut said, &buffer, read.unwrap_or(Ok(0)).unwrap_or(0));
    }
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Adds what was read and forgets what is too old. Returns whether there may be more.
fn keep(said: &mut Vec<u8>, buffer: &[u8], read: usize) -> bool {
    said.extend_from_slice(buffer.get(..read).unwrap_or_default());
    let old = said.len().saturating_sub(SAID_MAX);
    said.drain(..old);
    read > 0
}

impl Ended {
    /// That it has done it.
    pub(super) fn good(self) -> Result<(), FenceError> {
        if self.status.success() { Ok(()) } else { Err(self.failed()) }
    }

    /// What the answer to `status` means.
    pub(super) fn power(self) -> Result<Power, FenceError> {
        match self.status.code() {
            Some(0) => Ok(Power::On),
            Some(STATUS_OFF) => Ok(Power::Off),
            Some(_) | None => Err(self.failed()),
        }
    }

    fn failed(self) -> FenceError {
        let line = self.said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let clean = |line: &str| {
            let letters = line.chars().filter(|letter| !letter.is_control());
            letters.take(SHOWN_MAX).collect::<String>()
        };
        let said = line.map_or_else(String::new, |line| format!(": {}", clean(line)));
        let how = match self.status.code() {
            Some(code) => format!("status {code}"),
            None => "a signal".to_owned(),
        };
        FenceError::Failed { program: self.program, action: self.action.word(), how, said }
    }
}
