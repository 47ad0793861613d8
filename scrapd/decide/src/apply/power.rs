//! Commands about the power of nodes: that a silent one is off, and that all of them were. Also those for work on them.

use scrap_schema::command::Command;
use scrap_schema::event::{Severity, Topic};
use scrap_schema::fence::OffBy;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::time::Timestamp;

use super::nodes::present;
use super::{About, Change, arm};
use crate::cluster::{Liveness, Off, Outcome};
use crate::refusal::Refusal;

#[expect(clippy::wildcard_enum_match_arm, reason = "the dispatcher sends only these commands here")]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::ConfirmNodeOff { node, boot, until, by } => {
            confirm_off(change, *node, *boot, *until, by)
        }
        Command::AwaitNode { node, boot } => wait_for(change, *node, *boot),
        Command::Disarm { node, until, by } => arm::disarm(change, *node, *until, by),
        Command::Arm { node, by } => arm::arm(change, *node, by.as_deref()),
        _ => Err(Refusal::out_of_date("not a command about power")),
    }
}

/// Somebody has made sure that a silent node is off. What is left of its countdown has nothing to wait for any more.
fn confirm_off(
    change: &mut Change<'_>,
    id: NodeId,
    boot: BootId,
    until: Timestamp,
    by: &OffBy,
) -> Result<Outcome, Refusal> {
    let node = present(change, id, boot)?;
    let alive =
        |is: &str| Err(Refusal::NodeAlive { node: node.name.to_string(), is: is.to_owned() });
    let liveness = match node.liveness {
        Liveness::Online => return alive("online: its lease is renewed"),
        Liveness::Joining => return alive("not registered yet: nothing runs there"),
        Liveness::Suspect { last_heard, .. } | Liveness::Fenced { last_heard } => {
            Liveness::Fenced { last_heard }
        }
        Liveness::Away { last_heard } => Liveness::Away { last_heard },
    };
    // A person's word says more than a program's: it lifts the brake, too.
    if node.off.as_ref().is_some_and(|off| off.by.is_person() || !by.is_person()) {
        return Ok(Outcome::Unchanged);
    }
    let (at, by) = (change.at, by.clone());
    let node = change.node(id)?;
    node.liveness = liveness;
    let message = format!("node {} is confirmed off by {by}: nothing of it runs", node.name);
    node.off = Some(Off { at, until, by });
    change.tell(Topic::Node, Severity::Critical, About::node(id), message);
    Ok(Outcome::Done)
}

/// Everything was off, and a node that has the newest data is not back yet.
fn wait_for(change: &mut Change<'_>, id: NodeId, boot: BootId) -> Result<Outcome, Refusal> {
    let node = present(change, id, boot)?;
    match node.liveness {
        Liveness::Suspect { .. } => (),
        Liveness::Joining | Liveness::Online | Liveness::Fenced { .. } | Liveness::Away { .. } => {
            return Err(Refusal::out_of_date("it is not suspected"));
        }
    }
    if node.awaited.is_some() {
        return Ok(Outcome::Unchanged);
    }
    let at = change.at;
    let node = change.node(id)?;
    node.awaited = Some(at);
    let message = format!(
        "everything was off, and node {} is not back yet: what it owned waits for it, because it has the newest data",
        node.name
    );
    change.tell(Topic::Node, Severity::Warning, About::node(id), message);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests;
