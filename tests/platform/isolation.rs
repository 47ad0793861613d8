//! Somebody has broken into a grain and is root there: what can be reached from inside, over IPv4, IPv6 and bare frames, with the
//! rules in place and after somebody has flushed them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::wire::{self, EVERYBODY, Ear, Mac, Mouth, mac};
use scrap_tests::platform::{Lab, NAMES, SOON, Spec};

use crate::{launched, prepared};

/// Runs shell text as root inside a grain and says whether it succeeded.
async fn inside(lab: &Lab, grain: &str, text: &str) -> anyhow::Result<bool> {
    let said = lab.ctl_said(&["exec", grain, "--", "sh", "-c", text]).await?;
    Ok(said.status.success())
}

/// Another grain, as the intruder knows it.
struct Target {
    name: String,
    pid: i32,
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Target {
    async fn of(lab: &Lab, name: &str) -> anyhow::Result<Self> {
        let status = lab.api.grain(name).await?.status;
        let mouth = Mouth::of(status.ids.context("a grain has ids")?)?;
        Ok(Self {
            name: name.to_owned(),
            pid: mouth.pid,
            mac: status.mac.as_deref().and_then(mac).context("a grain has hardware")?,
            v4: status.address.context("a grain has an address")?,
            v6: status.address6.context("a grain has an address of IPv6")?,
        })
    }
}

/// Everything that must not be reached from inside a grain: what, and how it is tried.
fn forbidden(others: &[Target], owner: &str) -> Vec<(String, String)> {
    let mut probes = Vec::new();
    for node in 1..=3 {
        probes.push((format!("API of node {node}"), tcp(&format!("10.99.0.{node}"), 7272)));
        probes.push((format!("peer door of node {node}"), tcp(&format!("10.99.0.{node}"), 7273)));
        probes.push((format!("ping of node {node}"), ping(&format!("10.99.0.{node}"))));
        probes.push((format!("ping6 of node {node}"), ping(&format!("fd99::{node}"))));
        for (door, port) in [("API", 7272), ("peer door", 7273)] {
            let how = tcp(&format!("fd99::{node}"), port);
            probes.push((format!("{door} of node {node}, IPv6"), how));
        }
    }
    probes.push((format!("{owner} by its gateway address"), tcp("169.254.0.1", 7272)));
    probes.push((format!("{owner} by its link-local gateway"), ping("fe80::1%eth0")));
    probes.push(("the client".to_owned(), ping("10.99.0.250")));
    probes.push(("the client, IPv6".to_owned(), ping("fd99::fa")));
    probes.push(("the router".to_owned(), ping("10.99.0.254")));
    probes.push(("the router, IPv6".to_owned(), ping("fd99::fe")));
    for Target { name, v4, v6, .. } in others {
        for address in [v4.to_string(), v6.to_string()] {
            probes.push((format!("{name} at {address}, ping"), ping(&address)));
            // What everybody on the LAN may, another grain may not.
            probes.push((format!("{name} at {address}, its open port"), tcp(&address, 80)));
        }
    }
    probes.push((
        "every host by multicast".to_owned(),
        // The grain itself answers, which is no harm.
        "own=$(ip -6 addr show dev eth0 scope link | sed -n 's,.*inet6 \\([^/]*\\)/.*,\\1,p'); \
         ping6 -c 2 -W 1 ff02::1%eth0 | grep 'bytes from' | grep -v \"$own\""
            .to_owned(),
    ));
    probes
}

fn with_the_address_of_the_client(owner: &str) -> String {
    let number = NAMES.iter().position(|name| *name == owner);
    let here = number.map_or(1, |number| number + 1);
    format!(
        "ip addr add 10.99.0.250/16 dev eth0; ping -c 1 -W 1 -I 10.99.0.250 10.99.0.{here}; \
         status=$?; ip addr del 10.99.0.250/16 dev eth0; exit $status"
    )
}

/// Bare frames from the intruder's interface, and ears wherever they must not be heard.
struct Wires {
    mouth: Mouth,
    hardware: (Mac, Mac),
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    /// Hardware and addresses of those who must hear nothing.
    whom: Vec<(String, Mac, Ipv4Addr, Ipv6Addr)>,
    /// At the node itself, where the intruder's own cable ends.
    near: Ear,
    far: Vec<Ear>,
}

impl Wires {
    async fn of(lab: &Lab, others: &[Target]) -> anyhow::Result<Self> {
        let status = lab.api.grain("intruder").await?.status;
        let mouth = Mouth::of(status.ids.context("a grain has ids")?)?;
        let mut far = vec![Ear::at(lab, "lan")?, Ear::at(lab, "client")?];
        let mut whom = Vec::new();
        for other in others {
            far.push(Ear::of(&other.name, other.pid)?);
            whom.push((other.name.clone(), other.mac, other.v4, other.v6));
        }
        for (machine, v4, v6) in
            [("client", "10.99.0.250", "fd99::fa"), ("ada", "10.99.0.1", "fd99::1")]
        {
            let text = lab.sh(machine, "cat /sys/class/net/eth0/address").await?;
            let mac = mac(&text).context("a machine has hardware")?;
            whom.push((machine.to_owned(), mac, v4.parse()?, v6.parse()?));
        }
        Ok(Self {
            mouth,
            hardware: mouth.hardware()?,
            v4: status.address.context("it has an address")?,
            v6: status.address6.context("it has an address of IPv6")?,
            whom,
            near: Ear::at(lab, "ben")?,
            far,
        })
    }

    /// Frames that are not for the router alone: each with a token of its own.
    fn frames(&self) -> Vec<Vec<u8>> {
        let (own, router) = self.hardware;
        let mut frames = Vec::new();
        let mut say = |make: &dyn Fn(&str) -> Vec<u8>| {
            frames.push(make(&format!("<<frame {:04}>>", frames.len())));
        };
        for (_, mac, v4, v6) in &self.whom {
            for to in [*mac, EVERYBODY, router] {
                say(&|token| wire::udp4((own, to), self.v4, *v4, token));
                say(&|token| wire::arp((own, to), 1, self.v4, *v4, token));
                // That the address is the intruder's from now on.
                say(&|token| wire::arp((own, to), 2, *v4, self.v4, token));
                say(&|token| wire::neighbour((own, to), 135, (self.v6, *v6), *v6, token));
                say(&|token| wire::neighbour((own, to), 136, (self.v6, *v6), *v6, token));
                // A kind that nobody knows.
                say(&|token| wire::frame((own, to), 0x88b5, token.as_bytes()));
            }
        }
        frames
    }

    /// Says everything; the node's end of the cable hears it, and nobody else does.
    async fn nothing_is_heard(&self, when: &str) -> anyhow::Result<()> {
        // Only here: what the others hear late is heard the next time.
        drop(self.near.listen());
        let frames = self.frames();
        for frame in &frames {
            self.mouth.say(frame)?;
        }
        let mut arrived = BTreeSet::new();
        let token = |frame: &Vec<u8>| {
            let text = String::from_utf8_lossy(frame).into_owned();
            Some(text.split_once("<<frame ")?.1.get(..4)?.to_owned())
        };
        wait_for(SOON, "the node's end of the cable hears every frame", async || {
            arrived.extend(self.near.listen().iter().filter_map(token));
            Ok((arrived.len() == frames.len()).then_some(()))
        })
        .await?;
        for ear in &self.far {
            let heard: Vec<String> = ear.listen().iter().filter_map(token).collect();
            assert!(heard.is_empty(), "{when}: {} heard the frames {heard:?}", ear.name);
        }
        Ok(())
    }
}

fn tcp(address: &str, port: u16) -> String {
    tcp_within(2, address, port)
}

fn tcp_within(seconds: u32, address: &str, port: u16) -> String {
    format!("echo | nc -w {seconds} {address} {port}")
}

fn ping(address: &str) -> String {
    let program = if address.contains(':') { "ping6" } else { "ping" };
    format!("{program} -c 1 -W 2 {address}")
}

/// Tries everything at the same time, from one shell inside the grain, and returns what was reached.
async fn reached(lab: &Lab, probes: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    for (number, (_, how)) in probes.iter().enumerate() {
        text.push_str(&format!("( {{ {how}; }} >/dev/null 2>&1 && echo {number} ) &\n"));
    }
    text.push_str("wait\n");
    let said = lab.ctl(&["exec", "intruder", "--", "sh", "-c", &text]).await?;
    let numbers = said.lines().map(|line| Ok(line.trim().parse()?));
    let numbers = numbers.collect::<anyhow::Result<Vec<usize>>>()?;
    let names = numbers.iter().filter_map(|number| probes.get(*number));
    Ok(names.map(|(what, _)| what.clone()).collect())
}

/// Everything that is forbidden, and what stands for the probes themselves: they all work at the same time.
async fn nothing_private(lab: &Lab, others: &[Target], when: &str) -> anyhow::Result<()> {
    let mut probes = forbidden(others, "ben");
    probes.push(("itself".to_owned(), tcp_within(30, "127.0.0.1", 80)));
    let through = reached(lab, &probes).await?;
    assert_eq!(through, ["itself"], "{when}");
    // With the address of somebody else on its interface, who is reached for a moment is oneself: this one is tried alone.
    let lies = with_the_address_of_the_client("ben");
    assert!(!inside(lab, "intruder", &lies).await?, "{when}: a node, as if it were the client");
    Ok(())
}

/// Somebody flushes all rules of the node: grains reach nothing at all, so long afterwards, until the rules are back.
async fn without_rules(
    lab: &Lab,
    others: &[Target],
    wires: &Wires,
    later: Duration,
) -> anyhow::Result<()> {
    lab.sh("ben", "nft flush ruleset").await?;
    let flushed = Instant::now();
    let is_over = async || Ok((flushed.elapsed() >= later).then_some(()));
    wait_for(SOON, "the time after the flush is over", is_over).await?;
    let when = format!("{later:?} after a flush");
    nothing_private(lab, others, &when).await?;
    wires.nothing_is_heard(&when).await?;
    let tables = lab.sh("ben", "nft list tables").await?;
    let back = if tables.contains("scrap") { "back" } else { "still gone" };
    eprintln!("{when}: tried until {:?}, the rules were {back} then", flushed.elapsed());
    // The daemon mends it by itself.
    wait_for(SOON, "the rules are back", async || {
        Ok(inside(lab, "intruder", &tcp("8.8.8.8", 80)).await?.then_some(()))
    })
    .await
}

#[tokio::test]
async fn from_inside_a_grain_nothing_private_is_reached() -> anyhow::Result<()> {
    let Some(lab) = prepared(Spec::default(), Kind::Busybox, 1).await? else { return Ok(()) };
    let intruder = Book::new("intruder", Kind::Busybox, 66)?.on("ben");
    let neighbour = Book::new("neighbour", Kind::Busybox, 67)?.on("ben");
    let distant = Book::new("distant", Kind::Busybox, 68)?.on("cleo");
    for book in [&intruder, &neighbour, &distant] {
        launched(&lab, book, 1).await?;
    }
    let targets = [Target::of(&lab, "neighbour").await?, Target::of(&lab, "distant").await?];
    let wires = Wires::of(&lab, &targets).await?;
    // The probes themselves work: what is allowed is reached, the internet over both families.
    for address in ["8.8.8.8", "2a02:8::8"] {
        let how = tcp_within(30, address, 80);
        assert!(inside(&lab, "intruder", &how).await?, "{how}");
    }
    nothing_private(&lab, &targets, "with the rules").await?;
    wires.nothing_is_heard("with the rules").await?;
    // What everybody on the LAN may reach, and what nobody may.
    assert!(lab.sh("client", "curl -s -m 2 http://10.99.1.66/").await.is_ok());
    let closed = lab.sh("client", "echo | nc -w 1 10.99.1.66 23").await;
    assert!(closed.is_err(), "a port that was not opened is open");

    for later in [Duration::ZERO, Duration::from_secs(1)] {
        without_rules(&lab, &targets, &wires, later).await?;
    }
    // And says what had happened.
    let log = std::fs::read_to_string(lab.dir.join("nodes/ben/scrapd.log"))?;
    assert!(log.contains("the table `scrap` of nftables is missing"), "{log}");
    nothing_private(&lab, &targets, "with the rules again").await?;
    wires.nothing_is_heard("with the rules again").await?;
    lab.end().await
}
