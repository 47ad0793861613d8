//! Two nodes: nobody can tell a dead neighbour from a cut cable, so nothing is given away and nothing stops.

use scrap_schema::api::NodeState;
use scrap_schema::unit::Span;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, now, wait_for};

#[tokio::test]
async fn with_two_nodes_grains_go_on_when_the_other_one_dies() -> anyhow::Result<()> {
    for victim in ["ada", "bob"] {
        let mut cluster = Cluster::start(Spec::new(2)).await?;
        let survivor = if victim == "ada" { "bob" } else { "ada" };
        let book = cluster.guestbook(survivor, 1).await?;
        let writer = Writer::start(&book);
        writer.more(20, SOON).await?;
        let before = cluster.node(survivor)?.grain_processes();
        cluster.node_mut(victim)?.kill9_with_grains()?;
        // Far longer than the lease, so that it would have ended by now.
        let end = now() + Span::from_ms(3 * cluster.spec().timing.lease.ms());
        wait_for(SOON, "the grain answers after three leases", async || {
            let seen = writer.seen();
            Ok(seen.acknowledged.last().is_some_and(|(_, at)| *at > end).then_some(()))
        })
        .await?;
        assert_eq!(cluster.node(survivor)?.grain_processes(), before, "without {victim}");
        if victim == "bob" {
            // The one voter is left: it says so, and goes on.
            wait_for(SOON, "the dead node is fenced", async || {
                let node = cluster.api.node("bob").await?;
                Ok((node.status.state == NodeState::Fenced).then_some(()))
            })
            .await?;
        }
        cluster.node_mut(victim)?.start()?;
        cluster.all_online().await?;
        cluster.is_protected("book", 1).await?;
        let seen = writer.end().await?;
        assert!(seen.outages.is_empty(), "without {victim}: {:?}", seen.outages);
        cluster.end().await?;
    }
    Ok(())
}
