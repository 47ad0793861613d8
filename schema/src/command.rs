//! Commands: every change of the replicated state, as it stands in the log. Append-only: old entries must decode for ever.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fence::OffBy;
use crate::id::{BootId, ClusterId, Epoch, GrainId, Name, NodeId, OperationId, TemplateId};
use crate::node::{Addresses, NodeFacts, NodeRole};
use crate::operation::{Loss, Need, Phase, Summary, Work};
use crate::snapshot::{Guid, Snapshot};
use crate::spec::{GrainSpec, Labels, NetworkSpec, NodeSpec, Policy};
use crate::time::Timestamp;
use crate::timing::Timing;
use crate::unit::Bytes;

/// One entry of the log: a command with who proposed it and when. Time and ids come inside; `apply` invents nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Wall clock of the proposer.
    pub at: Timestamp,
    /// Makes a repeated request one effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// The change.
    pub command: Command,
}

/// A client's word that a request is the same one as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// The text of the `Idempotency-Key` header.
    pub key: String,
    /// Hash of method, path and body: the same key with another request is refused.
    pub fingerprint: String,
}

/// A node that wants to be a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub role: NodeRole,
    /// Its labels.
    pub labels: Labels,
    /// Where it listens.
    pub addresses: Addresses,
    /// What it is made of.
    pub facts: NodeFacts,
}

/// What people say about a grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrainText {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Its spec.
    pub spec: GrainSpec,
}

/// One object of an `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "an apply is rare and mostly of grains")]
pub enum ApplyItem {
    /// Make or change a grain.
    Grain {
        /// Its id, if there is none of that name yet.
        new_id: GrainId,
        /// The operation that creates it, if there is none of that name yet.
        operation: OperationId,
        /// What it should be.
        text: GrainText,
    },
    /// Make or change a policy.
    Policy {
        /// Its name.
        name: Name,
        /// What it should be.
        policy: Policy,
    },
    /// Change what people say about a node.
    Node {
        /// Its name.
        name: Name,
        /// Its labels.
        labels: Labels,
        /// What it should be.
        spec: NodeSpec,
    },
    /// Make or change a network.
    Network {
        /// Its name.
        name: Name,
        /// What it should be.
        network: NetworkSpec,
    },
}

/// Why a grain gets an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum AssignCause {
    /// It is new.
    Place,
    /// It was released by its owner, and the new one has its last state.
    Migrate {
        /// Part of which operation.
        operation: OperationId,
    },
    /// Its owner is fenced.
    Failover {
        /// What is lost at most; `None` if the old owner itself takes it again.
        loss: Option<Loss>,
    },
    /// A person wants data that were set aside there to be its head.
    Promote {
        /// Part of which operation.
        operation: OperationId,
    },
}

/// Every change of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    // --- the cluster and its nodes
    /// The first entry of a cluster: its name, its numbers, its first node.
    FormCluster { cluster: ClusterId, name: Name, timing: Timing, node: NewNode },
    /// A node becomes a member.
    AddNode { node: NewNode },
    /// A node's daemon has started: clears suspicion and fence, makes earlier starts of it invalid.
    RegisterNode {
        node: NodeId,
        boot: BootId,
        addresses: Addresses,
        facts: NodeFacts,
        /// What the node's guard can prove the end of this start with, sealed. `None`: it has no guard.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seal: Option<String>,
        /// This start of the daemon was registered before, and registers again because its lease was not renewed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
        /// Log index that it had applied then: an earlier registration that comes late says nothing about now. `None`: of an older version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// A node is silent: its renewals are refused from now on, the countdown starts.
    SuspectNode { node: NodeId, boot: BootId, last_heard: Timestamp },
    /// One step of the countdown.
    TickNode { node: NodeId, boot: BootId, tick: u32 },
    /// The countdown is over: nothing of the node's `auto` grains runs any more.
    FenceNode { node: NodeId, boot: BootId },
    /// A node says goodbye: it has stopped its `auto` grains, verified.
    LeaveNode { node: NodeId, boot: BootId },
    /// A node has found something on its host that people should know, and says what: an event and no more.
    AlarmNode {
        node: NodeId,
        boot: BootId,
        what: String,
        /// Something is well again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        well: bool,
    },
    /// New grains and copies come to a node or not.
    SetCordon { node: NodeId, cordoned: bool },
    /// What people say about a node.
    UpdateNode { node: NodeId, if_index: Option<u64>, labels: Labels, spec: NodeSpec },
    /// A drained node comes back into use.
    UndrainNode { node: NodeId },
    /// A node is no member any more; its id is never used again.
    RemoveNode {
        node: NodeId,
        if_index: Option<u64>,
        /// Somebody has said that its orphans may stay behind on its disks.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leave_orphans: bool,
    },
    /// A silent node is off: nothing of it runs, whether it needs a lease or not.
    ConfirmNodeOff {
        node: NodeId,
        boot: BootId,
        /// What its own wall clock may have shown at most when it went off.
        until: Timestamp,
        by: OffBy,
    },
    /// Everything was off, and this node is not back yet: what it owned is given time, because it has the newest data.
    AwaitNode { node: NodeId, boot: BootId },
    /// Nothing fails over by itself and nothing is ended by a lease, of one node's grains or of all, for work on network or machines.
    Disarm {
        node: Option<NodeId>,
        /// It ends by itself then.
        until: Option<Timestamp>,
        by: String,
    },
    /// The end of that. `by`: `None`: its time is over.
    Arm { node: Option<NodeId>, by: Option<String> },
    /// The majority is gone for good: the cluster begins anew from this node alone, as this generation.
    RecoverCluster { generation: u64, node: NodeId },
    // --- policies
    /// Make or change a policy.
    PutPolicy { name: Name, if_index: Option<u64>, policy: Policy },
    /// Remove a policy that no grain uses.
    DeletePolicy { name: Name, if_index: Option<u64> },
    // --- what people want of grains
    /// A new grain.
    CreateGrain { grain: GrainId, operation: OperationId, text: GrainText },
    /// Other wishes for a grain.
    UpdateGrain {
        grain: GrainId,
        if_index: Option<u64>,
        labels: Labels,
        annotations: Labels,
        spec: GrainSpec,
    },
    /// Stop it and keep its data until a time.
    TrashGrain { grain: GrainId, if_index: Option<u64>, keep_until: Timestamp },
    /// Take it out of the trash.
    UndeleteGrain { grain: GrainId },
    /// Remove a trashed grain and all its data.
    PurgeGrain { grain: GrainId, if_index: Option<u64> },
    /// A set of objects at once: all or none.
    Apply {
        items: Vec<ApplyItem>,
        prune: Option<Labels>,
        keep_until: Timestamp,
        /// Refused if anything that it names was changed after this index.
        unchanged_after: Option<u64>,
    },
    // --- operations
    /// Begin long work.
    StartOperation { operation: OperationId, work: Work, text: Option<GrainText> },
    /// A person wants an operation undone.
    CancelOperation { operation: OperationId },
    /// An operation enters a phase.
    EnterPhase { operation: OperationId, phase: Phase },
    /// An operation is over. `cancelled` and `failed` say how; both false means it succeeded.
    FinishOperation { operation: OperationId, failed: bool, cancelled: bool, summary: Summary },
    /// An operation has been in this phase for long: what it needs from a person. It goes on all the same.
    OperationNeeds { operation: OperationId, phase: Phase, need: Need },
    // --- decisions of the leader about grains; each names the epoch that it was decided in
    /// A grain gets an owner: its epoch rises.
    AssignGrain {
        grain: GrainId,
        epoch: Epoch,
        to: NodeId,
        base: Option<Snapshot>,
        cause: AssignCause,
    },
    /// It is not given away by itself any more. Only then its owner may run it without a deadline.
    UnarmGrain { grain: GrainId, epoch: Epoch },
    /// Which nodes keep copies.
    SetStandbys { grain: GrainId, epoch: Epoch, standbys: BTreeSet<NodeId> },
    /// Where the copy of a silent node stands, so that nobody prunes that; `None`: it has moved on, or is none any more. `silent`
    /// and `None`: the node is silent, and nobody knows.
    RememberCopy {
        grain: GrainId,
        epoch: Epoch,
        node: NodeId,
        snapshot: Option<Guid>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        silent: bool,
    },
    /// A planned move begins: copying while it runs.
    BeginMigration { grain: GrainId, epoch: Epoch, operation: OperationId, to: NodeId },
    /// The owner shall stop the grain and freeze its last state.
    QuiesceGrain { grain: GrainId, epoch: Epoch, operation: OperationId },
    /// Before the assignment: everything back to where it was.
    AbortMigration { grain: GrainId, epoch: Epoch, operation: OperationId, why: String },
    /// The grain does not answer on its new owner: it goes back to where it came from, without loss.
    TurnBack { grain: GrainId, epoch: Epoch, operation: OperationId },
    /// A move is over and the grain answers.
    EndMigration { grain: GrainId, epoch: Epoch, operation: OperationId },
    // --- facts that nodes report about their own deeds
    /// The first dataset of a grain exists.
    GrainBorn { grain: GrainId, epoch: Epoch },
    /// From now on its owner runs it under the lease: it may be given away when the node is fenced.
    GrainArmed {
        grain: GrainId,
        epoch: Epoch,
        /// Log index that its node had applied when it saw this: what was ordered or reported since is newer. `None`: of an older version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// It answers.
    GrainStarted {
        grain: GrainId,
        epoch: Epoch,
        at: Timestamp,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// It is verified stopped.
    GrainStopped {
        grain: GrainId,
        epoch: Epoch,
        at: Timestamp,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// It is verified stopped for a hand-over, and this is its last state.
    GrainReleased {
        grain: GrainId,
        epoch: Epoch,
        operation: OperationId,
        last: Snapshot,
        stopping: Timestamp,
        /// Log index of the order to stop it that this answers: a move that was given up and begun again needs a new answer.
        #[serde(default)]
        quiesced: u64,
    },
    /// A snapshot that a person asked for exists.
    SnapshotTaken { grain: GrainId, epoch: Epoch, operation: OperationId, snapshot: Snapshot },
    /// A grain's data equal the wanted snapshot.
    GrainRestored { grain: GrainId, epoch: Epoch, operation: OperationId, before: Snapshot },
    /// A diverged head was set aside.
    OrphanKept {
        grain: GrainId,
        orphan_epoch: Epoch,
        node: NodeId,
        base: Option<Guid>,
        head: Snapshot,
        newer: Bytes,
        used: Bytes,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// An operation cannot go on at a node; the leader fails it.
    OperationStuck { grain: GrainId, operation: OperationId, node: NodeId, why: String },
    /// Its checks have failed so often that it counts as ill, and why; `None`: it is well again.
    GrainHealth {
        grain: GrainId,
        epoch: Epoch,
        ailment: Option<String>,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    /// Its owner cannot begin its epoch: the state that it should go on from is not there. `sure`: it has applied that it said so, so it
    /// never will, and nothing of the grain runs there.
    GrainDeclined {
        grain: GrainId,
        epoch: Epoch,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sure: bool,
    },
    /// What a node kept aside is not aside there any more: a person had it removed, or it is the head of its grain again.
    OrphanGone {
        grain: GrainId,
        orphan_epoch: Epoch,
        node: NodeId,
        head_again: bool,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    // --- networks
    /// Make or change a network.
    PutNetwork { name: Name, if_index: Option<u64>, network: NetworkSpec },
    /// Remove a network that no grain uses.
    DeleteNetwork { name: Name, if_index: Option<u64> },
    // --- templates
    /// A template was imported on a node and is sealed there.
    AddTemplate {
        template: TemplateId,
        name: Name,
        guid: Guid,
        size: Bytes,
        /// Processor architecture, as `uname -m` says it.
        arch: String,
        /// Operating system: `linux`, `freebsd`.
        os: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        node: NodeId,
    },
    /// A node has a template too now.
    TemplateHeld { template: TemplateId, node: NodeId },
    /// A node has a template no longer.
    TemplateLost { template: TemplateId, node: NodeId },
    /// Remove a template that no grain began from, with its data on every node.
    RemoveTemplate { template: TemplateId, if_index: Option<u64> },
    // --- what guards say
    /// The guard of a silent node has proven that nothing of this start of its daemon that needs the lease runs, or ever will.
    AttestNode { node: NodeId, boot: BootId },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FormCluster { name, node, .. } => {
                write!(f, "form cluster {name} on node {}", node.name)
            }
            Self::AddNode { node } => write!(f, "add node {}", node.name),
            Self::RegisterNode { node, .. } => write!(f, "register node {node}"),
            Self::SuspectNode { node, .. } => write!(f, "suspect node {node}"),
            Self::TickNode { node, tick, .. } => {
                write!(f, "tick {tick} of the countdown of node {node}")
            }
            Self::FenceNode { node, .. } => write!(f, "fence node {node}"),
            Self::LeaveNode { node, .. } => write!(f, "node {node} says goodbye"),
            Self::AlarmNode { node, what, .. } => write!(f, "node {node} has found: {what}"),
            Self::SetCordon { node, cordoned: true } => write!(f, "cordon node {node}"),
            Self::SetCordon { node, cordoned: false } => write!(f, "uncordon node {node}"),
            Self::UpdateNode { node, .. } => write!(f, "update node {node}"),
            Self::UndrainNode { node } => write!(f, "undrain node {node}"),
            Self::RemoveNode { node, .. } => write!(f, "remove node {node}"),
            Self::ConfirmNodeOff { node, by, .. } => write!(f, "node {node} is off, says {by}"),
            Self::Disarm { node: Some(node), .. } => write!(f, "disarm node {node}"),
            Self::Disarm { node: None, .. } => f.write_str("disarm the cluster"),
            Self::Arm { node: Some(node), .. } => write!(f, "arm node {node}"),
            Self::Arm { node: None, .. } => f.write_str("arm the cluster"),
            Self::AwaitNode { node, .. } => write!(f, "node {node} is given time to come back"),
            Self::RecoverCluster { generation, node } => {
                write!(f, "begin anew from node {node} as generation {generation}")
            }
            Self::PutPolicy { name, .. } => write!(f, "put policy {name}"),
            Self::DeletePolicy { name, .. } => write!(f, "delete policy {name}"),
            Self::CreateGrain { text, .. } => write!(f, "create grain {}", text.name),
            Self::UpdateGrain { grain, .. } => write!(f, "update grain {grain}"),
            Self::TrashGrain { grain, .. } => write!(f, "put grain {grain} into the trash"),
            Self::UndeleteGrain { grain } => write!(f, "take grain {grain} out of the trash"),
            Self::PurgeGrain { grain, .. } => write!(f, "purge grain {grain}"),
            Self::Apply { items, .. } => write!(f, "apply {} objects", items.len()),
            Self::StartOperation { operation, work, .. } => {
                write!(f, "begin {} as operation {operation}", work.word())
            }
            Self::CancelOperation { operation } => write!(f, "cancel operation {operation}"),
            Self::EnterPhase { operation, phase } => {
                write!(f, "operation {operation} enters phase {phase}")
            }
            Self::FinishOperation { operation, failed, cancelled, summary } => {
                let how = match (failed, cancelled) {
                    (true, _) => "failed",
                    (false, true) => "is cancelled",
                    (false, false) => "succeeded",
                };
                write!(f, "operation {operation} {how}: {}", summary.message)
            }
            Self::OperationNeeds { operation, need, .. } => {
                write!(f, "operation {operation} needs a person: {}", need.what)
            }
            Self::AssignGrain { grain, epoch, to, .. } => {
                write!(f, "assign grain {grain} to node {to}, epoch {}", epoch.next())
            }
            Self::UnarmGrain { grain, .. } => write!(f, "grain {grain} needs no lease any more"),
            Self::SetStandbys { grain, standbys, .. } => {
                let nodes: Vec<_> = standbys.iter().map(ToString::to_string).collect();
                write!(f, "copies of grain {grain} on nodes [{}]", nodes.join(", "))
            }
            Self::RememberCopy { grain, node, snapshot: Some(snapshot), .. } => {
                write!(f, "the copy of grain {grain} on node {node} stands at {snapshot}")
            }
            Self::RememberCopy { grain, node, snapshot: None, silent: false, .. } => {
                write!(f, "the copy of grain {grain} on node {node} has moved on")
            }
            Self::RememberCopy { grain, node, snapshot: None, silent: true, .. } => {
                write!(f, "nobody knows where the copy of grain {grain} on node {node} stands")
            }
            Self::BeginMigration { grain, to, .. } => {
                write!(f, "begin moving grain {grain} to node {to}")
            }
            Self::QuiesceGrain { grain, .. } => write!(f, "stop grain {grain} for its move"),
            Self::AbortMigration { grain, why, .. } => {
                write!(f, "give up moving grain {grain}: {why}")
            }
            Self::TurnBack { grain, .. } => {
                write!(f, "grain {grain} goes back: it does not answer")
            }
            Self::EndMigration { grain, .. } => write!(f, "end of the move of grain {grain}"),
            Self::GrainBorn { grain, .. } => write!(f, "grain {grain} has its dataset"),
            Self::GrainArmed { grain, .. } => write!(f, "grain {grain} runs under the lease"),
            Self::GrainStarted { grain, epoch, .. } => {
                write!(f, "grain {grain} answers, epoch {epoch}")
            }
            Self::GrainStopped { grain, epoch, .. } => {
                write!(f, "grain {grain} is stopped, epoch {epoch}")
            }
            Self::GrainReleased { grain, epoch, .. } => {
                write!(f, "grain {grain} is released, epoch {epoch}")
            }
            Self::SnapshotTaken { grain, snapshot, .. } => {
                write!(f, "snapshot {} of grain {grain}", snapshot.name)
            }
            Self::GrainRestored { grain, .. } => write!(f, "grain {grain} is restored"),
            Self::OrphanKept { grain, orphan_epoch, node, .. } => {
                write!(
                    f,
                    "diverged data of grain {grain}, epoch {orphan_epoch}, kept aside on node {node}"
                )
            }
            Self::OperationStuck { operation, node, why, .. } => {
                write!(f, "operation {operation} is stuck on node {node}: {why}")
            }
            Self::GrainHealth { grain, ailment: Some(why), .. } => {
                write!(f, "grain {grain} is not well: {why}")
            }
            Self::GrainHealth { grain, ailment: None, .. } => {
                write!(f, "grain {grain} is well again")
            }
            Self::GrainDeclined { grain, epoch, sure: false } => {
                write!(f, "the owner of grain {grain} cannot begin epoch {epoch}")
            }
            Self::GrainDeclined { grain, epoch, sure: true } => {
                write!(f, "the owner of grain {grain} never begins epoch {epoch}")
            }
            Self::OrphanGone { grain, orphan_epoch, node, head_again, .. } => {
                let how = if *head_again { "is its head again" } else { "is removed" };
                write!(
                    f,
                    "what node {node} kept aside of grain {grain}, epoch {orphan_epoch}, {how}"
                )
            }
            Self::PutNetwork { name, .. } => write!(f, "put network {name}"),
            Self::DeleteNetwork { name, .. } => write!(f, "delete network {name}"),
            Self::AddTemplate { name, node, .. } => {
                write!(f, "add template {name}, imported on node {node}")
            }
            Self::TemplateHeld { template, node } => {
                write!(f, "node {node} has template {template}")
            }
            Self::TemplateLost { template, node } => {
                write!(f, "node {node} has template {template} no longer")
            }
            Self::RemoveTemplate { template, .. } => write!(f, "remove template {template}"),
            Self::AttestNode { node, .. } => {
                write!(f, "the guard of node {node} has stopped everything")
            }
        }
    }
}
