//! Snapshots of the line: made, held, pruned. Never one that somebody else made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use scrap_schema::id::GrainId;
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;

use super::found::{Found, Snap};
use super::names::{self, CREATED};
use super::{Held, Inner, Result};
use crate::datasets::{
    self, CLONE_TAG, Cause, Dataset, DatasetError, DatasetId, Frozen, ORIGIN_TAG, Role,
};

/// How long a grain that somebody works on is waited for when others are frozen with it.
const SOON: Duration = Duration::from_secs(2);

/// The snapshot of a line that has a name.
fn named<'a>(found: &'a Found, name: &SnapshotName) -> Option<&'a Snap> {
    found.line().find(|snap| snap.snapshot.name == *name)
}

impl Inner {
    /// See `Datasets::snapshot`.
    pub(super) async fn snapshot(
        &self,
        held: &mut Held,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        Ok(self.frozen(held, name, now).await?.snapshot)
    }

    async fn freeze_owned(
        &self,
        found: &mut Found,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        if let Some(snap) = named(found, name) {
            return Ok(snap.snapshot.clone());
        }
        match found.role()? {
            Role::Owner => (),
            is @ (Role::Standby | Role::Orphan | Role::Template) => {
                return Err(Cause::WrongRole { is });
            }
        }
        let snapshot = self.freeze(found, name, now).await?;
        found.note_snapshot(snapshot.clone());
        Ok(snapshot)
    }

    /// A new snapshot of whatever is there.
    pub(super) async fn freeze(
        &self,
        found: &Found,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        self.flush(found).await?;
        let full = format!("{}@{name}", found.name);
        self.make_snapshots(vec![full.clone()], (CREATED, now.0.to_string())).await?;
        Ok(Snapshot { name: name.clone(), guid: self.guid_of(&full).await?, created: now })
    }

    pub(super) async fn guid_of(&self, full: &str) -> Result<Guid> {
        let out = self.tools.zfs(&["get", "-Hp", "-o", "value", "guid", full]).await?;
        let guid = out.trim().parse().map_err(|_| Cause::Program {
            program: format!("zfs get guid {full}"),
            said: format!("`{}` is no guid", out.trim()),
        });
        guid.map(Guid)
    }

    /// See `Datasets::snapshot_all`: one command for all that can be frozen now; the others say why they cannot.
    pub(super) async fn snapshot_all(
        self: Arc<Self>,
        wanted: Vec<(GrainId, SnapshotName)>,
        now: Timestamp,
    ) -> Vec<(GrainId, datasets::Result<Frozen>)> {
        let mut order: Vec<GrainId> = wanted.iter().map(|(grain, _)| *grain).collect();
        order.sort();
        order.dedup();
        // Locks in one order, and those only that are free soon: what takes long with one grain holds up no other.
        let mut locks = BTreeMap::new();
        let soon = tokio::time::Instant::now() + SOON;
        for grain in order {
            let lock = self.lock(DatasetId::Grain(grain));
            if let Ok(held) = tokio::time::timeout_at(soon, lock).await {
                locks.insert(grain, held);
            }
        }
        // One alone is frozen as well on its own.
        if self.can.many && wanted.len() > 1 {
            let together = self.freeze_together(&mut locks, &wanted, now).await;
            if let Err(cause) = together {
                tracing::debug!(%cause, "not frozen together: one by one");
            }
        }
        let mut all = Vec::new();
        let failed = |dataset, cause| DatasetError { work: "snapshot", dataset, cause };
        for (grain, name) in wanted {
            let dataset = DatasetId::Grain(grain);
            let result = match locks.get_mut(&grain) {
                Some(held) => self.frozen(held, &name, now).await,
                None => Err(Cause::Busy("other work on it is not over yet".to_owned())),
            };
            all.push((grain, result.map_err(|cause| failed(dataset, cause))));
        }
        all
    }

    async fn frozen(&self, held: &mut Held, name: &SnapshotName, now: Timestamp) -> Result<Frozen> {
        let mut found = held.must(self).await?;
        let snapshot = self.freeze_owned(&mut found, name, now).await?;
        let dataset = self.described(&found).await?;
        held.keep(found);
        Ok(Frozen { snapshot, dataset })
    }

    /// Whatever this cannot freeze is frozen, or refused, on its own afterwards.
    async fn freeze_together(
        &self,
        locks: &mut BTreeMap<GrainId, Held>,
        wanted: &[(GrainId, SnapshotName)],
        now: Timestamp,
    ) -> Result<()> {
        let mut full = Vec::new();
        for (grain, name) in wanted {
            let Some(held) = locks.get_mut(grain) else { continue };
            let Some(found) = held.find(self).await? else { continue };
            if found.role()? == Role::Owner && named(&found, name).is_none() {
                self.flush(&found).await?;
                full.push(format!("{}@{name}", found.name));
            }
        }
        full.sort();
        full.dedup();
        if full.is_empty() {
            return Ok(());
        }
        self.make_snapshots(full, (CREATED, now.0.to_string())).await
    }

    /// See `Datasets::hold`.
    pub(super) async fn hold(&self, held: &mut Held, guid: Guid, tag: &str) -> Result<Dataset> {
        let mut found = held.must(self).await?;
        let snap = found.snap(guid)?;
        if tag == ORIGIN_TAG || tag.starts_with(CLONE_TAG) {
            return Err(Cause::Held(format!("the tag `{tag}` is the backend's own")));
        }
        let before = found.holds().get(tag).copied().filter(|before| *before != guid);
        let (hold, bookmarked) =
            tokio::join!(self.pool_hold(&found, snap), self.bookmark(&found, snap));
        hold?;
        let hold = [(names::hold(tag), guid.to_string())];
        self.set(&found.name, &hold).await?;
        let release = async {
            match before {
                Some(before) => self.pool_release(&found, before, tag).await,
                None => Ok(()),
            }
        };
        let held_now = found.held().filter(|(other, _)| other != tag).map(|(_, guid)| guid);
        let needed: BTreeSet<Guid> = held_now.chain([guid]).collect();
        let (released, bookmarks) = tokio::join!(release, self.sweep_bookmarks(&found, &needed));
        released?;
        found.note(&hold);
        found.snaps.bookmarks = bookmarks;
        found.snaps.bookmarks.extend(bookmarked);
        let dataset = self.described(&found).await?;
        held.keep(found);
        Ok(dataset)
    }

    /// See `Datasets::release`.
    pub(super) async fn release(&self, id: DatasetId, tag: &str) -> Result<()> {
        let found = self.must(id).await?;
        let Some((_, guid)) = found.held().find(|(held, _)| held == tag) else {
            return Ok(());
        };
        self.unset(&found.name, &names::hold(tag)).await?;
        let needed = found.held().filter(|(other, _)| other != tag).map(|(_, guid)| guid);
        self.sweep_bookmarks(&found, &needed.collect()).await;
        self.pool_release(&found, guid, tag).await
    }

    /// What a tag is put on is bookmarked too, where that can be done: if somebody destroys it all the same, the next stream still has its
    /// beginning. Returns a new bookmark. A hold does not fail for want of one.
    async fn bookmark(&self, found: &Found, snap: &Snap) -> Option<Snap> {
        if !self.can.bookmarks || !found.snaps.own.contains(snap) {
            return None;
        }
        let mut bookmark = snap.clone();
        bookmark.full = format!("{}#{}", found.name, snap.snapshot.name);
        if found.snaps.bookmarks.iter().any(|known| known.full == bookmark.full) {
            return None;
        }
        match self.bookmark_in_pool(&snap.full, &bookmark.full).await {
            Ok(()) => Some(bookmark),
            Err(cause) => {
                tracing::debug!(%cause, bookmark = bookmark.full, "not bookmarked");
                None
            }
        }
    }

    /// Destroys the bookmarks of what no tag holds. Returns those that are left.
    async fn sweep_bookmarks(&self, found: &Found, needed: &BTreeSet<Guid>) -> Vec<Snap> {
        let mut left = Vec::new();
        for bookmark in &found.snaps.bookmarks {
            if needed.contains(&bookmark.snapshot.guid) {
                left.push(bookmark.clone());
            } else if let Err(cause) = self.destroy_bookmark(&bookmark.full).await {
                tracing::debug!(%cause, bookmark = bookmark.full, "stays");
                left.push(bookmark.clone());
            }
        }
        left
    }

    /// A snapshot of another dataset is held by being cloned.
    async fn pool_hold(&self, found: &Found, snap: &Snap) -> Result<()> {
        if !found.snaps.own.contains(snap) {
            return Ok(());
        }
        self.hold_in_pool(&snap.full).await
    }

    /// Lets go in the pool of what no other tag holds, if it is there at all.
    async fn pool_release(&self, found: &Found, guid: Guid, tag: &str) -> Result<()> {
        let Ok(snap) = found.snap(guid) else { return Ok(()) };
        let mut others = found.holds().into_iter();
        if !found.snaps.own.contains(snap) || others.any(|(other, of)| of == guid && other != tag) {
            return Ok(());
        }
        self.let_go(std::slice::from_ref(&snap.full)).await
    }

    /// Lets go of our hold on snapshots, whether there is one or not.
    pub(super) async fn let_go(&self, snapshots: &[String]) -> Result<()> {
        for full in snapshots {
            self.release_in_pool(full).await?;
        }
        Ok(())
    }

    /// Lets go of snapshots that are about to be destroyed, and says so if somebody else holds one.
    pub(super) async fn let_go_for_good(&self, snaps: &[&Snap]) -> Result<()> {
        for snap in snaps.iter().filter(|snap| snap.userrefs > 0) {
            self.let_go(std::slice::from_ref(&snap.full)).await?;
            let get = ["get", "-Hp", "-o", "value", "userrefs", &snap.full];
            if self.tools.zfs(&get).await?.trim() != "0" {
                let what =
                    format!("snapshot {} by a `zfs hold` that SCRAP did not make", snap.full);
                return Err(Cause::Held(what));
            }
        }
        Ok(())
    }

    /// See `Datasets::prune`.
    pub(super) async fn prune(&self, id: DatasetId, guids: &[Guid]) -> Result<()> {
        let found = self.must(id).await?;
        let holds = found.all_holds(&self.names, &*self.origins().await?);
        let doomed: Vec<&Snap> = guids.iter().filter_map(|guid| found.snap(*guid).ok()).collect();
        for snap in &doomed {
            let guid = snap.snapshot.guid;
            if let Some((tag, _)) = holds.iter().find(|(_, held)| **held == guid) {
                return Err(Cause::Held(format!("snapshot {guid} by `{tag}`")));
            }
            if found.newest_guid() == Some(guid) {
                return Err(Cause::Held(format!("snapshot {guid} is the newest")));
            }
            if !found.snaps.own.contains(snap) {
                return Err(Cause::Held(format!("snapshot {guid} belongs to {}", snap.full)));
            }
        }
        self.let_go_for_good(&doomed).await?;
        let doomed: Vec<String> = doomed.iter().map(|snap| snap.full.clone()).collect();
        self.destroy_snapshots(&found.name, &doomed).await
    }

    /// Destroys snapshots of one dataset; missing ones are fine.
    pub(super) async fn destroy_snapshots(&self, dataset: &str, full: &[String]) -> Result<()> {
        if let Some(destroyed) = self.library.destroy(full).await {
            return destroyed;
        }
        let short = |full: &String| full.rsplit('@').next().unwrap_or_default().to_owned();
        let at_once = if self.can.many { 64 } else { 1 };
        for some in full.chunks(at_once) {
            let names: Vec<String> = some.iter().map(short).collect();
            let target = format!("{dataset}@{}", names.join(","));
            match self.tools.zfs(&["destroy", &target]).await {
                Ok(_) | Err(Cause::Missing) => (),
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}
