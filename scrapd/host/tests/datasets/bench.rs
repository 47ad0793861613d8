//! One pool of each backend, as a test drives it: what the grain writes, and the daemon's restart.

use scrap_host::datasets::Datasets;
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
