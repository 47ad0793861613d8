//! The agent's memory: the facts that `obey` decides on, and measurements for the reports. Changes only by [`Update`]s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scrap_decide::cluster::{Cluster, Grain};
use scrap_decide::lease::Tenant;
use scrap_decide::obey::{
    DataFacts, DataRole, Dirty, Failure, HostFacts, Lane, Looks, OrphanFacts, StopReason,
};
use scrap_host::clock;
use scrap_host::datasets::{Dataset, Role};
use scrap_host::machine::Meter;
use scrap_host::runtime::{Listing, Usage};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId, OperationId, TemplateId};
use scrap_schema::node::{GrainReport, NodeUsage, PoolFacts, RenewalAnswer};
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use tracing::warn;

use super::alarm::Told;

/// First pause after a failure; doubles with each one in a row.
const RETRY_FIRST: Span = Span::from_ms(250);
/// Longest pause after a failure.
const RETRY_MAX: Span = Span::from_secs(30);

/// Property of a dataset: the operation whose restore was last completed.
pub(crate) const PROPERTY_RESTORED: &str = "scrap:restored";
/// Property of a dataset: the generation of the spec that is written beside it.
pub(crate) const PROPERTY_GENERATION: &str = "scrap:generation";

/// Everything that the agent remembers.
#[derive(Default)]
pub struct State {
    /// What `obey` decides on.
    pub facts: HostFacts,
    /// This node's side of its lease.
    tenant: Tenant,
    /// What people were told of by themselves.
    pub(crate) told: Told,
    /// Which start of the daemon is registered, and at which log index.
    pub boot: Option<BootId>,
    /// Log index of that registration.
    pub registered: Option<u64>,
    /// What is reported of each grain.
    pub reports: BTreeMap<GrainId, GrainReport>,
    /// What the node uses.
    pub usage: NodeUsage,
    /// Disk that grains and copies may take here, as the node's facts say it.
    pub disk: Bytes,
    /// Streams that are under way and how they went, by copy.
    pub streams: BTreeMap<(GrainId, NodeId), Stream>,
    /// What is wrong with the network of grains here.
    pub(crate) network: Vec<String>,
    /// Up to when looks into a grain had found nothing.
    pub(crate) looks: BTreeMap<GrainId, Looks>,
    /// How much was written into a grain when the last look found something.
    pub(crate) found: BTreeMap<GrainId, Bytes>,
    /// Addresses of new grains that nobody else had when the network was asked, and when that was.
    pub(crate) free: BTreeMap<GrainId, (Vec<IpAddr>, BootTime)>,
    /// Grains whose health is watched, by epoch and number of starts.
    pub(crate) watched: BTreeMap<GrainId, (Epoch, u64)>,
    pub(crate) restarts: BTreeMap<GrainId, (u32, Option<String>)>,
    pub(crate) measured: BTreeMap<GrainId, Measured>,
    /// Counts starts, so that a watcher of an earlier run falls silent.
    pub(crate) starts: BTreeMap<GrainId, u64>,
    /// Number of starts and stops that have ended here, and which was the last one of a grain.
    pub(crate) changes: u64,
    changed: BTreeMap<GrainId, u64>,
    /// What was wanted of a grain when something was last tried in a lane of its own.
    pub(crate) tried: BTreeMap<Lane, Wish>,
    /// Grains whose keepers did not hear of the last extension, and why.
    pub(crate) silent: BTreeMap<GrainId, String>,
    /// Grains of which the last look could not say what runs, and why.
    pub(crate) unclear: BTreeMap<GrainId, String>,
    pub(crate) meter: Meter,
}

/// What people and the cluster want of a grain, as far as what failed may go well with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    epoch: Epoch,
    generation: u64,
    operation: Option<OperationId>,
}

impl Wish {
    fn of(grain: &Grain) -> Self {
        Self { epoch: grain.epoch, generation: grain.generation, operation: grain.operation }
    }
}

/// What a running grain used when last measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    last: Option<(u64, BootTime)>,
    pub(crate) cpu: MilliCpu,
    pub(crate) memory: Bytes,
}

/// What the node used when last measured.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory that is not available.
    pub memory: Bytes,
    /// Disk that is free.
    pub disk_free: Bytes,
}

/// Streams to one copy.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Why the next one has not begun yet.
    pub waits: Option<String>,
    /// The one that is under way.
    pub sending: Option<Arc<Sending>>,
    /// Bytes per second of the last one that was long enough to tell.
    pub rate: Bytes,
    /// Completed ones.
    pub rounds: u32,
    /// Estimated bytes between what the copy has and the newest snapshot.
    pub behind: Bytes,
    /// What the copy kept of a stream that was cut off, and could not be gone on with.
    pub bad_rest: Option<String>,
}

/// How far a stream is.
#[derive(Debug, Default)]
pub struct Sending {
    /// Bytes so far.
    pub bytes: AtomicU64,
    /// Estimated bytes of the whole.
    pub total: AtomicU64,
}

impl Sending {
    pub(crate) fn read(&self) -> (Bytes, Bytes) {
        (Bytes(self.bytes.load(Ordering::Relaxed)), Bytes(self.total.load(Ordering::Relaxed)))
    }
}

/// A change of the facts.
#[derive(Debug)]
pub enum Update {
    /// A dataset of a grain is so now; `None`: there is none.
    Data(GrainId, Option<Dataset>),
    /// A diverged head is kept aside here; `None`: it is not any more.
    Aside(GrainId, Epoch, Option<OrphanFacts>),
    /// What a diverged head is worth that is kept aside here.
    Measured(GrainId, Epoch, OrphanFacts),
    /// What was written since the newest snapshot.
    Dirty(GrainId, Dirty),
    /// Everything that runs, seen when so many starts and stops had ended here.
    Instances(Listing, u64),
    /// A grain was started.
    Started(GrainId, Epoch, bool),
    /// A running grain has a deadline from now on.
    Armed(GrainId),
    /// A running grain has no deadline any more.
    Disarmed(GrainId),
    /// The order to stop it was given.
    Stopping(GrainId, Timestamp),
    /// It is verified stopped, for this reason.
    Stopped(GrainId, StopReason),
    /// A health check's result.
    Health(GrainId, Checked),
    /// A template is sealed here, with this snapshot; `None`: it is here no more.
    Template(TemplateId, Option<Guid>),
    /// What is wrong with the network of grains here.
    Network(Vec<String>),
    /// How the storage is.
    Pool(PoolFacts),
    /// What a copy has.
    Copy(GrainId, NodeId, Vec<Guid>),
    /// A stream has arrived: the copy has this snapshot; so many bytes in so many milliseconds.
    Sent(GrainId, NodeId, Guid, u64, u64),
    /// Running grains have this deadline, except those whose keepers could not be reached, and why.
    Extended(BootTime, BTreeMap<GrainId, String>),
    /// What runs here was found under a lease that was granted, counted from this time of sending.
    Granted(Option<BootTime>),
    /// A renewal was answered, and the answer came at that time.
    Answered(RenewalAnswer, BootTime),
    /// What a grain uses.
    Usage(GrainId, Usage, BootTime),
    /// What the node uses.
    Node(Reading),
}

/// What a health check has found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Of which start of the grain.
    pub start: u64,
    /// What is wrong, in words.
    pub result: Result<(), String>,
    /// Whether a failure counts: the grace after the start is over.
    pub counts: bool,
    /// When it ended.
    pub at: Timestamp,
}

impl State {
    /// This node has applied the log up to an entry: grants that were known to the leader then count now.
    pub(crate) fn applied(&mut self, index: u64) {
        self.tenant.applied(index);
        self.facts.lease = self.tenant.lease();
    }

    /// Takes a change in.
    pub fn take(&mut self, update: Update) {
        match update {
            Update::Data(grain, data) => self.data(grain, data),
            Update::Aside(grain, epoch, orphan) => self.aside((grain, epoch), orphan),
            // It may have gone while it was measured.
            Update::Measured(grain, epoch, orphan) => {
                if !self.facts.discarded.contains(&(grain, epoch)) {
                    self.facts.orphans.insert((grain, epoch), orphan);
                }
            }
            Update::Dirty(grain, dirty) => self.looked(grain, dirty),
            Update::Instances(listing, as_of) => {
                self.unclear(&listing);
                self.instances(listing, as_of);
            }
            Update::Started(grain, epoch, armed) => self.started(grain, epoch, armed),
            Update::Armed(grain) => {
                if let Some(run) = self.facts.runs.get_mut(&grain) {
                    run.armed = true;
                }
            }
            Update::Disarmed(grain) => {
                if let Some(run) = self.facts.runs.get_mut(&grain) {
                    run.armed = false;
                }
            }
            Update::Stopping(grain, at) => {
                if let Some(run) = self.facts.runs.get_mut(&grain) {
                    run.stopping = Some(at);
                }
            }
            Update::Stopped(grain, why) => self.stopped(grain, why),
            Update::Health(grain, checked) => self.health(grain, checked),
            Update::Template(template, sealed) => match sealed {
                Some(guid) => {
                    self.facts.templates.insert(template, guid);
                }
                None => {
                    self.facts.templates.remove(&template);
                }
            },
            Update::Network(troubles) => self.network = troubles,
            Update::Pool(pool) => self.facts.pool = Some(pool),
            Update::Copy(grain, node, snapshots) => {
                let newest = self.facts.newest(grain).map(|newest| newest.guid);
                if newest.is_some() && snapshots.last().copied() == newest {
                    // Where there is nothing to deliver, nothing fails any more.
                    self.facts.failed.remove(&Lane::Copy(grain, node));
                }
                let copy = self.facts.copies.entry((grain, node)).or_default();
                copy.says(snapshots, clock::boot_time());
            }
            Update::Sent(grain, node, guid, bytes, ms) => self.sent(grain, node, guid, bytes, ms),
            Update::Extended(deadline, silent) => self.extended(deadline, silent),
            Update::Granted(granted) => {
                if let Some(sent) = granted {
                    self.tenant.grant(sent);
                }
                self.facts.lease = self.tenant.lease();
            }
            Update::Answered(answer, now) => self.tenant.answered(&answer, now),
            Update::Usage(grain, usage, at) => {
                self.measured.entry(grain).or_default().take(usage, at);
            }
            Update::Node(reading) => self.node(reading),
        }
    }

    fn aside(&mut self, key: (GrainId, Epoch), orphan: Option<OrphanFacts>) {
        match orphan {
            Some(orphan) => {
                self.facts.discarded.remove(&key);
                self.facts.orphans.insert(key, orphan);
            }
            None => {
                self.facts.orphans.remove(&key);
                self.facts.discarded.insert(key);
            }
        }
    }

    fn looked(&mut self, grain: GrainId, dirty: Dirty) {
        if dirty.bytes.0 > 0 {
            self.found.insert(grain, dirty.bytes);
        }
        if let Some(data) = self.facts.data.get_mut(&grain) {
            self.looks.entry(grain).or_default().saw(&data.snapshots, dirty);
            data.dirty = Some(dirty);
        }
    }

    /// Forgets what failed before. A question that was answered delivers nothing and forgets nothing, or the pauses between two
    /// tries of what it is asked for would never grow.
    pub fn succeeded(&mut self, lane: Lane, delivers: bool) {
        if delivers {
            self.facts.failed.remove(&lane);
        }
    }

    /// Notes a failure and when to try again.
    pub fn failed(&mut self, lane: Lane, why: String, now: BootTime) {
        let attempts = self.facts.failed.get(&lane).map_or(0, |failure| failure.attempts);
        let pause = match lane {
            // Grains die by a lease that is not extended: it has a pace of its own.
            Lane::Lease => RETRY_FIRST.ms(),
            Lane::Copy(..)
            | Lane::Run(_)
            | Lane::Shape(_)
            | Lane::Snap(_)
            | Lane::Describe(_)
            | Lane::Tell(_)
            | Lane::Template(_) => {
                RETRY_FIRST.ms().saturating_mul(1 << attempts.min(10)).min(RETRY_MAX.ms())
            }
        };
        let failure = Failure {
            attempts: attempts.saturating_add(1),
            retry_at: now + Span::from_ms(pause),
            why,
        };
        self.facts.failed.insert(lane, failure);
        match lane {
            // What was believed of a copy may be why it failed.
            Lane::Copy(grain, node) => {
                self.facts.copies.remove(&(grain, node));
            }
            // A look from before the failure has seen what is no more.
            Lane::Run(grain) => self.note_change(grain),
            // Somebody may have written since it was last looked for writes.
            Lane::Shape(grain) => {
                if let Some(data) = self.facts.data.get_mut(&grain) {
                    data.dirty = None;
                }
            }
            Lane::Snap(_) | Lane::Describe(_) | Lane::Tell(_) | Lane::Lease | Lane::Template(_) => {
            }
        }
    }

    /// Whoever was not reached is tried again, and the others with it: that does no harm.
    fn extended(&mut self, deadline: BootTime, silent: BTreeMap<GrainId, String>) {
        for (grain, why) in silent.iter().filter(|(grain, _)| !self.silent.contains_key(grain)) {
            warn!(%grain, why, "a grain did not hear that the lease goes on");
        }
        match silent.first_key_value() {
            Some((_, why)) => self.failed(Lane::Lease, why.clone(), clock::boot_time()),
            None => self.facts.extended = Some(deadline),
        }
        self.silent = silent;
    }

    /// Notes what is wanted of a grain of which something is tried now.
    pub(crate) fn tries(&mut self, lane: Lane, grain: &Grain) {
        self.tried.insert(lane, Wish::of(grain));
    }

    /// Of grains that are gone nothing is remembered.
    pub(crate) fn forget_gone(&mut self, cluster: &Cluster) {
        self.free.retain(|grain, _| cluster.grains.contains_key(grain));
        self.found.retain(|grain, _| cluster.grains.contains_key(grain));
        self.looks.retain(|grain, _| cluster.grains.contains_key(grain));
    }

    /// A corrected spec or a new order does not wait for the pause after what failed before it.
    pub(crate) fn forget_old_failures(&mut self, cluster: &Cluster) {
        let tried = &self.tried;
        self.facts.failed.retain(|lane, _| match lane {
            Lane::Run(id) | Lane::Shape(id) | Lane::Snap(id) | Lane::Describe(id) => {
                let wish = cluster.grains.get(id).map(Wish::of);
                wish.is_none() || wish == tried.get(lane).copied()
            }
            Lane::Copy(..) | Lane::Tell(_) | Lane::Lease | Lane::Template(_) => true,
        });
    }

    fn data(&mut self, grain: GrainId, data: Option<Dataset>) {
        let Some(dataset) = data else {
            self.facts.data.remove(&grain);
            return;
        };
        let newest = |snapshots: &[Snapshot]| snapshots.last().map(|newest| newest.guid);
        let before = self.facts.data.get(&grain);
        // What a former owner knew of copies is long out of date when it is one again.
        if before.is_some_and(|before| before.role != DataRole::Owner)
            && dataset.role == Role::Owner
        {
            self.facts.copies.retain(|(of, _), _| *of != grain);
        }
        // A look says something only about what came after the newest snapshot.
        let dirty = before
            .filter(|before| newest(&before.snapshots) == newest(&dataset.snapshots))
            .and_then(|before| before.dirty);
        let facts = to_facts(dataset, dirty);
        self.facts.data.insert(grain, facts);
    }

    fn sent(&mut self, grain: GrainId, node: NodeId, guid: Guid, bytes: u64, ms: u64) {
        let copy = self.facts.copies.entry((grain, node)).or_default();
        copy.took(guid, clock::boot_time());
        let stream = self.streams.entry((grain, node)).or_default();
        stream.sending = None;
        stream.rounds = stream.rounds.saturating_add(1);
        stream.behind = Bytes(0);
        // A short stream says more about the round trip than about the link.
        if bytes >= 1 << 20 {
            stream.rate = Bytes(bytes.saturating_mul(1000) / ms.max(1));
        }
    }

    /// What the datasets here take.
    pub(crate) fn own_data(&self) -> u64 {
        let data = self.facts.data.values().map(|data| data.used.0);
        let orphans = self.facts.orphans.values().map(|orphan| orphan.used.0);
        data.chain(orphans).sum()
    }

    /// What the datasets take, or more if others have filled the disk: what is not free cannot be used.
    fn disk_used(&self, free: Bytes) -> u64 {
        self.own_data().max(self.disk.0.saturating_sub(free.0))
    }

    fn node(&mut self, reading: Reading) {
        // Rounded, so that a report does not change with every breath.
        self.usage = NodeUsage {
            cpu: MilliCpu(reading.cpu.0 / 50 * 50),
            memory: Bytes(reading.memory.0 >> 24 << 24),
            disk: Bytes(self.disk_used(reading.disk_free) >> 24 << 24),
        };
    }
}

/// Thousandths of a core that were used between two readings.
fn rate(before_ms: u64, after_ms: u64, passed: Span) -> u64 {
    after_ms.saturating_sub(before_ms).saturating_mul(1000) / passed.ms().max(1)
}

impl Measured {
    fn take(&mut self, usage: Usage, at: BootTime) {
        if let Some((before, since)) = self.last {
            // Rounded, so that a report does not change with every breath.
            self.cpu = MilliCpu(rate(before, usage.cpu_ms, at.since(since)).div_ceil(10) * 10);
        }
        self.memory = Bytes(usage.memory.0.div_ceil(1 << 20) << 20);
        self.last = Some((usage.cpu_ms, at));
    }
}

fn to_facts(dataset: Dataset, dirty: Option<Dirty>) -> DataFacts {
    let property = |key: &str| dataset.properties.get(key);
    let restored: Option<OperationId> =
        property(PROPERTY_RESTORED).and_then(|text| text.parse().ok());
    let described = property(PROPERTY_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    DataFacts {
        role: match dataset.role {
            Role::Owner => DataRole::Owner,
            // Orphans and templates have ids of their own and are never a grain's dataset.
            Role::Standby | Role::Orphan | Role::Template => DataRole::Standby,
        },
        epoch: dataset.epoch,
        snapshots: dataset.snapshots,
        bookmarks: dataset.bookmarks,
        held: dataset.holds,
        used: dataset.used,
        dirty,
        restored,
        described,
    }
}

mod runs;
#[cfg(test)]
mod tests;
