//! The interfaces of this machine, or of the network namespace that the daemon lives in. Only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrLike as _, SockaddrStorage};

use super::error::NetError;
use super::{INTERFACE_PREFIX, Prefix};

/// What is there now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    /// Every interface.
    pub(super) all: BTreeMap<String, Link>,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number: another one when it was made again.
    pub(super) index: usize,
    /// Of its hardware.
    pub(super) mac: Option<[u8; 6]>,
    /// It may send.
    pub(super) up: bool,
    /// Its addresses and the networks that they are in.
    pub(super) addresses: BTreeMap<IpAddr, Prefix>,
    /// What a raw socket is bound to.
    pub(super) address: Option<LinkAddr>,
}

impl Interfaces {
    /// Reads them all.
    pub(super) fn read() -> Result<Self, NetError> {
        let all = getifaddrs().map_err(|errno| NetError::Interfaces(errno.into()))?;
        let mut interfaces = Self::default();
        for address in all {
            interfaces.add(&address);
        }
        Ok(interfaces)
    }

    fn add(&mut self, found: &InterfaceAddress) {
        let link = self.all.entry(found.interface_name.clone()).or_default();
        link.up = found.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = &found.address else { return };
        if let Some(hardware) = address.as_link_addr() {
            (link.index, link.mac) = (hardware.ifindex(), hardware.addr());
            link.address = Some(*hardware);
            return;
        }
        let Some(own) = ip(address) else { return };
        let length = found.netmask.as_ref().and_then(ip).map(ones);
        let whole = Prefix::of(own);
        let prefix = length.and_then(|length| Prefix::new(own, length)).unwrap_or(whole);
        link.addresses.insert(own, prefix);
    }

    /// Addresses of this machine.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpAddr> {
        self.all.values().flat_map(|link| link.addresses.keys().copied()).collect()
    }

    /// Networks of the uplink.
    pub(super) fn lans(&self, uplink: &str) -> BTreeSet<Prefix> {
        let networks = self.all.get(uplink).into_iter().flat_map(|link| link.addresses.values());
        networks.copied().collect()
    }

    /// Networks that only this machine reaches: of other interfaces, and not those that the uplink's lie in. One that lies inside of
    /// the uplink's is somewhere else all the same.
    pub(super) fn others(&self, uplink: &str) -> BTreeSet<Prefix> {
        let lans = self.lans(uplink);
        let others = self
            .all
            .iter()
            .filter(|(name, _)| name.as_str() != uplink && !name.starts_with(INTERFACE_PREFIX));
        let networks = others.flat_map(|(_, link)| link.addresses.values().copied());
        networks.filter(|network| !lans.iter().any(|lan| network.covers(*lan))).collect()
    }

    /// Its address that no router knows: neighbours are spoken to from it.
    pub(super) fn link_local(&self, name: &str) -> Option<Ipv6Addr> {
        let mut addresses = self.all.get(name)?.addresses.keys();
        addresses.find_map(|address| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(*v6),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        })
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return Some(IpAddr::V6(v6.ip()));
    }
    // The family of a netmask is not always set; its length is.
    debug_assert!(address.len() > 0);
    None
}

fn ones(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(v4) => v4.to_bits().count_ones(),
        IpAddr::V6(v6) => v6.to_bits().count_ones(),
    };
    u8::try_from(ones).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(address: &str, network: &str) -> Link {
        let address: IpAddr = address.parse().unwrap();
        let length = network.split_once('/').unwrap().1.parse().unwrap();
        Link {
            addresses: [(address, Prefix::new(address, length).unwrap())].into(),
            ..Link::default()
        }
    }

    #[test]
    fn a_network_inside_of_the_uplinks_is_somewhere_else() {
        let interfaces = Interfaces {
            all: [
                ("eth0".to_owned(), link("192.168.7.2", "/16")),
                ("virbr0".to_owned(), link("192.168.122.1", "/24")),
                ("wlan0".to_owned(), link("192.168.7.3", "/16")),
                ("vpn".to_owned(), link("192.168.9.9", "/8")),
            ]
            .into(),
        };
        let others = interfaces.others("eth0").iter().map(Prefix::to_string).collect::<Vec<_>>();
        assert_eq!(others, ["192.168.122.0/24"]);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let interfaces = Interfaces::read().unwrap();
        let lo = &interfaces.all["lo"];
        assert!(lo.up && lo.index > 0, "{lo:?}");
        let network = lo.addresses.get(&"127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(network.to_string(), "127.0.0.0/8");
        assert!(interfaces.own_addresses().contains(&"127.0.0.1".parse().unwrap()));
        assert!(interfaces.others("lo").iter().all(|other| !other.overlaps(*network)));
    }
}
