//! Ends operations whose goal is reached, and says what the others wait for. Moves and drains have rooms of their own.

use scrap_schema::command::Command;
use scrap_schema::operation::{Operation, Summary, Work};
use scrap_schema::snapshot::{Guid, Purpose};

use crate::asides;
use crate::cluster::{Declined, Grain, Stage};
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::obey::source;

/// What an operation has come to.
enum End {
    Done(Summary),
    Failed(String),
    Cancelled(String),
    Waits(Option<WaitReason>),
}

fn done(message: String) -> End {
    End::Done(Summary { message, ..Summary::default() })
}

pub(crate) fn finish(view: View<'_>, plan: &mut Plan) {
    for operation in
        view.cluster.operations.values().filter(|operation| !operation.state.is_final())
    {
        let Some(id) = operation.work.grain() else { continue };
        let end = match view.cluster.grains.get(&id) {
            Some(grain) => match asides::away(view, operation) {
                Some(reason) => End::Waits(Some(reason)),
                None => end(view, operation, grain),
            },
            None => End::Failed("the grain was removed".to_owned()),
        };
        let (failed, cancelled, summary) = match end {
            End::Done(summary) => (false, false, summary),
            End::Failed(message) => (true, false, Summary { message, ..Summary::default() }),
            End::Cancelled(message) => (false, true, Summary { message, ..Summary::default() }),
            End::Waits(reason) => {
                if let Some(reason) = reason {
                    plan.wait(Subject::Operation(operation.id), reason);
                }
                continue;
            }
        };
        let operation = operation.id;
        plan.commands.push(Command::FinishOperation { operation, failed, cancelled, summary });
    }
}

fn end(view: View<'_>, operation: &Operation, grain: &Grain) -> End {
    let owner = grain.owner.map_or_else(String::new, |owner| view.cluster.node_name(owner));
    let waits = |reason: WaitReason| End::Waits(Some(reason));
    let begun = grain.stage != Stage::Settled;
    if matches!(operation.work, Work::Migrate { .. }) && operation.cancel_requested && !begun {
        return End::Cancelled("nothing was changed".to_owned());
    }
    if grain.owner.is_some_and(|owner| !view.is_online(owner)) && !is_failover(operation) {
        if matches!(operation.work, Work::Stop { .. }) && is_surely_stopped(view, grain) {
            return done(format!(
                "grain {} is stopped: the lease of node {owner} has ended",
                grain.name
            ));
        }
        return waits(WaitReason::OwnerSilent { owner });
    }
    match &operation.work {
        Work::Create { .. } | Work::Clone { .. } | Work::Fork { .. } => {
            match (grain.wants_to_run(), grain.started) {
                (true, Some(_)) => done(format!("grain {} answers on node {owner}", grain.name)),
                (false, _) if grain.born => {
                    done(format!("grain {} is on node {owner}, stopped", grain.name))
                }
                (true, None) | (false, _) => match grain.stage {
                    Stage::Unplaced => End::Waits(None),
                    Stage::Cloning { .. } => waits(WaitReason::Working { owner }),
                    Stage::Settled
                    | Stage::Warming { .. }
                    | Stage::Quiescing { .. }
                    | Stage::Released { .. }
                    | Stage::Landing { .. }
                    | Stage::Restarting { .. }
                    | Stage::Restoring { .. } => waits(starting(view, grain, owner)),
                },
            }
        }
        Work::Start { .. } => match (grain.wants_to_run(), grain.started) {
            (false, _) => End::Failed("it was stopped again".to_owned()),
            (true, Some(_)) => done(format!("grain {} answers on node {owner}", grain.name)),
            (true, None) => waits(starting(view, grain, owner)),
        },
        Work::Stop { .. } => match (grain.wants_to_run(), is_stopped(view, grain)) {
            (true, _) => End::Failed("it was started again".to_owned()),
            (false, true) => done(format!("grain {} is stopped", grain.name)),
            (false, false) => waits(WaitReason::Stopping { owner }),
        },
        Work::Restart { .. } => match (grain.stage == Stage::Settled, grain.started) {
            (true, Some(_)) => done(format!("grain {} answers again on node {owner}", grain.name)),
            (true, None) => waits(starting(view, grain, owner)),
            (false, _) => waits(WaitReason::Stopping { owner }),
        },
        Work::Restore { snapshot, .. } => {
            match (grain.stage == Stage::Settled, grain.started.is_some() == grain.wants_to_run()) {
                (true, true) => {
                    let snapshot = snapshot_name(grain, *snapshot);
                    done(format!("grain {} has the data of snapshot {snapshot}", grain.name))
                }
                (true, false) => waits(starting(view, grain, owner)),
                (false, _) => waits(WaitReason::Working { owner }),
            }
        }
        Work::Failover { .. } => failover_end(view, operation, grain, owner),
        Work::Snapshot { .. } => waits(WaitReason::Working { owner }),
        Work::Migrate { .. } | Work::Drain { .. } | Work::Promote { .. } | Work::Discard { .. } => {
            End::Waits(None)
        }
    }
}

/// It does not answer yet, and what its owner says about that.
pub(crate) fn starting(view: View<'_>, grain: &Grain, owner: String) -> WaitReason {
    if let Some(waits) = fetching(view, grain, &owner) {
        return waits;
    }
    if grain.declined != Declined::No {
        return WaitReason::Declined { owner };
    }
    let report = grain.owner.and_then(|owner| view.observed.report(owner, grain.id));
    let trouble = report.and_then(|report| report.trouble.clone());
    WaitReason::Starting { owner, trouble }
}

/// What a grain waits for that has no data yet: the template on its owner.
fn fetching(view: View<'_>, grain: &Grain, owner: &str) -> Option<WaitReason> {
    let template = view.cluster.template_of(grain).filter(|_| !grain.born)?;
    let to = grain.owner.filter(|to| !template.holders.contains(to))?;
    let (owner, name) = (owner.to_owned(), template.name.to_string());
    Some(match source(view.cluster, template, to, 0) {
        Some(from) => {
            let from = view.cluster.node_name(from);
            WaitReason::Fetching { owner, template: name, from }
        }
        None => WaitReason::NoTemplate { owner, template: name },
    })
}

/// What people call a snapshot: the name that they gave it, or its guid.
fn snapshot_name(grain: &Grain, guid: Guid) -> String {
    let known = grain.snapshots.iter().find(|snapshot| snapshot.guid == guid);
    match known.map(|snapshot| &snapshot.name.purpose) {
        Some(Purpose::User(name)) => name.to_string(),
        Some(Purpose::Replication | Purpose::Final(_) | Purpose::Orphan | Purpose::Template)
        | None => guid.to_string(),
    }
}

fn is_failover(operation: &Operation) -> bool {
    matches!(operation.work, Work::Failover { .. })
}

/// It should not run, and its owner's lease has ended.
fn is_surely_stopped(view: View<'_>, grain: &Grain) -> bool {
    let owner = grain.owner.and_then(|owner| view.cluster.nodes.get(&owner));
    let ended = owner.is_some_and(|owner| grain.has_surely_stopped_with(&owner.liveness));
    !grain.wants_to_run() && ended
}

/// Committed as stopped, and its owner reports no process.
fn is_stopped(view: View<'_>, grain: &Grain) -> bool {
    let Some(owner) = grain.owner else { return true };
    let heard = view.observed.nodes.get(&owner).is_some_and(|heard| heard.full);
    let runs = view.observed.report(owner, grain.id).is_some_and(|report| report.run.is_some());
    grain.started.is_none() && heard && !runs
}

fn failover_end(view: View<'_>, operation: &Operation, grain: &Grain, owner: String) -> End {
    let record = grain.last_failover.as_ref().filter(|record| record.at >= operation.created);
    match record {
        Some(record) if grain.started.is_some() || !grain.wants_to_run() => End::Done(Summary {
            message: format!("grain {} runs on node {owner}, epoch {}", grain.name, grain.epoch),
            loss: record.loss.clone(),
            ..Summary::default()
        }),
        Some(_) => End::Waits(Some(starting(view, grain, owner))),
        None if operation.cancel_requested => End::Cancelled("nothing was changed".to_owned()),
        None if grain.owner.is_some_and(|owner| view.is_online(owner)) => {
            End::Failed(format!("node {owner} is back: there is nothing to fail over"))
        }
        // `fail_over` says why.
        None => End::Waits(None),
    }
}
