//! Changes the replicated state: the same entries in the same order make the same state on every node.
//!
//! Total and deterministic: a command that does not fit is a refusal, never a panic, and changes nothing. Never reads a
//! clock (`at` comes inside the entry), never makes an id.

mod arm;
mod asides;
mod facts;
mod grains;
mod items;
mod lots;
mod moves;
mod networks;
mod nodes;
mod operations;
mod owners;
mod policies;
mod power;
mod recover;
mod templates;

use std::collections::BTreeSet;

use scrap_schema::command::{Command, IdempotencyKey, Proposal};
use scrap_schema::event::{Event, Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use crate::cluster::{Answer, Cluster, Grain, Key, Node, Outcome};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;

pub use asides::of as orphan_of;
pub(crate) use asides::promotion;
pub(crate) use grains::may_run;
pub use operations::cancellable;
pub(crate) use owners::attested;

/// How long the answer to an idempotency key is remembered.
const ANSWERS_KEPT: Span = Span::from_secs(24 * 3600);
/// How many answers are remembered at most; the oldest go first.
const ANSWERS_MAX: usize = 10_000;
/// How many events are kept.
pub const EVENTS_MAX: usize = 4_096;

/// What an entry did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The answer to whoever proposed it.
    pub outcome: Result<Outcome, Refusal>,
    /// Rows that changed, appeared or went.
    pub touched: BTreeSet<Key>,
    /// Events that it caused.
    pub events: Vec<Event>,
    /// Whether this answer was remembered from an earlier entry with the same key.
    pub repeated: bool,
}

/// Applies one entry of the log.
pub fn apply(cluster: &mut Cluster, index: u64, proposal: &Proposal) -> Applied {
    cluster.index = index;
    if let Some(key) = &proposal.key
        && let Some(answer) = cluster.answers.get(&key.key)
    {
        return repeat(answer, key);
    }
    let mut change =
        Change { cluster, index, at: proposal.at, touched: BTreeSet::new(), events: Vec::new() };
    let outcome = dispatch(&mut change, &proposal.command);
    debug_assert!(
        outcome.is_ok() || (change.touched.is_empty() && change.events.is_empty()),
        "a refusal changed something: {:?}",
        proposal.command
    );
    if let Some(key) = &proposal.key {
        change.remember(key, &outcome);
    }
    let Change { touched, events, .. } = change;
    Applied { outcome, touched, events, repeated: false }
}

fn repeat(answer: &Answer, key: &IdempotencyKey) -> Applied {
    let outcome = if answer.fingerprint == key.fingerprint {
        answer.outcome.clone()
    } else {
        Err(Refusal::KeyReused)
    };
    Applied { outcome, touched: BTreeSet::new(), events: Vec::new(), repeated: true }
}

fn dispatch(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::FormCluster { .. }
        | Command::AddNode { .. }
        | Command::RegisterNode { .. }
        | Command::SuspectNode { .. }
        | Command::TickNode { .. }
        | Command::FenceNode { .. }
        | Command::AttestNode { .. }
        | Command::LeaveNode { .. }
        | Command::AlarmNode { .. }
        | Command::SetCordon { .. }
        | Command::UpdateNode { .. }
        | Command::UndrainNode { .. }
        | Command::RemoveNode { .. } => nodes::apply(change, command),
        Command::ConfirmNodeOff { .. }
        | Command::AwaitNode { .. }
        | Command::Disarm { .. }
        | Command::Arm { .. } => power::apply(change, command),
        Command::RecoverCluster { generation, node } => recover::apply(change, *generation, *node),
        Command::PutPolicy { .. }
        | Command::DeletePolicy { .. }
        | Command::PutNetwork { .. }
        | Command::DeleteNetwork { .. } => contracts(change, command),
        Command::CreateGrain { grain, operation, text } => {
            grains::create(change, *grain, *operation, text)
        }
        Command::UpdateGrain { grain, if_index, labels, annotations, spec } => {
            grains::update(change, *grain, *if_index, labels, annotations, spec)
        }
        Command::TrashGrain { grain, if_index, keep_until } => {
            grains::trash(change, *grain, *if_index, *keep_until)
        }
        Command::UndeleteGrain { grain } => grains::undelete(change, *grain),
        Command::PurgeGrain { grain, if_index } => grains::purge(change, *grain, *if_index),
        Command::Apply { .. } => items::apply(change, command),
        Command::StartOperation { .. }
        | Command::CancelOperation { .. }
        | Command::EnterPhase { .. }
        | Command::FinishOperation { .. }
        | Command::OperationNeeds { .. }
        | Command::OperationStuck { .. } => operations::apply(change, command),
        Command::AssignGrain { .. }
        | Command::UnarmGrain { .. }
        | Command::SetStandbys { .. }
        | Command::RememberCopy { .. }
        | Command::BeginMigration { .. }
        | Command::QuiesceGrain { .. }
        | Command::AbortMigration { .. }
        | Command::TurnBack { .. }
        | Command::EndMigration { .. } => owners::apply(change, command),
        Command::GrainBorn { .. }
        | Command::GrainArmed { .. }
        | Command::GrainStarted { .. }
        | Command::GrainStopped { .. }
        | Command::GrainReleased { .. }
        | Command::SnapshotTaken { .. }
        | Command::GrainRestored { .. }
        | Command::GrainHealth { .. }
        | Command::GrainDeclined { .. }
        | Command::OrphanKept { .. }
        | Command::OrphanGone { .. } => facts::apply(change, command),
        Command::AddTemplate { .. }
        | Command::TemplateHeld { .. }
        | Command::TemplateLost { .. }
        | Command::RemoveTemplate { .. } => templates::apply(change, command),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the dispatcher sends only policies and networks here"
)]
fn contracts(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::PutPolicy { name, if_index, policy } => {
            policies::put(change, name, *if_index, policy)
        }
        Command::DeletePolicy { name, if_index } => policies::delete(change, name, *if_index),
        Command::PutNetwork { name, if_index, network } => {
            networks::put(change, name, *if_index, network)
        }
        Command::DeleteNetwork { name, if_index } => networks::delete(change, name, *if_index),
        _ => Err(Refusal::out_of_date("neither a policy nor a network")),
    }
}

/// One entry's work on the state, with what it touches and what is worth telling.
pub(crate) struct Change<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) index: u64,
    pub(crate) at: Timestamp,
    touched: BTreeSet<Key>,
    events: Vec<Event>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About {
    pub(crate) grain: Option<GrainId>,
    pub(crate) node: Option<NodeId>,
    pub(crate) operation: Option<OperationId>,
}

impl About {
    pub(crate) fn grain(grain: GrainId) -> Self {
        Self { grain: Some(grain), ..Self::default() }
    }

    pub(crate) fn node(node: NodeId) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    pub(crate) fn operation(operation: OperationId) -> Self {
        Self { operation: Some(operation), ..Self::default() }
    }
}

impl Change<'_> {
    pub(crate) fn touch(&mut self, key: Key) {
        self.touched.insert(key);
    }

    /// A grain to change; its row counts as touched.
    pub(crate) fn grain(&mut self, id: GrainId) -> Result<&mut Grain, Refusal> {
        let grain = self.cluster.grains.get_mut(&id).ok_or_else(|| Refusal::no_grain(id))?;
        self.touched.insert(Key::Grain(id));
        grain.touched = self.index;
        Ok(grain)
    }

    /// Refuses what a node reports of a grain if it had not applied the grain's last change when it looked: it may be the answer to an
    /// earlier order, long on its way, or here for the second time.
    pub(crate) fn up_to_date(&self, grain: &Grain, seen: Option<u64>) -> Result<(), Refusal> {
        if seen.is_none_or(|seen| seen >= grain.touched) || mutant::is(Mutant::LateReports) {
            return Ok(());
        }
        Err(Refusal::out_of_date("it was changed after its node had looked"))
    }

    /// From now on other grains may need a lease.
    pub(crate) fn other_leases(&mut self) {
        if let Some(identity) = self.cluster.identity.as_mut() {
            identity.leases = self.index;
            self.touched.insert(Key::Identity);
        }
    }

    /// A grain to look at.
    pub(crate) fn look(&self, id: GrainId) -> Result<&Grain, Refusal> {
        self.cluster.grains.get(&id).ok_or_else(|| Refusal::no_grain(id))
    }

    /// A grain to look at, if the order was decided in its epoch.
    pub(crate) fn look_in(&self, id: GrainId, epoch: Epoch) -> Result<&Grain, Refusal> {
        let grain = self.look(id)?;
        if grain.epoch == epoch || mutant::is(Mutant::AnyEpoch) {
            Ok(grain)
        } else {
            Err(Refusal::Stale { offered: epoch, held: grain.epoch })
        }
    }

    /// A node to look at.
    pub(crate) fn look_node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))
    }

    /// A node to change; its row counts as touched.
    pub(crate) fn node(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        let node = self.cluster.nodes.get_mut(&id).ok_or_else(|| Refusal::no_node(id))?;
        self.touched.insert(Key::Node(id));
        Ok(node)
    }

    /// Tells what happened.
    pub(crate) fn tell(&mut self, topic: Topic, severity: Severity, about: About, message: String) {
        let place = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let event = Event {
            index: self.index,
            place,
            at: self.at,
            topic,
            severity,
            grain: about.grain,
            node: about.node,
            operation: about.operation,
            message,
        };
        self.touched.insert(Key::Event(self.index, place));
        self.cluster.events.insert((self.index, place), event.clone());
        self.events.push(event);
        while self.cluster.events.len() > EVENTS_MAX {
            if let Some(((index, place), _)) = self.cluster.events.pop_first() {
                self.touched.insert(Key::Event(index, place));
            }
        }
    }

    fn remember(&mut self, key: &IdempotencyKey, outcome: &Result<Outcome, Refusal>) {
        let oldest = self.at - ANSWERS_KEPT;
        let answers = &mut self.cluster.answers;
        let mut gone: Vec<String> = answers
            .iter()
            .filter(|(_, answer)| answer.at < oldest)
            .map(|(key, _)| key.clone())
            .collect();
        if gone.is_empty() && answers.len() >= ANSWERS_MAX {
            let first = answers.iter().min_by_key(|(key, answer)| (answer.index, (*key).clone()));
            gone.extend(first.map(|(key, _)| key.clone()));
        }
        for key in gone {
            answers.remove(&key);
            self.touched.insert(Key::Answer(key));
        }
        let answer = Answer {
            fingerprint: key.fingerprint.clone(),
            at: self.at,
            index: self.index,
            outcome: outcome.clone(),
        };
        self.cluster.answers.insert(key.key.clone(), answer);
        self.touched.insert(Key::Answer(key.key.clone()));
    }
}

/// Refuses when somebody changed the object since the caller read it.
fn unchanged_since(
    what: &str,
    name: &scrap_schema::id::Name,
    is: u64,
    if_index: Option<u64>,
) -> Result<(), Refusal> {
    match if_index {
        Some(have) if have != is => {
            Err(Refusal::Changed { what: what.to_owned(), name: name.clone(), is, have })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
