//! Carries out what `obey` decided: one match over [`HostAction`]. No decision is made here; every action is safe to repeat.

use std::collections::BTreeMap;

use scrap_decide::obey::{Dirty, HostAction, OrphanFacts, hold_tag};
use scrap_host::clock;
use scrap_host::datasets::{Dataset, DatasetId, Datasets, Role, Shape};
use scrap_host::machine;
use scrap_host::runtime::{Runtime, Start};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, Span};

use crate::agent::{Reading, Update};
use crate::daemon::{Daemon, Host};
use crate::transfer;

/// Trouble of any kind; the chain of its sources is printed once, where it is logged or reported.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;
type Done = Result<Vec<Update>, Trouble>;

/// Carries one action out. Returns the facts that it changed.
///
/// # Errors
/// What the hands say.
pub async fn execute(daemon: &Daemon, action: HostAction) -> Done {
    let host = &*daemon.host;
    match action {
        HostAction::Create { grain, epoch } => create(daemon, grain, epoch).await,
        HostAction::Promote { grain, epoch } => set_role(host, grain, Role::Owner, epoch).await,
        HostAction::Demote { grain, epoch } => set_role(host, grain, Role::Standby, epoch).await,
        HostAction::SetAside { grain, base, name } => set_aside(host, grain, base, &name).await,
        HostAction::CloneFrom { grain, epoch, from, snapshot } => {
            let (from, shape) = (DatasetId::Grain(from), shape_of(daemon, grain));
            host.datasets.clone_from(from, snapshot, grain, epoch, shape).await?;
            look_at(host, grain).await
        }
        HostAction::Restore { grain, operation, snapshot } => {
            restore(host, grain, operation, snapshot).await
        }
        HostAction::Snapshot { grain, name } => snapshot(host, grain, &name).await,
        HostAction::Probe { grain } => probe(host, grain).await,
        HostAction::Prune { grain, snapshots } => {
            host.datasets.prune(grain, &snapshots).await?;
            look_at(host, grain).await
        }
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
        HostAction::Start { grain, epoch, deadline } => start(daemon, grain, epoch, deadline).await,
        HostAction::Stop { grain, grace, why: _ } => stop(daemon, grain, grace).await,
        HostAction::Arm { grain, deadline } => {
            host.runtime.arm(grain, deadline).await?;
            Ok(vec![Update::Armed(grain)])
        }
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
                let held = host.datasets.holds(grain).await?;
                updates.push(Update::Data(grain, Some((dataset, held))));
            }
            DatasetId::Orphan(grain, epoch) => {
                if let Some(orphan) = orphan_facts(host, &dataset).await? {
                    updates.push(Update::Orphan(grain, epoch, orphan));
                }
            }
            // No fact of any grain.
            DatasetId::Template(_) => (),
        }
    }
    Ok(updates)
}

/// One grain's dataset as it is now.
///
/// # Errors
/// What the backend says.
pub async fn look_at(host: &Host, grain: GrainId) -> Done {
    let Some(dataset) = host.datasets.get(DatasetId::Grain(grain)).await? else {
        return Ok(vec![Update::Data(grain, None)]);
    };
    let held = host.datasets.holds(grain).await?;
    Ok(vec![Update::Data(grain, Some((dataset, held)))])
}

async fn orphan_facts(host: &Host, orphan: &Dataset) -> Result<Option<OrphanFacts>, Trouble> {
    let Some(head) = orphan.snapshots.last().cloned() else { return Ok(None) };
    // What an increment from the common state would carry is what only the orphan has.
    let newer = host.datasets.estimate(orphan.id, orphan.base, head.guid).await?;
    Ok(Some(OrphanFacts { head, base: orphan.base, newer: Bytes(newer), used: orphan.used }))
}

fn shape_of(daemon: &Daemon, grain: GrainId) -> Shape {
    let quota = daemon.consensus.read(|cluster| {
        cluster.grains.get(&grain).map_or(Bytes(0), |grain| grain.spec.resources.disk)
    });
    Shape::of(quota)
}

async fn create(daemon: &Daemon, grain: GrainId, epoch: Epoch) -> Done {
    daemon.host.datasets.create(grain, epoch, shape_of(daemon, grain)).await?;
    look_at(&daemon.host, grain).await
}

async fn set_role(host: &Host, grain: GrainId, role: Role, epoch: Epoch) -> Done {
    host.datasets.set_role(grain, role, epoch).await?;
    look_at(host, grain).await
}

async fn set_aside(host: &Host, grain: GrainId, base: Option<Guid>, name: &SnapshotName) -> Done {
    let orphan = host.datasets.set_aside(grain, base, name, clock::wall()).await?;
    let mut updates = look_at(host, grain).await?;
    if let (DatasetId::Orphan(grain, epoch), Some(facts)) =
        (orphan.id, orphan_facts(host, &orphan).await?)
    {
        updates.push(Update::Orphan(grain, epoch, facts));
    }
    Ok(updates)
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

async fn snapshot(host: &Host, grain: GrainId, name: &SnapshotName) -> Done {
    let probed = clock::boot_time();
    let snapshot: Snapshot = host.datasets.snapshot(grain, name, clock::wall()).await?;
    let mut updates = look_at(host, grain).await?;
    // Everything written before is in it; what came after is found by the next look.
    let dirty = Dirty { bytes: Bytes(0), at: snapshot.created, probed };
    updates.push(Update::Dirty(grain, dirty));
    Ok(updates)
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
        Some((grain.name.to_string(), manifest, grain.spec.resources.disk))
    });
    let Some((name, manifest, quota)) = described else { return Ok(Vec::new()) };
    let properties = BTreeMap::from([
        ("scrap:cluster".to_owned(), daemon.cluster_id.to_string()),
        ("scrap:name".to_owned(), name),
        ("scrap:manifest".to_owned(), manifest),
        (crate::agent::PROPERTY_GENERATION.to_owned(), generation.to_string()),
    ]);
    let host = &*daemon.host;
    host.datasets.set_properties(DatasetId::Grain(grain), properties).await?;
    host.datasets.set_shape(grain, Shape::of(quota)).await?;
    look_at(host, grain).await
}

async fn send(daemon: &Daemon, grain: GrainId, node: NodeId, from: Option<Guid>, to: Guid) -> Done {
    let began = clock::boot_time();
    let bytes = transfer::send(daemon, grain, node, from, to).await?;
    let took = clock::boot_time().since(began);
    let host = &*daemon.host;
    // Both sides hold it now: whatever happens, the next increment has a base.
    host.datasets.hold(grain, to, &hold_tag(node)).await?;
    let mut updates = look_at(host, grain).await?;
    updates.push(Update::Sent(grain, node, to, bytes, took.ms()));
    Ok(updates)
}

async fn start(daemon: &Daemon, grain: GrainId, epoch: Epoch, deadline: Option<BootTime>) -> Done {
    let host = &*daemon.host;
    let wanted = daemon.consensus.read(|cluster| {
        cluster.grains.get(&grain).map(|grain| (grain.name.to_string(), grain.spec.clone()))
    });
    let Some((name, spec)) = wanted else { return Ok(Vec::new()) };
    let data = host.datasets.path(grain);
    let mut env = spec.env;
    let own = [
        ("SCRAP_GRAIN", name),
        ("SCRAP_GRAIN_ID", grain.to_string()),
        ("SCRAP_EPOCH", epoch.to_string()),
        ("SCRAP_NODE", daemon.name.to_string()),
        ("SCRAP_DATA", data.display().to_string()),
    ];
    env.extend(own.map(|(key, value)| (key.to_owned(), value)));
    let order = Start {
        grain,
        epoch,
        command: spec.command,
        env,
        data,
        memory: spec.resources.memory,
        cpu: spec.resources.cpu,
        deadline,
        grace: spec.stop.timeout,
    };
    host.runtime.start(order).await?;
    Ok(vec![Update::Started(grain, epoch, deadline.is_some())])
}

async fn stop(daemon: &Daemon, grain: GrainId, grace: Span) -> Done {
    daemon.agent.with(|state| state.take(Update::Stopping(grain, clock::wall())));
    daemon.host.runtime.stop(grain, grace).await?;
    Ok(vec![Update::Stopped(grain)])
}

async fn tell(daemon: &Daemon, command: Command) -> Done {
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let committed = daemon.consensus.propose(proposal).await?;
    // A refusal means that the world has moved on; the next round decides on the new one, once it is applied here.
    let mut changes = daemon.consensus.changes();
    let applied = changes.wait_for(|applied| *applied >= committed.index);
    let limit = std::time::Duration::from_secs(5);
    if tokio::time::timeout(limit, applied).await.is_err() {
        tracing::debug!(index = committed.index, "told, and not applied here yet");
    }
    Ok(Vec::new())
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
