//! Facts that nodes report about their own deeds. A fact of an older epoch is refused: the world has moved on.

use scrap_schema::command::Command;
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, OperationId};
use scrap_schema::operation::{OperationState, Phase, Summary, Work};
use scrap_schema::snapshot::{Purpose, Snapshot};
use scrap_schema::time::Timestamp;

use super::operations::{enter, finish, running};
use super::{About, Change, asides, moves};
use crate::cluster::{Ailment, Declined, Grain, Orphan, OrphanKey, Outcome, Stage};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;

#[expect(clippy::wildcard_enum_match_arm, reason = "the dispatcher sends only facts here")]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::GrainBorn { grain, epoch } => born(change, *grain, *epoch),
        Command::GrainArmed { grain, epoch, seen } => armed(change, *grain, *epoch, *seen),
        Command::GrainStarted { grain, epoch, at, seen } => {
            started(change, *grain, *epoch, *at, *seen)
        }
        Command::GrainStopped { grain, epoch, seen, .. } => stopped(change, *grain, *epoch, *seen),
        Command::GrainReleased { grain, epoch, operation, last, stopping, quiesced } => {
            released(change, *grain, *epoch, (*operation, *quiesced), last, *stopping)
        }
        Command::SnapshotTaken { grain, epoch, operation, snapshot } => {
            taken(change, *grain, *epoch, *operation, snapshot)
        }
        Command::GrainRestored { grain, epoch, operation, before } => {
            restored(change, *grain, *epoch, *operation, before)
        }
        Command::GrainHealth { grain, epoch, ailment, seen } => {
            health(change, *grain, *epoch, ailment.as_deref(), *seen)
        }
        Command::GrainDeclined { grain, epoch, sure } => declined(change, *grain, *epoch, *sure),
        Command::OrphanKept { grain, orphan_epoch, node, base, head, newer, used, seen } => {
            let key = OrphanKey { grain: *grain, epoch: *orphan_epoch, node: *node };
            let (base, newer, used, kept) = (*base, *newer, *used, change.at);
            let (head, left_on, discard) = (head.clone(), None, None);
            let orphan = Orphan { key, head, base, newer, used, kept, left_on, discard };
            asides::kept(change, orphan, *seen)
        }
        Command::OrphanGone { grain, orphan_epoch, node, head_again, seen } => {
            let key = OrphanKey { grain: *grain, epoch: *orphan_epoch, node: *node };
            asides::gone(change, key, *head_again, *seen)
        }
        _ => Err(Refusal::out_of_date("not a fact")),
    }
}

/// A grain to look at, if the fact is of its present epoch: only an owner has facts to tell.
fn owned_in<'a>(change: &'a Change<'_>, id: GrainId, epoch: Epoch) -> Result<&'a Grain, Refusal> {
    let grain = change.look_in(id, epoch)?;
    match grain.owner {
        Some(_) => Ok(grain),
        None => Err(Refusal::out_of_date("it has no owner")),
    }
}

fn born(change: &mut Change<'_>, id: GrainId, epoch: Epoch) -> Result<Outcome, Refusal> {
    if owned_in(change, id, epoch)?.born {
        return Ok(Outcome::Unchanged);
    }
    let grain = change.grain(id)?;
    grain.born = true;
    if matches!(grain.stage, Stage::Cloning { .. }) {
        grain.stage = Stage::Settled;
    }
    Ok(Outcome::Done)
}

/// First it is said, and from then on the owner begins nothing; when it knows that, it says that it is sure. Only then the epoch has
/// never begun, and its fork is none: what other nodes have beyond it is not left behind by it.
fn declined(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    sure: bool,
) -> Result<Outcome, Refusal> {
    let grain = owned_in(change, id, epoch)?;
    let owner = grain.owner.map_or_else(String::new, |owner| change.cluster.node_name(owner));
    match (grain.declined, sure) {
        (Declined::Said, false) | (Declined::Sure, _) => return Ok(Outcome::Unchanged),
        (Declined::No, true) => return Err(Refusal::out_of_date("it has not been said before")),
        (Declined::No, false) if grain.started.is_some() || grain.stage != Stage::Settled => {
            return Err(Refusal::out_of_date("it has begun already"));
        }
        (Declined::No, false) => {
            change.grain(id)?.declined = Declined::Said;
            return Ok(Outcome::Done);
        }
        (Declined::Said, true) => (),
    }
    let grain = change.grain(id)?;
    grain.declined = Declined::Sure;
    if let Some(tenure) = grain.tenures.last_mut().filter(|tenure| tenure.epoch == epoch) {
        tenure.base = None;
    }
    let message = format!(
        "grain {}: node {owner} has not the state that it should go on from; another one is chosen",
        grain.name
    );
    change.tell(Topic::Failover, Severity::Warning, About::grain(id), message);
    Ok(Outcome::Done)
}

fn armed(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    let grain = owned_in(change, id, epoch)?;
    if grain.armed {
        return Ok(Outcome::Unchanged);
    }
    change.up_to_date(grain, seen)?;
    // Its owner may have taken the deadline away while none was needed.
    let leases = change.cluster.identity.as_ref().map_or(0, |identity| identity.leases);
    if seen.is_some_and(|seen| seen < leases) && !mutant::is(Mutant::LateReports) {
        return Err(Refusal::out_of_date("its node had not applied yet who needs a lease"));
    }
    // By now its policy may need no lease any more, and what was started since has none.
    if !change.cluster.needs_lease(change.look(id)?) {
        return Err(Refusal::out_of_date("it needs no lease"));
    }
    change.grain(id)?.armed = true;
    Ok(Outcome::Done)
}

fn started(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    at: Timestamp,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    let grain = owned_in(change, id, epoch)?;
    if grain.started.is_some() {
        return Ok(Outcome::Unchanged);
    }
    change.up_to_date(grain, seen)?;
    match grain.stage {
        Stage::Settled | Stage::Warming { .. } | Stage::Landing { .. } => (),
        Stage::Unplaced
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => {
            return Err(Refusal::out_of_date("it should stand still"));
        }
    }
    // It will stop when it knows that.
    if change.look(id)?.declined != Declined::No {
        return Err(Refusal::out_of_date("its owner has said that it cannot begin"));
    }
    let grain = change.grain(id)?;
    grain.started = Some(at);
    let (name, owner) = (grain.name.clone(), grain.owner);
    let node = owner.map_or_else(String::new, |owner| change.cluster.node_name(owner));
    let message = format!("grain {name} answers on node {node}, epoch {epoch}");
    let about = About { node: owner, ..About::grain(id) };
    change.tell(Topic::Grain, Severity::Info, about, message);
    Ok(Outcome::Done)
}

fn stopped(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    let grain = owned_in(change, id, epoch)?;
    let restarting = match &grain.stage {
        Stage::Restarting { operation } => Some(*operation),
        Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => None,
    };
    if grain.started.is_none() && restarting.is_none() {
        return Ok(Outcome::Unchanged);
    }
    change.up_to_date(grain, seen)?;
    if let Some(Some(operation)) = restarting {
        enter(change, operation, Phase::Start)?;
    }
    let grain = change.grain(id)?;
    grain.started = None;
    grain.ailment = None;
    if restarting.is_some() {
        grain.stage = Stage::Settled;
    }
    let message = format!("grain {} is stopped", grain.name);
    change.tell(Topic::Grain, Severity::Info, About::grain(id), message);
    Ok(Outcome::Done)
}

fn released(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    order: (OperationId, u64),
    last: &Snapshot,
    stopping: Timestamp,
) -> Result<Outcome, Refusal> {
    let operation = order.0;
    let to = match &owned_in(change, id, epoch)?.stage {
        Stage::Quiescing { to, operation: of, ordered } if (*of, *ordered) == order => *to,
        Stage::Quiescing { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => return Err(Refusal::out_of_date("it was not asked for")),
    };
    if moves::is_move(change.cluster, operation) {
        enter(change, operation, Phase::Final)?;
    }
    let grain = change.grain(id)?;
    grain.started = None;
    grain.stage = Stage::Released { to, operation, last: last.clone(), stopping };
    Ok(Outcome::Done)
}

fn taken(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
    snapshot: &Snapshot,
) -> Result<Outcome, Refusal> {
    owned_in(change, id, epoch)?;
    if !matches!(running(change, operation)?.work, Work::Snapshot { grain, .. } if grain == id) {
        return Err(Refusal::out_of_date("it was not asked for"));
    }
    remember(change, id, snapshot)?;
    let name = match &snapshot.name.purpose {
        Purpose::User(name) => name.to_string(),
        Purpose::Replication | Purpose::Final(_) | Purpose::Orphan | Purpose::Template => {
            snapshot.guid.to_string()
        }
    };
    let summary = Summary { message: format!("snapshot {name} is taken"), ..Summary::default() };
    finish(change, operation, OperationState::Succeeded, &summary)
}

/// Only that it changed is written down, not every check.
fn health(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    ailment: Option<&str>,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    let grain = owned_in(change, id, epoch)?;
    if grain.ailment.is_some() == ailment.is_some() {
        return Ok(Outcome::Unchanged);
    }
    change.up_to_date(grain, seen)?;
    let since = change.at;
    let grain = change.grain(id)?;
    grain.ailment = ailment.map(|why| Ailment { since, why: why.to_owned() });
    let (name, owner) = (grain.name.clone(), grain.owner);
    let node = owner.map_or_else(String::new, |owner| change.cluster.node_name(owner));
    let (severity, message) = match ailment {
        Some(why) => (Severity::Warning, format!("grain {name} is not well on node {node}: {why}")),
        None => (Severity::Info, format!("grain {name} is well again on node {node}")),
    };
    change.tell(Topic::Grain, severity, About { node: owner, ..About::grain(id) }, message);
    Ok(Outcome::Done)
}

fn remember(change: &mut Change<'_>, id: GrainId, snapshot: &Snapshot) -> Result<(), Refusal> {
    let grain = change.grain(id)?;
    if !grain.snapshots.iter().any(|known| known.guid == snapshot.guid) {
        grain.snapshots.push(snapshot.clone());
    }
    Ok(())
}

fn restored(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    operation: OperationId,
    before: &Snapshot,
) -> Result<Outcome, Refusal> {
    match &owned_in(change, id, epoch)?.stage {
        Stage::Restoring { operation: of, .. } if *of == operation => (),
        Stage::Restoring { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Cloning { .. } => return Err(Refusal::out_of_date("it was not asked for")),
    }
    enter(change, operation, Phase::Start)?;
    remember(change, id, before)?;
    let grain = change.grain(id)?;
    grain.started = None;
    grain.stage = Stage::Settled;
    let message =
        format!("grain {} was restored; the state before is snapshot {}", grain.name, before.guid);
    change.tell(Topic::Grain, Severity::Warning, About::grain(id), message);
    Ok(Outcome::Done)
}
