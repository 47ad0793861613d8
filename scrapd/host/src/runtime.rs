//! Runtimes: what makes a grain run, stop, and prove that it has stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use thiserror::Error;

use crate::net::Interface;
pub use crate::terminal::Terminal;

/// Everything that a start needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which grain.
    pub grain: GrainId,
    /// In which epoch. An older one than the running one is refused, the same one is a success without effect.
    pub epoch: Epoch,
    /// Program and arguments. Empty: the init of the system that it is.
    pub command: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Where its data are; also the working directory of a program of this machine. The root of a system is `rootfs` in it.
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
    /// The whole system that the grain is. `None`: a program of this machine.
    pub system: Option<System>,
}

/// A whole system that a grain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its name for itself: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end.
    pub hostname: String,
    /// Who its users are on this machine.
    pub ids: IdRange,
    /// Limit of processes; zero means none.
    pub pids: u32,
    /// Its network interface; `None`: it has none.
    pub interface: Option<Interface>,
}

/// Users and groups of this machine that stand for those of a grain: its user 0 is `base`. No two grains share any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    /// The first one.
    pub base: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// Whether an id of this machine is one of the grain's.
    #[must_use]
    pub fn contains(self, id: u32) -> bool {
        id.checked_sub(self.base).is_some_and(|inside| inside < self.count)
    }
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
    /// The size of the terminal that it gets; `None`: pipes.
    pub tty: Option<Window>,
    /// As which user of the grain: a name, or `uid` or `uid:gid` in numbers. `None`: the one that the grain's program has.
    pub user: Option<String>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A started program inside a grain.
#[derive(Debug)]
pub struct ExecChild {
    /// Its process; killed when dropped. Without a terminal, stdin, stdout and stderr are pipes.
    pub child: tokio::process::Child,
    /// Its terminal, if one was asked for: what is written here is typed, what is read here was printed.
    pub terminal: Option<Terminal>,
}

/// What a grain's init says of one of its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// As the init names it: `ssh.service`, `sshd`.
    pub name: String,
    /// What it does.
    pub activity: Activity,
    /// The init's own words for it: `active (running)`.
    pub words: String,
}

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs, or has done its work.
    Active,
    /// It starts or stops.
    Changing,
    /// It does not run.
    Inactive,
    /// It ended badly, or cannot be started.
    Failed,
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
    /// A program should run as a user that the grain has not.
    #[error("there is no user {user:?} in it: {why}")]
    NoUser {
        /// As it was named.
        user: String,
        /// What was found.
        why: &'static str,
    },
    /// This runtime cannot do that.
    #[error("{what}; {hint}")]
    NotPossible {
        /// What is not possible, of what.
        what: &'static str,
        /// What can be done instead.
        hint: &'static str,
    },
    /// The machine, or what was ordered, is not as it must be.
    #[error("{what}; {hint}")]
    NotReady {
        /// What is wrong.
        what: String,
        /// What to do now.
        hint: String,
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

/// The refusal of a console where there is none.
pub(crate) fn no_console() -> RuntimeCause {
    RuntimeCause::NotPossible {
        what: "a program of this machine has no console",
        hint: "run a shell in the grain with a terminal instead",
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

    /// Takes the deadline from a running instance; one without: fine. One whose deadline has passed stays dead.
    fn disarm(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;

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

    /// Makes a tree of data fit for a start: the users and groups of the files of a system become those of the grain on
    /// this machine, `0` becomes `ids.base`. May be broken off and done again; done already: nothing. Never follows a link.
    /// A program of this machine needs nothing.
    fn prepare(&self, data: &Path, ids: IdRange) -> impl Future<Output = Result<()>> + Send;

    /// Notes beside the tree of a template what [`Runtime::prepare`] of each of its clones would have to look for. A tree with
    /// files of a user that no grain of so many users has is [`RuntimeCause::NotReady`].
    fn note(
        &self,
        _template: &Path,
        _users: u32,
    ) -> impl Future<Output = std::result::Result<(), RuntimeCause>> + Send {
        std::future::ready(Ok(()))
    }

    /// Runs a program inside the grain. It ends with the grain at the latest.
    fn exec(&self, exec: Exec) -> impl Future<Output = Result<ExecChild>> + Send;

    /// The console of the system that the grain is: always with a terminal.
    fn console(
        &self,
        grain: GrainId,
        window: Window,
    ) -> impl Future<Output = Result<ExecChild>> + Send;

    /// Lets nothing of a running grain run until [`Runtime::thaw`]; frozen already: fine. A stop, a deadline and a kill
    /// are not kept up by it.
    fn freeze(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;

    /// Lets it run again; not frozen: fine.
    fn thaw(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;

    /// What the grain's init says of its services, by name; empty where it keeps none that it could tell of.
    fn services(&self, grain: GrainId) -> impl Future<Output = Result<Vec<ServiceState>>> + Send;

    /// Forgets a stopped instance with its log. Unknown: fine. Not stopped: refused with [`RuntimeCause::StillAlive`].
    fn forget(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;
}
