//! Bodies of the HTTP API `/v1`: what programs and `scrapctl` read and write. Additive only.
//!
//! Unknown fields in requests are refused, unknown fields in answers must be ignored by clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::fence::OffBy;
use crate::id::{Epoch, GrainId, Name, NodeId, OperationId};
use crate::node::{Addresses, NodeFacts, NodeRole, NodeUsage, PoolFacts};
use crate::operation::{Need, OperationState, Phase, Summary};
use crate::snapshot::{Guid, Snapshot};
use crate::spec::{Labels, NodeSpec, Policy};
use crate::time::Timestamp;
use crate::unit::Bytes;

mod bodies;
mod grains;
mod lease;
mod quorum;
mod systems;

pub use bodies::{
    ApplyAction, ApplyResult, ApplyView, CandidateView, CloneBody, ConfirmOffBody, DiscardBody,
    DrainBody, DryRun, FailoverBody, FenceTest, FieldChange, ForkBody, MigrateBody, PlacementView,
    PromoteBody, RestoreBody, ServiceActivity, ServiceView, ServicesView, SnapshotBody,
};

pub use grains::{
    Condition, CopyView, FailoverView, GrainState, GrainStatus, GrainUsage, GrainView,
};

pub use lease::{ArmBody, DisarmBody, DisarmedView, LeaseView};
pub use quorum::{MemberView, QuorumView};

pub use systems::{
    AddressView, ChangeKind, ConsoleBody, NetworkStatus, NetworkView, OrphanChange, OrphanDiff,
    OrphanMount, TemplateStatus, TemplateView, Window, terminal,
};

/// Default port of the API.
pub const API_PORT: u16 = 7272;
/// Default port between nodes.
pub const PEER_PORT: u16 = 7273;

/// Header with the log index that an answer is of.
pub const HEADER_INDEX: &str = "x-scrap-index";
/// Header of a stale answer: milliseconds since the answering node last knew to be up to date.
pub const HEADER_AGE: &str = "x-scrap-age-ms";
/// Header that makes a retried request one effect.
pub const HEADER_IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `GET /v1`: who answers, and what it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiInfo {
    /// Version of the daemon.
    pub version: String,
    /// Version of the API: `v1`.
    pub api: String,
    /// Additions to the API since its first release.
    pub extensions: Vec<String>,
    /// Name of the cluster.
    pub cluster: Name,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Name of the answering node.
    pub node: Name,
}

/// How the cluster is, in one word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterHealth {
    /// Everything runs and is protected.
    Healthy,
    /// Everything runs, something is not as it should be.
    Degraded,
    /// Something that should run does not.
    Critical,
}

/// `GET /v1/cluster`: is everything all right, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Name of the cluster.
    pub name: Name,
    /// In one word.
    pub health: ClusterHealth,
    /// Why it is not `healthy`, most important first.
    pub reasons: Vec<String>,
    /// The leader, if one is known.
    pub leader: Option<Name>,
    /// Log index of this answer.
    pub index: u64,
    /// Voting nodes.
    pub voters: Vec<Name>,
    /// Nodes whose lease is renewed; `null`: no leader is known here, so nobody knows.
    pub nodes_online: Option<u32>,
    /// All nodes.
    pub nodes: u32,
    /// Grains that answer; `null`: no leader is known here, so nobody knows.
    pub grains_running: Option<u32>,
    /// Grains that should run.
    pub grains_wanted: u32,
    /// All grains outside the trash.
    pub grains: u32,
    /// The oldest copy of all grains: what would be lost at most if one node died now.
    pub worst_lag_ms: Option<u64>,
    /// The grain that copy is of.
    pub worst_lag_grain: Option<Name>,
    /// What waits, and why.
    pub waiting: Vec<WaitingView>,
    /// Diverged data that were set aside and nobody has decided about.
    pub orphans: u32,
    /// The numbers of the lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<LeaseView>,
    /// What does not fail over by itself because somebody works on it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub disarmed: Vec<DisarmedView>,
    /// Grains that still run under a lease which they do not need any more: until there is none, that work must not begin.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub disarming: Vec<Name>,
    /// Grains that need a lease and do not run under it yet: they do not fail over by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub arming: Vec<Name>,
}

/// Something that the leader would do and does not yet, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingView {
    /// What it is about: `grain web`, `node ada`.
    pub subject: String,
    /// Why it waits.
    pub reason: String,
    /// What a person can do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// `GET /v1/cluster/hash`: a hash of the replicated state, to be compared between nodes at the same index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateHash {
    /// The answering node.
    pub node: Name,
    /// Log index.
    pub index: u64,
    /// Hash of the state after that entry.
    pub hash: String,
}

/// Who and what of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetadataView {
    /// Name.
    pub name: Name,
    /// Identity; a policy has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Labels::is_empty", default)]
    pub labels: Labels,
    /// Annotations.
    #[serde(skip_serializing_if = "Labels::is_empty", default)]
    pub annotations: Labels,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<Timestamp>,
    /// Log index of its last change; the object's ETag.
    pub modify_index: u64,
    /// Number of changes of its spec.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
}

/// A node, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// `scrap/v1`.
    pub api_version: String,
    /// `Node`.
    pub kind: String,
    /// Who.
    pub metadata: MetadataView,
    /// What is wanted.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// The state of a node in one word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Its lease is renewed.
    Online,
    /// It is silent; the countdown runs.
    Suspect,
    /// Nothing runs on it any more, surely.
    Fenced,
    /// It said goodbye.
    Away,
}

/// What is true of a node now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// In one word.
    pub state: NodeState,
    /// What it is for.
    pub role: NodeRole,
    /// Whether it leads, votes, or learns.
    pub raft: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// What it is made of.
    pub facts: NodeFacts,
    /// What it uses; `null`: the leader has not heard of it yet.
    pub usage: Option<NodeUsage>,
    /// How its storage is; absent: the leader has not heard of it yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pool: Option<PoolFacts>,
    /// What is wrong with the network of its grains, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub network: Vec<String>,
    /// What the specs of its grains reserve.
    pub reserved: GrainUsage,
    /// Milliseconds since the leader last heard of it.
    pub silent_ms: Option<u64>,
    /// Who has confirmed that it is off; absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub off: Option<OffBy>,
    /// Whether it is being emptied, or is empty and stays so until `undrain`.
    pub draining: bool,
    /// Grains that it owns.
    pub grains: Vec<Name>,
    /// Grains that it keeps copies of.
    pub copies: Vec<Name>,
}

/// A policy, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// `scrap/v1`.
    pub api_version: String,
    /// `Policy`.
    pub kind: String,
    /// Who.
    pub metadata: MetadataView,
    /// The contract.
    pub spec: Policy,
}

/// An operation, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    /// Identity.
    pub id: OperationId,
    /// `create`, `migrate`, `drain`, …
    pub kind: String,
    /// What it works on: `grains/web`, `nodes/ada`.
    pub target: String,
    /// Where it is.
    pub state: OperationState,
    /// The phase under way.
    pub phase: Option<Phase>,
    /// Begun phases.
    pub phases: Vec<PhaseView>,
    /// How far the phase is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<Progress>,
    /// Why it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting: Option<WaitingView>,
    /// What it needs from a person, if it has not moved on for a quarter of an hour.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub needs: Option<Need>,
    /// Whether `DELETE` can still undo it.
    pub cancellable: bool,
    /// When it was asked for.
    pub created: Timestamp,
    /// Log index of the request.
    pub created_index: u64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished: Option<Timestamp>,
    /// What it brought.
    pub summary: Summary,
}

/// A phase of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseView {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub began: Timestamp,
    /// How long it took; `null` while it is under way.
    pub took_ms: Option<u64>,
}

/// How far a phase is. A sample from the leader's memory; never in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// One sentence.
    pub text: String,
    /// Bytes done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<Bytes>,
    /// Bytes of the whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total_bytes: Option<Bytes>,
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<Bytes>,
    /// Expected downtime of the switch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_downtime_ms: Option<u64>,
}

/// Diverged data that were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanView {
    /// `<grain id>.<epoch>@<node>`: what to call it.
    pub id: String,
    /// Of which grain.
    pub grain: GrainId,
    /// Name of that grain, if it still exists.
    pub grain_name: Option<Name>,
    /// Where it lies.
    pub node: Name,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// Its last state.
    pub head: Snapshot,
    /// The newest snapshot that it has in common with the grain's own line.
    pub base: Option<Guid>,
    /// Bytes that only it has, about.
    pub newer: Bytes,
    /// Space that it takes.
    pub used: Bytes,
    /// When it was set aside.
    pub kept: Timestamp,
    /// The operation that works with it: a fork, a promotion, or its removal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<OperationId>,
}

/// Body of `POST /v1/grains/{name}/exec`, as the first line of the request; stdin follows as it is. With `tty` it follows in
/// frames, see [`terminal`], and what the program writes comes as stdout alone.
/// The answer is a stream of frames: kind (1 byte: 1 stdout, 2 stderr, 3 end), length (4 bytes, big endian), payload.
/// The payload of the end is an [`ExecEnd`] as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecBody {
    /// Program and arguments. Never given to a shell.
    pub command: Vec<String>,
    /// Environment beside the grain's own.
    pub env: BTreeMap<String, String>,
    /// Whether it gets a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Size of that terminal; 24 by 80 if nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The user inside the grain that it runs as; root if nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExecEnd {
    /// Exit status of the program; 128 + signal if a signal ended it; 127 if it is not there, 126 if it cannot be executed.
    pub status: Option<i32>,
    /// Why there is none, or none of the program's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Body of `POST /v1/nodes`: a new machine asks to become a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JoinBody {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub role: NodeRole,
    /// Its labels.
    pub labels: Labels,
    /// Where it listens.
    pub addresses: Addresses,
    /// What it is made of.
    pub facts: NodeFacts,
}

/// Answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The node's identity from now on.
    pub node: NodeId,
    /// The cluster's name.
    pub cluster: Name,
    /// The cluster's identity.
    pub cluster_id: String,
    /// The cluster's generation: how often it was begun anew from one node.
    #[serde(default)]
    pub generation: u64,
    /// Everybody's addresses by node.
    pub members: BTreeMap<NodeId, Addresses>,
}

/// `GET /v1/events` without a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventsView {
    /// Oldest first.
    pub events: Vec<Event>,
    /// Index to go on from (`?since=`).
    pub index: u64,
    /// The oldest index that can still be asked for.
    pub oldest: u64,
}
