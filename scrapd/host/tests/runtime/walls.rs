//! What a grain's own root cannot do to the machine, and to other grains.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use scrap_host::runtime::{Runtime, Start};
use scrap_schema::unit::{Bytes, MilliCpu, Span};

use crate::bench::{Bench, WEB, wait_until};
use crate::container::{LxcBench, contained, exec};

const GRACE: Span = Span::from_secs(20);

mod contained_tests {
    super::contained! {
        memory_has_an_end
        processes_have_an_end
        processor_time_has_an_end
        a_fork_bomb_ends_with_its_grain
        the_machine_cannot_be_changed_from_inside
        links_in_a_system_change_nothing_outside
        two_grains_share_no_users
        no_user_of_the_machine_reaches_into_a_grain
    }
}

async fn memory_has_an_end() {
    let bench = LxcBench::new().await;
    let order = Start { memory: Bytes(48 << 20), ..bench.order(1) };
    bench.runtime.start(order).await.unwrap();
    let (text, code) =
        bench.inside(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]).await;
    assert_eq!(code, Some(137), "killed: {text}");
    let counts = |folder: PathBuf| {
        let read = |name: &str| fs::read_to_string(folder.join("system").join(name));
        let text =
            [read("memory.events"), read("memory.oom_control")].map(Result::unwrap_or_default);
        text.concat()
            .lines()
            .any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    };
    assert!(bench.groups().into_iter().any(counts), "the system killed it for its memory");
    let (text, code) =
        bench.inside(&["dd", "if=/dev/zero", "of=/dev/null", "bs=4M", "count=1"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(bench.runtime.usage(WEB).await.unwrap().memory.0 <= 48 << 20);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn processes_have_an_end() {
    let bench = LxcBench::new().await;
    let system = scrap_host::runtime::System { pids: 20, ..bench.system() };
    bench.runtime.start(Start { system: Some(system), ..bench.order(1) }).await.unwrap();
    let script =
        "i=0; while [ $i -lt 60 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all";
    let (text, _) = bench.inside(&["sh", "-c", script]).await;
    assert!(text.contains("can't fork") && !text.contains("all\n"), "{text}");
    let usage = bench.runtime.usage(WEB).await.unwrap();
    assert!((10..=20).contains(&usage.processes), "{usage:?}");
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    bench.assert_gone();
}

async fn processor_time_has_an_end() {
    let bench = LxcBench::new().await;
    let busy = "while :; do :; done";
    let order = Start { cpu: MilliCpu(100), ..bench.shell(busy, 1) };
    bench.runtime.start(order).await.unwrap();
    let throttled = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("system/cpu.stat")).unwrap_or_default();
        text.lines()
            .any(|line| line.strip_prefix("nr_throttled ").is_some_and(|count| count != "0"))
    };
    wait_until(async || bench.groups().into_iter().any(throttled)).await;
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn a_fork_bomb_ends_with_its_grain() {
    let bench = LxcBench::new().await;
    let system = scrap_host::runtime::System { pids: 200, ..bench.system() };
    let bomb = "trap : TERM; b() { b | b & }; b 2>/dev/null; echo $$ > /main; while :; do b 2>/dev/null; done";
    bench.runtime.start(Start { system: Some(system), ..bench.shell(bomb, 1) }).await.unwrap();
    wait_until(async || bench.runtime.usage(WEB).await.unwrap().processes > 100).await;
    bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    bench.assert_gone();
}

async fn the_machine_cannot_be_changed_from_inside() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    // Each is a line that must fail, and say so.
    for attempt in [
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/mem c 1 1",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sys/kernel/hostname",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "mount -o remount,rw /proc/sys; echo x > /proc/sys/kernel/core_pattern",
        "mount -o remount,rw /proc/sys; echo 1 > /proc/sys/vm/drop_caches",
        "mount -o remount,rw /sys; echo 1 > /sys/kernel/profiling",
        "mount -t ext4 /dev/vda /tmp",
        "mount -t devtmpfs x /tmp",
        "mount -t debugfs x /tmp",
        "unshare -U true",
        "test $(head -c 1 /proc/kcore | wc -c) = 1",
        "cat /proc/kmsg",
        "echo 99999999 > /sys/fs/cgroup/memory.max",
        "ls /proc/1/cwd/../../../../../home/.",
        "cat /etc/shadow",
    ] {
        let (text, code) = bench.inside(&["sh", "-c", attempt]).await;
        assert_ne!(code, Some(0), "{attempt}: {text}");
    }
    // Groups of processes may be mounted inside, and show the grain's own alone.
    let script = "mkdir -p /tmp/g; mount -t cgroup -o pids x /tmp/g || mount -t cgroup2 x /tmp/g || exit 0; \
        ls /tmp/g; echo 100000 > /tmp/g/pids.max && echo raised; ls /tmp/g | grep scrap";
    let (text, _) = bench.inside(&["sh", "-c", script]).await;
    assert!(!text.contains("raised") && !text.contains("scrap-"), "{text}");
    let (text, _) = bench.inside(&["sh", "-c", "ls -d /proc/[0-9]*"]).await;
    assert!(text.contains("/proc/1\n") && text.lines().count() < 10, "{text}");
    // What lends rights inside lends nothing out here.
    let script = "cat /bin/busybox > /tmp/mine; chmod 6755 /tmp/mine";
    assert_eq!(bench.inside(&["sh", "-c", script]).await.1, Some(0));
    let mine = fs::metadata(bench.rootfs().join("tmp/mine")).unwrap();
    assert_eq!(
        (mine.uid(), mine.gid(), mine.mode() & 0o7777),
        (bench.ids.base, bench.ids.base, 0o6755)
    );
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

/// Everything below a folder, with its owner, bits and length.
fn picture(folder: &Path) -> Vec<(PathBuf, u32, u32, u64)> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, meta.uid(), meta.mode(), meta.len()));
    }
    found.sort();
    found
}

async fn links_in_a_system_change_nothing_outside() {
    let bench = LxcBench::new().await;
    let outside = bench.root.path().join("outside");
    for folder in ["sys", "pts", "firmware", "fs"] {
        fs::create_dir_all(outside.join(folder)).unwrap();
    }
    for file in ["null", "console", "kcore", "hostname", "resolv.conf", "tty1", "ptmx"] {
        fs::write(outside.join(file), "untouched").unwrap();
    }
    for entry in fs::read_dir(&outside).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let before = picture(&outside);
    let mounts = || {
        fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .lines()
            .filter(|line| line.contains(bench.root.path().to_str().unwrap()))
            .count()
    };
    let up = format!("{}{}", "../".repeat(20), outside.strip_prefix("/").unwrap().display());
    for name in
        ["dev", "etc", "proc", "sys", "run", "tmp", "dev/pts", "dev/console", "etc/hostname"]
    {
        for target in [outside.to_str().unwrap(), up.as_str()] {
            let path = bench.rootfs().join(name);
            let aside = bench.rootfs().join("aside");
            let moved = fs::rename(&path, &aside).is_ok();
            symlink(target, &path).unwrap();
            // It may run or not: nothing but that may come of it.
            let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
            let started = bench.runtime.start(bench.shell(script, 1)).await;
            if started.is_ok() {
                let _ = bench.runtime.exec(exec(&["true"])).await;
            }
            bench.runtime.stop(WEB, GRACE).await.unwrap();
            bench.assert_gone();
            assert_eq!(picture(&outside), before, "{name} -> {target}");
            assert_eq!(mounts(), 0, "{name} -> {target}");
            fs::remove_file(&path).unwrap();
            if moved {
                fs::rename(&aside, &path).unwrap();
            }
        }
    }
    bench.runtime.start(bench.order(1)).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn two_grains_share_no_users() {
    let (one, other) = (LxcBench::new().await, LxcBench::new().await);
    one.runtime.start(one.order(1)).await.unwrap();
    other.runtime.start(other.order(1)).await.unwrap();
    assert_ne!(one.ids, other.ids);
    assert!(!one.living().is_empty() && !other.living().is_empty());
    one.runtime.stop(WEB, GRACE).await.unwrap();
    assert!(!other.living().is_empty(), "the same grain of another run directory is another one");
    other.runtime.stop(WEB, GRACE).await.unwrap();
    other.assert_gone();
}

/// Whether somebody finds a file.
#[expect(clippy::disallowed_methods, reason = "another user looks, from outside")]
fn finds(user: u32, file: &Path) -> bool {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("/bin/busybox");
    command.arg("stat").arg(file).uid(user).gid(user);
    command.output().unwrap().status.success()
}

async fn no_user_of_the_machine_reaches_into_a_grain() {
    let (bench, other) = (LxcBench::new().await, LxcBench::new().await);
    let nobody = 65_534;
    // Also of a grain that an earlier version left open.
    for opened in [false, true] {
        if opened {
            fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o711)).unwrap();
        }
        bench.runtime.start(bench.order(1)).await.unwrap();
        let script = "cat /bin/busybox > /tmp/mine; chmod 6755 /tmp/mine; chmod 777 /tmp /";
        assert_eq!(bench.inside(&["sh", "-c", script]).await.1, Some(0));
        for user in [nobody, other.ids.base, bench.ids.base + 1] {
            assert!(finds(user, &bench.data()), "up to there the way is free for {user}");
            for file in ["tmp/mine", "bin/busybox", "."] {
                assert!(!finds(user, &bench.rootfs().join(file)), "{user} finds {file}");
            }
        }
        bench.runtime.stop(WEB, GRACE).await.unwrap();
        assert!(!finds(nobody, &bench.rootfs().join("tmp/mine")), "also when it is stopped");
    }
}
