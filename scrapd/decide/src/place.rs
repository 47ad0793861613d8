//! Chooses the node for a grain. One function for create, suggest, migrate, drain, failover and the proof that a node may die.
//!
//! Filters run in the order of [`Unfit`]; every refusal names the node and what is missing. What is left is ranked by a sum of
//! integers, higher is better, ties go to the smaller node id. Never looks at the clock: freshness is decided in `lease`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::node::{NodeRole, POOL_FULL_PERCENT, PoolState, RuntimeKind};
use scrap_schema::spec::{GrainSpec, Labels};
use scrap_schema::unit::{Bytes, MilliCpu};

use crate::cluster::{Cluster, Grain, Node, TemplateState};
use crate::observed::Observed;

pub(crate) use round::Loads;
use round::{Spot, hostile, spots, wary};

mod round;

/// How many nodes a line of refusals names.
const REFUSALS_MAX: usize = 8;

/// What a node is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run the grain.
    Run,
    /// To keep a copy of it.
    Copy,
}

/// What is to be placed. `grain` is `None` for a spec that nobody has created yet.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is placed for.
    pub purpose: Purpose,
    /// The grain, if it exists.
    pub grain: Option<&'a Grain>,
    /// Its spec.
    pub spec: &'a GrainSpec,
    /// Its labels.
    pub labels: &'a Labels,
}

impl<'a> Wanted<'a> {
    /// An existing grain.
    #[must_use]
    pub fn of(grain: &'a Grain, purpose: Purpose) -> Self {
        Self { purpose, grain: Some(grain), spec: &grain.spec, labels: &grain.labels }
    }
}

/// Why a node cannot take a grain, in the order in which it is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// It is not online.
    NotOnline,
    /// It is being emptied, or is empty and stays so.
    Draining,
    /// Nothing new comes to it.
    Cordoned,
    /// Its role does not allow it.
    Role,
    /// It cannot run this kind of grain.
    Template,
    /// The template is of another kind of processor.
    Arch { has: String, needs: String },
    /// Grains can have no addresses there.
    Network,
    /// A label that is required.
    Label { key: String, wanted: String },
    /// A grain that this one must keep away from lives there.
    Apart { other: String },
    /// Memory is missing.
    Memory { missing: Bytes },
    /// Processor time is missing.
    Cpu { missing: MilliCpu },
    /// Disk is missing.
    Disk { missing: Bytes },
    /// Nothing can be written to its storage.
    Storage { state: PoolState, what: Option<String> },
    /// Its storage takes nothing new.
    Full { percent: u64 },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnline => f.write_str("is not online"),
            Self::Draining => f.write_str("is draining"),
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Role => f.write_str("has a role that does not allow it"),
            Self::Template => f.write_str("cannot run this template"),
            Self::Arch { has, needs } => write!(f, "is {has}, its template is {needs}"),
            Self::Network => f.write_str("has no network on which grains can have addresses"),
            Self::Label { key, wanted } => write!(f, "lacks label {key}={wanted}"),
            Self::Apart { other } => {
                write!(f, "has grain {other}, which this one keeps apart from")
            }
            Self::Memory { missing } => write!(f, "needs {} more memory", missing.rounded()),
            Self::Cpu { missing } => write!(f, "needs {missing} more cpu"),
            Self::Disk { missing } => write!(f, "needs {} more disk", missing.rounded()),
            Self::Storage { state, what: None } => write!(f, "has storage that is {state}"),
            Self::Storage { state, what: Some(what) } => {
                write!(f, "has storage that is {state} ({what})")
            }
            Self::Full { percent } => write!(
                f,
                "has storage that is {percent} % full and takes new data up to {POOL_FULL_PERCENT} %"
            ),
        }
    }
}

/// A part of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Points.
    pub points: i64,
    /// What for.
    pub what: String,
}

/// A node that can take the grain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Sum of the parts.
    pub score: i64,
    /// What it is made of.
    pub parts: Vec<Part>,
}

/// Every node: ranked, or refused with everything that it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Best first.
    pub fit: Vec<Candidate>,
    /// By node.
    pub unfit: BTreeMap<NodeId, Vec<Unfit>>,
}

impl Ranking {
    /// The best node.
    #[must_use]
    pub fn best(&self) -> Option<NodeId> {
        self.fit.first().map(|candidate| candidate.node)
    }

    /// One line for those who are refused: `n2 is draining; n3 needs 512.0 MiB more memory`. The first few only: the same
    /// reason a thousand times helps nobody.
    #[must_use]
    pub fn refusals(&self, cluster: &Cluster) -> String {
        let lines = self.unfit.iter().take(REFUSALS_MAX).map(|(node, reasons)| {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            format!("{} {}", cluster.node_name(*node), reasons.join(" and "))
        });
        let mut lines: Vec<String> = lines.collect();
        match self.unfit.len().saturating_sub(REFUSALS_MAX) {
            0 => (),
            more => lines.push(format!("{more} more cannot either")),
        }
        lines.join("; ")
    }
}

/// What is taken of a node: by the specs of its grains and copies, and really.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Reserved by the grains that it owns or is getting.
    pub memory: Bytes,
    /// The same of processor time.
    pub cpu: MilliCpu,
    /// Quotas of the grains that it owns, is getting, or keeps copies of.
    pub disk: Bytes,
    /// Number of grains that it owns or is getting.
    pub grains: u64,
}

/// The load of every node, without one grain.
#[must_use]
pub fn loads(cluster: &Cluster, without: Option<GrainId>) -> BTreeMap<NodeId, Load> {
    let mut loads: BTreeMap<NodeId, Load> = BTreeMap::new();
    for grain in cluster.grains.values().filter(|grain| Some(grain.id) != without) {
        let resources = &grain.spec.resources;
        let receivers = grain.receivers();
        let getting = receivers.difference(&grain.standbys).copied();
        for node in grain.owner.into_iter().chain(getting) {
            let load = loads.entry(node).or_default();
            if grain.trashed_until.is_none() {
                load.memory = Bytes(load.memory.0.saturating_add(resources.memory.0));
                load.cpu = MilliCpu(load.cpu.0.saturating_add(resources.cpu.0));
                load.grains = load.grains.saturating_add(1);
            }
        }
        for node in grain.owner.into_iter().chain(receivers) {
            let load = loads.entry(node).or_default();
            load.disk = Bytes(load.disk.0.saturating_add(resources.disk.0));
        }
    }
    loads
}

/// Ranks every node for a grain.
#[must_use]
pub fn place(cluster: &Cluster, observed: &Observed, wanted: Wanted<'_>) -> Ranking {
    let loads = loads(cluster, wanted.grain.map(|grain| grain.id));
    place_among(cluster, observed, wanted, &loads)
}

/// The same with loads that the caller keeps: many grains are placed in one round.
#[must_use]
pub fn place_among(
    cluster: &Cluster,
    observed: &Observed,
    wanted: Wanted<'_>,
    loads: &BTreeMap<NodeId, Load>,
) -> Ranking {
    let hostile = hostile(cluster, wanted, &wary(cluster), &BTreeMap::new());
    let spots = spots(cluster, observed, loads);
    let mut words = |parts: &mut Vec<Part>, points: i64, what: &dyn Fn() -> String| {
        parts.push(Part { points, what: what() });
    };
    rank_with(View::of(cluster, wanted, &hostile), spots.iter(), &mut words)
}

/// What every question about a node needs.
#[derive(Clone, Copy)]
struct View<'a> {
    cluster: &'a Cluster,
    wanted: Wanted<'a>,
    hostile: &'a BTreeMap<NodeId, String>,
    /// What it begins from, if that is a template of the cluster.
    template: Option<&'a TemplateState>,
}

impl<'a> View<'a> {
    fn of(cluster: &'a Cluster, wanted: Wanted<'a>, hostile: &'a BTreeMap<NodeId, String>) -> Self {
        let by_name = || wanted.spec.template.name().and_then(|name| cluster.template_named(name));
        let template = wanted.grain.and_then(|grain| cluster.template_of(grain)).or_else(by_name);
        Self { cluster, wanted, hostile, template }
    }
}

/// Takes a part of a score down, with what it is for.
type Words<'a> = &'a mut dyn FnMut(&mut Vec<Part>, i64, &dyn Fn() -> String);

fn rank_with<'a>(
    view: View<'_>,
    spots: impl Iterator<Item = &'a Spot<'a>>,
    words: Words<'_>,
) -> Ranking {
    let mut ranking = Ranking::default();
    let domains = Domains::of(view);
    for spot in spots {
        let unfit = unfit(view, spot);
        if unfit.is_empty() {
            let mut parts = Vec::new();
            let say = |points: i64, what: &dyn Fn() -> String| words(&mut parts, points, what);
            let score = score(view, &domains, spot, say);
            ranking.fit.push(Candidate { node: spot.node.id, score, parts });
        } else {
            ranking.unfit.insert(spot.node.id, unfit);
        }
    }
    ranking.fit.sort_by_key(|candidate| (Reverse(candidate.score), candidate.node));
    ranking
}

fn unfit(view: View<'_>, spot: &Spot<'_>) -> Vec<Unfit> {
    let (node, wanted) = (spot.node, view.wanted);
    let mut unfit = Vec::new();
    if !node.liveness.is_online() {
        unfit.push(Unfit::NotOnline);
    }
    if node.drain.is_some() {
        unfit.push(Unfit::Draining);
    }
    if node.spec.cordoned && !spot.has_data(wanted) {
        unfit.push(Unfit::Cordoned);
    }
    match (node.role, wanted.purpose) {
        (NodeRole::Data, _) | (NodeRole::Storage, Purpose::Copy) => (),
        (NodeRole::Storage, Purpose::Run) | (NodeRole::Witness, _) => unfit.push(Unfit::Role),
    }
    if wanted.purpose == Purpose::Run {
        cannot_run(view, spot, &mut unfit);
    }
    unfit.extend(lacks_disk(wanted, spot));
    unfit.extend(unsound(wanted, spot));
    unfit
}

/// Storage that nothing can be written to takes no grain and no copy; full storage none that is not there already.
fn unsound(wanted: Wanted<'_>, spot: &Spot<'_>) -> Option<Unfit> {
    let pool = spot.heard.and_then(|heard| heard.pool.as_ref())?;
    if !pool.state.takes_writes() {
        return Some(Unfit::Storage { state: pool.state, what: pool.what.clone() });
    }
    let full = pool.is_full() && !spot.has_data(wanted);
    pool.percent().filter(|_| full).map(|percent| Unfit::Full { percent })
}

/// Whether the node has what it takes to run this kind of grain.
fn lacks_kind(view: View<'_>, node: &Node) -> Option<Unfit> {
    let facts = &node.facts;
    let Some(template) = view.template else {
        // A template that nobody has runs nowhere.
        let runs = facts.runtimes.contains(&RuntimeKind::Process);
        let fits = runs && !view.wanted.spec.template.is_system();
        return (!fits).then_some(Unfit::Template);
    };
    let mut kinds = facts.runtimes.iter().filter_map(|kind| kind.runs_systems_of());
    if !kinds.any(|os| os == template.os) {
        return Some(Unfit::Template);
    }
    (facts.arch != template.arch)
        .then(|| Unfit::Arch { has: facts.arch.clone(), needs: template.arch.clone() })
}

fn cannot_run(view: View<'_>, spot: &Spot<'_>, unfit: &mut Vec<Unfit>) {
    let (node, load, wanted) = (spot.node, spot.load, view.wanted);
    unfit.extend(lacks_kind(view, node));
    if wanted.spec.network.is_some() && node.facts.network.is_none() {
        unfit.push(Unfit::Network);
    }
    for (key, value) in &wanted.spec.place.require {
        if node.labels.get(key) != Some(value) {
            unfit.push(Unfit::Label { key: key.clone(), wanted: value.clone() });
        }
    }
    if let Some(other) = view.hostile.get(&node.id) {
        unfit.push(Unfit::Apart { other: other.clone() });
    }
    let resources = &wanted.spec.resources;
    let memory = load.memory.0.saturating_add(resources.memory.0);
    if memory > node.facts.memory.0 {
        let missing = Bytes(memory.saturating_sub(node.facts.memory.0));
        unfit.push(Unfit::Memory { missing });
    }
    // Processor time may be promised twice over: it is shared, not used up.
    let cpu = load.cpu.0.saturating_add(resources.cpu.0);
    let limit = node.facts.cpu.0.saturating_mul(2);
    if cpu > limit {
        unfit.push(Unfit::Cpu { missing: MilliCpu(cpu.saturating_sub(limit)) });
    }
}

fn lacks_disk(wanted: Wanted<'_>, spot: &Spot<'_>) -> Option<Unfit> {
    let wish = wanted.spec.resources.disk.0;
    let reserved = spot.load.disk.0.saturating_add(wish);
    let used = spot.heard.map_or(0, |heard| heard.usage.disk.0);
    // Whichever is worse: what is promised, or what is really used.
    let need = reserved.max(used.saturating_add(wish));
    let disk = spot.node.facts.disk.0;
    if need <= disk || spot.has_data(wanted) {
        return None;
    }
    Some(Unfit::Disk { missing: Bytes(need.saturating_sub(disk)) })
}

/// Points for free resources, at most this many each.
const FREE_POINTS: u64 = 100;
/// For a copy that is there already.
const COPY_POINTS: i64 = 120;
/// For living there already: a move must be worth it.
const STAY_POINTS: i64 = 60;
/// For the node that the spec prefers.
const PREFER_POINTS: i64 = 150;
/// For another failure domain than the other places of its data.
const SPREAD_POINTS: i64 = 200;
/// For a copy on a node that could run the grain too.
const CAN_RUN_POINTS: i64 = 400;
/// Against many grains on one node, each.
const CROWD_POINTS: i64 = 4;

fn share(free: u64, whole: u64) -> i64 {
    let points = free.saturating_mul(FREE_POINTS).checked_div(whole).unwrap_or(0);
    i64::try_from(points.min(FREE_POINTS)).unwrap_or(0)
}

fn score(
    view: View<'_>,
    domains: &Domains<'_>,
    spot: &Spot<'_>,
    mut say: impl FnMut(i64, &dyn Fn() -> String),
) -> i64 {
    let (node, load, wanted) = (spot.node, spot.load, view.wanted);
    let heard = spot.heard.map(|heard| heard.usage).unwrap_or_default();
    let memory = node.facts.memory.0.saturating_sub(load.memory.0.max(heard.memory.0));
    let cpu = node.facts.cpu.0.saturating_sub(load.cpu.0.max(heard.cpu.0));
    let disk = node.facts.disk.0.saturating_sub(load.disk.0.max(heard.disk.0));
    let mut sum = 0_i64;
    let mut add = |points: i64, what: &dyn Fn() -> String| {
        sum = sum.saturating_add(points);
        say(points, what);
    };
    let rounded = |free: u64| Bytes(free).rounded();
    // Said also when nothing is free: that is what the reader looks for.
    add(share(memory, node.facts.memory.0), &|| format!("{} memory free", rounded(memory)));
    add(share(cpu, node.facts.cpu.0), &|| format!("{} cpu free", MilliCpu(cpu)));
    add(share(disk, node.facts.disk.0) / 2, &|| format!("{} disk free", rounded(disk)));
    if load.grains > 0 {
        let grains = i64::try_from(load.grains).unwrap_or(i64::MAX);
        add(grains.saturating_mul(-CROWD_POINTS), &|| format!("{grains} grains there"));
    }
    if let Some(grain) = wanted.grain {
        if grain.owner == Some(node.id) {
            add(STAY_POINTS, &|| "lives there".to_owned());
        } else if spot.has_data(wanted) {
            add(COPY_POINTS, &|| "has a copy".to_owned());
        }
    }
    if wanted.spec.place.prefer.as_ref() == Some(&node.name) {
        add(PREFER_POINTS, &|| "is preferred".to_owned());
    }
    // A copy is safe anywhere, but only where the grain can run it saves a failover.
    if wanted.purpose == Purpose::Copy
        && wanted.spec.template.is_system()
        && node.role == NodeRole::Data
        && lacks_kind(view, node).is_none()
    {
        add(CAN_RUN_POINTS, &|| "could run it".to_owned());
    }
    if domains.is_new(node) {
        add(SPREAD_POINTS, &|| "is another failure domain".to_owned());
    }
    sum
}

/// The failure domains in which a grain has data already.
struct Domains<'a> {
    /// The label that names a node's domain; `None`: it does not matter.
    key: Option<String>,
    taken: Vec<(NodeId, Option<&'a String>)>,
}

impl<'a> Domains<'a> {
    fn of(view: View<'a>) -> Self {
        let grain = view.wanted.grain.filter(|_| view.wanted.purpose == Purpose::Copy);
        let key = grain.and_then(|grain| view.cluster.policy_of(grain).replicate.spread);
        let (Some(grain), Some(key)) = (grain, key) else {
            return Self { key: None, taken: Vec::new() };
        };
        let places = grain.standbys.iter().copied().chain(grain.owner);
        let domain =
            |id: NodeId| view.cluster.nodes.get(&id).and_then(|node| node.labels.get(&key));
        let taken = places.map(|id| (id, domain(id))).collect();
        Self { key: Some(key), taken }
    }

    /// Whether the node's value of the policy's spread label differs from those of the grain's other places.
    fn is_new(&self, node: &Node) -> bool {
        let domain = self.key.as_ref().and_then(|key| node.labels.get(key));
        domain.is_some() && self.taken.iter().all(|(id, taken)| *id == node.id || *taken != domain)
    }
}

#[cfg(test)]
mod tests;
