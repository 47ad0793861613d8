//! What is wanted: the specs of grains, policies and nodes, as manifests and the API carry them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fence::FenceSpec;
use crate::id::Name;
use crate::unit::{Bytes, MilliCpu, Span};

mod check;
mod health;
mod network;
mod template;
pub(crate) mod text;

pub(crate) use check::bad_key;
pub use check::{validate_labels, validate_program};
pub use health::{Check, ExecCheck, Health, HttpCheck, Probe, TcpCheck};
pub use network::{
    BadAddress, Cidr, Egress, GrainNetwork, Ingress, NetworkSpec, Peers, Ports, Protocol, Range,
    number,
};
pub use template::{PROCESS, Template};

/// Labels: short texts that people attach and select by.
pub type Labels = BTreeMap<String, String>;

/// What a grain should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrainSpec {
    /// The base system: the name of an imported template, or `process`, a supervised program of the machine without isolation.
    /// It cannot be changed once the grain has data.
    #[serde(default)]
    pub template: Template,
    /// Program and arguments: for `process` run in the grain's data directory, else the first program of the system instead of
    /// its own init. Never given to a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment of the program, beside `SCRAP_GRAIN`, `SCRAP_EPOCH`, `SCRAP_NODE` and `SCRAP_DATA`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What is reserved for it, and its limits.
    #[serde(default)]
    pub resources: Resources,
    /// The network that it has addresses of. Without one it reaches nobody and nobody reaches it; a program of the template
    /// `process` uses the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<GrainNetwork>,
    /// What may come in on its addresses; nothing else may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Ingress>,
    /// What may go out from its addresses; nothing else may. If nobody says: everything to the internet, nothing to private
    /// addresses.
    #[serde(default = "Egress::default_rules", skip_serializing_if = "has_default_egress")]
    pub egress: Vec<Egress>,
    /// How its owner finds out whether it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Name of the policy that protects it.
    #[serde(default = "standard")]
    pub protect: Name,
    /// Where it may and would rather live.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub place: Placement,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Whether it should run.
    #[serde(default = "yes")]
    pub running: bool,
}

fn standard() -> Name {
    Policy::standard_name()
}

fn yes() -> bool {
    true
}

fn has_default_egress(rules: &[Egress]) -> bool {
    rules == Egress::default_rules()
}

impl GrainSpec {
    /// How many processes it may have at most; zero: as many as the machine allows.
    #[must_use]
    pub fn pids(&self) -> u32 {
        self.resources.pids.unwrap_or(if self.template.is_system() { PIDS_OF_SYSTEM } else { 0 })
    }
}

/// Processes that a whole system may have when nobody says.
const PIDS_OF_SYSTEM: u32 = 4096;

/// Reservations and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Resources {
    /// Cores.
    pub cpu: MilliCpu,
    /// Main memory.
    pub memory: Bytes,
    /// Quota of its data.
    pub disk: Bytes,
    /// Most processes at a time; 4096 for a whole system if nobody says, else no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Space that is kept free for its data, out of `disk`; none if nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Bytes>,
    /// Size of the blocks of its data, a power of two from 4KiB to 128KiB; what the storage thinks best if nobody says. Small
    /// ones suit databases. Counts for what is written from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_size: Option<Bytes>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: MilliCpu(100),
            memory: Bytes(64 << 20),
            disk: Bytes(1 << 30),
            pids: None,
            reserve: None,
            record_size: None,
        }
    }
}

/// Constraints and wishes of placement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Placement {
    /// Node labels that must have these values.
    #[schema(value_type = BTreeMap<String, String>)]
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub require: Labels,
    /// A node it would rather live on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Name>,
    /// Grains with all labels of one of these sets must live on other nodes.
    #[schema(value_type = Vec<BTreeMap<String, String>>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apart_from: Vec<Labels>,
}

impl Placement {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a grain is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Stop {
    /// Time between asking and killing.
    pub timeout: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { timeout: Span::from_secs(10) }
    }
}

/// The contract of a class of grains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Policy {
    /// How copies are kept.
    pub replicate: Replicate,
    /// What happens when the owner dies.
    pub failover: Failover,
    /// Which replication snapshots stay.
    pub snapshots: Keep,
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

/// How copies are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Replicate {
    /// Longest time between a write and the snapshot that carries it to the copies.
    pub every: Span,
    /// Number of copies on other nodes.
    pub copies: u32,
    /// Node label over whose values the copies should spread, such as `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Age of a copy that is worth an alarm.
    pub alert_after: Span,
}

impl Default for Replicate {
    fn default() -> Self {
        Policy::standard().replicate
    }
}

/// What happens when the owner dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Failover {
    /// Whether the cluster may act by itself.
    pub mode: FailoverMode,
    /// Shortest silence of the owner before its grain is started elsewhere.
    pub after: Span,
    /// Oldest copy that may be promoted without a person's word.
    pub max_data_loss: Span,
}

impl Default for Failover {
    fn default() -> Self {
        Policy::standard().failover
    }
}

/// Who decides about a failover.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverMode {
    /// The grain runs under its node's lease and is started elsewhere when that has surely ended.
    #[default]
    Auto,
    /// The grain needs no lease, runs on without quorum, and only a person moves it off a dead node.
    Manual,
}

/// Which replication snapshots the owner keeps beside the ones that copies need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Keep {
    /// The newest so many.
    pub keep_last: u32,
    /// The last of each of so many hours.
    pub keep_hourly: u32,
    /// The last of each of so many days.
    pub keep_daily: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { keep_last: 12, keep_hourly: 48, keep_daily: 14 }
    }
}

impl Policy {
    /// The name of the policy that a grain has when its manifest names none.
    #[must_use]
    pub fn standard_name() -> Name {
        "standard".parse().unwrap_or_else(|_| unreachable!("a valid name"))
    }

    /// Mail, calendars: must not lose data, may be down.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            replicate: Replicate {
                every: Span::from_secs(15),
                copies: 2,
                spread: Some("zone".to_owned()),
                alert_after: Span::from_secs(120),
            },
            failover: Failover {
                mode: FailoverMode::Auto,
                after: Span::from_secs(180),
                max_data_loss: Span::from_secs(60),
            },
            snapshots: Keep::default(),
        }
    }

    /// The policies that every cluster is born with: `relaxed`, `standard`, `prompt`.
    #[must_use]
    pub fn built_in() -> Vec<(Name, Self)> {
        let relaxed = Self {
            replicate: Replicate {
                every: Span::from_secs(300),
                copies: 1,
                spread: Some("zone".to_owned()),
                alert_after: Span::from_secs(1800),
            },
            failover: Failover {
                mode: FailoverMode::Auto,
                after: Span::from_secs(600),
                max_data_loss: Span::from_secs(3600),
            },
            snapshots: Keep { keep_last: 4, keep_hourly: 24, keep_daily: 7 },
        };
        let prompt = Self {
            replicate: Self::standard().replicate,
            failover: Failover {
                mode: FailoverMode::Auto,
                after: Span::from_secs(0),
                max_data_loss: Span::from_secs(300),
            },
            snapshots: Keep { keep_last: 4, keep_hourly: 24, keep_daily: 7 },
        };
        let named = [("relaxed", relaxed), ("standard", Self::standard()), ("prompt", prompt)];
        named.into_iter().filter_map(|(name, policy)| Some((name.parse().ok()?, policy))).collect()
    }
}

/// What people say about a node. Its facts are measured, not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// No new grains or copies come here; what is here stays.
    pub cordoned: bool,
    /// How its power is cut when it falls silent; nobody does if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceSpec>,
}
