//! The text of the table.

use std::net::Ipv4Addr;

use expect_test::expect_file;

use super::*;

fn grain(id: u128, ingress: Vec<Opening>, egress: Vec<Opening>) -> (GrainId, Attachment) {
    let last = u8::try_from(id).unwrap();
    let attachment = Attachment {
        grain: GrainId(id),
        mac: [2, 0, 0, 0, 0xab, last],
        v4: Some(Ipv4Addr::new(192, 168, 60, last)),
        v6: Some(Ipv6Addr::new(0xfd00, 0x60, 0, 0, 0, 0, 0, last.into())),
        ingress,
        egress,
    };
    (GrainId(id), attachment)
}

fn opening(protocol: Protocol, ports: Option<(u16, u16)>, peers: Peers) -> Opening {
    Opening { protocol, ports, peers }
}

fn ground() -> Ground {
    let prefix = |text: &str, length| Prefix::new(text.parse().unwrap(), length).unwrap();
    Ground {
        uplink: "eth0".to_owned(),
        lans: [prefix("192.168.60.0", 24), prefix("2a01:60::", 64)].into(),
        pools: [prefix("2a01:61::", 64)].into(),
        never: [prefix("192.168.60.10", 32), prefix("172.17.0.0", 16), prefix("2a01:60::10", 128)]
            .into(),
    }
}

#[test]
fn a_node_with_three_grains() {
    let net = |text: &str, length| Peers::Net(text.parse().unwrap(), length);
    let wanted = [
        grain(40, vec![], vec![]),
        grain(
            41,
            vec![
                opening(Protocol::Tcp, Some((80, 80)), Peers::Anywhere),
                opening(Protocol::Icmp, None, Peers::Anywhere),
                opening(Protocol::Udp, Some((5000, 5100)), net("192.168.60.7", 24)),
            ],
            vec![opening(Protocol::Any, None, Peers::Internet)],
        ),
        grain(
            42,
            vec![opening(Protocol::Icmp, None, net("fd00:7::", 64))],
            vec![
                opening(Protocol::Udp, Some((53, 53)), net("192.168.60.1", 32)),
                opening(Protocol::Tcp, None, Peers::Anywhere),
            ],
        ),
    ];
    let text = transaction("scrap", &ground(), &wanted.into());
    expect_file!["golden.nft"].assert_eq(&text);
}

#[test]
fn a_node_without_grains_has_closed_tables() {
    let text = transaction(
        "scrap",
        &Ground { uplink: "eth0".to_owned(), ..Ground::default() },
        &[].into(),
    );
    assert!(text.contains("iifname \"scr*\" goto from_grain"), "{text}");
    assert!(!text.contains('$'), "a name is left: {text}");
}

#[test]
fn families_meet_their_own_only() {
    let check = |protocol, peers, expected: &[&str]| {
        assert_eq!(matches(&opening(protocol, None, peers), "daddr"), expected);
    };
    check(Protocol::Any, Peers::Anywhere, &[""]);
    check(Protocol::Tcp, Peers::Anywhere, &["meta l4proto 6 "]);
    check(
        Protocol::Icmp,
        Peers::Net("fd00::".parse().unwrap(), 8),
        &["ip6 daddr fd00::/8 icmpv6 type echo-request "],
    );
    check(
        Protocol::Icmp,
        Peers::Internet,
        &[
            "ip daddr != @inside4 icmp type echo-request ",
            "ip6 daddr != @inside6 icmpv6 type echo-request ",
        ],
    );
}

#[test]
fn the_group_of_an_address_has_its_last_bytes() {
    let address: Ipv6Addr = "fd00::12:3456".parse().unwrap();
    assert_eq!(solicited(address).to_string(), "ff02::1:ff12:3456");
}
