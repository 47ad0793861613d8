//! The stat index: how each file of a head looked when its contents were last known to be those of the newest
//! snapshot. Only a cache: without it everything is read again, and it is thrown away when in doubt.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::Stat;
use scrap_schema::snapshot::Guid;
use serde::{Deserialize, Serialize};

use super::files::{self, Result, at};
use super::manifest::Hash;
use super::path::RelPath;
use super::tree;

/// A file that changed less than this before it was looked at may change again without looking different, where the
/// file system keeps coarse times. Nanoseconds.
pub(super) const RACY: i64 = 2_000_000_000;

/// How a file looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    size: u64,
    mtime: i64,
    ctime: i64,
    inode: u64,
    /// It may change without looking different: it must be read again.
    racy: bool,
}

impl Seen {
    /// As it looks, when looking began at `began` (nanoseconds since 1970).
    #[allow(clippy::unnecessary_cast, reason = "the field has other types on other systems")]
    pub(super) fn new(stat: &Stat, began: i64) -> Self {
        let (mtime, ctime) = (tree::mtime(stat), tree::ctime(stat));
        let racy = mtime.max(ctime) >= began.saturating_sub(RACY);
        Self { size: tree::size(stat), mtime, ctime, inode: stat.st_ino as u64, racy }
    }

    /// As it looks, known to be looked at after the file system's clock had moved on.
    pub(super) fn settled(stat: &Stat) -> Self {
        Self { racy: false, ..Self::new(stat, 0) }
    }

    /// Whether the contents are surely those of then.
    pub(super) fn proves(&self, stat: &Stat) -> bool {
        !self.racy && Self { racy: false, ..Self::new(stat, 0) } == *self
    }

    /// Must be read again next time, whatever it looks like.
    pub(super) fn doubtful(self) -> Self {
        Self { racy: true, ..self }
    }
}

/// All files of a head, as of one snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) seen: BTreeMap<RelPath, Seen>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    guid: Guid,
    checksum: Hash,
}

impl Index {
    /// The index of this snapshot; an empty one if there is none that can be trusted.
    pub(super) fn load(path: &Path, guid: Guid) -> Self {
        let read = || {
            let text = fs::read_to_string(path).ok()?;
            let (header, body) = text.split_once('\n')?;
            let header: Header = serde_json::from_str(header).ok()?;
            if header.guid != guid || header.checksum != Hash::of(body.as_bytes()) {
                return None;
            }
            let seen = body.lines().map(|line| serde_json::from_str(line).ok());
            Some(Self { seen: seen.collect::<Option<_>>()? })
        };
        read().unwrap_or_default()
    }

    /// Keeps it. Not made stable: its checksum tells after a crash.
    pub(super) fn save(&self, path: &Path, guid: Guid) -> Result<()> {
        let encode = |value: serde_json::Result<String>| {
            value.map_err(|error| files::refused("cannot write the stat index", error))
        };
        let mut body = String::new();
        for row in &self.seen {
            body.push_str(&encode(serde_json::to_string(&row))?);
            body.push('\n');
        }
        let header = Header { guid, checksum: Hash::of(body.as_bytes()) };
        let text = format!("{}\n{body}", encode(serde_json::to_string(&header))?);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, text).map_err(at("write", &temporary))?;
        fs::rename(&temporary, path).map_err(at("rename", &temporary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_just_now_proves_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = rustix::fs::stat(file.path()).unwrap();
        let changed = tree::ctime(&stat);
        let seen = |later| Seen::new(&stat, changed + later);
        assert!(!seen(0).proves(&stat), "looked at while it may still change");
        assert!(!seen(RACY).proves(&stat));
        assert!(seen(RACY + 1).proves(&stat));
        assert!(!seen(-RACY).proves(&stat), "it is of the future: the clock was set back");
        assert!(!seen(RACY + 1).doubtful().proves(&stat));
        assert!(Seen::settled(&stat).proves(&stat));
        fs::write(file.path(), b"longer").unwrap();
        let now = rustix::fs::stat(file.path()).unwrap();
        assert!(!seen(RACY + 1).proves(&now));
    }

    #[test]
    fn only_an_index_of_the_same_snapshot_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.index");
        let stat = rustix::fs::stat(folder.path()).unwrap();
        let row = ("a/%41".parse().unwrap(), Seen::settled(&stat));
        let index = Index { seen: BTreeMap::from([row]) };
        index.save(&path, Guid(1)).unwrap();
        assert_eq!(Index::load(&path, Guid(1)), index);
        assert_eq!(Index::load(&path, Guid(2)), Index::default());
        let mut text = fs::read(&path).unwrap();
        let last = text.len() - 3;
        text[last] ^= 1;
        fs::write(&path, text).unwrap();
        assert_eq!(Index::load(&path, Guid(1)), Index::default());
    }
}
