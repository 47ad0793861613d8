//! Part of the replicated state: one grain, where its life stands, and what of its past is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId, TemplateId};
use scrap_schema::operation::Loss;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::spec::{GrainSpec, Labels};
use scrap_schema::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Liveness;

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
    /// Where copies stand whose nodes are silent: nobody prunes that before they are back and have moved on, whoever the owner is.
    /// `None`: nobody knows. A silent node that is not in here may still be asked for by the leader: nothing is pruned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub away: BTreeMap<NodeId, Option<Guid>>,
    /// Whether its first dataset exists: from then on no node may ever create an empty one for it.
    pub born: bool,
    /// Whether its owner runs it under the lease in this epoch; only then may it be given away when the node is fenced.
    pub armed: bool,
    /// Whether its owner cannot begin this epoch.
    #[serde(default, skip_serializing_if = "Declined::is_no")]
    pub declined: Declined,
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
    /// Log index of the last entry that changed anything of it, or of what is set aside of it. Who had not applied that when he looked
    /// has nothing to report of now.
    #[serde(default)]
    pub touched: u64,
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

/// Whether the owner of a grain has said that it cannot begin its epoch. Only ever further within one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Declined {
    /// It has not.
    #[default]
    No,
    /// It has said so: from the moment in which it knows that, it begins nothing.
    Said,
    /// It knows, and nothing runs there: another copy is chosen, or what it has by now.
    Sure,
}

impl Declined {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
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
    Cloning {
        operation: OperationId,
        from: GrainId,
        snapshot: Option<Guid>,
        /// From data that were set aside, of this epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        orphan: Option<Epoch>,
    },
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

/// How much of an epoch led to the present state of a grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// All of it.
    Whole,
    /// What came until this state.
    Until(&'a Snapshot),
    /// None of it: it was left behind.
    Nothing,
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

    /// How much of an epoch led to the present state. From the newest epoch back: each goes on from a state of one before it, and
    /// those between the two led nowhere, as a failover to an older copy and data that became the head again leave them.
    pub(crate) fn part(&self, epoch: Epoch) -> Part<'_> {
        let Some((mut tenure, mut older)) = self.tenures.split_last() else { return Part::Whole };
        while epoch < tenure.epoch {
            let before = match &tenure.base {
                Some(base) if epoch > base.name.epoch => return Part::Nothing,
                Some(base) if epoch == base.name.epoch => return Part::Until(base),
                Some(base) => older.iter().rposition(|it| it.epoch <= base.name.epoch),
                // From that owner's own head: all of the epoch before.
                None => older.len().checked_sub(1),
            };
            // Older than what is remembered, or a state of the grain that this one was cloned from.
            let earlier = before.and_then(|before| older.get(..=before)?.split_last());
            let Some((last, rest)) = earlier else { return Part::Whole };
            if tenure.base.is_none() && epoch > last.epoch {
                return Part::Nothing;
            }
            (tenure, older) = (last, rest);
        }
        Part::Whole
    }

    /// Whether a later epoch began from this very state.
    pub(crate) fn is_base(&self, guid: Guid) -> bool {
        self.tenures.iter().filter_map(|tenure| tenure.base.as_ref()).any(|it| it.guid == guid)
    }
}
