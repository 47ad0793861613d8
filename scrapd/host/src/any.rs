//! The backend that was chosen at the start, as one type: the traits are async and so cannot be objects. Only passes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::Span;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::datasets::{
    self, Dataset, DatasetId, Datasets, Diff, Frozen, Incoming, PoolHealth, Role, Shape, Space,
    Written,
};
use crate::dir::DirDatasets;
#[cfg(target_os = "linux")]
use crate::lxc::LxcRuntime;
use crate::mem::{MemDatasets, MemRuntime};
use crate::process::ProcessRuntime;
use crate::runtime::{
    self, Exec, ExecChild, IdRange, Listing, LogChunk, Runtime, RuntimeError, ServiceState, Start,
    Usage, Window,
};
use crate::zfs::ZfsDatasets;

/// Datasets of whichever backend.
#[derive(Debug, Clone)]
pub enum AnyDatasets {
    /// In ordinary directories.
    Dir(DirDatasets),
    /// In memory.
    Mem(MemDatasets),
    /// In a ZFS pool.
    Zfs(ZfsDatasets),
}

/// A runtime of whichever backend.
#[derive(Debug, Clone)]
pub enum AnyRuntime {
    /// As processes of this machine.
    Process(ProcessRuntime),
    /// As containers.
    #[cfg(target_os = "linux")]
    Lxc(LxcRuntime),
    /// In memory.
    Mem(MemRuntime),
}

/// The same call of whichever variant there is.
macro_rules! whichever {
    ($any:ident [$($(#[$when:meta])? $variant:ident)*] $this:ident, $backend:ident => $call:expr) => {
        match $this {
            $($(#[$when])? $any::$variant($backend) => $call,)*
        }
    };
}

/// One method that every backend has, by the variants of its enum.
macro_rules! pass_on {
    ($any:ident: $variants:tt; $(
        fn $name:ident(&self $(, $argument:ident: $kind:ty)*) -> $result:ty;
    )*) => {
        $(
            async fn $name(&self $(, $argument: $kind)*) -> $result {
                whichever!($any $variants self, backend => backend.$name($($argument),*).await)
            }
        )*
    };
}

impl Datasets for AnyDatasets {
    fn path(&self, grain: GrainId) -> PathBuf {
        whichever!(AnyDatasets [Dir Mem Zfs] self, backend => backend.path(grain))
    }

    pass_on! { AnyDatasets: [Dir Mem Zfs];
        fn list(&self) -> datasets::Result<Vec<Dataset>>;
        fn get(&self, id: DatasetId) -> datasets::Result<Option<Dataset>>;
        fn open_head(&self, grain: GrainId) -> datasets::Result<()>;
        fn create(&self, grain: GrainId, epoch: Epoch, shape: Shape) -> datasets::Result<()>;
        fn set_role(&self, grain: GrainId, role: Role, epoch: Epoch) -> datasets::Result<Dataset>;
        fn set_shape(&self, grain: GrainId, shape: Shape) -> datasets::Result<()>;
        fn set_properties(
            &self, id: DatasetId, properties: BTreeMap<String, String>
        ) -> datasets::Result<()>;
        fn written(&self, id: DatasetId) -> datasets::Result<Written>;
        fn snapshot(
            &self, grain: GrainId, name: &SnapshotName, now: Timestamp
        ) -> datasets::Result<Snapshot>;
        fn snapshot_all(
            &self, wanted: &[(GrainId, SnapshotName)], now: Timestamp
        ) -> Vec<(GrainId, datasets::Result<Frozen>)>;
        fn prune(&self, grain: GrainId, guids: &[Guid]) -> datasets::Result<()>;
        fn hold(&self, grain: GrainId, guid: Guid, tag: &str) -> datasets::Result<Dataset>;
        fn release(&self, grain: GrainId, tag: &str) -> datasets::Result<()>;
        fn send(
            &self, id: DatasetId, from: Option<Guid>, to: Guid,
            out: &mut (dyn AsyncWrite + Send + Unpin)
        ) -> datasets::Result<u64>;
        fn estimate(&self, id: DatasetId, from: Option<Guid>, to: Guid) -> datasets::Result<u64>;
        fn estimate_cheaply(
            &self, id: DatasetId, from: Option<Guid>, to: Guid
        ) -> datasets::Result<Option<u64>>;
        fn receive(
            &self, grain: GrainId, incoming: Incoming,
            input: &mut (dyn AsyncRead + Send + Unpin)
        ) -> datasets::Result<Dataset>;
        fn unfinished(&self, grain: GrainId) -> datasets::Result<Option<String>>;
        fn send_rest(
            &self, id: DatasetId, token: &str, to: Guid,
            out: &mut (dyn AsyncWrite + Send + Unpin)
        ) -> datasets::Result<u64>;
        fn set_aside(
            &self, grain: GrainId, base: Option<Guid>, orphan_name: &SnapshotName, now: Timestamp
        ) -> datasets::Result<Dataset>;
        fn take_back(&self, grain: GrainId, epoch: Epoch) -> datasets::Result<Dataset>;
        fn restore(&self, grain: GrainId, guid: Guid) -> datasets::Result<()>;
        fn clone_from(
            &self, from: DatasetId, guid: Guid, to: GrainId, epoch: Epoch, shape: Shape
        ) -> datasets::Result<()>;
        fn begin_template(&self, template: TemplateId) -> datasets::Result<PathBuf>;
        fn seal_template(
            &self, template: TemplateId, now: Timestamp
        ) -> datasets::Result<Snapshot>;
        fn receive_template(
            &self, template: TemplateId, input: &mut (dyn AsyncRead + Send + Unpin)
        ) -> datasets::Result<Snapshot>;
        fn view(&self, id: DatasetId, guid: Option<Guid>) -> datasets::Result<PathBuf>;
        fn conceal(&self, id: DatasetId) -> datasets::Result<()>;
        fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> datasets::Result<Diff>;
        fn destroy(&self, id: DatasetId) -> datasets::Result<()>;
        fn space(&self) -> datasets::Result<Space>;
        fn health(&self) -> datasets::Result<PoolHealth>;
        fn scrub(&self, before: Timestamp) -> datasets::Result<bool>;
    }
}

impl Runtime for AnyRuntime {
    pass_on! { AnyRuntime: [Process #[cfg(target_os = "linux")] Lxc Mem];
        fn list(&self) -> runtime::Result<Listing>;
        fn start(&self, order: Start) -> runtime::Result<()>;
        fn stop(&self, grain: GrainId, grace: Span) -> runtime::Result<()>;
        fn arm(&self, grain: GrainId, deadline: BootTime) -> runtime::Result<()>;
        fn disarm(&self, grain: GrainId) -> runtime::Result<()>;
        fn extend(&self, deadline: BootTime) -> runtime::Result<Vec<RuntimeError>>;
        fn usage(&self, grain: GrainId) -> runtime::Result<Usage>;
        fn logs(
            &self, grain: GrainId, from: u64, tail: Option<u32>, limit: usize
        ) -> runtime::Result<LogChunk>;
        fn prepare(&self, data: &Path, ids: IdRange) -> runtime::Result<()>;
        fn note(&self, template: &Path, users: u32) -> Result<(), runtime::RuntimeCause>;
        fn exec(&self, exec: Exec) -> runtime::Result<ExecChild>;
        fn console(&self, grain: GrainId, window: Window) -> runtime::Result<ExecChild>;
        fn freeze(&self, grain: GrainId) -> runtime::Result<()>;
        fn thaw(&self, grain: GrainId) -> runtime::Result<()>;
        fn services(&self, grain: GrainId) -> runtime::Result<Vec<ServiceState>>;
        fn forget(&self, grain: GrainId) -> runtime::Result<()>;
    }
}
