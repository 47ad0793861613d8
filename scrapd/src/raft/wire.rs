//! What peers say to each other: paths, headers, the head of a snapshot. Both sides of a call are described here and nowhere else.

use scrap_schema::id::NodeId;
use serde::{Deserialize, Serialize};

use super::Committed;
use super::types::{SnapshotMeta, Vote};

/// Which cluster the caller belongs to.
pub(crate) const CLUSTER: &str = "x-scrap-cluster";
/// The generation of the cluster that the caller belongs to, and in answers the one of who answers.
pub(crate) const GENERATION: &str = "x-scrap-generation";
/// Who calls.
pub(crate) const FROM: &str = "x-scrap-from";
/// Who is meant: an address may have another node behind it by now.
pub(crate) const TO: &str = "x-scrap-to";
/// Largest JSON body that is accepted.
pub(crate) const BODY_LIMIT: usize = 64 << 20;
/// Largest proposal: with the entries around it, it must fit into one message.
pub(crate) const PROPOSAL_LIMIT: usize = 16 << 20;
/// Largest head of a snapshot.
pub(crate) const HEAD_LIMIT: u32 = 16 << 20;

pub(crate) const HELLO: &str = "/raft/hello";
pub(crate) const APPEND: &str = "/raft/append";
pub(crate) const VOTE: &str = "/raft/vote";
pub(crate) const PRE_VOTE: &str = "/raft/pre-vote";
pub(crate) const SNAPSHOT: &str = "/raft/snapshot";
pub(crate) const TRANSFER: &str = "/raft/transfer";
pub(crate) const PROPOSE: &str = "/raft/propose";

/// What comes before the bytes of a snapshot: its length as 4 bytes (big end first), then this as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    /// The vote of the leader that sends it.
    pub(crate) vote: Vote,
    /// What it is of.
    pub(crate) meta: SnapshotMeta,
    /// How many bytes follow.
    pub(crate) bytes: u64,
}

/// The answer to a forwarded proposal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Forwarded {
    /// Applied.
    Committed {
        /// What it brought.
        committed: Committed,
    },
    /// Nothing was proposed: ask the leader, or wait for one.
    NotNow {
        /// The leader, as far as the answering node knows.
        leader: Option<NodeId>,
    },
    /// It may have happened or may happen still.
    Unknown,
}
