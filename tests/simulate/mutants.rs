//! Plants one bug after the other and looks for a history that breaks a promise because of it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use scrap_decide::mutant::{Mutant, plant};

use super::{kind_of, play, tree};

/// Histories that are played between two looks at whether one was found.
const BATCH: u64 = 32;

/// What a history breaks, if it does.
fn broken(seed: u64) -> Option<String> {
    let played = tree(seed, kind_of(seed, None)).and_then(|tree| play(&tree.current()));
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

/// Prints a row for each. How many there are, and how many were not found within so many histories.
pub(crate) fn table(only: Option<&str>, limit: u64, jobs: usize) -> Result<(usize, usize)> {
    println!("{:<20} {:<8} {:>6}  BY", "PLANTED BUG", "CAUGHT", "SEED");
    let all = Mutant::ALL.map(|mutant| (format!("{mutant:?}"), mutant));
    let all: Vec<_> = all.into_iter().filter(|it| only.is_none_or(|only| only == it.0)).collect();
    ensure!(!all.is_empty(), "there is no such planted bug");
    let mut escaped = 0;
    for (name, mutant) in &all {
        plant(Some(*mutant));
        // The history that found it last, first.
        let with_why = |seed| broken(seed).map(|why| (seed, why));
        let mut found = known(name).and_then(with_why);
        let mut from = 0;
        while found.is_none() && from < limit {
            found = first_of(from, jobs).and_then(with_why);
            from += BATCH;
        }
        plant(None);
        match found {
            // A history that fails without the bug too has not found the bug.
            Some((seed, why)) => match broken(seed) {
                None => println!("{name:<20} {:<8} {seed:>6}  {why}", "caught"),
                Some(anyway) => {
                    println!("{name:<20} {:<8} {seed:>6}  without the bug too: {anyway}", "no");
                    escaped += 1;
                }
            },
            None => {
                println!("{name:<20} {:<8} {:>6}  not in {from} histories", "no", "-");
                escaped += 1;
            }
        }
    }
    let all = all.len();
    println!("{} of {all} planted bugs were caught", all - escaped);
    Ok((all, escaped))
}

/// The seed that found a bug last.
fn known(name: &str) -> Option<u64> {
    let mut lines = include_str!("known.txt").lines().filter_map(|line| line.split_once(' '));
    lines.find(|(of, _)| *of == name).and_then(|(_, seed)| seed.trim().parse().ok())
}

/// Success if all were caught.
pub(crate) fn run(only: Option<&str>, limit: u64, jobs: usize) -> Result<ExitCode> {
    let (_, escaped) = table(only, limit, jobs)?;
    Ok(if escaped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
