//! Running `zfs` and `zpool`: arguments as lists, one language, a limit on everything that is not a stream. What is busy is
//! tried again for a while; what hangs is stopped and named.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::words;
use crate::datasets::Cause;
use crate::run;

/// Between two tries of what was busy.
const BREATH: Duration = Duration::from_millis(100);
/// What a program may say on stderr before the rest is dropped.
const SAID_MAX: u64 = 64 << 10;

/// Which programs, and how patient to be with them.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) zfs: OsString,
    pub(super) zpool: OsString,
    /// Longest time for a command that is not a stream.
    pub(super) limit: Duration,
    /// Longest time in which something busy may become free.
    pub(super) patience: Duration,
    /// The root, for errors that mean that it is not there.
    pub(super) root: String,
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

    /// Runs one command to its end; what it wrote, or what its refusal means.
    async fn run(&self, program: &OsStr, arguments: &[String]) -> Result<String, Cause> {
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
        let began = Instant::now();
        loop {
            match self.run(&self.zfs, arguments).await {
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
        self.stream(&mut command, arguments)
    }

    /// Starts a stream that goes into `zfs`, from a pipe of ours or from what another one writes.
    pub(super) fn inward(
        &self,
        arguments: &[String],
        from: Option<Stdio>,
    ) -> Result<Stream, Cause> {
        let mut command = self.command(&self.zfs, arguments);
        command.stdin(from.unwrap_or_else(Stdio::piped)).stdout(Stdio::null());
        self.stream(&mut command, arguments)
    }

    fn stream(&self, command: &mut Command, arguments: &[String]) -> Result<Stream, Cause> {
        let mut child = self.spawn(&self.zfs, command)?;
        let stderr = child.stderr.take();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                let (mut kept, mut rest) = (stderr.take(SAID_MAX), Vec::new());
                kept.read_to_end(&mut said).await.ok();
                kept.into_inner().read_to_end(&mut rest).await.ok();
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        let (program, root) = (shown(&self.zfs, arguments), self.root.clone());
        Ok(Stream { child, said, program, root })
    }
}

/// A stream under way. Dropped, it is killed.
pub(super) struct Stream {
    pub(super) child: Child,
    said: tokio::task::JoinHandle<String>,
    program: String,
    root: String,
}

impl Stream {
    /// Waits for its end and says what came of it.
    pub(super) async fn end(mut self) -> Result<(), Cause> {
        drop(self.child.stdin.take());
        let status = self.child.wait().await.map_err(|source| Cause::Io {
            what: format!("cannot wait for `{}`", self.program),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.await.unwrap_or_default();
        tracing::debug!(command = self.program, %said, "refused");
        Err(words::cause(&self.program, &said, &self.root))
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn kill(mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.kill().await {
            tracing::debug!(command = self.program, %error, "it had ended already");
        }
    }
}
