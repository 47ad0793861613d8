//! One grain of Debian with nginx and a gigabyte of data lives through everything that its nodes can do to it, while somebody
//! writes into it all the time.

use anyhow::Context;
use scrap_schema::api::{GrainState, OperationView};
use scrap_schema::operation::OperationState;
use scrap_schema::time::Timestamp;
use scrap_tests::cluster::{now, wait_for};
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::twice::Watch;
use scrap_tests::platform::writer::{Seen, Writer};
use scrap_tests::platform::{Lab, SOON, Spec};
use serde_json::json;

use crate::{launched, prepared};

/// Data of the grain.
const DATA: usize = 1 << 30;

#[tokio::test]
async fn a_grain_of_debian_keeps_its_address_and_its_pages() -> anyhow::Result<()> {
    let spec = Spec::default().option("--size", "16G");
    let Some(lab) = prepared(spec, Kind::Nginx, 2).await? else { return Ok(()) };
    let book = Book::new("book", Kind::Nginx, 40)?.on("ada");
    launched(&lab, &book, 2).await?;
    assert_eq!(book.front().await?, "a grain of Debian\n");
    let services = lab.ctl(&["services", "book"]).await?;
    assert!(services.contains("nginx") && services.contains("active"), "{services}");
    book.fill(DATA).await.context("the data of the grain")?;
    lab.is_protected("book", 2).await?;
    let watch = Watch::start(&lab.name);

    let first = moves(&lab, &book).await?;
    let second = cut_off(&lab, &book, first).await?;
    power_cut(&lab, &book, second).await?;

    eprintln!("grains were seen {} times, never twice at once", watch.end()?);
    lab.end().await
}

/// Moves under a writer: nothing that was acknowledged is lost. Returns the number of the next page.
async fn moves(lab: &Lab, book: &Book) -> anyhow::Result<u64> {
    let writer = Writer::start(book, 0);
    for to in ["ben", "cleo", "ada"] {
        writer.more(50, SOON).await?;
        let before = writer.seen().outages.len();
        let asked: OperationView =
            lab.api.post("/v1/grains/book/migrate", &json!({"to": to})).await?;
        let moved = lab.api.ended(asked.id, 5 * SOON).await?;
        assert_eq!(moved.state, OperationState::Succeeded, "{moved:#?}");
        writer.more(50, SOON).await?;
        assert_eq!(lab.owner("book").await?, to);
        let seen = writer.seen();
        let outside = seen.outages.get(before..).unwrap_or_default().iter().max();
        eprintln!("to {to}: told {:?} ms, seen outside {outside:?}", moved.summary.downtime_ms);
    }
    let seen = writer.end().await?;
    nothing_lost(book, &seen).await?;
    Ok(next(&seen))
}

/// The cable of the owner is pulled out: another node takes over at the same address, and what only the old owner had is kept.
async fn cut_off(lab: &Lab, book: &Book, first: u64) -> anyhow::Result<u64> {
    let owner = lab.owner("book").await?;
    let writer = Writer::start(book, first);
    writer.more(50, SOON).await?;
    lab.verb(&["cut", &owner]).await?;
    let cut = now();
    writer.is_out(SOON).await?;
    taken_over(lab, &owner).await?;
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    eprintln!("cable out: {:?} without an answer", seen.longest_outage());
    let told = only_told_loss(lab, book, &seen, cut).await?;

    lab.verb(&["join", &owner]).await?;
    comes_back(lab, book, &owner, &seen, &told).await?;
    Ok(next(&seen))
}

/// The power of the owner is cut, and comes back.
async fn power_cut(lab: &Lab, book: &Book, first: u64) -> anyhow::Result<()> {
    let owner = lab.owner("book").await?;
    let writer = Writer::start(book, first);
    writer.more(50, SOON).await?;
    lab.verb(&["kill", &owner]).await?;
    let cut = now();
    taken_over(lab, &owner).await?;
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    eprintln!("power cut: {:?} without an answer", seen.longest_outage());
    only_told_loss(lab, book, &seen, cut).await?;

    lab.verb(&["start", &owner]).await?;
    lab.is_online(&owner).await?;
    let before = book.pages().await?;
    lab.is_protected("book", 2).await?;
    assert!(book.pages().await?.is_superset(&before), "something was overwritten");
    Ok(())
}

async fn taken_over(lab: &Lab, from: &str) -> anyhow::Result<()> {
    lab.grain_is("book", "was taken over", |grain| {
        let node = grain.status.node.as_ref().map(|node| node.as_str());
        grain.status.state == GrainState::Running && node.is_some_and(|node| node != from)
    })
    .await
    .map(drop)
}

/// What was lost lies inside of the window that was told. Returns the lost pages.
async fn only_told_loss(
    lab: &Lab,
    book: &Book,
    seen: &Seen,
    cut: Timestamp,
) -> anyhow::Result<Vec<u64>> {
    let lost = seen.missing(&book.pages().await?);
    let grain = lab.api.grain("book").await?;
    let failover = grain.status.last_failover.context("no failover is told")?;
    let loss = failover.loss.context("the loss was not told")?;
    eprintln!(
        "told loss: {} ms; {} of {} acknowledged pages lost",
        loss.window_ms,
        lost.len(),
        seen.acknowledged.len()
    );
    for (page, at) in &lost {
        let inside = loss.from <= *at && *at <= loss.until.max(cut);
        assert!(inside, "page {page} was acknowledged at {at} outside of {loss:?}");
    }
    Ok(lost.into_iter().map(|(page, _)| page).collect())
}

/// The old owner is there again: its own line is an orphan with everything that was lost, and can be looked at.
async fn comes_back(
    lab: &Lab,
    book: &Book,
    node: &str,
    seen: &Seen,
    lost: &[u64],
) -> anyhow::Result<()> {
    let pages = book.pages().await?;
    lab.is_online(node).await?;
    let orphan = wait_for(SOON, "an orphan is listed", async || {
        Ok(lab.api.orphans().await?.into_iter().find(|orphan| orphan.node.as_str() == node))
    })
    .await?;
    let diff = lab.ctl(&["orphan", "diff", &orphan.id]).await?;
    for page in lost {
        assert!(diff.contains(&format!("{page:08}")), "page {page} is not in:\n{diff}");
    }
    // The place is on the orphan's own node; a person goes there.
    let mounted = lab.exec(node, &["scrapctl", "orphan", "mount", &orphan.id]).await?.good()?;
    let place = mounted.trim().strip_prefix(&format!("{node}:"));
    let place = place.with_context(|| format!("no place in: {mounted}"))?;
    let kept = lab.sh(node, &format!("find '{place}' -name '0*' -path '*/book/*'")).await?;
    for page in lost {
        assert!(kept.contains(&format!("{page:08}")), "page {page} is not in {place}");
    }
    let written = lab.sh(node, &format!("! touch '{place}/x' 2>/dev/null && echo refused")).await?;
    assert_eq!(written, "refused\n", "the view can be written to");
    lab.is_protected("book", 2).await?;
    let now = book.pages().await?;
    assert!(now.is_superset(&pages), "something was overwritten");
    assert!(seen.missing(&now).len() <= lost.len(), "more was lost afterwards");
    Ok(())
}

async fn nothing_lost(book: &Book, seen: &Seen) -> anyhow::Result<()> {
    let lost = seen.missing(&book.pages().await?);
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    eprintln!("{} acknowledged pages, none lost", seen.acknowledged.len());
    Ok(())
}

/// A number that no page of this writer has, even if it was not acknowledged.
fn next(seen: &Seen) -> u64 {
    seen.acknowledged.last().map_or(0, |(page, _)| page + 100_000)
}
