//! How long a grain does not answer when it moves, and when its node dies.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Client;
use scrap_schema::api::OperationView;
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::grain::Guestbook;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

use crate::figures::Samples;

/// Largest file that a guestbook takes.
const FILE: usize = 8 << 20;
const FAILOVERS: usize = 3;

/// Files of so many bytes altogether, which do not compress.
async fn fill(book: &Guestbook, bytes: usize) -> anyhow::Result<()> {
    let http = Client::builder().no_proxy().build()?;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = bytes;
    let mut number = 0;
    while left > 0 {
        let size = left.min(FILE);
        let mut body = Vec::with_capacity(size + 8);
        while body.len() < size {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            body.extend(seed.to_le_bytes());
        }
        body.truncate(size);
        let url = format!("http://127.0.0.1:{}/file-{number}.bin", book.port);
        http.put(url).body(body).send().await?.error_for_status()?;
        left -= size;
        number += 1;
    }
    Ok(())
}

pub(crate) async fn migrate() -> anyhow::Result<()> {
    for (what, bytes) in [("10 KB", 10 << 10), ("100 MB", 100 << 20)] {
        let mut cluster = Cluster::start(Spec::new(3).default_timing()).await?;
        let book = cluster.guestbook("ada", 1).await?;
        fill(&book, bytes).await?;
        let mut inside = Samples::default();
        let mut outside = Samples::default();
        let mut whole = Samples::default();
        let writer = Writer::start(&book);
        for to in ["bob", "cy", "ada", "bob", "cy"] {
            writer.more(50, SOON).await?;
            let before = writer.seen().outages.len();
            let began = Instant::now();
            let body = json!({"to": to});
            let asked: OperationView = cluster.api.post("/v1/grains/book/migrate", &body).await?;
            let ended = cluster.api.ended(asked.id, 5 * SOON).await?;
            whole.add(began.elapsed());
            ensure!(ended.state == OperationState::Succeeded, "{ended:#?}");
            writer.more(50, SOON).await?;
            let told = ended.summary.downtime_ms.context("no downtime was told")?;
            inside.add(Duration::from_millis(told));
            let seen = writer.seen();
            let outages = seen.outages.get(before..).unwrap_or_default();
            outside.add(outages.iter().max().copied().unwrap_or_default());
        }
        let seen = writer.end().await?;
        let entries = book.entries().await?;
        println!("   {what}: downtime as told:      {inside}");
        println!("   {what}: downtime as seen:      {outside}");
        println!("   {what}: whole move:            {whole}");
        println!(
            "   {what}: acknowledged writes lost: {} of {}",
            seen.missing(&entries).len(),
            seen.acknowledged.len()
        );
        cluster.end().await?;
    }
    Ok(())
}

pub(crate) async fn failover() -> anyhow::Result<()> {
    let mut samples = Samples::default();
    for _ in 0..FAILOVERS {
        let mut cluster = Cluster::start(Spec::new(3).default_timing()).await?;
        let book = cluster.guestbook("bob", 2).await?;
        let entry = book.sign("before").await?;
        cluster.node_mut("bob")?.kill9_with_grains()?;
        let began = Instant::now();
        wait_for(2 * SOON, "the grain answers elsewhere", async || {
            Ok((book.sign("after").await?.node != entry.node).then_some(()))
        })
        .await?;
        samples.add(began.elapsed());
        cluster.end().await?;
    }
    println!("   power of the owner cut → the grain answers elsewhere (default timing): {samples}");
    Ok(())
}
