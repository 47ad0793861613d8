//! What would become of data that were set aside, and of the grain that they are of.

use scrap_schema::command::{Command, GrainText};
use scrap_schema::id::{GrainId, NodeId, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::time::{Now, Timestamp};

use super::{Preview, tried};
use crate::cluster::{Cluster, Grain, Orphan, OrphanKey};
use crate::lead::{View, WaitReason};
use crate::observed::Observed;

/// Work on an orphan: why the state refuses it, and what it waits for if its node is away.
fn asked(cluster: &Cluster, now: Now, work: Work, text: Option<GrainText>) -> Preview {
    let operation = OperationId(u128::MAX);
    let command = Command::StartOperation { operation, work, text };
    match tried(cluster, now, command) {
        Ok(_) => Preview::default(),
        Err(refusal) => Preview::refused(refusal),
    }
}

/// The first step, if the node has to come back first.
fn wait(view: View<'_>, node: NodeId) -> Option<String> {
    let away = WaitReason::OrphanAway { node: view.cluster.node_name(node) };
    (!view.is_online(node)).then(|| format!("wait: {away}"))
}

/// What was set aside becomes the head of its grain.
#[must_use]
pub fn promote(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    grain: &Grain,
    orphan: &Orphan,
) -> Preview {
    let view = View { cluster, observed, now };
    let OrphanKey { grain: of, epoch, node } = orphan.key;
    let mut preview = asked(cluster, now, Work::Promote { grain: of, epoch, node }, None);
    let (name, node) = (&grain.name, cluster.node_name(orphan.key.node));
    let owner = grain.owner.map(|owner| cluster.node_name(owner)).unwrap_or_default();
    let mut steps: Vec<String> = wait(view, orphan.key.node).into_iter().collect();
    steps.push(match grain.started {
        Some(_) => format!("stop grain {name} on node {owner} and freeze its last state"),
        None => format!("freeze the last state of grain {name} on node {owner}"),
    });
    steps.push(format!(
        "set aside on node {owner} what it has now: {}",
        beyond(view, grain, orphan)
    ));
    let copies = view
        .cluster
        .nodes
        .values()
        .map(|node| node.id)
        .filter(|node| grain.standbys.contains(node) && *node != orphan.key.node);
    let copies: Vec<String> = copies.map(|node| cluster.node_name(node)).collect();
    if !copies.is_empty() {
        steps
            .push(format!("set aside on {} what the copies there have of that", copies.join(", ")));
    }
    steps.push(format!(
        "make what node {node} has kept aside its head, epoch {}: the state of {}, with {} that nobody else has",
        grain.epoch.next(),
        orphan.head.created,
        orphan.newer.rounded()
    ));
    steps.push(match grain.wants_to_run() {
        true => format!("start it on node {node}"),
        false => format!("leave it stopped on node {node}"),
    });
    steps.push(format!("make its copies anew; until then only node {node} has these data"));
    preview.steps = steps;
    preview.expected_downtime_ms = grain.started.map(|_| super::SWITCH_MS);
    preview
}

/// What the grain has that what was set aside has not, in words.
fn beyond(view: View<'_>, grain: &Grain, orphan: &Orphan) -> String {
    let base = orphan.base.and_then(|guid| {
        let mut bases = grain.tenures.iter().filter_map(|tenure| tenure.base.as_ref());
        bases.find(|base| base.guid == guid)
    });
    let since = match base {
        Some(base) => format!("everything that was written since {}", base.created),
        None => "all of it".to_owned(),
    };
    let Some(newest) = newest(view, grain) else { return since };
    let apart = match newest >= orphan.head.created {
        true => format!("{} later", newest.since(orphan.head.created).rounded()),
        false => format!("{} earlier", orphan.head.created.since(newest).rounded()),
    };
    format!("{since}; it ends {apart} than what takes its place")
}

/// Up to when the grain has data, as far as its owner has said.
fn newest(view: View<'_>, grain: &Grain) -> Option<Timestamp> {
    let owner = grain.owner?;
    if grain.started.is_some() && view.is_online(owner) {
        return Some(view.observed.wall_of(owner, view.now));
    }
    let report = view.observed.report(owner, grain.id)?;
    Some(report.data.as_ref()?.head.as_ref()?.created)
}

/// What was set aside is removed.
#[must_use]
pub fn discard(cluster: &Cluster, observed: &Observed, now: Now, orphan: &Orphan) -> Preview {
    let view = View { cluster, observed, now };
    let OrphanKey { grain: of, epoch, node } = orphan.key;
    let mut preview = asked(cluster, now, Work::Discard { of, epoch, node, by: None }, None);
    let (name, at) = (cluster.grain_name(of), cluster.node_name(node));
    let (newer, used) = (orphan.newer.rounded(), orphan.used.rounded());
    preview.steps.extend(wait(view, node));
    preview.steps.push(format!(
        "remove for good what node {at} has kept aside of grain {name}, epoch {epoch}: its state of {}",
        orphan.head.created
    ));
    preview.steps.push(format!("{newer} that nobody else has are lost"));
    preview.steps.push(format!("about {used} become free on node {at}"));
    preview
}

/// A new grain is made of what was set aside.
#[must_use]
pub fn fork(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    orphan: &Orphan,
    text: &GrainText,
) -> Preview {
    let view = View { cluster, observed, now };
    let OrphanKey { grain: of, epoch, node } = orphan.key;
    let work = Work::Fork { grain: GrainId(u128::MAX), of, epoch, node };
    let mut preview = asked(cluster, now, work, Some(text.clone()));
    let (name, at) = (&text.name, cluster.node_name(node));
    preview.steps.extend(wait(view, node));
    preview
        .steps
        .push(format!("make grain {name} on node {at}, with the data of {}", orphan.head.created));
    if text.spec.running {
        preview.steps.push(format!("start it on node {at}"));
    }
    preview.steps.push("what was set aside stays".to_owned());
    preview
}
