//! The table of nftables, as text. Pure: the same wishes give the same text, in the same order.
//!
//! A packet of a grain is looked at before it is routed. Is its sender who it may be (hardware address and address)?
//! Is it an answer to a connection that was allowed? Does an opening cover it? Only then it gets [`MARK`], without
//! which [`super::routing`] knows no way for it. Packets in the direction in which a connection was begun are held
//! against the openings every time, so an opening that is taken away ends what it had opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

use scrap_schema::id::GrainId;

use super::lxc::mac_text;
use super::{
    Attachment, GATEWAY4, GATEWAY6, INTERFACE_PREFIX, Opening, Peers, Prefix, Protocol, interface,
};

/// The bit of a packet's mark that says that it may pass.
pub const MARK: u32 = 0x0200_0000;

/// What a node is in the middle of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// The LAN interface.
    pub uplink: String,
    /// Networks of the uplink: reached by [`Peers::Anywhere`], not by [`Peers::Internet`].
    pub lans: BTreeSet<Prefix>,
    /// Pools of grains' addresses: as LANs.
    pub pools: BTreeSet<Prefix>,
    /// Never reached by a grain, whatever its openings say: nodes, and networks of other interfaces.
    pub never: BTreeSet<Prefix>,
}

/// No grain may ever reach these.
const NEVER4: [&str; 5] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"];
/// No grain may ever reach these.
const NEVER6: [&str; 5] = ["::/96", "::ffff:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8"];
/// Not the Internet.
const INSIDE4: [&str; 10] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
];
/// Not the Internet, or a way to write an IPv4 address that is not.
const INSIDE6: [&str; 5] =
    ["64:ff9b:1::/48", "2001::/32", "2001:db8::/32", "2002::/16", "fc00::/7"];

/// One transaction for `nft -f -`: both tables, replaced as a whole.
#[must_use]
pub fn transaction(table: &str, ground: &Ground, wanted: &BTreeMap<GrainId, Attachment>) -> String {
    let mut text = String::new();
    for family in ["inet", "arp"] {
        // Deleting needs it to be there.
        line(&mut text, 0, format_args!("table {family} {table}"));
        line(&mut text, 0, format_args!("delete table {family} {table}"));
    }
    line(&mut text, 0, format_args!("table inet {table} {{"));
    inet_sets(&mut text, ground, wanted);
    text.push_str(INET_CHAINS);
    for attachment in wanted.values() {
        grain_chains(&mut text, attachment);
    }
    line(&mut text, 0, format_args!("}}\ntable arp {table} {{"));
    let own = wanted.values().filter_map(own4);
    set(&mut text, "set own", "ifname . ether_addr . ipv4_addr", "", own);
    let grains = wanted.values().filter_map(|grain| grain.v4);
    set(&mut text, "set grains", "ipv4_addr", "", grains.map(|address| address.to_string()));
    text.push_str(ARP_CHAINS);
    line(&mut text, 0, format_args!("}}"));
    replace_names(&text, ground)
}

/// The fixed parts are text as a person would write it, with names for what is known here only.
fn replace_names(text: &str, ground: &Ground) -> String {
    text.replace("$grains", &format!("\"{INTERFACE_PREFIX}*\""))
        .replace("$uplink", &format!("\"{}\"", ground.uplink))
        .replace("$gateway4", &GATEWAY4.to_string())
        .replace("$gateway6_as_number", &format!("{:#x}", GATEWAY6.to_bits()))
        .replace("$gateway6", &GATEWAY6.to_string())
        .replace("$solicited_gateway6", &solicited(GATEWAY6).to_string())
        .replace("$mark", &format!("{MARK:#x}"))
}

/// The group in which an address is asked for.
pub(super) fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// `who` drops senders that are not who they may be before anything else is done for them. `decide` comes after other
/// tables have changed destinations, so that what is looked at is where the packet really goes.
/// Options that choose another way than the destination's never pass. The numbers of ICMPv6 that are dropped are those that make sense on one link only.
const INET_CHAINS: &str = r"
	chain who {
		type filter hook prerouting priority raw; policy accept;
		iifname $grains jump sender
	}
	chain sender {
		iifname . ether saddr . ip saddr @own4 return
		iifname . ether saddr . ip6 saddr @own6 return
		drop
	}
	chain decide {
		type filter hook prerouting priority dstnat + 10; policy accept;
		iifname $grains goto from_grain
		ip saddr @grains4 drop
		ip6 saddr @grains6 drop
		ip daddr @grains4 goto to_grain
		ip6 daddr @grains6 goto to_grain
	}
	chain from_grain {
		ip hdrlength != 5 drop
		exthdr rt exists drop
		icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr { $gateway6, $solicited_gateway6 } @th,64,128 $gateway6_as_number meta pkttype set host goto pass
		icmpv6 type nd-neighbor-advert ip6 hoplimit 255 ip6 daddr fe80::/10 iifname vmap @advertising
		icmpv6 type 130-153 drop
		icmp type { redirect, router-advertisement, router-solicitation } drop
		ct direction reply ct state established goto pass
		ct state related meta l4proto { 1, 58 } iifname . ct original ip saddr @address4 goto pass
		ct state related meta l4proto { 1, 58 } iifname . ct original ip daddr @address4 goto pass
		ct state related meta l4proto { 1, 58 } iifname . ct original ip6 saddr @address6 goto pass
		ct state related meta l4proto { 1, 58 } iifname . ct original ip6 daddr @address6 goto pass
		fib daddr type != unicast drop
		ip daddr @never4 drop
		ip6 daddr @never6 drop
		iifname vmap @leaving
		drop
	}
	chain leave {
		ip daddr @grains4 goto enter
		ip6 daddr @grains6 goto enter
		goto pass
	}
	chain to_grain {
		ct direction reply ct state established goto pass
		ct state related meta l4proto { 1, 58 } goto pass
		iifname $uplink icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 goto pass
		goto enter
	}
	chain enter {
		ip daddr vmap @entering4
		ip6 daddr vmap @entering6
		drop
	}
	chain pass {
		meta mark set meta mark | $mark accept
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname $grains meta mark & $mark == 0 drop
		oifname $grains meta mark & $mark == 0 drop
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname $grains meta mark & $mark == 0 drop
	}
";

/// A grain may ask for its router, and say where it is itself. On the LAN the node answers for its grains alone.
const ARP_CHAINS: &str = r"
	chain input {
		type filter hook input priority filter; policy accept;
		iifname $grains goto from_grain
		arp daddr ip $gateway4 drop
		arp saddr ip @grains drop
		iifname $uplink arp daddr ip @grains meta mark set meta mark | $mark
	}
	chain from_grain {
		iifname . arp saddr ether . arp saddr ip != @own drop
		iifname . ether saddr . arp saddr ip != @own drop
		arp operation reply accept
		arp operation request arp daddr ip $gateway4 meta mark set meta mark | $mark accept
		drop
	}
";

fn line(text: &mut String, depth: usize, arguments: fmt::Arguments<'_>) {
    text.extend(std::iter::repeat_n('\t', depth));
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

/// A set or a map. The elements come sorted, one on each line.
fn set(
    text: &mut String,
    name: &str,
    kind: &str,
    more: &str,
    elements: impl Iterator<Item = String>,
) {
    let elements: BTreeSet<String> = elements.collect();
    line(text, 1, format_args!("{name} {{"));
    line(text, 2, format_args!("type {kind}"));
    for part in more.split_terminator(';') {
        line(text, 2, format_args!("{part}"));
    }
    if !elements.is_empty() {
        line(text, 2, format_args!("elements = {{"));
        for element in elements {
            line(text, 3, format_args!("{element},"));
        }
        line(text, 2, format_args!("}}"));
    }
    line(text, 1, format_args!("}}"));
}

fn inet_sets(text: &mut String, ground: &Ground, wanted: &BTreeMap<GrainId, Attachment>) {
    let grains = || wanted.values();
    set(text, "set own4", "ifname . ether_addr . ipv4_addr", "", grains().filter_map(own4));
    set(text, "set own6", "ifname . ether_addr . ipv6_addr", "", grains().flat_map(own6));
    let named = |grain: &Attachment, address: Option<IpAddr>| {
        address.map(|address| format!("\"{}\" . {address}", interface(grain).host))
    };
    let v4 = grains().filter_map(|grain| named(grain, grain.v4.map(IpAddr::V4)));
    set(text, "set address4", "ifname . ipv4_addr", "", v4);
    let v6 = grains().filter_map(|grain| named(grain, grain.v6.map(IpAddr::V6)));
    set(text, "set address6", "ifname . ipv6_addr", "", v6);
    let v4 = || grains().filter_map(|grain| grain.v4);
    let v6 = || grains().filter_map(|grain| grain.v6);
    set(text, "set grains4", "ipv4_addr", "", v4().map(|address| address.to_string()));
    set(text, "set grains6", "ipv6_addr", "", v6().map(|address| address.to_string()));

    let intervals = "flags interval;auto-merge;";
    let of = |prefixes: &BTreeSet<Prefix>, v4: bool| {
        let ours = prefixes.iter().filter(|prefix| prefix.is_v4() == v4);
        ours.map(Prefix::to_string).collect::<Vec<_>>()
    };
    for (name, kind, v4, never, inside, addresses) in [
        ("4", "ipv4_addr", true, &NEVER4, &INSIDE4[..], v4().map(|a| a.to_string()).collect()),
        ("6", "ipv6_addr", false, &NEVER6, &INSIDE6[..], v6().map(|a| a.to_string()).collect()),
    ] {
        let addresses: Vec<String> = addresses;
        let never = never.iter().map(|prefix| (*prefix).to_owned());
        let never: Vec<String> = never.chain(of(&ground.never, v4)).collect();
        set(text, &format!("set never{name}"), kind, intervals, never.iter().cloned());
        let inside = inside.iter().map(|prefix| (*prefix).to_owned());
        let inside = inside.chain(never).chain(of(&ground.lans, v4)).chain(of(&ground.pools, v4));
        set(text, &format!("set inside{name}"), kind, intervals, inside.chain(addresses));
    }

    let advertising = grains().filter(|grain| grain.v6.is_some()).map(|grain| {
        let name = interface(grain).host;
        format!("\"{name}\" : goto advertise_{name}")
    });
    set(text, "map advertising", "ifname : verdict", "", advertising);
    let leaving = grains().filter(|grain| !grain.egress.is_empty()).map(|grain| {
        let name = interface(grain).host;
        format!("\"{name}\" : jump leave_{name}")
    });
    set(text, "map leaving", "ifname : verdict", "", leaving);
    let entering = |address: fn(&Attachment) -> Option<IpAddr>| {
        let open = grains().filter(|grain| !grain.ingress.is_empty());
        open.filter_map(move |grain| {
            let name = interface(grain).host;
            address(grain).map(|address| format!("{address} : jump enter_{name}"))
        })
    };
    let v4 = entering(|grain| grain.v4.map(IpAddr::V4));
    set(text, "map entering4", "ipv4_addr : verdict", "", v4);
    let v6 = entering(|grain| grain.v6.map(IpAddr::V6));
    set(text, "map entering6", "ipv6_addr : verdict", "", v6);
}

/// Who a grain may say that it is.
fn own4(grain: &Attachment) -> Option<String> {
    let (name, mac) = (interface(grain).host, mac_text(grain.mac));
    grain.v4.map(|address| format!("\"{name}\" . {mac} . {address}"))
}

/// Its own address, and the link-local one that follows from its hardware address.
fn both6(grain: &Attachment) -> Option<[Ipv6Addr; 2]> {
    let [a, b, c, d, e, f] = grain.mac;
    let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    let link = Ipv6Addr::from_bits((0xfe80_u128 << 112) | u128::from(low));
    grain.v6.map(|address| [address, link])
}

fn own6(grain: &Attachment) -> Vec<String> {
    let (name, mac) = (interface(grain).host, mac_text(grain.mac));
    let both = both6(grain).into_iter().flatten();
    both.map(|address| format!("\"{name}\" . {mac} . {address}")).collect()
}

fn grain_chains(text: &mut String, grain: &Attachment) {
    let name = interface(grain).host;
    if let Some(both) = both6(grain) {
        line(text, 1, format_args!("chain advertise_{name} {{"));
        // Where the address stands that it speaks of: this nft has no word for it.
        for address in both {
            line(text, 2, format_args!("@th,64,128 {:#x} goto pass", address.to_bits()));
        }
        line(text, 2, format_args!("drop"));
        line(text, 1, format_args!("}}"));
    }
    if !grain.egress.is_empty() {
        line(text, 1, format_args!("chain leave_{name} {{"));
        // A grain that goes mad fills no table of connections but its share.
        line(
            text,
            2,
            format_args!("ct state new limit rate over 200/second burst 400 packets drop"),
        );
        for matches in grain.egress.iter().flat_map(|opening| matches(opening, "daddr")) {
            line(text, 2, format_args!("{matches}goto leave"));
        }
        line(text, 1, format_args!("}}"));
    }
    if !grain.ingress.is_empty() {
        line(text, 1, format_args!("chain enter_{name} {{"));
        for matches in grain.ingress.iter().flat_map(|opening| matches(opening, "saddr")) {
            line(text, 2, format_args!("{matches}goto pass"));
        }
        line(text, 1, format_args!("}}"));
    }
}

/// What a packet must be to be covered by an opening; each of them is enough. `side`: where the peer stands in it.
fn matches(opening: &Opening, side: &str) -> Vec<String> {
    // A protocol by its number: a small system has no list of their names.
    let ports = |protocol: &str, number: u8| match opening.ports {
        None => format!("meta l4proto {number} "),
        Some((first, last)) if first == last => format!("{protocol} dport {first} "),
        Some((first, last)) => format!("{protocol} dport {first}-{last} "),
    };
    // By family; `None`: of both.
    let protocols: Vec<(Option<bool>, String)> = match opening.protocol {
        Protocol::Tcp => vec![(None, ports("tcp", 6))],
        Protocol::Udp => vec![(None, ports("udp", 17))],
        Protocol::Icmp => vec![
            (Some(true), "icmp type echo-request ".to_owned()),
            (Some(false), "icmpv6 type echo-request ".to_owned()),
        ],
        Protocol::Any => vec![(None, String::new())],
    };
    let peers: Vec<(Option<bool>, String)> = match opening.peers {
        Peers::Anywhere => vec![(None, String::new())],
        Peers::Internet => vec![
            (Some(true), format!("ip {side} != @inside4 ")),
            (Some(false), format!("ip6 {side} != @inside6 ")),
        ],
        Peers::Net(address, length) => match (Prefix::new(address, length), address) {
            (Some(prefix), IpAddr::V4(_)) => vec![(Some(true), format!("ip {side} {prefix} "))],
            (Some(prefix), IpAddr::V6(_)) => vec![(Some(false), format!("ip6 {side} {prefix} "))],
            // Refused before it comes here; nothing is opened by it.
            (None, _) => vec![],
        },
    };
    let mut all = Vec::new();
    for (family, peer) in &peers {
        let fitting = protocols
            .iter()
            .filter(|(other, _)| family.is_none() || other.is_none() || family == other);
        all.extend(fitting.map(|(_, protocol)| format!("{peer}{protocol}")));
    }
    all
}

#[cfg(test)]
mod tests;
