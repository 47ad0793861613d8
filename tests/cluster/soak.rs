//! Daemons are killed again and again while somebody writes through the API: what was acknowledged is never lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use scrap_schema::api::PolicyView;
use scrap_tests::cluster::api::{Api, Call};
use scrap_tests::cluster::node::Node;
use scrap_tests::cluster::{Cluster, Spec};

/// Rounds of killing; `make soak` wants 100.
const VARIABLE: &str = "SCRAP_KILL_ROUNDS";

#[tokio::test]
async fn no_acknowledged_write_is_lost_however_often_daemons_are_killed() -> anyhow::Result<()> {
    let rounds = std::env::var(VARIABLE).ok().map(|text| text.parse()).transpose()?.unwrap_or(20);
    let mut cluster = Cluster::start(Spec { log: "info", ..Spec::new(3) }).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| tokio::spawn(write(cluster.api.clone(), writer, stop.clone())))
        .collect();
    for round in 0..rounds {
        let number = victim(round);
        let node = cluster.nodes.get_mut(number).context("three nodes")?;
        node.kill9()?;
        node.start()?;
        // Sometimes the next one is killed while this one still comes up.
        if round % 4 != 3 {
            let server = cluster.nodes.get(number).map(Node::server).context("three nodes")?;
            cluster.answers(&server).await?;
        }
        cluster.all_online().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for (number, writer) in writers.into_iter().enumerate() {
        let last = writer.await??;
        acknowledged += last;
        let policy: PolicyView = cluster.api.get(&format!("/v1/policies/soak-{number}")).await?;
        let there = policy.spec.snapshots.keep_last;
        // An unanswered write may have been obeyed: one more than acknowledged, never less.
        assert!(there == last || there == last + 1, "acknowledged {last}, there is {there}");
    }
    eprintln!("{rounds} kills, {acknowledged} acknowledged writes");
    assert!(acknowledged > 0);
    cluster.end().await
}

/// Which node: an arithmetic sequence that looks like chance and is the same every time.
fn victim(round: u32) -> usize {
    let mixed = u64::from(round).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    usize::try_from(mixed % 3).unwrap_or_default()
}

/// Counts up in a policy. Returns the last acknowledged number.
async fn write(api: Api, writer: usize, stop: Arc<AtomicBool>) -> anyhow::Result<u32> {
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) && last < 9_999 {
        let next = last + 1;
        let manifest = format!(
            "apiVersion: scrap/v1\nkind: Policy\nmetadata: {{name: soak-{writer}}}\nspec:\n  \
             snapshots: {{keep-last: {next}}}\n"
        );
        let answer = api.call(&Call::apply(&manifest)).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        last = next;
    }
    Ok(last)
}
