//! What an idle daemon costs.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use scrap_tests::cluster::processes::Process;
use scrap_tests::cluster::{Cluster, Spec};

const SETTLING: Duration = Duration::from_secs(20);
const WATCHING: Duration = Duration::from_secs(30);
/// Ticks of the system in a second, on every platform that this runs on.
const TICKS: f64 = 100.0;

struct Cost {
    ticks: u64,
    resident_kib: u64,
    written: u64,
}

fn cost(process: Process) -> anyhow::Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid))?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("a strange stat")?.1.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
    Ok(Cost {
        ticks: ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("no ticks")?,
        resident_kib: resident.context("no resident memory")?,
        written: process.written()?,
    })
}

pub(crate) async fn idle() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).default_timing()).await?;
    cluster.guestbook("ada", 2).await?;
    tokio::time::sleep(SETTLING).await;
    let leader = cluster.leader().await?;
    let mut before = Vec::new();
    for node in &cluster.nodes {
        let process = node.process().with_context(|| format!("{} has ended", node.name))?;
        before.push((node, process, cost(process)?));
    }
    tokio::time::sleep(WATCHING).await;
    for (node, process, before) in before {
        let after = cost(process)?;
        let spent = (after.ticks - before.ticks) as f64 / TICKS / WATCHING.as_secs_f64();
        println!(
            "   {:8} {}: {:.2} % of a core, {:.1} MiB resident, {} bytes written in {} s",
            if node.name == leader { "leader" } else { "follower" },
            node.name,
            spent * 100.0,
            after.resident_kib as f64 / 1024.0,
            after.written - before.written,
            WATCHING.as_secs()
        );
    }
    cluster.end().await
}
