//! Grains as whole systems in containers of LXC: users of their own, groups of processes with limits, a view of the machine
//! that shows nothing of it.
//!
//! One keeper ([`crate::keeper`]) per running grain starts `lxc-start` and outlives the daemon. It kills and verifies by the
//! grain's group of processes and by its users, and needs none of LXC's programs for that: they may hang or be gone.
//!
//! On disk, beside what every keeper has: `<run>/lxc/<grain>/{config,seccomp}`, of which the files are root's alone, and the
//! folders may be passed through: LXC does that as the grain's root, as it does with the folders above a grain's data. Groups of
//! processes: `scrap-<run directory>-<grain>/{monitor,system}` in every hierarchy.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cgroups;
use crate::keepers::Keepers;
pub use crate::keepers::OpenError;

mod beside;
mod config;
mod inside;
mod machine;
mod runtime;
mod seccomp;
mod services;
mod shift;
mod start;

use machine::Machine;

/// Grains as containers.
#[derive(Debug, Clone)]
pub struct LxcRuntime {
    keepers: Arc<Keepers>,
    tools: Arc<Tools>,
    machine: Arc<Machine>,
}

/// The programs of LXC.
#[derive(Debug)]
struct Tools {
    start: PathBuf,
    attach: PathBuf,
    console: PathBuf,
    stop: PathBuf,
}

impl Tools {
    fn find() -> Result<Self, OpenError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |program: &'static str| {
            machine::find(program, &path).ok_or(OpenError::NoTool { program })
        };
        Ok(Self {
            start: find("lxc-start")?,
            attach: find("lxc-attach")?,
            console: find("lxc-console")?,
            stop: find("lxc-stop")?,
        })
    }
}

/// How the groups of all grains of a run directory are named: as those of no other one, also not of one with the same path in
/// another view of the machine's files.
fn groups_of(run: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(run.as_os_str().as_encoded_bytes());
    hasher.update(&std::fs::metadata(run)?.dev().to_le_bytes());
    let name = hasher.finalize().to_hex();
    Ok(format!("{}{}", cgroups::PREFIX, name.get(..16).unwrap_or_default()))
}

impl LxcRuntime {
    /// Opens the runtime whose instances lie below `run_dir`, which is made if it is not there. `keeper_program` is the
    /// binary `scrap-keeper`. Instances that run already are found again.
    ///
    /// # Errors
    /// The path is too long for sockets, the keeper or a program of LXC is missing, this process is not root's, the system
    /// refuses.
    pub async fn open(run_dir: &Path, keeper_program: PathBuf) -> Result<Self, OpenError> {
        if !rustix::process::geteuid().is_root() {
            return Err(OpenError::NotRoot);
        }
        let tools = Arc::new(Tools::find()?);
        let keepers = Keepers::open(run_dir, keeper_program).await?;
        let looked = groups_of(&keepers.run).and_then(|groups| Ok((groups, Machine::look()?)));
        let (groups, machine) = looked.map_err(|source| OpenError::Io {
            what: "cannot look at the groups of processes of this machine".to_owned(),
            source,
        })?;
        let keepers = Arc::new(keepers.of_systems(groups));
        Ok(Self { keepers, tools, machine: Arc::new(machine) })
    }
}
