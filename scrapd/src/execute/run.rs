//! Starting and stopping a grain: everything that a start needs, gathered from the state of the cluster.

use std::sync::Arc;

use scrap_decide::cluster::{Grain, IDS_PER_GRAIN};
use scrap_decide::obey::StopReason;
use scrap_host::clock;
use scrap_host::datasets::Datasets;
use scrap_host::runtime::{IdRange, Runtime, Start, System};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;

use super::{Done, Trouble};
use crate::agent::{Update, after_start, before_start};
use crate::daemon::{Daemon, Host};

/// Gives what runs a deadline.
pub(super) async fn arm(host: &Host, grain: GrainId, deadline: BootTime) -> Done {
    host.runtime.arm(grain, deadline).await?;
    Ok(vec![Update::Armed(grain)])
}

/// Takes it away.
pub(super) async fn disarm(host: &Host, grain: GrainId) -> Done {
    host.runtime.disarm(grain).await?;
    Ok(vec![Update::Disarmed(grain)])
}

pub(super) async fn start(
    daemon: &Arc<Daemon>,
    grain: GrainId,
    epoch: Epoch,
    deadline: Option<BootTime>,
) -> Done {
    let host = &*daemon.host;
    let wanted = daemon.consensus.read(|cluster| cluster.grains.get(&grain).cloned());
    let Some(wanted) = wanted else { return Ok(Vec::new()) };
    host.datasets.open_head(grain).await?;
    prepare(daemon, grain).await?;
    // Fail closed: the rules are there before the interface is.
    let interface = before_start(daemon, grain).await?;
    let system = ids(&wanted).map(|ids| System {
        hostname: wanted.name.to_string(),
        ids,
        pids: wanted.spec.pids(),
        interface,
    });
    let data = host.datasets.path(grain);
    let mut env = wanted.spec.env;
    let own = [
        ("SCRAP_GRAIN", wanted.name.to_string()),
        ("SCRAP_GRAIN_ID", grain.to_string()),
        ("SCRAP_EPOCH", epoch.to_string()),
        ("SCRAP_NODE", daemon.name.to_string()),
        // A system of its own does not see where its data are on the node.
        ("SCRAP_DATA", if system.is_some() { "/".into() } else { data.display().to_string() }),
    ];
    env.extend(own.map(|(key, value)| (key.to_owned(), value)));
    let order = Start {
        grain,
        epoch,
        command: wanted.spec.command,
        env,
        data,
        memory: wanted.spec.resources.memory,
        cpu: wanted.spec.resources.cpu,
        deadline,
        grace: wanted.spec.stop.timeout,
        system,
    };
    host.runtime.start(order).await?;
    after_start(daemon, grain).await?;
    Ok(vec![Update::Started(grain, epoch, deadline.is_some())])
}

/// Gives the files of a system that was just cloned to the grain's own users. Done already: nothing.
pub(super) async fn prepare(daemon: &Daemon, grain: GrainId) -> Result<(), Trouble> {
    let ids = daemon.consensus.read(|cluster| cluster.grains.get(&grain).and_then(ids));
    let Some(ids) = ids else { return Ok(()) };
    let data = daemon.host.datasets.path(grain);
    Ok(daemon.host.runtime.prepare(&data, ids).await?)
}

/// The users and groups of a grain that is a system.
fn ids(grain: &Grain) -> Option<IdRange> {
    grain
        .ids
        .filter(|_| grain.spec.template.is_system())
        .map(|base| IdRange { base, count: IDS_PER_GRAIN })
}

pub(super) async fn stop(daemon: &Daemon, grain: GrainId, grace: Span, why: StopReason) -> Done {
    daemon.agent.with(|state| state.take(Update::Stopping(grain, clock::wall())));
    daemon.host.runtime.stop(grain, grace).await?;
    Ok(vec![Update::Stopped(grain, why)])
}
