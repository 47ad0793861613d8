//! Emptying a node: every grain that it owns moves away, a few at a time, each without loss.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::Command;
use scrap_schema::id::{GrainId, NodeId, OperationId};
use scrap_schema::operation::{Operation, Summary, Work};

use crate::cluster::{Cluster, Grain};
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::migrate;
use crate::place::Loads;

/// How many grains of one drain move at the same time: more would only share the same link.
const AT_ONCE: usize = 2;

/// Grains that move for an operation.
pub(crate) fn moving(cluster: &Cluster) -> BTreeMap<OperationId, BTreeSet<GrainId>> {
    let mut moving: BTreeMap<OperationId, BTreeSet<GrainId>> = BTreeMap::new();
    for grain in cluster.grains.values() {
        if let Some(operation) = grain.operation {
            moving.entry(operation).or_default().insert(grain.id);
        }
    }
    moving
}

fn running(view: View<'_>, node: NodeId) -> Option<&Operation> {
    let drain = view.cluster.nodes.get(&node)?.drain?;
    view.cluster.operations.get(&drain).filter(|operation| !operation.state.is_final())
}

/// Moves a grain off a node that is drained. Returns whether this grain is taken care of.
pub(crate) fn begin(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &mut Loads,
    moving: &mut BTreeMap<OperationId, BTreeSet<GrainId>>,
    plan: &mut Plan,
) -> bool {
    let Some(drain) = running(view, owner) else { return false };
    if drain.cancel_requested {
        return false;
    }
    if grain.operation.is_some_and(|held| held != drain.id) {
        let reason = WaitReason::GrainBusy { grain: grain.name.to_string() };
        plan.wait(Subject::Operation(drain.id), reason);
        return true;
    }
    if grain.came_back == Some(drain.id) && grain.wants_to_run() {
        let reason = WaitReason::CameBack { grain: grain.name.to_string() };
        plan.wait(Subject::Operation(drain.id), reason);
        return false;
    }
    let under_way = moving.entry(drain.id).or_default();
    if under_way.len() >= AT_ONCE {
        return true;
    }
    match migrate::target(view, grain, None, loads) {
        Ok(to) => {
            under_way.insert(grain.id);
            loads.will_run(to, grain);
            let (grain, epoch, operation) = (grain.id, grain.epoch, drain.id);
            plan.commands.push(Command::BeginMigration { grain, epoch, operation, to });
        }
        Err(refusals) => {
            plan.wait(Subject::Grain(grain.id), WaitReason::NoPlace { refusals: refusals.clone() });
            let grain = grain.name.to_string();
            plan.wait(Subject::Operation(drain.id), WaitReason::NoPlaceFor { grain, refusals });
        }
    }
    true
}

/// What a node keeps after the last grain has left it.
fn emptied(view: View<'_>, node: NodeId) -> String {
    let name = view.cluster.node_name(node);
    let is_copy = |grain: &&Grain| {
        let report = view.observed.report(node, grain.id);
        grain.standbys.contains(&node) || report.is_some_and(|report| report.data.is_some())
    };
    match view.cluster.grains.values().filter(is_copy).count() {
        0 => format!("node {name} is empty and stays so until it is undrained"),
        1 => format!("no grain lives on node {name}; 1 copy stays there until others are in step"),
        more => format!(
            "no grain lives on node {name}; {more} copies stay there until others are in step"
        ),
    }
}

/// Ends drains whose node is empty, or that a person cancelled and whose last grain has arrived somewhere.
pub(crate) fn finish(view: View<'_>, plan: &mut Plan) {
    for operation in
        view.cluster.operations.values().filter(|operation| !operation.state.is_final())
    {
        let Work::Drain { node } = &operation.work else { continue };
        let grains = view.cluster.grains.values();
        let left = grains.clone().filter(|grain| grain.owner == Some(*node)).count();
        let under_way = grains.filter(|grain| grain.operation == Some(operation.id)).count();
        let name = view.cluster.node_name(*node);
        let (cancelled, message) = match (operation.cancel_requested, left, under_way) {
            (true, left, 0) => (true, format!("{left} grains are still on node {name}")),
            (false, 0, 0) => (false, emptied(view, *node)),
            (_, left, _) => {
                plan.wait(Subject::Operation(operation.id), WaitReason::Moving { left });
                continue;
            }
        };
        let gone = !view.cluster.nodes.contains_key(node);
        plan.commands.push(Command::FinishOperation {
            operation: operation.id,
            failed: gone,
            cancelled,
            summary: Summary { message, ..Summary::default() },
        });
    }
}
