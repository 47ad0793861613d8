//! Plays thousands of random histories of a simulated cluster, each from its own seed, and says what they were. One that
//! breaks a promise is made smaller and left as a scenario.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

mod accept;
#[cfg(feature = "mutants")]
mod mutants;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use scrap_tests::sim::random::{Case, Kind, Report, play_texts};
use scrap_tests::sim::trace::Tally;

/// So often a history that fails is played again while it is made smaller.
const SMALLER: u32 = 300;

/// What else this can do.
#[derive(Debug, Subcommand)]
enum Show {
    /// Show a figure that was promised.
    Accept(accept::Accept),
}

/// Random histories of a simulated cluster.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    show: Option<Show>,
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
    /// Only histories of this kind: `mild`, `hard`, `aside`, `storm`, `power`, `members`. By itself they take turns.
    #[arg(long)]
    kind: Option<Kind>,
    /// Plant one bug after the other and say which history finds it, within `--seeds`.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// With `--mutants`: only this one.
    #[cfg(feature = "mutants")]
    #[arg(long, requires = "mutants")]
    only: Option<String>,
    /// So many at once; by itself one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// With `--seed`: every action and every entry too.
    #[arg(long)]
    trace: bool,
    /// Only this folder, as one is left of a broken promise, with its log.
    #[arg(long)]
    play: Option<PathBuf>,
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

/// Of which kind the history of a seed is.
fn kind_of(seed: u64, only: Option<Kind>) -> Kind {
    let turn = usize::try_from(seed).unwrap_or(0) % Kind::ALL.len();
    only.unwrap_or(Kind::ALL[turn])
}

fn tree(seed: u64, kind: Kind) -> Result<Box<dyn ValueTree<Value = Case>>> {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *to = from;
    }
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    kind.cases().new_tree(&mut runner).map_err(|why| anyhow!("there is no case: {why}"))
}

/// Plays a case; a panic is a broken promise too.
fn play(case: &Case) -> Result<Report> {
    let played = catch_unwind(AssertUnwindSafe(|| case.play()));
    played.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        let words = format!("--- world.toml\n{}\n--- script\n{}", case.world(), case.script());
        Err(anyhow!("{said}").context(words))
    })
}

/// Makes a case that fails smaller and writes it down.
fn smaller(seed: u64, kind: Kind, out: &Path) -> Result<(PathBuf, String)> {
    let mut tree = tree(seed, kind)?;
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

/// When it is enough.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// After so many histories.
    Histories(u64),
    /// After so many failovers.
    Failovers(u64),
    /// After so many simulated hours.
    Hours(u64),
    /// After so many diverged heads that were set aside and told.
    Returns(u64),
}

impl Wanted {
    fn is_enough(self, done: &Done) -> bool {
        match self {
            Self::Histories(_) => false,
            Self::Failovers(wanted) => done.tally.failovers >= wanted,
            Self::Hours(wanted) => done.tally.ms / 3_600_000 >= wanted,
            Self::Returns(wanted) => done.tally.orphans >= wanted,
        }
    }
}

/// What every worker knows.
struct Plan {
    from: u64,
    wanted: Wanted,
    kind: Option<Kind>,
    limit: Option<Duration>,
    began: Instant,
}

fn work(plan: &Plan, next: &AtomicU64, enough: &AtomicBool, done: &Mutex<Done>) {
    let over = || plan.limit.is_some_and(|limit| plan.began.elapsed() >= limit);
    while !enough.load(Ordering::Relaxed) && !over() {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if matches!(plan.wanted, Wanted::Histories(count) if seed >= plan.from + count) {
            return;
        }
        let played = tree(seed, kind_of(seed, plan.kind)).and_then(|tree| play(&tree.current()));
        let Ok(mut done) = done.lock() else { return };
        done.histories += 1;
        match played {
            Ok(report) => {
                done.tally.add(&report.tally);
                done.hash.insert(seed, report.hash);
            }
            Err(_) => done.broken.push(seed),
        }
        if plan.wanted.is_enough(&done) || done.broken.len() >= 5 {
            enough.store(true, Ordering::Relaxed);
        }
    }
}

/// Plays histories on all processors until it is enough.
fn play_all(plan: &Plan, jobs: usize) -> Result<Done> {
    let (next, enough) = (AtomicU64::new(plan.from), AtomicBool::new(false));
    let done = Mutex::new(Done::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(plan, &next, &enough, &done));
        }
    });
    done.into_inner().map_err(|_| anyhow!("a worker panicked"))
}

fn play_many(from: u64, wanted: Wanted, kind: Option<Kind>, jobs: usize) -> Result<Done> {
    play_all(&Plan { from, wanted, kind, limit: None, began: Instant::now() }, jobs)
}

fn one(seed: u64, options: &Options) -> Result<ExitCode> {
    let case = tree(seed, kind_of(seed, options.kind))?.current();
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

/// A history that was left as a folder.
fn again(folder: &Path, trace: bool) -> Result<ExitCode> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (mut log, mut lines) = (String::new(), trace.then(Vec::new));
    let played = play_texts(&read("world.toml")?, &read("script")?, &mut log, &mut lines);
    for line in lines.into_iter().flatten() {
        println!("{line}");
    }
    println!("{log}");
    match played {
        Ok(report) => println!("breaks no promise; trace {}", report.hash),
        Err(why) => {
            println!("breaks a promise: {why:#}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(folder) = &options.play {
        return again(folder, options.trace);
    }
    if let Some(seed) = options.seed {
        return one(seed, &options);
    }
    // What a history says when it panics is said once, when it was made smaller.
    std::panic::set_hook(Box::new(|_| ()));
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let jobs = jobs.unwrap_or(1);
    #[cfg(feature = "mutants")]
    if options.mutants {
        return mutants::run(options.only.as_deref(), options.seeds, jobs);
    }
    if let Some(Show::Accept(accept)) = &options.show {
        return accept::run(accept, jobs);
    }
    let wanted = options.failovers.map_or(Wanted::Histories(options.seeds), Wanted::Failovers);
    let limit = options.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let began = Instant::now();
    let plan = Plan { from: options.from, wanted, kind: options.kind, limit, began };
    let done = play_all(&plan, jobs)?;
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
    for seed in &done.broken {
        let (folder, why) = smaller(*seed, kind_of(*seed, options.kind), &options.out)?;
        println!("seed {seed} breaks a promise: {why}\n  see {}", folder.display());
        println!(
            "  again: cargo run --release -p scrap-tests --bin scrap-sim -- --seed {seed} --kind {}",
            kind_of(*seed, options.kind).word()
        );
    }
    if done.broken.is_empty() {
        println!("no promise was broken");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
