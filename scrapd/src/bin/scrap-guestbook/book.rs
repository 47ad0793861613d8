//! The guestbook's entries: one line of JSON each, in one file that only grows. An added entry is on disk.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// What the visitor wrote.
    pub(crate) text: String,
    /// The node that took it.
    pub(crate) node: String,
    /// The epoch in which it was taken.
    pub(crate) epoch: String,
}

/// All entries, in memory and on disk.
pub(crate) struct Book {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    entries: Vec<Entry>,
    /// Length of the file up to the last whole entry.
    length: u64,
}

impl Book {
    /// Opens the file. A torn last line, left by a power cut before its answer, is cut off.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot open the guestbook `{}`", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).with_context(what)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(what)?;
        let mut entries = Vec::new();
        let mut length = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') {
                break;
            }
            let entry = serde_json::from_slice(line)
                .with_context(|| format!("`{}` is damaged at byte {length}", path.display()))?;
            entries.push(entry);
            length += u64::try_from(line.len())?;
        }
        file.set_len(length).with_context(what)?;
        file.sync_all().with_context(what)?;
        Ok(Self { path: path.to_owned(), inner: Mutex::new(Inner { file, entries, length }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the newest entry; 0: there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.lock().entries.last().map_or(0, |entry| entry.number)
    }

    /// Entries from a number on.
    pub(crate) fn list(&self, from: u64) -> Vec<Entry> {
        self.lock().entries.iter().filter(|entry| entry.number >= from).cloned().collect()
    }

    /// Adds an entry and waits until it is on disk.
    pub(crate) fn add(&self, text: String, node: String, epoch: String) -> anyhow::Result<Entry> {
        let mut inner = self.lock();
        let number = inner.entries.last().map_or(1, |entry| entry.number + 1);
        let entry = Entry { number, text, node, epoch };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let start = inner.length;
        let mut write = || {
            // After a failed write the end of the file is unknown; the last whole entry is not.
            inner.file.seek(SeekFrom::Start(start))?;
            inner.file.write_all(&line)?;
            inner.file.sync_data()
        };
        write().with_context(|| format!("cannot write the guestbook `{}`", self.path.display()))?;
        inner.length = start + u64::try_from(line.len())?;
        inner.entries.push(entry.clone());
        Ok(entry)
    }
}
