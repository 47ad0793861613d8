//! What a configuration means and how its problems read.

use expect_test::{Expect, expect};
use scrap_schema::timing::Preset;
use scrap_schema::unit::{Bytes, MilliCpu, Span};

use super::*;

const SMALLEST: &str = "data_dir = \"/var/lib/scrap\"\nname = \"ada\"\n";

const EXAMPLE: &str = include_str!("../../../docs/examples/scrapd.toml");

fn refused(text: &str, expected: &Expect) {
    let faults = match Config::parse(text) {
        Ok(config) => panic!("accepted:\n{config}"),
        Err(faults) => faults,
    };
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

fn accepted(text: &str) -> Config {
    match Config::parse(text) {
        Ok(config) => config,
        Err(faults) => panic!("refused: {faults:#?}"),
    }
}

#[test]
fn two_keys_are_enough() {
    let config = accepted(SMALLEST);
    expect![[r#"
        data_dir = "/var/lib/scrap"
        run_dir = "/var/lib/scrap/run"
        name = "ada"
        role = "data"
        on_shutdown = "keep"

        [labels]

        [listen]
        api = "127.0.0.1:7272"
        peer = "127.0.0.1:7273"

        [advertise]
        api = "127.0.0.1:7272"
        peer = "127.0.0.1:7273"

        [trust]
        test_networks = []

        [host]
        datasets = "dir"
        runtime = "process"

        [network]

        [fence]
        settings = "/etc/scrap/fence"
        agents = "/usr/sbin"
        hooks = "/etc/scrap/fence/hooks"

        [reserve]

        [log]
        format = "text"
        filter = "info,openraft=error"

        [timing]
        preset = "standard"
        renew = "1s"
        suspect = "3s"
        stop = "6s"
        lease = "9s"
        kill = "4s"
        tick = "2s"
        ticks = 8

        [raft]
        heartbeat = "250ms"
        election = "2s"
    "#]]
    .assert_eq(&config.to_string());
}

#[test]
fn the_example_says_every_key_and_no_other() {
    let (config, known) = values::read(EXAMPLE);
    assert!(config.is_ok(), "{config:?}");
    // Keys that go only with other values than the defaults stand there as comments without a space.
    let key = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic))
    };
    let whole: Vec<&str> =
        EXAMPLE.lines().map(|line| if key(line) { &line[1..] } else { line }).collect();
    let table: toml::Table = whole.join("\n").parse().unwrap();
    for key in known {
        let mut value = Some(&toml::Value::Table(table.clone())).cloned();
        for part in key.split('.') {
            value = value.and_then(|value| value.get(part).cloned());
        }
        assert!(value.is_some(), "the example does not say `{key}`");
    }
}

#[test]
fn the_example_has_the_defaults_where_it_says_so() {
    let example = accepted(EXAMPLE);
    let plain = Config {
        labels: Labels::new(),
        reserve: Reserve::default(),
        host: HostConfig { keeper: None, guard: None, watchdog: None, ..example.host.clone() },
        ..example.clone()
    };
    assert_eq!(plain, accepted(SMALLEST));
    assert_eq!(example.reserve.cpu, Some(MilliCpu(2000)));
    assert_eq!(example.reserve.memory, Some(Bytes(1 << 30)));
}

#[test]
fn what_it_shows_means_the_same() {
    let config = accepted(EXAMPLE);
    assert_eq!(accepted(&config.to_string()), config);
    let odd = Config {
        data_dir: "/srv/a \"b\"\\c".into(),
        run_dir: "/run/ä".into(),
        labels: Labels::from([("zone.de".to_owned(), "x".to_owned())]),
        raft: RaftPace { heartbeat: Span::from_ms(20), election: Span::from_ms(90) },
        ..config
    };
    assert_eq!(accepted(&odd.to_string()), odd);
}

#[test]
fn every_problem_is_said_at_once_with_its_line() {
    let text = r#"nam = "Ada"
data_dir = "var/lib"
role = "datas"

[listen]
apy = "127.0.0.1:1"
peer = "example.org:7273"

[hosts]
datasets = "zfs"

[reserve]
memory = 512

[timing]
kill = "40s"
"#;
    refused(
        text,
        &expect![[r#"
            `name`: it is missing
                hint: the node's name in the cluster, such as "ada"
            line 1: `nam`: there is no such key
                hint: did you mean `name`?
            line 2: `data_dir`: `var/lib` is not an absolute path
                hint: begin it with `/`: a daemon has no place of its own
            line 3: `role`: `datas` is not one of `data`, `storage`, `witness`
                hint: did you mean `data`?
            line 6: `listen.apy`: there is no such key
                hint: did you mean `listen.api`?
            line 7: `listen.peer`: `example.org:7273` is not `address:port` with a literal address or `localhost`
            line 9: `hosts`: there is no such key
                hint: did you mean `host`?
            line 13: `reserve.memory`: `512` is not a size: it has no unit; write `512MiB` or `512GiB`
            line 16: `timing.*`: the countdown of 8 × 2s must be longer than lease 9s + kill 40s at 1 % clock drift: 15841 ms is not more than 49090 ms
                hint: a grain could run twice with these numbers; every `preset` is safe as it is"#]],
    );
}

#[test]
fn a_preset_gives_the_numbers_and_single_ones_override_it() {
    let timing = |text: &str| accepted(&format!("{SMALLEST}\n[timing]\n{text}")).timing;
    assert_eq!(timing(""), Preset::Standard.timing());
    for preset in Preset::ALL {
        assert_eq!(timing(&format!("preset = \"{preset}\"")), preset.timing());
    }
    let swift = Preset::Swift.timing();
    assert_eq!(timing("ticks = 9\npreset = \"swift\""), Timing { ticks: 9, ..swift });
}

#[test]
fn a_preset_that_is_none_or_made_unsafe_is_refused() {
    refused(
        &format!("{SMALLEST}\n[timing]\npreset = \"swif\""),
        &expect![[r#"
        line 5: `timing.preset`: `swif` is not one of `calm`, `standard`, `swift`
            hint: did you mean `swift`?"#]],
    );
    refused(
        &format!("{SMALLEST}\n[timing]\npreset = \"swift\"\nticks = 7"),
        &expect![[r#"
        line 6: `timing.*`: the countdown of 7 × 1s must be longer than lease 5s + kill 2s at 1 % clock drift: 6930 ms is not more than 7050 ms
            hint: a grain could run twice with these numbers; every `preset` is safe as it is"#]],
    );
}

#[test]
fn it_listens_nowhere_without_trust() {
    let addresses = |listen: &str| format!("{SMALLEST}{listen}");
    refused(
        &addresses(
            "[listen]\napi = \"0.0.0.0:7272\"\npeer = \"[::]:7273\"\n[advertise]\napi = \"192.168.1.5:7272\"\npeer = \"10.98.0.1:7273\"\n[trust]\ntest_networks = [\"10.99.0.0/16\"]",
        ),
        &expect![[r#"
            line 4: `listen.api`: `0.0.0.0` means every network of this machine: nodes cannot prove who they are yet, so anybody who reaches the port could command the cluster
                hint: name one address, such as `127.0.0.1`
            line 5: `listen.peer`: `::` means every network of this machine: nodes cannot prove who they are yet, so anybody who reaches the port could command the cluster
                hint: name one address, such as `127.0.0.1`
            line 7: `advertise.api`: `192.168.1.5` is neither loopback nor in `trust.test_networks`: nodes cannot prove who they are yet, so anybody who reaches the port could command the cluster
                hint: use `127.0.0.1`, or name a closed network in which you trust everybody: `test_networks = ["10.99.0.0/16"]` under `[trust]`
            line 8: `advertise.peer`: `10.98.0.1` is neither loopback nor in `trust.test_networks`: nodes cannot prove who they are yet, so anybody who reaches the port could command the cluster
                hint: use `127.0.0.1`, or name a closed network in which you trust everybody: `test_networks = ["10.99.0.0/16"]` under `[trust]`"#]],
    );
}

#[test]
fn a_test_network_is_private_and_well_formed() {
    refused(
        &format!(
            "{SMALLEST}[trust]\ntest_networks = [\"0.0.0.0/0\", \"8.8.8.0/24\", \"10.99.0.1/16\",\n\"10.0.0.0\", \"::/0\", 7]"
        ),
        &expect![[r#"
            line 4: `trust.test_networks`: `0.0.0.0/0` is not a private network
                hint: everybody in a test network may command the cluster: only private ranges such as 10.0.0.0/8, 192.168.0.0/16, fd00::/8 can be one
            line 4: `trust.test_networks`: `8.8.8.0/24` is not a private network
                hint: everybody in a test network may command the cluster: only private ranges such as 10.0.0.0/8, 192.168.0.0/16, fd00::/8 can be one
            line 4: `trust.test_networks`: `10.99.0.1/16` is not a network: the address has bits after its prefix
            line 5: `trust.test_networks`: it must hold texts in quotes, not a number
            line 5: `trust.test_networks`: `10.0.0.0` is not a network: it has no prefix length such as `/16`
            line 5: `trust.test_networks`: `::/0` is not a private network
                hint: everybody in a test network may command the cluster: only private ranges such as 10.0.0.0/8, 192.168.0.0/16, fd00::/8 can be one"#]],
    );
}

#[test]
fn loopback_localhost_and_test_networks_are_listened_on() {
    let config = accepted(&format!(
        "{SMALLEST}[listen]\napi = \"localhost:1\"\npeer = \"[::1]:2\"\n[advertise]\napi = \"10.99.3.4:3\"\npeer = \"[fd00:99::7]:4\"\n[trust]\ntest_networks = [\"10.99.0.0/16\", \"fd00:99::/64\"]"
    ));
    assert_eq!(config.listen.api.to_string(), "127.0.0.1:1");
    assert_eq!(config.advertise.api, "10.99.3.4:3");
    assert_eq!(config.advertise.peer, "[fd00:99::7]:4");
}

#[test]
fn a_network_contains_what_its_prefix_says() {
    let network: Network = "172.16.4.0/22".parse().unwrap();
    assert!(network.contains("172.16.7.255".parse().unwrap()));
    assert!(!network.contains("172.16.8.0".parse().unwrap()));
    assert!(!network.contains("::ffff:172.16.4.1".parse().unwrap()));
    assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("9.9.9.9".parse().unwrap()));
    assert!("10.0.0.0/33".parse::<Network>().is_err());
}

#[test]
fn text_that_is_no_toml_is_said_with_its_line() {
    refused(
        "name = \"ada\"\ndata_dir = /var/lib\n",
        &expect!["line 2: this is not TOML: string values must be quoted, expected literal string"],
    );
    refused(
        &format!("{SMALLEST}name = \"bob\"\n"),
        &expect![[r#"line 3: this is not TOML: duplicate key"#]],
    );
}

#[test]
fn wrong_kinds_of_values_are_said() {
    refused(
        "data_dir = [1]\nname = true\nlabels = 3\n[raft]\nelection = \"500ms\"\n[log]\nfilter = \"scrapd=loud\"",
        &expect![[r#"
            line 1: `data_dir`: it must be a text in quotes, not a list
            line 2: `name`: it must be a text in quotes, not true or false
            line 3: `labels`: it must be a section, written `[labels]`
            line 5: `raft.election`: 500ms must be at least four heartbeats of 250ms
                hint: or one lost packet would depose a leader
            line 7: `log.filter`: `scrapd=loud` is not a filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
                hint: such as `info` or `info,scrapd::leader=debug`"#]],
    );
}

#[test]
fn a_server_is_found_where_a_node_may_listen() {
    let config = accepted(&format!("{SMALLEST}[trust]\ntest_networks = [\"10.99.0.0/16\"]"));
    let server = |text: &str| config.server(text).map(|address| address.to_string());
    assert_eq!(server("http://10.99.0.1:7272/").unwrap(), "10.99.0.1:7272");
    assert_eq!(server("localhost:7272").unwrap(), "127.0.0.1:7272");
    for refused in ["https://10.99.0.1:7272", "http://10.98.0.1:7272", "http://ada:7272", "http://"]
    {
        assert!(server(refused).is_err(), "{refused}");
    }
}

#[test]
fn real_hands_are_named_with_their_places() {
    let hands = "[host]\ndatasets = \"zfs\"\ndataset = \"tank/scrap\"\nruntime = \"lxc\"\n";
    let config = accepted(&format!("{SMALLEST}{hands}[network]\nuplink = \"eth0\"\n"));
    let zfs = config.host.zfs.as_ref().unwrap();
    assert_eq!(
        (zfs.dataset.as_str(), zfs.mount.to_str()),
        ("tank/scrap", Some("/var/lib/scrap/pool"))
    );
    assert_eq!(zfs.scrub_every.to_string(), "35d");
    let never = hands.replace("runtime", "scrub_every = \"0s\"\nruntime");
    let never = accepted(&format!("{SMALLEST}{never}[network]\nuplink = \"eth0\"\n"));
    assert_eq!(never.host.zfs.unwrap().scrub_every, Span::ZERO);
    assert_eq!(
        (config.host.runtime, config.network.uplink.as_deref()),
        (RuntimeKind::Lxc, Some("eth0"))
    );
    assert_eq!(accepted(&config.to_string()), config);
    refused(
        &format!("{SMALLEST}[host]\ndatasets = \"zfs\""),
        &expect![[r#"
        `host.dataset`: it is missing
            hint: the dataset below which SCRAP keeps its own, such as "tank/scrap""#]],
    );
    for name in [
        "tank",
        "/tank/a",
        "tank/-rf",
        "tank/../x",
        "tank/a@b",
        "tank/a b",
        "tank/ä",
        "tank/a;b",
        "",
        "a/",
    ] {
        let text =
            format!("{SMALLEST}[host]\ndatasets = \"zfs\"\ndataset = {}", toml::Value::from(name));
        assert!(Config::parse(&text).is_err(), "{name}");
    }
    refused(
        &format!("{SMALLEST}[host]\ndataset = \"tank/scrap\""),
        &expect![[r#"
        line 4: `host.dataset`: only the `zfs` backend has a dataset
            hint: say `datasets = "zfs"`, or leave it out"#]],
    );
    refused(
        &format!("{SMALLEST}[host]\nscrub_every = \"30d\""),
        &expect![[r#"
        line 4: `host.scrub_every`: only the `zfs` backend has a pool to scrub
            hint: say `datasets = "zfs"`, or leave it out"#]],
    );
    refused(
        &format!("{SMALLEST}[network]\nuplink = \"eth0\""),
        &expect![[r#"
        line 1: `network.uplink`: grains of this runtime have no network of their own
            hint: leave `uplink` out, or say `runtime = "lxc"` under `[host]`"#]],
    );
    for name in ["eth0; rm", "-rf", "..", "a/b", "sixteen-bytes-ab", "", "e\nh"] {
        let text = format!(
            "{SMALLEST}[host]\nruntime = \"lxc\"\n[network]\nuplink = {}",
            toml::Value::from(name)
        );
        assert!(Config::parse(&text).is_err(), "{name}");
    }
}

#[test]
fn the_pace_of_the_consensus_reaches_it() {
    let text = format!("{SMALLEST}[raft]\nheartbeat = \"20ms\"\nelection = \"150ms\"");
    let timers = accepted(&text).raft_settings(NodeId(1), ClusterId(1)).timers;
    let ms = [timers.heartbeat, timers.election_min, timers.election_max].map(|d| d.as_millis());
    assert_eq!(ms, [20, 50, 100]);
}
