//! Templates on this node: unpacked from an archive and sealed, or received from another node.
//!
//! **Invariant:** a template that is not sealed is none. What is in an archive is written below one folder and nowhere else.

use std::sync::Arc;

use axum::body::BodyDataStream;
use scrap_decide::refusal::Refusal;
use scrap_schema::id::{Name, TemplateId};

use crate::daemon::Daemon;

/// What a person says about a template that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: Name,
    /// One line about it.
    pub description: Option<String>,
    /// Processor architecture, if the archive does not say it.
    pub arch: Option<String>,
}

/// Why a template was not imported. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// This node cannot keep templates.
    #[error("this node cannot keep templates: {why}")]
    Unsupported {
        /// What is missing.
        why: String,
    },
    /// The archive is none, or holds what no template may hold.
    #[error("the archive is refused: {why}")]
    Archive {
        /// What is wrong, and where in it.
        why: String,
    },
    /// It is larger than a template may be, or than there is room for.
    #[error("there is no room for it: {why}")]
    TooLarge {
        /// How much there is.
        why: String,
    },
    /// The connection broke off.
    #[error("the archive broke off")]
    Broke,
    /// The cluster does not want it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Anything else.
    #[error("the template could not be written")]
    Failed {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Unpacks an archive (tar, plain or packed with zstd or xz), seals it and tells the cluster.
///
/// # Errors
/// Why not; then nothing of it is left.
pub async fn import(
    _daemon: &Arc<Daemon>,
    _import: Import,
    _archive: BodyDataStream,
) -> Result<TemplateId, ImportError> {
    Err(ImportError::Unsupported { why: "it has no runtime for whole systems".to_owned() })
}
