//! Somebody has broken into a grain and is root there: what can be reached from inside, over IPv4, IPv6 and bare frames, with the
//! rules in place and after somebody has flushed them.

use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, SOON, Spec};

use crate::{launched, prepared};

/// Runs shell text as root inside a grain and says whether it succeeded.
async fn inside(lab: &Lab, grain: &str, text: &str) -> anyhow::Result<bool> {
    let said = lab.ctl_said(&["exec", grain, "--", "sh", "-c", text]).await?;
    Ok(said.status.success())
}

/// Everything that must not be reached from inside a grain: what, and how it is tried.
fn forbidden(other: &Book, owner: &str) -> Vec<(String, String)> {
    let number = scrap_tests::platform::NAMES.iter().position(|name| *name == owner);
    let here = number.map_or(1, |number| number + 1);
    let mut probes = Vec::new();
    for node in 1..=3 {
        probes.push((format!("API of node {node}"), tcp(&format!("10.99.0.{node}"), 7272)));
        probes.push((format!("peer door of node {node}"), tcp(&format!("10.99.0.{node}"), 7273)));
        probes.push((format!("ping of node {node}"), ping(&format!("10.99.0.{node}"))));
        probes.push((format!("ping6 of node {node}"), ping(&format!("fd99::{node}"))));
        probes.push((format!("API of node {node}, IPv6"), tcp(&format!("fd99::{node}"), 7272)));
    }
    probes.push(("the node by its gateway address".to_owned(), tcp("169.254.0.1", 7272)));
    probes.push(("the node by its link-local gateway".to_owned(), ping("fe80::1%eth0")));
    probes.push(("the client".to_owned(), ping("10.99.0.250")));
    probes.push(("the client, IPv6".to_owned(), ping("fd99::fa")));
    probes.push(("the router".to_owned(), ping("10.99.0.254")));
    probes.push(("another grain, ping".to_owned(), ping(&other.address.to_string())));
    // What everybody on the LAN may, another grain may not.
    probes.push(("another grain, its open port".to_owned(), tcp(&other.address.to_string(), 80)));
    probes.push((
        "a node after the address was changed to that of the client".to_owned(),
        format!(
            "ip addr add 10.99.0.250/16 dev eth0; ping -c 1 -W 1 -I 10.99.0.250 10.99.0.{here}; \
             status=$?; ip addr del 10.99.0.250/16 dev eth0; exit $status"
        ),
    ));
    probes.push((
        "every host by multicast".to_owned(),
        // The grain itself answers, which is no harm.
        "own=$(ip -6 addr show dev eth0 scope link | sed -n 's,.*inet6 \\([^/]*\\)/.*,\\1,p'); \
         ping6 -c 2 -W 1 ff02::1%eth0 | grep 'bytes from' | grep -v \"$own\""
            .to_owned(),
    ));
    probes
}

fn tcp(address: &str, port: u16) -> String {
    format!("echo | nc -w 1 {address} {port}")
}

fn ping(address: &str) -> String {
    let program = if address.contains(':') { "ping6" } else { "ping" };
    format!("{program} -c 1 -W 1 {address}")
}

/// Tries everything and returns what was reached.
async fn reached(lab: &Lab, probes: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let mut reached = Vec::new();
    for (what, how) in probes {
        if inside(lab, "intruder", how).await? {
            reached.push(what.clone());
        }
    }
    Ok(reached)
}

/// Bare frames from inside a grain, while somebody listens at the node and on the switch: what was heard at either place.
async fn heard(lab: &Lab) -> anyhow::Result<(String, String)> {
    // Announcements of somebody else's address go out as bare frames.
    const WHOM: &str = "arp host 10.99.0.77 or host 10.99.0.77";
    let listen = |interface: &str| {
        format!("timeout 8 tcpdump -l -n -e -i {interface} '{WHOM}' 2>/dev/null || true")
    };
    let (at_node, on_switch) = (listen("any"), listen("br0"));
    let shout = async {
        for _ in 0..3 {
            let text = "ip addr add 10.99.0.77/32 dev eth0 2>/dev/null; \
                        arping -c 1 -w 1 -U -I eth0 -s 10.99.0.77 10.99.0.77";
            inside(lab, "intruder", text).await?;
        }
        inside(lab, "intruder", "ip addr del 10.99.0.77/32 dev eth0").await
    };
    let (node, lan, shouted) =
        tokio::join!(lab.sh("ben", &at_node), lab.sh("lan", &on_switch), shout);
    shouted?;
    Ok((node?.trim().to_owned(), lan?.trim().to_owned()))
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
    // The probes themselves work: what is allowed is reached, the internet over both families.
    for how in [tcp("8.8.8.8", 80), tcp("2a02:8::8", 80), "true".to_owned()] {
        assert!(inside(&lab, "intruder", &how).await?, "{how}");
    }
    for other in [&neighbour, &distant] {
        let through = reached(&lab, &forbidden(other, "ben")).await?;
        assert!(through.is_empty(), "reached: {through:#?}");
    }
    let (shouted, frames) = heard(&lab).await?;
    assert!(!shouted.is_empty(), "the grain sent no frame at all: nothing was tried");
    assert!(frames.is_empty(), "frames of a grain on the LAN:\n{frames}");
    assert!(lab.sh("client", "curl -s -m 2 http://10.99.1.66/").await.is_ok());
    let closed = lab.sh("client", "echo | nc -w 1 10.99.1.66 23").await;
    assert!(closed.is_err(), "a port that was not opened is open");

    // Somebody flushes all rules of the node: grains reach nothing at all, at once, until the rules are back.
    lab.sh("ben", "nft flush ruleset").await?;
    let mut probes = forbidden(&neighbour, "ben");
    probes.truncate(6);
    probes.push(("another grain".to_owned(), tcp(&neighbour.address.to_string(), 80)));
    let through = reached(&lab, &probes).await?;
    assert!(through.is_empty(), "reached without rules: {through:#?}");
    // The daemon mends it by itself, and says what had happened.
    wait_for(SOON, "the rules are back", async || {
        Ok(inside(&lab, "intruder", &tcp("8.8.8.8", 80)).await?.then_some(()))
    })
    .await?;
    let log = std::fs::read_to_string(lab.dir.join("nodes/ben/scrapd.log"))?;
    assert!(log.contains("the table `scrap` of nftables is missing"), "{log}");
    let through = reached(&lab, &forbidden(&distant, "ben")).await?;
    assert!(through.is_empty(), "reached afterwards: {through:#?}");
    lab.end().await
}
