//! Which grains have an interface on a node, and who may talk to whom.
//!
//! A grain has its address where its owner holds its head in the present epoch, and nowhere else: a node that has lost a
//! grain takes its interface away even while something of the grain still runs there. While a grain moves and is verified to
//! be stopped, that is where it goes: the way is laid while its last writes are still under way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::spec::{Cidr, Egress, Ingress};
use scrap_schema::time::BootTime;

use crate::cluster::{Cluster, Grain, Stage};
use crate::obey::{DataRole, HostFacts, Lane};

/// A grain's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The hardware address of its interface.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Who may begin to talk to it.
    pub ingress: Vec<Ingress>,
    /// Whom it may begin to talk to.
    pub egress: Vec<Egress>,
}

/// What no grain may reach, or not as the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Addresses of the nodes, as far as they are literal.
    pub nodes: BTreeSet<IpAddr>,
    /// Blocks that addresses of grains are taken from.
    pub pools: BTreeSet<Cidr>,
}

/// The grains that have an interface on this node now.
#[must_use]
pub fn reaches(
    me: NodeId,
    cluster: &Cluster,
    host: &HostFacts,
    now: BootTime,
) -> BTreeMap<GrainId, Reach> {
    let here = cluster.grains.values().filter(|grain| {
        is_here(me, grain, host) || comes_here(me, grain) && may_come(cluster, grain, host, now)
    });
    here.filter_map(|grain| Some((grain.id, reach(grain)?))).collect()
}

/// Whether a grain has come to stand still between two nodes, and this is the one that it goes to.
fn comes_here(me: NodeId, grain: &Grain) -> bool {
    let goes_to = match &grain.stage {
        Stage::Released { to, .. } => Some(*to),
        Stage::Landing { .. } => grain.owner,
        Stage::Unplaced
        | Stage::Settled
        | Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => None,
    };
    grain.wants_to_run() && goes_to == Some(me)
}

/// A node that is cut off does not hear that the grain went elsewhere: its lease ends then, and with it the way.
fn may_come(cluster: &Cluster, grain: &Grain, host: &HostFacts, now: BootTime) -> bool {
    !(grain.armed || cluster.needs_lease(grain)) || host.lease.is_held(cluster.timing(), now)
}

fn is_here(me: NodeId, grain: &Grain, host: &HostFacts) -> bool {
    if grain.owner != Some(me) {
        return false;
    }
    let head = host.data.get(&grain.id);
    let head = head.is_some_and(|data| data.role == DataRole::Owner && data.epoch == grain.epoch);
    let alive = host.runs.get(&grain.id).is_some_and(|run| run.alive);
    // Something else may have an address as long as nothing has been started with it here.
    head && (alive || host.busy.contains(&Lane::Run(grain.id)))
}

/// A grain's place in the network, if it wants one and has an address.
#[must_use]
pub fn reach(grain: &Grain) -> Option<Reach> {
    let attachment = grain.attachment()?;
    (attachment.v4.is_some() || attachment.v6.is_some()).then(|| Reach {
        mac: attachment.mac,
        v4: attachment.v4,
        v6: attachment.v6,
        ingress: grain.spec.ingress.clone(),
        egress: grain.spec.egress.clone(),
    })
}

/// What is around every grain.
#[must_use]
pub fn around(cluster: &Cluster) -> Around {
    let addresses = cluster.nodes.values().flat_map(|node| {
        [&node.addresses.api, &node.addresses.peer].into_iter().filter_map(|text| {
            text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip())
        })
    });
    let networks = cluster.networks.values().flat_map(|state| {
        [state.network.v4, state.network.v6].into_iter().flatten().flat_map(|pool| pool.blocks())
    });
    Around { nodes: addresses.collect(), pools: networks.collect() }
}
