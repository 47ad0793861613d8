//! What a node must never begin, given what it knows: looked at for all that it is about to do, and for all that it would do if
//! something were otherwise. Written without the code that decides.

use scrap_decide::cluster::{Cluster, Declined, Grain, Stage};
use scrap_decide::obey::{DataFacts, DataRole, HostAction, HostFacts, Lane};
use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId};
use scrap_schema::snapshot::{Purpose, Snapshot};
use scrap_schema::time::{BootTime, Now};

use super::Sim;
use super::rules::epoch_of;

/// What a node knows when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Which node.
    pub me: NodeId,
    /// The replicated state, as far as it has it.
    pub cluster: &'a Cluster,
    /// What is here.
    pub host: &'a HostFacts,
    /// Its clocks.
    pub now: Now,
}

/// What is wrong, and with which grain.
type Wrong = Option<(GrainId, &'static str)>;

/// The sentence if it is not so.
fn unless(so: bool, what: &'static str) -> Option<&'static str> {
    (!so).then_some(what)
}

impl<'a> Scene<'a> {
    fn data(self, grain: GrainId) -> Option<&'a DataFacts> {
        self.host.data.get(&grain)
    }

    fn alive(self, grain: GrainId) -> bool {
        self.host.runs.get(&grain).is_some_and(|run| run.alive)
    }

    /// Nothing of it runs here, is being started or stopped.
    fn rests(self, grain: GrainId) -> bool {
        !self.alive(grain) && !self.host.busy.contains(&Lane::Run(grain))
    }

    /// This node owns this epoch of the grain.
    fn owned(self, grain: GrainId, epoch: Epoch) -> Option<&'a Grain> {
        let known = self.cluster.grains.get(&grain)?;
        (known.owner == Some(self.me) && known.epoch == epoch).then_some(known)
    }

    fn head(self, grain: GrainId, epoch: Epoch) -> Option<&'a DataFacts> {
        self.data(grain).filter(|data| data.role == DataRole::Owner && data.epoch == epoch)
    }

    /// Nothing was written since the newest state, by a look that began after the last stop.
    fn untouched(self, grain: GrainId) -> bool {
        let stopped = self.host.runs.get(&grain).and_then(|run| run.stopped);
        let dirty = self.data(grain).and_then(|data| data.dirty);
        dirty.is_some_and(|dirty| {
            dirty.bytes.0 == 0 && stopped.is_none_or(|stopped| dirty.probed >= stopped)
        })
    }

    /// The last moment at which something may live under the lease.
    fn lease_ends(self) -> Option<BootTime> {
        self.host.lease.granted.map(|granted| granted + self.cluster.timing().lease)
    }

    fn lease_held(self) -> bool {
        let granted = self.host.lease.granted;
        granted.is_some_and(|granted| self.now.boot < granted + self.cluster.timing().stop)
    }

    /// What is wrong with something that the node wants to do.
    pub fn wrong(self, action: &HostAction) -> Wrong {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are judged when they are done"
        )]
        let (grain, wrong) = match action {
            HostAction::Create { grain, epoch }
            | HostAction::CloneTemplate { grain, epoch, .. }
            | HostAction::CloneFrom { grain, epoch, .. } => (*grain, self.making(*grain, *epoch)),
            HostAction::Promote { grain, epoch } => (*grain, self.promoting(*grain, *epoch)),
            HostAction::Restore { grain, .. } => {
                let rests = self.rests(*grain);
                (*grain, unless(rests, "restores what runs"))
            }
            HostAction::Demote { grain, .. } => {
                let copy = self.data(*grain).is_some_and(|data| data.role == DataRole::Standby);
                let (rests, untouched) = (self.rests(*grain), copy || self.untouched(*grain));
                let wrong = unless(rests, "makes a copy of what runs");
                (*grain, wrong.or(unless(untouched, "makes a copy of what may have newer writes")))
            }
            HostAction::SetAside { grain, .. } | HostAction::TakeBack { grain, .. } => {
                (*grain, unless(self.rests(*grain), "takes the data away from what runs"))
            }
            HostAction::Destroy { grain } => (*grain, self.destroying(*grain)),
            HostAction::Discard { grain, epoch } => {
                let mut known = self.cluster.orphans.values();
                let asked = known.any(|it| {
                    let of = (it.key.grain, it.key.epoch, it.key.node);
                    of == (*grain, *epoch, self.me) && it.discard.is_some()
                });
                (*grain, unless(asked, "removes what was set aside, and nobody asked for that"))
            }
            HostAction::Snapshot { grain, name } => {
                let last = matches!(name.purpose, Purpose::Final(_));
                let known = self.cluster.grains.get(grain);
                let quiet = known.is_none_or(|it| {
                    !matches!(it.stage, Stage::Quiescing { .. } | Stage::Restoring { .. })
                });
                let so = !last || quiet || self.rests(*grain);
                (*grain, unless(so, "freezes the last state of what runs"))
            }
            HostAction::Send { grain, node, .. } => (*grain, self.sending(*grain, *node)),
            HostAction::Start { grain, epoch, deadline } => {
                (*grain, self.starting(*grain, *epoch, *deadline))
            }
            HostAction::Arm { grain, deadline } => (*grain, self.deadline(*deadline)),
            HostAction::Extend { deadline } => (GrainId(0), self.deadline(*deadline)),
            HostAction::Disarm { grain } => {
                let armed = self.cluster.grains.get(grain).is_some_and(|grain| grain.armed);
                (*grain, unless(!armed, "takes the deadline from what may be given away"))
            }
            HostAction::Tell { command } => return self.telling(command),
            _ => return None,
        };
        wrong.map(|wrong| (grain, wrong))
    }

    fn making(self, id: GrainId, epoch: Epoch) -> Option<&'static str> {
        let Some(grain) = self.owned(id, epoch) else {
            return Some("makes data of what it does not own");
        };
        unless(!grain.born, "makes an empty dataset of what has data elsewhere")
            .or(unless(self.data(id).is_none(), "makes a dataset where there is one"))
    }

    fn promoting(self, id: GrainId, epoch: Epoch) -> Option<&'static str> {
        let Some(grain) = self.owned(id, epoch) else {
            return Some("begins an epoch that is not its");
        };
        let begun = grain.tenures.last().filter(|tenure| tenure.epoch == epoch);
        let base = begun.and_then(|tenure| tenure.base.as_ref());
        let copy = self.data(id).filter(|data| data.role == DataRole::Standby);
        let has = |data: &DataFacts, base: &Snapshot| {
            data.snapshots.iter().any(|it| it.guid == base.guid)
        };
        // The very dataset that it runs on is of this epoch already.
        let of_it = self.data(id).is_some_and(|data| data.epoch == epoch);
        let lacks = copy.zip(base).is_some_and(|(copy, base)| !has(copy, base));
        let left = self.data(id).is_some_and(|data| data.role == DataRole::Owner);
        unless(!left || of_it || base.is_none(), "begins an epoch from a head that was left behind")
            .or(unless(!lacks, "begins an epoch from another state than was chosen"))
            .or(unless(self.rests(id) || of_it, "begins an epoch under what runs"))
    }

    fn destroying(self, id: GrainId) -> Option<&'static str> {
        let known = self.cluster.grains.get(&id);
        let wanted = known.is_some_and(|grain| grain.receivers().contains(&self.me));
        let owned = known.is_some_and(|grain| grain.owner == Some(self.me));
        let unknown = known.is_none() && !self.cluster.purged.contains(&id);
        unless(!wanted, "removes a copy that it should keep")
            .or(unless(!owned, "removes what it owns"))
            .or(unless(!unknown, "removes what the cluster does not know"))
            .or(unless(!self.alive(id), "removes what runs"))
    }

    fn sending(self, id: GrainId, node: NodeId) -> Option<&'static str> {
        let Some(grain) = self.cluster.grains.get(&id) else {
            return Some("sends what nobody knows");
        };
        unless(grain.owner == Some(self.me), "sends what it does not own")
            .or(unless(self.head(id, grain.epoch).is_some(), "sends an older epoch"))
            .or(unless(grain.receivers().contains(&node), "sends to a node that keeps no copy"))
    }

    fn deadline(self, deadline: BootTime) -> Option<&'static str> {
        let ends = self.lease_ends();
        unless(ends.is_some_and(|ends| deadline <= ends), "lets something outlive its lease")
    }

    fn starting(
        self,
        id: GrainId,
        epoch: Epoch,
        deadline: Option<BootTime>,
    ) -> Option<&'static str> {
        let Some(grain) = self.owned(id, epoch) else { return Some("starts what it does not own") };
        let still = match grain.stage {
            Stage::Settled | Stage::Warming { .. } | Stage::Landing { .. } => true,
            Stage::Unplaced
            | Stage::Quiescing { .. }
            | Stage::Released { .. }
            | Stage::Restarting { .. }
            | Stage::Restoring { .. }
            | Stage::Cloning { .. } => false,
        };
        let leased = deadline.map_or(!grain.armed, |deadline| {
            self.deadline(deadline).is_none() && self.lease_held()
        });
        unless(self.head(id, epoch).is_some(), "starts what has no head here")
            .or(unless(still, "starts what should stand still"))
            .or(unless(grain.wants_to_run(), "starts what should not run"))
            .or(unless(grain.declined == Declined::No, "starts what it has declined"))
            .or(unless(leased, "starts something without a lease that lasts"))
            .or(unless(!self.host.busy.contains(&Lane::Shape(id)), "starts what changes its shape"))
    }

    fn telling(self, command: &Command) -> Wrong {
        #[expect(clippy::wildcard_enum_match_arm, reason = "what is left is judged by its epoch")]
        match command {
            Command::OrphanKept { grain, orphan_epoch, head, .. } => {
                let aside = self.host.orphans.get(&(*grain, *orphan_epoch));
                let so = aside.is_some_and(|aside| aside.head.guid == head.guid);
                return unless(so, "says that it set aside what it did not").map(|it| (*grain, it));
            }
            Command::OrphanGone { grain, orphan_epoch, .. } => {
                let gone = !self.host.orphans.contains_key(&(*grain, *orphan_epoch));
                return unless(gone, "says that what lies aside is gone").map(|it| (*grain, it));
            }
            _ => (),
        }
        let (id, epoch) = epoch_of(command)?;
        let wrong = match self.owned(id, epoch) {
            None => Some("reports of an epoch that is not its"),
            Some(grain) => self.reporting(grain, command),
        };
        wrong.map(|wrong| (id, wrong))
    }

    fn reporting(self, grain: &Grain, command: &Command) -> Option<&'static str> {
        let (id, epoch) = (grain.id, grain.epoch);
        let rests = unless(self.rests(id), "says that something is stopped which may run");
        let run = self.host.runs.get(&id);
        let last = self.data(id).and_then(|data| data.snapshots.last());
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a report of nothing that is judged here"
        )]
        match command {
            Command::GrainBorn { .. } => {
                unless(self.head(id, epoch).is_some(), "says that it has data which it has not")
            }
            Command::GrainArmed { .. } => {
                let disciplined = run.is_none_or(|run| !run.alive || run.armed);
                let busy = self.host.busy.contains(&Lane::Run(id));
                unless(disciplined && !busy, "says that something ends with the lease that may not")
                    .or(unless(self.lease_held(), "arms something without a lease"))
            }
            Command::GrainStarted { .. } => {
                let so = run.is_some_and(|run| run.alive && run.epoch == epoch);
                unless(so, "says that something runs that does not")
            }
            Command::GrainStopped { .. } => rests,
            Command::GrainReleased { last: released, operation, .. } => {
                let newest = last.is_some_and(|last| last == released);
                let of_it = released.name.purpose == Purpose::Final(*operation);
                rests
                    .or(unless(newest && of_it, "hands over another state than the last one"))
                    .or(unless(self.untouched(id), "hands over what may have newer writes"))
            }
            Command::SnapshotTaken { snapshot, .. } => {
                let has = self.data(id).is_some_and(|data| data.snapshots.contains(snapshot));
                unless(has, "says that a snapshot exists that does not")
            }
            Command::GrainRestored { operation, .. } => {
                let so = self.data(id).is_some_and(|data| data.restored == Some(*operation));
                unless(so, "says that it restored what it did not")
            }
            Command::GrainDeclined { sure: true, .. } => {
                rests.or(unless(grain.declined != Declined::No, "is sure before it has said so"))
            }
            _ => None,
        }
    }

    /// What should be stopped and is not.
    pub fn unstopped(self, actions: &[HostAction]) -> Wrong {
        for (id, run) in self.host.runs.iter().filter(|(_, run)| run.alive) {
            let lane = Lane::Run(*id);
            let paused = self.host.failed.get(&lane).is_some_and(|it| self.now.boot < it.retry_at);
            let mut stops = actions.iter();
            let stops = stops.any(|it| matches!(it, HostAction::Stop { grain, .. } if grain == id));
            if stops || paused || self.host.busy.contains(&lane) {
                continue;
            }
            let Some(grain) = self.owned(*id, run.epoch) else {
                return Some((*id, "lets something run that it does not own"));
            };
            let still = match grain.stage {
                Stage::Quiescing { .. }
                | Stage::Released { .. }
                | Stage::Restarting { .. }
                | Stage::Restoring { .. } => true,
                Stage::Unplaced
                | Stage::Settled
                | Stage::Warming { .. }
                | Stage::Landing { .. }
                | Stage::Cloning { .. } => false,
            };
            let over = grain.armed && self.host.lease.granted.is_some() && !self.lease_held();
            let still = still || grain.declined != Declined::No || !grain.wants_to_run();
            let wrong = unless(!still, "lets something run that should stop")
                .or(unless(!over, "lets something run whose lease is over"))
                .or(unless(
                    self.head(*id, run.epoch).is_some(),
                    "lets something run without its head",
                ));
            if let Some(wrong) = wrong {
                return Some((*id, wrong));
            }
        }
        None
    }
}

impl Sim {
    /// What a machine is about to do.
    pub(super) fn judge_orders(&mut self, at: usize, host: &HostFacts, actions: &[HostAction]) {
        let machine = &self.machines[at];
        let now = machine.now(self.now);
        let scene = Scene { me: machine.id, cluster: &machine.cluster, host, now };
        let restores = actions.iter().find_map(|action| match action {
            HostAction::Restore { grain, .. } if machine.instances.contains_key(grain) => {
                Some((*grain, "restores what runs"))
            }
            _ => None,
        });
        let wrong = actions.iter().find_map(|action| scene.wrong(action));
        let wrong = wrong.or(restores).or_else(|| scene.unstopped(actions));
        if let Some((grain, what)) = wrong {
            let (who, name) = (machine.name.clone(), self.name(grain));
            self.find(format!("{who} {what}: {name}"));
        }
    }
}
