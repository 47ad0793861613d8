//! Streams that hang, break off and go on.

use std::time::Duration;

use scrap_host::datasets::{Cause, Datasets, Incoming, Role, Shape};
use scrap_schema::id::Epoch;
use tokio::io::AsyncWriteExt;

use super::{ZfsBench, available};
use crate::bench::{Bench, noise};
use crate::contract::{E1, ID, WEB, assert_cause, cause, copy, receive, snap, stream};

pub(super) async fn wait_for(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_sender_does_not_stop_a_promotion() {
    if !available() {
        return;
    }
    let (a, b) = (ZfsBench::new(1), ZfsBench::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "a", b"one");
    let one = snap(&a.datasets, 1).await.guid;
    copy(&a.datasets, &b.datasets, None, one).await;
    a.write(WEB, "a", &noise(3_000_000, 1));
    let two = snap(&a.datasets, 2).await.guid;
    let bytes = stream(&a.datasets, ID, Some(one), two).await;
    let (mut sender, mut receiver) = tokio::io::duplex(64 << 10);
    let pool = b.datasets.clone();
    let receiving = tokio::spawn(async move {
        pool.receive(WEB, Incoming::new(E1, Some(one)), &mut receiver).await
    });
    // More than fits in between: the pool has a part of it.
    sender.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    let second = receive(&b.datasets, Some(one), &bytes).await;
    assert_cause!(second, Cause::Busy(_));
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(b.read(WEB, "a").unwrap(), b"one");
    let refused = receiving.await.unwrap();
    assert_cause!(refused, Cause::BadStream(_));
    b.datasets.set_role(WEB, Role::Standby, Epoch(3)).await.unwrap();
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_receive_leaves_no_dataset() {
    if !available() {
        return;
    }
    let (a, b) = (ZfsBench::new(1), ZfsBench::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    a.write(WEB, "a", &noise(3_000_000, 1));
    let one = snap(&a.datasets, 1).await.guid;
    let bytes = stream(&a.datasets, ID, None, one).await;
    let (mut sender, mut receiver) = tokio::io::duplex(64 << 10);
    let pool = b.datasets.clone();
    let receiving =
        tokio::spawn(
            async move { pool.receive(WEB, Incoming::new(E1, None), &mut receiver).await },
        );
    sender.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    receiving.abort();
    receiving.await.unwrap_err();
    assert_eq!(b.datasets.list().await.unwrap(), []);
    // The killed program may take a moment to let go.
    wait_for(async || receive(&b.datasets, None, &bytes).await.is_ok()).await;
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_cut_off_goes_on_where_the_pool_can() {
    if !available() {
        return;
    }
    let (a, mut b) = (ZfsBench::new(1), ZfsBench::new(2));
    a.datasets.create(WEB, E1, Shape::default()).await.unwrap();
    let mut base = None;
    for seq in 1..=2 {
        a.write(WEB, &format!("file-{seq}"), &noise(20_000_000, seq));
        let to = snap(&a.datasets, seq).await.guid;
        let bytes = stream(&a.datasets, ID, base, to).await;
        let cut = receive(&b.datasets, base, &bytes[..bytes.len() / 2]).await;
        assert_cause!(cut, Cause::BadStream(_));
        b.reopen();
        let d = &b.datasets;
        let Some(token) = d.unfinished(WEB).await.unwrap() else {
            println!("SKIPPED: these tools keep nothing of a stream that was cut off");
            receive(d, base, &bytes).await.unwrap();
            base = Some(to);
            continue;
        };
        let wrong = a
            .datasets
            .send_rest(ID, &token, scrap_schema::snapshot::Guid(1), &mut Vec::new())
            .await;
        assert_cause!(wrong, Cause::NoSnapshot(_));
        let mut rest = Vec::new();
        a.datasets.send_rest(ID, &token, to, &mut rest).await.unwrap();
        assert!(rest.len() < bytes.len() * 3 / 4, "{} of {}", rest.len(), bytes.len());
        let resumed = Incoming { resumed: true, ..Incoming::new(E1, base) };
        let got = d.receive(WEB, resumed, &mut rest.as_slice()).await.unwrap();
        assert_eq!(got.snapshots.last().unwrap().guid, to);
        assert_eq!(d.unfinished(WEB).await.unwrap(), None);
        base = Some(to);
    }
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    for seq in 1..=2 {
        assert_eq!(b.read(WEB, &format!("file-{seq}")).unwrap(), noise(20_000_000, seq));
    }
}
