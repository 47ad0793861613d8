//! What a keeper does besides when its grain is a system: understands the program that makes it, asks its init, kills its
//! group, and removes that. Needs no program to kill.

use std::io::{self, PipeReader, PipeWriter, Read};

use rustix::process::WaitStatus;

use super::halt::{self, Way};
use super::protocol::SystemOrder;
use super::spawn;
use crate::processes::Family;

/// Longest line of the program that is understood; the rest of it is not.
const LINE: usize = 4096;

/// Whether somebody was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Somebody,
    Nobody,
}

pub(super) struct System {
    order: SystemOrder,
    messages: PipeReader,
    writer: PipeWriter,
    heard: Heard,
    /// The last byte that the console printed was a return of the carriage, which is not written yet.
    returned: bool,
}

/// What the program has said since it was started.
#[derive(Debug, Default)]
struct Heard {
    line: Vec<u8>,
    /// How the first process ended.
    end: Option<String>,
    /// The first thing that went wrong.
    complaint: Option<String>,
}

/// The level and the message of a line of the program.
fn parts(line: &str) -> Option<(&str, &str)> {
    let level = line.split_ascii_whitespace().nth(3)?;
    let (_, rest) = line.split_once(" - ")?;
    Some((level, rest.split_once(" - ")?.1))
}

/// `Child <77> ended on error (3)`, `Child <77> ended on signal (9)`.
fn end(message: &str) -> Option<String> {
    let (_, end) = message.strip_prefix("Child <")?.split_once("> ended on ")?;
    let (kind, number) = end.strip_suffix(')')?.split_once(" (")?;
    let number: i32 = number.parse().ok()?;
    match kind {
        "error" => Some(format!("exit status {number}")),
        "signal" => Some(format!("signal {number}")),
        _ => None,
    }
}

impl Heard {
    /// Takes what the program has written; gives lines for the grain's log.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let Some((level, message)) = parts(&line) else { continue };
            if let Some(end) = end(message) {
                self.end = Some(end);
            }
            if level == "ERROR" {
                self.complaint.get_or_insert_with(|| message.to_owned());
                lines.extend_from_slice(format!("container: {message}\n").as_bytes());
            }
        }
        lines
    }
}

impl System {
    pub(super) fn new(order: SystemOrder) -> io::Result<Self> {
        let (messages, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&messages, true)?;
        Ok(Self { order, messages, writer, heard: Heard::default(), returned: false })
    }

    /// The program is about to be started. Gives what its messages are written to.
    pub(super) fn begin(&mut self) -> &PipeWriter {
        self.heard = Heard::default();
        &self.writer
    }

    pub(super) fn messages(&self) -> &PipeReader {
        &self.messages
    }

    /// Reads what the program says; gives lines for the grain's log.
    pub(super) fn hear(&mut self) -> Vec<u8> {
        let (mut buffer, mut lines) = ([0; 8192], Vec::new());
        for _ in 0..64 {
            let Ok(length) = self.messages.read(&mut buffer) else { break };
            lines.append(&mut self.heard.take(buffer.get(..length).unwrap_or_default()));
        }
        lines
    }

    /// What the console prints, with the ends of lines that a file has.
    pub(super) fn plain(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.returned && *byte != b'\n' {
                plain.push(b'\r');
            }
            self.returned = *byte == b'\r';
            if !self.returned {
                plain.push(*byte);
            }
        }
        plain
    }

    /// How the grain ended, if the program said so before it ended itself.
    pub(super) fn end(&self, status: WaitStatus) -> Option<String> {
        let failed = status.exit_status().is_some_and(|code| code != 0);
        let complaint = self.heard.complaint.as_ref().filter(|_| failed);
        let complaint = complaint.map(|complaint| format!("cannot be started: {complaint}"));
        self.heard.end.clone().or(complaint)
    }

    /// Asks the init to halt. A frozen one hears nothing, so it is thawed.
    pub(super) fn ask(&self, family: &Family, tag: &str) -> Asked {
        self.order.cage.group().thaw();
        let Ok(Some(init)) = family.init() else { return Asked::Nobody };
        let asked = match halt::way(init) {
            Way::Signal(signal) => {
                init.signal(signal);
                true
            }
            Way::Program => spawn::aside(&self.order.halt, tag).is_ok(),
            Way::Inside(words) => {
                let mut command = self.order.inside.clone();
                command.extend(words.iter().map(|word| (*word).to_owned()));
                spawn::aside(&command, tag).is_ok()
            }
            Way::Deaf => false,
        };
        if asked { Asked::Somebody } else { Asked::Nobody }
    }

    /// Kills everything in its group.
    pub(super) fn kill(&self) {
        self.order.cage.group().kill();
    }

    /// Removes its group, in which nothing is any more.
    pub(super) fn clear_away(&self) {
        let _ = self.order.cage.group().remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_says_how_the_system_ended_and_what_went_wrong() {
        let mut heard = Heard::default();
        let text = "lxc-start g 2026 INFO     error - ../src/lxc/error.c:f:31 - Child <27> ended on error (3)\n";
        assert_eq!(heard.take(text.as_bytes()), b"");
        assert_eq!(heard.end.as_deref(), Some("exit status 3"));
        let (one, two) = "x y z ERROR    start - a.c:b:1 - No - such init\nchild".split_at(20);
        assert_eq!(heard.take(one.as_bytes()), b"");
        assert_eq!(heard.take(two.as_bytes()), b"container: No - such init\n");
        assert_eq!(heard.complaint.as_deref(), Some("No - such init"));
        heard.take(b"\nx y z INFO e - a - Child <1> ended on signal (9)\n");
        assert_eq!(heard.end.as_deref(), Some("signal 9"));
        heard.take(&[b'x'; 3 * LINE]);
        assert!(heard.line.len() <= LINE);
    }
}
