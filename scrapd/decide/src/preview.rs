//! What would happen: the answers to every dry run, from the same functions that decide.

use scrap_schema::id::NodeId;
use scrap_schema::operation::Loss;
use scrap_schema::time::Now;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Grain};
use crate::fail_over;
use crate::lead::{Loads, View};
use crate::migrate;
use crate::observed::Observed;
use crate::place::loads;

/// A plan that is not carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// Step by step, one sentence each.
    pub steps: Vec<String>,
    /// What would be lost at most.
    pub loss: Option<Loss>,
    /// Expected time in which the grain does not answer, in milliseconds.
    pub expected_downtime_ms: Option<u64>,
    /// Why it could not be done now.
    pub refused: Option<String>,
}

/// Added to the copying of the last state: stopping, committing, starting.
const SWITCH_MS: u64 = 300;

/// A planned move.
#[must_use]
pub fn migrate(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    grain: &Grain,
    to: Option<NodeId>,
) -> Preview {
    let view = View { cluster, observed, now };
    let loads = Loads { nodes: loads(cluster, Some(grain.id)) };
    let from = grain.owner.map_or_else(|| "nowhere".to_owned(), |owner| cluster.node_name(owner));
    let to = match migrate::target(view, grain, to, &loads) {
        Ok(to) => to,
        Err(refusals) => {
            let refused = match refusals.is_empty() {
                true => format!("there is no other node that could take grain {}", grain.name),
                false => format!("no node can take grain {}: {refusals}", grain.name),
            };
            return Preview { refused: Some(refused), ..Preview::default() };
        }
    };
    let copy = observed.copy(grain, to);
    let target = cluster.node_name(to);
    let first = match copy.and_then(|copy| copy.common) {
        Some(_) => format!(
            "copy what node {target} lacks of grain {} while it runs ({} now)",
            grain.name,
            copy.map_or_else(String::new, |copy| copy.pending.rounded())
        ),
        None => format!("copy all data of grain {} to node {target} while it runs", grain.name),
    };
    let predicted = copy.map_or(Span::ZERO, migrate::predict);
    Preview {
        steps: vec![
            first,
            format!("stop it on node {from} and freeze its last state"),
            format!("copy that to node {target}: nothing is lost"),
            format!("start it on node {target}, epoch {}", grain.epoch.next()),
            format!("keep the data on node {from} as a copy"),
        ],
        loss: None,
        expected_downtime_ms: grain.started.map(|_| predicted.ms().saturating_add(SWITCH_MS)),
        refused: None,
    }
}

/// A failover now, as if a person had asked for it.
#[must_use]
pub fn failover(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    grain: &Grain,
    accept_loss: Option<Span>,
) -> Preview {
    let view = View { cluster, observed, now };
    let Some(owner) = grain.owner else {
        let refused = format!("grain {} is not placed yet", grain.name);
        return Preview { refused: Some(refused), ..Preview::default() };
    };
    let until =
        cluster.nodes.get(&owner).map_or(now.wall, |node| fail_over::written_until(view, node));
    let copies = fail_over::copies(view, grain, until);
    let order = |copy: &&fail_over::Copy| (copy.head.name.epoch, copy.head.name.seq);
    let Some(best) = copies.iter().max_by_key(order) else {
        let refused = format!("no reachable node has a copy of grain {}", grain.name);
        return Preview { refused: Some(refused), ..Preview::default() };
    };
    let limit = accept_loss.unwrap_or(cluster.policy_of(grain).failover.max_data_loss);
    let loss = Span::from_ms(best.loss.window_ms);
    let (from, to) = (cluster.node_name(owner), cluster.node_name(best.node));
    let refused = match cluster.nodes.get(&owner).is_some_and(|node| node.liveness.is_online()) {
        true => Some(format!("node {from} is online: use migrate, which loses nothing")),
        false if loss > limit => {
            Some(format!("it would lose {}, the limit is {limit}", loss.rounded()))
        }
        false => None,
    };
    Preview {
        steps: vec![
            format!("wait until the lease of node {from} has surely ended"),
            format!(
                "start grain {} on node {to}, epoch {}, from snapshot {} of {}",
                grain.name,
                grain.epoch.next(),
                best.head.guid,
                best.head.created
            ),
            format!(
                "when node {from} is back, keep what it wrote since as an orphan, for you to decide"
            ),
        ],
        loss: Some(best.loss.clone()),
        expected_downtime_ms: None,
        refused,
    }
}

/// Emptying a node.
#[must_use]
pub fn drain(cluster: &Cluster, observed: &Observed, now: Now, node: NodeId) -> Preview {
    let name = cluster.node_name(node);
    let view_loads = loads(cluster, None);
    let mut loads = Loads { nodes: view_loads };
    let mut preview = Preview::default();
    // As if it were draining already, so that nothing is planned onto it.
    let mut drained = cluster.clone();
    if let Some(node) = drained.nodes.get_mut(&node) {
        node.spec.cordoned = true;
    }
    let view = View { cluster: &drained, observed, now };
    for grain in cluster.grains.values().filter(|grain| grain.owner == Some(node)) {
        match migrate::target(view, grain, None, &loads) {
            Ok(to) => {
                loads.will_run(to, grain);
                let to = cluster.node_name(to);
                preview.steps.push(format!("move grain {} to node {to}", grain.name));
            }
            Err(refusals) => {
                let step = format!("grain {} waits: no node can take it: {refusals}", grain.name);
                preview.refused.get_or_insert_with(|| step.clone());
                preview.steps.push(step);
            }
        }
    }
    let copies = cluster.grains.values().filter(|grain| grain.standbys.contains(&node)).count();
    if copies > 0 {
        preview
            .steps
            .push(format!("keep {copies} copies on other nodes instead, where there are any"));
    }
    preview.steps.push(format!("node {name} stays empty until it is undrained"));
    preview
}
