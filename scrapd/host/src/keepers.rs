//! The daemon's side of keepers: starting one with its order, finding it again by its record, asking it, and cleaning up
//! after one that was killed. What kind of program a keeper keeps is said by the runtimes that use this. Decides nothing.
//!
//! On disk: `<run>/<grain>/{keeper.json,lock,sock,log.<offset>}`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scrap_schema::id::GrainId;
use thiserror::Error;

use crate::keeper::lock;
use crate::keeper::protocol::{self, Record, Request, State, Status};
use crate::processes::{self, Cage};
use crate::runtime::{RuntimeCause, RuntimeError};

pub(crate) mod beside;
pub(crate) mod call;
mod start;
mod work;

pub(crate) use work::finished;

/// A unix socket's path has 104 bytes at most on the systems that we know.
const SOCKET_MAX: usize = 100;
/// `/<grain>/sock`.
const SOCKET_REST: usize = 32;

pub(crate) type Slot = Arc<tokio::sync::Mutex<()>>;

/// All keepers below one run directory.
#[derive(Debug)]
pub(crate) struct Keepers {
    pub(crate) run: PathBuf,
    pub(crate) keeper: PathBuf,
    boot: String,
    /// How the names of the groups of processes of its systems begin; `None`: no grain is a system.
    groups: Option<String>,
    /// Start, stop and forget of one grain never overlap.
    slots: Mutex<BTreeMap<GrainId, Slot>>,
}

/// The runtime cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Sockets in it would have names that the system does not take.
    #[error(
        "the path of the run directory {path} has {length} bytes, at most {limit} are possible for sockets in it; \
         choose a shorter one such as /run/scrap"
    )]
    PathTooLong {
        /// Which.
        path: PathBuf,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The binary is not where it should be.
    #[error("the keeper program {path} is not there; it is installed beside scrapd")]
    NoKeeper {
        /// Where it should be.
        path: PathBuf,
    },
    /// A program of LXC is missing.
    #[error("the program {program} is not on the PATH; install LXC (on Debian: `apt install lxc`)")]
    NoTool {
        /// Which.
        program: &'static str,
    },
    /// Containers are made by root alone.
    #[error(
        "containers can be run by root only; start scrapd as root, or choose the process runtime"
    )]
    NotRoot,
    /// The system refused.
    #[error("{what}")]
    Io {
        /// Which path, which call.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What is known of a grain here.
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// Its keeper lives.
    Live(Record),
    /// Its keeper is dead and did not end its grain.
    Deserted(Record),
    /// Verified: nothing of it is left.
    Ended(Record),
}

/// What is on disk of a grain.
enum Found {
    Nothing,
    Record(Record),
    /// A power failure or a full disk has left half a record, or less.
    Damaged(RuntimeCause),
}

/// What the system said, with what it was said about.
pub(crate) fn io_cause(what: impl Into<String>, source: std::io::Error) -> RuntimeCause {
    RuntimeCause::Io { what: what.into(), source }
}

pub(crate) fn error(
    work: &'static str,
    grain: GrainId,
) -> impl FnOnce(RuntimeCause) -> RuntimeError {
    move |cause| RuntimeError { work, grain, cause }
}

impl Keepers {
    /// Those below `run_dir`, which is made if it is not there. `keeper_program` is the binary `scrap-keeper`.
    ///
    /// # Errors
    /// The path is too long for sockets, the binary is missing, the system refuses.
    pub(crate) async fn open(run_dir: &Path, keeper_program: PathBuf) -> Result<Self, OpenError> {
        let refused = |call: &str, path: &Path| {
            let what = format!("cannot {call} {}", path.display());
            move |source| OpenError::Io { what, source }
        };
        tokio::fs::create_dir_all(run_dir).await.map_err(refused("create", run_dir))?;
        let run = tokio::fs::canonicalize(run_dir).await.map_err(refused("resolve", run_dir))?;
        let (length, limit) = (run.as_os_str().len(), SOCKET_MAX - SOCKET_REST);
        if length > limit {
            return Err(OpenError::PathTooLong { path: run, length, limit });
        }
        let is_file = tokio::fs::metadata(&keeper_program).await.is_ok_and(|meta| meta.is_file());
        let keeper = tokio::fs::canonicalize(&keeper_program).await.ok().filter(|_| is_file);
        let keeper = keeper.ok_or(OpenError::NoKeeper { path: keeper_program })?;
        let boot = processes::boot_id()
            .map_err(refused("read", Path::new("/proc/sys/kernel/random/boot_id")))?;
        Ok(Self { run, keeper, boot, groups: None, slots: Mutex::default() })
    }

    /// The grains of these are systems, in groups of their own whose names begin so.
    pub(crate) fn of_systems(self, groups: String) -> Self {
        Self { groups: Some(groups), ..self }
    }

    /// The path of a grain's group.
    pub(crate) fn group(&self, grain: GrainId) -> Option<String> {
        Some(format!("{}-{grain}", self.groups.as_ref()?))
    }

    pub(crate) fn folder(&self, grain: GrainId) -> PathBuf {
        self.run.join(grain.to_string())
    }

    pub(crate) fn slot(&self, grain: GrainId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(grain).or_default())
    }

    /// Every grain that has a folder here.
    async fn grains(&self) -> Result<Vec<GrainId>, RuntimeCause> {
        let what = || format!("cannot list {}", self.run.display());
        let mut entries =
            tokio::fs::read_dir(&self.run).await.map_err(|error| io_cause(what(), error))?;
        let mut grains = Vec::new();
        while let Some(entry) =
            entries.next_entry().await.map_err(|error| io_cause(what(), error))?
        {
            grains.extend(entry.file_name().to_str().and_then(|name| name.parse::<GrainId>().ok()));
        }
        grains.sort();
        Ok(grains)
    }

    async fn read(&self, grain: GrainId) -> Result<Found, RuntimeCause> {
        let path = protocol::record_path(&self.folder(grain));
        match tokio::fs::read(&path).await {
            Ok(text) => Ok(match serde_json::from_slice(&text) {
                Ok(record) => Found::Record(record),
                Err(error) => {
                    let what = format!("{} is not readable", path.display());
                    Found::Damaged(io_cause(what, error.into()))
                }
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(io_cause(format!("cannot read {}", path.display()), error)),
        }
    }

    /// Reads the record of a grain and looks whether it is still true.
    pub(crate) async fn known(&self, grain: GrainId) -> Result<Known, RuntimeCause> {
        match self.read(grain).await? {
            Found::Nothing => Ok(Known::Nothing),
            Found::Record(record) => self.judge(record).await,
            Found::Damaged(why) => self.damaged(grain, why).await,
        }
    }

    async fn judge(&self, mut record: Record) -> Result<Known, RuntimeCause> {
        if record.boot != self.boot {
            if record.status.state != State::Stopped {
                record.status.last_exit = Some("the machine was restarted".to_owned());
                record.status.state = State::Stopped;
            }
            return Ok(Known::Ended(record));
        }
        // It says so after it has verified it, and then touches nothing any more.
        if record.status.state == State::Stopped {
            return Ok(Known::Ended(record));
        }
        if record.keeper.is_alive() {
            return Ok(Known::Live(record));
        }
        // Read again: it may have written its end between our reading and our looking.
        Ok(match self.read(record.grain).await {
            Ok(Found::Record(now)) => decide(now),
            Ok(Found::Nothing | Found::Damaged(_)) | Err(_) => Known::Deserted(record),
        })
    }

    /// A record that cannot be read. A keeper that lives is asked for a new one. If none lives, the tag tells what it left;
    /// where tags cannot be seen, nobody can say what runs.
    async fn damaged(&self, grain: GrainId, why: RuntimeCause) -> Result<Known, RuntimeCause> {
        let folder = self.folder(grain);
        let what = || format!("cannot look at the lock in {}", folder.display());
        let is_held = || lock::is_held(&folder).map_err(|error| io_cause(what(), error));
        if is_held()? {
            let asked: std::io::Result<Status> = call::ask(&folder, &Request::Note).await;
            if let (Ok(_), Found::Record(record)) = (asked, self.read(grain).await?) {
                return self.judge(record).await;
            }
            // It may be ending at this moment: it is gone soon then, or it is beyond talking.
            let limit = tokio::time::Instant::now() + call::ANSWER;
            while is_held()? {
                if tokio::time::Instant::now() >= limit {
                    return Err(why);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if cfg!(target_os = "linux") {
            let cage = self.group(grain).map(|group| Cage { group, ids: None });
            Ok(Known::Deserted(Record::lost(grain, self.boot.clone(), cage)))
        } else {
            Err(why)
        }
    }
}

fn decide(record: Record) -> Known {
    match record.status.state {
        State::Stopped => Known::Ended(record),
        State::Running | State::BackingOff | State::Stopping => Known::Deserted(record),
    }
}
