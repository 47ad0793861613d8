//! The configuration file: contexts, and which one is current. Read and written whole; never anything but contexts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// `~/.config/scrap/config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The context that is used when nobody names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Contexts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A cluster to talk to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Addresses of its nodes; any of them will do.
    pub(crate) servers: Vec<String>,
}

/// Reads the file. One that does not exist is an empty one.
pub(crate) fn load(path: Option<&Path>) -> Result<Config, Failure> {
    let Some(path) = path else { return Ok(Config::default()) };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(source) => {
            return Err(Failure::File { what: "cannot read", path: path.to_owned(), source });
        }
    };
    toml::from_str(&text).map_err(|error| Failure::Usage {
        message: format!(
            "the configuration `{}` is wrong\n{}",
            path.display(),
            error.to_string().trim_end()
        ),
        hint: None,
    })
}

/// Writes the file, whole or not at all.
pub(crate) fn save(path: &Path, config: &Config) -> Result<(), Failure> {
    let text = toml::to_string(config)
        .map_err(|error| Failure::local(format!("the configuration cannot be written: {error}")))?;
    replace(path, &text)
}

/// Writes a file beside the old one and puts it in its place.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "cannot write", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .map_err(failed)
}
