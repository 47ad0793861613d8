//! The backend on ZFS. Runs where the environment names two datasets in two pools and two folders:
//! `SCRAP_TEST_ZFS_ROOT`, `SCRAP_TEST_ZFS_ROOT2` and `SCRAP_TEST_ZFS_MOUNT` (the folder, which gets a folder per test).
//! One pool is enough where `receive -o origin` is known. Everything below the roots that a test made it removes.
#![expect(clippy::disallowed_methods, reason = "tests break things by hand")]
#![expect(clippy::print_stdout, reason = "what was not tested is said")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use scrap_host::datasets::Datasets;
use scrap_host::zfs::{ZfsDatasets, ZfsSettings};
use scrap_schema::id::{GrainId, TemplateId};

use crate::bench::{Bench, write_below};

mod full;
mod hands;
mod stalls;
mod streams;
mod trees;

/// By everything that the tools can do.
pub(crate) type ZfsBench = Pool<false>;
/// By what every version can do.
pub(crate) type PlainZfsBench = Pool<true>;

pub(crate) struct Pool<const PLAIN: bool> {
    pub(crate) datasets: ZfsDatasets,
    pub(crate) settings: ZfsSettings,
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the environment names a pool.
pub(crate) fn available() -> bool {
    let given = var("SCRAP_TEST_ZFS_ROOT").is_some() && var("SCRAP_TEST_ZFS_MOUNT").is_some();
    if !given {
        println!("SKIPPED: SCRAP_TEST_ZFS_ROOT and SCRAP_TEST_ZFS_MOUNT name no pool and folder");
    }
    given
}

/// Runs a tool of the system, as a person would.
pub(crate) fn by_hand(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The same, until nothing is busy any more: some tools end mounts later than they say.
pub(crate) fn by_hand_patiently(program: &str, arguments: &[&str]) -> Result<String, String> {
    for _ in 0..100 {
        match by_hand(program, arguments) {
            Err(said) if said.contains("busy") => {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            result => return result,
        }
    }
    by_hand(program, arguments)
}

/// Work of the backend from a place that cannot wait.
pub(crate) fn wait<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        scope.spawn(move || runtime.block_on(work)).join().unwrap()
    })
}

/// Settings of a new, empty place.
pub(crate) fn place(seed: u64) -> ZfsSettings {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("t-{}-{number}", std::process::id());
    let first = var("SCRAP_TEST_ZFS_ROOT").unwrap();
    let root = if seed == 1 { first } else { var("SCRAP_TEST_ZFS_ROOT2").unwrap_or(first) };
    let mount = PathBuf::from(var("SCRAP_TEST_ZFS_MOUNT").unwrap()).join(&name);
    ZfsSettings::new(format!("{root}/{name}"), mount)
}

impl<const PLAIN: bool> Pool<PLAIN> {
    pub(crate) fn name(&self, below: &str) -> String {
        format!("{}/{below}", self.settings.root)
    }

    pub(crate) fn head(&self, grain: GrainId) -> PathBuf {
        self.datasets.path(grain)
    }
}

impl<const PLAIN: bool> Bench for Pool<PLAIN> {
    type D = ZfsDatasets;
    const EXACT: bool = false;
    const SHARES: bool = true;
    fn available() -> bool {
        available()
    }
    fn new(seed: u64) -> Self {
        let settings = ZfsSettings { plain: PLAIN, ..place(seed) };
        let datasets = wait(ZfsDatasets::open(settings.clone())).unwrap();
        Self { datasets, settings }
    }
    fn datasets(&self) -> &ZfsDatasets {
        &self.datasets
    }
    fn write(&self, grain: GrainId, path: &str, contents: &[u8]) {
        write_below(&self.head(grain), path, contents);
    }
    fn remove(&self, grain: GrainId, path: &str) {
        std::fs::remove_file(self.head(grain).join(path)).unwrap();
    }
    fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.head(grain).join(path)).ok()
    }
    fn unpack(&self, _template: TemplateId, at: &Path, path: &str, contents: &[u8]) {
        write_below(at, path, contents);
    }
    fn read_view(&self, view: &Path, path: &str) -> Option<Vec<u8>> {
        std::fs::read(view.join(path)).ok()
    }
    fn reopen(&mut self) {
        self.datasets = wait(ZfsDatasets::open(self.settings.clone())).unwrap();
    }
}

impl<const PLAIN: bool> Drop for Pool<PLAIN> {
    fn drop(&mut self) {
        let datasets = self.datasets.clone();
        let left = wait(async move {
            let mut left = Vec::new();
            // Templates come last, after what shares their data.
            for dataset in datasets.list().await.unwrap_or_default() {
                if let Err(error) = datasets.destroy(dataset.id).await {
                    left.push(format!("{error}: {}", error.cause));
                }
            }
            left
        });
        let swept = by_hand_patiently("zfs", &["destroy", "-r", &self.settings.root]);
        if !left.is_empty() || swept.is_err() {
            println!("left in {}: {left:?} {swept:?}", self.settings.root);
        }
        std::fs::remove_dir_all(&self.settings.mount_root).ok();
    }
}
