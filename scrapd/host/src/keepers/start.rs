//! Starting a keeper with its order, and hearing what came of it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Keepers, io_cause};
use crate::keeper::protocol::{self, Begun, Order, SystemOrder};
use crate::run;
use crate::runtime::{self, RuntimeCause, Start};

/// A keeper says within this whether its program was started.
const BEGIN: Duration = Duration::from_secs(20);

/// A tag that no other instance has.
fn new_tag(start: &Start) -> Result<String, RuntimeCause> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| io_cause("the system gives no random numbers", error.into()))?;
    Ok(format!("{}.{}.{:016x}", start.grain, start.epoch, u64::from_ne_bytes(bytes)))
}

fn program_failed(program: &str, source: std::io::Error) -> RuntimeCause {
    RuntimeCause::Program { program: program.to_owned(), source }
}

/// Starts a keeper for this order and returns when the grain's program was started.
pub(super) async fn start(
    keepers: &Keepers,
    start: Start,
    system: Option<SystemOrder>,
) -> Result<(), RuntimeCause> {
    let folder = keepers.folder(start.grain);
    run::split(&start.command).map_err(|source| program_failed("", source))?;
    make_folder(&folder).await?;
    let order = Order {
        grain: start.grain,
        epoch: start.epoch,
        tag: new_tag(&start)?,
        command: start.command,
        env: start.env,
        data: start.data,
        folder: folder.clone(),
        deadline: start.deadline,
        grace_ms: start.grace.ms(),
        system,
    };
    let what = || format!("cannot start the keeper {}", keepers.keeper.display());
    let failed = |error: std::io::Error| io_cause(what(), error);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let mut command = run::command(keepers.keeper.as_os_str(), &[]);
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::null());
    // It outlives the daemon; only one that does not answer is ended below.
    command.kill_on_drop(false);
    let mut child = command.spawn().map_err(failed)?;
    // Holds the keeper's end of the pair.
    drop(command);
    let answer = timeout(BEGIN, converse(ours, &order)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    match answer {
        Ok(Begun::Started) => Ok(()),
        Ok(Begun::TooLate) => Err(runtime::deadline_passed()),
        Ok(Begun::Program { program, errno }) => {
            Err(program_failed(&program, std::io::Error::from_raw_os_error(errno)))
        }
        Ok(Begun::Failed { what, errno }) => {
            Err(io_cause(what, std::io::Error::from_raw_os_error(errno)))
        }
        Err(error) => {
            // What it may have started dies with it; the next look at its record cleans up the rest.
            let _ = child.start_kill();
            Err(failed(error))
        }
    }
}

async fn converse(stream: std::os::unix::net::UnixStream, order: &Order) -> std::io::Result<Begun> {
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(&protocol::line(order)?).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}

pub(super) async fn make_folder(folder: &Path) -> Result<(), RuntimeCause> {
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let made = builder.create(folder).await;
    made.map_err(|error| io_cause(format!("cannot create {}", folder.display()), error))
}
