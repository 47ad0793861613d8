//! What proves that a node is off although it cannot say so itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who says that a node is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum OffBy {
    /// Somebody who has made sure of it.
    Person {
        /// Who, as they said it themselves.
        by: String,
    },
}

impl OffBy {
    /// Whether it is a person's word.
    #[must_use]
    pub fn is_person(&self) -> bool {
        match self {
            Self::Person { .. } => true,
        }
    }
}

impl fmt::Display for OffBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { by } => f.write_str(by),
        }
    }
}
