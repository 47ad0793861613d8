//! Which work the state of a grain allows.

use scrap_schema::id::{Name, NodeId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::Purpose;

use crate::apply::asides;
use crate::cluster::{Cluster, Grain, Liveness, Node, Stage};
use crate::refusal::Refusal;

/// Whether the grain's state allows this work at all. Whether there is a place for it is the leader's question.
pub(super) fn allowed(cluster: &Cluster, grain: &Grain, work: &Work) -> Result<(), Refusal> {
    let wrong = |is: &str| Err(Refusal::WrongState { name: grain.name.clone(), is: is.to_owned() });
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    match work {
        Work::Failover { to, .. } => {
            let Some(owner) = owner else { return wrong("not placed yet") };
            known_target(cluster, *to)?;
            match owner.liveness {
                Liveness::Online | Liveness::Joining => Err(Refusal::OwnerAlive {
                    name: grain.name.clone(),
                    owner: owner.name.to_string(),
                    is: "online".to_owned(),
                }),
                Liveness::Suspect { .. } | Liveness::Fenced { .. } | Liveness::Away { .. } => {
                    Ok(())
                }
            }
        }
        Work::Migrate { to, .. } => {
            known_target(cluster, *to)?;
            if to.is_some() && *to == grain.owner {
                return wrong("there already");
            }
            owner_answers(grain, owner)?;
            settled(grain)
        }
        Work::Restart { .. } if !grain.wants_to_run() => wrong("stopped"),
        Work::Snapshot { name, .. } if has_snapshot(grain, name) => {
            Err(Refusal::NameTaken { what: "snapshot".to_owned(), name: name.clone() })
        }
        Work::Restart { .. } | Work::Restore { .. } | Work::Snapshot { .. } => {
            owner_answers(grain, owner)?;
            settled(grain)
        }
        Work::Promote { .. } => {
            asides::promotable(cluster, work)?;
            if owner.is_none_or(|owner| !grain.has_surely_stopped_with(&owner.liveness)) {
                owner_answers(grain, owner)?;
            }
            settled(grain)
        }
        Work::Start { .. } | Work::Stop { .. } => Ok(()),
        Work::Create { .. }
        | Work::Drain { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Discard { .. } => Ok(()),
    }
}

/// Only the owner can do it, and nobody knows when it comes back.
fn owner_answers(grain: &Grain, owner: Option<&Node>) -> Result<(), Refusal> {
    match owner {
        Some(owner) if !owner.liveness.is_online() => {
            Err(Refusal::OwnerGone { name: grain.name.clone(), owner: owner.name.to_string() })
        }
        Some(_) | None => Ok(()),
    }
}

fn has_snapshot(grain: &Grain, name: &Name) -> bool {
    let mut names = grain.snapshots.iter().map(|snapshot| &snapshot.name.purpose);
    names.any(|purpose| *purpose == Purpose::User(name.clone()))
}

fn known_target(cluster: &Cluster, to: Option<NodeId>) -> Result<(), Refusal> {
    match to {
        Some(node) if !cluster.nodes.contains_key(&node) => Err(Refusal::no_node(node)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn settled(grain: &Grain) -> Result<(), Refusal> {
    let is = match (&grain.stage, grain.owner) {
        (Stage::Settled, Some(_)) => return Ok(()),
        (Stage::Settled | Stage::Unplaced, _) => "not placed yet",
        (Stage::Restarting { .. }, _) => "restarting",
        (Stage::Restoring { .. }, _) => "being restored",
        (Stage::Cloning { .. }, _) => "being cloned",
        (
            Stage::Warming { .. }
            | Stage::Quiescing { .. }
            | Stage::Released { .. }
            | Stage::Landing { .. },
            _,
        ) => "moving",
    };
    Err(Refusal::WrongState { name: grain.name.clone(), is: is.to_owned() })
}
