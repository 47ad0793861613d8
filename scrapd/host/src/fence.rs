//! Cutting the power of another node: fence agents as ClusterLabs documents them, and hooks of somebody's own.
//!
//! Never a shell, nothing from the cluster but a program's name and the name of a node: where programs and settings are says this node's
//! own configuration, and neither is used if anybody else than root or this daemon's user could have written it. Whatever is not a clear
//! "it is off" is a failure, also silence.

mod run;
mod trust;

use std::path::{Path, PathBuf};
use std::time::Duration;

use scrap_schema::fence::{FenceProtocol, FenceSpec, Power};
use scrap_schema::id::Name;
use thiserror::Error;

/// Where this node keeps what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Settings, one file for each node whose power can be cut: `NODE.conf`.
    pub settings: PathBuf,
    /// Fence agents.
    pub agents: PathBuf,
    /// Hooks.
    pub hooks: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            settings: "/etc/scrap/fence".into(),
            agents: "/usr/sbin".into(),
            hooks: "/etc/scrap/fence/hooks".into(),
        }
    }
}

/// Why a node's power is not confirmed to be off, or nobody knows how it is.
#[derive(Debug, Error)]
pub enum FenceError {
    /// There is no such file on this node.
    #[error("there is no `{}` on this node", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else may have written it.
    #[error("`{}` is not used: {why}", path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// Who could.
        why: String,
    },
    /// A line of the settings is none.
    #[error("line {line} of `{}` is {why}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The system refuses something.
    #[error("cannot {what}")]
    Io {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time; it was killed.
    #[error("`{program} {action}` did not end within {seconds} s")]
    Slow {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// It says that it could not do it.
    #[error("`{program} {action}` ended with {how}{said}")]
    Failed {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// Its exit status, or the signal.
        how: String,
        /// What it said at last.
        said: String,
    },
    /// It says that it is off and then that it is on.
    #[error("`{program}` says that the power is cut, and then that it is on")]
    StillOn {
        /// The program.
        program: String,
    },
}

impl FenceError {
    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "install the program and write the settings on every node that may lead; `[fence]` of scrapd.toml names the folders"
            }
            Self::Untrusted { .. } => {
                "file and folders: owned by root, writable by nobody else; settings readable by nobody else (`chmod 600`)"
            }
            Self::Setting { .. } => "one `key=value` a line, as the agent's manual page lists them",
            Self::Io { .. } => "the log of this node says more",
            Self::Slow { .. } => {
                "raise `spec.fence.timeout` of the node, or look why the device is slow"
            }
            Self::Failed { .. } => "run the program by hand with the same settings",
            Self::StillOn { .. } => "look whether `plug` is the plug of this node",
        }
    }
}

/// What is asked of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Off,
    Status,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Status => "status",
        }
    }
}

/// Exit status of `status`: the device is there and gives no power.
const STATUS_OFF: i32 = 2;

/// Cuts the power of a node and makes sure that it is off. Returns only then without an error.
///
/// # Errors
/// Anything else than a confirmation within the limit.
pub async fn cut(places: &Places, node: &Name, spec: &FenceSpec) -> Result<(), FenceError> {
    within(spec, Action::Off, async {
        let program = prepare(places, node, spec).await?;
        program.run(Action::Off).await?.good()?;
        match spec.protocol {
            // Its end is its word: it knows its device, and we do not.
            FenceProtocol::Hook => Ok(()),
            FenceProtocol::Agent => match program.run(Action::Status).await?.power()? {
                Power::Off => Ok(()),
                Power::On => Err(FenceError::StillOn { program: spec.program.to_string() }),
            },
        }
    })
    .await
}

/// Asks whether a node has power, and so whether its device answers. Changes nothing.
///
/// # Errors
/// It does not say so within the limit.
pub async fn look(places: &Places, node: &Name, spec: &FenceSpec) -> Result<Power, FenceError> {
    within(spec, Action::Status, async {
        prepare(places, node, spec).await?.run(Action::Status).await?.power()
    })
    .await
}

/// Gives up after the limit; what runs is killed by being dropped.
async fn within<T>(
    spec: &FenceSpec,
    action: Action,
    work: impl Future<Output = Result<T, FenceError>>,
) -> Result<T, FenceError> {
    let limit = Duration::from_millis(spec.timeout.ms());
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let (program, seconds) = (spec.program.to_string(), limit.as_secs());
        Err(FenceError::Slow { program, action: action.word(), seconds })
    })
}

/// Looks at program and settings.
async fn prepare(
    places: &Places,
    node: &Name,
    spec: &FenceSpec,
) -> Result<run::Program, FenceError> {
    let (folder, needed) = match spec.protocol {
        FenceProtocol::Agent => (&places.agents, true),
        FenceProtocol::Hook => (&places.hooks, false),
    };
    let path = folder.join(spec.program.as_str());
    let settings = places.settings.join(format!("{node}.conf"));
    let (node, protocol) = (node.clone(), spec.protocol);
    // Files of a disk that stands still must not hold up what else runs here.
    let prepared = tokio::task::spawn_blocking(move || {
        let path = trust::program(&path)?;
        let lines = match trust::settings(&settings) {
            Err(FenceError::Missing { .. }) if !needed => Vec::new(),
            text => lines(&settings, &text?)?,
        };
        Ok(run::Program { path, protocol, node, lines })
    });
    let failed = |source| FenceError::Io { what: "look at the settings".to_owned(), source };
    prepared.await.map_err(|error| failed(std::io::Error::other(error)))?
}

/// The lines for an agent. Those that SCRAP says itself may not be among them.
fn lines(path: &Path, text: &str) -> Result<Vec<String>, FenceError> {
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why| FenceError::Setting { path: path.to_owned(), line: at + 1, why };
        let (key, _) = line.split_once('=').ok_or_else(|| wrong("no `key=value`"))?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if key.is_empty() || !key.bytes().all(letter) {
            return Err(wrong("no `key=value`: a key has letters, digits, `-` and `_`"));
        }
        if ["action", "option", "nodename"].contains(&key) {
            return Err(wrong("about what only SCRAP says: `action`, `option`, `nodename`"));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
