//! Snapshots of the state as files: `snapshot-<index>-<term>-<node>.db`, complete or not there at all.
//!
//! A snapshot is a copy of `state.db` made by SQLite itself. It gets its name only when it is on disk; temporary files are
//! removed at every start. Only the newest is kept.

use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::StoreError;
use super::crash::{self, Point};
use super::open::{check_integrity, options};
use super::state::{StateMeta, StoredState, load, read_meta};

const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".db";
/// Ending of files that are not complete.
const TEMPORARY: &str = ".tmp";

/// Where the snapshot up to an entry lies.
pub(crate) fn snapshot_path(dir: &Path, index: u64, term: u64, node: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{index:020}-{term}-{node}{SUFFIX}"))
}

/// The newest snapshot.
///
/// # Errors
/// If the folder cannot be read.
pub(crate) fn newest_snapshot(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && newest.as_deref() < Some(name) {
            newest = Some(name.to_owned());
        }
    }
    Ok(newest.map(|name| dir.join(name)))
}

/// Removes all snapshots but one.
///
/// # Errors
/// If the folder cannot be read or a file not removed.
pub(crate) fn keep_only(dir: &Path, keep: &Path) -> io::Result<()> {
    remove(dir, |name| name.starts_with(PREFIX) && keep.file_name() != Some(name.as_ref()))
}

/// Removes what was not completed before the last end of the daemon.
///
/// # Errors
/// If the folder cannot be read or a file not removed.
pub(crate) fn remove_temporary(dir: &Path) -> io::Result<()> {
    remove(dir, |name| name.contains(TEMPORARY))
}

/// Removes the newest snapshot if it is damaged: `state.db` has all of it, and a new one is made from there. A follower would
/// refuse it again and again.
///
/// # Errors
/// If the folder cannot be read or the file not removed.
pub(crate) async fn remove_damaged(dir: &Path) -> Result<(), StoreError> {
    let fail = |path: &Path, what, source| StoreError::File { path: path.to_owned(), what, source };
    let newest = newest_snapshot(dir).map_err(|error| fail(dir, "looking for snapshots", error))?;
    let Some(path) = newest else { return Ok(()) };
    match load_snapshot(&path).await {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a damaged snapshot is removed");
            std::fs::remove_file(&path).map_err(|error| fail(&path, "removing it", error))
        }
    }
}

fn remove(dir: &Path, which: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&which) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Where a file is made before it gets its name.
pub(crate) fn temporary_path(dir: &Path, what: &str, number: u64) -> PathBuf {
    dir.join(format!("{what}-{number}{TEMPORARY}"))
}

/// Makes a copy of the state as it is now, brings it to disk and says what it is the result of.
///
/// # Errors
/// If SQLite or the file system refuses.
pub(crate) async fn copy_state(state: &Path, to: &Path) -> Result<Option<StateMeta>, StoreError> {
    let fail = |what| move |source| StoreError::Sql { path: state.to_owned(), what, source };
    let text = to.to_str().ok_or_else(|| StoreError::Damaged {
        path: to.to_owned(),
        what: "its path is not UTF-8".to_owned(),
    })?;
    let options = options(state, sqlx::sqlite::SqliteSynchronous::Normal).read_only(true);
    let mut connection =
        SqliteConnection::connect_with(&options).await.map_err(fail("opening it to copy it"))?;
    let copied = sqlx::query("VACUUM INTO ?").bind(text).execute(&mut connection).await;
    connection.close().await.map_err(fail("closing it after copying it"))?;
    copied.map_err(fail("copying it"))?;
    crash::point(Point::SnapshotBeforeSync);
    sync_file(to).await?;
    snapshot_meta(to).await
}

/// What a snapshot is the result of; `None` if nothing was applied before it.
///
/// # Errors
/// If it cannot be read or is no snapshot.
pub(crate) async fn snapshot_meta(path: &Path) -> Result<Option<StateMeta>, StoreError> {
    let mut connection = open_snapshot(path).await?;
    let meta = read_meta(path, &mut connection).await;
    close(path, connection).await?;
    meta
}

/// Verifies a snapshot (SQLite's integrity, then the hash of all rows) and loads it.
///
/// # Errors
/// If it is damaged or cannot be read.
pub(crate) async fn load_snapshot(path: &Path) -> Result<StoredState, StoreError> {
    let mut connection = open_snapshot(path).await?;
    let checked = check_integrity(path, &mut connection, "PRAGMA main.integrity_check").await;
    let stored = match checked {
        Ok(()) => load(path, &mut connection).await,
        Err(error) => Err(error),
    };
    close(path, connection).await?;
    stored
}

async fn open_snapshot(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    SqliteConnection::connect_with(&options).await.map_err(|source| StoreError::Sql {
        path: path.to_owned(),
        what: "opening the snapshot",
        source,
    })
}

async fn close(path: &Path, connection: SqliteConnection) -> Result<(), StoreError> {
    connection.close().await.map_err(|source| StoreError::Sql {
        path: path.to_owned(),
        what: "closing the snapshot",
        source,
    })
}

/// Gives a complete file its name, for good: the name is on disk when this returns. Other snapshots go.
///
/// # Errors
/// If the file system refuses.
pub(crate) async fn name_snapshot(dir: &Path, from: &Path, to: &Path) -> Result<(), StoreError> {
    crash::point(Point::SnapshotBeforeRename);
    let fail = |what| move |source| StoreError::File { path: to.to_owned(), what, source };
    tokio::fs::rename(from, to).await.map_err(fail("giving it its name"))?;
    sync_file(dir).await?;
    crash::point(Point::SnapshotAfterRename);
    keep_only(dir, to).map_err(fail("removing older ones"))
}

/// Brings a file, or the names in a folder, to disk.
///
/// # Errors
/// If the file system refuses.
pub(crate) async fn sync_file(path: &Path) -> Result<(), StoreError> {
    let fail =
        |source| StoreError::File { path: path.to_owned(), what: "bringing it to disk", source };
    tokio::fs::File::open(path).await.map_err(fail)?.sync_all().await.map_err(fail)
}
