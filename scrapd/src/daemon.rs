//! The parts of a running daemon that its loops and its doors share. Holds things; does nothing by itself.

use std::sync::Arc;

use scrap_host::any::{AnyDatasets, AnyRuntime};
use scrap_host::fence::Places;
use scrap_host::guard::AnyGuard;
use scrap_host::net::AnyNet;
use scrap_schema::id::{ClusterId, Name, NodeId};
use scrap_schema::node::Addresses;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::config::RuntimeKind;
use crate::leader;
use crate::peer::Peers;
use crate::raft::Consensus;

/// A node's hands.
pub struct Host {
    /// Its data.
    pub datasets: AnyDatasets,
    /// Its running grains.
    pub runtime: AnyRuntime,
    /// The network of its grains.
    pub net: AnyNet,
    /// Who sees to it that nothing runs here longer than it may.
    pub guard: AnyGuard,
}

/// One daemon. Shared by everything that runs in it.
pub struct Daemon {
    /// Which node this is.
    pub me: NodeId,
    /// Its name.
    pub name: Name,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The replicated state and the way to change it.
    pub consensus: Consensus,
    /// What the leader has heard and waits for; empty on a node that does not lead.
    pub leader: leader::Memory,
    /// What the agent knows of this host.
    pub agent: agent::Handle,
    /// The hands.
    pub host: Arc<Host>,
    /// What runs grains here.
    pub runtime: RuntimeKind,
    /// What this node needs to cut the power of others.
    pub fence: Places,
    /// The way to other nodes.
    pub peers: Peers,
    /// HTTP client for requests that are passed on to other nodes.
    pub http: reqwest::Client,
    /// Everything on the storage is read and compared at least so often; zero: others see to that.
    pub scrub_every: Span,
    /// When the daemon started.
    pub started: BootTime,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Ends everything.
    pub shutdown: CancellationToken,
}
