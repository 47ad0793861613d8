//! What LXC must be told to give a grain its interface. Keys only: the file is written by the runtime.

use std::fmt::Write as _;

use super::Interface;

/// Keys and values below `lxc.net.0.`, in their order.
///
/// With `veth.mode = router` LXC 5 does the following at every start, so also when a keeper starts the container again
/// while no daemon runs: it makes the pair with the given name; turns on forwarding of this host end; adds routes to
/// the grain's addresses over it to the table `main`; lets the host end answer for both gateways (proxy entries); and
/// gives the grain its addresses, a route to each gateway on the link, and a default route. It refuses to start a
/// container with an IPv6 address while `net.ipv6.conf.all.forwarding` is off: `arrange` turns it on first. It neither
/// answers for the grain on the uplink nor filters anything.
#[must_use]
pub fn lxc_keys(interface: &Interface) -> Vec<(&'static str, String)> {
    let mut keys = vec![
        ("type", "veth".to_owned()),
        ("veth.mode", "router".to_owned()),
        ("veth.pair", interface.host.clone()),
        ("name", interface.guest.clone()),
        ("flags", "up".to_owned()),
        ("hwaddr", mac_text(interface.mac)),
    ];
    if let Some((address, length)) = interface.v4 {
        keys.push(("ipv4.address", format!("{address}/{length}")));
    }
    let gateway4 = interface.gateway4.filter(|_| interface.v4.is_some());
    let gateway6 = interface.gateway6.filter(|_| interface.v6.is_some());
    keys.extend(gateway4.map(|gateway| ("ipv4.gateway", gateway.to_string())));
    if let Some((address, length)) = interface.v6 {
        keys.push(("ipv6.address", format!("{address}/{length}")));
    }
    keys.extend(gateway6.map(|gateway| ("ipv6.gateway", gateway.to_string())));
    keys
}

/// `02:00:00:00:00:05`.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for (at, byte) in mac.iter().enumerate() {
        let colon = if at == 0 { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::net::{GATEWAY4, GATEWAY6};

    #[test]
    fn keys_are_of_the_families_that_the_grain_has() {
        let mut interface = Interface {
            host: "scr000000000005".to_owned(),
            guest: "eth0".to_owned(),
            mac: [2, 0, 0xab, 0, 0, 5],
            v4: Some((Ipv4Addr::new(192, 168, 60, 40), 32)),
            v6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5), 128)),
            gateway4: Some(GATEWAY4),
            gateway6: Some(GATEWAY6),
        };
        let text = |interface: &Interface| {
            let lines =
                lxc_keys(interface).into_iter().map(|(key, value)| format!("{key}={value}"));
            lines.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(&interface),
            "type=veth veth.mode=router veth.pair=scr000000000005 name=eth0 flags=up \
             hwaddr=02:00:ab:00:00:05 ipv4.address=192.168.60.40/32 ipv4.gateway=169.254.0.1 \
             ipv6.address=fd00::5/128 ipv6.gateway=fe80::1"
        );
        interface.v6 = None;
        assert!(!text(&interface).contains("ipv6"));
    }
}
