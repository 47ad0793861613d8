//! A simulated machine: its clocks, its daemon's memory, its disks and what runs on it. Translates them to facts and reports
//! as a daemon would; decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::cluster::Cluster;
use scrap_decide::lead::Subject;
use scrap_decide::lease::Tenant;
use scrap_decide::obey::{
    CopyFacts, DataRole, Dirty, Failure, HostAction, HostFacts, Lane, Looks, OrphanFacts, RunFacts,
    hold_tag,
};
use scrap_decide::observed::Observed;
use scrap_schema::id::{BootId, Epoch, GrainId, Name, NodeId, TemplateId};
use scrap_schema::node::{
    CopyReport, DataReport, GrainReport, NodeFacts, NodeRole, NodeUsage, PoolFacts, PoolState,
    Renewal, RunReport,
};
use scrap_schema::snapshot::Guid;
use scrap_schema::spec::Labels;
use scrap_schema::time::{BootTime, Now, Timestamp};
use scrap_schema::unit::{Bytes, MilliCpu};

use super::disk::{Aside, Dataset};
use super::guard::{Board, Pauses};
use super::power::Plug;

/// 2026-01-01T00:00:00Z, the wall clock at the beginning of every simulation.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// A clock that counts from a boot and may run fast or slow.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When it was set, in simulated time.
    pub set: u64,
    /// What it showed then.
    pub shown: u64,
    /// By how many millionths it is too fast.
    pub drift_ppm: i64,
}

impl Clock {
    /// What it shows.
    #[must_use]
    pub fn read(&self, now: u64) -> BootTime {
        let passed = i64::try_from(now - self.set).unwrap();
        let shown = passed + passed * self.drift_ppm / 1_000_000;
        BootTime(self.shown + u64::try_from(shown).unwrap())
    }

    /// The same clock with another speed from now on.
    #[must_use]
    pub fn with_drift(&self, now: u64, drift_ppm: i64) -> Self {
        Self { set: now, shown: self.read(now).0, drift_ppm }
    }
}

/// Something that runs.
#[derive(Debug, Clone)]
pub struct Instance {
    /// In which epoch it was started.
    pub epoch: Epoch,
    /// When it must be dead by itself, by the machine's clock.
    pub deadline: Option<BootTime>,
    /// When it was started.
    pub started: Timestamp,
}

/// An action that is under way.
#[derive(Debug, Clone)]
pub struct Flight {
    /// What.
    pub action: HostAction,
    /// When it began, by both clocks.
    pub begun: Now,
    /// When it ends, in simulated time; `None`: when the node has applied `awaits`.
    pub end: u64,
    /// For a report: the log index of its entry, once it is committed.
    pub awaits: Option<u64>,
    /// What a look found when it began.
    pub seen: u64,
}

/// What an owner knows of a copy.
#[derive(Debug, Clone, Default)]
pub struct KnownCopy {
    /// What the decision sees of it.
    pub facts: CopyFacts,
    /// Completed streams.
    pub rounds: u32,
    /// Bytes per second of the last stream.
    pub rate: u64,
    /// Why it does not move forward.
    pub trouble: Option<String>,
}

/// What a leader keeps in memory.
#[derive(Debug, Clone)]
pub struct Leading {
    /// What it has heard.
    pub observed: Observed,
    /// When it last decided.
    pub decided: u64,
    /// The log index that it last decided on.
    pub index: u64,
    /// What waits, since when, and whether that was said.
    pub waiting: BTreeMap<(Subject, String), (u64, bool)>,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// Its identity as a member; zero before it is one.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub role: NodeRole,
    /// Labels.
    pub labels: Labels,
    /// What it is made of.
    pub facts: NodeFacts,
    /// Whether it has power.
    pub up: bool,
    /// Whether its daemon runs.
    pub daemon: bool,
    /// Starts of its daemon so far.
    pub boots: u64,
    /// The present start of its daemon.
    pub boot: BootId,
    /// Its boot clock.
    pub clock: Clock,
    /// Its copy of the replicated state.
    pub cluster: Cluster,
    /// Log index up to which its log goes, on its disk.
    pub logged: u64,
    /// How long it takes to apply a committed entry.
    pub apply_delay: u64,
    /// Whom it takes for the leader.
    pub hint: Option<usize>,
    /// Its lease.
    pub tenant: Tenant,
    /// The deadline that running grains were last given.
    pub extended: Option<BootTime>,
    /// When it renews next, in simulated time.
    pub next_renewal: u64,
    /// Whether the next renewal says everything.
    pub full: bool,
    /// Whether it has to register.
    pub register: bool,
    /// Its datasets.
    pub datasets: BTreeMap<GrainId, Dataset>,
    /// Its diverged heads.
    pub orphans: BTreeMap<(GrainId, Epoch), Aside>,
    /// Those that this daemon has removed.
    pub discarded: BTreeSet<(GrainId, Epoch)>,
    /// What runs.
    pub instances: BTreeMap<GrainId, Instance>,
    /// What the daemon knows of runs.
    pub runs: BTreeMap<GrainId, RunFacts>,
    /// What the daemon has seen of unfrozen writes.
    pub dirty: BTreeMap<GrainId, Dirty>,
    /// Up to when looks had found nothing.
    pub looks: BTreeMap<GrainId, Looks>,
    /// What the daemon knows of copies.
    pub copies: BTreeMap<(GrainId, NodeId), KnownCopy>,
    /// What it does.
    pub flights: Vec<Flight>,
    /// Lanes whose last action failed.
    pub failed: BTreeMap<Lane, Failure>,
    /// Its memory as a leader, as long as it takes itself for one.
    pub leading: Option<Leading>,
    /// What can cut its power from outside.
    pub plug: Option<Plug>,
    /// Whether anything changed since it last decided.
    pub changed: bool,
    /// When it last decided.
    pub obeyed: u64,
    /// Grains that never answer here.
    pub sick: BTreeSet<GrainId>,
    /// Grains that answer here no more once they have answered, and since when.
    pub ill: BTreeMap<GrainId, u64>,
    /// Disk that is used by something else.
    pub foreign_disk: u64,
    /// Its templates.
    pub templates: BTreeMap<TemplateId, Guid>,
    /// How its storage is.
    pub pool: PoolState,
    /// Which parts of it stand still.
    pub pauses: Pauses,
    /// Whether its hardware resets it when its guard stands still.
    pub watchdog: bool,
    /// What keepers, guard and daemon share.
    pub board: Board,
    /// Until when the daemon last told the guard that grains may run.
    pub told: Option<BootTime>,
    /// When it may try to register again.
    pub next_registration: u64,
    /// Log index of the present registration, once it is known here.
    pub registered: Option<u64>,
    /// The first boot id of this life of the daemon.
    pub life: BootId,
    /// By how many milliseconds its wall clock is ahead.
    pub wall_ahead: i64,
}

impl Machine {
    /// Whether its daemon can do and hear anything.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.up && self.daemon && self.pauses.daemon.is_none()
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self, now: u64) -> Now {
        let ahead = Timestamp(wall(now).0 + self.wall_ahead);
        Now { boot: self.clock.read(now), wall: ahead }
    }

    /// What a look into a dataset has found.
    pub fn looked(&mut self, grain: GrainId, dirty: Dirty) {
        let found = self.datasets.get(&grain).map(|dataset| &dataset.snapshots);
        let snapshots = found.into_iter().flatten().map(|frozen| frozen.snapshot.clone());
        let snapshots: Vec<_> = snapshots.collect();
        self.looks.entry(grain).or_default().saw(&snapshots, dirty);
        self.dirty.insert(grain, dirty);
    }

    /// The daemon's memory is gone.
    pub fn forget(&mut self) {
        self.tenant = Tenant::default();
        self.extended = None;
        self.runs.clear();
        self.dirty.clear();
        self.looks.clear();
        self.discarded.clear();
        self.copies.clear();
        self.flights.clear();
        self.failed.clear();
        self.leading = None;
        self.full = true;
        self.register = false;
        self.registered = None;
        self.told = None;
    }

    /// The facts that the mind decides on.
    #[must_use]
    pub fn host_facts(&self, sizes: &BTreeMap<GrainId, (u64, u64)>) -> HostFacts {
        let size = |grain: &GrainId| sizes.get(grain).copied().unwrap_or((0, 1));
        let data = self.datasets.iter().map(|(grain, dataset)| {
            let (base, write) = size(grain);
            (*grain, dataset.facts(self.dirty.get(grain).copied(), base, write))
        });
        let orphans = self.orphans.iter().map(|(key, aside)| {
            let (_, write) = size(&key.0);
            let facts = OrphanFacts {
                head: aside.head.snapshot.clone(),
                base: aside.base,
                line: aside.line.iter().map(|frozen| frozen.snapshot.guid).collect(),
                newer: Some(Bytes(aside.newer * write)),
                used: Bytes(aside.content.len() * write),
            };
            (*key, facts)
        });
        let copies = self.copies.iter().map(|(key, known)| (*key, known.facts.clone()));
        HostFacts {
            lease: self.tenant.lease(),
            extended: self.extended,
            data: data.collect(),
            orphans: orphans.collect(),
            discarded: self.discarded.clone(),
            runs: self.runs.clone(),
            copies: copies.collect(),
            templates: self.templates.clone(),
            pool: Some(self.pool_facts(sizes)),
            busy: self.flights.iter().map(|flight| flight.action.lane()).collect(),
            failed: self.failed.clone(),
        }
    }

    /// A renewal of its lease with all reports.
    #[must_use]
    pub fn renewal(&self, now: u64, sizes: &BTreeMap<GrainId, (u64, u64)>) -> Renewal {
        let grains: BTreeSet<GrainId> =
            self.datasets.keys().chain(self.runs.keys()).copied().collect();
        let reports = grains.into_iter().map(|grain| {
            let size = sizes.get(&grain).copied().unwrap_or((0, 1));
            (grain, Some(self.report(grain, size)))
        });
        let used = self.used(sizes);
        Renewal {
            node: self.id,
            boot: self.boot,
            sent: self.clock.read(now),
            wall: self.now(now).wall,
            usage: NodeUsage { cpu: MilliCpu(0), memory: Bytes(0), disk: used },
            pool: Some(self.pool_facts(sizes)),
            network: Vec::new(),
            full: true,
            grains: reports.collect(),
        }
    }

    fn used(&self, sizes: &BTreeMap<GrainId, (u64, u64)>) -> Bytes {
        let used = self.datasets.iter().map(|(grain, dataset)| {
            let (base, write) = sizes.get(grain).copied().unwrap_or((0, 1));
            base + dataset.head.len() * write
        });
        Bytes(self.foreign_disk + used.sum::<u64>())
    }

    fn pool_facts(&self, sizes: &BTreeMap<GrainId, (u64, u64)>) -> PoolFacts {
        let used = self.used(sizes);
        let free = Bytes(self.facts.disk.0.saturating_sub(used.0));
        PoolFacts { state: self.pool, used, free, ..PoolFacts::default() }
    }

    fn report(&self, grain: GrainId, (base, write): (u64, u64)) -> GrainReport {
        let dirty = self.dirty.get(&grain);
        let data = self.datasets.get(&grain).map(|dataset| DataReport {
            owner: dataset.role == DataRole::Owner,
            epoch: dataset.epoch,
            head: dataset.snapshots.last().map(|frozen| frozen.snapshot.clone()),
            used: Bytes(base + dataset.head.len() * write),
            dirty: dirty.map_or(Bytes(0), |dirty| dirty.bytes),
        });
        let run = self.runs.get(&grain).filter(|run| run.alive).map(|run| RunReport {
            epoch: run.epoch,
            up: run.up,
            armed: run.armed,
            healthy: run.healthy,
            ailment: run.ailment.clone(),
            restarts: 0,
            cpu: MilliCpu(0),
            memory: Bytes(0),
            last_exit: None,
        });
        let copies = self.copies.iter().filter(|((of, _), _)| *of == grain);
        let copies = copies.filter_map(|((_, node), known)| {
            let dataset = self.datasets.get(&grain)?;
            let looks = self.looks.get(&grain).cloned().unwrap_or_default();
            Some((*node, copy_report(dataset, (*node, known), (dirty, &looks), write, base)))
        });
        GrainReport { data, run, copies: copies.collect(), trouble: None }
    }
}

/// How far a copy is, from what its owner knows without asking.
fn copy_report(
    dataset: &Dataset,
    (node, known): (NodeId, &KnownCopy),
    (dirty, looks): (Option<&Dirty>, &Looks),
    write: u64,
    base: u64,
) -> CopyReport {
    // Of one that cannot be asked, what is held for it is the last that is known.
    let held = dataset.held.get(&hold_tag(node)).copied();
    let theirs = known.facts.snapshots.clone().unwrap_or_else(|| held.into_iter().collect());
    let common =
        dataset.snapshots.iter().rev().find(|frozen| theirs.contains(&frozen.snapshot.guid));
    let newest = dataset.snapshots.last();
    let unfrozen = dirty.map_or(0, |dirty| dirty.bytes.0);
    let lacks = match (newest, common) {
        (Some(newest), Some(common)) => newest.content.without(&common.content).len() * write,
        (Some(newest), None) => base + newest.content.len() * write,
        (None, _) => base,
    };
    CopyReport {
        common: common.map(|frozen| frozen.snapshot.guid),
        current_to: common.map(|frozen| looks.current_to(&frozen.snapshot)),
        pending: Bytes(lacks + unfrozen),
        sending: None,
        rate: Bytes(known.rate),
        rounds: known.rounds,
        trouble: known.trouble.clone(),
    }
}

/// The wall clock, the same everywhere.
#[must_use]
pub fn wall(now: u64) -> Timestamp {
    Timestamp(EPOCH_MS + i64::try_from(now).unwrap())
}
