//! What is set aside on simulated hosts, taken back, made a grain of, and removed.

use scrap_decide::cluster::OrphanKey;
use scrap_decide::obey::{DataRole, HostAction};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};

use super::Sim;
use super::disk::{Aside, Dataset, Frozen};
use super::execute::Effect;

impl Sim {
    pub(super) fn land_aside(&mut self, at: usize, action: HostAction) -> Effect {
        match action {
            HostAction::SetAside { grain, base, name } => self.set_aside(at, grain, base, name),
            HostAction::TakeBack { grain, epoch } => self.take_back(at, grain, epoch),
            HostAction::Discard { grain, epoch } => self.discard(at, grain, epoch),
            HostAction::CloneFrom { grain, epoch, from, orphan, snapshot } => {
                self.clone_from(at, grain, epoch, (from, orphan), snapshot)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn set_aside(
        &mut self,
        at: usize,
        grain: GrainId,
        base: Option<Guid>,
        name: SnapshotName,
    ) -> Effect {
        self.guids += 1;
        let guid = Guid(self.guids);
        let created = self.machines[at].now(self.now).wall;
        let machine = &mut self.machines[at];
        if let Some((epoch, aside)) = machine
            .orphans
            .iter()
            .find(|((of, _), aside)| *of == grain && aside.head.snapshot.name == name)
            .map(|((_, epoch), aside)| (*epoch, aside.clone()))
        {
            // The work of an earlier call, which is finished.
            let rest = up_to(&aside.line, base, epoch);
            if let Some(rest) = rest.filter(|_| !machine.datasets.contains_key(&grain)) {
                machine.datasets.insert(grain, rest);
            }
            return Ok(());
        }
        let old = machine.datasets.get(&grain).ok_or("there is no dataset")?;
        let key = (grain, old.epoch);
        if machine.orphans.contains_key(&key) {
            return Err(format!("there is an orphan of epoch {} already", old.epoch));
        }
        let rest = up_to(&old.snapshots, base, old.epoch);
        let rest = rest.map(|rest| Dataset { restored: old.restored, ..rest });
        let base_content = rest.as_ref().map(|rest| rest.head.clone()).unwrap_or_default();
        let everything = old.everything();
        let snapshot = Snapshot { name, guid, created };
        let head = Frozen { snapshot, content: old.head.clone() };
        let line = old.snapshots.iter().cloned().chain([head.clone()]).collect();
        let newer = everything.without(&base_content).len();
        let aside = Aside { newer, head, content: everything, line, base };
        machine.discarded.remove(&key);
        machine.orphans.insert(key, aside);
        match rest {
            None => drop(machine.datasets.remove(&grain)),
            Some(rest) => drop(machine.datasets.insert(grain, rest)),
        }
        machine.dirty.remove(&grain);
        Ok(())
    }

    pub(super) fn take_back(&mut self, at: usize, grain: GrainId, epoch: Epoch) -> Effect {
        let machine = &mut self.machines[at];
        let key = (grain, epoch);
        let aside = machine.orphans.get(&key).ok_or("it is not here")?;
        let has = |guid: Guid| aside.line.iter().any(|frozen| frozen.snapshot.guid == guid);
        if let Some(there) = machine.datasets.get(&grain) {
            if there.role != DataRole::Standby || there.unfrozen() > 0 {
                return Err("a head is in its place".to_owned());
            }
            if there.snapshots.iter().any(|frozen| !has(frozen.snapshot.guid)) {
                return Err("what is in its place has states of its own".to_owned());
            }
        }
        let back = Dataset {
            snapshots: aside.line.clone(),
            head: aside.head.content.clone(),
            ..Dataset::new(DataRole::Standby, epoch)
        };
        machine.orphans.remove(&key);
        machine.discarded.insert(key);
        machine.datasets.insert(grain, back);
        machine.dirty.remove(&grain);
        Ok(())
    }

    /// Only a person's word takes anything away.
    pub(super) fn discard(&mut self, at: usize, grain: GrainId, epoch: Epoch) -> Effect {
        let machine = &mut self.machines[at];
        let key = OrphanKey { grain, epoch, node: machine.id };
        let asked = machine.cluster.orphans.get(&key).is_some_and(|it| it.discard.is_some());
        machine.discarded.insert((grain, epoch));
        let Some(aside) = machine.orphans.remove(&(grain, epoch)) else { return Ok(()) };
        if asked {
            self.judge.discarded.entry(grain).or_default().join(&aside.content);
        } else {
            let name = self.name(grain);
            self.find(format!("what was set aside of {name} is removed, and nobody asked for it"));
        }
        Ok(())
    }

    pub(super) fn clone_from(
        &mut self,
        at: usize,
        grain: GrainId,
        epoch: Epoch,
        (from, orphan): (GrainId, Option<Epoch>),
        snapshot: Guid,
    ) -> Effect {
        let machine = &self.machines[at];
        let frozen = match orphan {
            None => machine.datasets.get(&from).and_then(|source| source.frozen(snapshot)),
            Some(epoch) => machine
                .orphans
                .get(&(from, epoch))
                .map(|aside| &aside.head)
                .filter(|head| head.snapshot.guid == snapshot),
        };
        let writes = frozen.ok_or("there is no such snapshot")?.content.len();
        let name = self.name(from);
        let (size, write) = self.sizes.get(&from).copied().unwrap_or((0, 1));
        self.sizes.insert(grain, (size + writes * write, write));
        self.machines[at].datasets.insert(grain, Dataset::new(DataRole::Owner, epoch));
        let who = format!("{}/host", self.machines[at].name);
        let clone = self.name(grain);
        self.say(&who, &format!("{clone} has {writes} writes of {name}"));
        Ok(())
    }
}

/// The copy that ends at a state of a line.
fn up_to(line: &[Frozen], base: Option<Guid>, epoch: Epoch) -> Option<Dataset> {
    let base = base?;
    let end = line.iter().position(|frozen| frozen.snapshot.guid == base)?;
    let snapshots = line[..=end].to_vec();
    let head = snapshots.last()?.content.clone();
    Some(Dataset { snapshots, head, ..Dataset::new(DataRole::Standby, epoch) })
}
