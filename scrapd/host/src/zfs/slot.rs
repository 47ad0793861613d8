//! The lock of one dataset, and with it what the last work under it knew: whoever comes next need not look again.
//!
//! A look is good for a while, as long as nobody has taken the lock since without handing it on, and as long as none of our
//! commands has changed which datasets there are. So what people do by hand is overlooked for half a minute at most, and the
//! tools refuse what does not fit then; nothing is handed on after a failure, so the next try looks.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use super::found::Found;
use super::{Inner, Result};
use crate::datasets::{Cause, DatasetId};

/// How long a look is good: what people do by hand is found within half a minute by whoever looks at everything, too.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// A dataset as it was found, with what was noted since.
#[derive(Debug)]
struct Look {
    found: Found,
    seen: Instant,
    /// Moves of the tools when it was seen.
    moves: u64,
}

/// What a lock guards.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How often it was taken.
    taken: u64,
    look: Option<Look>,
}

pub(super) type Slot = Arc<tokio::sync::Mutex<Known>>;

/// The lock, held. What is not handed on by [`Held::keep`] is forgotten.
#[derive(Debug)]
pub(super) struct Held {
    id: DatasetId,
    guard: OwnedMutexGuard<Known>,
    look: Option<Look>,
    /// Of the look that was given out.
    seen: (Instant, u64),
}

/// A look that is taken past a time without the lock.
#[derive(Debug)]
pub(super) struct Carried {
    look: Look,
    taken: u64,
}

impl Inner {
    fn slot(&self, id: DatasetId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    /// Takes the lock of a dataset.
    pub(super) async fn lock(&self, id: DatasetId) -> Held {
        let mut guard = self.slot(id).lock_owned().await;
        guard.taken += 1;
        let look = guard.look.take();
        Held { id, guard, look, seen: (Instant::now(), self.tools.moves()) }
    }
}

impl Held {
    /// The dataset as it is now, by the last look if that is good; `None` if there is none.
    pub(super) async fn find(&mut self, inner: &Inner) -> Result<Option<Found>> {
        let now = (Instant::now(), inner.tools.moves());
        let good = |look: &Look| {
            look.moves == now.1 && now.0.saturating_duration_since(look.seen) < GOOD_FOR
        };
        if let Some(look) = self.look.take().filter(good) {
            self.seen = (look.seen, look.moves);
            return Ok(Some(look.found));
        }
        self.seen = now;
        inner.find(self.id).await
    }

    /// The same, where it must be.
    pub(super) async fn must(&mut self, inner: &Inner) -> Result<Found> {
        self.find(inner).await?.ok_or(Cause::Missing)
    }

    /// Looks anew at the next [`Held::find`].
    pub(super) fn forget(&mut self) {
        self.look = None;
    }

    /// Hands on what [`Held::find`] gave, with everything that was changed since noted in it.
    pub(super) fn keep(&mut self, found: Found) {
        let (seen, moves) = self.seen;
        self.guard.look = Some(Look { found, seen, moves });
    }

    /// Lets go of the lock with what [`Held::find`] gave: it counts again if nobody takes the lock meanwhile.
    pub(super) fn carry(self, found: Found) -> Carried {
        let (seen, moves) = self.seen;
        Carried { look: Look { found, seen, moves }, taken: self.guard.taken }
    }

    /// Brings back what was carried.
    pub(super) fn bring(&mut self, carried: Carried) {
        if self.guard.taken == carried.taken + 1 {
            self.look = Some(carried.look);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scrap_schema::id::GrainId;
    use scrap_schema::snapshot::{Guid, Snapshot};
    use scrap_schema::time::Timestamp;

    use super::super::ZfsSettings;
    use super::super::found::Snaps;
    use super::*;

    fn without_tools() -> (Inner, DatasetId) {
        let mut settings = ZfsSettings::new("tank/scrap", "/nowhere");
        settings.zfs = "/nowhere/zfs".into();
        (Inner::new(&settings).unwrap(), DatasetId::Grain(GrainId(1)))
    }

    fn found(id: DatasetId) -> Found {
        let (name, snaps) = ("tank/scrap/grains/1".to_owned(), Snaps::default());
        Found { id, name, properties: BTreeMap::new(), before: Vec::new(), snaps }
    }

    #[tokio::test]
    async fn a_look_is_handed_on_until_somebody_does_not_or_something_moves() {
        let (inner, id) = without_tools();
        let again = async || inner.lock(id).await.find(&inner).await.is_ok_and(|it| it.is_some());
        assert!(!again().await, "nothing was kept, and the tools are not there");
        for (what, spoil, good) in [
            ("nothing happens", 0, true),
            ("somebody takes the lock", 1, false),
            ("a dataset comes or goes", 2, false),
            ("it is old", 3, false),
        ] {
            let mut held = inner.lock(id).await;
            held.keep(found(id));
            drop(held);
            match spoil {
                1 => drop(inner.lock(id).await),
                2 => drop(inner.tools.moving()),
                3 => {
                    let mut held = inner.lock(id).await;
                    if let Some(old) = Instant::now().checked_sub(GOOD_FOR) {
                        held.seen.0 = old;
                    }
                    held.keep(found(id));
                }
                _ => (),
            }
            assert_eq!(again().await, good, "{what}");
        }
    }

    #[test]
    fn what_came_in_whole_has_no_rest() {
        let mut found = found(DatasetId::Grain(GrainId(1)));
        found.note(&[("receive_resume_token".to_owned(), "1-c740b4779".to_owned())]);
        assert!(found.is_unfinished());
        let name = "scrap.0000000000000001.0000000000000001".parse().unwrap();
        found.note_whole(Snapshot { name, guid: Guid(1), created: Timestamp(1) });
        assert!(!found.is_unfinished());
        assert_eq!(found.newest_guid(), Some(Guid(1)));
    }

    #[tokio::test]
    async fn what_is_carried_counts_if_nobody_took_the_lock_meanwhile() {
        let (inner, id) = without_tools();
        for disturbed in [false, true] {
            let carried = inner.lock(id).await.carry(found(id));
            if disturbed {
                drop(inner.lock(id).await);
            }
            let mut held = inner.lock(id).await;
            held.bring(carried);
            let found = held.find(&inner).await;
            assert_eq!(found.is_ok_and(|it| it.is_some()), !disturbed);
        }
    }
}
