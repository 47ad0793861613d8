//! The guard: one small process per node that outlives the daemon and sees to it that nothing of a node runs longer than it
//! may, also when a keeper, the daemon, or both stand still. It ends what its keeper did not end, pets the machine's
//! watchdog only while everything that should be dead is, and tells other nodes when nothing runs here any more.
//!
//! It decides nothing: deadlines are written by keepers ([`crate::keeper`]), which get them from the daemon. One thread, no tokio;
//! once it watches it asks for no memory and touches no disk. What the three share is the [`Board`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use scrap_schema::id::{BootId, NodeId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use thiserror::Error;

#[cfg(target_os = "linux")]
mod asked;
mod attest;
#[cfg(target_os = "linux")]
mod board;
#[cfg(target_os = "linux")]
mod count;
#[cfg(target_os = "linux")]
mod dog;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod sweep;
#[cfg(target_os = "linux")]
mod watch;

pub use attest::{LENGTH, Token, Word};
#[cfg(target_os = "linux")]
pub use board::Board;
#[cfg(target_os = "linux")]
pub(crate) use board::{Entry, Slot};
#[cfg(target_os = "linux")]
pub use count::Counted;
#[cfg(target_os = "linux")]
pub use program::main;
#[cfg(target_os = "linux")]
pub use start::Guard;

/// Removes the board of a run directory that nobody uses any more, wherever its words are.
///
/// # Errors
/// What the system says.
#[cfg(target_os = "linux")]
pub fn remove_board(run_dir: &std::path::Path) -> std::io::Result<()> {
    board::remove(run_dir)
}

/// Where there is no guard, there is no board.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn remove_board(_: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}

/// How a node is guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder whose grains are guarded.
    pub run_dir: PathBuf,
    /// The binary `scrap-guard`.
    pub program: PathBuf,
    /// The machine's watchdog, and within which time it must have reset a machine whose guard is gone.
    pub watchdog: Option<(PathBuf, Span)>,
}

/// What a guard could arrange for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrangements {
    /// Its memory is not swapped out.
    pub locked: bool,
    /// It runs before everything else.
    pub first: bool,
    /// It pets a watchdog.
    pub watchdog: bool,
}

/// There is no guard.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Its board cannot be made.
    #[error("cannot {what} the guard's board {path}")]
    Board {
        /// Open or make.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its program cannot be started.
    #[error("cannot start the guard {program}")]
    Start {
        /// Which.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was started and does not watch.
    #[error("the guard {program} does not watch: {why}")]
    Refused {
        /// Which.
        program: PathBuf,
        /// Its words.
        why: String,
    },
}

/// The guard of a node, where there is one.
#[derive(Debug)]
pub enum AnyGuard {
    /// Nothing runs here that would need one, or this system has no way to see what is left of a grain.
    Off,
    /// As a process of its own.
    #[cfg(target_os = "linux")]
    On(Guard),
}

impl AnyGuard {
    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        match self {
            Self::Off => false,
            #[cfg(target_os = "linux")]
            Self::On(_) => true,
        }
    }

    /// See [`Guard::ensure`].
    ///
    /// # Errors
    /// There is none and none can be started.
    pub async fn ensure(&self) -> Result<bool, GuardError> {
        match self {
            Self::Off => Ok(false),
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.ensure().await,
        }
    }

    /// How often it is to be looked whether there is one.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        match self {
            Self::Off => Duration::MAX,
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.look_every(),
        }
    }

    /// What `kill` of the lease's numbers is: so long the watchdog waits at most.
    pub fn kill_is(&self, kill: Span) {
        match self {
            Self::Off => {
                let _ = kill;
            }
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.kill_is(kill),
        }
    }

    /// What is wrong with the machine's watchdog, and the way out.
    #[must_use]
    pub fn dog_trouble(&self) -> Option<String> {
        match self {
            Self::Off => None,
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.dog_trouble(),
        }
    }

    /// A registration begins. What its end is proven with goes to the guard alone.
    pub fn register(&self, node: NodeId, boot: BootId, token: &Token) {
        match self {
            Self::Off => {
                let _ = (node, boot, token);
            }
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.register(node, boot, token),
        }
    }

    /// Grains may run under the lease until then, and these nodes are told when that is over.
    pub fn lease_until(&self, deadline: BootTime, peers: &[SocketAddr]) {
        match self {
            Self::Off => {
                let _ = (deadline, peers);
            }
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.lease_until(deadline, peers),
        }
    }

    /// Whether this registration is over, by the guard's word: nothing that needs the lease begins under it any more.
    #[must_use]
    pub fn is_over(&self, boot: BootId) -> bool {
        match self {
            Self::Off => {
                let _ = boot;
                false
            }
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.board().is_closed(boot),
        }
    }

    /// How many grains the guard had to end because their keepers did not.
    #[must_use]
    pub fn kills(&self) -> u64 {
        match self {
            Self::Off => 0,
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.board().kills(),
        }
    }

    /// What the guard could arrange for itself.
    #[must_use]
    pub fn arrangements(&self) -> Arrangements {
        match self {
            Self::Off => Arrangements::default(),
            #[cfg(target_os = "linux")]
            Self::On(guard) => guard.board().arrangements(),
        }
    }
}
