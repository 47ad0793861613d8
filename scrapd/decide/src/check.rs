//! Finds contradictions in the replicated state. Run after every step in tests, and at the start of the daemon.

use std::collections::BTreeSet;
use std::fmt;

use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId};

use crate::cluster::{Cluster, Grain, Stage};

/// Something that must never be true of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// A grain's owner is no member.
    OwnerUnknown { grain: GrainId, owner: NodeId },
    /// A grain without owner has an epoch, an owner, or a start.
    Ownerless { grain: GrainId },
    /// A node owns a grain and keeps a copy of it.
    OwnerIsStandby { grain: GrainId, owner: NodeId },
    /// An epoch did not rise.
    EpochsOutOfOrder { grain: GrainId, epoch: Epoch },
    /// The newest tenure is not the present owner's.
    TenureMismatch { grain: GrainId },
    /// Two grains outside the trash have one name.
    NameTwice { name: Name },
    /// Two nodes have one name.
    NodeNameTwice { name: Name },
    /// A node id that was never given out.
    NodeFromNowhere { node: NodeId },
    /// A grain's stage belongs to another operation than the grain.
    StageOfOther { grain: GrainId },
    /// A grain is held by an operation that is over or unknown.
    HeldByNobody { grain: GrainId, operation: OperationId },
    /// A grain answers while it is handed over.
    RunsWhileReleased { grain: GrainId },
    /// A grain moves to its own owner.
    MovesInPlace { grain: GrainId },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Every contradiction, in order. Empty: all is well.
#[must_use]
pub fn check(cluster: &Cluster) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for grain in cluster.grains.values() {
        if grain.trashed_until.is_none() && !names.insert(&grain.name) {
            found.push(Contradiction::NameTwice { name: grain.name.clone() });
        }
        ownership(cluster, grain, &mut found);
        stage(cluster, grain, &mut found);
    }
    let next = cluster.identity.as_ref().map_or(0, |identity| identity.next_node);
    let mut node_names = BTreeSet::new();
    for node in cluster.nodes.values() {
        if node.id.0 >= next {
            found.push(Contradiction::NodeFromNowhere { node: node.id });
        }
        if !node_names.insert(&node.name) {
            found.push(Contradiction::NodeNameTwice { name: node.name.clone() });
        }
    }
    found
}

fn ownership(cluster: &Cluster, grain: &Grain, found: &mut Vec<Contradiction>) {
    let id = grain.id;
    match grain.owner {
        None => {
            if grain.epoch != Epoch::default() || grain.started.is_some() {
                found.push(Contradiction::Ownerless { grain: id });
            }
        }
        Some(owner) => {
            if !cluster.nodes.contains_key(&owner) {
                found.push(Contradiction::OwnerUnknown { grain: id, owner });
            }
            if grain.standbys.contains(&owner) {
                found.push(Contradiction::OwnerIsStandby { grain: id, owner });
            }
            let newest = grain.tenures.last();
            if newest.is_none_or(|tenure| tenure.node != owner || tenure.epoch != grain.epoch) {
                found.push(Contradiction::TenureMismatch { grain: id });
            }
        }
    }
    let epochs = grain.tenures.iter().map(|tenure| tenure.epoch);
    for (before, after) in epochs.clone().zip(epochs.skip(1)) {
        if after <= before {
            found.push(Contradiction::EpochsOutOfOrder { grain: id, epoch: after });
        }
    }
}

fn stage(cluster: &Cluster, grain: &Grain, found: &mut Vec<Contradiction>) {
    let id = grain.id;
    let to = match &grain.stage {
        Stage::Warming { to, .. } | Stage::Quiescing { to, .. } => Some(*to),
        Stage::Released { to, .. } => {
            if grain.started.is_some() {
                found.push(Contradiction::RunsWhileReleased { grain: id });
            }
            Some(*to)
        }
        Stage::Unplaced
        | Stage::Settled
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => None,
    };
    let of = grain.stage.operation();
    if to.is_some() && to == grain.owner {
        found.push(Contradiction::MovesInPlace { grain: id });
    }
    if of.is_some() && of != grain.operation {
        found.push(Contradiction::StageOfOther { grain: id });
    }
    if let Some(operation) = grain.operation {
        let running = cluster.operations.get(&operation);
        if running.is_none_or(|running| running.state.is_final()) {
            found.push(Contradiction::HeldByNobody { grain: id, operation });
        }
    }
}
