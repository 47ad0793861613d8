//! One pool of each backend, as a test drives it: what the grain writes, and the daemon's restart.

use scrap_host::datasets::Datasets;
use scrap_host::dir::DirDatasets;
use scrap_host::mem::MemDatasets;
use scrap_schema::id::GrainId;

/// A pool with what a test may do beside the trait.
pub(crate) trait Bench: Sized {
    type D: Datasets;
    /// An empty pool; pools of one test have different seeds.
    fn new(seed: u64) -> Self;
    fn datasets(&self) -> &Self::D;
    /// What the running grain would do.
    fn write(&self, grain: GrainId, path: &str, contents: &[u8]);
    fn remove(&self, grain: GrainId, path: &str);
    /// A file of the head.
    fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>>;
    /// The daemon starts again on the same pool.
    fn reopen(&mut self);
}

pub(crate) struct MemBench {
    datasets: MemDatasets,
}

impl Bench for MemBench {
    type D = MemDatasets;
    fn new(seed: u64) -> Self {
        Self { datasets: MemDatasets::new(seed) }
    }
    fn datasets(&self) -> &MemDatasets {
        &self.datasets
    }
    fn write(&self, grain: GrainId, path: &str, contents: &[u8]) {
        self.datasets.write(grain, path, contents).unwrap();
    }
    fn remove(&self, grain: GrainId, path: &str) {
        self.datasets.remove(grain, path).unwrap();
    }
    fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>> {
        self.datasets.read(grain, path)
    }
    fn reopen(&mut self) {
        self.datasets = self.datasets.clone();
    }
}

pub(crate) struct DirBench {
    pub(crate) datasets: DirDatasets,
    pub(crate) root: tempfile::TempDir,
}

impl DirBench {
    pub(crate) fn head(&self, grain: GrainId) -> std::path::PathBuf {
        self.datasets.path(grain)
    }
}

fn open(root: &std::path::Path) -> DirDatasets {
    let opened = std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        scope.spawn(move || runtime().block_on(DirDatasets::open(root))).join()
    });
    opened.unwrap().unwrap()
}

impl Bench for DirBench {
    type D = DirDatasets;
    fn new(_seed: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { datasets: open(root.path()), root }
    }
    fn datasets(&self) -> &DirDatasets {
        &self.datasets
    }
    fn write(&self, grain: GrainId, path: &str, contents: &[u8]) {
        let path = self.head(grain).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    fn remove(&self, grain: GrainId, path: &str) {
        std::fs::remove_file(self.head(grain).join(path)).unwrap();
    }
    fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.head(grain).join(path)).ok()
    }
    fn reopen(&mut self) {
        self.datasets = open(self.root.path());
    }
}
