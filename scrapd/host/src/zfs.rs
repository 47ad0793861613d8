//! Datasets in a ZFS pool, over the `zfs` and `zpool` programs: OpenZFS from 0.8 on, and plainer tools with less.
//!
//! Layout below the root dataset: `grains/<id>`, `orphans/<id>.<epoch>`, `templates/<id>`; `incoming` is where datasets are
//! made before they appear by a rename, `views` has temporary clones for people, `trash` what is on its way out. The pool
//! describes itself: role, epoch, holds and texts are user properties.
//!
//! - An Owner is writable and mounted below the mount root; everything else is read-only, without a mountpoint.
//! - Nothing here rolls a dataset back, forces a receive, or removes what it did not make itself: a snapshot by hand stays,
//!   and is named where it stands in the way.
//! - A clone of a template shares its blocks; a clone of a grain or orphan is a copy made by a local stream (which shares
//!   what the source shares with its template), so that no grain ever depends on another.
//! - Orphans share with their grain what is before their base: pruned there, it is gone here too. The base stays.
//! - Holds are the properties; a hold in the pool beside each is a protection against people.
//!
//! What the plainer tools cannot do is listed at `probe::Capabilities`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use scrap_schema::id::GrainId;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::datasets::{self, Cause, DatasetError, DatasetId};

mod aside;
mod back;
mod call;
mod clone;
mod copy;
mod datasets_impl;
mod destroy;
mod diff;
mod flow;
mod found;
mod health;
mod kept;
mod library;
#[cfg(feature = "libzfs")]
#[expect(unsafe_code, reason = "calls of a C library, each with its reason")]
pub mod lzc;
mod names;
mod open;
mod probe;
mod receive;
mod role;
mod send;
mod slot;
mod snapshots;
mod stream;
mod template;
#[cfg(test)]
mod tests;
mod view;
mod walk;
mod words;
mod written;

use call::Tools;
use kept::Kept;
use library::Library;
use names::Names;
pub use names::bad_root;
use probe::Capabilities;
use slot::{Held, Slot};

/// Work inside this backend: its caller adds the dataset.
type Result<T> = std::result::Result<T, Cause>;

/// Where the datasets are, and by which programs they are reached.
#[derive(Debug, Clone)]
pub struct ZfsSettings {
    /// The dataset that holds all others, `pool/dataset`. Made if only it is missing.
    pub root: String,
    /// The folder below which heads and views are mounted.
    pub mount_root: PathBuf,
    /// The program `zfs`: a name that is looked for in `PATH`, or a path.
    pub zfs: OsString,
    /// The program `zpool`.
    pub zpool: OsString,
    /// Longest time for a command that is not a stream, and longest silence of a stream.
    pub limit: Duration,
    /// Longest time in which something busy may become free.
    pub patience: Duration,
    /// Uses nothing that not every version has. For tests of what is done then.
    pub plain: bool,
}

impl ZfsSettings {
    /// The installed tools, two minutes for a command, ten seconds for what is busy.
    #[must_use]
    pub fn new(root: impl Into<String>, mount_root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            mount_root: mount_root.into(),
            zfs: "zfs".into(),
            zpool: "zpool".into(),
            limit: Duration::from_secs(120),
            patience: Duration::from_secs(10),
            plain: false,
        }
    }
}

/// Datasets below one dataset of a ZFS pool.
#[derive(Debug, Clone)]
pub struct ZfsDatasets {
    inner: Arc<Inner>,
}

/// What a receive that is under way is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    GoOn,
    Stop,
}

#[derive(Debug)]
struct Inner {
    names: Names,
    tools: Tools,
    can: Capabilities,
    /// Does without the programs what it can.
    library: Library,
    /// One lock per dataset. Whoever needs two takes the source's before the new one's.
    slots: Mutex<BTreeMap<DatasetId, Slot>>,
    /// The receives that are under way.
    receives: Mutex<BTreeMap<DatasetId, watch::Sender<Order>>>,
    kept: Kept,
    /// When the last sync of the pool began.
    synced: tokio::sync::Mutex<Option<Instant>>,
}

impl Inner {
    fn new(settings: &ZfsSettings) -> Result<Self> {
        let names = Names::new(&settings.root, &settings.mount_root)?;
        let tools = Tools {
            zfs: settings.zfs.clone(),
            zpool: settings.zpool.clone(),
            limit: settings.limit,
            patience: settings.patience,
            root: settings.root.clone(),
            moves: Arc::default(),
        };
        let (slots, receives) = (Mutex::default(), Mutex::default());
        let synced = tokio::sync::Mutex::default();
        let (can, library) = (Capabilities::PLAIN, Library::default());
        Ok(Self { names, tools, can, library, slots, receives, kept: Kept::default(), synced })
    }

    /// Registers a receive. Ends with the receiver that it gets.
    fn begin_receive(&self, id: DatasetId) -> Result<watch::Receiver<Order>> {
        let mut receives = self.receives.lock().unwrap_or_else(PoisonError::into_inner);
        if receives.get(&id).is_some_and(|other| !other.is_closed()) {
            return Err(Cause::Busy("another stream is coming in".to_owned()));
        }
        let (orders, receiver) = watch::channel(Order::GoOn);
        receives.insert(id, orders);
        Ok(receiver)
    }

    /// Ends the receive of a dataset, if one is under way, and waits until it let go: what it leaves behind is seen only by a
    /// look after this. One that does not end in time keeps its place, so that no other one begins beside it.
    async fn end_receives(&self, id: DatasetId) -> Result<()> {
        let orders = {
            let receives = self.receives.lock().unwrap_or_else(PoisonError::into_inner);
            receives.get(&id).cloned()
        };
        let Some(orders) = orders else { return Ok(()) };
        orders.send_replace(Order::Stop);
        let gone = tokio::time::timeout(self.tools.limit, orders.closed()).await;
        gone.map_err(|_| Cause::Busy("a stream that comes in does not end".to_owned()))?;
        let mut receives = self.receives.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have begun since.
        if receives.get(&id).is_some_and(|other| other.same_channel(&orders)) {
            receives.remove(&id);
        }
        Ok(())
    }

    /// Sets properties of a dataset: at one stroke where the tools can, else in this order.
    async fn set(&self, name: &str, pairs: &[(String, String)]) -> Result<()> {
        let pairs = pairs.iter().map(|(property, value)| format!("{property}={value}"));
        let pairs: Vec<String> = pairs.collect();
        let at_once = if self.can.many { pairs.len() } else { 1 };
        for some in pairs.chunks(at_once.max(1)) {
            let set = std::iter::once("set".to_owned()).chain(some.iter().cloned());
            let set: Vec<String> = set.chain([name.to_owned()]).collect();
            self.tools.zfs_list(&set).await?;
        }
        Ok(())
    }

    /// The same in any order: all at one time where the tools set one after the other, for each of them waits for the pool.
    async fn set_all(&self, name: &str, pairs: &[(String, String)]) -> Result<()> {
        if self.can.many || pairs.len() <= 1 {
            return self.set(name, pairs).await;
        }
        let (some, others) = pairs.split_at(pairs.len() / 2);
        let (some, others) = (self.set_all(name, some), self.set_all(name, others));
        let (some, others) = tokio::join!(Box::pin(some), Box::pin(others));
        some.and(others)
    }

    /// Takes a property away.
    async fn unset(&self, name: &str, property: &str) -> Result<()> {
        self.tools.zfs(&["inherit", property, name]).await.map(|_| ())
    }
}

/// What the system said of a path. A full disk or quota is its own cause.
fn at<E: Into<std::io::Error>>(call: &str, path: &Path) -> impl FnOnce(E) -> Cause {
    let what = format!("cannot {call} {}", path.display());
    move |error| {
        let source = error.into();
        let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT];
        if source.raw_os_error().is_some_and(|code| full.iter().any(|is| is.raw_os_error() == code))
        {
            return Cause::NoSpace;
        }
        Cause::Io { what, source }
    }
}

/// 64 random bits from the system.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| Cause::Io {
        what: "the system gives no random numbers".to_owned(),
        source: error.into(),
    })?;
    Ok(u64::from_ne_bytes(bytes))
}

fn broken_off(error: impl std::error::Error + Send + Sync + 'static) -> Cause {
    let what = "the work was broken off".to_owned();
    Cause::Io { what, source: std::io::Error::other(error) }
}

/// Runs work on files on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(broken_off(error)))
}

/// Removes the folder that something was mounted at; some tools do it themselves. One with anything in it is nobody's
/// mountpoint and stays.
async fn remove_mountpoint(path: PathBuf) -> Result<()> {
    blocking(move || {
        if let Err(error) = std::fs::remove_dir(&path) {
            tracing::debug!(path = %path.display(), %error, "not removed");
        }
        Ok(())
    })
    .await
}

/// Work that is on no single dataset still has to name one: the first.
fn unnamed(work: &'static str) -> impl FnOnce(Cause) -> DatasetError {
    move |cause| DatasetError { work, dataset: DatasetId::Grain(GrainId(0)), cause }
}

impl ZfsDatasets {
    /// Opens the datasets below a root, makes the parents that are missing, and brings everything back to its last good
    /// state: what was unfinished is removed, what was promised is finished, owners are mounted.
    ///
    /// # Errors
    /// The tools or the pool are not there, hang, or refuse; the settings make no sense.
    pub async fn open(settings: ZfsSettings) -> std::result::Result<Self, Cause> {
        let mut inner = Inner::new(&settings)?;
        let can = Capabilities::probe(&inner.tools).await?;
        inner.can = if settings.plain { Capabilities::PLAIN } else { can };
        inner.prepare().await?;
        // Other programs than the installed ones are meant as they are.
        if !settings.plain && settings.zfs == "zfs" {
            inner.library = Library::open(&inner.tools).await;
        }
        inner.sweep().await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does work while nobody else works on this dataset. It goes to its end even if nobody waits for it any more.
    async fn locked<T, F>(
        &self,
        id: DatasetId,
        work: &'static str,
        action: impl FnOnce(Arc<Inner>) -> F,
    ) -> datasets::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.holding(id, work, |inner, held| {
            let action = action(inner);
            async move {
                let _held = held;
                action.await
            }
        })
        .await
    }

    /// The same for work that uses what the work before it knew, and hands it on.
    async fn holding<T, F>(
        &self,
        id: DatasetId,
        work: &'static str,
        action: impl FnOnce(Arc<Inner>, Held) -> F,
    ) -> datasets::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let held = self.inner.lock(id).await;
        let task = tokio::spawn(action(Arc::clone(&self.inner), held));
        let result = task.await.unwrap_or_else(|error| Err(broken_off(error)));
        result.map_err(|cause| DatasetError { work, dataset: id, cause })
    }
}
