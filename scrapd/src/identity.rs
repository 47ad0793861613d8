//! Who this node is: one file in its data folder, written by `init`, `join` or `recover` as their last step. Never guessed.

use std::path::{Path, PathBuf};

use scrap_schema::id::{ClusterId, Name, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "node.json";
/// Says that the cluster was begun anew without this node.
pub(crate) const LEFT_BEHIND: &str = "left.behind";
/// Marks a folder that `recover` works in.
pub(crate) const RECOVERING: &str = "recover.unfinished";

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name of its cluster, as it was then.
    pub cluster: Name,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The member it is; never used again for another machine.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// The generation of the cluster that it belongs to.
    #[serde(default)]
    pub generation: u64,
}

/// Why a node does not know who it is.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It is no member of a cluster.
    #[error("`{data_dir}` belongs to no cluster yet: there is no `{FILE}` in it")]
    None {
        /// Its data folder.
        data_dir: PathBuf,
    },
    /// The file is damaged or of another version.
    #[error("`{path}` is not an identity of a node")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The configuration names another node.
    #[error("`{path}` is of node `{is}`, the configuration names node `{wanted}`")]
    OtherName {
        /// Which file.
        path: PathBuf,
        /// Its name.
        is: Name,
        /// What the configuration says.
        wanted: Name,
    },
    /// The cluster was begun anew without it.
    #[error("node `{name}` was left behind: its cluster was begun anew without it")]
    LeftBehind {
        /// Which node.
        name: Name,
    },
    /// `scrapd recover` was interrupted.
    #[error(
        "`scrapd recover` was interrupted on node `{name}`: its cluster is neither the old nor the new one"
    )]
    Recovering {
        /// Which node.
        name: Name,
    },
    /// The log is gone, but this node may have promised something in it.
    #[error("node `{name}` has its identity but not its log: `{log}` is missing")]
    LogMissing {
        /// Which node.
        name: Name,
        /// Where the log should be.
        log: PathBuf,
    },
}

impl IdentityError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::None { .. } => {
                "make a new cluster with `scrapd init`, or become a member of one \
                                  with `scrapd join --server http://ADDRESS:7272`"
                    .to_owned()
            }
            Self::Damaged { .. } | Self::Unreadable { .. } => {
                "the file is never changed after `init` or `join`: look for the disk's trouble"
                    .to_owned()
            }
            Self::OtherName { is, .. } => {
                format!("a node keeps its name: write `name = \"{is}\"`, or use another `data_dir`")
            }
            Self::LeftBehind { .. } => "join again as a new node, its data are kept: \
                 `scrapd join --again --server http://ADDRESS:7272`"
                .to_owned(),
            Self::Recovering { .. } => {
                "run `scrapd recover` again: it goes on where it was".to_owned()
            }
            Self::LogMissing { name, .. } => format!(
                "without its log it could break a promise, so it never runs again: remove it from the \
                 cluster with `scrapctl node rm {name}`, then `scrapd join --again`: its data are kept"
            ),
        }
    }
}

impl Identity {
    /// The identity in a data folder, if there is one.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn find(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| IdentityError::Damaged { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Unreadable { path, source }),
        }
    }

    /// The identity that a daemon runs with: it fits the configuration, and its log is there.
    ///
    /// # Errors
    /// If it does not, or there is none.
    pub fn of_daemon(config: &Config) -> Result<Self, IdentityError> {
        let data_dir = config.data_dir.clone();
        let identity = Self::find(&data_dir)?.ok_or(IdentityError::None { data_dir })?;
        if identity.name != config.name {
            let path = config.identity_path();
            let (is, wanted) = (identity.name, config.name.clone());
            return Err(IdentityError::OtherName { path, is, wanted });
        }
        if data_dir_has(config, LEFT_BEHIND) {
            return Err(IdentityError::LeftBehind { name: identity.name });
        }
        if data_dir_has(config, RECOVERING) {
            return Err(IdentityError::Recovering { name: identity.name });
        }
        let log = config.raft_db_path();
        // An empty file is none: SQLite would make a new log of it without a word.
        if std::fs::metadata(&log).map_or(0, |file| file.len()) == 0 {
            return Err(IdentityError::LogMissing { name: identity.name, log });
        }
        Ok(identity)
    }

    /// Writes it down. The last step of becoming a member: until then a set-up can be begun again.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn write(&self, data_dir: &DataDir) -> Result<(), DataDirError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| DataDirError::Io {
            what: "write",
            path: data_dir.path().join(FILE),
            source: error.into(),
        })?;
        data_dir.write(FILE, &format!("{text}\n"))
    }
}

fn data_dir_has(config: &Config, name: &str) -> bool {
    config.data_dir.join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let data_dir = dir.display();
        Config::parse(&format!("data_dir = \"{data_dir}\"\nrun_dir = \"/run/s\"\nname = \"ada\""))
            .unwrap()
    }

    fn written(dir: &Path, name: &str) -> Identity {
        let identity = Identity {
            cluster: "home".parse().unwrap(),
            cluster_id: ClusterId(7),
            node: NodeId(3),
            name: name.parse().unwrap(),
            generation: 0,
        };
        identity.write(&DataDir::take(dir).unwrap()).unwrap();
        identity
    }

    #[test]
    fn a_daemon_runs_only_with_identity_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let of_daemon = || Identity::of_daemon(&config);
        assert!(matches!(of_daemon(), Err(IdentityError::None { .. })));
        let identity = written(dir.path(), "ada");
        assert!(matches!(of_daemon(), Err(IdentityError::LogMissing { .. })));
        std::fs::write(config.raft_db_path(), "").unwrap();
        assert!(
            matches!(of_daemon(), Err(IdentityError::LogMissing { .. })),
            "an empty file is none"
        );
        std::fs::write(config.raft_db_path(), "SQLite").unwrap();
        assert_eq!(of_daemon().unwrap(), identity);
    }

    #[test]
    fn who_was_left_behind_or_is_half_recovered_does_not_run_and_is_told_what_to_do() {
        for (mark, advice) in [(LEFT_BEHIND, "scrapd join --again"), (RECOVERING, "scrapd recover")]
        {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path());
            written(dir.path(), "ada");
            std::fs::write(config.raft_db_path(), "SQLite").unwrap();
            std::fs::write(dir.path().join(mark), "1").unwrap();
            let hint = Identity::of_daemon(&config).unwrap_err().hint();
            assert!(hint.contains(advice), "{hint}");
        }
    }

    #[test]
    fn an_identity_of_before_generations_is_of_the_first() {
        let old = r#"{"cluster":"home","cluster_id":"CLUSTER","node":3,"name":"ada"}"#;
        let old = old.replace("CLUSTER", &ClusterId(7).to_string());
        assert_eq!(serde_json::from_str::<Identity>(&old).unwrap().generation, 0);
    }

    #[test]
    fn another_name_or_a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        written(dir.path(), "bob");
        let error = Identity::of_daemon(&config).unwrap_err();
        assert!(matches!(error, IdentityError::OtherName { .. }));
        assert!(error.hint().contains("name = \"bob\""));
        std::fs::write(config.identity_path(), "{\"cluster\":\"home\"").unwrap();
        assert!(matches!(Identity::of_daemon(&config), Err(IdentityError::Damaged { .. })));
    }
}
