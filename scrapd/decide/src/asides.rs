//! What the leader does about data that were set aside and of which a person wants something: the head of their grain, a new grain,
//! or that they go. All of it happens where they lie; while that node is away it waits and says so.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{NodeId, OperationId};
use scrap_schema::operation::{Operation, Summary, Work};

use crate::apply::{orphan_of, promotion};
use crate::cluster::{Grain, Orphan, OrphanKey, Stage};
use crate::lead::{Plan, Subject, View, WaitReason};

fn give_up(operation: OperationId, cancelled: bool, message: String) -> Command {
    let summary = Summary { message, ..Summary::default() };
    Command::FinishOperation { operation, failed: !cancelled, cancelled, summary }
}

/// What was set aside, as long as it lies on a member.
fn there<'a>(view: View<'a>, key: OrphanKey) -> Option<&'a Orphan> {
    view.cluster.orphans.get(&key).filter(|orphan| orphan.left_on.is_none())
}

const GONE: &str = "what was set aside is not there any more";

/// Where the data lie that an operation is about, if that node is away and the operation waits for it.
pub(crate) fn away(view: View<'_>, operation: &Operation) -> Option<WaitReason> {
    let key = orphan_of(&operation.work)?;
    let grain = operation.work.grain().and_then(|grain| view.cluster.grains.get(&grain));
    let begun = grain.is_some_and(|grain| match grain.stage {
        Stage::Cloning { .. } => false,
        // A fork that has its data needs nothing of the orphan any more.
        Stage::Settled => matches!(operation.work, Work::Fork { .. }),
        Stage::Unplaced
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. } => true,
    });
    (!begun && !view.is_online(key.node))
        .then(|| WaitReason::OrphanAway { node: view.cluster.node_name(key.node) })
}

/// The promotion that a person asked for and that has not begun. Returns whether this grain is taken care of.
pub(crate) fn begin(view: View<'_>, grain: &Grain, plan: &mut Plan) -> bool {
    let Some(operation) = grain.operation.filter(|_| grain.stage == Stage::Settled) else {
        return false;
    };
    let Some(key) = promotion(view.cluster, grain.id, operation) else { return false };
    let (id, epoch) = (grain.id, grain.epoch);
    let cancelled =
        view.cluster.operations.get(&operation).is_some_and(|running| running.cancel_requested);
    let Some(orphan) = there(view, key).filter(|_| !cancelled) else {
        let message = if cancelled { "nothing was changed" } else { GONE };
        plan.commands.push(give_up(operation, cancelled, message.to_owned()));
        return true;
    };
    let owner = grain.owner.and_then(|owner| view.cluster.nodes.get(&owner));
    let owner_lives = owner.is_some_and(|owner| owner.liveness.is_online());
    if !view.is_online(key.node) {
        if owner_lives {
            let node = view.cluster.node_name(key.node);
            plan.wait(Subject::Grain(id), WaitReason::OrphanAway { node });
        }
        // Without its owner it does not wait for that: a copy may take over.
        return owner_lives;
    }
    if owner_lives {
        plan.commands.push(Command::QuiesceGrain { grain: id, epoch, operation });
        return true;
    }
    if owner.is_some_and(|owner| grain.has_surely_stopped_with(&owner.liveness)) {
        plan.commands.push(assign(grain, key, operation, orphan));
        return true;
    }
    false
}

fn assign(grain: &Grain, key: OrphanKey, operation: OperationId, orphan: &Orphan) -> Command {
    Command::AssignGrain {
        grain: grain.id,
        epoch: grain.epoch,
        to: key.node,
        base: Some(orphan.head.clone()),
        cause: AssignCause::Promote { operation },
    }
}

/// The owner has let go of the grain: its head is what was set aside from now on, or everything goes back. `None`: this is no
/// promotion.
pub(crate) fn hand_over(
    view: View<'_>,
    grain: &Grain,
    to: NodeId,
    operation: OperationId,
) -> Option<Command> {
    let key = promotion(view.cluster, grain.id, operation)?;
    let cancelled = view.cluster.operations.get(&operation).is_none_or(|it| it.cancel_requested);
    let why = match (there(view, key), cancelled, view.is_online(to)) {
        (_, true, _) => "cancelled".to_owned(),
        (None, false, _) => GONE.to_owned(),
        (Some(_), false, false) => format!("node {} is not online", view.cluster.node_name(to)),
        (Some(orphan), false, true) => return Some(assign(grain, key, operation, orphan)),
    };
    let (grain, epoch) = (grain.id, grain.epoch);
    Some(Command::AbortMigration { grain, epoch, operation, why })
}

/// Removals that a person asked for: their node ends them by saying that it is done.
pub(crate) fn discards(view: View<'_>, plan: &mut Plan) {
    for operation in view.cluster.operations.values().filter(|it| !it.state.is_final()) {
        let (Work::Discard { .. }, Some(key)) = (&operation.work, orphan_of(&operation.work))
        else {
            continue;
        };
        let id = operation.id;
        if there(view, key).is_none() {
            plan.commands.push(give_up(id, false, GONE.to_owned()));
        } else if operation.cancel_requested {
            plan.commands.push(give_up(id, true, "nothing was removed".to_owned()));
        } else {
            let reason = away(view, operation).unwrap_or_else(|| {
                let report = view.observed.report(key.node, key.grain);
                let trouble = report.and_then(|report| report.trouble.clone());
                WaitReason::Removing { node: view.cluster.node_name(key.node), trouble }
            });
            plan.wait(Subject::Operation(id), reason);
        }
    }
}

#[cfg(test)]
mod tests;
