//! What one process is: handed to the rooms that answer requests. No loop runs here.

use std::sync::Arc;

use scrap_host::mem::{MemDatasets, MemRuntime};
use scrap_schema::id::{Name, NodeId};
use scrap_schema::node::Addresses;
use scrap_schema::time::BootTime;

use crate::{agent, leader, raft};

/// The hands of this node.
pub struct Host {
    /// What holds data.
    pub datasets: MemDatasets,
    /// What runs grains.
    pub runtime: MemRuntime,
}

/// One process.
pub struct Daemon {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: Name,
    /// Its part in the consensus.
    pub consensus: raft::Consensus,
    /// What it has heard while it leads.
    pub leader: leader::Memory,
    /// Its agent.
    pub agent: agent::Handle,
    /// Its hands.
    pub host: Arc<Host>,
    /// For requests to other nodes.
    pub http: reqwest::Client,
    /// When it started.
    pub started: BootTime,
    /// Where it listens.
    pub addresses: Addresses,
}
