//! What comes over a cluster: the order in which a seed deals faults, how each is done and undone.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

pub use super::kinds::Kind;
use super::world::{World, boot_ms};
use crate::random::Random;

/// A fault that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// What.
    pub kind: Kind,
    /// How long.
    pub hold: Duration,
    /// Whether the next one comes before this one is over.
    pub overlaps: bool,
    /// For choices on the way.
    pub seed: u64,
}

/// Deals faults of these kinds without end: each kind once before any comes again.
#[derive(Debug, Clone)]
pub struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    random: Random,
}

impl Deck {
    /// The deck of a seed.
    #[must_use]
    pub fn new(kinds: &[Kind], seed: u64) -> Self {
        Self { kinds: kinds.to_vec(), left: Vec::new(), random: Random::new(seed) }
    }

    /// How many come before one comes again.
    #[must_use]
    pub fn left_of_round(&self) -> usize {
        self.left.len()
    }
}

impl Iterator for Deck {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.random.shuffle(&mut self.left);
        }
        let kind = self.left.pop()?;
        let (low, high) = kind.hold();
        let hold = Duration::from_millis(self.random.between(low, high));
        let overlaps = self.random.below(4) == 0;
        Some(Planned { kind, hold, overlaps, seed: self.random.number() })
    }
}

/// How a fault is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Undo {
    Continue(String, &'static str),
    LetGo(String),
    Join(String),
    Mend,
    PowerOn(String),
    PowerOnTwice { node: String, after: Duration, whole: bool },
    Empty(String),
}

/// A fault that is there.
#[derive(Debug, Clone)]
pub struct Strike {
    /// What.
    pub kind: Kind,
    /// Whom it met.
    pub victims: Vec<String>,
    /// Who led and who owned the first grain when it came.
    pub leader: String,
    /// The owner of the first grain.
    pub owner: String,
    /// When it came, in milliseconds of boot time.
    pub began: u64,
    /// When it was undone.
    pub undone: Option<u64>,
    undo: Vec<Undo>,
}

/// Does it.
///
/// # Errors
/// If it could not be done: then nothing is learnt from it.
pub async fn strike(world: &Arc<World>, planned: Planned, grain: &str) -> anyhow::Result<Strike> {
    let mut random = Random::new(planned.seed);
    let leader = world.leader().await?;
    let mut owner = world.owner(grain).await?;
    let kind = planned.kind;
    if kind == Kind::PowerLeaderAndOwner && owner != leader {
        world.moves(grain, &leader).await?;
        owner.clone_from(&leader);
    }
    let (victims, mut undo) = match kind {
        Kind::SplitLeaderAndOwner => split(world, &leader, &owner).await?,
        Kind::KillLeader
        | Kind::KillOwner
        | Kind::KillAll
        | Kind::PauseLeader
        | Kind::PauseOwner
        | Kind::PauseKeepers
        | Kind::PauseGuard
        | Kind::PauseDaemonAndKeepers
        | Kind::PauseDaemonAndGuard
        | Kind::CutOwner
        | Kind::CutLeader
        | Kind::MuteLeader
        | Kind::DeafLeader
        | Kind::MuteOwner
        | Kind::Lose
        | Kind::Slow
        | Kind::PowerOwner
        | Kind::PowerLeader
        | Kind::PowerAll
        | Kind::PowerLeaderAndOwner
        | Kind::PowerTwice
        | Kind::FullLeader
        | Kind::FullOwner => (victims(world, kind, &leader, &owner), Vec::new()),
    };
    hit(world, kind, &victims, &mut random, &mut undo).await?;
    // From here on it is surely there.
    let began = boot_ms();
    Ok(Strike { kind, victims, leader, owner, began, undone: None, undo })
}

fn victims(world: &World, kind: Kind, leader: &str, owner: &str) -> Vec<String> {
    match kind {
        Kind::KillLeader
        | Kind::PauseLeader
        | Kind::CutLeader
        | Kind::MuteLeader
        | Kind::DeafLeader
        | Kind::PowerLeader
        | Kind::PowerLeaderAndOwner
        | Kind::FullLeader => vec![leader.to_owned()],
        Kind::KillOwner
        | Kind::PauseOwner
        | Kind::PauseKeepers
        | Kind::PauseGuard
        | Kind::PauseDaemonAndKeepers
        | Kind::PauseDaemonAndGuard
        | Kind::CutOwner
        | Kind::MuteOwner
        | Kind::Slow
        | Kind::PowerOwner
        | Kind::PowerTwice
        | Kind::FullOwner => vec![owner.to_owned()],
        Kind::SplitLeaderAndOwner => vec![leader.to_owned(), owner.to_owned()],
        Kind::KillAll | Kind::Lose | Kind::PowerAll => world.nodes.clone(),
    }
}

/// One side of the cluster with the leader, and with the owner if that leaves the other side the majority; of three nodes one that
/// is both, if it is.
async fn split(
    world: &Arc<World>,
    leader: &str,
    owner: &str,
) -> anyhow::Result<(Vec<String>, Vec<Undo>)> {
    let mut side = vec![leader.to_owned()];
    if owner != leader && world.nodes.len() >= 5 {
        side.push(owner.to_owned());
    }
    for one in &side {
        for other in world.others(&side) {
            world.verb(&["oneway", one, &other]).await?;
            world.verb(&["oneway", &other, one]).await?;
        }
    }
    Ok((side, vec![Undo::Mend]))
}

/// Fills the folder of a node's daemon.
async fn fill(world: &World, node: &str) -> anyhow::Result<()> {
    let lab = world.ground.lab()?;
    let file = lab.dir.join("nodes").join(node).join("data").join("filler");
    // First in large pieces, then in small ones, until nothing goes any more.
    let text = format!(
        "dd if=/dev/zero of={0} bs=1M 2>/dev/null || true; \
         dd if=/dev/zero of={0} bs=1k oflag=append conv=notrunc 2>/dev/null || true; sync",
        file.display()
    );
    lab.sh(node, &text).await?;
    Ok(())
}

async fn hit(
    world: &Arc<World>,
    kind: Kind,
    victims: &[String],
    random: &mut Random,
    undo: &mut Vec<Undo>,
) -> anyhow::Result<()> {
    for node in victims {
        match kind {
            Kind::KillLeader | Kind::KillOwner | Kind::KillAll => {
                world.hold(node);
                world.signal(node, "scrapd", Signal::KILL);
                undo.push(Undo::LetGo(node.clone()));
            }
            Kind::PauseLeader
            | Kind::PauseOwner
            | Kind::PauseKeepers
            | Kind::PauseGuard
            | Kind::PauseDaemonAndKeepers
            | Kind::PauseDaemonAndGuard => {
                for program in kind.hangs() {
                    world.signal(node, program, Signal::STOP);
                    undo.push(Undo::Continue(node.clone(), program));
                }
            }
            Kind::CutOwner | Kind::CutLeader => {
                world.verb(&["cut", node]).await?;
                undo.push(Undo::Join(node.clone()));
            }
            Kind::MuteLeader | Kind::MuteOwner | Kind::DeafLeader => {
                for other in world.others(victims) {
                    let deaf = kind == Kind::DeafLeader;
                    let (from, to) = if deaf { (&other, node) } else { (node, &other) };
                    world.verb(&["oneway", from, to]).await?;
                }
                undo.push(Undo::Mend);
            }
            Kind::Lose => {
                let percent = random.between(5, 30).to_string();
                world.verb(&["lose", node, &percent]).await?;
                undo.push(Undo::Mend);
            }
            Kind::Slow => {
                let rate = format!("{}kbit", random.between(100, 800));
                world.verb(&["slow", node, &rate]).await?;
                undo.push(Undo::Mend);
            }
            Kind::PowerOwner | Kind::PowerLeader | Kind::PowerLeaderAndOwner | Kind::PowerAll => {
                world.power_off(std::slice::from_ref(node)).await?;
                undo.push(Undo::PowerOn(node.clone()));
            }
            Kind::PowerTwice => {
                world.power_off(std::slice::from_ref(node)).await?;
                let node = node.clone();
                let after = Duration::from_millis(random.between(500, 4_000)) * world.pace.hold;
                undo.push(Undo::PowerOnTwice { node, after, whole: random.below(2) == 0 });
            }
            Kind::FullLeader | Kind::FullOwner => {
                fill(world, node).await?;
                undo.push(Undo::Empty(node.clone()));
            }
            Kind::SplitLeaderAndOwner => {}
        }
    }
    // What went off in one order comes back in another.
    random.shuffle(undo);
    Ok(())
}

impl Strike {
    /// Undoes it.
    ///
    /// # Errors
    /// If that fails.
    pub async fn undo(&mut self, world: &Arc<World>) -> anyhow::Result<()> {
        for undo in std::mem::take(&mut self.undo) {
            match undo {
                Undo::Continue(node, program) => {
                    world.signal(&node, program, Signal::CONT);
                }
                Undo::LetGo(node) => world.let_go(&node),
                Undo::Join(node) => world.verb(&["join", &node]).await?,
                Undo::Mend => world.verb(&["mend"]).await?,
                Undo::PowerOn(node) => world.power_on(&node).await?,
                Undo::PowerOnTwice { node, after, whole } => {
                    world.power_on_and_off(&node, after, whole).await?;
                    world.power_on(&node).await?;
                }
                Undo::Empty(node) => {
                    let lab = world.ground.lab()?;
                    let file = lab.dir.join("nodes").join(&node).join("data/filler");
                    lab.sh(&node, &format!("rm -f {}", file.display())).await?;
                }
            }
        }
        self.undone = Some(boot_ms());
        Ok(())
    }
}

/// Stays for as long as it was planned.
pub async fn hold(world: &World, planned: &Planned) {
    sleep(planned.hold * world.pace.hold).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_deals_the_same_again_and_every_kind_before_any_comes_twice() {
        let deal = |seed| Deck::new(&Kind::ALL, seed).take(60).collect::<Vec<_>>();
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        for round in deal(7).chunks_exact(Kind::ALL.len()) {
            let kinds: BTreeSet<Kind> = round.iter().map(|planned| planned.kind).collect();
            assert_eq!(kinds.len(), Kind::ALL.len());
        }
        assert!(deal(7).iter().any(|planned| planned.overlaps));
    }
}
