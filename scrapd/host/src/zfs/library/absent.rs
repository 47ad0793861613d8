//! A build without the library.

use super::{Ends, Place, Result};
use crate::zfs::call::Tools;
use crate::zfs::flow::Stream;

/// Nothing.
#[derive(Debug, Clone, Default)]
pub(in crate::zfs) struct Library(());

#[expect(clippy::unused_async, reason = "the same as where the library is")]
impl Library {
    pub(in crate::zfs) async fn open(_tools: &Tools) -> Self {
        Self(())
    }

    pub(in crate::zfs) async fn snapshot(
        &self,
        _full: &[String],
        _property: &(&str, String),
    ) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn destroy(&self, _full: &[String]) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn hold(&self, _full: &str) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn release(&self, _full: &str) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn bookmark(
        &self,
        _full: &str,
        _bookmark: &str,
    ) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn destroy_bookmark(&self, _bookmark: &str) -> Option<Result<()>> {
        None
    }

    pub(in crate::zfs) async fn estimate(&self, _ends: &Ends) -> Option<Result<u64>> {
        None
    }

    pub(in crate::zfs) async fn send(&self, _ends: &Ends) -> Option<Result<Stream>> {
        None
    }

    pub(in crate::zfs) async fn receive(&self, _place: &Place) -> Option<Result<Stream>> {
        None
    }
}
