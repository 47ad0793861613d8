//! The log as the algorithm sees it: `raft.db` behind a tail of the newest entries in memory.
//!
//! Fresh entries are read from memory; nobody waits for the disk to read. An entry leaves the memory only after it is on disk.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::de::DeserializeOwned;

use super::types::{Entry, LogId, Types, Vote};
use crate::store::{Done, LogDb, LogOp, LogRow, Mark, Owner, StoreError};

/// Entries that stay in memory after they are on disk.
const TAIL: usize = 1_024;
/// Bytes of entries that stay in memory after they are on disk.
const TAIL_BYTES: usize = 4 << 20;
/// Bytes of entries in one message to a follower (at least one entry).
const MESSAGE_BYTES: usize = 1 << 20;
/// Entries in one message to a follower.
const MESSAGE_ENTRIES: u64 = 512;

struct Tail {
    /// The newest entries without a hole, with the size of each; everything that is not on disk yet is here.
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
    /// Entries below this index are on disk.
    durable: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// `committed` is newer than what is on disk.
    committed_unsaved: bool,
    purged: Option<LogId>,
    last: Option<LogId>,
}

impl Tail {
    fn push(&mut self, entry: Entry, size: usize) {
        self.last = Some(entry.log_id());
        if let Some((_, old)) = self.entries.insert(entry.log_id().index, (entry, size)) {
            self.bytes -= old;
        }
        self.bytes += size;
    }

    fn trim(&mut self) {
        while self.entries.len() > TAIL || self.bytes > TAIL_BYTES {
            match self.entries.first_entry() {
                Some(first) if *first.key() < self.durable => {
                    let (_, size) = first.remove();
                    self.bytes -= size;
                }
                Some(_) | None => return,
            }
        }
    }

    fn recount(&mut self) {
        self.bytes = self.entries.values().map(|(_, size)| size).sum();
    }
}

/// The log. A cheap handle.
#[derive(Clone)]
pub(crate) struct Log {
    db: LogDb,
    tail: Arc<RwLock<Tail>>,
    path: Arc<std::path::PathBuf>,
}

/// What the log says about the past of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFacts {
    /// A cluster was formed here.
    pub(crate) formed: bool,
    /// The last entry that was removed from the front.
    pub(crate) purged: Option<LogId>,
}

impl Log {
    /// Opens `raft.db`.
    ///
    /// # Errors
    /// If it is damaged, somebody else's, or SQLite refuses.
    pub(crate) async fn open(path: &Path, owner: &Owner) -> Result<(Self, LogFacts), StoreError> {
        let (db, stored) = LogDb::open(path, owner, TAIL).await?;
        let purged: Option<LogId> = decode(path, "mark `purged`", stored.purged.as_deref())?;
        let expected = purged.map_or(0, |purged| purged.index + 1);
        if stored.first.is_some_and(|first| first != expected) {
            let what = format!(
                "it should begin with entry {expected} and begins with {}",
                stored.first.unwrap_or_default()
            );
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        let mut tail = Tail {
            entries: BTreeMap::new(),
            bytes: 0,
            durable: 0,
            vote: decode(path, "mark `vote`", stored.vote.as_deref())?,
            committed: decode::<Option<LogId>>(
                path,
                "mark `committed`",
                stored.committed.as_deref(),
            )?
            .flatten(),
            committed_unsaved: false,
            purged,
            last: purged,
        };
        for row in stored.tail {
            let entry = parse(path, &row)?;
            tail.durable = row.index + 1;
            tail.push(entry, row.body.len());
        }
        tail.trim();
        let facts = LogFacts { formed: stored.formed, purged };
        let tail = Arc::new(RwLock::new(tail));
        Ok((Self { db, tail, path: Arc::new(path.to_owned()) }, facts))
    }

    /// Writes that a cluster was formed here.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) async fn mark_formed(&self) -> io::Result<()> {
        self.db.write(LogOp::Set(Mark::Formed, b"true".to_vec())).await
    }

    /// The vote, and the last entry.
    pub(super) fn position(&self) -> (Option<Vote>, Option<LogId>) {
        self.look(|tail| (tail.vote, tail.last))
    }

    /// Writes an entry at the end and waits until it is on disk. Only for a log that nobody works with: what is in memory is not
    /// changed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn add(&self, entry: &Entry) -> io::Result<()> {
        let row = LogRow { index: entry.log_id().index, body: serde_json::to_vec(entry)? };
        self.db.write(LogOp::Append(vec![row], None)).await
    }

    /// Writes what waits and closes the file.
    pub(crate) async fn close(&self) {
        let unsaved = self
            .change(|tail| std::mem::take(&mut tail.committed_unsaved).then_some(tail.committed));
        if let Some(committed) = unsaved
            && let Ok(body) = serde_json::to_vec(&committed)
            && let Err(error) = self.db.write(LogOp::Set(Mark::Committed, body)).await
        {
            tracing::warn!(%error, "the mark `committed` is not up to date");
        }
        self.db.close().await;
    }

    fn look<R>(&self, f: impl FnOnce(&Tail) -> R) -> R {
        f(&self.tail.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<R>(&self, f: impl FnOnce(&mut Tail) -> R) -> R {
        f(&mut self.tail.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Entries with `from <= index < to`, in order, until they make up `bytes`; at least one if there is one.
    async fn entries(&self, from: u64, to: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let (fresh, first) = self.look(|tail| {
            let mut size = 0_usize;
            let mut fresh = Vec::new();
            for (entry, more) in tail.entries.range(from..to).map(|(_, entry)| entry) {
                if size >= bytes {
                    break;
                }
                size = size.saturating_add(*more);
                fresh.push(entry.clone());
            }
            (fresh, tail.entries.keys().next().copied())
        });
        let first = first.unwrap_or(u64::MAX);
        if from >= first {
            return Ok(fresh);
        }
        let old = self.db.read(from, to.min(first), bytes).await.map_err(io::Error::other)?;
        let size: usize = old.iter().map(|row| row.body.len()).sum();
        let mut entries: Vec<Entry> = old
            .iter()
            .map(|row| parse(&self.path, row))
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        // Only if the disk has given everything up to the memory: a hole would be worse than a short answer.
        let complete = entries.last().is_none_or(|last| last.log_id().index + 1 == first);
        if complete && size < bytes {
            entries.extend(fresh);
        }
        Ok(entries)
    }
}

fn decode<T: DeserializeOwned>(
    path: &Path,
    what: &str,
    body: Option<&[u8]>,
) -> Result<Option<T>, StoreError> {
    let parsed = body.map(serde_json::from_slice).transpose();
    parsed.map_err(|error| StoreError::Damaged {
        path: path.to_owned(),
        what: format!("{what}: {error}"),
    })
}

fn parse(path: &Path, row: &LogRow) -> Result<Entry, StoreError> {
    let damaged = |what| StoreError::Damaged { path: path.to_owned(), what };
    let entry: Entry = serde_json::from_slice(&row.body)
        .map_err(|error| damaged(format!("entry {}: {error}", row.index)))?;
    if entry.log_id().index != row.index {
        return Err(damaged(format!("entry {} says it is {}", row.index, entry.log_id().index)));
    }
    Ok(entry)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.entries(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(start, end.min(start.saturating_add(MESSAGE_ENTRIES)), MESSAGE_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.look(|tail| tail.vote))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.look(|tail| LogState { last_purged_log_id: tail.purged, last_log_id: tail.last }))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.db.write(LogOp::Set(Mark::Vote, serde_json::to_vec(vote)?)).await?;
        self.change(|tail| tail.vote = Some(*vote));
        Ok(())
    }

    /// Goes to disk with the next entries: it only says how much is applied again at once after a restart, and `state.db`
    /// is nearly always ahead of it. So it cannot fail by itself, and costs no flush.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.change(|tail| {
            tail.committed_unsaved |= tail.committed != committed;
            tail.committed = committed;
        });
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.look(|tail| tail.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let mut fresh = Vec::new();
        for entry in entries {
            let body = serde_json::to_vec(&entry)?;
            fresh.push((entry, body.len()));
            rows.push(LogRow {
                index: fresh.last().map_or(0, |(entry, _)| entry.log_id().index),
                body,
            });
        }
        let end = rows.last().map(|row| row.index + 1);
        let committed = self.change(|tail| {
            fresh.into_iter().for_each(|(entry, size)| tail.push(entry, size));
            std::mem::take(&mut tail.committed_unsaved).then_some(tail.committed)
        });
        let committed = committed.map(|committed| serde_json::to_vec(&committed)).transpose()?;
        let tail = Arc::clone(&self.tail);
        let done: Done = Box::new(move |result| {
            if let (Ok(()), Some(end)) = (&result, end) {
                let mut tail = tail.write().unwrap_or_else(PoisonError::into_inner);
                tail.durable = tail.durable.max(end);
                tail.trim();
            }
            callback.io_completed(result);
        });
        self.db.submit(LogOp::Append(rows, committed), done).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.db.write(LogOp::Truncate(from)).await?;
        self.change(|tail| {
            tail.entries.split_off(&from);
            tail.recount();
            tail.durable = tail.durable.min(from);
            if tail.last.is_some_and(|end| end.index >= from) {
                tail.last = last.or(tail.purged);
            }
        });
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.db.write(LogOp::Purge(upto.index, serde_json::to_vec(&upto)?)).await?;
        self.change(|tail| {
            tail.entries = tail.entries.split_off(&(upto.index + 1));
            tail.recount();
            tail.purged = Some(upto);
            if tail.last < Some(upto) {
                tail.last = Some(upto);
            }
        });
        Ok(())
    }
}
