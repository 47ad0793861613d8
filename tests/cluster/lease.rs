//! The lease: what runs when a daemon is away, hangs, or comes back in time.

use rustix::process::Signal;
use scrap_schema::api::{GrainState, NodeState};
use scrap_schema::timing::Timing;
use scrap_schema::unit::Span;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};

/// A lease long enough to start a daemon again, even on a busy machine.
pub(crate) fn long_lease() -> Timing {
    let ms = Span::from_ms;
    Timing {
        renew: ms(200),
        suspect: ms(4000),
        stop: ms(15_000),
        lease: ms(20_000),
        kill: ms(2000),
        tick: ms(3000),
        ticks: 8,
    }
}

#[tokio::test]
async fn a_daemon_that_is_killed_and_back_in_time_stops_no_grain() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).timing(long_lease())).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    let before = cluster.node("bob")?.grain_processes();
    for _ in 0..3 {
        cluster.node_mut("bob")?.kill9()?;
        writer.more(20, SOON).await?;
        cluster.node_mut("bob")?.start()?;
        cluster.node_is("bob", NodeState::Online).await?;
        writer.more(20, SOON).await?;
    }
    assert_eq!(cluster.node("bob")?.grain_processes(), before, "the same processes all the time");
    let seen = writer.end().await?;
    assert!(seen.outages.is_empty(), "{:?}", seen.outages);
    assert!(book.entries().await?.iter().all(|entry| entry.epoch == "1"));
    cluster.end().await
}

#[tokio::test]
async fn an_owner_that_is_back_before_the_fence_keeps_its_grain() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).timing(long_lease())).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    book.sign("before").await?;
    let epoch = cluster.api.grain("book").await?.status.epoch;
    cluster.node_mut("bob")?.kill9_with_grains()?;
    cluster.node_is("bob", NodeState::Suspect).await?;
    cluster.node_mut("bob")?.start()?;
    cluster.node_is("bob", NodeState::Online).await?;
    let entry = wait_for(SOON, "the book answers", async || Ok(Some(book.sign("after").await?)));
    assert_eq!((entry.await?.node.as_str(), book.entries().await?.len()), ("bob", 2));
    let grain = cluster.api.grain("book").await?;
    assert_eq!(grain.status.epoch, epoch);
    assert!(cluster.api.orphans().await?.is_empty());
    watch.end()?;
    cluster.end().await
}

#[tokio::test]
async fn a_daemon_that_hangs_loses_its_grain_and_nothing_runs_twice() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(50, SOON).await?;
    cluster.node("bob")?.signal(Signal::STOP);

    // The keeper ends the grain although the daemon hangs, and before anybody else starts it.
    let bob = cluster.node("bob")?;
    let epoch = book.entries().await?.last().map(|entry| entry.epoch.clone());
    wait_for(SOON, "nothing of the grain is left on bob", async || {
        Ok(bob.grain_processes().is_empty().then_some(()))
    })
    .await?;
    let grain = cluster
        .grain_is("book", "runs elsewhere", |grain| {
            grain.status.state == GrainState::Running
                && grain.status.node.as_ref().is_some_and(|node| node.as_str() != "bob")
        })
        .await?;
    assert_ne!(Some(grain.status.epoch.to_string()), epoch);
    writer.more(50, SOON).await?;
    assert!(cluster.node("bob")?.grain_processes().is_empty());

    cluster.node("bob")?.signal(Signal::CONT);
    cluster.node_is("bob", NodeState::Online).await?;
    writer.more(50, SOON).await?;
    cluster.is_protected("book", 2).await?;
    let seen = writer.end().await?;
    eprintln!("seen outage: {:?}", seen.longest_outage());
    crate::migrate::epochs(&book.entries().await?)?;
    watch.end()?;
    cluster.end().await
}

/// A countdown that nobody lives to see the end of: what fails over has been proven dead.
fn endless_countdown() -> Timing {
    let ms = Span::from_ms;
    Timing {
        renew: ms(200),
        suspect: ms(1500),
        stop: ms(3000),
        lease: ms(5000),
        kill: ms(2000),
        tick: ms(600_000),
        ticks: 8,
    }
}

#[tokio::test]
async fn the_guard_of_a_node_whose_daemon_and_keepers_hang_ends_its_grains_and_the_countdown()
-> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).timing(endless_countdown())).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    let bob = cluster.node("bob")?;
    bob.signal(Signal::STOP);
    for keeper in bob.keepers() {
        keeper.signal(Signal::STOP);
    }
    cluster
        .grain_is("book", "runs elsewhere", |grain| {
            grain.status.state == GrainState::Running
                && grain.status.node.as_ref().is_some_and(|node| node.as_str() != "bob")
        })
        .await?;
    let bob = cluster.node("bob")?;
    assert!(bob.grain_processes().is_empty() && bob.keepers().is_empty());
    writer.more(20, SOON).await?;
    // It wakes up with a lease that it believes in, and everything is over.
    bob.signal(Signal::CONT);
    cluster.node_is("bob", NodeState::Online).await?;
    writer.more(20, SOON).await?;
    cluster.is_protected("book", 2).await?;
    writer.end().await?;
    crate::migrate::epochs(&book.entries().await?)?;
    watch.end()?;
    cluster.end().await
}

#[tokio::test]
async fn a_leader_that_hangs_is_replaced_and_does_not_act_on_what_it_knew() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let leader = cluster.leader().await?;
    let book = cluster.guestbook(&leader, 2).await?;
    let watch = cluster.watch();
    book.sign("before").await?;
    cluster.node(&leader)?.signal(Signal::STOP);
    cluster
        .grain_is("book", "runs elsewhere", |grain| {
            grain.status.state == GrainState::Running
                && grain.status.node.as_ref().is_some_and(|node| node.as_str() != leader)
        })
        .await?;
    let entry = wait_for(SOON, "the book answers", async || Ok(Some(book.sign("after").await?)));
    assert_ne!(entry.await?.node, leader);
    cluster.node(&leader)?.signal(Signal::CONT);
    cluster.all_online().await?;
    cluster.is_protected("book", 2).await?;
    watch.end()?;
    cluster.end().await
}
