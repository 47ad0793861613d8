//! Moves under a writing client.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use scrap_schema::api::OperationView;
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::grain::{Entry, policy};
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
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

/// The states of a grain on a node, as they lie on its disk.
fn on_disk(cluster: &Cluster, node: &str, grain: &str) -> anyhow::Result<BTreeSet<String>> {
    let dataset = cluster.node(node)?.data().join("pool/grains").join(grain);
    let mut states = BTreeSet::new();
    for entry in std::fs::read_dir(dataset.join("snapshots"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        states.extend(name.strip_suffix(".manifest").map(str::to_owned));
    }
    Ok(states)
}

#[tokio::test]
async fn a_copy_that_was_away_while_its_grain_moved_catches_up() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("ada", 2).await?;
    let few = "  snapshots: {keep-last: 1, keep-hourly: 0, keep-daily: 0}\n";
    cluster.api.apply(&format!("{}{few}", policy(2))).await?;
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    let frozen: OperationView =
        cluster.api.post("/v1/grains/book/snapshots", &json!({"name": "v1"})).await?;
    assert_eq!(cluster.api.ended(frozen.id, SOON).await?.state, OperationState::Succeeded);
    let id = cluster.api.grain("book").await?.metadata.id.context("a grain has an id")?;
    let id = id.as_str();
    let until_then = on_disk(&cluster, "ada", id)?;
    wait_for(SOON, "cy has v1 and a newer state", async || {
        let there = on_disk(&cluster, "cy", id)?;
        let is_beyond = there.difference(&until_then).next().is_some();
        Ok((is_beyond && !there.is_disjoint(&until_then)).then_some(()))
    })
    .await?;

    cluster.node_mut("cy")?.kill9()?;
    let away = on_disk(&cluster, "cy", id)?;
    let asked: OperationView =
        cluster.api.post("/v1/grains/book/migrate", &json!({"to": "bob"})).await?;
    assert_eq!(cluster.api.ended(asked.id, SOON).await?.state, OperationState::Succeeded);
    let before = on_disk(&cluster, "bob", id)?;
    wait_for(SOON, "bob has pruned what it may", async || {
        let there = on_disk(&cluster, "bob", id)?;
        // Nobody prunes v1, and where cy stands is remembered.
        let fresh = there.difference(&before).count();
        Ok((fresh > 0 && there.intersection(&before).count() <= 4).then_some(()))
    })
    .await?;

    cluster.node_mut("cy")?.start()?;
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    // Everything that was written meanwhile reaches the copy.
    cluster.is_protected("book", 2).await?;
    wait_for(SOON, "cy has what bob has", async || {
        let (bob, cy) = (on_disk(&cluster, "bob", id)?, on_disk(&cluster, "cy", id)?);
        Ok((bob.is_subset(&cy) && !cy.is_subset(&away)).then_some(()))
    })
    .await?;
    assert!(seen.missing(&book.entries().await?).is_empty());
    let orphans = cluster.api.orphans().await?;
    assert!(orphans.is_empty(), "{orphans:#?}");
    cluster.end().await
}
