//! Streams between two nodes: a whole grain, and one more mebibyte.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use scrap_schema::time::Timestamp;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind, policy};
use scrap_tests::platform::{Lab, SOON};

use crate::median;
use crate::plain::{self, Wire};

/// Bytes of the whole grain.
const WHOLE: usize = 1 << 30;
const INCREMENT: usize = 1 << 20;
const ROUNDS: usize = 20;

fn mib_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

/// A grain on ada that answers.
async fn grain(lab: &Lab) -> anyhow::Result<Book> {
    let book = Book::new("book", Kind::Nginx, 40)?.on("ada");
    lab.apply(&book.manifest()).await?;
    wait_for(SOON, "the book answers", async || book.front().await.map(Some)).await?;
    Ok(book)
}

/// The first copy of a grain, beside the same bytes through the plain tools.
pub(crate) async fn stream(lab: &Lab) -> anyhow::Result<()> {
    let book = grain(lab).await?;
    // Copies go to ben alone, so that nothing else is on the wire.
    lab.ctl(&["node", "cordon", "cleo"]).await?;
    book.fill(WHOLE).await?;
    let wire = Wire::of(lab, "ben")?;
    lab.apply(&policy(1)).await?;
    let first = wire.flows().await?;
    let copied = wait_for(10 * SOON, "the copy is there", async || {
        let grain = lab.api.grain("book").await?;
        Ok(grain.status.copies.iter().any(|copy| copy.snapshot.is_some()).then(Instant::now))
    })
    .await?;
    let bytes = wire.bytes()?;
    let ours = mib_per_second(bytes, copied - first);
    println!(
        "ours:  {ours:.1} MiB/s, {} MiB from the first byte until the copy counts",
        bytes >> 20
    );

    let dataset = plain::dataset(lab, "plain", u64::try_from(WHOLE)?).await?;
    let send = format!("zfs send {dataset}@a");
    let bytes = plain::size(lab, &send).await?;
    let mut figures = Vec::new();
    for round in 0..3 {
        let target = format!("{}-ben/plain{round}", lab.name);
        let (_, time) = plain::pipe(lab, &send, &target).await?;
        figures.push(mib_per_second(bytes, time));
    }
    println!("plain: {figures:.1?} MiB/s, zfs send | socat | zfs receive, {} MiB", bytes >> 20);
    println!("ratio: {:.0} % of the plain pipe", 100.0 * ours / median(figures));
    Ok(())
}

/// When ada had sent each increment and knew that ben holds it, by its log.
fn sent(lab: &Lab) -> anyhow::Result<Vec<Timestamp>> {
    let log = std::fs::read_to_string(lab.dir.join("nodes/ada/scrapd.log"))?;
    let lines = log.lines().filter(|line| line.contains("send increment of"));
    let done = lines.filter(|line| line.contains("done") && !line.contains("failed"));
    let plain =
        |text: &str| text.trim_start_matches("\u{1b}[2m").trim_end_matches("\u{1b}[0m").to_owned();
    let times = done.filter_map(|line| line.split_whitespace().next().map(plain));
    let parsed = times.map(|time| Ok(serde_json::from_value(time.into())?));
    let parsed: anyhow::Result<Vec<Timestamp>> = parsed.collect();
    parsed.context("the log of ada begins its lines with something else than a time")
}

/// When ada was ordered to take its newest snapshot.
async fn newest(lab: &Lab) -> anyhow::Result<Timestamp> {
    let text = format!("zfs get -Hp -r -o value scrap:created {}/grains", lab.dataset("ada"));
    let said = lab.sh("ada", &text).await?;
    let newest = said.lines().filter_map(|line| line.trim().parse().ok()).max();
    newest.map(Timestamp).context("there is no snapshot")
}

/// A mebibyte more, from the moment of the snapshot until the copy counts.
pub(crate) async fn increment(lab: &Lab) -> anyhow::Result<()> {
    let book = grain(lab).await?;
    lab.is_protected("book", 1).await?;
    let mut ours = Vec::new();
    let mut seen = sent(lab)?.len();
    for _ in 0..ROUNDS {
        book.fill(INCREMENT).await?;
        let ended = wait_for(SOON, "the increment is copied", async || {
            let sent = sent(lab)?;
            Ok(sent.get(seen..).and_then(<[Timestamp]>::last).map(|last| (sent.len(), *last)))
        });
        let (count, ended) = ended.await?;
        seen = count;
        ours.push(ended.since(newest(lab).await?).ms() as f64);
        // What is written while a file is made may come as another one.
        lab.is_protected("book", 1).await?;
        seen = seen.max(sent(lab)?.len());
    }
    let ours = median(ours);
    println!(
        "ours:    median {ours:.0} ms from the order of the snapshot until both sides hold it, {ROUNDS} rounds"
    );

    let dataset = plain::dataset(lab, "plain", 1 << 20).await?;
    let target = format!("{}-ben/plain", lab.name);
    plain::pipe(lab, &format!("zfs send {dataset}@a"), &target).await?;
    let mut piped = Vec::new();
    for round in 0..ROUNDS {
        let last = if round == 0 { "a".to_owned() } else { format!("r{}", round - 1) };
        lab.sh("ada", "head -c 1048576 /dev/urandom >/run/plain/data").await?;
        let send = format!(
            "zfs snapshot {dataset}@r{round} && zfs send -i {dataset}@{last} {dataset}@r{round}"
        );
        let (whole, _) = plain::pipe(lab, &format!("{{ {send}; }}"), &target).await?;
        piped.push(whole.as_secs_f64() * 1000.0);
    }
    let piped = median(piped);
    println!("plain:   median {piped:.0} ms, zfs snapshot, zfs send -i | socat | zfs receive");
    println!("ratio:   {:.2} times the plain pipe", ours / piped);
    syncoid(lab, &dataset).await
}

/// The same by syncoid between two pools of one node, if it is installed.
async fn syncoid(lab: &Lab, dataset: &str) -> anyhow::Result<()> {
    // Unpacked and not installed: its package wants another ZFS than the one that may be here.
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/syncoid/usr");
    let (program, perl) = (unpacked.join("sbin/syncoid"), unpacked.join("share/perl5"));
    let program =
        if program.exists() { program.display().to_string() } else { "syncoid".to_owned() };
    if !lab.sh("ada", &format!("command -v {program} || true")).await?.contains("syncoid") {
        println!("syncoid: not installed");
        return Ok(());
    }
    let (file, pool) = (lab.dir.join("second.img"), format!("{}-second", lab.name));
    let make = format!("truncate -s 2G {0}; zpool create -f -m none {pool} {0}", file.display());
    lab.sh("ada", &make).await?;
    let sync = format!(
        "PERL5LIB={} {program} --quiet --no-privilege-elevation {dataset} {pool}/plain",
        perl.display()
    );
    if let Err(error) = lab.sh("ada", &sync).await {
        println!("syncoid: it does not work with this ZFS: {error:#}");
        return Ok(());
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        // It names its snapshots by the second: two rounds of one second would be one name.
        let next = "head -c 1048576 /dev/urandom >/run/plain/data; now=$(date +%s); until [ $(date +%s) -gt $now ]; do sleep 0.01; done";
        lab.sh("ada", next).await?;
        let began = Instant::now();
        lab.sh("ada", &sync).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    println!("syncoid: median {:.0} ms, between two pools of one node", median(times));
    Ok(())
}
