//! What daemon and keeper say to each other: one order at the start, then one JSON line per question and per answer.
//! Also the record that the keeper leaves on disk. Words only, nothing is done here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use serde::{Deserialize, Serialize};

use crate::processes::{Cage, Family, Process};

/// Longest line that either side reads.
pub(crate) const LINE_MAX: usize = 4 << 20;

/// Everything that a keeper must know, written to its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) grain: GrainId,
    pub(crate) epoch: Epoch,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory of the program.
    pub(crate) data: PathBuf,
    /// Where socket, record and log are.
    pub(crate) folder: PathBuf,
    pub(crate) tag: String,
    pub(crate) deadline: Option<BootTime>,
    pub(crate) grace_ms: u64,
    /// The grain is a system, and its program one that makes it.
    #[serde(default)]
    pub(crate) system: Option<SystemOrder>,
}

/// What a keeper must know of a system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SystemOrder {
    pub(crate) cage: Cage,
    /// Program and arguments that ask an init to halt which hears only signals that we cannot send.
    pub(crate) halt: Vec<String>,
    /// Program and arguments that run what follows inside.
    pub(crate) inside: Vec<String>,
}

/// The keeper's answer to its order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begun {
    /// The program was started.
    Started,
    /// The program cannot be started.
    Program { program: String, errno: i32 },
    /// The deadline is not in the future.
    TooLate,
    /// Something else went wrong.
    Failed { what: String, errno: i32 },
}

/// A question to a running keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// How is it?
    Status,
    /// With what was it started?
    Order,
    /// Write the record again: what is on disk cannot be read.
    Note,
    /// Live until then.
    Extend { deadline: BootTime },
    /// Live no longer than until then, from now on.
    Arm { deadline: BootTime },
    /// Live on without a deadline.
    Disarm,
    /// End it; the keeper ends last.
    Stop { grace_ms: u64 },
}

/// What the keeper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Running,
    BackingOff,
    Stopping,
    Stopped,
}

/// Answer to everything but [`Request::Order`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<String>,
    pub(crate) deadline: Option<BootTime>,
}

/// `keeper.json`: written at start, restart and stop only, so that a keeper is found again, or missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) grain: GrainId,
    pub(crate) epoch: Epoch,
    pub(crate) command: Vec<String>,
    pub(crate) keeper: Process,
    /// The boot that the processes are of: after another one none of them is left.
    pub(crate) boot: String,
    pub(crate) tag: String,
    #[serde(default)]
    pub(crate) cage: Option<Cage>,
    pub(crate) status: Status,
}

/// The pid of a keeper that is not known any more: of no process and no session.
const LOST: Process = Process { pid: -1, started: 0 };

impl Record {
    /// What stands for a record that was lost, when its keeper lives no more: what carries the tag of its grain.
    pub(crate) fn lost(grain: GrainId, boot: String, cage: Option<Cage>) -> Self {
        let status = Status { state: State::Running, restarts: 0, last_exit: None, deadline: None };
        let (epoch, command, tag) = (Epoch(0), Vec::new(), format!("{grain}."));
        Self { grain, epoch, command, keeper: LOST, boot, tag, cage, status }
    }

    /// Why an instance has ended whose keeper did not end it.
    pub(crate) fn why_deserted(&self) -> &'static str {
        if self.keeper == LOST { "its record was lost" } else { "its keeper was killed" }
    }

    /// How its processes are found.
    pub(crate) fn family(&self) -> Family {
        Family { keeper: self.keeper, tag: self.tag.clone(), cage: self.cage.clone() }
    }
}

/// Where the keeper of a grain listens.
pub(crate) fn socket_path(folder: &Path) -> PathBuf {
    folder.join("sock")
}

/// Where its record is.
pub(crate) fn record_path(folder: &Path) -> PathBuf {
    folder.join("keeper.json")
}

/// Whether a record must be on stable storage when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stable {
    Yes,
    NotNow,
}

/// Replaces the record. After a power failure nothing of it is true any more, but it must still be a record.
pub(crate) fn write_record(folder: &Path, record: &Record, stable: Stable) -> std::io::Result<()> {
    let temporary = folder.join("keeper.tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    if stable == Stable::Yes {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, record_path(folder))?;
    if stable == Stable::Yes {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A message as one line.
pub(crate) fn line(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
