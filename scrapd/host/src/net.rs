//! Network of grains: what a runtime needs to give one its interface.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What the runtime needs to give the grain its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the host's end, at most 15 bytes, derived from the grain's id.
    pub host: String,
    /// Name of the grain's end: `eth0`.
    pub guest: String,
    /// Hardware address of the grain's end.
    pub mac: [u8; 6],
    /// Its address and the length of its prefix.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Its address and the length of its prefix.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Where its packets go.
    pub gateway4: Option<Ipv4Addr>,
    /// Where its packets go.
    pub gateway6: Option<Ipv6Addr>,
}
