//! Finds contradictions in the replicated state. Run after every step in tests, and at the start of the daemon.

use std::collections::BTreeSet;
use std::fmt;

use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId};

use crate::apply::promotion;
use crate::cluster::{Cluster, Grain, IDS_PER_GRAIN, Stage};

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
    /// A node is of a generation that has not begun, or takes part although it was left behind.
    NodeOutOfTime { node: NodeId },
    /// A grain's stage belongs to another operation than the grain.
    StageOfOther { grain: GrainId },
    /// A grain is held by an operation that is over or unknown.
    HeldByNobody { grain: GrainId, operation: OperationId },
    /// A grain answers while it is handed over.
    RunsWhileReleased { grain: GrainId },
    /// A grain moves to its own owner.
    MovesInPlace { grain: GrainId },
    /// Two grains have one address, of a network or of hardware.
    AddressTwice { address: String },
    /// Two grains share user ids.
    IdsTwice { grain: GrainId },
    /// A grain begins from a template that is not there.
    TemplateUnknown { grain: GrainId },
    /// Two templates have one name.
    TemplateNameTwice { name: Name },
    /// A template is held by a node that is no member.
    HolderUnknown { node: NodeId },
    /// A node is confirmed off and may still run something.
    OffAndAlive { node: NodeId },
    /// An operation that is over or unknown removes data that were set aside.
    DiscardedByNobody { grain: GrainId, operation: OperationId },
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
    lots(cluster, &mut found);
    for orphan in cluster.orphans.values() {
        let running = |id| cluster.operations.get(&id).is_some_and(|it| !it.state.is_final());
        if let Some(operation) = orphan.discard.filter(|id| !running(*id)) {
            let grain = orphan.key.grain;
            found.push(Contradiction::DiscardedByNobody { grain, operation });
        }
    }
    let next = cluster.identity.as_ref().map_or(0, |identity| identity.next_node);
    let mut node_names = BTreeSet::new();
    for node in cluster.nodes.values() {
        if node.id.0 >= next {
            found.push(Contradiction::NodeFromNowhere { node: node.id });
        }
        let behind = cluster.left_behind(node) && node.liveness.is_online();
        if behind || node.generation > cluster.generation() {
            found.push(Contradiction::NodeOutOfTime { node: node.id });
        }
        if !node_names.insert(&node.name) {
            found.push(Contradiction::NodeNameTwice { name: node.name.clone() });
        }
        if node.off.is_some() && !node.liveness.is_surely_stopped() {
            found.push(Contradiction::OffAndAlive { node: node.id });
        }
    }
    found
}

/// What belongs to one grain alone, and the templates that grains begin from.
fn lots(cluster: &Cluster, found: &mut Vec<Contradiction>) {
    let (mut addresses, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for grain in cluster.grains.values() {
        let own = grain.addresses().map(|address| address.to_string());
        for address in own.chain(grain.mac.map(|mac| format!("{mac:02x?}"))) {
            if !addresses.insert(address.clone()) {
                found.push(Contradiction::AddressTwice { address });
            }
        }
        if let Some(base) = grain.ids {
            let reach =
                base.saturating_sub(IDS_PER_GRAIN - 1)..=base.saturating_add(IDS_PER_GRAIN - 1);
            if ids.range(reach).next().is_some() {
                found.push(Contradiction::IdsTwice { grain: grain.id });
            }
            ids.insert(base);
        }
        if grain.template.is_some_and(|id| !cluster.templates.contains_key(&id)) {
            found.push(Contradiction::TemplateUnknown { grain: grain.id });
        }
    }
    let mut names = BTreeSet::new();
    for template in cluster.templates.values() {
        if !names.insert(&template.name) {
            found.push(Contradiction::TemplateNameTwice { name: template.name.clone() });
        }
        let strangers = template.holders.iter().filter(|it| !cluster.nodes.contains_key(it));
        found.extend(strangers.map(|node| Contradiction::HolderUnknown { node: *node }));
    }
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
    let promotes = of.is_some_and(|of| promotion(cluster, grain.id, of).is_some());
    if to.is_some() && to == grain.owner && !promotes {
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
