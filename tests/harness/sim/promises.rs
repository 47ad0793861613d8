//! The promises that are about the order of entries and about copies: who may be given a grain after what, what a copy may take
//! in, what both sides must still have. Written without the code that keeps them.

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::cluster::{Cluster, Declined, Grain, Liveness, Node, Stage};
use scrap_decide::obey::DataRole;
use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::node::NodeRole;
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Snapshot};

use super::Sim;

/// What the log has said so far.
#[derive(Debug, Default)]
pub struct Said {
    /// Whose every epoch of a grain is.
    owners: BTreeMap<(GrainId, Epoch), NodeId>,
    /// Starts of nodes that count as dead.
    dead: BTreeSet<(NodeId, BootId)>,
    /// Epochs that their owner has given back.
    released: BTreeSet<(GrainId, Epoch)>,
}

impl Said {
    /// An entry that changed something.
    pub(super) fn hear(&mut self, command: &Command) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others give nothing away")]
        match command {
            Command::FenceNode { node, boot }
            | Command::AttestNode { node, boot }
            | Command::LeaveNode { node, boot }
            | Command::ConfirmNodeOff { node, boot, .. } => {
                self.dead.insert((*node, *boot));
            }
            Command::GrainReleased { grain, epoch, .. }
            // It never began there.
            | Command::GrainDeclined { grain, epoch, sure: true } => {
                self.released.insert((*grain, *epoch));
            }
            // It runs again where it was.
            Command::AbortMigration { grain, epoch, .. } => {
                self.released.remove(&(*grain, *epoch));
            }
            _ => (),
        }
    }

    /// The cluster begins anew from an older state: what was said after that was said by nobody.
    pub(super) fn began_anew(&mut self, cluster: &Cluster) {
        let known = |grain: &GrainId, epoch: Epoch| {
            cluster.grains.get(grain).is_some_and(|grain| epoch <= grain.epoch)
        };
        self.owners.retain(|(grain, epoch), _| known(grain, *epoch));
        self.released.clear();
    }

    /// A grain was given to a node. Why that epoch is not its.
    pub(super) fn give(&mut self, id: GrainId, epoch: Epoch, to: NodeId) -> Option<String> {
        let other = self.owners.insert((id, epoch), to).filter(|other| *other != to)?;
        Some(format!("epoch {epoch} is that of node {other} already"))
    }

    /// Whether nothing of a start of a node runs any more, as far as the log says.
    pub(super) fn is_dead(&self, node: NodeId, boot: Option<BootId>) -> bool {
        boot.is_some_and(|boot| self.dead.contains(&(node, boot)))
    }

    /// Why a grain must not be given away now.
    pub(super) fn may_give(
        &self,
        before: &Cluster,
        after: &Cluster,
        id: GrainId,
        to: NodeId,
        base: Option<&Snapshot>,
        cause: &AssignCause,
    ) -> Option<String> {
        let (was, is) = (before.grains.get(&id)?, after.grains.get(&id)?);
        if is.epoch <= was.epoch && was.owner.is_some() {
            return Some(format!("its epoch {} does not rise", was.epoch));
        }
        if before.nodes.get(&to).is_none_or(|node| node.role != NodeRole::Data) {
            return Some(format!("node {to} runs no grains"));
        }
        let owner = was.owner.filter(|owner| *owner != to)?;
        let known = before.nodes.get(&owner);
        let dead = self.is_dead(owner, known.and_then(|node| node.boot));
        let released = self.released.contains(&(id, was.epoch));
        if !dead && !released && !given_up_by_a_person(before, was) {
            return Some(format!("nobody has said that node {owner} has stopped it"));
        }
        let promised = match &was.stage {
            Stage::Released { to, last, .. } => Some((*to, last.guid)),
            Stage::Unplaced
            | Stage::Settled
            | Stage::Warming { .. }
            | Stage::Quiescing { .. }
            | Stage::Landing { .. }
            | Stage::Restarting { .. }
            | Stage::Restoring { .. }
            | Stage::Cloning { .. } => None,
        };
        match cause {
            AssignCause::Migrate { .. } => {
                let given = base.map(|base| (to, base.guid));
                (promised != given || given.is_none())
                    .then(|| "its owner has released something else".to_owned())
            }
            AssignCause::Failover { .. } => {
                let off = known.is_some_and(|node| node.off.is_some());
                let never = was.declined != Declined::No;
                if !was.armed && !off && !never && !given_up_by_a_person(before, was) {
                    return Some(
                        "it may run without a lease, and nobody said that its owner is off"
                            .to_owned(),
                    );
                }
                (braked(before) && !asked_by_a_person(before, was))
                    .then(|| "more than half of the nodes are silent".to_owned())
            }
            AssignCause::Place | AssignCause::Promote { .. } => None,
        }
    }
}

fn failover_of<'a>(cluster: &'a Cluster, grain: &Grain) -> Option<&'a Work> {
    let operation = cluster.operations.get(&grain.operation?)?;
    matches!(operation.work, Work::Failover { .. }).then_some(&operation.work)
}

fn asked_by_a_person(cluster: &Cluster, grain: &Grain) -> bool {
    failover_of(cluster, grain).is_some()
}

fn given_up_by_a_person(cluster: &Cluster, grain: &Grain) -> bool {
    failover_of(cluster, grain)
        .is_some_and(|work| matches!(work, Work::Failover { owner_is_off: true, .. }))
}

/// More than half of the data nodes are silent.
pub(super) fn braked(cluster: &Cluster) -> bool {
    let generation = cluster.identity.as_ref().map_or(0, |identity| identity.generation);
    // Who was left behind takes no part.
    let data = cluster.nodes.values().filter(|node| node.role == NodeRole::Data);
    let data = data.filter(|node| node.generation == generation);
    let known: Vec<_> = data.filter(|node| node.boot.is_some()).collect();
    // A person who has looked at a node takes it out of the count.
    let seen = |node: &&&Node| node.off.as_ref().is_some_and(|off| off.by.is_person());
    let silent = known
        .iter()
        .filter(|node| !seen(node))
        .filter(|node| matches!(node.liveness, Liveness::Suspect { .. } | Liveness::Fenced { .. }));
    silent.count() * 2 > known.len()
}

impl Sim {
    /// What must be true of an instance that is started now.
    pub(super) fn judge_start(&mut self, at: usize, id: GrainId, epoch: Epoch) {
        let machine = &self.machines[at];
        let registered = machine.cluster.nodes.get(&machine.id).and_then(|node| node.boot);
        let registered = registered.is_some_and(|boot| boot > machine.life);
        let (name, what) = (machine.name.clone(), self.name(id));
        if !registered {
            self.find(format!("{name} starts {what} before this start of it is registered"));
        }
        let machine = &self.machines[at];
        let Some(grain) = machine.cluster.grains.get(&id) else { return };
        let now = machine.clock.read(self.now);
        let deadline = machine.instances.get(&id).and_then(|instance| instance.deadline);
        if grain.armed && grain.epoch == epoch && deadline.is_none_or(|deadline| deadline <= now) {
            self.find(format!("{name} starts {what} without a lease that lasts"));
        }
        let machine = &self.machines[at];
        let granted = machine.tenant.lease().granted;
        let over = granted.is_none_or(|granted| granted + machine.cluster.timing().lease <= now);
        let armed = machine.cluster.grains.get(&id).is_some_and(|it| it.armed && it.epoch == epoch);
        if armed && over {
            self.find(format!("{name} starts {what}, and its lease was not granted"));
        }
    }

    /// What must be true of a stream that is about to change a copy.
    pub(super) fn judge_receive(
        &mut self,
        at: usize,
        peer: usize,
        id: GrainId,
        from: Option<Guid>,
    ) {
        let (sender, receiver) = (&self.machines[at], &self.machines[peer]);
        let mut wrong = None;
        match receiver.cluster.grains.get(&id) {
            Some(grain) if grain.owner != Some(sender.id) => wrong = Some("is not its owner"),
            Some(grain) if sender.datasets.get(&id).map(|it| it.epoch) != Some(grain.epoch) => {
                wrong = Some("is of another epoch");
            }
            Some(_) => (),
            None => wrong = Some("sends what nobody knows"),
        }
        if receiver.instances.contains_key(&id) {
            wrong = Some("sends to where it runs");
        }
        if let Some(copy) = receiver.datasets.get(&id) {
            let newest = copy.snapshots.last().map(|newest| newest.snapshot.guid);
            if copy.role != DataRole::Standby || copy.unfrozen() > 0 || newest != from {
                wrong = Some("overwrites what is there");
            }
        }
        if let Some(wrong) = wrong {
            let (sender, name) = (sender.name.clone(), self.name(id));
            let receiver = receiver.name.clone();
            self.find(format!(
                "a stream of {name} from {sender} to {receiver}: the sender {wrong}"
            ));
        }
    }

    /// What an owner and a copy that it reaches have in common is not pruned to the last state, and what it knows that a copy stands
    /// at is not pruned at all.
    pub(super) fn judge_prune(&mut self, at: usize, id: GrainId, before: &[Guid], gone: &[Guid]) {
        let machine = &self.machines[at];
        let Some(grain) = machine.cluster.grains.get(&id) else { return };
        if grain.owner != Some(machine.id) {
            return;
        }
        let mut found = Vec::new();
        for node in &grain.standbys {
            let Some(peer) = self.machine_of(*node) else { continue };
            let (one, two) = (&machine.name, &self.machines[peer].name);
            let copy = self.machines[peer].datasets.get(&id);
            let ends = copy.and_then(|copy| copy.snapshots.last()).map(|it| it.snapshot.guid);
            // What was said of it may have been overtaken by a stream.
            let stands = grain.away.get(node).copied().flatten().filter(|it| Some(*it) == ends);
            if stands.is_some_and(|guid| gone.contains(&guid)) {
                found.push(format!("{one} prunes what {two}, which is silent, stands at"));
            }
            let known = machine.copies.get(&(id, *node)).and_then(|it| it.facts.snapshots.as_ref());
            let base = known
                .and_then(|known| before.iter().rev().find(|guid| known.contains(guid)))
                .filter(|base| gone.contains(base));
            if base.is_some() {
                found.push(format!("{one} prunes where its next stream to {two} begins"));
            }
            let online =
                machine.cluster.nodes.get(node).is_some_and(|node| node.liveness.is_online());
            let Some(copy) = copy.filter(|_| online && self.reach(at, peer)) else { continue };
            let mut common = before.iter().filter(|guid| copy.frozen(**guid).is_some()).peekable();
            if common.peek().is_some() && common.all(|guid| gone.contains(guid)) {
                found.push(format!("{one} prunes the last state of {} that {two} has", grain.name));
            }
        }
        found.into_iter().for_each(|what| self.find(what));
    }

    /// When everything is quiet: owner and copies have a state in common, and both hold it if they reach each other.
    pub(super) fn judge_bases(&mut self) {
        let mut found = Vec::new();
        for grain in self.truth.grains.values().filter(|it| matches!(it.stage, Stage::Settled)) {
            let Some(owner) = grain.owner.and_then(|owner| self.machine_of(owner)) else {
                continue;
            };
            let Some(head) = self.machines[owner].datasets.get(&grain.id) else { continue };
            for node in &grain.standbys {
                let Some(peer) = self.machine_of(*node) else { continue };
                let copy = self.machines[peer].datasets.get(&grain.id);
                let Some(copy) = copy.filter(|copy| !copy.snapshots.is_empty()) else { continue };
                let apart = !self.reach(owner, peer);
                let holds = |guid: &Guid| {
                    if apart {
                        return true;
                    }
                    head.held.values().any(|it| it == guid)
                        && copy.held.values().any(|it| it == guid)
                };
                let mut both = copy.snapshots.iter().map(|frozen| frozen.snapshot.guid);
                if !both.any(|guid| head.frozen(guid).is_some() && holds(&guid)) {
                    let (one, two) = (&self.machines[owner].name, &self.machines[peer].name);
                    found.push(format!("{one} and {two} hold no common state of {}", grain.name));
                }
            }
        }
        found.into_iter().for_each(|what| self.find(what));
    }
}
