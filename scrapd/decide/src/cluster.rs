//! The replicated state: what every node knows after the same log entry. Changed by [`crate::apply`] alone.
//!
//! Every object is one row with a key ([`Key`]); the store writes the touched rows of an entry and the hash of the state
//! is made from the same rows. Nothing derived from a clock or from reports is in here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::event::Event;
use scrap_schema::id::{BootId, ClusterId, Epoch, GrainId, Name, NodeId, OperationId, TemplateId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole};
use scrap_schema::operation::{Loss, Operation};
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::spec::{FailoverMode, GrainSpec, Labels, NetworkSpec, NodeSpec, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Bytes;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Members from which on grains run under a lease: fewer cannot keep a quorum without the dead one.
const LEASE_MEMBERS: usize = 3;

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
    /// Whether its lease is renewed.
    pub liveness: Liveness,
    /// The drain that empties it or has emptied it, until undrained.
    pub drain: Option<OperationId>,
    /// Log index of its last change by people.
    pub modified: u64,
    /// When it became a member.
    pub created: Timestamp,
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

/// That a grain is not well, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ailment {
    /// Since when.
    pub since: Timestamp,
    /// What its checks say.
    pub why: String,
}

/// How many user and group ids a grain has.
pub const IDS_PER_GRAIN: u32 = 65_536;
/// The first id that a grain can have: below are those of people and of other programs.
pub const IDS_FIRST: u32 = 1_000_000;

/// A grain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grain {
    /// Identity.
    pub id: GrainId,
    /// Name: display text and look-up key.
    pub name: Name,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// What is wanted.
    pub spec: GrainSpec,
    /// Number of changes of the spec.
    pub generation: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Log index of its last change by people.
    pub modified: u64,
    /// The fencing token.
    pub epoch: Epoch,
    /// The node that may run it in this epoch.
    pub owner: Option<NodeId>,
    /// Where it is between owners.
    pub stage: Stage,
    /// Nodes that keep copies.
    pub standbys: BTreeSet<NodeId>,
    /// Whether its first dataset exists: from then on no node may ever create an empty one for it.
    pub born: bool,
    /// Whether its owner runs it under the lease in this epoch; only then may it be given away when the node is fenced.
    pub armed: bool,
    /// Since when it answers in this epoch; `None`: it is verified stopped or has not answered yet.
    pub started: Option<Timestamp>,
    /// The operation that works on it. One at a time.
    pub operation: Option<OperationId>,
    /// The move after which it did not answer and was brought back.
    #[serde(default)]
    pub came_back: Option<OperationId>,
    /// Owners so far, newest last: where lines of data fork.
    pub tenures: Vec<Tenure>,
    /// Snapshots that people took.
    pub snapshots: Vec<Snapshot>,
    /// The last failover.
    pub last_failover: Option<FailoverRecord>,
    /// When its data may be removed for good; `None` outside the trash.
    pub trashed_until: Option<Timestamp>,
    /// The template that it began or will begin from; `None`: a program of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateId>,
    /// Its IPv4 address. Its own until it is purged, wherever it lives; in use while its spec has a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The same of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
    /// The hardware address of its interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// The first of its [`IDS_PER_GRAIN`] user and group ids on every node; `None`: it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<u32>,
    /// Why it is not well; `None` while it is, or nobody can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ailment: Option<Ailment>,
}

/// What a grain has on its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The hardware address.
    pub mac: [u8; 6],
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Where a grain is between owners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Stage {
    /// It has no owner yet.
    Unplaced,
    /// Its owner runs it, or keeps it stopped if that is wanted.
    Settled,
    /// It runs while its data are copied to the next owner.
    Warming { to: NodeId, operation: OperationId },
    /// Its owner stops it and freezes its last state.
    Quiescing {
        to: NodeId,
        operation: OperationId,
        /// Log index of the order: what answers an earlier one is out of date.
        #[serde(default)]
        ordered: u64,
    },
    /// Verified stopped; `last` is its last state. It waits for the next owner to have it.
    Released { to: NodeId, operation: OperationId, last: Snapshot, stopping: Timestamp },
    /// It has its new owner and has not answered there yet.
    Landing { from: NodeId, operation: OperationId, stopping: Timestamp },
    /// Its owner stops it to start it again.
    Restarting { operation: Option<OperationId> },
    /// Its owner stops it and makes its data equal to a snapshot.
    Restoring { operation: OperationId, snapshot: Guid },
    /// Its owner makes its first dataset from another grain's.
    Cloning { operation: OperationId, from: GrainId, snapshot: Option<Guid> },
}

/// How many epochs of a grain are remembered.
pub(crate) const TENURES_MAX: usize = 64;

/// One epoch of a grain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenure {
    /// Which.
    pub epoch: Epoch,
    /// Whose.
    pub node: NodeId,
    /// The state it began from: everything newer of earlier epochs is diverged. `None`: from nothing, or from
    /// the same node's own head.
    pub base: Option<Snapshot>,
}

/// A failover that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailoverRecord {
    /// When it was decided.
    pub at: Timestamp,
    /// From which node.
    pub from: NodeId,
    /// To which node.
    pub to: NodeId,
    /// The epoch that began with it.
    pub epoch: Epoch,
    /// What was lost at most; `None`: the old owner took it again.
    pub loss: Option<Loss>,
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

    /// Whether a grain should run under its node's lease (`docs/decisions/0005`). Below three members nothing can be given away by itself,
    /// so nothing needs to stop by itself.
    #[must_use]
    pub fn needs_lease(&self, grain: &Grain) -> bool {
        let members = self.nodes.values().filter(|node| node.boot.is_some()).count();
        match self.policy_of(grain).failover.mode {
            FailoverMode::Auto => members >= LEASE_MEMBERS,
            FailoverMode::Manual => false,
        }
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

impl Stage {
    /// The operation that this stage is part of.
    #[must_use]
    pub fn operation(&self) -> Option<OperationId> {
        match self {
            Self::Unplaced | Self::Settled => None,
            Self::Warming { operation, .. }
            | Self::Quiescing { operation, .. }
            | Self::Released { operation, .. }
            | Self::Landing { operation, .. }
            | Self::Restoring { operation, .. }
            | Self::Cloning { operation, .. } => Some(*operation),
            Self::Restarting { operation } => *operation,
        }
    }
}

impl Grain {
    /// What a refusal calls it: nobody sees a grain in the trash who is not told to look there.
    pub(crate) fn called(&self) -> String {
        match self.trashed_until {
            Some(_) => format!("grain {}, which is in the trash", self.name),
            None => format!("grain {}", self.name),
        }
    }

    /// Whether it is certain that it does not run on a node whose liveness is this.
    #[must_use]
    pub fn has_surely_stopped_with(&self, liveness: &Liveness) -> bool {
        match liveness {
            Liveness::Away { .. } => true,
            Liveness::Fenced { .. } => self.armed,
            Liveness::Joining | Liveness::Online | Liveness::Suspect { .. } => false,
        }
    }

    /// What it has on its network, if its spec wants one.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        self.spec.network.as_ref()?;
        Some(Attachment { mac: self.mac?, v4: self.address, v6: self.address6 })
    }

    /// Every address that is its own, also while its spec has no network.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.address.map(IpAddr::V4).into_iter().chain(self.address6.map(IpAddr::V6))
    }

    /// Whether it has never answered anywhere: nobody knows it by its address yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.started.is_none() && self.tenures.len() <= 1 && self.last_failover.is_none()
    }

    /// Whether it should run now.
    #[must_use]
    pub fn wants_to_run(&self) -> bool {
        self.spec.running && self.trashed_until.is_none()
    }

    /// Nodes that must keep copying: the standbys and where it moves.
    #[must_use]
    pub fn receivers(&self) -> BTreeSet<NodeId> {
        let mut receivers = self.standbys.clone();
        match &self.stage {
            Stage::Warming { to, .. }
            | Stage::Quiescing { to, .. }
            | Stage::Released { to, .. } => {
                receivers.insert(*to);
            }
            Stage::Unplaced
            | Stage::Settled
            | Stage::Landing { .. }
            | Stage::Restarting { .. }
            | Stage::Restoring { .. }
            | Stage::Cloning { .. } => (),
        }
        if let Some(owner) = self.owner {
            receivers.remove(&owner);
        }
        receivers
    }

    /// Whether it is still known where the epochs after this one began. What is older counts as diverged: it is kept, never used.
    pub(crate) fn remembers(&self, epoch: Epoch) -> bool {
        let oldest = self.tenures.first().map_or(epoch, |oldest| oldest.epoch);
        self.tenures.len() < TENURES_MAX || oldest <= epoch
    }

    /// The states where later epochs forked off the line of `epoch`: what a node has of it beyond any of them is diverged.
    pub fn forks_after(&self, epoch: Epoch) -> impl Iterator<Item = &Snapshot> {
        let later = self.tenures.iter().filter(move |tenure| tenure.epoch > epoch);
        later.filter_map(|tenure| tenure.base.as_ref())
    }
}
