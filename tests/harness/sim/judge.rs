//! What must never be, looked for after every step and at every entry of the log; and the ledger of what
//! clients wrote, so that every real loss is known.

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::apply::Applied;
use scrap_decide::cluster::{Cluster, Key, Outcome};
use scrap_decide::obey::{DataRole, HostAction};
use scrap_decide::refusal::Refusal;
use scrap_schema::command::{AssignCause, Command, Proposal};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::operation::Loss;
use scrap_schema::snapshot::Snapshot;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use super::Sim;
use super::disk::Content;
use super::promises::Said;

/// What was written and what was found.
#[derive(Debug, Default)]
pub struct Judge {
    /// Everything that must not be. The first one ends a run.
    pub found: Vec<String>,
    /// What people had removed for good.
    pub discarded: BTreeMap<GrainId, Content>,
    /// Nodes that were removed.
    pub removed: BTreeSet<NodeId>,
    /// The newest registration of each node.
    pub boots: BTreeMap<NodeId, BootId>,
    /// The newest renewal of each registration that was granted, by its node's wall clock.
    pub granted: BTreeMap<(NodeId, BootId), Timestamp>,
    /// When nodes last spoke to a leader.
    pub spoke: BTreeMap<NodeId, u64>,
    /// The highest epoch of each grain.
    epochs: BTreeMap<GrainId, Epoch>,
    /// When each write of a grain was acknowledged.
    pub ledger: BTreeMap<GrainId, Vec<Timestamp>>,
    /// From what a grain went on in its present epoch.
    base: BTreeMap<GrainId, Content>,
    /// What the log has said.
    pub(super) said: Said,
    /// Whether rows are compared at every entry.
    pub compare_rows: bool,
}

impl Judge {
    /// The cluster begins anew from this state.
    pub(super) fn began_anew(&mut self, cluster: &Cluster) {
        self.said.began_anew(cluster);
        // What was removed after that was not.
        self.removed.clear();
        self.boots.clear();
        self.granted.clear();
    }

    /// The grain of an action that can make data disappear.
    #[must_use]
    pub fn shapes(&self, action: &HostAction) -> Option<GrainId> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others take nothing away")]
        match action {
            HostAction::Promote { grain, .. }
            | HostAction::Demote { grain, .. }
            | HostAction::SetAside { grain, .. }
            | HostAction::TakeBack { grain, .. }
            | HostAction::Discard { grain, .. }
            | HostAction::Restore { grain, .. }
            | HostAction::Prune { grain, .. }
            | HostAction::Destroy { grain }
            | HostAction::Send { grain, .. } => Some(*grain),
            _ => None,
        }
    }

    /// The leader's own decision was refused for another reason than that the world has moved on.
    pub fn refusal(&mut self, words: &str, outcome: &Result<Outcome, Refusal>) {
        if let Err(refusal) = outcome
            && !Sim::is_harmless(refusal)
        {
            self.found.push(format!("the leader decided `{words}`, apply refused it: {refusal}"));
        }
    }

    /// Rows that changed without being touched: the store would lose them.
    pub fn untouched(
        &mut self,
        before: &Cluster,
        after: &Cluster,
        applied: &Applied,
        command: &Command,
    ) {
        if !self.compare_rows {
            return;
        }
        let keys: BTreeSet<Key> = before.keys().into_iter().chain(after.keys()).collect();
        for key in keys {
            if !applied.touched.contains(&key) && differs(before, after, &key) {
                self.found.push(format!("{command}: {key:?} changed and is not touched"));
            }
        }
        if applied.outcome.is_err() && !applied.touched.is_empty() {
            self.found.push(format!("{command}: was refused and touched {:?}", applied.touched));
        }
    }
}

/// Whether a row of one state is another one in the other state, or only in one of them.
fn differs(a: &Cluster, b: &Cluster, key: &Key) -> bool {
    match key {
        Key::Identity => a.identity != b.identity,
        Key::Node(id) => a.nodes.get(id) != b.nodes.get(id),
        Key::Policy(name) => a.policies.get(name) != b.policies.get(name),
        Key::Network(name) => a.networks.get(name) != b.networks.get(name),
        Key::Template(id) => a.templates.get(id) != b.templates.get(id),
        Key::RemovedTemplate(id) => {
            a.removed_templates.contains(id) != b.removed_templates.contains(id)
        }
        Key::Grain(id) => a.grains.get(id) != b.grains.get(id),
        Key::Purged(id) => a.purged.contains(id) != b.purged.contains(id),
        Key::Operation(id) => a.operations.get(id) != b.operations.get(id),
        Key::Orphan(key) => a.orphans.get(key) != b.orphans.get(key),
        Key::Answer(key) => a.answers.get(key) != b.answers.get(key),
        Key::Event(index, place) => {
            a.events.get(&(*index, *place)) != b.events.get(&(*index, *place))
        }
    }
}

impl Sim {
    pub(super) fn find(&mut self, what: String) {
        self.judge.found.push(format!("at {} s: {what}", self.now / 1000));
    }

    /// Every running grain takes a write.
    pub(super) fn write(&mut self) {
        let now = self.now;
        let mut wrong = Vec::new();
        for machine in self.machines.iter_mut().filter(|machine| machine.up) {
            let at = machine.now(now).wall;
            for (grain, instance) in &machine.instances {
                if machine.sick.contains(grain) {
                    continue;
                }
                let Some(dataset) = machine.datasets.get_mut(grain) else {
                    wrong.push(format!("{grain} runs on {} without data", machine.name));
                    continue;
                };
                if dataset.role != DataRole::Owner || dataset.epoch != instance.epoch {
                    let (role, name) = (dataset.role, &machine.name);
                    wrong.push(format!(
                        "{grain} of epoch {} writes on {name} into {role:?} of epoch {}",
                        instance.epoch, dataset.epoch
                    ));
                    continue;
                }
                let ledger = self.judge.ledger.entry(*grain).or_default();
                dataset.head.write(u32::try_from(ledger.len()).unwrap());
                ledger.push(at);
            }
        }
        wrong.into_iter().for_each(|what| self.find(what));
    }

    /// One place at a time, in its own epoch, with one head of the data.
    pub(super) fn judge_step(&mut self) {
        let mut live: BTreeMap<GrainId, &str> = BTreeMap::new();
        let mut heads: BTreeMap<(GrainId, Epoch), &str> = BTreeMap::new();
        let mut found = Vec::new();
        for machine in &self.machines {
            let name = machine.name.as_str();
            for (grain, instance) in machine.instances.iter().filter(|_| machine.up) {
                if let Some(other) = live.insert(*grain, name) {
                    found
                        .push(format!("grain {} runs on {other} and on {name}", self.name(*grain)));
                }
                let owned = self.truth.grains.get(grain).is_none_or(|grain| {
                    grain
                        .tenures
                        .iter()
                        .any(|tenure| tenure.epoch == instance.epoch && tenure.node == machine.id)
                });
                let truth = self.truth.grains.get(grain).filter(|it| it.epoch == instance.epoch);
                let mine = truth.filter(|it| it.owner == Some(machine.id));
                if mine.is_some_and(|it| it.armed) && instance.deadline.is_none() {
                    found.push(format!(
                        "grain {} counts as armed and runs on {name} without a deadline",
                        self.name(*grain)
                    ));
                }
                if !owned {
                    found.push(format!(
                        "grain {} runs on {name} in epoch {}, which is not its",
                        self.name(*grain),
                        instance.epoch
                    ));
                }
            }
            for (grain, dataset) in &machine.datasets {
                if dataset.role == DataRole::Owner
                    && let Some(other) = heads.insert((*grain, dataset.epoch), name)
                {
                    let what = self.name(*grain);
                    found.push(format!(
                        "{other} and {name} both have the head of {what}, epoch {}",
                        dataset.epoch
                    ));
                }
            }
        }
        found.into_iter().for_each(|what| self.find(what));
        self.judge_listing();
        if self.truth.index != self.checked {
            self.checked = self.truth.index;
            self.contradictions();
            self.judge_epochs();
        }
    }

    /// Epochs only rise.
    fn judge_epochs(&mut self) {
        let mut fallen = Vec::new();
        for grain in self.truth.grains.values() {
            let highest = self.judge.epochs.entry(grain.id).or_default();
            if grain.epoch < *highest {
                fallen.push(grain.id);
            }
            *highest = grain.epoch.max(*highest);
        }
        for grain in fallen {
            let name = self.name(grain);
            self.find(format!("the epoch of {name} has fallen"));
        }
    }

    /// Every acknowledged write is somewhere, unless its grain was removed by a person.
    pub fn judge_data(&mut self, only: Option<GrainId>) {
        let mut found = Vec::new();
        for (grain, ledger) in &self.judge.ledger {
            if self.truth.purged.contains(grain) || only.is_some_and(|only| only != *grain) {
                continue;
            }
            let mut left = Content::all(u32::try_from(ledger.len()).unwrap());
            if let Some(discarded) = self.judge.discarded.get(grain) {
                left = left.without(discarded);
            }
            // Heads first: they have nearly everything.
            let datasets =
                || self.machines.iter().filter_map(|machine| machine.datasets.get(grain));
            let asides = self.machines.iter().flat_map(|machine| &machine.orphans);
            let asides = asides.filter(|((of, _), _)| of == grain).map(|(_, aside)| &aside.content);
            let frozen = datasets().flat_map(|data| data.snapshots.iter().map(|it| &it.content));
            for content in datasets().map(|data| &data.head).chain(asides).chain(frozen) {
                if left.is_empty() {
                    break;
                }
                left = left.without(content);
            }
            if !left.is_empty() {
                let name = self.name(*grain);
                found.push(format!("writes {left:?} of {name} are nowhere any more"));
            }
        }
        found.into_iter().for_each(|what| self.find(what));
    }

    /// What an entry promises must be true when it is committed: nothing runs where it says so, nothing is lost by a move, and
    /// no more than reported by a failover.
    pub(super) fn judge_entry(
        &mut self,
        before: Option<&Cluster>,
        proposal: &Proposal,
        applied: &Applied,
    ) {
        if let Some(before) = before {
            self.judge.untouched(before, &self.truth, applied, &proposal.command);
        }
        if applied.outcome.is_err() || applied.outcome == Ok(Outcome::Unchanged) {
            return;
        }
        self.judge_rules(before, proposal);
        if let Command::AssignGrain { grain, to, base, cause, .. } = &proposal.command
            && let Some(before) = before
        {
            let (said, base) = (&mut self.judge.said, base.as_ref());
            let why = said.may_give(before, &self.truth, *grain, *to, base, cause);
            let epoch = self.truth.grains.get(grain).map(|grain| grain.epoch);
            let why = epoch.and_then(|epoch| said.give(*grain, epoch, *to)).or(why);
            if let Some(why) = why {
                let name = self.name(*grain);
                self.find(format!("{name} is given to node {to}, but {why}"));
            }
        }
        self.judge.said.hear(&proposal.command);
        match &proposal.command {
            Command::FenceNode { node, .. }
            | Command::LeaveNode { node, .. }
            | Command::AttestNode { node, .. } => self.judge_fence(*node),
            Command::ConfirmNodeOff { node, .. } => self.judge_off(*node),
            Command::AssignGrain { grain, to, base: Some(base), cause, .. } => {
                if let Some(before) = before {
                    self.judge_assign(before, *grain, *to, base, cause);
                }
            }
            Command::GrainArmed { grain, .. } => {
                let unarmed = self.machines.iter().find(|machine| {
                    machine.up
                        && machine.instances.get(grain).is_some_and(|it| it.deadline.is_none())
                });
                if let Some(machine) = unarmed {
                    let what = format!(
                        "{} counts as armed and runs on {} without a deadline",
                        self.name(*grain),
                        machine.name
                    );
                    self.find(what);
                }
            }
            Command::GrainStopped { grain, .. } | Command::GrainReleased { grain, .. } => {
                let name = self.name(*grain);
                if self
                    .machines
                    .iter()
                    .any(|machine| machine.up && machine.instances.contains_key(grain))
                {
                    self.find(format!("{name} was said to be stopped while it runs"));
                }
            }
            _ => (),
        }
    }

    fn judge_fence(&mut self, node: NodeId) {
        let Some(at) = self.machine_of(node).filter(|at| self.machines[*at].up) else { return };
        let machine = &self.machines[at];
        let armed = machine.instances.keys().find(|grain| {
            self.truth
                .grains
                .get(*grain)
                .is_some_and(|grain| grain.armed && grain.owner == Some(node))
        });
        if let Some(grain) = armed {
            let what =
                format!("{} counts as fenced while {} runs there", machine.name, self.name(*grain));
            self.find(what);
        }
    }

    /// Whoever says that a node is off has made sure of it, also of what needs no lease.
    fn judge_off(&mut self, node: NodeId) {
        let Some(at) = self.machine_of(node).filter(|at| self.machines[*at].up) else { return };
        let what = format!("{} counts as off and is up", self.machines[at].name);
        self.find(what);
    }

    fn judge_assign(
        &mut self,
        before: &Cluster,
        grain: GrainId,
        to: NodeId,
        base: &Snapshot,
        cause: &AssignCause,
    ) {
        let name = self.name(grain);
        let Some(was) = before.grains.get(&grain) else { return };
        if let Some(other) =
            self.machines.iter().find(|it| it.up && it.instances.contains_key(&grain))
        {
            let what = format!("{name} is given away while it runs on {}", other.name);
            return self.find(what);
        }
        let target = self.machine_of(to).map(|at| &self.machines[at]);
        let aside = target.and_then(|machine| {
            let mut own = machine.orphans.iter().filter(|((of, _), _)| *of == grain);
            own.find(|(_, aside)| aside.head.snapshot.guid == base.guid)
                .map(|(_, aside)| &aside.head)
        });
        let frozen = target.and_then(|it| it.datasets.get(&grain)?.frozen(base.guid)).or(aside);
        let Some(content) = frozen.map(|it| it.content.clone()) else {
            if matches!(cause, AssignCause::Migrate { .. }) && target.is_some() {
                let what = format!("{name} moves, and its last state is not there");
                return self.find(what);
            }
            // By a report that was overtaken: it will say so, and nothing begins there.
            return;
        };
        let head = was.owner.and_then(|owner| self.machine_of(owner));
        let head = head.and_then(|at| self.machines[at].datasets.get(&grain));
        let head = head.filter(|data| data.role == DataRole::Owner && data.epoch == was.epoch);
        let main = head.map_or_else(
            || self.judge.base.get(&grain).cloned().unwrap_or_default(),
            |data| data.head.clone(),
        );
        let lost = main.without(&content);
        self.judge.base.insert(grain, content);
        match cause {
            // What it had is set aside: every write is looked for then.
            AssignCause::Place | AssignCause::Promote { .. } => (),
            AssignCause::Migrate { .. } => {
                if !lost.is_empty() {
                    self.find(format!("the planned move of {name} loses {} writes", lost.len()));
                }
            }
            AssignCause::Failover { loss } => {
                self.judge_loss(grain, &name, &lost, loss.as_ref());
            }
        }
    }

    fn judge_loss(&mut self, grain: GrainId, name: &str, lost: &Content, loss: Option<&Loss>) {
        let Some((first, last)) = lost.bounds() else {
            return self.say("client", &format!("{name}: no write is gone"));
        };
        let ledger = self.judge.ledger.get(&grain).cloned().unwrap_or_default();
        let time =
            |number: u32| ledger.get(usize::try_from(number).unwrap()).copied().unwrap_or_default();
        let (first, last) = (time(first), time(last));
        let count = lost.len();
        let window = last.since(first).rounded();
        self.say("client", &format!("{name}: {count} writes of {window} are gone"));
        match loss {
            Some(loss) if loss.from <= first && last <= loss.until => (),
            // Somebody has turned a wall clock: by which of them should it be compared?
            Some(_) if self.walls_turned => (),
            Some(loss) => {
                let early = loss.from.since(first);
                let late = last.since(loss.until);
                self.find(format!(
                    "{name} lost more than was reported: {} before, {} after",
                    early.rounded(),
                    late.rounded()
                ));
            }
            None => self.find(format!("{name} lost {count} writes and none was reported")),
        }
    }

    /// Whether a silence is long enough to be worth a look. Used by scripts.
    #[must_use]
    pub fn quiet_for(&self) -> Span {
        Span::from_ms(self.now - self.entries.last().map_or(0, |(at, _)| *at))
    }
}
