//! The log of a node whose majority is gone for good: what it has, and how this node becomes the only voter.
//!
//! Only while the daemon does not run. Nothing is removed: one entry is written at the end, and what stands before it is applied
//! as if it were committed, because some of it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftStateMachine as _};
use openraft::{BasicNode, EntryPayload};
use scrap_decide::cluster::Cluster;
use scrap_schema::id::{ClusterId, NodeId};

use super::log::Log;
use super::machine::Machine;
use super::network::Peers;
use super::settings::Settings;
use super::types::{Entry, LogId, Vote};
use super::{OpenError, generation};
use crate::store::Owner;

/// What a node has of its cluster, read while its daemon does not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Survivor {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u64,
    /// The node.
    pub node: NodeId,
    /// Term and index of the last entry of its log: of several survivors the one with the highest has the most.
    pub last: (u64, u64),
    /// Index of the last entry that its state is of.
    pub applied: u64,
    /// Who votes, as its log says.
    pub voters: BTreeSet<NodeId>,
    /// Its state.
    pub state: Cluster,
    /// Other nodes whose daemon answers now.
    pub answering: Vec<NodeId>,
}

struct Opened {
    log: Log,
    machine: Machine,
    voters: BTreeSet<NodeId>,
    joint: bool,
}

async fn open(settings: &Settings) -> anyhow::Result<Opened> {
    let owner = Owner { cluster: settings.cluster, node: settings.node };
    let path = settings.dir.join("raft.db");
    let (mut log, facts) = Log::open(&path, &owner).await.map_err(OpenError::Store)?;
    let opened = Machine::open(&settings.dir, facts.purged).await.map_err(OpenError::Store);
    let mut machine = opened?;
    let (applied, stored) = machine.applied_state().await?;
    let from = applied.map_or(0, |applied| applied.index + 1);
    let mut membership = stored.membership().clone();
    for entry in log.try_get_log_entries(from..).await? {
        match entry.payload {
            EntryPayload::Membership(newer) => membership = newer,
            EntryPayload::Blank | EntryPayload::Normal(_) => (),
        }
    }
    let voters = membership.voter_ids().map(NodeId).collect();
    let joint = membership.get_joint_config().len() > 1;
    Ok(Opened { log, machine, voters, joint })
}

impl Opened {
    async fn close(self) {
        self.log.close().await;
        self.machine.db().close().await;
    }
}

/// Looks at what a node has. Changes nothing, but asks the other nodes whether they answer.
///
/// # Errors
/// If its databases cannot be read.
pub async fn look(settings: &Settings) -> anyhow::Result<Survivor> {
    let mut opened = open(settings).await?;
    let (_, last) = opened.log.position();
    let (applied, _) = opened.machine.applied_state().await?;
    let last = last.max(applied);
    let published = opened.machine.published();
    let peers = Peers::new(settings, Arc::clone(&published)).map_err(OpenError::Client)?;
    let answering = generation::ask_around(&peers).await;
    let survivor = Survivor {
        cluster: settings.cluster,
        generation: settings.generation,
        node: settings.node,
        last: last.map_or((0, 0), |last| (last.leader_id.term, last.index)),
        applied: applied.map_or(0, |applied| applied.index),
        voters: opened.voters.clone(),
        state: published.read(Cluster::clone),
        answering,
    };
    opened.close().await;
    Ok(survivor)
}

/// Makes this node the only voter, by one entry at the end of its log. Doing it again changes nothing.
///
/// # Errors
/// If the log cannot be read or written.
pub async fn alone(settings: &Settings, peer_address: &str) -> anyhow::Result<()> {
    let mut opened = open(settings).await?;
    let me = BTreeSet::from([settings.node]);
    let written = if opened.voters == me && !opened.joint {
        Ok(())
    } else {
        write(&mut opened, settings.node, peer_address).await
    };
    opened.close().await;
    written
}

async fn write(opened: &mut Opened, me: NodeId, peer_address: &str) -> anyhow::Result<()> {
    let (vote, mut last) = opened.log.position();
    let (applied, _) = opened.machine.applied_state().await?;
    if let Some(applied) = applied.filter(|applied| last < Some(*applied)) {
        // A snapshot was installed and the log behind it not yet cleared.
        opened.log.purge(applied).await?;
        last = Some(applied);
    }
    let Some(last) = last else { bail!("there is nothing in its log") };
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term) + 1;
    let vote = Vote::new_committed(term, me.0);
    let nodes = BTreeMap::from([(me.0, BasicNode::new(peer_address))]);
    let membership = openraft::Membership::new(vec![BTreeSet::from([me.0])], nodes);
    let membership = membership.context("these members make no sense")?;
    let log_id = LogId::new(vote.leader_id, last.index + 1);
    // The vote first: an entry is never of a later term than the vote.
    opened.log.save_vote(&vote).await?;
    opened.log.add(&Entry { log_id, payload: EntryPayload::Membership(membership) }).await?;
    Ok(())
}

impl Survivor {
    /// Whether another one has more of the log.
    #[must_use]
    pub fn is_behind(&self, other: &Known) -> bool {
        other.last > self.last
    }

    fn names<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> String {
        let names: Vec<String> = nodes.map(|node| self.state.node_name(*node)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }
}

/// What another survivor has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The cluster.
    pub cluster: String,
    /// Its generation.
    pub generation: u64,
    /// Which node.
    pub node: String,
    /// Term and index of its last entry.
    pub last: (u64, u64),
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.state.identity.as_ref().map(|identity| identity.name.to_string());
        writeln!(f, "cluster:    {} {}", name.unwrap_or_default(), self.cluster)?;
        writeln!(f, "generation: {}", self.generation)?;
        writeln!(f, "node:       {}", self.state.node_name(self.node))?;
        writeln!(f, "last entry: term {} index {}", self.last.0, self.last.1)?;
        writeln!(f, "applied:    {}", self.applied)?;
        writeln!(f, "voters:     {}", self.names(self.voters.iter()))?;
        writeln!(f, "answering:  {}", self.names(self.answering.iter()))
    }
}

impl Known {
    /// Reads what [`Survivor`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let last = field("last entry")?;
        let (term, index) = last.strip_prefix("term ")?.split_once(" index ")?;
        Some(Self {
            cluster: field("cluster")?.split_whitespace().last()?.to_owned(),
            generation: field("generation")?.parse().ok()?,
            node: field("node")?,
            last: (term.parse().ok()?, index.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(last: (u64, u64)) -> Survivor {
        Survivor {
            cluster: ClusterId(7),
            generation: 2,
            node: NodeId(3),
            last,
            applied: 40,
            voters: [NodeId(1), NodeId(3)].into(),
            state: Cluster::default(),
            answering: Vec::new(),
        }
    }

    #[test]
    fn what_one_survivor_prints_another_one_reads() {
        let text = survivor((4, 44)).to_string();
        let known = Known::parse(&text).unwrap();
        let node = "node 3".to_owned();
        let cluster = ClusterId(7).to_string();
        assert_eq!(known, Known { cluster, generation: 2, node, last: (4, 44) });
        assert_eq!(Known::parse("cluster: home 7"), None);
    }

    #[test]
    fn the_higher_term_has_more_then_the_higher_index() {
        let known = |last| Known::parse(&survivor(last).to_string()).unwrap();
        for (mine, theirs, behind) in [
            ((4, 44), (4, 45), true),
            ((4, 44), (5, 1), true),
            ((4, 44), (4, 44), false),
            ((4, 44), (3, 99), false),
        ] {
            assert_eq!(survivor(mine).is_behind(&known(theirs)), behind, "{mine:?} {theirs:?}");
        }
    }
}
