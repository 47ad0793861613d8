//! Runtimes: what makes a grain run, stop, and prove that it has stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use thiserror::Error;

/// Everything that a start needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which grain.
    pub grain: GrainId,
    /// In which epoch. An older one than the running one is refused, the same one is a success without effect.
    pub epoch: Epoch,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Where its data are; also its working directory.
    pub data: PathBuf,
    /// Limit of memory; zero means none.
    pub memory: Bytes,
    /// Limit of processor time; zero means none.
    pub cpu: MilliCpu,
    /// When it must be dead by itself unless [`Runtime::extend`] moves the deadline, even if the daemon is gone.
    /// `None`: no lease is needed.
    pub deadline: Option<BootTime>,
    /// Time between asking and killing when the deadline passes or somebody stops it.
    pub grace: Span,
}

/// A grain that runs or ran here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Which grain.
    pub grain: GrainId,
    /// In which epoch it was started.
    pub epoch: Epoch,
    /// What it does.
    pub state: InstanceState,
    /// Starts after the first one, because the program ended by itself.
    pub restarts: u32,
    /// The last thing known about its end: `exit status 1`, `signal 9`.
    pub last_exit: Option<String>,
    /// When it must be dead by itself.
    pub deadline: Option<BootTime>,
}

/// What is known of everything that runs or ran here.
#[derive(Debug, Default)]
pub struct Listing {
    /// Instances, found again after a restart of the daemon.
    pub instances: Vec<Instance>,
    /// Each names a grain of which it cannot be said now whether something of it is alive.
    pub unclear: Vec<RuntimeError>,
}

/// What an instance does. Everything but `Stopped` may have live processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Its program runs.
    Running,
    /// Its program ended by itself and starts again after a pause.
    BackingOff,
    /// It was asked to stop, or its deadline has passed.
    Stopping,
    /// Verified: no process of it is left.
    Stopped,
}

/// What an instance uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the start, in milliseconds, of everything that runs in it now or ran and was waited for.
    pub cpu_ms: u64,
    /// Resident memory.
    pub memory: Bytes,
    /// Number of processes.
    pub processes: u32,
}

/// Lines of a grain's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The lines, as they were written.
    pub text: Vec<u8>,
    /// Where the next chunk begins.
    pub next: u64,
}

/// A program to run inside a grain beside its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// In which grain; it must be running.
    pub grain: GrainId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment beside the grain's own.
    pub env: BTreeMap<String, String>,
}

/// A started program inside a grain.
#[derive(Debug)]
pub struct ExecChild {
    /// Its process: stdin, stdout, stderr are pipes; killed when dropped.
    pub child: tokio::process::Child,
}

/// Failed work of a runtime: names the grain, the work, and the cause.
#[derive(Debug, Error)]
#[error("cannot {work} grain {grain}")]
pub struct RuntimeError {
    /// What was tried.
    pub work: &'static str,
    /// On which grain.
    pub grain: GrainId,
    /// Why it failed.
    #[source]
    pub cause: RuntimeCause,
}

/// Why work of a runtime failed.
#[derive(Debug, Error)]
pub enum RuntimeCause {
    /// It does not run here.
    #[error("it does not run here")]
    NotRunning,
    /// The order is older than what runs.
    #[error("the order is of epoch {offered}, epoch {held} runs here")]
    Stale {
        /// Of the order.
        offered: Epoch,
        /// Of what runs.
        held: Epoch,
    },
    /// The program cannot be started.
    #[error("the program `{program}` cannot be started")]
    Program {
        /// Which.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It could not be verified that all processes are gone.
    #[error("{left} processes are still there after the kill")]
    StillAlive {
        /// How many.
        left: usize,
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

/// The refusal of a start whose deadline is not in the future.
pub(crate) fn deadline_passed() -> RuntimeCause {
    RuntimeCause::Io {
        what: "its deadline has passed already".to_owned(),
        source: std::io::ErrorKind::TimedOut.into(),
    }
}

/// Result of the work of this trait.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// What a node can do with a grain's processes.
pub trait Runtime: Send + Sync + 'static {
    /// Every instance known here. Trouble with one grain never hides the others; an error means that nothing could be seen,
    /// not that nothing is there.
    fn list(&self) -> impl Future<Output = Result<Listing>> + Send;

    /// Starts the grain. Returns when its program was started (not when it answers). An older epoch than the running
    /// one is refused, the same one is a success without effect, a newer one stops the old instance first, verified.
    /// A deadline that has passed already is refused.
    fn start(&self, order: Start) -> impl Future<Output = Result<()>> + Send;

    /// Asks, waits for `grace`, kills everything, verifies that nothing is left. A grain that does not run: fine.
    fn stop(&self, grain: GrainId, grace: Span) -> impl Future<Output = Result<()>> + Send;

    /// Moves the deadline of every instance that has one; never backwards. Instances past their deadline stay dead. Returns
    /// those that could not be reached within a second: they hold up no other, and their deadline may be the old one.
    fn extend(&self, deadline: BootTime) -> impl Future<Output = Result<Vec<RuntimeError>>> + Send;

    /// Gives a running instance without a deadline one; an instance that has one keeps the later of both.
    /// One that does not run is refused with [`RuntimeCause::NotRunning`].
    fn arm(&self, grain: GrainId, deadline: BootTime) -> impl Future<Output = Result<()>> + Send;

    /// What an instance uses now.
    fn usage(&self, grain: GrainId) -> impl Future<Output = Result<Usage>> + Send;

    /// A piece of its log from an offset (0: the oldest kept byte; offsets before that are moved up to it), at most `limit` bytes;
    /// empty when there is nothing new. `tail`: instead of `from`, begin so many lines before the end. The log of a stopped
    /// instance is readable until it is forgotten, and goes on when the grain is started again.
    fn logs(
        &self,
        grain: GrainId,
        from: u64,
        tail: Option<u32>,
        limit: usize,
    ) -> impl Future<Output = Result<LogChunk>> + Send;

    /// Runs a program inside the grain. It ends with the grain at the latest.
    fn exec(&self, exec: Exec) -> impl Future<Output = Result<ExecChild>> + Send;

    /// Forgets a stopped instance with its log. Unknown: fine. Not stopped: refused with [`RuntimeCause::StillAlive`].
    fn forget(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;
}
