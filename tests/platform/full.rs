//! A pool that is full: copies and new grains stop with a clear word, grains that run live on, nothing is destroyed to make room,
//! and room heals it.

use scrap_schema::api::GrainState;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::writer::Writer;
use scrap_tests::platform::{Lab, SOON, Spec};

use crate::{launched, prepared};

/// Names and guids of every snapshot of a node.
async fn snapshots(lab: &Lab, node: &str) -> anyhow::Result<String> {
    let text = format!("zfs get -Hp -r -t snapshot -o name,value guid {}", lab.dataset(node));
    // Where the type cannot be asked for, names with an `@` are the snapshots.
    let fallback = format!("zfs get -Hp -r -o name,value guid {} | grep @", lab.dataset(node));
    match lab.sh(node, &text).await {
        Ok(list) => Ok(list),
        Err(_) => lab.sh(node, &fallback).await,
    }
}

#[tokio::test]
async fn a_full_pool_stops_copies_and_not_grains() -> anyhow::Result<()> {
    let spec = Spec::default().option("--size", "512M").option("--nodes", "2");
    let Some(lab) = prepared(spec, Kind::Busybox, 1).await? else { return Ok(()) };
    let web = Book::new("web", Kind::Busybox, 71)?.on("ada");
    launched(&lab, &web, 1).await?;
    let before = snapshots(&lab, "ben").await?;

    // Somebody else fills the pool of the copy.
    let other = format!("{}-ben/other", lab.name);
    let fill = format!(
        "zfs create -o mountpoint=/run/other -o compression=off {other}; \
         dd if=/dev/urandom of=/run/other/filler bs=1M 2>/dev/null || true; df /run/other"
    );
    lab.sh("ben", &format!("mkdir -p /run/other; {fill}")).await?;
    let writer = Writer::start(&web, 0);
    writer.more(50, SOON).await?;
    let said = lab.says(&["status"], "ben").await?;
    assert!(!said.contains("HEALTHY"), "{said}");
    lab.says(&["info", "web"], "% full").await?;
    // What runs goes on, and what is there stays.
    writer.more(200, SOON).await?;
    assert_eq!(lab.api.grain("web").await?.status.state, GrainState::Running);
    let now = snapshots(&lab, "ben").await?;
    let gone: Vec<&str> = before.lines().filter(|line| !now.contains(*line)).collect();
    let newest = before.lines().last().unwrap_or_default();
    assert!(!gone.contains(&newest), "the copy was destroyed to make room:\n{now}");
    // Nothing new is put there.
    let asked = Book::new("late", Kind::Busybox, 72)?.on("ben");
    let _ = lab.apply(&asked.manifest()).await;
    assert_ne!(lab.owner("late").await.unwrap_or_default(), "ben", "placed on a full pool");

    lab.sh("ben", &format!("rm /run/other/filler; zfs destroy -r {other} || true")).await?;
    lab.is_protected("web", 1).await?;
    lab.says(&["status"], "HEALTHY").await?;
    let seen = writer.end().await?;
    assert!(seen.missing(&web.pages().await?).is_empty());
    lab.end().await
}
