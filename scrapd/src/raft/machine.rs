//! The state machine: applies committed entries to the replicated state in memory and to `state.db`, makes and installs snapshots.
//!
//! Never decides whether an entry fits (that is `decide::apply`) and never speaks SQL (that is `store`). An entry is visible in memory
//! a moment before it is in `state.db`: it is committed by a majority, so it is true either way. If it cannot be written, the
//! consensus of this node stops and the process has to end.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use scrap_decide::apply::{Applied, apply};
use scrap_decide::cluster::{Cluster, Key};
use scrap_schema::event::Event;
use tokio::sync::{broadcast, watch};

use super::Committed;
use super::types::{Entry, LogId, Membership, Reply, Snapshot, SnapshotFile, SnapshotMeta, Types};
use crate::store::crash::{self, Point};
use crate::store::{
    RowChange, RowHash, StateDb, StateHash, StateMeta, StoreError, StoredState, body_of, name_of,
    row_hash, snapshot,
};

/// Indexes whose hash is remembered.
const HASHES_KEPT: usize = 4_096;
/// Messages of events that a slow receiver may be behind.
const EVENTS_WAITING: usize = 256;
/// Pause between two attempts to bring `state.db` to disk while another program reads it.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);

/// What other rooms see of the state.
pub(crate) struct Published {
    /// The state.
    pub(crate) cluster: RwLock<Cluster>,
    /// The applied index.
    pub(crate) applied: watch::Sender<u64>,
    /// Events as they are applied.
    pub(crate) events: broadcast::Sender<Arc<Vec<Event>>>,
    hashes: RwLock<Hashes>,
}

/// The hashes after the last indexes; every index from the first one has one.
#[derive(Default)]
struct Hashes {
    first: u64,
    ring: VecDeque<StateHash>,
}

impl Hashes {
    fn push(&mut self, index: u64, hash: StateHash) {
        if self.first + self.ring.len() as u64 != index {
            self.ring.clear();
            self.first = index;
        }
        if self.ring.len() >= HASHES_KEPT {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(hash);
    }

    fn at(&self, index: Option<u64>) -> Option<(u64, StateHash)> {
        let newest = (self.first + self.ring.len() as u64).checked_sub(1)?;
        let index = index.unwrap_or(newest);
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.ring.get(place).map(|hash| (index, *hash))
    }
}

impl Published {
    pub(crate) fn read<R>(&self, f: impl FnOnce(&Cluster) -> R) -> R {
        f(&self.cluster.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn hash_at(&self, index: Option<u64>) -> Option<(u64, StateHash)> {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).at(index)
    }
}

/// The state machine.
pub(crate) struct Machine {
    dir: PathBuf,
    db: StateDb,
    published: Arc<Published>,
    applied: Option<LogId>,
    membership: Membership,
    hash: StateHash,
    rows: BTreeMap<Key, RowHash>,
    snapshots: Arc<AtomicU64>,
}

/// What a batch of entries did, until it is in `state.db`.
#[derive(Default)]
struct Batch {
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    hashes: Vec<(u64, StateHash)>,
    events: Vec<Arc<Vec<Event>>>,
    replies: Vec<(ApplyResponder<Types>, Reply)>,
}

/// The applied position as it is in a file.
#[derive(Default)]
struct Position {
    applied: Option<LogId>,
    membership: Membership,
}

impl Position {
    fn parse(path: &Path, meta: Option<&StateMeta>) -> Result<Self, StoreError> {
        let Some(meta) = meta else { return Ok(Self::default()) };
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            path: path.to_owned(),
            what: format!("its position: {error}"),
        };
        Ok(Self {
            applied: serde_json::from_slice(&meta.applied).map_err(damaged)?,
            membership: serde_json::from_slice(&meta.membership).map_err(damaged)?,
        })
    }
}

impl Machine {
    /// Opens `state.db` and loads the state.
    ///
    /// # Errors
    /// If it is damaged, or older than the log still reaches back.
    pub(crate) async fn open(dir: &Path, purged: Option<LogId>) -> Result<Self, StoreError> {
        let path = dir.join("state.db");
        let cleaning = |source| StoreError::File {
            path: dir.to_owned(),
            what: "removing temporary files",
            source,
        };
        snapshot::remove_temporary(dir).map_err(cleaning)?;
        snapshot::remove_damaged(dir).await?;
        let (db, stored) = StateDb::open(&path).await?;
        let published = Arc::new(Published {
            cluster: RwLock::default(),
            applied: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_WAITING),
            hashes: RwLock::default(),
        });
        let mut machine = Self {
            dir: dir.to_owned(),
            db,
            published,
            applied: None,
            membership: Membership::default(),
            hash: StateHash::default(),
            rows: BTreeMap::new(),
            snapshots: Arc::default(),
        };
        machine.take(&path, stored)?;
        if machine.applied.map(|applied| applied.index) < purged.map(|purged| purged.index) {
            let what = "it is older than the first entry of the log: it was lost or replaced";
            return Err(StoreError::Damaged { path, what: what.to_owned() });
        }
        Ok(machine)
    }

    /// What other rooms see.
    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// The database, to close it at the end.
    pub(crate) fn db(&self) -> StateDb {
        self.db.clone()
    }

    /// Makes a loaded state the current one.
    fn take(&mut self, path: &Path, stored: StoredState) -> Result<(), StoreError> {
        let position = Position::parse(path, stored.meta.as_ref())?;
        self.applied = position.applied;
        self.membership = position.membership;
        self.hash = stored.meta.map(|meta| meta.hash).unwrap_or_default();
        self.rows = stored.hashes;
        let mut cluster = stored.cluster;
        cluster.index = position.applied.map_or(0, |applied| applied.index);
        *self.published.cluster.write().unwrap_or_else(PoisonError::into_inner) = cluster;
        if let Some(applied) = position.applied {
            self.publish(&[(applied.index, self.hash)]);
        }
        Ok(())
    }

    fn publish(&self, hashes: &[(u64, StateHash)]) {
        let mut known = self.published.hashes.write().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().for_each(|(index, hash)| known.push(*index, *hash));
        drop(known);
        if let Some((index, _)) = hashes.last() {
            self.published.applied.send_replace(*index);
        }
    }

    /// Applies one entry in memory.
    fn step(
        &mut self,
        entry: Entry,
        responder: Option<ApplyResponder<Types>>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        let reply = match entry.payload {
            EntryPayload::Blank => {
                self.pass(index);
                None
            }
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                self.pass(index);
                None
            }
            EntryPayload::Normal(logged) => {
                let published = Arc::clone(&self.published);
                let mut cluster = published.cluster.write().unwrap_or_else(PoisonError::into_inner);
                let applied = apply(&mut cluster, index, &logged.0);
                self.note(&cluster, &applied, batch)?;
                drop(cluster);
                if !applied.events.is_empty() {
                    batch.events.push(Arc::new(applied.events));
                }
                let Applied { outcome, repeated, .. } = applied;
                Some(Committed { index, outcome, repeated })
            }
        };
        batch.hashes.push((index, self.hash));
        batch.replies.extend(responder.map(|responder| (responder, reply)));
        Ok(())
    }

    /// An entry without a proposal moves the state forward too.
    fn pass(&self, index: u64) {
        self.published.cluster.write().unwrap_or_else(PoisonError::into_inner).index = index;
    }

    /// Takes over the touched rows: their bodies for `state.db`, their hashes for the hash of the state.
    fn note(
        &mut self,
        cluster: &Cluster,
        applied: &Applied,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        for key in &applied.touched {
            let body = body_of(cluster, key).map_err(|source| StoreError::Encode {
                path: self.db.path().to_owned(),
                what: "row",
                source,
            })?;
            if let Some(old) = self.rows.remove(key) {
                self.hash.remove(&old);
            }
            if let Some(body) = &body {
                let name = name_of(key);
                let row = row_hash(name.kind, &name.id, body);
                self.hash.add(&row);
                self.rows.insert(key.clone(), row);
            }
            batch.rows.insert(key.clone(), body);
        }
        Ok(())
    }

    /// Writes a batch, then tells everybody.
    async fn finish(&mut self, batch: Batch) -> io::Result<()> {
        let rows = batch.rows.into_iter();
        let rows = rows.map(|(key, body)| RowChange { name: name_of(&key), body }).collect();
        let meta = StateMeta {
            applied: serde_json::to_vec(&self.applied)?,
            membership: serde_json::to_vec(&self.membership)?,
            hash: self.hash,
        };
        crash::point(Point::StateBeforeWrite);
        self.db.write(rows, meta).await?;
        self.publish(&batch.hashes);
        for events in batch.events {
            // Without a receiver nobody wants to know.
            let _ = self.published.events.send(events);
        }
        for (responder, reply) in batch.replies {
            responder.send(reply);
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            self.step(entry, responder, &mut batch).map_err(io::Error::other)?;
        }
        if batch.hashes.is_empty() {
            return Ok(());
        }
        self.finish(batch).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            dir: self.dir.clone(),
            db: self.db.clone(),
            snapshots: Arc::clone(&self.snapshots),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        file: SnapshotFile,
    ) -> Result<(), io::Error> {
        let stored = snapshot::load_snapshot(&file.path).await.map_err(io::Error::other)?;
        let path = self.db.path().to_owned();
        self.db.install(file.path.clone()).await?;
        self.take(&path, stored).map_err(io::Error::other)?;
        if self.applied != meta.last_log_id {
            return Err(io::Error::other("the snapshot is not of the entry that it came for"));
        }
        // The log goes up to here as soon as this returns: the state must be on disk before.
        checkpoint(&self.db).await?;
        let name = file_of(&self.dir, meta.last_log_id.as_ref());
        if name != file.path {
            let named = snapshot::name_snapshot(&self.dir, &file.path, &name).await;
            named.map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        loop {
            let Some(path) = snapshot::newest_snapshot(&self.dir)? else { return Ok(None) };
            let meta = match snapshot::snapshot_meta(&path).await {
                Ok(meta) => meta,
                // A newer one, which the builder has just made, took its place.
                Err(_) if !path.exists() => continue,
                Err(error) => return Err(io::Error::other(error)),
            };
            let position = Position::parse(&path, meta.as_ref()).map_err(io::Error::other)?;
            return Ok(Some(describe(position, path)));
        }
    }
}

/// Makes snapshots while entries are applied.
pub(crate) struct Builder {
    dir: PathBuf,
    db: StateDb,
    snapshots: Arc<AtomicU64>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
        let made = snapshot::temporary_path(&self.dir, "building", number);
        let meta = snapshot::copy_state(self.db.path(), &made).await.map_err(io::Error::other)?;
        let position = Position::parse(&made, meta.as_ref()).map_err(io::Error::other)?;
        let path = file_of(&self.dir, position.applied.as_ref());
        snapshot::name_snapshot(&self.dir, &made, &path).await.map_err(io::Error::other)?;
        crash::point(Point::SnapshotBeforeCheckpoint);
        // The log goes up to here some time after this returns: the state must be on disk before.
        checkpoint(&self.db).await?;
        tracing::info!(path = %path.display(), "snapshot made");
        Ok(describe(position, path))
    }
}

async fn checkpoint(db: &StateDb) -> io::Result<()> {
    while !db.checkpoint().await? {
        tracing::warn!(path = %db.path().display(), "another program reads this database: end it");
        tokio::time::sleep(CHECKPOINT_PAUSE).await;
    }
    Ok(())
}

fn file_of(dir: &Path, last: Option<&LogId>) -> PathBuf {
    let (index, term, node) =
        last.map_or((0, 0, 0), |last| (last.index, last.leader_id.term, last.leader_id.node_id));
    snapshot::snapshot_path(dir, index, term, node)
}

fn describe(position: Position, path: PathBuf) -> Snapshot {
    let meta = SnapshotMeta { last_log_id: position.applied, last_membership: position.membership };
    Snapshot { meta, snapshot: SnapshotFile { path } }
}
