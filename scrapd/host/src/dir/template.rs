//! Templates: begun as an empty head, sealed into one snapshot, found again by its guid. Who unpacks what into them is not
//! known here.

use std::path::PathBuf;

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::time::Timestamp;

use super::files::Result;
use super::folder::{Folder, Row, StoredRole};
use super::{Inner, head};
use crate::datasets::{Cause, DatasetId, Shape, template_name};

impl Inner {
    /// See `Datasets::begin_template`.
    pub(super) fn begin_template(&self, id: DatasetId) -> Result<PathBuf> {
        let folder = self.folder(id);
        if folder.meta()?.is_some_and(|meta| meta.newest().is_some()) {
            return Err(Cause::Exists);
        }
        self.discard(&folder.path)?;
        self.create(id, StoredRole::Template, Epoch(0), Shape::default())?;
        Ok(folder.head())
    }

    /// See `Datasets::seal_template`.
    pub(super) fn seal_template(&self, id: DatasetId, now: Timestamp) -> Result<Snapshot> {
        let folder = self.folder(id);
        let mut meta = folder.must()?;
        let sealed = meta.line.last().map(|row| row.snapshot.clone());
        let snapshot = match sealed {
            Some(snapshot) => snapshot,
            None => head::freeze(&folder, &mut meta, &template_name(), now)?,
        };
        self.discard(&folder.head())?;
        Ok(snapshot)
    }

    /// The sealed template whose snapshot has this guid, if there is one.
    pub(super) fn template(&self, guid: Guid) -> Result<Option<(Folder, Row)>> {
        for id in self.ids()? {
            if !matches!(id, DatasetId::Template(_)) {
                continue;
            }
            let folder = self.folder(id);
            let Some(meta) = folder.meta()? else { continue };
            if let Ok(row) = meta.row(guid) {
                let row = row.clone();
                return Ok(Some((folder, row)));
            }
        }
        Ok(None)
    }
}
