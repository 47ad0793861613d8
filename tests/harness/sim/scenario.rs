//! A scenario is a folder: README, world.toml, script, expect.log. Runs it and says what the log should be.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::Sim;
use super::script::Script;
use super::world::World;

/// How long everything must be quiet after the end, without clients.
const QUIET_MS: u64 = 90_000;

/// Runs the scenario of a folder and returns its log.
///
/// # Errors
/// The folder is incomplete, or something happened that must never happen.
pub fn run(folder: &Path) -> Result<String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let readme = read("README")?;
    ensure!(readme.trim().lines().count() == 1, "README must be one sentence");
    let world: World = toml::from_str(&read("world.toml")?).context("world.toml")?;
    let script = Script::parse(&read("script")?).context("script")?;
    let mut sim = world.build(1)?;
    sim.judge.compare_rows = true;
    sim.play(&script)?;
    let verdict = end(&mut sim);
    if let Err(why) = verdict {
        bail!("{why:#}\n{}", sim.log());
    }
    Ok(sim.log())
}

/// Waits until everything is quiet and looks at everything once more.
///
/// # Errors
/// What is wrong.
pub fn end(sim: &mut Sim) -> Result<()> {
    let end = sim.now;
    sim.clients = false;
    while sim.now < end + QUIET_MS && sim.judge.found.is_empty() {
        sim.step();
    }
    sim.judge_data(None);
    sim.judge_bases();
    if let Some(found) = sim.judge.found.first() {
        bail!("{found}");
    }
    let restless = sim.restless();
    ensure!(restless.is_empty(), "planning again changes something: {}", restless.join("; "));
    for at in 0..sim.machines.len() {
        let leader = sim.leader();
        let follows = leader.is_some_and(|leader| sim.reach(leader, at));
        if follows && sim.machines[at].id.0 != 0 {
            ensure!(
                sim.machines[at].cluster == sim.truth,
                "{} has another state than the leader",
                sim.machines[at].name
            );
        }
    }
    sim.now = end;
    for line in sim.whereabouts() {
        sim.say("sim", &line);
    }
    sim.say("sim", "quiet; no contradictions; planning again changes nothing");
    Ok(())
}
