//! The shape of a dataset: first one, promotion, demotion, divergence, removal; snapshots that people and hand-overs need.

use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, Name, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};

use super::facts::{last_state, working};
use super::{DataFacts, DataRole, Here, HostAction, HostFacts, Lane, OrphanFacts};
use crate::cluster::{Declined, Grain, Stage};
use crate::fail_over::on_main_line;
use crate::mutant::{self, Mutant};

pub(super) fn decide(here: Here<'_>, actions: &mut Vec<HostAction>) {
    if here.owns() && here.grain.declined != Declined::No {
        return assure(here, actions);
    }
    match (here.owns(), here.data) {
        (true, None) => first(here, actions),
        (true, Some(data)) => owned(here, data, actions),
        (false, Some(data)) => foreign(here, data, actions),
        (false, None) => rebuild(here, actions),
    }
}

/// A copy that is not here, while what was set aside here goes on from where the grain's line forked: its setting aside was broken
/// off, or the copy was needed no more for a while. It begins at the fork again, and nothing has to travel for that.
fn rebuild(here: Here<'_>, actions: &mut Vec<HostAction>) {
    let grain = here.grain;
    let mut asides = here.host.orphans.iter().rev().filter(|((of, _), _)| *of == grain.id);
    let found = asides.find_map(|(_, orphan)| {
        let mut bases = grain.tenures.iter().filter_map(|tenure| tenure.base.as_ref());
        let base = bases.find(|base| Some(base.guid) == orphan.base)?;
        on_main_line(grain, base).then_some((orphan.base, orphan.head.name.clone()))
    });
    let wanted = grain.receivers().contains(&here.me) && is_idle(here);
    if let Some((base, name)) = found.filter(|_| wanted) {
        actions.push(HostAction::SetAside { grain: grain.id, base, name });
    }
}

/// The name of the next snapshot.
pub(super) fn next_name(epoch: Epoch, data: &DataFacts, purpose: Purpose) -> SnapshotName {
    // Also past what somebody destroyed here: others may have it.
    let all = data.snapshots.iter().chain(&data.bookmarks);
    let last = all.map(|snapshot| snapshot.name.seq).max().unwrap_or(0);
    SnapshotName { epoch, seq: last.saturating_add(1), purpose }
}

/// A grain that was born elsewhere never gets an empty dataset: then its data are missing, and only a person can help.
fn first(here: Here<'_>, actions: &mut Vec<HostAction>) {
    if here.grain.born && !mutant::is(Mutant::CreatesEmpty) {
        let begun = here.grain.tenures.iter().rev().find(|it| it.epoch == here.grain.epoch);
        let base = begun.and_then(|tenure| tenure.base.as_ref());
        return match base.and_then(|base| aside_that_ends(here, base)) {
            Some((epoch, _)) => take_back(here, epoch, actions),
            None => decline(here, base, actions),
        };
    }
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    match &here.grain.stage {
        Stage::Cloning { operation, from, snapshot, orphan: None } => {
            clone(here, *operation, *from, *snapshot, actions);
        }
        Stage::Cloning { operation, from, snapshot, orphan: Some(orphan) } => {
            fork(here, *operation, (*from, *orphan), *snapshot, actions);
        }
        Stage::Settled => match here.grain.template {
            None => actions.push(HostAction::Create { grain, epoch }),
            // Once the template is here; until then it is on its way.
            Some(template) => {
                let here = here.host.templates.get(&template).copied();
                let cloned = here.map(|snapshot| HostAction::CloneTemplate {
                    grain,
                    epoch,
                    template,
                    snapshot,
                });
                actions.extend(cloned);
            }
        },
        Stage::Unplaced
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. } => (),
    }
}

/// A new grain out of what was set aside here.
fn fork(
    here: Here<'_>,
    operation: OperationId,
    from: (GrainId, Epoch),
    snapshot: Option<Guid>,
    actions: &mut Vec<HostAction>,
) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let snapshot = here.host.orphans.get(&from).zip(snapshot).map(|(_, snapshot)| snapshot);
    let (from, orphan) = (from.0, Some(from.1));
    match snapshot {
        Some(snapshot) => {
            actions.push(HostAction::CloneFrom { grain, epoch, from, orphan, snapshot });
        }
        None => {
            let why = "what was set aside is not here any more".to_owned();
            let node = here.me;
            let command = Box::new(Command::OperationStuck { grain, operation, node, why });
            actions.push(HostAction::Tell { command });
        }
    }
}

fn clone(
    here: Here<'_>,
    operation: OperationId,
    from: GrainId,
    snapshot: Option<Guid>,
    actions: &mut Vec<HostAction>,
) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let Some(source) = here.host.data.get(&from) else {
        let why =
            format!("the data of grain {} are not here any more", here.cluster.grain_name(from));
        let node = here.me;
        let command = Box::new(Command::OperationStuck { grain, operation, node, why });
        return actions.push(HostAction::Tell { command });
    };
    let frozen = source.last_for(operation).map(|frozen| frozen.guid);
    // The source may have moved away in the meantime: then its newest state here is taken as it is.
    let newest = match source.role {
        DataRole::Owner => None,
        DataRole::Standby => source.snapshots.last().map(|newest| newest.guid),
    };
    match snapshot.or(frozen).or(newest) {
        Some(snapshot) => {
            let orphan = None;
            actions.push(HostAction::CloneFrom { grain, epoch, from, orphan, snapshot });
        }
        None if source.role == DataRole::Standby => (),
        None => {
            let epoch = here.cluster.grains.get(&from).map_or(epoch, |source| source.epoch);
            let name = next_name(epoch, source, Purpose::Final(operation));
            actions.push(HostAction::Snapshot { grain: from, name });
        }
    }
}

fn owned(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    // What ran on it in an epoch before is stopped first.
    let at_rest = !here.is_alive() && !here.host.busy.contains(&Lane::Run(grain));
    if data.epoch > epoch || !at_rest && data.epoch != epoch {
        return;
    }
    let base = here.grain.tenures.iter().rev().find(|tenure| tenure.epoch == epoch);
    let base = base.and_then(|tenure| tenure.base.as_ref());
    match (data.role, data.epoch == epoch) {
        (DataRole::Owner, true) => own_head(here, data, actions),
        (DataRole::Standby, _) => match base {
            Some(base)
                if mutant::is(Mutant::PromotesAnything)
                    || data.snapshots.iter().any(|snapshot| snapshot.guid == base.guid) =>
            {
                actions.push(HostAction::Promote { grain, epoch });
            }
            Some(_) | None => match base.and_then(|base| aside_that_ends(here, base)) {
                Some(aside) => make_way(here, data, aside, actions),
                // The state that it should begin from is not here: nothing is invented.
                None => decline(here, base, actions),
            },
        },
        // Its own older head: the same line if the new epoch began from it, diverged otherwise.
        (DataRole::Owner, false) => match base {
            None => actions.push(HostAction::Promote { grain, epoch }),
            Some(_) => leave_behind(here, data, actions),
        },
    }
}

/// What was set aside here and ends at a state.
fn aside_that_ends<'a>(here: Here<'a>, at: &Snapshot) -> Option<(Epoch, &'a OrphanFacts)> {
    let mut own = here.host.orphans.iter().filter(|((of, _), _)| *of == here.grain.id);
    let found = own.find(|(_, orphan)| orphan.head.guid == at.guid);
    found.map(|((_, epoch), orphan)| (*epoch, orphan))
}

/// The epoch begins from what was set aside here: the copy that lies in its place goes if that has all of it, and is set aside
/// otherwise.
fn make_way(
    here: Here<'_>,
    data: &DataFacts,
    (epoch, orphan): (Epoch, &OrphanFacts),
    actions: &mut Vec<HostAction>,
) {
    let has = |snapshot: &&Snapshot| orphan.line.contains(&snapshot.guid);
    if data.snapshots.iter().all(|snapshot| has(&snapshot)) {
        return take_back(here, epoch, actions);
    }
    let common = data.snapshots.iter().rev().find(has).map(|snapshot| snapshot.guid);
    put_aside(here, data, common, actions);
}

fn take_back(here: Here<'_>, epoch: Epoch, actions: &mut Vec<HostAction>) {
    if !here.is_alive() && here.is_free(Lane::Run(here.grain.id)) {
        actions.push(HostAction::TakeBack { grain: here.grain.id, epoch });
    }
}

/// Says that the present epoch cannot begin here: what was decided by an older report has been set aside, or pruned, or destroyed
/// since. Only an epoch that nobody has begun yet can be declined.
fn decline(here: Here<'_>, base: Option<&Snapshot>, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    if base.is_some()
        && is_idle(here)
        && here.grain.stage == Stage::Settled
        && here.grain.started.is_none()
        && here.is_free(Lane::Tell(grain))
    {
        let command = Command::GrainDeclined { grain, epoch, sure: false };
        actions.push(HostAction::Tell { command: Box::new(command) });
    }
}

/// The epoch is declined and this node knows it: it begins nothing any more. What had begun in the moment before is stopped first.
fn assure(here: Here<'_>, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    if here.grain.declined == Declined::Said && is_idle(here) && here.is_free(Lane::Tell(grain)) {
        let command = Command::GrainDeclined { grain, epoch, sure: true };
        actions.push(HostAction::Tell { command: Box::new(command) });
    }
}

/// Whether nothing of the grain runs here and nothing is being done to it.
fn is_idle(here: Here<'_>) -> bool {
    let lanes = [Lane::Shape(here.grain.id), Lane::Run(here.grain.id)];
    !here.is_alive() && lanes.into_iter().all(|lane| here.is_free(lane))
}

/// The writable dataset of the present epoch: frozen for a hand-over, a restore, or a person.
fn own_head(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let at_rest = !here.is_alive() && !here.host.busy.contains(&Lane::Run(grain));
    match &here.grain.stage {
        Stage::Quiescing { operation, .. }
            if at_rest
                || mutant::is(Mutant::KeepsEarlyState)
                || mutant::is(Mutant::ReleasesRunning) =>
        {
            freeze(here, data, *operation, actions);
        }
        Stage::Restoring { operation, snapshot }
            if at_rest || mutant::is(Mutant::RestoresRunning) =>
        {
            restore(here, data, *operation, *snapshot, actions);
        }
        Stage::Quiescing { .. }
        | Stage::Restoring { .. }
        | Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Cloning { .. } => (),
    }
    if let Some(operation) = working(here)
        && let Work::Snapshot { name, .. } = &operation.work
        && !has_user_snapshot(data, name)
    {
        let name = next_name(epoch, data, Purpose::User(name.clone()));
        actions.push(HostAction::Snapshot { grain, name });
    }
    if data.described < here.grain.generation {
        actions.push(HostAction::Describe { grain, generation: here.grain.generation });
    }
}

fn has_user_snapshot(data: &DataFacts, name: &Name) -> bool {
    let purpose = Purpose::User(name.clone());
    data.snapshots.iter().any(|snapshot| snapshot.name.purpose == purpose)
}

/// Freezes the last state of a stopped grain. One that is there already counts only if nothing was written since.
fn freeze(here: Here<'_>, data: &DataFacts, operation: OperationId, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    if last_state(here, operation).is_some() {
        return;
    }
    let newest = data.snapshots.last();
    let ours = newest.is_some_and(|newest| {
        newest.name.purpose == Purpose::Final(operation) && newest.name.epoch == epoch
    });
    let stopped = here.run.and_then(|run| run.stopped);
    let looked =
        data.dirty.is_some_and(|dirty| stopped.is_none_or(|stopped| dirty.probed >= stopped));
    if ours && !looked && !mutant::is(Mutant::KeepsEarlyState) {
        actions.push(HostAction::Probe { grain });
    } else {
        let name = next_name(epoch, data, Purpose::Final(operation));
        actions.push(HostAction::Snapshot { grain, name });
    }
}

fn restore(
    here: Here<'_>,
    data: &DataFacts,
    operation: OperationId,
    snapshot: Guid,
    actions: &mut Vec<HostAction>,
) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    if data.restored == Some(operation) {
        return;
    }
    if data.last_for(operation).is_none() {
        let name = next_name(epoch, data, Purpose::Final(operation));
        actions.push(HostAction::Snapshot { grain, name });
    } else if data.snapshots.iter().any(|known| known.guid == snapshot) {
        actions.push(HostAction::Restore { grain, operation, snapshot });
    } else if here.is_free(Lane::Tell(grain)) {
        let why = format!("there is no snapshot {snapshot} here");
        let node = here.me;
        actions.push(HostAction::Tell {
            command: Box::new(Command::OperationStuck { grain, operation, node, why }),
        });
    }
}

/// Data of a grain that another node owns: a copy, or a head that was left behind by a change of owner.
fn foreign(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let grain = here.grain.id;
    let at_rest = !here.is_alive() && !here.host.busy.contains(&Lane::Run(grain));
    if !at_rest || data.epoch > here.grain.epoch {
        return;
    }
    match data.role {
        DataRole::Owner if is_orphaned(here) && is_on_line(here, data) => {
            surrender(here, data, actions);
        }
        DataRole::Owner => leave_behind(here, data, actions),
        DataRole::Standby => {
            let diverged =
                data.snapshots.last().is_some_and(|head| !on_main_line(here.grain, head));
            if diverged {
                set_aside(here, data, actions);
            } else if is_surplus(here) {
                actions.push(HostAction::Destroy { grain });
            }
        }
    }
}

/// Whether its owner was left behind when the cluster was begun anew: then what is here may be all that is left of the newest data.
fn is_orphaned(here: Here<'_>) -> bool {
    let owner = here.grain.owner.and_then(|owner| here.cluster.nodes.get(&owner));
    owner.is_some_and(|owner| here.cluster.left_behind(owner))
}

fn is_on_line(here: Here<'_>, data: &DataFacts) -> bool {
    data.snapshots.last().is_none_or(|head| on_main_line(here.grain, head))
}

/// The head of an owner that was left behind, on the machine that it was, which is another node now. Nobody has gone on from anything
/// else: it becomes a copy with everything that is in it, and a person can choose it.
fn surrender(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let stopped = here.run.and_then(|run| run.stopped);
    let looked = data.dirty.filter(|dirty| stopped.is_none_or(|stopped| dirty.probed >= stopped));
    actions.push(match (data.snapshots.is_empty(), looked) {
        (false, None) => HostAction::Probe { grain },
        (false, Some(dirty)) if dirty.bytes.0 == 0 => HostAction::Demote { grain, epoch },
        (true, _) | (false, Some(_)) => {
            let name = next_name(data.epoch, data, Purpose::Replication);
            HostAction::Snapshot { grain, name }
        }
    });
}

/// Whether the cluster has committed that this copy is kept by others instead. Never while its owner was left behind.
fn is_surplus(here: Here<'_>) -> bool {
    !is_orphaned(here)
        && here.grain.stage == Stage::Settled
        && here.grain.trashed_until.is_none()
        && !here.grain.standbys.is_empty()
        && (!here.grain.receivers().contains(&here.me) || mutant::is(Mutant::DestroysWanted))
}

/// A head whose epoch is over: a copy if nothing was written beyond the state that the next owner began from, else set aside.
fn leave_behind(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let base = fork_of(here, data);
    let at_base = base.is_some() && data.snapshots.last().map(|head| head.guid) == base;
    let stopped = here.run.and_then(|run| run.stopped);
    let looked = data.dirty.filter(|dirty| stopped.is_none_or(|stopped| dirty.probed >= stopped));
    match (at_base, looked) {
        (true, Some(_) | None) if mutant::is(Mutant::OverwritesHead) => {
            actions.push(HostAction::Demote { grain, epoch });
        }
        (true, None) => actions.push(HostAction::Probe { grain }),
        (true, Some(dirty)) if dirty.bytes.0 == 0 => {
            actions.push(HostAction::Demote { grain, epoch })
        }
        (true, Some(_)) | (false, _) => set_aside(here, data, actions),
    }
}

/// The newest snapshot here that is on the grain's own line.
fn fork_of(here: Here<'_>, data: &DataFacts) -> Option<Guid> {
    let on_line = |snapshot: &&Snapshot| on_main_line(here.grain, snapshot);
    data.snapshots.iter().rev().find(on_line).map(|snapshot| snapshot.guid)
}

fn set_aside(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    put_aside(here, data, fork_of(here, data), actions);
}

fn put_aside(here: Here<'_>, data: &DataFacts, base: Option<Guid>, actions: &mut Vec<HostAction>) {
    let grain = here.grain.id;
    // No place for it: only a person can make one, by discarding what was set aside before.
    let Some(plan) = SetAside::plan(here.host, here.grain, data, base) else { return };
    actions.push(match plan.epoch {
        Some(epoch) => HostAction::Demote { grain, epoch },
        None => HostAction::SetAside { grain, base: plan.base, name: plan.name },
    });
}

/// How data here are set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// A copy is given this epoch first: it diverges twice without having received anything of another one between, and its second
    /// orphan needs an epoch of its own.
    pub epoch: Option<Epoch>,
    /// What stays: everything up to this state; `None`: nothing.
    pub base: Option<Guid>,
    /// The snapshot that ends what is set aside.
    pub name: SnapshotName,
}

impl SetAside {
    /// `None`: data of its epoch are set aside here already, and of the grain's present one too.
    #[must_use]
    pub fn plan(
        host: &HostFacts,
        grain: &Grain,
        data: &DataFacts,
        base: Option<Guid>,
    ) -> Option<Self> {
        let is_taken = |epoch| host.orphans.contains_key(&(grain.id, epoch));
        let renewed = data.role == DataRole::Standby && is_taken(data.epoch);
        let epoch = if renewed { grain.epoch } else { data.epoch };
        if renewed && (epoch == data.epoch || is_taken(epoch)) {
            return None;
        }
        // The name of a call that was broken off is kept: by it the host knows its own half-done work. What became the head again
        // ends with such a name too.
        let begun = data
            .snapshots
            .last()
            .filter(|head| head.name.purpose == Purpose::Orphan && !grain.is_base(head.guid));
        let name = begun.map(|begun| begun.name.clone());
        let name = name.unwrap_or_else(|| next_name(epoch, data, Purpose::Orphan));
        Some(Self { epoch: renewed.then_some(epoch), base, name })
    }
}
