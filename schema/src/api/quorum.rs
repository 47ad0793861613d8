//! Bodies about the votes of a cluster: who takes part, and what the loss of one more would mean.

use serde::{Deserialize, Serialize};

use super::NodeState;
use crate::id::Name;
use crate::node::NodeRole;

/// `GET /v1/cluster/quorum`: who takes part in the consensus, and what one more loss would mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuorumView {
    /// Name of the cluster.
    pub name: Name,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// How often the cluster was begun anew from one node because its majority was gone.
    pub generation: u64,
    /// The leader, if one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leader: Option<Name>,
    /// Nodes that vote.
    pub voters: u32,
    /// Those of them that answer; `null`: no leader is known here, so nobody knows.
    pub answering: Option<u32>,
    /// So many have to answer, or nothing can be changed.
    pub needed: u32,
    /// A change of the voters is half done.
    pub changing: bool,
    /// What the loss of one more voter would mean.
    pub next_loss: String,
    /// What a person can do to be able to lose more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// All nodes, by name.
    pub members: Vec<MemberView>,
}

/// One node and its part in the consensus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Name of the node.
    pub name: Name,
    /// What it is for.
    pub role: NodeRole,
    /// Whether its lease is renewed.
    pub state: NodeState,
    /// `leader`, `voter`, `learner`, or `none`: it takes no part.
    pub raft: String,
    /// Entries of the log that the leader has and it has not; `null`: nobody knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub behind: Option<u64>,
    /// What would be so if it were lost now; `null`: it does not answer as it is, or this node does not lead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_lost: Option<String>,
}
