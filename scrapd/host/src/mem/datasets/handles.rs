//! What a test does with a pool in memory: write, remove and read what a running grain would, and look into snapshots and views.

use std::path::Path;
use std::sync::Arc;

use scrap_schema::id::{GrainId, TemplateId};
use scrap_schema::snapshot::Guid;
use scrap_schema::unit::Bytes;

use super::stored::Tree;
use super::{MemDatasets, lock};
use crate::datasets::{Cause, DatasetId, Result, Role, Space};

impl MemDatasets {
    /// For tests: the size of the pool.
    pub fn set_total(&self, total: Bytes) {
        lock(&self.state).space = Space { total, free: total };
    }

    /// For tests: what the running grain would do, write a file into its head.
    ///
    /// # Errors
    /// There is no such dataset, or it is not an Owner here.
    pub fn write(&self, grain: GrainId, path: &str, contents: impl Into<Vec<u8>>) -> Result<()> {
        self.with_head(grain, "write into", |head| {
            head.insert(path.to_owned(), Arc::new(contents.into()));
        })
    }

    /// For tests: removes a file from a head.
    ///
    /// # Errors
    /// There is no such dataset, or it is not an Owner here.
    pub fn remove(&self, grain: GrainId, path: &str) -> Result<()> {
        self.with_head(grain, "remove from", |head| {
            head.remove(path);
        })
    }

    /// For tests: a file of a head; of the newest snapshot where there is no head. `None` if there is none.
    #[must_use]
    pub fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        let stored = state.stored.get(&DatasetId::Grain(grain))?;
        let tree = stored.head.as_ref().or_else(|| stored.line.last().map(|(_, tree)| tree))?;
        tree.get(path).map(|contents| contents.to_vec())
    }

    /// For tests: a file of a snapshot.
    #[must_use]
    pub fn read_snapshot(&self, id: DatasetId, guid: Guid, path: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        let tree = state.stored.get(&id)?.tree(guid).ok()?;
        tree.get(path).map(|contents| contents.to_vec())
    }

    /// For tests: what unpacks a template would do, write a file into it.
    ///
    /// # Errors
    /// It is not begun, or sealed.
    pub fn unpack(
        &self,
        template: TemplateId,
        path: &str,
        contents: impl Into<Vec<u8>>,
    ) -> Result<()> {
        self.with(DatasetId::Template(template), "write into", |state, id| {
            let stored = state.find(id)?;
            let head = stored.head.as_mut().ok_or(Cause::WrongRole { is: Role::Template })?;
            head.insert(path.to_owned(), Arc::new(contents.into()));
            Ok(())
        })
    }

    /// For tests: a file of a view.
    #[must_use]
    pub fn read_view(&self, view: &Path, path: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        let (_, tree) = state.views.get(view)?;
        tree.get(path).map(|contents| contents.to_vec())
    }

    fn with_head(
        &self,
        grain: GrainId,
        work: &'static str,
        change: impl FnOnce(&mut Tree),
    ) -> Result<()> {
        self.with(DatasetId::Grain(grain), work, |state, id| {
            let stored = state.find(id)?;
            let is = stored.role;
            change(stored.head.as_mut().ok_or(Cause::WrongRole { is })?);
            Ok(())
        })
    }
}
