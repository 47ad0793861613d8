//! Snapshots: their identity is the guid, their name says epoch, order and purpose.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{BadId, Epoch, Name, OperationId};
use crate::time::Timestamp;

/// Identity of a snapshot: survives every copy to another node, never reused. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, example = "00a1b2c3d4e5f607")]
pub struct Guid(pub u64);

/// Why a snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// By the replication loop; pruned by it.
    Replication,
    /// The last state before a planned hand-over, taken after the grain was verified stopped.
    Final(OperationId),
    /// By a person, with a name; kept until a person removes it.
    User(Name),
    /// The head as it was when it was set aside.
    Orphan,
    /// The one snapshot of a sealed template.
    Template,
}

/// `scrap.<epoch>.<seq>[.final.<operation>|.user.<name>|.orphan|.template]`, numbers as 16 hex digits.
/// `(epoch, seq)` orders the snapshots of one dataset; the guid identifies them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    /// The epoch in which it was taken.
    pub epoch: Epoch,
    /// Its number within the dataset; rises with every snapshot, across epochs too.
    pub seq: u64,
    /// Why it was taken.
    pub purpose: Purpose,
}

/// A snapshot as a host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Snapshot {
    /// What it is called.
    #[schema(value_type = String, example = "scrap.0000000000000002.0000000000000007")]
    pub name: SnapshotName,
    /// What it is.
    pub guid: Guid,
    /// When its state was frozen, by the clock of the node that took it. Everything written before is in it.
    pub created: Timestamp,
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Exactly 16 hex digits in lower case: one text for one number, so that a name can be compared as text too.
fn hex(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == 16 && digits).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl FromStr for Guid {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let reason = "it must have 16 hex digits";
        hex(text).map(Self).ok_or_else(|| BadId {
            text: text.chars().take(80).collect(),
            what: "a guid",
            reason,
        })
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scrap.{:016x}.{:016x}", self.epoch.0, self.seq)?;
        match &self.purpose {
            Purpose::Replication => Ok(()),
            Purpose::Final(operation) => write!(f, ".final.{operation}"),
            Purpose::User(name) => write!(f, ".user.{name}"),
            Purpose::Orphan => f.write_str(".orphan"),
            Purpose::Template => f.write_str(".template"),
        }
    }
}

impl FromStr for SnapshotName {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = |reason| BadId {
            text: text.chars().take(120).collect(),
            what: "a snapshot of scrap",
            reason,
        };
        let mut parts = text.splitn(5, '.');
        if parts.next() != Some("scrap") {
            return Err(bad("it does not begin with `scrap.`"));
        }
        let number = |part: Option<&str>| {
            part.and_then(hex).ok_or_else(|| bad("epoch and number need 16 hex digits"))
        };
        let epoch = Epoch(number(parts.next())?);
        let seq = number(parts.next())?;
        let purpose = match (parts.next(), parts.next()) {
            (None, _) => Purpose::Replication,
            (Some("orphan"), None) => Purpose::Orphan,
            (Some("template"), None) => Purpose::Template,
            (Some("final"), Some(id)) => {
                Purpose::Final(id.parse().map_err(|_| bad("its operation is not one"))?)
            }
            (Some("user"), Some(name)) => {
                Purpose::User(name.parse().map_err(|_| bad("its name is not one"))?)
            }
            (Some(_), _) => return Err(bad("its purpose is unknown")),
        };
        Ok(Self { epoch, seq, purpose })
    }
}

macro_rules! as_text {
    ($name:ident) => {
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
as_text!(Guid);
as_text!(SnapshotName);

#[cfg(test)]
mod tests;
