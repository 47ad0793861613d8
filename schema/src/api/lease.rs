//! What the API says of the lease.

use serde::{Deserialize, Serialize};

use crate::timing::{Preset, Timing};

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
