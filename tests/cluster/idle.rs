//! A cluster in which nothing happens writes nothing to disk: SD cards wear out.

use std::time::Duration;

use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::processes::Process;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};

/// Seconds to watch.
const VARIABLE: &str = "SCRAP_IDLE_SECS";

#[tokio::test]
async fn an_idle_cluster_writes_nothing_to_disk() -> anyhow::Result<()> {
    // A busy machine is late with heartbeats, and every line about that in the log is a write.
    let seconds = std::env::var(VARIABLE).ok().map(|text| text.parse()).transpose()?.unwrap_or(20);
    let mut cluster = Cluster::start(Spec { log: "error", ..Spec::new(3) }).await?;
    cluster.guestbook("ada", 2).await?;
    let watched = |cluster: &Cluster| -> anyhow::Result<Vec<(Process, u64)>> {
        let mut all = Vec::new();
        for node in &cluster.nodes {
            all.extend(node.process());
            all.extend(node.keepers());
        }
        all.into_iter().map(|process| Ok((process, process.written()?))).collect()
    };
    // Quiet once the last copies of the start are over, and a second look at files that were written just before them.
    let mut before = watched(&cluster)?;
    wait_for(SOON, "six seconds pass without a write", async || {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let now = watched(&cluster)?;
        let quiet = now == before;
        before = now;
        Ok(quiet.then_some(()))
    })
    .await?;
    let index = async || cluster.api.hash(&cluster.node("ada")?.server()).await.map(|it| it.index);
    let indexed = index().await?;
    // The only sleep of this suite that is no pause between two looks: doing nothing is the test.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = watched(&cluster)?;
    eprintln!("{} processes, {seconds} s", after.len());
    // What was written should be an entry; then it says what for.
    let entries = index().await? - indexed;
    let events: String = cluster.api.call(&Call::get("/v1/events?limit=5")).await?.body;
    let what = format!("bytes written to disk, by process; {entries} entries, events: {events}");
    assert_eq!(after, before, "{what}");
    assert_eq!(after.len(), 4, "three daemons and a keeper");
    cluster.end().await
}
