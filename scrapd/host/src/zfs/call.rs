//! Running `zfs` and `zpool`: arguments as lists, one language, a limit on everything that is not a stream. What is busy is
//! tried again for a while; what hangs is stopped and named.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::{Child, ChildStdout, Command};

use super::library::Ending;
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
    /// Begins and ends of commands that change which datasets there are, or which is a clone of which.
    pub(super) moves: Arc<AtomicU64>,
}

/// Whether a command changes which datasets there are, or which is a clone of which. A receive counts for itself.
fn moves(arguments: &[String]) -> bool {
    match arguments.first().map(String::as_str) {
        Some("create" | "clone" | "rename" | "promote" | "rollback") => true,
        Some("receive") => arguments.iter().any(|argument| argument == "-A"),
        Some("destroy") => arguments.last().is_some_and(|name| !name.contains('@')),
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
        Ok(Stream {
            engine: Engine::Program { child, said, program, root },
            pipes: Pipes::default(),
        })
    }
}

/// Something under way that changes which datasets there are.
pub(super) struct Moving(Arc<AtomicU64>);

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A stream under way. Dropped, it is killed.
pub(super) struct Stream {
    engine: Engine,
    /// Of the library's streams; a program has its own.
    pipes: Pipes,
}

#[derive(Default)]
struct Pipes {
    input: Option<Box<dyn AsyncWrite + Send + Sync + Unpin>>,
    output: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
}

#[allow(clippy::large_enum_variant, reason = "a handful at a time")]
enum Engine {
    Program {
        child: Child,
        said: tokio::task::JoinHandle<String>,
        program: String,
        root: String,
    },
    #[cfg_attr(not(feature = "libzfs"), expect(dead_code, reason = "made where the library is"))]
    Library(Ending),
}

impl Stream {
    /// One that the library writes.
    #[cfg(feature = "libzfs")]
    pub(super) fn outward_of(
        output: Box<dyn AsyncRead + Send + Sync + Unpin>,
        ending: Ending,
    ) -> Self {
        let pipes = Pipes { input: None, output: Some(output) };
        Self { engine: Engine::Library(ending), pipes }
    }

    /// One that the library takes in.
    #[cfg(feature = "libzfs")]
    pub(super) fn inward_of(
        input: Box<dyn AsyncWrite + Send + Sync + Unpin>,
        ending: Ending,
    ) -> Self {
        let pipes = Pipes { input: Some(input), output: None };
        Self { engine: Engine::Library(ending), pipes }
    }

    /// Where it is written to, if it goes into the pool.
    pub(super) fn input(&mut self) -> Option<&mut (dyn AsyncWrite + Send + Sync + Unpin + '_)> {
        match &mut self.engine {
            Engine::Program { child, .. } => child.stdin.as_mut().map(|pipe| pipe as _),
            Engine::Library(_) => self.pipes.input.as_mut().map(|pipe| pipe as _),
        }
    }

    /// Where it is read from, if it comes out of the pool.
    pub(super) fn output(&mut self) -> Option<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        match &mut self.engine {
            Engine::Program { child, .. } => child.stdout.take().map(|pipe| Box::new(pipe) as _),
            Engine::Library(_) => self.pipes.output.take(),
        }
    }

    /// The end of a program's pipe, for another program.
    pub(super) fn joint(&mut self) -> Option<ChildStdout> {
        match &mut self.engine {
            Engine::Program { child, .. } => child.stdout.take(),
            Engine::Library(_) => None,
        }
    }

    /// Waits for its end and says what came of it.
    pub(super) async fn end(self) -> Result<(), Cause> {
        drop(self.pipes);
        let (mut child, said, program, root) = match self.engine {
            Engine::Program { child, said, program, root } => (child, said, program, root),
            Engine::Library(ending) => return ending.end().await,
        };
        drop(child.stdin.take());
        let status = child
            .wait()
            .await
            .map_err(|source| Cause::Io { what: format!("cannot wait for `{program}`"), source })?;
        if status.success() {
            return Ok(());
        }
        let said = said.await.unwrap_or_default();
        tracing::debug!(command = program, %said, "refused");
        Err(words::cause(&program, &said, &root))
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn kill(self) {
        drop(self.pipes);
        match self.engine {
            Engine::Program { mut child, program, .. } => {
                drop(child.stdin.take());
                if let Err(error) = child.kill().await {
                    tracing::debug!(command = program, %error, "it had ended already");
                }
            }
            // With its pipe closed it can only end.
            Engine::Library(ending) => {
                if let Err(error) = ending.end().await {
                    tracing::debug!(%error, "a stream was stopped");
                }
            }
        }
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
