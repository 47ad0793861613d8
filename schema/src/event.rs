//! Events: what happened, in the operator's words. Derived by `apply`, so every node has the same ones.

use serde::{Deserialize, Serialize};

use crate::id::{GrainId, NodeId, OperationId};
use crate::time::Timestamp;

/// How much an event matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Something is down or lost.
    Critical,
}

/// What kind of thing happened; a closed list to filter by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The cluster itself.
    Cluster,
    /// A node came, went, is silent, was fenced.
    Node,
    /// A grain's spec or state.
    Grain,
    /// A change of owner without a person's order.
    Failover,
    /// Copies.
    Replication,
    /// Diverged data that were set aside.
    Orphan,
    /// An operation began, moved on, ended.
    Operation,
    /// A policy.
    Policy,
    /// A network.
    Network,
    /// A template.
    Template,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Log index of the entry that caused it. Events of one entry share it.
    pub index: u64,
    /// Place among the events of its entry, from 0.
    pub place: u32,
    /// When, by the clock of the node that proposed the entry.
    pub at: Timestamp,
    /// What kind.
    pub topic: Topic,
    /// How much it matters.
    pub severity: Severity,
    /// About which grain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grain: Option<GrainId>,
    /// About which node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Part of which operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// One sentence.
    pub message: String,
}
