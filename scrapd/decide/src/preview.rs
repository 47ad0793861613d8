//! What would happen: the answers to every dry run, from the same functions that decide.

use std::fmt;

use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{NodeId, OperationId};
use scrap_schema::operation::{Loss, Work};
use scrap_schema::time::Now;
use scrap_schema::unit::{Bytes, Span};

use crate::apply::apply;
use crate::cluster::{Cluster, Grain, Liveness};
use crate::fail_over;
use crate::lead::{Subject, View, Waiting};
use crate::migrate;
use crate::observed::Observed;
use crate::place::Loads;
use crate::refusal::Refusal;

mod asides;

pub use asides::{discard, fork, promote};

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
    /// What a person can do about that.
    pub hint: Option<String>,
}

impl Preview {
    fn refused(why: impl fmt::Display) -> Self {
        Self { refused: Some(why.to_string()), ..Self::default() }
    }
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
    let loads = Loads::of(cluster, observed, Some(grain.id));
    let from = grain.owner.map_or_else(|| "nowhere".to_owned(), |owner| cluster.node_name(owner));
    let to = match migrate::target(view, grain, to, &loads) {
        Ok(to) => to,
        Err(refusals) => {
            let refused = match refusals.is_empty() {
                true => format!("there is no other node that could take grain {}", grain.name),
                false => format!("no node can take grain {}: {refusals}", grain.name),
            };
            return Preview::refused(refused);
        }
    };
    let copy = observed.copy(grain, to);
    let target = cluster.node_name(to);
    let first = match copy.filter(|copy| copy.common.is_some()) {
        Some(copy) => {
            let lacks = lacks(copy.pending, observed.lag(grain, to, now), grain);
            format!("copy what node {target} lacks of grain {} while it runs ({lacks})", grain.name)
        }
        None => format!("copy all data of grain {} to node {target} while it runs", grain.name),
    };
    // What is more than this is copied while the grain runs.
    let predicted = copy.map_or(Span::ZERO, migrate::predict).min(migrate::SWITCH_WITHIN);
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
        hint: None,
    }
}

/// How much a copy lacks, and what nobody knows of it: an owner does not count every write.
fn lacks(pending: Bytes, lag: Option<Span>, grain: &Grain) -> String {
    match (grain.started, lag) {
        (Some(_), Some(lag)) => {
            let since = lag.rounded_up();
            format!("{} measured; what was written in the last {since} is not", pending.rounded())
        }
        (Some(_), None) | (None, _) => format!("{} now", pending.rounded()),
    }
}

/// A failover that a person asks for with this work.
#[must_use]
pub fn failover(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    grain: &Grain,
    work: &Work,
) -> Preview {
    let mut asked = match requested(cluster, now, work) {
        Ok(asked) => asked,
        Err(refusal) => return Preview::refused(refusal),
    };
    let owner = grain.owner.and_then(|owner| asked.nodes.get_mut(&owner));
    let (Some(owner), Some(grain)) = (owner, asked.grains.get(&grain.id)) else {
        return Preview::refused(format!("grain {} is not placed yet", grain.name));
    };
    let mut steps = Vec::new();
    // The deed waits for that by itself, and then decides what is decided here.
    if let Liveness::Suspect { last_heard, .. } = owner.liveness {
        owner.liveness = Liveness::Fenced { last_heard };
        let end = if grain.armed { "its lease has surely ended" } else { "it counts as gone" };
        steps.push(format!("wait until node {} has been silent so long that {end}", owner.name));
    }
    let owner = owner.id;
    let view = View { cluster: &asked, observed, now };
    let loads = Loads::of(&asked, observed, None);
    let (copy, held) = match fail_over::choose(view, grain, owner, &loads) {
        Ok(copy) => (copy, None),
        Err(reason) => {
            let held = Waiting { subject: Subject::Grain(grain.id), reason };
            match fail_over::within_any_limit(view, grain, owner, &loads) {
                Ok(copy) => (copy, Some(held)),
                Err(_) => {
                    let hint = held.hint(&asked);
                    return Preview { hint, ..Preview::refused(held.reason) };
                }
            }
        }
    };
    let (from, to) = (asked.node_name(owner), asked.node_name(copy.node));
    steps.push(format!(
        "start grain {} on node {to}, epoch {}, from snapshot {} of {}",
        grain.name,
        grain.epoch.next(),
        copy.head.guid,
        copy.head.created
    ));
    steps.push(format!("when node {from} is back, keep aside there what it wrote since"));
    let hint = held.as_ref().and_then(|held| held.hint(&asked));
    let refused = held.map(|held| held.reason.to_string());
    Preview { steps, loss: Some(copy.loss), expected_downtime_ms: None, refused, hint }
}

/// What becomes of the grains of a silent node when it is confirmed to be off by this command.
///
/// # Errors
/// Why the state refuses the command.
pub fn confirmed_off(
    cluster: &Cluster,
    observed: &Observed,
    now: Now,
    node: NodeId,
    command: Command,
) -> Result<Preview, Refusal> {
    let after = tried(cluster, now, command)?;
    let view = View { cluster: &after, observed, now };
    let mut loads = Loads::of(&after, observed, None);
    let mut preview = Preview::default();
    let name = after.node_name(node);
    preview
        .steps
        .push(format!("node {name} counts as off at once, without the rest of a countdown"));
    for grain in after.grains.values().filter(|grain| grain.owner == Some(node)) {
        let step = given_away(view, grain, node, &mut loads, &mut preview.loss);
        preview.steps.push(step);
    }
    preview.steps.push(format!(
        "when node {name} is back, it runs none of what was given away, and what it wrote since is kept aside there"
    ));
    Ok(preview)
}

/// What becomes of one grain whose owner is off. `loss` becomes the largest of all.
fn given_away(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &mut Loads,
    loss: &mut Option<Loss>,
) -> String {
    let name = &grain.name;
    if !grain.wants_to_run() {
        return format!("grain {name} stays where it is: it should not run");
    }
    match fail_over::choose(view, grain, owner, loads) {
        Ok(copy) => {
            loads.will_run(copy.node, grain);
            let (to, epoch) = (view.cluster.node_name(copy.node), grain.epoch.next());
            let (head, window) = (&copy.head, Span::from_ms(copy.loss.window_ms).rounded_up());
            let less = copy.loss.if_silence_was_the_end();
            let less = less.map(|less| format!(", {less}")).unwrap_or_default();
            let step = format!(
                "start grain {name} on node {to}, epoch {epoch}, from snapshot {} of {}: at most {window} of writes are lost{less}",
                head.guid, head.created
            );
            if loss.as_ref().is_none_or(|loss| loss.window_ms < copy.loss.window_ms) {
                *loss = Some(copy.loss);
            }
            step
        }
        Err(reason) => {
            let held = Waiting { subject: Subject::Grain(grain.id), reason };
            let hint = held.hint(view.cluster).map(|hint| format!(" ({hint})"));
            format!("grain {name} waits: {}{}", held.reason, hint.unwrap_or_default())
        }
    }
}

/// A copy of the state in which a person has asked for this work.
///
/// # Errors
/// Why the state refuses it.
pub fn requested(cluster: &Cluster, now: Now, work: &Work) -> Result<Cluster, Refusal> {
    let (operation, work) = (OperationId(u128::MAX), work.clone());
    tried(cluster, now, Command::StartOperation { operation, work, text: None })
}

/// A copy of the state after a command.
///
/// # Errors
/// Why the state refuses it.
pub fn tried(cluster: &Cluster, now: Now, command: Command) -> Result<Cluster, Refusal> {
    let mut asked = cluster.clone();
    let proposal = Proposal { at: now.wall, key: None, command };
    let index = cluster.index.saturating_add(1);
    apply(&mut asked, index, &proposal).outcome.map(|_| asked)
}

/// Emptying a node.
#[must_use]
pub fn drain(cluster: &Cluster, observed: &Observed, now: Now, node: NodeId) -> Preview {
    let name = cluster.node_name(node);
    let mut preview = Preview::default();
    // As if it were draining already, so that nothing is planned onto it.
    let mut drained = cluster.clone();
    if let Some(node) = drained.nodes.get_mut(&node) {
        node.spec.cordoned = true;
    }
    let mut loads = Loads::of(&drained, observed, None);
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
        let copies = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
        preview.steps.push(format!("keep {copies} on other nodes instead, where there are any"));
    }
    preview.steps.push(format!("node {name} stays empty until it is undrained"));
    preview
}
