//! Views: what the API shows, made of facts that were read before. Pure: no clock, no I/O, no choice of status.

mod arm;
mod cluster;
mod conditions;
mod grain;
mod node;
mod operation;
mod place;
mod quorum;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::cluster::Cluster;
use scrap_decide::lead::{Subject, WaitReason, Waiting};
use scrap_decide::observed::Observed;
use scrap_schema::api::WaitingView;
use scrap_schema::id::{GrainId, Name, NodeId, OperationId};
use scrap_schema::time::Now;
use scrap_schema::unit::Span;

pub(crate) use cluster::cluster;
pub(crate) use grain::{grain, grain_manifest};
pub(crate) use node::{node, node_manifest};
pub(crate) use operation::operation;
pub(crate) use place::{candidates, placement};
pub(crate) use quorum::quorum;
pub(crate) use records::{network, orphan, orphan_id, policy, template};

/// Everything that a view may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World<'a> {
    /// The replicated state.
    pub(crate) cluster: &'a Cluster,
    /// What the leader has heard; empty elsewhere.
    pub(crate) observed: &'a Observed,
    /// What the leader waits with, as [`by_subject`] sorts it; empty elsewhere.
    pub(crate) held: &'a [&'a Waiting],
    /// Who votes and leads.
    pub(crate) raft: &'a Raft,
    /// Both clocks of the answering node.
    pub(crate) now: Now,
}

/// Who votes and who leads, as the answering node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Raft {
    /// Whether the answering node leads: only then are reports of nodes known here.
    pub(crate) leads: bool,
    /// The leader.
    pub(crate) leader: Option<NodeId>,
    /// The voters.
    pub(crate) voters: BTreeSet<NodeId>,
}

/// How the members stand, as the answering node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// A change of the voters is half done.
    pub(crate) changing: bool,
    /// Entries that each member lacks; empty on a node that does not lead.
    pub(crate) behind: BTreeMap<NodeId, u64>,
}

/// What the leader waits with, ready to be looked up by its subject; of one subject what is stuck comes first.
pub(crate) fn by_subject(waiting: &[Waiting]) -> Vec<&Waiting> {
    let mut sorted: Vec<&Waiting> = waiting.iter().collect();
    sorted.sort_by_key(|waiting| (waiting.subject, !is_stuck(&waiting.reason)));
    sorted
}

/// Whether it stays so until something changes from outside; else it is work under way.
fn is_stuck(reason: &WaitReason) -> bool {
    match reason {
        WaitReason::Brake { .. }
        | WaitReason::NoPlace { .. }
        | WaitReason::NoPlaceFor { .. }
        | WaitReason::CameBack { .. }
        | WaitReason::Starting { trouble: Some(_), .. }
        | WaitReason::NeedsWord { .. }
        | WaitReason::ManualPolicy { .. }
        | WaitReason::NoCopy { .. }
        | WaitReason::LossTooLarge { .. }
        | WaitReason::NoTemplate { .. }
        | WaitReason::OrphanAway { .. }
        | WaitReason::Removing { trouble: Some(_), .. }
        | WaitReason::CopyStopped { .. }
        | WaitReason::CannotCutPower { .. }
        | WaitReason::Disarmed { .. }
        | WaitReason::Unwell { .. }
        | WaitReason::TooFewCopies { .. } => true,
        WaitReason::Countdown { .. }
        | WaitReason::CutsPower { .. }
        | WaitReason::OwnerSilent { .. }
        | WaitReason::GraceOfPolicy { .. }
        | WaitReason::OwnerAwaited { .. }
        | WaitReason::TakesTurn { .. }
        | WaitReason::CopiesUnheard
        | WaitReason::CopyUnsettled { .. }
        | WaitReason::Declined { .. }
        | WaitReason::Removing { trouble: None, .. }
        | WaitReason::Warming { .. }
        | WaitReason::Stopping { .. }
        | WaitReason::Final { .. }
        | WaitReason::Starting { trouble: None, .. }
        | WaitReason::Working { .. }
        | WaitReason::GrainBusy { .. }
        | WaitReason::Fetching { .. }
        | WaitReason::CopyFetches { .. }
        | WaitReason::Moving { .. } => false,
    }
}

impl World<'_> {
    /// What the leader waits for with this.
    fn held(&self, subject: Subject) -> Option<&Waiting> {
        let at = self.held.partition_point(|waiting| waiting.subject < subject);
        self.held.get(at).copied().filter(|waiting| waiting.subject == subject)
    }

    /// What the leader waits for with a grain, or with the operation that works on it; what is stuck comes first.
    fn held_of(&self, grain: GrainId, operation: Option<OperationId>) -> Option<&Waiting> {
        let grain = self.held(Subject::Grain(grain));
        let operation = operation.and_then(|operation| self.held(Subject::Operation(operation)));
        let stuck = |waiting: &&Waiting| is_stuck(&waiting.reason);
        grain.filter(stuck).or(operation.filter(stuck)).or(grain).or(operation)
    }

    /// The same, for people.
    fn waiting_with_grain(
        &self,
        grain: GrainId,
        operation: Option<OperationId>,
    ) -> Option<WaitingView> {
        self.held_of(grain, operation).map(|held| self.waiting(held))
    }

    /// Why the leader waits, for people.
    fn waiting(&self, waiting: &Waiting) -> WaitingView {
        WaitingView {
            subject: waiting.subject_in_words(self.cluster),
            reason: waiting.reason.to_string(),
            hint: waiting.hint(self.cluster),
        }
    }

    /// A node's name; its number as text if it is no member any more.
    fn node_word(&self, node: NodeId) -> String {
        match self.cluster.nodes.get(&node) {
            Some(node) => node.name.to_string(),
            None => node.to_string(),
        }
    }

    /// A node's name where only a name fits: a node that is gone is called by its number, which is a sound name too.
    fn node_name(&self, node: NodeId) -> Option<Name> {
        self.node_word(node).parse().ok()
    }

    fn is_online(&self, node: NodeId) -> bool {
        self.cluster.nodes.get(&node).is_some_and(|node| node.liveness.is_online())
    }

    /// Whether the reports of a node are complete here.
    fn has_heard(&self, node: NodeId) -> bool {
        self.observed.nodes.get(&node).is_some_and(|heard| heard.full)
    }
}

/// Names in one sentence, at most five.
fn names(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 grain`, `2 grains`.
fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('y') => format!("{number} {}ies", what.trim_end_matches('y')),
        _ => format!("{number} {what}s"),
    }
}

/// A span in milliseconds as a field of a view.
fn ms(span: Span) -> u64 {
    span.ms()
}

#[cfg(test)]
mod tests;
