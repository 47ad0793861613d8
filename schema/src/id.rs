//! Identities: of nodes, grains, operations, epochs and log positions. Identity is never a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A text that is not the identity it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not {what}: {reason}", text.escape_debug())]
pub struct BadId {
    /// The text as it came.
    pub text: String,
    /// What was wanted, with its article: "a grain id".
    pub what: &'static str,
    /// Why it is refused.
    pub reason: &'static str,
}

/// A member of the cluster. Allocated once by the replicated state, never reused.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The fencing token of a grain: rises by one with every change of owner. `0` means never assigned.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One start of a node's daemon under one boot of its machine: a node that comes back is a new incarnation.
/// Made of the boot's identity and a counter; compared for equality only.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Crockford's base 32 in lower case; 26 digits hold 128 bits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;

fn encode(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [b'0'; LENGTH];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        *place = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn decode(text: &str) -> Result<u128, &'static str> {
    if text.len() != LENGTH {
        return Err("it must have 26 characters");
    }
    let mut value: u128 = 0;
    for (at, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|digit| *digit == byte);
        let digit = digit.ok_or("only 0-9 and a-z without i, l, o, u are allowed")?;
        if at == 0 && digit > 7 {
            return Err("it is larger than 128 bits");
        }
        value = (value << 5) | digit as u128;
    }
    Ok(value)
}

macro_rules! long_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String, example = "01k2x4f7m8n9p0q1r2s3t4v5w6")]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                decode(text).map(Self).map_err(|reason| BadId { text: text.to_owned(), what: $what, reason })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

long_id! {
    /// One user's service. Paths and dataset names come from this, never from the grain's name.
    GrainId, "a grain id"
}
long_id! {
    /// An immutable base system that grains begin from. Dataset names come from this, never from its name.
    TemplateId, "a template id"
}
long_id! {
    /// Long work that a person asked for.
    OperationId, "an operation id"
}
long_id! {
    /// A cluster, made at `scrapd init`. Nodes of different clusters never talk to each other.
    ClusterId, "a cluster id"
}

/// A name that people give and read: of a node, grain, policy, label value. Display text and look-up key, never a path.
///
/// 1 to 63 characters of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit (a DNS label, RFC 1123).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad =
            |reason| Err(BadId { text: text.chars().take(80).collect(), what: "a name", reason });
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > 63 {
            return bad("it is longer than 63 characters");
        }
        if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return bad("only a-z, 0-9 and - are allowed");
        }
        if text.starts_with('-') || text.ends_with('-') {
            return bad("it must begin and end with a letter or digit");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&str> for Name {
    type Error = BadId;
    fn try_from(text: &str) -> Result<Self, BadId> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_shows_what_cannot_be_seen() {
        let refused = "web\r".parse::<Name>().unwrap_err();
        assert_eq!(refused.to_string(), r"`web\r` is not a name: only a-z, 0-9 and - are allowed");
    }
}
