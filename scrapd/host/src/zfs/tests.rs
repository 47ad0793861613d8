//! What can only be tested from inside: work that is broken off after each of its steps. Needs a pool, as the contract suite
//! on ZFS does; without `SCRAP_TEST_ZFS_ROOT` and `SCRAP_TEST_ZFS_MOUNT` nothing is tested here.

use std::collections::BTreeMap;
use std::fs;

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Purpose, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::aside::{SetAside, Step};
use super::back::Back;
use super::*;
use crate::datasets::{CLONE_TAG, Datasets, Incoming, ORIGIN_TAG, Role, Shape};

const WEB: GrainId = GrainId(1);
const RESERVED: Bytes = Bytes(1 << 20);
const ID: DatasetId = DatasetId::Grain(WEB);

/// A new place in the pool; `None` without one.
fn place(name: &str) -> Option<ZfsSettings> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(root), Some(mount)) = (var("SCRAP_TEST_ZFS_ROOT"), var("SCRAP_TEST_ZFS_MOUNT"))
    else {
        println!("SKIPPED: SCRAP_TEST_ZFS_ROOT and SCRAP_TEST_ZFS_MOUNT name no pool and folder");
        return None;
    };
    let name = format!("i-{}-{name}", std::process::id());
    Some(ZfsSettings::new(format!("{root}/{name}"), PathBuf::from(mount).join(name)))
}

async fn clear(pool: ZfsDatasets, settings: &ZfsSettings) {
    for dataset in pool.list().await.unwrap() {
        pool.destroy(dataset.id).await.unwrap();
    }
    for parent in names::PARENTS {
        pool.inner.tools.zfs(&["destroy", &pool.inner.names.parent(parent)]).await.unwrap();
    }
    pool.inner.tools.zfs(&["destroy", &settings.root]).await.unwrap();
    fs::remove_dir_all(&settings.mount_root).unwrap();
}

fn name(seq: u64, purpose: Purpose) -> SnapshotName {
    SnapshotName { epoch: Epoch(1), seq, purpose }
}

async fn holds(pool: &ZfsDatasets) -> BTreeMap<String, Guid> {
    let mut holds = pool.holds(WEB).await.unwrap();
    holds.retain(|tag, _| !tag.starts_with(CLONE_TAG));
    holds
}

/// A grain with a common snapshot, a snapshot of its own, and writes after it. Returns the common one. As a clone, that is
/// its template's.
async fn diverged(pool: &ZfsDatasets, cloned: bool) -> Guid {
    let reserved = Shape { reservation: RESERVED, ..Shape::default() };
    let common = if cloned {
        let at = pool.begin_template(TemplateId(7)).await.unwrap();
        fs::write(at.join("a"), b"template").unwrap();
        let sealed = pool.seal_template(TemplateId(7), Timestamp(1)).await.unwrap();
        let template = DatasetId::Template(TemplateId(7));
        pool.clone_from(template, sealed.guid, WEB, Epoch(1), reserved).await.unwrap();
        sealed.guid
    } else {
        pool.create(WEB, Epoch(1), reserved).await.unwrap();
        fs::write(pool.path(WEB).join("a"), b"common").unwrap();
        pool.snapshot(WEB, &name(1, Purpose::Replication), Timestamp(1)).await.unwrap().guid
    };
    pool.hold(WEB, common, "last:2").await.unwrap();
    let properties = BTreeMap::from([("name".to_owned(), "web".to_owned())]);
    pool.set_properties(ID, properties).await.unwrap();
    fs::write(pool.path(WEB).join("b"), b"own").unwrap();
    let own = pool.snapshot(WEB, &name(2, Purpose::Replication), Timestamp(2)).await.unwrap();
    pool.hold(WEB, own.guid, "last:3").await.unwrap();
    fs::write(pool.path(WEB).join("c"), b"never sent").unwrap();
    common
}

async fn goes_on(last: Step, restart: bool, cloned: bool) {
    let Some(settings) = place(&format!("aside-{last:?}-{restart}-{cloned}")) else { return };
    let mut pool = ZfsDatasets::open(settings.clone()).await.unwrap();
    let base = diverged(&pool, cloned).await;
    let aside = name(3, Purpose::Orphan);
    let order = SetAside { grain: WEB, base: Some(base), name: aside.clone(), now: Timestamp(3) };
    order.run(&pool.inner, last).await.unwrap();
    if restart {
        pool = ZfsDatasets::open(settings.clone()).await.unwrap();
    }
    let orphan = pool.set_aside(WEB, Some(base), &aside, Timestamp(4)).await.unwrap();
    assert_eq!(orphan.snapshots.len(), 3, "{last:?}");
    assert_eq!((orphan.role, orphan.base), (Role::Orphan, Some(base)), "{last:?}");
    let standby = pool.get(ID).await.unwrap().unwrap();
    assert_eq!((standby.role, standby.snapshots.len()), (Role::Standby, 1), "{last:?}");
    assert_eq!(standby.properties["name"], "web", "{last:?}");
    let mut expected = BTreeMap::from([("last:2".to_owned(), base)]);
    expected.extend(cloned.then(|| (ORIGIN_TAG.to_owned(), base)));
    assert_eq!(holds(&pool).await, expected, "{last:?}");
    let found = pool.inner.must(ID).await.unwrap();
    let of_orphan = found.clone_of().is_some_and(|of| of.contains("/orphans/"));
    assert!(!of_orphan && !found.mounted(), "{last:?}: the standby stands by itself");
    assert!(found.is("reservation", &RESERVED.0.to_string()), "{last:?}: its space stays its own");
    let aside = pool.inner.must(orphan.id).await.unwrap();
    assert!(aside.is("reservation", "0"), "{last:?}: nothing is reserved twice");
    let newest = orphan.snapshots.last().unwrap().guid;
    let copy = GrainId(2);
    pool.clone_from(orphan.id, newest, copy, Epoch(1), Shape::default()).await.unwrap();
    assert_eq!(fs::read(pool.path(copy).join("c")).unwrap(), b"never sent", "{last:?}");
    // The grain goes first: what the orphan needs of it stays with the orphan.
    pool.destroy(ID).await.unwrap();
    let kept = pool.get(orphan.id).await.unwrap().unwrap();
    assert_eq!(kept.snapshots, orphan.snapshots, "{last:?}");
    clear(pool, &settings).await;
}

const STEPS: [Step; 7] = [
    Step::Closed,
    Step::Frozen,
    Step::Moved,
    Step::Marked,
    Step::Cloned,
    Step::Promoted,
    Step::Done,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_aside_goes_on_after_each_step() {
    for last in STEPS {
        goes_on(last, false, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_aside_goes_on_after_each_step_and_a_restart() {
    for last in STEPS {
        goes_on(last, true, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_a_clone_aside_goes_on_after_each_step_and_a_restart() {
    for last in STEPS {
        goes_on(last, true, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_back_goes_on_after_each_step_and_a_restart() {
    for last in [Back::Cleared, Back::Whole, Back::Moved, Back::Done] {
        for (restart, cloned) in [(false, false), (true, false), (true, true)] {
            let Some(settings) = place(&format!("back-{last:?}-{restart}-{cloned}")) else {
                return;
            };
            let mut pool = ZfsDatasets::open(settings.clone()).await.unwrap();
            let base = diverged(&pool, cloned).await;
            let aside = name(3, Purpose::Orphan);
            let orphan = pool.set_aside(WEB, Some(base), &aside, Timestamp(4)).await.unwrap();
            pool.inner.take_back(WEB, Epoch(1), last).await.unwrap();
            if restart {
                pool = ZfsDatasets::open(settings.clone()).await.unwrap();
            }
            match pool.take_back(WEB, Epoch(1)).await {
                Ok(_) => assert!(last < Back::Moved, "{last:?}"),
                Err(error) => {
                    assert!(matches!(error.cause, Cause::Missing), "{last:?}: {error:?}");
                    assert!(last >= Back::Moved, "{last:?}");
                }
            }
            let back = pool.get(ID).await.unwrap().unwrap();
            assert_eq!((back.role, back.snapshots), (Role::Standby, orphan.snapshots), "{last:?}");
            let found = pool.inner.must(ID).await.unwrap();
            let of_an_orphan = found.clone_of().is_some_and(|of| of.contains("/orphans/"));
            assert!(!of_an_orphan, "{last:?}: it stands by itself");
            pool.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
            assert_eq!(fs::read(pool.path(WEB).join("c")).unwrap(), b"never sent", "{last:?}");
            clear(pool, &settings).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_after_a_broken_off_setting_aside_are_not_thrown_away() {
    let Some(settings) = place("later") else { return };
    let pool = ZfsDatasets::open(settings.clone()).await.unwrap();
    let base = diverged(&pool, false).await;
    let aside = name(3, Purpose::Orphan);
    let order = SetAside { grain: WEB, base: Some(base), name: aside.clone(), now: Timestamp(3) };
    order.run(&pool.inner, Step::Frozen).await.unwrap();
    // Whoever starts the grain again has it opened first.
    pool.set_role(WEB, Role::Owner, Epoch(1)).await.unwrap();
    fs::write(pool.path(WEB).join("c"), b"later").unwrap();
    let refused = pool.set_aside(WEB, Some(base), &aside, Timestamp(4)).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Diverged { .. }), "{refused:?}");
    assert_eq!(fs::read(pool.path(WEB).join("c")).unwrap(), b"later");
    clear(pool, &settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_was_broken_off_is_finished() {
    for restart in [false, true] {
        let Some(settings) = place(&format!("exchange-{restart}")) else { return };
        let mut pool = ZfsDatasets::open(settings.clone()).await.unwrap();
        diverged(&pool, false).await;
        let inner = &pool.inner;
        inner.unmount(&inner.names.of(ID)).await.unwrap();
        // The moment at which the old one has gone and the new one is not there yet.
        let (place, aside) = (inner.names.of(ID), inner.names.incoming(ID));
        inner.tools.zfs(&["rename", &place, &aside]).await.unwrap();
        inner.set(&aside, &[(receive::READY.to_owned(), "yes".to_owned())]).await.unwrap();
        assert_eq!(pool.get(ID).await.unwrap(), None);
        if restart {
            pool = ZfsDatasets::open(settings.clone()).await.unwrap();
        } else {
            let incoming = Incoming::new(Epoch(1), None);
            let bytes = stream_of_nothing().await;
            let refused = pool.receive(WEB, incoming, &mut bytes.as_slice()).await.unwrap_err();
            assert!(matches!(refused.cause, Cause::Busy(_)), "{refused:?}");
        }
        assert_eq!(pool.get(ID).await.unwrap().unwrap().snapshots.len(), 2);
        assert!(!pool.inner.is_ready(&pool.inner.names.of(ID)).await.unwrap());
        clear(pool, &settings).await;
    }
}

/// A stream that has a header and nothing more.
async fn stream_of_nothing() -> Vec<u8> {
    let mut bytes = Vec::new();
    let snapshot = scrap_schema::snapshot::Snapshot {
        name: name(9, Purpose::Replication),
        guid: Guid(9),
        created: Timestamp(9),
    };
    let header = stream::Header { from: None, snapshot, clone: false, rest: false };
    stream::Writer::begin(&mut bytes, &header).await.unwrap().end().await.unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_that_is_busy_holds_up_no_other_one_that_is_frozen_with_it() {
    let Some(settings) = place("busy") else { return };
    let pool = ZfsDatasets::open(settings.clone()).await.unwrap();
    let other = GrainId(2);
    for grain in [WEB, other] {
        pool.create(grain, Epoch(1), Shape::default()).await.unwrap();
    }
    let busy = pool.inner.lock(ID).await;
    let wanted = [WEB, other].map(|grain| (grain, name(1, Purpose::Replication)));
    let taken = pool.snapshot_all(&wanted, Timestamp(1)).await;
    let of: Vec<GrainId> = taken.iter().map(|(grain, _)| *grain).collect();
    assert_eq!(of, [WEB, other], "in the order of the question");
    let refused = taken[0].1.as_ref().unwrap_err();
    assert!(matches!(refused.cause, Cause::Busy(_)), "{refused:?}");
    assert_eq!(taken[1].1.as_ref().unwrap().snapshot.name, name(1, Purpose::Replication));
    drop(busy);
    let taken = pool.snapshot_all(&wanted, Timestamp(2)).await;
    assert!(taken.iter().all(|(_, taken)| taken.is_ok()), "{taken:?}");
    clear(pool, &settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_thrown_away_is_thrown_away_by_the_next_call() {
    let Some(settings) = place("trash") else { return };
    let pool = ZfsDatasets::open(settings.clone()).await.unwrap();
    pool.create(WEB, Epoch(1), Shape::default()).await.unwrap();
    let inner = &pool.inner;
    let trash = inner.names.trash(ID, 7);
    inner.unmount(&inner.names.of(ID)).await.unwrap();
    inner.tools.zfs(&["rename", &inner.names.of(ID), &trash]).await.unwrap();
    pool.destroy(ID).await.unwrap();
    assert!(matches!(inner.tools.zfs(&["list", &trash]).await, Err(Cause::Missing)));
    fs::remove_dir_all(pool.path(WEB)).ok();
    clear(pool, &settings).await;
}

#[tokio::test]
async fn a_receive_that_does_not_end_keeps_its_place() {
    let mut settings = ZfsSettings::new("tank/scrap", "/nowhere");
    settings.limit = Duration::from_millis(50);
    let inner = Inner::new(&settings).unwrap();
    let first = inner.begin_receive(ID).unwrap();
    for _ in 0..2 {
        let ended = inner.end_receives(ID).await;
        assert!(matches!(ended, Err(Cause::Busy(_))), "{ended:?}");
        let second = inner.begin_receive(ID);
        assert!(matches!(second, Err(Cause::Busy(_))), "one beside it: {second:?}");
    }
    assert_eq!(*first.borrow(), Order::Stop);
    drop(first);
    inner.end_receives(ID).await.unwrap();
    assert_eq!(inner.receives.lock().unwrap().len(), 0, "what has ended is forgotten");
    let third = inner.begin_receive(ID).unwrap();
    assert_eq!(*third.borrow(), Order::GoOn);
}
