//! Many grains.

use std::time::Instant;

use scrap_schema::api::{GrainState, GrainView};
use scrap_tests::cluster::grain::{idle_grain, policy};
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};

#[tokio::test]
async fn two_hundred_grains_are_listed_and_every_node_knows_the_same() -> anyhow::Result<()> {
    const GRAINS: usize = 200;
    let cluster = Cluster::start(Spec { log: "info", ..Spec::new(3) }).await?;
    cluster.api.apply(&policy(1)).await?;
    // A quarter of them runs: every one is a process and a keeper.
    let grains = (0..GRAINS).map(|number| {
        let grain = idle_grain(&format!("idle-{number:03}"), "test");
        let running = format!("  running: {}\n  protect", number % 4 == 0);
        grain.replace("  protect", &running)
    });
    let began = Instant::now();
    cluster.api.apply(&grains.collect::<Vec<_>>().join("---\n")).await?;
    eprintln!("applied after {:?}", began.elapsed());
    wait_for(2 * SOON, "every grain is placed, and runs if it should", async || {
        let grains: Vec<GrainView> = cluster.api.get("/v1/grains").await?;
        let ready = grains.iter().filter(|grain| {
            let state = grain.status.state;
            let wanted = if grain.spec.running { GrainState::Running } else { GrainState::Stopped };
            state == wanted && grain.status.node.is_some()
        });
        Ok((ready.count() == GRAINS).then_some(()))
    })
    .await?;
    eprintln!("as wanted after {:?}", began.elapsed());
    let began = Instant::now();
    let list: Vec<GrainView> = cluster.api.get("/v1/grains").await?;
    eprintln!("{} grains listed in {:?}", list.len(), began.elapsed());
    assert_eq!(list.len(), GRAINS);
    let owners: std::collections::BTreeSet<_> =
        list.iter().filter_map(|grain| grain.status.node.clone()).collect();
    assert_eq!(owners.len(), 3, "they are spread");
    cluster.hashes_agree().await?;
    cluster.end().await
}
