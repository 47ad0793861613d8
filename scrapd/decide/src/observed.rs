//! What the leader has heard: reports, and since when. Lives in the leader's memory and dies with its leadership.
//!
//! It records since when this leader listens, so that its own silence is never read as a node's death.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, GrainId, NodeId, OperationId};
use scrap_schema::node::{CopyReport, GrainReport, NodeUsage, PoolFacts, Renewal};
use scrap_schema::operation::Phase;
use scrap_schema::snapshot::Guid;
use scrap_schema::time::{BootTime, Now, Timestamp};
use scrap_schema::unit::{Bytes, Span};

use crate::cluster::{Cluster, Grain, Liveness, Node, Stage};
use crate::mutant::{self, Mutant};

/// What this leader has heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Since when this leader listens.
    pub since: BootTime,
    /// By node.
    pub nodes: BTreeMap<NodeId, Heard>,
    /// Where a copy stood when an owner last said so, this one or one before it.
    pub stands: BTreeMap<(GrainId, NodeId), Guid>,
    /// Since when something has been as it is, by this leader's clock.
    pub marks: BTreeMap<Mark, BootTime>,
    /// The node that listens; `None`: it has not said.
    pub me: Option<NodeId>,
    /// Log index that was applied when it began; `None`: it has not said.
    pub began: Option<u64>,
    /// What became of cutting the power of nodes that are silent.
    pub attempts: BTreeMap<NodeId, Attempt>,
    /// Registrations that this leader has decided to suspect, until that is committed: it may take a while, and it may be unknown whether
    /// it was.
    pub suspecting: BTreeSet<(NodeId, BootId)>,
}

/// A try to cut the power of a silent node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It is under way, or done and not committed yet.
    Running {
        /// The start of the node's daemon that fell silent.
        boot: BootId,
        /// How many have failed before.
        failed: u32,
    },
    /// It did not work.
    Failed {
        /// As above.
        boot: BootId,
        /// How many have failed in a row.
        failed: u32,
        /// Why, in words.
        why: String,
        /// Not again before.
        retry_at: BootTime,
    },
}

impl Attempt {
    /// The start of the node's daemon that it is about.
    #[must_use]
    pub fn boot(&self) -> BootId {
        match self {
            Self::Running { boot, .. } | Self::Failed { boot, .. } => *boot,
        }
    }

    fn failed(&self) -> u32 {
        match self {
            Self::Running { failed, .. } | Self::Failed { failed, .. } => *failed,
        }
    }
}

/// The first pause between two tries to cut a node's power; it doubles.
const CUT_AGAIN_FIRST: Span = Span::from_secs(5);
/// The longest one.
const CUT_AGAIN_MAX: Span = Span::from_secs(60);

/// What this leader has heard of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Which start of its daemon spoke.
    pub boot: BootId,
    /// When it last spoke, by this leader's clock at receipt.
    pub last: BootTime,
    /// Its own boot clock when it sent the newest of what was heard.
    pub sent: BootTime,
    /// Its own wall clock when it sent that.
    pub wall: Timestamp,
    /// This leader's wall clock at receipt.
    pub received: Timestamp,
    /// What it uses.
    pub usage: NodeUsage,
    /// How its storage is.
    pub pool: Option<PoolFacts>,
    /// What is wrong with the network of its grains.
    pub network: Vec<String>,
    /// Whether `grains` is complete.
    pub full: bool,
    /// Its reports.
    pub grains: BTreeMap<GrainId, GrainReport>,
}

/// Something whose duration matters to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// This start of a node is online.
    Online(NodeId, BootId),
    /// A node's countdown stands at this tick.
    Tick(NodeId, u32),
    /// An operation is in this phase.
    Phase(OperationId, Phase),
    /// A grain is copied to its next owner while it runs.
    Warming(GrainId),
    /// A grain lands on its new owner.
    Landing(GrainId),
    /// A grain's owner is gone and nothing was decided yet.
    Ownerless(GrainId),
}

/// Which registration a command suspects.
fn suspected(command: &Command) -> Option<(NodeId, BootId)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other one suspects anybody")]
    match command {
        Command::SuspectNode { node, boot, .. } => Some((*node, *boot)),
        _ => None,
    }
}

impl Observed {
    /// A leader that begins to listen now.
    #[must_use]
    pub fn from(since: BootTime) -> Self {
        Self { since, ..Self::default() }
    }

    /// This leader has decided that, and nothing of it is committed yet. What it has begun to suspect it goes on to suspect.
    pub fn decided(&mut self, commands: &[Command]) {
        self.suspecting.extend(commands.iter().filter_map(suspected));
    }

    /// This was surely not proposed: nothing follows from it.
    pub fn not_proposed(&mut self, command: &Command) {
        if let Some(registration) = suspected(command) {
            self.suspecting.remove(&registration);
        }
    }

    /// Whether this leader has decided to suspect a registration.
    #[must_use]
    pub fn suspects(&self, node: NodeId, boot: BootId) -> bool {
        self.suspecting.contains(&(node, boot))
    }

    /// What a node's wall clock may show by now at most: as far ahead of this leader's as it was when it last spoke.
    #[must_use]
    pub fn wall_of(&self, node: NodeId, now: Now) -> Timestamp {
        let ahead = self.nodes.get(&node).map_or(Span::ZERO, |it| it.wall.since(it.received));
        now.wall + ahead
    }

    /// Whether this looks like the first minutes after everything was off: every daemon that this leader has heard was started since it
    /// began, and a node that it has never heard is missing. After the death of a leader alone the others are those that were there before.
    #[must_use]
    pub fn is_cold(&self, cluster: &Cluster, missing: NodeId) -> bool {
        let Some(began) = self.began else { return false };
        let spoke = |node: &Node| {
            let heard = self.nodes.get(&node.id);
            heard.is_some_and(|heard| Some(heard.boot) == node.boot)
        };
        let mut heard = cluster.nodes.values().filter(|node| spoke(node)).peekable();
        heard.peek().is_some() && heard.all(|node| node.id != missing && node.registered > began)
    }

    /// A try to cut the power of a node begins.
    pub fn cut_begins(&mut self, node: NodeId, boot: BootId) {
        let before = self.attempts.get(&node).filter(|attempt| attempt.boot() == boot);
        let failed = before.map_or(0, Attempt::failed);
        self.attempts.insert(node, Attempt::Running { boot, failed });
    }

    /// It did not work. Returns whether it is the first one that has failed.
    pub fn cut_failed(&mut self, node: NodeId, boot: BootId, why: String, now: BootTime) -> bool {
        let Some(attempt) = self.attempts.get_mut(&node).filter(|it| it.boot() == boot) else {
            return false;
        };
        let before = attempt.failed();
        let pause = CUT_AGAIN_FIRST.ms().checked_shl(before.min(16)).unwrap_or(u64::MAX);
        let retry_at = now + Span::from_ms(pause.min(CUT_AGAIN_MAX.ms()));
        *attempt = Attempt::Failed { boot, failed: before.saturating_add(1), why, retry_at };
        before == 0
    }

    /// Takes a renewal in. `present`: the registration of the node that counts. Returns whether the reports of this node are complete.
    pub fn hear(&mut self, renewal: &Renewal, present: Option<BootId>, now: Now) -> bool {
        // Of an earlier registration, and long on its way: what was heard since must not be forgotten for it.
        if present != Some(renewal.boot) && !mutant::is(Mutant::HearsOldStarts) {
            return false;
        }
        let known = self.nodes.get(&renewal.node).is_some_and(|heard| heard.boot == renewal.boot);
        let heard = self.nodes.entry(renewal.node).or_insert_with(|| Heard::new(renewal, now));
        if !known {
            *heard = Heard::new(renewal, now);
        }
        // Overtaken on its way by a newer one: it says nothing about now.
        if renewal.sent < heard.sent {
            return heard.full;
        }
        heard.sent = renewal.sent;
        if renewal.full {
            heard.grains.clear();
            heard.full = true;
        }
        heard.last = now.boot;
        heard.wall = renewal.wall;
        heard.received = now.wall;
        heard.usage = renewal.usage;
        heard.pool.clone_from(&renewal.pool);
        heard.network.clone_from(&renewal.network);
        for (grain, report) in &renewal.grains {
            let copies = report.iter().flat_map(|report| &report.copies);
            let stands = copies.filter_map(|(node, copy)| Some(((*grain, *node), copy.common?)));
            self.stands.extend(stands);
            match report {
                Some(report) => heard.grains.insert(*grain, report.clone()),
                None => heard.grains.remove(grain),
            };
        }
        heard.full
    }

    /// Forgets what is no more and begins to count what is new. Once per round, before deciding.
    pub fn refresh(&mut self, cluster: &Cluster, now: Now) {
        self.nodes.retain(|node, _| cluster.nodes.contains_key(node));
        let silent = |node: &NodeId, attempt: &mut Attempt| {
            let node = cluster.nodes.get(node);
            node.is_some_and(|it| it.boot == Some(attempt.boot()) && !it.liveness.is_online())
        };
        self.attempts.retain(silent);
        self.suspecting.retain(|(node, boot)| {
            let node = cluster.nodes.get(node);
            node.is_some_and(|it| it.boot == Some(*boot) && it.liveness.is_online())
        });
        self.stands.retain(|(grain, node), _| {
            cluster.grains.get(grain).is_some_and(|grain| grain.receivers().contains(node))
        });
        let mut marks = BTreeMap::new();
        let mut keep = |mark: Mark| {
            marks.insert(mark, self.marks.get(&mark).copied().unwrap_or(now.boot));
        };
        for node in cluster.nodes.values() {
            match (&node.liveness, node.boot) {
                (Liveness::Suspect { ticks, .. }, _) => keep(Mark::Tick(node.id, *ticks)),
                (Liveness::Online, Some(boot)) => keep(Mark::Online(node.id, boot)),
                (Liveness::Online, None)
                | (
                    Liveness::Joining | Liveness::Fenced { .. } | Liveness::Away { .. },
                    Some(_) | None,
                ) => (),
            }
        }
        for operation in cluster.operations.values().filter(|operation| !operation.state.is_final())
        {
            if let Some(record) = operation.phases.last() {
                keep(Mark::Phase(operation.id, record.phase));
            }
        }
        for grain in cluster.grains.values() {
            match grain.stage {
                Stage::Warming { .. } => keep(Mark::Warming(grain.id)),
                Stage::Landing { .. } => keep(Mark::Landing(grain.id)),
                Stage::Unplaced
                | Stage::Settled
                | Stage::Quiescing { .. }
                | Stage::Released { .. }
                | Stage::Restarting { .. }
                | Stage::Restoring { .. }
                | Stage::Cloning { .. } => (),
            }
            let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
            if owner.is_some_and(|owner| !owner.liveness.is_online()) {
                keep(Mark::Ownerless(grain.id));
            }
        }
        self.marks = marks;
    }

    /// For how long something has been as it is, as far as this leader knows.
    #[must_use]
    pub fn for_how_long(&self, mark: Mark, now: BootTime) -> Span {
        self.marks.get(&mark).map_or(Span::ZERO, |since| now.since(*since))
    }

    /// For how long a node has been silent. Silence before this leader listened, and before the node registered, does not count.
    #[must_use]
    pub fn silence(&self, node: NodeId, boot: Option<BootId>, now: BootTime) -> Span {
        let heard = self.nodes.get(&node).filter(|heard| Some(heard.boot) == boot);
        let last = heard.map_or(self.since, |heard| heard.last.max(self.since));
        let online = boot.and_then(|boot| self.marks.get(&Mark::Online(node, boot)).copied());
        now.since(online.map_or(last, |online| online.max(last)))
    }

    /// A node's report about a grain.
    #[must_use]
    pub fn report(&self, node: NodeId, grain: GrainId) -> Option<&GrainReport> {
        self.nodes.get(&node).and_then(|heard| heard.grains.get(&grain))
    }

    /// What the owner of a grain says of its copy on a node.
    #[must_use]
    pub fn copy(&self, grain: &Grain, node: NodeId) -> Option<&CopyReport> {
        let owner = grain.owner?;
        self.report(owner, grain.id)?.copies.get(&node)
    }

    /// What would be lost of a grain if its owner died now and the copy on `node` were promoted. `None`: the copy has no state.
    /// Computed on the owner's own clock as far as it was heard, plus the time since.
    #[must_use]
    pub fn lag(&self, grain: &Grain, node: NodeId, now: Now) -> Option<Span> {
        let heard = self.nodes.get(&grain.owner?)?;
        let current_to = self.copy(grain, node)?.current_to?;
        Some(heard.wall.since(current_to) + now.boot.since(heard.last))
    }

    /// Bytes that a copy lacks, as far as its owner has measured them; what was written within the lag may come on top.
    /// `None`: nothing was measured for a while, and that is no reason to believe that nothing was written.
    #[must_use]
    pub fn pending(&self, grain: &Grain, node: NodeId, now: Now) -> Option<Bytes> {
        const MEASURED_LATELY: Span = Span::from_secs(1);
        let copy = self.copy(grain, node)?;
        let lately = self.lag(grain, node, now).is_some_and(|lag| lag <= MEASURED_LATELY);
        let known = copy.pending.0 > 0 || lately || grain.started.is_none();
        known.then_some(copy.pending)
    }

    /// The smallest lag over all copies whose node is reachable: what would be lost now. `None`: everything.
    #[must_use]
    pub fn best_lag(&self, cluster: &Cluster, grain: &Grain, now: Now) -> Option<Span> {
        let reachable = grain
            .standbys
            .iter()
            .filter(|node| cluster.nodes.get(node).is_some_and(|node| node.liveness.is_online()));
        reachable.filter_map(|node| self.lag(grain, *node, now)).min()
    }
}

impl Heard {
    fn new(renewal: &Renewal, now: Now) -> Self {
        Self {
            boot: renewal.boot,
            last: now.boot,
            sent: renewal.sent,
            wall: renewal.wall,
            received: now.wall,
            usage: renewal.usage,
            pool: renewal.pool.clone(),
            network: renewal.network.clone(),
            full: false,
            grains: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
