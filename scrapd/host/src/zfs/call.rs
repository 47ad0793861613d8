//! Running `zfs` and `zpool`: arguments as lists, one language, a limit on everything; a stream's is one of silence (see
//! `flow`). What is busy is tried again for a while; what hangs is stopped and named.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::flow::Stream;
use super::words;
use crate::datasets::Cause;
use crate::run;

/// Between two tries of what was busy.
const BREATH: Duration = Duration::from_millis(100);

/// Which programs, and how patient to be with them.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) zfs: OsString,
    pub(super) zpool: OsString,
    /// Longest time for a command that is not a stream, and longest silence of a stream.
    pub(super) limit: Duration,
    /// Longest time in which something busy may become free.
    pub(super) patience: Duration,
    /// The root, for errors that mean that it is not there.
    pub(super) root: String,
    /// Begins and ends of commands that change which datasets there are, or which is a clone of which.
    pub(super) moves: Arc<AtomicU64>,
}

/// Whether a command changes which datasets there are, or which is a clone of which. A receive counts for itself.
fn moves(arguments: &[String]) -> bool {
    match arguments.first().map(String::as_str) {
        Some("create" | "clone" | "rename" | "promote" | "rollback") => true,
        Some("receive") => arguments.iter().any(|argument| argument == "-A"),
        Some("destroy") => arguments.last().is_some_and(|name| !name.contains(['@', '#'])),
        _ => false,
    }
}

/// A command as it is shown in errors.
fn shown(program: &OsStr, arguments: &[String]) -> String {
    let shorten = |text: &String| {
        if text.chars().count() > 80 {
            format!("{}…", text.chars().take(80).collect::<String>())
        } else {
            text.clone()
        }
    };
    let shown: Vec<String> = arguments.iter().take(12).map(shorten).collect();
    format!("{} {}", program.to_string_lossy(), shown.join(" "))
}

impl Tools {
    fn command(&self, program: &OsStr, arguments: &[String]) -> Command {
        let mut command = run::command(program, arguments);
        command.env("LC_ALL", "C").env("TZ", "UTC").stderr(Stdio::piped());
        command
    }

    fn spawn(&self, program: &OsStr, command: &mut Command) -> Result<Child, Cause> {
        command.spawn().map_err(|source| {
            let program = program.to_string_lossy().into_owned();
            if source.kind() == std::io::ErrorKind::NotFound {
                Cause::ProgramMissing { program }
            } else {
                Cause::Io { what: format!("cannot start `{program}`"), source }
            }
        })
    }

    /// How often something has begun or ended that changes which datasets there are, or which is a clone of which.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Something that changes it, from now until what is returned is dropped.
    pub(super) fn moving(&self) -> Moving {
        self.moves.fetch_add(1, Ordering::SeqCst);
        Moving(Arc::clone(&self.moves))
    }

    /// Something that spoils what is known of its dataset if it does not come to its end.
    pub(super) fn unless_ended(&self) -> Unless {
        Unless { moves: Arc::clone(&self.moves), ended: false }
    }

    /// Runs one command to its end; what it wrote, or what its refusal means.
    async fn run(&self, program: &OsStr, arguments: &[String]) -> Result<String, Cause> {
        // Also when this is dropped half-way.
        let _moving = moves(arguments).then(|| self.moving());
        let begun = Instant::now();
        let mut command = self.command(program, arguments);
        command.stdout(Stdio::piped());
        let child = self.spawn(program, &mut command)?;
        // Dropped with its output when the limit is over, which kills it.
        let output = tokio::time::timeout(self.limit, child.wait_with_output()).await;
        let hanging =
            || Cause::Hanging { program: shown(program, arguments), seconds: self.limit.as_secs() };
        let output = output.map_err(|_| hanging())?.map_err(|source| Cause::Io {
            what: format!("cannot wait for `{}`", shown(program, arguments)),
            source,
        })?;
        tracing::trace!(command = shown(program, arguments), took = ?begun.elapsed(), "ended");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        tracing::debug!(command = shown(program, arguments), %said, "refused");
        Err(words::cause(&shown(program, arguments), &said, &self.root))
    }

    /// `zfs`, with these arguments.
    pub(super) async fn zfs(&self, arguments: &[&str]) -> Result<String, Cause> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        self.zfs_list(&arguments).await
    }

    /// The same, with a list that was made. Waits for what is busy.
    pub(super) async fn zfs_list(&self, arguments: &[String]) -> Result<String, Cause> {
        self.patiently(|| self.run(&self.zfs, arguments)).await
    }

    /// Does something again for a while if it is busy.
    pub(super) async fn patiently<T, F>(&self, work: impl Fn() -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let began = Instant::now();
        loop {
            match work().await {
                Err(Cause::Busy(_)) if began.elapsed() < self.patience => {
                    tokio::time::sleep(BREATH).await;
                }
                result => return result,
            }
        }
    }

    /// `zpool`, with these arguments.
    pub(super) async fn zpool(&self, arguments: &[&str]) -> Result<String, Cause> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        self.run(&self.zpool, &arguments).await
    }

    /// Starts a stream that comes out of `zfs`.
    pub(super) fn outward(&self, arguments: &[String]) -> Result<Stream, Cause> {
        let mut command = self.command(&self.zfs, arguments);
        command.stdout(Stdio::piped());
        let child = self.spawn(&self.zfs, &mut command)?;
        Ok(Stream::of_program(child, shown(&self.zfs, arguments), &self.root, self.limit))
    }

    /// Starts a stream that goes into `zfs`.
    pub(super) fn inward(&self, arguments: &[String]) -> Result<Stream, Cause> {
        let mut command = self.command(&self.zfs, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = self.spawn(&self.zfs, &mut command)?;
        Ok(Stream::of_program(child, shown(&self.zfs, arguments), &self.root, self.limit))
    }
}

/// Counts as a move when it is dropped before its end: nothing that was known then is.
pub(super) struct Unless {
    moves: Arc<AtomicU64>,
    ended: bool,
}

impl Unless {
    /// It came to its end.
    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Unless {
    fn drop(&mut self) {
        if !self.ended {
            self.moves.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Something under way that changes which datasets there are.
pub(super) struct Moving(Arc<AtomicU64>);

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_changes_which_datasets_there_are_is_a_move() {
        for (line, expected) in [
            ("create -o a=b r/g", true),
            ("clone r/t@s r/g", true),
            ("rename r/g r/h", true),
            ("promote r/g", true),
            ("destroy r/g", true),
            ("receive -A r/g", true),
            ("destroy r/g@s,t", false),
            ("destroy r/g#s", false),
            ("snapshot r/g@s", false),
            ("get -Hp all r/g", false),
            ("set a=b r/g", false),
            ("", false),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(super::moves(&arguments), expected, "{line}");
        }
    }
}
