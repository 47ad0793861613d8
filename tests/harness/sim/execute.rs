//! The simulated hands: every action of `obey` takes its time and then has its effect, or fails with a reason and is tried
//! again later. A daemon that dies takes its unfinished actions with it.

use scrap_decide::obey::{DataRole, Dirty, Failure, HostAction, Lane, hold_tag};
use scrap_decide::replicate::{Admitted, Offer, admit};
use scrap_schema::id::{Epoch, GrainId, NodeId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::unit::{Bytes, Span};

use super::disk::{Dataset, Frozen};
use super::machine::Flight;
use super::{Sim, words};

/// How long a grain takes to stop.
const STOP_MS: u64 = 300;
/// Longest pause before a failed action is tried again.
const RETRY_MS_MAX: u64 = 15_000;

pub(super) type Effect = Result<(), String>;

impl Sim {
    /// Begins an action.
    pub(super) fn begin(&mut self, at: usize, action: HostAction) {
        if let Some(words) = words::action(|grain| self.name(grain), &action) {
            let who = format!("{}/obey", self.machines[at].name);
            self.say(&who, &words);
        }
        self.trace.note(self.now, format_args!("{at} {action} {action:?}"));
        let now = self.machines[at].now(self.now);
        // A report may be on its way for long.
        let stalled =
            matches!(action, HostAction::Tell { .. }) && self.chance(1000) < self.weather.stalls;
        let stall = if stalled { self.chance(self.weather.stall_ms * 2) } else { 0 };
        let end = match self.duration(at, &action) {
            Ok(duration) => self.now + duration + stall,
            Err(why) => return self.failed(at, &action, why),
        };
        let mut seen = 0;
        match &action {
            HostAction::Probe { grain } => {
                seen = self.machines[at].datasets.get(grain).map_or(0, Dataset::unfrozen);
            }
            HostAction::Stop { grain, .. } => {
                if let Some(run) = self.machines[at].runs.get_mut(grain) {
                    run.stopping.get_or_insert(now.wall);
                }
            }
            _ => (),
        }
        let flight = Flight { action, begun: now, end, awaits: None, seen };
        self.machines[at].flights.push(flight);
    }

    fn duration(&self, at: usize, action: &HostAction) -> Result<u64, String> {
        Ok(match action {
            HostAction::Create { .. }
            | HostAction::Demote { .. }
            | HostAction::Probe { .. }
            | HostAction::Prune { .. }
            | HostAction::Hold { .. }
            | HostAction::Release { .. }
            | HostAction::Describe { .. }
            | HostAction::Extend { .. }
            | HostAction::Arm { .. }
            | HostAction::Disarm { .. }
            | HostAction::Snapshot { .. }
            | HostAction::Tell { .. } => 50,
            HostAction::Promote { .. }
            | HostAction::SetAside { .. }
            | HostAction::TakeBack { .. }
            | HostAction::Discard { .. }
            | HostAction::CloneFrom { .. }
            | HostAction::CloneTemplate { .. }
            | HostAction::DropTemplate { .. }
            | HostAction::Destroy { .. } => 100,
            HostAction::Restore { .. } | HostAction::Start { .. } => 200,
            // Never in a tight circle.
            HostAction::Ask { .. } => 500,
            HostAction::Fetch { template, from } => {
                let peer = self.machine_of(*from).ok_or("no such node")?;
                if !self.streams(at, peer) {
                    return Err("the stream cannot be opened".to_owned());
                }
                let size = self.truth.templates.get(template).map_or(0, |it| it.size.0);
                (size * 1000 / self.rate).max(self.stream_ms)
            }
            HostAction::Stop { grain, grace, .. } => {
                self.slow_stops.get(grain).copied().unwrap_or(STOP_MS).min(grace.ms()).max(50)
            }
            HostAction::Send { grain, node, from, to } => {
                let peer = self.machine_of(*node).ok_or("no such node")?;
                if !self.streams(at, peer) {
                    return Err("the stream cannot be opened".to_owned());
                }
                self.admit(at, *grain, peer, *from)?;
                let bytes = self.stream_bytes(at, *grain, *from, *to);
                (bytes * 1000 / self.rate).max(self.stream_ms)
            }
        })
    }

    fn stream_bytes(&self, at: usize, grain: GrainId, from: Option<Guid>, to: Guid) -> u64 {
        let (size, write) = self.sizes.get(&grain).copied().unwrap_or((0, 1));
        let Some(dataset) = self.machines[at].datasets.get(&grain) else { return 0 };
        let content = |guid: Guid| dataset.frozen(guid).map(|frozen| frozen.content.clone());
        let to = content(to).unwrap_or_default();
        match from.and_then(content) {
            Some(from) => to.without(&from).len() * write,
            None => size + to.len() * write,
        }
    }

    fn admit(
        &self,
        at: usize,
        grain: GrainId,
        peer: usize,
        from: Option<Guid>,
    ) -> Result<Admitted, String> {
        let sender = &self.machines[at];
        let dataset = sender.datasets.get(&grain).ok_or("there is no dataset")?;
        let line = dataset.snapshots.iter().map(|frozen| frozen.snapshot.guid).collect();
        let offer = Offer { sender: sender.id, epoch: dataset.epoch, from, line };
        let receiver = &self.machines[peer];
        if receiver.flights.iter().any(|flight| flight.action.lane() == Lane::Shape(grain)) {
            return Err("its data are being worked on there".to_owned());
        }
        let known = receiver.cluster.grains.get(&grain);
        admit(receiver.id, known, &offer, &receiver.host_facts(&self.sizes))
            .map_err(|why| why.to_string())
    }

    /// The machine of a member.
    #[must_use]
    pub fn machine_of(&self, node: NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == node)
    }

    /// Ends what is due; breaks streams whose link is gone.
    pub(super) fn land_flights(&mut self, at: usize) {
        if !self.machines[at].is_running() {
            return;
        }
        for flight in std::mem::take(&mut self.machines[at].flights) {
            if let HostAction::Send { node, .. } = &flight.action {
                let peer = self.machine_of(*node);
                if !peer.is_some_and(|peer| self.streams(at, peer)) {
                    self.failed(at, &flight.action, "the stream broke off".to_owned());
                    continue;
                }
            }
            let applied = self.machines[at].cluster.index;
            let over = flight.awaits.map_or(flight.end <= self.now, |index| index <= applied);
            if !over {
                self.machines[at].flights.push(flight);
                continue;
            }
            self.machines[at].changed = true;
            if flight.awaits.is_some() {
                self.machines[at].failed.remove(&flight.action.lane());
                continue;
            }
            let lane = flight.action.lane();
            let shaped = self.judge.shapes(&flight.action);
            let action = flight.action.clone();
            match self.land(at, flight) {
                Ok(()) => drop(self.machines[at].failed.remove(&lane)),
                Err(why) => self.failed(at, &action, why),
            }
            if shaped.is_some() {
                self.judge_data(shaped);
            }
        }
    }

    fn failed(&mut self, at: usize, action: &HostAction, why: String) {
        self.trace.note(self.now, format_args!("{at} failed: {action}: {why}"));
        let now = self.machines[at].clock.read(self.now);
        if let HostAction::Send { grain, node, .. } | HostAction::Ask { grain, node } = action {
            let name = self.name(*grain);
            let target = self.truth.node_name(*node);
            let known = self.machines[at].copies.entry((*grain, *node)).or_default();
            known.facts.snapshots = None;
            if known.trouble.as_ref() != Some(&why) {
                known.trouble = Some(why.clone());
                let who = format!("{}/host", self.machines[at].name);
                self.say(&who, &format!("copy of {name} on {target}: {why}"));
            }
        }
        let machine = &mut self.machines[at];
        machine.changed = true;
        let lane = action.lane();
        let attempts = machine.failed.get(&lane).map_or(1, |failure| failure.attempts + 1);
        let pause = (500 << attempts.min(6)).min(RETRY_MS_MAX);
        let retry_at = now + Span::from_ms(pause);
        machine.failed.insert(lane, Failure { attempts, retry_at, why });
    }

    /// The effect of an action.
    fn land(&mut self, at: usize, flight: Flight) -> Effect {
        let Flight { action, begun, seen, .. } = flight;
        match action {
            HostAction::Create { grain, epoch } => {
                if self.machines[at].datasets.contains_key(&grain) {
                    return Err("it exists already".to_owned());
                }
                self.machines[at].datasets.insert(grain, Dataset::new(DataRole::Owner, epoch));
                Ok(())
            }
            HostAction::Promote { grain, epoch } => self.promote(at, grain, epoch),
            HostAction::Demote { grain, epoch } => {
                let dataset = self.dataset(at, grain)?;
                if dataset.unfrozen() > 0 {
                    return Err("it has writes of its own".to_owned());
                }
                dataset.role = DataRole::Standby;
                dataset.epoch = epoch;
                self.machines[at].dirty.remove(&grain);
                Ok(())
            }
            HostAction::SetAside { .. }
            | HostAction::TakeBack { .. }
            | HostAction::Discard { .. }
            | HostAction::CloneFrom { .. } => self.land_aside(at, action),
            HostAction::CloneTemplate { .. }
            | HostAction::Fetch { .. }
            | HostAction::DropTemplate { .. } => self.land_template(at, &action),
            HostAction::Restore { grain, operation, snapshot } => {
                let dataset = self.dataset(at, grain)?;
                let frozen = dataset.frozen(snapshot).ok_or("there is no such snapshot")?;
                dataset.head = frozen.content.clone();
                dataset.reshaped = true;
                dataset.restored = Some(operation);
                self.machines[at].dirty.remove(&grain);
                Ok(())
            }
            HostAction::Snapshot { grain, name } => self.freeze(at, grain, name, begun.wall),
            HostAction::Probe { grain } => {
                let (_, write) = self.sizes.get(&grain).copied().unwrap_or((0, 1));
                let bytes = Bytes(seen * write);
                let dirty = Dirty { bytes, at: begun.wall, probed: begun.boot };
                self.machines[at].looked(grain, dirty);
                Ok(())
            }
            HostAction::Prune { grain, snapshots } => self.prune(at, grain, &snapshots),
            HostAction::Hold { grain, node, snapshot } => self.hold(at, grain, node, snapshot),
            HostAction::Release { grain, tag } => {
                self.dataset(at, grain)?.held.remove(&tag);
                Ok(())
            }
            HostAction::Destroy { grain } => {
                self.machines[at].datasets.remove(&grain);
                self.machines[at].dirty.remove(&grain);
                Ok(())
            }
            HostAction::Describe { grain, generation } => {
                self.dataset(at, grain)?.described = generation;
                Ok(())
            }
            HostAction::Ask { grain, node } => self.copy_states(at, grain, node),
            HostAction::Send { grain, node, from, to } => self.receive(at, grain, node, from, to),
            HostAction::Start { .. }
            | HostAction::Stop { .. }
            | HostAction::Arm { .. }
            | HostAction::Disarm { .. }
            | HostAction::Extend { .. } => self.land_run(at, &action),
            HostAction::Tell { command } => self.report(at, *command),
        }
    }

    fn dataset(&mut self, at: usize, grain: GrainId) -> Result<&mut Dataset, String> {
        let missing = || "there is no dataset".to_owned();
        self.machines[at].datasets.get_mut(&grain).ok_or_else(missing)
    }

    fn hold(&mut self, at: usize, grain: GrainId, node: NodeId, snapshot: Guid) -> Effect {
        if self.holds_fail {
            return Err("nothing can be held".to_owned());
        }
        let dataset = self.dataset(at, grain)?;
        dataset.frozen(snapshot).ok_or("there is no such snapshot")?;
        dataset.held.insert(hold_tag(node), snapshot);
        Ok(())
    }

    fn promote(&mut self, at: usize, grain: GrainId, epoch: Epoch) -> Effect {
        let dataset = self.dataset(at, grain)?;
        dataset.role = DataRole::Owner;
        dataset.epoch = epoch;
        self.machines[at].dirty.remove(&grain);
        Ok(())
    }

    fn land_template(&mut self, at: usize, action: &HostAction) -> Effect {
        match action {
            HostAction::CloneTemplate { grain, epoch, template, snapshot } => {
                if self.machines[at].templates.get(template) != Some(snapshot) {
                    return Err("the template is not here".to_owned());
                }
                let created = super::machine::wall(self.now);
                let dataset = Dataset::of_template(*epoch, *snapshot, created);
                self.machines[at].datasets.insert(*grain, dataset);
                Ok(())
            }
            HostAction::Fetch { template, from } => self.fetch(at, *template, *from),
            HostAction::DropTemplate { template } => {
                self.machines[at].templates.remove(template);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fetch(&mut self, at: usize, template: TemplateId, from: NodeId) -> Effect {
        let peer = self.machine_of(from).ok_or("no such node")?;
        let guid = *self.machines[peer].templates.get(&template).ok_or("it is not there")?;
        self.machines[at].templates.insert(template, guid);
        Ok(())
    }

    fn freeze(
        &mut self,
        at: usize,
        grain: GrainId,
        name: SnapshotName,
        created: scrap_schema::time::Timestamp,
    ) -> Effect {
        self.guids += 1;
        let guid = Guid(self.guids);
        let dataset = self.dataset(at, grain)?;
        if dataset.role != DataRole::Owner {
            return Err("it is a copy".to_owned());
        }
        if !dataset.snapshots.iter().any(|frozen| frozen.snapshot.name == name) {
            let content = dataset.head.clone();
            let snapshot = Snapshot { name, guid, created };
            dataset.snapshots.push(Frozen { snapshot, content });
            dataset.reshaped = false;
        }
        self.machines[at].dirty.remove(&grain);
        Ok(())
    }

    fn prune(&mut self, at: usize, grain: GrainId, guids: &[Guid]) -> Effect {
        let dataset = self.dataset(at, grain)?;
        let newest = dataset.snapshots.last().map(|frozen| frozen.snapshot.guid);
        let held: Vec<Guid> = dataset.held.values().copied().collect();
        if guids.iter().any(|guid| held.contains(guid) || newest == Some(*guid)) {
            return Err("a snapshot is held".to_owned());
        }
        let before: Vec<Guid> = dataset.snapshots.iter().map(|it| it.snapshot.guid).collect();
        dataset.snapshots.retain(|frozen| !guids.contains(&frozen.snapshot.guid));
        self.judge_prune(at, grain, &before, guids);
        Ok(())
    }

    fn copy_states(&mut self, at: usize, grain: GrainId, node: NodeId) -> Effect {
        let peer = self.machine_of(node).ok_or("no such node")?;
        if !self.reach(at, peer) {
            return Err("it cannot be reached".to_owned());
        }
        let theirs = self.machines[peer].datasets.get(&grain);
        let theirs = theirs.map_or_else(Vec::new, |dataset| {
            dataset.snapshots.iter().map(|frozen| frozen.snapshot.guid).collect()
        });
        let machine = &mut self.machines[at];
        let asked = machine.now(self.now).boot;
        let known = machine.copies.entry((grain, node)).or_default();
        known.facts.says(theirs, asked);
        Ok(())
    }

    fn receive(
        &mut self,
        at: usize,
        grain: GrainId,
        node: NodeId,
        from: Option<Guid>,
        to: Guid,
    ) -> Effect {
        let peer = self.machine_of(node).ok_or("no such node")?;
        let bytes = self.stream_bytes(at, grain, from, to);
        let sender = self.machines[at].datasets.get(&grain).ok_or("there is no dataset")?;
        let epoch = sender.epoch;
        let frozen = sender.frozen(to).ok_or("the snapshot is gone")?.clone();
        if let Admitted::SetAsideFirst(plan) = self.admit(at, grain, peer, from)? {
            if let Some(epoch) = plan.epoch {
                self.dataset(peer, grain)?.epoch = epoch;
            }
            self.set_aside(peer, grain, plan.base, plan.name)?;
        }
        self.judge_receive(at, peer, grain, from);
        let receiver = &mut self.machines[peer];
        receiver.changed = true;
        let copy = receiver.datasets.entry(grain).or_insert_with(|| match from {
            // A clone of the template that is here.
            Some(origin) => {
                let created = super::machine::wall(self.now);
                let clone = Dataset::of_template(epoch, origin, created);
                Dataset { role: DataRole::Standby, ..clone }
            }
            None => Dataset::new(DataRole::Standby, epoch),
        });
        copy.epoch = epoch;
        copy.head = frozen.content.clone();
        copy.snapshots.push(frozen);
        // Every second one is not held: in a hurry, or it failed.
        if to.0.is_multiple_of(2) && !self.holds_fail {
            self.hold(at, grain, node, to)?;
            self.hold(peer, grain, self.machines[at].id, to)?;
        }
        let machine = &mut self.machines[at];
        let heard = machine.now(self.now).boot;
        let known = machine.copies.entry((grain, node)).or_default();
        known.facts.took(to, heard);
        known.rounds += 1;
        known.rate = if bytes > 0 { self.rate } else { known.rate };
        let trouble = known.trouble.take().is_some();
        let first = known.rounds == 1 && from.is_none();
        if trouble || first || self.tells_streams {
            let who = format!("{}/host", self.machines[at].name);
            let (name, node) = (self.name(grain), self.truth.node_name(node));
            let sent = Bytes(bytes).rounded();
            let what = if from.is_none() { "all data" } else { "an increment" };
            self.say(&who, &format!("copy of {name} on {node}: {what} sent, {sent}"));
        }
        Ok(())
    }
}
