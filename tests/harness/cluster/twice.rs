//! Watches that a grain never runs on two nodes at once, by looking at the processes of the machine. A grain runs on a node
//! from the start of its first process until the end of its last one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::bail;

use super::processes::{self, Process};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A look-out for grains that run twice.
pub struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    task: Option<JoinHandle<Option<String>>>,
}

impl Watch {
    /// Begins to watch every grain below this folder.
    #[must_use]
    pub fn start(root: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looks = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), looks.clone());
        let task = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(twice) = look(&root) {
                    return Some(twice);
                }
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
            None
        });
        Self { stop, looks, task: Some(task) }
    }

    /// How often it has looked so far and seen nothing.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Whether it has found a grain that runs twice.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the watch. Returns how often it looked.
    ///
    /// # Errors
    /// If a grain ran on two nodes at once.
    pub fn end(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.task.take().and_then(|task| task.join().ok()).flatten();
        if let Some(twice) = found {
            bail!("{twice}");
        }
        Ok(self.looks.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn look(root: &std::path::Path) -> Option<String> {
    let mut seen: Vec<(String, String, Process)> = Vec::new();
    for process in processes::of_folder(root) {
        let Some(grain) = process.variable("SCRAP_GRAIN") else { continue };
        let Some(node) = process.variable("SCRAP_NODE") else { continue };
        // The look takes a while: only who is still alive now has lived together with this one.
        let other = seen.iter().find(|(name, there, other)| {
            *name == grain && *there != node && other.is_alive() && process.is_alive()
        });
        if let Some((_, there, other)) = other {
            return Some(format!(
                "grain {grain} runs twice: process {} on {there} and process {} on {node}",
                other.pid, process.pid
            ));
        }
        seen.push((grain, node, process));
    }
    None
}
