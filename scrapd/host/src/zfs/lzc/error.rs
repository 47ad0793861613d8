//! Why the library refused. Its answers are numbers: of the system, or from 1024 on of OpenZFS itself.

use rustix::io::Errno;
use thiserror::Error;

/// A refused call: what was tried, on what, and why.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cannot {work} {on}: {code}")]
pub struct LzcError {
    /// "snapshot", "receive".
    pub work: &'static str,
    /// The dataset, snapshot or bookmark that was refused; of several the first.
    pub on: String,
    /// Why.
    #[source]
    pub code: Code,
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, LzcError>;

/// Why, by name; a caller chooses by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Code {
    /// A dataset or snapshot, the parent of one, or a hold is not there.
    #[error("it does not exist")]
    Missing,
    /// It is there already.
    #[error("it exists already")]
    Exists,
    /// Something uses it: a hold, a clone, a mount, another stream.
    #[error("it is busy")]
    Busy,
    /// Not for this user.
    #[error("permission is denied")]
    Denied,
    /// The pool is full.
    #[error("there is no space left in the pool")]
    NoSpace,
    /// The quota is used up.
    #[error("its quota is used up")]
    OverQuota,
    /// The target has writes of its own.
    #[error("it was modified since its newest snapshot")]
    Modified,
    /// The stream begins at a snapshot that is not the target's newest.
    #[error("its newest snapshot is not the one that the stream begins at")]
    NoBase,
    /// Names of one call are of different pools, or a snapshot is not of the same line.
    #[error("it is of another pool or another line of snapshots")]
    OtherLine,
    /// The stream ends too early.
    #[error("the stream ends too early")]
    Truncated,
    /// The stream does not match its checksum.
    #[error("the stream does not match its checksum")]
    Damaged,
    /// The stream has something that this OpenZFS cannot read.
    #[error("the stream has a feature that is not known here")]
    UnknownFeature,
    /// Earlier streams had large blocks and this one has not, or the other way round.
    #[error("the stream and what is here differ in large blocks")]
    LargeBlocks,
    /// A cut receive is there that would have to go on, or be thrown away.
    #[error("an unfinished receive is in the way")]
    ResumeExists,
    /// Nobody reads the stream any more; which of two numbers says so depends on where it was.
    #[error("the stream was stopped: nobody reads it")]
    Stopped,
    /// A property cannot have this value.
    #[error("a property cannot be set")]
    BadProperty,
    /// The kernel's OpenZFS is older than the call.
    #[error("this OpenZFS cannot do it")]
    Unsupported,
    /// The call makes no sense to OpenZFS: a name without `@`, a stream that is none.
    #[error("it is not valid")]
    Invalid,
    /// A name is longer than OpenZFS has room for.
    #[error("the name is too long")]
    TooLong,
    /// A name has a zero byte, or a text is not UTF-8.
    #[error("the name is no text")]
    NoText,
    /// The device does not answer: a disk fails.
    #[error("the pool fails or is suspended")]
    PoolFails,
    /// Not now: the pool is suspended, or something else is under way.
    #[error("it is to be tried again later")]
    Again,
    /// The text is no token of a cut receive.
    #[error("it is no token of a receive that was cut off")]
    NoToken,
    /// A thread ended without an answer.
    #[error("its thread ended without an answer")]
    Lost,
    /// Another number of OpenZFS, with the name that it has there.
    #[error("OpenZFS says {name} ({number})")]
    OpenZfs {
        /// From 1024 on.
        number: i32,
        /// Without the `ZFS_ERR_` before it.
        name: &'static str,
    },
    /// Another number of the system.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    System(i32),
}

/// A checksum that does not match, as the system of OpenZFS calls it.
#[cfg(target_os = "linux")]
const CHECKSUM: Errno = Errno::BADE;
#[cfg(not(target_os = "linux"))]
const CHECKSUM: Errno = Errno::from_raw_os_error(97);

/// The first number that is of OpenZFS and not of the system.
const FIRST: i32 = 1024;
/// Numbers of OpenZFS from [`FIRST`] on. New ones are only ever added at the end.
const NAMES: [&str; 28] = [
    "CHECKPOINT_EXISTS",
    "DISCARDING_CHECKPOINT",
    "NO_CHECKPOINT",
    "DEVRM_IN_PROGRESS",
    "VDEV_TOO_BIG",
    "IOC_CMD_UNAVAIL",
    "IOC_ARG_UNAVAIL",
    "IOC_ARG_REQUIRED",
    "IOC_ARG_BADTYPE",
    "WRONG_PARENT",
    "FROM_IVSET_GUID_MISSING",
    "FROM_IVSET_GUID_MISMATCH",
    "SPILL_BLOCK_FLAG_MISSING",
    "UNKNOWN_SEND_STREAM_FEATURE",
    "EXPORT_IN_PROGRESS",
    "BOOKMARK_SOURCE_NOT_ANCESTOR",
    "STREAM_TRUNCATED",
    "STREAM_LARGE_BLOCK_MISMATCH",
    "RESILVER_IN_PROGRESS",
    "REBUILD_IN_PROGRESS",
    "BADPROP",
    "VDEV_NOTSUP",
    "NOT_USER_NAMESPACE",
    "RESUME_EXISTS",
    "CRYPTO_NOTSUP",
    "RAIDZ_EXPAND_IN_PROGRESS",
    "ASHIFT_MISMATCH",
    "STREAM_LARGE_MICROZAP",
];

impl Code {
    /// What a number means that is not zero.
    pub fn of(number: i32) -> Self {
        if number >= FIRST { Self::of_openzfs(number) } else { Self::of_system(number) }
    }

    fn of_openzfs(number: i32) -> Self {
        let at = usize::try_from(number - FIRST).unwrap_or(usize::MAX);
        match NAMES.get(at).copied() {
            Some("STREAM_TRUNCATED") => Self::Truncated,
            Some("STREAM_LARGE_BLOCK_MISMATCH") => Self::LargeBlocks,
            Some("UNKNOWN_SEND_STREAM_FEATURE") => Self::UnknownFeature,
            Some("BOOKMARK_SOURCE_NOT_ANCESTOR") => Self::OtherLine,
            Some("RESUME_EXISTS") => Self::ResumeExists,
            Some("BADPROP") => Self::BadProperty,
            Some("IOC_CMD_UNAVAIL" | "IOC_ARG_UNAVAIL") => Self::Unsupported,
            Some(name) => Self::OpenZfs { number, name },
            None => Self::OpenZfs { number, name: "a number that is not known here" },
        }
    }

    fn of_system(number: i32) -> Self {
        match Errno::from_raw_os_error(number) {
            Errno::NOENT | Errno::SRCH => Self::Missing,
            Errno::EXIST => Self::Exists,
            Errno::BUSY => Self::Busy,
            Errno::PERM | Errno::ACCESS => Self::Denied,
            Errno::NOSPC => Self::NoSpace,
            Errno::DQUOT => Self::OverQuota,
            Errno::TXTBSY => Self::Modified,
            Errno::NODEV => Self::NoBase,
            Errno::XDEV => Self::OtherLine,
            Errno::PIPE | Errno::INTR => Self::Stopped,
            Errno::INVAL => Self::Invalid,
            Errno::NAMETOOLONG => Self::TooLong,
            Errno::OPNOTSUPP => Self::Unsupported,
            Errno::IO => Self::PoolFails,
            Errno::AGAIN => Self::Again,
            CHECKSUM => Self::Damaged,
            other => Self::System(other.raw_os_error()),
        }
    }
}

impl LzcError {
    pub(in crate::zfs) fn new(work: &'static str, on: impl Into<String>, code: Code) -> Self {
        Self { work, on: on.into(), code }
    }

    /// What the system said that is not an answer of the library.
    pub(super) fn system(work: &'static str, on: &str, error: &std::io::Error) -> Self {
        Self::new(work, on, error.raw_os_error().map_or(Code::Lost, Code::System))
    }
}
