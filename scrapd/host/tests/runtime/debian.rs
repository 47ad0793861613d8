//! A whole Debian, as the lab's recipe cooks it: it boots, watches its services, and is halted by its own init.
//!
//! Needs what containers need, and `SCRAP_TEST_LXC_DEBIAN`: the archive that the recipe made.

use std::path::{Path, PathBuf};
use std::time::Instant;

use scrap_host::runtime::{Activity, Runtime};
use scrap_schema::unit::Span;

use crate::bench::{Bench, WEB, instance, wait_until};
use crate::container::LxcBench;

#[expect(clippy::print_stdout, reason = "says why nothing is tested")]
fn archive() -> Option<PathBuf> {
    let archive = std::env::var_os("SCRAP_TEST_LXC_DEBIAN").map(PathBuf::from);
    if archive.is_none() {
        println!("skipped: SCRAP_TEST_LXC_DEBIAN names no archive of a Debian");
    }
    archive
}

#[expect(clippy::disallowed_methods, reason = "a test unpacks a tree with everything that it has")]
fn unpack(archive: &Path, to: &Path) {
    let mut tar = std::process::Command::new("tar");
    tar.args(["--numeric-owner", "--same-permissions", "-xf"]).arg(archive).arg("-C").arg(to);
    assert!(tar.status().unwrap().success());
}

impl LxcBench {
    /// What the system's own web server answers, if it does.
    async fn front_page(&self) -> Option<String> {
        let get = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/"];
        let (text, code) = self.inside(&get).await;
        (code == Some(0)).then_some(text)
    }

    /// The number of the process that runit watches as nginx.
    async fn nginx(&self) -> Option<i32> {
        let (text, _) = self.inside(&["sv", "status", "nginx"]).await;
        // `run: nginx: (pid 31) 5s`
        let pid = text.strip_prefix("run: ")?.split_once("(pid ")?.1.split_once(')')?.0;
        pid.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debian_boots_is_asked_and_halts() {
    let Some(archive) = archive().filter(|_| LxcBench::is_possible()) else { return };
    let bench = LxcBench::new().await;
    std::fs::remove_dir_all(bench.rootfs()).unwrap();
    std::fs::remove_file(bench.data().join(".scrap-ids")).unwrap();
    std::fs::create_dir(bench.rootfs()).unwrap();
    unpack(&archive, &bench.rootfs());
    let began = Instant::now();
    bench.runtime.prepare(&bench.data(), bench.ids).await.unwrap();
    println!("prepared in {:?}", began.elapsed());
    let began = Instant::now();
    bench.runtime.start(bench.whole(1)).await.unwrap();
    println!("init runs after {:?}", began.elapsed());
    // A system without a network has a loopback, but nobody has switched it on.
    let lo_up = ["busybox", "ip", "link", "set", "lo", "up"];
    wait_until(async || bench.inside(&lo_up).await.1 == Some(0)).await;
    wait_until(async || bench.front_page().await.is_some()).await;
    println!("its service answers after {:?}", began.elapsed());
    assert_eq!(bench.front_page().await.as_deref(), Some("a grain of Debian\n"));
    let services = bench.runtime.services(WEB).await.unwrap();
    let nginx = services.iter().find(|service| service.name == "nginx").unwrap();
    assert_eq!((nginx.activity, nginx.words.as_str()), (Activity::Active, "run"), "{services:?}");
    let (said, _) = bench.inside(&["sv", "down", "nginx"]).await;
    wait_until(async || {
        let services = bench.runtime.services(WEB).await.unwrap();
        services.iter().any(|service| service.name == "nginx" && service.words.starts_with("down"))
    })
    .await;
    let (again, code) = bench.inside(&["sv", "up", "nginx"]).await;
    assert_eq!(code, Some(0), "{said} {again}");
    wait_until(async || bench.front_page().await.is_some()).await;
    // What runit watches is begun again when it ends.
    let before = bench.nginx().await.unwrap();
    let (said, code) = bench.inside(&["busybox", "kill", "-9", &before.to_string()]).await;
    assert_eq!(code, Some(0), "{said}");
    wait_until(async || bench.nginx().await.is_some_and(|after| after != before)).await;
    // Users are those of the system, in the range of the grain.
    let (text, code) = bench.inside(&["su", "-s", "/bin/sh", "-c", "id -u", "nobody"]).await;
    assert_eq!((text.trim(), code), ("65534", Some(0)));
    println!("{:?}", bench.runtime.usage(WEB).await.unwrap());
    let began = Instant::now();
    bench.runtime.stop(WEB, Span::from_secs(60)).await.unwrap();
    println!("stopped in {:?}", began.elapsed());
    let found = instance(&bench.runtime).await.unwrap();
    let log = bench.runtime.logs(WEB, 0, Some(20), 10_000).await.unwrap().text;
    let log = String::from_utf8_lossy(&log);
    assert_eq!(found.last_exit.as_deref(), Some("exit status 0"), "{log}");
    bench.assert_gone();
}
