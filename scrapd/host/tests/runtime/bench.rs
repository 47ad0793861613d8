//! One runtime of each backend, as a test drives it: a program that can be told to speak and to crash.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use scrap_host::clock;
use scrap_host::mem::MemRuntime;
use scrap_host::process::ProcessRuntime;
use scrap_host::runtime::{Instance, InstanceState, Runtime, Start};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, MilliCpu, Span};

pub(crate) const WEB: GrainId = GrainId(1);

pub(crate) trait Bench: Sized {
    type R: Runtime;
    /// How a program ends that was asked to.
    const ASKED: &str = "signal 15";
    /// Nothing can be started without saying what.
    const NEEDS_COMMAND: bool = true;
    /// Whether it can be had here; if not, says why.
    fn is_possible() -> bool {
        true
    }
    async fn new() -> Self;
    fn runtime(&self) -> &Self::R;
    /// An order for a program that runs until it is told otherwise.
    fn order(&self, epoch: u64) -> Start;
    /// The daemon starts again.
    async fn reopen(&mut self);
    /// The program ends by itself with status 3.
    fn crash(&self);
    /// The pause after a crash may end.
    fn come_back(&self);
    /// The program writes to its log.
    fn say(&self, text: &str);
}

pub(crate) fn start(command: &[&str], data: &Path, epoch: u64) -> Start {
    Start {
        grain: WEB,
        epoch: Epoch(epoch),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        data: data.to_owned(),
        memory: Bytes(0),
        cpu: MilliCpu(0),
        deadline: None,
        grace: Span::from_secs(5),
        system: None,
    }
}

pub(crate) async fn instance<R: Runtime>(runtime: &R) -> Option<Instance> {
    let list = runtime.list().await.unwrap();
    list.instances.into_iter().find(|instance| instance.grain == WEB)
}

pub(crate) async fn wait_for_state<R: Runtime>(runtime: &R, state: InstanceState) -> Instance {
    let mut last = None;
    let wait = async {
        loop {
            last = instance(runtime).await;
            if let Some(found) = last.clone().filter(|instance| instance.state == state) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), wait).await;
    found.unwrap_or_else(|_| panic!("never {state:?}, but {last:?}"))
}

pub(crate) async fn wait_until(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

pub(crate) fn soon(ms: u64) -> BootTime {
    clock::boot_time() + Span::from_ms(ms)
}

pub(crate) struct MemBench {
    runtime: MemRuntime,
}

impl Bench for MemBench {
    type R = MemRuntime;
    async fn new() -> Self {
        Self { runtime: MemRuntime::new() }
    }
    fn runtime(&self) -> &MemRuntime {
        &self.runtime
    }
    fn order(&self, epoch: u64) -> Start {
        start(&["anything"], Path::new("/"), epoch)
    }
    async fn reopen(&mut self) {
        self.runtime = self.runtime.clone();
    }
    fn crash(&self) {
        self.runtime.crash(WEB, "exit status 3");
    }
    fn come_back(&self) {
        self.runtime.come_back(WEB);
    }
    fn say(&self, text: &str) {
        self.runtime.write_log(WEB, text);
    }
}

pub(crate) struct ProcessBench {
    pub(crate) runtime: ProcessRuntime,
    pub(crate) root: tempfile::TempDir,
}

const PROGRAM: &str = "while :; do
    if [ -e crash ]; then rm crash; exit 3; fi
    if [ -e say ]; then cat say; rm say; fi
    sleep 0.01
done";

async fn open(root: &Path) -> ProcessRuntime {
    let keeper = env!("CARGO_BIN_EXE_scrap-keeper").into();
    ProcessRuntime::open(&root.join("run"), keeper).await.unwrap()
}

impl Bench for ProcessBench {
    type R = ProcessRuntime;
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        Self { runtime: open(root.path()).await, root }
    }
    fn runtime(&self) -> &ProcessRuntime {
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

impl ProcessBench {
    /// An order for a shell script. The product itself never uses a shell.
    pub(crate) fn shell(&self, script: &str, epoch: u64) -> Start {
        start(&["sh", "-c", script], &self.root.path().join("data"), epoch)
    }

    fn put(&self, name: &str, text: &str) {
        let data = self.root.path().join("data");
        fs::write(data.join("new"), text).unwrap();
        fs::rename(data.join("new"), data.join(name)).unwrap();
    }

    /// The keeper's record.
    pub(crate) fn record(&self) -> serde_json::Value {
        let path = self.root.path().join(format!("run/{WEB}/keeper.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn keeper_pid(&self) -> i32 {
        i32::try_from(self.record()["keeper"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// A number that the program wrote into a file of its folder.
    pub(crate) async fn pid_in(&self, name: &str) -> i32 {
        let path = self.root.path().join("data").join(name);
        let read = || fs::read_to_string(&path).ok()?.trim().parse::<i32>().ok();
        wait_until(async || read().is_some()).await;
        read().unwrap()
    }
}

impl Drop for ProcessBench {
    /// A test that failed leaves nothing running: the keeper takes its program with it, the tag tells the rest.
    fn drop(&mut self) {
        let path = self.root.path().join(format!("run/{WEB}/keeper.json"));
        let Ok(text) = fs::read(path) else { return };
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
        if record["status"]["state"] != "stopped" {
            kill(i32::try_from(record["keeper"]["pid"].as_i64().unwrap()).unwrap());
        }
        for pid in tagged(record["tag"].as_str().unwrap()) {
            kill(pid);
        }
    }
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Whether a process runs: not gone, not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z')
}

/// Living processes with this tag in their environment.
pub(crate) fn tagged(tag: &str) -> Vec<i32> {
    let tag = format!("SCRAP_INSTANCE={tag}");
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_tagged = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == tag.as_bytes())
    };
    pids.filter(is_tagged).filter(|pid| is_alive(*pid)).collect()
}
