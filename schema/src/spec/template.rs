//! What a grain begins from: a program of the machine, or a whole system that the cluster has imported.

use std::fmt;
use std::str::FromStr;

use super::text::as_text;
use crate::id::{BadId, Name};

/// The base system of a grain: `process`, or the name of an imported template.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Template {
    /// A supervised process group of the machine itself, no isolation: for trying out.
    #[default]
    Process,
    /// A whole system of its own, cloned from the template of this name.
    Named(Name),
}

/// How the word for [`Template::Process`] is written. No template can have this name.
pub const PROCESS: &str = "process";

impl Template {
    /// The name of the template in the cluster; none for a program of the machine itself.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Process => None,
            Self::Named(name) => Some(name),
        }
    }

    /// Whether the grain is a whole system with ids, processes and an address of its own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.name().is_some()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.pad(PROCESS),
            Self::Named(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl FromStr for Template {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        match text {
            PROCESS => Ok(Self::Process),
            name => name.parse().map(Self::Named),
        }
    }
}

as_text!(Template, "`process`, or the name of an imported template.", "debian-13");
