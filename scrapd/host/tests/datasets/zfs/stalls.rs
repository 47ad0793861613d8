//! Streams of the tools that stand still: they are named, and hold up nothing else for longer than their limit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use scrap_host::datasets::{Cause, Datasets, Role, Shape};
use scrap_schema::id::Epoch;

use super::{PlainZfsBench, available};
use crate::bench::{Bench, noise};
use crate::contract::{COPY, E1, ID, WEB, assert_cause, cause, receive, snap, stream};

const LIMIT: Duration = Duration::from_secs(4);

/// A pool whose tools stand still at a word while a file is there.
struct Stalling {
    bench: PlainZfsBench,
    folder: tempfile::TempDir,
}

impl Stalling {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("zfs");
        let here = folder.path().display();
        let script =
            format!("#!/bin/sh\n[ -e \"{here}/$1\" ] && exec sleep 600\nexec zfs \"$@\"\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut bench = PlainZfsBench::new(seed);
        (bench.settings.zfs, bench.settings.limit) = (program.into(), LIMIT);
        bench.reopen();
        Self { bench, folder }
    }

    fn stall(&self, word: &str) -> PathBuf {
        let file = self.folder.path().join(word);
        fs::write(&file, "").unwrap();
        file
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_stands_still_holds_up_a_change_of_roles_for_its_limit_only() {
    if !available() {
        return;
    }
    let a = Stalling::new(1);
    let d = &a.bench.datasets;
    d.create(WEB, E1, Shape::default()).await.unwrap();
    a.bench.write(WEB, "a", b"one");
    let one = snap(d, 1).await.guid;
    let stalled = a.stall("send");
    assert_cause!(d.set_role(WEB, Role::Standby, Epoch(2)).await, Cause::Hanging { ref program, .. } if program.contains("send"));
    assert_cause!(d.written(ID).await, Cause::Hanging { .. });
    assert_cause!(d.send(ID, None, one, &mut Vec::new()).await, Cause::Hanging { .. });
    let copied = d.clone_from(ID, one, COPY, E1, Shape::default()).await;
    assert_cause!(copied, Cause::Hanging { .. });
    fs::remove_file(stalled).unwrap();
    // What was being measured is free at once, and as it was.
    assert_eq!(a.bench.read(WEB, "a").unwrap(), b"one");
    assert_eq!(d.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
    d.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_that_stands_still_is_named_and_lets_the_next_one_in() {
    if !available() {
        return;
    }
    let (a, b) = (PlainZfsBench::new(1), Stalling::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "small", b"one");
    let one = snap(&a.datasets, 1).await.guid;
    let small = stream(&a.datasets, ID, None, one).await;
    a.write(WEB, "large", &noise(2_000_000, 1));
    let two = snap(&a.datasets, 2).await.guid;
    let large = stream(&a.datasets, ID, Some(one), two).await;
    let d = &b.bench.datasets;
    // At its end, when everything was given, and in the middle.
    for (from, bytes) in [(None, &small), (Some(one), &large)] {
        let stalled = b.stall("receive");
        let received = receive(d, from, bytes).await;
        assert_cause!(received, Cause::Hanging { ref program, .. } if program.contains("receive"));
        fs::remove_file(stalled).unwrap();
        receive(d, from, bytes).await.unwrap();
    }
    assert_eq!(d.get(ID).await.unwrap().unwrap().snapshots.len(), 2);
}
