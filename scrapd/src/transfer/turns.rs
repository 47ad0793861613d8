//! How many streams at once: each costs some MiB and a share of the disk, and a node with hundreds of grains must not be taken
//! down by their copies. Full streams and increments wait apart, so that an hour of the one is no hour's lag of the other.

use std::sync::Arc;

use scrap_decide::replicate::{Traffic, traffic};
use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::snapshot::Guid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::raft::Consensus;

/// Streams of whole datasets at once, in each direction.
pub const FULL_MAX: usize = 2;
/// Increments at once, in each direction.
pub const INCREMENTS_MAX: usize = 4;

/// The places for streams of one node.
#[derive(Clone, Default)]
pub struct Turns {
    outward: Direction,
    inward: Direction,
}

/// The places of one direction.
#[derive(Clone)]
pub struct Direction {
    full: Arc<Semaphore>,
    increments: Arc<Semaphore>,
}

/// A place that is taken until this is dropped. A hurried stream has none.
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            full: Arc::new(Semaphore::new(FULL_MAX)),
            increments: Arc::new(Semaphore::new(INCREMENTS_MAX)),
        }
    }
}

impl Turns {
    /// Places for streams that leave this node.
    #[must_use]
    pub fn outward(&self) -> Direction {
        self.outward.clone()
    }

    /// Places for streams that come to this node.
    #[must_use]
    pub fn inward(&self) -> Direction {
        self.inward.clone()
    }
}

impl Direction {
    fn places(&self, traffic: Traffic) -> Option<&Arc<Semaphore>> {
        match traffic {
            Traffic::Hurried => None,
            Traffic::Full => Some(&self.full),
            Traffic::Increment => Some(&self.increments),
        }
    }

    /// Why a stream of this kind would have to wait now.
    #[must_use]
    pub fn why_wait(&self, traffic: Traffic) -> Option<String> {
        let places = self.places(traffic)?;
        let what = match traffic {
            Traffic::Hurried => return None,
            Traffic::Full => format!("{FULL_MAX} full streams"),
            Traffic::Increment => format!("{INCREMENTS_MAX} increments"),
        };
        let full = places.available_permits() == 0;
        full.then(|| format!("it waits for its turn: {what} are under way already"))
    }

    /// Waits for a place, in the order of asking.
    pub async fn take(&self, traffic: Traffic) -> Turn {
        let Some(places) = self.places(traffic) else { return Turn { _permit: None } };
        // Never closed.
        Turn { _permit: Arc::clone(places).acquire_owned().await.ok() }
    }
}

/// Waits for a place for a stream to `receiver`. One that becomes hurried meanwhile waits no longer.
pub(super) async fn turn(
    consensus: &Consensus,
    places: &Direction,
    grain: GrainId,
    receiver: NodeId,
    from: Option<Guid>,
) -> Turn {
    let kind = || consensus.read(|cluster| traffic(cluster.grains.get(&grain), receiver, from));
    let hurried = async {
        let mut changes = consensus.changes();
        while kind() != Traffic::Hurried {
            if changes.changed().await.is_err() {
                // The daemon ends.
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        turn = places.take(kind()) => turn,
        () = hurried => Turn { _permit: None },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_too_much_waits_and_says_why() {
        let direction = Direction::default();
        let mut taken = Vec::new();
        for _ in 0..FULL_MAX {
            assert_eq!(direction.why_wait(Traffic::Full), None);
            taken.push(direction.take(Traffic::Full).await);
        }
        let why = "it waits for its turn: 2 full streams are under way already";
        assert_eq!(direction.why_wait(Traffic::Full).as_deref(), Some(why));
        let mut next = Box::pin(direction.take(Traffic::Full));
        assert!((&mut next).now_or_never().is_none());
        // Neither an increment nor a grain that stands still meanwhile waits for them.
        assert!(direction.take(Traffic::Increment).now_or_never().is_some());
        assert!(direction.take(Traffic::Hurried).now_or_never().is_some());
        taken.pop();
        assert!(next.now_or_never().is_some());
    }
}
