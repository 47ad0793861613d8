//! Every sentence of the trait's documentation as a test. Generic over the backend.

use std::collections::BTreeMap;

use scrap_host::datasets::{
    CLONE_TAG, Cause, Dataset, DatasetError, DatasetId, Datasets, Incoming, Role, Shape,
};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use crate::bench::Bench;

mod looks;
mod moves;
mod templates;

pub(crate) use looks::*;
pub(crate) use moves::*;
pub(crate) use templates::*;

pub(crate) const WEB: GrainId = GrainId(1);
pub(crate) const COPY: GrainId = GrainId(2);
pub(crate) const ID: DatasetId = DatasetId::Grain(WEB);
pub(crate) const E1: Epoch = Epoch(1);
/// More than any test writes.
const QUOTA: Bytes = Bytes(64 << 20);

/// Makes one `#[tokio::test]` per function of this module, for one backend.
macro_rules! suite {
    ($bench:ty: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if <$bench as crate::bench::Bench>::available() {
                    crate::contract::$name::<$bench>().await;
                }
            }
        )*
    };
    ($bench:ty) => {
        crate::contract::suite! { $bench:
            nothing_is_there_at_first
            create_makes_an_empty_owner
            quota_and_properties_stay
            written_is_zero_exactly_if_nothing_changed
            written_bounds_the_stream
            snapshot_is_idempotent_by_name
            snapshot_is_for_owners
            newest_and_held_snapshots_are_not_pruned
            a_tag_holds_one_snapshot
            full_and_incremental_streams_carry_everything
            receive_says_why_not
            a_broken_stream_leaves_the_last_good_state
            promotion_makes_the_newest_snapshot_the_head
            demotion_is_refused_while_there_are_writes
            set_aside_keeps_what_diverged
            set_aside_without_a_base_leaves_nothing_behind
            set_aside_of_a_standby_keeps_its_snapshots
            what_was_set_aside_takes_the_place_of_its_grain_again
            what_is_in_the_way_is_never_lost
            a_discarded_orphan_gives_its_space_back_and_its_fork_stays
            restore_is_a_new_state_on_top
            clone_begins_with_the_snapshot
            destroy_removes_everything
            estimate_is_near_the_length
            space_says_what_is_left
            several_grains_are_frozen_by_one_call
            nothing_goes_on_without_its_token
            a_template_never_changes_once_it_is_sealed
            clones_begin_with_their_template
            templates_travel
            a_clone_comes_in_where_its_template_is
            a_clone_that_never_changed_travels_as_a_whole
            a_clone_is_set_aside_down_to_its_template
            a_clone_goes_back_to_its_template
            a_clone_of_a_clone_stands_by_itself
            views_show_snapshots_until_they_end
            a_difference_names_every_path
            health_is_known
        }
    };
}
pub(crate) use suite;

pub(crate) fn name(epoch: u64, seq: u64) -> SnapshotName {
    SnapshotName { epoch: Epoch(epoch), seq, purpose: Purpose::Replication }
}

pub(crate) fn orphan_name(epoch: u64, seq: u64) -> SnapshotName {
    SnapshotName { epoch: Epoch(epoch), seq, purpose: Purpose::Orphan }
}

/// A snapshot with a number.
pub(crate) async fn snap<D: Datasets>(datasets: &D, seq: u64) -> Snapshot {
    let now = Timestamp(1_000 * i64::try_from(seq).unwrap());
    datasets.snapshot(WEB, &name(1, seq), now).await.unwrap()
}

pub(crate) async fn stream<D: Datasets>(
    from: &D,
    id: DatasetId,
    base: Option<Guid>,
    to: Guid,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = from.send(id, base, to, &mut bytes).await.unwrap();
    assert_eq!(length, bytes.len() as u64, "the length that send returns");
    bytes
}

/// What a method says that the dataset is then is what the next look finds; space is measured only by looks.
pub(crate) async fn as_found<D: Datasets>(datasets: &D, told: Dataset) -> Dataset {
    let found = datasets.must(told.id).await.unwrap();
    assert_eq!(told, Dataset { used: told.used, ..found.clone() });
    found
}

pub(crate) async fn receive<D: Datasets>(
    to: &D,
    base: Option<Guid>,
    bytes: &[u8],
) -> Result<Snapshot, DatasetError> {
    let told = to.receive(WEB, Incoming::new(E1, base), &mut &*bytes).await?;
    Ok(as_found(to, told).await.snapshots.last().unwrap().clone())
}

/// Sends a snapshot of the grain from one pool to another.
pub(crate) async fn copy<D: Datasets>(
    from: &D,
    to: &D,
    base: Option<Guid>,
    guid: Guid,
) -> Snapshot {
    let bytes = stream(from, ID, base, guid).await;
    receive(to, base, &bytes).await.unwrap()
}

async fn line<D: Datasets>(datasets: &D, id: DatasetId) -> Vec<Guid> {
    let dataset = datasets.get(id).await.unwrap().unwrap();
    dataset.snapshots.iter().map(|snapshot| snapshot.guid).collect()
}

/// What people and copies hold, and the origin.
pub(crate) async fn holds<D: Datasets>(datasets: &D, grain: GrainId) -> BTreeMap<String, Guid> {
    let mut holds = datasets.holds(grain).await.unwrap();
    holds.retain(|tag, _| !tag.starts_with(CLONE_TAG));
    holds
}

/// A pool with the grain in it, as owner.
async fn owner<B: Bench>(seed: u64) -> B {
    let bench = B::new(seed);
    bench.datasets().create(WEB, E1, Shape::default()).await.unwrap();
    bench
}

pub(crate) fn cause<T>(result: Result<T, DatasetError>) -> Cause {
    result.err().unwrap().cause
}

macro_rules! assert_cause {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        let cause = cause($result);
        assert!(matches!(cause, $pattern $(if $guard)?), "{cause:?}");
    };
}

pub(crate) use assert_cause;

pub(crate) async fn nothing_is_there_at_first<B: Bench>() {
    let bench = B::new(1);
    let d = bench.datasets();
    assert_eq!(d.list().await.unwrap(), []);
    assert_eq!(d.get(ID).await.unwrap(), None);
    let (guid, missing) = (Guid(1), Timestamp(0));
    assert_cause!(d.written(ID).await, Cause::Missing);
    assert_cause!(d.snapshot(WEB, &name(1, 1), missing).await, Cause::Missing);
    assert_cause!(d.set_role(WEB, Role::Owner, E1).await, Cause::Missing);
    assert_cause!(d.set_shape(WEB, Shape::of(Bytes(1))).await, Cause::Missing);
    assert_cause!(d.set_properties(ID, BTreeMap::new()).await, Cause::Missing);
    assert_cause!(d.prune(WEB, &[guid]).await, Cause::Missing);
    assert_cause!(d.hold(WEB, guid, "a").await, Cause::Missing);
    assert_cause!(d.release(WEB, "a").await, Cause::Missing);
    assert_cause!(d.holds(WEB).await, Cause::Missing);
    assert_cause!(d.restore(WEB, guid).await, Cause::Missing);
    assert_cause!(d.clone_from(ID, guid, COPY, E1, Shape::default()).await, Cause::Missing);
    assert_cause!(d.send(ID, None, guid, &mut Vec::new()).await, Cause::Missing);
    assert_cause!(d.estimate(ID, None, guid).await, Cause::Missing);
    assert_cause!(d.set_aside(WEB, None, &orphan_name(1, 1), missing).await, Cause::Missing);
    d.destroy(ID).await.unwrap();
    assert_eq!(d.list().await.unwrap(), [], "refusals leave nothing behind");
}

pub(crate) async fn create_makes_an_empty_owner<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    assert_cause!(bench.datasets().create(WEB, Epoch(9), Shape::default()).await, Cause::Exists);
    bench.reopen();
    let d = bench.datasets();
    let dataset = d.get(ID).await.unwrap().unwrap();
    assert_eq!((dataset.id, dataset.role, dataset.epoch), (ID, Role::Owner, E1));
    assert_eq!((dataset.snapshots.len(), dataset.base), (0, None));
    assert_eq!(d.list().await.unwrap(), [dataset]);
    let written = d.written(ID).await.unwrap();
    assert_eq!(written.bytes, Bytes(0), "an empty head is no change");
    assert!(!B::EXACT || written.head == Bytes(0));
}

pub(crate) async fn quota_and_properties_stay<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    d.set_shape(WEB, Shape::of(QUOTA)).await.unwrap();
    d.set_properties(ID, one("name", "web")).await.unwrap();
    d.set_properties(ID, one("manifest", "a: ü\nb: \"x\"")).await.unwrap();
    d.set_properties(ID, one("name", "shop")).await.unwrap();
    bench.reopen();
    let dataset = bench.datasets().get(ID).await.unwrap().unwrap();
    assert_eq!(dataset.quota, QUOTA);
    let mut expected = one("name", "shop");
    expected.extend(one("manifest", "a: ü\nb: \"x\""));
    assert_eq!(dataset.properties, expected);
}

pub(crate) async fn written_is_zero_exactly_if_nothing_changed<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    let bytes = async || d.written(ID).await.unwrap().bytes.0;
    bench.write(WEB, "a/b", b"12345");
    assert!(bytes().await >= 5, "without a snapshot everything is written");
    let head = d.written(ID).await.unwrap().head.0;
    assert!(if B::EXACT { head == 5 } else { head >= 5 }, "{head}");
    for (seq, change) in ["same length", "longer", "new", "gone", "empty"].into_iter().enumerate() {
        snap(d, seq as u64).await;
        assert_eq!(bytes().await, 0, "just before: {change}");
        assert_eq!(bytes().await, 0, "asked twice, just before: {change}");
        match change {
            "same length" => bench.write(WEB, "a/b", b"54321"),
            "longer" => bench.write(WEB, "a/b", b"543210"),
            "new" => bench.write(WEB, "c", b"x"),
            "gone" => bench.remove(WEB, "a/b"),
            "empty" => bench.write(WEB, "nothing", b""),
            other => panic!("{other}"),
        }
        assert!(bytes().await > 0, "after: {change}");
    }
}

pub(crate) async fn written_bounds_the_stream<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    for number in 0..40 {
        bench.write(WEB, &format!("dir-{}/file \"{number}\"", number % 3), &[b'x'; 3000]);
    }
    bench.write(WEB, "large", &vec![1; 3_000_000]);
    let first = snap(d, 1).await.guid;
    for number in 0..40 {
        bench.write(WEB, &format!("dir-{}/file \"{number}\"", number % 3), &[b'y'; 17]);
    }
    bench.remove(WEB, "large");
    bench.write(WEB, "larger", &vec![2; 4_000_000]);
    let bound = d.written(ID).await.unwrap().bytes.0;
    let second = snap(d, 2).await.guid;
    let length = stream(d, ID, Some(first), second).await.len() as u64;
    assert!(length <= bound, "{length} bytes of stream, {bound} announced");
}

pub(crate) async fn snapshot_is_idempotent_by_name<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    bench.write(WEB, "a", b"one");
    let first = snap(bench.datasets(), 1).await;
    assert_eq!((&first.name, first.created), (&name(1, 1), Timestamp(1000)));
    bench.write(WEB, "a", b"two");
    bench.reopen();
    let d = bench.datasets();
    let again = d.snapshot(WEB, &name(1, 1), Timestamp(99)).await.unwrap();
    assert_eq!(again, first);
    let second = snap(d, 2).await;
    assert_ne!(second.guid, first.guid);
    assert_eq!(line(d, ID).await, [first.guid, second.guid], "oldest first");
    let other = B::new(2);
    copy(d, other.datasets(), None, first.guid).await;
    other.datasets().set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(other.read(WEB, "a").unwrap(), b"one", "the second call froze nothing");
}

pub(crate) async fn snapshot_is_for_owners<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    d.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    let result = d.snapshot(WEB, &name(1, 1), Timestamp(0)).await;
    assert_cause!(result, Cause::WrongRole { is: Role::Standby });
    let result = d.set_role(WEB, Role::Orphan, Epoch(3)).await;
    assert_cause!(result, Cause::WrongRole { is: Role::Standby });
}

pub(crate) async fn newest_and_held_snapshots_are_not_pruned<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    let mut guids = Vec::new();
    for seq in 0..5 {
        bench.write(WEB, "a", format!("state {seq}").as_bytes());
        guids.push(snap(d, seq).await.guid);
    }
    d.hold(WEB, guids[1], "last:3").await.unwrap();
    assert_cause!(d.prune(WEB, &[guids[0], guids[4]]).await, Cause::Held(_));
    let result = d.prune(WEB, &[guids[0], guids[1]]).await;
    assert_cause!(result, Cause::Held(ref why) if why.contains("last:3"));
    assert_eq!(line(d, ID).await, guids, "a refusal removes nothing");
    d.prune(WEB, &[guids[0], Guid(7), guids[2]]).await.unwrap();
    d.prune(WEB, &[guids[0]]).await.unwrap();
    assert_eq!(line(d, ID).await, [guids[1], guids[3], guids[4]]);
    d.release(WEB, "last:3").await.unwrap();
    d.prune(WEB, &[guids[1]]).await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    assert_eq!(line(d, ID).await, [guids[3], guids[4]]);
    let other = B::new(2);
    copy(d, other.datasets(), None, guids[3]).await;
    copy(d, other.datasets(), Some(guids[3]), guids[4]).await;
    let refused = d.send(ID, None, guids[0], &mut Vec::new()).await;
    assert_cause!(refused, Cause::NoSnapshot(guid) if guid == guids[0]);
}

pub(crate) async fn a_tag_holds_one_snapshot<B: Bench>() {
    let mut bench = owner::<B>(1).await;
    let d = bench.datasets();
    let (one, two) = (snap(d, 1).await.guid, snap(d, 2).await.guid);
    assert_cause!(d.hold(WEB, Guid(5), "t").await, Cause::NoSnapshot(Guid(5)));
    d.hold(WEB, one, "t").await.unwrap();
    d.hold(WEB, two, "t").await.unwrap();
    d.hold(WEB, one, "u").await.unwrap();
    bench.reopen();
    let d = bench.datasets();
    let expected = BTreeMap::from([("t".to_owned(), two), ("u".to_owned(), one)]);
    assert_eq!(d.holds(WEB).await.unwrap(), expected);
    d.release(WEB, "u").await.unwrap();
    d.release(WEB, "never").await.unwrap();
    assert_eq!(d.holds(WEB).await.unwrap(), BTreeMap::from([("t".to_owned(), two)]));
}

pub(crate) async fn full_and_incremental_streams_carry_everything<B: Bench>() {
    let (a, mut b) = (owner::<B>(1).await, B::new(2));
    let d = a.datasets();
    a.write(WEB, "keep", b"kept");
    a.write(WEB, "sub/dir/change", b"before");
    a.write(WEB, "remove", b"removed");
    let first = snap(d, 1).await;
    let got = copy(d, b.datasets(), None, first.guid).await;
    assert_eq!(got, first, "name, guid and time travel");
    a.write(WEB, "sub/dir/change", b"after");
    a.remove(WEB, "remove");
    a.write(WEB, "add", b"added");
    let second = snap(d, 2).await;
    copy(d, b.datasets(), Some(first.guid), second.guid).await;
    b.reopen();
    let dataset = b.datasets().get(ID).await.unwrap().unwrap();
    assert_eq!((dataset.role, dataset.epoch), (Role::Standby, E1));
    assert_eq!(dataset.snapshots, [first, second.clone()]);
    assert_eq!(b.datasets().written(ID).await.unwrap().bytes, Bytes(0));
    b.datasets().set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    for (path, contents) in [
        ("keep", Some("kept")),
        ("sub/dir/change", Some("after")),
        ("remove", None),
        ("add", Some("added")),
    ] {
        assert_eq!(b.read(WEB, path), contents.map(|text| text.as_bytes().to_vec()), "{path}");
    }
    let copy_of_standby = B::new(3);
    copy(b.datasets(), copy_of_standby.datasets(), None, second.guid).await;
    assert_eq!(line(copy_of_standby.datasets(), ID).await, [second.guid]);
}

pub(crate) async fn receive_says_why_not<B: Bench>() {
    let (a, b) = (owner::<B>(1).await, B::new(2));
    let (da, db) = (a.datasets(), b.datasets());
    a.write(WEB, "a", b"1");
    let one = snap(da, 1).await.guid;
    a.write(WEB, "a", b"2");
    let two = snap(da, 2).await.guid;
    a.write(WEB, "a", b"3");
    let three = snap(da, 3).await.guid;
    let full = stream(da, ID, None, one).await;
    let second = stream(da, ID, Some(one), two).await;
    let third = stream(da, ID, Some(two), three).await;

    assert_cause!(receive(db, Some(one), &second).await, Cause::Missing);
    assert_cause!(receive(db, None, &second).await, Cause::BadStream(_));
    receive(db, None, &full).await.unwrap();
    assert_cause!(receive(db, None, &full).await, Cause::Exists);
    let result = receive(db, Some(two), &third).await;
    assert_cause!(result, Cause::Diverged { newest, from } if newest == Some(one) && from == Some(two));
    assert_cause!(receive(db, Some(two), &second).await, Cause::BadStream(_));
    receive(db, Some(one), &second).await.unwrap();
    assert_cause!(receive(db, Some(one), &second).await, Cause::Exists);
    let other_full = stream(da, ID, None, three).await;
    let result = receive(db, None, &other_full).await;
    assert_cause!(result, Cause::Diverged { newest, from: None } if newest == Some(two));
    db.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    let result = receive(db, Some(two), &third).await;
    assert_cause!(result, Cause::WrongRole { is: Role::Owner });
    assert_eq!(line(db, ID).await, [one, two]);
}

pub(crate) async fn a_broken_stream_leaves_the_last_good_state<B: Bench>() {
    let (a, mut b) = (owner::<B>(1).await, B::new(2));
    a.write(WEB, "a", &[b'a'; 100_000]);
    let first = snap(a.datasets(), 1).await.guid;
    let full = stream(a.datasets(), ID, None, first).await;
    broken(b.datasets(), None, &full, None).await;
    receive(b.datasets(), None, &full).await.unwrap();
    a.write(WEB, "a", &[b'b'; 100_000]);
    a.write(WEB, "b/c", b"new");
    let second = snap(a.datasets(), 2).await.guid;
    let increment = stream(a.datasets(), ID, Some(first), second).await;
    let before = b.datasets().get(ID).await.unwrap();
    broken(b.datasets(), Some(first), &increment, before.clone()).await;
    b.reopen();
    assert_eq!(b.datasets().get(ID).await.unwrap(), before, "also after a restart");
    receive(b.datasets(), Some(first), &increment).await.unwrap();
    b.datasets().set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(b.read(WEB, "a").unwrap(), [b'b'; 100_000]);
}

async fn broken<D: Datasets>(
    d: &D,
    base: Option<Guid>,
    good: &[u8],
    before: Option<scrap_host::datasets::Dataset>,
) {
    let twentieths = (0..20).map(|twentieth| good.len() * twentieth / 20);
    for at in twentieths.chain([good.len() - 1]) {
        assert_cause!(receive(d, base, &good[..at]).await, Cause::BadStream(_));
        let mut flipped = good.to_vec();
        flipped[at] ^= 0x10;
        let refused = cause(receive(d, base, &flipped).await);
        assert!(matches!(refused, Cause::BadStream(_) | Cause::NoSpace), "byte {at}: {refused:?}");
        assert_eq!(d.get(ID).await.unwrap(), before, "at byte {at}");
    }
}

pub(crate) async fn several_grains_are_frozen_by_one_call<B: Bench>() {
    let bench = owner::<B>(1).await;
    let d = bench.datasets();
    d.create(COPY, E1, Shape::default()).await.unwrap();
    bench.write(WEB, "a", b"web");
    bench.write(COPY, "a", b"copy");
    let before = snap(d, 1).await;
    let wanted = [(GrainId(9), name(1, 1)), (COPY, name(1, 7)), (WEB, name(1, 1))];
    let all = d.snapshot_all(&wanted, Timestamp(7000)).await;
    assert_eq!(all.iter().map(|(grain, _)| *grain).collect::<Vec<_>>(), [GrainId(9), COPY, WEB]);
    let [missing, copy, web] = <[_; 3]>::try_from(all).unwrap();
    assert_cause!(missing.1, Cause::Missing);
    let (copy, web) = (copy.1.unwrap(), web.1.unwrap());
    assert_eq!((&copy.snapshot.name, copy.snapshot.created), (&name(1, 7), Timestamp(7000)));
    assert_eq!(web.snapshot, before, "the same name again");
    assert_eq!(as_found(d, copy.dataset).await.snapshots, [copy.snapshot]);
    assert_eq!(as_found(d, web.dataset).await.snapshots, [before]);
}

pub(crate) async fn nothing_goes_on_without_its_token<B: Bench>() {
    let (a, b) = (owner::<B>(1).await, B::new(2));
    let d = a.datasets();
    a.write(WEB, "a", b"one");
    let one = snap(d, 1).await.guid;
    let bytes = stream(d, ID, None, one).await;
    assert_eq!(b.datasets().unfinished(WEB).await.unwrap(), None);
    let incoming = Incoming { resumed: true, ..Incoming::new(E1, None) };
    let refused = b.datasets().receive(WEB, incoming, &mut bytes.as_slice()).await;
    assert_cause!(refused, Cause::BadStream(_));
    for token in ["", "1-abc-d0-7890", "-t\n'"] {
        let refused = d.send_rest(ID, token, one, &mut Vec::new()).await;
        assert_cause!(refused, Cause::NoSnapshot(guid) if guid == one);
    }
    let refused = b.datasets().send_rest(ID, "1-abc-d0-7890", one, &mut Vec::new()).await;
    assert_cause!(refused, Cause::Missing);
    receive(b.datasets(), None, &bytes).await.unwrap();
    assert_eq!(b.datasets().unfinished(WEB).await.unwrap(), None);
}
