//! How long a grain of nginx does not answer while it moves, by the amount of its data.

use std::time::Duration;

use anyhow::ensure;
use scrap_schema::api::OperationView;
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::watcher::Watcher;
use scrap_tests::platform::writer::Writer;
use scrap_tests::platform::{Lab, SOON};
use serde_json::json;
use tokio::time::Instant;

use crate::{median, plain};

const SIZES: [(&str, usize); 3] = [("10 MB", 10 << 20), ("200 MB", 200 << 20), ("1 GB", 1 << 30)];

pub(crate) async fn migrate(lab: &Lab) -> anyhow::Result<()> {
    let book = Book::new("book", Kind::Nginx, 40)?.on("ada");
    lab.apply(&book.manifest()).await?;
    wait_for(SOON, "the book answers", async || book.front().await.map(Some)).await?;
    let mut there = 0;
    let mut first = 0;
    for (what, bytes) in SIZES {
        book.fill(bytes - there).await?;
        there = bytes;
        lab.is_protected("book", 1).await?;
        let writer = Writer::start(&book, first);
        let watcher = Watcher::start(&book);
        let (mut told, mut unserved) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            writer.more(50, SOON).await?;
            let to = lab.other(&lab.owner("book").await?);
            let began = Instant::now();
            let asked: OperationView =
                lab.api.post("/v1/grains/book/migrate", &json!({"to": to})).await?;
            let moved = lab.api.ended(asked.id, 10 * SOON).await?;
            ensure!(moved.state == OperationState::Succeeded, "{moved:#?}");
            told.extend(moved.summary.downtime_ms.map(|ms| ms as f64));
            writer.more(50, SOON).await?;
            unserved.push(watcher.longest_pause(began).as_secs_f64() * 1000.0);
        }
        drop(watcher);
        let seen = writer.end().await?;
        let lost = seen.missing(&book.pages().await?);
        let outside = seen.outages.iter().map(Duration::as_secs_f64).map(|s| s * 1000.0).collect();
        println!(
            "{what}: median {:.0} ms without an answer to anybody (a visit every 20 ms), {:.0} ms told, \
             {:.0} ms for a writer who waits half a second for each answer; {} of {} acknowledged pages lost",
            median(unserved),
            median(told),
            median(outside),
            lost.len(),
            seen.acknowledged.len()
        );
        let plain = plain::hand_over(lab, u64::try_from(bytes)?).await?.as_secs_f64() * 1000.0;
        println!(
            "   plain `zfs unmount`, `snapshot`, `send | receive`, `mount` of as much: {plain:.0} ms"
        );
        first = seen.acknowledged.last().map_or(0, |(page, _)| page + 100_000);
    }
    Ok(())
}
