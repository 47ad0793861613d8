//! The steps of a planned move: begun, stopped and frozen, given up, turned back, ended. Each names the epoch that it was decided
//! in; the wrong epoch, owner or stage makes it a refusal without effect.

use std::collections::BTreeSet;

use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId};
use scrap_schema::operation::{OperationState, Phase, Summary, Work};
use scrap_schema::time::Timestamp;

use super::asides::promotion;
use super::operations::{enter, finish};
use super::{About, Change};
use crate::cluster::{Cluster, Outcome, Stage};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;

pub(super) fn begin_migration(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
    to: NodeId,
) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    if grain.stage != Stage::Settled || grain.owner.is_none() || grain.owner == Some(to) {
        return Err(Refusal::out_of_date("it is not settled on another node"));
    }
    if grain.operation.is_some_and(|held| held != operation) {
        return Err(Refusal::out_of_date("another operation works on it"));
    }
    if !change.cluster.nodes.contains_key(&to) {
        return Err(Refusal::no_node(to));
    }
    let running = change.cluster.operations.get(&operation);
    let running = running.filter(|running| !running.state.is_final());
    let drain = match running.map(|running| &running.work) {
        Some(Work::Migrate { grain, .. }) if *grain == id => false,
        Some(Work::Drain { node }) if grain.owner == Some(*node) => true,
        Some(_) | None => return Err(Refusal::out_of_date("its operation is over or another one")),
    };
    if !drain {
        enter(change, operation, Phase::Warm)?;
    }
    let target = change.cluster.node_name(to);
    let grain = change.grain(id)?;
    grain.operation = Some(operation);
    grain.stage = Stage::Warming { to, operation };
    let message = format!("grain {} moves to node {target}: copying while it runs", grain.name);
    change.tell(
        Topic::Grain,
        Severity::Info,
        About { node: Some(to), ..About::grain(id) },
        message,
    );
    Ok(Outcome::Done)
}

pub(super) fn quiesce(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    let promotes = promotion(change.cluster, id, operation).map(|orphan| orphan.node);
    let to = match (&grain.stage, promotes) {
        (Stage::Warming { to, operation: of }, _) if *of == operation => *to,
        (Stage::Settled, Some(to)) if grain.operation == Some(operation) => to,
        (
            Stage::Warming { .. }
            | Stage::Unplaced
            | Stage::Settled
            | Stage::Quiescing { .. }
            | Stage::Released { .. }
            | Stage::Landing { .. }
            | Stage::Restarting { .. }
            | Stage::Restoring { .. }
            | Stage::Cloning { .. },
            _,
        ) => return Err(Refusal::out_of_date("it is not being copied")),
    };
    if is_move(change.cluster, operation) {
        enter(change, operation, Phase::Stop)?;
    }
    let ordered = change.index;
    change.grain(id)?.stage = Stage::Quiescing { to, operation, ordered };
    Ok(Outcome::Done)
}

/// Whether the operation is a change of owner of its own: a drain has many grains in many phases and shows only "move".
pub(super) fn is_move(cluster: &Cluster, operation: OperationId) -> bool {
    let operation = cluster.operations.get(&operation);
    operation.is_some_and(|running| {
        matches!(running.work, Work::Migrate { .. } | Work::Promote { .. })
            && !running.state.is_final()
    })
}

pub(super) fn abort(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
    why: &str,
) -> Result<Outcome, Refusal> {
    if mutant::is(Mutant::AbortsAfterAssign) {
        let grain = change.grain(id)?;
        if let Stage::Landing { from, .. } = grain.stage {
            (grain.owner, grain.stage) = (Some(from), Stage::Settled);
            grain.standbys.remove(&from);
            grain.epoch = Epoch(grain.epoch.0.saturating_sub(1));
            grain.tenures.pop();
            return Ok(Outcome::Done);
        }
    }
    let grain = change.look_in(id, epoch)?;
    match &grain.stage {
        Stage::Warming { operation: of, .. }
        | Stage::Quiescing { operation: of, .. }
        | Stage::Released { operation: of, .. }
            if *of == operation => {}
        Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => return Err(Refusal::out_of_date("there is nothing to give up")),
    }
    let moves = is_move(change.cluster, operation);
    let cancelled =
        change.cluster.operations.get(&operation).is_some_and(|running| running.cancel_requested);
    let owner = change.look(id)?.owner.and_then(|owner| change.cluster.nodes.get(&owner));
    let owner_is_gone = owner.is_none_or(|owner| !owner.liveness.is_online());
    let members: BTreeSet<NodeId> = change.cluster.nodes.keys().copied().collect();
    let grain = change.grain(id)?;
    // The copy for the move may be the freshest one now: it counts until the grain is protected again.
    if owner_is_gone {
        let receivers = grain.receivers();
        grain.standbys.extend(receivers.intersection(&members));
    }
    grain.stage = Stage::Settled;
    grain.operation = None;
    let message = format!("grain {} stays where it is: {why}", grain.name);
    change.tell(Topic::Grain, Severity::Warning, About::grain(id), message.clone());
    if moves {
        enter(change, operation, Phase::Undo)?;
        let state = match cancelled {
            true => OperationState::Cancelled,
            false => OperationState::Failed,
        };
        finish(change, operation, state, &Summary { message, ..Summary::default() })?;
    }
    Ok(Outcome::Done)
}

/// The operation and the former owner, if the grain is landing in this operation.
fn landing(
    change: &Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
) -> Result<(NodeId, Timestamp), Refusal> {
    match &change.look_in(id, epoch)?.stage {
        Stage::Landing { from, operation: of, stopping } if *of == operation => {
            Ok((*from, *stopping))
        }
        Stage::Landing { .. }
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => Err(Refusal::out_of_date("it is not landing")),
    }
}

pub(super) fn turn_back(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
) -> Result<Outcome, Refusal> {
    let (to, _) = landing(change, id, epoch, operation)?;
    if is_move(change.cluster, operation) {
        enter(change, operation, Phase::Undo)?;
    }
    let target = change.cluster.node_name(to);
    let ordered = change.index;
    let grain = change.grain(id)?;
    grain.stage = Stage::Quiescing { to, operation, ordered };
    grain.came_back = Some(operation);
    let message = format!("grain {} does not answer: it goes back to node {target}", grain.name);
    change.tell(Topic::Grain, Severity::Warning, About::grain(id), message);
    Ok(Outcome::Done)
}

pub(super) fn end(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
) -> Result<Outcome, Refusal> {
    let (from, stopping) = landing(change, id, epoch, operation)?;
    let moves = is_move(change.cluster, operation);
    let grain = change.grain(id)?;
    grain.stage = Stage::Settled;
    grain.operation = None;
    if !moves {
        return Ok(Outcome::Done);
    }
    let (name, owner, started) = (grain.name.clone(), grain.owner, grain.started);
    let came_back = grain.came_back == Some(operation);
    let answers = started.is_some() || !grain.wants_to_run();
    let owner = owner.map_or_else(String::new, |owner| change.cluster.node_name(owner));
    let from = change.cluster.node_name(from);
    let downtime_ms = started.map(|started| started.since(stopping).ms());
    let promoted = promotion(change.cluster, id, operation);
    let (state, message) = match (came_back, answers) {
        (_, _) if promoted.is_some() => promoted_end(&name, &owner, &from, answers),
        (false, true) => {
            (OperationState::Succeeded, format!("grain {name} moved from {from} to {owner}"))
        }
        (false, false) => (
            OperationState::Failed,
            format!(
                "grain {name} moved to {owner} and does not answer there; {from} is not online"
            ),
        ),
        (true, false) => (
            OperationState::Failed,
            format!(
                "grain {name} answers neither on {from} nor on {owner}, where it is; nothing is lost"
            ),
        ),
        (true, true) => (
            OperationState::Failed,
            format!(
                "grain {name} did not answer on {from} and went back to {owner}; nothing is lost"
            ),
        ),
    };
    finish(change, operation, state, &Summary { message, downtime_ms, ..Summary::default() })
}

/// How it ended that data which were set aside became the head.
fn promoted_end(name: &Name, owner: &str, from: &str, answers: bool) -> (OperationState, String) {
    let aside = format!("what it had until then is set aside on {from}");
    match answers {
        true => (
            OperationState::Succeeded,
            format!("grain {name} goes on with what was set aside on {owner}; {aside}"),
        ),
        false => (
            OperationState::Failed,
            format!("grain {name} has what was set aside on {owner} and does not answer; {aside}"),
        ),
    }
}
