//! What a host knows of itself, and which of it the cluster has to hear.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId, TemplateId};
use scrap_schema::node::PoolFacts;
use scrap_schema::operation::{Operation, Work};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::{Bytes, Span};

use super::{Here, HostAction, Lane};
use crate::cluster::Stage;
use crate::lease::Lease;
use crate::mutant::{self, Mutant};

/// What a host knows of itself. Gathered by the agent; everything here is on stable storage or measured now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// The node's lease.
    pub lease: Lease,
    /// The deadline that running grains were last given.
    pub extended: Option<BootTime>,
    /// Datasets of grains.
    pub data: BTreeMap<GrainId, DataFacts>,
    /// Diverged heads that were set aside here.
    pub orphans: BTreeMap<(GrainId, Epoch), OrphanFacts>,
    /// Those that this daemon has removed, or found removed.
    pub discarded: BTreeSet<(GrainId, Epoch)>,
    /// Grains that run or ran here since the daemon started.
    pub runs: BTreeMap<GrainId, RunFacts>,
    /// What is known of copies on other nodes.
    pub copies: BTreeMap<(GrainId, NodeId), CopyFacts>,
    /// Templates that are sealed here, with their snapshots.
    pub templates: BTreeMap<TemplateId, Guid>,
    /// How the storage is; `None`: not looked yet.
    pub pool: Option<PoolFacts>,
    /// Lanes in which something is under way.
    pub busy: BTreeSet<Lane>,
    /// Lanes whose last action failed.
    pub failed: BTreeMap<Lane, Failure>,
}

/// What a dataset is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataRole {
    /// Its head is writable.
    Owner,
    /// It only moves by receiving.
    Standby,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFacts {
    /// What for.
    pub role: DataRole,
    /// The epoch in which it got this role.
    pub epoch: Epoch,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// States that somebody destroyed and that an increment can still begin at, oldest first.
    pub bookmarks: Vec<Snapshot>,
    /// Tags and the snapshots that they hold.
    pub held: BTreeMap<String, Guid>,
    /// Space that it takes.
    pub used: Bytes,
    /// What was written since the newest snapshot, when last looked; `None`: not looked since the newest snapshot or the daemon's start.
    pub dirty: Option<Dirty>,
    /// The operation whose restore was last completed here.
    pub restored: Option<OperationId>,
    /// The generation of the spec that is written beside the data.
    pub described: u64,
}

/// What was written since the newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirty {
    /// Upper bound of bytes; zero: nothing.
    pub bytes: Bytes,
    /// When the look began, for people.
    pub at: Timestamp,
    /// When the look began, for deadlines.
    pub probed: BootTime,
}

/// Up to when nothing had been written beyond a snapshot, by the last look that found nothing. What later looks find takes
/// nothing of that away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks(BTreeMap<Guid, Timestamp>);

impl Looks {
    /// Takes in a look into a dataset that had these snapshots.
    pub fn saw(&mut self, snapshots: &[Snapshot], dirty: Dirty) {
        self.0.retain(|guid, _| snapshots.iter().any(|snapshot| snapshot.guid == *guid));
        if let (Some(newest), 0) = (snapshots.last(), dirty.bytes.0) {
            let until = self.0.entry(newest.guid).or_insert(dirty.at);
            *until = dirty.at.max(*until);
        }
    }

    /// Everything that was written before this moment is in the snapshot.
    #[must_use]
    pub fn current_to(&self, snapshot: &Snapshot) -> Timestamp {
        let seen = self.0.get(&snapshot.guid).copied();
        seen.map_or(snapshot.created, |seen| seen.max(snapshot.created))
    }
}

/// A diverged head that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanFacts {
    /// Its last state.
    pub head: Snapshot,
    /// The newest snapshot in common with the grain's line.
    pub base: Option<Guid>,
    /// All its snapshots, oldest first.
    pub line: Vec<Guid>,
    /// Bytes that only it has, about; `None`: not measured yet.
    pub newer: Option<Bytes>,
    /// Space that it takes.
    pub used: Bytes,
}

/// A grain that runs or ran here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// In which epoch it was started.
    pub epoch: Epoch,
    /// Whether a process of it may be alive.
    pub alive: bool,
    /// Whether its program runs (it may be pausing before a restart).
    pub up: bool,
    /// Whether it must die by itself when the lease ends.
    pub armed: bool,
    /// When it first answered in this run; without a health check, when it was started.
    pub ready: Option<Timestamp>,
    /// Since when this run goes on: its start, or when the daemon first saw it.
    pub since: BootTime,
    /// Result of its last health check.
    pub healthy: Option<bool>,
    /// How many checks have failed in a row, those within the grace left out.
    pub failing: u32,
    /// What the last failed check said; `None` after one that passed.
    pub ailment: Option<String>,
    /// How often in a row it was stopped here because it was not well. Zero once a check has passed, and after a stop for any
    /// other reason.
    pub relapses: u32,
    /// When the order to stop it was given.
    pub stopping: Option<Timestamp>,
    /// When it was verified stopped.
    pub stopped: Option<BootTime>,
}

/// What is known of a copy on another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFacts {
    /// Its snapshots, oldest first; `None`: not asked yet.
    pub snapshots: Option<Vec<Guid>>,
    /// When it last said so; `None`: what it has is known from what was sent.
    pub asked: Option<BootTime>,
    /// How often in a row it has said the same.
    pub said: u32,
    /// When it last said what it has, or took a stream.
    pub heard: Option<BootTime>,
}

/// What was said longer ago than this is not said in a row with what is said now: a copy that gets no streams is asked more seldom.
const IN_A_ROW: Span = Span::from_secs(10);

impl CopyFacts {
    /// Takes what it has just said that it has.
    pub fn says(&mut self, snapshots: Vec<Guid>, now: BootTime) {
        let same = self.snapshots.as_ref() == Some(&snapshots)
            && self.asked.is_none_or(|asked| now.since(asked) < IN_A_ROW);
        self.said = if same { self.said.saturating_add(1) } else { 1 };
        self.snapshots = Some(snapshots);
        self.asked = Some(now);
        self.heard = Some(now);
    }

    /// Notes that it took a stream.
    pub fn took(&mut self, guid: Guid, now: BootTime) {
        self.said = 0;
        self.heard = Some(now);
        let snapshots = self.snapshots.get_or_insert_default();
        if !snapshots.contains(&guid) {
            snapshots.push(guid);
        }
    }
}

/// How often a snapshot or a restore that a person asked for is tried.
const GIVE_UP_AFTER: u32 = 6;

/// An action that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How often in a row.
    pub attempts: u32,
    /// Not again before.
    pub retry_at: BootTime,
    /// Why, in words.
    pub why: String,
}

impl HostFacts {
    /// The newest snapshot of a dataset.
    #[must_use]
    pub fn newest(&self, grain: GrainId) -> Option<&Snapshot> {
        self.data.get(&grain).and_then(|data| data.snapshots.last())
    }
}

impl DataFacts {
    /// The last state that was frozen for an operation.
    #[must_use]
    pub fn last_for(&self, operation: OperationId) -> Option<&Snapshot> {
        let purpose = Purpose::Final(operation);
        self.snapshots.iter().rev().find(|snapshot| snapshot.name.purpose == purpose)
    }
}

/// The operation that works on the grain, if it is still under way.
pub(super) fn working<'a>(here: Here<'a>) -> Option<&'a Operation> {
    let operation = here.grain.operation.and_then(|id| here.cluster.operations.get(&id));
    operation.filter(|operation| !operation.state.is_final())
}

/// Facts about a grain that the cluster does not have yet.
pub(super) fn tell(here: Here<'_>, actions: &mut Vec<HostAction>) {
    if here.owns()
        && let Some(command) = fact(here)
    {
        actions.push(HostAction::Tell { command: Box::new(command) });
    }
}

fn fact(here: Here<'_>) -> Option<Command> {
    let (grain, epoch, seen) = (here.grain.id, here.grain.epoch, here.seen());
    if here.holds_head() && !here.grain.born {
        return Some(Command::GrainBorn { grain, epoch });
    }
    if here.cluster.needs_lease(here.grain) && !here.grain.armed && is_disciplined(here) {
        return Some(Command::GrainArmed { grain, epoch, seen });
    }
    ran(here)
        .or_else(|| handed_over(here))
        .or_else(|| worked(here))
        .or_else(|| given_up(here))
        .or_else(|| health(here))
}

/// That it is not well any more, or well again: the change only.
fn health(here: Here<'_>) -> Option<Command> {
    let (grain, epoch, seen) = (here.grain.id, here.grain.epoch, here.seen());
    let run = here.run.filter(|run| run.epoch == epoch)?;
    match &here.grain.ailment {
        None => {
            let ailment = Some(unwell(here)?);
            Some(Command::GrainHealth { grain, epoch, ailment, seen })
        }
        Some(_) => {
            let well = run.healthy == Some(true) || here.grain.spec.health.is_none();
            well.then_some(Command::GrainHealth { grain, epoch, ailment: None, seen })
        }
    }
}

/// So many failed checks in a row, and a grain counts as not well: one alone may be bad luck.
const UNWELL_AFTER: u32 = 3;

/// Why a grain that runs here is not well, if it is not. What happens within the grace after its start does not count.
pub(super) fn unwell(here: Here<'_>) -> Option<String> {
    let health = here.grain.spec.health.as_ref()?;
    let run = here.run.filter(|run| run.alive && run.epoch == here.grain.epoch)?;
    let counts = here.now.boot.since(run.since) >= health.grace;
    let fails = run.healthy == Some(false) && run.failing >= UNWELL_AFTER;
    let said = || run.ailment.clone().unwrap_or_else(|| "its checks fail".to_owned());
    (counts && fails).then(said)
}

/// Work for a person that has failed here so often that it is given up: otherwise nothing else could be asked of the grain.
fn given_up(here: Here<'_>) -> Option<Command> {
    let operation = working(here)?;
    let lanes = match &operation.work {
        Work::Snapshot { .. } | Work::Restore { .. } => {
            [Lane::Snap(here.grain.id), Lane::Shape(here.grain.id)]
        }
        Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Migrate { .. }
        | Work::Failover { .. }
        | Work::Drain { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => return None,
    };
    let mut failures = lanes.iter().filter_map(|lane| here.host.failed.get(lane));
    let failure = failures.find(|failure| failure.attempts >= GIVE_UP_AFTER)?;
    let (grain, operation, node) = (here.grain.id, operation.id, here.me);
    Some(Command::OperationStuck { grain, operation, node, why: failure.why.clone() })
}

/// Whether everything of the grain that runs here would die by itself with the lease.
fn is_disciplined(here: Here<'_>) -> bool {
    let held = here.host.lease.is_held(here.cluster.timing(), here.now.boot);
    // A start that is under way may have been ordered without a deadline.
    let starting = here.host.busy.contains(&Lane::Run(here.grain.id));
    let armed = here.run.is_none_or(|run| !run.alive || run.armed);
    held && (!starting && armed || mutant::is(Mutant::ArmsUndisciplined))
}

/// Started, stopped.
fn ran(here: Here<'_>) -> Option<Command> {
    let (grain, epoch, seen) = (here.grain.id, here.grain.epoch, here.seen());
    let at_rest = !here.is_alive() && !here.host.busy.contains(&Lane::Run(grain));
    match here.grain.stage {
        Stage::Restarting { .. } => {
            at_rest.then_some(Command::GrainStopped { grain, epoch, at: here.now.wall, seen })
        }
        Stage::Settled | Stage::Warming { .. } | Stage::Landing { .. } => {
            let run = here.run.filter(|run| run.epoch == epoch && run.alive);
            if !here.grain.wants_to_run() {
                let stopped = at_rest && here.grain.started.is_some();
                let at = here.now.wall;
                return stopped.then_some(Command::GrainStopped { grain, epoch, at, seen });
            }
            if here.grain.started.is_some() {
                return None;
            }
            let at = run.filter(|run| stays_up(here, run)).and_then(|run| run.ready)?;
            Some(Command::GrainStarted { grain, epoch, at, seen })
        }
        Stage::Unplaced
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => None,
    }
}

/// How long a program without a health check must have run before it counts as started: one that cannot use its port or read
/// its data has ended by then.
const STAYS_UP: Span = Span::from_secs(1);

/// Whether a run is more than a program that was begun. A health check that passed says it; without one, time does.
fn stays_up(here: Here<'_>, run: &RunFacts) -> bool {
    let for_long = run.ready.is_some_and(|ready| here.now.wall.since(ready) >= STAYS_UP);
    here.grain.spec.health.is_some() || (run.up && for_long)
}

/// The last state before a hand-over: the newest snapshot, taken for this operation after the grain was stopped, nothing written since.
pub(super) fn last_state<'a>(here: Here<'a>, operation: OperationId) -> Option<&'a Snapshot> {
    let data = here.data?;
    let newest = data.snapshots.last()?;
    if newest.name.purpose != Purpose::Final(operation) || newest.name.epoch != here.grain.epoch {
        return None;
    }
    let dirty = data.dirty.filter(|dirty| dirty.bytes.0 == 0)?;
    let stopped = here.run.and_then(|run| run.stopped);
    // A look from before the stop says nothing about what was written until then.
    stopped.is_none_or(|stopped| dirty.probed >= stopped).then_some(newest)
}

fn handed_over(here: Here<'_>) -> Option<Command> {
    let Stage::Quiescing { operation, ordered, .. } = here.grain.stage else { return None };
    // A start that is under way may come up after the last look at what runs.
    let at_rest = !here.is_alive() && !here.host.busy.contains(&Lane::Run(here.grain.id));
    let at_rest = at_rest || mutant::is(Mutant::ReleasesRunning);
    if !at_rest || !here.holds_head() {
        return None;
    }
    let last = last_state(here, operation)?.clone();
    let stopping = here.run.and_then(|run| run.stopping).unwrap_or(last.created);
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let quiesced = ordered;
    Some(Command::GrainReleased { grain, epoch, operation, last, stopping, quiesced })
}

/// Snapshots and restores that people asked for.
fn worked(here: Here<'_>) -> Option<Command> {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    let operation = working(here)?;
    let data = here.data?;
    if let Work::Snapshot { name, .. } = &operation.work {
        let purpose = Purpose::User(name.clone());
        let taken = data.snapshots.iter().find(|snapshot| snapshot.name.purpose == purpose)?;
        let (operation, snapshot) = (operation.id, taken.clone());
        return Some(Command::SnapshotTaken { grain, epoch, operation, snapshot });
    }
    if let Stage::Restoring { operation, .. } = here.grain.stage
        && data.restored == Some(operation)
    {
        let before = data.last_for(operation)?.clone();
        return Some(Command::GrainRestored { grain, epoch, operation, before });
    }
    None
}
