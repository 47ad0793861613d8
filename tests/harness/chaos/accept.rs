//! Figures that were promised, measured on real clusters: each prints PASS or FAIL with its commit, its seed and what was measured.
//! Here a figure that is too large is a failure; that is what these are for. No suite runs them.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use scrap_schema::api::{ClusterView, EventsView, OperationView};
use scrap_schema::operation::OperationState;
use scrap_schema::timing::{Preset, Timing};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::figures::{Figures, percentile};
use super::judge::Judgement;
use super::run::{Options, Run, say};
use super::world::{Kind, World, boot_ms};
use crate::cluster::api::Call;
use crate::cluster::{Never, now, wait_for};
use crate::commit;
use crate::random::Random;

/// Longest time for anything of which a figure is made.
const LIMIT: Duration = Duration::from_secs(150);

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// No acknowledged change is lost when leaders are killed.
    A4,
    /// How soon another one leads.
    A6,
    /// How soon a grain answers after a power cut.
    A7,
    /// That an isolated grain is dead in time.
    A8,
}

impl Id {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::A4, Self::A6, Self::A7, Self::A8];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A4 => "A4",
            Self::A6 => "A6",
            Self::A7 => "A7",
            Self::A8 => "A8",
        }
    }

    /// How often, if nobody says.
    #[must_use]
    pub const fn times(self) -> usize {
        match self {
            Self::A4 | Self::A6 => 100,
            Self::A7 | Self::A8 => 20,
        }
    }

    /// The numbers of the lease that it is measured with: where figures count, those that a cluster has by itself.
    #[must_use]
    pub const fn timing(self) -> &'static str {
        match self {
            Self::A4 => "fast",
            Self::A6 | Self::A7 | Self::A8 => "default",
        }
    }

    /// The figures that must not be passed: name, percent, milliseconds.
    fn limits(self, timing: &str) -> Vec<(&'static str, usize, u64)> {
        match self {
            Self::A4 => vec![],
            Self::A6 => vec![("leader killed -> another leads", 99, 6_000), (WINDOW, 99, 8_000)],
            Self::A7 => vec![(ANSWERS, 99, 60_000), (ANSWERS, 100, 105_000)],
            // The lease, and the time until what is killed is dead.
            Self::A8 => {
                let preset = Preset::ALL.into_iter().find(|preset| preset.word() == timing);
                let Timing { lease, kill, .. } = preset.unwrap_or_default().timing();
                vec![(DEAD, 100, (lease + kill).ms())]
            }
        }
    }
}

const WINDOW: &str = "leader killed -> next change acknowledged";
const ANSWERS: &str = "power off -> grain answers";
const DEAD: &str = "isolated -> grain dead";

/// Measures one of them and says the word. Returns whether it was PASS.
///
/// # Errors
/// If the cluster could not be had.
pub async fn accept(id: Id, times: usize, seed: u64, kind: Kind) -> anyhow::Result<bool> {
    let (clients, grains) = match id {
        Id::A4 | Id::A6 => (8, 1),
        Id::A7 | Id::A8 => (2, 1),
    };
    let timing = kind.timing.clone();
    let options = Options {
        minutes: 0,
        seed,
        kind,
        faults: Vec::new(),
        least: 5,
        clients,
        grains,
        out: None,
        rounds: 0,
    };
    let mut run = Run::start(options).await?;
    let mut random = Random::new(seed);
    let mut done = 0;
    while done < times {
        let round = match id {
            Id::A4 | Id::A6 => leader_killed(&mut run, id, done).await,
            Id::A7 => power_off(&mut run, done).await,
            Id::A8 => isolated(&mut run, done).await,
        };
        if let Err(error) = round {
            run.broken(format!("round {done}: {error:#}"));
            break;
        }
        done += 1;
        if done.is_multiple_of(50) {
            say(&format!("{} {done} of {times}", run.at()));
        }
        // Not always at the same moment of whatever beats.
        sleep(Duration::from_millis(random.below(700))).await;
    }
    let (mut judgement, figures) = run.finish().await?;
    limits(id, &timing, &figures, &mut judgement);
    say(&format!(
        "{}{} {} commit {} seed {seed} n {done} timing {timing}",
        judgement.reasons(),
        id.name(),
        judgement.word(),
        commit()
    ));
    Ok(judgement.word() == "PASS")
}

fn limits(id: Id, timing: &str, figures: &Figures, judgement: &mut Judgement) {
    for (what, percent, limit) in id.limits(timing) {
        match percentile(figures.of(what), percent) {
            Some(value) if value <= limit => {}
            Some(value) => judgement
                .broken
                .push(format!("{what}: p{percent} is {value} ms, at most {limit} ms are promised")),
            None => judgement.invalid.push(format!("{what}: nothing was measured")),
        }
    }
}

/// Kills the leader and waits until another one leads, and until somebody has changed something.
async fn leader_killed(run: &mut Run, id: Id, round: usize) -> anyhow::Result<()> {
    // Counting takes longer than a round.
    if round.is_multiple_of(10) {
        run.is_busy("before a leader is killed").await;
    }
    let world = run.world.clone();
    let leader = world.leader().await?;
    let began = boot_ms();
    // Back too early it might lead again, and nobody could tell that from not having been away.
    world.hold(&leader);
    ensure!(world.signal(&leader, "scrapd", Signal::KILL) > 0, "{leader} leads and has no daemon");
    let other = another_leads(&world, &leader, began);
    let change = run.clients.next_change(began, LIMIT);
    let (other, change) = tokio::join!(other, change);
    world.let_go(&leader);
    run.figures.add("leader killed -> another leads", other?);
    run.figures.add(WINDOW, change?);
    // A killed leader that is not back yet would cost the majority the next time, which is another story.
    if id == Id::A6 {
        world.is_healed(&run.names()).await?;
    } else {
        world.agrees().await?;
    }
    Ok(())
}

/// Milliseconds until a node says that another one leads.
async fn another_leads(world: &World, old: &str, began: u64) -> anyhow::Result<u64> {
    let survivors = world.others(&[old.to_owned()]);
    let call = Call::get("/v1/cluster?stale=true");
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        for node in &survivors {
            let Ok(answer) = world.api.ask(&world.server(node), &call).await else { continue };
            let Ok(view) = answer.json::<ClusterView>() else { continue };
            if view.leader.is_some_and(|leader| leader.as_str() != old) {
                return Ok(boot_ms().saturating_sub(began));
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    bail!("nobody leads within {LIMIT:?}")
}

/// The first grain is moved to the leader, or to a node that does not lead. Returns where it is then, and its epoch.
async fn owner_is(run: &Run, leads: bool) -> anyhow::Result<(String, u64)> {
    let world = &run.world;
    let grain = run.names().first().cloned().context("there is a grain")?;
    // On a machine that is busy with other things a node falls silent now and then: the move stays where it is, and is asked for again.
    wait_for(LIMIT, "the grain is where it should be", async || {
        world.is_healed(&run.names()).await?;
        let leader = world.leader().await?;
        if (world.owner(&grain).await? == leader) == leads {
            return Ok(Some(()));
        }
        let other = world.others(std::slice::from_ref(&leader)).first().cloned();
        let to = if leads { leader } else { other.context("there is another node")? };
        let asked: OperationView =
            world.api.post(&format!("/v1/grains/{grain}/migrate"), &json!({"to": to})).await?;
        let ended = world.api.ended(asked.id, LIMIT).await?;
        let stays = ended.summary.message.contains("is not online");
        if ended.state != OperationState::Succeeded && !stays {
            return Err(Never::from(format!("{ended:#?}")).into());
        }
        Ok(None)
    })
    .await?;
    let view = world.api.grain(&grain).await?;
    let owner = view.status.node.context("it has an owner")?;
    Ok((owner.to_string(), view.status.epoch.0))
}

/// Milliseconds from a moment until the first acknowledged entry of a later epoch.
async fn answers(run: &Run, epoch: u64, began: u64) -> anyhow::Result<u64> {
    let ledger = run.ledgers.first().context("there is a grain")?.clone();
    let at = wait_for(LIMIT, "the grain answers in another epoch", async || {
        Ok(ledger.acks().iter().rev().find(|ack| ack.epoch > epoch).map(|_| ()))
    });
    at.await?;
    let first = ledger.acks().into_iter().find(|ack| ack.epoch > epoch);
    Ok(first.context("it answered")?.acked.0.saturating_sub(began))
}

/// Milliseconds from a moment of wall time until a node was told to be fenced.
async fn fenced(world: &World, node: &str, since: i64) -> anyhow::Result<u64> {
    let events: EventsView = world.api.get("/v1/events?topic=node&limit=200").await?;
    let words = format!("node {node} is fenced");
    let found =
        events.events.iter().find(|event| event.at.0 >= since && event.message.starts_with(&words));
    let at = found.with_context(|| format!("nobody said `{words}`"))?.at.0;
    Ok(u64::try_from(at - since).unwrap_or_default())
}

async fn power_off(run: &mut Run, round: usize) -> anyhow::Result<()> {
    let leads = round.is_multiple_of(2);
    let (owner, epoch) = owner_is(run, leads).await?;
    run.is_busy("before the power is cut").await;
    let world = run.world.clone();
    let (began, wall) = (boot_ms(), now().0);
    world.power_off(std::slice::from_ref(&owner)).await?;
    let ms = answers(run, epoch, began).await?;
    let which = if leads { "the leader" } else { "not the leader" };
    run.figures.add(ANSWERS, ms);
    run.figures.add(&format!("{ANSWERS}, owner {which}"), ms);
    run.figures.add("power off -> fenced", fenced(&world, &owner, wall).await?);
    say(&format!("{} {owner} ({which}) off: answers after {ms} ms", run.at()));
    world.power_on(&owner).await?;
    world.is_healed(&run.names()).await
}

/// What else hangs while a node is isolated.
const HANGS: [(&str, &[&str]); 6] = [
    ("nothing", &[]),
    ("its daemon", &["scrapd"]),
    ("its keepers", &["scrap-keeper"]),
    ("its guard", &["scrap-guard"]),
    ("its daemon and its guard", &["scrapd", "scrap-guard"]),
    ("its daemon and its keepers", &["scrapd", "scrap-keeper"]),
];

async fn isolated(run: &mut Run, round: usize) -> anyhow::Result<()> {
    let (what, programs) = HANGS.get(round % HANGS.len()).context("there are some")?;
    let (owner, epoch) = owner_is(run, (round / HANGS.len()).is_multiple_of(2)).await?;
    run.is_busy("before the isolation").await;
    let world = run.world.clone();
    let guarded = !world.processes(&owner, "scrap-guard").is_empty();
    if !guarded && (programs.contains(&"scrap-guard") || programs.len() > 1) {
        say(&format!("{} SKIPPED: {what} hangs ({owner} has no guard)", run.at()));
        return Ok(());
    }
    for program in *programs {
        ensure!(world.signal(&owner, program, Signal::STOP) > 0, "{owner} has no {program}");
    }
    let (began, wall) = (boot_ms(), now().0);
    world.verb(&["cut", &owner]).await?;
    let ms = answers(run, epoch, began).await?;
    let grain = run.names().first().cloned().context("there is a grain")?;
    let lives = world.ground.lives()?;
    let old = lives.iter().rfind(|life| life.grain == grain && life.epoch == epoch);
    let dead = old.context("it has left a trace")?.last.saturating_sub(began);
    run.figures.add(DEAD, dead);
    run.figures.add(&format!("{DEAD}, {what} hangs"), dead);
    run.figures.add("isolated -> fenced", fenced(&world, &owner, wall).await?);
    run.figures.add("isolated -> grain answers elsewhere", ms);
    say(&format!(
        "{} {owner} cut, {what} hangs: dead after {dead} ms, answers after {ms} ms",
        run.at()
    ));
    for program in *programs {
        world.signal(&owner, program, Signal::CONT);
    }
    world.verb(&["join", &owner]).await?;
    world.is_healed(&run.names()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_too_large_or_missing_is_no_pass() {
        let word = |value: Option<u64>| {
            let mut figures = Figures::default();
            if let Some(value) = value {
                figures.add(DEAD, value);
            }
            let mut judgement = Judgement::default();
            limits(Id::A8, "default", &figures, &mut judgement);
            judgement.word()
        };
        assert_eq!(
            [word(Some(13_000)), word(Some(13_001)), word(None)],
            ["PASS", "FAIL", "INVALID"]
        );
    }
}
