//! Datasets in ordinary directories: the embedded default, for trying out. No root, no ZFS.
//!
//! A snapshot is a manifest of paths plus the chunks that are new, so its cost follows the number of files, and a
//! changed file is read as a whole. Plainly:
//!
//! - A snapshot of a running grain is not atomic: each file is as it was at some moment of the scan. It is exact when
//!   the grain is stopped, as every final snapshot is.
//! - A quota is stored and shown, but an ordinary directory cannot enforce it.
//! - Extended attributes and ACLs are not kept; sockets, fifos and devices are left out; owners are kept only as root.
//! - A standby has no head at all, only manifests and packs; the head is made at its promotion.
//!
//! - Templates are copied as a whole; nothing is shared with them.
//! - A view of a snapshot is a copy without write bits; a view of a head is the head itself.
//!
//! Layout: `root/{grains/<id>,orphans/<id>.<epoch>,templates/<id>,views,tmp}`; a dataset is `meta.json` (the truth, replaced at one stroke),
//! `snapshots/<guid>.manifest`, `packs/<random>.pack`, `head/`, and `head.index`, a cache. What is unfinished lies in
//! `tmp` and is swept at the next start. One process at a time opens a root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use tokio::task::spawn_blocking;

use crate::datasets::{
    Cause, Dataset, DatasetError, DatasetId, Result, Role, Shape, Space, Written,
};

mod aside;
mod datasets;
mod files;
mod folder;
mod head;
mod index;
mod manifest;
mod pack;
mod path;
mod scan;
mod stream;
mod template;
#[cfg(test)]
mod tests;
mod transfer;
mod tree;
mod view;

use files::Staging;
use folder::{Folder, Meta, StoredRole};

/// Datasets below one directory.
#[derive(Debug, Clone)]
pub struct DirDatasets {
    inner: Arc<Inner>,
}

type Slot = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// One lock per dataset. Whoever needs two takes the grain's before the orphan's.
    slots: Mutex<BTreeMap<DatasetId, Slot>>,
    /// Rises when a dataset changes so that a receive that began before must not end.
    generations: Mutex<BTreeMap<DatasetId, u64>>,
}

impl Inner {
    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn folder(&self, id: DatasetId) -> Folder {
        let path = match id {
            DatasetId::Grain(grain) => self.root.join("grains").join(grain.to_string()),
            DatasetId::Orphan(grain, epoch) => {
                self.root.join("orphans").join(format!("{grain}.{epoch}"))
            }
            DatasetId::Template(template) => self.root.join("templates").join(template.to_string()),
        };
        Folder { path }
    }

    fn slot(&self, id: DatasetId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    fn generation(&self, id: DatasetId) -> u64 {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.get(&id).copied().unwrap_or(0)
    }

    fn end_receives(&self, id: DatasetId) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        *generations.entry(id).or_default() += 1;
    }

    /// Every dataset that has a folder, in order.
    fn ids(&self) -> files::Result<Vec<DatasetId>> {
        let grains = files::names(&self.root.join("grains"))?;
        let grains = grains.iter().filter_map(|name| Some(DatasetId::Grain(name.parse().ok()?)));
        let orphans = files::names(&self.root.join("orphans"))?;
        let orphans = orphans.iter().filter_map(|name| {
            let (grain, epoch) = name.split_once('.')?;
            Some(DatasetId::Orphan(grain.parse().ok()?, Epoch(epoch.parse().ok()?)))
        });
        let templates = files::names(&self.root.join("templates"))?;
        let templates =
            templates.iter().filter_map(|name| Some(DatasetId::Template(name.parse().ok()?)));
        let mut ids: Vec<DatasetId> = grains.chain(orphans).chain(templates).collect();
        ids.sort();
        Ok(ids)
    }

    fn space(&self) -> files::Result<Space> {
        files::space(&self.root)
    }

    fn free(&self) -> files::Result<u64> {
        Ok(self.space()?.free.0)
    }

    /// Takes a folder out of sight at one stroke, then deletes it. A missing one is fine.
    fn discard(&self, path: &Path) -> files::Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let staging = Staging::new(&self.tmp(), "discard")?;
        files::rename(path, &staging.path().join("discarded"))
    }

    /// Brings every dataset back to its last good state after a crash.
    fn sweep(&self) -> files::Result<()> {
        for name in files::names(&self.tmp())? {
            files::remove_tree(&self.tmp().join(name))?;
        }
        files::remove_tree(&self.views())?;
        for id in self.ids()? {
            let folder = self.folder(id);
            let Some(mut meta) = folder.meta()? else { continue };
            folder.sweep(&meta)?;
            match meta.role {
                // A promotion, demotion or setting aside that was not finished: the head is in the newest snapshot.
                StoredRole::Standby | StoredRole::Orphan => self.discard(&folder.head())?,
                StoredRole::Template if meta.line.is_empty() => (),
                StoredRole::Template => self.discard(&folder.head())?,
                // A restore that was broken off on a system that cannot exchange folders; it will be asked for again.
                StoredRole::Owner if folder.head().symlink_metadata().is_err() => {
                    transfer::promote(self, &folder, &mut meta)?;
                }
                StoredRole::Owner => (),
            }
        }
        Ok(())
    }

    fn list(&self) -> files::Result<Vec<Dataset>> {
        let mut all = Vec::new();
        for id in self.ids()? {
            // One that was moved away between the listing and here is listed where it is now.
            all.extend(self.folder(id).meta()?.map(|meta| meta.describe(id)));
        }
        Ok(all)
    }

    fn create(
        &self,
        id: DatasetId,
        role: StoredRole,
        epoch: Epoch,
        shape: Shape,
    ) -> files::Result<()> {
        let staging = Staging::new(&self.tmp(), "create")?;
        let new = Folder { path: staging.path().join("dataset") };
        new.lay_out()?;
        files::make_dir(&new.head(), 0o755)?;
        new.save(&Meta::new(role, epoch, shape))?;
        self.appear(id, &new)
    }

    /// Gives a finished dataset its place.
    fn appear(&self, id: DatasetId, new: &Folder) -> files::Result<()> {
        let folder = self.folder(id);
        if folder.path.symlink_metadata().is_ok() {
            return Err(Cause::Exists);
        }
        self.end_receives(id);
        files::rename(&new.path, &folder.path)
    }

    fn set_role(&self, id: DatasetId, role: Role, epoch: Epoch) -> files::Result<()> {
        let folder = self.folder(id);
        let mut meta = folder.must()?;
        self.end_receives(id);
        match (role, meta.role) {
            (Role::Owner, StoredRole::Standby | StoredRole::Orphan) => {
                meta.epoch = epoch;
                transfer::promote(self, &folder, &mut meta)
            }
            (Role::Standby, StoredRole::Owner) => {
                if head::written(&folder, &meta)?.bytes.0 > 0 {
                    let newest = meta.newest();
                    return Err(Cause::Diverged { newest, from: newest });
                }
                meta.epoch = epoch;
                meta.role = StoredRole::Standby;
                meta.head = Bytes(0);
                folder.save(&meta)?;
                self.discard(&folder.head())
            }
            (Role::Owner, StoredRole::Owner)
            | (Role::Standby, StoredRole::Standby | StoredRole::Orphan) => {
                meta.epoch = epoch;
                folder.save(&meta)
            }
            (Role::Orphan | Role::Template, _) | (_, StoredRole::Template) => {
                Err(Cause::WrongRole { is: meta.role_of(id) })
            }
        }
    }

    fn written(&self, id: DatasetId) -> files::Result<Written> {
        let folder = self.folder(id);
        let meta = folder.must()?;
        if meta.role_of(id) == Role::Owner {
            return head::written(&folder, &meta);
        }
        let size = meta.line.last().map(|row| folder.manifest(row)).transpose()?;
        Ok(Written { bytes: Bytes(0), head: Bytes(size.map_or(0, |manifest| manifest.size())) })
    }

    fn snapshot(
        &self,
        id: DatasetId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> files::Result<Snapshot> {
        let folder = self.folder(id);
        let mut meta = folder.must()?;
        if let Some(row) = meta.line.iter().find(|row| row.snapshot.name == *name) {
            return Ok(row.snapshot.clone());
        }
        match meta.role_of(id) {
            Role::Owner => head::freeze(&folder, &mut meta, name, now),
            is @ (Role::Standby | Role::Orphan | Role::Template) => Err(Cause::WrongRole { is }),
        }
    }

    fn prune(&self, id: DatasetId, guids: &[Guid]) -> files::Result<()> {
        let folder = self.folder(id);
        let mut meta = folder.must()?;
        for guid in guids {
            if let Some((tag, _)) = meta.holds.iter().find(|(_, held)| *held == guid) {
                return Err(Cause::Held(format!("snapshot {guid} by `{tag}`")));
            }
            if meta.newest() == Some(*guid) {
                return Err(Cause::Held(format!("snapshot {guid} is the newest")));
            }
        }
        let before = meta.line.len();
        meta.line.retain(|row| !guids.contains(&row.snapshot.guid));
        if meta.line.len() == before {
            return Ok(());
        }
        meta.pruned += before - meta.line.len();
        folder.save(&meta)?;
        folder.sweep(&meta)?;
        // Looking the packs through costs as much as reading all manifests: not after each of many snapshots.
        if meta.pruned > meta.line.len() / 4 {
            folder.collect(&mut meta)?;
            folder.save(&meta)?;
        }
        Ok(())
    }

    /// Changes the description of a dataset.
    fn change(
        &self,
        id: DatasetId,
        change: impl FnOnce(&mut Meta) -> files::Result<()>,
    ) -> files::Result<()> {
        let folder = self.folder(id);
        let old = folder.must()?;
        let mut new = old.clone();
        change(&mut new)?;
        if new == old { Ok(()) } else { folder.save(&new) }
    }

    fn described(&self, id: DatasetId) -> files::Result<Dataset> {
        Ok(self.folder(id).must()?.describe(id))
    }

    fn restore(&self, id: DatasetId, guid: Guid) -> files::Result<()> {
        let folder = self.folder(id);
        match folder.must()?.role_of(id) {
            Role::Owner => aside::restore(self, &folder, guid),
            is @ (Role::Standby | Role::Orphan | Role::Template) => Err(Cause::WrongRole { is }),
        }
    }
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> files::Result<T> + Send + 'static,
) -> files::Result<T> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(files::refused("the work was broken off", std::io::Error::other(error))),
    }
}

impl DirDatasets {
    /// Opens the datasets below `root`, which is made if it is not there, and clears away what a crash left.
    ///
    /// # Errors
    /// The system refuses, or something there is not what was written.
    pub async fn open(root: &Path) -> std::result::Result<Self, Cause> {
        let (slots, generations) = (Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { root: root.to_owned(), slots, generations });
        let opened = Self { inner: Arc::clone(&inner) };
        blocking(move || {
            for (folder, mode) in
                [("grains", 0o711), ("orphans", 0o711), ("templates", 0o700), ("tmp", 0o700)]
            {
                files::make_dir(&inner.root.join(folder), mode)?;
            }
            files::sync_dir(&inner.root)?;
            inner.sweep()
        })
        .await?;
        Ok(opened)
    }

    /// Does blocking work while nobody else works on this dataset. The lock stays with the work even if nobody waits
    /// for its end any more.
    async fn locked<T: Send + 'static>(
        &self,
        id: DatasetId,
        work: &'static str,
        action: impl FnOnce(&Inner) -> files::Result<T> + Send + 'static,
    ) -> Result<T> {
        let guard = self.inner.slot(id).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        let result = blocking(move || {
            let _guard = guard;
            action(&inner)
        });
        result.await.map_err(|cause| DatasetError { work, dataset: id, cause })
    }
}
