//! The body of SCRAP: the daemon on every node.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod data_dir;
#[cfg(target_os = "linux")]
pub mod demo;
pub mod facts;
pub mod front;
pub mod identity;
pub mod logging;
pub mod raft;
pub mod setup;
pub mod store;

use config::Config;
use identity::Identity;
use tokio_util::sync::CancellationToken;

/// Placeholder of this branch: the loops come from the main line.
///
/// # Errors
/// None yet.
pub async fn run(
    config: Config,
    identity: Identity,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!(node = %identity.name, api = %config.listen.api, "running");
    shutdown.cancelled().await;
    Ok(())
}
