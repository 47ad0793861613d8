//! `raft.db`: the log, the vote and the marks of the consensus, on disk before anybody is told.
//!
//! One task owns the writing connection: it takes what waits, writes it in one transaction with one flush, then tells everybody.
//! After a failed write it ends: what is in the file is then unknown until it is opened again. Bodies are opaque here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::crash::{self, Point};
use super::open::{open_writer, options};

/// How the bodies of entries are written today. Older numbers stay readable for ever.
const FORMAT: i64 = 1;
/// Operations that may wait for the writer; more make their senders wait.
const QUEUE: usize = 1024;
/// Operations in one transaction.
const BATCH: usize = 256;
/// Rows in one statement; three values each, SQLite allows 32 766 values.
const ROWS_PER_STATEMENT: usize = 1_000;
/// Connections for reading old entries.
const READERS: u32 = 2;

/// Told when an operation is on disk, or that it failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// Its index.
    pub(crate) index: u64,
    /// Its JSON.
    pub(crate) body: Vec<u8>,
}

/// What is remembered beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Whose file it is.
    Owner,
    /// A cluster was formed here.
    Formed,
    /// The vote.
    Vote,
    /// The last entry that is known to be committed.
    Committed,
    /// The last entry that was removed from the front.
    Purged,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Formed => "formed",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }
}

/// A change of the file.
pub(crate) enum LogOp {
    /// New entries at the end, and the newest value of [`Mark::Committed`] if it is not on disk yet: a flush of its own is not worth it.
    Append(Vec<LogRow>, Option<Vec<u8>>),
    /// Another value of a mark.
    Set(Mark, Vec<u8>),
    /// Entries from here on go.
    Truncate(u64),
    /// Entries up to here go; the body is the new value of [`Mark::Purged`].
    Purge(u64, Vec<u8>),
    /// The file is closed.
    Close,
}

/// Whose file it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The cluster.
    pub(crate) cluster: scrap_schema::id::ClusterId,
    /// The node.
    pub(crate) node: scrap_schema::id::NodeId,
}

/// What was in the file when it was opened.
#[derive(Debug, Default)]
pub(crate) struct StoredLog {
    /// Whether a cluster was formed here.
    pub(crate) formed: bool,
    /// The vote.
    pub(crate) vote: Option<Vec<u8>>,
    /// The last entry that is known to be committed.
    pub(crate) committed: Option<Vec<u8>>,
    /// The last entry that was removed from the front.
    pub(crate) purged: Option<Vec<u8>>,
    /// The last entries.
    pub(crate) tail: Vec<LogRow>,
    /// Index of the first entry.
    pub(crate) first: Option<u64>,
}

/// The open file. A cheap handle.
#[derive(Clone)]
pub(crate) struct LogDb {
    path: Arc<PathBuf>,
    ops: mpsc::Sender<(LogOp, Done)>,
    readers: SqlitePool,
}

impl LogDb {
    /// Opens or makes the file and verifies every row.
    ///
    /// # Errors
    /// If it is damaged, somebody else's, or SQLite refuses.
    pub(crate) async fn open(
        path: &Path,
        owner: &Owner,
        tail: usize,
    ) -> Result<(Self, StoredLog), StoreError> {
        let mut connection =
            open_writer(path, SqliteSynchronous::Full, &sqlx::migrate!("../schema/sql/raft"))
                .await?;
        check_owner(path, &mut connection, owner).await?;
        let mut stored = read_log(path, &mut connection, tail).await?;
        let mut read = async |mark| read_mark(path, &mut connection, mark).await;
        stored.formed = read(Mark::Formed).await?.is_some();
        stored.vote = read(Mark::Vote).await?;
        stored.committed = read(Mark::Committed).await?;
        stored.purged = read(Mark::Purged).await?;
        let readers = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(READERS)
            .connect_lazy_with(options(path, SqliteSynchronous::Full).read_only(true));
        let (ops, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(connection, queue));
        Ok((Self { path: Arc::new(path.to_owned()), ops, readers }, stored))
    }

    /// Hands an operation to the writer. `done` is called when it is on disk; operations happen in the order of these calls.
    ///
    /// # Errors
    /// If the writer has stopped.
    pub(crate) async fn submit(&self, op: LogOp, done: Done) -> io::Result<()> {
        self.ops.send((op, done)).await.map_err(|_| self.stopped())
    }

    /// Does an operation and waits until it is on disk.
    ///
    /// # Errors
    /// If it failed; then nothing can be written any more.
    pub(crate) async fn write(&self, op: LogOp) -> io::Result<()> {
        let (told, answer) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            let _ = told.send(result);
        });
        self.submit(op, done).await?;
        answer.await.map_err(|_| self.stopped())?
    }

    fn stopped(&self) -> io::Error {
        let path = self.path.display();
        io::Error::other(format!("the writer of `{path}` has stopped after a failed write"))
    }

    /// Entries with `from <= index < to` that are on disk, in order, until they make up `bytes`; at least one if there is one.
    ///
    /// # Errors
    /// If a row is damaged or SQLite refuses.
    pub(crate) async fn read(
        &self,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let mut rows = sqlx::query(
            "SELECT position, format, checksum, body FROM log
             WHERE position >= ? AND position < ? ORDER BY position",
        )
        .bind(position(from))
        .bind(position(to))
        .fetch(&self.readers);
        let mut found = Vec::new();
        let mut size = 0_usize;
        while let Some(row) = rows.try_next().await.map_err(|source| StoreError::Sql {
            path: self.path.to_path_buf(),
            what: "reading entries",
            source,
        })? {
            let row = checked_row(&self.path, &row)?;
            size = size.saturating_add(row.body.len());
            found.push(row);
            if size >= bytes {
                break;
            }
        }
        Ok(found)
    }

    /// Writes what waits and closes the file.
    pub(crate) async fn close(&self) {
        if self.write(LogOp::Close).await.is_err() {
            tracing::debug!(path = %self.path.display(), "log was closed before");
        }
        self.readers.close().await;
    }
}

/// SQLite counts in signed numbers; an index never comes near the difference.
fn position(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn checksum(position: i64, format: i64, body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&position.to_le_bytes()).update(&format.to_le_bytes()).update(body);
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

fn mark_checksum(name: &str, body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&[0]).update(body);
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

fn checked_row(path: &Path, row: &sqlx::sqlite::SqliteRow) -> Result<LogRow, StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
    let read = || -> Result<(i64, i64, Vec<u8>, Vec<u8>), sqlx::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    let (position, format, sum, body) =
        read().map_err(|error| damaged(format!("an entry cannot be read: {error}")))?;
    if checksum(position, format, &body) != sum.as_slice() {
        return Err(damaged(format!("the checksum of entry {position} is wrong")));
    }
    if format != FORMAT {
        return Err(damaged(format!(
            "entry {position} has format {format}, this version of scrapd knows {FORMAT}"
        )));
    }
    let index = u64::try_from(position)
        .map_err(|_| damaged(format!("entry {position} has a negative index")))?;
    Ok(LogRow { index, body })
}

/// Verifies every entry and keeps the last ones.
async fn read_log(
    path: &Path,
    connection: &mut SqliteConnection,
    tail: usize,
) -> Result<StoredLog, StoreError> {
    let mut rows =
        sqlx::query("SELECT position, format, checksum, body FROM log ORDER BY position")
            .fetch(connection);
    let mut stored = StoredLog::default();
    let mut kept = std::collections::VecDeque::new();
    let mut last: Option<u64> = None;
    while let Some(row) = rows.try_next().await.map_err(|source| StoreError::Sql {
        path: path.to_owned(),
        what: "reading the log",
        source,
    })? {
        let row = checked_row(path, &row)?;
        if let Some(last) = last
            && last + 1 != row.index
        {
            let what = format!("entries between {last} and {} are missing", row.index);
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        stored.first.get_or_insert(row.index);
        last = Some(row.index);
        if kept.len() >= tail {
            kept.pop_front();
        }
        kept.push_back(row);
    }
    stored.tail = kept.into();
    Ok(stored)
}

async fn read_mark(
    path: &Path,
    connection: &mut SqliteConnection,
    mark: Mark,
) -> Result<Option<Vec<u8>>, StoreError> {
    let found: Option<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT checksum, body FROM meta WHERE name = ?")
            .bind(mark.name())
            .fetch_optional(connection)
            .await
            .map_err(|source| StoreError::Sql {
                path: path.to_owned(),
                what: "reading a mark",
                source,
            })?;
    let Some((sum, body)) = found else { return Ok(None) };
    if mark_checksum(mark.name(), &body) != sum.as_slice() {
        let what = format!("the checksum of mark `{}` is wrong", mark.name());
        return Err(StoreError::Damaged { path: path.to_owned(), what });
    }
    Ok(Some(body))
}

/// A file belongs to one node of one cluster for ever.
async fn check_owner(
    path: &Path,
    connection: &mut SqliteConnection,
    owner: &Owner,
) -> Result<(), StoreError> {
    let encode = |source| StoreError::Encode { path: path.to_owned(), what: "owner", source };
    let ours = serde_json::to_vec(owner).map_err(encode)?;
    match read_mark(path, connection, Mark::Owner).await? {
        Some(theirs) if theirs == ours => Ok(()),
        Some(theirs) => Err(StoreError::Foreign {
            path: path.to_owned(),
            theirs: String::from_utf8_lossy(&theirs).into_owned(),
            ours: String::from_utf8_lossy(&ours).into_owned(),
        }),
        None => set_mark(connection, Mark::Owner, &ours).await.map_err(|source| StoreError::Sql {
            path: path.to_owned(),
            what: "writing its owner",
            source,
        }),
    }
}

async fn set_mark(
    connection: &mut SqliteConnection,
    mark: Mark,
    body: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR REPLACE INTO meta (name, checksum, body) VALUES (?, ?, ?)")
        .bind(mark.name())
        .bind(mark_checksum(mark.name(), body).as_slice())
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

/// The writer. Ends when the file is closed, all handles are gone, or a write has failed.
async fn write(mut connection: SqliteConnection, mut queue: mpsc::Receiver<(LogOp, Done)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let (ops, dones): (Vec<LogOp>, Vec<Done>) = batch.drain(..).unzip();
        let result = commit(&mut connection, &ops).await;
        let failed = result.err().map(|error| error.to_string());
        if let Some(error) = &failed {
            tracing::error!(%error, "the log cannot be written; nothing is written any more");
        } else {
            crash::point(Point::LogAfterCommit);
        }
        let close = failed.is_none() && ops.iter().any(|op| matches!(op, LogOp::Close));
        if close {
            // The last connection that closes empties the WAL into the file.
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "the log was not closed cleanly");
            }
            dones.into_iter().for_each(|done| done(Ok(())));
            return;
        }
        for done in dones {
            done(failed.as_ref().map_or(Ok(()), |error| Err(io::Error::other(error.clone()))));
        }
        if failed.is_some() {
            return;
        }
    }
}

/// One transaction, one flush.
async fn commit(connection: &mut SqliteConnection, ops: &[LogOp]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for op in ops {
        execute(&mut transaction, op).await?;
    }
    for op in ops {
        match op {
            LogOp::Append(..) => crash::point(Point::LogBeforeCommit),
            LogOp::Truncate(_) => crash::point(Point::TruncateBeforeCommit),
            LogOp::Purge(..) => crash::point(Point::PurgeBeforeCommit),
            LogOp::Set(..) | LogOp::Close => (),
        }
    }
    transaction.commit().await?;
    if ops.iter().any(|op| matches!(op, LogOp::Purge(..))) {
        crash::point(Point::PurgeAfterCommit);
    }
    Ok(())
}

async fn execute(connection: &mut SqliteConnection, op: &LogOp) -> Result<(), sqlx::Error> {
    match op {
        LogOp::Append(rows, committed) => {
            if let Some(committed) = committed {
                set_mark(connection, Mark::Committed, committed).await?;
            }
            for rows in rows.chunks(ROWS_PER_STATEMENT) {
                insert(connection, rows).await?;
            }
        }
        LogOp::Set(mark, body) => set_mark(connection, *mark, body).await?,
        LogOp::Truncate(from) => {
            sqlx::query("DELETE FROM log WHERE position >= ?")
                .bind(position(*from))
                .execute(connection)
                .await?;
        }
        LogOp::Purge(upto, body) => {
            set_mark(connection, Mark::Purged, body).await?;
            sqlx::query("DELETE FROM log WHERE position <= ?")
                .bind(position(*upto))
                .execute(connection)
                .await?;
        }
        LogOp::Close => (),
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, rows: &[LogRow]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT OR REPLACE INTO log (position, format, checksum, body) ",
    );
    query.push_values(rows, |mut values, row| {
        let position = position(row.index);
        values
            .push_bind(position)
            .push_bind(FORMAT)
            .push_bind(checksum(position, FORMAT, &row.body).to_vec())
            .push_bind(row.body.as_slice());
    });
    // Statements of many rows differ in length and would fill the cache of prepared ones.
    query.build().persistent(rows.len() <= 8).execute(connection).await?;
    Ok(())
}
