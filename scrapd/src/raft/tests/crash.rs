//! Kills: a child process ends at every place where something is half done, then its files are opened again.
//!
//! Nothing that was acknowledged may be missing, a repeated request may have no second effect, the state must verify, and the
//! consensus must go on. What a power cut may take beyond that (writes that were never flushed) is not shown here.
#![expect(clippy::disallowed_methods, reason = "only another process can be killed")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitStatus};

use scrap_schema::id::NodeId;

use super::lab::{CLUSTER, Lab, keyed, policy_seconds, put_policy, wait_for};
use crate::raft::log::Log;
use crate::raft::{Compaction, Consensus};
use crate::store::Owner;
use crate::store::crash::Point;

const COMPACTION: Compaction = Compaction { snapshot_every: 20, keep: 3 };
const REQUESTS: u64 = 90;
const NAMES: u64 = 5;

/// Where the child works. Without it, it works in a folder of its own and must come to its end.
const DIR: &str = "SCRAP_CRASH_DIR";

fn child_dir() -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os(DIR) {
        Some(dir) => (dir.into(), None),
        None => {
            let dir = tempfile::tempdir().unwrap();
            (dir.path().to_owned(), Some(dir))
        }
    }
}

/// Where the files of the nodes are; the notes are beside it, so that a full disk does not hit them.
fn disk(dir: &Path) -> PathBuf {
    let disk = dir.join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    disk
}

fn name_of(number: u64) -> String {
    format!("p{}", number % NAMES)
}

/// Proposes numbered requests and notes which were acknowledged. Ends early if one is not: then the consensus has stopped.
async fn work(consensus: &Consensus, dir: &Path, numbers: std::ops::Range<u64>) {
    let mut notes =
        File::options().create(true).append(true).open(dir.join("acknowledged")).unwrap();
    for number in numbers {
        let request = keyed(put_policy(&name_of(number), number), &format!("request-{number}"));
        let Ok(committed) = consensus.propose(request).await else {
            println!("request {number} has no answer: {}", consensus.failed().await);
            return;
        };
        committed.outcome.unwrap();
        writeln!(notes, "{number}").unwrap();
    }
}

fn acknowledged(dir: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join("acknowledged")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_alone() {
    let (dir, own) = child_dir();
    let lab = Lab::at(disk(&dir), COMPACTION).await;
    work(&lab.nodes[&NodeId(1)].consensus, &dir, 0..REQUESTS).await;
    let consensus = lab.nodes[&NodeId(1)].consensus.clone();
    if own.is_some() {
        assert_eq!(acknowledged(&dir).len() as u64, REQUESTS);
        wait_for("the log to lose its head", || consensus.inner.metrics().purged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_installs_a_snapshot() {
    let (dir, own) = child_dir();
    let mut lab = Lab::three_at(disk(&dir), COMPACTION).await;
    let book: String = lab.book().iter().map(|(node, at)| format!("{node} {at}\n")).collect();
    std::fs::write(disk(&dir).join("book"), book).unwrap();
    let leader = lab.leader().await;
    let behind = *lab.nodes.keys().find(|node| **node != leader).unwrap();
    work(&lab.nodes[&leader].consensus, &dir, 0..5).await;
    lab.stop(behind).await;
    work(&lab.nodes[&leader].consensus, &dir, 5..REQUESTS).await;
    let consensus = lab.nodes[&leader].consensus.clone();
    wait_for("the log to lose its head", || {
        consensus.inner.metrics().purged.filter(|purged| purged.index > 50)
    })
    .await;
    lab.start(behind.0).await;
    let (index, _) = consensus.hash_at(None).unwrap();
    lab.agree_at(index).await;
    drop(own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_truncates() {
    let (dir, own) = child_dir();
    let owner = Owner { cluster: CLUSTER, node: NodeId(1) };
    let (log, _) = Log::open(&dir.join("raft.db"), &owner).await.unwrap();
    super::raw::append(&log, 1, 0..40).await;
    super::raw::truncate(&log, 1, 20).await;
    super::raw::append(&log, 2, 21..30).await;
    assert_eq!(super::raw::terms(&log).await, super::raw::expected(&[(1, 21), (2, 9)]));
    log.close().await;
    drop(own);
}

/// Runs a child test in a process of its own.
fn run(test: &str, dir: &Path, crash: Option<(Point, u32)>, launcher: &[&str]) -> ExitStatus {
    let me = std::env::current_exe().unwrap();
    let mut child = match launcher {
        [] => Process::new(me),
        [program, arguments @ ..] => {
            let mut child = Process::new(program);
            child.args(arguments).arg(me);
            child
        }
    };
    child.args(["--exact", &format!("raft::tests::crash::{test}"), "--nocapture"]).env(DIR, dir);
    if let Some((point, times)) = crash {
        child.env("SCRAP_CRASH_AT", format!("{point:?}:{times}"));
    }
    let output = child.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    output.status
}

/// Runs a child test until it is killed at a point.
fn kill(test: &str, dir: &Path, point: Point, times: u32) {
    const ABORTED: i32 = 6;
    let status = run(test, dir, Some((point, times)), &[]);
    assert_eq!(status.signal(), Some(ABORTED), "{point:?} was not reached: {status}");
}

/// Every acknowledged request has had its effect, once.
async fn verify(consensus: &Consensus, dir: &Path, at_least: usize) {
    let done = acknowledged(dir);
    assert!(done.len() >= at_least, "only {} requests were acknowledged", done.len());
    let last = done.iter().max().copied();
    let next = last.map_or(0, |last| last + 1);
    // The request that was under way may have happened. It is asked for again before the older ones change nothing.
    let request = keyed(put_policy(&name_of(next), next), &format!("request-{next}"));
    consensus.propose(request).await.unwrap().outcome.unwrap();
    for number in &done {
        let request = keyed(put_policy(&name_of(*number), *number), &format!("request-{number}"));
        let again = consensus.propose(request).await.unwrap();
        assert!(again.repeated && again.outcome.is_ok(), "request {number} was lost: {again:?}");
    }
    let mut newest = BTreeMap::new();
    for number in done.iter().copied().chain([next]) {
        newest.insert(name_of(number), 10 + number);
    }
    for (name, seconds) in newest {
        assert_eq!(policy_seconds(consensus, &name), Some(seconds), "policy {name}");
    }
}

async fn kill_alone_and_verify(point: Point, times: u32, at_least: usize) {
    let dir = tempfile::tempdir().unwrap();
    kill("child_alone", dir.path(), point, times);
    let lab = Lab::reopen(disk(dir.path()), &[1], COMPACTION).await;
    lab.leader().await;
    verify(&lab.nodes[&NodeId(1)].consensus, dir.path(), at_least).await;
    drop(lab);
}

macro_rules! kills {
    ($($name:ident $point:ident $times:literal $at_least:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            kill_alone_and_verify(Point::$point, $times, $at_least).await;
        }
    )*};
}

kills! {
    killed_before_the_log_is_committed LogBeforeCommit 30 20
    killed_after_the_log_is_committed LogAfterCommit 30 20
    killed_while_forming_the_cluster LogAfterCommit 3 0
    killed_between_log_and_state StateBeforeWrite 30 20
    killed_before_the_state_is_committed StateBeforeCommit 30 20
    killed_after_the_state_is_committed StateAfterCommit 30 20
    killed_before_a_snapshot_is_flushed SnapshotBeforeSync 2 20
    killed_before_a_snapshot_has_its_name SnapshotBeforeRename 2 20
    killed_after_a_snapshot_has_its_name SnapshotAfterRename 2 20
    killed_before_the_checkpoint_of_a_snapshot SnapshotBeforeCheckpoint 2 20
    killed_before_a_purge_is_committed PurgeBeforeCommit 2 20
    killed_after_a_purge_is_committed PurgeAfterCommit 2 20
}

async fn kill_installing_and_verify(point: Point) {
    let dir = tempfile::tempdir().unwrap();
    kill("child_that_installs_a_snapshot", dir.path(), point, 1);
    let lab = Lab::reopen(disk(dir.path()), &[1, 2, 3], COMPACTION).await;
    let leader = lab.leader().await;
    verify(&lab.nodes[&leader].consensus, dir.path(), REQUESTS as usize).await;
    let (index, _) = lab.nodes[&leader].consensus.hash_at(None).unwrap();
    lab.agree_at(index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_an_installation_is_committed() {
    kill_installing_and_verify(Point::InstallBeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_an_installation_is_committed() {
    kill_installing_and_verify(Point::InstallAfterCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_truncation_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    kill("child_that_truncates", dir.path(), Point::TruncateBeforeCommit, 1);
    let owner = Owner { cluster: CLUSTER, node: NodeId(1) };
    let (log, _) = Log::open(&dir.path().join("raft.db"), &owner).await.unwrap();
    assert_eq!(super::raw::terms(&log).await, super::raw::expected(&[(1, 40)]));
    super::raw::truncate(&log, 1, 20).await;
    super::raw::append(&log, 2, 21..30).await;
    log.close().await;
    let (log, _) = Log::open(&dir.path().join("raft.db"), &owner).await.unwrap();
    assert_eq!(super::raw::terms(&log).await, super::raw::expected(&[(1, 21), (2, 9)]));
}

/// A file system of two megabytes, if this machine allows it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Process::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    fn grow(&self) {
        let mut mount = Process::new("mount");
        mount.args(["-o", "remount,size=64m"]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Process::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays", self.0.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_node_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let disk_dir = disk(dir);
    let small = SmallDisk::mount(&disk_dir);
    let status = if small.is_some() {
        // Room for the beginning, not for all.
        std::fs::write(disk_dir.join("ballast"), vec![1_u8; 1_300_000]).unwrap();
        run("child_alone", dir, None, &[])
    } else {
        println!("no small disk can be mounted: a limit for the size of files stands in for it");
        let launcher = ["prlimit", "--fsize=300000", "env", "--ignore-signal=XFSZ"];
        run("child_alone", dir, None, &launcher)
    };
    // It has ended in an orderly way: the child prints why and returns.
    assert!(status.success(), "{status}");
    let before = acknowledged(dir);
    assert!(!before.is_empty(), "it never began");
    assert!((before.len() as u64) < REQUESTS, "the disk never was full");
    if let Some(small) = &small {
        small.grow();
    }
    let lab = Lab::reopen(disk_dir, &[1], COMPACTION).await;
    lab.leader().await;
    verify(&lab.nodes[&NodeId(1)].consensus, dir, before.len()).await;
    lab.close().await;
}
