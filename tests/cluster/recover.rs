//! The majority is gone for good: the cluster begins anew from the node that is left, and the others come back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use scrap_schema::api::{GrainState, NodeState, OperationView, QuorumView};
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::grain::{Entry, Guestbook, idle_grain, policy};
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

/// What a node prints of what it has.
async fn shown(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let (ok, said) = cluster.node(name)?.once(&["recover", "--show"]).await?;
    anyhow::ensure!(ok, "{said}");
    Ok(said)
}

async fn fail_over(cluster: &Cluster, grain: &str, to: &str) -> anyhow::Result<()> {
    let body = json!({"ownerIsOff": true, "to": to});
    let asked: OperationView =
        cluster.api.post(&format!("/v1/grains/{grain}/failover"), &body).await?;
    let ended = cluster.api.ended(asked.id, SOON).await?;
    anyhow::ensure!(ended.state == OperationState::Succeeded, "{ended:#?}");
    Ok(())
}

/// `book` on bob with a copy on ada, `alone` on cy without any.
async fn with_books() -> anyhow::Result<(Cluster, Guestbook, Guestbook)> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let book = Guestbook::new("book", cluster.port()?)?.on("bob");
    let mut lone = Guestbook::new("alone", cluster.port()?)?.on("cy");
    "none".clone_into(&mut lone.protect);
    let none = policy(0).replace("name: test", "name: none");
    let place = "  place: {prefer: bob}\n";
    let books =
        format!("{}---\n{none}---\n{}---\n{}", policy(2), book.manifest()?, lone.manifest()?);
    assert!(books.contains(place));
    cluster.api.apply(&books).await?;
    cluster.is_protected("book", 2).await?;
    cluster.is_protected("alone", 0).await?;
    Ok((cluster, book, lone))
}

#[tokio::test]
async fn from_the_node_that_is_left_everything_comes_back_and_nobody_runs_twice()
-> anyhow::Result<()> {
    let (mut cluster, book, lone) = with_books().await?;
    let watch = cluster.watch();
    book.sign("first").await?;
    lone.sign("only here").await?;
    let signed = Instant::now();
    wait_for(SOON, "the copy on ada has it", async || {
        let grain = cluster.api.grain("book").await?;
        let mut copies = grain.status.copies.iter();
        let lag = copies.find(|copy| copy.node.as_str() == "ada").and_then(|copy| copy.lag_ms);
        Ok(lag.filter(|lag| u128::from(*lag) < signed.elapsed().as_millis()).map(|_| ()))
    })
    .await?;

    // Ada is cut off; the others go on: their log and their data are newer.
    cluster.node_mut("ada")?.kill9_with_grains()?;
    cluster.api.apply(&idle_grain("never-seen", "none")).await?;
    // If ada led, the lease of a fast test is over before the next one does, and the book is away for a moment.
    let newer = async || Ok(Some(book.sign("after ada was gone").await?));
    wait_for(SOON, "the book takes what ada never sees", newer).await?;
    for name in ["bob", "cy"] {
        cluster.node_mut(name)?.kill9_with_grains()?;
    }
    recover_from_ada(&mut cluster).await?;
    let waits = cluster.api.grain("book").await?;
    assert_eq!(waits.status.state, GrainState::Lost, "nothing moves without a word: {waits:#?}");
    fail_over(&cluster, "book", "ada").await?;
    let entries = answers(&book).await?;
    assert_eq!(entries.first().map(|entry| entry.text.as_str()), Some("first"));
    book.sign("in the new generation").await?;

    the_others_are_refused(&mut cluster).await?;
    they_join_again(&mut cluster).await?;
    let orphan = wait_for(SOON, "bob's newer data are kept aside", async || {
        Ok(cluster.api.orphans().await?.into_iter().find(|orphan| orphan.node.as_str() == "bob"))
    })
    .await?;
    assert_eq!(orphan.grain_name.as_ref().map(|name| name.as_str()), Some("book"));
    fail_over(&cluster, "alone", "cy").await?;
    let entries = answers(&lone).await?;
    assert_eq!(entries.first().map(|entry| entry.text.as_str()), Some("only here"));
    cluster.is_protected("book", 2).await?;
    let text: String = cluster.api.call(&Call::get("/v1/events?limit=1000")).await?.body;
    assert!(text.contains("begins anew from node ada as generation 1"), "{text}");
    assert!(watch.end()? > 0);
    cluster.end().await
}

async fn answers(book: &Guestbook) -> anyhow::Result<Vec<Entry>> {
    wait_for(SOON, "the book answers", async || Ok(Some(book.entries().await?))).await
}

/// Everything that is refused on the way, and then the deed.
async fn recover_from_ada(cluster: &mut Cluster) -> anyhow::Result<()> {
    let (mine, theirs) = (shown(cluster, "ada").await?, shown(cluster, "bob").await?);
    let other = cluster.root().join("bob.txt");
    std::fs::write(&other, &theirs)?;
    let other = other.to_string_lossy().into_owned();
    let ada = cluster.node("ada")?;
    let (ok, said) = ada.once(&["recover", "--other", &other, "--confirm", "test"]).await?;
    assert!(!ok && said.contains("node bob has more of the log"), "{said}\n{mine}\n{theirs}");
    let (ok, said) = ada.once(&["recover"]).await?;
    assert!(!ok && said.contains("--confirm test"), "{said}");
    let (ok, said) = ada.once(&["recover", "--confirm", "other"]).await?;
    assert!(!ok && said.contains("not the name of this cluster"), "{said}");
    let (ok, said) = ada.once(&["recover", "--dry-run"]).await?;
    assert!(ok && said.contains("scrapctl failover book --owner-is-off"), "{said}");
    assert_eq!(shown(cluster, "ada").await?, mine, "a dry run changes nothing");

    let (ok, said) = ada.once(&["recover", "--confirm", "test"]).await?;
    assert!(ok, "{said}");
    assert!(ada.data().join("before-recovery-1/raft.db").exists(), "what was there is kept");
    let server = ada.server();
    cluster.node_mut("ada")?.start()?;
    cluster.answers(&server).await?;
    let view: QuorumView = cluster.api.get("/v1/cluster/quorum").await?;
    assert_eq!((view.generation, view.voters, view.answering), (1, 1, Some(1)), "{view:#?}");
    Ok(())
}

/// The old majority comes back, and would be one.
async fn the_others_are_refused(cluster: &mut Cluster) -> anyhow::Result<()> {
    for name in ["bob", "cy"] {
        cluster.node_mut(name)?.start()?;
    }
    for name in ["bob", "cy"] {
        let ended = cluster.node_mut(name)?.ended(SOON).await?;
        assert!(!ended.success(), "{name} should end: {ended}");
        let said = cluster.node(name)?.logged();
        assert!(said.contains("scrapd join --again"), "{name} is told what to do:\n{said}");
        assert!(cluster.node(name)?.grain_processes().is_empty());
        let (started, said) = cluster.node(name)?.once(&["run"]).await?;
        assert!(!started && said.contains("was left behind"), "{said}");
    }
    Ok(())
}

/// As new nodes, with what they have.
async fn they_join_again(cluster: &mut Cluster) -> anyhow::Result<()> {
    let server = cluster.node("ada")?.server();
    for name in ["bob", "cy"] {
        let again = ["join", "--again", "--server", server.as_str(), "--timeout", "60s"];
        cluster.node(name)?.prepare(&again).await?;
        cluster.node_mut(name)?.start()?;
        cluster.node_is(name, NodeState::Online).await?;
    }
    cluster.all_online_of(3).await
}

#[tokio::test]
async fn recovering_is_refused_where_it_is_not_needed_or_not_safe() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(2)).await?;
    let (ok, said) = cluster.node("bob")?.once(&["recover", "--show"]).await?;
    assert!(!ok && said.contains("in use by process"), "its daemon runs: {said}");
    cluster.node_mut("bob")?.stop().await?;
    let (ok, said) = cluster.node("bob")?.once(&["recover", "--confirm", "test"]).await?;
    assert!(!ok && said.contains("ada still answers"), "{said}");
    cluster.node_mut("ada")?.stop().await?;
    let (ok, said) = cluster.node("ada")?.once(&["recover", "--confirm", "test"]).await?;
    assert!(!ok && said.contains("is the only voter"), "{said}");

    // The learner of two nodes can go on alone.
    let (ok, said) = cluster.node("bob")?.once(&["recover", "--confirm", "test"]).await?;
    assert!(ok, "{said}");
    cluster.node_mut("bob")?.start()?;
    let server = cluster.node("bob")?.server();
    cluster.answers(&server).await?;
    cluster.node_mut("ada")?.start()?;
    let ended = cluster.node_mut("ada")?.ended(SOON).await?;
    assert!(!ended.success(), "the one voter of before was left behind: {ended}");
    cluster.end().await
}

/// When a recovery is killed: as soon as this is true of its folder.
type Moment = (&'static str, fn(&Path) -> bool);

fn has_generation(data: &Path) -> bool {
    let text = fs::read(data.join("node.json")).unwrap_or_default();
    let identity: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    identity.is_some_and(|identity| identity["generation"] == 1)
}

/// Every change that a recovery makes, in order.
const MOMENTS: [Moment; 6] = [
    ("it has looked", |data| data.join("raft.db-wal").exists()),
    ("it copies what is here", |data| data.join("before-recovery-1.unfinished").exists()),
    ("that is kept", |data| data.join("before-recovery-1").exists()),
    ("it has begun", |data| data.join("recover.unfinished").exists()),
    ("it has entered the generation", has_generation),
    ("it was about to end", |data| {
        has_generation(data) && !data.join("recover.unfinished").exists()
    }),
];

fn put_back(kept: &Path, data: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(data)?;
    fs::create_dir(data)?;
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), data.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Begins a recovery and kills it then. Whether it was still at work.
async fn killed(
    cluster: &Cluster,
    now: impl Fn(&Path) -> bool + Send + 'static,
) -> anyhow::Result<bool> {
    let bob = cluster.node("bob")?;
    let (mut recovery, data) = (bob.begin(&["recover", "--confirm", "test"])?, bob.data());
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<bool> {
        while !now(&data) {
            if let Some(ended) = recovery.try_wait()? {
                anyhow::ensure!(ended.success(), "{ended}");
                return Ok(false);
            }
            std::thread::yield_now();
        }
        recovery.kill()?;
        Ok(!recovery.wait()?.success())
    });
    work.await?
}

#[tokio::test]
async fn a_recovery_that_is_killed_anywhere_is_done_again() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(2)).await?;
    cluster.api.apply(&policy(0)).await?;
    cluster.node_mut("bob")?.stop().await?;
    cluster.node_mut("ada")?.stop().await?;
    let (data, kept) = (cluster.node("bob")?.data(), cluster.root().join("as-it-was"));
    fs::create_dir(&kept)?;
    put_back(&data, &kept)?;
    let before = shown(&cluster, "bob").await?;

    let mut cut_off = 0;
    for (moment, now) in MOMENTS {
        put_back(&kept, &data)?;
        cut_off += u32::from(killed(&cluster, now).await?);
        done_again(&cluster, moment, &before).await?;
    }
    assert!(cut_off >= 4, "only {cut_off} of {} were killed before they had ended", MOMENTS.len());
    // And between them, wherever that is.
    for after in (0..12).map(|at| Duration::from_millis(at * 25)) {
        put_back(&kept, &data)?;
        let began = Instant::now();
        killed(&cluster, move |_| began.elapsed() >= after).await?;
        done_again(&cluster, &format!("after {after:?}"), &before).await?;
    }
    cluster.node_mut("bob")?.start()?;
    let server = cluster.node("bob")?.server();
    cluster.answers(&server).await?;
    let policies: String = cluster.api.call(&Call::get("/v1/policies")).await?.body;
    assert!(policies.contains("\"test\""), "what was there is there: {policies}");
    cluster.end().await
}

/// What was cut off says so, and is done by doing it again.
async fn done_again(cluster: &Cluster, moment: &str, before: &str) -> anyhow::Result<()> {
    let (bob, data) = (cluster.node("bob")?, cluster.node("bob")?.data());
    if data.join("recover.unfinished").exists() {
        let (ran, said) = bob.once(&["run"]).await?;
        assert!(!ran && said.contains("scrapd recover"), "{moment}: {said}");
    }
    let is_over = has_generation(&data) && !data.join("recover.unfinished").exists();
    let (ok, said) = bob.once(&["recover", "--confirm", "test"]).await?;
    match is_over {
        false => assert!(ok && said.contains("as generation 1"), "{moment}: {said}"),
        true => assert!(!ok && said.contains("is the only voter"), "{moment}: {said}"),
    }
    let after = shown(cluster, "bob").await?;
    let line = |text: &str, key: &str| {
        text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&after, "cluster:"), line(before, "cluster:"), "{moment}");
    assert_eq!(line(&after, "generation:"), "generation: 1", "{moment}");
    assert_eq!(line(&after, "voters:"), "voters:     bob", "{moment}");
    let kept = data.join("before-recovery-1");
    let was = fs::read(cluster.root().join("as-it-was/node.json"))?;
    let is_as_it_was = fs::read(kept.join("node.json"))? == was;
    assert!(is_as_it_was && kept.join("raft.db").exists(), "{moment}: what was there is kept");
    Ok(())
}
