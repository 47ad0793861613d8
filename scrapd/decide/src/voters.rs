//! Chooses who votes: always an odd number, never fewer than three by itself once there were three.

use std::collections::BTreeSet;

use scrap_schema::id::NodeId;
use scrap_schema::node::NodeRole;
use scrap_schema::time::Now;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Liveness, Node};
use crate::mutant::{self, Mutant};

/// A voter that has been gone for so long is replaced if somebody else can vote.
const REPLACE_AFTER: Span = Span::from_secs(600);

/// How many voters a cluster of these members should have: as many as can be without an even number, and never more than five.
/// Two members are one voter: with two, the loss of either would stop both.
#[must_use]
pub fn wanted(cluster: &Cluster) -> usize {
    match cluster.members().count() {
        0..=2 => 1,
        3 => 3,
        4 if mutant::is(Mutant::EvenVoters) => 4,
        4 => 3,
        _ => 5,
    }
}

/// The voters that there should be. Keeps the present ones as long as they are members and not gone for good. Others come in
/// when they are online and their log is `caught_up`: witnesses first, because they are there for nothing else, then the smallest id.
#[must_use]
pub fn choose(
    cluster: &Cluster,
    present: &BTreeSet<NodeId>,
    leader: NodeId,
    caught_up: &BTreeSet<NodeId>,
    now: Now,
) -> BTreeSet<NodeId> {
    let able = |node: &&Node| {
        let votes = present.contains(&node.id);
        votes || (node.liveness.is_online() && caught_up.contains(&node.id))
    };
    let mut order: Vec<&Node> = cluster.members().filter(able).collect();
    order.sort_by_key(|node| {
        let stays = present.contains(&node.id) && !is_gone(node, now);
        let comes = !present.contains(&node.id);
        // The leader stays; then voters that are not gone for good, whoever can come, and last those that are gone.
        (node.id != leader, !stays, !comes, node.role != NodeRole::Witness, node.id)
    });
    let count = order.len().min(wanted(cluster));
    // One less rather than an even number: it loses as few.
    let odd = if count.is_multiple_of(2) && !mutant::is(Mutant::EvenVoters) {
        count.saturating_sub(1)
    } else {
        count
    };
    order.into_iter().take(odd).map(|node| node.id).collect()
}

/// Who should lead instead of a leader that is being emptied, if anybody can: planned work on its machine begins soon.
#[must_use]
pub fn heir(
    cluster: &Cluster,
    voters: &BTreeSet<NodeId>,
    leader: NodeId,
    caught_up: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    cluster.nodes.get(&leader).filter(|node| node.drain.is_some())?;
    let able = cluster.members().filter(|node| {
        let votes = voters.contains(&node.id) && caught_up.contains(&node.id);
        node.id != leader && votes && node.liveness.is_online() && node.drain.is_none()
    });
    able.map(|node| node.id).min()
}

fn is_gone(node: &Node, now: Now) -> bool {
    match node.liveness {
        Liveness::Fenced { last_heard } | Liveness::Away { last_heard } => {
            now.wall.since(last_heard) >= REPLACE_AFTER
        }
        Liveness::Joining | Liveness::Online | Liveness::Suspect { .. } => false,
    }
}

#[cfg(test)]
mod tests;
