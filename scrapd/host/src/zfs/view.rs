//! Views for people: a temporary clone of a snapshot, mounted where nothing can be written or run. The head is shown by a
//! temporary snapshot, as it was when it was first asked for.

use std::path::{Path, PathBuf};

use scrap_schema::snapshot::Guid;

use super::found::Found;
use super::names::{TEMPORARY, VIEW_OF};
use super::role::{SHUT, pairs};
use super::{Inner, Result, remove_mountpoint};
use crate::datasets::{Cause, DatasetId};

/// The end of the name of the snapshot of a head that is shown.
const HEAD: &str = "view";

impl Inner {
    /// See `Datasets::view`.
    pub(super) async fn view(&self, id: DatasetId, guid: Option<Guid>) -> Result<PathBuf> {
        let found = self.must(id).await?;
        let guid = match guid {
            None if !found.mounted() => found.newest_guid(),
            guid => guid,
        };
        let which = guid.map_or("head".to_owned(), |guid| guid.to_string());
        let (name, path) = self.names.view(id, &which);
        match self.tools.zfs(&["list", "-H", "-o", "name", &name]).await {
            Ok(_) => (),
            Err(Cause::Missing) => {
                let full = self.shown(&found, guid).await?;
                self.make_view(id, &full, &name, &path).await?;
            }
            Err(cause) => return Err(cause),
        }
        self.mount(&name).await?;
        Ok(path)
    }

    /// The snapshot that a view is of.
    async fn shown(&self, found: &Found, guid: Option<Guid>) -> Result<String> {
        if let Some(guid) = guid {
            return Ok(found.snap(guid)?.full.clone());
        }
        let full = format!("{}@{TEMPORARY}{HEAD}", found.name);
        self.flush(found).await?;
        self.destroy_snapshots(&found.name, std::slice::from_ref(&full)).await?;
        self.tools.zfs(&["snapshot", &full]).await?;
        Ok(full)
    }

    async fn make_view(&self, id: DatasetId, full: &str, name: &str, path: &Path) -> Result<()> {
        let mut properties = pairs(&SHUT);
        for (property, value) in &mut properties {
            if property == "mountpoint" {
                *value = path.display().to_string();
            }
        }
        properties.push((VIEW_OF.to_owned(), id.to_string()));
        self.make(&["clone", full], &properties, name).await
    }

    /// See `Datasets::conceal`.
    pub(super) async fn conceal(&self, id: DatasetId) -> Result<()> {
        match self.find(id).await? {
            Some(found) => self.conceal_found(&found).await,
            None => self.end_views(id).await,
        }
    }

    /// The same for a dataset that was found.
    pub(super) async fn conceal_found(&self, found: &Found) -> Result<()> {
        self.end_views(found.id).await?;
        // The head was shown by a snapshot.
        let full = format!("{}@{TEMPORARY}{HEAD}", found.name);
        if !found.snaps.temporary.contains(&full) {
            return Ok(());
        }
        self.destroy_snapshots(&found.name, &[full]).await
    }

    async fn end_views(&self, id: DatasetId) -> Result<()> {
        let (mine, _) = self.names.view(id, "");
        let origins = self.origins().await?;
        for name in origins.keys().filter(|name| name.starts_with(&mine)) {
            self.end_view(name).await?;
        }
        Ok(())
    }

    pub(super) async fn end_view(&self, name: &str) -> Result<()> {
        self.remove_named(name).await?;
        let folder = name.rsplit('/').next().unwrap_or_default();
        let path = self.names.mounts().join("views").join(folder);
        remove_mountpoint(path).await
    }
}
