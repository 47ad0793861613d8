//! Setting a diverged head aside without copying anything: freeze it, rename it, clone its base back to its place, and give
//! the clone the common snapshots. Each step sees from the pool whether it was done.

use scrap_schema::id::GrainId;
use scrap_schema::snapshot::{Guid, SnapshotName};
use scrap_schema::time::Timestamp;

use super::found::Found;
use super::names::{self, BASE, RESERVED};
use super::role::{SHUT, pairs, role_text, state};
use super::{Inner, Result};
use crate::datasets::{Cause, Dataset, DatasetId, Role};

/// What to set aside.
#[derive(Debug, Clone)]
pub(super) struct SetAside {
    pub(super) grain: GrainId,
    pub(super) base: Option<Guid>,
    pub(super) name: SnapshotName,
    pub(super) now: Timestamp,
}

/// How far to go: all the way, or less for the test that breaks off after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// D1: nobody reaches the head any more.
    Closed,
    /// D2: the head is a snapshot.
    Frozen,
    /// D3: the dataset lies among the orphans.
    Moved,
    /// It knows that it is one.
    Marked,
    /// D4: a clone of the base lies in its place.
    Cloned,
    /// D5: the clone has the common snapshots.
    Promoted,
    /// The orphan holds nothing any more.
    Done,
}

impl SetAside {
    fn grain(&self) -> DatasetId {
        DatasetId::Grain(self.grain)
    }

    /// Does every step that is not done yet, up to `last`.
    pub(super) async fn run(&self, inner: &Inner, last: Step) -> Result<Option<Dataset>> {
        let id = match self.find(inner).await? {
            Some(id) => id,
            None => {
                let Some(id) = self.freeze(inner, last).await? else { return Ok(None) };
                let (from, to) = (inner.names.of(self.grain()), inner.names.of(id));
                inner.rename(&from, &to).await?;
                id
            }
        };
        if last == Step::Moved {
            return Ok(None);
        }
        let orphan = inner.must(id).await?;
        inner.shut(&orphan).await?;
        inner.set(&orphan.name, &state(Role::Orphan, orphan.epoch())).await?;
        // What is closed does not grow. Reserved twice, there might not be room for the clone.
        if let Some(reserved) = orphan.value("reservation").filter(|bytes| *bytes != "0") {
            let wish = (RESERVED.to_owned(), reserved.to_owned());
            inner.set(&orphan.name, &[wish]).await?;
            inner.set(&orphan.name, &pairs(&[("reservation", "none")])).await?;
        }
        let orphan = inner.must(id).await?;
        if last == Step::Marked {
            return Ok(None);
        }
        let base = orphan.value(BASE).and_then(|text| text.parse::<Guid>().ok());
        if let Some(base) = base {
            if inner.find(self.grain()).await?.is_none() {
                self.rebuild(inner, &orphan, base).await?;
            }
            if last == Step::Cloned {
                return Ok(None);
            }
            inner.finish_setting_aside(self.grain()).await?;
        }
        if last == Step::Cloned || last == Step::Promoted {
            return Ok(None);
        }
        self.let_go(inner, id).await?;
        let origins = inner.origins().await?;
        inner.must(id).await?.describe(&inner.names, &origins).map(Some)
    }

    /// The orphan of this grain that ends with this name: an earlier call has got that far.
    async fn find(&self, inner: &Inner) -> Result<Option<DatasetId>> {
        let list = ["list", "-H", "-r", "-d", "1", "-o", "name", &inner.names.parent("orphans")];
        let out = inner.tools.zfs(&list).await?;
        for id in out.lines().filter_map(|name| inner.names.parse(name)) {
            if !matches!(id, DatasetId::Orphan(grain, _) if grain == self.grain) {
                continue;
            }
            let snaps = inner.snapshots_of(&inner.names.of(id)).await?;
            if snaps.own.last().is_some_and(|snap| snap.snapshot.name == self.name) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    async fn freeze(&self, inner: &Inner, last: Step) -> Result<Option<DatasetId>> {
        inner.end_receives(self.grain()).await?;
        let found = inner.must(self.grain()).await?;
        let role = found.role()?;
        if let Some(base) = self.base {
            found.snap(base)?;
        }
        let id = DatasetId::Orphan(self.grain, found.epoch());
        if inner.find(id).await?.is_some() {
            return Err(Cause::Exists);
        }
        inner.discard_unfinished(&found).await?;
        inner.discard_incoming(self.grain()).await?;
        inner.conceal_found(&found).await?;
        let begun = found.newest().is_some_and(|snap| snap.snapshot.name == self.name);
        if begun && role == Role::Owner && inner.changed(&found).await? > 0 {
            // An earlier call got this far. What was written since then would be lost with the head.
            let newest = found.newest_guid();
            return Err(Cause::Diverged { newest, from: newest });
        }
        inner.flush(&found).await?;
        inner.unmount(&found.name).await?;
        if last == Step::Closed {
            return Ok(None);
        }
        if !begun {
            let unmounted = inner.must(self.grain()).await?;
            inner.freeze(&unmounted, &self.name, self.now).await?;
        }
        let base = self.base.map_or("none".to_owned(), |base| base.to_string());
        inner.set(&found.name, &[(BASE.to_owned(), base)]).await?;
        Ok(Some(id).filter(|_| last != Step::Frozen))
    }

    /// A Standby that ends at the base, as a clone of it. All that it is comes with the one command that makes it.
    async fn rebuild(&self, inner: &Inner, orphan: &Found, base: Guid) -> Result<()> {
        let end = orphan.snap(base)?;
        let mut kept: Vec<Guid> = orphan.line().map(|snap| snap.snapshot.guid).collect();
        kept.truncate(kept.iter().position(|guid| *guid == base).map_or(0, |at| at + 1));
        let mut properties = pairs(&SHUT);
        properties.extend(inner.keepsakes(orphan, |guid| kept.contains(&guid)));
        if let Some(reserved) = orphan.value(RESERVED) {
            properties.extend(pairs(&[("reservation", reserved)]));
        }
        properties.extend(state(Role::Standby, orphan.epoch()));
        let place = inner.names.of(self.grain());
        match inner.make(&["clone", &end.full], &properties, &place).await {
            Err(Cause::NoSpace) if orphan.value(RESERVED).is_some() => {
                // What the orphan keeps is not free any more. Better a copy than a promise of space.
                tracing::warn!(dataset = place, "there is no room for what was reserved");
                properties.retain(|(property, _)| property != "reservation");
                inner.make(&["clone", &end.full], &properties, &place).await
            }
            made => made,
        }
    }

    /// The tags stay with the Standby. What only the orphan has is kept by being an orphan.
    async fn let_go(&self, inner: &Inner, id: DatasetId) -> Result<()> {
        let orphan = inner.must(id).await?;
        let own = orphan.snaps.own.iter().filter(|snap| snap.userrefs > 0);
        let held: Vec<String> = own.map(|snap| snap.full.clone()).collect();
        inner.let_go(&held).await?;
        let tags: Vec<String> =
            orphan.properties.keys().filter_map(|name| names::held(name)).collect();
        for tag in &tags {
            inner.unset(&orphan.name, &names::hold(tag)).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Gives a grain that is a clone of its own orphan the snapshots that both have: D5.
    pub(super) async fn finish_setting_aside(&self, id: DatasetId) -> Result<()> {
        let Some(found) = self.find(id).await? else { return Ok(()) };
        let of_an_orphan =
            found.clone_of().is_some_and(|of| of.starts_with(&self.names.parent("orphans/")));
        if of_an_orphan {
            tracing::debug!(dataset = %id, role = role_text(Role::Standby), "takes its snapshots over");
            self.tools.zfs(&["promote", &found.name]).await?;
        }
        Ok(())
    }
}
