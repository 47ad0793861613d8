//! A visitor of the guestbook that signs it all the time and remembers every answer. Knows only the guestbook's
//! address, nothing of the cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Client;
use scrap_host::clock;
use scrap_schema::time::BootTime;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::ledger::{Acknowledged, Entry, Ledger};

/// Time from one entry to the next.
const PACE: Duration = Duration::from_millis(20);
/// Limit for an answer.
const ASK: Duration = Duration::from_secs(2);
/// Pause before looking again.
const PAUSE: Duration = Duration::from_millis(20);

/// The guestbook, as its list says.
#[derive(Deserialize)]
struct Listing {
    entries: Vec<Entry>,
}

/// Signs from its start until it is dropped.
pub(super) struct Visitor {
    http: Client,
    url: String,
    ledger: Arc<Mutex<Ledger>>,
    task: JoinHandle<()>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitor {
    /// Begins to sign. `run` makes the texts of this visitor different from all others.
    pub(super) fn start(url: String, run: String) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().timeout(ASK).build()?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let task = tokio::spawn(sign(http.clone(), url.clone(), run, ledger.clone()));
        Ok(Self { http, url, ledger, task })
    }

    /// What it was promised so far.
    pub(super) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    /// Waits until it was promised what is asked for, and says when that was.
    pub(super) async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&Ledger) -> bool,
    ) -> anyhow::Result<BootTime> {
        let end = Instant::now() + limit;
        while !enough(&lock(&self.ledger)) {
            if Instant::now() >= end {
                bail!("{what}: not after {} s", limit.as_secs());
            }
            sleep(PAUSE).await;
        }
        Ok(clock::boot_time())
    }

    /// Waits for so many more answers.
    pub(super) async fn answers(&self, more: usize, limit: Duration) -> anyhow::Result<BootTime> {
        let wanted = lock(&self.ledger).acknowledged.len() + more;
        self.wait_for("the guestbook does not answer", limit, |ledger| {
            ledger.acknowledged.len() >= wanted
        })
        .await
    }

    /// Everything that stands in the guestbook.
    pub(super) async fn listing(&self) -> anyhow::Result<Vec<Entry>> {
        let response = self.http.get(format!("{}/entries", self.url)).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let listing: Listing = response.context("the guestbook cannot be read")?.json().await?;
        Ok(listing.entries)
    }
}

async fn sign(http: Client, url: String, run: String, ledger: Arc<Mutex<Ledger>>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        pace.tick().await;
        let sent = clock::wall();
        let text = format!("tour {run}, line {number}");
        match one(&http, &url, text).await {
            Some((entry, bytes)) => lock(&ledger).acknowledged.push(Acknowledged {
                entry,
                sent,
                answered: clock::wall(),
                at: clock::boot_time(),
                bytes,
            }),
            None => lock(&ledger).failures += 1,
        }
    }
}

/// One entry; `None`: it was not acknowledged.
async fn one(http: &Client, url: &str, text: String) -> Option<(Entry, u64)> {
    let response = http.post(format!("{url}/entries")).body(text).send().await.ok()?;
    if response.status().as_u16() != 201 {
        return None;
    }
    let bytes = response.bytes().await.ok()?;
    let entry = serde_json::from_slice(&bytes).ok()?;
    // The line in the file is the answer and its end.
    Some((entry, u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_add(1)))
}
