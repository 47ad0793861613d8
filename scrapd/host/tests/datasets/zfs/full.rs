//! Space: what clones share, and what happens when there is none left.

use scrap_host::datasets::{Cause, DatasetId, Datasets, Shape};
use scrap_schema::id::{GrainId, TemplateId};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::{ZfsBench, available, by_hand};
use crate::bench::{Bench, noise};
use crate::contract::{COPY, E1, ID, WEB, assert_cause, cause, copy, receive, snap, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_take_the_space_of_what_they_changed() {
    if !available() {
        return;
    }
    let bench = ZfsBench::new(1);
    let d = &bench.datasets;
    let (base, template) = (TemplateId(7), DatasetId::Template(TemplateId(7)));
    let at = d.begin_template(base).await.unwrap();
    for number in 0..8 {
        bench.unpack(base, &at, &format!("rootfs/file-{number}"), &noise(2 << 20, number));
    }
    let sealed = d.seal_template(base, Timestamp(1)).await.unwrap();
    let size = d.get(template).await.unwrap().unwrap().used.0;
    for number in 1..=5 {
        d.clone_from(template, sealed.guid, GrainId(number), E1, Shape::default()).await.unwrap();
        bench.write(GrainId(number), "own", &noise(100_000, 50));
        d.snapshot(GrainId(number), &crate::contract::name(1, 1), Timestamp(2)).await.unwrap();
    }
    let mut taken = 0;
    for number in 1..=5 {
        taken += d.get(DatasetId::Grain(GrainId(number))).await.unwrap().unwrap().used.0;
        assert_eq!(bench.read(GrainId(number), "rootfs/file-7").unwrap(), noise(2 << 20, 7));
    }
    println!("a template of {size} bytes; five clones with 100 kB each take {taken} bytes");
    assert!(size > 16 << 20, "{size}");
    assert!((500_000..size / 4).contains(&taken), "five clones of {size} bytes take {taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_refuses_and_changes_nothing() {
    if !available() {
        return;
    }
    let (a, b) = (ZfsBench::new(1), ZfsBench::new(2));
    let quota = Shape::of(Bytes(8 << 20));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "a", b"small");
    let one = snap(&a.datasets, 1).await.guid;
    copy(&a.datasets, &b.datasets, None, one).await;
    b.datasets.set_shape(WEB, quota).await.unwrap();
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().quota, quota.quota);
    a.write(WEB, "large", &noise(20 << 20, 1));
    let two = snap(&a.datasets, 2).await.guid;
    let bytes = stream(&a.datasets, ID, Some(one), two).await;
    let before = b.datasets.get(ID).await.unwrap().unwrap().snapshots;
    assert_cause!(receive(&b.datasets, Some(one), &bytes).await, Cause::NoSpace);
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().snapshots, before);
    let larger = Shape { quota: Bytes(64 << 20), record_size: Bytes(16 << 10), ..quota };
    b.datasets.set_shape(WEB, larger).await.unwrap();
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
    let refused = b.datasets.set_shape(WEB, Shape { record_size: Bytes(1 << 20), ..quota }).await;
    assert_cause!(refused, Cause::Io { ref what, .. } if what.contains("record size"));
    assert!(b.datasets.set_shape(WEB, quota).await.is_err(), "less than is there");

    a.datasets.create(COPY, E1, quota).await.unwrap();
    let written = std::fs::write(a.head(COPY).join("large"), noise(20 << 20, 2));
    assert!(written.is_err(), "the owner meets its quota");
    a.remove(COPY, "large");
    // What was removed is free once the pool has written that down.
    for _ in 0..100 {
        match std::fs::write(a.head(COPY).join("small"), b"x") {
            Err(error) if error.kind() == std::io::ErrorKind::QuotaExceeded => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Ok(()) | Err(_) => break,
        }
    }
    a.write(COPY, "small", b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_refuses_and_recovers() {
    if !available() {
        return;
    }
    let (a, b) = (ZfsBench::new(1), ZfsBench::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "large", &noise(20 << 20, 1));
    let one = snap(&a.datasets, 1).await.guid;
    let bytes = stream(&a.datasets, ID, None, one).await;
    // Others take what there is: all of the part of the pool that these tests may use.
    let limit = format!("quota={}", 8 << 20);
    by_hand("zfs", &["set", &limit, &b.settings.root]).unwrap();
    assert_cause!(receive(&b.datasets, None, &bytes).await, Cause::NoSpace);
    assert_eq!(b.datasets.list().await.unwrap(), []);
    by_hand("zfs", &["set", "quota=none", &b.settings.root]).unwrap();
    receive(&b.datasets, None, &bytes).await.unwrap();
}
