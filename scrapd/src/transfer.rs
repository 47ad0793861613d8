//! Streams of snapshots between nodes: backpressure end to end, a byte count and a BLAKE3 hash at the end.
//!
//! On the wire: frames of a length (4 bytes, big endian) and so many bytes; a length of zero begins the trailer: the number of
//! bytes (8 bytes, big endian) and their BLAKE3 hash (32 bytes). A stream without a good trailer is no stream: the receiver
//! holds the last bytes back until the trailer is checked. Decides nothing: who may send is asked of `scrap_decide::replicate`.

mod frames;
mod receive;
mod send;
mod template;
mod turns;

use std::time::Duration;

use scrap_decide::replicate::{NotAdmitted, Offer};
use scrap_schema::id::{Epoch, GrainId, NodeId};
use scrap_schema::snapshot::Guid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use receive::receive;
pub use send::send;
pub use template::{offer_template, receive_template};
pub use turns::{FULL_MAX, INCREMENTS_MAX, Turn, Turns};

/// Longest silence of the other side of a stream, in either direction. Then it counts as gone: a machine that lost its power
/// does not say so.
pub const IDLE: Duration = Duration::from_secs(60);

/// Header with the offer as JSON.
pub const HEADER_OFFER: &str = "x-scrap-offer";

/// What a sender says before the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferBody {
    /// Who sends.
    pub sender: NodeId,
    /// In which epoch it believes to own the grain.
    pub epoch: Epoch,
    /// Where the stream begins.
    pub from: Option<Guid>,
    /// The snapshot that it carries.
    pub to: Guid,
    /// Log index that the sender had applied: the receiver judges on nothing older.
    pub index: u64,
    /// The sender's newest snapshots, newest last.
    pub line: Vec<Guid>,
    /// The stream goes on where an earlier one was cut off.
    #[serde(default)]
    pub resumed: bool,
}

impl OfferBody {
    fn to_offer(&self) -> Offer {
        Offer { sender: self.sender, epoch: self.epoch, from: self.from, line: self.line.clone() }
    }
}

/// What the receiver says after the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The snapshot that is here now, on stable storage and held.
    pub guid: Guid,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Why a stream did not come in.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// It may not.
    #[error("the stream of grain {grain} is not let in")]
    NotAdmitted {
        /// Of which grain.
        grain: GrainId,
        /// Why.
        #[source]
        why: NotAdmitted,
    },
    /// Too many others come in.
    #[error("the stream of grain {grain} is not taken in now: {why}")]
    NoTurn {
        /// Of which grain.
        grain: GrainId,
        /// What it waited for.
        why: String,
    },
    /// Something else works on the dataset.
    #[error("the dataset of grain {0} is busy")]
    Busy(GrainId),
    /// Another snapshot came than was announced.
    #[error("snapshot {came} came instead of {announced}")]
    OtherSnapshot {
        /// What came.
        came: Guid,
        /// What was announced.
        announced: Guid,
    },
    /// The dataset did not take it.
    #[error("the stream of grain {grain} was not taken in")]
    Failed {
        /// Of which grain.
        grain: GrainId,
        /// Why.
        #[source]
        source: crate::execute::Trouble,
    },
}
