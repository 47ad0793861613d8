//! The types that the algorithm is made with: what an entry carries, what an answer is, what a snapshot is.

use std::fmt;
use std::path::PathBuf;

use scrap_schema::command::Proposal;
use serde::{Deserialize, Serialize};

use super::Committed;

/// What an entry carries: a proposal, in the form in which the log keeps it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Logged(pub(crate) Proposal);

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.command.fmt(f)
    }
}

/// The answer to an entry; `None` for the algorithm's own entries.
pub(crate) type Reply = Option<Committed>;

openraft::declare_raft_types!(
    /// The types of this daemon's consensus.
    pub(crate) Types:
        D = Logged,
        R = Reply,
        NodeId = u64,
        Node = openraft::BasicNode,
);

/// A snapshot is a file.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
}

pub(crate) type Raft = openraft::Raft<Types, super::machine::Machine>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotFile>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
