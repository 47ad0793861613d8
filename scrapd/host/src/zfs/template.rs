//! Templates: begun as an empty mounted dataset, sealed into one snapshot.

use std::path::PathBuf;

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Snapshot;
use scrap_schema::time::Timestamp;

use super::role::{shape, state};
use super::{Inner, Result};
use crate::datasets::{Cause, DatasetId, Role, Shape, template_name};

impl Inner {
    /// See `Datasets::begin_template`.
    pub(super) async fn begin_template(&self, id: DatasetId) -> Result<PathBuf> {
        self.end_receives(id).await?;
        self.discard_incoming(id).await?;
        if let Some(found) = self.find(id).await? {
            if found.newest().is_some() {
                return Err(Cause::Exists);
            }
            self.remove(id).await?;
        }
        let mut properties = self.open_properties(id);
        properties.extend(shape(Shape::default())?);
        properties.extend(state(Role::Template, Epoch(0)));
        self.make(&["create"], &properties, &self.names.of(id)).await?;
        self.mount(&self.names.of(id)).await?;
        Ok(self.names.mountpoint(id))
    }

    /// See `Datasets::seal_template`.
    pub(super) async fn seal_template(&self, id: DatasetId, now: Timestamp) -> Result<Snapshot> {
        let found = self.must(id).await?;
        let sealed = found.newest().map(|snap| snap.snapshot.clone());
        let snapshot = match sealed {
            Some(snapshot) => snapshot,
            None => self.freeze(&found, &template_name(), now).await?,
        };
        self.shut(&found).await?;
        Ok(snapshot)
    }
}
