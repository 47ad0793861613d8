//! Decides whether a grain whose owner is gone is started elsewhere, where, and what that loses.
//!
//! Only from a state that is complete on another node, never from a diverged one, never before the owner's lease has surely ended.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{Epoch, NodeId};
use scrap_schema::operation::{Loss, Operation, Work};
use scrap_schema::snapshot::{Purpose as Why, Snapshot};
use scrap_schema::spec::FailoverMode;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use crate::apply::attested;
use crate::cluster::{Declined, Grain, Liveness, Node, Part};
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::lease::brake;
use crate::mutant::{self, Mutant};
use crate::observed::Mark;
use crate::place::{Loads, Purpose, Wanted};

/// How long a new leader waits for the reports of all reachable copies before it chooses among those it has.
const CHOOSE_AFTER: Span = Span::from_secs(5);
/// How long a node is given to make its newer data a copy before an older one is taken, beyond the time of a countdown.
const SETTLED_WITHIN: Span = Span::from_secs(30);

/// How long an owner is waited for that is not back after everything was off.
const RETURNS_WITHIN: Span = Span::from_secs(180);
/// So many grains are started on one node at once after failovers: more would all be slow together.
const PROMOTIONS_MAX: usize = 4;
/// What has not answered so long after its failover holds up no other one.
const PROMOTION_TAKES: Span = Span::from_secs(60);

/// A copy that could be promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) node: NodeId,
    pub(crate) head: Snapshot,
    pub(crate) loss: Loss,
}

/// The failover that a person asked for, if there is one.
fn asked<'a>(
    view: View<'a>,
    grain: &Grain,
) -> Option<(&'a Operation, Option<NodeId>, Option<Span>)> {
    let operation = grain.operation.and_then(|id| view.cluster.operations.get(&id))?;
    match &operation.work {
        Work::Failover { to, accept_loss, .. } => Some((operation, *to, *accept_loss)),
        Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Migrate { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => None,
    }
}

pub(crate) fn decide(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &mut Loads,
    plan: &mut Plan,
) {
    if grain.trashed_until.is_some() || (!grain.wants_to_run() && asked(view, grain).is_none()) {
        return;
    }
    match choose(view, grain, owner, loads) {
        Ok(copy) if asked(view, grain).is_none() && is_crowded(view, copy.node, plan) => {
            let node = view.cluster.node_name(copy.node);
            plan.wait(Subject::Grain(grain.id), WaitReason::TakesTurn { node });
        }
        Ok(copy) => {
            loads.will_run(copy.node, grain);
            plan.commands.push(Command::AssignGrain {
                grain: grain.id,
                epoch: grain.epoch,
                to: copy.node,
                base: Some(copy.head),
                cause: AssignCause::Failover { loss: Some(copy.loss) },
            });
        }
        Err(reason) => plan.wait(Subject::Grain(grain.id), reason),
    }
}

/// Whether as many grains as is good are being started on a node because their owners are gone.
fn is_crowded(view: View<'_>, node: NodeId, plan: &Plan) -> bool {
    let begun = view.cluster.grains.values().filter(|grain| {
        let failover = grain.last_failover.as_ref().filter(|it| it.epoch == grain.epoch);
        let lately = failover.is_some_and(|it| view.now.wall.since(it.at) < PROMOTION_TAKES);
        grain.owner == Some(node) && grain.started.is_none() && lately
    });
    let decided = plan.commands.iter().filter(|command| {
        matches!(command, Command::AssignGrain { to, cause: AssignCause::Failover { .. }, .. } if *to == node)
    });
    begun.count().saturating_add(decided.count()) >= PROMOTIONS_MAX
}

/// The copy to promote now, or why none.
pub(crate) fn choose(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &Loads,
) -> Result<Copy, WaitReason> {
    let written = allowed(view, grain, owner)?;
    let best = best(view, grain, owner, written, loads)?;
    if let Some(node) = turning_into_a_copy(view, grain, &best.head, loads) {
        return Err(WaitReason::CopyUnsettled { node: view.cluster.node_name(node) });
    }
    let accepted = asked(view, grain).and_then(|(_, _, accepted)| accepted);
    let limit = accepted.unwrap_or(view.cluster.policy_of(grain).failover.max_data_loss);
    let loss = Span::from_ms(best.loss.window_ms);
    if loss > limit && !mutant::is(Mutant::AnyLoss) {
        let node = view.cluster.node_name(best.node);
        return Err(WaitReason::LossTooLarge { loss, limit, node });
    }
    if !all_heard(view, grain) {
        return Err(WaitReason::CopiesUnheard);
    }
    Ok(best)
}

/// A node that could run the grain and is about to have a newer copy than what would be promoted: it gave the grain away a moment
/// ago, or sets something aside. Whether its data are the grain's is known when it has done that; it is not waited for for ever.
fn turning_into_a_copy(
    view: View<'_>,
    grain: &Grain,
    than: &Snapshot,
    loads: &Loads,
) -> Option<NodeId> {
    let timing = view.cluster.timing();
    let waited = view.observed.for_how_long(Mark::Ownerless(grain.id), view.now.boot);
    // The countdown is a part of that, unless it was a goodbye.
    let countdown = timing.tick.ms().saturating_mul(timing.ticks.into());
    if waited.ms() >= countdown.saturating_add(SETTLED_WITHIN.ms()) {
        return None;
    }
    let to = asked(view, grain).and_then(|(_, to, _)| to);
    let wanted = Wanted::of(grain, Purpose::Run);
    let fit = loads.rank_among(view.cluster, wanted, places(view, grain).into_iter()).fit;
    let mut nodes = fit.iter().map(|candidate| candidate.node);
    nodes.find(|node| {
        let report = view.observed.report(*node, grain.id).and_then(|report| report.data.as_ref());
        let Some(data) = report else { return false };
        let Some(head) = &data.head else { return false };
        let is_copy = !data.owner && on_main_line(grain, head);
        to.is_none_or(|to| to == *node)
            && !is_copy
            && settled(grain, head).is_some_and(|settled| settled > order(than))
    })
}

/// Up to where data that end at `head` are the grain's; `None`: nobody remembers.
fn settled(grain: &Grain, head: &Snapshot) -> Option<(scrap_schema::id::Epoch, u64)> {
    let mut until = order(head);
    // One step at most for each epoch: what was left behind had gone on from an earlier one.
    for tenure in grain.tenures.iter().rev() {
        match grain.part(until.0) {
            Part::Whole => break,
            Part::Until(base) => {
                until = until.min(order(base));
                break;
            }
            Part::Nothing if tenure.epoch > until.0 => (),
            Part::Nothing => {
                let own_head = (Epoch(tenure.epoch.0.saturating_sub(1)), u64::MAX);
                until = tenure.base.as_ref().map_or(own_head, order);
            }
        }
    }
    grain.remembers(head.name.epoch).then_some(until)
}

/// What would be promoted if no limit of loss stood against it.
pub(crate) fn within_any_limit(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &Loads,
) -> Result<Copy, WaitReason> {
    best(view, grain, owner, allowed(view, grain, owner)?, loads)
}

/// The freshest copy on a node that can take the grain, whatever it would lose.
fn best(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    written: Written,
    loads: &Loads,
) -> Result<Copy, WaitReason> {
    let copies = copies(view, grain, written);
    let to = asked(view, grain).and_then(|(_, to, _)| to);
    let wanted = Wanted::of(grain, Purpose::Run);
    let holders = copies.iter().map(|copy| copy.node);
    let ranking = loads.rank_among(view.cluster, wanted, holders);
    let score = |node: NodeId| {
        ranking.fit.iter().find(|candidate| candidate.node == node).map(|candidate| candidate.score)
    };
    let usable = copies.iter().filter(|copy| to.is_none_or(|to| to == copy.node));
    let usable = usable.filter(|copy| score(copy.node).is_some());
    // Freshest first; among equals the better place.
    let worst = mutant::is(Mutant::OldestCopy);
    let best = usable.min_by_key(|copy| {
        let last = worst.then(|| order(&copy.head));
        (
            last,
            Reverse(order(&copy.head)),
            copy.loss.window_ms,
            Reverse(score(copy.node)),
            copy.node,
        )
    });
    best.cloned().ok_or_else(|| match (copies.is_empty(), to) {
        (true, _) => WaitReason::NoCopy { owner: view.cluster.node_name(owner) },
        (false, Some(to)) if copies.iter().all(|copy| copy.node != to) => {
            let refusals = format!("{} has no copy of it", view.cluster.node_name(to));
            WaitReason::NoPlace { refusals }
        }
        (false, _) => WaitReason::NoPlace { refusals: ranking.refusals(view.cluster) },
    })
}

fn order(snapshot: &Snapshot) -> (scrap_schema::id::Epoch, u64) {
    (snapshot.name.epoch, snapshot.name.seq)
}

/// Whether anything may be decided about this grain at all. Returns until when the owner may have written.
fn allowed(view: View<'_>, grain: &Grain, owner: NodeId) -> Result<Written, WaitReason> {
    let name = view.cluster.node_name(owner);
    let Some(node) = view.cluster.nodes.get(&owner) else {
        return Err(WaitReason::NoCopy { owner: name });
    };
    let disarmed =
        view.cluster.disarmed(Some(owner)).is_some() && !mutant::is(Mutant::GivesDisarmed);
    if disarmed && asked(view, grain).is_none() {
        return Err(WaitReason::Disarmed { owner: name });
    }
    if grain.declined == Declined::Sure {
        if let Some(silent) = brake(view.cluster).filter(|_| asked(view, grain).is_none()) {
            return Err(WaitReason::Brake { silent });
        }
        // Nobody wrote in this epoch: what was lost is what the failover before lost.
        let before = grain.last_failover.as_ref().and_then(|failover| failover.loss.as_ref());
        return Ok(Written {
            until: before.map_or(view.now.wall, |loss| loss.until),
            heard: before.and_then(|loss| loss.heard),
        });
    }
    if !node.liveness.is_surely_stopped() {
        return Err(WaitReason::OwnerSilent { owner: name });
    }
    let takes = mutant::is(Mutant::TakesUnarmed);
    if !grain.armed && !attested(view.cluster, grain) && !takes {
        return Err(WaitReason::NeedsWord { owner: name });
    }
    let written = written(view, grain, node);
    if asked(view, grain).is_some() {
        return Ok(written);
    }
    let policy = view.cluster.policy_of(grain).failover;
    match policy.mode {
        FailoverMode::Manual if takes => (),
        FailoverMode::Manual => return Err(WaitReason::ManualPolicy { owner: name }),
        FailoverMode::Auto => (),
    }
    if let Some(silent) = brake(view.cluster) {
        return Err(WaitReason::Brake { silent });
    }
    if let Some(left) = returning(view, grain, node) {
        return Err(WaitReason::OwnerAwaited { owner: name, left });
    }
    match patience(view, grain, node) {
        Some(left) => Err(WaitReason::GraceOfPolicy { left }),
        None => Ok(written),
    }
}

/// How long an owner is waited for that is not back after everything was off, if it still is: it has the newest data, and a copy is
/// older by what was written last.
pub(crate) fn returning(view: View<'_>, grain: &Grain, owner: &Node) -> Option<Span> {
    let since = owner.awaited.filter(|_| !mutant::is(Mutant::AwaitsNobody))?;
    // A person has seen that it does not come back.
    if owner.off.is_some() {
        return None;
    }
    let by_mark = view.observed.for_how_long(Mark::Ownerless(grain.id), view.now.boot);
    let waited = view.now.wall.since(since).max(by_mark);
    (waited < RETURNS_WITHIN)
        .then(|| Span::from_ms(RETURNS_WITHIN.ms().saturating_sub(waited.ms())))
}

/// How long the policy still gives the owner to come back, if it does.
pub(crate) fn patience(view: View<'_>, grain: &Grain, owner: &Node) -> Option<Span> {
    let after = view.cluster.policy_of(grain).failover.after;
    if mutant::is(Mutant::NoPatience) {
        return None;
    }
    let last_heard = match owner.liveness {
        Liveness::Suspect { last_heard, .. }
        | Liveness::Fenced { last_heard }
        | Liveness::Away { last_heard } => last_heard,
        Liveness::Joining | Liveness::Online => return Some(after),
    };
    // By the wall clock, so that a change of leader does not start it anew; by this leader's own if that says more.
    let by_wall = view.now.wall.since(last_heard);
    let by_mark = view.observed.for_how_long(Mark::Ownerless(grain.id), view.now.boot);
    // One that has spoken since is about to register: what is silence to the cluster may have been that of this leader, which was cut off
    // itself. Not for ever: it may speak and not get any further.
    let spoke = view.observed.nodes.get(&owner.id).filter(|heard| Some(heard.boot) == owner.boot);
    let spoke = spoke.map(|heard| view.now.boot.since(heard.last));
    let returns = spoke.filter(|_| by_mark.ms() < after.ms().saturating_mul(2));
    let silent = by_wall.max(by_mark);
    let gone = returns.map_or(silent, |spoke| silent.min(spoke));
    (gone < after).then(|| Span::from_ms(after.ms().saturating_sub(gone.ms())))
}

/// Whether there is a copy at all that could be promoted if its owner were off.
pub(crate) fn has_copy(view: View<'_>, grain: &Grain, owner: &Node) -> bool {
    !copies(view, grain, written(view, grain, owner)).is_empty()
}

/// Whether every reachable node that should have a copy has told this leader everything, or has had time to.
fn all_heard(view: View<'_>, grain: &Grain) -> bool {
    let mut standbys = grain.standbys.iter().filter(|node| view.is_online(**node));
    let heard = standbys.all(|node| view.observed.nodes.get(node).is_some_and(|heard| heard.full));
    heard || view.now.boot.since(view.observed.since) >= CHOOSE_AFTER
}

/// Until when a node may have written to a grain, by its own wall clock.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// At most.
    until: Timestamp,
    /// When it was last heard of, if it is silent.
    heard: Option<Timestamp>,
}

fn written(view: View<'_>, grain: &Grain, node: &Node) -> Written {
    let timing = view.cluster.timing();
    let silent = match node.liveness {
        // What runs under the lease is certainly dead by then.
        Liveness::Suspect { last_heard, .. } | Liveness::Fenced { last_heard } if grain.armed => {
            last_heard + timing.lease + timing.kill
        }
        Liveness::Away { last_heard } => last_heard,
        // Without a lease nothing but a person's word ends it, and the word is given now.
        Liveness::Suspect { .. }
        | Liveness::Fenced { .. }
        | Liveness::Joining
        | Liveness::Online => view.observed.wall_of(node.id, view.now),
    };
    let heard = match node.liveness {
        Liveness::Suspect { last_heard, .. }
        | Liveness::Fenced { last_heard }
        | Liveness::Away { last_heard } => Some(last_heard),
        Liveness::Joining | Liveness::Online => None,
    };
    Written { until: node.off.as_ref().map_or(silent, |off| silent.min(off.until)), heard }
}

/// Nodes that can be reached and were told to keep a copy, or owned it once: nobody else can have one that counts. If its owner was
/// left behind, the same machine may be here again as another node: then whoever has data of it.
fn places(view: View<'_>, grain: &Grain) -> BTreeSet<NodeId> {
    let places = grain.standbys.iter().copied().chain(grain.tenures.iter().map(|it| it.node));
    let mut places: BTreeSet<NodeId> = places.filter(|node| view.is_online(*node)).collect();
    let owner = grain.owner.and_then(|owner| view.cluster.nodes.get(&owner));
    if owner.is_some_and(|owner| view.cluster.left_behind(owner)) {
        let has = |node: &NodeId| view.observed.report(*node, grain.id).is_some();
        let all = view.cluster.nodes.keys().copied();
        places.extend(all.filter(|node| view.is_online(*node) && has(node)));
    }
    places
}

/// Every complete copy on the grain's own line, with what its promotion would lose.
fn copies(view: View<'_>, grain: &Grain, written: Written) -> Vec<Copy> {
    let mut copies = Vec::new();
    for node in places(view, grain) {
        let report = view.observed.report(node, grain.id).and_then(|report| report.data.as_ref());
        let Some(data) = report.filter(|data| !data.owner) else { continue };
        let Some(head) = data.head.clone().filter(|head| on_main_line(grain, head)) else {
            continue;
        };
        // The owner may have seen that nothing was written since that snapshot.
        let seen = view.observed.copy(grain, node).filter(|copy| copy.common == Some(head.guid));
        let current_to = seen.and_then(|copy| copy.current_to).unwrap_or(head.created);
        let from = current_to.max(head.created);
        let late = mutant::is(Mutant::TellsNoLoss);
        let from = if late { written.until.max(from) } else { from };
        let until = written.until.max(from);
        let loss = Loss {
            from,
            until,
            window_ms: until.since(from).ms(),
            heard: written.heard,
            last_known_bytes: seen.map(|copy| copy.pending),
        };
        copies.push(Copy { node, head, loss });
    }
    copies
}

/// A state that a later epoch did not leave behind: everything beyond a fork is diverged. The end of what is being set aside is
/// none, or half-done work would be taken for the freshest copy, unless it became the head again.
pub(crate) fn on_main_line(grain: &Grain, head: &Snapshot) -> bool {
    if mutant::is(Mutant::TakesDiverged) {
        return true;
    }
    let is_whole = head.name.purpose != Why::Orphan || grain.is_base(head.guid);
    is_whole
        && grain.remembers(head.name.epoch)
        && match grain.part(head.name.epoch) {
            Part::Whole => true,
            Part::Until(base) => head.name.seq < base.name.seq || head.guid == base.guid,
            Part::Nothing => false,
        }
}

#[cfg(test)]
mod tests;
