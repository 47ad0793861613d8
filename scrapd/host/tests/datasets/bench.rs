//! One pool of each backend, as a test drives it: what the grain writes, and the daemon's restart.

use std::path::Path;

use scrap_host::datasets::Datasets;
use scrap_host::dir::DirDatasets;
use scrap_host::mem::MemDatasets;
use scrap_schema::id::{GrainId, TemplateId};

/// Bytes that nothing can compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A pool with what a test may do beside the trait.
pub(crate) trait Bench: Sized {
    type D: Datasets;
    /// Sizes are those of the files, and estimates those of the streams.
    const EXACT: bool;
    /// Clones share the data of their template.
    const SHARES: bool;
    /// Whether there is a place for such a pool; if not, it was said why.
    fn available() -> bool {
        true
    }
    /// An empty pool; pools of one test have different seeds.
    fn new(seed: u64) -> Self;
    fn datasets(&self) -> &Self::D;
    /// What the running grain would do.
    fn write(&self, grain: GrainId, path: &str, contents: &[u8]);
    fn remove(&self, grain: GrainId, path: &str);
    /// A file of the head.
    fn read(&self, grain: GrainId, path: &str) -> Option<Vec<u8>>;
    /// Writes a file into a template that is begun, at the path that it was given.
    fn unpack(&self, template: TemplateId, at: &Path, path: &str, contents: &[u8]);
    /// A file of a view.
    fn read_view(&self, view: &Path, path: &str) -> Option<Vec<u8>>;
    /// The daemon starts again on the same pool.
    fn reopen(&mut self);
}

pub(crate) struct MemBench {
    datasets: MemDatasets,
}

impl Bench for MemBench {
    type D = MemDatasets;
    const EXACT: bool = true;
    const SHARES: bool = false;
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
    fn unpack(&self, template: TemplateId, _at: &Path, path: &str, contents: &[u8]) {
        self.datasets.unpack(template, path, contents).unwrap();
    }
    fn read_view(&self, view: &Path, path: &str) -> Option<Vec<u8>> {
        self.datasets.read_view(view, path)
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

/// Writes a file, with the folders above it.
pub(crate) fn write_below(root: &Path, path: &str, contents: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
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
    const EXACT: bool = true;
    const SHARES: bool = false;
    fn new(_seed: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { datasets: open(root.path()), root }
    }
    fn datasets(&self) -> &DirDatasets {
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
        self.datasets = open(self.root.path());
    }
}
