//! Datasets: one tree of data per grain, with snapshots, incremental streams, roles and properties.
//!
//! A dataset has a live *head* (where the grain writes) and a line of snapshots, oldest first. The owner's head is
//! writable; a standby's is not mounted at all and only [`Datasets::receive`] moves it forward.
//! Identity of a snapshot is its guid. Nothing here ever overwrites a head that has its own writes.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// Which dataset: a grain's own, or one that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatasetId {
    /// `grains/<grain_id>`.
    Grain(GrainId),
    /// `orphans/<grain_id>.<epoch>`: a diverged head that was set aside. The epoch is the one it was written in.
    Orphan(GrainId, Epoch),
}

/// What a dataset is for on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its head may be written by the running grain.
    Owner,
    /// Its head only moves by [`Datasets::receive`].
    Standby,
    /// Read-only; kept until a person decides.
    Orphan,
}

/// A dataset as its backend describes it. A pool describes itself: all this is stored with the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Which one.
    pub id: DatasetId,
    /// What for.
    pub role: Role,
    /// The epoch that was current when it was last created, promoted, demoted or received into here.
    pub epoch: Epoch,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Free texts by key: the grain's name, its manifest.
    pub properties: BTreeMap<String, String>,
    /// Space that head and snapshots take, as last measured.
    pub used: Bytes,
    /// Quota of the head; zero means none.
    pub quota: Bytes,
    /// For an orphan: the newest snapshot that it has in common with the grain's own line.
    pub base: Option<Guid>,
}

/// What was written into a head since its newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Upper bound of bytes that an incremental stream would carry; zero exactly if nothing changed.
    pub bytes: Bytes,
    /// Size of the head.
    pub head: Bytes,
}

/// Free and total space where the datasets live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All.
    pub total: Bytes,
    /// Left.
    pub free: Bytes,
}

/// A failed piece of work on a dataset: names the dataset, the work, and the cause.
#[derive(Debug, Error)]
#[error("cannot {work} {dataset}")]
pub struct DatasetError {
    /// What was tried: "snapshot", "receive into".
    pub work: &'static str,
    /// On what.
    pub dataset: DatasetId,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why work on a dataset failed; a caller chooses by it.
#[derive(Debug, Error)]
pub enum Cause {
    /// There is no such dataset.
    #[error("it does not exist")]
    Missing,
    /// There is one already.
    #[error("it exists already")]
    Exists,
    /// There is no such snapshot.
    #[error("it has no snapshot {0}")]
    NoSnapshot(Guid),
    /// The dataset's role forbids it: writing a standby, receiving into an owner.
    #[error("it is {is:?} here, which forbids this")]
    WrongRole {
        /// The role it has.
        is: Role,
    },
    /// The stream does not begin where this dataset ends, or this dataset has writes of its own.
    #[error("its newest snapshot is {newest:?}, the stream begins at {from:?}")]
    Diverged {
        /// The newest snapshot here.
        newest: Option<Guid>,
        /// Where the stream begins; `None` for a full one.
        from: Option<Guid>,
    },
    /// The stream broke off or does not match its checksum; what was here before is untouched.
    #[error("the stream is damaged or incomplete: {0}")]
    BadStream(String),
    /// No space, or the quota is used up.
    #[error("there is no space left")]
    NoSpace,
    /// A snapshot or dataset is still needed.
    #[error("it is held: {0}")]
    Held(String),
    /// The system refused.
    #[error("{what}")]
    Io {
        /// Which path, which call.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl std::fmt::Display for DatasetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grain(grain) => write!(f, "grains/{grain}"),
            Self::Orphan(grain, epoch) => write!(f, "orphans/{grain}.{epoch}"),
        }
    }
}

/// Result of the work of this trait.
pub type Result<T> = std::result::Result<T, DatasetError>;

/// What a node can do with data. Every method is idempotent or says [`Cause::Exists`]/[`Cause::Missing`]; every
/// method that returns `Ok` has put its effect on stable storage; a crash in the middle leaves the last good state.
pub trait Datasets: Send + Sync + 'static {
    /// Every dataset here, in order of id, including orphans. Reads what is stored; does not walk the data.
    fn list(&self) -> impl Future<Output = Result<Vec<Dataset>>> + Send;

    /// One dataset; `None` if there is none.
    fn get(&self, id: DatasetId) -> impl Future<Output = Result<Option<Dataset>>> + Send;

    /// A new, empty dataset in role Owner.
    fn create(
        &self,
        grain: GrainId,
        epoch: Epoch,
        quota: Bytes,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Changes role and epoch. From Owner to Owner: only the epoch. From Standby to Owner: the head becomes the newest snapshot's state and writable, any unfinished receive is
    /// thrown away. To Standby: refused with [`Cause::Diverged`] when the head has writes after its newest snapshot.
    fn set_role(
        &self,
        grain: GrainId,
        role: Role,
        epoch: Epoch,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Changes the quota.
    fn set_quota(&self, grain: GrainId, quota: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Sets properties; others stay.
    fn set_properties(
        &self,
        id: DatasetId,
        properties: BTreeMap<String, String>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Where the head is in the file system, for the runtime. Owner only.
    fn path(&self, grain: GrainId) -> PathBuf;

    /// What was written since the newest snapshot (everything, if there is none).
    fn written(&self, id: DatasetId) -> impl Future<Output = Result<Written>> + Send;

    /// Freezes the head. Same name again: the existing snapshot. `created` of the result is a moment before the
    /// first byte was read, so that everything written before it is in the snapshot. `now` is the wall clock of the caller.
    /// Owner only.
    fn snapshot(
        &self,
        grain: GrainId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Removes snapshots by guid; missing ones are fine. The newest snapshot and held ones are refused, and then
    /// nothing is removed.
    fn prune(&self, grain: GrainId, guids: &[Guid]) -> impl Future<Output = Result<()>> + Send;

    /// Holds a snapshot under a tag (such as `last:3` for the last one common with node 3); a tag holds one snapshot at a time.
    fn hold(
        &self,
        grain: GrainId,
        guid: Guid,
        tag: &str,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Releases a tag; a missing one is fine.
    fn release(&self, grain: GrainId, tag: &str) -> impl Future<Output = Result<()>> + Send;

    /// Tags and the snapshots that they hold.
    fn holds(&self, grain: GrainId) -> impl Future<Output = Result<BTreeMap<String, Guid>>> + Send;

    /// Writes a stream of one snapshot: everything, or what changed since `from`. Returns its length in bytes.
    fn send(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Estimated length of that stream in bytes.
    fn estimate(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Takes a stream in. A full one needs that there is no dataset (it is created as Standby); an incremental one
    /// needs role Standby and `from` = the newest snapshot here. Same snapshot again: [`Cause::Exists`], before any
    /// other refusal. The dataset's epoch becomes `epoch` unless it is higher already.
    /// The snapshot appears only when the whole stream is here, checked and stable.
    fn receive(
        &self,
        grain: GrainId,
        epoch: Epoch,
        from: Option<Guid>,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Sets a diverged head aside: its whole state becomes `Orphan(grain, epoch it had)`, with a last
    /// snapshot named `orphan_name`; `grains/<grain_id>` becomes a Standby that ends at `base`, or does not exist any more
    /// if `base` is `None`. No data are copied over the wire or lost. Restartable at every step: an orphan of this grain that
    /// ends with `orphan_name` is the work of an earlier call, which is finished. Properties, quota and the holds up to
    /// `base` stay with the Standby. Returns the orphan.
    fn set_aside(
        &self,
        grain: GrainId,
        base: Option<Guid>,
        orphan_name: &SnapshotName,
        now: Timestamp,
    ) -> impl Future<Output = Result<Dataset>> + Send;

    /// Makes the head of an Owner equal to one of its snapshots, as a new state on top: no snapshot is removed, and the caller
    /// has taken a snapshot of the head before. The grain must not run.
    fn restore(&self, grain: GrainId, guid: Guid) -> impl Future<Output = Result<()>> + Send;

    /// A new dataset in role Owner whose first snapshot (same guid) and head are the given snapshot of another dataset.
    fn clone_from(
        &self,
        from: DatasetId,
        guid: Guid,
        to: GrainId,
        epoch: Epoch,
        quota: Bytes,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes a dataset with all its snapshots. Missing: fine.
    fn destroy(&self, id: DatasetId) -> impl Future<Output = Result<()>> + Send;

    /// Space where the datasets live.
    fn space(&self) -> impl Future<Output = Result<Space>> + Send;
}
