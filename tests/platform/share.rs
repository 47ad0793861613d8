//! Many grains of one template share its blocks, on the node where they were made and on those that keep copies.

use anyhow::Context;
use scrap_schema::api::{GrainState, GrainView};
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, NAMES, SOON, Spec};

use crate::prepared;

const GRAINS: u8 = 12;

/// Bytes that a node's pool has in use.
async fn used(lab: &Lab, node: &str) -> anyhow::Result<u64> {
    let dataset = lab.dataset(node);
    Ok(lab.sh(node, &format!("zfs get -Hp -o value used {dataset}")).await?.trim().parse()?)
}

/// Bytes of the largest template of a node.
async fn template(lab: &Lab) -> anyhow::Result<u64> {
    let text = format!("zfs get -Hp -r -o value referenced {}/templates", lab.dataset("ada"));
    let sizes = lab.sh("ada", &text).await?;
    sizes.lines().filter_map(|size| size.parse().ok()).max().context("there is no template")
}

#[tokio::test]
async fn grains_of_one_template_share_its_blocks() -> anyhow::Result<()> {
    let Some(lab) = prepared(Spec::default(), Kind::Busybox, 1).await? else { return Ok(()) };
    let mut before = 0;
    for node in NAMES {
        before += used(&lab, node).await?;
    }
    let books =
        (0..GRAINS).map(|number| Book::new(&format!("b{number}"), Kind::Busybox, 50 + number));
    let books = books.collect::<anyhow::Result<Vec<_>>>()?;
    let manifests: Vec<String> = books.iter().map(Book::manifest).collect();
    lab.apply(&manifests.join("---\n")).await?;
    wait_for(2 * SOON, "every grain runs and has its copy", async || {
        let grains: Vec<GrainView> = lab.api.get("/v1/grains").await?;
        let ready = grains.iter().filter(|grain| {
            let copies = grain.status.copies.iter().filter(|copy| copy.snapshot.is_some());
            grain.status.state == GrainState::Running && copies.count() >= 1
        });
        Ok((ready.count() == usize::from(GRAINS)).then_some(()))
    })
    .await?;
    for book in &books {
        wait_for(SOON, "a page is kept", async || book.write(1).await.map(Some)).await?;
        assert_eq!(book.pages().await?.len(), 1, "{}", book.name);
    }
    let mut after = 0;
    for node in NAMES {
        after += used(&lab, node).await?;
    }
    // Without sharing, the grain and its copy would each take what the template takes.
    let whole = template(&lab).await?;
    let each = after.saturating_sub(before) / u64::from(GRAINS);
    eprintln!("{GRAINS} grains with a copy each: {each} B a grain in all, the template {whole} B");
    assert!(each < whole, "{each} B a grain, {whole} B a template: the blocks are not shared");
    lab.end().await
}
