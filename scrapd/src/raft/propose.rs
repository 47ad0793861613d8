//! Proposals: on the leader into the log, elsewhere one hop to the leader, again and again while it is certain that nothing happened.
//!
//! A repetition after an unknown outcome is the caller's decision: the idempotency key makes it one effect.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use scrap_schema::command::Proposal;
use scrap_schema::id::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::types::{Logged, Metrics, Raft};
use super::wire::{Forwarded, PROPOSAL_LIMIT};
use super::{Committed, Inner, NotLeader, ProposeError};

/// Longest pause between two attempts; a change of the metrics ends it.
const PAUSE: Duration = Duration::from_millis(25);
/// Callers of one round.
const ROUND: usize = 1_024;

/// What one attempt brought.
pub(super) enum Attempt {
    /// Applied.
    Done(Committed),
    /// Nothing was proposed.
    NotNow {
        /// Who may lead.
        leader: Option<NodeId>,
    },
    /// It may have happened or may happen still.
    Unknown,
    /// The consensus of this node has stopped; nothing was proposed.
    Closed,
}

impl Inner {
    /// Proposes until it is done, unknown, or too late.
    pub(super) async fn propose(&self, proposal: &Proposal) -> Result<Committed, ProposeError> {
        fits(proposal)?;
        let began = Instant::now();
        let deadline = began + self.settings.timers.propose;
        let mut asking = Asking::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ProposeError::NoLeader { waited: began.elapsed() });
            }
            let mut metrics = self.raft.metrics();
            let now = metrics.borrow_watched().clone();
            let attempt = match asking.whom(&now) {
                _ if now.running_state.is_err() => Attempt::Closed,
                Some(leader) if leader == self.settings.node.0 => {
                    self.propose_here(proposal, left).await
                }
                Some(leader) => {
                    let address = now.membership_config.get_node(&leader);
                    let address = address.map(|node| node.addr.as_str());
                    self.forward(NodeId(leader), address, proposal, left).await
                }
                None => Attempt::NotNow { leader: None },
            };
            match attempt {
                Attempt::Done(committed) => return Ok(committed),
                Attempt::Unknown => {
                    return Err(ProposeError::Unknown { waited: began.elapsed() });
                }
                Attempt::Closed => return Err(ProposeError::Closed),
                Attempt::NotNow { leader } => {
                    asking.refused(leader);
                    // A change or the end of the pause: both mean looking again.
                    let _ = tokio::time::timeout(PAUSE.min(left), metrics.changed()).await;
                }
            }
        }
    }

    /// Proposes what this node has decided as the leader. If it is not the leader any more, nobody else is asked.
    pub(super) async fn decide(&self, proposal: &Proposal) -> Result<Committed, ProposeError> {
        fits(proposal)?;
        let began = Instant::now();
        match self.propose_here(proposal, self.settings.timers.propose).await {
            Attempt::Done(committed) => Ok(committed),
            Attempt::NotNow { .. } => Err(ProposeError::NoLeader { waited: began.elapsed() }),
            Attempt::Unknown => Err(ProposeError::Unknown { waited: began.elapsed() }),
            Attempt::Closed => Err(ProposeError::Closed),
        }
    }

    /// One attempt on this node.
    pub(super) async fn propose_here(&self, proposal: &Proposal, limit: Duration) -> Attempt {
        let now = self.raft.metrics().borrow_watched().clone();
        if now.running_state.is_err() {
            return Attempt::Closed;
        }
        if self.peers.generation.newer().is_some() {
            return Attempt::NotNow { leader: None };
        }
        // A leader that has not heard a majority for so long may be one no more: it would only make the caller wait.
        let fresh =
            self.quorum_age(&now).is_some_and(|age| age < self.settings.timers.election_max);
        if !fresh {
            let leader = now.current_leader.filter(|leader| *leader != now.id).map(NodeId);
            return Attempt::NotNow { leader };
        }
        let written = self.raft.client_write(Logged(proposal.clone()));
        match tokio::time::timeout(limit, written).await {
            Ok(Ok(response)) => response.data.map_or(Attempt::Unknown, Attempt::Done),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Attempt::NotNow { leader: forward.leader_id.map(NodeId) }
            }
            // Too late, thrown away by another leader, or stopped in the middle.
            Ok(Err(RaftError::APIError(_) | RaftError::Fatal(_))) | Err(_) => Attempt::Unknown,
        }
    }

    async fn forward(
        &self,
        leader: NodeId,
        address: Option<&str>,
        proposal: &Proposal,
        limit: Duration,
    ) -> Attempt {
        match self.peers.propose(leader, address, proposal, limit).await {
            Ok(Forwarded::Committed { committed }) => Attempt::Done(committed),
            Ok(Forwarded::NotNow { leader }) => Attempt::NotNow { leader },
            Ok(Forwarded::Unknown) => Attempt::Unknown,
            Err(error) if error.never_arrived() => Attempt::NotNow { leader: None },
            Err(error) => {
                tracing::debug!(%leader, error = %crate::logging::chain(&error), "no answer of the leader");
                Attempt::Unknown
            }
        }
    }
}

/// Whether the log takes it.
fn fits(proposal: &Proposal) -> Result<(), ProposeError> {
    let bytes = serde_json::to_vec(proposal).map_or(usize::MAX, |body| body.len());
    if bytes > PROPOSAL_LIMIT {
        return Err(ProposeError::TooLarge { bytes, limit: PROPOSAL_LIMIT });
    }
    Ok(())
}

/// Whom to ask next. A node that has been away may believe in a leader that is none any more, and at a new address the real one
/// does not reach it: then whom the others name, and after that one voter after the other.
#[derive(Default)]
struct Asking {
    named: Option<NodeId>,
    refusals: usize,
}

impl Asking {
    fn whom(&mut self, now: &Metrics) -> Option<u64> {
        if let Some(named) = self.named.take() {
            return Some(named.0);
        }
        if self.refusals.is_multiple_of(2) && now.current_leader.is_some() {
            return now.current_leader;
        }
        let others: Vec<u64> =
            now.membership_config.voter_ids().filter(|voter| *voter != now.id).collect();
        others.get(self.refusals.checked_div(2)?.checked_rem(others.len())?).copied()
    }

    fn refused(&mut self, named: Option<NodeId>) {
        self.named = named;
        self.refusals += 1;
    }
}

/// Asks for a confirmed index of committed entries.
pub(super) type Ask = oneshot::Sender<Result<u64, NotLeader>>;

/// Confirms leadership in rounds: all who asked before a round begins share it. Ends when nobody can ask any more.
pub(super) async fn confirm_rounds(raft: Raft, limit: Duration, mut asked: mpsc::Receiver<Ask>) {
    let mut callers = Vec::with_capacity(16);
    while asked.recv_many(&mut callers, ROUND).await > 0 {
        let round = tokio::time::timeout(limit, confirm(&raft)).await;
        let result = round.unwrap_or(Err(NotLeader { leader: None }));
        for caller in callers.drain(..) {
            // A caller that has gone needs no answer.
            let _ = caller.send(result);
        }
    }
}

async fn confirm(raft: &Raft) -> Result<u64, NotLeader> {
    let not_leader = NotLeader { leader: None };
    match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
        Ok(read) => Ok(read.index()),
        Err(RaftError::APIError(error)) => {
            let leader = openraft::TryAsRef::try_as_ref(&error)
                .and_then(|forward: &openraft::errors::ForwardToLeader<_>| forward.leader_id);
            Err(leader.map_or(not_leader, |leader| NotLeader { leader: Some(NodeId(leader)) }))
        }
        Err(RaftError::Fatal(_)) => Err(not_leader),
    }
}
