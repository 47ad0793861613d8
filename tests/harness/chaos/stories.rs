//! Courses of events that were asked about by name: each is played once, with clients and visitors at work, and judged as every run
//! is.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use scrap_schema::api::GrainState;
use tokio::time::sleep;

use super::nemesis::{self, Planned};
use super::run::{Options, Run, say};
use super::trace;
use super::world::{HEALED, Kind, boot_ms};
use crate::cluster::api::Call;
use crate::cluster::wait_for;
use crate::commit;
use crate::random::Random;

/// A course of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// Of two nodes each loses its power once: the other one's grain goes on.
    TwoNodes,
    /// Two nodes and a witness: each of the three loses its power once, and one of the two together with the witness.
    Witness,
    /// Of three nodes two lose their power.
    LosingTwo,
    /// Everything goes off and comes back, in every order.
    AllOff,
    /// A node is removed, comes back with empty disks, and joins.
    Wiped,
    /// A node with newer data of its own comes back long after the cluster has gone on.
    Returning,
    /// The disk below the log of the leader, then of another node, is full for a while.
    FullDisk,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TwoNodes,
        Self::Witness,
        Self::LosingTwo,
        Self::AllOff,
        Self::Wiped,
        Self::Returning,
        Self::FullDisk,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoNodes => "two-nodes",
            Self::Witness => "witness",
            Self::LosingTwo => "losing-two",
            Self::AllOff => "all-off",
            Self::Wiped => "wiped",
            Self::Returning => "returning",
            Self::FullDisk => "full-disk",
        }
    }

    /// Its name, and what happens in it.
    #[must_use]
    pub const fn said(self) -> &'static str {
        match self {
            Self::TwoNodes => {
                "two-nodes   of two nodes each loses its power once; the other one's grain goes on"
            }
            Self::Witness => {
                "witness     two nodes and a witness: any of them may be lost, and no two at once"
            }
            Self::LosingTwo => {
                "losing-two  of three nodes two lose their power; the third stops what needs a lease"
            }
            Self::AllOff => "all-off     everything goes off and comes back, in every order",
            Self::Wiped => "wiped       a node is removed, comes back with empty disks, and joins",
            Self::Returning => {
                "returning   a node with newer data of its own comes back long after the others went on"
            }
            Self::FullDisk => {
                "full-disk   the disk below the log is full: of the leader, then of another node"
            }
        }
    }

    /// How many nodes it needs.
    #[must_use]
    pub const fn nodes(self) -> usize {
        match self {
            Self::TwoNodes => 2,
            Self::Witness
            | Self::LosingTwo
            | Self::AllOff
            | Self::Wiped
            | Self::Returning
            | Self::FullDisk => 3,
        }
    }

    /// The numbers of the lease that it is played with.
    #[must_use]
    pub const fn timing(self) -> &'static str {
        match self {
            // What leads is lost too: the fast numbers are so short that a grain does not live through an election.
            Self::Witness => "default",
            Self::TwoNodes
            | Self::LosingTwo
            | Self::AllOff
            | Self::Wiped
            | Self::Returning
            | Self::FullDisk => "fast",
        }
    }

    /// The node of it that votes and runs nothing.
    #[must_use]
    pub const fn witness(self) -> Option<&'static str> {
        match self {
            Self::Witness => Some("cleo"),
            Self::TwoNodes
            | Self::LosingTwo
            | Self::AllOff
            | Self::Wiped
            | Self::Returning
            | Self::FullDisk => None,
        }
    }
}

/// Plays a story and says the word. Returns whether it was PASS.
///
/// # Errors
/// If the cluster could not be had.
pub async fn play(story: Story, seed: u64, kind: Kind) -> anyhow::Result<bool> {
    let grains = match story {
        Story::Wiped | Story::Returning => 1,
        Story::Witness => 2,
        Story::TwoNodes | Story::LosingTwo | Story::AllOff | Story::FullDisk => kind.nodes,
    };
    let options = Options {
        minutes: 0,
        rounds: 0,
        seed,
        kind,
        faults: Vec::new(),
        least: 5,
        clients: 4,
        grains,
        out: None,
    };
    let mut run = Run::start(options).await?;
    run.is_busy("at the beginning").await;
    let told = match story {
        Story::TwoNodes => two_nodes(&run).await,
        Story::Witness => witness(&mut run).await,
        Story::LosingTwo => losing_two(&run).await,
        Story::AllOff => all_off(&run, seed).await,
        Story::Wiped => wiped(&run).await,
        Story::Returning => returning(&mut run).await,
        Story::FullDisk => full_disk(&run).await,
    };
    if let Err(error) = told {
        run.broken(format!("{error:#}"));
    }
    run.is_busy("at the end").await;
    let (judgement, _) = run.finish().await?;
    let (word, name) = (judgement.word(), story.name());
    say(&format!("{}{name} {word} commit {} seed {seed}", judgement.reasons(), commit()));
    Ok(word == "PASS")
}

/// Waits until the visitor of a grain was answered so many times more.
async fn more(run: &Run, number: usize, count: u64) -> anyhow::Result<()> {
    let ledger = run.ledgers.get(number).context("there is such a grain")?;
    let wanted = ledger.count() + count;
    wait_for(HEALED, &format!("{} was answered {count} times more", ledger.name), async || {
        Ok((ledger.count() >= wanted).then_some(()))
    })
    .await
}

async fn two_nodes(run: &Run) -> anyhow::Result<()> {
    let world = &run.world;
    for (victim, survivor, number) in [("ben", "ada", 0), ("ada", "ben", 1)] {
        let grain = run.ledgers.get(number).context("there are two")?.name.clone();
        let life = |at: &[trace::Life]| at.iter().rfind(|life| life.grain == grain).cloned();
        let before = life(&world.ground.lives()?).context("it lives")?;
        ensure!(before.node == survivor, "{grain} lives on {}", before.node);
        say(&format!("{} {victim} off", run.at()));
        world.power_off(&[victim.to_owned()]).await?;
        // Several leases of any timing.
        let end = boot_ms() + 30_000;
        wait_for(HEALED, "half a minute is over", async || Ok((boot_ms() > end).then_some(())))
            .await?;
        more(run, number, 20).await?;
        let after = life(&world.ground.lives()?).context("it lives")?;
        ensure!(after.first == before.first, "{grain} was started again: {before:?}, {after:?}");
        world.power_on(victim).await?;
        world.is_healed(&run.names()).await?;
        say(&format!("{} {victim} is back; {grain} has gone on all the time", run.at()));
    }
    Ok(())
}

async fn witness(run: &mut Run) -> anyhow::Result<()> {
    let world = run.world.clone();
    for (victim, survivor, number) in [("ben", "ada", 1), ("ada", "ben", 0)] {
        let grain = run.ledgers.get(number).context("there are two")?.name.clone();
        ensure!(world.owner(&grain).await? == victim, "{grain} is at home on {victim}");
        say(&format!("{} {victim} off", run.at()));
        let off = boot_ms();
        world.power_off(&[victim.to_owned()]).await?;
        more(run, number, 20).await?;
        run.figures.add("power off -> 20 answers elsewhere", boot_ms() - off);
        let owner = world.owner(&grain).await?;
        ensure!(owner == survivor, "{grain} is on {owner}");
        world.power_on(victim).await?;
        world.is_healed(&run.names()).await?;
        world.moves(&grain, victim).await?;
        say(&format!("{} {victim} is back, and {grain} with it", run.at()));
    }
    // Without the witness nothing stops, and nothing can be promised any more.
    say(&format!("{} cleo, the witness, off", run.at()));
    let lives = world.ground.lives()?.len();
    world.power_off(&["cleo".to_owned()]).await?;
    world.ground.lab()?.says(&["node", "ls"], "fenced").await?;
    for number in 0..run.ledgers.len() {
        more(run, number, 50).await?;
    }
    ensure!(world.ground.lives()?.len() == lives, "a grain was started again");
    // One of two of three: it must not go on.
    say(&format!("{} ben off too", run.at()));
    world.power_off(&["ben".to_owned()]).await?;
    wait_for(HEALED, "what needs a lease has stopped", async || {
        Ok(world.processes("ada", "scrap-ledger").is_empty().then_some(()))
    })
    .await?;
    world.power_on("cleo").await?;
    // The witness and ada are a majority again: both grains run on ada.
    for number in 0..run.ledgers.len() {
        more(run, number, 20).await?;
    }
    world.power_on("ben").await?;
    world.is_healed(&run.names()).await
}

async fn losing_two(run: &Run) -> anyhow::Result<()> {
    let world = &run.world;
    for survivor in world.nodes.clone() {
        let lost = world.others(std::slice::from_ref(&survivor));
        say(&format!("{} {lost:?} off", run.at()));
        world.power_off(&lost).await?;
        wait_for(HEALED, "what needs a lease has stopped", async || {
            Ok(world.processes(&survivor, "scrap-ledger").is_empty().then_some(()))
        })
        .await?;
        let changed = run.clients.next_change(boot_ms(), Duration::from_secs(5)).await;
        ensure!(changed.is_err(), "one of three nodes has acknowledged a change");
        let old =
            world.api.ask(&world.server(&survivor), &Call::get("/v1/grains?stale=true")).await?;
        ensure!(old.status == 200, "a stale read is not answered: {old:?}");
        let fresh = world.api.ask(&world.server(&survivor), &Call::get("/v1/grains")).await;
        ensure!(fresh.is_ok_and(|it| it.status >= 500), "one of three nodes answers as if it knew");
        for node in lost.iter().rev() {
            world.power_on(node).await?;
        }
        world.is_healed(&run.names()).await?;
        say(&format!(
            "{} {survivor} was alone, stopped its grain, and all is well again",
            run.at()
        ));
    }
    Ok(())
}

async fn all_off(run: &Run, seed: u64) -> anyhow::Result<()> {
    let world = &run.world;
    let mut random = Random::new(seed);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut off = world.nodes.clone();
        random.shuffle(&mut off);
        world.power_off(&off).await?;
        for number in order {
            // How long after each other they come is what differs.
            sleep(Duration::from_millis(random.below(6_000))).await;
            let node = world.nodes.get(number).context("three nodes")?;
            world.power_on(node).await?;
        }
        world.is_healed(&run.names()).await?;
        more(run, 0, 20).await?;
        say(&format!("{} off as {off:?}, on as {order:?}: all is well", run.at()));
    }
    Ok(())
}

async fn wiped(run: &Run) -> anyhow::Result<()> {
    let world = &run.world;
    let victim = "cleo";
    let before = world.api.node(victim).await?.metadata;
    world.power_off(&[victim.to_owned()]).await?;
    more(run, 0, 50).await?;
    world.ground.lab()?.says(&["node", "ls"], "fenced").await?;
    world.ground.lab()?.ctl(&["node", "rm", victim, "--yes"]).await?;
    say(&format!("{} {victim} is removed", run.at()));
    let folder = world.ground.lab()?.dir.join("nodes").join(victim);
    for disk in ["data.img", "pool.img"] {
        let path = folder.join(disk);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    world.power_on(victim).await?;
    world.is_healed(&run.names()).await?;
    let after = world.api.node(victim).await?.metadata;
    ensure!(before.id != after.id, "it has its old identity again: {after:?}");
    world.moves("led-0", victim).await?;
    more(run, 0, 50).await
}

async fn returning(run: &mut Run) -> anyhow::Result<()> {
    let world = run.world.clone();
    let grain = run.names().first().cloned().context("there is a grain")?;
    world.moves(&grain, "ben").await?;
    world.is_healed(&run.names()).await?;
    more(run, 0, 50).await?;
    // Cut off it goes on writing until its lease is over, and nobody is told of that.
    world.verb(&["cut", "ben"]).await?;
    wait_for(HEALED, "another node has taken over", async || {
        let view = world.api.grain(&grain).await?.status;
        let elsewhere = view.node.is_some_and(|node| node.as_str() != "ben");
        Ok((elsewhere && view.state == GrainState::Running).then_some(()))
    })
    .await?;
    world.power_off(&["ben".to_owned()]).await?;
    // The others go on, so that nothing is left of what they had in common with it but what is kept for it.
    for to in ["cleo", "ada", "cleo", "ada", "cleo"] {
        if world.owner(&grain).await? != to {
            world.moves(&grain, to).await?;
        }
        more(run, 0, 300).await?;
    }
    let began = boot_ms();
    world.power_on("ben").await?;
    wait_for(HEALED, "what only it had is listed", async || {
        Ok((!world.api.orphans().await?.is_empty()).then_some(()))
    })
    .await?;
    run.figures.add("power on -> orphan listed", boot_ms() - began);
    world.is_healed(&run.names()).await?;
    world.moves(&grain, "ben").await?;
    more(run, 0, 50).await
}

async fn full_disk(run: &Run) -> anyhow::Result<()> {
    let world = &run.world;
    for kind in [nemesis::Kind::FullLeader, nemesis::Kind::FullOwner] {
        let planned = Planned { kind, hold: Duration::ZERO, overlaps: false, seed: 0 };
        let mut strike = nemesis::strike(world, planned, "led-1").await?;
        say(&format!("{} {:?} has no room", run.at(), strike.victims));
        for round in 0..10_u32 {
            let ms = run.clients.next_change(boot_ms(), HEALED).await?;
            ensure!(ms < 60_000, "change {round} took {ms} ms");
            sleep(Duration::from_secs(2)).await;
        }
        // Grains of other nodes are not concerned.
        for (number, ledger) in run.ledgers.iter().enumerate() {
            if !strike.victims.contains(&world.owner(&ledger.name).await?) {
                more(run, number, 50).await?;
            }
        }
        strike.undo(world).await?;
        world.is_healed(&run.names()).await?;
        say(&format!("{} there is room again, and all is well", run.at()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_listed_under_its_name() {
        for story in Story::ALL {
            assert!(story.said().starts_with(&format!("{} ", story.name())), "{}", story.said());
        }
    }
}
