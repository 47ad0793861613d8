//! Entries that nobody has decided: of an earlier epoch or start, about another node, with another base, in another order. What the
//! log holds is what a leader or a node believed a while ago, so `apply` must see by itself what must not be. Tried out now and
//! then on a copy of the state; nothing of it is committed.

use scrap_decide::apply::apply;
use scrap_decide::check::check;
use scrap_decide::cluster::{Cluster, Grain, Liveness, Node, Outcome, Stage};
use scrap_schema::command::{AssignCause, Command, Proposal};
use scrap_schema::fence::OffBy;
use scrap_schema::id::{BootId, Epoch, NodeId, OperationId};
use scrap_schema::snapshot::Snapshot;

use super::Sim;
use super::machine::wall;
use super::network::addresses;
use super::rules::epoch_of;
use crate::random::Random;

/// After one of so many entries some are tried.
const ONE_IN: u64 = 8;
/// So many.
const TRIED: u64 = 12;

/// What an entry is made of.
struct Forger<'a> {
    sim: &'a Sim,
    grain: &'a Grain,
    random: Random,
}

impl Forger<'_> {
    /// An epoch that is the present one, mostly.
    fn epoch(&mut self) -> Epoch {
        let Epoch(present) = self.grain.epoch;
        match self.random.below(6) {
            0 => Epoch(present.saturating_sub(1)),
            1 => Epoch(present + 1),
            _ => Epoch(present),
        }
    }

    fn node(&mut self) -> NodeId {
        let all: Vec<_> = self.sim.truth.nodes.keys().copied().collect();
        self.random.pick(&all).copied().unwrap_or(NodeId(1))
    }

    /// A start of a node: the present one, mostly.
    fn boot(&mut self, node: NodeId) -> BootId {
        let known = self.sim.truth.nodes.get(&node).and_then(|node| node.boot);
        let BootId(present) = known.unwrap_or_default();
        BootId(if self.random.below(3) == 0 { present.saturating_sub(1) } else { present })
    }

    /// The grain's operation, or another one.
    fn operation(&mut self) -> OperationId {
        let all: Vec<_> = self.sim.truth.operations.keys().copied().collect();
        let held = self.grain.operation.or(self.grain.stage.operation());
        let held = held.filter(|_| self.random.below(4) != 0);
        held.or_else(|| self.random.pick(&all).copied()).unwrap_or(OperationId(1))
    }

    /// A state of the grain that is somewhere.
    fn snapshot(&mut self) -> Option<Snapshot> {
        let datasets = self.sim.machines.iter().filter_map(|it| it.datasets.get(&self.grain.id));
        let all: Vec<_> = datasets.flat_map(|it| it.snapshots.iter().rev().take(2)).collect();
        let released = match &self.grain.stage {
            Stage::Released { last, .. } if self.random.below(2) == 0 => Some(last.clone()),
            _ => None,
        };
        released.or_else(|| self.random.pick(&all).map(|frozen| frozen.snapshot.clone()))
    }

    /// Up to which entry a node knew the log when it looked.
    fn seen(&mut self) -> Option<u64> {
        let index = self.sim.truth.index;
        Some(if self.random.below(2) == 0 {
            index
        } else {
            index.saturating_sub(self.random.below(40))
        })
    }

    fn command(&mut self) -> Option<Command> {
        match self.random.below(4) {
            0 => self.assignment(),
            1 => self.decision(),
            2 => self.report(),
            _ => Some(self.about_a_node()),
        }
    }

    fn assignment(&mut self) -> Option<Command> {
        let operation = self.operation();
        let cause = match self.random.below(5) {
            0 => AssignCause::Place,
            1 | 2 => AssignCause::Migrate { operation },
            3 => AssignCause::Failover { loss: None },
            _ => AssignCause::Promote { operation },
        };
        let (grain, epoch, to, base) = (self.grain.id, self.epoch(), self.node(), self.snapshot());
        Some(Command::AssignGrain { grain, epoch, to, base, cause })
    }

    fn decision(&mut self) -> Option<Command> {
        let (grain, epoch, operation) = (self.grain.id, self.epoch(), self.operation());
        let node = self.node();
        Some(match self.random.below(8) {
            0 => Command::UnarmGrain { grain, epoch },
            1 => {
                let standbys = [node, self.node()].into();
                Command::SetStandbys { grain, epoch, standbys }
            }
            2 => {
                let snapshot = self.snapshot().map(|it| it.guid);
                let silent = self.random.below(2) == 0;
                Command::RememberCopy { grain, epoch, node, snapshot, silent }
            }
            3 => Command::BeginMigration { grain, epoch, operation, to: node },
            4 => Command::QuiesceGrain { grain, epoch, operation },
            5 => {
                let why = "nobody wants it".to_owned();
                Command::AbortMigration { grain, epoch, operation, why }
            }
            6 => Command::TurnBack { grain, epoch, operation },
            _ => Command::EndMigration { grain, epoch, operation },
        })
    }

    fn report(&mut self) -> Option<Command> {
        let (grain, epoch, operation) = (self.grain.id, self.epoch(), self.operation());
        let (at, seen) = (wall(self.sim.now), self.seen());
        Some(match self.random.below(8) {
            0 => Command::GrainBorn { grain, epoch },
            1 => Command::GrainArmed { grain, epoch, seen },
            2 => Command::GrainStarted { grain, epoch, at, seen },
            3 => Command::GrainStopped { grain, epoch, at, seen },
            4 => {
                let quiesced = self.sim.truth.index.saturating_sub(self.random.below(20));
                let last = self.snapshot()?;
                Command::GrainReleased { grain, epoch, operation, last, stopping: at, quiesced }
            }
            5 => Command::GrainDeclined { grain, epoch, sure: self.random.below(2) == 0 },
            6 => Command::GrainHealth { grain, epoch, ailment: Some("forged".to_owned()), seen },
            _ => {
                let before = self.snapshot()?;
                Command::GrainRestored { grain, epoch, operation, before }
            }
        })
    }

    fn about_a_node(&mut self) -> Command {
        let node = self.node();
        let (boot, seen, at) = (self.boot(node), self.seen(), wall(self.sim.now));
        match self.random.below(9) {
            0 => Command::SuspectNode { node, boot, last_heard: at },
            1 => {
                let tick = u32::try_from(self.random.below(8)).unwrap_or_default();
                Command::TickNode { node, boot, tick }
            }
            2 => Command::FenceNode { node, boot },
            3 => Command::LeaveNode { node, boot },
            4 => Command::AttestNode { node, boot },
            5 => {
                let by = OffBy::Person { by: "somebody".to_owned() };
                Command::ConfirmNodeOff { node, boot, until: at, by }
            }
            6 => Command::RemoveNode { node, if_index: None, leave_orphans: false },
            7 => Command::PurgeGrain { grain: self.grain.id, if_index: None },
            _ => {
                let (facts, addresses) = match self.sim.truth.nodes.get(&node) {
                    Some(node) => (node.facts.clone(), node.addresses.clone()),
                    None => (Default::default(), addresses("nobody")),
                };
                Command::RegisterNode {
                    node,
                    boot,
                    addresses,
                    facts,
                    seal: None,
                    again: false,
                    seen,
                }
            }
        }
    }
}

impl Sim {
    /// Tries what `apply` would take now.
    pub(super) fn forge(&mut self) {
        let mut random = Random::new(self.seed ^ self.truth.index);
        if random.below(ONE_IN) != 0 {
            return;
        }
        let grains: Vec<_> = self.truth.grains.keys().copied().collect();
        let Some(grain) = random.pick(&grains).and_then(|id| self.truth.grains.get(id)) else {
            return;
        };
        let mut forger = Forger { sim: self, grain, random };
        let mut found = None;
        let mut copy: Option<Cluster> = None;
        for _ in 0..TRIED {
            let Some(command) = forger.command() else { continue };
            let mut after = copy.take().unwrap_or_else(|| self.truth.clone());
            let proposal = Proposal { at: wall(self.now), key: None, command };
            let applied = apply(&mut after, self.truth.index + 1, &proposal);
            if applied.outcome.is_err() || applied.outcome == Ok(Outcome::Unchanged) {
                after.index = self.truth.index;
                copy = Some(after);
                continue;
            }
            let wrong = self.forgery(&after, &proposal.command);
            found = found.or(wrong.map(|why| {
                format!(
                    "`{}` is taken from anybody: {why}: {:?}",
                    proposal.command, proposal.command
                )
            }));
        }
        if let Some(found) = found {
            self.find(found);
        }
    }

    /// Why it must not be taken.
    fn forgery(&self, after: &Cluster, command: &Command) -> Option<String> {
        let before = &self.truth;
        if let Some(contradiction) = check(after).into_iter().find(|it| !check(before).contains(it))
        {
            return Some(format!("contradiction: {contradiction}"));
        }
        let of = epoch_of(command).and_then(|(id, epoch)| Some((before.grains.get(&id)?, epoch)));
        if let Some((grain, epoch)) = of.filter(|(grain, epoch)| grain.epoch != *epoch) {
            return Some(format!(
                "it is of epoch {epoch}, and {} is in {}",
                grain.name, grain.epoch
            ));
        }
        if let Some((grain, seen)) = overtaken(before, command) {
            return Some(format!(
                "{} was changed after {seen}, which its node had seen",
                grain.name
            ));
        }
        let nodes = before.nodes.iter();
        let mut nodes = nodes.filter_map(|(id, was)| Some((was, after.nodes.get(id)?)));
        let said = &self.judge.said;
        nodes.find_map(|(was, is)| silenced(before, was, is, command)).or_else(|| {
            before.grains.values().find_map(|was| {
                let Some(is) = after.grains.get(&was.id) else {
                    let kept = was.trashed_until.is_none();
                    return kept.then(|| format!("{} was not in the trash, and is gone", was.name));
                };
                let moved = is.owner != was.owner || is.epoch != was.epoch;
                match command {
                    Command::AssignGrain { grain, to, base, cause, .. } if *grain == was.id => {
                        said.may_give(before, after, was.id, *to, base.as_ref(), cause)
                    }
                    _ => moved.then(|| format!("{} has another owner or epoch", was.name)),
                }
            })
        })
    }
}

/// A report of something that was changed after its node had looked.
fn overtaken<'a>(before: &'a Cluster, command: &Command) -> Option<(&'a Grain, u64)> {
    let (grain, seen) = match command {
        Command::GrainArmed { grain, seen, .. }
        | Command::GrainStarted { grain, seen, .. }
        | Command::GrainStopped { grain, seen, .. }
        | Command::GrainHealth { grain, seen, .. } => (before.grains.get(grain)?, (*seen)?),
        _ => return None,
    };
    (seen < grain.touched).then_some((grain, seen))
}

/// Why a node must not count as stopped, or as started, now.
fn silenced(before: &Cluster, was: &Node, is: &Node, command: &Command) -> Option<String> {
    let ticks = |liveness: &Liveness| match liveness {
        Liveness::Suspect { ticks, .. } => Some(*ticks),
        Liveness::Joining | Liveness::Online | Liveness::Fenced { .. } | Liveness::Away { .. } => {
            None
        }
    };
    let (counted, all) = (ticks(&was.liveness), before.timing().ticks);
    let skipped = counted.zip(ticks(&is.liveness)).is_some_and(|(was, is)| is > was + 1);
    if skipped {
        return Some(format!("the countdown of {} skips a step", was.name));
    }
    let boot = match command {
        Command::FenceNode { boot, .. }
        | Command::LeaveNode { boot, .. }
        | Command::AttestNode { boot, .. }
        | Command::SuspectNode { boot, .. }
        | Command::TickNode { boot, .. }
        | Command::ConfirmNodeOff { boot, .. } => Some(*boot),
        _ => None,
    };
    let changed = was.liveness != is.liveness || was.off != is.off;
    if changed && boot.is_some_and(|boot| was.boot != Some(boot)) {
        return Some(format!("it is about another start of {}", was.name));
    }
    let stops = is.liveness.is_surely_stopped() && !was.liveness.is_surely_stopped();
    let early = match command {
        Command::FenceNode { .. } => counted.is_none_or(|counted| counted < all),
        Command::AttestNode { .. } => counted.is_none(),
        Command::LeaveNode { .. } => !was.liveness.is_online(),
        Command::ConfirmNodeOff { .. } => false,
        _ => true,
    };
    if stops && early {
        return Some(format!("{} counts as stopped too early", was.name));
    }
    let seen = match command {
        Command::RegisterNode { seen, .. } => *seen,
        _ => None,
    };
    (was.boot != is.boot && seen.is_some_and(|seen| seen < was.since))
        .then(|| format!("{} has registered since", was.name))
}
