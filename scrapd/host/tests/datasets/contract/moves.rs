//! The contract of what moves whole datasets: roles, setting aside, restoring, cloning, destroying.

use std::collections::BTreeMap;

use scrap_host::datasets::{Cause, DatasetId, Datasets, Role, Shape};
use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Guid;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::{
    COPY, E1, ID, QUOTA, WEB, assert_cause, cause, copy, holds, line, orphan_name, owner, snap,
    stream,
};
use crate::bench::{Bench, noise};

pub(crate) async fn promotion_makes_the_newest_snapshot_the_head<B: Bench>() {
    let (a, mut b) = (owner::<B>(1).await, B::new(2));
    a.write(WEB, "a", b"one");
    let one = snap(a.datasets(), 1).await.guid;
    copy(a.datasets(), b.datasets(), None, one).await;
    assert_cause!(b.datasets().open_head(WEB).await, Cause::WrongRole { is: Role::Standby });
    b.datasets().set_role(WEB, Role::Owner, Epoch(4)).await.unwrap();
    b.reopen();
    b.datasets().open_head(WEB).await.unwrap();
    let dataset = b.datasets().get(ID).await.unwrap().unwrap();
    assert_eq!((dataset.role, dataset.epoch), (Role::Owner, Epoch(4)));
    assert_eq!(b.datasets().written(ID).await.unwrap().bytes, Bytes(0), "nothing is written yet");
    b.write(WEB, "a", b"own");
    b.datasets().set_role(WEB, Role::Owner, Epoch(5)).await.unwrap();
    assert_eq!(b.read(WEB, "a").unwrap(), b"own", "promotion of an owner keeps its head");
    assert_eq!(b.datasets().get(ID).await.unwrap().unwrap().epoch, Epoch(5));
}

pub(crate) async fn demotion_is_refused_while_there_are_writes<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    bench.write(WEB, "a", b"one");
    let demote = async |bench: &B| bench.datasets().set_role(WEB, Role::Standby, Epoch(2)).await;
    assert_cause!(demote(&bench).await, Cause::Diverged { newest: None, from: None });
    let one = snap(bench.datasets(), 1).await.guid;
    bench.write(WEB, "a", b"two");
    assert_cause!(demote(&bench).await, Cause::Diverged { newest, .. } if newest == Some(one));
    assert_eq!(bench.read(WEB, "a").unwrap(), b"two", "a refusal changes nothing");
    assert_eq!(bench.datasets().get(ID).await.unwrap().unwrap().epoch, E1);
    snap(bench.datasets(), 2).await;
    demote(&bench).await.unwrap();
    demote(&bench).await.unwrap();
    bench.reopen();
    let dataset = bench.datasets().get(ID).await.unwrap().unwrap();
    assert_eq!((dataset.role, dataset.epoch), (Role::Standby, Epoch(2)));
    let head = bench.datasets().written(ID).await.unwrap().head.0;
    assert!(if B::EXACT { head == 3 } else { head >= 3 }, "{head}");
    bench.datasets().set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    assert_eq!(bench.read(WEB, "a").unwrap(), b"two");
}

pub(crate) async fn set_aside_keeps_what_diverged<B: Bench>() {
    let (mut a, b) = (owner::<B>(1).await, B::new(2));
    let d = a.datasets();
    a.write(WEB, "a", b"common");
    let common = snap(d, 1).await.guid;
    copy(d, b.datasets(), None, common).await;
    d.hold(WEB, common, "last:2").await.unwrap();
    d.set_properties(ID, BTreeMap::from([("name".to_owned(), "web".to_owned())])).await.unwrap();
    a.write(WEB, "a", b"mine");
    let mine = snap(d, 2).await.guid;
    a.write(WEB, "lost", b"never sent");
    b.datasets().set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    b.write(WEB, "a", b"theirs");
    let theirs = snap(b.datasets(), 9).await.guid;

    let unknown = d.set_aside(WEB, Some(Guid(3)), &orphan_name(1, 3), Timestamp(5)).await;
    assert_cause!(unknown, Cause::NoSnapshot(Guid(3)));
    let orphan = d.set_aside(WEB, Some(common), &orphan_name(1, 3), Timestamp(5)).await.unwrap();
    let again = d.set_aside(WEB, Some(common), &orphan_name(1, 3), Timestamp(6)).await.unwrap();
    assert_eq!(again, orphan, "set aside once");
    a.reopen();
    let d = a.datasets();
    assert_eq!(orphan.id, DatasetId::Orphan(WEB, E1));
    assert_eq!((orphan.role, orphan.base), (Role::Orphan, Some(common)));
    let last = orphan.snapshots.last().unwrap();
    assert_eq!((&last.name, last.created), (&orphan_name(1, 3), Timestamp(5)));
    assert_eq!(line(d, orphan.id).await, [common, mine, last.guid]);
    let standby = d.get(ID).await.unwrap().unwrap();
    assert_eq!((standby.role, line(d, ID).await), (Role::Standby, vec![common]));
    assert_eq!(standby.properties["name"], "web");
    assert_eq!(holds(d, WEB).await, BTreeMap::from([("last:2".to_owned(), common)]));

    copy(b.datasets(), d, Some(common), theirs).await;
    d.clone_from(orphan.id, last.guid, COPY, E1, Shape::default()).await.unwrap();
    assert_eq!(a.read(COPY, "lost").unwrap(), b"never sent", "nothing is lost");
    assert_eq!(a.read(COPY, "a").unwrap(), b"mine");
    d.destroy(orphan.id).await.unwrap();
    d.set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    assert_eq!(a.read(WEB, "a").unwrap(), b"theirs", "and the standby stands by itself");
}

pub(crate) async fn set_aside_without_a_base_leaves_nothing_behind<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "a", b"mine");
    let orphan = d.set_aside(WEB, None, &orphan_name(1, 1), Timestamp(5)).await.unwrap();
    assert_eq!((orphan.base, orphan.snapshots.len()), (None, 1));
    assert_eq!(d.get(ID).await.unwrap(), None);
    let again = d.set_aside(WEB, None, &orphan_name(1, 1), Timestamp(5)).await.unwrap();
    assert_eq!(again, orphan);
    d.create(WEB, E1, Shape::default()).await.unwrap();
    let second = d.set_aside(WEB, None, &orphan_name(1, 2), Timestamp(6)).await;
    assert_cause!(second, Cause::Exists);
    assert_eq!(d.list().await.unwrap().len(), 2, "an orphan is never overwritten");
}

pub(crate) async fn set_aside_of_a_standby_keeps_its_snapshots<B: Bench>() {
    let (a, b) = (owner::<B>(1).await, B::new(2));
    a.write(WEB, "a", b"1");
    let one = snap(a.datasets(), 1).await.guid;
    a.write(WEB, "a", b"2");
    let two = snap(a.datasets(), 2).await.guid;
    let d = b.datasets();
    copy(a.datasets(), d, None, one).await;
    copy(a.datasets(), d, Some(one), two).await;
    let orphan = d.set_aside(WEB, Some(one), &orphan_name(1, 3), Timestamp(5)).await.unwrap();
    let last = orphan.snapshots.last().unwrap().guid;
    assert_eq!(line(d, orphan.id).await, [one, two, last]);
    assert_eq!(line(d, ID).await, [one]);
    d.clone_from(orphan.id, last, COPY, E1, Shape::default()).await.unwrap();
    assert_eq!(b.read(COPY, "a").unwrap(), b"2");
}

/// A grain with a common state and one of its own, set aside down to the common one. Returns both and the last.
async fn aside<B: Bench>(bench: &B) -> [Guid; 3] {
    let d = bench.datasets();
    bench.write(WEB, "a", b"common");
    let common = snap(d, 1).await.guid;
    bench.write(WEB, "a", b"mine");
    let mine = snap(d, 2).await.guid;
    bench.write(WEB, "b", b"never sent");
    let orphan = d.set_aside(WEB, Some(common), &orphan_name(1, 3), Timestamp(5)).await.unwrap();
    [common, mine, orphan.snapshots.last().unwrap().guid]
}

pub(crate) async fn what_was_set_aside_takes_the_place_of_its_grain_again<B: Bench>() {
    for copy_stays in [true, false] {
        let (mut a, b) = (owner::<B>(1).await, B::new(2));
        let guids = aside(&a).await;
        let d = a.datasets();
        copy(d, b.datasets(), None, guids[0]).await;
        d.set_properties(ID, BTreeMap::from([("name".to_owned(), "web".to_owned())]))
            .await
            .unwrap();
        if !copy_stays {
            d.destroy(ID).await.unwrap();
        }
        d.view(DatasetId::Orphan(WEB, E1), None).await.unwrap();
        let back = d.take_back(WEB, E1).await.unwrap();
        a.reopen();
        let d = a.datasets();
        assert_eq!(d.get(ID).await.unwrap().as_ref(), Some(&back), "what is told is what is found");
        assert_eq!((back.role, back.epoch, back.base), (Role::Standby, E1, None));
        assert_eq!(line(d, ID).await, guids);
        assert_eq!(d.get(DatasetId::Orphan(WEB, E1)).await.unwrap(), None);
        assert_cause!(d.take_back(WEB, E1).await, Cause::Missing);
        // It goes on as any copy does: promoted, written, sent on top of the common state.
        d.set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
        assert_eq!(a.read(WEB, "b").unwrap(), b"never sent");
        assert_eq!(a.read(WEB, "a").unwrap(), b"mine");
        a.write(WEB, "b", b"more");
        let more = snap(d, 4).await.guid;
        copy(d, b.datasets(), Some(guids[0]), guids[1]).await;
        copy(d, b.datasets(), Some(guids[1]), guids[2]).await;
        copy(d, b.datasets(), Some(guids[2]), more).await;
        // And is set aside again.
        let orphan =
            d.set_aside(WEB, Some(guids[0]), &orphan_name(3, 5), Timestamp(9)).await.unwrap();
        assert_eq!(orphan.id, DatasetId::Orphan(WEB, Epoch(3)));
        assert_eq!(orphan.snapshots.len(), 5);
        assert_eq!(line(d, ID).await, [guids[0]]);
    }
}

pub(crate) async fn what_is_in_the_way_is_never_lost<B: Bench>() {
    let (a, b) = (owner::<B>(1).await, B::new(2));
    let guids = aside(&a).await;
    let d = a.datasets();
    assert_cause!(d.take_back(WEB, Epoch(9)).await, Cause::Missing);
    // The grain has gone on elsewhere, and a newer state came back.
    copy(d, b.datasets(), None, guids[0]).await;
    b.datasets().set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    b.write(WEB, "a", b"theirs");
    let theirs = snap(b.datasets(), 9).await.guid;
    copy(b.datasets(), d, Some(guids[0]), theirs).await;
    assert_cause!(d.take_back(WEB, E1).await, Cause::Diverged { newest, .. } if newest == Some(theirs));
    d.set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    assert_cause!(d.take_back(WEB, E1).await, Cause::WrongRole { is: Role::Owner });
    assert_eq!(a.read(WEB, "a").unwrap(), b"theirs");
    assert_eq!(line(d, DatasetId::Orphan(WEB, E1)).await, guids, "a refusal changes nothing");
    // Set aside itself, it makes way, and both are there.
    let other = d.set_aside(WEB, Some(guids[0]), &orphan_name(3, 10), Timestamp(7)).await.unwrap();
    d.take_back(WEB, E1).await.unwrap();
    assert_eq!(line(d, ID).await, guids);
    let last = other.snapshots.last().unwrap().guid;
    assert_eq!(line(d, other.id).await, [guids[0], theirs, last]);
    d.clone_from(other.id, last, COPY, Epoch(3), Shape::default()).await.unwrap();
    assert_eq!(a.read(COPY, "a").unwrap(), b"theirs");
    // Neither needs the other.
    d.destroy(ID).await.unwrap();
    assert_eq!(line(d, other.id).await, [guids[0], theirs, last]);
}

pub(crate) async fn a_discarded_orphan_gives_its_space_back_and_its_fork_stays<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    bench.write(WEB, "a", b"common");
    let d = bench.datasets();
    let common = snap(d, 1).await.guid;
    bench.write(WEB, "big", &noise(2 << 20, 7));
    let orphan = d.set_aside(WEB, Some(common), &orphan_name(1, 2), Timestamp(5)).await.unwrap();
    let last = orphan.snapshots.last().unwrap().guid;
    d.clone_from(orphan.id, last, COPY, E1, Shape::default()).await.unwrap();
    let took: u64 = d.list().await.unwrap().iter().map(|dataset| dataset.used.0).sum();
    d.destroy(orphan.id).await.unwrap();
    d.destroy(orphan.id).await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    let ids: Vec<DatasetId> = d.list().await.unwrap().iter().map(|dataset| dataset.id).collect();
    assert_eq!(ids, [ID, DatasetId::Grain(COPY)]);
    let takes: u64 = d.list().await.unwrap().iter().map(|dataset| dataset.used.0).sum();
    // Others tell their space when the pool has written everything down.
    assert!(!B::EXACT || takes + (1 << 20) < took, "{takes} of {took} are left");
    assert_eq!(bench.read(COPY, "big").unwrap(), noise(2 << 20, 7));
    assert_eq!(line(d, ID).await, [common]);
}

pub(crate) async fn restore_is_a_new_state_on_top<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "a", b"old");
    bench.write(WEB, "gone", b"back");
    let old = snap(d, 1).await.guid;
    bench.write(WEB, "a", b"new");
    bench.remove(WEB, "gone");
    bench.write(WEB, "extra", b"x");
    let new = snap(d, 2).await.guid;
    assert_cause!(d.restore(WEB, Guid(4)).await, Cause::NoSnapshot(Guid(4)));
    d.restore(WEB, old).await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    assert_eq!(bench.read(WEB, "a").unwrap(), b"old");
    assert_eq!(bench.read(WEB, "gone").unwrap(), b"back");
    assert_eq!(bench.read(WEB, "extra"), None);
    assert_eq!(line(d, ID).await, [old, new], "no snapshot is removed");
    assert!(d.written(ID).await.unwrap().bytes.0 > 0, "the head differs from the newest");
    snap(d, 3).await;
    assert_eq!(d.written(ID).await.unwrap().bytes, Bytes(0));
    d.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    let result = d.restore(WEB, old).await;
    assert_cause!(result, Cause::WrongRole { is: Role::Standby });
}

pub(crate) async fn clone_begins_with_the_snapshot<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "a", b"one");
    let one = snap(d, 1).await;
    bench.write(WEB, "a", b"two");
    snap(d, 2).await;
    assert_cause!(
        d.clone_from(ID, Guid(1), COPY, E1, Shape::of(QUOTA)).await,
        Cause::NoSnapshot(_)
    );
    assert_cause!(d.clone_from(ID, one.guid, WEB, E1, Shape::of(QUOTA)).await, Cause::Exists);
    d.clone_from(ID, one.guid, COPY, Epoch(8), Shape::of(QUOTA)).await.unwrap();
    d.destroy(ID).await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    let dataset = d.get(DatasetId::Grain(COPY)).await.unwrap().unwrap();
    assert_eq!((dataset.role, dataset.epoch, dataset.quota), (Role::Owner, Epoch(8), QUOTA));
    assert_eq!(dataset.snapshots, [one]);
    assert_eq!(bench.read(COPY, "a").unwrap(), b"one", "independent of its origin");
    assert_eq!(d.written(DatasetId::Grain(COPY)).await.unwrap().bytes, Bytes(0));
}

pub(crate) async fn destroy_removes_everything<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    bench.write(WEB, "a", b"one");
    let one = snap(bench.datasets(), 1).await.guid;
    bench.datasets().hold(WEB, one, "t").await.unwrap();
    bench.datasets().destroy(ID).await.unwrap();
    bench.datasets().destroy(ID).await.unwrap();
    bench.reopen();
    assert_eq!(bench.datasets().list().await.unwrap(), []);
    bench.datasets().create(WEB, Epoch(2), Shape::default()).await.unwrap();
    assert_eq!(bench.read(WEB, "a"), None);
    assert_eq!(holds(bench.datasets(), WEB).await, BTreeMap::new());
}

pub(crate) async fn estimate_is_near_the_length<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    bench.write(WEB, "a", &noise(500_000, 1));
    let one = snap(d, 1).await.guid;
    bench.write(WEB, "b", &noise(300_000, 2));
    let two = snap(d, 2).await.guid;
    for (from, to) in [(None, one), (None, two), (Some(one), two)] {
        let length = stream(d, ID, from, to).await.len() as u64;
        let estimate = d.estimate(ID, from, to).await.unwrap();
        // What a pool needs beside the data is not in its estimates.
        let slack = if B::EXACT { length / 10 } else { length / 4 };
        assert!(estimate.abs_diff(length) <= slack, "{estimate} for {length}");
    }
    assert_cause!(d.estimate(ID, Some(Guid(1)), two).await, Cause::NoSnapshot(Guid(1)));
    for from in [one, two] {
        assert_cause!(d.estimate(ID, Some(from), one).await, Cause::Diverged { .. });
        assert_cause!(d.send(ID, Some(from), one, &mut Vec::new()).await, Cause::Diverged { .. });
    }
}

pub(crate) async fn space_says_what_is_left<B: Bench>() {
    let bench = owner::<B>(1).await;
    let space = bench.datasets().space().await.unwrap();
    assert!(space.free.0 > 0 && space.free <= space.total, "{space:?}");
    bench.write(WEB, "a", &noise(500_000, 1));
    snap(bench.datasets(), 1).await;
    let used = bench.datasets().get(ID).await.unwrap().unwrap().used;
    assert!(used.0 >= 500_000, "{used}");
}
