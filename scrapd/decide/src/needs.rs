//! What an operation needs from a person that has not moved on for long: what is missing, where, and what to type. It is no
//! failure: the operation goes on by itself as soon as it can, and this is said once, not with every try.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::operation::{Need, Operation, Work};
use scrap_schema::unit::Span;

use crate::apply::cancellable;
use crate::cluster::Stage;
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::observed::Mark;

/// A phase that takes longer than this without anything under way needs somebody who looks.
const LONG: Span = Span::from_secs(15 * 60);

/// States the needs of operations that have none yet, or another one. After everything else: it reads why things wait.
pub(crate) fn state(view: View<'_>, plan: &mut Plan) {
    let mut commands = Vec::new();
    for operation in view.cluster.operations.values() {
        if operation.state.is_final() || !is_long(view, operation) || flows(view, operation) {
            continue;
        }
        let need = need(view, operation, reason(plan, operation));
        let known = operation.needs.as_ref().is_some_and(|known| known.kind == need.kind);
        let Some(last) = operation.phases.last().filter(|_| !known) else { continue };
        let (operation, phase) = (operation.id, last.phase);
        commands.push(Command::OperationNeeds { operation, phase, need });
    }
    // What ends or moves on in this round needs nothing.
    let moves_on = |command: &Command| {
        let Command::OperationNeeds { operation, .. } = command else { return false };
        plan.commands.iter().any(|other| concerns(other, *operation))
    };
    commands.retain(|command| !moves_on(command));
    plan.commands.extend(commands);
}

/// Whether a command takes an operation further.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others move no operation")]
fn concerns(command: &Command, of: scrap_schema::id::OperationId) -> bool {
    match command {
        Command::FinishOperation { operation, .. }
        | Command::AssignGrain { cause: AssignCause::Promote { operation }, .. }
        | Command::EnterPhase { operation, .. }
        | Command::BeginMigration { operation, .. }
        | Command::QuiesceGrain { operation, .. }
        | Command::AbortMigration { operation, .. }
        | Command::TurnBack { operation, .. }
        | Command::EndMigration { operation, .. } => *operation == of,
        _ => false,
    }
}

/// By the wall clock, so that a change of leader does not start it anew; by this leader's own if that says more.
fn is_long(view: View<'_>, operation: &Operation) -> bool {
    let Some(last) = operation.phases.last() else { return false };
    let mark = Mark::Phase(operation.id, last.phase);
    let by_mark = view.observed.for_how_long(mark, view.now.boot);
    view.now.wall.since(last.began).max(by_mark) >= LONG
}

/// Whether data of its grain are on their way now: that may take as long as it takes. A stream that says nothing is given up by
/// those who send it.
fn flows(view: View<'_>, operation: &Operation) -> bool {
    let grain = operation.work.grain().and_then(|grain| view.cluster.grains.get(&grain));
    let Some(grain) = grain else { return false };
    match grain.stage {
        Stage::Warming { to, .. } | Stage::Released { to, .. } => {
            view.observed.copy(grain, to).is_some_and(|copy| copy.sending.is_some())
        }
        Stage::Unplaced
        | Stage::Settled
        | Stage::Quiescing { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => false,
    }
}

/// Why it waits: its own reason, or that of its grain. A drain that moves one grain after the other waits for nothing.
fn reason<'a>(plan: &'a Plan, operation: &Operation) -> Option<&'a WaitReason> {
    let of = |subject: Subject| {
        let all = plan.waiting.iter().filter(move |waiting| waiting.subject == subject);
        all.map(|waiting| &waiting.reason)
    };
    let mut own: Vec<&WaitReason> = of(Subject::Operation(operation.id)).collect();
    own.sort_by_key(|reason| matches!(reason, WaitReason::Moving { .. }));
    let grain = operation.work.grain().into_iter().flat_map(|grain| of(Subject::Grain(grain)));
    own.into_iter().chain(grain).next()
}

fn need(view: View<'_>, operation: &Operation, reason: Option<&WaitReason>) -> Need {
    let target = operation.target.as_str();
    let cancels = cancellable(view.cluster, operation).is_ok() && !operation.cancel_requested;
    Need {
        kind: reason.map_or("unsaid", WaitReason::kind).to_owned(),
        what: match reason {
            Some(reason) => reason.to_string(),
            None => "nobody says what it waits for".to_owned(),
        },
        look: match reason {
            Some(reason) => look(target, &operation.work, reason),
            None => "scrapctl status".to_owned(),
        },
        cancel: cancels.then(|| format!("scrapctl op cancel {}", operation.id)),
    }
}

/// What to type to see, or to end, what it waits for.
fn look(target: &str, work: &Work, reason: &WaitReason) -> String {
    let node = |node: &str| format!("scrapctl node info {node}");
    let of_a_node = matches!(work, Work::Drain { .. });
    match reason {
        WaitReason::NeedsWord { .. } => {
            format!("scrapctl failover {target} --owner-is-off --dry-run")
        }
        WaitReason::ManualPolicy { .. }
        | WaitReason::Disarmed { .. }
        | WaitReason::Brake { .. }
        | WaitReason::LossTooLarge { .. } => format!("scrapctl failover {target} --dry-run"),
        WaitReason::OwnerSilent { owner }
        | WaitReason::OwnerAwaited { owner, .. }
        | WaitReason::NoCopy { owner }
        | WaitReason::Stopping { owner }
        | WaitReason::Working { owner }
        | WaitReason::Declined { owner } => node(owner),
        WaitReason::OrphanAway { node: at } | WaitReason::Removing { node: at, .. } => node(at),
        WaitReason::Warming { to, .. } | WaitReason::Final { to, .. } => node(to),
        WaitReason::CopyStopped { node: at, .. }
        | WaitReason::CopyUnsettled { node: at }
        | WaitReason::TakesTurn { node: at } => node(at),
        WaitReason::Starting { .. } | WaitReason::Unwell { .. } => {
            format!("scrapctl logs {target}")
        }
        WaitReason::CameBack { grain } => format!("scrapctl logs {grain}"),
        WaitReason::GrainBusy { .. } => "scrapctl op ls --state running".to_owned(),
        WaitReason::NoPlaceFor { grain, .. } => format!("scrapctl place {grain}"),
        WaitReason::Fetching { template, .. }
        | WaitReason::NoTemplate { template, .. }
        | WaitReason::CopyFetches { template, .. } => format!("scrapctl template info {template}"),
        WaitReason::NoPlace { .. } | WaitReason::TooFewCopies { .. } => {
            format!("scrapctl place {target}")
        }
        WaitReason::Countdown { .. }
        | WaitReason::CutsPower { .. }
        | WaitReason::CannotCutPower { .. }
        | WaitReason::GraceOfPolicy { .. }
        | WaitReason::CopiesUnheard
        | WaitReason::Moving { .. } => match of_a_node {
            true => node(target),
            false => format!("scrapctl info {target}"),
        },
    }
}

#[cfg(test)]
mod tests;
