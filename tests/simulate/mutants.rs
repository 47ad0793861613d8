//! Plants one bug after the other and looks for a history that breaks a promise because of it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use scrap_decide::mutant::{Mutant, plant};

use super::{play, tree};

/// Histories that are played between two looks at whether one was found.
const BATCH: u64 = 32;

/// Every second history is one in which nodes die all the time.
fn is_hard(seed: u64) -> bool {
    seed % 2 == 1
}

/// What a history breaks, if it does.
fn broken(seed: u64) -> Option<String> {
    let played = tree(seed, is_hard(seed)).and_then(|tree| play(&tree.current()));
    played.err().map(|why| why.root_cause().to_string())
}

/// The first history of a batch that breaks a promise.
fn first_of(from: u64, jobs: usize) -> Option<u64> {
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        let worker = || {
            let mut first = None;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + BATCH {
                    return first;
                }
                if first.is_none() && broken(seed).is_some() {
                    first = Some(seed);
                }
            }
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).min()
    })
}

/// Prints a row for each; success if all were caught within so many histories.
pub(crate) fn run(limit: u64, jobs: usize) -> Result<ExitCode> {
    println!("{:<20} {:<8} {:>6}  BY", "PLANTED BUG", "CAUGHT", "SEED");
    let mut escaped = 0;
    for mutant in Mutant::ALL {
        plant(Some(mutant));
        let mut from = 0;
        let found = loop {
            let found = first_of(from, jobs);
            from += BATCH;
            if found.is_some() || from >= limit {
                break found;
            }
        };
        let why = found.and_then(broken);
        plant(None);
        let name = format!("{mutant:?}");
        match found {
            Some(seed) => {
                let why = why.context("a history that failed does not fail again")?;
                // What fails without the bug too has not found the bug.
                if let Some(anyway) = broken(seed) {
                    println!("{name:<20} {:<8} {seed:>6}  without the bug too: {anyway}", "no");
                    escaped += 1;
                } else {
                    println!("{name:<20} {:<8} {seed:>6}  {why}", "caught");
                }
            }
            None => {
                println!("{name:<20} {:<8} {:>6}  not in {from} histories", "no", "-");
                escaped += 1;
            }
        }
    }
    let all = Mutant::ALL.len();
    println!("{} of {all} planted bugs were caught", all - escaped);
    Ok(if escaped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
