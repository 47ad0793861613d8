//! Commands for work on network and machines: nothing fails over by itself meanwhile, and nothing is ended by a lease.

use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::NodeId;
use scrap_schema::time::Timestamp;

use super::{About, Change};
use crate::cluster::{Disarmed, Key, Outcome};
use crate::refusal::Refusal;

/// What is disarmed, in its place in the state.
fn place<'a>(
    change: &'a mut Change<'_>,
    node: Option<NodeId>,
) -> Result<(&'a mut Option<Disarmed>, String), Refusal> {
    match node {
        Some(id) => {
            let node = change.node(id)?;
            let name = format!("node {}", node.name);
            Ok((&mut node.disarmed, name))
        }
        None => {
            change.touch(Key::Identity);
            let identity = change.cluster.identity.as_mut();
            let identity =
                identity.ok_or_else(|| Refusal::out_of_date("there is no cluster yet"))?;
            Ok((&mut identity.disarmed, "the cluster".to_owned()))
        }
    }
}

/// Whether it is so already. Looked at before anything counts as changed.
fn now(change: &Change<'_>, node: Option<NodeId>) -> Result<Option<Disarmed>, Refusal> {
    match node {
        Some(id) => {
            let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
            Ok(node.disarmed.clone())
        }
        None => {
            let identity = change.cluster.identity.as_ref();
            let identity =
                identity.ok_or_else(|| Refusal::out_of_date("there is no cluster yet"))?;
            Ok(identity.disarmed.clone())
        }
    }
}

pub(super) fn disarm(
    change: &mut Change<'_>,
    node: Option<NodeId>,
    until: Option<Timestamp>,
    by: &str,
) -> Result<Outcome, Refusal> {
    let before = now(change, node)?;
    let since = before.as_ref().map_or(change.at, |before| before.since);
    let disarmed = Disarmed { since, until, by: by.to_owned() };
    if before.as_ref() == Some(&disarmed) {
        return Ok(Outcome::Unchanged);
    }
    change.other_leases();
    let (place, name) = place(change, node)?;
    *place = Some(disarmed);
    let end =
        until.map_or_else(|| "until somebody arms it".to_owned(), |until| format!("until {until}"));
    let message = format!("{name} is disarmed by {by}: nothing of it fails over by itself, {end}");
    change.tell(topic(node), Severity::Warning, about(node), message);
    Ok(Outcome::Done)
}

pub(super) fn arm(
    change: &mut Change<'_>,
    node: Option<NodeId>,
    by: Option<&str>,
) -> Result<Outcome, Refusal> {
    if now(change, node)?.is_none() {
        return Ok(Outcome::Unchanged);
    }
    change.other_leases();
    let (place, name) = place(change, node)?;
    *place = None;
    let by = by.map_or_else(|| "its time is over".to_owned(), |by| format!("by {by}"));
    let message = format!("{name} is armed again, {by}: its grains come under the lease first");
    change.tell(topic(node), Severity::Info, about(node), message);
    Ok(Outcome::Done)
}

fn topic(node: Option<NodeId>) -> Topic {
    if node.is_some() { Topic::Node } else { Topic::Cluster }
}

fn about(node: Option<NodeId>) -> About {
    About { node, ..About::default() }
}

#[cfg(test)]
mod tests;
