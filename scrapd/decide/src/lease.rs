//! The lease: who may run grains, when a node stops them by itself, when its silence has become certainty.
//!
//! The simple form of the protocol with its final shape: renewals outside the log, a committed countdown, arithmetic
//! on boot time only. Safe because every answer to a renewal is preceded by a quorum-confirmed leadership after its receipt
//! and counts from the time of *sending*, and because the countdown is longer than lease and kill together ([`Timing::check`]).

use std::collections::BTreeMap;

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::node::{NodeRole, RenewalAnswer, Verdict};
use scrap_schema::time::{BootTime, Now, Timestamp};
use scrap_schema::timing::Timing;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Liveness, Node};
use crate::lead::{Plan, Subject, WaitReason};
use crate::mutant::{self, Mutant};
use crate::observed::{Mark, Observed};

/// What a leader says to a renewal. `confirmed`: the entry up to which everything was committed when a majority said, asked after
/// the renewal was here, that it leads; `None`: no majority did. `None`: it must not say anything.
///
/// What it has begun to suspect it grants nothing, also before that is committed: what is told of a loss counts from what it had
/// heard when it decided.
#[must_use]
pub fn answer(
    cluster: &Cluster,
    observed: &Observed,
    node: NodeId,
    boot: BootId,
    confirmed: Option<u64>,
) -> Option<Verdict> {
    let confirmed = confirmed.is_some_and(|index| index <= cluster.index);
    if !confirmed && !mutant::is(Mutant::AnswersUnconfirmed) {
        return None;
    }
    let verdict = verdict(cluster, node, boot);
    let suspects = observed.suspects(node, boot) && !mutant::is(Mutant::GrantsLate);
    (verdict != Verdict::Granted || !suspects).then_some(verdict)
}

fn verdict(cluster: &Cluster, node: NodeId, boot: BootId) -> Verdict {
    let present = cluster.nodes.get(&node).filter(|node| !cluster.left_behind(node));
    let Some(node) = present else { return Verdict::Removed };
    if node.boot != Some(boot) && !mutant::is(Mutant::AnswersAnyStart) {
        return Verdict::Unregistered;
    }
    match node.liveness {
        Liveness::Online => Verdict::Granted,
        Liveness::Suspect { .. } if mutant::is(Mutant::AnswersSuspect) => Verdict::Granted,
        Liveness::Suspect { .. } | Liveness::Fenced { .. } => Verdict::Suspected,
        Liveness::Joining | Liveness::Away { .. } => Verdict::Unregistered,
    }
}

/// A node's own lease: the time at which the last renewal that was granted had been *sent*, by the node's boot clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// `None`: never granted since the daemon started.
    pub granted: Option<BootTime>,
}

impl Lease {
    /// Whether grains may run and be started: before the time at which the node stops them by itself.
    #[must_use]
    pub fn is_held(self, timing: Timing, now: BootTime) -> bool {
        self.granted.is_some_and(|granted| now < granted + timing.stop)
    }

    /// When everything that runs under the lease must be dead.
    #[must_use]
    pub fn deadline(self, timing: Timing) -> Option<BootTime> {
        let late = if mutant::is(Mutant::KillsLate) { timing.lease } else { Span::ZERO };
        self.granted.map(|granted| granted + timing.lease + late)
    }

    /// When the answer of [`Lease::is_held`] changes next if nothing is granted.
    #[must_use]
    pub fn next_deadline(self, timing: Timing, now: BootTime) -> Option<BootTime> {
        let stop = self.granted.map(|granted| granted + timing.stop);
        stop.filter(|stop| now < *stop)
    }
}

/// So many grants wait at once at most: a node that far behind gets nothing from more of them.
const PENDING_MAX: usize = 32;

/// A node's side of its lease: takes answers, and counts each once this node has applied what the leader knew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tenant {
    lease: Lease,
    /// When what was granted had been sent, by the entry that has to be applied first.
    pending: BTreeMap<u64, BootTime>,
}

impl Tenant {
    /// The lease as it counts now.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// A grant counts from this time of sending.
    pub fn grant(&mut self, sent: BootTime) {
        self.lease.granted = self.lease.granted.max(Some(sent));
    }

    /// A renewal was answered, and the answer came here now. The lease counts from the time at which the renewal was *sent*.
    pub fn answered(&mut self, answer: &RenewalAnswer, now: BootTime) {
        match answer.verdict {
            Verdict::Granted => {
                let late = mutant::is(Mutant::LeaseFromAnswer);
                let sent = if late { now } else { answer.sent };
                if self.pending.len() < PENDING_MAX {
                    let waits = self.pending.entry(answer.index).or_insert(sent);
                    *waits = sent.max(*waits);
                }
            }
            Verdict::Suspected | Verdict::Unregistered | Verdict::Removed => (),
        }
    }

    /// Entries were applied here. Returns whether the lease has become longer.
    pub fn applied(&mut self, index: u64) -> bool {
        let before = self.lease;
        while let Some(first) = self.pending.first_entry().filter(|first| *first.key() <= index) {
            let sent = first.remove();
            self.grant(sent);
        }
        self.lease != before
    }
}

/// What follows from a guard's word that nothing runs under a registration any more, which it has proven with what was sealed
/// as `seal`. `None`: nothing, because it is about another start, or nobody waits for it.
#[must_use]
pub fn attested(cluster: &Cluster, node: NodeId, boot: BootId, seal: &str) -> Option<Command> {
    let known = cluster.nodes.get(&node)?;
    let any = mutant::is(Mutant::AttestsAnyStart);
    let proven = any || known.boot == Some(boot) && known.seal.as_deref() == Some(seal);
    let waited_for = match known.liveness {
        Liveness::Suspect { .. } => true,
        Liveness::Joining | Liveness::Online | Liveness::Fenced { .. } | Liveness::Away { .. } => {
            false
        }
    };
    (proven && waited_for).then_some(Command::AttestNode { node, boot })
}

/// Watches every node's silence: suspicion, countdown, fence.
pub(crate) fn watch(cluster: &Cluster, observed: &Observed, now: Now, plan: &mut Plan) {
    for node in cluster.nodes.values() {
        if let Some(boot) = node.boot {
            watch_one(cluster, node, boot, observed, now, plan);
        }
    }
    if let Some(silent) = brake(cluster) {
        plan.wait(Subject::Cluster, WaitReason::Brake { silent });
    }
}

fn watch_one(
    cluster: &Cluster,
    node: &Node,
    boot: BootId,
    observed: &Observed,
    now: Now,
    plan: &mut Plan,
) {
    let timing = cluster.timing();
    match node.liveness {
        Liveness::Online => {
            let silent = observed.silence(node.id, node.boot, now.boot) >= timing.suspect;
            if silent || observed.suspects(node.id, boot) {
                let heard = observed.nodes.get(&node.id).filter(|heard| heard.boot == boot);
                // What this leader heard may have been long on its way, and the one before may have granted more until this one began.
                let began = now.wall - now.boot.since(observed.since);
                let granted_before = mutant::is(Mutant::ForgetsGrants);
                let newest = |wall: Timestamp| if granted_before { wall } else { wall.max(began) };
                // Never heard of by this leader: then nothing is known, and the upper bound of its last write is now.
                let last_heard = heard.map_or(now.wall, |heard| newest(heard.wall));
                plan.commands.push(Command::SuspectNode { node: node.id, boot, last_heard });
            }
        }
        Liveness::Suspect { .. } if mutant::is(Mutant::NoFence) => {
            plan.commands.push(Command::FenceNode { node: node.id, boot });
        }
        Liveness::Suspect { ticks, .. } => {
            let ticked = observed.for_how_long(Mark::Tick(node.id, ticks), now.boot) >= timing.tick
                || mutant::is(Mutant::CountsAtOnce);
            match (ticked, ticks < timing.ticks) {
                (true, true) => {
                    let tick = ticks.saturating_add(1);
                    plan.commands.push(Command::TickNode { node: node.id, boot, tick });
                }
                (_, false) => plan.commands.push(Command::FenceNode { node: node.id, boot }),
                (false, true) => (),
            }
            if node.awaited.is_none() && observed.is_cold(cluster, node.id) {
                plan.commands.push(Command::AwaitNode { node: node.id, boot });
            }
            let left = timing.ticks.saturating_sub(ticks);
            plan.wait(Subject::Node(node.id), WaitReason::Countdown { left, tick: timing.tick });
        }
        Liveness::Joining | Liveness::Fenced { .. } | Liveness::Away { .. } => (),
    }
}

/// More than half of the data nodes are silent at once. Then it is more likely that this side is cut off or that the power
/// failed, and nobody is promoted without a person's word. Returns how many are silent, of how many.
#[must_use]
pub fn brake(cluster: &Cluster) -> Option<(usize, usize)> {
    let data = cluster.members().filter(|node| node.role == NodeRole::Data);
    let (mut all, mut silent) = (0_usize, 0_usize);
    for node in data {
        all = all.saturating_add(1);
        match node.liveness {
            // A person has looked: its silence says nothing about the others.
            Liveness::Suspect { .. } | Liveness::Fenced { .. }
                if node.off.as_ref().is_some_and(|off| off.by.is_person()) => {}
            Liveness::Suspect { .. } | Liveness::Fenced { .. } => silent = silent.saturating_add(1),
            Liveness::Joining | Liveness::Online | Liveness::Away { .. } => (),
        }
    }
    (silent.saturating_mul(2) > all && !mutant::is(Mutant::NoBrake)).then_some((silent, all))
}

#[cfg(test)]
mod tests;
