//! Whole clusters with real ZFS, LXC and networks, each in a lab of its own: what an operator, a visitor and an intruder see.
//! `make platform` runs them; no test measures speed, what is measured is printed.
#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stderr,
    reason = "what was measured is told to whoever reads the test's output"
)]

mod announced;
mod by_hand;
mod chaos;
mod full;
mod health;
mod isolation;
mod lab;
mod names;
mod planted;
mod share;
mod story;
mod troubles;

use scrap_tests::platform::book::{Book, Kind, NETWORK, policy};
use scrap_tests::platform::{Lab, Spec, refusal, template};

/// A lab with a network, the policy `test`, and a template.
async fn prepared(spec: Spec, kind: Kind, copies: u32) -> anyhow::Result<Option<Lab>> {
    if refusal().is_some() {
        return scrap_tests::platform::up(spec).await;
    }
    // Cooked before the thread moves into the lab, from where no package is reached.
    let file = template::cook(kind, &[]).await?;
    let Some(lab) = scrap_tests::platform::up(spec).await? else { return Ok(None) };
    lab.import(kind, &file).await?;
    lab.apply(&format!("{NETWORK}---\n{}", policy(copies))).await?;
    Ok(Some(lab))
}

/// Makes a grain of a book and waits until it answers its visitor.
async fn launched(lab: &Lab, book: &Book, copies: usize) -> anyhow::Result<()> {
    lab.apply(&book.manifest()).await?;
    lab.is_protected(&book.name, copies).await?;
    scrap_tests::cluster::wait_for(scrap_tests::platform::SOON, "the book answers", async || {
        book.front().await.map(Some)
    })
    .await?;
    Ok(())
}
