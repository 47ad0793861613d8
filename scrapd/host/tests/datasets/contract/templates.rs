//! The contract of templates: made once, never changed, cloned and carried to other pools.

use std::collections::BTreeMap;

use scrap_host::datasets::{
    Cause, DatasetError, DatasetId, Datasets, Incoming, ORIGIN_TAG, Role, Shape,
};
use scrap_schema::id::{Epoch, TemplateId};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::{
    COPY, E1, ID, QUOTA, WEB, assert_cause, cause, copy, holds, line, name, orphan_name, receive,
    snap, stream,
};
use crate::bench::{Bench, noise};

const BASE: TemplateId = TemplateId(7);
const TEMPLATE: DatasetId = DatasetId::Template(BASE);

fn origin(guid: Guid) -> BTreeMap<String, Guid> {
    BTreeMap::from([(ORIGIN_TAG.to_owned(), guid)])
}

/// A pool with a sealed template of two files.
async fn templated<B: Bench>(seed: u64) -> (B, Snapshot) {
    let bench = B::new(seed);
    let at = bench.datasets().begin_template(BASE).await.unwrap();
    bench.unpack(BASE, &at, "rootfs/etc/os", b"busybox");
    bench.unpack(BASE, &at, "rootfs/bin/sh", &noise(300_000, 1));
    let sealed = bench.datasets().seal_template(BASE, Timestamp(500)).await.unwrap();
    (bench, sealed)
}

/// The same, with the grain as a clone.
async fn cloned<B: Bench>(seed: u64) -> (B, Guid) {
    let (bench, sealed) = templated::<B>(seed).await;
    bench.datasets().clone_from(TEMPLATE, sealed.guid, WEB, E1, Shape::of(QUOTA)).await.unwrap();
    (bench, sealed.guid)
}

/// Carries the template to another pool.
async fn carry<B: Bench>(from: &B, to: &B, guid: Guid) -> Result<Snapshot, DatasetError> {
    let bytes = stream(from.datasets(), TEMPLATE, None, guid).await;
    to.datasets().receive_template(BASE, &mut bytes.as_slice()).await
}

pub(crate) async fn a_template_never_changes_once_it_is_sealed<B: Bench>() {
    let mut bench = B::new(1);
    let d = bench.datasets();
    assert_cause!(d.seal_template(BASE, Timestamp(1)).await, Cause::Missing);
    let at = d.begin_template(BASE).await.unwrap();
    bench.unpack(BASE, &at, "half", b"half");
    let begun = d.get(TEMPLATE).await.unwrap().unwrap();
    assert_eq!((begun.role, begun.snapshots.len()), (Role::Template, 0));
    bench.reopen();
    let d = bench.datasets();
    let at = d.begin_template(BASE).await.unwrap();
    bench.unpack(BASE, &at, "whole", b"whole");
    let sealed = d.seal_template(BASE, Timestamp(500)).await.unwrap();
    let called = SnapshotName { epoch: Epoch(0), seq: 1, purpose: Purpose::Template };
    assert_eq!((&sealed.name, sealed.created), (&called, Timestamp(500)));
    assert_eq!(d.seal_template(BASE, Timestamp(9)).await.unwrap(), sealed, "sealed once");
    assert_cause!(d.begin_template(BASE).await, Cause::Exists);
    bench.reopen();
    let d = bench.datasets();
    let dataset = d.get(TEMPLATE).await.unwrap().unwrap();
    assert_eq!((dataset.role, &dataset.snapshots), (Role::Template, &vec![sealed.clone()]));
    assert_eq!(d.list().await.unwrap(), [dataset]);
    let view = d.view(TEMPLATE, None).await.unwrap();
    assert_eq!(bench.read_view(&view, "whole").unwrap(), b"whole");
    assert_eq!(bench.read_view(&view, "half"), None, "what was begun before is gone");
    d.destroy(TEMPLATE).await.unwrap();
    assert_eq!(d.list().await.unwrap(), []);
}

pub(crate) async fn clones_begin_with_their_template<B: Bench>() {
    let (mut bench, sealed) = templated::<B>(1).await;
    let d = bench.datasets();
    let no = d.clone_from(TEMPLATE, Guid(1), WEB, E1, Shape::default()).await;
    assert_cause!(no, Cause::NoSnapshot(Guid(1)));
    for grain in [WEB, COPY] {
        d.clone_from(TEMPLATE, sealed.guid, grain, Epoch(3), Shape::of(QUOTA)).await.unwrap();
    }
    let again = d.clone_from(TEMPLATE, sealed.guid, WEB, E1, Shape::default()).await;
    assert_cause!(again, Cause::Exists);
    bench.reopen();
    let d = bench.datasets();
    let dataset = d.get(ID).await.unwrap().unwrap();
    assert_eq!((dataset.role, dataset.epoch, dataset.quota), (Role::Owner, Epoch(3), QUOTA));
    assert_eq!((&dataset.snapshots, dataset.base), (&vec![sealed.clone()], None));
    assert_eq!(holds(d, WEB).await, origin(sealed.guid));
    assert_eq!(d.written(ID).await.unwrap().bytes, Bytes(0));
    bench.write(WEB, "rootfs/etc/os", b"changed");
    bench.write(WEB, "own", b"own");
    assert!(d.written(ID).await.unwrap().bytes.0 > 0);
    assert_eq!(bench.read(COPY, "rootfs/etc/os").unwrap(), b"busybox", "a clone is its own");
    let own = snap(d, 1).await.guid;
    assert_eq!(line(d, ID).await, [sealed.guid, own]);
    assert_cause!(d.prune(WEB, &[sealed.guid]).await, Cause::Held(ref why) if why.contains(ORIGIN_TAG));
    assert_cause!(d.hold(WEB, own, ORIGIN_TAG).await, Cause::Held(_));
    d.hold(WEB, sealed.guid, "last:2").await.unwrap();
    d.release(WEB, ORIGIN_TAG).await.unwrap();
    let mut held = origin(sealed.guid);
    held.insert("last:2".to_owned(), sealed.guid);
    assert_eq!(holds(d, WEB).await, held);

    if B::SHARES {
        assert_cause!(d.destroy(TEMPLATE).await, Cause::Held(_));
        d.destroy(DatasetId::Grain(COPY)).await.unwrap();
        assert_cause!(d.destroy(TEMPLATE).await, Cause::Held(_));
    } else {
        d.destroy(TEMPLATE).await.unwrap();
    }
    assert_eq!(bench.read(WEB, "rootfs/bin/sh").unwrap(), noise(300_000, 1));
    d.destroy(ID).await.unwrap();
    d.destroy(TEMPLATE).await.unwrap();
    assert_eq!(d.get(TEMPLATE).await.unwrap(), None);
}

pub(crate) async fn templates_travel<B: Bench>() {
    let ((a, sealed), mut b) = (templated::<B>(1).await, B::new(2));
    let bytes = stream(a.datasets(), TEMPLATE, None, sealed.guid).await;
    let d = b.datasets();
    for end in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        let broken = d.receive_template(BASE, &mut &bytes[..end]).await;
        assert_cause!(broken, Cause::BadStream(_));
        assert_eq!(d.list().await.unwrap(), [], "{end} bytes");
    }
    let at = d.begin_template(BASE).await.unwrap();
    b.unpack(BASE, &at, "half", b"half");
    assert_eq!(carry(&a, &b, sealed.guid).await.unwrap(), sealed);
    assert_cause!(carry(&a, &b, sealed.guid).await, Cause::Exists);
    let refused = d.receive(WEB, Incoming::new(E1, None), &mut &b""[..]).await;
    assert_cause!(refused, Cause::BadStream(_));
    b.reopen();
    let d = b.datasets();
    assert_eq!(d.get(TEMPLATE).await.unwrap().unwrap().snapshots, vec![sealed.clone()]);
    d.clone_from(TEMPLATE, sealed.guid, WEB, E1, Shape::default()).await.unwrap();
    assert_eq!(b.read(WEB, "rootfs/bin/sh").unwrap(), noise(300_000, 1));
    assert_eq!(b.read(WEB, "half"), None);
    snap(d, 1).await;
    let own = line(d, ID).await[1];
    let of_a_grain = stream(d, ID, None, own).await;
    let refused = d.receive_template(TemplateId(8), &mut of_a_grain.as_slice()).await;
    assert_cause!(refused, Cause::BadStream(_));
}

pub(crate) async fn a_clone_comes_in_where_its_template_is<B: Bench>() {
    let ((a, base), mut b) = (cloned::<B>(1).await, B::new(2));
    let d = a.datasets();
    a.write(WEB, "own", b"one");
    let one = snap(d, 1).await.guid;
    let bytes = stream(d, ID, Some(base), one).await;
    assert!(bytes.len() < 150_000, "{} bytes: the template is not in it", bytes.len());
    assert_cause!(receive(b.datasets(), Some(base), &bytes).await, Cause::Missing);
    carry(&a, &b, base).await.unwrap();
    let cut = receive(b.datasets(), Some(base), &bytes[..bytes.len() - 1]).await;
    assert_cause!(cut, Cause::BadStream(_));
    assert_eq!(b.datasets().get(ID).await.unwrap(), None);
    receive(b.datasets(), Some(base), &bytes).await.unwrap();
    assert_cause!(receive(b.datasets(), Some(base), &bytes).await, Cause::Exists);
    b.reopen();
    let db = b.datasets();
    assert_eq!(line(db, ID).await, [base, one]);
    assert_eq!(db.get(ID).await.unwrap().unwrap().role, Role::Standby);
    assert_eq!(holds(db, WEB).await, origin(base));
    a.write(WEB, "own", b"two");
    let two = snap(d, 2).await.guid;
    copy(d, db, Some(one), two).await;
    db.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(b.read(WEB, "own").unwrap(), b"two");
    assert_eq!(b.read(WEB, "rootfs/etc/os").unwrap(), b"busybox");
    b.write(WEB, "own", b"three");
    let three = snap(db, 3).await.guid;
    d.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    copy(db, d, Some(two), three).await;
    assert_eq!(line(d, ID).await, [base, one, two, three], "and back again");

    let alone = B::new(3);
    copy(d, alone.datasets(), None, three).await;
    alone.datasets().set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    assert_eq!(alone.read(WEB, "rootfs/etc/os").unwrap(), b"busybox", "also without a template");
}

pub(crate) async fn a_clone_that_never_changed_travels_as_a_whole<B: Bench>() {
    let (a, base) = cloned::<B>(1).await;
    let d = a.datasets();
    let whole = stream(d, ID, None, base).await;
    a.write(WEB, "own", b"one");
    let one = snap(d, 1).await.guid;
    let more = stream(d, ID, Some(base), one).await;
    for templated in [false, true] {
        let b = B::new(2);
        let db = b.datasets();
        if templated {
            carry(&a, &b, base).await.unwrap();
        }
        receive(db, None, &whole).await.unwrap();
        assert_eq!(line(db, ID).await, [base]);
        db.hold(WEB, base, "last:1").await.unwrap();
        let properties = BTreeMap::from([("name".to_owned(), "web".to_owned())]);
        db.set_properties(ID, properties).await.unwrap();
        receive(db, Some(base), &more).await.unwrap();
        assert_eq!(line(db, ID).await, [base, one], "templated: {templated}");
        assert_eq!(holds(db, WEB).await["last:1"], base);
        assert_eq!(db.get(ID).await.unwrap().unwrap().properties["name"], "web");
        db.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
        assert_eq!(b.read(WEB, "own").unwrap(), b"one");
        assert_eq!(b.read(WEB, "rootfs/etc/os").unwrap(), b"busybox");
    }
}

pub(crate) async fn a_clone_is_set_aside_down_to_its_template<B: Bench>() {
    let ((a, base), mut b) = (cloned::<B>(1).await, B::new(2));
    carry(&a, &b, base).await.unwrap();
    let db = b.datasets();
    db.clone_from(TEMPLATE, base, WEB, E1, Shape::default()).await.unwrap();
    b.write(WEB, "own", b"mine");
    let mine = snap(db, 5).await.guid;
    let orphan = db.set_aside(WEB, Some(base), &orphan_name(1, 6), Timestamp(5)).await.unwrap();
    let again = db.set_aside(WEB, Some(base), &orphan_name(1, 6), Timestamp(5)).await.unwrap();
    assert_eq!(again, orphan);
    b.reopen();
    let db = b.datasets();
    let last = orphan.snapshots.last().unwrap().guid;
    assert_eq!(line(db, orphan.id).await, [base, mine, last]);
    assert_eq!(line(db, ID).await, [base]);
    assert_eq!(holds(db, WEB).await, origin(base));
    a.write(WEB, "own", b"theirs");
    let theirs = snap(a.datasets(), 1).await.guid;
    copy(a.datasets(), db, Some(base), theirs).await;
    assert_eq!(line(db, ID).await, [base, theirs]);
    db.clone_from(orphan.id, last, COPY, E1, Shape::default()).await.unwrap();
    assert_eq!(b.read(COPY, "own").unwrap(), b"mine");
    db.destroy(orphan.id).await.unwrap();
    db.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(b.read(WEB, "own").unwrap(), b"theirs");
    assert_eq!(b.read(WEB, "rootfs/etc/os").unwrap(), b"busybox");
}

pub(crate) async fn a_clone_goes_back_to_its_template<B: Bench>() {
    let (bench, base) = cloned::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "own", b"own");
    bench.remove(WEB, "rootfs/etc/os");
    let own = snap(d, 1).await.guid;
    d.restore(WEB, base).await.unwrap();
    assert_eq!(bench.read(WEB, "own"), None);
    assert_eq!(bench.read(WEB, "rootfs/etc/os").unwrap(), b"busybox");
    assert_eq!(line(d, ID).await, [base, own]);
    let diff = d.diff(ID, base, 9).await.unwrap();
    let files = diff.changes.iter().filter(|change| !change.path.is_empty());
    assert!(files.count() <= 2, "at most the two folders that had to be filled again: {diff:?}");
}

pub(crate) async fn a_clone_of_a_clone_stands_by_itself<B: Bench>() {
    let (mut bench, _) = cloned::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "own", b"one");
    let one = snap(d, 1).await;
    bench.write(WEB, "own", b"two");
    d.clone_from(ID, one.guid, COPY, Epoch(4), Shape::of(QUOTA)).await.unwrap();
    let copied = DatasetId::Grain(COPY);
    assert_eq!(bench.read(COPY, "own").unwrap(), b"one");
    assert_eq!(holds(d, COPY).await[ORIGIN_TAG], line(d, copied).await[0]);
    assert!(line(d, copied).await.contains(&one.guid));
    d.destroy(ID).await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    assert_eq!(bench.read(COPY, "own").unwrap(), b"one");
    let newer = d.snapshot(COPY, &name(4, 9), Timestamp(9)).await.unwrap();
    assert_eq!(line(d, copied).await.last(), Some(&newer.guid));
    d.destroy(copied).await.unwrap();
    d.destroy(TEMPLATE).await.unwrap();
    assert_eq!(d.list().await.unwrap(), []);
}
