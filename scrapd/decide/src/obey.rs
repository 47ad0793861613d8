//! Decides for one node: what its hands should do so that what is here becomes what the cluster wants.
//!
//! Level-triggered: computed from the replicated state and the facts of this host alone, so a crash at any point is healed by
//! deciding again. Includes stopping this node's own grains when its lease runs out. Obeys only the epoch that it knows: an order
//! of an older epoch has no way in, because orders are read from the replicated state.

mod asides;
mod data;
mod facts;
mod run;
mod streams;
mod templates;

use std::fmt;

use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId, TemplateId};
use scrap_schema::snapshot::{Guid, SnapshotName};
use scrap_schema::time::{BootTime, Now};
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Grain};
pub use data::SetAside;
pub use facts::{
    CopyFacts, DataFacts, DataRole, Dirty, Failure, HostFacts, Looks, OrphanFacts, RunFacts,
};
pub use streams::{copy_of, hold_tag};
pub(crate) use templates::source;

/// Something that the hands should do. One executor matches over it and decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAction {
    /// Make the first, empty dataset of a grain.
    Create { grain: GrainId, epoch: Epoch },
    /// Make a copy, or this node's own older head, the writable dataset of an epoch.
    Promote { grain: GrainId, epoch: Epoch },
    /// Make a writable dataset without writes of its own a copy.
    Demote { grain: GrainId, epoch: Epoch },
    /// Keep a diverged head aside and go on as a copy from `base`.
    SetAside { grain: GrainId, base: Option<Guid>, name: SnapshotName },
    /// Make what was set aside in an epoch the copy that is here again, with all its states. What is here goes: it has no others.
    TakeBack { grain: GrainId, epoch: Epoch },
    /// Remove what was set aside in an epoch.
    Discard { grain: GrainId, epoch: Epoch },
    /// Make the first dataset of a grain from another one's snapshot, or from what was set aside of that in an epoch.
    CloneFrom { grain: GrainId, epoch: Epoch, from: GrainId, orphan: Option<Epoch>, snapshot: Guid },
    /// Make the first dataset of a grain from a template that is here.
    CloneTemplate { grain: GrainId, epoch: Epoch, template: TemplateId, snapshot: Guid },
    /// Make a head equal to one of its snapshots.
    Restore { grain: GrainId, operation: OperationId, snapshot: Guid },
    /// Freeze the head.
    Snapshot { grain: GrainId, name: SnapshotName },
    /// Look how much was written since the newest snapshot.
    Probe { grain: GrainId },
    /// Remove snapshots.
    Prune { grain: GrainId, snapshots: Vec<Guid> },
    /// Hold the snapshot up to which this node and another one have the same: the next stream between them begins there.
    Hold { grain: GrainId, node: NodeId, snapshot: Guid },
    /// Hold a snapshot no longer that is held for a node which keeps nothing of the grain any more.
    Release { grain: GrainId, tag: String },
    /// Remove a dataset: of a grain that was removed for good, or a copy that is kept elsewhere now.
    Destroy { grain: GrainId },
    /// Write name and manifest beside the data, so that the pool describes itself.
    Describe { grain: GrainId, generation: u64 },
    /// Ask a node which states its copy has.
    Ask { grain: GrainId, node: NodeId },
    /// Bring a copy forward.
    Send { grain: GrainId, node: NodeId, from: Option<Guid>, to: Guid },
    /// Run the grain. `deadline`: under the lease.
    Start { grain: GrainId, epoch: Epoch, deadline: Option<BootTime> },
    /// Stop it and verify that it is stopped.
    Stop { grain: GrainId, grace: Span, why: StopReason },
    /// Put a running grain under the lease.
    Arm { grain: GrainId, deadline: BootTime },
    /// Take the deadline from a running grain that needs no lease any more.
    Disarm { grain: GrainId },
    /// Move the deadline of everything that runs under the lease.
    Extend { deadline: BootTime },
    /// Get a template from another node.
    Fetch { template: TemplateId, from: NodeId },
    /// Remove a template that the cluster has no more.
    DropTemplate { template: TemplateId },
    /// Report a fact to the cluster.
    Tell { command: Box<Command> },
}

/// Why a node stops a grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It should not run.
    Unwanted,
    /// It has another owner.
    NotOwner,
    /// It belongs to an older epoch.
    OldEpoch,
    /// Its data are not here: somebody has renamed or destroyed them.
    NoHead,
    /// The lease is running out.
    LeaseEnds,
    /// It moves away.
    Moves,
    /// It starts again, or its data change under it.
    Restarts,
    /// It was removed for good.
    Removed,
    /// Its checks keep failing: it is started again.
    Unwell,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unwanted => "it should not run",
            Self::NotOwner => "it has another owner",
            Self::OldEpoch => "it is of an older epoch",
            Self::NoHead => "its dataset is not here any more",
            Self::LeaseEnds => "the lease is running out",
            Self::Moves => "it moves away",
            Self::Restarts => "it starts again",
            Self::Removed => "it was removed",
            Self::Unwell => "it is not well",
        })
    }
}

impl fmt::Display for HostAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { grain, epoch } => write!(f, "create dataset of {grain}, epoch {epoch}"),
            Self::Promote { grain, epoch } => write!(f, "promote {grain}, epoch {epoch}"),
            Self::Demote { grain, .. } => write!(f, "make {grain} a copy"),
            Self::SetAside { grain, base: Some(_), .. } => {
                write!(f, "keep diverged data of {grain} aside")
            }
            Self::SetAside { grain, base: None, .. } => {
                write!(f, "keep all data of {grain} aside: nothing in common")
            }
            Self::TakeBack { grain, epoch } => {
                write!(f, "take back what was set aside of {grain} in epoch {epoch}")
            }
            Self::Discard { grain, epoch } => {
                write!(f, "remove what was set aside of {grain} in epoch {epoch}")
            }
            Self::CloneFrom { grain, from, orphan: None, .. } => {
                write!(f, "clone {grain} from {from}")
            }
            Self::CloneFrom { grain, from, orphan: Some(epoch), .. } => {
                write!(f, "make {grain} from what was set aside of {from} in epoch {epoch}")
            }
            Self::CloneTemplate { grain, template, .. } => {
                write!(f, "make {grain} from template {template}")
            }
            Self::Restore { grain, snapshot, .. } => write!(f, "restore {grain} to {snapshot}"),
            Self::Snapshot { grain, name } => write!(f, "snapshot {grain} {name}"),
            Self::Probe { grain } => write!(f, "look for writes in {grain}"),
            Self::Prune { grain, snapshots } => {
                write!(f, "prune {} snapshots of {grain}", snapshots.len())
            }
            Self::Hold { grain, node, .. } => {
                write!(f, "hold what {grain} has here and on node {node}")
            }
            Self::Release { grain, tag } => write!(f, "release {tag} of {grain}"),
            Self::Destroy { grain } => write!(f, "remove dataset of {grain}"),
            Self::Describe { grain, .. } => write!(f, "describe {grain}"),
            Self::Ask { grain, node } => write!(f, "ask node {node} for its copy of {grain}"),
            Self::Send { grain, node, from: Some(_), .. } => {
                write!(f, "send increment of {grain} to node {node}")
            }
            Self::Send { grain, node, from: None, .. } => {
                write!(f, "send all of {grain} to node {node}")
            }
            Self::Start { grain, epoch, .. } => write!(f, "start {grain}, epoch {epoch}"),
            Self::Stop { grain, why, .. } => write!(f, "stop {grain}: {why}"),
            Self::Arm { grain, .. } => write!(f, "put {grain} under the lease"),
            Self::Disarm { grain } => write!(f, "let {grain} run without the lease"),
            Self::Extend { .. } => f.write_str("extend the lease"),
            Self::Fetch { template, from } => {
                write!(f, "get template {template} from node {from}")
            }
            Self::DropTemplate { template } => write!(f, "remove template {template}"),
            Self::Tell { command } => write!(f, "tell: {command}"),
        }
    }
}

/// What excludes what: two actions of one lane never run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Changes of a dataset's role, shape or content.
    Shape(GrainId),
    /// Snapshots and their upkeep.
    Snap(GrainId),
    /// What a dataset says of itself, and its limits. That they cannot be set holds up no snapshot.
    Describe(GrainId),
    /// Starting and stopping.
    Run(GrainId),
    /// A copy on a node.
    Copy(GrainId, NodeId),
    /// Reports to the cluster.
    Tell(GrainId),
    /// The lease.
    Lease,
    /// A template, and reports about it.
    Template(TemplateId),
}

impl HostAction {
    /// The lane that it runs in.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Create { grain, .. }
            | Self::Promote { grain, .. }
            | Self::Demote { grain, .. }
            | Self::SetAside { grain, .. }
            | Self::TakeBack { grain, .. }
            | Self::Discard { grain, .. }
            | Self::CloneFrom { grain, .. }
            | Self::CloneTemplate { grain, .. }
            | Self::Restore { grain, .. }
            | Self::Destroy { grain } => Lane::Shape(*grain),
            Self::Snapshot { grain, .. }
            | Self::Probe { grain }
            | Self::Prune { grain, .. }
            | Self::Release { grain, .. } => Lane::Snap(*grain),
            Self::Describe { grain, .. } => Lane::Describe(*grain),
            Self::Ask { grain, node }
            | Self::Send { grain, node, .. }
            | Self::Hold { grain, node, .. } => Lane::Copy(*grain, *node),
            Self::Start { grain, .. }
            | Self::Stop { grain, .. }
            | Self::Arm { grain, .. }
            | Self::Disarm { grain } => Lane::Run(*grain),
            Self::Extend { .. } => Lane::Lease,
            Self::Fetch { template, .. } | Self::DropTemplate { template } => {
                Lane::Template(*template)
            }
            Self::Tell { command } => told_about(command),
        }
    }
}

/// The lane of a report: of what it is about.
#[expect(clippy::wildcard_enum_match_arm, reason = "only facts are told by nodes")]
fn told_about(command: &Command) -> Lane {
    match command {
        Command::GrainBorn { grain, .. }
        | Command::GrainArmed { grain, .. }
        | Command::GrainStarted { grain, .. }
        | Command::GrainStopped { grain, .. }
        | Command::GrainReleased { grain, .. }
        | Command::SnapshotTaken { grain, .. }
        | Command::GrainRestored { grain, .. }
        | Command::OrphanKept { grain, .. }
        | Command::OrphanGone { grain, .. }
        | Command::GrainHealth { grain, .. }
        | Command::GrainDeclined { grain, .. }
        | Command::OperationStuck { grain, .. } => Lane::Tell(*grain),
        Command::TemplateHeld { template, .. } | Command::TemplateLost { template, .. } => {
            Lane::Template(*template)
        }
        _ => Lane::Tell(GrainId(0)),
    }
}

/// One grain on one node, with everything that a decision about it needs.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) me: NodeId,
    pub(crate) cluster: &'a Cluster,
    pub(crate) grain: &'a Grain,
    pub(crate) host: &'a HostFacts,
    pub(crate) data: Option<&'a DataFacts>,
    pub(crate) run: Option<&'a RunFacts>,
    pub(crate) now: Now,
}

impl Here<'_> {
    /// What a report is based on.
    pub(crate) fn seen(self) -> Option<u64> {
        Some(self.cluster.index)
    }

    /// Whether something of this grain may be alive here.
    pub(crate) fn is_alive(self) -> bool {
        self.run.is_some_and(|run| run.alive)
    }

    pub(crate) fn owns(self) -> bool {
        self.grain.owner == Some(self.me)
    }

    /// Whether the writable dataset of the present epoch is here.
    pub(crate) fn holds_head(self) -> bool {
        self.owns()
            && self
                .data
                .is_some_and(|data| data.role == DataRole::Owner && data.epoch == self.grain.epoch)
    }

    /// Whether nothing runs in the lane and its last failure, if any, is long enough ago.
    pub(crate) fn is_free(self, lane: Lane) -> bool {
        let busy = self.host.busy.contains(&lane);
        let paused =
            self.host.failed.get(&lane).is_some_and(|failure| self.now.boot < failure.retry_at);
        !busy && !paused
    }
}

/// What this node should do now.
#[must_use]
pub fn obey(me: NodeId, cluster: &Cluster, host: &HostFacts, now: Now) -> Vec<HostAction> {
    let mut actions = Vec::new();
    if !cluster.nodes.contains_key(&me) {
        stop_all(host, &mut actions);
        return ready(host, now, actions);
    }
    let timing = cluster.timing();
    if let Some(deadline) = host.lease.deadline(timing)
        && host.extended.is_none_or(|extended| extended < deadline)
        && !host.busy.contains(&Lane::Lease)
    {
        actions.push(HostAction::Extend { deadline });
    }
    for grain in cluster.grains.values() {
        let (data, run) = (host.data.get(&grain.id), host.runs.get(&grain.id));
        let aside = host.orphans.range((grain.id, Epoch(0))..).next();
        let aside = aside.is_some_and(|((of, _), _)| *of == grain.id);
        let concerned = grain.owner == Some(me) || data.is_some() || run.is_some() || aside;
        if !concerned {
            continue;
        }
        let here = Here { me, cluster, grain, host, data, run, now };
        run::decide(here, &mut actions);
        data::decide(here, &mut actions);
        streams::decide(here, &mut actions);
        facts::tell(here, &mut actions);
    }
    removed(cluster, host, &mut actions);
    asides::decide(me, cluster, host, &mut actions);
    templates::decide(me, cluster, host, &mut actions);
    ready(host, now, actions)
}

/// What can begin now: the first action of each lane that is free.
fn ready(host: &HostFacts, now: Now, mut actions: Vec<HostAction>) -> Vec<HostAction> {
    actions.retain(|action| {
        let lane = action.lane();
        let paused = host.failed.get(&lane).is_some_and(|failure| now.boot < failure.retry_at);
        !host.busy.contains(&lane) && !paused
    });
    one_per_lane(actions)
}

/// The first action of each lane; the others come when it is done.
fn one_per_lane(actions: Vec<HostAction>) -> Vec<HostAction> {
    let mut taken = std::collections::BTreeSet::new();
    actions.into_iter().filter(|action| taken.insert(action.lane())).collect()
}

/// On a node that is no member any more nothing runs, and its data stay as they are.
fn stop_all(host: &HostFacts, actions: &mut Vec<HostAction>) {
    for (grain, _) in host.runs.iter().filter(|(_, run)| run.alive) {
        let (grain, grace, why) = (*grain, Span::from_secs(5), StopReason::NotOwner);
        actions.push(HostAction::Stop { grain, grace, why });
    }
}

/// Grains that the cluster does not know: of removed ones everything goes, of unknown ones nothing is touched but nothing runs.
fn removed(cluster: &Cluster, host: &HostFacts, actions: &mut Vec<HostAction>) {
    for (grain, run) in &host.runs {
        if run.alive && !cluster.grains.contains_key(grain) {
            let (grace, why) = (Span::from_secs(5), StopReason::Removed);
            actions.push(HostAction::Stop { grain: *grain, grace, why });
        }
    }
    for grain in host.data.keys().filter(|grain| cluster.purged.contains(grain)) {
        let alive = host.runs.get(grain).is_some_and(|run| run.alive);
        let works = [Lane::Snap(*grain), Lane::Describe(*grain)];
        if !alive && !works.iter().any(|lane| host.busy.contains(lane)) {
            actions.push(HostAction::Destroy { grain: *grain });
        }
    }
}

#[cfg(test)]
mod tests;
