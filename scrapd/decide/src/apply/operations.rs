//! Commands about operations: beginning, phases, cancelling, ending.

use scrap_schema::command::{Command, GrainText};
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{GrainId, Name, NodeId, OperationId};
use scrap_schema::operation::{Need, Operation, OperationState, Phase, PhaseRecord, Summary, Work};

use self::allowed::{allowed, settled};
use super::grains::{forget, insert, not_busy, not_trashed, supersede};
use super::{About, Change, asides};
use crate::cluster::{Cluster, Key, Outcome, Stage};
use crate::refusal::Refusal;

mod allowed;

/// How many finished operations are kept.
const FINISHED_MAX: usize = 500;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the dispatcher sends only the commands about operations here"
)]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::StartOperation { operation, work, text } => {
            start(change, *operation, work, text.as_ref())
        }
        Command::CancelOperation { operation } => cancel(change, *operation),
        Command::EnterPhase { operation, phase } => enter(change, *operation, *phase),
        Command::FinishOperation { operation, failed, cancelled, summary } => {
            let state = match (failed, cancelled) {
                (true, _) => OperationState::Failed,
                (false, true) => OperationState::Cancelled,
                (false, false) => OperationState::Succeeded,
            };
            nothing_under_way(change.cluster, *operation)?;
            finish(change, *operation, state, summary)
        }
        Command::OperationNeeds { operation, phase, need } => {
            needs(change, *operation, *phase, need)
        }
        Command::OperationStuck { operation, node, why, .. } => {
            stuck(change, *operation, *node, why)
        }
        _ => Err(Refusal::out_of_date("not a command about operations")),
    }
}

/// Writes a new operation down.
pub(super) fn begin(
    change: &mut Change<'_>,
    id: OperationId,
    work: Work,
    target: &Name,
    phase: Phase,
) {
    let word = work.word();
    let operation = Operation {
        id,
        work,
        target: target.clone(),
        state: OperationState::Running,
        phases: vec![PhaseRecord { phase, began: change.at }],
        cancel_requested: false,
        created: change.at,
        created_index: change.index,
        finished: None,
        summary: Summary::default(),
        needs: None,
    };
    change.cluster.operations.insert(id, operation);
    change.touch(Key::Operation(id));
    let message = format!("{word} {target} begins");
    change.tell(Topic::Operation, Severity::Info, About::operation(id), message);
}

fn start(
    change: &mut Change<'_>,
    id: OperationId,
    work: &Work,
    text: Option<&GrainText>,
) -> Result<Outcome, Refusal> {
    if change.cluster.operations.contains_key(&id) {
        return Ok(Outcome::Operation { operation: id });
    }
    match work {
        Work::Drain { node } => drain(change, id, *node)?,
        Work::Clone { from, snapshot, grain } => {
            let text =
                text.ok_or_else(|| Refusal::Invalid { why: "a clone needs a spec".into() })?;
            clone(change, id, (*from, *snapshot), *grain, text)?;
        }
        Work::Fork { grain, .. } => {
            let text =
                text.ok_or_else(|| Refusal::Invalid { why: "a fork needs a spec".into() })?;
            asides::fork(change, id, work, *grain, text)?;
        }
        Work::Discard { by, .. } => asides::discard(change, id, work, by.as_deref())?,
        Work::Create { .. } => {
            return Err(Refusal::out_of_date("grains are made by their own command"));
        }
        Work::Start { grain }
        | Work::Stop { grain }
        | Work::Restart { grain }
        | Work::Migrate { grain, .. }
        | Work::Failover { grain, .. }
        | Work::Snapshot { grain, .. }
        | Work::Promote { grain, .. }
        | Work::Restore { grain, .. } => on_grain(change, id, *grain, work)?,
    }
    Ok(Outcome::Operation { operation: id })
}

fn on_grain(
    change: &mut Change<'_>,
    id: OperationId,
    grain: GrainId,
    work: &Work,
) -> Result<(), Refusal> {
    let before = change.look(grain)?;
    not_trashed(before)?;
    allowed(change.cluster, before, work)?;
    let name = before.name.clone();
    match work {
        Work::Start { .. } | Work::Stop { .. } => supersede(change, grain)?,
        Work::Failover { .. } => free_from_lost_owner(change, grain)?,
        Work::Create { .. }
        | Work::Restart { .. }
        | Work::Migrate { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => not_busy(before)?,
    }
    let index = change.index;
    let phase = match work {
        Work::Stop { .. } | Work::Restart { .. } => Phase::Stop,
        Work::Start { .. } => Phase::Start,
        Work::Snapshot { .. } | Work::Restore { .. } | Work::Fork { .. } | Work::Discard { .. } => {
            Phase::Data
        }
        Work::Create { .. }
        | Work::Clone { .. }
        | Work::Promote { .. }
        | Work::Migrate { .. }
        | Work::Failover { .. }
        | Work::Drain { .. } => Phase::Prepare,
    };
    begin(change, id, work.clone(), &name, phase);
    let grain = change.grain(grain)?;
    grain.operation = Some(id);
    match work {
        Work::Start { .. } | Work::Stop { .. } => {
            let running = matches!(work, Work::Start { .. });
            if grain.spec.running != running {
                grain.spec.running = running;
                grain.generation = grain.generation.saturating_add(1);
                grain.modified = index;
            }
        }
        Work::Restart { .. } => grain.stage = Stage::Restarting { operation: Some(id) },
        Work::Restore { snapshot, .. } => {
            grain.stage = Stage::Restoring { operation: id, snapshot: *snapshot };
        }
        Work::Create { .. }
        | Work::Migrate { .. }
        | Work::Failover { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => (),
    }
    Ok(())
}

/// Ends what the lost owner was doing with a grain, so that a failover can begin. What has an end of its own is waited for.
fn free_from_lost_owner(change: &mut Change<'_>, id: GrainId) -> Result<(), Refusal> {
    let grain = change.look(id)?;
    let running = grain.operation.and_then(|id| change.cluster.operations.get(&id));
    let Some(running) = running else { return Ok(()) };
    match (&running.work, &grain.stage) {
        (
            Work::Create { .. }
            | Work::Start { .. }
            | Work::Stop { .. }
            | Work::Restart { .. }
            | Work::Snapshot { .. }
            | Work::Restore { .. }
            | Work::Promote { .. }
            | Work::Migrate { .. },
            Stage::Settled | Stage::Restarting { .. } | Stage::Restoring { .. },
        ) => (),
        (
            Work::Create { .. }
            | Work::Start { .. }
            | Work::Stop { .. }
            | Work::Restart { .. }
            | Work::Snapshot { .. }
            | Work::Restore { .. }
            | Work::Migrate { .. }
            | Work::Failover { .. }
            | Work::Drain { .. }
            | Work::Clone { .. }
            | Work::Fork { .. }
            | Work::Promote { .. }
            | Work::Discard { .. },
            _,
        ) => return not_busy(grain),
    }
    let operation = running.id;
    let owner = grain.owner.map_or_else(String::new, |owner| change.cluster.node_name(owner));
    let message = format!("node {owner} went away in the middle of it; a failover was asked for");
    change.grain(id)?.stage = Stage::Settled;
    let summary = Summary { message, ..Summary::default() };
    finish(change, operation, OperationState::Failed, &summary)?;
    Ok(())
}

fn drain(change: &mut Change<'_>, id: OperationId, node: NodeId) -> Result<(), Refusal> {
    let before = change.cluster.nodes.get(&node).ok_or_else(|| Refusal::no_node(node))?;
    let name = before.name.clone();
    if let Some(operation) = before.drain {
        let running = change.cluster.operations.get(&operation);
        return Err(match running.is_some_and(|operation| !operation.state.is_final()) {
            true => {
                let operation = operation.to_string();
                Refusal::Busy { what: "node".to_owned(), name, operation }
            }
            false => Refusal::drained(name),
        });
    }
    change.node(node)?.drain = Some(id);
    begin(change, id, Work::Drain { node }, &name, Phase::Move);
    Ok(())
}

fn clone(
    change: &mut Change<'_>,
    id: OperationId,
    from: (GrainId, Option<scrap_schema::snapshot::Guid>),
    grain: GrainId,
    text: &GrainText,
) -> Result<(), Refusal> {
    let source = change.look(from.0)?;
    not_trashed(source)?;
    settled(source)?;
    let (owner, epoch) = (source.owner, source.epoch);
    let (snapshot, orphan) = (from.1, None);
    insert(change, grain, text, Stage::Cloning { operation: id, from: from.0, snapshot, orphan })?;
    let work = Work::Clone { from: from.0, snapshot: from.1, grain };
    begin(change, id, work, &text.name, Phase::Data);
    let armed = change.look(grain).map(|new| change.cluster.needs_lease(new))?;
    let new = change.grain(grain)?;
    new.operation = Some(id);
    // Where its source is: no bytes travel. The leader moves it later if a person asks.
    new.owner = owner;
    // Its line begins with a state of its source: what it freezes itself is newer by epoch too.
    new.epoch = new.epoch.next().max(epoch);
    new.armed = armed;
    if let Some(node) = owner {
        new.tenures.push(crate::cluster::Tenure { epoch: new.epoch, node, base: None });
    }
    Ok(())
}

pub(super) fn running<'a>(
    change: &'a Change<'_>,
    id: OperationId,
) -> Result<&'a Operation, Refusal> {
    let missing = || Refusal::NotFound { what: "operation".to_owned(), name: id.to_string() };
    let operation = change.cluster.operations.get(&id).ok_or_else(missing)?;
    if operation.state.is_final() {
        return Err(Refusal::out_of_date(format!("operation {id} is over")));
    }
    Ok(operation)
}

/// Whether an operation can still be undone, and if not, why.
///
/// # Errors
/// The reason, as a sentence's end.
pub fn cancellable(cluster: &Cluster, operation: &Operation) -> Result<(), &'static str> {
    if operation.state.is_final() {
        return Err("it is over");
    }
    let stage =
        operation.work.grain().and_then(|id| cluster.grains.get(&id)).map(|grain| &grain.stage);
    match &operation.work {
        Work::Drain { .. } | Work::Failover { .. } => Ok(()),
        Work::Migrate { .. } | Work::Promote { .. } => match stage {
            Some(Stage::Landing { .. }) => Err("the grain has its new owner already"),
            Some(
                Stage::Unplaced
                | Stage::Settled
                | Stage::Warming { .. }
                | Stage::Quiescing { .. }
                | Stage::Released { .. }
                | Stage::Restarting { .. }
                | Stage::Restoring { .. }
                | Stage::Cloning { .. },
            )
            | None => Ok(()),
        },
        Work::Create { .. } | Work::Clone { .. } | Work::Fork { .. } => {
            Err("remove the grain instead")
        }
        // It begins as soon as its node knows.
        Work::Discard { node, .. } => match cluster.nodes.get(node) {
            Some(node) if node.liveness.is_online() => Err("what is removed does not come back"),
            Some(_) | None => Ok(()),
        },
        Work::Start { .. } => Err("stop the grain instead"),
        Work::Stop { .. } => Err("start the grain instead"),
        Work::Restart { .. } | Work::Snapshot { .. } | Work::Restore { .. } => {
            Err("it cannot be undone halfway")
        }
    }
}

fn cancel(change: &mut Change<'_>, id: OperationId) -> Result<Outcome, Refusal> {
    let missing = || Refusal::NotFound { what: "operation".to_owned(), name: id.to_string() };
    let operation = change.cluster.operations.get(&id).ok_or_else(missing)?;
    if operation.state == OperationState::Cancelled {
        return Ok(Outcome::Unchanged);
    }
    cancellable(change.cluster, operation).map_err(|why| Refusal::NotCancellable {
        operation: id.to_string(),
        why: why.to_owned(),
    })?;
    if operation.cancel_requested {
        return Ok(Outcome::Unchanged);
    }
    let message = format!("{} {}: cancelled by a person", operation.work.word(), operation.target);
    if let Some(operation) = change.cluster.operations.get_mut(&id) {
        operation.cancel_requested = true;
    }
    change.touch(Key::Operation(id));
    change.tell(Topic::Operation, Severity::Info, About::operation(id), message);
    Ok(Outcome::Operation { operation: id })
}

/// Writes down that an operation has entered a phase. Entering the same one again changes nothing.
pub(super) fn enter(
    change: &mut Change<'_>,
    id: OperationId,
    phase: Phase,
) -> Result<Outcome, Refusal> {
    if running(change, id)?.phases.last().is_some_and(|last| last.phase == phase) {
        return Ok(Outcome::Unchanged);
    }
    let began = change.at;
    if let Some(operation) = change.cluster.operations.get_mut(&id) {
        operation.phases.push(PhaseRecord { phase, began });
        operation.needs = None;
    }
    change.touch(Key::Operation(id));
    Ok(Outcome::Done)
}

/// Writes down what an operation needs that has not moved on for long. Said once, and again only when it is something else.
fn needs(
    change: &mut Change<'_>,
    id: OperationId,
    phase: Phase,
    need: &Need,
) -> Result<Outcome, Refusal> {
    let operation = running(change, id)?;
    if operation.phases.last().is_none_or(|last| last.phase != phase) {
        return Err(Refusal::out_of_date("it has moved on"));
    }
    if operation.needs.as_ref().is_some_and(|known| known.kind == need.kind) {
        return Ok(Outcome::Unchanged);
    }
    let mut message = format!(
        "{} {} has not moved on for long: {}",
        operation.work.word(),
        operation.target,
        need.what
    );
    message.push_str(&format!("; look at it: {}", need.look));
    if let Some(cancel) = &need.cancel {
        message.push_str(&format!("; give it up: {cancel}"));
    }
    let about = About { grain: operation.work.grain(), ..About::operation(id) };
    if let Some(operation) = change.cluster.operations.get_mut(&id) {
        operation.needs = Some(need.clone());
    }
    change.touch(Key::Operation(id));
    change.tell(Topic::Operation, Severity::Warning, about, message);
    Ok(Outcome::Done)
}

/// Refuses to end an operation from outside while a grain is in one of its stages: that stage has an end of its own.
fn nothing_under_way(cluster: &Cluster, id: OperationId) -> Result<(), Refusal> {
    match cluster.grains.values().find(|grain| grain.stage.operation() == Some(id)) {
        Some(grain) => {
            Err(Refusal::out_of_date(format!("grain {} is in the middle of it", grain.name)))
        }
        None => Ok(()),
    }
}

/// Ends an operation and gives its grain or node back.
pub(super) fn finish(
    change: &mut Change<'_>,
    id: OperationId,
    state: OperationState,
    summary: &Summary,
) -> Result<Outcome, Refusal> {
    let operation = running(change, id)?;
    let (work, target) = (operation.work.clone(), operation.target.clone());
    let at = change.at;
    if let Some(operation) = change.cluster.operations.get_mut(&id) {
        operation.state = state;
        operation.finished = Some(at);
        operation.summary = summary.clone();
        operation.needs = None;
    }
    change.touch(Key::Operation(id));
    let held: Vec<_> = change
        .cluster
        .grains
        .values()
        .filter(|grain| grain.operation == Some(id))
        .map(|grain| grain.id)
        .collect();
    for grain in held {
        change.grain(grain)?.operation = None;
    }
    asides::keep(change, id);
    if let Work::Drain { node } = work
        && state != OperationState::Succeeded
        && change.cluster.nodes.contains_key(&node)
    {
        change.node(node)?.drain = None;
    }
    let severity = match state {
        OperationState::Failed => Severity::Warning,
        OperationState::Running | OperationState::Succeeded | OperationState::Cancelled => {
            Severity::Info
        }
    };
    let message = format!("{} {target} {state}: {}", work.word(), summary.message);
    change.tell(
        Topic::Operation,
        severity,
        About { grain: work.grain(), ..About::operation(id) },
        message,
    );
    forget_old(change);
    Ok(Outcome::Done)
}

fn forget_old(change: &mut Change<'_>) {
    let finished =
        change.cluster.operations.values().filter(|operation| operation.state.is_final());
    let mut finished: Vec<_> =
        finished.map(|operation| (operation.created_index, operation.id)).collect();
    finished.sort_unstable();
    let surplus = finished.len().saturating_sub(FINISHED_MAX);
    for (_, id) in finished.into_iter().take(surplus) {
        change.cluster.operations.remove(&id);
        change.touch(Key::Operation(id));
    }
}

/// A node cannot do its part: the operation fails and the grain goes back to what it was.
fn stuck(
    change: &mut Change<'_>,
    id: OperationId,
    node: NodeId,
    why: &str,
) -> Result<Outcome, Refusal> {
    let mut never_was = None;
    let operation = running(change, id)?;
    let grain = operation.work.grain().and_then(|id| change.cluster.grains.get(&id));
    if let Some(grain) = grain.filter(|grain| grain.stage.operation() == Some(id)) {
        let grain = grain.id;
        match change.look(grain)?.stage {
            // Before the assignment everything goes back to where it was.
            Stage::Restarting { .. }
            | Stage::Restoring { .. }
            | Stage::Warming { .. }
            | Stage::Quiescing { .. }
            | Stage::Released { .. } => change.grain(grain)?.stage = Stage::Settled,
            // There is nothing of it yet.
            Stage::Cloning { .. } => never_was = Some(grain),
            // From here the only way is forward.
            Stage::Landing { .. } => {
                return Err(Refusal::out_of_date("it cannot be given up any more"));
            }
            Stage::Unplaced | Stage::Settled => (),
        }
    }
    let message = format!("node {}: {why}", change.cluster.node_name(node));
    let summary = Summary { message, ..Summary::default() };
    let outcome = finish(change, id, OperationState::Failed, &summary)?;
    if let Some(grain) = never_was {
        forget(change, grain)?;
    }
    Ok(outcome)
}
