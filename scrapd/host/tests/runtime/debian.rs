//! A whole Debian: it boots, says what runs in it, and is halted by its own init.
//!
//! Needs what containers need, and `SCRAP_TEST_LXC_DEBIAN`: the tree of a Debian with systemd as it was unpacked, which is
//! copied.

use std::path::PathBuf;
use std::time::Instant;

use scrap_host::runtime::{Activity, Runtime};
use scrap_schema::unit::Span;

use crate::bench::{Bench, WEB, instance, wait_until};
use crate::container::LxcBench;

#[expect(clippy::print_stdout, reason = "says why nothing is tested")]
fn tree() -> Option<PathBuf> {
    let tree = std::env::var_os("SCRAP_TEST_LXC_DEBIAN").map(PathBuf::from);
    if tree.is_none() {
        println!("skipped: SCRAP_TEST_LXC_DEBIAN names no tree of a Debian");
    }
    tree
}

#[expect(clippy::disallowed_methods, reason = "a test copies a tree with everything that it has")]
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debian_boots_is_asked_and_halts() {
    let Some(tree) = tree().filter(|_| LxcBench::is_possible()) else { return };
    let bench = LxcBench::new().await;
    std::fs::remove_dir_all(bench.rootfs()).unwrap();
    std::fs::remove_file(bench.data().join(".scrap-ids")).unwrap();
    copy(&tree, &bench.rootfs());
    let began = Instant::now();
    bench.runtime.prepare(&bench.data(), bench.ids).await.unwrap();
    println!("prepared in {:?}", began.elapsed());
    let began = Instant::now();
    bench.runtime.start(bench.whole(1)).await.unwrap();
    println!("init runs after {:?}", began.elapsed());
    let booted = async || {
        let (text, _) = bench.inside(&["systemctl", "is-system-running"]).await;
        ["running", "degraded"].contains(&text.trim())
    };
    wait_until(booted).await;
    println!("booted after {:?}", began.elapsed());
    let services = bench.runtime.services(WEB).await.unwrap();
    let failed: Vec<_> =
        services.iter().filter(|service| service.activity == Activity::Failed).collect();
    println!("{} services, failed: {failed:?}", services.len());
    let journal = services.iter().find(|service| service.name == "systemd-journald.service");
    assert_eq!(journal.map(|journal| journal.activity), Some(Activity::Active));
    let (text, code) = bench.inside(&["su", "-s", "/bin/sh", "-c", "id -u", "nobody"]).await;
    assert_eq!((text.trim(), code), ("65534", Some(0)));
    let usage = bench.runtime.usage(WEB).await.unwrap();
    println!("{usage:?}");
    let began = Instant::now();
    bench.runtime.stop(WEB, Span::from_secs(60)).await.unwrap();
    println!("stopped in {:?}", began.elapsed());
    let found = instance(&bench.runtime).await.unwrap();
    let log = bench.runtime.logs(WEB, 0, Some(20), 10_000).await.unwrap().text;
    assert_eq!(
        found.last_exit.as_deref(),
        Some("exit status 0"),
        "{}",
        String::from_utf8_lossy(&log)
    );
    bench.assert_gone();
}
