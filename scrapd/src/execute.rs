//! Carries out what `obey` decided: one match over [`HostAction`]. No decision is made here; every action is safe to repeat.

mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use scrap_decide::obey::{Dirty, HostAction, OrphanFacts, hold_tag};
use scrap_decide::replicate::traffic;
use scrap_host::any::AnyDatasets;
use scrap_host::clock;
use scrap_host::datasets::{
    Dataset, DatasetError, DatasetId, Datasets, Frozen, PoolState as HostPool, Role, Shape,
};
use scrap_host::machine;
use scrap_host::runtime::Runtime;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::node::{PoolFacts, PoolState};
use scrap_schema::snapshot::{Guid, SnapshotName};
use scrap_schema::spec::Resources;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Bytes;

use crate::agent::{Reading, Update, ask_early};
use crate::daemon::{Daemon, Host};
use crate::{templates, transfer};

/// Trouble of any kind; the chain of its sources is printed once, where it is logged or reported.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;
/// What came of an action: the facts that it changed.
pub type Done = Result<Vec<Update>, Trouble>;

/// A head that is to be frozen.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Of which grain.
    pub grain: GrainId,
    /// Under which name.
    pub name: SnapshotName,
}

/// Takes the freezes out of what is to be done.
#[must_use]
pub fn freezes(actions: Vec<HostAction>) -> (Vec<Freeze>, Vec<HostAction>) {
    let mut freezes = Vec::new();
    let mut others = Vec::new();
    for action in actions {
        // Everything else goes its own way.
        if let HostAction::Snapshot { grain, name } = action {
            freezes.push(Freeze { grain, name });
        } else {
            others.push(action);
        }
    }
    (freezes, others)
}

/// Freezes several heads at once, each with a result of its own.
pub async fn snapshots(daemon: &Daemon, freezes: Vec<Freeze>) -> Vec<(Freeze, Done)> {
    let host = &*daemon.host;
    let probed = clock::boot_time();
    let wanted: Vec<_> = freezes.iter().map(|freeze| (freeze.grain, freeze.name.clone())).collect();
    let taken = host.datasets.snapshot_all(&wanted, clock::wall()).await;
    let mut results = Vec::with_capacity(freezes.len());
    for (freeze, (grain, taken)) in freezes.into_iter().zip(taken) {
        let result = match taken {
            Ok(taken) => Ok(frozen(grain, taken, probed)),
            Err(error) => Err(error.into()),
        };
        results.push((freeze, result));
    }
    results
}

/// Carries one action out. Returns the facts that it changed.
///
/// # Errors
/// What the hands say.
pub async fn execute(daemon: &Arc<Daemon>, action: HostAction) -> Done {
    let host = &*daemon.host;
    match action {
        HostAction::Create { grain, epoch } => create(daemon, grain, epoch).await,
        HostAction::Promote { grain, epoch } => set_role(host, grain, Role::Owner, epoch).await,
        HostAction::Demote { grain, epoch } => set_role(host, grain, Role::Standby, epoch).await,
        HostAction::SetAside { grain, base, name } => set_aside(host, grain, base, &name).await,
        HostAction::TakeBack { grain, epoch } => take_back(host, grain, epoch).await,
        HostAction::Discard { grain, epoch } => discard(host, grain, epoch).await,
        HostAction::CloneFrom { grain, epoch, from, orphan, snapshot } => {
            let aside = orphan.map(|aside| DatasetId::Orphan(from, aside));
            clone(daemon, aside.unwrap_or(DatasetId::Grain(from)), snapshot, grain, epoch).await
        }
        HostAction::CloneTemplate { grain, epoch, template, snapshot } => {
            let (from, shape) = (DatasetId::Template(template), shape_of(daemon, grain));
            host.datasets.clone_from(from, snapshot, grain, epoch, shape).await?;
            // Here already, so that a start does not wait for it; what was broken off is finished there.
            let (prepared, ()) =
                tokio::join!(run::prepare(daemon, grain), ask_early(daemon, grain));
            prepared?;
            look_at(host, grain).await
        }
        HostAction::Fetch { template, from } => templates::fetch(daemon, template, from).await,
        HostAction::DropTemplate { template } => templates::forget(daemon, template).await,
        HostAction::Restore { grain, operation, snapshot } => {
            restore(host, grain, operation, snapshot).await
        }
        HostAction::Snapshot { grain, name } => {
            let taken = snapshots(daemon, vec![Freeze { grain, name }]).await;
            taken.into_iter().next().map_or_else(|| Ok(Vec::new()), |(_, result)| result)
        }
        HostAction::Probe { grain } => probe(host, grain).await,
        HostAction::Prune { grain, snapshots } => {
            host.datasets.prune(grain, &snapshots).await?;
            look_at(host, grain).await
        }
        HostAction::Hold { grain, node, snapshot } => hold(host, grain, node, snapshot).await,
        HostAction::Release { grain, tag } => {
            host.datasets.release(grain, &tag).await?;
            look_at(host, grain).await
        }
        HostAction::Destroy { grain } => {
            host.runtime.forget(grain).await?;
            host.datasets.destroy(DatasetId::Grain(grain)).await?;
            look_at(host, grain).await
        }
        HostAction::Describe { grain, generation } => describe(daemon, grain, generation).await,
        HostAction::Ask { grain, node } => {
            let snapshots = daemon.peers.copy(node, grain).await?;
            Ok(vec![Update::Copy(grain, node, snapshots)])
        }
        HostAction::Send { grain, node, from, to } => send(daemon, grain, node, from, to).await,
        HostAction::Start { grain, epoch, deadline } => {
            run::start(daemon, grain, epoch, deadline).await
        }
        HostAction::Stop { grain, grace, why } => run::stop(daemon, grain, grace, why).await,
        HostAction::Arm { grain, deadline } => run::arm(host, grain, deadline).await,
        HostAction::Disarm { grain } => run::disarm(host, grain).await,
        HostAction::Extend { deadline } => {
            let silent = host.runtime.extend(deadline).await?;
            let silent =
                silent.iter().map(|error| (error.grain, crate::logging::chain(error))).collect();
            Ok(vec![Update::Extended(deadline, silent)])
        }
        HostAction::Tell { command } => tell(daemon, *command).await,
    }
}

/// Everything that is on this host, for the start of the daemon.
///
/// # Errors
/// What the backend says.
pub async fn look_at_everything(host: &Host) -> Done {
    let mut updates = Vec::new();
    for dataset in host.datasets.list().await? {
        match dataset.id {
            DatasetId::Grain(grain) => {
                updates.push(Update::Data(grain, Some(dataset)));
            }
            // The survey measures them: that may take long.
            DatasetId::Orphan(grain, epoch) => {
                if let Some(facts) = unmeasured(&dataset) {
                    updates.push(Update::Aside(grain, epoch, Some(facts)));
                }
            }
            // One that was not sealed is nobody's: whoever was unpacking into it is gone.
            DatasetId::Template(template) => match dataset.snapshots.last() {
                Some(sealed) => updates.push(Update::Template(template, Some(sealed.guid))),
                None => {
                    if let Err(error) = host.datasets.destroy(dataset.id).await {
                        let error = crate::logging::chain(&error);
                        tracing::warn!(%template, error, "half a template is left as it is");
                    }
                }
            },
        }
    }
    Ok(updates)
}

/// One grain's dataset as it is now.
///
/// # Errors
/// What the backend says.
pub async fn look_at(host: &Host, grain: GrainId) -> Done {
    let dataset = host.datasets.get(DatasetId::Grain(grain)).await?;
    Ok(vec![Update::Data(grain, dataset)])
}

/// What is known of an orphan before it is measured; `None`: there is nothing in it yet.
pub fn unmeasured(orphan: &Dataset) -> Option<OrphanFacts> {
    let head = orphan.snapshots.last().cloned()?;
    let line = orphan.snapshots.iter().map(|snapshot| snapshot.guid).collect();
    Some(OrphanFacts { head, base: orphan.base, line, newer: None, used: orphan.used })
}

/// What the cluster is told about an orphan; `None`: there is nothing in it yet.
///
/// # Errors
/// What the backend says.
pub async fn orphan_facts(host: &Host, orphan: &Dataset) -> Result<Option<OrphanFacts>, Trouble> {
    let Some(facts) = unmeasured(orphan) else { return Ok(None) };
    // What an increment from the common state would carry is what only the orphan has.
    let newer = host.datasets.estimate(orphan.id, orphan.base, facts.head.guid).await?;
    Ok(Some(OrphanFacts { newer: Some(Bytes(newer)), ..facts }))
}

fn shape_of(daemon: &Daemon, grain: GrainId) -> Shape {
    daemon.consensus.read(|cluster| {
        let grain = cluster.grains.get(&grain);
        grain.map(|grain| shape(&grain.spec.resources)).unwrap_or_default()
    })
}

/// What a spec wants of its dataset.
fn shape(resources: &Resources) -> Shape {
    Shape {
        quota: resources.disk,
        reservation: resources.reserve.unwrap_or_default(),
        record_size: resources.record_size.unwrap_or_default(),
    }
}

async fn create(daemon: &Daemon, grain: GrainId, epoch: Epoch) -> Done {
    daemon.host.datasets.create(grain, epoch, shape_of(daemon, grain)).await?;
    look_at(&daemon.host, grain).await
}

/// Gives the dataset of a grain a role and an epoch. Returns what it is then.
///
/// # Errors
/// What the backend says.
pub async fn set_role(host: &Host, grain: GrainId, role: Role, epoch: Epoch) -> Done {
    let dataset = host.datasets.set_role(grain, role, epoch).await?;
    Ok(vec![Update::Data(grain, Some(dataset))])
}

/// Sets a copy or a head aside. Returns what was set aside.
///
/// # Errors
/// What the backend says.
pub async fn put_aside(
    host: &Host,
    grain: GrainId,
    base: Option<Guid>,
    name: &SnapshotName,
) -> Result<Dataset, Trouble> {
    Ok(host.datasets.set_aside(grain, base, name, clock::wall()).await?)
}

async fn set_aside(host: &Host, grain: GrainId, base: Option<Guid>, name: &SnapshotName) -> Done {
    let orphan = put_aside(host, grain, base, name).await?;
    let mut updates = look_at(host, grain).await?;
    if let (DatasetId::Orphan(grain, epoch), Some(facts)) =
        (orphan.id, orphan_facts(host, &orphan).await?)
    {
        updates.push(Update::Aside(grain, epoch, Some(facts)));
    }
    Ok(updates)
}

async fn clone(
    daemon: &Daemon,
    from: DatasetId,
    snapshot: Guid,
    grain: GrainId,
    epoch: Epoch,
) -> Done {
    let host = &*daemon.host;
    host.datasets.clone_from(from, snapshot, grain, epoch, shape_of(daemon, grain)).await?;
    look_at(host, grain).await
}

async fn take_back(host: &Host, grain: GrainId, epoch: Epoch) -> Done {
    let dataset = host.datasets.take_back(grain, epoch).await?;
    Ok(vec![Update::Aside(grain, epoch, None), Update::Data(grain, Some(dataset))])
}

async fn discard(host: &Host, grain: GrainId, epoch: Epoch) -> Done {
    host.datasets.destroy(DatasetId::Orphan(grain, epoch)).await?;
    Ok(vec![Update::Aside(grain, epoch, None)])
}

async fn restore(host: &Host, grain: GrainId, operation: OperationId, guid: Guid) -> Done {
    host.datasets.restore(grain, guid).await?;
    let done =
        BTreeMap::from([(crate::agent::PROPERTY_RESTORED.to_owned(), operation.to_string())]);
    host.datasets.set_properties(DatasetId::Grain(grain), done).await?;
    let mut updates = look_at(host, grain).await?;
    updates.extend(probe(host, grain).await?);
    Ok(updates)
}

fn frozen(grain: GrainId, taken: Frozen, probed: BootTime) -> Vec<Update> {
    // Everything written before is in it; what came after is found by the next look.
    let dirty = Dirty { bytes: Bytes(0), at: taken.snapshot.created, probed };
    vec![Update::Data(grain, Some(taken.dataset)), Update::Dirty(grain, dirty)]
}

async fn probe(host: &Host, grain: GrainId) -> Done {
    let now = clock::now();
    let written = host.datasets.written(DatasetId::Grain(grain)).await?;
    let dirty = Dirty { bytes: written.bytes, at: now.wall, probed: now.boot };
    Ok(vec![Update::Dirty(grain, dirty)])
}

async fn describe(daemon: &Daemon, grain: GrainId, generation: u64) -> Done {
    let described = daemon.consensus.read(|cluster| {
        let grain = cluster.grains.get(&grain)?;
        let manifest = serde_json::to_string(&grain.spec).ok()?;
        Some((grain.name.to_string(), manifest, shape(&grain.spec.resources)))
    });
    let Some((name, manifest, shape)) = described else { return Ok(Vec::new()) };
    let properties = BTreeMap::from([
        ("scrap:cluster".to_owned(), daemon.cluster_id.to_string()),
        ("scrap:name".to_owned(), name),
        ("scrap:manifest".to_owned(), manifest),
        (crate::agent::PROPERTY_GENERATION.to_owned(), generation.to_string()),
    ]);
    let host = &*daemon.host;
    // The generation comes last: it says that all of it is so.
    host.datasets.set_shape(grain, shape).await?;
    host.datasets.set_properties(DatasetId::Grain(grain), properties).await?;
    look_at(host, grain).await
}

async fn send(daemon: &Daemon, grain: GrainId, node: NodeId, from: Option<Guid>, to: Guid) -> Done {
    let kind = daemon.consensus.read(|cluster| traffic(cluster.grains.get(&grain), node, from));
    let began = clock::boot_time();
    let bytes = transfer::send(daemon, grain, node, from, to).await?;
    let took = clock::boot_time().since(began);
    // It counts from now on: a move waits for it, and not for what follows.
    daemon.agent.update(vec![Update::Sent(grain, node, to, bytes, took.ms())]);
    if !kind.is_held_at_once() {
        return Ok(Vec::new());
    }
    // Both sides hold it now: whatever happens, the next increment has a base.
    hold(&daemon.host, grain, node, to).await
}

/// Holds what this node and another one both have.
///
/// # Errors
/// What the backend says.
pub async fn hold(host: &Host, grain: GrainId, node: NodeId, common: Guid) -> Done {
    let dataset = host.datasets.hold(grain, common, &hold_tag(node)).await?;
    Ok(vec![Update::Data(grain, Some(dataset))])
}

async fn tell(daemon: &Daemon, command: Command) -> Done {
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let committed = daemon.consensus.propose(proposal).await?;
    // A refusal means that the world has moved on; the next round decides on the new one, once it is applied here.
    applied_here(daemon, committed.index).await;
    Ok(Vec::new())
}

/// Waits until what the cluster has decided is known here too; not for ever, because this node may be cut off.
pub(crate) async fn applied_here(daemon: &Daemon, index: u64) {
    let mut changes = daemon.consensus.changes();
    let applied = changes.wait_for(|applied| *applied >= index);
    let limit = std::time::Duration::from_secs(5);
    if tokio::time::timeout(limit, applied).await.is_err() {
        tracing::debug!(index, "told, and not applied here yet");
    }
}

/// How the storage is now. What does not answer is a state too.
pub async fn pool(daemon: &Daemon) -> PoolFacts {
    let datasets = &daemon.host.datasets;
    let space = datasets.space().await;
    let health = datasets.health().await;
    let (taken, free) = space
        .as_ref()
        .map(|space| (Bytes(space.total.0.saturating_sub(space.free.0)), space.free))
        .unwrap_or_default();
    let used = match datasets {
        AnyDatasets::Zfs(_) => taken,
        // On a disk that the whole machine lives on, what others have filled is no sign of anything.
        AnyDatasets::Dir(_) | AnyDatasets::Mem(_) => {
            Bytes(daemon.agent.with(|state| state.own_data()))
        }
    };
    let unanswered = |error: &DatasetError| PoolFacts {
        state: PoolState::Faulted,
        used,
        free,
        what: Some(crate::logging::chain(error)),
        ..PoolFacts::default()
    };
    match (health, &space) {
        (Err(error), _) => unanswered(&error),
        (Ok(health), Err(error)) if health.state == HostPool::Online => unanswered(error),
        (Ok(health), _) => PoolFacts {
            state: pool_state(health.state),
            errors: health.errors,
            used,
            free,
            scrubbed: health.scrubbed,
            busy: health.busy,
            what: health.what,
        },
    }
}

fn pool_state(state: HostPool) -> PoolState {
    match state {
        HostPool::Online => PoolState::Online,
        HostPool::Degraded => PoolState::Degraded,
        HostPool::ReadOnly => PoolState::ReadOnly,
        HostPool::Suspended => PoolState::Suspended,
        HostPool::Faulted => PoolState::Faulted,
    }
}

/// What the node uses now; processor time on average since the last call.
///
/// # Errors
/// What the system says.
pub async fn node_usage(daemon: &Daemon) -> Result<Reading, Trouble> {
    let load = daemon.agent.with(|state| state.meter.measure())?;
    let memory = machine::facts()?.memory.0.saturating_sub(load.memory_available.0);
    let space = daemon.host.datasets.space().await?;
    Ok(Reading { cpu: load.cpu, memory: Bytes(memory), disk_free: space.free })
}
