//! Setting a diverged head aside, taking it back, cloning, restoring: the moves between whole datasets, all by rename and hard link.
//! Nothing here is copied but a head's files, and nothing is deleted before what replaces it is stable.

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::files::{self, Result, Staging};
use super::folder::{Folder, Meta, StoredRole};
use super::manifest::Manifest;
use super::{Inner, head};
use crate::datasets::{Cause, Dataset, DatasetId, Role, Shape};

/// What to set aside.
pub(super) struct SetAside {
    pub(super) grain: GrainId,
    pub(super) base: Option<Guid>,
    pub(super) name: SnapshotName,
    pub(super) now: Timestamp,
}

/// How far to go: all the way, or less for the test that breaks off after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// D2: the head is a snapshot.
    Frozen,
    /// D3: the dataset lies among the orphans.
    Moved,
    /// It knows that it is one, and since where.
    Marked,
    /// D4, D5: the standby that ends at the base is there.
    Rebuilt,
    /// The orphan's head is only a snapshot now.
    Done,
}

impl SetAside {
    /// Does every step that is not done yet, up to `last`.
    pub(super) fn run(&self, inner: &Inner, last: Step) -> Result<Option<Dataset>> {
        let id = match self.find(inner)? {
            Some(id) => id,
            None => {
                let id = self.freeze(inner)?;
                if last == Step::Frozen {
                    return Ok(None);
                }
                files::rename(
                    &inner.folder(DatasetId::Grain(self.grain)).path,
                    &inner.folder(id).path,
                )?;
                id
            }
        };
        if last == Step::Moved {
            return Ok(None);
        }
        let orphan = inner.folder(id);
        let mut meta = orphan.must()?;
        let holds = std::mem::take(&mut meta.holds);
        if meta.role != StoredRole::Orphan {
            meta.role = StoredRole::Orphan;
            meta.base = self.base;
            // Kept until the standby has taken them over.
            meta.holds.clone_from(&holds);
            orphan.save(&meta)?;
        }
        if last == Step::Marked {
            return Ok(None);
        }
        meta.holds = holds;
        if let Some(base) = meta.base
            && inner.folder(DatasetId::Grain(self.grain)).meta()?.is_none()
        {
            self.rebuild(inner, &orphan, &meta, base)?;
        }
        if last == Step::Rebuilt {
            return Ok(None);
        }
        if !meta.holds.is_empty() {
            meta.holds.clear();
            orphan.save(&meta)?;
        }
        inner.discard(&orphan.head())?;
        Ok(Some(meta.describe(id)))
    }

    /// The orphan of this grain that ends with this name: an earlier call has got that far.
    fn find(&self, inner: &Inner) -> Result<Option<DatasetId>> {
        for id in inner.ids()? {
            let DatasetId::Orphan(grain, _) = id else { continue };
            if grain != self.grain {
                continue;
            }
            let Some(meta) = inner.folder(id).meta()? else { continue };
            if meta.line.last().is_some_and(|row| row.snapshot.name == self.name) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn freeze(&self, inner: &Inner) -> Result<DatasetId> {
        let folder = inner.folder(DatasetId::Grain(self.grain));
        let mut meta = folder.must()?;
        if let Some(base) = self.base {
            meta.row(base)?;
        }
        let id = DatasetId::Orphan(self.grain, meta.epoch);
        if inner.folder(id).path.exists() {
            return Err(Cause::Exists);
        }
        if meta.line.last().is_some_and(|row| row.snapshot.name == self.name) {
            // An earlier call got this far. What was written since then would be lost with the head.
            let newest = meta.newest();
            let written = inner.written(DatasetId::Grain(self.grain))?.bytes.0 > 0;
            return if written { Err(Cause::Diverged { newest, from: newest }) } else { Ok(id) };
        }
        match (meta.role, meta.line.last().cloned()) {
            (StoredRole::Owner, _) => {
                head::freeze(&folder, &mut meta, &self.name, self.now)?;
            }
            (StoredRole::Standby | StoredRole::Orphan | StoredRole::Template, Some(row)) => {
                let mut manifest: Manifest = folder.manifest(&row)?;
                manifest.snapshot.guid = Guid(files::random()?);
                manifest.snapshot.name = self.name.clone();
                manifest.snapshot.created = self.now;
                head::push(&folder, &mut meta, &manifest)?;
            }
            (StoredRole::Standby | StoredRole::Orphan | StoredRole::Template, None) => {
                files::make_dir(&folder.head(), 0o755)?;
                head::freeze(&folder, &mut meta, &self.name, self.now)?;
            }
        }
        Ok(id)
    }

    /// A Standby that ends at the base, out of the orphan's packs.
    fn rebuild(&self, inner: &Inner, orphan: &Folder, of: &Meta, base: Guid) -> Result<()> {
        let end = of.line.iter().position(|row| row.snapshot.guid == base);
        let end = end.ok_or(Cause::NoSnapshot(base))?;
        let staging = Staging::new(&inner.tmp(), "aside")?;
        let new = Folder { path: staging.path().join("dataset") };
        new.lay_out()?;
        let mut meta = Meta { role: StoredRole::Standby, base: None, ..of.clone() };
        meta.line.truncate(end + 1);
        let kept: Vec<Guid> = meta.line.iter().map(|row| row.snapshot.guid).collect();
        meta.holds.retain(|_, guid| kept.contains(guid));
        new.share(orphan, &meta.line)?;
        // Lets go of the packs that only the orphan needs.
        new.collect(&mut meta)?;
        meta.head = Bytes(0);
        new.save(&meta)?;
        files::rename(&new.path, &inner.folder(DatasetId::Grain(self.grain)).path)
    }
}

/// How far to take back: all the way, or less for the test that breaks off after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Back {
    /// What was in the grain's place is gone.
    Cleared,
    /// The orphan says that it is a Standby, and lies among the orphans still.
    Marked,
    /// It has its place.
    Done,
}

/// Gives an orphan the place of its grain, with every snapshot. What it shares with what was there are links of its own.
pub(super) fn take_back(
    inner: &Inner,
    grain: GrainId,
    epoch: Epoch,
    last: Back,
) -> Result<Option<Dataset>> {
    let (id, orphan_id) = (DatasetId::Grain(grain), DatasetId::Orphan(grain, epoch));
    let (folder, orphan) = (inner.folder(id), inner.folder(orphan_id));
    let mut meta = orphan.must()?;
    if let Some(there) = folder.meta()? {
        if there.role_of(id) != Role::Standby {
            return Err(Cause::WrongRole { is: there.role_of(id) });
        }
        let mut guids = there.line.iter().map(|row| row.snapshot.guid);
        if guids.any(|guid| meta.row(guid).is_err()) {
            return Err(Cause::Diverged { newest: there.newest(), from: meta.newest() });
        }
        inner.conceal(id)?;
        inner.discard(&folder.path)?;
    }
    if last == Back::Cleared {
        return Ok(None);
    }
    inner.conceal(orphan_id)?;
    // Its head is in its newest snapshot; what a crash left of it is nothing.
    inner.discard(&orphan.head())?;
    meta.role = StoredRole::Standby;
    meta.epoch = epoch;
    meta.base = None;
    meta.head = Bytes(0);
    orphan.save(&meta)?;
    if last == Back::Marked {
        return Ok(None);
    }
    files::rename(&orphan.path, &folder.path)?;
    Ok(Some(meta.describe(id)))
}

/// Builds a new Owner out of one snapshot of another dataset. The caller renames it to where it belongs.
pub(super) fn stage_clone(
    inner: &Inner,
    from: DatasetId,
    guid: Guid,
    epoch: Epoch,
    shape: Shape,
) -> Result<Staging> {
    let source = inner.folder(from);
    let row = source.must()?.row(guid)?.clone();
    let staging = Staging::new(&inner.tmp(), "clone")?;
    let new = Folder { path: staging.path().join("dataset") };
    new.lay_out()?;
    new.share(&source, std::slice::from_ref(&row))?;
    let mut meta = Meta::new(StoredRole::Owner, epoch, shape);
    meta.begin_as(row.clone());
    new.collect(&mut meta)?;
    let index = head::make(&new, &row, &new.head())?;
    index.save(&new.index_path(), guid)?;
    meta.head = Bytes(new.manifest(&row)?.size());
    new.save(&meta)?;
    Ok(staging)
}

/// Makes a head equal to a snapshot. The old head goes with the staging.
pub(super) fn restore(inner: &Inner, folder: &Folder, guid: Guid) -> Result<()> {
    let meta = folder.must()?;
    let row = meta.row(guid)?;
    let staging = Staging::new(&inner.tmp(), "restore")?;
    let new = staging.path().join("head");
    head::make(folder, row, &new)?;
    files::exchange(&new, &folder.head())
}
