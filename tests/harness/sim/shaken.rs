//! What a node would do if something were otherwise than it is: its data gone, a program alive that it took for dead, its lease over,
//! an order of another kind. Tried out now and then on what it knows; nothing of it is done. What a rare history would need three
//! faults for is looked at directly.

use scrap_decide::cluster::{Cluster, Declined, Grain, Stage, Tenure};
use scrap_decide::obey::{DataRole, Dirty, HostFacts, Lane, RunFacts, obey};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::snapshot::Guid;
use scrap_schema::time::{BootTime, Now};
use scrap_schema::unit::Bytes;

use super::Sim;
use super::deeds::Scene;
use crate::random::Random;

/// One of so many decisions is looked at.
const ONE_IN: u64 = 8;
/// So many things are otherwise at most.
const AT_ONCE: u64 = 3;

impl Sim {
    /// Looks what a machine would do.
    pub(super) fn shake(&mut self, at: usize, mut host: HostFacts) {
        let place = u64::try_from(at).unwrap_or_default();
        let mut random = Random::new(self.seed ^ (self.now * 16 + place));
        if random.below(ONE_IN) != 0 {
            return;
        }
        let machine = &self.machines[at];
        let me = machine.id;
        let concerned: Vec<_> = machine
            .cluster
            .grains
            .values()
            .filter(|grain| {
                grain.owner == Some(me)
                    || host.data.contains_key(&grain.id)
                    || host.runs.contains_key(&grain.id)
            })
            .map(|grain| grain.id)
            .collect();
        let Some(grain) = random.pick(&concerned).copied() else { return };
        let now = machine.now(self.now);
        let mut cluster = machine.cluster.clone();
        let mut words = Vec::new();
        for _ in 0..=random.below(AT_ONCE) {
            words.extend(match random.below(3) {
                0 => order(&mut cluster, grain, me, &mut random),
                1 => data(&mut host, grain, now, &mut random),
                _ => run(&mut host, &cluster, grain, now, &mut random),
            });
        }
        let actions = obey(me, &cluster, &host, now);
        let scene = Scene { me, cluster: &cluster, host: &host, now };
        let wrong = actions.iter().find_map(|action| scene.wrong(action));
        if let Some((grain, what)) = wrong.or_else(|| scene.unstopped(&actions)) {
            let (who, name) = (machine.name.clone(), self.name(grain));
            self.find(format!("{who} {what}: {name}, if {}", words.join(" and ")));
        }
    }
}

/// The data are otherwise.
fn data(host: &mut HostFacts, id: GrainId, now: Now, random: &mut Random) -> Option<&'static str> {
    let data = host.data.get_mut(&id)?;
    Some(match random.below(7) {
        0 => {
            host.data.remove(&id);
            "its dataset is gone"
        }
        1 => {
            data.role = match data.role {
                DataRole::Owner => DataRole::Standby,
                DataRole::Standby => DataRole::Owner,
            };
            "its dataset is for something else"
        }
        2 => {
            data.epoch = Epoch(data.epoch.0.saturating_sub(1));
            "its dataset is of an epoch before"
        }
        3 => {
            data.snapshots.pop();
            "its last snapshot is gone"
        }
        4 => {
            data.dirty = None;
            "nobody has looked what was written"
        }
        5 => {
            let probed = now.boot;
            data.dirty = Some(Dirty { bytes: Bytes(0), at: now.wall, probed });
            "nothing was written"
        }
        _ => {
            let probed = now.boot;
            data.dirty = Some(Dirty { bytes: Bytes(4096), at: now.wall, probed });
            "something was written"
        }
    })
}

/// What runs is otherwise, or the lease, or what is being done.
fn run(
    host: &mut HostFacts,
    cluster: &Cluster,
    id: GrainId,
    now: Now,
    random: &mut Random,
) -> Option<&'static str> {
    let timing = cluster.timing();
    let epoch = cluster.grains.get(&id).map_or(Epoch(0), |grain| grain.epoch);
    let known = host.runs.get(&id).cloned();
    let mut run = known.unwrap_or(RunFacts { epoch, since: now.boot, ..RunFacts::default() });
    let words = match random.below(8) {
        0 => {
            (run.alive, run.up) = (!run.alive, !run.alive);
            "it is alive or not"
        }
        1 => {
            run.armed = !run.armed;
            "it has a deadline or not"
        }
        2 => {
            run.epoch = Epoch(run.epoch.0.saturating_sub(1));
            "it runs in an epoch before"
        }
        3 => {
            run.stopped = Some(now.boot);
            "it has just been stopped"
        }
        4 => {
            host.lease.granted = None;
            "its lease was never granted"
        }
        5 => {
            // Just over, or nearly.
            let ago = timing.stop.ms() + random.below(2_000);
            let then = now.boot.0.saturating_sub(ago.saturating_sub(1_000));
            host.lease.granted = host.lease.granted.map(|_| BootTime(then));
            "its lease was granted long ago"
        }
        6 => {
            host.busy.insert(Lane::Run(id));
            "it is being started or stopped"
        }
        _ => {
            host.busy.insert(Lane::Shape(id));
            "its shape is being changed"
        }
    };
    host.runs.insert(id, run);
    Some(words)
}

/// What the cluster wants is otherwise.
fn order(
    cluster: &mut Cluster,
    id: GrainId,
    me: NodeId,
    random: &mut Random,
) -> Option<&'static str> {
    let others: Vec<_> = cluster.nodes.keys().copied().filter(|node| *node != me).collect();
    let other = random.pick(&others).copied()?;
    let grain = cluster.grains.get_mut(&id)?;
    let operation = grain.operation.unwrap_or(OperationId(1));
    let last = grain.tenures.last().and_then(|tenure| tenure.base.clone());
    let (words, stage) = match random.below(9) {
        0 => (
            "it should be restored",
            Stage::Restoring { operation, snapshot: last.map_or(Guid(1), |it| it.guid) },
        ),
        1 => ("it should be frozen", Stage::Quiescing { to: other, operation, ordered: 0 }),
        2 => ("it should start again", Stage::Restarting { operation: None }),
        3 => ("it has settled", Stage::Settled),
        4 => return Some(given(grain, other)),
        5 => {
            grain.born = true;
            return Some("it was born");
        }
        6 => {
            grain.armed = !grain.armed;
            return Some("it is armed or not");
        }
        7 => {
            grain.declined = Declined::Said;
            return Some("it was declined");
        }
        _ => {
            grain.spec.running = !grain.spec.running;
            return Some("it should run or not");
        }
    };
    grain.stage = stage;
    Some(words)
}

/// Another node has it.
fn given(grain: &mut Grain, other: NodeId) -> &'static str {
    grain.epoch = grain.epoch.next();
    grain.standbys.extend(grain.owner);
    grain.standbys.remove(&other);
    grain.owner = Some(other);
    let base = grain.tenures.last().and_then(|tenure| tenure.base.clone());
    grain.tenures.push(Tenure { epoch: grain.epoch, node: other, base });
    "another node has it"
}
