//! Nodes: what they are, and what they report of themselves with every renewal of their lease.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{BootId, Epoch, GrainId, NodeId};
use crate::snapshot::{Guid, Snapshot};
use crate::spec::Template;
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

/// What a node is made of. Measured at the start of its daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
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
    /// Which kinds of grains can run here.
    pub templates: BTreeSet<Template>,
    /// Version of the daemon.
    pub version: String,
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
    /// Result of its last health check; `None` before the first or without any.
    pub healthy: Option<bool>,
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
