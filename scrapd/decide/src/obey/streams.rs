//! The replication loop of an owner, per copy: anything written? snapshot, send the increment, hold, release, prune. And the upkeep
//! of a copy.

use std::collections::BTreeSet;

use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot};
use scrap_schema::unit::Span;

use super::data::next_name;
use super::templates;
use super::{DataFacts, DataRole, Here, HostAction, HostFacts, Lane};
use crate::cluster::{Cluster, Stage};
use crate::fail_over::on_main_line;
use crate::mutant::{self, Mutant};
use crate::replicate::{self, Route, Traffic, retain, route};

/// Once a grain's next home has a copy its owner looks for writes this often.
const EVERY_WHILE_MOVING: Span = Span::from_ms(500);

/// A copy that has to set something aside first is asked this often whether it has.
const ASK_AGAIN: Span = Span::from_secs(1);

/// A copy that gets no streams is asked what it has after so many intervals of its policy: somebody may have destroyed it, and then it
/// is told as one that protects.
const ASK_ANYWAY: u64 = 10;
/// Not more often than this, and not more seldom.
const ASK_ANYWAY_WITHIN: (Span, Span) = (Span::from_secs(10), Span::from_secs(300));

/// A copy that has said so often that it has what is not on this line does not set it aside by itself; and one that could not be asked
/// so often is waited for no more.
const OFTEN: u32 = 10;

/// So many states that even the best copy lacks are enough: one on its way and one that waits. States that are frozen faster than they
/// are sent would only make the queue longer, and every copy gets all of them.
const ENOUGH_WAIT: usize = 2;
/// One is frozen all the same once the newest is so old: people go back to states, too.
const FREEZE_ANYWAY: Span = Span::from_secs(15 * 60);

/// The tag that holds the newest snapshot that this node and another one both have.
#[must_use]
pub fn hold_tag(node: NodeId) -> String {
    format!("last:{node}")
}

pub(super) fn decide(here: Here<'_>, actions: &mut Vec<HostAction>) {
    let Some(data) = here.data else { return };
    if here.holds_head() {
        let receivers = reachable(here);
        for node in here.grain.receivers().difference(&receivers) {
            let known = here.host.copies.get(&(here.grain.id, *node));
            if let Some(common) = known.and_then(|copy| copy.snapshots.as_ref()?.last()) {
                // When it is back, the stream to it begins there.
                hold(here, data, *node, *common, actions);
            }
        }
        for node in receivers.iter().filter(|node| may_hear(here, **node)) {
            send(here, data, *node, actions);
        }
        if !receivers.is_empty() {
            look(here, data, &receivers, actions);
        }
        upkeep(here, data, actions);
    } else if data.role == DataRole::Standby && !here.owns() {
        keep(here, data, actions);
    }
}

/// The upkeep of a copy.
fn keep(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let concerned = here.grain.receivers();
    let newest = data.snapshots.last().filter(|newest| on_main_line(here.grain, newest));
    if let (Some(newest), Some(owner)) = (newest, here.grain.owner)
        && concerned.contains(&here.me)
        && !here.is_alive()
        // What it is changes just now.
        && !here.host.busy.contains(&Lane::Shape(here.grain.id))
    {
        hold(here, data, owner, newest.guid, actions);
        release(here, data, &concerned.into_iter().chain([owner]).collect(), actions);
    }
    prune(here, data, actions);
}

fn reachable(here: Here<'_>) -> BTreeSet<NodeId> {
    let online =
        |node: &NodeId| here.cluster.nodes.get(node).is_some_and(|node| node.liveness.is_online());
    here.grain.receivers().into_iter().filter(online).collect()
}

/// Whether a copy is brought forward now. While the grain answers nowhere only the one is that it waits for, and none while its
/// new owner starts it. If that fails, nothing is gained by holding up the others.
fn may_hear(here: Here<'_>, node: NodeId) -> bool {
    match here.grain.stage {
        Stage::Quiescing { to, .. } | Stage::Released { to, .. } => {
            to == node || here.host.failed.contains_key(&Lane::Copy(here.grain.id, to))
        }
        Stage::Landing { .. } => {
            here.is_alive() || here.host.failed.contains_key(&Lane::Run(here.grain.id))
        }
        Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => true,
    }
}

/// Holds what this node and another one both have, so that the next stream between them has a base. A stream does that itself:
/// this is for one that was in a hurry or failed at it, and for an owner that was a copy before.
fn hold(
    here: Here<'_>,
    data: &DataFacts,
    node: NodeId,
    common: Guid,
    actions: &mut Vec<HostAction>,
) {
    // The state of a template is kept by the template.
    let own = |snapshot: &&Snapshot| snapshot.name.purpose != Purpose::Template;
    let is_here = data.snapshots.iter().filter(own).any(|snapshot| snapshot.guid == common);
    if is_here && !is_handed_over(here) && data.held.get(&hold_tag(node)) != Some(&common) {
        actions.push(HostAction::Hold { grain: here.grain.id, node, snapshot: common });
    }
}

fn send(here: Here<'_>, data: &DataFacts, node: NodeId, actions: &mut Vec<HostAction>) {
    let grain = here.grain.id;
    let known = here.host.copies.get(&(grain, node)).and_then(|copy| copy.snapshots.as_ref());
    let Some(known) = known else {
        actions.push(HostAction::Ask { grain, node });
        return;
    };
    let known = match template(here, data, node, known) {
        Basis::Known => known.clone(),
        Basis::Template(guid) => vec![guid],
        Basis::OnItsWay => return,
    };
    match route(&data.snapshots, &data.bookmarks, &known, |state| may_skip(here, node, state)) {
        Route::Full { to } => actions.push(HostAction::Send { grain, node, from: None, to }),
        Route::Incremental { from, to } => increment(here, data, node, (from, to), actions),
        Route::Diverged { common, to } => {
            let copy = here.host.copies.get(&(grain, node)).cloned().unwrap_or_default();
            let is_due = |asked| here.now.boot.since(asked) >= ASK_AGAIN;
            hold_base(here, data, node, common, actions);
            match to {
                // What a fork cut off its node has set aside by now. The rest is on the grain's line and not here any more: only
                // this stream tells its node so.
                Some(to) if copy.said >= OFTEN => {
                    increment(here, data, node, (common, to), actions)
                }
                Some(_) | None if copy.asked.is_none_or(is_due) => {
                    actions.push(HostAction::Ask { grain, node });
                }
                Some(_) | None => (),
            }
        }
        Route::UpToDate => {
            if let Some(newest) = data.snapshots.last() {
                hold(here, data, node, newest.guid, actions);
            }
            ask_anyway(here, node, actions);
        }
        Route::Nothing => ask_anyway(here, node, actions),
    }
}

/// Asks a copy that gets no streams, if what is known of it is old.
fn ask_anyway(here: Here<'_>, node: NodeId, actions: &mut Vec<HostAction>) {
    if is_long_unheard(here, node) {
        actions.push(HostAction::Ask { grain: here.grain.id, node });
    }
}

/// Whether what is known of a copy is so old that it is asked again.
fn is_long_unheard(here: Here<'_>, node: NodeId) -> bool {
    let (least, most) = ASK_ANYWAY_WITHIN;
    let every = here.cluster.policy_of(here.grain).replicate.every;
    let after = Span::from_ms(every.ms().saturating_mul(ASK_ANYWAY)).clamp(least, most);
    // Not all in one moment: each grain has a pause of its own, up to half as long again.
    let apart = here.grain.id.0 % u128::from(after.ms() / 2);
    let apart = u64::try_from(apart).unwrap_or_default();
    let after = Span::from_ms(after.ms().saturating_add(apart));
    let heard = here.host.copies.get(&(here.grain.id, node)).and_then(|copy| copy.heard);
    heard.is_some_and(|heard| here.now.boot.since(heard) >= after) && !is_handed_over(here)
}

/// Whether a copy can do without a state that is newer than its own. What others stand at must be on its line too, or they begin
/// far behind, or at nothing, once this copy is the owner. So all copies get all states, one after the other; but what a grain that
/// stands still waits for is not held up by what nobody has.
fn may_skip(here: Here<'_>, node: NodeId, state: Guid) -> bool {
    let grain = here.grain;
    let hurries = match replicate::traffic(Some(grain), node, Some(state)) {
        Traffic::Hurried => true,
        Traffic::Full | Traffic::Increment => false,
    };
    hurries
        && grain.receivers().into_iter().filter(|other| *other != node).all(|other| {
            let known = here.host.copies.get(&(grain.id, other));
            let known = known.and_then(|copy| copy.snapshots.as_ref());
            let is_on_its_way = here.host.busy.contains(&Lane::Copy(grain.id, other));
            known.is_some_and(|known| !known.contains(&state)) && !is_on_its_way
        })
}

fn increment(
    here: Here<'_>,
    data: &DataFacts,
    node: NodeId,
    (from, to): (Guid, Guid),
    actions: &mut Vec<HostAction>,
) {
    let grain = here.grain.id;
    hold_base(here, data, node, from, actions);
    actions.push(HostAction::Send { grain, node, from: Some(from), to });
}

/// Holds where the next stream begins. A hold that fails is not what a copy waits for.
fn hold_base(
    here: Here<'_>,
    data: &DataFacts,
    node: NodeId,
    base: Guid,
    actions: &mut Vec<HostAction>,
) {
    if !here.host.failed.contains_key(&Lane::Copy(here.grain.id, node)) {
        hold(here, data, node, base, actions);
    }
}

/// What a stream to a copy can build on.
enum Basis {
    /// On the states that the copy has.
    Known,
    /// There is no copy, but its node has the template that the grain began from.
    Template(Guid),
    /// Its node is about to get that template: then the copy shares its blocks and the stream is small.
    OnItsWay,
}

/// The snapshots that the copy of a grain on a node has; `None`: there is no copy, or nothing is known of it.
#[must_use]
pub fn copy_of<'a>(
    cluster: &Cluster,
    host: &'a HostFacts,
    grain: GrainId,
    node: NodeId,
) -> Option<&'a [Guid]> {
    let known = host.copies.get(&(grain, node))?.snapshots.as_deref()?;
    Some(known).filter(|known| !is_bare(cluster, known))
}

/// Whether what a node says that it has of a grain is no copy: a node without one names its templates.
fn is_bare(cluster: &Cluster, known: &[Guid]) -> bool {
    let of_a_template = |guid: &Guid| cluster.templates.values().any(|it| it.guid == *guid);
    known.iter().all(of_a_template)
}

/// Whether the first stream to a node can build on the template that both sides have. If nobody has it any more, everything is
/// sent.
fn template(here: Here<'_>, data: &DataFacts, node: NodeId, known: &[Guid]) -> Basis {
    let Some(template) = here.cluster.template_of(here.grain) else { return Basis::Known };
    if !is_bare(here.cluster, known)
        || data.snapshots.first().map(|first| first.guid) != Some(template.guid)
    {
        return Basis::Known;
    }
    if known.contains(&template.guid) || template.holders.contains(&node) {
        return Basis::Template(template.guid);
    }
    match templates::source(here.cluster, template, node, 0) {
        Some(_) => Basis::OnItsWay,
        None => Basis::Known,
    }
}

/// How many states a copy lacks, as far as that is known. A copy that is not there yet lacks all of them.
fn lacks(here: Here<'_>, data: &DataFacts, node: NodeId) -> Option<usize> {
    let known = here.host.copies.get(&(here.grain.id, node))?.snapshots.as_ref()?;
    let newer = data.snapshots.iter().rev();
    Some(newer.take_while(|snapshot| !known.contains(&snapshot.guid)).count())
}

/// Where the grain is about to move to, once a first stream has arrived there: from then on that copy sets the pace. While a first
/// stream is under way, which may take hours, the other copies get what their policy promises.
fn next_home(here: Here<'_>, data: &DataFacts) -> Option<NodeId> {
    match here.grain.stage {
        Stage::Warming { to, .. } => {
            let has_begun = |lacks: usize| lacks < data.snapshots.len();
            let fails = here.host.failed.contains_key(&Lane::Copy(here.grain.id, to));
            Some(to).filter(|to| !fails && lacks(here, data, *to).is_some_and(has_begun))
        }
        Stage::Settled
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Unplaced
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Cloning { .. } => None,
    }
}

/// Whether no copy that takes streams has got through what was frozen; while the grain is about to move, whether its next home has not.
fn enough_waits(
    here: Here<'_>,
    data: &DataFacts,
    receivers: &BTreeSet<NodeId>,
    next_home: Option<NodeId>,
) -> bool {
    let counts = |node: &&NodeId| {
        next_home.is_none_or(|next| next == **node)
            && !here.host.failed.contains_key(&Lane::Copy(here.grain.id, **node))
    };
    let lacks = receivers.iter().filter(counts).filter_map(|node| lacks(here, data, *node));
    lacks.min().is_some_and(|least| least >= ENOUGH_WAIT)
}

/// Looks for writes when it is time, and freezes them when there are any.
fn look(
    here: Here<'_>,
    data: &DataFacts,
    receivers: &BTreeSet<NodeId>,
    actions: &mut Vec<HostAction>,
) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    match here.grain.stage {
        // The last state is frozen by the hand-over itself.
        Stage::Quiescing { .. } | Stage::Released { .. } | Stage::Restoring { .. } => return,
        // Nothing writes before it runs.
        Stage::Landing { .. } if !here.is_alive() => return,
        Stage::Landing { .. }
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Restarting { .. }
        | Stage::Unplaced
        | Stage::Cloning { .. } => (),
    }
    let name = || next_name(epoch, data, Purpose::Replication);
    // The first copy needs a first state of the grain's own, even one that is empty or like its template.
    let own = data.snapshots.last().filter(|newest| newest.name.purpose != Purpose::Template);
    let Some(newest) = own else {
        actions.push(HostAction::Snapshot { grain, name: name() });
        return;
    };
    let next_home = next_home(here, data);
    let every = match next_home {
        Some(_) => EVERY_WHILE_MOVING,
        None => here.cluster.policy_of(here.grain).replicate.every,
    };
    // A wall clock that was set back must not stop the copies.
    let is_older =
        |span| here.now.wall < newest.created || here.now.wall.since(newest.created) >= span;
    let is_due = is_older(every)
        && (is_older(FREEZE_ANYWAY) || !enough_waits(here, data, receivers, next_home));
    match data.dirty {
        Some(dirty) if dirty.bytes.0 == 0 => {
            if here.now.boot.since(dirty.probed) >= every {
                actions.push(HostAction::Probe { grain });
            }
        }
        Some(_) if is_due => actions.push(HostAction::Snapshot { grain, name: name() }),
        None if is_due => actions.push(HostAction::Probe { grain }),
        Some(_) | None => (),
    }
}

/// Whether the grain answers nowhere because it moves: what can wait does not make that longer.
fn is_handed_over(here: Here<'_>) -> bool {
    match here.grain.stage {
        Stage::Quiescing { .. } | Stage::Released { .. } | Stage::Landing { .. } => true,
        Stage::Settled
        | Stage::Warming { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Unplaced
        | Stage::Cloning { .. } => false,
    }
}

/// Releases what no copy needs any more, and prunes.
fn upkeep(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    if is_handed_over(here) {
        return;
    }
    release(here, data, &here.grain.receivers(), actions);
    prune(here, data, actions);
}

/// Releases what is held for nodes that have nothing to do with the grain any more.
fn release(
    here: Here<'_>,
    data: &DataFacts,
    concerned: &BTreeSet<NodeId>,
    actions: &mut Vec<HostAction>,
) {
    let needed: BTreeSet<String> = concerned.iter().copied().map(hold_tag).collect();
    let surplus = data.held.keys().find(|tag| tag.starts_with("last:") && !needed.contains(*tag));
    if let Some(tag) = surplus {
        actions.push(HostAction::Release { grain: here.grain.id, tag: tag.clone() });
    }
}

/// Whether it is not known yet where a copy stands: an owner that was a copy before holds nothing for the others. One that answers is
/// asked; of one that falls silent the leader knows it.
fn is_about_to_hear(here: Here<'_>) -> bool {
    let grain = here.grain;
    here.holds_head()
        && grain.receivers().into_iter().any(|node| {
            let known = here.host.copies.get(&(grain.id, node));
            let failure = here.host.failed.get(&Lane::Copy(grain.id, node));
            let answers =
                here.cluster.nodes.get(&node).is_some_and(|node| node.liveness.is_online());
            // Of one that is gone the leader says it, or that nobody knows. One that is back says it itself: what was known of it
            // until then may be nothing.
            let waited_enough = match answers {
                true => failure.is_some_and(|failure| failure.attempts >= OFTEN),
                false => grain.away.contains_key(&node),
            };
            known.is_none_or(|copy| copy.snapshots.is_none()) && !waited_enough
        })
}

fn prune(here: Here<'_>, data: &DataFacts, actions: &mut Vec<HostAction>) {
    let grain = here.grain.id;
    // A stream that is under way needs both of its ends.
    let streaming =
        here.host.busy.iter().any(|lane| matches!(lane, Lane::Copy(of, _) if *of == grain));
    let shaping = here.host.busy.contains(&Lane::Shape(grain));
    if streaming || shaping || is_handed_over(here) || is_about_to_hear(here) {
        return;
    }
    let keep = here.cluster.policy_of(here.grain).snapshots;
    let mut snapshots = retain(here.cluster, here.grain, data, &keep);
    // Where the next streams begin, also before it is held.
    if here.holds_head() {
        let copies = here.grain.receivers();
        let copies = copies.iter().filter_map(|node| here.host.copies.get(&(grain, *node)));
        let common = |known: &Vec<Guid>| {
            let mut mine = data.snapshots.iter().rev().map(|snapshot| snapshot.guid);
            mine.find(|guid| known.contains(guid))
        };
        let bases: BTreeSet<Guid> =
            copies.filter_map(|copy| common(copy.snapshots.as_ref()?)).collect();
        let forgets = mutant::is(Mutant::PrunesBases);
        snapshots.retain(|guid| forgets || !bases.contains(guid));
    }
    // And where those end that were decided just now: both happen at once.
    let ends = actions.iter().filter_map(|action| {
        let HostAction::Send { grain: of, to, .. } = action else { return None };
        (*of == grain).then_some(*to)
    });
    let ends: BTreeSet<Guid> = ends.collect();
    snapshots.retain(|guid| !ends.contains(guid));
    if !snapshots.is_empty() {
        actions.push(HostAction::Prune { grain, snapshots });
    }
}
