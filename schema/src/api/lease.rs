//! What the API says of the lease.

use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::time::Timestamp;
use crate::timing::{Preset, Timing};
use crate::unit::Span;

/// The numbers of the cluster's lease. They were chosen by `scrapd init` and stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// The preset that has these numbers; absent: they are the cluster's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preset: Option<Preset>,
    /// The numbers.
    pub timing: Timing,
    /// From a node's last renewal until it counts as fenced, if nothing proves its death earlier.
    pub fenced_after_ms: u64,
}

impl From<Timing> for LeaseView {
    fn from(timing: Timing) -> Self {
        let fenced_after_ms = timing.fenced_after().ms();
        Self { preset: timing.preset(), timing, fenced_after_ms }
    }
}

/// Body of `POST /v1/cluster/disarm`: nothing fails over by itself, and nothing is ended by the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DisarmBody {
    /// Only what is on this node; everything if nobody says.
    pub node: Option<Name>,
    /// It ends by itself after so long.
    pub r#for: Option<Span>,
    /// Who wants it; it stands in the event.
    pub by: Option<String>,
}

/// Body of `POST /v1/cluster/arm`: the end of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ArmBody {
    /// Only this node; the whole cluster if nobody says.
    pub node: Option<Name>,
    /// Who wants it.
    pub by: Option<String>,
}

/// What is disarmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisarmedView {
    /// Only this node; absent: the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<Name>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; absent: when somebody says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// Who wanted it.
    pub by: String,
}
