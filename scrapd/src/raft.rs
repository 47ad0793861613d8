//! Consensus: the replicated log and the state that it makes. Only this room says `openraft`.
//!
//! Elsewhere there is [`Consensus`]: propose, read, confirm leadership, change members. No SQL here (that is `store`), no
//! decision about grains or nodes (that is `decide`), no HTTP status of the API.
//! **Invariant:** an answer to a proposal is given only after its entry is on disk on a majority and applied here.

mod error;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::refusal::Refusal;
use scrap_schema::command::Proposal;
use scrap_schema::event::Event;
use scrap_schema::id::NodeId;
use scrap_schema::unit::Span;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

pub use error::{FormError, MembersError, NotLeader, OpenError, ProposeError};
pub use settings::{Compaction, Settings, Timers};

/// An applied proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Log index of its entry. A read that must see it waits until [`Consensus::changes`] has reached this.
    pub index: u64,
    /// What it brought, or why it has no effect.
    pub outcome: Result<Outcome, Refusal>,
    /// Whether this is the answer of an earlier entry with the same idempotency key.
    pub repeated: bool,
}

/// Who leads, as far as this node knows. Not confirmed: see [`Consensus::confirm_leadership`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<NodeId>,
    /// In which term. Never a fencing token.
    pub term: u64,
    /// Whether it is this node.
    pub me: bool,
}

/// Who takes part in the consensus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// They elect and commit. While `joint`, those of both sets.
    pub voters: BTreeSet<NodeId>,
    /// They have the state and do not vote.
    pub learners: BTreeSet<NodeId>,
    /// A change is half done.
    pub joint: bool,
}

/// This node's part in the consensus. A cheap handle; all clones are the same.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: RwLock<Cluster>,
    applied: watch::Sender<u64>,
    events: broadcast::Sender<Arc<Vec<Event>>>,
    leadership: watch::Sender<Leadership>,
}

impl Consensus {
    /// Opens the databases of this node, loads the state and takes part in the consensus.
    ///
    /// # Errors
    /// If a database is damaged, foreign or unusable, or the timers contradict each other.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let _ = settings;
        let inner = Inner {
            cluster: RwLock::default(),
            applied: watch::Sender::default(),
            events: broadcast::Sender::new(1),
            leadership: watch::Sender::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a cluster of this node alone, once. Propose `FormCluster` afterwards.
    ///
    /// # Errors
    /// If this node is a member of a cluster already.
    pub async fn form(&self, peer_address: String) -> Result<(), FormError> {
        Err(FormError::Closed(peer_address))
    }

    /// Brings a change into the log and waits until it is on disk on a majority and applied on the leader.
    /// On a follower it is forwarded to the leader, one hop.
    ///
    /// # Errors
    /// If there is no leader in time, or the outcome is unknown.
    pub async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        let _ = proposal;
        Err(ProposeError::Closed)
    }

    /// Looks at the state as it is here, without asking anybody. Keep `f` short: changes wait meanwhile.
    pub fn read<R>(&self, f: impl FnOnce(&Cluster) -> R) -> R {
        f(&self.inner.cluster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The log index that is applied here; changes with every batch of entries.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// Events as they are applied here: one message for each entry that caused some. A slow receiver misses the oldest ones
    /// (`Lagged`) and finds them in the state.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Vec<Event>>> {
        self.inner.events.subscribe()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Asks a majority whether this node leads, after this call began, and waits until everything that was committed before is
    /// applied here. Callers at the same time share one round.
    ///
    /// # Errors
    /// If it does not lead, or no majority answers in time.
    pub async fn confirm_leadership(&self) -> Result<u64, NotLeader> {
        Err(NotLeader { leader: None })
    }

    /// Time since this node last knew that it was up to date: a leader since the last answer of a majority, others since the
    /// leader last wrote to them. `None`: never since its start.
    #[must_use]
    pub fn age(&self) -> Option<Span> {
        None
    }

    /// Hash of the replicated state after a log index (`None`: the newest), in hexadecimal digits. Equal on every node.
    /// `None` if the index is not among the last ones.
    #[must_use]
    pub fn hash_at(&self, index: Option<u64>) -> Option<(u64, String)> {
        index.map(|index| (index, String::new()))
    }

    /// Who takes part.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::default()
    }

    /// Makes exactly these the members: learners come first and catch up, then the voters change. One change at a time; a
    /// half done one is finished first. `learners` gives the peer address of every member that is new, also of a new voter
    /// (a voter that is in `learners` too is a voter).
    ///
    /// # Errors
    /// If this node does not lead, or a new member does not catch up in time.
    pub async fn set_members(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeMap<NodeId, String>,
    ) -> Result<(), MembersError> {
        let _ = (voters, learners);
        Err(MembersError::Closed)
    }

    /// Gives leadership away before a clean end: to a voter, or to the most advanced one. Best effort, bounded in time.
    pub async fn hand_over(&self, to: Option<NodeId>) {
        let _ = to;
    }

    /// What peers call: `/raft/append`, `/raft/vote`, `/raft/pre-vote`, `/raft/snapshot`, `/raft/transfer`, `/raft/propose`.
    /// Peers of other clusters are refused.
    pub fn routes(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Stops taking part and closes the databases cleanly.
    pub async fn close(&self) {}

    /// Ends when the consensus of this node has stopped because of a fault, with the reason. The process must end then:
    /// what is in memory may be newer than what is on disk.
    pub async fn failed(&self) -> String {
        std::future::pending().await
    }
}
