//! The contract of what only looks: views, differences, health.

use scrap_host::datasets::{Cause, ChangeKind, DatasetId, Datasets, PoolState, Role};
use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Guid;
use scrap_schema::time::Timestamp;

use super::{COPY, ID, WEB, assert_cause, cause, orphan_name, owner, snap};
use crate::bench::Bench;

pub(crate) async fn views_show_snapshots_until_they_end<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "a", b"old");
    bench.write(WEB, "b/c", b"deep");
    let old = snap(d, 1).await.guid;
    bench.write(WEB, "a", b"new");
    let new = snap(d, 2).await.guid;
    let view = d.view(ID, Some(old)).await.unwrap();
    assert_eq!(bench.read_view(&view, "a").unwrap(), b"old");
    assert_eq!(bench.read_view(&view, "b/c").unwrap(), b"deep");
    assert_eq!(d.view(ID, Some(old)).await.unwrap(), view, "the same again");
    let other = d.view(ID, Some(new)).await.unwrap();
    assert_eq!(bench.read_view(&other, "a").unwrap(), b"new");
    let head = d.view(ID, None).await.unwrap();
    assert_eq!(bench.read_view(&head, "a").unwrap(), b"new");
    assert_cause!(d.view(ID, Some(Guid(1))).await, Cause::NoSnapshot(Guid(1)));
    let missing = DatasetId::Grain(COPY);
    assert_cause!(d.view(missing, None).await, Cause::Missing);

    d.conceal(ID).await.unwrap();
    d.conceal(ID).await.unwrap();
    assert_eq!(bench.read_view(&view, "a"), None, "an ended view shows nothing");
    d.conceal(missing).await.unwrap();
    d.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    let newest = d.view(ID, None).await.unwrap();
    assert_eq!(bench.read_view(&newest, "a").unwrap(), b"new", "what has no head of its own");
    assert_eq!(d.get(ID).await.unwrap().unwrap().snapshots.len(), 2, "a view is no snapshot");
    d.view(ID, Some(old)).await.unwrap();
    d.destroy(ID).await.unwrap();
    bench.reopen();
    assert_eq!(bench.datasets().list().await.unwrap(), []);
    assert_eq!(bench.read_view(&view, "a"), None);
}

pub(crate) async fn a_difference_names_every_path<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    for path in ["kept", "changed", "removed", "dir/same", "dir/other"] {
        bench.write(WEB, path, b"before");
    }
    let from = snap(d, 1).await.guid;
    let none = d.diff(ID, from, 10).await.unwrap();
    assert_eq!((none.changes, none.more), (vec![], false));
    bench.write(WEB, "changed", b"after!");
    bench.remove(WEB, "removed");
    bench.write(WEB, "dir/other", b"longer than before");
    bench.write(WEB, "dir/\u{fc} \"n\\\tew", b"new");
    let expected = [
        ("changed", ChangeKind::Modified),
        ("dir/other", ChangeKind::Modified),
        ("dir/\u{fc} \"n\\\tew", ChangeKind::Added),
        ("removed", ChangeKind::Removed),
    ];
    let diff = d.diff(ID, from, 20).await.unwrap();
    let mut told = diff.changes.clone();
    // Folders whose names changed may be told or not.
    told.retain(|change| change.path != b"dir" && !change.path.is_empty());
    let told: Vec<_> = told.iter().map(|change| (&*change.path, &change.kind)).collect();
    let mut expected: Vec<_> =
        expected.iter().map(|(path, kind)| (path.as_bytes(), kind)).collect();
    expected.sort();
    assert_eq!(told, expected);
    let cut = d.diff(ID, from, 2).await.unwrap();
    assert_eq!((cut.changes.len(), cut.more), (2, true));
    let newest = snap(d, 2).await.guid;
    assert_eq!(d.diff(ID, newest, 9).await.unwrap().changes, []);
    assert_cause!(d.diff(ID, Guid(1), 9).await, Cause::NoSnapshot(Guid(1)));
    let aside = orphan_name(1, 3);
    let orphan = d.set_aside(WEB, Some(from), &aside, Timestamp(5)).await.unwrap().id;
    let kept = d.diff(orphan, from, 20).await.unwrap();
    assert_eq!(kept, diff, "what only the orphan has");
}

pub(crate) async fn health_is_known<B: Bench>() {
    let bench = B::new(1);
    let health = bench.datasets().health().await.unwrap();
    assert_eq!((health.state, health.errors, health.what), (PoolState::Online, 0, None));
    assert!(!bench.datasets().scrub(Timestamp(1)).await.unwrap(), "it is younger");
}
