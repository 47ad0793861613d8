//! The command line, and what each command says at its end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use scrap_tests::chaos::accept::{self, Id};
use scrap_tests::chaos::machines;
use scrap_tests::chaos::nemesis::Kind;
use scrap_tests::chaos::run::{self, say};
use scrap_tests::chaos::stories::{self, Story};
use scrap_tests::chaos::watchdog;
use scrap_tests::chaos::world;

/// Faults over a real cluster in a lab, while clients work; says PASS, FAIL or INVALID.
#[derive(Debug, Parser)]
#[command(name = "scrap-chaos", args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Chaos,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure a figure that was promised: A4, A6, A7 or A8; says PASS or FAIL.
    Accept {
        /// Which.
        id: String,
        /// How often.
        #[arg(short = 'n', long = "times")]
        times: Option<usize>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Power cuts over a cluster of test machines, one after the other; `tests/vm/cuts` prepares them.
    Cuts(Cuts),
    /// The watchdog of test machines; `tests/vm/watchdog` prepares them.
    Watchdog {
        /// `i6300esb` or `softdog`.
        device: String,
    },
    /// Play one course of events; without a name, list them.
    Story {
        /// Which.
        name: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// What the cluster is.
#[derive(Debug, Args)]
struct Cluster {
    /// What chance is made of; by itself a number that no run had.
    #[arg(long)]
    seed: Option<u64>,
    /// `dir` or `zfs`.
    #[arg(long, default_value = "dir")]
    datasets: String,
    /// The numbers of the lease: `fast`, `default` or a preset such as `swift`; by itself what fits.
    #[arg(long)]
    timing: Option<String>,
}

/// A run on machines.
#[derive(Debug, Args)]
struct Cuts {
    /// How many at least; every kind comes once before any comes again.
    rounds: usize,
    /// What chance is made of; by itself a number that no run had.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds of power cuts, such as `power-owner,power-twice`; by itself all.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// `process`, which is OpenZFS and processes, or `dir`.
    #[arg(long, default_value = "process")]
    hands: String,
    /// Deeds in a second before and after every cut, or the run says nothing.
    #[arg(long, default_value_t = 5)]
    least: u64,
    /// A folder for everything that was seen.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A run.
#[derive(Debug, Args)]
struct Chaos {
    /// How long faults come.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// 3 to 5.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Only these kinds of faults, such as `kill-leader,lose`; by itself all.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Deeds in a second before and after every fault, or the run says nothing.
    #[arg(long, default_value_t = 50)]
    least: u64,
    /// Clients of the API.
    #[arg(long, default_value_t = 12)]
    clients: u64,
    /// Grains.
    #[arg(long, default_value_t = 3)]
    grains: usize,
    /// A folder for everything that was seen.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
}

/// A seed that no run had.
fn fresh() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() % 1_000_000
}

/// Kinds of faults by their names; all of these if there are no names.
fn faults(names: &[String], all: &[Kind]) -> anyhow::Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let named = |name: &String| {
        let kind = Kind::of(name).filter(|kind| all.contains(kind));
        kind.with_context(|| {
            let all: Vec<&str> = all.iter().map(|kind| kind.name()).collect();
            format!("`{name}` is no kind of fault; there are {}", all.join(", "))
        })
    };
    names.iter().map(named).collect()
}

impl Cluster {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(fresh)
    }

    fn kind(&self, nodes: usize, timing: &str) -> world::Kind {
        let timing = self.timing.clone().unwrap_or_else(|| timing.to_owned());
        world::Kind { nodes, datasets: self.datasets.clone(), timing, ..world::Kind::default() }
    }
}

async fn chaos(options: Chaos) -> anyhow::Result<bool> {
    ensure!((3..=5).contains(&options.nodes), "3 to 5 nodes can be had");
    let judgement = run::play(run::Options {
        minutes: options.minutes,
        rounds: 0,
        seed: options.cluster.seed(),
        kind: options.cluster.kind(options.nodes, "fast"),
        faults: faults(&options.faults, &Kind::ALL)?,
        least: options.least,
        clients: options.clients,
        grains: options.grains,
        out: options.out,
    })
    .await?;
    Ok(judgement.word() == "PASS")
}

fn machines(hands: &str, watchdog: Option<&str>) -> world::Kind {
    let (hands, watchdog) = (hands.to_owned(), watchdog.map(ToOwned::to_owned));
    world::Kind { machines: Some(machines::Spec { hands, watchdog }), ..world::Kind::default() }
}

async fn cuts(options: Cuts) -> anyhow::Result<bool> {
    let judgement = run::play(run::Options {
        minutes: 0,
        rounds: options.rounds,
        seed: options.seed.unwrap_or_else(fresh),
        kind: machines(&options.hands, None),
        faults: faults(&options.faults, &Kind::POWER)?,
        least: options.least,
        clients: 4,
        grains: 2,
        out: options.out,
    })
    .await?;
    Ok(judgement.word() == "PASS")
}

async fn play(line: Line) -> anyhow::Result<bool> {
    match line.verb {
        None => chaos(line.run).await,
        Some(Verb::Accept { id, times, cluster }) => {
            let found = Id::ALL.into_iter().find(|known| known.name() == id);
            let id = found.with_context(|| {
                format!(
                    "`{id}` is not measured here; there are {}",
                    Id::ALL.map(Id::name).join(", ")
                )
            })?;
            let kind = cluster.kind(3, id.timing());
            accept::accept(id, times.unwrap_or(id.times()), cluster.seed(), kind).await
        }
        Some(Verb::Cuts(options)) => cuts(options).await,
        Some(Verb::Watchdog { device }) => {
            watchdog::play(&device, machines("dir", Some(&device))).await
        }
        Some(Verb::Story { name, cluster }) => {
            let list = || Story::ALL.map(|story| format!("  {}\n", story.said())).concat();
            let Some(name) = name else {
                say(&list());
                return Ok(true);
            };
            let found = Story::ALL.into_iter().find(|story| story.name() == name);
            let story = found.with_context(|| format!("no such story; there are\n{}", list()))?;
            let witness = story.witness().map(ToOwned::to_owned);
            let kind = world::Kind { witness, ..cluster.kind(story.nodes(), story.timing()) };
            stories::play(story, cluster.seed(), kind).await
        }
    }
}

/// Runs on this thread alone, which moves into the network of the lab.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> ExitCode {
    let line = Line::parse();
    if !rustix::process::geteuid().is_root() {
        say("error: labs need root\n  hint: run it as root");
        return ExitCode::from(2);
    }
    match play(line).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
