//! Decides when work on network or machines is over, and which grains stop needing a lease.
//!
//! Two phases, each way. Out: a grain is unarmed in the state first, so that nobody gives it away by himself; then its owner takes the
//! deadline from what runs. In: its owner gives it a deadline first, and only what has one counts as armed (`docs/decisions/0005`).

use scrap_schema::command::Command;
use scrap_schema::time::Timestamp;

use crate::cluster::{Disarmed, Grain};
use crate::lead::{Plan, View};

/// What was disarmed for a time is armed again when that is over.
pub(crate) fn decide(view: View<'_>, plan: &mut Plan) {
    let over = |disarmed: &Option<Disarmed>| {
        let until: Option<Timestamp> = disarmed.as_ref().and_then(|disarmed| disarmed.until);
        until.is_some_and(|until| until <= view.now.wall)
    };
    if view.cluster.identity.as_ref().is_some_and(|identity| over(&identity.disarmed)) {
        plan.commands.push(Command::Arm { node: None, by: None });
    }
    let nodes = view.cluster.nodes.values().filter(|node| over(&node.disarmed));
    plan.commands.extend(nodes.map(|node| Command::Arm { node: Some(node.id), by: None }));
}

/// A grain that needs no lease any more: it was disarmed, its policy is `manual` by now, or too few members are left. Its owner is online; of a
/// silent one nobody knows whether it hears of it.
pub(crate) fn unarm(view: View<'_>, grain: &Grain, plan: &mut Plan) -> bool {
    let unarms = grain.armed && !view.cluster.needs_lease(grain);
    if unarms {
        plan.commands.push(Command::UnarmGrain { grain: grain.id, epoch: grain.epoch });
    }
    unarms
}
