//! Figures that were promised, shown on simulated clusters: each prints PASS or FAIL with seed, commit and what was counted.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use scrap_tests::commit;
use scrap_tests::sim::random::{Kind, play_texts};
use scrap_tests::sim::trace::Tally;

use super::{Done, Wanted, play_many, smaller};

/// Hours of a cluster that A2 is about; out of reach here, and said so.
const HOURS_PROMISED: f64 = 1e7;
/// Histories that are played twice.
#[cfg(feature = "mutants")]
const TWICE: u64 = 60;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// `A1`, `A2`, `A3`, `A12` or `A13`.
    id: String,
    /// How much: failovers, simulated hours, histories of each planted bug, returns, histories of two nodes.
    #[arg(long)]
    n: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn said(id: &str, seed: u64, good: bool, figures: &str) -> ExitCode {
    let word = if good { "PASS" } else { "FAIL" };
    println!("{id} {word}  seed {seed}, commit {}: {figures}", commit());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says which histories broke a promise, the first of them as small as it gets.
fn tell_broken(done: &Done, only: Option<Kind>) -> Result<()> {
    for seed in done.broken.iter().take(1) {
        let kind = super::kind_of(*seed, only);
        let (folder, why) = smaller(*seed, kind, std::path::Path::new("target/sim"))?;
        println!(
            "seed {seed} ({}) breaks a promise: {why}\n  see {}",
            kind.word(),
            folder.display()
        );
    }
    for seed in done.broken.iter().skip(1) {
        println!("seed {seed} breaks a promise");
    }
    Ok(())
}

fn hours(tally: &Tally) -> f64 {
    tally.ms as f64 / 3_600_000.0
}

pub(crate) fn run(accept: &Accept, jobs: usize) -> Result<ExitCode> {
    let began = Instant::now();
    let Accept { id, n, seed } = accept;
    let play = |wanted: Wanted, kind: Option<Kind>| -> Result<Done> {
        let done = play_many(*seed, wanted, kind, jobs)?;
        tell_broken(&done, kind)?;
        Ok(done)
    };
    let took = || format!("{:.0} s", began.elapsed().as_secs_f64());
    match id.as_str() {
        "A1" => {
            let wanted = n.unwrap_or(1_000_000);
            let done = play(Wanted::Failovers(wanted), Some(Kind::Dense))?;
            let Tally { failovers, fences, orphans, .. } = done.tally;
            let good = done.broken.is_empty() && failovers >= wanted;
            let rate = failovers as f64 / began.elapsed().as_secs_f64();
            let figures = format!(
                "{} histories that break a promise, double runs among them, in {failovers} failovers ({fences} fences, {orphans} orphans, {:.0} simulated hours) in {}: {rate:.0} a second",
                done.broken.len(),
                hours(&done.tally),
                took()
            );
            Ok(said(id, *seed, good, &figures))
        }
        "A2" => {
            let wanted = n.unwrap_or(10_000);
            let done = play(Wanted::Hours(wanted), None)?;
            let reached = hours(&done.tally);
            let good = done.broken.is_empty() && reached >= wanted as f64;
            let figures = format!(
                "{} of {} histories break a promise or do not come back to life, {reached:.0} hours of a cluster in {} ({:.4} % of the 10^7 that a release asks for)",
                done.broken.len(),
                done.histories,
                took(),
                reached * 100.0 / HOURS_PROMISED
            );
            Ok(said(id, *seed, good, &figures))
        }
        "A3" => planted(*seed, n.unwrap_or(10_000), jobs),
        "A12" => {
            let wanted = n.unwrap_or(1_000);
            let done = play(Wanted::Returns(wanted), Some(Kind::Dense))?;
            let returns = done.tally.orphans;
            let good = done.broken.is_empty() && returns >= wanted;
            let figures = format!(
                "{returns} returns of diverged data, {} histories in which some are lost, overwritten, or not listed within a minute, in {}",
                done.broken.len(),
                took()
            );
            Ok(said(id, *seed, good, &figures))
        }
        "A13" => Ok(two(*seed, n.unwrap_or(200))),
        other => bail!("`{other}` is none of A1, A2, A3, A12, A13"),
    }
}

/// There are none in this program.
#[cfg(not(feature = "mutants"))]
fn planted(_: u64, _: u64, _: usize) -> Result<ExitCode> {
    bail!("there are no planted bugs in this program: build it with `--features mutants`")
}

/// Every planted bug is found, and the same seed is the same history.
#[cfg(feature = "mutants")]
fn planted(seed: u64, limit: u64, jobs: usize) -> Result<ExitCode> {
    use super::{play, tree};

    let mut differ = 0;
    for seed in seed..seed + TWICE {
        let kind = super::kind_of(seed, None);
        let hash = || -> Result<String> { Ok(play(&tree(seed, kind)?.current())?.hash) };
        let (one, two) = (hash(), hash());
        if one.is_err() || one.ok() != two.ok() {
            println!("seed {seed} is not the same twice");
            differ += 1;
        }
    }
    let (all, escaped) = super::mutants::table(None, limit, jobs)?;
    let figures = format!(
        "{} of {all} planted bugs found within {limit} histories each; {TWICE} histories played twice, {differ} differ",
        all - escaped
    );
    Ok(said("A3", seed, escaped == 0 && differ == 0, &figures))
}

/// Two nodes: neither stops what runs on the other. With a witness what ran on either starts on the other.
fn two(seed: u64, histories: u64) -> ExitCode {
    let (mut broken, mut switches) = (0, 0);
    for seed in seed..seed + histories {
        let (lost, pause) = (seed % 2 + 1, 20 + seed % 37);
        let how = ["kill", "lose-power", "network-off", "kill-daemon"]
            [usize::try_from(seed / 2 % 4).unwrap_or(0)];
        let (fails, returns) = match how {
            "network-off" => (format!("network n{lost} off"), format!("network n{lost} on")),
            how => (format!("{how} n{lost}"), format!("start n{lost}")),
        };
        let alone = world(seed, false);
        let other = 3 - lost;
        // Whoever is left goes on with its own, all the time, and with nothing of the other.
        let script = format!(
            "at 10 {fails}\nat {} expect g{other} on n{other} all-the-time\nat {} {returns}\nend {}\n",
            10 + pause,
            11 + pause,
            20 + pause
        );
        let both = world(seed, true);
        let witness = format!(
            "at 10 {fails}\nat 70 expect g{lost} on n{other}\nat 71 {returns}\nat 130 expect g{lost} on n{other}\nend 140\n"
        );
        for (world, script) in [(alone, script), (both, witness)] {
            let mut log = String::new();
            match play_texts(&world, &script, &mut log, &mut None) {
                Ok(report) => switches += report.tally.failovers,
                Err(why) => {
                    broken += 1;
                    println!("seed {seed}: {}\n{world}\n{script}\n{log}", why.root_cause());
                }
            }
        }
    }
    let figures = format!(
        "{histories} losses of one of two nodes, and as many with a witness: {broken} in which the other stopped anything or did not take over; {switches} failovers"
    );
    said("A13", seed, broken == 0, &figures)
}

fn world(seed: u64, witness: bool) -> String {
    let nodes = if witness { "\"n1\", \"n2\", \"w1\"" } else { "\"n1\", \"n2\"" };
    let node = if witness { "[node.w1]\nrole = \"witness\"\n" } else { "" };
    format!(
        "nodes = [{nodes}]\nseed = {seed}\n\n[policy]\nquick = {{ replicate = {{ every = \"5s\", copies = 1 }}, failover = {{ mode = \"auto\", after = \"0s\", maxDataLoss = \"1h\" }} }}\n\n{node}\n[grain.g1]\nhome = \"n1\"\npolicy = \"quick\"\nsize = \"4MiB\"\n\n[grain.g2]\nhome = \"n2\"\npolicy = \"quick\"\nsize = \"4MiB\"\n"
    )
}
