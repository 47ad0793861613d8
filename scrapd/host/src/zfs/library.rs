//! OpenZFS by its library instead of its programs, for what it can do: where it is built in, and where the kernel knows the
//! root. Everywhere else every question here is answered with nothing, and the programs do it.

use super::names::POOL_TAG;
use super::{Inner, Result};
use crate::datasets::Cause;

#[cfg(not(feature = "libzfs"))]
mod absent;
#[cfg(feature = "libzfs")]
mod linked;

#[cfg(not(feature = "libzfs"))]
pub(super) use absent::Library;
#[cfg(feature = "libzfs")]
pub(super) use linked::Library;

/// A stream, by the full names of its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: Option<String>,
    pub(super) to: String,
    /// Of a stream that was cut off: what is wanted is the rest of it.
    pub(super) token: Option<String>,
}

/// What takes a stream in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The full name of the snapshot that it becomes.
    pub(super) to: String,
    /// The full name of the snapshot that it is a clone of.
    pub(super) origin: Option<String>,
    pub(super) properties: Vec<(String, String)>,
}

impl Inner {
    /// Makes snapshots at one moment, each with a property.
    pub(super) async fn make_snapshots(
        &self,
        full: Vec<String>,
        property: (&str, String),
    ) -> Result<()> {
        if let Some(result) = self.library.snapshot(&full, &property).await {
            return result;
        }
        let property = format!("{}={}", property.0, property.1);
        let snapshot = ["snapshot", "-o", &property].map(str::to_owned);
        let arguments: Vec<String> = snapshot.into_iter().chain(full).collect();
        self.tools.zfs_list(&arguments).await.map(|_| ())
    }

    /// Holds a snapshot for SCRAP. A hold that is there is fine.
    pub(super) async fn hold_in_pool(&self, full: &str) -> Result<()> {
        let result = match self.library.hold(full).await {
            Some(result) => result,
            None => self.tools.zfs(&["hold", POOL_TAG, full]).await.map(|_| ()),
        };
        match result {
            Err(Cause::Exists) => Ok(()),
            Err(Cause::Program { said, .. }) if said.contains("tag already exists") => Ok(()),
            result => result,
        }
    }

    /// Bookmarks a snapshot. The same bookmark again is fine.
    pub(super) async fn bookmark_in_pool(&self, full: &str, bookmark: &str) -> Result<()> {
        let result = match self.library.bookmark(full, bookmark).await {
            Some(result) => result,
            None => self.tools.zfs(&["bookmark", full, bookmark]).await.map(|_| ()),
        };
        match result {
            Err(Cause::Exists) => Ok(()),
            Err(Cause::Program { said, .. }) if said.contains("bookmark exists") => Ok(()),
            result => result,
        }
    }

    /// Destroys a bookmark. One that is not there is fine.
    pub(super) async fn destroy_bookmark(&self, bookmark: &str) -> Result<()> {
        let result = match self.library.destroy_bookmark(bookmark).await {
            Some(result) => result,
            None => self.tools.zfs(&["destroy", bookmark]).await.map(|_| ()),
        };
        match result {
            Err(Cause::Missing) => Ok(()),
            result => result,
        }
    }

    /// Ends SCRAP's hold on a snapshot. One that is not there is fine.
    pub(super) async fn release_in_pool(&self, full: &str) -> Result<()> {
        let result = match self.library.release(full).await {
            Some(result) => result,
            None => self.tools.zfs(&["release", POOL_TAG, full]).await.map(|_| ()),
        };
        match result {
            Err(Cause::Missing) => Ok(()),
            Err(Cause::Program { said, .. }) if said.contains("no such tag") => Ok(()),
            result => result,
        }
    }
}
