//! Datasets: one tree of data per grain, with snapshots, incremental streams, roles and properties.
//!
//! A dataset has a live *head* (where the grain writes) and a line of snapshots, oldest first. The owner's head is
//! writable; a standby's is not mounted at all and only [`Datasets::receive`] moves it forward.
//! Identity of a snapshot is its guid. Nothing here ever overwrites a head that has its own writes.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

mod trouble;

pub use trouble::{Cause, DatasetError, Result};

/// The tag under which the first snapshot of a clone is held: the backend's own, see [`Datasets::clone_from`].
pub const ORIGIN_TAG: &str = "origin";

/// Which dataset: a grain's own, one that was set aside, or what grains begin as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatasetId {
    /// `grains/<grain_id>`.
    Grain(GrainId),
    /// `orphans/<grain_id>.<epoch>`: a diverged head that was set aside. The epoch is the one it was written in.
    Orphan(GrainId, Epoch),
    /// `templates/<template_id>`: a tree that never changes once it is sealed.
    Template(TemplateId),
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
    /// What grains are cloned from. Sealed once it has its snapshot.
    Template,
}

/// Limits and layout of a grain's dataset. Zero: none, or the backend's own choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Most that head and snapshots may take.
    pub quota: Bytes,
    /// What is kept free for it.
    pub reservation: Bytes,
    /// Largest piece in which files are stored; a power of two from 512 B to 128 KiB.
    pub record_size: Bytes,
}

/// Begins the tags under which snapshots are held that another dataset here shares: the backend's own, released with what
/// shares them. The rest of the tag says which that is.
pub const CLONE_TAG: &str = "clone:";

/// What the one snapshot of every template is called.
pub(crate) fn template_name() -> SnapshotName {
    SnapshotName { epoch: Epoch(0), seq: 1, purpose: Purpose::Template }
}

impl Shape {
    /// A quota, and nothing else said.
    #[must_use]
    pub fn of(quota: Bytes) -> Self {
        Self { quota, reservation: Bytes(0), record_size: Bytes(0) }
    }
}

/// What a stream that comes in is to be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// The epoch that the dataset has at least from then on.
    pub epoch: Epoch,
    /// Where the stream begins; `None` for a full one.
    pub from: Option<Guid>,
    /// It goes on with what [`Datasets::unfinished`] describes. Else what is unfinished is thrown away first.
    pub resumed: bool,
    /// A grain stands still for it: what is known of the dataset need not be looked at again.
    pub hurried: bool,
}

impl Incoming {
    /// A stream from its beginning.
    #[must_use]
    pub fn new(epoch: Epoch, from: Option<Guid>) -> Self {
        Self { epoch, from, resumed: false, hurried: false }
    }
}

/// What a head has that a snapshot has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// By path, as far as the limit went.
    pub changes: Vec<Change>,
    /// There are more than these.
    pub more: bool,
}

/// One path that differs. A folder in which only names changed may be told as modified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Relative to the head, raw bytes.
    pub path: Vec<u8>,
    /// How.
    pub kind: ChangeKind,
}

/// How a path differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// Its contents or attributes are others.
    Modified,
    /// It had another path. Backends that cannot tell say removed and added.
    Renamed {
        /// The path that it had.
        from: Vec<u8>,
    },
}

/// How well the place where the datasets live is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolHealth {
    /// In a word.
    pub state: PoolState,
    /// Damage that is known and not repaired.
    pub errors: u64,
    /// When everything was last read and checked.
    pub scrubbed: Option<Timestamp>,
    /// It is being read and checked, or repaired, now.
    pub busy: bool,
    /// What is wrong and what to do, for a person.
    pub what: Option<String>,
}

/// How well a pool works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// As it should.
    Online,
    /// It works with less redundancy than it should have.
    Degraded,
    /// It can be read and not written.
    ReadOnly,
    /// It waits for disks that are gone; whoever touches it waits too.
    Suspended,
    /// It cannot be used.
    Faulted,
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
    /// States that were held and that somebody destroyed all the same, oldest first: an increment can still begin at one of these.
    /// Empty where the backend cannot.
    pub bookmarks: Vec<Snapshot>,
    /// Free texts by key: the grain's name, its manifest.
    pub properties: BTreeMap<String, String>,
    /// Space that head and snapshots take, as last measured.
    pub used: Bytes,
    /// Quota of the head; zero means none.
    pub quota: Bytes,
    /// For an orphan: the newest snapshot that it has in common with the grain's own line.
    pub base: Option<Guid>,
    /// Tags and the snapshots that they hold, or whose bookmarks are left, with [`ORIGIN_TAG`] and those that begin with
    /// [`CLONE_TAG`].
    pub holds: BTreeMap<String, Guid>,
}

/// What was frozen, and the dataset then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The new snapshot, or the one that had its name.
    pub snapshot: Snapshot,
    /// With that snapshot.
    pub dataset: Dataset,
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

impl std::fmt::Display for DatasetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grain(grain) => write!(f, "grains/{grain}"),
            Self::Orphan(grain, epoch) => write!(f, "orphans/{grain}.{epoch}"),
            Self::Template(template) => write!(f, "templates/{template}"),
        }
    }
}

/// What a node can do with data. Every method is idempotent or says [`Cause::Exists`]/[`Cause::Missing`]; every
/// method that returns `Ok` has put its effect on stable storage; a crash in the middle leaves the last good state. What a method
/// returns as the dataset then may tell the space that it took before.
pub trait Datasets: Send + Sync + 'static {
    /// Every dataset here, in order of id, including orphans and templates. Reads what is stored; does not walk the data.
    fn list(&self) -> impl Future<Output = Result<Vec<Dataset>>> + Send;

    /// One dataset; `None` if there is none.
    fn get(&self, id: DatasetId) -> impl Future<Output = Result<Option<Dataset>>> + Send;

    /// The same, where it must be.
    fn must(&self, id: DatasetId) -> impl Future<Output = Result<Dataset>> + Send {
        let missing = DatasetError { work: "look at", dataset: id, cause: Cause::Missing };
        async move { self.get(id).await?.ok_or(missing) }
    }

    /// A new, empty dataset in role Owner.
    fn create(
        &self,
        grain: GrainId,
        epoch: Epoch,
        shape: Shape,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Changes role and epoch. From Owner to Owner: only the epoch. From Standby to Owner: the head becomes the newest
    /// snapshot's state and writable, any unfinished receive is thrown away. To Standby: refused with [`Cause::Diverged`] when the head has writes after its newest snapshot.
    fn set_role(
        &self,
        grain: GrainId,
        role: Role,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Dataset>> + Send;

    /// Changes limits and layout. Another record size counts for what is written from then on.
    fn set_shape(&self, grain: GrainId, shape: Shape) -> impl Future<Output = Result<()>> + Send;

    /// Sets properties; others stay.
    fn set_properties(
        &self,
        id: DatasetId,
        properties: BTreeMap<String, String>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Where the head is in the file system, for the runtime. Owner only.
    fn path(&self, grain: GrainId) -> PathBuf;

    /// Makes sure that the owner's head is at its [`path`](Self::path), where somebody may have unmounted or renamed it. Cheap where
    /// it is. A head that is not there must never be started on: what it wrote would lie below its mountpoint.
    ///
    /// # Errors
    /// If it is gone or cannot be mounted.
    fn open_head(&self, grain: GrainId) -> impl Future<Output = Result<()>> + Send;

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

    /// Freezes the heads of several grains, at one moment where the backend can, else one after the other.
    /// Each as [`Datasets::snapshot`] does; one that fails is no trouble for the others. In the order of `wanted`, each with
    /// its dataset as it is then.
    fn snapshot_all(
        &self,
        wanted: &[(GrainId, SnapshotName)],
        now: Timestamp,
    ) -> impl Future<Output = Vec<(GrainId, Result<Frozen>)>> + Send {
        async move {
            let mut all = Vec::new();
            for (grain, name) in wanted {
                let frozen = async {
                    let snapshot = self.snapshot(*grain, name, now).await?;
                    let dataset = self.must(DatasetId::Grain(*grain)).await?;
                    Ok(Frozen { snapshot, dataset })
                };
                all.push((*grain, frozen.await));
            }
            all
        }
    }

    /// Removes snapshots by guid; missing ones are fine. The newest snapshot and held ones are refused, and then
    /// nothing is removed.
    fn prune(&self, grain: GrainId, guids: &[Guid]) -> impl Future<Output = Result<()>> + Send;

    /// Holds a snapshot under a tag (such as `last:3` for the last one common with node 3); a tag holds one snapshot at a time.
    /// The tag [`ORIGIN_TAG`] is refused with [`Cause::Held`].
    fn hold(
        &self,
        grain: GrainId,
        guid: Guid,
        tag: &str,
    ) -> impl Future<Output = Result<Dataset>> + Send;

    /// Releases a tag; a missing one is fine, and [`ORIGIN_TAG`] stays.
    fn release(&self, grain: GrainId, tag: &str) -> impl Future<Output = Result<()>> + Send;

    /// [`Dataset::holds`] of a grain.
    fn holds(&self, grain: GrainId) -> impl Future<Output = Result<BTreeMap<String, Guid>>> + Send {
        async move {
            let dataset = DatasetId::Grain(grain);
            let missing = || DatasetError { work: "list holds of", dataset, cause: Cause::Missing };
            Ok(self.get(dataset).await?.ok_or_else(missing)?.holds)
        }
    }

    /// Writes a stream of one snapshot: everything, or what changed since `from`. Returns its length in bytes. A `from` that
    /// does not come before `to` is [`Cause::Diverged`]. One of [`Dataset::bookmarks`] will do for `from`.
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

    /// The same where it costs no more than a question; `None`: only making the stream would tell.
    fn estimate_cheaply(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
    ) -> impl Future<Output = Result<Option<u64>>> + Send {
        async move { self.estimate(id, from, to).await.map(Some) }
    }

    /// Takes a stream in. A full one needs that there is no dataset (it is created as Standby); an incremental one
    /// needs role Standby and `from` = the newest snapshot here. Where there is no dataset and `from` is the guid of a
    /// sealed template here, the stream is a clone of that template, which then is created as [`Datasets::clone_from`]
    /// does, but as Standby. Same snapshot again: [`Cause::Exists`], before any other refusal. The dataset's epoch becomes
    /// that of `incoming` unless it is higher already.
    /// The snapshot appears only when the whole stream is here, checked and stable; then it is the newest of what this returns.
    fn receive(
        &self,
        grain: GrainId,
        incoming: Incoming,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<Dataset>> + Send;

    /// What a receive that was cut off has kept, as a token for the sender; `None` where nothing can go on.
    fn unfinished(&self, grain: GrainId) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Writes the rest of the stream of a snapshot that another pool has a token for. Returns its length in bytes.
    /// [`Cause::NoSnapshot`] if the token is not of that snapshot, or not of this backend.
    fn send_rest(
        &self,
        id: DatasetId,
        token: &str,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> impl Future<Output = Result<u64>> + Send;

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

    /// Makes what was set aside the dataset of its grain again: a Standby with all its snapshots and the epoch that it was set
    /// aside in. What is in its place goes if all its snapshots are the orphan's too and nothing was written since;
    /// else it stays, and so does the orphan: [`Cause::Diverged`]. An owner there is [`Cause::WrongRole`]. Restartable at every
    /// step: an orphan that is in its grain's place already is [`Cause::Missing`]. Nothing is copied.
    fn take_back(
        &self,
        grain: GrainId,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Dataset>> + Send;

    /// Makes the head of an Owner equal to one of its snapshots, as a new state on top: no snapshot is removed, and the caller
    /// has taken a snapshot of the head before. The grain must not run.
    fn restore(&self, grain: GrainId, guid: Guid) -> impl Future<Output = Result<()>> + Send;

    /// A new dataset in role Owner whose line of snapshots begins with the given snapshot of another dataset (the same
    /// guid) and whose head is its state. That first snapshot is held under [`ORIGIN_TAG`] as long as the dataset is there.
    /// Of a template, the data are shared where the backend can; of a clone, those of its template, whose snapshot then comes
    /// before the given one.
    fn clone_from(
        &self,
        from: DatasetId,
        guid: Guid,
        to: GrainId,
        epoch: Epoch,
        shape: Shape,
    ) -> impl Future<Output = Result<()>> + Send;

    /// An empty, writable folder to unpack a new template into. What an earlier call left unsealed is removed first;
    /// a sealed template is [`Cause::Exists`].
    fn begin_template(&self, template: TemplateId) -> impl Future<Output = Result<PathBuf>> + Send;

    /// Freezes what was unpacked; nothing changes it any more. A sealed one: its snapshot.
    fn seal_template(
        &self,
        template: TemplateId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Takes the full stream of a sealed template in; what was begun here and not sealed gives way.
    fn receive_template(
        &self,
        template: TemplateId,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> impl Future<Output = Result<Snapshot>> + Send;

    /// A read-only view of a head or snapshot for people, where no program can be run from. The same again: the same path.
    /// Without a guid: the head, or the newest snapshot of what has no head of its own.
    fn view(
        &self,
        id: DatasetId,
        guid: Option<Guid>,
    ) -> impl Future<Output = Result<PathBuf>> + Send;

    /// Ends all views of a dataset; none is fine. Views do not outlive the daemon either.
    fn conceal(&self, id: DatasetId) -> impl Future<Output = Result<()>> + Send;

    /// What the head has that a snapshot has not, at most `limit` changes.
    fn diff(
        &self,
        id: DatasetId,
        from: Guid,
        limit: usize,
    ) -> impl Future<Output = Result<Diff>> + Send;

    /// Removes a dataset with all its snapshots and views. Missing: fine. A template whose data grains here still share:
    /// [`Cause::Held`].
    fn destroy(&self, id: DatasetId) -> impl Future<Output = Result<()>> + Send;

    /// Space where the datasets live.
    fn space(&self) -> impl Future<Output = Result<Space>> + Send;

    /// How well the place where they live is.
    fn health(&self) -> impl Future<Output = Result<PoolHealth>> + Send;

    /// Begins to have everything there read and checked, beside other work, unless that was done after `before`, is being done, or
    /// the place is younger. Says whether it has begun. Never where nothing can be checked.
    fn scrub(&self, before: Timestamp) -> impl Future<Output = Result<bool>> + Send;
}
