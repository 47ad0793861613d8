//! Places where a process may be killed in the tests, to see what is on disk then. Does nothing outside of tests.

/// Places where a process may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Entries are in a transaction of the log.
    LogBeforeCommit,
    /// Entries are on disk and nobody knows.
    LogAfterCommit,
    /// A conflicting tail is deleted in a transaction.
    TruncateBeforeCommit,
    /// An old head is deleted in a transaction.
    PurgeBeforeCommit,
    /// An old head is deleted.
    PurgeAfterCommit,
    /// Entries are committed by a majority, applied in memory, and not in `state.db`.
    StateBeforeWrite,
    /// Rows are in a transaction of the state.
    StateBeforeCommit,
    /// Rows are in `state.db` and nobody knows.
    StateAfterCommit,
    /// A snapshot is written and not on disk.
    SnapshotBeforeSync,
    /// A snapshot is on disk and has no name.
    SnapshotBeforeRename,
    /// A snapshot has its name and nobody knows.
    SnapshotAfterRename,
    /// `state.db` may be older on disk than the snapshot.
    SnapshotBeforeCheckpoint,
    /// A snapshot replaces the state in a transaction.
    InstallBeforeCommit,
    /// A snapshot has replaced the state and nobody knows.
    InstallAfterCommit,
}

/// Nothing.
#[cfg(not(test))]
pub(crate) fn point(_: Point) {}

/// Ends the process here if the environment says so: `SCRAP_CRASH_AT=LogBeforeCommit:3` is the third time.
#[cfg(test)]
pub(crate) fn point(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static AT: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let at = AT.get_or_init(|| {
        let text = std::env::var("SCRAP_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    let Some((name, times)) = at else { return };
    if *name == format!("{point:?}") && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        std::process::abort();
    }
}
