//! The leader's decisions about grains: owners, copies, planned moves. Each names the epoch that it was decided in;
//! the wrong epoch, owner or stage makes it a refusal without effect.

use std::collections::BTreeSet;

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::node::NodeRole;
use scrap_schema::operation::{Loss, OperationState, Phase, Summary, Work};
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::time::Timestamp;

use super::operations::{enter, finish};
use super::{About, Change, asides, moves};
use crate::cluster::{
    Cluster, Declined, FailoverRecord, Grain, Liveness, Outcome, Stage, TENURES_MAX, Tenure,
};
use crate::lease::brake;
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the dispatcher sends only the leader's decisions here"
)]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::AssignGrain { grain, epoch, to, base, cause } => {
            assign(change, *grain, *epoch, *to, base.as_ref(), cause)
        }
        Command::UnarmGrain { grain, epoch } => unarm(change, *grain, *epoch),
        Command::SetStandbys { grain, epoch, standbys } => {
            set_standbys(change, *grain, *epoch, standbys)
        }
        Command::RememberCopy { grain, epoch, node, snapshot, silent } => {
            let stands = if *silent { Some(*snapshot) } else { snapshot.map(Some) };
            remember_copy(change, *grain, *epoch, *node, stands)
        }
        Command::BeginMigration { grain, epoch, operation, to } => {
            moves::begin_migration(change, *grain, *epoch, *operation, *to)
        }
        Command::QuiesceGrain { grain, epoch, operation } => {
            moves::quiesce(change, *grain, *epoch, *operation)
        }
        Command::AbortMigration { grain, epoch, operation, why } => {
            moves::abort(change, *grain, *epoch, *operation, why)
        }
        Command::TurnBack { grain, epoch, operation } => {
            moves::turn_back(change, *grain, *epoch, *operation)
        }
        Command::EndMigration { grain, epoch, operation } => {
            moves::end(change, *grain, *epoch, *operation)
        }
        _ => Err(Refusal::out_of_date("not a decision of the leader")),
    }
}

fn assign(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    to: NodeId,
    base: Option<&Snapshot>,
    cause: &AssignCause,
) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    let target = change.cluster.nodes.get(&to).ok_or_else(|| Refusal::no_node(to))?;
    if target.role != NodeRole::Data {
        let why = "does not run grains".to_owned();
        return Err(Refusal::NodeUnfit { node: target.name.to_string(), why });
    }
    // Decided before the entry that says so. A first place is only where it will begin.
    if *cause != AssignCause::Place && !target.liveness.is_online() {
        return Err(Refusal::out_of_date("the node is not online any more"));
    }
    match cause {
        AssignCause::Place => placeable(grain)?,
        AssignCause::Migrate { operation } => released_to(grain, to, *operation, base)?,
        AssignCause::Failover { .. } => given_up(change.cluster, grain, base)?,
        AssignCause::Promote { operation } => {
            asides::yields(change.cluster, grain, to, *operation, base)?;
        }
    }
    let from = grain.owner;
    let stage = match (&grain.stage, cause, from) {
        (
            Stage::Released { stopping, .. },
            AssignCause::Migrate { operation } | AssignCause::Promote { operation },
            Some(from),
        ) => Stage::Landing { from, operation: *operation, stopping: *stopping },
        // It has not answered since its owner was last heard.
        (_, AssignCause::Promote { operation }, Some(from)) => {
            let stopping = last_heard(change.cluster, from).unwrap_or(change.at);
            Stage::Landing { from, operation: *operation, stopping }
        }
        _ => Stage::Settled,
    };
    let interrupted = grain.stage.operation().or(grain.operation);
    take_over(change, id, to, base, stage)?;
    if let AssignCause::Migrate { operation } | AssignCause::Promote { operation } = cause
        && moves::is_move(change.cluster, *operation)
    {
        enter(change, *operation, Phase::Start)?;
    }
    let outcome = tell(change, id, from, to, cause)?;
    if let (AssignCause::Failover { .. }, Some(operation)) = (cause, interrupted) {
        interrupt(change, id, from, operation)?;
    }
    Ok(outcome)
}

/// A node's own wall clock when it was last heard, if it is not online.
fn last_heard(cluster: &Cluster, node: NodeId) -> Option<Timestamp> {
    match &cluster.nodes.get(&node)?.liveness {
        Liveness::Suspect { last_heard, .. }
        | Liveness::Fenced { last_heard }
        | Liveness::Away { last_heard } => Some(*last_heard),
        Liveness::Joining | Liveness::Online => None,
    }
}

/// A failover in the middle of an operation: what its owner was doing will not be done any more.
fn interrupt(
    change: &mut Change<'_>,
    id: GrainId,
    from: Option<NodeId>,
    operation: OperationId,
) -> Result<(), Refusal> {
    let Some(running) = change.cluster.operations.get(&operation) else { return Ok(()) };
    if running.state.is_final() {
        return Ok(());
    }
    let ends = match running.work {
        // A snapshot of the copy would not be of the state that was meant.
        Work::Migrate { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Snapshot { .. } => true,
        // The drain goes on with its other grains.
        Work::Drain { .. } => {
            change.grain(id)?.operation = None;
            false
        }
        // Done when the grain answers, wherever that is.
        Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Failover { .. }
        | Work::Discard { .. } => false,
    };
    if ends {
        let from = from.map_or_else(String::new, |from| change.cluster.node_name(from));
        let name = change.look(id)?.name.clone();
        let message =
            format!("node {from} went away in the middle of it; grain {name} goes on from a copy");
        finish(
            change,
            operation,
            OperationState::Failed,
            &Summary { message, ..Summary::default() },
        )?;
    }
    Ok(())
}

/// The change of owner itself.
fn take_over(
    change: &mut Change<'_>,
    id: GrainId,
    to: NodeId,
    base: Option<&Snapshot>,
    stage: Stage,
) -> Result<(), Refusal> {
    // Decided here, on the same state everywhere: whoever starts it in this epoch knows whether it needs the lease.
    let armed = change.look(id).map(|grain| change.cluster.needs_lease_on(grain, Some(to)))?;
    let members: BTreeSet<NodeId> = change.cluster.nodes.keys().copied().collect();
    let grain = change.grain(id)?;
    if !mutant::is(Mutant::EpochStays) {
        grain.epoch = grain.epoch.next();
    }
    grain.armed = armed;
    // The old owner keeps what it has: as a copy when it comes back, one increment away.
    grain.standbys.extend(grain.owner.filter(|owner| members.contains(owner)));
    grain.standbys.remove(&to);
    grain.owner = Some(to);
    grain.stage = stage;
    grain.declined = Declined::No;
    grain.started = None;
    grain.ailment = None;
    let tenure = Tenure { epoch: grain.epoch, node: to, base: base.cloned() };
    grain.tenures.push(tenure);
    if grain.tenures.len() > TENURES_MAX {
        grain.tenures.remove(0);
    }
    Ok(())
}

fn placeable(grain: &Grain) -> Result<(), Refusal> {
    if grain.stage == Stage::Unplaced && grain.owner.is_none() && !grain.born {
        return Ok(());
    }
    Err(Refusal::out_of_date("it has an owner already"))
}

/// Released by its owner, to this node, with this last state.
fn released_to(
    grain: &Grain,
    to: NodeId,
    operation: OperationId,
    base: Option<&Snapshot>,
) -> Result<(), Refusal> {
    match &grain.stage {
        Stage::Released { to: promised, operation: of, last, .. }
            if mutant::is(Mutant::MovesToAnybody)
                || *promised == to
                    && *of == operation
                    && base.is_some_and(|base| base.guid == last.guid) =>
        {
            Ok(())
        }
        Stage::Released { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => Err(Refusal::out_of_date("it is not released to this node")),
    }
}

/// The owner's lease has surely ended, or a person's word says that it is off.
fn given_up(cluster: &Cluster, grain: &Grain, base: Option<&Snapshot>) -> Result<(), Refusal> {
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    let Some(owner) = owner else {
        return Err(Refusal::out_of_date("it has no owner"));
    };
    let declined = grain.declined == Declined::Sure;
    let alive = !owner.liveness.is_surely_stopped() && !mutant::is(Mutant::GivesAlive);
    if alive && !declined {
        return Err(Refusal::out_of_date("its owner may still run it"));
    }
    // What never began needs nobody's word.
    if !grain.armed && !declined && !attested(cluster, grain) && !mutant::is(Mutant::TakesUnarmed) {
        return Err(Refusal::out_of_date(
            "it runs without a lease and nobody said that its owner is off",
        ));
    }
    if base.is_none() {
        return Err(Refusal::out_of_date("no state to go on from"));
    }
    if brake(cluster).is_some() && failover_of(cluster, grain).is_none() {
        return Err(Refusal::out_of_date("more than half of the nodes are silent"));
    }
    Ok(())
}

/// The failover under way that a person asked for.
fn failover_of<'a>(cluster: &'a Cluster, grain: &Grain) -> Option<&'a Work> {
    let operation = grain.operation.and_then(|id| cluster.operations.get(&id))?;
    let is_one = matches!(operation.work, Work::Failover { .. }) && !operation.state.is_final();
    is_one.then_some(&operation.work)
}

/// Whether it is known that the old owner is off, and so that what needs no lease does not run there any more: by a proof of its own, or
/// by a person's word in a failover that is under way.
pub(crate) fn attested(cluster: &Cluster, grain: &Grain) -> bool {
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    if owner.is_some_and(|owner| owner.off.is_some()) {
        return true;
    }
    let work = failover_of(cluster, grain);
    matches!(work, Some(Work::Failover { owner_is_off: true, .. }))
}

fn tell(
    change: &mut Change<'_>,
    id: GrainId,
    from: Option<NodeId>,
    to: NodeId,
    cause: &AssignCause,
) -> Result<Outcome, Refusal> {
    let (name, epoch) = change.look(id).map(|grain| (grain.name.clone(), grain.epoch))?;
    let target = change.cluster.node_name(to);
    let source = from.map_or_else(String::new, |from| change.cluster.node_name(from));
    let about = About { node: Some(to), ..About::grain(id) };
    match cause {
        AssignCause::Place => {
            let message = format!("grain {name} is placed on node {target}, epoch {epoch}");
            change.tell(Topic::Grain, Severity::Info, about, message);
        }
        AssignCause::Migrate { .. } => {
            let message =
                format!("grain {name}: {source} -> {target}, epoch {epoch}, nothing is lost");
            change.tell(Topic::Grain, Severity::Info, about, message);
        }
        AssignCause::Promote { .. } => {
            let written = change.look(id)?.tenures.last().and_then(|it| it.base.as_ref());
            let written = written.map_or(epoch, |base| base.name.epoch);
            let message = format!(
                "grain {name}: what was set aside on {target} in epoch {written} becomes its head, epoch {epoch}; what it had on {source} is set aside there"
            );
            change.tell(Topic::Orphan, Severity::Warning, about, message);
        }
        AssignCause::Failover { loss } => {
            let at = change.at;
            let from = from.unwrap_or(to);
            change.grain(id)?.last_failover =
                Some(FailoverRecord { at, from, to, epoch, loss: loss.clone() });
            let lost = lost(loss.as_ref());
            let message = format!("grain {name}: {source} -> {target}, epoch {epoch}, {lost}");
            change.tell(Topic::Failover, Severity::Critical, about, message);
        }
    }
    Ok(Outcome::Done)
}

fn lost(loss: Option<&Loss>) -> String {
    match loss {
        None => "nothing is lost".to_owned(),
        Some(loss) => {
            let window = scrap_schema::unit::Span::from_ms(loss.window_ms).rounded_up();
            let less = loss.if_silence_was_the_end();
            let less = less.map(|less| format!("; {less}")).unwrap_or_default();
            format!("at most {window} of writes are lost (after {}{less})", loss.from)
        }
    }
}

fn remember_copy(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    node: NodeId,
    stands: Option<Option<Guid>>,
) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    if grain.away.get(&node) == stands.as_ref() {
        return Ok(Outcome::Unchanged);
    }
    if stands.is_some() && !grain.receivers().contains(&node) {
        return Err(Refusal::out_of_date("that node keeps no copy of it"));
    }
    let away = &mut change.grain(id)?.away;
    match stands {
        Some(stands) => away.insert(node, stands),
        None => away.remove(&node),
    };
    Ok(Outcome::Done)
}

/// From now on it is not given away by itself, so its owner may take its deadline away: never the other way round.
fn unarm(change: &mut Change<'_>, id: GrainId, epoch: Epoch) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    if !grain.armed {
        return Ok(Outcome::Unchanged);
    }
    if change.cluster.needs_lease(grain) {
        return Err(Refusal::out_of_date("it needs its lease"));
    }
    change.grain(id)?.armed = false;
    Ok(Outcome::Done)
}

fn set_standbys(
    change: &mut Change<'_>,
    id: GrainId,
    epoch: Epoch,
    standbys: &BTreeSet<NodeId>,
) -> Result<Outcome, Refusal> {
    let grain = change.look_in(id, epoch)?;
    if grain.standbys == *standbys {
        return Ok(Outcome::Unchanged);
    }
    if let Some(node) = standbys.iter().find(|node| !change.cluster.nodes.contains_key(node)) {
        return Err(Refusal::no_node(node));
    }
    let of_owner = grain.owner.is_some_and(|owner| standbys.contains(&owner));
    if of_owner && !mutant::is(Mutant::OwnerKeepsCopy) {
        return Err(Refusal::out_of_date("its owner cannot keep a copy of it"));
    }
    let name = grain.name.clone();
    let nodes: Vec<_> = standbys.iter().map(|node| change.cluster.node_name(*node)).collect();
    change.grain(id)?.standbys.clone_from(standbys);
    let message = match nodes.is_empty() {
        true => format!("grain {name} has no copies"),
        false => format!("grain {name} keeps copies on {}", nodes.join(", ")),
    };
    change.tell(Topic::Replication, Severity::Info, About::grain(id), message);
    Ok(Outcome::Done)
}
