//! Health checks: whether a started grain answers. One task for each running grain; closely until it answers, then as often as its
//! spec says. A grain without a check counts as answering once its program runs.

use std::sync::Arc;
use std::time::Duration;

use scrap_host::clock;
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::spec::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Update;
use crate::daemon::Daemon;

/// Pause between two checks of a grain that has not answered yet.
const CLOSELY: Duration = Duration::from_millis(15);
/// Longest such pause: a grain that takes long is not asked a hundred times a second for ever.
const CLOSELY_MAX: Duration = Duration::from_secs(1);
/// Limit for one check.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts a watcher for every running grain that has none.
pub(super) fn watch(daemon: &Arc<Daemon>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let new: Vec<(GrainId, Epoch, u64)> = daemon.agent.with(|state| {
        let mut new = Vec::new();
        for (grain, run) in state.facts.runs.iter().filter(|(_, run)| run.alive) {
            let start = state.starts.get(grain).copied().unwrap_or(0);
            if state.watched.get(grain) != Some(&(run.epoch, start)) {
                new.push((*grain, run.epoch, start));
            }
        }
        for (grain, epoch, start) in &new {
            state.watched.insert(*grain, (*epoch, *start));
        }
        new
    });
    for (grain, epoch, start) in new {
        tasks.spawn(watcher(daemon.clone(), grain, epoch, start, shutdown.clone()));
    }
}

async fn watcher(
    daemon: Arc<Daemon>,
    grain: GrainId,
    epoch: Epoch,
    start: u64,
    shutdown: CancellationToken,
) {
    let mut closely = CLOSELY;
    loop {
        let current = daemon.agent.with(|state| {
            state.watched.get(&grain) == Some(&(epoch, start))
                && state.facts.runs.get(&grain).is_some_and(|run| run.alive)
        });
        if !current {
            return;
        }
        let (health, stopping) = daemon.consensus.read(|cluster| {
            let spec = cluster.grains.get(&grain).map(|grain| grain.spec.health.clone());
            (spec.flatten(), !cluster.grains.contains_key(&grain))
        });
        if stopping {
            return;
        }
        let healthy = match &health {
            Some(health) => check(health).await,
            None => {
                daemon.agent.with(|state| state.facts.runs.get(&grain).is_some_and(|run| run.up))
            }
        };
        let at = clock::wall();
        let changed = daemon.agent.with(|state| {
            let before = state.facts.runs.get(&grain).and_then(|run| run.healthy);
            state.take(Update::Health(grain, start, healthy, at));
            before != Some(healthy)
        });
        if changed {
            daemon.agent.wake();
        }
        let every =
            health.as_ref().map_or(CLOSELY_MAX, |health| Duration::from_millis(health.every.ms()));
        let pause = if healthy { every.max(CLOSELY) } else { closely.min(every.max(CLOSELY)) };
        if !healthy {
            closely = (closely * 5 / 4).min(CLOSELY_MAX);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            () = shutdown.cancelled() => return,
        }
    }
}

async fn check(health: &Health) -> bool {
    let check = async {
        match (&health.tcp, &health.http) {
            (Some(tcp), _) => TcpStream::connect(("127.0.0.1", tcp.port)).await.is_ok(),
            (None, Some(http)) => http_answers(http.port, &http.path).await.unwrap_or(false),
            (None, None) => true,
        }
    };
    tokio::time::timeout(LIMIT, check).await.unwrap_or(false)
}

/// One plain request: a whole HTTP client for a status line would be a connection pool that keeps the grain awake.
async fn http_answers(port: u16, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\nuser-agent: scrapd-health\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    // `HTTP/1.1 200`
    let status = std::str::from_utf8(head.get(9..12).unwrap_or_default()).ok();
    let status = status.and_then(|digits| digits.parse::<u16>().ok());
    Ok(status.is_some_and(|status| (100..400).contains(&status)))
}
