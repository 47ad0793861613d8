//! The daemon's side of a keeper's socket, and what is done when a keeper does not answer or is gone.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use scrap_schema::unit::Span;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::io_cause;
use crate::keeper::protocol::{self, LINE_MAX, Record, Request, Stable, State};
use crate::processes::Process;
use crate::runtime::RuntimeCause;

/// A keeper answers at once or not at all.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// After a kill, processes are gone within this or something is wrong with the machine.
const KILL: Duration = Duration::from_secs(10);

/// Asks the keeper of the grain in this folder.
pub(crate) async fn ask<T: DeserializeOwned>(
    folder: &Path,
    request: &Request,
) -> std::io::Result<T> {
    let talk = async {
        let mut stream = UnixStream::connect(protocol::socket_path(folder)).await?;
        stream.write_all(&protocol::line(request)?).await?;
        let mut line = Vec::new();
        let limited = stream.take(LINE_MAX as u64);
        BufReader::new(limited).read_until(b'\n', &mut line).await?;
        Ok(serde_json::from_slice(&line)?)
    };
    timeout(ANSWER, talk).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// The processes of an instance that are left. Looks through all of `/proc`, so on a thread that may block.
pub(crate) async fn members(record: &Record) -> Result<Vec<Process>, RuntimeCause> {
    let family = record.family();
    let found = tokio::task::spawn_blocking(move || family.members()).await;
    let found = found.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    found.map_err(|error| io_cause("cannot look at the processes of this machine", error))
}

/// Kills everything that a dead keeper left, and verifies it.
pub(crate) async fn hunt(record: &Record) -> Result<(), RuntimeCause> {
    let limit = Instant::now() + KILL;
    loop {
        let left = members(record).await?;
        if left.is_empty() {
            clear_away(record).await;
            return Ok(());
        }
        if Instant::now() >= limit {
            return Err(RuntimeCause::StillAlive { left: left.len() });
        }
        let cage = record.cage.clone();
        let kill = move || {
            if let Some(cage) = cage {
                cage.group().kill();
            }
            for process in left {
                process.signal(Signal::KILL);
            }
        };
        let _ = tokio::task::spawn_blocking(kill).await;
        sleep(Duration::from_millis(5)).await;
    }
}

/// Removes the empty group of a system. One that cannot be removed now is removed when it is forgotten, or used again.
async fn clear_away(record: &Record) {
    let Some(cage) = record.cage.clone() else { return };
    let removed = tokio::task::spawn_blocking(move || cage.group().remove()).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(grain = %record.grain, %error, "its empty group of processes stays");
    }
}

/// Cleans up after a keeper that was killed, and notes it.
pub(crate) async fn bury(folder: &Path, record: Record) -> Result<Record, RuntimeCause> {
    hunt(&record).await?;
    let mut record = record;
    record.status.state = State::Stopped;
    record.status.last_exit = Some(record.why_deserted().to_owned());
    let (to, written) = (folder.to_owned(), record.clone());
    let write = move || protocol::write_record(&to, &written, Stable::Yes);
    let wrote = tokio::task::spawn_blocking(write).await;
    let wrote = wrote.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let what = || format!("cannot write keeper.json in {}", folder.display());
    wrote.map_err(|error| io_cause(what(), error))?;
    Ok(record)
}

/// Ends an instance whose keeper lives, and verifies that nothing is left.
pub(crate) async fn end(folder: &Path, record: Record, grace: Span) -> Result<(), RuntimeCause> {
    let stop = Request::Stop { grace_ms: grace.ms() };
    let asked: std::io::Result<protocol::Status> = ask(folder, &stop).await;
    let wait = match asked {
        Ok(_) => Duration::from_millis(grace.ms()).saturating_add(KILL),
        // It may be ending by itself at this moment; else it is beyond talking.
        Err(_) => ANSWER,
    };
    let limit = Instant::now() + wait;
    let mut pause = Duration::from_millis(2);
    while record.keeper.is_alive() && Instant::now() < limit {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    if record.keeper.is_alive() {
        tracing::warn!(grain = %record.grain, "the keeper does not end and is killed");
        record.keeper.signal(Signal::KILL);
    }
    let limit = Instant::now() + KILL;
    while record.keeper.is_alive() {
        if Instant::now() >= limit {
            return Err(RuntimeCause::StillAlive { left: members(&record).await?.len() + 1 });
        }
        sleep(Duration::from_millis(5)).await;
    }
    // Not believed but seen: the daemon looks itself.
    let noted = tokio::fs::read(protocol::record_path(folder)).await.ok();
    let noted: Option<Record> = noted.and_then(|text| serde_json::from_slice(&text).ok());
    match noted {
        Some(noted) if noted.status.state == State::Stopped => hunt(&noted).await,
        Some(_) | None => bury(folder, record).await.map(|_| ()),
    }
}
