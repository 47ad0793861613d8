//! `state.db`: the replicated state as rows, each batch of entries in one transaction with the position that it brings the state to.
//!
//! One task owns the writing connection. Its last commits may be lost with the power (`synchronous=NORMAL`): the log has them,
//! because [`StateDb::checkpoint`] comes before any part of the log may go.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use scrap_decide::cluster::{Cluster, Key};
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::crash::{self, Point};
use super::hash::{RowHash, StateHash, row_hash};
use super::open::open_writer;
use super::rows::{RowName, put_row};

/// How rows are written today.
const FORMAT: &str = "1";
/// Operations that may wait for the writer.
const QUEUE: usize = 16;
/// Longest wait of the writer for somebody who reads the file with another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What the rows are the result of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StateMeta {
    /// The last applied entry.
    pub(crate) applied: Vec<u8>,
    /// The last membership.
    pub(crate) membership: Vec<u8>,
    /// Hash of all rows.
    pub(crate) hash: StateHash,
}

/// The state as it was in a file.
#[derive(Debug, Default)]
pub(crate) struct StoredState {
    /// The state, complete but for its index.
    pub(crate) cluster: Cluster,
    /// The hash of each row.
    pub(crate) hashes: BTreeMap<Key, RowHash>,
    /// What it is the result of; `None` in a new file.
    pub(crate) meta: Option<StateMeta>,
}

/// A changed row; without a body it goes.
#[derive(Debug)]
pub(crate) struct RowChange {
    /// Which.
    pub(crate) name: RowName,
    /// Its new body.
    pub(crate) body: Option<Vec<u8>>,
}

enum StateOp {
    Write(Vec<RowChange>, StateMeta),
    Install(PathBuf),
    Checkpoint(oneshot::Sender<bool>),
    Close,
}

/// The open file. A cheap handle.
#[derive(Clone)]
pub(crate) struct StateDb {
    path: Arc<PathBuf>,
    ops: mpsc::Sender<(StateOp, oneshot::Sender<io::Result<()>>)>,
}

impl StateDb {
    /// Opens or makes the file, verifies it and loads everything.
    ///
    /// # Errors
    /// If it is damaged or SQLite refuses.
    pub(crate) async fn open(path: &Path) -> Result<(Self, StoredState), StoreError> {
        let migrations = sqlx::migrate!("../schema/sql/state");
        let mut connection = open_writer(path, SqliteSynchronous::Normal, &migrations).await?;
        let milliseconds = BUSY_TIMEOUT.as_millis();
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {milliseconds}")))
            .execute(&mut connection)
            .await
            .map_err(|source| StoreError::Sql {
                path: path.to_owned(),
                what: "setting its time limit",
                source,
            })?;
        let stored = load(path, &mut connection).await?;
        let (ops, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(connection, queue));
        Ok((Self { path: Arc::new(path.to_owned()), ops }, stored))
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes changed rows and what they are the result of, in one transaction.
    ///
    /// # Errors
    /// If it failed; then nothing can be written any more.
    pub(crate) async fn write(&self, rows: Vec<RowChange>, meta: StateMeta) -> io::Result<()> {
        self.ask(StateOp::Write(rows, meta)).await
    }

    /// Replaces everything by a snapshot, in one transaction, and waits until it is on disk. The snapshot must be verified.
    ///
    /// # Errors
    /// If it failed; then nothing can be written any more.
    pub(crate) async fn install(&self, snapshot: PathBuf) -> io::Result<()> {
        self.ask(StateOp::Install(snapshot)).await
    }

    /// Brings every commit so far to disk. `false`: another program reads the file and must end first.
    ///
    /// # Errors
    /// If it failed; then nothing can be written any more.
    pub(crate) async fn checkpoint(&self) -> io::Result<bool> {
        let (told, complete) = oneshot::channel();
        self.ask(StateOp::Checkpoint(told)).await?;
        complete.await.map_err(|_| self.stopped())
    }

    /// Writes what waits and closes the file.
    pub(crate) async fn close(&self) {
        if self.ask(StateOp::Close).await.is_err() {
            tracing::debug!(path = %self.path.display(), "state was closed before");
        }
    }

    async fn ask(&self, op: StateOp) -> io::Result<()> {
        let (told, answer) = oneshot::channel();
        self.ops.send((op, told)).await.map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    fn stopped(&self) -> io::Error {
        let path = self.path.display();
        io::Error::other(format!("the writer of `{path}` has stopped after a failed write"))
    }
}

/// Reads every row and compares their hash with the stored one.
pub(super) async fn load(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<StoredState, StoreError> {
    let sql = |what| move |source| StoreError::Sql { path: path.to_owned(), what, source };
    let damaged = |what| StoreError::Damaged { path: path.to_owned(), what };
    let mut stored =
        StoredState { meta: read_meta(path, connection).await?, ..StoredState::default() };
    let mut hash = StateHash::default();
    let mut rows =
        sqlx::query_as::<_, (String, String, Vec<u8>)>("SELECT kind, id, body FROM object")
            .fetch(connection);
    while let Some((kind, id, body)) = rows.try_next().await.map_err(sql("reading its rows"))? {
        let row = row_hash(&kind, &id, &body);
        hash.add(&row);
        let key = put_row(&mut stored.cluster, &kind, &id, &body).map_err(damaged)?;
        stored.hashes.insert(key, row);
    }
    stored.cluster.derive();
    let wanted = stored.meta.as_ref().map(|meta| meta.hash).unwrap_or_default();
    if hash != wanted {
        return Err(damaged(format!("the hash of its rows is {hash}, stored is {wanted}")));
    }
    Ok(stored)
}

/// Reads what the rows are the result of.
pub(super) async fn read_meta(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Option<StateMeta>, StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
    let found: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT name, body FROM meta")
        .fetch_all(connection)
        .await
        .map_err(|source| StoreError::Sql {
            path: path.to_owned(),
            what: "reading its position",
            source,
        })?;
    let mut found: BTreeMap<String, Vec<u8>> = found.into_iter().collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut take =
        |name: &str| found.remove(name).ok_or_else(|| damaged(format!("`{name}` is missing")));
    let format = String::from_utf8_lossy(&take("format")?).into_owned();
    if format != FORMAT {
        let what = format!("it has format {format}, this version of scrapd knows {FORMAT}");
        return Err(damaged(what));
    }
    let hash = String::from_utf8_lossy(&take("hash")?).into_owned();
    let hash =
        StateHash::parse(&hash).ok_or_else(|| damaged(format!("its hash `{hash}` is no hash")))?;
    Ok(Some(StateMeta { applied: take("applied")?, membership: take("membership")?, hash }))
}

/// The writer. Ends when the file is closed, all handles are gone, or a write has failed.
async fn write(
    mut connection: SqliteConnection,
    mut queue: mpsc::Receiver<(StateOp, oneshot::Sender<io::Result<()>>)>,
) {
    while let Some((op, told)) = queue.recv().await {
        let result = match op {
            StateOp::Write(rows, meta) => write_rows(&mut connection, &rows, &meta).await,
            StateOp::Install(snapshot) => install(&mut connection, &snapshot).await,
            StateOp::Checkpoint(complete) => checkpoint(&mut connection).await.map(|done| {
                // Nobody waits any more: the next one finds it done.
                let _ = complete.send(done);
            }),
            StateOp::Close => {
                // The last connection that closes empties the WAL into the file.
                if let Err(error) = connection.close().await {
                    tracing::warn!(%error, "the state was not closed cleanly");
                }
                let _ = told.send(Ok(()));
                return;
            }
        };
        let failed = result.is_err();
        if let Err(error) = &result {
            tracing::error!(%error, "the state cannot be written; nothing is written any more");
        }
        let _ = told.send(result.map_err(io::Error::other));
        if failed {
            return;
        }
    }
}

async fn write_rows(
    connection: &mut SqliteConnection,
    rows: &[RowChange],
    meta: &StateMeta,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for RowChange { name, body } in rows {
        match body {
            Some(body) => {
                sqlx::query("INSERT OR REPLACE INTO object (kind, id, body) VALUES (?, ?, ?)")
                    .bind(name.kind)
                    .bind(name.id.as_str())
                    .bind(body.as_slice())
                    .execute(&mut *transaction)
                    .await?
            }
            None => {
                sqlx::query("DELETE FROM object WHERE kind = ? AND id = ?")
                    .bind(name.kind)
                    .bind(name.id.as_str())
                    .execute(&mut *transaction)
                    .await?
            }
        };
    }
    let hash = meta.hash.to_string();
    let values = [
        ("format", FORMAT.as_bytes()),
        ("applied", meta.applied.as_slice()),
        ("membership", meta.membership.as_slice()),
        ("hash", hash.as_bytes()),
    ];
    for (name, body) in values {
        sqlx::query("INSERT OR REPLACE INTO meta (name, body) VALUES (?, ?)")
            .bind(name)
            .bind(body)
            .execute(&mut *transaction)
            .await?;
    }
    crash::point(Point::StateBeforeCommit);
    transaction.commit().await?;
    crash::point(Point::StateAfterCommit);
    Ok(())
}

async fn install(connection: &mut SqliteConnection, snapshot: &Path) -> Result<(), sqlx::Error> {
    let text = snapshot.to_str().ok_or_else(|| {
        sqlx::Error::Configuration("the path of the snapshot is not UTF-8".into())
    })?;
    sqlx::query("ATTACH ? AS snapshot").bind(text).execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(
        "DELETE FROM main.object;
         INSERT INTO main.object (kind, id, body) SELECT kind, id, body FROM snapshot.object;
         DELETE FROM main.meta;
         INSERT INTO main.meta (name, body) SELECT name, body FROM snapshot.meta;",
    )
    .execute(&mut *transaction)
    .await?;
    crash::point(Point::InstallBeforeCommit);
    transaction.commit().await?;
    crash::point(Point::InstallAfterCommit);
    sqlx::query("DETACH snapshot").execute(&mut *connection).await?;
    Ok(())
}

/// Whether everything is in the file and on disk now.
async fn checkpoint(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
    Ok(busy == 0)
}
