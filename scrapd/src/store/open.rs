//! Opening a database: the settings that every connection has, the version of SQLite, the migrations.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};

use super::StoreError;

/// SQLite before this loses or corrupts what a log must keep.
const SQLITE_NEEDED: (&str, [u32; 3]) = ("3.51.3", [3, 51, 3]);
/// Longest wait for another connection of the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages in memory for each connection, in KiB: small, because entries and state are in our memory already.
const CACHE_KIB: u32 = 1024;
/// What a WAL file may keep after a checkpoint.
const WAL_KEPT: u32 = 64 << 20;

/// Settings of a connection to a file that this process writes.
pub(super) fn options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(32)
        .pragma("mmap_size", "0")
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("journal_size_limit", WAL_KEPT.to_string())
}

/// Opens the one connection that writes a file, makes the file if it is not there, and brings its tables up to date.
pub(super) async fn open_writer(
    path: &Path,
    synchronous: SqliteSynchronous,
    migrations: &Migrator,
) -> Result<SqliteConnection, StoreError> {
    let fail = |what| move |source| StoreError::Sql { path: path.to_owned(), what, source };
    let options = options(path, synchronous).create_if_missing(true);
    let mut connection =
        SqliteConnection::connect_with(&options).await.map_err(fail("opening it"))?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut connection)
        .await
        .map_err(fail("asking for the version of SQLite"))?;
    check_version(&version)?;
    check_integrity(path, &mut connection, "PRAGMA main.quick_check").await?;
    migrations.run_direct(None, &mut connection, false).await.map_err(|error| StoreError::Sql {
        path: path.to_owned(),
        what: "bringing its tables up to date",
        source: error.into(),
    })?;
    Ok(connection)
}

/// Looks for damage that SQLite can see. `pragma` is a quick or a full check.
pub(super) async fn check_integrity(
    path: &Path,
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<(), StoreError> {
    let found: Vec<String> = match sqlx::query_scalar(pragma).fetch_all(connection).await {
        Ok(found) => found,
        Err(error) => vec![error.to_string()],
    };
    if found == ["ok"] {
        return Ok(());
    }
    Err(StoreError::Damaged { path: path.to_owned(), what: found.join("; ") })
}

fn check_version(version: &str) -> Result<(), StoreError> {
    let (needed, numbers) = SQLITE_NEEDED;
    let found: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if found.as_slice() >= numbers.as_slice() {
        return Ok(());
    }
    Err(StoreError::Version { found: version.to_owned(), needed })
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn old_sqlite_is_refused() {
        for (version, good) in [
            ("3.51.3", true),
            ("3.51.10", true),
            ("3.52.0", true),
            ("4.0.0", true),
            ("3.51.2", false),
            ("3.9.30", false),
            ("", false),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version}");
        }
    }
}
