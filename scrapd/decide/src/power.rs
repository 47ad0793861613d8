//! Decides whether the power of a silent node is cut: only where a proof of its death helps a grain that may start elsewhere and can.
//!
//! The countdown never waits for it. What became of a try is told to the leader's memory, and stands there as long as the silence.

use scrap_schema::fence::FenceSpec;
use scrap_schema::id::{BootId, Name, NodeId};
use scrap_schema::spec::FailoverMode;

use crate::cluster::{Grain, Liveness, Node};
use crate::fail_over;
use crate::lead::{Plan, Subject, View, WaitReason};
use crate::lease::brake;
use crate::mutant::{self, Mutant};
use crate::observed::Attempt;

/// A node whose power should be cut now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Which.
    pub node: NodeId,
    /// The start of its daemon that fell silent.
    pub boot: BootId,
    /// Its name: of its settings, and what a program is told.
    pub name: Name,
    /// How.
    pub how: FenceSpec,
}

pub(crate) fn decide(view: View<'_>, plan: &mut Plan) {
    // Then it is more likely that this side is cut off, or that the power has failed.
    if brake(view.cluster).is_some() && !mutant::is(Mutant::CutsBraked) {
        return;
    }
    for node in view.cluster.nodes.values() {
        if let (Some(how), Some(boot)) = (&node.spec.fence, node.boot)
            && helps(view, node)
        {
            decide_one(view, node, boot, how, plan);
        }
    }
}

fn decide_one(view: View<'_>, node: &Node, boot: BootId, how: &FenceSpec, plan: &mut Plan) {
    let attempt = view.observed.attempts.get(&node.id).filter(|attempt| attempt.boot() == boot);
    let program = how.program.to_string();
    let subject = Subject::Node(node.id);
    match attempt {
        Some(Attempt::Running { .. }) => plan.wait(subject, WaitReason::CutsPower { program }),
        Some(Attempt::Failed { why, retry_at, .. }) if view.now.boot < *retry_at => {
            plan.wait(subject, WaitReason::CannotCutPower { program, why: why.clone() });
        }
        Some(Attempt::Failed { .. }) | None => {
            let (name, how) = (node.name.clone(), how.clone());
            plan.cuts.push(Cut { node: node.id, boot, name, how });
        }
    }
}

/// Whether a proof that this node is off would let a grain start elsewhere that may not yet.
fn helps(view: View<'_>, node: &Node) -> bool {
    // Nobody cuts off himself, and what is known needs no proof.
    if view.observed.me == Some(node.id) || node.off.is_some() {
        return false;
    }
    // People work on it, or on what lies between.
    if view.cluster.disarmed(Some(node.id)).is_some() && !mutant::is(Mutant::CutsDisarmed) {
        return false;
    }
    let mut grains = view.cluster.grains.values().filter(|grain| grain.owner == Some(node.id));
    match node.liveness {
        Liveness::Suspect { .. } => {
            mutant::is(Mutant::CutsForNothing) || grains.any(|grain| could_start(view, grain, node))
        }
        // Of what runs without a lease the end of the countdown says nothing.
        Liveness::Fenced { .. } => {
            grains.any(|grain| !grain.armed && could_start(view, grain, node))
        }
        Liveness::Joining | Liveness::Online | Liveness::Away { .. } => false,
    }
}

fn could_start(view: View<'_>, grain: &Grain, node: &Node) -> bool {
    let policy = view.cluster.policy_of(grain).failover;
    grain.wants_to_run()
        && policy.mode == FailoverMode::Auto
        && fail_over::patience(view, grain, node).is_none()
        // A machine that boots after everything was off has its power for a reason.
        && fail_over::returning(view, grain, node).is_none()
        && !view.observed.is_cold(view.cluster, node.id)
        && fail_over::has_copy(view, grain, node)
}

#[cfg(test)]
mod tests;
