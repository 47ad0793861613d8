//! Who takes part in the consensus, and what one more loss would mean. Pure; the sentences are made in `scrap_decide::quorum`.

use std::collections::BTreeMap;

use scrap_decide::cluster::Node;
use scrap_decide::quorum::{IfLost, Quorum, advice, if_lost};
use scrap_schema::api::{MemberView, QuorumView};
use scrap_schema::id::NodeId;

use super::{Part, World, node};

/// The votes; `None` before the cluster is formed.
pub(crate) fn quorum(world: &World<'_>, part: &Part) -> Option<QuorumView> {
    let identity = world.cluster.identity.as_ref()?;
    let voters = &world.raft.voters;
    let quorum = Quorum::of(world.cluster, voters);
    let leased =
        world.cluster.grains.values().filter(|grain| {
            grain.wants_to_run() && (grain.armed || world.cluster.needs_lease(grain))
        });
    let known = world.raft.leader.is_some();
    // What nobody has reported here cannot be judged here.
    let lost = match world.raft.leads {
        true => if_lost(world.cluster, world.observed, voters, world.now),
        false => BTreeMap::new(),
    };
    let mut members: Vec<MemberView> =
        world.cluster.nodes.values().map(|node| member(world, part, node, &lost)).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    let next_loss = match known {
        true => quorum.next_loss(leased.count()),
        false => {
            "no leader is known here: nothing can be changed, and which voters answer is unknown"
                .to_owned()
        }
    };
    Some(QuorumView {
        name: identity.name.clone(),
        cluster_id: identity.id.to_string(),
        generation: identity.generation,
        leader: world.raft.leader.and_then(|leader| world.node_name(leader)),
        voters: number(quorum.voters),
        answering: known.then(|| number(quorum.answering)),
        needed: number(quorum.needed()),
        changing: part.changing,
        next_loss,
        hint: known.then(|| advice(world.cluster, voters)).flatten(),
        members,
    })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn member(
    world: &World<'_>,
    part: &Part,
    node: &Node,
    lost: &BTreeMap<NodeId, IfLost>,
) -> MemberView {
    MemberView {
        name: node.name.clone(),
        role: node.role,
        state: node::state(node),
        raft: match world.cluster.left_behind(node) {
            true => "none".to_owned(),
            false => node::raft(world, node.id).to_owned(),
        },
        behind: part.behind.get(&node.id).copied(),
        if_lost: lost.get(&node.id).map(ToString::to_string),
    }
}
