//! Commands of people about grains: making, changing, the trash.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::GrainText;
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, Name, OperationId};
use scrap_schema::operation::{OperationState, Phase, Summary, Work};
use scrap_schema::spec::{GrainSpec, Labels};
use scrap_schema::time::Timestamp;

use super::lots::Lot;
use super::operations::{begin, finish};
use super::{About, Change, unchanged_since};
use crate::cluster::{Cluster, Declined, Grain, Key, Outcome, Stage};
use crate::refusal::Refusal;

/// A grain that nothing has happened to yet. Refuses a taken name or id and an unknown policy.
pub(super) fn insert(
    change: &mut Change<'_>,
    id: GrainId,
    text: &GrainText,
    stage: Stage,
) -> Result<(), Refusal> {
    if change.cluster.names.contains_key(&text.name) {
        return Err(Refusal::NameTaken { what: "grain".to_owned(), name: text.name.clone() });
    }
    if change.cluster.grains.contains_key(&id) || change.cluster.purged.contains(&id) {
        return Err(Refusal::out_of_date("its id is taken"));
    }
    known_policy(change, &text.spec)?;
    let lot = Lot::of(change.cluster, id, None, &text.spec)?;
    let Lot { template, address, address6, mac, ids } = lot;
    let grain = Grain {
        id,
        name: text.name.clone(),
        labels: text.labels.clone(),
        annotations: text.annotations.clone(),
        spec: text.spec.clone(),
        generation: 1,
        created: change.at,
        modified: change.index,
        epoch: Epoch::default(),
        owner: None,
        stage,
        standbys: BTreeSet::new(),
        away: BTreeMap::new(),
        born: false,
        armed: false,
        started: None,
        operation: None,
        came_back: None,
        tenures: Vec::new(),
        snapshots: Vec::new(),
        last_failover: None,
        trashed_until: None,
        template,
        address,
        address6,
        mac,
        ids,
        ailment: None,
        declined: Declined::No,
        touched: change.index,
    };
    change.cluster.grains.insert(id, grain);
    change.cluster.names.insert(text.name.clone(), id);
    change.touch(Key::Grain(id));
    let message = format!("grain {} was made", text.name);
    change.tell(Topic::Grain, Severity::Info, About::grain(id), message);
    Ok(())
}

fn known_policy(change: &Change<'_>, spec: &GrainSpec) -> Result<(), Refusal> {
    if change.cluster.policies.contains_key(&spec.protect) {
        Ok(())
    } else {
        Err(Refusal::NotFound { what: "policy".to_owned(), name: spec.protect.to_string() })
    }
}

/// Refuses while an operation works on the grain.
pub(super) fn not_busy(grain: &Grain) -> Result<(), Refusal> {
    match grain.operation {
        None => Ok(()),
        Some(operation) => Err(Refusal::Busy {
            what: "grain".to_owned(),
            name: grain.name.clone(),
            operation: operation.to_string(),
        }),
    }
}

/// Ends the operation that brings a grain up or down, because a person wants something else of it now: otherwise a grain that
/// can never start could neither be stopped nor removed. Refuses while any other operation works on it.
pub(super) fn supersede(change: &mut Change<'_>, id: GrainId) -> Result<(), Refusal> {
    let grain = change.look(id)?;
    let running = grain.operation.and_then(|id| change.cluster.operations.get(&id));
    let Some(running) = running else { return Ok(()) };
    match running.work {
        Work::Create { .. } | Work::Start { .. } | Work::Stop { .. } | Work::Restart { .. } => (),
        Work::Migrate { .. }
        | Work::Failover { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => return not_busy(grain),
    }
    let message = "something else was asked for meanwhile".to_owned();
    let summary = Summary { message, ..Summary::default() };
    let operation = running.id;
    if let Stage::Restarting { operation } = &mut change.grain(id)?.stage {
        *operation = None;
    }
    finish(change, operation, OperationState::Cancelled, &summary)?;
    Ok(())
}

/// Refuses a grain in the trash.
pub(super) fn not_trashed(grain: &Grain) -> Result<(), Refusal> {
    match grain.trashed_until {
        None => Ok(()),
        Some(_) => {
            Err(Refusal::WrongState { name: grain.name.clone(), is: "in the trash".to_owned() })
        }
    }
}

pub(super) fn create(
    change: &mut Change<'_>,
    id: GrainId,
    operation: OperationId,
    text: &GrainText,
) -> Result<Outcome, Refusal> {
    if change.cluster.operations.contains_key(&operation) {
        return Err(Refusal::out_of_date(format!("operation {operation} is another one's")));
    }
    insert(change, id, text, Stage::Unplaced)?;
    begin(change, operation, Work::Create { grain: id }, &text.name, Phase::Prepare);
    change.grain(id)?.operation = Some(operation);
    Ok(Outcome::Grain { grain: id, operation: Some(operation) })
}

pub(super) fn update(
    change: &mut Change<'_>,
    id: GrainId,
    if_index: Option<u64>,
    labels: &Labels,
    annotations: &Labels,
    spec: &GrainSpec,
) -> Result<Outcome, Refusal> {
    let index = change.index;
    let grain = change.look(id)?;
    not_trashed(grain)?;
    unchanged_since("grain", &grain.name, grain.modified, if_index)?;
    if grain.labels == *labels && grain.annotations == *annotations && grain.spec == *spec {
        return Ok(Outcome::Unchanged);
    }
    known_policy(change, spec)?;
    let lot = Lot::of(change.cluster, id, Some(grain), spec)?;
    let grain = change.grain(id)?;
    lot.give(grain);
    // What a running program was started with changes only by starting it again.
    let restart = grain.spec.command != spec.command
        || grain.spec.env != spec.env
        || grain.spec.network != spec.network
        || grain.spec.pids() != spec.pids()
        || grain.spec.resources.memory != spec.resources.memory
        || grain.spec.resources.cpu != spec.resources.cpu;
    if grain.spec != *spec {
        grain.generation = grain.generation.saturating_add(1);
    }
    grain.labels = labels.clone();
    grain.annotations = annotations.clone();
    grain.spec = spec.clone();
    grain.modified = index;
    let restarts = restart && grain.stage == Stage::Settled && grain.started.is_some();
    if restarts && grain.operation.is_none() && grain.wants_to_run() {
        grain.stage = Stage::Restarting { operation: None };
    }
    let name = grain.name.clone();
    let message = match restarts {
        true => format!("grain {name} was changed and starts again with it"),
        false => format!("grain {name} was changed"),
    };
    change.tell(Topic::Grain, Severity::Info, About::grain(id), message);
    Ok(Outcome::Grain { grain: id, operation: None })
}

pub(super) fn trash(
    change: &mut Change<'_>,
    id: GrainId,
    if_index: Option<u64>,
    keep_until: Timestamp,
) -> Result<Outcome, Refusal> {
    let grain = change.look(id)?;
    not_trashed(grain)?;
    unchanged_since("grain", &grain.name, grain.modified, if_index)?;
    let making = making(change, grain);
    if matches!(grain.stage, Stage::Cloning { .. }) {
        if making.is_none() {
            not_busy(grain)?;
        }
        return never_mind(change, id, making);
    }
    match making {
        Some(operation) => give_up_making(change, operation)?,
        None => supersede(change, id)?,
    }
    let index = change.index;
    let grain = change.grain(id)?;
    grain.trashed_until = Some(keep_until);
    grain.modified = index;
    let name = grain.name.clone();
    change.cluster.names.remove(&name);
    let message = format!("grain {name} is in the trash until {keep_until}");
    change.tell(Topic::Grain, Severity::Warning, About::grain(id), message);
    Ok(Outcome::Done)
}

/// The operation that makes this grain, if it is still under way: removing the grain is how a person gives that up.
fn making(change: &Change<'_>, grain: &Grain) -> Option<OperationId> {
    let operation = change.cluster.operations.get(&grain.operation?)?;
    let makes =
        matches!(operation.work, Work::Create { .. } | Work::Clone { .. } | Work::Fork { .. });
    (makes && !operation.state.is_final()).then_some(operation.id)
}

fn give_up_making(change: &mut Change<'_>, operation: OperationId) -> Result<(), Refusal> {
    let summary = Summary { message: "the grain was removed".to_owned(), ..Summary::default() };
    finish(change, operation, OperationState::Cancelled, &summary).map(|_| ())
}

/// A clone that has no data yet leaves nothing to keep in the trash.
fn never_mind(
    change: &mut Change<'_>,
    id: GrainId,
    operation: Option<OperationId>,
) -> Result<Outcome, Refusal> {
    if let Some(operation) = operation {
        give_up_making(change, operation)?;
    }
    forget(change, id)?;
    Ok(Outcome::Done)
}

/// Removes a grain for good.
pub(super) fn forget(change: &mut Change<'_>, id: GrainId) -> Result<(), Refusal> {
    let name = change.look(id)?.name.clone();
    change.cluster.grains.remove(&id);
    change.cluster.purged.insert(id);
    // In the trash its name was free for others.
    if change.cluster.names.get(&name) == Some(&id) {
        change.cluster.names.remove(&name);
    }
    change.touch(Key::Grain(id));
    change.touch(Key::Purged(id));
    let message = format!(
        "grain {name} is removed for good: every node removes its data now, one that is away when it is back"
    );
    change.tell(Topic::Grain, Severity::Warning, About::grain(id), message);
    Ok(())
}

pub(super) fn undelete(change: &mut Change<'_>, id: GrainId) -> Result<Outcome, Refusal> {
    let grain = change.look(id)?;
    if grain.trashed_until.is_none() {
        return Ok(Outcome::Unchanged);
    }
    let name: Name = grain.name.clone();
    if change.cluster.names.contains_key(&name) {
        return Err(Refusal::NameTaken { what: "grain".to_owned(), name });
    }
    let index = change.index;
    let grain = change.grain(id)?;
    grain.trashed_until = None;
    grain.modified = index;
    change.cluster.names.insert(name.clone(), id);
    let message = format!("grain {name} is out of the trash");
    change.tell(Topic::Grain, Severity::Info, About::grain(id), message);
    Ok(Outcome::Done)
}

/// Whether a grain may still run on a node that would not hear in time that its data go.
pub(crate) fn may_run(cluster: &Cluster, grain: &Grain) -> bool {
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    let surely_stopped = owner.is_none_or(|owner| owner.liveness.is_surely_stopped());
    grain.started.is_some() && !surely_stopped
}

pub(super) fn purge(
    change: &mut Change<'_>,
    id: GrainId,
    if_index: Option<u64>,
) -> Result<Outcome, Refusal> {
    let grain = change.look(id)?;
    unchanged_since("grain", &grain.name, grain.modified, if_index)?;
    not_busy(grain)?;
    let name = grain.name.clone();
    if grain.trashed_until.is_none() {
        return Err(Refusal::WrongState { name, is: "not in the trash".to_owned() });
    }
    if may_run(change.cluster, grain) {
        return Err(Refusal::WrongState {
            name,
            is: "still running: it is being stopped".to_owned(),
        });
    }
    forget(change, id)?;
    Ok(Outcome::Done)
}
