//! The library against a kernel: `SCRAP_TEST_ZFS_ROOT` and `SCRAP_TEST_ZFS_ROOT2` name datasets of two pools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::list::List;
use super::*;

/// A dataset with a head to write into, and the place of another pool where its copy will be.
struct Pools {
    lzc: Lzc,
    here: String,
    there: String,
    head: PathBuf,
    _folder: tempfile::TempDir,
}

/// Runs `zfs` and returns what it prints.
#[expect(clippy::disallowed_methods, reason = "a test looks from outside")]
fn zfs(arguments: &[&str]) -> String {
    let output = Command::new("zfs").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "zfs {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn property(name: &str, of: &str) -> String {
    zfs(&["get", "-Hp", "-o", "value", name, of])
}

impl Pools {
    /// `None` where there are no pools, with a word about it.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = |name| std::env::var(name).ok();
        let (Some(here), Some(there)) = (root("SCRAP_TEST_ZFS_ROOT"), root("SCRAP_TEST_ZFS_ROOT2"))
        else {
            println!("SKIPPED: SCRAP_TEST_ZFS_ROOT and SCRAP_TEST_ZFS_ROOT2 name no pools");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lzc-{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let head = folder.path().join("head");
        let pools = Self {
            lzc: Lzc::open().expect("a pool, but no /dev/zfs"),
            here: format!("{here}/{name}"),
            there: format!("{there}/{name}"),
            head,
            _folder: folder,
        };
        let place = format!("mountpoint={}", pools.head.display());
        zfs(&["create", "-o", "recordsize=1M", "-o", &place, &pools.here]);
        Some(pools)
    }

    fn at(&self, snapshot: &str) -> String {
        format!("{}@{snapshot}", self.here)
    }

    fn copy(&self, snapshot: &str) -> String {
        format!("{}@{snapshot}", self.there)
    }

    /// Writes bytes that do not compress, and freezes them.
    async fn write(&self, snapshot: &str, file: &str, bytes: usize) {
        std::fs::write(self.head.join(file), noise(bytes)).unwrap();
        self.lzc.snapshot(vec![self.at(snapshot)], vec![]).await.unwrap();
    }

    fn outgoing(&self, from: Option<&str>, to: &str) -> Outgoing {
        Outgoing {
            snapshot: self.at(to),
            from: from.map(|from| self.at(from)),
            form: Form { large: true, compressed: true, embedded: true, raw: false },
            at: None,
        }
    }

    async fn stream(&self, from: Option<&str>, to: &str) -> Vec<u8> {
        self.sent(self.outgoing(from, to)).await
    }

    async fn sent(&self, outgoing: Outgoing) -> Vec<u8> {
        let (mut pipe, outcome) = self.lzc.send(outgoing).await.unwrap();
        let mut stream = Vec::new();
        pipe.read_to_end(&mut stream).await.unwrap();
        outcome.end().await.unwrap();
        stream
    }

    fn intake(&self, snapshot: &str) -> Intake {
        let properties = vec![
            ("readonly".to_owned(), Value::Number(1)),
            ("mountpoint".to_owned(), Value::Text("none".to_owned())),
            ("scrap:role".to_owned(), Value::Text("standby".to_owned())),
        ];
        let snapshot = self.copy(snapshot);
        Intake { snapshot, resumable: true, properties, ..Intake::default() }
    }

    /// What the other pool says to a stream.
    async fn receive(&self, snapshot: &str, stream: &[u8]) -> std::result::Result<(), Code> {
        let received = self.take(self.intake(snapshot), stream).await;
        received.map_err(|refused| refused.code)
    }

    async fn take(&self, intake: Intake, stream: &[u8]) -> Result<()> {
        let (mut pipe, outcome) = self.lzc.receive(intake).await.unwrap();
        // It breaks where the other side refuses, which then says why.
        let _broken = pipe.write_all(stream).await;
        drop(pipe);
        outcome.end().await
    }
}

impl Drop for Pools {
    #[expect(clippy::disallowed_methods, reason = "a test cleans up, also after it has failed")]
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _gone = Command::new("zfs").args(["destroy", "-R", "-f", name]).output();
        }
    }
}

/// Bytes without a pattern, from a generator that is the same in every run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code
}

/// Waits until as many threads of streams are there.
async fn streams_are(lzc: &Lzc, wanted: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    let count =
        || 2 * STREAMS_MAX - lzc.sends.available_permits() - lzc.receives.available_permits();
    while count() != wanted {
        assert!(Instant::now() < end, "{} streams, not {wanted}", count());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn numbers_have_names() {
    for (number, code) in [
        (2, Code::Missing),
        (5, Code::PoolFails),
        (11, Code::Again),
        (16, Code::Busy),
        (17, Code::Exists),
        (1040, Code::Truncated),
        (1047, Code::ResumeExists),
        (1024, Code::OpenZfs { number: 1024, name: "CHECKPOINT_EXISTS" }),
        (1051, Code::OpenZfs { number: 1051, name: "STREAM_LARGE_MICROZAP" }),
        (4, Code::Stopped),
        (5000, Code::OpenZfs { number: 5000, name: "a number that is not known here" }),
        (133, Code::System(133)),
    ] {
        assert_eq!(Code::of(number), code, "{number}");
    }
    assert!(Code::of(5000).to_string().contains("5000"));
    let error = LzcError::new("snapshot", "tank/a@b", Code::Exists);
    assert_eq!(error.to_string(), "cannot snapshot tank/a@b: it exists already");
}

#[test]
fn a_list_gives_back_what_it_was_given() {
    let inner = Value::List(vec![("tag".to_owned(), Value::Flag)]);
    let values = [
        ("flag", Value::Flag),
        ("number", Value::Number(u64::MAX)),
        ("text", Value::Text("ä b".to_owned())),
        ("error", Value::Error(-1040)),
        ("list", inner),
    ];
    let mut list = List::new().unwrap();
    for (name, value) in &values {
        list.add(name, value).unwrap();
    }
    assert_eq!(list.entries(), values.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(list.add("a\0b", &Value::Flag), Err(Code::NoText));
    assert_eq!(list.add("a", &Value::Text("\0".to_owned())), Err(Code::NoText));
    assert!(List::unpack(&mut noise(100)).is_err());
}

#[test]
fn what_is_no_token_is_refused() {
    let long = "1-".repeat(20_000);
    for text in ["", "-", "1-2-3-4", "1-0-0-", "1-0-ffffffffffffffff-00", "1-zz-1-00", &long] {
        assert_eq!(code(Token::parse(text)), Code::NoToken, "{text:.20}");
    }
}

#[test]
fn it_is_there_where_the_kernel_answers() {
    assert_eq!(Lzc::available(), Path::new("/dev/zfs").exists());
}

#[tokio::test]
async fn snapshots_are_all_made_or_none() {
    let Some(pools) = Pools::new() else { return };
    let lzc = &pools.lzc;
    let child = format!("{}/child", pools.here);
    zfs(&["create", &child]);
    let both = |name: &str| vec![pools.at(name), format!("{child}@{name}")];
    let created = vec![("scrap:created".to_owned(), Value::Text("1234".to_owned()))];
    lzc.snapshot(both("one"), created).await.unwrap();
    let moment = |name: String| property("createtxg", &name);
    assert_eq!(property("scrap:created", &pools.at("one")), "1234");
    assert_eq!(moment(pools.at("one")), moment(format!("{child}@one")));

    // The first of these could be made, the second is there already.
    let mixed = vec![pools.at("two"), format!("{child}@one")];
    let refused = lzc.snapshot(mixed, vec![]).await.unwrap_err();
    assert_eq!((refused.code, refused.on), (Code::Exists, format!("{child}@one")));
    assert!(!lzc.exists(pools.at("two")).await.unwrap());
    assert!(lzc.exists(pools.at("one")).await.unwrap());
    assert!(lzc.exists(child.clone()).await.unwrap());

    let missing = vec![pools.at("two"), format!("{child}/none@two")];
    assert_eq!(code(lzc.snapshot(missing, vec![]).await), Code::Missing);
    assert!(!lzc.exists(pools.at("two")).await.unwrap());
    assert_eq!(code(lzc.snapshot(vec![pools.here.clone()], vec![]).await), Code::Invalid);
    assert_eq!(code(lzc.snapshot(vec!["a\0b@c".to_owned()], vec![]).await), Code::NoText);

    lzc.destroy_snapshots([both("one"), both("never")].concat()).await.unwrap();
    assert!(!lzc.exists(pools.at("one")).await.unwrap());
}

#[tokio::test]
async fn held_snapshots_stay() {
    let Some(pools) = Pools::new() else { return };
    let lzc = &pools.lzc;
    pools.write("one", "a", 10).await;
    let held = |tag: &str| vec![(pools.at("one"), tag.to_owned())];
    lzc.hold(held("last:3")).await.unwrap();
    lzc.hold(held("origin")).await.unwrap();
    let tags: Vec<String> = lzc.holds(pools.at("one")).await.unwrap().into_keys().collect();
    assert_eq!(tags, ["last:3", "origin"]);
    assert_eq!(code(lzc.hold(held("origin")).await), Code::Exists);
    assert_eq!(code(lzc.destroy_snapshots(vec![pools.at("one")]).await), Code::Busy);
    assert_eq!(code(lzc.hold(vec![(pools.at("none"), "a".to_owned())]).await), Code::Missing);
    assert_eq!(code(lzc.release(held("none")).await), Code::Missing);
    assert_eq!(code(lzc.holds(pools.at("none")).await), Code::Missing);

    lzc.release([held("last:3"), held("origin")].concat()).await.unwrap();
    assert!(lzc.holds(pools.at("one")).await.unwrap().is_empty());
    lzc.destroy_snapshots(vec![pools.at("one")]).await.unwrap();
    assert!(!lzc.exists(pools.at("one")).await.unwrap());
}

#[tokio::test]
async fn streams_carry_everything_and_what_changed() {
    let Some(pools) = Pools::new() else { return };
    pools.write("one", "a", 3 << 20).await;
    pools.write("two", "b", 1 << 20).await;
    let full = pools.stream(None, "one").await;
    let change = pools.stream(Some("one"), "two").await;
    assert!(full.len() > 3 << 20 && (1 << 20..2 << 20).contains(&change.len()));
    for (from, to, stream) in [(None, "one", &full), (Some("one"), "two", &change)] {
        let estimated = pools.lzc.estimate(pools.outgoing(from, to)).await.unwrap();
        let length = u64::try_from(stream.len()).unwrap();
        assert!((length / 2..length * 2).contains(&estimated), "{estimated} for {length}");
        pools.receive(to, stream).await.unwrap();
        assert_eq!(property("guid", &pools.at(to)), property("guid", &pools.copy(to)));
    }
    for (name, value) in [("readonly", "on"), ("mountpoint", "none"), ("scrap:role", "standby")] {
        assert_eq!(property(name, &pools.there), value);
    }
    let missing = pools.outgoing(None, "none");
    assert_eq!(code(pools.lzc.estimate(missing).await), Code::Missing);
}

#[tokio::test]
async fn a_bookmark_is_enough_to_go_on_from() {
    let Some(pools) = Pools::new() else { return };
    let lzc = &pools.lzc;
    pools.write("one", "a", 1 << 20).await;
    pools.receive("one", &pools.stream(None, "one").await).await.unwrap();
    let bookmark = format!("{}#one", pools.here);
    lzc.bookmark(vec![(bookmark.clone(), pools.at("one"))]).await.unwrap();
    let again = lzc.bookmark(vec![(bookmark.clone(), pools.at("one"))]).await;
    assert_eq!(code(again), Code::Exists);
    pools.write("two", "b", 1 << 20).await;
    lzc.destroy_snapshots(vec![pools.at("one")]).await.unwrap();

    let outgoing = Outgoing { from: Some(bookmark.clone()), ..pools.outgoing(None, "two") };
    pools.receive("two", &pools.sent(outgoing).await).await.unwrap();
    assert_eq!(property("guid", &pools.at("two")), property("guid", &pools.copy("two")));
    lzc.destroy_bookmarks(vec![bookmark]).await.unwrap();
    assert_eq!(zfs(&["list", "-H", "-t", "bookmark", "-r", &pools.here]), "");
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_was_cut() {
    let Some(pools) = Pools::new() else { return };
    pools.write("one", "a", 8 << 20).await;
    let stream = pools.stream(None, "one").await;
    assert_eq!(pools.receive("one", &stream[..6 << 20]).await, Err(Code::Truncated));
    let text = property("receive_resume_token", &pools.there);
    let token = pools.lzc.token(text.clone()).await.unwrap();
    assert_eq!(token.to.to_string(), property("guid", &pools.at("one")));
    assert_eq!((token.name.clone(), token.from), (pools.at("one"), None));
    assert!(token.form.large && token.form.compressed && !token.form.raw);
    let damaged = text.replacen("789c", "789d", 1);
    assert_eq!(code(pools.lzc.token(damaged).await), Code::NoToken);

    // A stream from the beginning does not fit what is here any more.
    let again = pools.receive("one", &stream).await;
    assert!(matches!(again, Err(Code::Busy | Code::ResumeExists)), "{again:?}");
    let rest = pools.sent(token.rest(pools.at("one"), None)).await;
    assert!(rest.len() < 5 << 20, "{}", rest.len());
    pools.receive("one", &rest).await.unwrap();
    assert_eq!(property("guid", &pools.at("one")), property("guid", &pools.copy("one")));
}

#[tokio::test]
async fn damaged_streams_are_refused_by_name() {
    let Some(pools) = Pools::new() else { return };
    pools.write("one", "a", 1 << 20).await;
    let stream = pools.stream(None, "one").await;
    let whole = |stream: &[u8]| stream.to_vec();
    let mut damaged = whole(&stream);
    damaged[700_000] ^= 1;
    let intake = Intake { resumable: false, ..pools.intake("one") };
    for (stream, expected) in [
        (damaged, vec![Code::Damaged]),
        (whole(&stream[..700_000]), vec![Code::Truncated]),
        (whole(&stream[..100]), vec![Code::Truncated, Code::PoolFails]),
        (Vec::new(), vec![Code::Truncated, Code::PoolFails]),
        (vec![0; 1 << 20], vec![Code::Invalid, Code::Damaged]),
        (noise(1 << 20), vec![Code::Invalid, Code::Damaged]),
    ] {
        let length = stream.len();
        let refused = pools.take(intake.clone(), &stream).await.unwrap_err();
        assert!(expected.contains(&refused.code), "{length} bytes: {refused:?}");
        assert_eq!(refused.on, pools.copy("one"));
        assert!(!pools.lzc.exists(pools.there.clone()).await.unwrap(), "{length} bytes");
    }
    streams_are(&pools.lzc, 0).await;
}

#[tokio::test]
async fn a_target_is_never_overwritten() {
    let Some(pools) = Pools::new() else { return };
    pools.write("one", "a", 1000).await;
    pools.write("two", "b", 1000).await;
    pools.write("three", "c", 1000).await;
    let full = pools.stream(None, "one").await;
    let skips_one = pools.stream(Some("two"), "three").await;
    pools.receive("one", &full).await.unwrap();
    assert_eq!(pools.receive("one", &full).await, Err(Code::Exists));
    assert_eq!(pools.receive("three", &skips_one).await, Err(Code::NoBase));

    let place = pools.head.with_file_name("there");
    zfs(&["set", "readonly=off", &format!("mountpoint={}", place.display()), &pools.there]);
    std::fs::write(place.join("own"), "x").unwrap();
    zfs(&["set", "mountpoint=none", &pools.there]);
    let change = pools.stream(Some("one"), "two").await;
    assert_eq!(pools.receive("two", &change).await, Err(Code::Modified));
}

#[tokio::test]
async fn who_gives_up_on_a_stream_leaves_no_thread_behind() {
    let Some(pools) = Pools::new() else { return };
    pools.write("one", "a", 8 << 20).await;
    // A reader that goes away, at once or after a while.
    for bytes in [0, 1 << 20] {
        let (mut pipe, outcome) = pools.lzc.send(pools.outgoing(None, "one")).await.unwrap();
        pipe.read_exact(&mut vec![0; bytes]).await.unwrap();
        drop(pipe);
        assert_eq!(code(outcome.end().await), Code::Stopped);
    }
    // Nobody who reads, who writes, or who waits for it.
    let sending = pools.lzc.send(pools.outgoing(None, "one")).await.unwrap();
    let receiving = pools.lzc.receive(pools.intake("one")).await.unwrap();
    streams_are(&pools.lzc, 2).await;
    drop((sending, receiving));
    streams_are(&pools.lzc, 0).await;
}
