//! Arranging: nothing for nothing, everything taken away, and two daemons on one machine.

use std::net::IpAddr;

use scrap_host::net::{NetError, NetTrouble, Opening, Peers, Protocol, interface};

use crate::lab::{Lab, Node, attachment, lan4, lan6};
use crate::may_run;

/// Everything that a daemon changes.
fn state(lab: &Lab, node: &str) -> String {
    let mut text = lab.nft(node, "-s list ruleset");
    for command in [
        "-4 rule",
        "-6 rule",
        "-4 route show table all",
        "-6 route show table all",
        "-4 neigh show proxy",
        "-6 neigh show proxy",
        "-4 addr show dev lo",
    ] {
        text += &lab.ip(node, command);
    }
    let sysctls = lab.run(node, "sysctl -a --pattern ^net.ipv[46].(conf|neigh|ip_forward)");
    // The kernel shortens it by itself.
    let lines =
        sysctls.lines().filter(|line| !line.contains("base_reachable") && !line.contains("mtu"));
    text + &lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_cleared_is_as_it_was_before() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node("a");
    lab.set("a", "ipv6/conf/eth0/accept_ra", "1");
    let before = state(&lab, "a");
    let one = attachment(41, vec![], vec![]);
    node.wanted.insert(one.grain, one.clone());
    node.arrange();
    lab.space("a1");
    lab.attach("a", "a1", &one);
    node.arrange();
    assert_eq!(lab.get("a", "ipv6/conf/eth0/accept_ra").trim(), "2", "it still hears its router");
    assert_ne!(state(&lab, "a"), before);
    let error = node.block(|net| net.clear()).unwrap_err();
    assert!(matches!(error, NetError::Attached { .. }), "{error}");
    lab.detach("a", &one);
    // Another daemon, after a restart, knows what the first one has changed.
    let again = lab.node("a");
    again.block(|net| net.clear()).unwrap();
    pretty(&before, &state(&lab, "a"));
    again.block(|net| net.clear()).unwrap();
}

fn pretty(before: &str, after: &str) {
    let lost: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let left: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert!(lost.is_empty() && left.is_empty(), "lost {lost:#?}\nleft {left:#?}");
}

/// What is not as it should be, in words.
fn troubles(node: &Node) -> Vec<String> {
    node.look().iter().map(NetTrouble::to_string).collect()
}

#[test]
fn arranging_again_changes_nothing_and_damage_is_named_and_healed() {
    if !may_run() {
        return;
    }
    let (lab, nodes) = Lab::with_grains();
    let (a, b) = (&nodes["a"], &nodes["b"]);
    let other = state(&lab, "b");
    a.arrange();
    assert_eq!(state(&lab, "b"), other, "the other node is not disturbed");
    b.arrange();
    let handles = |lab: &Lab| lab.nft("a", "-a list ruleset");
    let (arranged, numbers) = (state(&lab, "a"), handles(&lab));
    // At first everything is looked at, then only whether anything has happened, then at everything again.
    for _ in 0..8 {
        a.arrange();
        assert_eq!(handles(&lab), numbers, "the table was loaded again");
    }
    pretty(&arranged, &state(&lab, "a"));
    assert_eq!(a.look().len(), 0, "{:?}", a.look());

    for (damage, words) in [
        ("nft flush chain inet scrap from_grain", "changed by somebody else"),
        ("nft delete table arp scrap", "table `scrap` of nftables is missing"),
        ("ip rule del pref 4", "missing: `ip rule add pref 4"),
        ("ip -6 rule del pref 9", "missing: `ip rule add pref 9 blackhole"),
        ("ip neigh del proxy 192.168.60.41 dev eth0", "missing: `ip neigh add proxy 192.168.60.41"),
        (
            "ip neigh del proxy 169.254.0.1 dev scr000000000019",
            "missing: `ip neigh add proxy 169.254.0.1 dev scr000000000019",
        ),
        ("ip route flush table 7272", "missing: `ip route add blackhole"),
        ("ip rule add pref 7 iif eth0 lookup main", "not wanted any more"),
        ("sysctl -q net.ipv4.conf.eth0.forwarding=0", "eth0/forwarding is `0` and should be `1`"),
        ("sysctl -q net.ipv6.conf.all.forwarding=0", "all/forwarding is `0` and should be `1`"),
        ("tc qdisc del dev scr000000000019 clsact", "no filter"),
        ("ip link set eth0 down", "uplink `eth0` is down"),
    ] {
        lab.run("a", damage);
        let named = troubles(a);
        assert!(named.iter().any(|trouble| trouble.contains(words)), "{damage}: {named:?}");
        if damage.contains("down") {
            lab.run("a", "ip link set eth0 up");
            // Its address counts only once nobody else has claimed it.
            while !lab.run("a", "ip -6 addr show dev eth0 tentative").is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        a.arrange();
        if damage.contains("proxy") {
            // Nobody tells of these: they are found after some rounds.
            (0..5).for_each(|_| a.arrange());
        }
        assert_eq!(troubles(a), [""; 0], "after {damage}");
    }
}

#[test]
fn an_interface_that_has_just_come_is_no_trouble() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node("a");
    let attachment = attachment(41, vec![], vec![]);
    node.wanted.insert(attachment.grain, attachment.clone());
    node.arrange();
    assert_eq!(node.look().len(), 0, "{:?}", node.look());
    lab.space("a1");
    // As the system makes it, before the daemon is told that the grain has started.
    lab.attach("a", "a1", &attachment);
    assert_eq!(troubles(&node), [""; 0]);
    node.arrange();
    let host = interface(&attachment).host;
    lab.run("a", &format!("tc qdisc del dev {host} clsact"));
    lab.set("a", &format!("ipv4/conf/{host}/rp_filter"), "0");
    let named = troubles(&node);
    assert_eq!(named.len(), 2, "{named:?}");
}

#[test]
fn the_node_is_reached_while_its_rules_are_moved() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let node = lab.node("a");
    let target = lan4(11).to_string();
    std::thread::scope(|scope| {
        let ping =
            scope.spawn(|| lab.run("client", &format!("ping -q -c 200 -i 0.005 -W 1 {target}")));
        while !ping.is_finished() {
            node.arrange();
            node.block(|net| net.clear()).unwrap();
        }
        let said = ping.join().unwrap();
        assert!(said.contains(" 200 received"), "{said}");
    });
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node("a");
    let mut one = attachment(11, vec![], vec![]);
    node.wanted.insert(one.grain, one.clone());
    let error = node.try_arrange().unwrap_err().to_string();
    assert!(error.contains("192.168.60.11 is an address of this node"), "{error}");
    let good = attachment(42, vec![], vec![]);
    let id = good.grain;
    node.wanted.insert(id, good);
    node.try_arrange().unwrap_err();
    node.block(|net| net.arrange_for(id, &node.wanted)).expect("another one does not hold it up");
    node.block(|net| net.arrange_for(one.grain, &node.wanted)).unwrap_err();
    let (table, rules) = (lab.nft("a", "list ruleset"), lab.ip("a", "rule"));
    assert!(table.contains("192.168.60.42") && rules.contains("iif scr00000000001a"), "{table}");
    one = attachment(41, vec![], vec![]);
    node.wanted = [(one.grain, one.clone())].into();
    lab.ip("a", "link set eth0 down");
    lab.ip("a", "link set eth0 name lan0");
    let error = node.try_arrange().unwrap_err().to_string();
    assert!(error.contains("the uplink `eth0` is not there"), "{error}");
    node.block(|net| net.arrange_for(one.grain, &node.wanted)).expect_err("that is everybody's");
    assert!(lab.nft("a", "list tables").contains("scrap"), "closed nevertheless");
    assert!(node.block(|net| net.announce(&one)).is_err());
}

#[test]
fn an_address_of_somebody_else_is_found_before_it_is_taken() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    let a = nodes.remove("a").unwrap();
    a.arrange();
    let in_use = |address: IpAddr| a.block(|net| net.in_use(address)).unwrap();
    for (last, expected) in [(11, true), (99, true), (77, false), (51, false)] {
        for address in [IpAddr::V4(lan4(last)), IpAddr::V6(lan6(last))] {
            assert_eq!(in_use(address), expected, "{address}");
        }
    }
    // A grain of another node is found by the answers of that node.
    nodes["b"].arrange();
    assert!(in_use(lan4(51).into()) && in_use(lan6(51).into()));
    lab.nft("b", "flush ruleset");
    assert!(!in_use(lan4(51).into()), "a node whose table is gone does not speak for its grains");
}

#[test]
fn hundreds_of_grains_are_arranged_at_once() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node("a");
    let opening = |protocol, ports, peers| Opening { protocol, ports, peers };
    for number in 0..400_u32 {
        let mut one = attachment(
            41,
            vec![
                opening(Protocol::Tcp, Some((80, 80)), Peers::Anywhere),
                opening(Protocol::Icmp, None, Peers::Anywhere),
            ],
            vec![opening(Protocol::Any, None, Peers::Internet)],
        );
        one.grain.0 += u128::from(number);
        one.v4 = Some((lan4(0).to_bits() + 0x1_0000 + number).into());
        one.v6 = Some((lan6(0).to_bits() + 0x1_0000 + u128::from(number)).into());
        one.mac[3..5].copy_from_slice(&number.to_be_bytes()[2..]);
        node.wanted.insert(one.grain, one);
    }
    for what in ["first", "looked at all", "nothing happened"] {
        let begin = std::time::Instant::now();
        node.arrange();
        println!("400 grains, {what}: {:?}", begin.elapsed());
    }
    assert_eq!(node.look().len(), 0);
}
