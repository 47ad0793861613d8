//! What only the backend on directories promises: real trees, small increments, and nothing left after a crash.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use scrap_host::datasets::{Cause, Datasets, Incoming, Role, Shape};
use scrap_schema::id::Epoch;
use scrap_schema::unit::Bytes;

use crate::bench::{Bench, DirBench, noise};
use crate::contract::{COPY, ID, WEB, copy, receive, snap, stream};

/// Everything below a folder as comparable text: path, type, mode, time, contents.
fn picture(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "dir".to_owned()
        } else if meta.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else {
            let contents = blake3::hash(&fs::read(&path).unwrap());
            format!("file {} links {} {contents}", meta.len(), meta.nlink())
        };
        let times = (meta.mtime(), meta.mtime_nsec());
        let name = path.strip_prefix(root).unwrap();
        lines.push(format!("{name:?} {kind} {:o} {times:?}", meta.mode()));
    }
    lines.sort();
    lines
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn owner() -> (DirBench, PathBuf) {
    let bench = DirBench::new(0);
    bench.datasets.create(WEB, Epoch(1), Shape::default()).await.unwrap();
    let head = bench.head(WEB);
    (bench, head)
}

fn files_in(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn packed(bench: &DirBench) -> u64 {
    let packs = bench.root.path().join(format!("grains/{WEB}/packs"));
    files_in(&packs).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[tokio::test]
async fn a_tree_of_ten_megabytes_travels_byte_for_byte() {
    let (a, head) = owner().await;
    let b = DirBench::new(1);
    fs::create_dir_all(head.join("data/empty")).unwrap();
    fs::write(head.join("data/large"), noise(6_500_000, 1)).unwrap();
    fs::write(head.join("data/exact"), noise(2 << 20, 2)).unwrap();
    fs::write(head.join("nothing"), b"").unwrap();
    for number in 0..200 {
        fs::write(head.join(format!("data/small {number}")), noise(number * 71, number as u64))
            .unwrap();
    }
    fs::write(head.join("run.sh"), b"#!/bin/sh\n").unwrap();
    set_mode(&head.join("run.sh"), 0o4751);
    set_mode(&head.join("data/small 3"), 0o600);
    set_mode(&head.join("data/empty"), 0o1777);
    symlink("/etc/passwd", head.join("outside")).unwrap();
    symlink("data/large", head.join("inside")).unwrap();
    symlink("nowhere \u{1}", head.join("dangling")).unwrap();
    fs::hard_link(head.join("data/exact"), head.join("exact too")).unwrap();
    let strange = std::os::unix::ffi::OsStrExt::from_bytes(&b"\xff\n%41\"\\"[..]);
    let strange: &std::ffi::OsStr = strange;
    fs::write(head.join(strange), b"strange").unwrap();
    let sparse = fs::File::create(head.join("sparse")).unwrap();
    sparse.set_len(30 << 20).unwrap();
    set_mode(&head.join("data"), 0o555);
    set_mode(&head, 0o700);
    let before = picture(&head);

    let one = snap(&a.datasets, 1).await.guid;
    assert_eq!(a.datasets.written(ID).await.unwrap().bytes, Bytes(0));
    copy(&a.datasets, &b.datasets, None, one).await;
    assert!(!b.head(WEB).exists(), "a standby has no head");
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(picture(&b.head(WEB)), before);
    assert_eq!(b.datasets.written(ID).await.unwrap().bytes, Bytes(0));
    let blocks = fs::metadata(b.head(WEB).join("sparse")).unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "holes stay holes: {blocks} blocks");

    set_mode(&head.join("data"), 0o755);
    fs::remove_dir(head.join("data/empty")).unwrap();
    fs::remove_file(head.join("inside")).unwrap();
    fs::create_dir(head.join("inside")).unwrap();
    fs::write(head.join("inside/now a folder"), b"x").unwrap();
    set_mode(&head.join("run.sh"), 0o644);
    let two = snap(&a.datasets, 2).await.guid;
    b.datasets.set_role(WEB, Role::Standby, Epoch(3)).await.unwrap();
    copy(&a.datasets, &b.datasets, Some(one), two).await;
    b.datasets.set_role(WEB, Role::Owner, Epoch(4)).await.unwrap();
    assert_eq!(picture(&b.head(WEB)), picture(&head));
}

#[tokio::test]
async fn a_small_change_sends_only_a_little() {
    let (bench, head) = owner().await;
    let mut log = noise(8_300_000, 1);
    fs::write(head.join("log"), &log).unwrap();
    for number in 0..300 {
        fs::write(head.join(format!("file-{number}")), noise(5000, number)).unwrap();
    }
    let one = snap(&bench.datasets, 1).await.guid;
    let before = packed(&bench);
    log.extend_from_slice(&noise(1000, 2));
    fs::write(head.join("log"), &log).unwrap();
    let two = snap(&bench.datasets, 2).await.guid;
    let length = stream(&bench.datasets, ID, Some(one), two).await.len();
    assert!(length < 1_100_000, "{length} bytes for a line at the end of a large file");
    assert!(packed(&bench) - before < 1_100_000, "and no more are stored");
    fs::write(head.join("file-7"), b"short").unwrap();
    let three = snap(&bench.datasets, 3).await.guid;
    let length = stream(&bench.datasets, ID, Some(two), three).await.len();
    assert!(length < 4096, "{length} bytes for a small file");
}

#[tokio::test]
async fn a_change_in_the_same_tick_of_the_clock_is_seen() {
    let (bench, head) = owner().await;
    let d = &bench.datasets;
    for round in 0..20_u64 {
        fs::write(head.join("a"), format!("{round:03}")).unwrap();
        snap(d, 2 * round).await;
        fs::write(head.join("a"), format!("{:03}", 500 + round)).unwrap();
        assert!(d.written(ID).await.unwrap().bytes.0 > 0, "round {round}");
        let guid = snap(d, 2 * round + 1).await.guid;
        d.clone_from(ID, guid, COPY, Epoch(1), Shape::default()).await.unwrap();
        let seen = bench.read(COPY, "a").unwrap();
        assert_eq!(seen, format!("{:03}", 500 + round).as_bytes());
        d.destroy(scrap_host::datasets::DatasetId::Grain(COPY)).await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_head_is_not_written_about() {
    let (bench, head) = owner().await;
    fs::write(head.join("a"), noise(10_000, 1)).unwrap();
    // As if it were older than the window in which a change may go unseen.
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    fs::File::open(head.join("a")).unwrap().set_modified(old).unwrap();
    snap(&bench.datasets, 1).await;
    bench.datasets.set_role(WEB, Role::Standby, Epoch(2)).await.unwrap();
    bench.datasets.set_role(WEB, Role::Owner, Epoch(3)).await.unwrap();
    let dataset = bench.root.path().join(format!("grains/{WEB}"));
    bench.datasets.written(ID).await.unwrap();
    let before = picture(&dataset);
    for _ in 0..3 {
        assert_eq!(bench.datasets.written(ID).await.unwrap().bytes, Bytes(0));
    }
    assert_eq!(picture(&dataset), before);
}

#[tokio::test]
async fn unfinished_work_of_a_crash_is_swept() {
    let (mut bench, head) = owner().await;
    fs::write(head.join("a"), b"good").unwrap();
    let one = snap(&bench.datasets, 1).await;
    let dataset = bench.root.path().join(format!("grains/{WEB}"));
    let leftovers = [
        dataset.join("packs/00000000000000aa.tmp"),
        dataset.join("snapshots/00000000000000bb.manifest"),
        dataset.join("meta.tmp"),
        dataset.join("head.tmp"),
        bench.root.path().join("tmp/receive-1/dataset/packs/x"),
    ];
    for path in &leftovers {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"torn").unwrap();
    }
    // A torn cache must not be believed.
    let index = fs::read(dataset.join("head.index")).unwrap();
    fs::write(dataset.join("head.index"), &index[..index.len() / 2]).unwrap();
    bench.reopen();
    for path in &leftovers {
        assert!(!path.exists(), "{}", path.display());
    }
    let found = bench.datasets.get(ID).await.unwrap().unwrap();
    assert_eq!((found.role, found.snapshots), (Role::Owner, vec![one]));
    assert_eq!(bench.datasets.written(ID).await.unwrap().bytes, Bytes(0));
    assert_eq!(bench.read(WEB, "a").unwrap(), b"good");
}

#[tokio::test]
async fn pruning_gives_the_space_back() {
    let (bench, head) = owner().await;
    let d = &bench.datasets;
    fs::write(head.join("stays"), noise(100_000, 0)).unwrap();
    fs::write(head.join("goes"), noise(3_000_000, 1)).unwrap();
    let one = snap(d, 1).await.guid;
    fs::remove_file(head.join("goes")).unwrap();
    fs::write(head.join("new"), noise(50_000, 2)).unwrap();
    let two = snap(d, 2).await.guid;
    assert!(packed(&bench) > 3_000_000);
    d.prune(WEB, &[one]).await.unwrap();
    let left = packed(&bench);
    assert!((150_000..160_000).contains(&left), "{left} bytes are left of the packs");
    let used = d.get(ID).await.unwrap().unwrap().used.0;
    assert_eq!(used, left + 150_000, "packs and head");
    let b = DirBench::new(1);
    copy(d, &b.datasets, None, two).await;
    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    assert_eq!(picture(&b.head(WEB)), picture(&head), "what is needed was kept");
}

#[tokio::test]
async fn many_snapshots_do_not_make_many_packs() {
    let (bench, head) = owner().await;
    let mut guids = Vec::new();
    for seq in 0..90 {
        fs::write(head.join(format!("file-{seq}")), noise(300, seq)).unwrap();
        guids.push(snap(&bench.datasets, seq).await.guid);
    }
    bench.datasets.prune(WEB, &guids[..80]).await.unwrap();
    let packs = files_in(&bench.root.path().join(format!("grains/{WEB}/packs")));
    assert!(packs.len() <= 64, "{} packs", packs.len());
    bench.datasets.restore(WEB, guids[85]).await.unwrap();
    assert_eq!(bench.read(WEB, "file-3").unwrap(), noise(300, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_sender_does_not_stop_a_promotion() {
    let (a, head) = owner().await;
    let b = DirBench::new(1);
    fs::write(head.join("a"), b"one").unwrap();
    let one = snap(&a.datasets, 1).await.guid;
    copy(&a.datasets, &b.datasets, None, one).await;
    fs::write(head.join("a"), noise(100_000, 1)).unwrap();
    let two = snap(&a.datasets, 2).await.guid;
    let bytes = stream(&a.datasets, ID, Some(one), two).await;
    let (mut sender, mut receiver) = tokio::io::duplex(1 << 20);
    let pool = b.datasets.clone();
    let receiving = tokio::spawn(async move {
        pool.receive(WEB, Incoming::new(Epoch(1), Some(one)), &mut receiver).await
    });
    tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes[..bytes.len() / 2]).await.unwrap();
    let tmp = b.root.path().join("tmp");
    wait_for(|| !files_in(&tmp).is_empty()).await;

    b.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
    b.datasets.set_role(WEB, Role::Standby, Epoch(3)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes[bytes.len() / 2..]).await.unwrap();
    let cause = receiving.await.unwrap().unwrap_err().cause;
    assert!(
        matches!(cause, Cause::BadStream(_)),
        "an unfinished receive is thrown away: {cause:?}"
    );
    assert_eq!(b.datasets.get(ID).await.unwrap().unwrap().snapshots.len(), 1);
    wait_for(|| files_in(&tmp).is_empty()).await;
    receive(&b.datasets, Some(one), &bytes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_receive_leaves_nothing() {
    let (a, head) = owner().await;
    let b = DirBench::new(1);
    fs::write(head.join("a"), noise(3_000_000, 1)).unwrap();
    let one = snap(&a.datasets, 1).await.guid;
    let bytes = stream(&a.datasets, ID, None, one).await;
    let (mut sender, mut receiver) = tokio::io::duplex(4 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes[..2_000_000]).await.unwrap();
    let pool = b.datasets.clone();
    let receiving = tokio::spawn(async move {
        pool.receive(WEB, Incoming::new(Epoch(1), None), &mut receiver).await
    });
    let tmp = b.root.path().join("tmp");
    wait_for(|| !files_in(&tmp).is_empty()).await;
    receiving.abort();
    wait_for(|| files_in(&tmp).is_empty()).await;
    assert_eq!(b.datasets.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_pack_is_never_sent_on() {
    let (bench, head) = owner().await;
    fs::write(head.join("a"), noise(100_000, 1)).unwrap();
    let one = snap(&bench.datasets, 1).await.guid;
    let pack = files_in(&bench.root.path().join(format!("grains/{WEB}/packs"))).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[5000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let mut out = Vec::new();
    let cause = bench.datasets.send(ID, None, one, &mut out).await.unwrap_err().cause;
    let text = cause.to_string();
    assert!(text.contains("damaged") && text.contains(pack.to_str().unwrap()), "{text}");
    let other = DirBench::new(1);
    assert!(receive(&other.datasets, None, &out).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_changes_during_the_snapshot_is_tolerated() {
    let (bench, head) = owner().await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let guids = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut round = 0_u64;
            while !stop.load(relaxed) {
                round += 1;
                let dir = head.join(format!("d{}", round % 3));
                let _ = fs::remove_dir_all(&dir);
                let _ = fs::remove_file(&dir);
                if round.is_multiple_of(4) {
                    let _ = symlink("/etc", &dir);
                } else {
                    let _ = fs::create_dir(&dir);
                    let length = usize::try_from(round % 900).unwrap() * 100;
                    let _ = fs::write(dir.join("passwd"), noise(length, round));
                    let _ = fs::hard_link(dir.join("passwd"), dir.join("z"));
                    let _ = fs::remove_file(dir.join("passwd"));
                }
            }
        });
        let snapshots = async {
            let mut guids = Vec::new();
            for seq in 0..25 {
                bench.datasets.written(ID).await.unwrap();
                guids.push(snap(&bench.datasets, seq).await.guid);
            }
            guids
        };
        let guids =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(snapshots));
        stop.store(true, relaxed);
        guids
    });
    for guid in guids {
        let other = DirBench::new(1);
        copy(&bench.datasets, &other.datasets, None, guid).await;
        other.datasets.set_role(WEB, Role::Owner, Epoch(2)).await.unwrap();
        assert_eq!(other.datasets.written(ID).await.unwrap().bytes, Bytes(0));
    }
}

async fn wait_for(condition: impl Fn() -> bool) {
    let limit = Duration::from_secs(20);
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap();
}
