//! Part of `agent`: tells people, as events, what this node found on its host by itself.

use std::collections::BTreeMap;

use scrap_decide::alarm::{News, is_news, pool_news};
use scrap_host::clock;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::node::PoolFacts;
use scrap_schema::time::BootTime;
use tracing::warn;

use crate::daemon::Daemon;

/// What people were told of by this start of the daemon.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The last sentence about each subject, and when it was said.
    said: BTreeMap<String, (String, BootTime)>,
    /// How the storage was when they last heard of it. A daemon that starts takes it for well.
    pool: PoolFacts,
}

/// Tells what is wrong with a subject, unless that was told just now.
pub(super) async fn alarm(daemon: &Daemon, subject: &str, what: String) {
    let now = clock::boot_time();
    let untold = daemon.agent.with(|state| {
        let last = state.told.said.get(subject).map(|(what, at)| (what.as_str(), *at));
        is_news(last, &what, now)
    });
    if untold && tell(daemon, News { what: what.clone(), well: false }).await {
        daemon.agent.with(|state| {
            // What may be said again need not be remembered.
            state.told.said.retain(|_, (what, at)| !is_news(Some((what, *at)), what, now));
            state.told.said.insert(subject.to_owned(), (what, now));
        });
    }
}

/// Tells how the storage has changed. What cannot be told now is told when it is measured again.
pub(super) async fn pool(daemon: &Daemon, now: &PoolFacts) {
    if let Some(news) = daemon.agent.with(|state| pool_news(&state.told.pool, now))
        && !tell(daemon, news).await
    {
        return;
    }
    daemon.agent.with(|state| state.told.pool = now.clone());
}

/// Says whether it is an event now.
pub(super) async fn tell(daemon: &Daemon, news: News) -> bool {
    let Some(boot) = daemon.agent.with(|state| state.boot) else { return false };
    let News { what, well } = news;
    let command = Command::AlarmNode { node: daemon.me, boot, what, well };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let told = daemon.consensus.propose(proposal).await;
    if let Err(error) = &told {
        warn!(%error, "the alarm could not be told");
    }
    told.is_ok()
}
