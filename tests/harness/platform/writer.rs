//! A visitor who writes into a book all the time and remembers which pages were acknowledged and when nobody answered. No two
//! pages have the same number, so the book itself tells afterwards what was lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scrap_schema::time::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::book::Book;
use crate::cluster::{now, wait_for};

/// Pause between two writes.
const PAUSE: Duration = Duration::from_millis(5);

/// What the visitor has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Acknowledged pages with the time of the acknowledgement.
    pub acknowledged: Vec<(u64, Timestamp)>,
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

    /// Acknowledged pages that are not among these.
    #[must_use]
    pub fn missing(&self, pages: &BTreeSet<u64>) -> Vec<(u64, Timestamp)> {
        self.acknowledged.iter().filter(|(page, _)| !pages.contains(page)).copied().collect()
    }
}

/// A visitor who writes until asked to end.
pub struct Writer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Begins to write pages from this number on.
    #[must_use]
    pub fn start(book: &Book, first: u64) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(book.clone(), first, seen.clone(), stop.clone()));
        Self { seen, stop, task }
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more pages were acknowledged.
    ///
    /// # Errors
    /// If that takes longer than the limit.
    pub async fn more(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let wanted = self.seen().acknowledged.len() + count;
        wait_for(limit, &format!("{wanted} pages are acknowledged"), async || {
            Ok((self.seen().acknowledged.len() >= wanted).then_some(()))
        })
        .await
    }

    /// Waits until nothing is acknowledged any more.
    ///
    /// # Errors
    /// If that takes longer than the limit.
    pub async fn is_out(&self, limit: Duration) -> anyhow::Result<()> {
        wait_for(limit, "nobody answers", async || Ok(self.seen().is_out.then_some(()))).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it has panicked.
    pub async fn end(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn write(book: Book, first: u64, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    let mut last = Instant::now();
    for page in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let result = book.write(page).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => {
                    if seen.is_out {
                        seen.outages.push(last.elapsed());
                    }
                    seen.is_out = false;
                    seen.acknowledged.push((page, now()));
                    last = Instant::now();
                }
                Err(_) => seen.is_out = true,
            }
        }
        sleep(PAUSE).await;
    }
}
