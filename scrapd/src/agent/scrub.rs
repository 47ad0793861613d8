//! Part of `agent`: has everything on this node's storage read and compared once in a while, if nobody else does. What nobody
//! reads nobody knows to be damaged, and copies are hardly ever read.

use std::sync::Arc;
use std::time::Duration;

use scrap_decide::alarm::{News, scrub_before};
use scrap_host::clock;
use scrap_host::datasets::Datasets as _;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::alarm;
use crate::daemon::Daemon;

/// Pause between two looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Looks until `shutdown`.
pub(super) async fn keep(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => scrub(&daemon).await,
            () = shutdown.cancelled() => return,
        }
    }
}

async fn scrub(daemon: &Daemon) {
    let pool = daemon.agent.with(|state| state.facts.pool.as_ref().map(|pool| pool.state));
    let due = scrub_before(daemon.me, daemon.scrub_every, pool, clock::wall());
    let Some(before) = due else { return };
    match daemon.host.datasets.scrub(before).await {
        Ok(true) => {
            let every = daemon.scrub_every.rounded();
            let what = format!(
                "everything on its storage is read and compared now (`zpool scrub`): nobody has done that for {every}"
            );
            alarm::tell(daemon, News { what, well: true }).await;
        }
        Ok(false) => (),
        Err(error) => {
            warn!(error = crate::logging::chain(&error), "its storage cannot be scrubbed");
        }
    }
}
