//! A visitor who does not wait: a new visit begins every twenty milliseconds, whether the ones before were answered or not. The
//! pauses between answers are how long nobody was served, whatever the patience of a single visitor is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::book::Book;

/// Pause between the beginnings of two visits.
const EVERY: Duration = Duration::from_millis(20);

/// Watches until it is dropped.
pub struct Watcher {
    answers: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins to watch.
    #[must_use]
    pub fn start(book: &Book) -> Self {
        let answers = Arc::default();
        let task = tokio::spawn(watch(book.clone(), Arc::clone(&answers)));
        Self { answers, task }
    }

    /// The longest time without an answer that began after this moment.
    #[must_use]
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = answers.iter().zip(answers.iter().skip(1));
        let pauses = pairs.filter(|(from, _)| **from >= since).map(|(from, to)| *to - *from);
        pauses.max().unwrap_or_default()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(book: Book, answers: Arc<Mutex<Vec<Instant>>>) {
    let mut visits = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (book, answers) = (book.clone(), Arc::clone(&answers));
        visits.spawn(async move {
            if book.front().await.is_ok() {
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
        while visits.try_join_next().is_some() {}
    }
}
