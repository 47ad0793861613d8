//! Nodes: what they are, and what they report of themselves with every renewal of their lease.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{BootId, Epoch, GrainId, NodeId};
use crate::snapshot::{Guid, Snapshot};
use crate::spec::PROCESS;
use crate::time::{BootTime, Timestamp};
use crate::unit::{Bytes, MilliCpu};

/// What a node is for.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// Runs grains and keeps copies.
    #[default]
    Data,
    /// Keeps copies only.
    Storage,
    /// Votes only; has no datasets.
    Witness,
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// HTTP API, `host:port`.
    pub api: String,
    /// Consensus, leases and streams between nodes, `host:port`.
    pub peer: String,
}

/// A way of running grains.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// Supervised programs of the machine itself.
    Process,
    /// Containers with a Linux system of their own.
    Lxc,
    /// Jails with a FreeBSD system of their own.
    Jail,
}

impl RuntimeKind {
    /// The operating system whose templates it can run; `None`: it runs no templates.
    #[must_use]
    pub fn runs_systems_of(self) -> Option<&'static str> {
        match self {
            Self::Process => None,
            Self::Lxc => Some("linux"),
            Self::Jail => Some("freebsd"),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Process => "process",
            Self::Lxc => "lxc",
            Self::Jail => "jail",
        })
    }
}

/// What a node is made of. Measured at the start of its daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", from = "WrittenFacts", into = "WrittenFacts")]
pub struct NodeFacts {
    /// Cores.
    pub cpu: MilliCpu,
    /// Main memory.
    pub memory: Bytes,
    /// Space where datasets live.
    pub disk: Bytes,
    /// Processor architecture, as `uname -m` says it.
    pub arch: String,
    /// Operating system: `linux`, `freebsd`.
    pub os: String,
    /// How grains can be run here.
    #[serde(default)]
    pub runtimes: BTreeSet<RuntimeKind>,
    /// The interface to the network on which grains can have addresses here; `None`: they can have none.
    #[serde(default)]
    pub network: Option<String>,
    /// Version of the daemon.
    pub version: String,
}

/// Facts as they are written. Versions before `runtimes` wrote and read `templates`, in which only `process` ever stood.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenFacts {
    cpu: MilliCpu,
    memory: Bytes,
    disk: Bytes,
    arch: String,
    os: String,
    #[serde(default)]
    templates: BTreeSet<String>,
    #[serde(default)]
    runtimes: Option<BTreeSet<RuntimeKind>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    version: String,
}

impl From<WrittenFacts> for NodeFacts {
    fn from(written: WrittenFacts) -> Self {
        let WrittenFacts { cpu, memory, disk, arch, os, templates, runtimes, network, version } =
            written;
        let derived = || templates.contains(PROCESS).then_some(RuntimeKind::Process);
        let runtimes = runtimes.unwrap_or_else(|| derived().into_iter().collect());
        Self { cpu, memory, disk, arch, os, runtimes, network, version }
    }
}

impl From<NodeFacts> for WrittenFacts {
    fn from(facts: NodeFacts) -> Self {
        let NodeFacts { cpu, memory, disk, arch, os, runtimes, network, version } = facts;
        let process = runtimes.contains(&RuntimeKind::Process);
        let templates = process.then(|| PROCESS.to_owned()).into_iter().collect();
        let runtimes = Some(runtimes);
        Self { cpu, memory, disk, arch, os, templates, runtimes, network, version }
    }
}

/// Whether a node's storage can be trusted with more.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// All is well.
    #[default]
    Online,
    /// A part of it is broken; what is on it is complete.
    Degraded,
    /// It can be read only.
    ReadOnly,
    /// It answers nothing until somebody repairs it.
    Suspended,
    /// It cannot be used.
    Faulted,
}

impl PoolState {
    /// Whether anything can be written to it.
    #[must_use]
    pub fn takes_writes(self) -> bool {
        match self {
            Self::Online | Self::Degraded => true,
            Self::ReadOnly | Self::Suspended | Self::Faulted => false,
        }
    }
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::ReadOnly => "read-only",
            Self::Suspended => "suspended",
            Self::Faulted => "faulted",
        })
    }
}

/// How a node's storage is now. Told with every renewal, never in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolFacts {
    /// In one word.
    pub state: PoolState,
    /// Errors of reading, writing and checksums that it has counted.
    pub errors: u64,
    /// Space in use, by everything on it.
    pub used: Bytes,
    /// Space that is free.
    pub free: Bytes,
    /// When everything on it was last read and compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrubbed: Option<Timestamp>,
    /// It is being read and compared, or repaired, now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub busy: bool,
    /// What is wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// From this share on, in per cent, a pool takes nothing new: a full one cannot even be tidied up.
pub const POOL_FULL_PERCENT: u64 = 90;

impl PoolFacts {
    /// The share that is in use, in whole per cent, rounded up; `None`: its size is not known.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let size = self.used.0.checked_add(self.free.0).filter(|size| *size > 0)?;
        let percent = (u128::from(self.used.0) * 100).div_ceil(u128::from(size));
        u64::try_from(percent).ok()
    }

    /// Whether so much is in use that it takes nothing new.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.percent().is_some_and(|percent| percent > POOL_FULL_PERCENT)
    }
}

/// What a node uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeUsage {
    /// Processor time, smoothed over a minute.
    pub cpu: MilliCpu,
    /// Memory that is not available for programs.
    pub memory: Bytes,
    /// Space that is not free where datasets live.
    pub disk: Bytes,
}

/// A renewal of a node's lease, with what changed in its reports since the last one that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Who.
    pub node: NodeId,
    /// Which start of its daemon.
    pub boot: BootId,
    /// When it was sent, by the sender's boot clock; comes back in the answer. The lease counts from this.
    pub sent: BootTime,
    /// When it was sent, by the sender's wall clock.
    pub wall: Timestamp,
    /// What the node uses.
    pub usage: NodeUsage,
    /// How its storage is; `None`: not looked yet.
    #[serde(default)]
    pub pool: Option<PoolFacts>,
    /// What is wrong with the network of its grains and could not be mended, in words.
    #[serde(default)]
    pub network: Vec<String>,
    /// Whether `grains` is everything or only what changed.
    pub full: bool,
    /// Reports by grain; `None` takes a report back.
    pub grains: BTreeMap<GrainId, Option<GrainReport>>,
}

/// What the leader says to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalAnswer {
    /// `sent` of the renewal.
    pub sent: BootTime,
    /// Whether the lease is renewed.
    pub verdict: Verdict,
    /// Log index that the leader had applied. The lease counts once the node has applied it too: a node that lags must
    /// not act on an old epoch.
    pub index: u64,
    /// The leader has no full report of this node: the next renewal should be full.
    pub wants_full: bool,
}

/// Whether a lease is renewed, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Renewed, counted from the time of sending.
    Granted,
    /// The countdown runs or has ended: register again.
    Suspected,
    /// Another start of this node's daemon has registered since, or this one never has: register.
    Unregistered,
    /// The node is no member any more.
    Removed,
}

/// One grain's data and processes on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrainReport {
    /// The dataset, if there is one.
    pub data: Option<DataReport>,
    /// The processes, if there are any.
    pub run: Option<RunReport>,
    /// For the owner: how far each copy is.
    pub copies: BTreeMap<NodeId, CopyReport>,
    /// Last trouble with it, in words, until it is over.
    pub trouble: Option<String>,
}

/// A dataset as its node reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// Whether the node's dataset is the writable one.
    pub owner: bool,
    /// The epoch that it was last created, promoted or demoted in.
    pub epoch: Epoch,
    /// The newest snapshot here.
    pub head: Option<Snapshot>,
    /// Space that it takes.
    pub used: Bytes,
    /// Bytes written since `head` when last looked at.
    pub dirty: Bytes,
}

/// A running grain as its node reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// In which epoch it was started.
    pub epoch: Epoch,
    /// Whether its program runs now (it may be pausing before a restart).
    pub up: bool,
    /// Whether it has a deadline, and ends by itself if that is not moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub armed: bool,
    /// Result of its last health check; `None` before the first or without any.
    pub healthy: Option<bool>,
    /// What the last failed check said, while it is not healthy.
    #[serde(default)]
    pub ailment: Option<String>,
    /// Starts after the first one because the program ended by itself.
    pub restarts: u32,
    /// Processor time it used, smoothed over a minute.
    pub cpu: MilliCpu,
    /// Memory it uses.
    pub memory: Bytes,
    /// How its program last ended.
    pub last_exit: Option<String>,
}

/// How far a copy is, as the owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The newest snapshot that both sides have.
    pub common: Option<Guid>,
    /// Everything written before this moment (by the owner's clock) is on the copy.
    pub current_to: Option<Timestamp>,
    /// Estimated bytes that the copy lacks.
    pub pending: Bytes,
    /// Bytes of the stream that is under way, and its estimated whole.
    pub sending: Option<(Bytes, Bytes)>,
    /// Bytes per second of the last streams.
    pub rate: Bytes,
    /// Completed streams to this copy since the grain's owner started looking after it.
    pub rounds: u32,
    /// Why it does not move forward.
    pub trouble: Option<String>,
}
