//! What proves that a node is off although it cannot say so itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::Name;
use crate::spec::text::as_text;
use crate::unit::Span;

/// The limit of a power cut when nobody says another one.
const TIMEOUT: Span = Span::from_secs(20);
/// Longest name of a program.
const PROGRAM_MAX: usize = 64;

/// How the power of a node is cut from outside when it falls silent. Where the programs are, and their settings with what is secret
/// in them, stands on the nodes that may have to run them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FenceSpec {
    /// The program, by its name alone: `fence_ipmilan`.
    pub program: ProgramName,
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: FenceProtocol,
    /// It has failed if it has not confirmed anything in so long. The countdown goes on meanwhile.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    TIMEOUT
}

/// How a program that cuts power is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FenceProtocol {
    /// As a fence agent of ClusterLabs: `key=value` lines, then its `status` is asked.
    #[default]
    Agent,
    /// With two arguments, `off` and the name of the node; that it ends well is the confirmation.
    Hook,
}

/// The name of a program in a folder that only the owner of a node changes. No path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramName(String);

as_text!(ProgramName, "The name of a program, without a folder.", "fence_ipmilan");

/// A text that is no name of a program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not the name of a program: letters, digits, `-`, `_` and `.`, at most {PROGRAM_MAX}, no folder", .0.escape_debug())]
pub struct BadProgramName(String);

impl FromStr for ProgramName {
    type Err = BadProgramName;

    fn from_str(text: &str) -> Result<Self, BadProgramName> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if begins && text.len() <= PROGRAM_MAX && text.bytes().all(letter) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadProgramName(text.chars().take(PROGRAM_MAX).collect()))
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl ProgramName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a device gives a node power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It does.
    On,
    /// It does not.
    Off,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// Who says that a node is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum OffBy {
    /// Somebody who has made sure of it.
    Person {
        /// Who, as they said it themselves.
        by: String,
    },
    /// A program that has cut its power and was told that it is off.
    Agent {
        /// Which program.
        program: ProgramName,
        /// The node that ran it.
        from: Name,
    },
}

impl OffBy {
    /// Whether it is a person's word.
    #[must_use]
    pub fn is_person(&self) -> bool {
        match self {
            Self::Person { .. } => true,
            Self::Agent { .. } => false,
        }
    }
}

impl fmt::Display for OffBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { by } => f.write_str(by),
            Self::Agent { program, from } => write!(f, "{program}, run on {from}"),
        }
    }
}
