//! The API: durable writes beside what the disk can do, lists, and how long nobody writes when the leader dies.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use scrap_schema::api::GrainView;
use scrap_tests::cluster::api::{Api, Call};
use scrap_tests::cluster::grain::{idle_grain, policy};
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

use crate::figures::Samples;

const CLIENTS: usize = 16;
const WRITING: Duration = Duration::from_secs(10);
const RAW: Duration = Duration::from_secs(3);
const GRAINS: usize = 1000;
const LISTS: usize = 300;
const LEADERS: usize = 5;

fn spec() -> Spec {
    Spec::new(3).default_timing()
}

/// Changes a policy, whatever it was before.
async fn write(api: &Api, server: &str, client: usize, number: u32) -> anyhow::Result<()> {
    let keep = json!({"keep-last": number % 9_999 + 1});
    let body = json!({
        "apiVersion": "scrap/v1", "kind": "Policy",
        "metadata": {"name": format!("bench-{client}")}, "spec": {"snapshots": keep},
    });
    let path = format!("/v1/policies/bench-{client}?force=true");
    let answer = api.ask(server, &Call::new(Method::PUT, path).json(&body)).await?;
    ensure!(answer.status < 300, "{answer:?}");
    Ok(())
}

async fn write_for(api: Api, server: String, client: usize) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    let end = Instant::now() + WRITING;
    for number in 0.. {
        let began = Instant::now();
        if began > end {
            break;
        }
        write(&api, &server, client, number).await?;
        samples.add(began.elapsed());
    }
    Ok(samples)
}

/// How often a second a small record can be brought to the disk under this folder, one after another.
fn raw(folder: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(folder.join("raw"))?;
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < RAW {
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

pub(crate) async fn writes() -> anyhow::Result<()> {
    let cluster = Cluster::start(spec()).await?;
    let raw = raw(cluster.root())?;
    println!("   raw fdatasync on the same disk: {raw:.0} /s");
    let leader = cluster.leader().await?;
    let follower = cluster.nodes.iter().find(|node| node.name != leader).context("a follower")?;
    let servers =
        [("the leader", cluster.node(&leader)?.server()), ("a follower", follower.server())];
    for (whom, server) in servers {
        for clients in [1, CLIENTS] {
            let tasks: Vec<_> = (0..clients)
                .map(|client| tokio::spawn(write_for(cluster.api.clone(), server.clone(), client)))
                .collect();
            let mut all = Samples::default();
            for task in tasks {
                all.join(task.await??);
            }
            let rate = all.len() as f64 / WRITING.as_secs_f64();
            println!(
                "   {clients:2} clients at {whom}: {rate:.0} durable writes/s, {:.2} × raw; {all}",
                rate / raw
            );
        }
    }
    cluster.end().await
}

pub(crate) async fn list() -> anyhow::Result<()> {
    let cluster = Cluster::start(spec()).await?;
    cluster.api.apply(&policy(0)).await?;
    let stopped = |number: usize| {
        let grain = idle_grain(&format!("grain-{number:04}"), "test");
        grain.replace("  protect", "  running: false\n  protect")
    };
    let began = Instant::now();
    for hundred in 0..GRAINS / 100 {
        let grains = (hundred * 100..hundred * 100 + 100).map(stopped);
        cluster.api.apply(&grains.collect::<Vec<_>>().join("---\n")).await?;
    }
    println!("   {GRAINS} grains applied in {:.1} s", began.elapsed().as_secs_f64());
    wait_for(5 * SOON, "every grain is placed", async || {
        let grains: Vec<GrainView> = cluster.api.get("/v1/grains").await?;
        let placed = grains.iter().filter(|grain| grain.status.node.is_some()).count();
        Ok((placed == GRAINS).then_some(()))
    })
    .await?;
    println!("   all placed after {:.1} s", began.elapsed().as_secs_f64());
    let leader = cluster.leader().await?;
    for node in &cluster.nodes {
        let mut samples = Samples::default();
        let mut bytes = 0;
        for _ in 0..LISTS {
            let began = Instant::now();
            let answer = cluster.api.ask(&node.server(), &Call::get("/v1/grains")).await?;
            samples.add(began.elapsed());
            bytes = answer.body.len();
        }
        let role = if node.name == leader { "leader" } else { "follower" };
        println!("   list of {GRAINS} ({} KiB) from the {role}: {samples}", bytes / 1024);
    }
    cluster.end().await
}

pub(crate) async fn leader() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(spec()).await?;
    let mut samples = Samples::default();
    for number in 0..LEADERS {
        let leader = cluster.leader().await?;
        let others: Vec<String> = cluster
            .nodes
            .iter()
            .filter(|node| node.name != leader)
            .map(scrap_tests::cluster::node::Node::server)
            .collect();
        cluster.node_mut(&leader)?.kill9()?;
        let began = Instant::now();
        wait_for(SOON, "somebody writes again", async || {
            for server in &others {
                let number = u32::try_from(number)?;
                if write(&cluster.api, server, 0, number).await.is_ok() {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await?;
        samples.add(began.elapsed());
        cluster.node_mut(&leader)?.start()?;
        cluster.answers(&cluster.node(&leader)?.server()).await?;
        cluster.all_online().await?;
    }
    println!("   leader killed → next acknowledged write (default timing): {samples}");
    cluster.end().await
}
