//! Streams of programs that stand still, that are slow, and that are gone. Needs no pool: a line of shell stands for `zfs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::zfs::{Inner, ZfsSettings};

/// Longer than any of these tests takes.
const FOR_EVER: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(1);

/// Tools that do what a line of shell says, which finds the number of its process in the file `pid`.
struct Fake {
    folder: tempfile::TempDir,
    inner: Inner,
}

impl Fake {
    fn new(limit: Duration, line: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (program, pid) = (folder.path().join("zfs"), folder.path().join("pid"));
        fs::write(&program, format!("#!/bin/sh\necho $$ > {}\n{line}\n", pid.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = ZfsSettings::new("tank/scrap", folder.path().join("mounts"));
        settings.zfs = program.into();
        settings.limit = limit;
        let inner = Inner::new(&settings).unwrap();
        Self { folder, inner }
    }

    fn process(&self) -> PathBuf {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        Path::new("/proc").join(pid.trim())
    }

    fn inward(&self) -> Stream {
        self.inner.tools.inward(&["receive".to_owned()]).unwrap()
    }
}

#[track_caller]
fn assert_hanging<T: std::fmt::Debug>(result: Result<T>, of: &str) {
    let Err(Cause::Hanging { program, .. }) = &result else { panic!("{result:?}") };
    assert!(program.contains(of), "{program}");
}

#[tokio::test]
async fn a_send_that_stands_still_is_ended_and_named() {
    let began = Instant::now();
    for line in ["exec sleep 60", "head -c 1000 /dev/zero; exec sleep 60", "exec sleep 60 >&-"] {
        let fake = Fake::new(SHORT, line);
        let counted = fake.inner.count(&["send", "tank/scrap@s"]).await;
        assert_hanging(counted, "zfs send tank/scrap@s");
        assert!(!fake.process().exists(), "{line}: it is gone when the call returns");
    }
    assert!(began.elapsed() < FOR_EVER / 2);
}

#[tokio::test]
async fn a_receive_that_takes_nothing_is_ended_and_named() {
    let fake = Fake::new(SHORT, "exec sleep 60");
    let mut stream = fake.inward();
    assert_hanging(stream.write(&vec![0; 1 << 20]).await, "zfs receive");
    stream.kill().await;
    assert!(!fake.process().exists());
}

#[tokio::test]
async fn what_is_slow_does_not_stand_still() {
    let limit = Duration::from_secs(1);
    let fake = Fake::new(limit, "for i in 1 2 3 4 5; do echo $i; sleep 0.3; done");
    assert_eq!(fake.inner.count(&["send"]).await.unwrap(), 10, "it took longer than the limit");
    let slow = "for i in 1 2 3 4 5; do head -c 65536 > /dev/null; sleep 0.3; done; cat > /dev/null";
    let fake = Fake::new(limit, slow);
    let mut stream = fake.inward();
    let began = Instant::now();
    assert!(stream.write(&vec![0; 1 << 20]).await.unwrap());
    assert!(began.elapsed() > limit, "it took longer than the limit");
    stream.end().await.unwrap();
}

#[tokio::test]
async fn a_receive_may_be_silent_for_longer_at_its_end_and_not_for_ever() {
    let fake = Fake::new(Duration::from_secs(1), "cat > /dev/null; sleep 1.5");
    let mut stream = fake.inward();
    assert!(stream.write(b"everything").await.unwrap());
    stream.end().await.unwrap();
    let fake = Fake::new(SHORT / 2, "cat > /dev/null; exec sleep 60");
    let mut stream = fake.inward();
    assert!(stream.write(b"everything").await.unwrap());
    assert_hanging(stream.end().await, "zfs receive");
    assert!(!fake.process().exists());
}

#[tokio::test]
async fn of_two_streams_that_are_joined_the_one_that_stands_still_is_named() {
    let [send, receive] = ["send", "receive"].map(|word| [word.to_owned()]);
    let copy = async |limit, sends: &str, receives: &str| {
        let line = format!("if [ \"$1\" = send ]; then {sends}; else {receives}; fi");
        Fake::new(limit, &line).inner.pass(&send, &receive).await
    };
    let zeros = "head -c 1000000 /dev/zero";
    let same = "test $(wc -c) = 1000000";
    copy(Duration::from_secs(20), zeros, same).await.unwrap();
    assert_hanging(copy(SHORT, "echo x; exec sleep 60", same).await, "zfs send");
    assert_hanging(copy(SHORT, zeros, "exec sleep 60").await, "zfs receive");
    let full = copy(FOR_EVER, "exec cat /dev/zero", "echo out of space >&2; exit 1").await;
    assert!(matches!(full, Err(Cause::NoSpace)), "{full:?}");
    let gone = copy(FOR_EVER, "echo dataset does not exist >&2; exit 1", "cat >&2; exit 0").await;
    assert!(matches!(gone, Err(Cause::Missing)), "{gone:?}");
}

#[tokio::test]
async fn a_receive_stays_registered_until_its_program_is_gone() {
    let fake = Fake::new(FOR_EVER, "exec sleep 60");
    let (orders, registration) = watch::channel(Order::GoOn);
    let mut stream = fake.inward();
    stream.keep(registration);
    let pid = fake.folder.path().join("pid");
    while !fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let process = fake.process();
    drop(stream);
    assert!(!orders.is_closed(), "nobody has waited for it yet");
    timeout(FOR_EVER / 2, orders.closed()).await.unwrap();
    assert!(!process.exists());
}
