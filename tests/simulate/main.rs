//! Plays thousands of random histories of a simulated cluster, each from its own seed, and says what they were. One that
//! breaks a promise is made smaller and left as a scenario.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

#[cfg(feature = "mutants")]
mod mutants;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use scrap_tests::sim::random::{Case, Report, case, hard_case};
use scrap_tests::sim::trace::Tally;

/// So often a history that fails is played again while it is made smaller.
const SMALLER: u32 = 300;

/// Random histories of a simulated cluster.
#[derive(Debug, Parser)]
struct Options {
    /// How many histories.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, with its log.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Go on until so many grains have failed over.
    #[arg(long)]
    failovers: Option<u64>,
    /// Begin no history after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Nodes die and come back all the time.
    #[arg(long)]
    hard: bool,
    /// Plant one bug after the other and say which history finds it, within `--seeds`.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// So many at once; by itself one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// With `--seed`: every action and every entry too.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Where scenarios of broken promises are left.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

/// What all workers have done.
#[derive(Default)]
struct Done {
    histories: u64,
    tally: Tally,
    /// By seed, so that the number of all does not depend on who was faster.
    hash: std::collections::BTreeMap<u64, String>,
    broken: Vec<u64>,
}

fn tree(seed: u64, hard: bool) -> Result<Box<dyn ValueTree<Value = Case>>> {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *to = from;
    }
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let cases: BoxedStrategy<Case> = if hard { hard_case().boxed() } else { case().boxed() };
    cases.new_tree(&mut runner).map_err(|why| anyhow!("there is no case: {why}"))
}

/// Plays a case; a panic is a broken promise too.
fn play(case: &Case) -> Result<Report> {
    let played = catch_unwind(AssertUnwindSafe(|| case.play()));
    played.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        Err(anyhow!("--- world.toml\n{}\n--- script\n{}", case.world(), case.script())
            .context(said.to_owned()))
    })
}

/// Makes a case that fails smaller and writes it down.
fn smaller(seed: u64, hard: bool, out: &Path) -> Result<(PathBuf, String)> {
    let mut tree = tree(seed, hard)?;
    let mut last = tree.current();
    let mut left = SMALLER;
    while left > 0 {
        let went = if play(&tree.current()).is_err() {
            last = tree.current();
            tree.simplify()
        } else {
            tree.complicate()
        };
        if !went {
            break;
        }
        left -= 1;
    }
    let why = play(&last).err().context("it does not fail again")?;
    let folder = out.join(format!("seed-{seed}"));
    std::fs::create_dir_all(&folder)?;
    let texts = [
        ("README", format!("What seed {seed} found.\n")),
        ("world.toml", last.world()),
        ("script", last.script()),
        ("found", format!("{why:#}\n")),
    ];
    for (name, text) in texts {
        std::fs::write(folder.join(name), text)?;
    }
    Ok((folder, why.root_cause().to_string()))
}

fn work(options: &Options, next: &AtomicU64, enough: &AtomicBool, done: &Mutex<Done>) {
    let began = Instant::now();
    let limit = options.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    while !enough.load(Ordering::Relaxed) && limit.is_none_or(|limit| began.elapsed() < limit) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if options.failovers.is_none() && seed >= options.from + options.seeds {
            return;
        }
        let played = tree(seed, options.hard).and_then(|tree| play(&tree.current()));
        let Ok(mut done) = done.lock() else { return };
        done.histories += 1;
        match played {
            Ok(report) => {
                done.tally.add(&report.tally);
                done.hash.insert(seed, report.hash);
                if options.failovers.is_some_and(|wanted| done.tally.failovers >= wanted) {
                    enough.store(true, Ordering::Relaxed);
                }
            }
            Err(_) => {
                done.broken.push(seed);
                if done.broken.len() >= 5 {
                    enough.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

fn one(seed: u64, options: &Options) -> Result<ExitCode> {
    let case = tree(seed, options.hard)?.current();
    println!("--- world.toml\n{}\n--- script\n{}", case.world(), case.script());
    let (lines, played) = match options.trace {
        true => case.trace(),
        false => (Vec::new(), play(&case)),
    };
    for line in lines {
        println!("{line}");
    }
    match played {
        Ok(report) => {
            let Report { hash, tally } = report;
            println!("--- seed {seed} breaks no promise; trace {hash}\n{tally:?}");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("--- seed {seed} breaks a promise\n{why:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return one(seed, &options);
    }
    // What a history says when it panics is said once, when it was made smaller.
    std::panic::set_hook(Box::new(|_| ()));
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let jobs = jobs.unwrap_or(1);
    #[cfg(feature = "mutants")]
    if options.mutants {
        return mutants::run(options.seeds, jobs);
    }
    let (next, enough) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let done = Mutex::new(Done::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(&options, &next, &enough, &done));
        }
    });
    let done = done.into_inner().map_err(|_| anyhow!("a worker panicked"))?;
    said(&options, &done, began.elapsed())
}

fn said(options: &Options, done: &Done, took: Duration) -> Result<ExitCode> {
    let Tally { ms, entries, failovers, moves, orphans, fences, faults } = &done.tally;
    let mut all = blake3::Hasher::new();
    for (seed, hash) in &done.hash {
        all.update(format!("{seed} {hash}\n").as_bytes());
    }
    println!(
        "{} histories from seed {} in {:.0} s: {:.1} simulated hours, {entries} entries",
        done.histories,
        options.from,
        took.as_secs_f64(),
        *ms as f64 / 3_600_000.0
    );
    println!("  {failovers} failovers, {moves} moves, {fences} fences, {orphans} orphans");
    let faults: Vec<String> =
        faults.iter().map(|(word, count)| format!("{word} {count}")).collect();
    println!("  {}", faults.join(", "));
    println!("  trace {}", all.finalize().to_hex());
    let hard = if options.hard { " --hard" } else { "" };
    for seed in &done.broken {
        let (folder, why) = smaller(*seed, options.hard, &options.out)?;
        println!("seed {seed} breaks a promise: {why}\n  see {}", folder.display());
        println!(
            "  again: cargo run --release -p scrap-tests --bin scrap-sim -- --seed {seed}{hard}"
        );
    }
    if done.broken.is_empty() {
        println!("no promise was broken");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
