//! The configuration of one node: a TOML file in, plain checked values out, once.
//!
//! Every problem of a file is reported at once, with its line. Nothing here opens a socket, resolves a name or
//! changes a file.

mod fault;
mod hands;
mod network;
mod reader;
mod show;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scrap_host::fence::Places;
use scrap_schema::id::{ClusterId, Name, NodeId};
use scrap_schema::node::{Addresses, NodeRole};
use scrap_schema::spec::Labels;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};

pub use fault::{BadConfig, Fault};
pub use network::Network;
pub(crate) use values::{LOG_FILTER, RUN_DIR_MAX};

use crate::raft::{Settings, election_window};

/// Where the configuration is when nobody says.
pub const DEFAULT_PATH: &str = "/etc/scrap/scrapd.toml";

/// Everything that a node's daemon is told from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the node keeps its state: databases, identity, datasets of the `dir` backend.
    pub data_dir: PathBuf,
    /// Where running grains leave their pid files, sockets and logs.
    pub run_dir: PathBuf,
    /// The node's name in the cluster.
    pub name: Name,
    /// What the node is for.
    pub role: NodeRole,
    /// The node's labels when it becomes a member; later they belong to the cluster.
    pub labels: Labels,
    /// Where it listens.
    pub listen: Listen,
    /// Where others reach it.
    pub advertise: Addresses,
    /// Whom it trusts.
    pub trust: Trust,
    /// Its hands.
    pub host: HostConfig,
    /// Where its grains are reached.
    pub network: NetworkConfig,
    /// Where programs and settings are that cut the power of other nodes.
    pub fence: Places,
    /// What counts instead of measured facts.
    pub reserve: Reserve,
    /// What becomes of running grains when the daemon is asked to end.
    pub on_shutdown: OnShutdown,
    /// Its log.
    pub log: Log,
    /// The numbers of the lease. Only `init` uses them: later they belong to the cluster.
    pub timing: Timing,
    /// The pace of the consensus.
    pub raft: RaftPace,
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// HTTP API.
    pub api: SocketAddr,
    /// Consensus, leases and streams between nodes.
    pub peer: SocketAddr,
}

/// Whom a node trusts until nodes can prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Closed private networks in which everybody may command the cluster.
    pub test_networks: Vec<Network>,
}

/// Which backends a node uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// What keeps datasets.
    pub datasets: DatasetsKind,
    /// What runs grains.
    pub runtime: RuntimeKind,
    /// The program that stays beside each grain of the `process` runtime.
    /// `None`: `scrap-keeper` beside the running `scrapd`.
    pub keeper: Option<PathBuf>,
    /// `None`: `scrap-guard` beside the running `scrapd`.
    pub guard: Option<PathBuf>,
    /// The machine's watchdog, which its guard pets. `None`: none.
    pub watchdog: Option<PathBuf>,
    /// Where the `zfs` backend keeps its datasets; nothing for the others.
    pub zfs: Option<ZfsConfig>,
}

/// Where the `zfs` backend keeps its datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsConfig {
    /// The dataset below which they lie. Made if it is not there; its pool must be.
    pub dataset: String,
    /// The folder below which they are mounted.
    pub mount: PathBuf,
    /// The pool is scrubbed when nobody has done that for so long; zero: never by SCRAP.
    pub scrub_every: Span,
}

/// The network on which grains are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The node's interface in it. `None`: grains have no addresses of their own here.
    pub uplink: Option<String>,
}

/// What keeps datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetsKind {
    /// Ordinary directories, for trying out.
    Dir,
    /// ZFS.
    Zfs,
    /// Memory, for tests.
    Mem,
}

/// What runs grains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Supervised process groups without isolation, for trying out.
    Process,
    /// Whole systems in unprivileged Linux containers.
    Lxc,
    /// Nothing but a note that it would run, for tests.
    Mem,
}

/// What counts instead of measured facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Cores that grains may reserve.
    pub cpu: Option<MilliCpu>,
    /// Main memory that grains may reserve.
    pub memory: Option<Bytes>,
    /// Disk that grains and copies may take.
    pub disk: Option<Bytes>,
}

/// What becomes of running grains when the daemon is asked to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// They run on as long as their lease allows: for restarts and upgrades of the daemon.
    #[default]
    Keep,
    /// They are stopped, and the node says goodbye.
    Stop,
}

/// The daemon's log on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged, as `tracing` filters say it: `info`, `info,scrapd::leader=debug`.
    pub filter: String,
}

/// The form of a line in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The pace of the consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftPace {
    /// Time between two heartbeats of the leader.
    pub heartbeat: Span,
    /// Shortest silence of a leader before others stand for election; up to twice of it by chance.
    pub election: Span,
}

impl Default for RaftPace {
    fn default() -> Self {
        Self { heartbeat: Span::from_ms(250), election: Span::from_secs(2) }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem at once, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, BadConfig> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| BadConfig::one(path, fault::unreadable(&error)))?;
        Self::parse(&text).map_err(|faults| BadConfig { path: path.to_owned(), faults })
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Every problem at once, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        values::read(text).0
    }

    /// Path of the node's identity.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.data_dir.join("node.json")
    }

    /// Path of the database of the log.
    #[must_use]
    pub fn raft_db_path(&self) -> PathBuf {
        self.data_dir.join("raft.db")
    }

    /// Settings of the consensus of a node with this configuration.
    #[must_use]
    pub fn raft_settings(&self, node: NodeId, cluster: ClusterId) -> Settings {
        let mut settings = Settings::new(self.data_dir.clone(), node, cluster);
        settings.timers.heartbeat = Duration::from_millis(self.raft.heartbeat.ms());
        let election = Duration::from_millis(self.raft.election.ms());
        (settings.timers.election_min, settings.timers.election_max) = election_window(election);
        settings
    }

    /// The address of a server of a cluster, given as `http://ADDRESS:PORT`. The same rule as for listening: only
    /// loopback and test networks, because a server cannot prove who it is yet.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn server(&self, text: &str) -> Result<SocketAddr, (String, String)> {
        if text.starts_with("https:") {
            let hint = "write `http://`, in a closed network".to_owned();
            return Err((format!("`{text}`: nodes cannot speak TLS yet"), hint));
        }
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let hint = || "such as `http://127.0.0.1:7272`".to_owned();
        let address = network::socket(bare).map_err(|what| (what, hint()))?;
        network::allowed(address.ip(), &self.trust.test_networks).map(|()| address)
    }
}

#[cfg(test)]
mod tests;
