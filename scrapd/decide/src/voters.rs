//! Chooses who votes: always an odd number, never fewer than three by itself once there were three.

use std::collections::BTreeSet;

use scrap_schema::id::NodeId;
use scrap_schema::time::Now;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Liveness, Node};

/// A voter that has been gone for so long is replaced if somebody else can vote.
const REPLACE_AFTER: Span = Span::from_secs(600);

/// The voters that there should be. Keeps the present ones as long as they are members and alive; fills up with the nodes that
/// are online, smallest id first.
#[must_use]
pub fn choose(
    cluster: &Cluster,
    present: &BTreeSet<NodeId>,
    leader: NodeId,
    now: Now,
) -> BTreeSet<NodeId> {
    let registered = cluster.nodes.values().filter(|node| node.boot.is_some());
    let wanted = match registered.clone().count() {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    };
    let mut order: Vec<&Node> = registered.collect();
    order.sort_by_key(|node| {
        let votes = present.contains(&node.id);
        let gone = is_gone(node, now);
        let online = node.liveness.is_online();
        // The leader stays; then voters that are not gone for good; then whoever is online.
        (node.id != leader, !votes || gone, !online, node.id)
    });
    let able = order.iter().filter(|node| node.liveness.is_online() || present.contains(&node.id));
    let chosen: BTreeSet<NodeId> = able.take(wanted).map(|node| node.id).collect();
    // Never an even number, and never fewer than there are as long as they are members.
    let members: BTreeSet<NodeId> =
        present.iter().copied().filter(|node| cluster.nodes.contains_key(node)).collect();
    if chosen.len() == wanted { chosen } else { members }
}

fn is_gone(node: &Node, now: Now) -> bool {
    match node.liveness {
        Liveness::Fenced { last_heard } | Liveness::Away { last_heard } => {
            now.wall.since(last_heard) >= REPLACE_AFTER
        }
        Liveness::Joining | Liveness::Online | Liveness::Suspect { .. } => false,
    }
}
