//! The power of a grain's owner is cut.

use std::time::Duration;

use anyhow::Context;
use scrap_schema::api::{GrainState, NodeState};
use scrap_schema::time::Timestamp;
use scrap_tests::cluster::grain::entries_in;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, disk, now, wait_for};

use crate::migrate::epochs;

#[tokio::test]
async fn a_power_cut_costs_no_more_than_was_told_and_what_was_lost_is_kept() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(300, SOON).await?;

    let cut = now();
    cluster.node_mut("bob")?.kill9_with_grains()?;
    let last = writer.seen();
    let grain = cluster
        .grain_is("book", "was failed over", |grain| {
            grain.status.last_failover.is_some() && grain.status.state == GrainState::Running
        })
        .await?;
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    eprintln!("seen outage: {:?}", seen.longest_outage());
    let entries = book.entries().await?;
    epochs(&entries)?;
    assert_ne!(entries.last().map(|entry| entry.node.as_str()), Some("bob"));

    // The window that was told holds every lost acknowledgement.
    let lost: Vec<_> = seen.missing(&entries).into_iter().cloned().collect();
    let failover = grain.status.last_failover.context("no failover")?;
    let loss = failover.loss.context("the loss was not told")?;
    let real = lost.first().zip(lost.last()).map(|((_, first), (_, last))| last.since(*first));
    eprintln!(
        "told loss: {} ms; {} of {} acknowledged writes lost, over {real:?}",
        loss.window_ms,
        lost.len(),
        last.acknowledged.len()
    );
    for (entry, at) in &lost {
        let inside = loss.from <= *at && *at <= loss.until + SKEW;
        assert!(inside, "{entry:?} was acknowledged at {at} outside of {loss:?}");
    }
    assert!(loss.until >= cut || lost.is_empty(), "{loss:?} ends before the cut at {cut}");

    // The old owner is back: its own line is set aside, with everything that was lost inside, and nothing is overwritten.
    cluster.node_mut("bob")?.start()?;
    cluster.node_is("bob", NodeState::Online).await?;
    let orphan = wait_for(SOON, "an orphan is listed", async || {
        Ok(cluster.api.orphans().await?.into_iter().next())
    })
    .await?;
    assert_eq!((orphan.node.as_str(), orphan.grain_name.as_ref().map(|n| n.as_str())), ("bob", Some("book")));
    let kept = orphan_entries(&cluster, "bob").await?;
    let missing: Vec<_> = lost.iter().filter(|(lost, _)| !kept.contains(lost)).collect();
    assert!(missing.is_empty(), "lost and not in the orphan: {missing:?}");
    let now = book.entries().await?;
    assert_eq!(now.get(..entries.len()), Some(entries.as_slice()), "something was overwritten");
    cluster.is_protected("book", 2).await?;
    assert!(watch.end()? > 0);
    cluster.end().await
}

/// Acknowledgements are seen a moment after they were given.
const SKEW: scrap_schema::unit::Span = scrap_schema::unit::Span::from_ms(20);

/// What is in the only orphan of a node: cloned out of its snapshots by the backend itself, with nobody else at it.
async fn orphan_entries(
    cluster: &Cluster,
    node: &str,
) -> anyhow::Result<Vec<scrap_tests::cluster::grain::Entry>> {
    use scrap_host::datasets::{DatasetId, Datasets};
    use scrap_host::dir::DirDatasets;
    // A copy, because one process at a time opens the folder of datasets.
    let copy = tempfile::tempdir_in("/tmp")?;
    let pool = cluster.node(node)?.data().join("pool");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(&pool)
        .arg(copy.path())
        .status()?;
    anyhow::ensure!(status.success(), "cannot copy {}", pool.display());
    let datasets = DirDatasets::open(&copy.path().join("pool")).await?;
    let orphan = datasets.list().await?.into_iter().find_map(|dataset| match dataset.id {
        DatasetId::Orphan(..) => Some(dataset),
        DatasetId::Grain(_) => None,
    });
    let orphan = orphan.context("there is no orphan on disk")?;
    todo_clone(&datasets, orphan, copy.path()).await
}
