//! A network by its prefix. Arithmetic only.

use std::fmt;
use std::net::IpAddr;

/// An address whose bits after the prefix are zero, and the length of the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The network that an address is in. `None`: the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let rest = 32_u32.checked_sub(u32::from(length))?;
                let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let rest = 128_u32.checked_sub(u32::from(length))?;
                let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Some(Self { address, length })
    }

    /// One address alone.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether its addresses are of one link, or of the machine itself.
    #[must_use]
    pub fn is_link_local(self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
        }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4() && Self::new(address, self.length) == Some(self)
    }

    /// Whether all addresses of the other are in this one.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Whether any address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Prefix {
        Prefix::new(address.parse().unwrap(), length).unwrap()
    }

    #[test]
    fn bits_after_the_prefix_do_not_count() {
        assert_eq!(prefix("192.168.60.40", 24).to_string(), "192.168.60.0/24");
        assert_eq!(prefix("192.168.60.40", 0).to_string(), "0.0.0.0/0");
        assert_eq!(prefix("fd00:1::5", 64).to_string(), "fd00:1::/64");
        assert_eq!(prefix("fd00:1::5", 0).to_string(), "::/0");
        assert_eq!(Prefix::new("10.0.0.0".parse().unwrap(), 33), None);
        assert_eq!(Prefix::of("10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1/32");
    }

    #[test]
    fn a_network_contains_its_addresses_alone() {
        let lan = prefix("192.168.60.0", 24);
        assert!(lan.contains("192.168.60.255".parse().unwrap()));
        assert!(!lan.contains("192.168.61.0".parse().unwrap()));
        assert!(!lan.contains("::ffff:192.168.60.1".parse().unwrap()));
        assert!(lan.overlaps(prefix("192.168.0.0", 16)) && prefix("0.0.0.0", 0).overlaps(lan));
        assert!(!lan.overlaps(prefix("192.168.61.0", 24)) && !lan.overlaps(prefix("::", 0)));
    }
}
