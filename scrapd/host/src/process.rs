//! Grains as supervised process groups: the embedded default. No isolation, said plainly: a grain's program runs as the
//! daemon's user, sees the machine, and is not limited: memory and processor time are measured only (a limit on address space
//! breaks many programs; limits come with LXC and jails).
//!
//! One keeper ([`crate::keeper`]) per running grain does the work and outlives the daemon; `keepers` starts it,
//! finds it again and cleans up after one that was killed. A service manager must therefore not
//! kill the daemon's whole group at a restart (systemd: `KillMode=process`). What escapes: a process that leaves its
//! session, clears its environment and loses its parent, and whose keeper is then killed too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::keepers::Keepers;
pub use crate::keepers::OpenError;

mod runtime;

/// Grains as processes of this machine.
#[derive(Debug, Clone)]
pub struct ProcessRuntime {
    keepers: Arc<Keepers>,
}

impl ProcessRuntime {
    /// Opens the runtime whose instances lie below `run_dir`, which is made if it is not there. `keeper_program` is the
    /// binary `scrap-keeper`. Instances that run already are found again.
    ///
    /// # Errors
    /// The path is too long for sockets, the binary is missing, the system refuses.
    pub async fn open(run_dir: &Path, keeper_program: PathBuf) -> Result<Self, OpenError> {
        Ok(Self { keepers: Arc::new(Keepers::open(run_dir, keeper_program).await?) })
    }
}
