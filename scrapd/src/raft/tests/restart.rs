//! What is on disk is what was: restarts, foreign and damaged files, no writes without a reason.

use std::collections::BTreeMap;
use std::path::Path;

use scrap_schema::id::{ClusterId, NodeId};
use sqlx::{Connection, SqliteConnection};

use super::lab::{CLUSTER, Lab, change, policy_seconds, put_policy, settings, wait_for};
use crate::raft::{Compaction, Consensus, OpenError};
use crate::store::StoreError;

/// Runs statements on a file that nobody else has open.
pub(super) async fn sql(path: &Path, statements: &'static str) {
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The position of a state that nobody else has open.
pub(super) async fn applied(path: &Path) -> serde_json::Value {
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let query = sqlx::query_scalar("SELECT body FROM meta WHERE name = 'applied'");
    let body: Vec<u8> = query.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

async fn open_error(dir: &Path, node: u64, cluster: ClusterId) -> StoreError {
    let mut settings = settings(dir.to_owned(), NodeId(node));
    settings.cluster = cluster;
    match Consensus::open(settings).await.err().unwrap() {
        OpenError::Store(error) => error,
        other => panic!("{other:?}"),
    }
}

/// A stopped node with some entries, and the index and hash that it had.
async fn stopped_with_entries(compaction: Compaction) -> (Lab, u64, String) {
    let mut lab = Lab::with(compaction).await;
    let node = NodeId(1);
    for number in 0..30 {
        change(&lab.nodes[&node].consensus, put_policy("gold", number)).await;
    }
    let consensus = lab.nodes[&node].consensus.clone();
    if compaction != Compaction::default() {
        wait_for("the log to lose its head", || consensus.inner.metrics().purged).await;
        // One that is being made would replace what a test looks at.
        wait_for("the last snapshot", || {
            let metrics = consensus.inner.metrics();
            let behind = metrics.last_applied?.index - metrics.snapshot?.index;
            (behind < compaction.snapshot_every).then_some(())
        })
        .await;
    }
    let (index, hash) = consensus.hash_at(None).unwrap();
    lab.stop(node).await;
    (lab, index, hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_has_everything() {
    let (mut lab, index, hash) = stopped_with_entries(Compaction::default()).await;
    let node = lab.start(1).await;
    let consensus = &lab.nodes[&node].consensus;
    assert!(consensus.read(|cluster| cluster.index) >= index);
    assert_eq!(consensus.hash_at(None).unwrap().1, hash);
    assert_eq!(policy_seconds(consensus, "gold"), Some(39));
    let name = "gold".parse().unwrap();
    assert!(consensus.read(|cluster| cluster.node_named(&"n1".parse().unwrap()).is_some()));
    assert!(consensus.read(|cluster| cluster.policies.contains_key(&name)));
    change(consensus, put_policy("gold", 99)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_state_comes_back_from_the_log() {
    let (mut lab, index, hash) = stopped_with_entries(Compaction::default()).await;
    let path = lab.path(NodeId(1)).join("state.db");
    std::fs::remove_file(path).unwrap();
    let node = lab.start(1).await;
    let consensus = &lab.nodes[&node].consensus;
    assert_eq!(consensus.hash_at(Some(index)), Some((index, hash)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_state_that_the_log_does_not_reach_is_damage() {
    let (lab, ..) = stopped_with_entries(Compaction { snapshot_every: 10, keep: 2 }).await;
    let dir = lab.path(NodeId(1));
    std::fs::remove_file(dir.join("state.db")).unwrap();
    let error = open_error(&dir, 1, CLUSTER).await;
    assert!(error.to_string().contains("lost or replaced"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_another_node_or_cluster_is_refused() {
    let (lab, ..) = stopped_with_entries(Compaction::default()).await;
    let dir = lab.path(NodeId(1));
    for (node, cluster) in [(2, CLUSTER), (1, ClusterId(1))] {
        let error = open_error(&dir, node, cluster).await;
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_says_what_to_do() {
    for (file, statements) in [
        (
            "raft.db",
            "UPDATE log SET body = CAST(replace(CAST(body AS TEXT), 'gold', 'iron') AS BLOB) WHERE position = 7",
        ),
        ("raft.db", "UPDATE log SET body = zeroblob(20) WHERE position = 7"),
        ("raft.db", "DELETE FROM log WHERE position = 7"),
        ("raft.db", "DELETE FROM log WHERE position < 7"),
        ("raft.db", "UPDATE log SET position = 1000 WHERE position = 7"),
        ("raft.db", "UPDATE log SET format = 2 WHERE position = 7"),
        (
            "raft.db",
            "UPDATE meta SET body = CAST(replace(CAST(body AS TEXT), '1', '2') AS BLOB) WHERE name = 'vote'",
        ),
        (
            "state.db",
            "UPDATE object SET body = CAST(replace(CAST(body AS TEXT), '39s', '40s') AS BLOB) WHERE kind = 'policy'",
        ),
        ("state.db", "DELETE FROM object WHERE kind = 'node'"),
        (
            "state.db",
            // Turned by one digit: a certain digit need not be in it.
            "UPDATE meta SET body = CAST(substr(CAST(body AS TEXT), 2) || substr(CAST(body AS TEXT), 1, 1) AS BLOB) WHERE name = 'hash'",
        ),
        ("state.db", "DELETE FROM meta"),
        ("state.db", "UPDATE meta SET body = CAST('2' AS BLOB) WHERE name = 'format'"),
    ] {
        let (lab, ..) = stopped_with_entries(Compaction::default()).await;
        let dir = lab.path(NodeId(1));
        sql(&dir.join(file), statements).await;
        let error = open_error(&dir, 1, CLUSTER).await;
        assert!(matches!(error, StoreError::Damaged { .. }), "{statements}: {error}");
        assert!(error.to_string().contains("join again as a new node"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_found() {
    let (lab, ..) = stopped_with_entries(Compaction::default()).await;
    let dir = lab.path(NodeId(1));
    for file in ["raft.db", "state.db"] {
        let path = dir.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let pages = bad.len() / 4096;
        for page in 1..pages {
            bad[page * 4096..page * 4096 + 64].fill(0xEE);
        }
        std::fs::write(&path, bad).unwrap();
        let error = open_error(&dir, 1, CLUSTER).await;
        assert!(!matches!(error, StoreError::Foreign { .. }), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    Consensus::open(settings(dir, NodeId(1))).await.unwrap();
}

/// Sizes and times of all files of a node.
fn footprint(dir: &Path) -> BTreeMap<String, (u64, std::time::SystemTime)> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (about.len(), about.modified().unwrap()))
        })
        // Locks of readers live in this one; it is memory.
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cluster_writes_nothing() {
    let lab = Lab::three(Compaction::default()).await;
    let leader = lab.leader().await;
    let done = change(&lab.nodes[&leader].consensus, put_policy("gold", 1)).await;
    lab.agree_at(done.index).await;
    let before: Vec<_> = lab.nodes.keys().map(|node| footprint(&lab.path(*node))).collect();
    // Heartbeats go on meanwhile: confirmations are answered by the same rounds.
    let confirmed = lab.nodes[&leader].consensus.confirm_leadership().await.unwrap();
    assert_eq!(confirmed, done.index);
    let follower = lab.nodes.iter().find(|(node, _)| **node != leader).unwrap().1;
    let mut heard = std::collections::BTreeSet::new();
    wait_for("many heartbeats", || {
        heard.insert(follower.consensus.inner.heard.load(std::sync::atomic::Ordering::Relaxed));
        (heard.len() > 15).then_some(())
    })
    .await;
    let after: Vec<_> = lab.nodes.keys().map(|node| footprint(&lab.path(*node))).collect();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_completed_goes_and_a_damaged_snapshot_is_made_again() {
    let (mut lab, index, hash) =
        stopped_with_entries(Compaction { snapshot_every: 10, keep: 2 }).await;
    let dir = lab.path(NodeId(1));
    let half = [dir.join("building-0.tmp"), dir.join("incoming-7.tmp-journal")];
    half.iter().for_each(|path| std::fs::write(path, b"half").unwrap());
    let path = crate::store::snapshot::newest_snapshot(&dir).unwrap().unwrap();
    sql(&path, "UPDATE object SET body = CAST('{}' AS BLOB) WHERE kind = 'event'").await;
    let damaged = std::fs::read(&path).unwrap();
    lab.start(1).await;
    assert!(half.iter().all(|path| !path.exists()));
    let made = crate::store::snapshot::newest_snapshot(&dir).unwrap().unwrap();
    assert_ne!(std::fs::read(made).unwrap(), damaged);
    assert_eq!(lab.nodes[&NodeId(1)].consensus.hash_at(Some(index)), Some((index, hash)));
}
