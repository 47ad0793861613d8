//! What can only be tested from inside: a setting aside that is broken off, and a stream of somebody who lies.

use std::collections::BTreeMap;
use std::fs;

use scrap_schema::id::GrainId;
use scrap_schema::snapshot::{Purpose, SnapshotName};

use super::aside::{Back, SetAside, Step};
use super::manifest::{Entry, Hash, Kind, Manifest};
use super::stream::{self, MAGIC, Plan, Tag};
use super::*;
use crate::datasets::{Datasets, Incoming};

const WEB: GrainId = GrainId(1);
const ID: DatasetId = DatasetId::Grain(WEB);

fn name(seq: u64, purpose: Purpose) -> SnapshotName {
    SnapshotName { epoch: Epoch(1), seq, purpose }
}

async fn pool() -> (tempfile::TempDir, DirDatasets) {
    let root = tempfile::tempdir().unwrap();
    let pool = DirDatasets::open(root.path()).await.unwrap();
    (root, pool)
}

/// A grain with a common snapshot, a snapshot of its own, and writes after it. Returns the common one.
async fn diverged(pool: &DirDatasets) -> Guid {
    pool.create(WEB, Epoch(1), Shape::default()).await.unwrap();
    let head = pool.path(WEB);
    fs::write(head.join("a"), vec![1; 100_000]).unwrap();
    let common = pool.snapshot(WEB, &name(1, Purpose::Replication), Timestamp(1)).await.unwrap();
    pool.hold(WEB, common.guid, "last:2").await.unwrap();
    fs::write(head.join("b"), vec![2; 100_000]).unwrap();
    pool.snapshot(WEB, &name(2, Purpose::Replication), Timestamp(2)).await.unwrap();
    fs::write(head.join("c"), b"never sent").unwrap();
    common.guid
}

#[tokio::test]
async fn setting_aside_goes_on_after_each_step() {
    for last in [Step::Frozen, Step::Moved, Step::Marked, Step::Rebuilt, Step::Done] {
        for restart in [false, true] {
            let (root, mut pool) = pool().await;
            let base = diverged(&pool).await;
            let orphan_name = name(3, Purpose::Orphan);
            let order = SetAside {
                grain: WEB,
                base: Some(base),
                name: orphan_name.clone(),
                now: Timestamp(3),
            };
            order.run(&pool.inner, last).unwrap();
            if restart {
                pool = DirDatasets::open(root.path()).await.unwrap();
            }
            let orphan = pool.set_aside(WEB, Some(base), &orphan_name, Timestamp(4)).await.unwrap();
            assert_eq!(orphan.snapshots.len(), 3, "{last:?}");
            assert_eq!((orphan.role, orphan.base), (Role::Orphan, Some(base)), "{last:?}");
            let standby = pool.get(ID).await.unwrap().unwrap();
            assert_eq!((standby.role, standby.snapshots.len()), (Role::Standby, 1), "{last:?}");
            let holds = BTreeMap::from([("last:2".to_owned(), base)]);
            assert_eq!(pool.holds(WEB).await.unwrap(), holds, "{last:?}");
            let newest = orphan.snapshots.last().unwrap().guid;
            pool.clone_from(orphan.id, newest, GrainId(2), Epoch(1), Shape::default())
                .await
                .unwrap();
            let kept = fs::read(pool.path(GrainId(2)).join("c")).unwrap();
            assert_eq!(kept, b"never sent", "{last:?}");
            assert!(!pool.inner.folder(orphan.id).head().exists(), "{last:?}");
        }
    }
}

#[tokio::test]
async fn taking_back_goes_on_after_each_step() {
    for last in [Back::Cleared, Back::Marked, Back::Done] {
        for restart in [false, true] {
            let (root, mut pool) = pool().await;
            let base = diverged(&pool).await;
            let aside = name(3, Purpose::Orphan);
            let orphan = pool.set_aside(WEB, Some(base), &aside, Timestamp(4)).await.unwrap();
            super::aside::take_back(&pool.inner, WEB, Epoch(1), last).unwrap();
            if restart {
                pool = DirDatasets::open(root.path()).await.unwrap();
            }
            if last != Back::Done {
                let listed = pool.get(orphan.id).await.unwrap().unwrap();
                assert_eq!(listed.role, Role::Orphan, "{last:?}: until it has its place");
                pool.take_back(WEB, Epoch(1)).await.unwrap();
            }
            let back = pool.get(ID).await.unwrap().unwrap();
            assert_eq!((back.role, back.snapshots), (Role::Standby, orphan.snapshots), "{last:?}");
            pool.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
            assert_eq!(fs::read(pool.path(WEB).join("c")).unwrap(), b"never sent", "{last:?}");
        }
    }
}

#[tokio::test]
async fn writes_after_a_broken_off_setting_aside_are_not_thrown_away() {
    let (_root, pool) = pool().await;
    let base = diverged(&pool).await;
    let orphan_name = name(3, Purpose::Orphan);
    let order =
        SetAside { grain: WEB, base: Some(base), name: orphan_name.clone(), now: Timestamp(3) };
    order.run(&pool.inner, Step::Frozen).unwrap();
    fs::write(pool.path(WEB).join("c"), b"later").unwrap();
    let refused = pool.set_aside(WEB, Some(base), &orphan_name, Timestamp(4)).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Diverged { .. }), "{refused:?}");
    assert_eq!(fs::read(pool.path(WEB).join("c")).unwrap(), b"later");
}

fn entry(kind: Kind) -> Entry {
    Entry { mode: 0o755, uid: 0, gid: 0, mtime: 0, kind }
}

/// A stream whose checksums are all right, of a manifest that may not be.
fn forge(entries: &[(&str, Kind)], lines: Option<&str>) -> Vec<u8> {
    let snapshot =
        Snapshot { name: name(1, Purpose::Replication), guid: Guid(5), created: Timestamp(1) };
    let entries =
        entries.iter().map(|(path, kind)| (path.parse().unwrap(), entry(kind.clone()))).collect();
    let manifest = Manifest { snapshot, entries };
    let checksum = Hash::of(&manifest.encode().unwrap());
    let mut bytes = MAGIC.to_vec();
    bytes.extend(Plan::new(None, &manifest, checksum).unwrap().frames.concat());
    if let Some(lines) = lines {
        bytes.extend(stream::frame(Tag::Entries, lines.as_bytes()).unwrap());
    }
    let end = Hash::of(&bytes);
    bytes.extend(stream::frame(Tag::End, &end.0).unwrap());
    bytes
}

#[tokio::test]
async fn a_stream_cannot_reach_out_of_its_dataset() {
    let link = || Kind::Symlink { target: "/tmp".to_owned() };
    let file = || Kind::File { size: 0, chunks: Vec::new() };
    let line = |path: &str| {
        format!(
            "{{\"path\":\"{path}\",\"mode\":420,\"uid\":0,\"gid\":0,\"mtime\":0,\"kind\":\"dir\"}}\n"
        )
    };
    let root = || (".", Kind::Dir);
    let good = forge(&[root(), ("a", link()), ("b", file())], None);
    let evil = [
        forge(&[root(), ("a", link()), ("a/x", file())], None),
        forge(&[("a", file())], None),
        forge(&[root(), ("b", Kind::HardLink { to: "a/x".parse().unwrap() })], None),
        forge(&[root()], Some(&line("../out"))),
        forge(&[root()], Some(&line("/out"))),
        forge(&[root()], Some(&line("a/%2e%2e/out"))),
        forge(&[root(), ("f", Kind::File { size: 1 << 60, chunks: Vec::new() })], None),
    ];
    let (_root, pool) = pool().await;
    for (number, stream) in evil.iter().enumerate() {
        let refused = pool
            .receive(WEB, Incoming::new(Epoch(1), None), &mut stream.as_slice())
            .await
            .unwrap_err();
        assert!(matches!(refused.cause, Cause::BadStream(_)), "{number}: {refused:?}");
        assert_eq!(pool.get(ID).await.unwrap(), None, "{number}");
    }
    pool.receive(WEB, Incoming::new(Epoch(1), None), &mut good.as_slice()).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_claims_too_much_is_refused_early() {
    let (_root, pool) = pool().await;
    let mut long = MAGIC.to_vec();
    long.extend([b'C', 0xff, 0xff, 0xff, 0xff]);
    let refused =
        pool.receive(WEB, Incoming::new(Epoch(1), None), &mut long.as_slice()).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::BadStream(_)), "{refused:?}");
    let header = serde_json::json!({
        "from": null, "manifest": Hash([0; 32]).to_string(), "bytes": 1_u64 << 60,
        "snapshot": { "name": name(1, Purpose::Replication), "guid": Guid(5), "created": Timestamp(1) },
    });
    let mut large = MAGIC.to_vec();
    large.extend(stream::frame(Tag::Header, header.to_string().as_bytes()).unwrap());
    let refused =
        pool.receive(WEB, Incoming::new(Epoch(1), None), &mut large.as_slice()).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::NoSpace), "{refused:?}");
}

#[tokio::test]
async fn a_new_head_need_not_be_read_again() {
    let (_root, pool) = pool().await;
    pool.create(WEB, Epoch(1), Shape::default()).await.unwrap();
    fs::write(pool.path(WEB).join("a"), b"contents").unwrap();
    pool.snapshot(WEB, &name(1, Purpose::Replication), Timestamp(1)).await.unwrap();
    pool.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    pool.set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    let folder = pool.inner.folder(ID);
    let known = folder.known(&folder.must().unwrap()).unwrap();
    let stat = rustix::fs::stat(pool.path(WEB).join("a")).unwrap();
    assert!(known.index.seen[&"a".parse().unwrap()].proves(&stat));
}
