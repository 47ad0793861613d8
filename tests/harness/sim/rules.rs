//! Rules that decisions and deeds must keep, looked at when they are made: when a node may be suspected, whose power is cut, who votes,
//! what a failover must wait for, what may become of data. Written without the code that keeps them.

use std::collections::BTreeSet;

use scrap_decide::cluster::{Cluster, Grain};
use scrap_decide::obey::DataRole;
use scrap_decide::power::Cut;
use scrap_schema::command::{AssignCause, Command, Proposal};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::node::Renewal;
use scrap_schema::operation::Work;
use scrap_schema::snapshot::Snapshot;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use super::Sim;
use super::promises::braked;

/// Data that were left behind are set aside and listed within this, once their node is well.
const LISTED_WITHIN_MS: u64 = 60_000;
/// So long an owner is waited for after everything was off.
const AWAITED: Span = Span::from_secs(180);

fn by_a_person(cluster: &Cluster, grain: &Grain) -> bool {
    let operation = grain.operation.and_then(|id| cluster.operations.get(&id));
    operation.is_some_and(|it| matches!(it.work, Work::Failover { .. } | Work::Promote { .. }))
}

/// The epoch that an entry about a grain was decided or seen in.
pub(super) fn epoch_of(command: &Command) -> Option<(GrainId, Epoch)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have none")]
    match command {
        Command::AssignGrain { grain, epoch, .. }
        | Command::UnarmGrain { grain, epoch }
        | Command::SetStandbys { grain, epoch, .. }
        | Command::RememberCopy { grain, epoch, .. }
        | Command::BeginMigration { grain, epoch, .. }
        | Command::QuiesceGrain { grain, epoch, .. }
        | Command::AbortMigration { grain, epoch, .. }
        | Command::TurnBack { grain, epoch, .. }
        | Command::EndMigration { grain, epoch, .. }
        | Command::GrainBorn { grain, epoch }
        | Command::GrainArmed { grain, epoch, .. }
        | Command::GrainStarted { grain, epoch, .. }
        | Command::GrainStopped { grain, epoch, .. }
        | Command::GrainReleased { grain, epoch, .. }
        | Command::SnapshotTaken { grain, epoch, .. }
        | Command::GrainRestored { grain, epoch, .. }
        | Command::GrainHealth { grain, epoch, .. }
        | Command::GrainDeclined { grain, epoch, .. } => Some((*grain, *epoch)),
        _ => None,
    }
}

impl Sim {
    /// What an entry must not be, whoever has decided it.
    pub(super) fn judge_rules(&mut self, before: Option<&Cluster>, proposal: &Proposal) {
        if let Some((grain, epoch)) = epoch_of(&proposal.command) {
            let held = before.unwrap_or(&self.truth).grains.get(&grain).map(|grain| grain.epoch);
            if held.is_some_and(|held| held != epoch) {
                let name = self.name(grain);
                self.find(format!("`{}` of epoch {epoch} changes {name}", proposal.command));
            }
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no such rule")]
        match &proposal.command {
            Command::SuspectNode { node, boot, last_heard } => {
                self.judge_last_heard(*node, *boot, *last_heard);
            }
            Command::AddNode { node } => {
                let id = self.truth.node_named(&node.name).map(|node| node.id);
                if id.is_some_and(|id| self.judge.removed.contains(&id)) {
                    self.find(format!("node {} gets the id of one that was removed", node.name));
                }
            }
            Command::RegisterNode { node, boot, .. } => {
                let newest = self.judge.boots.entry(*node).or_insert(*boot);
                let over = *newest > *boot;
                *newest = (*newest).max(*boot);
                if over {
                    self.find(format!("a start of node {node} counts again that is over"));
                }
            }
            Command::RemoveNode { node, .. } => {
                self.judge.removed.insert(*node);
            }
            Command::AssignGrain {
                grain,
                to,
                base: Some(base),
                cause: AssignCause::Failover { loss },
                ..
            } => {
                let Some(before) = before else { return };
                let window = loss.as_ref().map_or(Span::ZERO, |loss| Span::from_ms(loss.window_ms));
                if let Some(why) = self.too_early(before, *grain, proposal, window) {
                    let name = self.name(*grain);
                    self.find(format!("{name} fails over, but {why}"));
                }
                self.judge_freshest(before, *grain, *to, base);
            }
            _ => (),
        }
    }

    /// A renewal is granted.
    pub(super) fn judge_grant(&mut self, at: usize, renewal: &Renewal) {
        let known = self.machines[at].cluster.nodes.get(&renewal.node);
        let generation = self.truth.generation();
        if let Some(known) = known.filter(|known| known.generation != generation) {
            let name = known.name.clone();
            self.find(format!("{name} is of a generation before, and its lease is renewed"));
        }
        let newest = self.judge.granted.entry((renewal.node, renewal.boot)).or_insert(renewal.wall);
        *newest = renewal.wall.max(*newest);
    }

    /// What anybody granted before is counted.
    fn judge_last_heard(&mut self, node: NodeId, boot: BootId, last_heard: Timestamp) {
        let Some(known) = self.truth.nodes.get(&node) else { return };
        let granted = self.judge.granted.get(&(node, boot));
        if granted.is_some_and(|granted| last_heard < *granted) && !self.walls_turned {
            let name = known.name.clone();
            self.find(format!("{name} is suspected, and a later grant is forgotten"));
        }
    }

    /// Silence is what this leader did not hear since it listens. Looked at when it decides.
    pub(super) fn judge_silence(&mut self, node: NodeId) {
        let Some(known) = self.truth.nodes.get(&node) else { return };
        let heard = known.boot.and_then(|boot| self.heard.get(&(node, boot))).map(|(at, _)| *at);
        let silent = self.now - heard.unwrap_or(0).max(self.crowned);
        // One per cent for the leader's clock.
        if silent * 100 < self.truth.timing().suspect.ms() * 98 {
            let name = known.name.clone();
            self.find(format!("{name} is suspected after {silent} ms of silence"));
        }
    }

    /// Why a failover that nobody asked for must not happen yet.
    fn too_early(
        &self,
        before: &Cluster,
        grain: GrainId,
        proposal: &Proposal,
        window: Span,
    ) -> Option<String> {
        let grain = before.grains.get(&grain)?;
        let owner = before.nodes.get(&grain.owner?)?;
        if by_a_person(before, grain) {
            return None;
        }
        let policy = &before.policies.get(&grain.spec.protect)?.policy.failover;
        let identity = before.identity.as_ref()?;
        // What was decided before that and committed after it is no decision against it.
        if (identity.disarmed.is_some() || owner.disarmed.is_some()) && !self.late {
            return Some("that is switched off".to_owned());
        }
        if window > policy.max_data_loss && !self.late {
            return Some(format!(
                "it loses {window}, and its policy allows {}",
                policy.max_data_loss
            ));
        }
        let spoke = self.judge.spoke.get(&owner.id).copied().unwrap_or(0);
        let silent = self.now - spoke + 3_000;
        // What its owner had declined waits for nothing: it never began.
        let began = grain.declined == Default::default();
        let prompt = self.weather.stalls == 0 && !self.walls_turned;
        if began && silent * 100 < policy.after.ms() * 98 && prompt {
            return Some(format!("its owner has {} to come back", policy.after));
        }
        let awaited =
            owner.awaited.filter(|_| owner.off.is_none() && began && !self.walls_turned)?;
        let waited = proposal.at.since(awaited);
        (waited.ms() * 100 < AWAITED.ms() * 98)
            .then(|| format!("its owner is waited for, for {waited} until now"))
    }

    /// The leader knew of no newer copy of the same line on a node that could run it as well.
    fn judge_freshest(&mut self, before: &Cluster, id: GrainId, to: NodeId, base: &Snapshot) {
        let Some(was) = before.grains.get(&id) else { return };
        if by_a_person(before, was) || self.late {
            return;
        }
        let Some(leading) = self.leader.and_then(|at| self.machines[at].leading.as_ref()) else {
            return;
        };
        let mut better = None;
        for node in was.standbys.iter().filter(|node| **node != to) {
            let Some(known) = before.nodes.get(node) else { continue };
            let fit = known.liveness.is_online() && known.drain.is_none() && !known.spec.cordoned;
            let fit = fit && known.role == scrap_schema::node::NodeRole::Data;
            let data = leading.observed.report(*node, id).and_then(|report| report.data.as_ref());
            let head = data.filter(|data| !data.owner).and_then(|data| data.head.as_ref());
            // Later in the very epoch that the chosen one is of: nothing forked between.
            let newer = head.filter(|head| {
                head.name.epoch == base.name.epoch
                    && head.name.seq > base.name.seq
                    && head.name.epoch == was.epoch
                    && head.name.purpose != scrap_schema::snapshot::Purpose::Orphan
            });
            if fit && newer.is_some() {
                better = Some(known.name.clone());
            }
        }
        if let Some(better) = better {
            let name = self.name(id);
            self.find(format!("{name} goes on from an older copy than that of {better}"));
        }
    }

    /// Whose power a leader wants cut, as far as it knows the cluster.
    pub(super) fn judge_cuts(&mut self, at: usize, cuts: &[Cut]) {
        for cut in cuts {
            let known = &self.machines[at].cluster;
            let mut owned = known.grains.values().filter(|grain| grain.owner == Some(cut.node));
            let disarmed = known.disarmed(Some(cut.node)).is_some();
            let why = match (braked(known), disarmed, owned.next().is_some()) {
                (true, ..) => "most nodes are silent",
                (_, true, _) => "people work on it",
                (.., false) => "nothing lives there",
                (false, false, true) => continue,
            };
            self.find(format!("the power of {} is cut while {why}", cut.name));
        }
    }

    /// Who votes from now on.
    pub(super) fn judge_voters(&mut self, chosen: &BTreeSet<NodeId>) {
        let (count, before) = (chosen.len(), self.voters.len());
        if count.is_multiple_of(2) || count > 5 {
            self.find(format!("{count} nodes vote"));
        }
        // A person may have removed one while another one is gone.
        let left = self.voters.iter().filter(|voter| self.truth.nodes.contains_key(voter)).count();
        if count < before && count < 3 && left >= 3 {
            self.find(format!("{count} nodes vote, there were {before}"));
        }
    }

    /// What was left behind is set aside and listed soon.
    pub(super) fn judge_listing(&mut self) {
        if !self.now.is_multiple_of(1_000) {
            return;
        }
        // Where reports are lost or late nobody knows when they come.
        if self.weather.stalls > 0 || self.weather.losses > 0 {
            return self.unlisted.clear();
        }
        let leader = self.leader();
        let mut unlisted = BTreeSet::new();
        for (at, machine) in self.machines.iter().enumerate() {
            let well = leader.is_some_and(|leader| self.reach(leader, at))
                && machine.id.0 != 0
                && machine.registered.is_some_and(|index| index <= machine.cluster.index)
                && machine.foreign_disk == 0;
            if !well {
                continue;
            }
            let listed = |grain: GrainId, epoch, guid| {
                let mut known = self.truth.orphans.values();
                known.any(|it| {
                    (it.key.grain, it.key.epoch, it.key.node) == (grain, epoch, machine.id)
                        && it.head.guid == guid
                })
            };
            for ((grain, epoch), aside) in &machine.orphans {
                if !listed(*grain, *epoch, aside.head.snapshot.guid) {
                    unlisted.insert((at, *grain, *epoch));
                }
            }
            let heads = machine.datasets.iter().filter(|(_, it)| it.role == DataRole::Owner);
            for (grain, dataset) in heads {
                let known = self.truth.grains.get(grain);
                let left = known
                    .is_some_and(|it| it.owner != Some(machine.id) && it.epoch > dataset.epoch);
                if left && !machine.instances.contains_key(grain) {
                    unlisted.insert((at, *grain, dataset.epoch));
                }
            }
        }
        let now = self.now;
        self.unlisted.retain(|key, _| unlisted.contains(key));
        let mut overdue = Vec::new();
        for key in unlisted {
            let since = *self.unlisted.entry(key).or_insert(now);
            if now == since + LISTED_WITHIN_MS {
                overdue.push(key);
            }
        }
        for (at, grain, epoch) in overdue {
            let (who, name) = (self.machines[at].name.clone(), self.name(grain));
            self.find(format!(
                "what {who} had of {name}, epoch {epoch}, is not listed after a minute"
            ));
        }
    }
}
