//! Networks as `address/prefix`, and which addresses are allowed while nodes cannot prove who they are.
//! No name is ever resolved here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A network: `10.99.0.0/16`, `fd00:99::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                masked(address, self.prefix) == masked(self.address, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether nothing in it is reachable from the Internet by its address.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let inside = |address: IpAddr, prefix| {
            self.prefix >= prefix && Self { address, prefix }.contains(self.address)
        };
        let v4 = |a, b, prefix| inside(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix);
        let v6 = |a, prefix| inside(IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0)), prefix);
        v4(10, 0, 8)
            || v4(172, 16, 12)
            || v4(192, 168, 16)
            || v4(169, 254, 16)
            || v4(100, 64, 10)
            || v6(0xfc00, 7)
            || v6(0xfe80, 10)
    }
}

/// The address as a number with everything after the prefix cleared; both families have the prefix at the top.
fn masked(address: IpAddr, prefix: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    match u32::from(prefix) {
        0 => 0,
        prefix => bits & (u128::MAX << (128 - prefix.min(128))),
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |reason: &str| format!("`{text}` is not a network: {reason}");
        let (address, prefix) =
            text.split_once('/').ok_or_else(|| bad("it has no prefix length such as `/16`"))?;
        let address: IpAddr =
            address.parse().map_err(|_| bad("what stands before `/` is no address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most);
        let prefix =
            prefix.ok_or_else(|| bad(&format!("the prefix length must be 0 to {most}")))?;
        if masked(address, prefix) != masked(address, most) {
            return Err(bad("the address has bits after its prefix"));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads `address:port`. The host is a literal address or `localhost`: a name could mean something else tomorrow.
///
/// # Errors
/// One sentence.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(text).parse::<SocketAddr>().map_err(|_| {
        format!("`{text}` is not `address:port` with a literal address or `localhost`")
    })?;
    match address.port() {
        0 => Err(format!("`{text}` has port 0: others could not find it")),
        _ => Ok(address),
    }
}

/// Why a node must not listen on or advertise an address, with what to do.
///
/// # Errors
/// The sentence and the hint.
pub(super) fn allowed(address: IpAddr, networks: &[Network]) -> Result<(), (String, String)> {
    if address.is_unspecified() {
        let what = format!(
            "`{address}` means every network of this machine: nodes cannot prove who they are yet, \
             so anybody who reaches the port could command the cluster"
        );
        return Err((what, "name one address, such as `127.0.0.1`".to_owned()));
    }
    if address.is_loopback() || networks.iter().any(|network| network.contains(address)) {
        return Ok(());
    }
    let what = format!(
        "`{address}` is neither loopback nor in `trust.test_networks`: nodes cannot prove who they \
         are yet, so anybody who reaches the port could command the cluster"
    );
    let hint = "use `127.0.0.1`, or name a closed network in which you trust everybody: \
                `test_networks = [\"10.99.0.0/16\"]` under `[trust]`";
    Err((what, hint.to_owned()))
}
