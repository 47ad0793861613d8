//! The cluster begins anew from one node because its majority is gone for good (`docs/decisions/0023`).
//!
//! Nobody else takes part any more. Every epoch rises so far that nothing which the others may still decide among themselves can be
//! newer, and nothing is given away before a person says that its owner is off.

use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::operation::{OperationState, Summary};

use super::operations::finish;
use super::{About, Change, grains, templates};
use crate::cluster::{Declined, Liveness, Outcome, Stage, TENURES_MAX, Tenure};
use crate::refusal::Refusal;

/// So far every epoch rises: further than the ones that were left behind get by themselves.
const EPOCHS: u64 = 1 << 32;

pub(super) fn apply(
    change: &mut Change<'_>,
    generation: u64,
    node: NodeId,
) -> Result<Outcome, Refusal> {
    let name = change.look_node(node)?.name.clone();
    let held = change.cluster.generation();
    if generation == held && !change.cluster.left_behind(change.look_node(node)?) {
        return Ok(Outcome::Unchanged);
    }
    if generation != held.saturating_add(1) || change.cluster.identity.is_none() {
        return Err(Refusal::out_of_date(format!("the cluster is of generation {held}")));
    }
    end_operations(change, &name.to_string())?;
    if let Some(identity) = change.cluster.identity.as_mut() {
        identity.generation = generation;
    }
    change.other_leases();
    change.node(node)?.generation = generation;
    let left = leave_others(change)?;
    let grains: Vec<GrainId> = change.cluster.grains.keys().copied().collect();
    for grain in grains {
        raise(change, grain, &left)?;
    }
    let names: Vec<String> = left.iter().map(|node| change.cluster.node_name(*node)).collect();
    let message = format!(
        "the cluster begins anew from node {name} as generation {generation}; left behind: {}",
        templates::several(&names)
    );
    change.tell(Topic::Cluster, Severity::Critical, About::node(node), message);
    tell_of_grains(change, node);
    Ok(Outcome::Done)
}

/// What was under way cannot be finished: who did it is gone.
fn end_operations(change: &mut Change<'_>, from: &str) -> Result<(), Refusal> {
    let running = change.cluster.operations.values().filter(|it| !it.state.is_final());
    let running: Vec<OperationId> = running.map(|operation| operation.id).collect();
    for operation in running {
        let held = change.cluster.grains.values().find(|grain| {
            matches!(&grain.stage, Stage::Cloning { operation: of, .. } if *of == operation)
        });
        // There is nothing of it yet.
        let never_was = held.map(|grain| grain.id);
        let message = format!("the cluster began anew from node {from}");
        let summary = Summary { message, ..Summary::default() };
        finish(change, operation, OperationState::Failed, &summary)?;
        if let Some(grain) = never_was {
            grains::forget(change, grain)?;
        }
    }
    Ok(())
}

/// The nodes that take no part any more.
fn leave_others(change: &mut Change<'_>) -> Result<Vec<NodeId>, Refusal> {
    let at = change.at;
    let others = change.cluster.nodes.values().filter(|node| change.cluster.left_behind(node));
    let others: Vec<NodeId> = others.map(|node| node.id).collect();
    for id in &others {
        let node = change.node(*id)?;
        node.liveness = match node.liveness {
            Liveness::Suspect { last_heard, .. }
            | Liveness::Fenced { last_heard }
            | Liveness::Away { last_heard } => Liveness::Fenced { last_heard },
            Liveness::Online | Liveness::Joining => Liveness::Fenced { last_heard: at },
        };
        node.drain = None;
        // What was said of it was said before; what becomes of its grains now is asked again.
        (node.off, node.awaited) = (None, None);
        templates::forget_holder(change, *id);
    }
    Ok(others)
}

/// A grain keeps its owner, in an epoch that nothing of before can reach. It is unarmed: who runs it arms it, and if nobody runs it, a
/// person has to say so.
fn raise(change: &mut Change<'_>, id: GrainId, left: &[NodeId]) -> Result<(), Refusal> {
    let grain = change.grain(id)?;
    grain.standbys.retain(|standby| !left.contains(standby));
    grain.away.clear();
    let Some(owner) = grain.owner else { return Ok(()) };
    grain.epoch = Epoch(grain.epoch.0.saturating_add(EPOCHS));
    grain.armed = false;
    grain.declined = Declined::No;
    grain.stage = Stage::Settled;
    grain.started = None;
    grain.ailment = None;
    // From its owner's own head: what another one goes on from is said by its failover.
    grain.tenures.push(Tenure { epoch: grain.epoch, node: owner, base: None });
    if grain.tenures.len() > TENURES_MAX {
        grain.tenures.remove(0);
    }
    Ok(())
}

fn tell_of_grains(change: &mut Change<'_>, node: NodeId) {
    let lost = change.cluster.grains.values().filter(|grain| {
        grain.trashed_until.is_none() && grain.owner.is_some_and(|owner| owner != node)
    });
    let mut names: Vec<String> = lost.map(|grain| grain.name.to_string()).collect();
    if names.is_empty() {
        return;
    }
    names.sort();
    let message = format!(
        "their nodes were left behind, and they wait for a person's word: {}",
        templates::several(&names)
    );
    change.tell(Topic::Grain, Severity::Critical, About::default(), message);
}
