//! What can go wrong with the consensus, as its callers need to tell it apart.
//!
//! Nothing here knows HTTP: the API room translates.

use std::path::PathBuf;
use std::time::Duration;

use scrap_schema::id::NodeId;
use thiserror::Error;

use crate::store::StoreError;

/// The consensus could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A database is unusable, damaged or somebody else's.
    #[error("the consensus of this node cannot be opened")]
    Store(#[from] StoreError),
    /// The timers contradict each other.
    #[error("the timers of the consensus contradict each other: {0}")]
    Timers(String),
    /// The folder cannot be made.
    #[error("folder `{path}` cannot be made")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client for peers cannot be made")]
    Client(#[source] reqwest::Error),
    /// The algorithm does not accept what is stored.
    #[error("the stored log cannot be continued: {0}")]
    Start(String),
}

/// A cluster could not be formed here.
#[derive(Debug, Error)]
pub enum FormError {
    /// This node has a log already: it formed a cluster or joined one.
    #[error("this node is a member of a cluster already")]
    AlreadyFormed,
    /// The flag that keeps it from happening twice could not be written.
    #[error("the mark `formed` cannot be written")]
    Mark(#[source] std::io::Error),
    /// The consensus has stopped.
    #[error("the consensus has stopped: {0}")]
    Closed(String),
}

/// A proposal has no answer.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ProposeError {
    /// There is no leader that a majority confirms. Nothing was proposed: trying again is safe.
    #[error("no leader after {} ms", waited.as_millis())]
    NoLeader {
        /// How long this node has tried.
        waited: Duration,
    },
    /// It was proposed and no answer came: it may happen still. Ask again with the same idempotency key.
    #[error("no answer after {} ms: it may have happened or may happen still", waited.as_millis())]
    Unknown {
        /// How long this node has waited.
        waited: Duration,
    },
    /// It is larger than the log takes. Nothing was proposed.
    #[error("the change has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The consensus of this node has stopped.
    #[error("the consensus of this node has stopped")]
    Closed,
}

/// This node does not lead, or cannot confirm that it does.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("this node does not lead")]
pub struct NotLeader {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
}

/// The members were not changed, or not completely.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum MembersError {
    /// Only the leader changes members.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The wanted set is no cluster.
    #[error("these members make no cluster: {0}")]
    Invalid(String),
    /// A new member did not catch up in time. It may be a learner now; asking again goes on from there.
    #[error("node {node} has not caught up after {} s", waited.as_secs())]
    Behind {
        /// Which.
        node: NodeId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The change was begun and no answer came. Look at the members and ask again.
    #[error("the change of members has no answer after {} s", waited.as_secs())]
    Unknown {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The algorithm refuses it.
    #[error("the change of members was refused: {0}")]
    Refused(String),
    /// The consensus of this node has stopped.
    #[error("the consensus of this node has stopped")]
    Closed,
}
