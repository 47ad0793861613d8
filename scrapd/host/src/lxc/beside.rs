//! Programs inside a running system beside its own, and its console. They get nothing of the daemon's environment, and end
//! with the process that stands for them out here.

use std::fs::File;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use scrap_schema::id::GrainId;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::{LxcRuntime, inside};
use crate::keeper::protocol::Record;
use crate::keepers::{beside, io_cause};
use crate::processes::{self, Process, TAG};
use crate::runtime::{Exec, ExecChild, RuntimeCause, Window};

/// The program inside is there within this, or it has ended already.
const BEGIN: Duration = Duration::from_secs(5);
/// A question to a system is answered within this.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_MAX: u64 = 4 << 20;

type Found<T> = Result<T, RuntimeCause>;

/// Reads `uid` or `uid:gid`.
fn numbers(user: &str) -> Option<(u32, u32)> {
    let (user, group) = user.split_once(':').unwrap_or((user, user));
    Some((user.parse().ok()?, group.parse().ok()?))
}

/// Reads what `id <name>` prints: `uid=33(www-data) gid=33(www-data) groups=33(www-data)`.
fn identity(text: &str) -> Option<(u32, u32)> {
    let number = |name: &str| {
        let words = text.split_ascii_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(name)).next()?;
        value.split('(').next()?.parse().ok()
    };
    Some((number("uid=")?, number("gid=")?))
}

fn program_failed(command: &[String], source: std::io::Error) -> RuntimeCause {
    RuntimeCause::Program { program: command.first().cloned().unwrap_or_default(), source }
}

/// Nothing begins in a frozen grain, and whoever waited for it would wait for whoever has frozen it.
pub(super) fn refuse_frozen(record: &Record) -> Found<()> {
    let frozen = record.cage.as_ref().is_some_and(|cage| cage.group().is_frozen().unwrap_or(false));
    if frozen {
        return Err(RuntimeCause::NotReady {
            what: "the grain is frozen".to_owned(),
            hint: "try again when it runs".to_owned(),
        });
    }
    Ok(())
}

impl LxcRuntime {
    /// A running grain and its init. One that begins is waited for.
    pub(super) async fn running(&self, grain: GrainId) -> Found<(Record, Process)> {
        let limit = Instant::now() + BEGIN;
        loop {
            let record = self.keepers.live(grain).await?;
            if let Some(init) = self.init(&record).await? {
                return Ok((record, init));
            }
            if Instant::now() >= limit {
                return Err(RuntimeCause::NotRunning);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a program inside.
    pub(super) async fn run_beside(&self, exec: &Exec) -> Found<ExecChild> {
        let (record, init) = self.running(exec.grain).await?;
        refuse_frozen(&record)?;
        let Some(program) = exec.command.first().filter(|program| !program.is_empty()) else {
            let empty =
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "the command is empty");
            return Err(program_failed(&exec.command, empty));
        };
        let name = program.clone();
        let look = tokio::task::spawn_blocking(move || inside::find_program(init, &name));
        let found = look.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        found.map_err(|source| program_failed(&exec.command, source))?;
        let user = match &exec.user {
            Some(user) => Some(self.user(exec.grain, user).await?),
            None => None,
        };
        self.attach(exec, user).await
    }

    /// Who a user of the grain is: the grain itself is asked.
    async fn user(&self, grain: GrainId, user: &str) -> Found<(u32, u32)> {
        let refused = |why| RuntimeCause::NoUser { user: user.to_owned(), why };
        if let Some(numbers) = numbers(user) {
            return Ok(numbers);
        }
        if user.starts_with('-') || user.is_empty() || user.chars().any(char::is_control) {
            return Err(refused("it is no name"));
        }
        let (succeeded, text) = self.ask_inside(grain, &["id", user]).await?;
        if !succeeded {
            return Err(refused("its `id` knows none"));
        }
        identity(&text).ok_or_else(|| refused("its `id` says nothing that can be read"))
    }

    /// What a program of the grain prints, and whether it succeeded.
    pub(super) async fn ask_inside(
        &self,
        grain: GrainId,
        command: &[&str],
    ) -> Found<(bool, String)> {
        use tokio::io::AsyncReadExt as _;
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let exec = Exec { grain, command, env: [].into(), tty: None, user: None };
        let mut child = self.attach(&exec, None).await?.child;
        drop(child.stdin.take());
        let answer = async {
            let mut text = Vec::new();
            if let Some(output) = child.stdout.take() {
                output.take(ANSWER_MAX).read_to_end(&mut text).await?;
            }
            std::io::Result::Ok((child.wait().await?, text))
        };
        let answer = timeout(ANSWER, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let (status, text) = answer.map_err(|source| program_failed(&exec.command, source))?;
        Ok((status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    async fn attach(&self, exec: &Exec, user: Option<(u32, u32)>) -> Found<ExecChild> {
        let record = self.keepers.live(exec.grain).await?;
        let mut command = self.tool(&self.tools.attach, exec.grain, &["-q", "--clear-env"])?;
        for (name, value) in &exec.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(RuntimeCause::NotReady {
                    what: format!("{name:?} is no environment variable"),
                    hint: "leave it out".to_owned(),
                });
            }
            // Not by the environment out here, which would tell a program of root's what to do.
            command.extend(["-v".to_owned(), format!("{name}={value}")]);
        }
        if let Some((user, group)) = user {
            command.extend(["-u".to_owned(), user.to_string()]);
            command.extend(["-g".to_owned(), group.to_string()]);
        }
        command.push("--".to_owned());
        command.extend_from_slice(&exec.command);
        self.spawn(exec.grain, &record, &command, exec.tty).await
    }

    /// Opens the console.
    pub(super) async fn open_console(&self, grain: GrainId, window: Window) -> Found<ExecChild> {
        let (record, _) = self.running(grain).await?;
        refuse_frozen(&record)?;
        let command = self.tool(&self.tools.console, grain, &["-q", "-t", "0"])?;
        let tag = record.tag.clone();
        let spawned = beside::spawn(&self.keepers, &command, Some(window), |command| {
            command.env_clear().env(TAG, &tag).current_dir("/");
        });
        spawned.await.map_err(|source| program_failed(&command, source))
    }

    async fn spawn(
        &self,
        grain: GrainId,
        record: &Record,
        command: &[String],
        tty: Option<Window>,
    ) -> Found<ExecChild> {
        let spawned = beside::spawn(&self.keepers, command, tty, |command| {
            command.env_clear().env(TAG, &record.tag).current_dir("/");
        });
        let child = spawned.await.map_err(|source| program_failed(command, source))?;
        follow(&child.child)
            .await
            .map_err(|error| io_cause("cannot look at the program", error))?;
        // Its keeper may have looked for the last time before the child was there. Dropping the child kills it.
        self.keepers.live(grain).await?;
        Ok(child)
    }
}

/// Sees to it that the program inside ends with the process that stands for it, which cannot take it along when it is killed.
async fn follow(outer: &Child) -> std::io::Result<()> {
    let Some(pid) = outer.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
    let Some(pidfd) = Pid::from_raw(pid) else { return Ok(()) };
    let Ok(pidfd) = pidfd_open(pidfd, PidfdFlags::NONBLOCK) else { return Ok(()) };
    // No pipe, but readable when it has ended, and only then.
    let ended = pipe::Receiver::from_file_unchecked(File::from(pidfd))?;
    let limit = Instant::now() + BEGIN;
    let inner = loop {
        let found = tokio::task::spawn_blocking(move || processes::inside_of(pid)).await;
        if let Some(inner) = found.unwrap_or_else(|error| Err(std::io::Error::other(error)))? {
            break inner;
        }
        let over = processes::stat(pid)?.is_none_or(|stat| stat.ended) || Instant::now() >= limit;
        if over {
            return Ok(());
        }
        sleep(Duration::from_millis(2)).await;
    };
    tokio::spawn(async move {
        let _ = ended.ready(Interest::READABLE).await;
        inner.signal(Signal::KILL);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_what_the_grain_says() {
        assert_eq!(numbers("33"), Some((33, 33)));
        assert_eq!(numbers("33:4"), Some((33, 4)));
        assert_eq!(numbers("www-data"), None);
        assert_eq!(numbers("-1:4"), None);
        let text = "uid=33(www-data) gid=34(www) groups=34(www),4(adm)\n";
        assert_eq!(identity(text), Some((33, 34)));
        assert_eq!(identity("uid=0 gid=0\n"), Some((0, 0)));
        assert_eq!(identity("uid=99999999999 gid=0"), None);
        assert_eq!(identity("id: no such user"), None);
    }
}
