//! What the plain tools do between the same pools: `zfs send`, a TCP connection of socat, `zfs receive`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::{Lab, SOON};

/// Port of the plain connection.
const PORT: u16 = 9999;

/// A dataset of its own on ada, with a file of so many bytes that do not compress.
pub(crate) async fn dataset(lab: &Lab, name: &str, bytes: u64) -> anyhow::Result<String> {
    let dataset = format!("{}-ada/{name}", lab.name);
    let mount = format!("/run/{name}");
    let text = format!(
        "mkdir -p {mount}; zfs create -o mountpoint={mount} {dataset}; \
         head -c {bytes} /dev/urandom >{mount}/data; zfs snapshot {dataset}@a"
    );
    lab.sh("ada", &text).await?;
    Ok(dataset)
}

/// Clones what a grain began with, mounts it and gives its files to somebody else. Returns what that took.
pub(crate) async fn clone(lab: &Lab, grain: &str) -> anyhow::Result<Duration> {
    let of = lab.dataset_of("ada", grain).await?;
    let origin = lab.sh("ada", &format!("zfs get -Hp -o value origin {of}")).await?;
    // It stays until the lab ends: some tools find what was just mounted busy when it is to go.
    let (dataset, mount) =
        (format!("{}-ada/plain-{grain}", lab.name), format!("/run/plain-{grain}"));
    let began = Instant::now();
    let text = format!(
        "zfs clone -o mountpoint={mount} {} {dataset} && chown -hR 1000000:1000000 {mount}",
        origin.trim()
    );
    lab.sh("ada", &text).await?;
    Ok(began.elapsed())
}

/// Hands a dataset of so many bytes over to ben with what a grain has written last: what a move of its data takes without
/// stopping and starting anything. From the unmount on ada until it is mounted on ben; the middle of five.
pub(crate) async fn hand_over(lab: &Lab, bytes: u64) -> anyhow::Result<Duration> {
    // As above.
    let name = format!("over-{bytes}");
    let mount = format!("/run/{name}");
    let here = dataset(lab, &name, bytes).await?;
    let there = format!("{}-ben/{name}", lab.name);
    pipe(lab, &format!("zfs send {here}@a"), &there).await?;
    lab.sh("ben", &format!("mkdir -p {mount}; zfs set mountpoint={mount} {there}")).await?;
    let mut all = Vec::new();
    for (before, after) in ["a", "b", "c", "d", "e", "f"].into_iter().zip(["b", "c", "d", "e", "f"])
    {
        lab.sh("ben", &format!("zfs unmount {there}")).await?;
        lab.sh("ada", &format!("head -c 100000 /dev/urandom >{mount}/{after}; sync")).await?;
        let receive = format!(
            "socat -u TCP-LISTEN:{PORT},reuseaddr STDOUT | zfs receive {there}; \
             zfs mount {there} 2>/dev/null || mountpoint -q {mount}; date +%s%N"
        );
        let send = format!(
            "date +%s%N; zfs unmount {here}; zfs snapshot {here}@{after}; \
             zfs send -i @{before} {here}@{after} | \
             socat -u STDIN TCP:10.99.0.2:{PORT},retry=100,interval=0.02; zfs mount {here}"
        );
        let (ended, began) = tokio::join!(lab.sh("ben", &receive), lab.sh("ada", &send));
        let (ended, began): (u64, u64) = (ended?.trim().parse()?, began?.trim().parse()?);
        all.push(Duration::from_nanos(ended.saturating_sub(began)));
    }
    all.sort();
    Ok(all.get(2).copied().unwrap_or_default())
}

/// Bytes of a stream.
pub(crate) async fn size(lab: &Lab, send: &str) -> anyhow::Result<u64> {
    Ok(lab.sh("ada", &format!("{send} | wc -c")).await?.trim().parse()?)
}

/// Pipes a stream from ada to ben. Returns the time from the first command to the end of the last one, and the time from the
/// first mebibyte on the wire.
pub(crate) async fn pipe(
    lab: &Lab,
    send: &str,
    target: &str,
) -> anyhow::Result<(Duration, Duration)> {
    let listen = format!("socat -u TCP-LISTEN:{PORT},reuseaddr STDOUT | zfs receive -u {target}");
    let began = Instant::now();
    let wire = Wire::of(lab, "ben")?;
    let send = async {
        let text = format!("{send} | socat -u STDIN TCP:10.99.0.2:{PORT},retry=100,interval=0.02");
        lab.sh("ada", &text).await
    };
    let (first, received, sent) = tokio::join!(wire.flows(), lab.sh("ben", &listen), send);
    received?;
    sent?;
    // Small streams end before anybody has seen them begin.
    let from_first = first.map_or_else(|_| began.elapsed(), |first| first.elapsed());
    Ok((began.elapsed(), from_first))
}

/// Bytes that a node has got over its cable.
pub(crate) struct Wire {
    counter: PathBuf,
    base: u64,
}

impl Wire {
    /// From now on.
    pub(crate) fn of(lab: &Lab, node: &str) -> anyhow::Result<Self> {
        let record = std::fs::read_to_string(lab.dir.join(format!("machines/{node}.inner")))?;
        let pid = record.split(' ').next().context("no process")?;
        // The machine's own view of its interfaces, without running anything in it.
        let counter = format!("/proc/{pid}/root/sys/class/net/eth0/statistics/rx_bytes").into();
        let mut wire = Self { counter, base: 0 };
        wire.base = wire.bytes()?;
        Ok(wire)
    }

    /// Bytes since the beginning.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        let all: u64 = std::fs::read_to_string(&self.counter)?.trim().parse()?;
        Ok(all - self.base)
    }

    /// The moment when the first mebibyte has come.
    pub(crate) async fn flows(&self) -> anyhow::Result<Instant> {
        wait_for(SOON, "something comes over the cable", async || {
            Ok((self.bytes()? > 1 << 20).then(Instant::now))
        })
        .await
    }
}
