//! Grains and nodes come and go in order.

use anyhow::Context;
use scrap_schema::api::{GrainState, GrainView, NodeState, OperationView};
use scrap_schema::operation::OperationState;
use scrap_schema::timing::{KILL_MIN, Timing};
use scrap_schema::unit::Span;
use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::grain::{Guestbook, policy};
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, program, wait_for};
use serde_json::json;

#[tokio::test]
async fn apply_makes_a_grain_that_answers_and_has_copies() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let grain = cluster.api.grain("book").await?;
    assert_eq!(grain.status.node.map(|node| node.to_string()).as_deref(), Some("bob"));
    let entry = book.sign("hello").await?;
    assert_eq!((entry.node.as_str(), entry.number), ("bob", 1));

    // Applied again, nothing changes.
    let again = cluster.api.apply(&book.manifest()?).await?;
    assert!(!again.changed, "{again:#?}");
    cluster.end().await
}

#[tokio::test]
async fn a_drained_node_is_empty_until_it_is_undrained() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = cluster.guestbook("ada", 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;

    let drain: OperationView = cluster.api.post("/v1/nodes/ada/drain", &json!({})).await?;
    let drain = cluster.api.ended(drain.id, SOON).await?;
    assert_eq!(drain.state, OperationState::Succeeded, "{drain:#?}");
    let node = cluster.api.node("ada").await?;
    assert!(node.status.draining && node.status.grains.is_empty(), "{node:#?}");
    writer.more(20, SOON).await?;
    let seen = writer.end().await?;
    let entries = book.entries().await?;
    assert!(seen.missing(&entries).is_empty(), "{:?}", seen.missing(&entries));
    assert_ne!(entries.last().map(|entry| entry.node.as_str()), Some("ada"));

    // Nothing comes here, even if somebody wants it.
    let body = json!({"to": "ada"});
    let path = "/v1/grains/book/migrate";
    let refused = cluster.api.call(&scrap_tests::cluster::api::Call::post(path, &body)).await?;
    let there = match refused.json::<OperationView>() {
        Ok(operation) => cluster.api.ended(operation.id, SOON).await?.state,
        Err(_) => OperationState::Failed,
    };
    assert_eq!(there, OperationState::Failed);

    let node: scrap_schema::api::NodeView =
        cluster.api.post("/v1/nodes/ada/undrain", &json!({})).await?;
    assert!(!node.status.draining);
    let back: OperationView = cluster.api.post(path, &body).await?;
    let back = cluster.api.ended(back.id, SOON).await?;
    assert_eq!(back.state, OperationState::Succeeded, "{back:#?}");
    watch.end()?;
    cluster.end().await
}

#[tokio::test]
async fn a_node_that_says_goodbye_is_replaced_at_once() -> anyhow::Result<()> {
    let spec = Spec { on_shutdown: "stop", ..Spec::new(3) };
    let mut cluster = Cluster::start(spec).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let signed = book.sign("before").await?;
    let epoch = cluster.api.grain("book").await?.status.epoch;
    // What was acknowledged is on a copy before the node leaves.
    let every = std::time::Duration::from_secs(3);
    cluster
        .grain_is("book", "has fresh copies", |grain| {
            grain.status.lag_ms.is_some_and(|lag| u128::from(lag) < every.as_millis())
        })
        .await?;

    cluster.node_mut("bob")?.stop().await?;
    assert!(cluster.node("bob")?.grain_processes().is_empty());
    let node = cluster.api.node("bob").await?;
    assert_eq!(node.status.state, NodeState::Away, "no countdown: it has said goodbye");
    let grain = cluster
        .grain_is("book", "runs elsewhere", |grain| {
            grain.status.epoch > epoch && grain.status.state == GrainState::Running
        })
        .await?;
    assert_ne!(grain.status.node.map(|node| node.to_string()).as_deref(), Some("bob"));
    let entry = wait_for(SOON, "the book answers", async || Ok(Some(book.sign("after").await?)));
    assert_ne!(entry.await?.node, signed.node);
    watch.end()?;
    cluster.end().await
}

/// A grain whose keeper cannot be reached any more lives until its deadline, and nobody may start it before.
#[tokio::test]
async fn a_node_that_cannot_see_what_runs_says_no_goodbye() -> anyhow::Result<()> {
    let spec = Spec { on_shutdown: "stop", ..Spec::new(3) };
    let mut cluster = Cluster::start(spec).await?;
    let book = cluster.guestbook("bob", 2).await?;
    book.sign("before").await?;
    let watch = cluster.watch();
    let bob = cluster.node_mut("bob")?;
    std::fs::rename(bob.dir.join("run"), bob.dir.join("gone"))?;
    bob.stop().await?;
    assert_ne!(cluster.api.node("bob").await?.status.state, NodeState::Away);
    runs_elsewhere(&cluster, "bob").await?;
    watch.end()?;
    cluster.end().await
}

/// A keeper that is slow to begin may start its grain after the daemon has ended. A goodbye counts only while nobody suspects the
/// node, so that takes longer here than the daemon waits for the start.
#[tokio::test]
async fn a_node_with_a_start_under_way_says_no_goodbye() -> anyhow::Result<()> {
    let ms = Span::from_ms;
    let (suspect, stop, lease) = (ms(15_000), ms(18_000), ms(20_000));
    let (kill, tick) = (KILL_MIN, ms(3000));
    let timing = Timing { suspect, stop, lease, kill, tick, ..Timing::default() };
    let spec = Spec { on_shutdown: "stop", ..Spec::new(3).timing(timing) };
    let mut cluster = Cluster::start(spec).await?;
    let begun = slow_keeper(&mut cluster, "bob").await?;
    let book = Guestbook::new("book", cluster.port()?)?.on("bob");
    cluster.api.apply(&format!("{}---\n{}", policy(2), book.manifest()?)).await?;
    wait_for(SOON, "bob starts the book", async || Ok(begun.exists().then_some(()))).await?;
    cluster.node_mut("bob")?.stop().await?;
    assert_ne!(cluster.api.node("bob").await?.status.state, NodeState::Away);
    cluster.end().await
}

/// Starts a node again with a keeper that waits for long before it begins. Returns the file that is there as soon as one waits.
async fn slow_keeper(cluster: &mut Cluster, name: &str) -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let bob = cluster.node_mut(name)?;
    bob.stop().await?;
    let (begun, script) = (bob.dir.join("begun"), bob.dir.join("slow-keeper"));
    std::fs::write(&script, format!("#!/bin/sh\n: > {}\nexec sleep 12\n", begun.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let config = bob.dir.join("scrapd.toml");
    let keeper = program("scrap-keeper")?.display().to_string();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace(&keeper, &script.display().to_string()))?;
    bob.start()?;
    cluster.node_is(name, NodeState::Online).await?;
    Ok(begun)
}

async fn runs_elsewhere(cluster: &Cluster, than: &str) -> anyhow::Result<()> {
    let elsewhere = |grain: &GrainView| {
        let node = grain.status.node.as_ref();
        grain.status.state == GrainState::Running && node.is_some_and(|it| it.as_str() != than)
    };
    cluster.grain_is("book", "runs elsewhere", elsewhere).await.map(|_| ())
}

#[tokio::test]
async fn a_node_that_lost_its_log_never_runs_again() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let bob = cluster.node_mut("bob")?;
    bob.stop().await?;
    for file in ["raft.db", "raft.db-wal", "raft.db-shm"] {
        let path = bob.data().join(file);
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    bob.start()?;
    let ended = bob.ended(SOON).await?;
    assert!(!ended.success());
    assert!(bob.tail().contains("raft.db` is missing"), "{}", bob.tail());
    cluster.end().await
}

/// Its storage is not there at the start: it says so, votes, leads no more, does nothing else, and goes on when it is back.
#[tokio::test]
async fn a_node_without_its_storage_votes_and_says_why() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let first = cluster.leader().await?;
    cluster.guestbook(&first, 1).await?;
    let node = cluster.node_mut(&first)?;
    node.kill9_with_grains()?;
    let (pool, away) = (node.data().join("pool"), node.data().join("away"));
    std::fs::rename(&pool, &away)?;
    std::fs::write(&pool, "no folder")?;
    node.start()?;
    let (server, pid) = (node.server(), node.process());
    let refusal = wait_for(SOON, "it says why", async || {
        let answer = cluster.api.ask(&server, &Call::get("/v1/cluster")).await;
        Ok(answer.ok().filter(|answer| answer.status == 503))
    })
    .await?;
    let says = |word: &str| refusal.body.contains(word);
    assert!(says("cannot work yet") && says("pool") && says("hint"), "{}", refusal.body);
    runs_elsewhere(&cluster, &first).await?;

    // Its vote counts: without it nothing could be changed.
    let owner = cluster.api.grain("book").await?.status.node.context("nobody runs it")?;
    let mut others = ["ada", "bob", "cy"].into_iter();
    let other = others.find(|name| *name != first && *name != owner.as_str());
    let other = other.context("there are three")?;
    cluster.node_mut(other)?.kill9()?;
    let server = cluster.node(owner.as_str())?.server();
    wait_for(SOON, "something is changed", async || {
        let answer = cluster.api.ask(&server, &Call::apply(&policy(2))).await;
        Ok(answer.ok().filter(|answer| answer.status == 200))
    })
    .await?;
    cluster.node_mut(other)?.start()?;

    let node = cluster.node_mut(&first)?;
    std::fs::remove_file(&pool)?;
    std::fs::rename(&away, &pool)?;
    assert_eq!(node.process(), pid, "the daemon did not live through it");
    cluster.all_online().await?;
    cluster.is_protected("book", 2).await?;
    cluster.end().await
}
