//! What people look at inside of orphans: differences, and a view that can be read. Nothing here changes one.

use std::path::PathBuf;

use scrap_host::datasets::{self, Cause, DatasetError, DatasetId, Datasets};
use scrap_schema::api::{ChangeKind, OrphanChange};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::Guid;

use crate::daemon::Daemon;

/// Why an orphan cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    /// The storage of this node cannot do it.
    #[error("the storage of this node cannot do it: {why}")]
    Unsupported {
        /// What is missing.
        why: String,
    },
    /// It is not here.
    #[error("it is not on this node")]
    NotHere,
    /// Anything else.
    #[error("it cannot be looked into")]
    Failed {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<DatasetError> for OrphanError {
    fn from(error: DatasetError) -> Self {
        if matches!(error.cause, Cause::Missing) {
            return Self::NotHere;
        }
        Self::Failed { source: error.into() }
    }
}

/// What an orphan has that its common state has not: so many changes at most, and whether there are more.
///
/// # Errors
/// Why nobody can say.
pub async fn diff(
    daemon: &Daemon,
    (grain, epoch): (GrainId, Epoch),
    base: Guid,
    limit: usize,
) -> Result<(Vec<OrphanChange>, bool), OrphanError> {
    let id = DatasetId::Orphan(grain, epoch);
    let diff = daemon.host.datasets.diff(id, base, limit).await?;
    Ok((diff.changes.into_iter().map(change).collect(), diff.more))
}

fn change(change: datasets::Change) -> OrphanChange {
    let (kind, from) = match change.kind {
        datasets::ChangeKind::Added => (ChangeKind::Added, None),
        datasets::ChangeKind::Removed => (ChangeKind::Removed, None),
        datasets::ChangeKind::Modified => (ChangeKind::Modified, None),
        datasets::ChangeKind::Renamed { from } => (ChangeKind::Renamed, Some(shown(&from))),
    };
    OrphanChange { path: shown(&change.path), kind, from }
}

/// A path for people: what is no text, and what a terminal would obey, is written as `\xNN`.
fn shown(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                let mut bytes = [0; 4];
                letter.encode_utf8(&mut bytes).bytes().for_each(|byte| escape(&mut shown, byte));
            } else {
                shown.push(letter);
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut shown, *byte));
    }
    shown
}

fn escape(shown: &mut String, byte: u8) {
    use std::fmt::Write as _;
    // Writing into a text does not fail.
    let _ = write!(shown, "\\x{byte:02x}");
}

/// A folder in which an orphan can be read until it is concealed.
///
/// # Errors
/// Why there is none.
pub async fn view(
    daemon: &Daemon,
    (grain, epoch): (GrainId, Epoch),
) -> Result<PathBuf, OrphanError> {
    Ok(daemon.host.datasets.view(DatasetId::Orphan(grain, epoch), None).await?)
}

/// Ends the views of an orphan; none is fine too.
///
/// # Errors
/// What holds them.
pub async fn conceal(daemon: &Daemon, (grain, epoch): (GrainId, Epoch)) -> Result<(), OrphanError> {
    Ok(daemon.host.datasets.conceal(DatasetId::Orphan(grain, epoch)).await?)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_path_is_shown_so_that_no_terminal_obeys_it() {
        assert_eq!(shown("rootfs/ä.txt".as_bytes()), "rootfs/ä.txt");
        assert_eq!(shown(b"a\nb\x1b[2J\xff"), "a\\x0ab\\x1b[2J\\xff");
    }
}
