//! Trees of files, reached by folder descriptors only: no step follows a symbolic link, so nothing that a grain put into its
//! own tree can lead out of it. Finds what is there and whether two paths are the same; changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use super::{Result, at};
use crate::datasets::Cause;

pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PIECE: usize = 128 << 10;

/// A path below the root, raw bytes; the root itself is empty.
pub(super) type Rel = Vec<u8>;

/// A tree below one folder.
pub(super) struct Tree {
    path: PathBuf,
    pub(super) root: OwnedFd,
    /// The folder that was used last.
    last: Option<(Rel, OwnedFd)>,
}

/// A path as its folder and its name there.
pub(super) fn split(rel: &[u8]) -> (&[u8], &[u8]) {
    match rel.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            let (dir, name) = rel.split_at(slash);
            (dir, name.get(1..).unwrap_or_default())
        }
        None => (b"", rel),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = open(path, FOLDER, Mode::empty()).map_err(at("open", path))?;
        Ok(Self { path: path.to_owned(), root, last: None })
    }

    pub(super) fn failed(&self, call: &str, rel: &[u8]) -> impl FnOnce(Errno) -> Cause + use<> {
        let path = self.path.join(String::from_utf8_lossy(rel).as_ref());
        let call = call.to_owned();
        move |error| at(&call, &path)(error)
    }

    /// Opens a folder from the root down.
    pub(super) fn dir(&self, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut dir = openat(&self.root, c".", FOLDER, Mode::empty())?;
        for part in rel.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            dir = openat(&dir, part, FOLDER, Mode::empty())?;
        }
        Ok(dir)
    }

    /// Calls with the folder that a path is in, and its name there.
    pub(super) fn within<T>(
        &mut self,
        rel: &[u8],
        call: impl FnOnce(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        if rel.is_empty() {
            return call(&self.root, b".");
        }
        let (parent, name) = split(rel);
        let dir = match self.last.take() {
            Some((path, dir)) if path == parent => dir,
            Some(_) | None => self.dir(parent)?,
        };
        let result = call(&dir, name);
        self.last = Some((parent.to_vec(), dir));
        result
    }

    /// Forgets the folder that was used last: it may be gone, or stand in the way of its removal.
    pub(super) fn let_go(&mut self) {
        self.last = None;
    }

    /// Everything that is in the tree, with the root. What vanishes meanwhile is left out.
    pub(super) fn walk(&mut self) -> Result<BTreeMap<Rel, Stat>> {
        let mut all = BTreeMap::new();
        let stat = statat(&self.root, c".", AtFlags::empty());
        all.insert(Rel::new(), stat.map_err(self.failed("stat", b""))?);
        let mut todo = vec![Rel::new()];
        while let Some(rel) = todo.pop() {
            let dir = match self.dir(&rel) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(self.failed("open", &rel)(error)),
            };
            for entry in Dir::read_from(&dir).map_err(self.failed("list", &rel))? {
                let entry = entry.map_err(self.failed("list", &rel))?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." || (rel.is_empty() && name == b".zfs") {
                    continue;
                }
                let mut child = rel.clone();
                if !child.is_empty() {
                    child.push(b'/');
                }
                child.extend(name);
                let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(self.failed("stat", &child)(error)),
                };
                if kind(&stat) == FileType::Directory {
                    todo.push(child.clone());
                }
                all.insert(child, stat);
            }
        }
        Ok(all)
    }

    pub(super) fn link(&mut self, rel: &[u8]) -> Result<Vec<u8>> {
        let read = self.within(rel, |dir, name| readlinkat(dir, name, Vec::new()));
        read.map(|target| target.into_bytes()).map_err(self.failed("read", rel))
    }

    pub(super) fn file(&mut self, rel: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self.within(rel, |dir, name| openat(dir, name, flags, Mode::empty()));
        file.map(File::from).map_err(self.failed("open", rel))
    }

    /// Reads up to a piece of a file; nothing at its end.
    pub(super) fn read_piece(
        &self,
        rel: &[u8],
        file: &mut File,
        piece: &mut Vec<u8>,
    ) -> Result<()> {
        piece.clear();
        let path = self.path.join(String::from_utf8_lossy(rel).as_ref());
        let read = file.take(PIECE as u64).read_to_end(piece);
        read.map(|_| ()).map_err(at("read", &path))
    }
}

/// What was changed since this many seconds since 1970 may look as before: some file systems know whole seconds only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon(i64);

impl Horizon {
    /// Of a snapshot that was taken then.
    pub(super) fn of(taken: i64) -> Self {
        Self(taken.saturating_sub(2))
    }
}

/// Certainly untouched since a snapshot: the same file with the same times, long enough before it.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
pub(super) fn untouched(old: &Stat, new: &Stat, horizon: Horizon) -> bool {
    (new.st_ctime as i64) < horizon.0
        && old.st_ino == new.st_ino
        && (old.st_ctime, old.st_ctime_nsec as i64) == (new.st_ctime, new.st_ctime_nsec as i64)
        && alike(old, new)
}

/// The same in everything that the names and their stats tell.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
pub(super) fn alike(old: &Stat, new: &Stat) -> bool {
    let size = |stat: &Stat| match kind(stat) {
        FileType::RegularFile | FileType::Symlink => stat.st_size,
        _ => 0,
    };
    old.st_mode == new.st_mode
        && (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid)
        && (old.st_mtime, old.st_mtime_nsec as i64) == (new.st_mtime, new.st_mtime_nsec as i64)
        && size(old) == size(new)
        && old.st_rdev == new.st_rdev
}

/// Whether a path is the same in both trees: by its stat, and by its contents where that leaves a doubt.
pub(super) fn same(
    rel: &[u8],
    (old_tree, old): (&mut Tree, &Stat),
    (new_tree, new): (&mut Tree, &Stat),
    horizon: Horizon,
) -> Result<bool> {
    if untouched(old, new, horizon) {
        return Ok(true);
    }
    if !alike(old, new) {
        return Ok(false);
    }
    match kind(old) {
        FileType::RegularFile => {
            let (mut a, mut b) = (old_tree.file(rel)?, new_tree.file(rel)?);
            let (mut left, mut right) = (Vec::new(), Vec::new());
            loop {
                old_tree.read_piece(rel, &mut a, &mut left)?;
                new_tree.read_piece(rel, &mut b, &mut right)?;
                if left != right {
                    return Ok(false);
                }
                if left.is_empty() {
                    return Ok(true);
                }
            }
        }
        FileType::Symlink => Ok(old_tree.link(rel)? == new_tree.link(rel)?),
        _ => Ok(true),
    }
}
