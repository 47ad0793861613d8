//! What the kernel says, and the commands that follow.

use super::*;

/// As iproute2 6.1 answers on a machine that nobody has touched.
const FRESH: &str = r#"[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"}]
[]
[]
[{"dst":"192.168.60.61","dev":"eth0","proxy":null},{"dst":"169.254.0.1","dev":"scr0","proxy":null}]
[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]}]
"#;

/// As it answers when one grain is there.
const ARRANGED: &str = r#"[{"priority":1,"src":"all","iif":"lo","goto":5},{"priority":2,"src":"all","iif":"eth0","goto":5},{"priority":3,"src":"all","fwmark":"0x2000000","fwmask":"0x2000000","goto":5},{"priority":4,"src":"all","iif":"scr000000000001","iif_detached":null,"action":"blackhole"},{"priority":5,"src":"all","table":"local"},{"priority":6,"src":"all","iif":"lo","goto":10},{"priority":7,"src":"all","fwmark":"0x2000000","fwmask":"0x2000000","goto":10},{"priority":8,"src":"all","table":"7272"},{"priority":9,"src":"all","action":"blackhole"},{"priority":10,"src":"all","nop":null},{"priority":32766,"src":"all","table":"main"}]
[{"type":"blackhole","dst":"192.168.60.40","metric":2147483647,"flags":[]}]
[{"type":"blackhole","dst":"192.168.60.40","flags":[]}]
[{"dst":"192.168.60.40","dev":"eth0","proxy":null,"protocol":"72"},{"dst":"169.254.0.1","dev":"scr000000000001","proxy":null,"protocol":"72"}]
[{"ifname":"lo","addr_info":[{"local":"127.0.0.1"},{"local":"169.254.0.1"}]}]
"#;

fn need() -> Need {
    Need {
        interfaces: ["scr000000000001".to_owned()].into(),
        joined: ["scr000000000001".to_owned()].into(),
        addresses: ["192.168.60.40".parse().unwrap()].into(),
        uplink: "eth0".to_owned(),
        uplink_there: true,
        router: false,
        v4: true,
    }
}

#[test]
fn a_fresh_machine_keeps_its_local_rule_until_the_new_one_is_there() {
    let changes = changes(&wanted(&need()), &present(FRESH).unwrap());
    let at = |line: &str| {
        let found = changes.iter().position(|change| change.starts_with(line));
        found.unwrap_or_else(|| panic!("no {line} in {changes:#?}"))
    };
    assert_eq!(at("rule del pref 0 lookup local"), changes.len() - 1);
    assert_eq!(at("rule add pref 10 nop protocol kernel"), 0);
    assert!(at("rule add pref 5 lookup local") < at("rule add pref 1 "));
    assert!(at("rule add pref 7 ") < at("rule add pref 9 blackhole"));
    assert!(changes.contains(&"neigh add proxy 192.168.60.40 dev eth0 protocol 72".to_owned()));
    assert!(!changes.iter().any(|change| change.contains("192.168.60.61")), "{changes:#?}");
    // The host end answers for the gateway, whoever said so first; last, as its interface may have gone.
    let gateway = "neigh add proxy 169.254.0.1 dev scr000000000001 protocol 72";
    assert!(at(gateway) > at("route add blackhole 192.168.60.40 table main"));
    let v6 = Need { v4: false, addresses: BTreeSet::new(), ..need() };
    let changes = super::changes(&wanted(&v6), &present(FRESH).unwrap());
    assert!(
        changes.contains(&"neigh add proxy fe80::1 dev scr000000000001 protocol 72".to_owned())
    );
}

#[test]
fn an_arranged_machine_needs_nothing() {
    let present = present(ARRANGED).unwrap();
    assert_eq!(changes(&wanted(&need()), &present), Vec::<String>::new());
    let none = BTreeSet::new;
    let fewer = Need { interfaces: none(), joined: none(), addresses: BTreeSet::new(), ..need() };
    let expected = [
        "rule del pref 4 iif scr000000000001 blackhole",
        "route del blackhole 192.168.60.40 table 7272 proto 72",
        "route del blackhole 192.168.60.40 table main metric 2147483647 proto 72",
        "neigh del proxy 169.254.0.1 dev scr000000000001 protocol 72",
        "neigh del proxy 192.168.60.40 dev eth0 protocol 72",
    ];
    assert_eq!(changes(&wanted(&fewer), &present), expected);
}

#[test]
fn everything_is_taken_away_without_dropping_what_is_not_ours() {
    let changes = changes(&untouched(), &present(ARRANGED).unwrap());
    assert_eq!(changes[0], "rule add pref 0 lookup local protocol kernel");
    assert_eq!(changes[1], "rule del pref 9 blackhole", "it would drop what the others let pass");
    let last_rule = changes.iter().rposition(|change| change.starts_with("rule")).unwrap();
    assert_eq!(changes[last_rule], "rule del pref 10 nop");
    assert!(changes.contains(&"addr del 169.254.0.1/32 dev lo scope link".to_owned()));
    assert_eq!(super::changes(&untouched(), &present(FRESH).unwrap()), Vec::<String>::new());
}

#[test]
fn a_router_passes_on_what_is_not_for_grains() {
    let router = Need { router: true, ..need() };
    let changes = changes(&wanted(&router), &present(ARRANGED).unwrap());
    assert_eq!(changes, ["rule del pref 9 blackhole"]);
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    assert!(present("[{\"priority\":\"x\"}]").is_err());
    assert!(present("nothing").is_err());
}
