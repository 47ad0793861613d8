//! How a grain is: what was asked for, where it runs, what protects it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{MetadataView, WaitingView};
use crate::id::{Epoch, Name, OperationId};
use crate::operation::Loss;
use crate::snapshot::{Guid, Snapshot};
use crate::spec::GrainSpec;
use crate::time::Timestamp;
use crate::unit::{Bytes, MilliCpu};

/// A grain, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrainView {
    /// `scrap/v1`.
    pub api_version: String,
    /// `Grain`.
    pub kind: String,
    /// Who.
    pub metadata: MetadataView,
    /// What is wanted.
    pub spec: GrainSpec,
    /// What is.
    pub status: GrainStatus,
}

/// The state of a grain in one word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum GrainState {
    /// No node yet.
    Pending,
    /// Its owner starts it.
    Starting,
    /// It answers.
    Running,
    /// It runs but its health check fails, or its program keeps ending.
    Unhealthy,
    /// It is being stopped.
    Stopping,
    /// It is stopped because it should be.
    Stopped,
    /// It moves to another node.
    Moving,
    /// Its owner is silent or gone; nothing is known.
    Lost,
    /// It is in the trash.
    Trashed,
}

/// What is true of a grain now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrainStatus {
    /// In one word.
    pub state: GrainState,
    /// The node that may run it.
    pub node: Option<Name>,
    /// Where it is moving.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moving_to: Option<Name>,
    /// Its fencing token.
    pub epoch: Epoch,
    /// Its IPv4 address, wherever it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address, wherever it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub address6: Option<Ipv6Addr>,
    /// The hardware address of its interface.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
    /// The first of its 65 536 user and group ids on every node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ids: Option<u32>,
    /// Conditions `Placed`, `Ready`, `Healthy`, `Replicated`, `Protected`.
    pub conditions: Vec<Condition>,
    /// Its copies.
    pub copies: Vec<CopyView>,
    /// What would be lost if its owner died now.
    pub lag_ms: Option<u64>,
    /// What it uses.
    pub usage: Option<GrainUsage>,
    /// Why the leader waits with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting: Option<WaitingView>,
    /// The operation that works on it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<OperationId>,
    /// Snapshots that people took.
    pub snapshots: Vec<Snapshot>,
    /// The last failover.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failover: Option<FailoverView>,
    /// Since when it answers in this epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When it will be removed for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trashed_until: Option<Timestamp>,
}

/// One thing that is so or not, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which: `Ready`, `Placed`, `Healthy`, `Replicated`, `Protected`.
    pub r#type: String,
    /// Whether it is so; `null` when unknown.
    pub status: Option<bool>,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// A copy of a grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyView {
    /// Where.
    pub node: Name,
    /// Age of the newest state on it: what would be lost if it were promoted now. `null`: there is none yet.
    pub lag_ms: Option<u64>,
    /// The newest snapshot on it.
    pub snapshot: Option<Guid>,
    /// Bytes that it lacks, as far as they were measured; what was written within `lagMs` may come on top. `null`: nothing
    /// was measured for a while.
    pub pending: Option<Bytes>,
    /// Whether its node can be reached.
    pub reachable: bool,
    /// Why it does not move forward.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
}

/// What a grain uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrainUsage {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Disk.
    pub disk: Bytes,
    /// Starts after the first one because its program ended by itself.
    pub restarts: u32,
}

/// A failover that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverView {
    /// When.
    pub at: Timestamp,
    /// From which node.
    pub from: Name,
    /// To which node.
    pub to: Name,
    /// The epoch that began with it.
    pub epoch: Epoch,
    /// What was lost at most; `null`: nothing, the old owner took it again.
    pub loss: Option<Loss>,
}
