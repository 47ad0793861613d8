//! Which grains have an interface on a node, and who may talk to whom.
//!
//! A grain has its address where its owner holds its head in the present epoch, and nowhere else: a node that has lost a
//! grain takes its interface away even while something of the grain still runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::spec::{Cidr, Egress, Ingress};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Grain};
use crate::obey::{DataRole, HostFacts, Lane};

/// The same alarm is not told again before this.
const ALARM_AGAIN: Span = Span::from_secs(600);

/// Whether people are told of what a node found, if `last` is what they were told before, and when.
#[must_use]
pub fn is_news(last: Option<(&str, BootTime)>, what: &str, now: BootTime) -> bool {
    last.is_none_or(|(told, at)| told != what || now.since(at) >= ALARM_AGAIN)
}

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
pub fn reaches(me: NodeId, cluster: &Cluster, host: &HostFacts) -> BTreeMap<GrainId, Reach> {
    let owned = cluster.grains.values().filter(|grain| grain.owner == Some(me));
    let here = owned.filter(|grain| is_here(grain, host));
    here.filter_map(|grain| Some((grain.id, reach(grain)?))).collect()
}

fn is_here(grain: &Grain, host: &HostFacts) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_alarm_is_told_again_only_after_a_while() {
        let told = Some(("the table is gone", BootTime(1_000)));
        for (last, what, now, expected) in [
            (None, "the table is gone", 0, true),
            (told, "the table is gone", 600_999, false),
            (told, "the table is gone", 601_000, true),
            (told, "the table was changed", 1_001, true),
        ] {
            assert_eq!(is_news(last, what, BootTime(now)), expected, "{last:?}, {what} at {now}");
        }
    }
}
