//! Watches that a grain never runs on two nodes at once, by looking at the processes of the machine outside: every grain has a
//! range of user ids of its own, the same on every node, and every node a control group of its own.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::bail;

use crate::cluster::processes::Process;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// The first user id of grains.
const FIRST: u32 = 1_000_000;
/// Ids of one grain.
const RANGE: u32 = 65_536;

/// A look-out for grains that run twice.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    task: Option<JoinHandle<Option<String>>>,
}

impl Watch {
    /// Begins to watch every grain of a lab.
    #[must_use]
    pub fn start(lab: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), seen.clone());
        let group = format!("/scrap-lab.{lab}/");
        let task = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match look(&group) {
                    Ok(grains) => counted.fetch_add(grains, Ordering::Relaxed),
                    Err(twice) => return Some(twice),
                };
                thread::sleep(PAUSE);
            }
            None
        });
        Self { stop, seen, task: Some(task) }
    }

    /// Ends the watch. Returns how often it saw a grain that ran.
    ///
    /// # Errors
    /// If a grain ran on two nodes at once, or if it never saw one: then it has looked at the wrong place.
    pub fn end(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(twice) = self.task.take().and_then(|task| task.join().ok()).flatten() {
            bail!("{twice}");
        }
        let seen = self.seen.load(Ordering::Relaxed);
        if seen == 0 {
            bail!("no process of a grain was seen");
        }
        Ok(seen)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How many grains run, or which one runs twice.
fn look(group: &str) -> Result<u64, String> {
    let mut seen: BTreeMap<u32, (String, Process)> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process) = pid.and_then(Process::of) else { continue };
        let Some(range) = range(process.pid) else { continue };
        let Some(node) = node(process.pid, group) else { continue };
        match seen.get(&range) {
            // The look takes a while: only who is still alive now has lived together with this one.
            Some((there, other)) if *there != node && other.is_alive() && process.is_alive() => {
                return Err(format!(
                    "a grain runs twice: process {} on {there} and process {} on {node}",
                    other.pid, process.pid
                ));
            }
            Some((_, other)) if other.is_alive() => {}
            Some(_) | None => {
                seen.insert(range, (node, process));
            }
        }
    }
    Ok(u64::try_from(seen.len()).unwrap_or_default())
}

/// Which grain's ids a process has.
fn range(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let id: u32 = ids.split_ascii_whitespace().next()?.parse().ok()?;
    id.checked_sub(FIRST).map(|id| id / RANGE)
}

/// Which node of the lab a process is on.
fn node(pid: i32, group: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let rest = groups.lines().find_map(|line| line.split_once(group))?.1;
    Some(rest.split('/').next().unwrap_or(rest).to_owned())
}
