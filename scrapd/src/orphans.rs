//! What people look at inside of orphans: differences, and a view that can be read. Nothing here changes one.

use std::path::PathBuf;

use scrap_schema::api::OrphanChange;
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

/// What an orphan has that its common state has not: so many changes at most, and whether there are more.
///
/// # Errors
/// Why nobody can say.
pub async fn diff(
    _daemon: &Daemon,
    _orphan: (GrainId, Epoch),
    _base: Guid,
    _limit: usize,
) -> Result<(Vec<OrphanChange>, bool), OrphanError> {
    Err(OrphanError::Unsupported { why: "it does not compare states".to_owned() })
}

/// A folder in which an orphan can be read until it is concealed.
///
/// # Errors
/// Why there is none.
pub async fn view(_daemon: &Daemon, _orphan: (GrainId, Epoch)) -> Result<PathBuf, OrphanError> {
    Err(OrphanError::Unsupported { why: "it shows no views".to_owned() })
}

/// Ends the views of an orphan; none is fine too.
///
/// # Errors
/// What holds them.
pub async fn conceal(_daemon: &Daemon, _orphan: (GrainId, Epoch)) -> Result<(), OrphanError> {
    Err(OrphanError::Unsupported { why: "it shows no views".to_owned() })
}
