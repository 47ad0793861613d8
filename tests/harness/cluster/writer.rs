//! A client that writes into a guestbook all the time and remembers what was acknowledged, and when nobody answered.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scrap_schema::time::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::grain::{Entry, Guestbook};
use super::{now, wait_for};

/// Pause between two writes.
const PAUSE: Duration = Duration::from_millis(5);

/// What the client has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Acknowledged entries with the time of the acknowledgement.
    pub acknowledged: Vec<(Entry, Timestamp)>,
    /// Times without an acknowledgement: from the last one before a failure to the first one after it.
    pub outages: Vec<Duration>,
    /// Whether the last attempt has failed.
    pub is_out: bool,
}

impl Seen {
    /// The longest time in which nothing was acknowledged.
    #[must_use]
    pub fn longest_outage(&self) -> Duration {
        self.outages.iter().max().copied().unwrap_or_default()
    }

    /// Acknowledged entries that are not among these.
    #[must_use]
    pub fn missing<'a>(&'a self, entries: &[Entry]) -> Vec<&'a (Entry, Timestamp)> {
        let there: BTreeSet<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        self.acknowledged.iter().filter(|(entry, _)| !there.contains(entry.text.as_str())).collect()
    }
}

/// A client that writes until it is asked to end.
pub struct Writer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Begins to write.
    #[must_use]
    pub fn start(book: &Guestbook) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(book.clone(), seen.clone(), stop.clone()));
        Self { seen, stop, task }
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more writes were acknowledged.
    ///
    /// # Errors
    /// If that takes longer than the limit.
    pub async fn more(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let wanted = self.seen().acknowledged.len() + count;
        let what = format!("{wanted} writes are acknowledged");
        wait_for(
            limit,
            &what,
            async || Ok((self.seen().acknowledged.len() >= wanted).then_some(())),
        )
        .await
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it has panicked.
    pub async fn end(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(seen)
    }
}

async fn write(book: Guestbook, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    let mut last = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let result = book.sign(&format!("write {number}")).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(entry) => {
                    if seen.is_out {
                        seen.outages.push(last.elapsed());
                    }
                    seen.is_out = false;
                    seen.acknowledged.push((entry, now()));
                    last = Instant::now();
                }
                Err(_) => seen.is_out = true,
            }
        }
        sleep(PAUSE).await;
    }
}
