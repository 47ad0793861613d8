//! Processes of a demo: recorded with their start time, looked at through `/proc`, and signalled only through a handle
//! that was opened before the look, so that a reused pid is never hit.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process as it was when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its number; may belong to another process later.
    pub(super) pid: u32,
    /// Its start in clock ticks since the boot: the two together never come again.
    start: u64,
}

/// A process that is there now. As long as this exists its pid belongs to nobody else.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    handle: OwnedFd,
}

impl Record {
    /// The record of a running process.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let start = start_time(pid).with_context(|| format!("process {pid} is gone already"))?;
        Ok(Self { pid, start })
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_string(self)?)
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// The process of a record file, if it still runs and its command line names `mark`.
    pub(super) fn find(path: &Path, mark: &Path) -> anyhow::Result<Option<Process>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let record: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("`{}` is damaged", path.display()))?;
        let Some(process) = Process::open(record.pid) else { return Ok(None) };
        let ours = start_time(record.pid) == Some(record.start)
            && contains(&read(record.pid, "cmdline"), mark.as_os_str().as_encoded_bytes());
        Ok(ours.then_some(process))
    }
}

impl Process {
    /// A handle of a process, if there is one of that number and it has not ended.
    fn open(pid: u32) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let handle = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let process = Self { pid, handle };
        (!process.has_ended()).then_some(process)
    }

    /// Sends a signal. A process that has ended meanwhile is no trouble.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(io::Error::from(errno))
                .with_context(|| format!("process {} cannot be signalled", self.pid)),
        }
    }

    fn has_ended(&self) -> bool {
        ended_within(&self.handle, Duration::ZERO)
    }

    /// Waits until it has ended; false: it has not in time.
    pub(super) async fn wait(self, limit: Duration) -> anyhow::Result<bool> {
        Ok(tokio::task::spawn_blocking(move || ended_within(&self.handle, limit)).await?)
    }
}

/// A handle of a process can be read when the process has ended.
fn ended_within(handle: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut watched = [PollFd::new(handle, PollFlags::IN)];
    matches!(poll(&mut watched, Some(&limit)), Ok(ready) if ready > 0)
}

fn read(pid: u32, file: &str) -> Vec<u8> {
    // A process that is gone or somebody else's has nothing to say.
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// The 22nd field of `/proc/PID/stat`. The second one is a name in parentheses that may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// A field of `/proc/PID/stat` behind the name, counted from 1 as its manual page does.
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = String::from_utf8_lossy(&read(pid, "stat")).into_owned();
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(field.checked_sub(3)?).map(ToOwned::to_owned)
}

/// Numbers of all processes.
fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The first word of a command line.
pub(super) fn name(pid: u32) -> Option<String> {
    let line = read(pid, "cmdline");
    let program = line.split(|byte| *byte == 0).next().filter(|program| !program.is_empty())?;
    Some(String::from_utf8_lossy(program).into_owned())
}

/// A keeper's own record of itself.
#[derive(Deserialize)]
struct KeeperRecord {
    keeper: Keeper,
}

#[derive(Deserialize)]
struct Keeper {
    pid: u32,
    started: u64,
}

/// Keepers that have left a record below a node's folder for running grains, and still run.
fn recorded_keepers(run_dir: &Path) -> impl Iterator<Item = u32> {
    let folders = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let records =
        folders.filter_map(|folder| std::fs::read(folder.path().join("keeper.json")).ok());
    let keepers = records.filter_map(|bytes| serde_json::from_slice::<KeeperRecord>(&bytes).ok());
    keepers
        .map(|record| record.keeper)
        .filter_map(|keeper| (start_time(keeper.pid) == Some(keeper.started)).then_some(keeper.pid))
}

/// Whether it is the guard of a node: its first argument lies in the node's folder.
fn is_guard(pid: u32, run_dir: &Path) -> bool {
    let line = read(pid, "cmdline");
    let mut words = line.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    let program = words.next().is_some_and(|program| program.ends_with("scrap-guard"));
    program && words.next().is_some_and(|board| board.parent() == Some(run_dir))
}

/// Keepers and grains of a node, its guard, and everything that they have started: a grain has `SCRAP_INSTANCE` and a path below
/// one of the folders in its environment, a keeper has a record or is the parent of such a grain.
pub(super) fn grains(data_dir: &Path, run_dir: &Path) -> Vec<Process> {
    let me = std::process::id();
    let below =
        [data_dir, run_dir].map(|folder| [folder.as_os_str().as_encoded_bytes(), b"/"].concat());
    let is_grain = |pid: &u32| {
        let environment = read(*pid, "environ");
        contains(&environment, b"SCRAP_INSTANCE=")
            && below.iter().any(|folder| contains(&environment, folder))
    };
    let everybody = all();
    let mut found: BTreeSet<u32> = everybody.iter().copied().filter(is_grain).collect();
    let parents: Vec<u32> = found.iter().filter_map(|pid| parent(*pid)).collect();
    found.extend(
        parents.into_iter().filter(|pid| {
            name(*pid).is_some_and(|name| Path::new(&name).ends_with("scrap-keeper"))
        }),
    );
    found.extend(recorded_keepers(run_dir));
    found.extend(everybody.iter().copied().filter(|pid| is_guard(*pid, run_dir)));
    // A grain may have wiped the environment of its children.
    loop {
        let before = found.len();
        let children = everybody
            .iter()
            .filter(|pid| parent(**pid).is_some_and(|parent| found.contains(&parent)));
        let children: Vec<u32> = children.copied().collect();
        found.extend(children);
        if found.len() == before {
            break;
        }
    }
    found.remove(&me);
    found.into_iter().filter_map(Process::open).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

#[cfg(test)]
mod tests;
