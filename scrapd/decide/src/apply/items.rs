//! A set of objects applied at once: all of them, or none.

use std::collections::BTreeSet;

use scrap_schema::api::{ApplyAction, ApplyResult};
use scrap_schema::command::{ApplyItem, Command, GrainText};
use scrap_schema::id::{GrainId, Name, OperationId};
use scrap_schema::spec::Labels;
use scrap_schema::time::Timestamp;

use super::{Change, grains, networks, nodes, policies};
use crate::cluster::{Cluster, Grain, Outcome};
use crate::refusal::Refusal;

pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    let Command::Apply { items, prune, keep_until, unchanged_after } = command else {
        return Err(Refusal::out_of_date("not a set of objects"));
    };
    let prune = prune.as_ref();
    if let Some(index) = *unchanged_after {
        unchanged(change.cluster, items, prune, index)?;
    }
    // All or none: what a refused item has left behind is dropped with this copy of the state.
    let before = change.cluster.clone();
    let touched = change.touched.clone();
    let events = change.events.len();
    let result = all(change, items, prune, *keep_until);
    if result.is_err() {
        *change.cluster = before;
        change.touched = touched;
        change.events.truncate(events);
    }
    result
}

fn all(
    change: &mut Change<'_>,
    items: &[ApplyItem],
    prune: Option<&Labels>,
    keep_until: Timestamp,
) -> Result<Outcome, Refusal> {
    let mut results = Vec::with_capacity(items.len());
    // Policies and networks first: a grain of the same set may use one.
    for item in items {
        match item {
            ApplyItem::Policy { name, policy } => {
                let known = change.cluster.policies.contains_key(name);
                let outcome = policies::put(change, name, None, policy)?;
                results.push(result("Policy", name, known, &outcome, None));
            }
            ApplyItem::Network { name, network } => {
                let known = change.cluster.networks.contains_key(name);
                let outcome = networks::put(change, name, None, network)?;
                results.push(result("Network", name, known, &outcome, None));
            }
            ApplyItem::Grain { .. } | ApplyItem::Node { .. } => (),
        }
    }
    let mut named = BTreeSet::new();
    for item in items {
        match item {
            ApplyItem::Policy { .. } | ApplyItem::Network { .. } => (),
            ApplyItem::Node { name, labels, spec } => {
                let node = change.cluster.node_named(name).ok_or_else(|| Refusal::no_node(name))?;
                let id = node.id;
                let outcome = nodes::update(change, id, None, labels, spec)?;
                results.push(result("Node", name, true, &outcome, None));
            }
            ApplyItem::Grain { new_id, operation, text } => {
                named.insert(text.name.clone());
                results.push(grain(change, *new_id, *operation, text)?);
            }
        }
    }
    if let Some(labels) = prune {
        results.extend(prune_others(change, labels, &named, keep_until)?);
    }
    Ok(Outcome::Items { items: results })
}

/// Refuses when anything in the set was changed after an index.
fn unchanged(
    cluster: &Cluster,
    items: &[ApplyItem],
    prune: Option<&Labels>,
    index: u64,
) -> Result<(), Refusal> {
    let named = items.iter().filter_map(|item| match item {
        ApplyItem::Grain { text, .. } => {
            let grain = cluster.grain_named(&text.name)?;
            Some(("grain", &grain.name, grain.modified))
        }
        ApplyItem::Policy { name, .. } => {
            Some(("policy", name, cluster.policies.get(name)?.modified))
        }
        ApplyItem::Network { name, .. } => {
            Some(("network", name, cluster.networks.get(name)?.modified))
        }
        ApplyItem::Node { name, .. } => Some(("node", name, cluster.node_named(name)?.modified)),
    });
    let pruned = cluster.grains.values().filter(|grain| prune.is_some_and(|it| has_all(grain, it)));
    let pruned = pruned.map(|grain| ("grain", &grain.name, grain.modified));
    match named.chain(pruned).find(|(_, _, modified)| *modified > index) {
        Some((what, name, is)) => {
            Err(Refusal::Changed { what: what.to_owned(), name: name.clone(), is, have: index })
        }
        None => Ok(()),
    }
}

/// Whether a grain that is not in the trash has all the labels.
fn has_all(grain: &Grain, labels: &Labels) -> bool {
    grain.trashed_until.is_none()
        && labels.iter().all(|(key, value)| grain.labels.get(key) == Some(value))
}

fn grain(
    change: &mut Change<'_>,
    new_id: GrainId,
    operation: OperationId,
    text: &GrainText,
) -> Result<ApplyResult, Refusal> {
    let Some(id) = change.cluster.names.get(&text.name).copied() else {
        let outcome = grains::create(change, new_id, operation, text)?;
        return Ok(result("Grain", &text.name, false, &outcome, Some(operation)));
    };
    let outcome = grains::update(change, id, None, &text.labels, &text.annotations, &text.spec)?;
    Ok(result("Grain", &text.name, true, &outcome, None))
}

fn result(
    kind: &str,
    name: &Name,
    known: bool,
    outcome: &Outcome,
    operation: Option<OperationId>,
) -> ApplyResult {
    let action = match (known, outcome) {
        (_, Outcome::Unchanged) => ApplyAction::Unchanged,
        (false, _) => ApplyAction::Created,
        (true, _) => ApplyAction::Updated,
    };
    ApplyResult {
        kind: kind.to_owned(),
        name: name.clone(),
        action,
        operation,
        changes: Vec::new(),
    }
}

/// Puts every grain that has all the labels and is not in the set into the trash.
fn prune_others(
    change: &mut Change<'_>,
    labels: &Labels,
    named: &BTreeSet<Name>,
    keep_until: Timestamp,
) -> Result<Vec<ApplyResult>, Refusal> {
    let grains = change.cluster.grains.values();
    let others = grains.filter(|grain| has_all(grain, labels) && !named.contains(&grain.name));
    let others: Vec<_> = others.map(|grain| (grain.id, grain.name.clone())).collect();
    let mut results = Vec::with_capacity(others.len());
    for (id, name) in others {
        grains::trash(change, id, None, keep_until)?;
        results.push(ApplyResult {
            kind: "Grain".to_owned(),
            name,
            action: ApplyAction::Pruned,
            operation: None,
            changes: Vec::new(),
        });
    }
    Ok(results)
}
