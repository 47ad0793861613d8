//! Backends by name: an enum instead of `dyn`, because async traits are not dyn-safe. Passes every call on; does nothing itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::{Bytes, Span};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::datasets::{self, Dataset, DatasetId, Datasets, Role, Space, Written};
use crate::dir::DirDatasets;
use crate::mem::{MemDatasets, MemRuntime};
use crate::process::ProcessRuntime;
use crate::runtime::{self, Exec, ExecChild, Instance, LogChunk, Runtime, Start, Usage};

/// Where data are.
pub enum AnyDatasets {
    /// Ordinary directories.
    Dir(DirDatasets),
    /// Memory.
    Mem(MemDatasets),
}

/// What runs grains.
pub enum AnyRuntime {
    /// Supervised process groups.
    Process(ProcessRuntime),
    /// Memory.
    Mem(MemRuntime),
}

macro_rules! datasets {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Datasets for AnyDatasets {
            $(async fn $name(&self, $($arg: $type),*) -> datasets::Result<$answer> {
                match self {
                    Self::Dir(backend) => backend.$name($($arg),*).await,
                    Self::Mem(backend) => backend.$name($($arg),*).await,
                }
            })*

            fn path(&self, grain: GrainId) -> PathBuf {
                match self {
                    Self::Dir(backend) => backend.path(grain),
                    Self::Mem(backend) => backend.path(grain),
                }
            }
        }
    };
}

datasets! {
    list() -> Vec<Dataset>;
    get(id: DatasetId) -> Option<Dataset>;
    create(grain: GrainId, epoch: Epoch, quota: Bytes) -> ();
    set_role(grain: GrainId, role: Role, epoch: Epoch) -> ();
    set_quota(grain: GrainId, quota: Bytes) -> ();
    set_properties(id: DatasetId, properties: BTreeMap<String, String>) -> ();
    written(id: DatasetId) -> Written;
    snapshot(grain: GrainId, name: &SnapshotName, now: Timestamp) -> Snapshot;
    prune(grain: GrainId, guids: &[Guid]) -> ();
    hold(grain: GrainId, guid: Guid, tag: &str) -> ();
    release(grain: GrainId, tag: &str) -> ();
    holds(grain: GrainId) -> BTreeMap<String, Guid>;
    send(id: DatasetId, from: Option<Guid>, to: Guid, out: &mut (dyn AsyncWrite + Send + Unpin)) -> u64;
    estimate(id: DatasetId, from: Option<Guid>, to: Guid) -> u64;
    receive(grain: GrainId, epoch: Epoch, from: Option<Guid>, input: &mut (dyn AsyncRead + Send + Unpin)) -> Snapshot;
    set_aside(grain: GrainId, base: Option<Guid>, orphan_name: &SnapshotName, now: Timestamp) -> Dataset;
    restore(grain: GrainId, guid: Guid) -> ();
    clone_from(from: DatasetId, guid: Guid, to: GrainId, epoch: Epoch, quota: Bytes) -> ();
    destroy(id: DatasetId) -> ();
    space() -> Space;
}

macro_rules! runtime {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Runtime for AnyRuntime {
            $(async fn $name(&self, $($arg: $type),*) -> runtime::Result<$answer> {
                match self {
                    Self::Process(backend) => backend.$name($($arg),*).await,
                    Self::Mem(backend) => backend.$name($($arg),*).await,
                }
            })*
        }
    };
}

runtime! {
    list() -> Vec<Instance>;
    start(order: Start) -> ();
    stop(grain: GrainId, grace: Span) -> ();
    arm(grain: GrainId, deadline: BootTime) -> ();
    extend(deadline: BootTime) -> ();
    usage(grain: GrainId) -> Usage;
    logs(grain: GrainId, from: u64, tail: Option<u32>, limit: usize) -> LogChunk;
    exec(exec: Exec) -> ExecChild;
    forget(grain: GrainId) -> ();
}
