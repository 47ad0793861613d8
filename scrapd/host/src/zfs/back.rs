//! Taking back what was set aside: it gets all the snapshots that it shares with what else there is of its grain, then its place.
//! Each step sees from the pool whether it was done.

use std::collections::BTreeSet;

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::Guid;

use super::found::Found;
use super::names::{BASE, RESERVED};
use super::role::state;
use super::{Inner, Result};
use crate::datasets::{Cause, Dataset, DatasetId, Role};

/// How far to go: all the way, or less for the test that breaks off after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Back {
    /// What was in the grain's place is gone.
    Cleared,
    /// It has every snapshot of its line.
    Whole,
    /// It has its place.
    Moved,
    /// It says what it is.
    Done,
}

/// More clones of clones than this are no work of ours.
const CHAIN_MAX: usize = 64;

impl Inner {
    /// See `Datasets::take_back`. Does every step that is not done yet, up to `last`.
    pub(super) async fn take_back(
        &self,
        grain: GrainId,
        epoch: Epoch,
        last: Back,
    ) -> Result<Option<Dataset>> {
        let (id, orphan_id) = (DatasetId::Grain(grain), DatasetId::Orphan(grain, epoch));
        let orphan = self.must(orphan_id).await?;
        self.end_receives(id).await?;
        if let Some(there) = self.find(id).await? {
            self.clear(&there, &orphan).await?;
        }
        self.discard_incoming(id).await?;
        if last == Back::Cleared {
            return Ok(None);
        }
        self.conceal_found(&self.must(orphan_id).await?).await?;
        self.make_whole(orphan_id).await?;
        if last == Back::Whole {
            return Ok(None);
        }
        let (from, to) = (self.names.of(orphan_id), self.names.of(id));
        self.rename(&from, &to).await?;
        if last == Back::Moved {
            return Ok(None);
        }
        self.set(&to, &state(Role::Standby, epoch)).await?;
        self.unset(&to, BASE).await?;
        if let Some(reserved) = orphan.value(RESERVED) {
            let wish = ("reservation".to_owned(), reserved.to_owned());
            match self.set(&to, &[wish]).await {
                // Better a head than a promise of space.
                Err(Cause::NoSpace) => {
                    tracing::warn!(dataset = to, "there is no room for what was reserved");
                }
                set => set?,
            }
            self.unset(&to, RESERVED).await?;
        }
        let back = self.must(id).await?;
        self.described(&back).await.map(Some)
    }

    /// Takes away what lies in the grain's place, if the orphan has all of it.
    async fn clear(&self, there: &Found, orphan: &Found) -> Result<()> {
        let is = there.role()?;
        if is != Role::Standby {
            return Err(Cause::WrongRole { is });
        }
        let guids: BTreeSet<Guid> = orphan.line().map(|snap| snap.snapshot.guid).collect();
        if there.line().any(|snap| !guids.contains(&snap.snapshot.guid)) {
            return Err(Cause::Diverged {
                newest: there.newest_guid(),
                from: orphan.newest_guid(),
            });
        }
        self.discard_unfinished(there).await?;
        self.conceal_found(there).await?;
        self.nothing_foreign(there).await?;
        // What others share with it they get first.
        self.remove(there.id).await
    }

    /// Gives a dataset the snapshots of its line that lie with others of its grain. Those of a template stay where they are.
    async fn make_whole(&self, id: DatasetId) -> Result<()> {
        for _ in 0..CHAIN_MAX {
            let found = self.must(id).await?;
            match found.clone_of() {
                Some(of) if !self.is_of_a_template(of) => {
                    self.tools.zfs(&["promote", &found.name]).await?;
                }
                Some(_) | None => break,
            }
        }
        Ok(())
    }
}
