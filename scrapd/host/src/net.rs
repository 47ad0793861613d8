//! The network of grains: each has an address of its own that follows it, and a path to nobody unless its manifest opens one.
//!
//! A grain is joined to its node by a pair of virtual interfaces (veth) and routed, never bridged. The node answers on
//! its LAN for the grains that it owns. What may pass is said twice, on purpose:
//!
//! 1. A table of nftables ([`rules`]) marks every packet that is allowed to pass.
//! 2. The kernel's routing ([`routing`]) knows no way for a packet of a grain, or to one, that has no mark.
//!
//! So when the table is gone (`nft flush ruleset`), grains have no path at all, at once and without anybody watching.
//! What the kernel delivers without asking its routing, broadcasts of IPv4 for the most part, is dropped by a constant
//! filter at each interface (`filter`). One thing goes on without the table: a TCP connection that this node itself has
//! opened to a grain, because the kernel knows its packets before it routes them.
//!
//! Everything here is by the *name* of the grain's interface, which does not change when the runtime makes it again at
//! a restart; only that filter and some settings of the interface are made again, and until then the table does their
//! work. Nothing here decides who may talk to whom: it is told, and does it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use scrap_schema::id::GrainId;

mod error;
mod lxc;
mod prefix;
pub mod routing;
pub mod rules;

#[cfg(target_os = "linux")]
mod airwave;
#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod frames;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod interfaces;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod witness;

pub use error::{NetError, NetTrouble, Weight};
#[cfg(target_os = "linux")]
pub use host::HostNet;
pub use lxc::lxc_keys;
pub use prefix::Prefix;

/// How the name of every host end begins; the rules know grains by it.
pub const INTERFACE_PREFIX: &str = "scr";

/// The router that every grain sees. Of the part of 169.254/16 that no machine picks by itself (RFC 3927).
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// The router that every grain sees.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What a grain has of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which grain.
    pub grain: GrainId,
    /// The address of its own end's hardware, the same on every node.
    pub mac: [u8; 6],
    /// Its address, if it has one of this family.
    pub v4: Option<Ipv4Addr>,
    /// Its address, if it has one of this family.
    pub v6: Option<Ipv6Addr>,
    /// Who may begin to talk to it. Empty: nobody but its own node.
    pub ingress: Vec<Opening>,
    /// Whom it may begin to talk to. Empty: nobody. Answers always pass.
    pub egress: Vec<Opening>,
}

impl Attachment {
    /// Its addresses of either family.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)].into_iter().flatten()
    }
}

/// A way that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Of what.
    pub protocol: Protocol,
    /// First and last port at the destination; `None`: all. Only with TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// To or from whom.
    pub peers: Peers,
}

/// What an opening is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests. Errors about a connection that may be pass without an opening.
    Icmp,
    /// Everything that can be routed.
    Any,
}

/// The other side of an opening.
///
/// Whatever an opening says, a grain never reaches a node (any address of this one, the told addresses of the others,
/// networks that this node has on other interfaces than its uplink), nor loopback, link-local, multicast and broadcast.
///
/// Another grain is reached only as from outside: the sender's `egress` must cover the address of the other one, and
/// the `ingress` of the other one must cover the sender's. It makes no difference whether both are on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// As ingress: everybody. As egress: everybody who can be reached through the uplink, the LAN included.
    Anywhere,
    /// Everybody but private, link-local, multicast and reserved addresses, the uplink's LAN, nodes and grains.
    Internet,
    /// A network, by its address and the length of its prefix.
    Net(IpAddr, u8),
}

/// What the runtime needs to give a grain its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the end on the host: [`INTERFACE_PREFIX`] and the end of the grain's id.
    pub host: String,
    /// Name of the end in the grain.
    pub guest: String,
    /// Of the grain's end.
    pub mac: [u8; 6],
    /// Address and prefix length.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Address and prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// The router, if there is an address of this family.
    pub gateway4: Option<Ipv4Addr>,
    /// The router, if there is an address of this family.
    pub gateway6: Option<Ipv6Addr>,
}

/// The interface of a grain. Always the same for the same attachment.
#[must_use]
pub fn interface(attachment: &Attachment) -> Interface {
    Interface {
        host: host_name(attachment.grain),
        guest: "eth0".to_owned(),
        mac: attachment.mac,
        v4: attachment.v4.map(|address| (address, 32)),
        v6: attachment.v6.map(|address| (address, 128)),
        gateway4: attachment.v4.map(|_| GATEWAY4),
        gateway6: attachment.v6.map(|_| GATEWAY6),
    }
}

/// The kernel takes 15 bytes. The end of an id is its random part.
fn host_name(grain: GrainId) -> String {
    let id = grain.to_string();
    let end: String = id.chars().skip(id.len().saturating_sub(12)).collect();
    format!("{INTERFACE_PREFIX}{end}")
}

/// Which parts of the machine the network of grains may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetSettings {
    /// The LAN interface of the node.
    pub uplink: String,
    /// Name of the tables in nftables that belong to SCRAP: one of the family `inet`, one of the family `arp`.
    pub table: String,
    /// A file that remembers the kernel's settings as they were, for [`HostNet::clear`]. Its folder is there; it should
    /// not outlive a restart of the machine, nor be shared by two daemons.
    pub memory: PathBuf,
}

/// What else belongs to the cluster. No grain reaches the nodes; [`Peers::Internet`] means neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Addresses of all nodes.
    pub nodes: BTreeSet<IpAddr>,
    /// Pools that addresses of grains are taken from.
    pub pools: BTreeSet<Prefix>,
}

/// The network of grains, or none.
#[derive(Debug)]
pub enum AnyNet {
    /// Of this machine.
    #[cfg(target_os = "linux")]
    Host(HostNet),
    /// Grains have no network of their own.
    Off,
}

#[cfg(target_os = "linux")]
impl AnyNet {
    /// See [`HostNet::surround`].
    pub async fn surround(&self, surroundings: Surroundings) {
        match self {
            Self::Host(net) => net.surround(surroundings).await,
            Self::Off => (),
        }
    }

    /// See [`HostNet::arrange`].
    ///
    /// # Errors
    /// As there.
    pub async fn arrange(&self, wanted: &BTreeMap<GrainId, Attachment>) -> Result<(), NetError> {
        match self {
            Self::Host(net) => net.arrange(wanted).await,
            Self::Off => Ok(()),
        }
    }

    /// See [`HostNet::arrange_for`].
    ///
    /// # Errors
    /// As there.
    pub async fn arrange_for(
        &self,
        grain: GrainId,
        wanted: &BTreeMap<GrainId, Attachment>,
    ) -> Result<(), NetError> {
        match self {
            Self::Host(net) => net.arrange_for(grain, wanted).await,
            Self::Off => Ok(()),
        }
    }

    /// See [`HostNet::announce`].
    ///
    /// # Errors
    /// As there.
    pub async fn announce(&self, grain: &Attachment) -> Result<(), NetError> {
        match self {
            Self::Host(net) => net.announce(grain).await,
            Self::Off => Ok(()),
        }
    }

    /// See [`HostNet::in_use`].
    ///
    /// # Errors
    /// As there.
    pub async fn in_use(&self, address: IpAddr) -> Result<bool, NetError> {
        match self {
            Self::Host(net) => net.in_use(address).await,
            Self::Off => Ok(false),
        }
    }

    /// See [`HostNet::look`].
    pub async fn look(&self, wanted: &BTreeMap<GrainId, Attachment>) -> Vec<NetTrouble> {
        match self {
            Self::Host(net) => net.look(wanted).await,
            Self::Off => Vec::new(),
        }
    }

    /// See [`HostNet::clear`].
    ///
    /// # Errors
    /// As there.
    pub async fn clear(&self) -> Result<(), NetError> {
        match self {
            Self::Host(net) => net.clear().await,
            Self::Off => Ok(()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl AnyNet {
    /// Nothing to do.
    pub async fn surround(&self, _: Surroundings) {}

    /// Nothing to do.
    ///
    /// # Errors
    /// None.
    pub async fn arrange(&self, _: &BTreeMap<GrainId, Attachment>) -> Result<(), NetError> {
        Ok(())
    }

    /// Nothing to do.
    ///
    /// # Errors
    /// None.
    pub async fn arrange_for(
        &self,
        _: GrainId,
        _: &BTreeMap<GrainId, Attachment>,
    ) -> Result<(), NetError> {
        Ok(())
    }

    /// Nothing to do.
    ///
    /// # Errors
    /// None.
    pub async fn announce(&self, _: &Attachment) -> Result<(), NetError> {
        Ok(())
    }

    /// Nothing is known.
    ///
    /// # Errors
    /// None.
    pub async fn in_use(&self, _: IpAddr) -> Result<bool, NetError> {
        Ok(false)
    }

    /// Nothing to see.
    pub async fn look(&self, _: &BTreeMap<GrainId, Attachment>) -> Vec<NetTrouble> {
        Vec::new()
    }

    /// Nothing to do.
    ///
    /// # Errors
    /// None.
    pub async fn clear(&self) -> Result<(), NetError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_named_by_the_end_of_the_id() {
        let grain = GrainId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let attachment = Attachment {
            grain,
            mac: [2, 0, 0, 0, 0, 5],
            v4: Some(Ipv4Addr::new(192, 168, 60, 40)),
            v6: None,
            ingress: vec![],
            egress: vec![],
        };
        let interface = interface(&attachment);
        assert_eq!(interface.host.len(), 15);
        let end = interface.host.strip_prefix(INTERFACE_PREFIX).unwrap();
        assert!(grain.to_string().ends_with(end), "{} of {grain}", interface.host);
        assert_eq!(interface.v4, Some((Ipv4Addr::new(192, 168, 60, 40), 32)));
        assert_eq!((interface.gateway4, interface.gateway6), (Some(GATEWAY4), None));
    }
}
