//! States that people make by hand, and tools that are not there: each is named, nothing is taken away for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use scrap_host::datasets::{Cause, DatasetId, Datasets, Role, Shape};
use scrap_host::zfs::{ZfsDatasets, ZfsSettings};
use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Guid;
use scrap_schema::time::Timestamp;

use super::streams::wait_for;
use super::{ZfsBench, available, by_hand, by_hand_patiently};
use crate::bench::Bench;
use crate::contract::{COPY, E1, ID, WEB, assert_cause, cause, copy, name, receive, snap, stream};

/// Two pools with one common snapshot, and the increment to the next.
async fn two() -> Option<(ZfsBench, ZfsBench, Guid, Vec<u8>)> {
    if !available() {
        return None;
    }
    let (a, b) = (ZfsBench::new(1), ZfsBench::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "a", b"one");
    let one = snap(&a.datasets, 1).await.guid;
    copy(&a.datasets, &b.datasets, None, one).await;
    a.write(WEB, "a", b"two");
    let two = snap(&a.datasets, 2).await.guid;
    let bytes = stream(&a.datasets, ID, Some(one), two).await;
    Some((a, b, one, bytes))
}

fn zfs(arguments: &[&str]) -> String {
    by_hand_patiently("zfs", arguments).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_by_hand_is_named_and_stays() {
    let Some((_a, b, one, bytes)) = two().await else { return };
    let by_me = b.name(&format!("grains/{WEB}@by-me"));
    zfs(&["snapshot", &by_me]);
    let refused = receive(&b.datasets, Some(one), &bytes).await;
    assert_cause!(refused, Cause::Foreign { ref what } if what.contains("@by-me"));
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
    assert_cause!(b.datasets.destroy(ID).await, Cause::Foreign { .. });
    assert!(zfs(&["list", "-H", "-o", "name", &by_me]).contains("by-me"));
    zfs(&["destroy", &by_me]);
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
    zfs(&["snapshot", &by_me]);
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(b.datasets.written(ID).await.unwrap().bytes.0, 0, "a snapshot by hand is no write");
    b.write(WEB, "a", b"three");
    assert!(b.datasets.written(ID).await.unwrap().bytes.0 > 0);
    let own = snap(&b.datasets, 7).await.guid;
    b.datasets.prune(WEB, &[one]).await.unwrap();
    let line = b.datasets.get(ID).await.unwrap().unwrap().snapshots;
    assert_eq!(line.last().unwrap().guid, own);
    assert!(zfs(&["list", "-H", "-o", "name", &by_me]).contains("by-me"), "pruning keeps it");
    zfs(&["destroy", &by_me]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_somebody_wrote_to_is_not_overwritten() {
    let Some((_a, b, one, bytes)) = two().await else { return };
    let dataset = b.name(&format!("grains/{WEB}"));
    let at = b.settings.mount_root.join("by-hand");
    zfs(&["set", "readonly=off", &dataset]);
    zfs(&["set", &format!("mountpoint={}", at.display()), &dataset]);
    zfs(&["mount", &dataset]);
    fs::write(at.join("mine"), b"precious").unwrap();
    zfs(&["unmount", &dataset]);
    let refused = receive(&b.datasets, Some(one), &bytes).await;
    assert_cause!(refused, Cause::Diverged { newest, from } if newest == Some(one) && from == newest);
    zfs(&["mount", &dataset]);
    assert_eq!(fs::read(at.join("mine")).unwrap(), b"precious");
    zfs(&["unmount", &dataset]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_somebody_took_away_is_missed_and_opened_again() {
    let Some((a, _b, _one, _bytes)) = two().await else { return };
    let (dataset, aside) = (a.name(&format!("grains/{WEB}")), a.name("aside"));
    zfs(&["unmount", &dataset]);
    assert!(a.read(WEB, "a").is_none());
    a.datasets.open_head(WEB).await.unwrap();
    assert_eq!(a.read(WEB, "a").unwrap(), b"two", "what was unmounted is mounted again");
    zfs(&["unmount", &dataset]);
    zfs(&["rename", &dataset, &aside]);
    assert_cause!(a.datasets.open_head(WEB).await, Cause::Missing);
    zfs(&["rename", &aside, &dataset]);
    a.datasets.open_head(WEB).await.unwrap();
    assert_eq!(a.read(WEB, "a").unwrap(), b"two", "what came back is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_somebody_destroyed_is_missed() {
    let Some((a, b, one, bytes)) = two().await else { return };
    zfs(&["destroy", &b.name(&format!("grains/{WEB}@{}", name(1, 1)))]);
    let refused = receive(&b.datasets, Some(one), &bytes).await;
    assert_cause!(refused, Cause::Diverged { newest: None, .. });
    assert!(b.datasets.get(ID).await.unwrap().unwrap().snapshots.is_empty());
    zfs(&["destroy", &a.name(&format!("grains/{WEB}@{}", name(1, 1)))]);
    let refused = a.datasets.send(ID, None, one, &mut Vec::new()).await;
    assert_cause!(refused, Cause::NoSnapshot(guid) if guid == one);
}

/// By the library or by the programs; a pool without bookmarks has only what is held.
async fn a_held_base_is_destroyed(by_programs: bool) {
    let Some((mut a, b, one, _)) = two().await else { return };
    if by_programs {
        // Other programs than the installed ones are meant as they are.
        let zfs = by_hand("sh", &["-c", "command -v zfs"]).unwrap();
        a.settings.zfs = zfs.trim().into();
        a.reopen();
    }
    let grain = a.name(&format!("grains/{WEB}"));
    let first = format!("{grain}@{}", name(1, 1));
    let list = || zfs(&["get", "-Hp", "-r", "-d", "1", "-o", "name", "guid", &grain]);
    let marked = |seq| list().lines().any(|it| it.ends_with(&format!("#{}", name(1, seq))));
    a.datasets.hold(WEB, one, "last:2").await.unwrap();
    // Again: the bookmark is there already.
    a.reopen();
    a.datasets.hold(WEB, one, "last:2").await.unwrap();
    assert_cause!(a.datasets.prune(WEB, &[one]).await, Cause::Held(_));
    zfs(&["release", "scrap:held", &first]);
    zfs(&["destroy", &first]);
    a.reopen();
    let seen = a.datasets.get(ID).await.unwrap().unwrap();
    let two = seen.snapshots.last().unwrap().guid;
    assert_eq!(seen.snapshots.len(), 1);

    if by_hand("zfs", &["version"]).is_ok() {
        let bookmarks = seen.bookmarks.iter().map(|it| (it.guid, it.name.seq));
        assert_eq!(bookmarks.collect::<Vec<_>>(), [(one, 1)]);
        assert_eq!(seen.holds.get("last:2"), Some(&one));
        assert!(a.datasets.estimate(ID, Some(one), two).await.unwrap() > 0);
        copy(&a.datasets, &b.datasets, Some(one), two).await;
        let missing = a.datasets.send(ID, Some(two), one, &mut Vec::new()).await;
        assert_cause!(missing, Cause::NoSnapshot(_));
        // The next hold of this tag lets go of it.
        let held = a.datasets.hold(WEB, two, "last:2").await.unwrap();
        assert_eq!((held.bookmarks, marked(1), marked(2)), (Vec::new(), false, true));
        a.datasets.hold(WEB, two, "last:3").await.unwrap();
        a.datasets.release(WEB, "last:2").await.unwrap();
        assert!(marked(2), "another tag holds it");
        a.datasets.release(WEB, "last:3").await.unwrap();
        assert!(!marked(2));
        // It is no obstacle.
        a.datasets.hold(WEB, two, "last:2").await.unwrap();
        assert!(marked(2));
    } else {
        assert_eq!((seen.bookmarks, seen.holds.get("last:2")), (Vec::new(), None));
        let missing = a.datasets.send(ID, Some(one), two, &mut Vec::new()).await;
        assert_cause!(missing, Cause::NoSnapshot(_));
    }
    a.datasets.destroy(ID).await.unwrap();
    assert!(a.datasets.get(ID).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_base_that_somebody_destroyed_is_still_a_beginning() {
    a_held_base_is_destroyed(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_by_the_programs_alone() {
    a_held_base_is_destroyed(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_renamed_is_missing_and_what_is_not_ours_is_foreign() {
    let Some((_a, b, one, bytes)) = two().await else { return };
    let (dataset, aside) = (b.name(&format!("grains/{WEB}")), b.name("grains/renamed"));
    zfs(&["rename", &dataset, &aside]);
    assert_eq!(b.datasets.get(ID).await.unwrap(), None);
    assert_cause!(b.datasets.written(ID).await, Cause::Missing);
    assert_cause!(receive(&b.datasets, Some(one), &bytes).await, Cause::Missing);
    assert_eq!(b.datasets.list().await.unwrap(), []);
    zfs(&["create", &dataset]);
    assert_cause!(b.datasets.get(ID).await, Cause::Foreign { ref what } if what.contains(&dataset));
    assert_cause!(b.datasets.create(WEB, E1, Shape::default()).await, Cause::Exists);
    assert_eq!(b.datasets.list().await.unwrap(), []);
    zfs(&["destroy", &dataset]);
    zfs(&["rename", &aside, &dataset]);
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
    let below = format!("{dataset}/child");
    zfs(&["create", &below]);
    assert_cause!(b.datasets.destroy(ID).await, Cause::Foreign { ref what } if what.contains("child"));
    zfs(&["destroy", &below]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_gone_is_no_empty_pool() {
    let Some((_a, b, ..)) = two().await else { return };
    let aside = format!("{}-aside", b.settings.root);
    zfs(&["rename", &b.settings.root, &aside]);
    assert_cause!(b.datasets.get(ID).await, Cause::PoolMissing { .. });
    assert_cause!(b.datasets.list().await, Cause::PoolMissing { .. });
    assert_cause!(b.datasets.space().await, Cause::PoolMissing { .. });
    assert!(matches!(
        b.datasets.create(COPY, E1, Shape::default()).await.unwrap_err().cause,
        Cause::PoolMissing { .. }
    ));
    zfs(&["rename", &aside, &b.settings.root]);
    assert!(b.datasets.get(ID).await.unwrap().is_some());
    let nowhere = ZfsSettings::new("scrap-no-such-pool/scrap", &b.settings.mount_root);
    let refused = ZfsDatasets::open(nowhere).await.unwrap_err();
    assert!(matches!(refused, Cause::PoolMissing { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_by_hand_is_named() {
    let Some((a, ..)) = two().await else { return };
    let one = a.datasets.get(ID).await.unwrap().unwrap().snapshots[0].clone();
    let full = a.name(&format!("grains/{WEB}@{}", one.name));
    zfs(&["hold", "by-me", &full]);
    assert_cause!(a.datasets.prune(WEB, &[one.guid]).await, Cause::Held(ref why) if why.contains("zfs hold"));
    a.datasets.hold(WEB, one.guid, "last:2").await.unwrap();
    a.datasets.release(WEB, "last:2").await.unwrap();
    zfs(&["release", "by-me", &full]);
    a.datasets.prune(WEB, &[one.guid]).await.unwrap();
    assert_eq!(a.datasets.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_is_named_and_stays_as_it_was() {
    if !available() {
        return;
    }
    let mut bench = ZfsBench::new(1);
    bench.settings.patience = Duration::from_millis(300);
    bench.reopen();
    bench.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    bench.write(WEB, "a", b"one");
    snap(&bench.datasets, 1).await;
    let used = fs::File::open(bench.head(WEB).join("a")).unwrap();
    let refused = bench.datasets.set_role(WEB, Role::Standby, Epoch(2)).await;
    assert_cause!(refused, Cause::Busy(_));
    assert_eq!(bench.datasets.get(ID).await.unwrap().unwrap().role, Role::Owner);
    drop(used);
    bench.settings.patience = Duration::from_secs(10);
    bench.reopen();
    bench.write(WEB, "b", b"goes on");
    snap(&bench.datasets, 2).await;
    bench.datasets.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
}

/// A program that does what a line of shell says.
fn fake(folder: &Path, line: &str) -> ZfsSettings {
    let program = folder.join("zfs");
    fs::write(&program, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = ZfsSettings::new("tank/scrap", folder.join("mounts"));
    settings.zfs = program.clone().into();
    settings.zpool = program.into();
    settings.limit = Duration::from_millis(500);
    settings.patience = Duration::from_millis(200);
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_that_are_missing_hang_or_fail_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |line: &str| ZfsDatasets::open(fake(folder.path(), line)).await.unwrap_err();
    let hangs = open("exec sleep 60").await;
    assert!(
        matches!(hangs, Cause::Hanging { ref program, .. } if program.contains("version")),
        "{hangs:?}"
    );
    let later = open("if [ \"$1\" = version ]; then echo zfs-2.3.2; else exec sleep 60; fi").await;
    assert!(
        matches!(later, Cause::Hanging { ref program, .. } if program.contains("tank/scrap")),
        "{later:?}"
    );
    let suspended = "echo 'cannot open: pool I/O is currently suspended' >&2; exit 1";
    let suspended = open(&format!("[ \"$1\" = version ] && exit 0; {suspended}")).await;
    assert!(matches!(suspended, Cause::Suspended(_)), "{suspended:?}");
    let denied = open("[ \"$1\" = version ] && exit 0; echo 'permission denied' >&2; exit 1").await;
    assert!(matches!(denied, Cause::Permission(_)), "{denied:?}");
    let busy = open("[ \"$1\" = version ] && exit 0; echo 'dataset is busy' >&2; exit 1").await;
    assert!(matches!(busy, Cause::Busy(_)), "it is not tried for ever: {busy:?}");
    let unloaded = "echo 'The ZFS modules are not loaded.' >&2; exit 1";
    let unloaded = open(unloaded).await;
    assert!(
        matches!(unloaded, Cause::Program { ref said, .. } if said.contains("modules")),
        "{unloaded:?}"
    );

    let mut settings = fake(folder.path(), "");
    settings.zfs = "/no/such/zfs".into();
    let missing = ZfsDatasets::open(settings).await.unwrap_err();
    assert!(
        matches!(missing, Cause::ProgramMissing { ref program } if program == "/no/such/zfs"),
        "{missing:?}"
    );
    let bad = ZfsDatasets::open(ZfsSettings::new("tank", "/srv")).await.unwrap_err();
    assert!(matches!(bad, Cause::Io { .. }) && bad.to_string().contains("pool/dataset"), "{bad}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_below_a_root_that_is_shared_is_shared_with_it() {
    let Some((_a, mut b, one, bytes)) = two().await else { return };
    let root = b.settings.root.clone();
    let shared = || {
        let get = ["get", "-H", "-r", "-o", "name,property,value", "sharenfs,sharesmb", &root];
        let out = zfs(&get);
        let rows = out.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let rows = rows.filter(|row| row[0] != root && !row[0].contains('@') && row[2] != "off");
        rows.map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    for property in ["sharenfs=on", "sharesmb=on"] {
        zfs(&["set", property, &root]);
    }
    assert_eq!(shared(), Vec::<String>::new(), "copies");
    // As an earlier version made it.
    for below in ["grains", "incoming", "orphans"] {
        zfs(&["inherit", "sharenfs", &b.name(below)]);
        zfs(&["inherit", "sharesmb", &b.name(below)]);
    }
    assert!(!shared().is_empty());
    b.reopen();
    assert_eq!(shared(), Vec::<String>::new(), "after the next start");
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
    b.datasets.create(COPY, E1, Shape::default()).await.unwrap();
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    b.datasets.view(ID, Some(one)).await.unwrap();
    assert_eq!(shared(), Vec::<String>::new(), "heads and views");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_destruction_is_finished_at_the_next_start() {
    let Some((mut a, ..)) = two().await else { return };
    let (dataset, trash) = (a.name(&format!("grains/{WEB}")), a.name("trash/left.0"));
    zfs(&["unmount", &dataset]);
    zfs(&["rename", &dataset, &trash]);
    let aside = a.name(&format!("incoming/{COPY}"));
    zfs(&["create", &aside]);
    a.reopen();
    assert_eq!(a.datasets.list().await.unwrap(), []);
    for gone in [trash, aside] {
        assert!(by_hand("zfs", &["list", &gone]).is_err(), "{gone}");
    }
    assert_eq!(a.datasets.get(DatasetId::Grain(COPY)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_scrubbed_if_nobody_has_done_that() {
    let Some((a, ..)) = two().await else { return };
    let before = Timestamp(i64::MAX);
    assert!(a.datasets.scrub(before).await.unwrap());
    let scrubbed = async || {
        let health = a.datasets.health().await.unwrap();
        health.scrubbed.filter(|_| !health.busy)
    };
    wait_for(async || scrubbed().await.is_some()).await;
    let ended = scrubbed().await.unwrap();
    assert!(!a.datasets.scrub(ended).await.unwrap(), "that was just done");
}
