//! Diverged data that were set aside: reported by their node, forked into a new grain, made the head again, discarded by a person.

use scrap_schema::command::GrainText;
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{GrainId, Name, NodeId, OperationId};
use scrap_schema::node::NodeRole;
use scrap_schema::operation::{OperationState, Phase, Summary, Work};
use scrap_schema::snapshot::Snapshot;

use super::grains::insert;
use super::operations::{begin, finish};
use super::{About, Change};
use crate::cluster::{Cluster, Grain, Key, Orphan, OrphanKey, Outcome, Stage, Tenure};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;

/// The orphan that an operation is about, if it is about one.
#[must_use]
pub fn of(work: &Work) -> Option<OrphanKey> {
    match work {
        Work::Fork { of, epoch, node, .. } | Work::Discard { of, epoch, node, .. } => {
            Some(OrphanKey { grain: *of, epoch: *epoch, node: *node })
        }
        Work::Promote { grain, epoch, node } => {
            Some(OrphanKey { grain: *grain, epoch: *epoch, node: *node })
        }
        Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Migrate { .. }
        | Work::Failover { .. }
        | Work::Drain { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. } => None,
    }
}

/// The promotion of an orphan that is under way on a grain in this operation: where it goes.
pub(crate) fn promotion(
    cluster: &Cluster,
    grain: GrainId,
    operation: OperationId,
) -> Option<OrphanKey> {
    let running = cluster.operations.get(&operation).filter(|it| !it.state.is_final())?;
    let promotes = matches!(&running.work, Work::Promote { grain: of, .. } if *of == grain);
    if promotes { self::of(&running.work) } else { None }
}

/// What people call it.
fn called(cluster: &Cluster, key: OrphanKey) -> String {
    format!("{}.{}@{}", key.grain, key.epoch, cluster.node_name(key.node))
}

/// An orphan that something can be done with: it lies on a member, and nothing else is being done with it.
fn free(cluster: &Cluster, key: OrphanKey) -> Result<&Orphan, Refusal> {
    let missing = || Refusal::NotFound { what: "orphan".to_owned(), name: called(cluster, key) };
    let orphan = cluster.orphans.get(&key).ok_or_else(missing)?;
    if let Some(node) = &orphan.left_on {
        let why = "is no member any more: what was set aside there is on its disks".to_owned();
        return Err(Refusal::NodeUnfit { node: node.to_string(), why });
    }
    let mut running = cluster.operations.values().filter(|it| !it.state.is_final());
    match running.find(|operation| of(&operation.work) == Some(key)) {
        Some(operation) => Err(Refusal::InUse {
            what: "orphan".to_owned(),
            name: called(cluster, key),
            by: format!("operation {}, a {}", operation.id, operation.work.word()),
        }),
        None => Ok(orphan),
    }
}

/// That the node where an orphan lies runs grains.
fn runs_grains(cluster: &Cluster, node: NodeId) -> Result<(), Refusal> {
    let node = cluster.nodes.get(&node).ok_or_else(|| Refusal::no_node(node))?;
    match node.role {
        NodeRole::Data => Ok(()),
        NodeRole::Storage | NodeRole::Witness => Err(Refusal::NodeUnfit {
            node: node.name.to_string(),
            why: "does not run grains".to_owned(),
        }),
    }
}

/// What the node of an orphan says of it is about now, if the grain is still known.
fn up_to_date(change: &Change<'_>, grain: GrainId, seen: Option<u64>) -> Result<(), Refusal> {
    let grain = change.cluster.grains.get(&grain);
    grain.map_or(Ok(()), |grain| change.up_to_date(grain, seen))
}

/// What was said before this of what is set aside of a grain is out of date now.
fn outdate(change: &mut Change<'_>, grain: GrainId) {
    // There may be none any more.
    let _ = change.grain(grain);
}

pub(super) fn kept(
    change: &mut Change<'_>,
    orphan: Orphan,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    let key = orphan.key;
    // The same place can have other data later.
    let known = change.cluster.orphans.get(&key);
    if known.is_some_and(|known| known.head.guid == orphan.head.guid) {
        return Ok(Outcome::Unchanged);
    }
    up_to_date(change, key.grain, seen)?;
    let discard = known.and_then(|known| known.discard);
    outdate(change, key.grain);
    let message = format!(
        "grain {}: node {} had newer data of epoch {}; they are kept aside there ({} that nobody else has)",
        change.cluster.grain_name(key.grain),
        change.cluster.node_name(key.node),
        key.epoch,
        orphan.newer.rounded(),
    );
    if let Some(operation) = discard {
        let message = "other data lie in its place by now".to_owned();
        let summary = Summary { message, ..Summary::default() };
        finish(change, operation, OperationState::Failed, &summary)?;
    }
    if !mutant::is(Mutant::LosesOrphans) {
        change.cluster.orphans.insert(key, orphan);
    }
    change.touch(Key::Orphan(key));
    change.tell(Topic::Orphan, Severity::Warning, about(key), message);
    Ok(Outcome::Done)
}

fn about(key: OrphanKey) -> About {
    About { grain: Some(key.grain), node: Some(key.node), operation: None }
}

/// Its node has removed it because a person wanted that, or has made it the head of its grain.
pub(super) fn gone(
    change: &mut Change<'_>,
    key: OrphanKey,
    head_again: bool,
    seen: Option<u64>,
) -> Result<Outcome, Refusal> {
    if !change.cluster.orphans.contains_key(&key) {
        return Ok(Outcome::Unchanged);
    }
    up_to_date(change, key.grain, seen)?;
    outdate(change, key.grain);
    let Some(orphan) = change.cluster.orphans.remove(&key) else { return Ok(Outcome::Unchanged) };
    change.touch(Key::Orphan(key));
    let (grain, node) = (change.cluster.grain_name(key.grain), change.cluster.node_name(key.node));
    let newer = orphan.newer.rounded();
    let what = format!("what node {node} kept aside of grain {grain}, epoch {}", key.epoch);
    let (severity, message) = match head_again {
        true => (Severity::Info, format!("{what}, is its head again")),
        false => (
            Severity::Warning,
            format!("{what}, is removed for good: {newer} that nobody else had"),
        ),
    };
    change.tell(Topic::Orphan, severity, about(key), message.clone());
    if let Some(operation) = orphan.discard {
        let state = match head_again {
            true => OperationState::Failed,
            false => OperationState::Succeeded,
        };
        finish(change, operation, state, &Summary { message, ..Summary::default() })?;
    }
    Ok(Outcome::Done)
}

/// A new grain that begins as what was set aside, where that lies.
pub(super) fn fork(
    change: &mut Change<'_>,
    id: OperationId,
    work: &Work,
    grain: GrainId,
    text: &GrainText,
) -> Result<(), Refusal> {
    let Some(key) = of(work) else { return Err(Refusal::out_of_date("it is about no orphan")) };
    let head = free(change.cluster, key)?.head.clone();
    runs_grains(change.cluster, key.node)?;
    let (snapshot, orphan) = (Some(head.guid), Some(key.epoch));
    let stage = Stage::Cloning { operation: id, from: key.grain, snapshot, orphan };
    insert(change, grain, text, stage)?;
    begin(change, id, work.clone(), &text.name, Phase::Data);
    let armed = change.look(grain).map(|new| change.cluster.needs_lease(new))?;
    let new = change.grain(grain)?;
    new.operation = Some(id);
    new.owner = Some(key.node);
    // Its line begins with a state of that epoch: what it freezes itself is newer by epoch too.
    new.epoch = new.epoch.next().max(key.epoch).max(head.name.epoch);
    new.armed = armed;
    new.tenures.push(Tenure { epoch: new.epoch, node: key.node, base: None });
    Ok(())
}

/// From now on its node removes it.
pub(super) fn discard(
    change: &mut Change<'_>,
    id: OperationId,
    work: &Work,
    by: Option<&str>,
) -> Result<(), Refusal> {
    let Some(key) = of(work) else { return Err(Refusal::out_of_date("it is about no orphan")) };
    free(change.cluster, key)?;
    let target: Name = match change.cluster.grains.get(&key.grain) {
        Some(grain) => grain.name.clone(),
        // Nobody else is called so.
        None => key.grain.to_string().parse().map_err(|_| Refusal::no_grain(key.grain))?,
    };
    begin(change, id, work.clone(), &target, Phase::Data);
    if let Some(orphan) = change.cluster.orphans.get_mut(&key) {
        orphan.discard = Some(id);
    }
    change.touch(Key::Orphan(key));
    let by = by.map_or_else(String::new, |by| format!(" ({by})"));
    let message = format!(
        "what node {} kept aside of grain {}, epoch {}, is removed because a person wants that{by}",
        change.cluster.node_name(key.node),
        change.cluster.grain_name(key.grain),
        key.epoch
    );
    change.tell(Topic::Orphan, Severity::Warning, about(key), message);
    Ok(())
}

/// Gives up what a finished operation would have removed, if it has not.
pub(super) fn keep(change: &mut Change<'_>, operation: OperationId) {
    let kept = change.cluster.orphans.values_mut().filter(|it| it.discard == Some(operation));
    let keys: Vec<OrphanKey> = kept
        .map(|orphan| {
            orphan.discard = None;
            orphan.key
        })
        .collect();
    for key in keys {
        change.touch(Key::Orphan(key));
    }
}

/// Whether what was set aside can become the head of its grain. The grain's own state is asked by the caller.
pub(super) fn promotable(cluster: &Cluster, work: &Work) -> Result<(), Refusal> {
    let Some(key) = of(work) else { return Err(Refusal::out_of_date("it is about no orphan")) };
    free(cluster, key)?;
    runs_grains(cluster, key.node)
}

/// Whether a grain may go over to what was set aside now: its owner has let go of it, or cannot run it any more.
pub(super) fn yields(
    cluster: &Cluster,
    grain: &Grain,
    to: NodeId,
    operation: OperationId,
    base: Option<&Snapshot>,
) -> Result<(), Refusal> {
    let key = promotion(cluster, grain.id, operation).filter(|key| key.node == to);
    let orphan = key.and_then(|key| cluster.orphans.get(&key));
    if orphan.is_none_or(|orphan| Some(orphan.head.guid) != base.map(|base| base.guid)) {
        return Err(Refusal::out_of_date("nobody asked for that"));
    }
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    let has_stopped = match &grain.stage {
        Stage::Released { operation: of, to: promised, .. } => *of == operation && *promised == to,
        Stage::Settled => owner.is_some_and(|owner| grain.has_surely_stopped_with(&owner.liveness)),
        Stage::Unplaced
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Landing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => false,
    };
    match has_stopped {
        true => Ok(()),
        false => Err(Refusal::out_of_date("its owner may still run it")),
    }
}
