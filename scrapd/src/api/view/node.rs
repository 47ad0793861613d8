//! A node, as the API shows it. Pure.

use std::collections::BTreeMap;

use scrap_decide::cluster::{Liveness, Node};
use scrap_decide::place::loads;
use scrap_schema::api::{GrainUsage, MetadataView, NodeState, NodeStatus, NodeView};
use scrap_schema::id::{Name, NodeId};
use scrap_schema::manifest::{API_VERSION, Manifest, ManifestKind, Metadata};

use super::{World, ms};

/// The whole node.
pub(crate) fn node(world: &World<'_>, node: &Node) -> NodeView {
    NodeView {
        api_version: API_VERSION.to_owned(),
        kind: "Node".to_owned(),
        metadata: MetadataView {
            name: node.name.clone(),
            id: Some(node.id.to_string()),
            labels: node.labels.clone(),
            annotations: BTreeMap::new(),
            created: Some(node.created),
            modify_index: node.modified,
            generation: None,
        },
        spec: node.spec.clone(),
        status: status(world, node),
    }
}

/// The node as somebody would write it.
pub(crate) fn node_manifest(node: &Node) -> Manifest {
    Manifest {
        metadata: Metadata {
            name: node.name.clone(),
            labels: node.labels.clone(),
            annotations: BTreeMap::new(),
        },
        kind: ManifestKind::Node(node.spec.clone()),
        line: 1,
    }
}

fn status(world: &World<'_>, node: &Node) -> NodeStatus {
    let load = loads(world.cluster, None).get(&node.id).copied().unwrap_or_default();
    let heard = world.observed.nodes.get(&node.id);
    NodeStatus {
        state: state(node),
        role: node.role,
        raft: raft(world, node.id).to_owned(),
        addresses: node.addresses.clone(),
        facts: node.facts.clone(),
        usage: heard.map(|heard| heard.usage),
        pool: heard.and_then(|heard| heard.pool.clone()),
        network: heard.map(|heard| heard.network.clone()).unwrap_or_default(),
        reserved: GrainUsage { cpu: load.cpu, memory: load.memory, disk: load.disk, restarts: 0 },
        silent_ms: heard.map(|heard| ms(world.now.boot.since(heard.last))),
        off: node.off.as_ref().map(|off| off.by.clone()),
        draining: node.drain.is_some(),
        grains: owned(world, node.id),
        copies: kept(world, node.id),
    }
}

/// A node that has not registered yet counts as away: nothing of it can run anything.
pub(super) fn state(node: &Node) -> NodeState {
    match node.liveness {
        Liveness::Online => NodeState::Online,
        Liveness::Suspect { .. } => NodeState::Suspect,
        Liveness::Fenced { .. } => NodeState::Fenced,
        Liveness::Joining | Liveness::Away { .. } => NodeState::Away,
    }
}

pub(super) fn raft(world: &World<'_>, node: NodeId) -> &'static str {
    if world.raft.leader == Some(node) {
        "leader"
    } else if world.raft.voters.contains(&node) {
        "voter"
    } else {
        "learner"
    }
}

fn owned(world: &World<'_>, node: NodeId) -> Vec<Name> {
    let grains = world.cluster.grains.values();
    let owned = grains.filter(|grain| grain.owner == Some(node) && grain.trashed_until.is_none());
    sorted(owned.map(|grain| grain.name.clone()))
}

fn kept(world: &World<'_>, node: NodeId) -> Vec<Name> {
    let grains = world.cluster.grains.values();
    let kept =
        grains.filter(|grain| grain.trashed_until.is_none() && grain.receivers().contains(&node));
    sorted(kept.map(|grain| grain.name.clone()))
}

fn sorted(names: impl Iterator<Item = Name>) -> Vec<Name> {
    let mut names: Vec<Name> = names.collect();
    names.sort();
    names
}
