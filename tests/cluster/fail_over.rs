//! The power of a grain's owner is cut.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use scrap_host::datasets::{Datasets, Role, Shape};
use scrap_host::dir::DirDatasets;
use scrap_schema::api::{GrainState, NodeState, OperationView, OrphanView};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::operation::OperationState;
use scrap_schema::unit::Span;
use scrap_tests::cluster::grain::{Entry, Guestbook, entries_in, idle_grain};
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, disk, now, wait_for};
use serde_json::json;

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
    assert_eq!(
        (orphan.node.as_str(), orphan.grain_name.as_ref().map(|n| n.as_str())),
        ("bob", Some("book"))
    );
    let kept = orphan_entries(&cluster, "bob").await?;
    let missing: Vec<_> = lost.iter().filter(|(lost, _)| !kept.contains(lost)).collect();
    assert!(missing.is_empty(), "lost and not in the orphan: {missing:?}");
    let now = book.entries().await?;
    assert_eq!(now.get(..entries.len()), Some(entries.as_slice()), "something was overwritten");
    cluster.is_protected("book", 2).await?;
    and_then(&cluster, &book, &orphan, (&kept, &now)).await?;
    assert!(watch.end()? > 0);
    cluster.end().await
}

/// What was set aside becomes a grain, and the head of its own; what the grain had is set aside, comes back, and goes in the end.
async fn and_then(
    cluster: &Cluster,
    book: &Guestbook,
    orphan: &OrphanView,
    (aside, present): (&[Entry], &[Entry]),
) -> anyhow::Result<()> {
    let work = async |id: &str, what: &str, body: serde_json::Value| {
        let asked: OperationView =
            cluster.api.post(&format!("/v1/orphans/{id}/{what}"), &body).await?;
        let ended = cluster.api.ended(asked.id, SOON).await?;
        anyhow::ensure!(ended.state == OperationState::Succeeded, "{ended:#?}");
        anyhow::Ok(())
    };
    let has = async |entries: &[Entry]| -> anyhow::Result<()> {
        wait_for(SOON, "the book has these entries", async || {
            let found = book.entries().await?;
            Ok((found.get(..entries.len()) == Some(entries)).then_some(()))
        })
        .await
    };
    work(&orphan.id, "fork", json!({"name": "twin"})).await?;
    let twin = cluster.api.grain("twin").await?;
    assert_eq!(twin.status.node.map(|node| node.to_string()).as_deref(), Some("bob"));
    let owner = cluster.api.grain("book").await?.status.node;
    work(&orphan.id, "promote", json!({})).await?;
    has(aside).await?;
    let former = wait_for(SOON, "what was the head is set aside", async || {
        let orphans = cluster.api.orphans().await?;
        let is_former = |it: &OrphanView| Some(&it.node) == owner.as_ref();
        Ok(orphans.into_iter().find(is_former))
    })
    .await?;
    work(&former.id, "promote", json!({})).await?;
    has(present).await?;
    loop {
        let orphans = cluster.api.orphans().await?;
        let Some(first) = orphans.first() else { break };
        work(&first.id, "discard", json!({"by": "a test"})).await?;
    }
    Ok(())
}

/// Acknowledgements are seen a moment after they were given.
const SKEW: Span = Span::from_ms(20);

/// What is in the only orphan of a node: its newest snapshot, made readable by the backend itself.
async fn orphan_entries(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<Entry>> {
    // In a copy, because one process at a time opens a folder of datasets.
    let copy = tempfile::tempdir_in("/tmp")?;
    let (from, pool) = (cluster.node(node)?.data().join("pool"), copy.path().join("pool"));
    std::fs::create_dir(&pool)?;
    for entry in std::fs::read_dir(&from)? {
        let entry = entry?;
        // What the daemon works on at this moment is not asked for.
        if entry.file_name() == "grains" || entry.file_name() == "tmp" {
            continue;
        }
        let copied = Command::new("cp").arg("-a").arg(entry.path()).arg(&pool).status()?;
        anyhow::ensure!(copied.success(), "cannot copy {}", entry.path().display());
    }
    let datasets = DirDatasets::open(&copy.path().join("pool")).await?;
    let list = datasets.list().await?;
    let orphan = list.into_iter().find(|dataset| dataset.role == Role::Orphan);
    let orphan = orphan.context("there is no orphan on disk")?;
    let head = orphan.snapshots.last().context("the orphan is empty")?;
    let reader = GrainId(1);
    datasets.clone_from(orphan.id, head.guid, reader, Epoch(1), Shape::default()).await?;
    entries_in(&datasets.path(reader).join("entries.jsonl"))
}

/// A file system of its own that is full: its node cannot write any more.
#[tokio::test]
async fn a_full_disk_stops_one_node_and_not_the_cluster() -> anyhow::Result<()> {
    if let Some(why) = disk::refusal() {
        eprintln!("SKIPPED: no file system can be mounted here: {why}");
        return Ok(());
    }
    let spec = Spec { small_disk: Some(("cy", 96)), ..Spec::new(3) };
    let mut cluster = Cluster::start(spec).await?;
    let book = cluster.guestbook("ada", 2).await?;
    let writer = Writer::start(&book);
    writer.more(50, SOON).await?;
    let filler = cluster.node("cy")?.data().join("filler");
    fill(&filler)?;
    // The log of the cluster goes on without the node: changes are made, the grain goes on.
    for round in 0..20 {
        let grain = idle_grain(&format!("idle-{round}"), "test")
            .replace("  protect", "  running: false\n  protect");
        cluster.api.apply(&grain).await?;
    }
    writer.more(100, SOON).await?;
    assert_eq!(
        cluster.api.grain("book").await?.status.node.map(|n| n.to_string()).as_deref(),
        Some("ada")
    );

    // Room again: the node catches up, by itself or started again.
    std::fs::remove_file(&filler)?;
    let cy = cluster.node_mut("cy")?;
    eprintln!(
        "the daemon with the full disk {}",
        if cy.is_running() { "runs on" } else { "has ended" }
    );
    if !cy.is_running() {
        let _ = cy.ended(SOON).await;
        cy.start()?;
    }
    cluster.all_online().await?;
    cluster.is_protected("book", 2).await?;
    let seen = writer.end().await?;
    let entries = book.entries().await?;
    assert!(seen.missing(&entries).is_empty(), "{:?}", seen.missing(&entries));
    cluster.end().await
}

/// Writes until nothing more fits.
fn fill(path: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![1_u8; size];
        while file.write_all(&block).is_ok() {}
    }
    let full = file.write_all(&[1]).err().and_then(|error| error.raw_os_error());
    anyhow::ensure!(full.is_some(), "the disk is not full");
    Ok(())
}
