//! What can go wrong with a dataset, in words that a caller can choose by and a person can act on.

use scrap_schema::snapshot::Guid;
use thiserror::Error;

use super::{DatasetId, Role};

/// Result of the work of this trait.
pub type Result<T> = std::result::Result<T, DatasetError>;

/// A failed piece of work on a dataset: names the dataset, the work, and the cause.
#[derive(Debug, Error)]
#[error("cannot {work} {dataset}")]
pub struct DatasetError {
    /// What was tried: "snapshot", "receive into".
    pub work: &'static str,
    /// On what.
    pub dataset: DatasetId,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why work on a dataset failed; a caller chooses by it.
#[derive(Debug, Error)]
pub enum Cause {
    /// There is no such dataset.
    #[error("it does not exist")]
    Missing,
    /// There is one already.
    #[error("it exists already")]
    Exists,
    /// There is no such snapshot.
    #[error("it has no snapshot {0}")]
    NoSnapshot(Guid),
    /// The dataset's role forbids it: writing a standby, receiving into an owner.
    #[error("it is {is:?} here, which forbids this")]
    WrongRole {
        /// The role it has.
        is: Role,
    },
    /// The stream does not begin where this dataset ends, or this dataset has writes of its own.
    #[error("its newest snapshot is {newest:?}, the stream begins at {from:?}")]
    Diverged {
        /// The newest snapshot here.
        newest: Option<Guid>,
        /// Where the stream begins; `None` for a full one.
        from: Option<Guid>,
    },
    /// Something that a person or another program made stands in the way; it is never removed for them.
    #[error(
        "{what} was not made by SCRAP and stands in the way: rename, move or destroy it by hand"
    )]
    Foreign {
        /// The snapshot or dataset by its full name.
        what: String,
    },
    /// The stream broke off or does not match its checksum; what was here before is untouched.
    #[error("the stream is damaged or incomplete: {0}")]
    BadStream(String),
    /// No space, or the quota is used up.
    #[error("there is no space left")]
    NoSpace,
    /// A snapshot or dataset is still needed.
    #[error("it is held: {0}")]
    Held(String),
    /// Something uses it and did not let go in time.
    #[error("it is in use: {0}; end what has a file or a folder of it open (`fuser -m` names it)")]
    Busy(String),
    /// This user may not do that.
    #[error(
        "this user may not do that: {0}; the daemon needs root, or the rights from `zfs allow`"
    )]
    Permission(String),
    /// The pool is not there.
    #[error(
        "{pool} is not there: import the pool (`zpool import`), or correct its name in the settings"
    )]
    PoolMissing {
        /// The pool or dataset that holds all others.
        pool: String,
    },
    /// The pool does no I/O because its disks are gone.
    #[error("the pool is suspended: {0}; bring its disks back and say `zpool clear`")]
    Suspended(String),
    /// The pool can only be read.
    #[error("the pool is read-only: {0}; import it again without `readonly=on`")]
    ReadOnly(String),
    /// A program did not end in time, or a stream stood still, and was killed.
    #[error(
        "`{program}` did not end, or stood still, for {seconds} s and was stopped: look at `zpool status` and at the kernel's log"
    )]
    Hanging {
        /// What was run.
        program: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A program is not installed.
    #[error(
        "the program `{program}` is not there: install the ZFS tools, or choose datasets in directories"
    )]
    ProgramMissing {
        /// Which one.
        program: String,
    },
    /// A program refused for a reason that has no name here.
    #[error("`{program}` failed: {said}")]
    Program {
        /// What was run, with its arguments.
        program: String,
        /// What it said.
        said: String,
    },
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
