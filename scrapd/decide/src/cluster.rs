//! The replicated state: what every node knows after the same log entry. Changed by [`crate::apply`] alone.
//!
//! Every object is one row with a key ([`Key`]); the store writes the touched rows of an entry and the hash of the state
//! is made from the same rows. Nothing derived from a clock or from reports is in here.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::event::Event;
use scrap_schema::fence::OffBy;
use scrap_schema::id::{BootId, ClusterId, Epoch, GrainId, Name, NodeId, OperationId, TemplateId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole};
use scrap_schema::operation::Operation;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::spec::{FailoverMode, Labels, NetworkSpec, NodeSpec, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Bytes;
use serde::{Deserialize, Serialize};

use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::voters;

mod grain;

pub use grain::{
    Ailment, Attachment, Declined, FailoverRecord, Grain, IDS_FIRST, IDS_PER_GRAIN, Stage, Tenure,
};
pub(crate) use grain::{Part, TENURES_MAX};

/// Voters from which on grains run under a lease: fewer cannot keep a majority without the dead one.
const LEASE_VOTERS: usize = 3;

/// The whole replicated state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Log index of the last applied entry.
    pub index: u64,
    /// Who the cluster is; `None` before its first entry.
    pub identity: Option<Identity>,
    /// Members.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Contracts.
    pub policies: BTreeMap<Name, PolicyState>,
    /// Networks.
    pub networks: BTreeMap<Name, NetworkState>,
    /// Base systems that grains begin from.
    pub templates: BTreeMap<TemplateId, TemplateState>,
    /// Templates that were removed: their data may be removed from nodes that come back.
    pub removed_templates: BTreeSet<TemplateId>,
    /// Grains, including those in the trash.
    pub grains: BTreeMap<GrainId, Grain>,
    /// Grains that were removed for good: their data may be removed from nodes that come back.
    pub purged: BTreeSet<GrainId>,
    /// Operations: all running ones and the newest finished ones.
    pub operations: BTreeMap<OperationId, Operation>,
    /// Diverged data that were set aside.
    pub orphans: BTreeMap<OrphanKey, Orphan>,
    /// Answers to requests that came with an idempotency key.
    pub answers: BTreeMap<String, Answer>,
    /// The newest events, by log index and place.
    pub events: BTreeMap<(u64, u32), Event>,
    /// Names of grains outside the trash. Derived.
    pub(crate) names: BTreeMap<Name, GrainId>,
}

/// Who the cluster is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Identity.
    pub id: ClusterId,
    /// Name.
    pub name: Name,
    /// The lease's numbers.
    pub timing: Timing,
    /// The next node id.
    pub next_node: u64,
    /// When it was formed.
    pub formed: Timestamp,
    /// That nothing fails over by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disarmed: Option<Disarmed>,
    /// How often it was begun anew from one node because its majority was gone (`docs/decisions/0023`).
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u64,
    /// Log index of the last entry that may have changed which grains need a lease.
    #[serde(default)]
    pub leases: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_first(generation: &u64) -> bool {
    *generation == 0
}

/// That grains run without a lease and are not given away by themselves, because people work on network or machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disarmed {
    /// Since when.
    pub since: Timestamp,
    /// When that ends by itself; `None`: when somebody says so.
    pub until: Option<Timestamp>,
    /// Who wanted it.
    pub by: String,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Identity.
    pub id: NodeId,
    /// Name.
    pub name: Name,
    /// What it is for.
    pub role: NodeRole,
    /// Labels.
    pub labels: Labels,
    /// What people want of it.
    pub spec: NodeSpec,
    /// Where it listens.
    pub addresses: Addresses,
    /// What it is made of.
    pub facts: NodeFacts,
    /// The newest registered start of its daemon; `None` before the first.
    pub boot: Option<BootId>,
    /// What its guard can prove the end of that start with, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// Whether its lease is renewed.
    pub liveness: Liveness,
    /// That it is off, as somebody has confirmed; `None` again when it registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<Off>,
    /// That nothing of it fails over by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disarmed: Option<Disarmed>,
    /// Log index of its newest registration.
    #[serde(default)]
    pub registered: u64,
    /// Log index of the present registration, whether it is the first of a start of its daemon or not.
    #[serde(default)]
    pub since: u64,
    /// Since when it is given time to come back after everything was off; `None` again when it registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<Timestamp>,
    /// The drain that empties it or has emptied it, until undrained.
    pub drain: Option<OperationId>,
    /// Log index of its last change by people.
    pub modified: u64,
    /// When it became a member.
    pub created: Timestamp,
    /// The generation of the cluster that it belongs to; of an older one: it was left behind and takes no part any more.
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u64,
}

/// That a node is off: nothing of it runs, whether it needs a lease or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Off {
    /// When it was said.
    pub at: Timestamp,
    /// What its own wall clock may have shown at most when it went off.
    pub until: Timestamp,
    /// Who says so.
    pub by: OffBy,
}

/// Whether a node's lease is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Liveness {
    /// It is a member and has not registered yet.
    Joining,
    /// Its lease is renewed.
    Online,
    /// Silent: renewals are refused, the countdown runs.
    Suspect {
        /// Ticks of the countdown so far.
        ticks: u32,
        /// The node's own wall clock in the last renewal that the leader got.
        last_heard: Timestamp,
    },
    /// The countdown is over: nothing runs there that needs a lease.
    Fenced {
        /// As in `Suspect`.
        last_heard: Timestamp,
    },
    /// It said goodbye: it has stopped all its grains.
    Away {
        /// Its own wall clock when it said so.
        last_heard: Timestamp,
    },
}

impl Liveness {
    /// Whether the node's lease is renewed.
    #[must_use]
    pub fn is_online(&self) -> bool {
        match self {
            Self::Online => true,
            Self::Joining | Self::Suspect { .. } | Self::Fenced { .. } | Self::Away { .. } => false,
        }
    }

    /// Whether it is certain that none of its grains runs that needs a lease.
    #[must_use]
    pub fn is_surely_stopped(&self) -> bool {
        match self {
            Self::Fenced { .. } | Self::Away { .. } => true,
            Self::Joining | Self::Online | Self::Suspect { .. } => false,
        }
    }
}

/// A policy and when it was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The contract.
    pub policy: Policy,
    /// Log index of its last change.
    pub modified: u64,
}

/// A network and when it was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkState {
    /// Its pools.
    pub network: NetworkSpec,
    /// Log index of its last change.
    pub modified: u64,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateState {
    /// Identity.
    pub id: TemplateId,
    /// Name: display text and look-up key.
    pub name: Name,
    /// The sealed snapshot: every copy of the template has it, and every grain from it begins with it.
    pub guid: Guid,
    /// Space that it takes.
    pub size: Bytes,
    /// Processor architecture, as `uname -m` says it.
    pub arch: String,
    /// Operating system: `linux`, `freebsd`.
    pub os: String,
    /// What people say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was imported.
    pub imported: Timestamp,
    /// Where it was imported.
    pub origin: NodeId,
    /// Nodes that have it.
    pub holders: BTreeSet<NodeId>,
    /// Log index of its last change by people.
    pub modified: u64,
}

/// Which diverged data: of which grain, from which epoch, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrphanKey {
    /// Of which grain.
    pub grain: GrainId,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// Where it lies.
    pub node: NodeId,
}

/// Diverged data that were set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orphan {
    /// Which.
    pub key: OrphanKey,
    /// Its last state.
    pub head: Snapshot,
    /// The newest snapshot that it has in common with the grain's own line.
    pub base: Option<Guid>,
    /// Bytes that only it has, about.
    pub newer: Bytes,
    /// Space that it takes.
    pub used: Bytes,
    /// When it was reported.
    pub kept: Timestamp,
    /// What its node was called that is no member any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_on: Option<Name>,
    /// The operation that removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<OperationId>,
}

/// The answer to a request that came with an idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Hash of the request.
    pub fingerprint: String,
    /// When it was given.
    pub at: Timestamp,
    /// Log index of the entry.
    pub index: u64,
    /// What it was.
    pub outcome: Result<Outcome, Refusal>,
}

/// What an applied command brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so now.
    Done,
    /// It was so already: nothing changed.
    Unchanged,
    /// A node has this id.
    Node { node: NodeId },
    /// A grain has this id.
    Grain { grain: GrainId, operation: Option<OperationId> },
    /// An operation was begun.
    Operation { operation: OperationId },
    /// A set of objects was applied.
    Items { items: Vec<scrap_schema::api::ApplyResult> },
}

/// A row of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// [`Cluster::identity`].
    Identity,
    /// A member.
    Node(NodeId),
    /// A policy.
    Policy(Name),
    /// A grain.
    Grain(GrainId),
    /// A grain that was removed for good.
    Purged(GrainId),
    /// A network.
    Network(Name),
    /// A template.
    Template(TemplateId),
    /// A template that was removed.
    RemovedTemplate(TemplateId),
    /// An operation.
    Operation(OperationId),
    /// Diverged data.
    Orphan(OrphanKey),
    /// An answer.
    Answer(String),
    /// An event.
    Event(u64, u32),
}

impl Cluster {
    /// The policy of a grain; the standard one if it was removed in spite of everything.
    #[must_use]
    pub fn policy_of(&self, grain: &Grain) -> Policy {
        self.policies
            .get(&grain.spec.protect)
            .map_or_else(Policy::standard, |state| state.policy.clone())
    }

    /// The lease's numbers.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.identity.as_ref().map_or_else(Timing::default, |identity| identity.timing)
    }

    /// A grain outside the trash by name.
    #[must_use]
    pub fn grain_named(&self, name: &Name) -> Option<&Grain> {
        self.names.get(name).and_then(|id| self.grains.get(id))
    }

    /// A node by name.
    #[must_use]
    pub fn node_named(&self, name: &Name) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == *name)
    }

    /// A template by name.
    #[must_use]
    pub fn template_named(&self, name: &Name) -> Option<&TemplateState> {
        self.templates.values().find(|template| template.name == *name)
    }

    /// The template that a grain begins from.
    #[must_use]
    pub fn template_of(&self, grain: &Grain) -> Option<&TemplateState> {
        grain.template.and_then(|id| self.templates.get(&id))
    }

    /// A node's name, or its number if it is no member any more.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| format!("node {node}"), |node| node.name.to_string())
    }

    /// A grain's name, or its id if it is gone.
    #[must_use]
    pub fn grain_name(&self, grain: GrainId) -> String {
        self.grains.get(&grain).map_or_else(|| grain.to_string(), |grain| grain.name.to_string())
    }

    /// How often the cluster was begun anew.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.identity.as_ref().map_or(0, |identity| identity.generation)
    }

    /// Whether a node was left behind when the cluster was begun anew: it takes no part any more, whatever it believes.
    #[must_use]
    pub fn left_behind(&self, node: &Node) -> bool {
        node.generation < self.generation() && !mutant::is(Mutant::IgnoresGeneration)
    }

    /// Nodes of the present generation.
    pub fn present_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| !self.left_behind(node))
    }

    /// Nodes that take part: their daemon has started at least once. Of whatever role, because all of them can vote.
    pub fn members(&self) -> impl Iterator<Item = &Node> {
        self.present_nodes().filter(|node| node.boot.is_some())
    }

    /// Whether a grain should run under its node's lease (`docs/decisions/0005`). Below three voters nothing can be given away by itself,
    /// so nothing needs to stop by itself.
    #[must_use]
    pub fn needs_lease(&self, grain: &Grain) -> bool {
        self.needs_lease_on(grain, grain.owner)
    }

    /// The same if it had this owner.
    #[must_use]
    pub fn needs_lease_on(&self, grain: &Grain, owner: Option<NodeId>) -> bool {
        if self.disarmed(owner).is_some() {
            return false;
        }
        match self.policy_of(grain).failover.mode {
            FailoverMode::Auto => voters::wanted(self) >= LEASE_VOTERS,
            FailoverMode::Manual => false,
        }
    }

    /// Why nothing of a node fails over by itself, if that was said of it or of the whole cluster.
    #[must_use]
    pub fn disarmed(&self, node: Option<NodeId>) -> Option<&Disarmed> {
        let whole = self.identity.as_ref().and_then(|identity| identity.disarmed.as_ref());
        let node = node.and_then(|node| self.nodes.get(&node));
        whole.or_else(|| node.and_then(|node| node.disarmed.as_ref()))
    }

    /// Rebuilds what is derived. After loading rows.
    pub fn derive(&mut self) {
        let live = self.grains.values().filter(|grain| grain.trashed_until.is_none());
        self.names = live.map(|grain| (grain.name.clone(), grain.id)).collect();
    }

    /// Every row's key, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.identity.iter().map(|_| Key::Identity).collect();
        keys.extend(self.nodes.keys().copied().map(Key::Node));
        keys.extend(self.policies.keys().cloned().map(Key::Policy));
        keys.extend(self.networks.keys().cloned().map(Key::Network));
        keys.extend(self.templates.keys().copied().map(Key::Template));
        keys.extend(self.removed_templates.iter().copied().map(Key::RemovedTemplate));
        keys.extend(self.grains.keys().copied().map(Key::Grain));
        keys.extend(self.purged.iter().copied().map(Key::Purged));
        keys.extend(self.operations.keys().copied().map(Key::Operation));
        keys.extend(self.orphans.keys().copied().map(Key::Orphan));
        keys.extend(self.answers.keys().cloned().map(Key::Answer));
        keys.extend(self.events.keys().map(|(index, place)| Key::Event(*index, *place)));
        keys
    }
}
