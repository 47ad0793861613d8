//! Work on network or machines: nothing is ended by a lease and nothing is given away meanwhile, and afterwards it is as before.

use rustix::process::Signal;
use scrap_schema::api::{ClusterView, GrainState, NodeState};
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

#[tokio::test]
async fn a_disarmed_cluster_ends_nothing_and_gives_nothing_away_until_it_is_armed()
-> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    wait_for(SOON, "the grain is under the lease", async || {
        Ok(cluster.api.cluster().await?.arming.is_empty().then_some(()))
    })
    .await?;
    let before = cluster.node("bob")?.grain_processes();
    let disarmed: ClusterView =
        cluster.api.post("/v1/cluster/disarm", &json!({"by": "kim", "for": "1h"})).await?;
    assert_eq!(disarmed.disarmed.len(), 1);
    assert!(disarmed.reasons.iter().any(|it| it.starts_with("the cluster is disarmed by kim")));
    wait_for(SOON, "its owner has taken the deadline away", async || {
        Ok(cluster.api.cluster().await?.disarming.is_empty().then_some(()))
    })
    .await?;

    // Its daemon hangs until it counts as dead, which is longer than every lease.
    cluster.node("bob")?.signal(Signal::STOP);
    cluster.node_is("bob", NodeState::Fenced).await?;
    writer.more(20, SOON).await?;
    assert_eq!(cluster.node("bob")?.grain_processes(), before, "the same processes all the time");
    let grain = cluster.api.grain("book").await?;
    assert_eq!((grain.status.epoch.0, grain.status.last_failover), (1, None));

    cluster.node("bob")?.signal(Signal::CONT);
    cluster.node_is("bob", NodeState::Online).await?;
    let armed: ClusterView = cluster.api.post("/v1/cluster/arm", &json!({"by": "kim"})).await?;
    assert!(armed.disarmed.is_empty());
    wait_for(SOON, "the grain is under the lease again", async || {
        Ok(cluster.api.cluster().await?.arming.is_empty().then_some(()))
    })
    .await?;
    assert_eq!(cluster.node("bob")?.grain_processes(), before);
    cluster.node("bob")?.signal(Signal::STOP);
    cluster
        .grain_is("book", "runs elsewhere", |grain| {
            grain.status.state == GrainState::Running
                && grain.status.node.as_ref().is_some_and(|node| node.as_str() != "bob")
        })
        .await?;
    assert!(cluster.node("bob")?.grain_processes().is_empty(), "it ended with the lease");
    cluster.node("bob")?.signal(Signal::CONT);
    writer.more(20, SOON).await?;
    writer.end().await?;
    watch.end()?;
    cluster.end().await
}
