//! Whether attachments and settings can be at all, before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::id::GrainId;

use super::error::NetError;
use super::lxc::mac_text;
use super::{Attachment, NetSettings, Opening, Peers, Prefix, Protocol, interface};

/// Those that can be, and why the others cannot: one grain never holds up the rest. Of two that would get in each
/// other's way the first one is taken.
pub(super) fn attachments(
    wanted: &BTreeMap<GrainId, Attachment>,
    here: &Here,
) -> (BTreeMap<GrainId, Attachment>, Vec<NetError>) {
    let mut seen: BTreeMap<(&'static str, String), GrainId> = BTreeMap::new();
    let (mut good, mut refused) = (BTreeMap::new(), Vec::new());
    for (grain, attachment) in wanted {
        let own = own(attachment);
        let checked = one(*grain, attachment)
            .map_err(|why| NetError::Attachment { grain: *grain, why })
            .and_then(|()| on_this_machine(attachment, here))
            .and_then(|()| match own.iter().find_map(|key| Some((key, *seen.get(key)?))) {
                None => Ok(()),
                Some(((what, value), first)) => {
                    Err(NetError::Same { what, value: value.clone(), first, second: *grain })
                }
            });
        match checked {
            Ok(()) => {
                seen.extend(own.into_iter().map(|key| (key, *grain)));
                good.insert(*grain, attachment.clone());
            }
            Err(error) => refused.push(error),
        }
    }
    (good, refused)
}

/// What of this machine a grain's address depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Here {
    /// Its own addresses.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// It has IPv6 at all.
    pub(super) v6: bool,
}

/// What no other grain of this node may have.
fn own(attachment: &Attachment) -> Vec<(&'static str, String)> {
    let addresses = attachment.addresses().map(|address| ("address", address.to_string()));
    let mac = ("hardware address", mac_text(attachment.mac));
    addresses.chain([mac, ("interface", interface(attachment).host)]).collect()
}

fn on_this_machine(attachment: &Attachment, here: &Here) -> Result<(), NetError> {
    let grain = attachment.grain;
    for address in attachment.addresses() {
        if here.addresses.contains(&address) {
            let why = format!("{address} is an address of this node: give it another");
            return Err(NetError::Attachment { grain, why });
        }
        if address.is_ipv6() && !here.v6 {
            return Err(NetError::NoFamily { grain, address });
        }
    }
    Ok(())
}

fn one(grain: GrainId, attachment: &Attachment) -> Result<(), String> {
    if attachment.grain != grain {
        return Err(format!("it is listed as {grain} and says that it is {}", attachment.grain));
    }
    if let Some(v4) = attachment.v4
        && !is_host4(v4)
    {
        return Err(format!("{v4} is no address of one machine: take one from another pool"));
    }
    if let Some(v6) = attachment.v6
        && !is_host6(v6)
    {
        return Err(format!("{v6} is no address of one machine: take one from another pool"));
    }
    if attachment.mac[0] & 1 == 1 || attachment.mac == [0; 6] {
        let mac = mac_text(attachment.mac);
        return Err(format!("{mac} is no hardware address of one machine: begin with 02"));
    }
    attachment.ingress.iter().chain(&attachment.egress).try_for_each(opening)
}

fn is_host4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(first == 0 || first >= 224 || address.is_loopback() || address.is_link_local())
}

fn is_host6(address: Ipv6Addr) -> bool {
    let none = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let here = address.is_unicast_link_local() || address.to_ipv4().is_some();
    !(none || here)
}

fn opening(opening: &Opening) -> Result<(), String> {
    match (opening.protocol, opening.ports) {
        (Protocol::Tcp | Protocol::Udp, Some((first, last))) if first > last => {
            return Err(format!("no port is from {first} to {last}: name the lower one first"));
        }
        (Protocol::Icmp | Protocol::Any, Some(_)) => {
            return Err("ports are of TCP and UDP only: name the protocol".to_owned());
        }
        (Protocol::Tcp | Protocol::Udp | Protocol::Icmp | Protocol::Any, _) => (),
    }
    match opening.peers {
        Peers::Net(address, length) if Prefix::new(address, length).is_none() => {
            Err(format!("{address}/{length} is no network: the prefix is too long"))
        }
        Peers::Anywhere | Peers::Internet | Peers::Net(..) => Ok(()),
    }
}

/// Refuses names that mean something else to the programs that read them.
pub(super) fn settings(settings: &NetSettings) -> Result<(), NetError> {
    let fail =
        |what, value: &str, why| Err(NetError::Setting { what, value: value.to_owned(), why });
    let uplink = settings.uplink.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    if uplink.is_empty() || uplink.len() > 15 || !uplink.bytes().all(plain) {
        return fail("uplink", uplink, "interfaces have 1 to 15 letters, digits or . _ - @ :");
    }
    if uplink.starts_with(super::INTERFACE_PREFIX) || uplink == "lo" {
        return fail("uplink", uplink, "it is no interface to a LAN");
    }
    let table = settings.table.as_str();
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = table.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || table.len() > 30 || !table.bytes().all(letters) {
        return fail("table", table, "tables have up to 30 of a-z, 0-9 and _, a letter first");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: u128) -> Attachment {
        let last = u8::try_from(id).unwrap();
        Attachment {
            grain: GrainId(id),
            mac: [2, 0, 0, 0, 0, last],
            v4: Some(Ipv4Addr::new(192, 168, 60, last)),
            v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())),
            ingress: vec![],
            egress: vec![],
        }
    }

    fn refused(change: impl FnOnce(&mut Attachment)) -> String {
        let mut second = attachment(2);
        change(&mut second);
        let wanted = [(GrainId(1), attachment(1)), (GrainId(2), second)].into();
        let here = Here { addresses: ["192.168.60.11".parse().unwrap()].into(), v6: true };
        let (good, refused) = attachments(&wanted, &here);
        assert!(good.contains_key(&GrainId(1)), "one never holds up another");
        assert_eq!(good.len() + refused.len(), 2);
        refused.first().map_or_else(|| "good".to_owned(), NetError::to_string)
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_reason() {
        let tcp = |ports, peers| Opening { protocol: Protocol::Tcp, ports, peers };
        assert_eq!(refused(|_| ()), "good");
        assert!(
            refused(|g| g.v4 = Some(Ipv4Addr::BROADCAST)).contains("no address of one machine")
        );
        assert!(refused(|g| g.v6 = "fe80::7".parse().ok()).contains("no address of one machine"));
        assert!(refused(|g| g.v6 = "::ffff:10.0.0.1".parse().ok()).contains("no address of one"));
        assert!(refused(|g| g.v4 = Some(Ipv4Addr::new(192, 168, 60, 11))).contains("of this node"));
        assert!(refused(|g| g.mac[0] = 3).contains("begin with 02"));
        assert!(refused(|g| g.v4 = attachment(1).v4).contains("same address 192.168.60.1"));
        assert!(refused(|g| g.mac = attachment(1).mac).contains("same hardware address"));
        let backwards = tcp(Some((9, 8)), Peers::Anywhere);
        assert!(refused(|g| g.egress.push(backwards)).contains("from 9 to 8"));
        let long = tcp(None, Peers::Net(IpAddr::V4(Ipv4Addr::LOCALHOST), 64));
        assert!(refused(|g| g.ingress.push(long)).contains("127.0.0.1/64 is no network"));
        let ports = Opening { protocol: Protocol::Any, ..tcp(Some((1, 2)), Peers::Internet) };
        assert!(refused(|g| g.ingress.push(ports)).contains("ports are of TCP and UDP"));
    }

    #[test]
    fn names_that_programs_would_misread_are_refused() {
        let check = |uplink: &str, table: &str| {
            let (uplink, table) = (uplink.to_owned(), table.to_owned());
            settings(&NetSettings { uplink, table, memory: "memory".into() }).is_ok()
        };
        assert!(check("eth0", "scrap") && check("br-lan.7", "scrap_a"));
        for uplink in ["", "lo", "scr0", "eth0 drop", "a\"b", "sixteen-letters0"] {
            assert!(!check(uplink, "scrap"), "{uplink}");
        }
        for table in ["", "7", "a b", "a}", "Scrap"] {
            assert!(!check("eth0", table), "{table}");
        }
    }
}
