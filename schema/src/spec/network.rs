//! Addresses of grains: networks with their pools, what a grain wants of one, and what may go in and out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use super::text::as_text;

/// A text that is no address, block or range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {what}: {reason}")]
pub struct BadAddress {
    /// The text as it came, shortened.
    pub text: String,
    /// What was wanted, with its article: "a block of addresses".
    pub what: &'static str,
    /// Why it is refused, and what to write instead.
    pub reason: String,
}

fn bad(text: &str, what: &'static str, reason: impl Into<String>) -> BadAddress {
    let text = text.chars().take(60).flat_map(char::escape_debug).collect();
    BadAddress { text, what, reason: reason.into() }
}

/// A block of addresses as routers write it: `192.168.60.0/24`, `fd00:60::/64`; one address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Its first address.
    pub address: IpAddr,
    /// How many of its leading bits are the same in the whole block.
    pub prefix: u8,
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address as a number.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The number as an address of the same family as another one.
fn of_family(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The bits that may differ inside a block.
fn host_bits(address: IpAddr, prefix: u8) -> u128 {
    let free = width(address).saturating_sub(prefix);
    1_u128.checked_shl(u32::from(free)).map_or(u128::MAX, |size| size - 1)
}

impl Cidr {
    /// The last address of the block.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let last = number(self.address) | host_bits(self.address, self.prefix);
        of_family(self.address, last)
    }

    /// Whether the block has this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Range::from(*self).contains(address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix == width(self.address) {
            true => f.pad(&self.address.to_string()),
            false => f.pad(&format!("{}/{}", self.address, self.prefix)),
        }
    }
}

impl FromStr for Cidr {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let what = "a block of addresses";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address
            .parse()
            .map_err(|_| bad(text, what, "write it as `192.168.60.0/24` or `fd00:60::/64`"))?;
        let width = width(address);
        let Some(prefix) = prefix else { return Ok(Self { address, prefix: width }) };
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix: &u8| digits && *prefix <= width);
        let prefix = prefix
            .ok_or_else(|| bad(text, what, format!("after `/` stands a number up to {width}")))?;
        let first = number(address) & !host_bits(address, prefix);
        if first != number(address) {
            let meant = of_family(address, first);
            return Err(bad(
                text,
                what,
                format!("its first address is {meant}: `{meant}/{prefix}`"),
            ));
        }
        Ok(Self { address, prefix })
    }
}
as_text!(Cidr, "A block of addresses, or one address.", "192.168.60.0/24");

/// Addresses from one to another, both included: `192.168.60.10-192.168.60.99`, a block, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether this address is among them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// The same as a block, if it is one.
    #[must_use]
    pub fn as_block(&self) -> Option<Cidr> {
        let size = number(self.last) - number(self.first);
        let free = (size.wrapping_add(1)).checked_ilog2().unwrap_or(128);
        let prefix = u8::try_from(u32::from(width(self.first)).checked_sub(free)?).ok()?;
        let block = Cidr { address: self.first, prefix };
        let begins = number(self.first) & host_bits(self.first, prefix) == 0;
        (begins && block.last() == self.last).then_some(block)
    }

    /// The same as blocks, the fewest that there are, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Cidr> {
        let (mut first, last) = (number(self.first), number(self.last));
        let width = width(self.first);
        let mut blocks = Vec::new();
        loop {
            // The largest block that begins here and does not go beyond the end.
            let address = of_family(self.first, first);
            let fits = |prefix: &u8| {
                let bits = host_bits(self.first, *prefix);
                first & bits == 0 && first.checked_add(bits).is_some_and(|end| end <= last)
            };
            let prefix = (0..=width).find(fits).unwrap_or(width);
            blocks.push(Cidr { address, prefix });
            match first
                .checked_add(host_bits(self.first, prefix))
                .and_then(|end| end.checked_add(1))
            {
                Some(next) if next <= last => first = next,
                Some(_) | None => return blocks,
            }
        }
    }

    /// The lowest address for which nobody objects. `beyond` names the last one of a stretch that is not free.
    pub fn lowest(&self, mut beyond: impl FnMut(IpAddr) -> Option<IpAddr>) -> Option<IpAddr> {
        let mut candidate = self.first;
        while self.contains(candidate) {
            match beyond(candidate) {
                None => return Some(candidate),
                Some(end) => {
                    let next = number(end.max(candidate)).checked_add(1)?;
                    if self.first.is_ipv4() && next > u128::from(u32::MAX) {
                        return None;
                    }
                    candidate = of_family(self.first, next);
                }
            }
        }
        None
    }
}

impl From<Cidr> for Range {
    fn from(block: Cidr) -> Self {
        Self { first: block.address, last: block.last() }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_block() {
            Some(block) => fmt::Display::fmt(&block, f),
            None => f.pad(&format!("{}-{}", self.first, self.last)),
        }
    }
}

impl FromStr for Range {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let Some((first, last)) = text.split_once('-') else {
            return Ok(text.parse::<Cidr>()?.into());
        };
        let what = "a range of addresses";
        let address = |part: &str| {
            part.parse::<IpAddr>()
                .map_err(|_| bad(text, what, "write it as `192.168.60.10-192.168.60.99`"))
        };
        let (first, last) = (address(first)?, address(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(bad(text, what, "its ends are of different families"));
        }
        if last < first {
            return Err(bad(text, what, "it ends before it begins"));
        }
        Ok(Self { first, last })
    }
}
as_text!(
    Range,
    "A block of addresses, a range from one to another, or one address.",
    "192.168.60.10-192.168.60.99"
);

/// Where grains get their addresses from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NetworkSpec {
    /// The IPv4 addresses that grains may have: a block or a range of the network that the nodes are in, used by nobody else.
    /// Of a block the first and the last address are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v4: Option<Range>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v6: Option<Range>,
    /// Addresses, blocks and ranges that no grain gets by itself or by wish: they belong to somebody else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Range>,
}

impl NetworkSpec {
    /// The last address of the stretch around an address that no grain may have; `None`: a grain may have it.
    #[must_use]
    pub fn barred(&self, address: IpAddr) -> Option<IpAddr> {
        let pool = if address.is_ipv4() { self.v4 } else { self.v6 };
        // The edges of a block mean the network itself and everybody in it.
        let edge = pool.filter(|pool| {
            let block = pool.as_block();
            let wide = block.is_some_and(|block| width(address) - block.prefix > 1);
            wide && (pool.first() == address || pool.last() == address && address.is_ipv4())
        });
        let excluded = self.exclude.iter().filter(|range| range.contains(address));
        excluded.map(Range::last).chain(edge.map(|_| address)).max()
    }
}

/// What a grain wants of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrainNetwork {
    /// Name of the network. The grain gets one address of each of its pools and keeps it wherever it lives.
    pub name: crate::id::Name,
    /// The IPv4 address that it wants; the lowest free one if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "address4")]
    #[schema(value_type = Option<String>, example = "192.168.60.40")]
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address that it wants; the lowest free one if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "address6")]
    #[schema(value_type = Option<String>, example = "fd00:60::40")]
    pub address6: Option<Ipv6Addr>,
}

fn address<'de, D: Deserializer<'de>, A: FromStr>(
    deserializer: D,
    what: &'static str,
    example: &str,
) -> Result<Option<A>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let reason = match text.split_once('/') {
        Some((bare, _)) if bare.parse::<A>().is_ok() => format!("write it without `/`: `{bare}`"),
        Some(_) | None => format!("write it as `{example}`"),
    };
    text.parse().map(Some).map_err(|_| de::Error::custom(bad(&text, what, reason)))
}

fn address4<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    address(deserializer, "an IPv4 address", "192.168.60.40")
}

fn address6<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv6Addr>, D::Error> {
    address(deserializer, "an IPv6 address", "fd00:60::40")
}

/// What a rule is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Ping and its relatives, of both families.
    Icmp,
    /// Everything; with ports: TCP and UDP.
    Any,
}

impl Protocol {
    /// The protocols that a rule with or without ports means: those that have ports, if it has some.
    #[must_use]
    pub fn each(self, with_ports: bool) -> &'static [Self] {
        match (self, with_ports) {
            (Self::Tcp, _) => &[Self::Tcp],
            (Self::Udp, _) => &[Self::Udp],
            (Self::Icmp, _) => &[Self::Icmp],
            (Self::Any, true) => &[Self::Tcp, Self::Udp],
            (Self::Any, false) => &[Self::Any],
        }
    }
}

/// Ports from one to another, both included: `8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.first, self.last))
    }
}

impl FromStr for Ports {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let what = "a range of ports";
        let port = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u16>().ok().filter(|port| digits && *port > 0)
        };
        let ends = text.split_once('-').map(|(first, last)| (port(first), port(last)));
        match ends {
            Some((Some(first), Some(last))) if first <= last => Ok(Self { first, last }),
            Some((Some(_), Some(_))) => Err(bad(text, what, "it ends before it begins")),
            Some(_) | None => {
                Err(bad(text, what, "write it as `8000-8010`, with ports from 1 to 65535"))
            }
        }
    }
}
as_text!(Ports, "Ports from one to another, both included.", "8000-8010");

/// Who is at the other end: `any`, `internet`, an address or a block of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    /// Everybody.
    #[default]
    Any,
    /// Everybody but private addresses, nodes and other grains.
    Internet,
    /// Who has one of these addresses.
    Block(Cidr),
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Internet => f.pad("internet"),
            Self::Block(block) => fmt::Display::fmt(block, f),
        }
    }
}

impl FromStr for Peers {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text {
            "any" => Ok(Self::Any),
            "internet" => Ok(Self::Internet),
            block => block.parse().map(Self::Block).map_err(|refused: BadAddress| {
                let what = "`any`, `internet` or a block of addresses";
                BadAddress { what, ..refused }
            }),
        }
    }
}
as_text!(Peers, "`any`, `internet`, an address or a block of addresses.", "internet");

/// Something that may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ingress {
    /// The port at the grain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// Several ports at the grain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Which protocol.
    #[serde(default = "Ingress::tcp")]
    pub protocol: Protocol,
    /// From whom.
    #[serde(default)]
    pub from: Peers,
}

impl Ingress {
    fn tcp() -> Protocol {
        Protocol::Tcp
    }

    /// The ports at the grain, both ends included; `None`: all, or there are none.
    #[must_use]
    pub fn range(&self) -> Option<(u16, u16)> {
        range(self.port, self.ports)
    }
}

/// Something that may go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Egress {
    /// The port at the other end; all if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// Several ports at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Which protocol.
    #[serde(default = "Egress::everything")]
    pub protocol: Protocol,
    /// To whom.
    #[serde(default)]
    pub to: Peers,
}

impl Egress {
    fn everything() -> Protocol {
        Protocol::Any
    }

    /// What a grain may reach when nobody says: the internet, not the nodes, not their network, not other grains.
    #[must_use]
    pub fn default_rules() -> Vec<Self> {
        let (protocol, to) = (Self::everything(), Peers::Internet);
        vec![Self { port: None, ports: None, protocol, to }]
    }

    /// The ports at the other end, both ends included; `None`: all, or there are none.
    #[must_use]
    pub fn range(&self) -> Option<(u16, u16)> {
        range(self.port, self.ports)
    }
}

fn range(port: Option<u16>, ports: Option<Ports>) -> Option<(u16, u16)> {
    port.map(|port| (port, port)).or(ports.map(|ports| (ports.first, ports.last)))
}
