//! What can go wrong with a database, with what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// A database is unusable.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite refuses.
    #[error("database `{path}`: {what} failed")]
    Sql {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// A file beside the database.
    #[error("file `{path}`: {what} failed")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Rows that were not written like this. Never repaired in place: what is damaged may be committed elsewhere.
    #[error(
        "database `{path}` is damaged: {what}. Do not repair or truncate it: move the data directory aside (quarantine), \
         remove this node from the cluster and join again as a new node"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file belongs to another node or cluster.
    #[error("database `{path}` belongs to {theirs}, this is {ours}")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who wants it.
        ours: String,
    },
    /// SQLite is too old to be trusted with a log.
    #[error("SQLite {found} is too old: at least {needed} is needed")]
    Version {
        /// What is linked.
        found: String,
        /// What is needed.
        needed: &'static str,
    },
    /// A value has no serialised form.
    #[error("database `{path}`: a {what} cannot be serialised")]
    Encode {
        /// Which file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}
