//! Operations: long work that a person asked for, with phases; replicated, so that it survives the death of any node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, GrainId, Name, NodeId, OperationId};
use crate::snapshot::Guid;
use crate::time::Timestamp;
use crate::unit::{Bytes, Span};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Work {
    /// Place a new grain and start it.
    Create {
        /// Which.
        grain: GrainId,
    },
    /// Start a stopped grain.
    Start {
        /// Which.
        grain: GrainId,
    },
    /// Stop a grain and keep it stopped.
    Stop {
        /// Which.
        grain: GrainId,
    },
    /// Stop a grain and start it again where it is.
    Restart {
        /// Which.
        grain: GrainId,
    },
    /// Move a grain to another node without loss.
    Migrate {
        /// Which.
        grain: GrainId,
        /// Where to; the best node if nobody says.
        to: Option<NodeId>,
    },
    /// Start a grain from a copy because its owner is gone.
    Failover {
        /// Which.
        grain: GrainId,
        /// Where to; the freshest copy if nobody says.
        to: Option<NodeId>,
        /// Loss that the person accepts, instead of the policy's limit.
        accept_loss: Option<Span>,
        /// The person has made sure that the old owner is off (needed where no lease says so).
        owner_is_off: bool,
    },
    /// Move everything off a node and keep new grains away.
    Drain {
        /// Which.
        node: NodeId,
    },
    /// Take a snapshot with a name.
    Snapshot {
        /// Of which grain.
        grain: GrainId,
        /// The name.
        name: Name,
    },
    /// Make a grain's data equal to one of its snapshots; the state before is kept as a snapshot.
    Restore {
        /// Of which grain.
        grain: GrainId,
        /// Which snapshot.
        snapshot: Guid,
    },
    /// Make a new grain from another one's data.
    Clone {
        /// From which grain.
        from: GrainId,
        /// From which snapshot; from its state now if `None`.
        snapshot: Option<Guid>,
        /// The new grain.
        grain: GrainId,
    },
    /// Make a new grain from data that were set aside. These stay.
    Fork {
        /// The new grain.
        grain: GrainId,
        /// Of which grain the data are.
        of: GrainId,
        /// The epoch in which they were written.
        epoch: Epoch,
        /// Where they lie.
        node: NodeId,
    },
    /// Make data that were set aside the head of their grain; what it has until then is set aside instead.
    Promote {
        /// Of which grain.
        grain: GrainId,
        /// The epoch in which they were written.
        epoch: Epoch,
        /// Where they lie.
        node: NodeId,
    },
    /// Remove data that were set aside, for good.
    Discard {
        /// Of which grain they are.
        of: GrainId,
        /// The epoch in which they were written.
        epoch: Epoch,
        /// Where they lie.
        node: NodeId,
        /// Who wants that, as they call themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

impl Work {
    /// The grain that this works on, if it is one.
    #[must_use]
    pub fn grain(&self) -> Option<GrainId> {
        match self {
            Self::Create { grain }
            | Self::Start { grain }
            | Self::Stop { grain }
            | Self::Restart { grain }
            | Self::Migrate { grain, .. }
            | Self::Failover { grain, .. }
            | Self::Snapshot { grain, .. }
            | Self::Restore { grain, .. }
            | Self::Clone { grain, .. }
            | Self::Fork { grain, .. }
            | Self::Promote { grain, .. } => Some(*grain),
            Self::Drain { .. } | Self::Discard { .. } => None,
        }
    }

    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Migrate { .. } => "migrate",
            Self::Failover { .. } => "failover",
            Self::Drain { .. } => "drain",
            Self::Snapshot { .. } => "snapshot",
            Self::Restore { .. } => "restore",
            Self::Clone { .. } => "clone",
            Self::Fork { .. } => "fork",
            Self::Promote { .. } => "promote",
            Self::Discard { .. } => "discard",
        }
    }
}

/// Where an operation is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Work goes on, or waits with a reason.
    Running,
    /// Done.
    Succeeded,
    /// Not done; says why. What was done before is undone or stays as said.
    Failed,
    /// A person cancelled it and it was undone.
    Cancelled,
}

impl OperationState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// One step of an operation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Check and choose.
    Prepare,
    /// Copy while it runs.
    Warm,
    /// Stop it and freeze its last state.
    Stop,
    /// Copy the last state.
    Final,
    /// Start it and wait until it answers.
    Start,
    /// Move grains off a node.
    Move,
    /// Work on its data.
    Data,
    /// Give up and put things back.
    Undo,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prepare => "prepare",
            Self::Warm => "warm",
            Self::Stop => "stop",
            Self::Final => "final",
            Self::Start => "start",
            Self::Move => "move",
            Self::Data => "data",
            Self::Undo => "undo",
        })
    }
}

/// A phase that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub began: Timestamp,
}

/// What an operation brought, for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// One sentence.
    pub message: String,
    /// Time in which the grain did not answer: from the order to stop until it answered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
    /// Upper bound of what was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What a person can do now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What an operation needs that has not moved on for long, as its leader saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Need {
    /// One word for why it waits; the same as long as only numbers change.
    pub kind: String,
    /// What is missing, and where.
    pub what: String,
    /// What to type to see more.
    pub look: String,
    /// What to type to give the operation up, if that is still possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
}

/// What a failover loses: everything written in a window of time, as an upper bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Everything written before is kept.
    pub from: Timestamp,
    /// Nothing can have been written after.
    pub until: Timestamp,
    /// Length of the window.
    pub window_ms: u64,
    /// When the owner was last heard of, by its own clock: if that was its end, nothing was written later. `None`: it was not silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// Bytes that the owner last reported as written and not copied; more may have followed. `None`: it never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_known_bytes: Option<Bytes>,
}

impl Loss {
    /// What it is if the owner ended when it fell silent, as a part of a sentence. `None`: that would be no less.
    ///
    /// Who falls silent is either gone or cut off, and nobody can say which: cut off it writes until its lease has ended.
    #[must_use]
    pub fn if_silence_was_the_end(&self) -> Option<String> {
        let heard = self.heard.filter(|heard| *heard < self.until)?;
        let less = heard.max(self.from).since(self.from).rounded_up();
        Some(format!("about {less} if its node died when it fell silent"))
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Identity.
    pub id: OperationId,
    /// What is asked for.
    pub work: Work,
    /// Name of the grain or node it is about, as it was then.
    pub target: Name,
    /// Where it is.
    pub state: OperationState,
    /// Begun phases, oldest first; the last one is under way.
    pub phases: Vec<PhaseRecord>,
    /// A person wants it undone.
    pub cancel_requested: bool,
    /// When it was asked for.
    pub created: Timestamp,
    /// Log index of the request.
    pub created_index: u64,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What it brought.
    pub summary: Summary,
    /// What it needs from a person, if it has not moved on for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Need>,
}
