//! No path from a grain to anybody but through openings, also when the table is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use scrap_host::net::{NetTrouble, interface};

use crate::lab::{GRAINS, Lab, Node};
use crate::may_run;
use crate::probe::{Ears, Heard, Mouth};

/// As long as nothing comes: frames between namespaces take microseconds.
const QUIET: Duration = Duration::from_millis(400);

/// What is heard when every grain tries everything.
fn probe(lab: &Lab, ears: &Ears) -> Heard {
    for (grain, _, _) in GRAINS {
        Mouth::new(lab, grain).say_everything();
    }
    ears.listen(QUIET)
}

/// The tables of neighbours and routes, where a lie would be seen.
fn beliefs(lab: &Lab) -> Vec<String> {
    let machines = ["a", "b", "client", "router"];
    let texts = machines.iter().map(|name| {
        lab.ip(name, "neigh show") + &lab.ip(name, "-6 route show") + &lab.ip(name, "route show")
    });
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    // What a node knows of its own grains is true.
    lines
        .filter(|line| !line.contains("dev scr"))
        .filter(|line| line.contains("proto ra") || line.contains("lladdr 02:00:00:00:00:"))
        .collect()
}

fn closed(lab: &Lab, ears: &Ears, when: &str) {
    let mut heard = probe(lab, ears);
    // A grain may ask its node for the router, as it may by ARP.
    heard.retain(|(what, _)| !what.ends_with(" solicitation gateway/6"));
    assert!(heard.is_empty(), "{when}: {} ways out: {heard:#?}", heard.len());
    assert_eq!(beliefs(lab), Vec::<String>::new(), "{when}");
}

fn arrange(nodes: &BTreeMap<&'static str, Node>) {
    nodes.values().for_each(Node::arrange);
}

#[test]
fn the_probe_hears_what_passes_on_a_node_without_rules() {
    if !may_run() {
        return;
    }
    let (lab, _) = Lab::with_grains();
    for node in ["a", "b"] {
        lab.set(node, "ipv4/ip_forward", "1");
        lab.set(node, "ipv6/conf/all/forwarding", "1");
        lab.set(node, "ipv4/conf/eth0/proxy_arp", "1");
    }
    let heard = probe(&lab, &Ears::new(&lab));
    for (what, ear) in [
        ("a1 udp a2/4", "a2"),
        ("a1 udp a2/6", "a2"),
        ("a1 as-client a2/4", "a2"),
        ("a1 udp b1/4", "b1"),
        ("a1 udp a/4", "a"),
        ("a1 udp a/6", "a"),
        ("a1 tcp alias", "a"),
        ("a1 echo host-end", "a"),
        ("a1 udp 224.0.0.1", "a"),
        ("a1 as-nobody 255.255.255.255", "a"),
        ("a1 udp ff02::1", "a"),
        ("a1 vlan-0 a/4", "a"),
        ("a1 advertise-router ff02::1", "a"),
        ("a1 tcp b/4", "b"),
        ("a1 echo client/4", "lan"),
        ("a1 echo router/6", "lan"),
        ("a1 udp internet/4", "internet"),
        ("a1 as-other-mac a/4", "a"),
    ] {
        assert!(heard.contains(&(what.to_owned(), ear.to_owned())), "{what} at {ear}: {heard:#?}");
    }
}

#[test]
fn nothing_passes_without_an_opening_also_when_the_table_is_gone() {
    if !may_run() {
        return;
    }
    let (lab, nodes) = Lab::with_grains();
    arrange(&nodes);
    let ears = Ears::new(&lab);
    closed(&lab, &ears, "arranged");

    for node in nodes.keys() {
        lab.nft(node, "flush ruleset");
    }
    closed(&lab, &ears, "right after the flush");
    // Nobody watches: whatever would be forgotten is forgotten meanwhile.
    ears.listen(Duration::from_secs(1));
    closed(&lab, &ears, "a second after the flush");
    for node in nodes.values() {
        let troubles = node.look();
        assert!(matches!(troubles[..], [NetTrouble::NoTable(_)]), "{troubles:?}");
    }

    arrange(&nodes);
    for node in nodes.values() {
        assert_eq!(node.look().len(), 0);
    }
    closed(&lab, &ears, "healed");
}

#[test]
fn a_container_that_starts_again_is_closed_before_anybody_comes() {
    if !may_run() {
        return;
    }
    let (lab, nodes) = Lab::with_grains();
    arrange(&nodes);
    let ears = Ears::new(&lab);
    for (grain, node, last) in GRAINS {
        let attachment = &crate::lab::attachment(last, vec![], vec![]);
        lab.detach(node, attachment);
        lab.attach(node, grain, attachment);
    }
    closed(&lab, &ears, "made again");
    let host = interface(&crate::lab::attachment(41, vec![], vec![])).host;
    let filter = || lab.run("a", &format!("tc qdisc show dev {host} clsact"));
    assert_eq!(filter(), "", "this is about interfaces without it");
    arrange(&nodes);
    assert_ne!(filter(), "");
    assert_eq!(nodes["a"].look().len(), 0);
}

#[test]
fn a_grain_that_is_not_wanted_any_more_has_no_path() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    arrange(&nodes);
    nodes.values_mut().for_each(|node| node.wanted.clear());
    arrange(&nodes);
    let ears = Ears::new(&lab);
    closed(&lab, &ears, "not wanted");
    lab.nft("a", "flush ruleset");
    lab.nft("b", "flush ruleset");
    closed(&lab, &ears, "not wanted, and the table is gone");
}
