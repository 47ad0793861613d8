//! A grain, as the API shows it. Pure.

use scrap_decide::cluster::{FailoverRecord, Grain, Stage};
use scrap_schema::api::{
    CopyView, FailoverView, GrainState, GrainStatus, GrainUsage, GrainView, MetadataView,
};
use scrap_schema::id::NodeId;
use scrap_schema::manifest::{API_VERSION, Manifest, ManifestKind, Metadata};
use scrap_schema::node::{GrainReport, RunReport};

use super::{World, conditions, ms};

/// The whole grain.
pub(crate) fn grain(world: &World<'_>, grain: &Grain) -> GrainView {
    GrainView {
        api_version: API_VERSION.to_owned(),
        kind: "Grain".to_owned(),
        metadata: MetadataView {
            name: grain.name.clone(),
            id: Some(grain.id.to_string()),
            labels: grain.labels.clone(),
            annotations: grain.annotations.clone(),
            created: Some(grain.created),
            modify_index: grain.modified,
            generation: Some(grain.generation),
        },
        spec: grain.spec.clone(),
        status: status(world, grain),
    }
}

/// The grain as somebody would write it.
pub(crate) fn grain_manifest(grain: &Grain) -> Manifest {
    Manifest {
        metadata: Metadata {
            name: grain.name.clone(),
            labels: grain.labels.clone(),
            annotations: grain.annotations.clone(),
        },
        kind: ManifestKind::Grain(grain.spec.clone()),
        line: 1,
    }
}

fn status(world: &World<'_>, grain: &Grain) -> GrainStatus {
    let state = state(world, grain);
    let attached = grain.attachment();
    GrainStatus {
        state,
        node: grain.owner.and_then(|owner| world.node_name(owner)),
        moving_to: destination(grain)
            .filter(|to| Some(*to) != grain.owner)
            .and_then(|to| world.node_name(to)),
        epoch: grain.epoch,
        address: attached.and_then(|attached| attached.v4),
        address6: attached.and_then(|attached| attached.v6),
        mac: attached.map(|attached| mac(attached.mac)),
        ids: grain.ids,
        conditions: conditions::conditions(world, grain, state),
        copies: copies(world, grain),
        lag_ms: world.observed.best_lag(world.cluster, grain, world.now).map(ms),
        usage: usage(world, grain),
        waiting: world.waiting_with_grain(grain.id, grain.operation),
        operation: grain.operation,
        snapshots: grain.snapshots.clone(),
        last_failover: grain.last_failover.as_ref().and_then(|record| failover(world, record)),
        started: grain.started,
        trashed_until: grain.trashed_until,
    }
}

/// A hardware address as people write it.
fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Where a grain is moving.
pub(super) fn destination(grain: &Grain) -> Option<NodeId> {
    match &grain.stage {
        Stage::Warming { to, .. } | Stage::Quiescing { to, .. } | Stage::Released { to, .. } => {
            Some(*to)
        }
        Stage::Landing { .. } => grain.owner,
        Stage::Unplaced
        | Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => None,
    }
}

/// What the owner says of the grain, if it is of the present epoch.
pub(super) fn owner_report<'a>(world: &World<'a>, grain: &Grain) -> Option<&'a GrainReport> {
    world.observed.report(grain.owner?, grain.id)
}

/// What the owner says of the grain's processes in the present epoch.
pub(super) fn run_report<'a>(world: &World<'a>, grain: &Grain) -> Option<&'a RunReport> {
    let run = owner_report(world, grain)?.run.as_ref().filter(|run| run.epoch == grain.epoch);
    run.filter(|_| !is_older_than_start(world, grain))
}

/// Whether what its owner last said is from before the grain answered. Both are on the owner's clock. That it answers is in
/// the log at once, the next report comes with the next renewal.
pub(super) fn is_older_than_start(world: &World<'_>, grain: &Grain) -> bool {
    let heard = grain.owner.and_then(|owner| world.observed.nodes.get(&owner));
    heard.zip(grain.started).is_some_and(|(heard, started)| heard.wall < started)
}

/// The grain in one word.
pub(super) fn state(world: &World<'_>, grain: &Grain) -> GrainState {
    if grain.trashed_until.is_some() {
        return GrainState::Trashed;
    }
    let Some(owner) = grain.owner else { return GrainState::Pending };
    let wanted = grain.wants_to_run();
    if !world.is_online(owner) && (wanted || grain.started.is_some()) {
        return GrainState::Lost;
    }
    match grain.stage {
        Stage::Unplaced => return GrainState::Pending,
        Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. } => return GrainState::Moving,
        Stage::Restarting { .. } | Stage::Restoring { .. } if grain.started.is_some() => {
            return GrainState::Stopping;
        }
        Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => (),
    }
    match (wanted, grain.started.is_some()) {
        (true, true) => answering(world, grain, owner),
        (true, false) => GrainState::Starting,
        (false, true) => GrainState::Stopping,
        (false, false) => GrainState::Stopped,
    }
}

/// A grain that has answered in this epoch: does it still?
fn answering(world: &World<'_>, grain: &Grain, owner: NodeId) -> GrainState {
    match run_report(world, grain) {
        Some(run) if !run.up || run.healthy == Some(false) => GrainState::Unhealthy,
        Some(_) => GrainState::Running,
        // Its owner has told everything that it has, and this grain was not among it.
        None if world.has_heard(owner) && !is_older_than_start(world, grain) => {
            GrainState::Unhealthy
        }
        None => GrainState::Running,
    }
}

fn copies(world: &World<'_>, grain: &Grain) -> Vec<CopyView> {
    let copy = |node: NodeId| {
        let report = world.observed.copy(grain, node);
        Some(CopyView {
            node: world.node_name(node)?,
            lag_ms: world.observed.lag(grain, node, world.now).map(ms),
            snapshot: report.and_then(|report| report.common),
            pending: world.observed.pending(grain, node, world.now),
            reachable: world.is_online(node),
            trouble: report.and_then(|report| report.trouble.clone()),
        })
    };
    grain.receivers().into_iter().filter_map(copy).collect()
}

fn usage(world: &World<'_>, grain: &Grain) -> Option<GrainUsage> {
    let report = owner_report(world, grain)?;
    let run = report.run.as_ref();
    Some(GrainUsage {
        cpu: run.map(|run| run.cpu).unwrap_or_default(),
        memory: run.map(|run| run.memory).unwrap_or_default(),
        disk: report.data.as_ref().map(|data| data.used).unwrap_or_default(),
        restarts: run.map_or(0, |run| run.restarts),
    })
}

fn failover(world: &World<'_>, record: &FailoverRecord) -> Option<FailoverView> {
    Some(FailoverView {
        at: record.at,
        from: world.node_name(record.from)?,
        to: world.node_name(record.to)?,
        epoch: record.epoch,
        loss: record.loss.clone(),
    })
}
