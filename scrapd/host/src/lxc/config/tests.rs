//! What is written for LXC, and that nothing else ever is.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::runtime::IdRange;

const IDS: IdRange = IdRange { base: 1_000_000, count: 65_536 };

fn interface(host: &str) -> Interface {
    Interface {
        host: host.to_owned(),
        guest: "eth0".to_owned(),
        mac: [2, 0, 0, 0xab, 0, 1],
        v4: Some((Ipv4Addr::new(10, 7, 0, 2), 32)),
        v6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), 128)),
        gateway4: Some(Ipv4Addr::new(169, 254, 0, 1)),
        gateway6: None,
    }
}

fn system(hostname: &str, host: &str) -> System {
    System { hostname: hostname.to_owned(), ids: IDS, pids: 50, interface: Some(interface(host)) }
}

fn text(
    system: &System,
    rootfs: &str,
    env: &BTreeMap<String, String>,
    unified: bool,
) -> Result<String, Bad> {
    let description = Description {
        rootfs: Path::new(rootfs),
        seccomp: Path::new("/run/scrap/lxc/g/seccomp"),
        group: "scrap-0-g",
        env,
        memory: Bytes(64 << 20),
        cpu: MilliCpu(1500),
        system,
        machine: &Machine::with(unified),
    };
    description.text()
}

fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines.filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
}

#[test]
fn limits_go_to_the_kind_of_groups_that_the_machine_has() {
    let env = BTreeMap::new();
    let first = text(&system("web", "sg1"), "/d/rootfs", &env, false).unwrap();
    assert_eq!(values(&first, "lxc.cgroup.memory.limit_in_bytes"), ["67108864"]);
    assert_eq!(values(&first, "lxc.cgroup.memory.memsw.limit_in_bytes"), ["67108864"]);
    assert_eq!(values(&first, "lxc.cgroup.pids.max"), ["50"]);
    assert_eq!(values(&first, "lxc.cgroup.cpu.cfs_quota_us"), ["150000"]);
    assert_eq!(values(&first, "lxc.apparmor.profile"), ["lxc-container-default-cgns"]);
    assert!(!first.contains("cgroup2"));
    let second = text(&system("web", "sg1"), "/d/rootfs", &env, true).unwrap();
    assert_eq!(values(&second, "lxc.cgroup2.memory.max"), ["67108864"]);
    assert_eq!(values(&second, "lxc.cgroup2.memory.swap.max"), ["0"]);
    assert_eq!(values(&second, "lxc.cgroup2.cpu.max"), ["150000 100000"]);
    assert_eq!(values(&second, "lxc.cgroup2.devices.deny"), ["a"]);
    assert!(!second.contains("lxc.cgroup.memory") && !second.contains("lxc.cgroup.devices"));
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused() {
    let env = BTreeMap::new();
    let description = Description {
        rootfs: Path::new("/d/rootfs"),
        seccomp: Path::new("/s"),
        group: "scrap-0-g",
        env: &env,
        memory: Bytes(1),
        cpu: MilliCpu(0),
        system: &system("web", "sg1"),
        machine: &Machine::default(),
    };
    let refused = description.text().unwrap_err().to_string();
    assert!(refused.contains("memory") && refused.contains("controller"), "{refused}");
}

#[test]
fn the_interface_is_one_to_a_router() {
    let text = text(&system("web", "sg1"), "/d/rootfs", &BTreeMap::new(), true).unwrap();
    for (key, value) in [
        ("type", "veth"),
        ("veth.mode", "router"),
        ("veth.pair", "sg1"),
        ("name", "eth0"),
        ("hwaddr", "02:00:00:ab:00:01"),
        ("ipv4.address", "10.7.0.2/32"),
        ("ipv4.gateway", "169.254.0.1"),
        ("ipv6.address", "fd00::2/128"),
    ] {
        assert_eq!(values(&text, &format!("lxc.net.0.{key}")), [value]);
    }
    assert_eq!(values(&text, "lxc.net.0.ipv6.gateway"), Vec::<&str>::new());
}

#[test]
fn what_is_wrong_is_named() {
    let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let good = system("web", "sg1");
    for (refused, named) in [
        (text(&system("", "a"), "/d", &env("A", ""), true), "host name"),
        (text(&system("-a", "a"), "/d", &env("A", ""), true), "host name"),
        (
            text(&system("a\nlxc.include = /etc/shadow", "a"), "/d", &env("A", ""), true),
            "host name",
        ),
        (text(&system(&"a".repeat(64), "a"), "/d", &env("A", ""), true), "host name"),
        (text(&system("web", "a/../b"), "/d", &env("A", ""), true), "interface name"),
        (text(&system("web", ".."), "/d", &env("A", ""), true), "interface name"),
        (text(&good, "d", &env("A", ""), true), "path"),
        (text(&good, "/d\n", &env("A", ""), true), "path"),
        (text(&good, "/d/../e", &env("A", ""), true), "path"),
        (text(&good, "/a:b", &env("A", ""), true), "path"),
        (text(&good, "/d", &env("A B", ""), true), "variable"),
        (text(&good, "/d", &env("", "x"), true), "variable"),
        (text(&good, "/d", &env("KEY", "one\ntwo"), true), "variable KEY"),
        (text(&good, "/d", &env("KEY", "one\u{85}two"), true), "variable KEY"),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(named), "{refused}");
    }
    let ids = IdRange { base: 1000, count: 65_536 };
    let low = System { ids, ..good };
    assert!(text(&low, "/d", &env("A", ""), true).unwrap_err().to_string().contains("1000"));
}

/// Keys that may be in a text.
const KEYS: &[&str] = &[
    "lxc.uts.name",
    "lxc.rootfs.path",
    "lxc.idmap",
    "lxc.cgroup.dir.monitor",
    "lxc.cgroup.dir.container",
    "lxc.signal.halt",
    "lxc.monitor.signal.pdeath",
    "lxc.console.logfile",
    "lxc.tty.max",
    "lxc.pty.max",
    "lxc.autodev",
    "lxc.mount.auto",
    "lxc.mount.entry",
    "lxc.cap.drop",
    "lxc.seccomp.profile",
    "lxc.apparmor.profile",
    "lxc.cgroup2.devices.deny",
    "lxc.cgroup2.devices.allow",
    "lxc.cgroup2.memory.max",
    "lxc.cgroup2.memory.swap.max",
    "lxc.cgroup2.pids.max",
    "lxc.cgroup2.cpu.max",
    "lxc.net.0.type",
    "lxc.net.0.veth.mode",
    "lxc.net.0.veth.pair",
    "lxc.net.0.name",
    "lxc.net.0.flags",
    "lxc.net.0.hwaddr",
    "lxc.net.0.ipv4.address",
    "lxc.net.0.ipv4.gateway",
    "lxc.net.0.ipv6.address",
    "lxc.environment",
];

/// Letters as people and attackers mix them.
fn words() -> impl Strategy<Value = String> {
    let letters = prop_oneof![
        6 => proptest::char::range('a', 'z'),
        2 => proptest::sample::select(vec!['\n', '\r', '\0', ' ', '=', '"', '\'', '#', '/', '.', ':', '\\', '-', '\u{2028}']),
        1 => any::<char>(),
    ];
    proptest::collection::vec(letters, 0..20).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn no_input_makes_a_line_that_was_not_meant(
        hostname in words(), host in words(), folder in words(),
        env in proptest::collection::btree_map(words(), words(), 0..4),
    ) {
        let plain = text(&system("web", "sg1"), "/d", &BTreeMap::new(), true).unwrap();
        let rootfs = format!("/{folder}");
        if let Ok(text) = text(&system(&hostname, &host), &rootfs, &env, true) {
            prop_assert_eq!(text.lines().count(), plain.lines().count() + env.len());
            prop_assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'));
            for line in text.lines() {
                let (key, value) = line.split_once(" = ").unwrap();
                prop_assert!(KEYS.contains(&key), "{}", key);
                prop_assert_eq!(value.trim(), value);
            }
            prop_assert_eq!(values(&text, "lxc.uts.name"), [hostname.as_str()]);
            prop_assert_eq!(values(&text, "lxc.net.0.veth.pair"), [host.as_str()]);
            prop_assert_eq!(values(&text, "lxc.rootfs.path"), [format!("dir:{rootfs}")]);
            let written: Vec<String> = env.iter().map(|(k, v)| format!("\"{k}={v}\"")).collect();
            prop_assert_eq!(values(&text, "lxc.environment"), written);
        }
    }
}
