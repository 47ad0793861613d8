//! Planned moves: prepare, copy while it runs, stop, copy the last state, assign, start. Lossless.
//!
//! Before the assignment every trouble puts the grain back to its source unchanged; after it the only way is forward, or back by
//! another lossless move if it does not answer.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{NodeId, OperationId};
use scrap_schema::node::CopyReport;
use scrap_schema::operation::{Operation, Summary, Work};
use scrap_schema::snapshot::Snapshot;
use scrap_schema::unit::{Bytes, Span};

use crate::apply::promotion;
use crate::asides;
use crate::cluster::{Grain, Stage};
use crate::fail_over;
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::mutant::{self, Mutant};
use crate::observed::Mark;
use crate::operate::starting;
use crate::place::{Loads, Purpose, Ranking, Wanted};

/// The switch is made when its copying would take no longer than this.
pub(crate) const SWITCH_WITHIN: Span = Span::from_secs(2);
/// After so long the rounds do not shrink any more: the switch is made anyway.
const WARM_MAX: Span = Span::from_secs(600);
/// A copy that was current so long ago is current enough to switch.
const FRESH: Span = Span::from_secs(8);
/// How long a grain may fail to answer on its new owner, beyond the grace of its own health check.
const LAND_WITHIN: Span = Span::from_secs(60);
/// Assumed before a stream was measured, in bytes per second.
const RATE_ASSUMED: u64 = 50 << 20;

/// The migration that a person asked for and that has not begun. Returns whether this grain is taken care of.
pub(crate) fn begin(view: View<'_>, grain: &Grain, loads: &mut Loads, plan: &mut Plan) -> bool {
    let Some((operation, to)) = asked(view, grain) else { return false };
    let give_up = |plan: &mut Plan, cancelled: bool, message: String| {
        let summary = Summary { message, ..Summary::default() };
        let operation = operation.id;
        plan.commands.push(Command::FinishOperation {
            operation,
            failed: !cancelled,
            cancelled,
            summary,
        });
    };
    if operation.cancel_requested {
        give_up(plan, true, "nothing was changed".to_owned());
        return true;
    }
    if to.is_some() && to == grain.owner {
        let owner = grain.owner.map_or_else(String::new, |owner| view.cluster.node_name(owner));
        let message = format!("grain {} is on node {owner} already", grain.name);
        let summary = Summary { message, ..Summary::default() };
        let (operation, failed, cancelled) = (operation.id, false, false);
        plan.commands.push(Command::FinishOperation { operation, failed, cancelled, summary });
        return true;
    }
    match target(view, grain, to, loads) {
        Ok(to) => {
            loads.will_run(to, grain);
            let (grain, epoch, operation) = (grain.id, grain.epoch, operation.id);
            plan.commands.push(Command::BeginMigration { grain, epoch, operation, to });
        }
        Err(refusals) if to.is_some() => {
            give_up(plan, false, format!("it cannot move there: {refusals}"))
        }
        Err(refusals) => {
            plan.wait(Subject::Grain(grain.id), WaitReason::NoPlace { refusals: refusals.clone() });
            plan.wait(Subject::Operation(operation.id), WaitReason::NoPlace { refusals });
        }
    }
    true
}

fn asked<'a>(view: View<'a>, grain: &Grain) -> Option<(&'a Operation, Option<NodeId>)> {
    let operation = grain.operation.and_then(|id| view.cluster.operations.get(&id))?;
    match &operation.work {
        Work::Migrate { to, .. } if !operation.state.is_final() => Some((operation, *to)),
        Work::Migrate { .. }
        | Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Failover { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => None,
    }
}

/// The wanted node if it is fit, or the best other one. `Err`: what everybody lacks.
pub(crate) fn target(
    view: View<'_>,
    grain: &Grain,
    to: Option<NodeId>,
    loads: &Loads,
) -> Result<NodeId, String> {
    let wanted = Wanted::of(grain, Purpose::Run);
    let mut ranking = loads.rank(view.cluster, wanted);
    ranking.fit.retain(|candidate| Some(candidate.node) != grain.owner);
    ranking.unfit.retain(|node, _| Some(*node) != grain.owner);
    match to {
        None => ranking.best().ok_or_else(|| ranking.refusals(view.cluster)),
        Some(to) if ranking.fit.iter().any(|candidate| candidate.node == to) => Ok(to),
        Some(to) => {
            let unfit = ranking.unfit.remove_entry(&to).into_iter().collect();
            Err(Ranking { fit: Vec::new(), unfit }.refusals(view.cluster))
        }
    }
}

/// The next step of a move that has begun.
pub(crate) fn step(view: View<'_>, grain: &Grain, plan: &mut Plan) {
    match &grain.stage {
        Stage::Warming { to, operation } => warm(view, grain, *to, *operation, plan),
        Stage::Quiescing { to, operation, .. } => stop(view, grain, *to, *operation, plan),
        Stage::Released { to, operation, last, .. } => {
            match asides::hand_over(view, grain, *to, *operation) {
                Some(command) => plan.commands.push(command),
                None => hand_over(view, grain, *to, *operation, last, plan),
            }
        }
        Stage::Landing { from, operation, .. } => land(view, grain, *from, *operation, plan),
        Stage::Unplaced
        | Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => (),
    }
}

/// Why the move must be given up, if it must: a person's word, or one of the two nodes is gone.
fn obstacle(view: View<'_>, grain: &Grain, to: NodeId, operation: OperationId) -> Option<String> {
    let cancelled = view
        .cluster
        .operations
        .get(&operation)
        .is_none_or(|operation| operation.cancel_requested || operation.state.is_final());
    if cancelled {
        return Some("cancelled".to_owned());
    }
    let gone = |node: NodeId| {
        (!view.is_online(node))
            .then(|| format!("node {} is not online", view.cluster.node_name(node)))
    };
    gone(to).or_else(|| grain.owner.and_then(gone))
}

fn abort(grain: &Grain, operation: OperationId, why: String, plan: &mut Plan) {
    let (grain, epoch) = (grain.id, grain.epoch);
    plan.commands.push(Command::AbortMigration { grain, epoch, operation, why });
}

fn waits(grain: &Grain, operation: OperationId, reason: WaitReason, plan: &mut Plan) {
    plan.wait(Subject::Grain(grain.id), reason.clone());
    plan.wait(Subject::Operation(operation), reason);
}

/// How long copying the rest would take.
#[must_use]
pub fn predict(copy: &CopyReport) -> Span {
    let rate = if copy.rate.0 == 0 { RATE_ASSUMED } else { copy.rate.0 };
    Span::from_ms(copy.pending.0.saturating_mul(1000).checked_div(rate).unwrap_or(u64::MAX))
}

fn warm(view: View<'_>, grain: &Grain, to: NodeId, operation: OperationId, plan: &mut Plan) {
    if let Some(why) = obstacle(view, grain, to, operation) {
        return abort(grain, operation, why, plan);
    }
    let copy = view.observed.copy(grain, to);
    let lag = view.observed.lag(grain, to, view.now);
    let begun = Mark::Warming(grain.id);
    let long_enough = view.observed.for_how_long(begun, view.now.boot) >= WARM_MAX;
    let ready = copy.is_some_and(|copy| {
        let fits = predict(copy) <= SWITCH_WITHIN && lag.is_some_and(|lag| lag <= FRESH);
        copy.common.is_some() && (fits || long_enough)
    });
    if ready {
        let (grain, epoch) = (grain.id, grain.epoch);
        plan.commands.push(Command::QuiesceGrain { grain, epoch, operation });
        return;
    }
    let pending = copy.map_or(Bytes(0), |copy| copy.pending);
    let predicted = copy.map_or(Span::ZERO, predict);
    let to = view.cluster.node_name(to);
    waits(grain, operation, WaitReason::Warming { to, pending, predicted }, plan);
}

fn stop(view: View<'_>, grain: &Grain, to: NodeId, operation: OperationId, plan: &mut Plan) {
    match obstacle(view, grain, to, operation) {
        Some(why) => abort(grain, operation, why, plan),
        None => {
            let owner = grain.owner.map_or_else(String::new, |owner| view.cluster.node_name(owner));
            waits(grain, operation, WaitReason::Stopping { owner }, plan);
        }
    }
}

fn hand_over(
    view: View<'_>,
    grain: &Grain,
    to: NodeId,
    operation: OperationId,
    last: &Snapshot,
    plan: &mut Plan,
) {
    let there = view.observed.report(to, grain.id).and_then(|report| report.data.as_ref());
    let there = there.and_then(|data| data.head.as_ref()).map(|head| head.guid);
    let said = view.observed.copy(grain, to).and_then(|copy| copy.common);
    let complete = [there, said].contains(&Some(last.guid)) || mutant::is(Mutant::MovesUnfinished);
    // The owner has let go: with the last state on the target it does not matter any more whether the owner lives.
    let target_lives = view.is_online(to);
    let cancelled = view.cluster.operations.get(&operation).is_none_or(|it| it.cancel_requested);
    if complete && target_lives && !cancelled {
        plan.commands.push(Command::AssignGrain {
            grain: grain.id,
            epoch: grain.epoch,
            to,
            base: Some(last.clone()),
            cause: AssignCause::Migrate { operation },
        });
        return;
    }
    if let Some(why) = obstacle(view, grain, to, operation) {
        return abort(grain, operation, why, plan);
    }
    let pending = view.observed.copy(grain, to).map_or(Bytes(0), |copy| copy.pending);
    let to = view.cluster.node_name(to);
    waits(grain, operation, WaitReason::Final { to, pending }, plan);
}

fn land(view: View<'_>, grain: &Grain, from: NodeId, operation: OperationId, plan: &mut Plan) {
    let Some(owner) = grain.owner else { return };
    let (id, epoch) = (grain.id, grain.epoch);
    let data = view.observed.report(owner, id).and_then(|report| report.data.as_ref());
    let promoted = data.is_some_and(|data| data.owner && data.epoch == epoch);
    if grain.started.is_some() || (!grain.wants_to_run() && promoted) {
        plan.commands.push(Command::EndMigration { grain: id, epoch, operation });
        return;
    }
    if !view.is_online(owner) {
        let mut loads = Loads::of(view.cluster, view.observed, Some(id));
        return fail_over::decide(view, grain, owner, &mut loads, plan);
    }
    let grace = grain.spec.health.as_ref().map_or(Span::ZERO, |health| health.grace);
    let patience = LAND_WITHIN + grace;
    let too_long = view.observed.for_how_long(Mark::Landing(id), view.now.boot) >= patience;
    if too_long {
        // Back once; a grain that answers neither there nor here stays, and its start is tried again and again. So does one
        // whose head is what a person wanted it to be.
        let promoted = promotion(view.cluster, id, operation).is_some();
        let back = grain.came_back != Some(operation) && view.is_online(from) && !promoted;
        plan.commands.push(match back {
            true => Command::TurnBack { grain: id, epoch, operation },
            false => Command::EndMigration { grain: id, epoch, operation },
        });
        return;
    }
    let owner = view.cluster.node_name(owner);
    waits(grain, operation, starting(view, grain, owner), plan);
}

#[cfg(test)]
mod tests;
