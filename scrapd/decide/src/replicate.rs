//! Copies: which nodes keep them, which stream brings one forward, which stream a node lets in, which snapshots may go.
//!
//! Identity of a state is its guid, order is the line of the dataset that has it. Never overwrites: what does not continue a copy
//! is divergence, and divergence is set aside.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, NodeId};
use scrap_schema::node::{NodeRole, POOL_FULL_PERCENT, PoolState};
use scrap_schema::snapshot::{Guid, Purpose as Why, Snapshot};
use scrap_schema::spec::Keep;
use scrap_schema::unit::Span;
use thiserror::Error;

use crate::cluster::{Cluster, Grain, Liveness, Stage};
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::mutant::{self, Mutant};
use crate::obey::{DataFacts, DataRole, HostFacts, SetAside, source};
use crate::place::{Loads, Purpose, Ranking, Wanted};

/// A copy on a node that has been silent for so long is made anew elsewhere.
const REPLACE_AFTER: Span = Span::from_secs(60);
/// A copy this fresh counts as in step.
const IN_STEP: Span = Span::from_secs(60);

/// How a copy can be brought to the newest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// It has the newest snapshot.
    UpToDate,
    /// It has nothing, or nothing in common with this line: then its node sets it aside whole, first.
    Full {
        /// The snapshot to send.
        to: Guid,
    },
    /// It has an older state of the same line.
    Incremental {
        /// The newest snapshot that both have.
        from: Guid,
        /// The snapshot to send.
        to: Guid,
    },
    /// Beyond the newest state that both have, it has states that this line does not have (any more): its node must set them
    /// aside first.
    Diverged {
        /// The newest snapshot that both have.
        common: Guid,
        /// The snapshot to send then; `None`: there is none beyond `common` yet.
        to: Option<Guid>,
    },
    /// There is no snapshot to send yet.
    Nothing,
}

/// The way from what a copy has to the newest snapshot. All lists oldest first. Only what `may_skip` allows is jumped over, and never
/// what people took or a last state: that arrives as a snapshot of its own. A full stream begins with the newest. At one of the
/// `bookmarks` a stream can begin, and none can end: their states are gone here.
#[must_use]
pub fn route(
    mine: &[Snapshot],
    bookmarks: &[Snapshot],
    theirs: &[Guid],
    may_skip: impl Fn(Guid) -> bool,
) -> Route {
    // The oldest one that must exist on the copy, or the newest of all.
    let first = |later: &[Snapshot], skips: &dyn Fn(Guid) -> bool| {
        let must = |snapshot: &&Snapshot| must_travel(snapshot) || !skips(snapshot.guid);
        later.iter().find(must).or(later.last()).map(|snapshot| snapshot.guid)
    };
    let next = |later: &[Snapshot]| first(later, &may_skip);
    if let Some(base) = bookmarks.iter().rfind(|it| theirs.last() == Some(&it.guid)) {
        let after = mine.partition_point(|snapshot| snapshot.name.seq <= base.name.seq);
        let to = next(mine.get(after..).unwrap_or_default());
        return to.map_or(Route::Nothing, |to| Route::Incremental { from: base.guid, to });
    }
    let Some(at) = mine.iter().rposition(|snapshot| theirs.contains(&snapshot.guid)) else {
        return first(mine, &|_| true).map_or(Route::Nothing, |to| Route::Full { to });
    };
    let (until, later) = mine.split_at(at.saturating_add(1));
    let Some(common) = until.last().map(|snapshot| snapshot.guid) else { return Route::Nothing };
    match (theirs.last() == Some(&common), next(later)) {
        (true, Some(to)) => Route::Incremental { from: common, to },
        (true, None) => Route::UpToDate,
        (false, to) => Route::Diverged { common, to },
    }
}

fn must_travel(snapshot: &Snapshot) -> bool {
    match snapshot.name.purpose {
        Why::User(_) | Why::Final(_) => true,
        Why::Replication | Why::Orphan | Why::Template => false,
    }
}

/// Why a node does not let a stream in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAdmitted {
    /// It does not know the grain.
    #[error("the grain is not known here")]
    UnknownGrain,
    /// The sender does not own it.
    #[error("node {sender} does not own it: node {owner:?} does")]
    NotOwner { sender: NodeId, owner: Option<NodeId> },
    /// The sender lives in another epoch.
    #[error("the stream is of epoch {offered}, here it is epoch {held}")]
    WrongEpoch { offered: Epoch, held: Epoch },
    /// No copy of it belongs here.
    #[error("that node keeps no copy of it")]
    NotWanted,
    /// It runs here, or its dataset is still the writable one.
    #[error("it is writable here: its data must be set aside first")]
    WritableHere,
    /// The storage takes nothing new.
    #[error(
        "the storage of that node is {percent} % full: it takes copies up to {POOL_FULL_PERCENT} %"
    )]
    Full { percent: u64 },
    /// Nothing can be written here.
    #[error("the storage of that node is {state}{}", said(what.as_deref()))]
    CannotWrite { state: PoolState, what: Option<String> },
    /// What would have to be set aside first has no place.
    #[error(
        "what is here must be set aside first, and data of epoch {epoch} are kept aside already: `scrapctl orphan ls` shows them"
    )]
    OrphanInTheWay { epoch: Epoch },
    /// The stream does not continue what is here.
    #[error("the stream begins at {from:?}, the copy here ends at {newest:?}")]
    DoesNotContinue { from: Option<Guid>, newest: Option<Guid> },
}

/// What a node must do to let a stream in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Take it.
    Receive,
    /// Set aside what is here beyond a state that the sender has too, or all of it, then take the stream.
    SetAsideFirst(SetAside),
}

/// A stream that asks to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Who sends.
    pub sender: NodeId,
    /// In which epoch the sender believes to own the grain.
    pub epoch: Epoch,
    /// Where the stream begins; `None`: it is a full one.
    pub from: Option<Guid>,
    /// Every snapshot that the sender has.
    pub line: Vec<Guid>,
}

/// What a stream waits for when many are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// The grain stands still until it is there: it waits for nothing.
    Hurried,
    /// It carries a whole dataset.
    Full,
    /// It carries what was written since.
    Increment,
}

impl Traffic {
    /// Whether both sides hold what it brings before anything else; else `obey` orders that when there is time.
    #[must_use]
    pub fn is_held_at_once(self) -> bool {
        match self {
            Self::Hurried => false,
            Self::Full | Self::Increment => true,
        }
    }
}

/// Of which kind a stream of this grain to a node is.
#[must_use]
pub fn traffic(grain: Option<&Grain>, receiver: NodeId, from: Option<Guid>) -> Traffic {
    let awaited = grain.is_some_and(|grain| match grain.stage {
        Stage::Quiescing { to, .. } | Stage::Released { to, .. } => to == receiver,
        Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => false,
    });
    match (awaited, from) {
        (true, _) => Traffic::Hurried,
        (false, None) => Traffic::Full,
        (false, Some(_)) => Traffic::Increment,
    }
}

/// Whether the cluster wants this stream here: asked before it, and again with every change while it comes in.
///
/// # Errors
/// Why not.
pub fn still_wanted<'a>(
    me: NodeId,
    grain: Option<&'a Grain>,
    offer: &Offer,
) -> Result<&'a Grain, NotAdmitted> {
    let grain = grain.ok_or(NotAdmitted::UnknownGrain)?;
    if mutant::is(Mutant::AdmitsAnybody) {
        return Ok(grain);
    }
    if grain.owner != Some(offer.sender) {
        return Err(NotAdmitted::NotOwner { sender: offer.sender, owner: grain.owner });
    }
    if grain.epoch != offer.epoch {
        return Err(NotAdmitted::WrongEpoch { offered: offer.epoch, held: grain.epoch });
    }
    if !grain.receivers().contains(&me) {
        return Err(NotAdmitted::NotWanted);
    }
    Ok(grain)
}

/// What words about a pool add to its state.
fn said(what: Option<&str>) -> String {
    what.map_or_else(String::new, |what| format!(": {what}"))
}

/// Whether the storage of this node takes a stream. The last state of a grain that stands still is let in as long as anything
/// can be written.
fn has_room(me: NodeId, grain: &Grain, offer: &Offer, host: &HostFacts) -> Result<(), NotAdmitted> {
    let Some(pool) = &host.pool else { return Ok(()) };
    if !pool.state.takes_writes() {
        return Err(NotAdmitted::CannotWrite { state: pool.state, what: pool.what.clone() });
    }
    match (traffic(Some(grain), me, offer.from), pool.percent()) {
        (Traffic::Full | Traffic::Increment, Some(percent)) if pool.is_full() => {
            Err(NotAdmitted::Full { percent })
        }
        (Traffic::Full | Traffic::Increment | Traffic::Hurried, _) => Ok(()),
    }
}

/// Whether a stream may come in here.
///
/// # Errors
/// Why not.
pub fn admit(
    me: NodeId,
    grain: Option<&Grain>,
    offer: &Offer,
    host: &HostFacts,
) -> Result<Admitted, NotAdmitted> {
    let grain = still_wanted(me, grain, offer)?;
    if host.runs.get(&grain.id).is_some_and(|run| run.alive) {
        return Err(NotAdmitted::WritableHere);
    }
    has_room(me, grain, offer, host)?;
    let Some(data) = host.data.get(&grain.id) else {
        let template = grain.template.and_then(|template| host.templates.get(&template)).copied();
        return match offer.from {
            None => Ok(Admitted::Receive),
            // It continues the template, which is here: a clone of it.
            Some(from) if Some(from) == template => Ok(Admitted::Receive),
            Some(_) => Err(NotAdmitted::DoesNotContinue { from: offer.from, newest: None }),
        };
    };
    match data.role {
        DataRole::Owner => return Err(NotAdmitted::WritableHere),
        DataRole::Standby => (),
    }
    let newest = data.snapshots.last().map(|snapshot| snapshot.guid);
    let continues = offer.from.is_some() && offer.from == newest;
    if continues || mutant::is(Mutant::AdmitsAnything) {
        return Ok(Admitted::Receive);
    }
    let has = |guid: &Guid| data.snapshots.iter().any(|snapshot| snapshot.guid == *guid);
    let set_aside = match offer.from {
        None => !offer.line.iter().any(has),
        // Its owner knows both the base and that the newest state here is nowhere on its line, not even behind what it names.
        Some(from) => {
            let on_line = |guid: &Guid| offer.line.contains(guid);
            has(&from) && on_line(&from) && newest.is_some_and(|newest| !on_line(&newest))
        }
    };
    if !set_aside {
        return Err(NotAdmitted::DoesNotContinue { from: offer.from, newest });
    }
    match SetAside::plan(host, grain, data, offer.from) {
        Some(plan) => Ok(Admitted::SetAsideFirst(plan)),
        None => Err(NotAdmitted::OrphanInTheWay { epoch: data.epoch }),
    }
}

/// Chooses the nodes that keep copies. The leader's part.
pub(crate) fn protect(view: View<'_>, grain: &Grain, loads: &mut Loads, plan: &mut Plan) {
    if grain.trashed_until.is_some() || !grain.born {
        return;
    }
    let policy = view.cluster.policy_of(grain);
    let want = usize::try_from(policy.replicate.copies).unwrap_or(usize::MAX);
    let (live, waning): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
        grain.standbys.iter().copied().partition(|node| counts_as_copy(view, *node));
    if live.len() == want && waning.is_empty() {
        return;
    }
    let mut standbys = grain.standbys.clone();
    let missing = want.saturating_sub(live.len());
    let mut ranking = Ranking::default();
    if missing > 0 {
        let wanted = Wanted::of(grain, Purpose::Copy);
        ranking = loads.rank(view.cluster, wanted);
    }
    ranking.fit.retain(|candidate| {
        Some(candidate.node) != grain.owner && !standbys.contains(&candidate.node)
    });
    for candidate in ranking.fit.iter().take(missing) {
        loads.will_keep(candidate.node, grain);
        standbys.insert(candidate.node);
    }
    let in_step: BTreeSet<NodeId> =
        live.iter().copied().filter(|node| is_in_step(view, grain, *node)).collect();
    // Surplus ones go only when enough others are in step.
    if in_step.len() >= want {
        for node in &waning {
            if is_gone_for_good(view, *node) || view.is_online(*node) {
                standbys.remove(node);
            }
        }
        for node in live.iter().rev() {
            let others = in_step.iter().filter(|other| *other != node).count();
            if others >= want && standbys.iter().filter(|node| live.contains(node)).count() > want {
                standbys.remove(node);
            }
        }
    }
    let have = standbys.iter().filter(|node| counts_as_copy(view, **node)).count();
    if have < want {
        let others = |node: &NodeId, _: &mut Vec<crate::place::Unfit>| {
            Some(*node) != grain.owner && !live.contains(node)
        };
        ranking.unfit.retain(others);
        let refusals = ranking.refusals(view.cluster);
        plan.wait(Subject::Grain(grain.id), WaitReason::TooFewCopies { have, want, refusals });
    }
    if standbys != grain.standbys {
        let (grain, epoch) = (grain.id, grain.epoch);
        plan.commands.push(Command::SetStandbys { grain, epoch, standbys });
    }
}

/// Remembers where the copies of silent nodes stand, as their owner said last, or an owner before it that had heard of them. Forgets
/// it when they have moved on.
pub(crate) fn remember(view: View<'_>, grain: &Grain, plan: &mut Plan) {
    let receivers = grain.receivers();
    let nodes: BTreeSet<NodeId> = receivers.iter().chain(grain.away.keys()).copied().collect();
    for node in nodes {
        let known = grain.away.get(&node).copied();
        let stands = view.observed.copy(grain, node).and_then(|copy| copy.common);
        let wanted = match (receivers.contains(&node), view.is_online(node)) {
            (false, _) => None,
            (true, false) => Some(
                stands
                    .or(known.flatten())
                    .or_else(|| view.observed.stands.get(&(grain.id, node)).copied()),
            ),
            (true, true) => known.filter(|known| stands.is_none_or(|it| Some(it) == *known)),
        };
        if wanted != known {
            let (grain, epoch) = (grain.id, grain.epoch);
            let (snapshot, silent) = (wanted.flatten(), wanted == Some(None));
            let command = Command::RememberCopy { grain, epoch, node, snapshot, silent };
            plan.commands.push(command);
        }
    }
}

/// Copies that do not move forward although their nodes are online, and why. What their owner says of them is with each copy.
pub(crate) fn held_up(view: View<'_>, grain: &Grain, plan: &mut Plan) {
    if grain.trashed_until.is_some() || !grain.born {
        return;
    }
    for node in grain.standbys.iter().copied().filter(|node| view.is_online(*node)) {
        let name = view.cluster.node_name(node);
        let pool = view.observed.nodes.get(&node).and_then(|heard| heard.pool.as_ref());
        let stopped = pool.and_then(|pool| match (pool.state.takes_writes(), pool.percent()) {
            (false, _) => Some(format!("its storage is {}", pool.state)),
            (true, Some(percent)) if pool.is_full() => Some(format!(
                "its storage is {percent} % full and takes copies up to {POOL_FULL_PERCENT} %"
            )),
            (true, _) => None,
        });
        let template = view.cluster.template_of(grain);
        let lacking = template.filter(|template| {
            let has_copy = view.observed.copy(grain, node).is_some_and(|it| it.common.is_some());
            let coming = source(view.cluster, template, node, 0).is_some();
            !has_copy && coming && !template.holders.contains(&node)
        });
        if let Some(why) = stopped {
            plan.wait(Subject::Grain(grain.id), WaitReason::CopyStopped { node: name, why });
        } else if let Some(template) = lacking {
            let (node, template) = (name, template.name.to_string());
            plan.wait(Subject::Grain(grain.id), WaitReason::CopyFetches { node, template });
        }
    }
}

/// A node that a copy can be expected to be kept on: present, or silent only for a moment, and staying.
fn counts_as_copy(view: View<'_>, node: NodeId) -> bool {
    let Some(node) = view.cluster.nodes.get(&node) else { return false };
    let present = match node.liveness {
        Liveness::Online | Liveness::Suspect { .. } => true,
        Liveness::Fenced { last_heard } | Liveness::Away { last_heard } => {
            view.now.wall.since(last_heard) < REPLACE_AFTER
        }
        Liveness::Joining => false,
    };
    present && node.drain.is_none() && node.role != NodeRole::Witness
}

fn is_gone_for_good(view: View<'_>, node: NodeId) -> bool {
    !view.cluster.nodes.contains_key(&node)
}

fn is_in_step(view: View<'_>, grain: &Grain, node: NodeId) -> bool {
    let policy = view.cluster.policy_of(grain).replicate;
    let limit = IN_STEP.max(Span::from_ms(policy.every.ms().saturating_mul(2)));
    view.is_online(node) && view.observed.lag(grain, node, view.now).is_some_and(|lag| lag <= limit)
}

/// Snapshots that may be removed: not the newest, not held, not one that a later line began from, not one of a person, and not
/// kept by the policy. Pure: hours and days are counted from 1970.
#[must_use]
pub fn retain(cluster: &Cluster, grain: &Grain, data: &DataFacts, keep: &Keep) -> Vec<Guid> {
    let bases = grain.tenures.iter().filter_map(|tenure| tenure.base.as_ref());
    let mut kept: BTreeSet<Guid> = bases.map(|base| base.guid).collect();
    kept.extend(data.held.values());
    if !mutant::is(Mutant::ForgetsSilent) {
        kept.extend(grain.away.values().copied().flatten());
        kept.extend(before_the_fork(grain, data));
    }
    kept.extend(data.snapshots.last().map(|newest| newest.guid));
    let auto = data.snapshots.iter().rev().filter(|snapshot| match snapshot.name.purpose {
        Why::Replication => true,
        // Named by nobody once its move is over: counted like the others.
        Why::Final(_) => !grain.snapshots.iter().any(|known| known.guid == snapshot.guid),
        // The state of a template is what the grain began from: its blocks are shared with others.
        Why::User(_) | Why::Orphan | Why::Template => false,
    });
    let auto: Vec<&Snapshot> = auto.collect();
    let last = usize::try_from(keep.keep_last.max(1)).unwrap_or(usize::MAX);
    kept.extend(auto.iter().take(last).map(|snapshot| snapshot.guid));
    kept.extend(newest_of_each(&auto, 3_600_000, keep.keep_hourly));
    kept.extend(newest_of_each(&auto, 86_400_000, keep.keep_daily));
    let mut goes: Vec<Guid> =
        auto.iter().map(|snapshot| snapshot.guid).filter(|guid| !kept.contains(guid)).collect();
    if !goes.is_empty() {
        let needed = needed_by_operations(cluster, grain, data);
        goes.retain(|guid| !needed.contains(guid));
    }
    goes
}

/// What a silent copy may still share with this line although it stood at a state that this line does not have: it will set that
/// aside and go back behind the fork, and nobody knows how far. There are no more of these than there were when the line forked.
fn before_the_fork(grain: &Grain, data: &DataFacts) -> Vec<Guid> {
    let on_line = |guid: &Guid| data.snapshots.iter().any(|snapshot| snapshot.guid == *guid);
    let forks = grain.tenures.iter().rev().find_map(|tenure| tenure.base.as_ref());
    let Some(fork) = forks.filter(|_| !grain.away.values().flatten().all(on_line)) else {
        return Vec::new();
    };
    let until = (fork.name.epoch, fork.name.seq);
    let older = data.snapshots.iter().filter(|it| (it.name.epoch, it.name.seq) <= until);
    older.map(|snapshot| snapshot.guid).collect()
}

/// The newest snapshot of each of the newest `count` periods that have one.
fn newest_of_each(newest_first: &[&Snapshot], period_ms: i64, count: u32) -> Vec<Guid> {
    let mut periods: BTreeMap<i64, Guid> = BTreeMap::new();
    for snapshot in newest_first {
        let period = snapshot.created.0.div_euclid(period_ms);
        periods.entry(period).or_insert(snapshot.guid);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    periods.into_iter().rev().take(count).map(|(_, guid)| guid).collect()
}

fn needed_by_operations(cluster: &Cluster, grain: &Grain, data: &DataFacts) -> BTreeSet<Guid> {
    let mut needed = BTreeSet::new();
    match &grain.stage {
        Stage::Released { last, .. } => {
            needed.insert(last.guid);
        }
        Stage::Restoring { snapshot, .. } => {
            needed.insert(*snapshot);
        }
        Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Cloning { .. } => (),
    }
    for other in cluster.grains.values() {
        if let Stage::Cloning { from, snapshot: Some(snapshot), .. } = &other.stage
            && *from == grain.id
        {
            needed.insert(*snapshot);
        }
    }
    // The last state of an operation that still runs.
    for snapshot in &data.snapshots {
        if let Why::Final(operation) = &snapshot.name.purpose
            && cluster.operations.get(operation).is_some_and(|it| !it.state.is_final())
        {
            needed.insert(snapshot.guid);
        }
    }
    needed
}

#[cfg(test)]
mod tests;
