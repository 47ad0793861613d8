//! Changes of members: one at a time, in one task, each finished before the next begins (openraft #1544).
//!
//! Never decides who should be a member, and never uses a node id again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use scrap_schema::id::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::types::{Metrics, Raft};
use super::{MembersError, NotLeader};

/// A new member may be so many entries behind when it begins to vote.
pub(super) const CAUGHT_UP: u64 = 64;

/// A wanted set of members.
pub(super) struct Wanted {
    pub(super) voters: BTreeSet<NodeId>,
    /// Peer addresses of learners and of new voters.
    pub(super) learners: BTreeMap<NodeId, String>,
}

/// A wish and who waits for it.
pub(super) type Ask = (Wanted, oneshot::Sender<Result<(), MembersError>>);

/// Changes members one wish after the other. Ends when nobody can ask any more.
pub(super) async fn change_rounds(raft: Raft, limit: Duration, mut asked: mpsc::Receiver<Ask>) {
    while let Some((wanted, told)) = asked.recv().await {
        let began = Instant::now();
        let change = Change { raft: &raft, wanted, began, limit };
        let result = tokio::time::timeout(limit, change.run())
            .await
            .unwrap_or(Err(MembersError::Unknown { waited: limit }));
        // A caller that has gone can look at the members.
        let _ = told.send(result);
    }
}

struct Change<'a> {
    raft: &'a Raft,
    wanted: Wanted,
    began: Instant,
    limit: Duration,
}

impl Change<'_> {
    async fn run(&self) -> Result<(), MembersError> {
        let now = self.now()?;
        self.check(&now)?;
        if now.membership_config.get_joint_config().len() > 1 {
            tracing::info!("finishing a change of members that was begun before");
            self.ask(ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
        }
        self.add_new().await?;
        let now = self.now()?;
        let voters: BTreeSet<u64> = self.wanted.voters.iter().map(|node| node.0).collect();
        if now.membership_config.voter_ids().collect::<BTreeSet<_>>() != voters {
            self.ask(ChangeMembers::ReplaceAllVoters(voters.clone())).await?;
        }
        let now = self.now()?;
        let gone: BTreeSet<u64> = now
            .membership_config
            .nodes()
            .map(|(id, _)| *id)
            .filter(|id| !voters.contains(id) && !self.wanted.learners.contains_key(&NodeId(*id)))
            .collect();
        if !gone.is_empty() {
            self.ask(ChangeMembers::RemoveNodes(gone)).await?;
        }
        self.verify(&voters)
    }

    /// The metrics, if this node leads.
    fn now(&self) -> Result<Metrics, MembersError> {
        let now = self.raft.metrics().borrow_watched().clone();
        if now.running_state.is_err() {
            return Err(MembersError::Closed);
        }
        if now.current_leader == Some(now.id) {
            return Ok(now);
        }
        Err(NotLeader { leader: now.current_leader.map(NodeId) }.into())
    }

    fn check(&self, now: &Metrics) -> Result<(), MembersError> {
        if self.wanted.voters.is_empty() {
            return Err(MembersError::Invalid("there is no voter".to_owned()));
        }
        for voter in &self.wanted.voters {
            let known = now.membership_config.get_node(&voter.0).is_some();
            if !known && !self.wanted.learners.contains_key(voter) {
                let text = format!("the peer address of new voter {voter} is missing");
                return Err(MembersError::Invalid(text));
            }
        }
        Ok(())
    }

    /// New members are learners first. Learners that shall vote, and new ones, must have caught up.
    async fn add_new(&self) -> Result<(), MembersError> {
        let now = self.now()?;
        let old_voters: BTreeSet<u64> = now.membership_config.voter_ids().collect();
        let mut wait_for: BTreeSet<u64> = self
            .wanted
            .voters
            .iter()
            .map(|node| node.0)
            .filter(|voter| !old_voters.contains(voter))
            .collect();
        for (node, address) in &self.wanted.learners {
            if now.membership_config.get_node(&node.0).is_none() {
                let nodes = BTreeMap::from([(node.0, BasicNode::new(address))]);
                self.ask(ChangeMembers::AddNodes(nodes)).await?;
                wait_for.insert(node.0);
            }
        }
        for node in wait_for {
            self.wait_for(node).await?;
        }
        Ok(())
    }

    async fn wait_for(&self, node: u64) -> Result<(), MembersError> {
        let deadline = self.began + self.limit;
        let mut metrics = self.raft.metrics();
        loop {
            let now = self.now()?;
            let progress = now.replication.as_ref().and_then(|nodes| nodes.get(&node)).cloned();
            let matched = progress.flatten().map(|matched| matched.index);
            let last = now.last_log_index.unwrap_or_default();
            if matched.is_some_and(|matched| matched.saturating_add(CAUGHT_UP) >= last) {
                return Ok(());
            }
            let behind = MembersError::Behind { node: NodeId(node), waited: self.began.elapsed() };
            // The round's own limit ends with the same deadline; this one names the node.
            let until = deadline - Duration::from_millis(100).min(self.limit / 10);
            match tokio::time::timeout_at(until, metrics.changed()).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) => return Err(MembersError::Closed),
                Err(_) => return Err(behind),
            }
        }
    }

    async fn ask(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MembersError> {
        match self.raft.change_membership(change, true).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(NotLeader { leader: forward.leader_id.map(NodeId) }.into())
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(MembersError::Unknown { waited: self.began.elapsed() })
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Err(MembersError::Refused(error.to_string()))
            }
            Err(RaftError::APIError(ClientWriteError::PreconditionFailed(error))) => {
                Err(MembersError::Refused(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(MembersError::Closed),
        }
    }

    /// Two changes at a time may both report success and leave half of each: look at what it is.
    fn verify(&self, voters: &BTreeSet<u64>) -> Result<(), MembersError> {
        let now = self.raft.metrics().borrow_watched().clone();
        let is: BTreeSet<u64> = now.membership_config.voter_ids().collect();
        if now.membership_config.get_joint_config().len() == 1 && is == *voters {
            return Ok(());
        }
        Err(MembersError::Refused(format!("the members are now {}", now.membership_config)))
    }
}
