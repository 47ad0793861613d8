//! Moves under a writing client.

use std::time::Duration;

use anyhow::Context;
use scrap_schema::api::OperationView;
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::grain::Entry;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec};
use serde_json::json;

/// Every node and epoch wrote its entries in one piece.
pub(crate) fn epochs(entries: &[Entry]) -> anyhow::Result<Vec<(u64, String)>> {
    let mut epochs: Vec<(u64, String)> = Vec::new();
    for entry in entries {
        let here = (entry.epoch.parse().context("an epoch is a number")?, entry.node.clone());
        if epochs.last() != Some(&here) {
            epochs.push(here);
        }
    }
    let rising = epochs.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0));
    anyhow::ensure!(rising, "epochs interleave: {epochs:?}");
    Ok(epochs)
}

#[tokio::test]
async fn a_move_loses_nothing_and_tells_its_true_downtime() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("ada", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    let mut moves = Vec::new();
    for to in ["bob", "cy", "ada"] {
        writer.more(100, SOON).await?;
        let before = writer.seen().outages.len();
        let body = json!({"to": to});
        let asked: OperationView = cluster.api.post("/v1/grains/book/migrate", &body).await?;
        let moved = cluster.api.ended(asked.id, SOON).await?;
        assert_eq!(moved.state, OperationState::Succeeded, "{moved:#?}");
        writer.more(100, SOON).await?;
        let seen = writer.seen();
        let told = moved.summary.downtime_ms.context("no downtime was told")?;
        let outages = seen.outages.get(before..).unwrap_or_default();
        let outside = outages.iter().max().context("no outage was seen")?;
        let difference = Duration::from_millis(told).abs_diff(*outside);
        eprintln!("to {to}: told {told} ms, seen {outside:?}, difference {difference:?}");
        moves.push((to, told, *outside, difference));
    }
    let seen = writer.end().await?;
    let entries = book.entries().await?;
    let lost = seen.missing(&entries);
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    eprintln!("{} acknowledged writes, none lost", seen.acknowledged.len());
    let owners: Vec<String> = epochs(&entries)?.into_iter().map(|(_, node)| node).collect();
    assert_eq!(owners, ["ada", "bob", "cy", "ada"]);
    watch.end()?;
    // Two measurements of the same outage, not a measure of speed.
    for (to, told, outside, difference) in moves {
        let what = format!("to {to}: told {told} ms, seen {outside:?}");
        assert!(difference <= Duration::from_millis(200), "{what}");
    }
    cluster.end().await
}
