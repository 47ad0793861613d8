//! A runtime of containers, as a test drives it: a system of nothing but a busybox, with users that no other test has.
//!
//! Needs root, LXC, and `SCRAP_TEST_LXC`: a folder for the systems that others may pass through. The users are taken from
//! the first line of root's in `/etc/subuid`.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use scrap_host::lxc::LxcRuntime;
use scrap_host::runtime::{Exec, IdRange, Runtime, Start, System};

use crate::bench::{Bench, WEB, kill, start};

/// Users of one grain.
const COUNT: u32 = 65_536;

pub(crate) struct LxcBench {
    pub(crate) runtime: LxcRuntime,
    pub(crate) root: tempfile::TempDir,
    pub(crate) ids: IdRange,
    _claim: File,
}

fn scratch() -> Option<PathBuf> {
    std::env::var_os("SCRAP_TEST_LXC").map(PathBuf::from)
}

/// A range of users that no other test has now.
pub(crate) fn claim() -> (IdRange, File) {
    let text = fs::read_to_string("/etc/subuid").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("root:")).unwrap();
    let (first, count) = line.split_once(':').unwrap();
    let (first, count): (u32, u32) = (first.parse().unwrap(), count.parse().unwrap());
    let folder = scratch().unwrap().join("ids");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..count / COUNT {
        let file = File::create(folder.join(number.to_string())).unwrap();
        let ids = IdRange { base: first + number * COUNT, count: COUNT };
        match file.try_lock() {
            // A test that was killed may have left something.
            Ok(()) if living(ids).is_empty() => return (ids, file),
            Ok(()) | Err(TryLockError::WouldBlock) => (),
            Err(TryLockError::Error(error)) => panic!("{error}"),
        }
    }
    panic!("/etc/subuid gives root no more ranges of {COUNT}");
}

/// Makes a system of a busybox below `data`, owned by root as in a template.
pub(crate) fn make_system(data: &Path) {
    let rootfs = data.join("rootfs");
    for folder in ["bin", "sbin", "dev", "proc", "sys", "etc", "tmp", "root", "run"] {
        fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for tool in [
        "sh", "[", "sleep", "cat", "ls", "echo", "true", "id", "env", "mount", "mkdir", "mknod",
        "rm", "touch", "chmod", "stty", "tty", "dd", "ps", "kill", "printf", "head", "grep",
        "readlink", "setsid", "unshare", "wc",
    ] {
        symlink("busybox", rootfs.join("bin").join(tool)).unwrap();
    }
    symlink("../bin/busybox", rootfs.join("sbin/init")).unwrap();
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\n")
        .unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\nwww:x:34:\n").unwrap();
    fs::write(rootfs.join("etc/inittab"), "::sysinit:/bin/echo booted\n::askfirst:/bin/sh\n")
        .unwrap();
}

pub(crate) async fn open(root: &Path) -> LxcRuntime {
    let keeper = env!("CARGO_BIN_EXE_scrap-keeper").into();
    LxcRuntime::open(&root.join("run"), keeper).await.unwrap()
}

const PROGRAM: &str = "trap 'exit 0' TERM
while :; do
    if [ -e /crash ]; then rm -f /crash; exit 3; fi
    if [ -e /say ]; then cat /say; rm -f /say; fi
    sleep 0.01
done";

impl Bench for LxcBench {
    type R = LxcRuntime;
    const ASKED: &str = "exit status 0";
    const NEEDS_COMMAND: bool = false;

    #[expect(clippy::print_stdout, reason = "says why nothing is tested")]
    fn is_possible() -> bool {
        let possible = scratch().is_some() && rustix::process::geteuid().is_root();
        if !possible {
            println!(
                "skipped: containers need root and SCRAP_TEST_LXC, a folder for their systems"
            );
        }
        possible
    }

    async fn new() -> Self {
        let root = tempfile::Builder::new().prefix("t").tempdir_in(scratch().unwrap()).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = root.path().join("data");
        fs::create_dir(&data).unwrap();
        make_system(&data);
        let (ids, claim) = claim();
        let runtime = open(root.path()).await;
        runtime.prepare(&data, ids).await.unwrap();
        Self { runtime, root, ids, _claim: claim }
    }

    fn runtime(&self) -> &LxcRuntime {
        &self.runtime
    }

    fn order(&self, epoch: u64) -> Start {
        self.shell(PROGRAM, epoch)
    }

    async fn reopen(&mut self) {
        self.runtime = open(self.root.path()).await;
    }

    fn crash(&self) {
        self.put("crash", "");
    }

    fn come_back(&self) {}

    fn say(&self, text: &str) {
        self.put("say", text);
    }
}

/// A test that needs containers.
macro_rules! contained {
    ($($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if <crate::container::LxcBench as crate::bench::Bench>::is_possible() {
                    super::$name().await;
                }
            }
        )*
    };
}
pub(crate) use contained;

impl LxcBench {
    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.data().join("rootfs")
    }

    pub(crate) fn system(&self) -> System {
        System { hostname: "web".to_owned(), ids: self.ids, pids: 0, interface: None }
    }

    /// An order for a script as the first process of the system.
    pub(crate) fn shell(&self, script: &str, epoch: u64) -> Start {
        let order = start(&["/bin/sh", "-c", script], &self.data(), epoch);
        Start { system: Some(self.system()), ..order }
    }

    /// An order for the system's own init.
    pub(crate) fn whole(&self, epoch: u64) -> Start {
        Start { command: Vec::new(), ..self.shell("", epoch) }
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.rootfs().join("new"), text).unwrap();
        fs::rename(self.rootfs().join("new"), self.rootfs().join(name)).unwrap();
    }

    pub(crate) fn record(&self) -> serde_json::Value {
        let path = self.root.path().join(format!("run/{WEB}/keeper.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn keeper_pid(&self) -> i32 {
        i32::try_from(self.record()["keeper"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Folders of the grain's groups of processes.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let record = self.record();
        groups(record["cage"]["group"].as_str().unwrap())
    }

    /// Every living process with a user of the grain.
    pub(crate) fn living(&self) -> Vec<i32> {
        living(self.ids)
    }
}

impl LxcBench {
    /// What a command line inside prints, and how it ended.
    pub(crate) async fn inside(&self, command: &[&str]) -> (String, Option<i32>) {
        let exec = exec(command);
        let child = self.runtime.exec(exec).await.unwrap().child;
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.code())
    }

    /// Waits until a file of the system has something in it.
    pub(crate) async fn appears(&self, name: &str) -> String {
        let path = self.rootfs().join(name);
        let read = || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
        // Read once: whoever writes it may be writing it again.
        let mut seen = None;
        crate::bench::wait_until(async || {
            seen = read();
            seen.is_some()
        })
        .await;
        seen.unwrap()
    }

    /// The program that makes the system.
    pub(crate) fn maker_pid(&self) -> i32 {
        let keeper = self.keeper_pid();
        let children = format!("/proc/{keeper}/task/{keeper}/children");
        fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Nothing is left: no process, no group.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        let read = |pid: i32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let show = |pid| ["cmdline", "cgroup", "stat"].map(|name| read(pid, name));
        let left: Vec<_> = self.living().into_iter().map(show).collect();
        assert!(left.is_empty(), "{left:#?}");
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
    }
}

pub(crate) fn exec(command: &[&str]) -> Exec {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Exec { grain: WEB, command, env: [].into(), tty: None, user: None }
}

/// The folders of a group in every hierarchy where it is.
pub(crate) fn groups(group: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let lines = mounts.lines().filter(|line| line.contains(" cgroup"));
    let folders = lines.map(|line| Path::new(line.split(' ').nth(1).unwrap()).join(group));
    folders.filter(|folder| folder.exists()).collect()
}

/// Every living process with one of these users.
pub(crate) fn living(ids: IdRange) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        line.split_whitespace().any(|user| user.parse().is_ok_and(|user| ids.contains(user)))
    };
    pids.filter(has).filter(|pid| crate::bench::is_alive(*pid)).collect()
}

impl Drop for LxcBench {
    /// A test that failed leaves nothing: neither processes nor groups.
    fn drop(&mut self) {
        let path = self.root.path().join(format!("run/{WEB}/keeper.json"));
        let Ok(text) = fs::read(path) else { return };
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
        if record["status"]["state"] != "stopped" {
            kill(i32::try_from(record["keeper"]["pid"].as_i64().unwrap()).unwrap());
        }
        let group = record["cage"]["group"].as_str().unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // What makes a system ends a moment after it, and its group can be removed then.
        while std::time::Instant::now() < limit {
            self.living().into_iter().for_each(kill);
            for folder in groups(group) {
                for below in ["system/.lxc", "system", "monitor", "."] {
                    let _ = fs::remove_dir(folder.join(below));
                }
            }
            if self.living().is_empty() && groups(group).is_empty() {
                break;
            }
        }
    }
}
