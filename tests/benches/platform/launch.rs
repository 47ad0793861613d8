//! How long it takes until a new grain answers, and what many of them cost.

use std::time::Instant;

use scrap_schema::api::{GrainState, GrainView};
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, NAMES, SOON};

use crate::{median, plain};

/// Grains that are launched one after another.
const ROUNDS: u8 = 10;
/// Grains that are launched together.
const MANY: u8 = 50;

/// From the operator's command until a grain answers at its address, beside what its files alone take the plain tools.
pub(crate) async fn launch(lab: &Lab) -> anyhow::Result<()> {
    for (kind, first) in [(Kind::Busybox, 40), (Kind::Nginx, 40 + ROUNDS)] {
        let (mut times, mut plain) = (Vec::new(), Vec::new());
        for number in 0..ROUNDS {
            let name = format!("web{}", first + number);
            let book = Book::new(&name, kind, first + number)?.on("ada");
            let began = Instant::now();
            lab.apply(&book.manifest()).await?;
            wait_for(SOON, "it answers", async || book.front().await.map(Some)).await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            plain.push(plain::clone(lab, &name).await?.as_secs_f64() * 1000.0);
        }
        println!(
            "{kind:?}: from `scrapctl apply` until http answers: median {:.0} ms; \
             plain `zfs clone`, `zfs mount` and `chown -R` of its files alone: {:.0} ms",
            median(times),
            median(plain)
        );
    }
    Ok(())
}

async fn used(lab: &Lab) -> anyhow::Result<u64> {
    let mut all = 0;
    for node in NAMES {
        let text = format!("zfs get -Hp -o value used {}", lab.dataset(node));
        all += lab.sh(node, &text).await?.trim().parse::<u64>()?;
    }
    Ok(all)
}

/// Many grains of one template, all at once.
pub(crate) async fn many(lab: &Lab) -> anyhow::Result<()> {
    let books =
        (0..MANY).map(|number| Book::new(&format!("b{number}"), Kind::Busybox, 40 + number));
    let manifests: Vec<String> =
        books.collect::<anyhow::Result<Vec<_>>>()?.iter().map(Book::manifest).collect();
    let before = used(lab).await?;
    let began = Instant::now();
    lab.apply(&manifests.join("---\n")).await?;
    wait_for(10 * SOON, "all run", async || {
        let grains: Vec<GrainView> = lab.api.get("/v1/grains").await?;
        let running = grains.iter().filter(|grain| grain.status.state == GrainState::Running);
        Ok((running.count() == usize::from(MANY)).then_some(()))
    })
    .await?;
    let took = began.elapsed().as_secs_f64();
    let more = used(lab).await?.saturating_sub(before);
    println!(
        "{MANY} grains of one template run after {took:.1} s and take {} KiB more",
        more >> 10
    );
    Ok(())
}
