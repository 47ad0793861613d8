//! Part of `agent`: what is on the disk is looked at again, because people and other programs change it too. A dataset that was
//! renamed, destroyed or rolled back by hand is known within half a minute, and at once where something failed because of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use scrap_decide::obey::Lane;
use scrap_host::datasets::{Dataset, DatasetId, Datasets as _};
use scrap_schema::id::GrainId;
use scrap_schema::snapshot::Guid;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::State;
use crate::daemon::Daemon;
use crate::execute;

/// Pause between two surveys. One listing of the whole pool each.
const EVERY: Duration = Duration::from_secs(30);

/// Surveys until `shutdown`.
pub(super) async fn keep(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => survey(&daemon).await,
            () = shutdown.cancelled() => return,
        }
    }
}

async fn survey(daemon: &Daemon) {
    let list = match daemon.host.datasets.list().await {
        Ok(list) => list,
        Err(error) => {
            warn!(error = crate::logging::chain(&error), "cannot see what datasets are here");
            return;
        }
    };
    for grain in changed(daemon, &list) {
        // Whoever works on it now looks at it afterwards.
        let Some(lane) = daemon.agent.reserve(Lane::Shape(grain)) else { continue };
        let before = daemon.agent.with(|state| believed(state, grain));
        look_again(daemon, grain).await;
        // The listing may have been older than work that has ended meanwhile.
        if daemon.agent.with(|state| believed(state, grain)) != before {
            warn!(%grain, "its dataset is not as it was left: somebody else has changed it");
        }
        drop(lane);
    }
}

/// The snapshots that are believed to be here; `None`: there is no dataset.
fn believed(state: &State, grain: GrainId) -> Option<BTreeSet<Guid>> {
    let data = state.facts.data.get(&grain)?;
    Some(data.snapshots.iter().map(|snapshot| snapshot.guid).collect())
}

/// Grains whose dataset has come, gone, or holds other snapshots than is believed.
fn changed(daemon: &Daemon, list: &[Dataset]) -> Vec<GrainId> {
    let there = |grain: GrainId| list.iter().find(|dataset| dataset.id == DatasetId::Grain(grain));
    daemon.agent.with(|state| {
        let listed = list.iter().filter_map(|dataset| match dataset.id {
            DatasetId::Grain(grain) => Some(grain),
            DatasetId::Orphan(..) | DatasetId::Template(_) => None,
        });
        let grains: BTreeSet<GrainId> = state.facts.data.keys().copied().chain(listed).collect();
        let differs = |grain: &GrainId| {
            let seen: Option<BTreeSet<Guid>> = there(*grain)
                .map(|dataset| dataset.snapshots.iter().map(|snapshot| snapshot.guid).collect());
            let works = state.facts.busy.iter().any(|lane| touches(lane, *grain));
            believed(state, *grain) != seen && !works
        };
        grains.into_iter().filter(differs).collect()
    })
}

/// Whether work in this lane changes the grain's dataset.
fn touches(lane: &Lane, grain: GrainId) -> bool {
    match lane {
        Lane::Shape(of) | Lane::Snap(of) | Lane::Run(of) | Lane::Copy(of, _) => *of == grain,
        Lane::Tell(_) | Lane::Lease | Lane::Template(_) => false,
    }
}

/// Reads anew what is on the disk of one grain.
pub(super) async fn look_again(daemon: &Daemon, grain: GrainId) {
    match execute::look_at(&daemon.host, grain).await {
        Ok(seen) => daemon.agent.update(seen),
        Err(error) => {
            debug!(%grain, error = crate::logging::chain(error.as_ref()), "cannot look at its dataset");
        }
    }
}
