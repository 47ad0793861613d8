//! A head's tree, reached by folder descriptors only: no step follows a symbolic link, so nothing that a grain does to its
//! own tree while we look can lead us out of it. Reads what is there and makes what a manifest says; compares nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    chmodat, chownat, linkat, mkdirat, open, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::files::{Result, at, damaged, refused};
use super::manifest::{CHUNK, Entry, Hash, Kind, Manifest, chunk_length};
use super::pack::Packs;
use super::path::{self, RelPath};

/// What a walk found at a path.
pub(super) struct Found {
    pub(super) stat: Stat,
    pub(super) kind: FoundKind,
}

/// A file's type, without its contents.
pub(super) enum FoundKind {
    Dir,
    File,
    /// Escaped as in a manifest.
    Symlink(String),
    /// Another name of a file that sorts before this one.
    HardLink(RelPath),
}

/// Time of last change of the contents, in nanoseconds.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
pub(super) fn mtime(stat: &Stat) -> i64 {
    (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64)
}

/// Time of last change of anything, in nanoseconds. Only the system sets it.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
pub(super) fn ctime(stat: &Stat) -> i64 {
    (stat.st_ctime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64)
}

/// Size of a file in bytes.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// A tree below one folder.
pub(super) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The folder that was used last.
    last: Option<(RelPath, OwnedFd)>,
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    /// The tree in this folder.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = open(path, FOLDER, Mode::empty()).map_err(at("open", path))?;
        Ok(Self { path: path.to_owned(), root, last: None })
    }

    fn failed(&self, call: &str, rel: &RelPath) -> impl FnOnce(Errno) -> super::Cause + use<> {
        let what = format!("cannot {call} {}/{rel}", self.path.display());
        move |error| refused(what, error)
    }

    /// Opens a folder from the root down.
    fn dir(&self, rel: &RelPath) -> rustix::io::Result<OwnedFd> {
        let mut dir = openat(&self.root, c".", FOLDER, Mode::empty())?;
        for part in rel.parts() {
            dir = openat(&dir, part, FOLDER, Mode::empty())?;
        }
        Ok(dir)
    }

    /// Calls with the folder that a path is in, and its name there.
    fn within<T>(
        &mut self,
        rel: &RelPath,
        call: impl FnOnce(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let Some((parent, name)) = rel.split() else { return call(&self.root, b".") };
        let dir = match self.last.take() {
            Some((path, dir)) if path == parent => dir,
            Some(_) | None => self.dir(&parent)?,
        };
        let result = call(&dir, name);
        self.last = Some((parent, dir));
        result
    }

    /// Everything that is in the tree now. What vanishes meanwhile is left out; sockets, fifos and devices too.
    pub(super) fn walk(&mut self) -> Result<BTreeMap<RelPath, Found>> {
        let mut all = BTreeMap::new();
        let stat = statat(&self.root, c".", AtFlags::empty());
        let stat = stat.map_err(self.failed("stat", &RelPath::ROOT))?;
        all.insert(RelPath::ROOT, Found { stat, kind: FoundKind::Dir });
        let mut todo = vec![RelPath::ROOT];
        while let Some(rel) = todo.pop() {
            let dir = match self.dir(&rel) {
                Ok(dir) => dir,
                Err(error) if is_gone(error) => continue,
                Err(error) => return Err(self.failed("open", &rel)(error)),
            };
            for entry in Dir::read_from(&dir).map_err(self.failed("list", &rel))? {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if is_gone(error) => break,
                    Err(error) => return Err(self.failed("list", &rel)(error)),
                };
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let too_long = || refused(format!("{rel} is too long a path"), Errno::NAMETOOLONG);
                let child = rel.child(name).ok_or_else(too_long)?;
                let Some(found) = self.look(&dir, name, &child)? else { continue };
                if matches!(found.kind, FoundKind::Dir) {
                    todo.push(child.clone());
                }
                all.insert(child, found);
            }
        }
        name_hard_links(&mut all);
        Ok(all)
    }

    fn look(&self, dir: &OwnedFd, name: &[u8], rel: &RelPath) -> Result<Option<Found>> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) if is_gone(error) => return Ok(None),
            Err(error) => return Err(self.failed("stat", rel)(error)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FoundKind::Dir,
            FileType::RegularFile => FoundKind::File,
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Ok(target) => FoundKind::Symlink(path::escape(target.to_bytes())),
                // It is no link any more.
                Err(error) if is_gone(error) || error == Errno::INVAL => return Ok(None),
                Err(error) => return Err(self.failed("read", rel)(error)),
            },
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                tracing::debug!(path = %rel, "neither file, folder nor link: not in the snapshot");
                return Ok(None);
            }
        };
        Ok(Some(Found { stat, kind }))
    }

    /// Reads a file to its end in pieces, and says how it was just before and just after. `None`: it vanished.
    pub(super) fn read(
        &mut self,
        rel: &RelPath,
        mut piece: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<(Stat, Stat)>> {
        // Without NONBLOCK, opening what has become a fifo would wait forever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.within(rel, |dir, name| openat(dir, name, flags, Mode::empty())) {
            Ok(file) => File::from(file),
            Err(error) if is_gone(error) => return Ok(None),
            Err(error) => return Err(self.failed("open", rel)(error)),
        };
        let stat = || rustix::fs::fstat(&file).map_err(self.failed("stat", rel));
        let before = stat()?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let path = self.path.join(rel.to_string());
            let read = (&file).take(CHUNK).read_to_end(&mut buffer).map_err(at("read", &path))?;
            if read == 0 {
                break;
            }
            piece(&buffer)?;
            if (read as u64) < CHUNK {
                break;
            }
        }
        Ok(Some((before, stat()?)))
    }

    /// The stat of a path that must be there.
    pub(super) fn stat(&mut self, rel: &RelPath) -> Result<Stat> {
        let stat = self.within(rel, |dir, name| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        stat.map_err(self.failed("stat", rel))
    }

    /// Makes everything that a manifest says; the tree must be empty and nobody else's. `owners`: also whose it is.
    pub(super) fn make(
        &mut self,
        manifest: &Manifest,
        packs: &mut Packs,
        owners: bool,
    ) -> Result<()> {
        for (rel, entry) in &manifest.entries {
            self.make_entry(rel, entry, packs)?;
            match entry.kind {
                Kind::File { .. } | Kind::Symlink { .. } => self.dress(rel, entry, owners)?,
                Kind::Dir | Kind::HardLink { .. } => (),
            }
        }
        // Folders last and from the leaves up: their times change with every file that is made in them, and their
        // modes may forbid making any.
        for (rel, entry) in manifest.entries.iter().rev() {
            if entry.kind == Kind::Dir {
                self.last = None;
                self.dress(rel, entry, owners)?;
            }
        }
        self.last = None;
        Ok(())
    }

    fn make_entry(&mut self, rel: &RelPath, entry: &Entry, packs: &mut Packs) -> Result<()> {
        let failed = self.failed("create", rel);
        match &entry.kind {
            Kind::Dir if *rel == RelPath::ROOT => Ok(()),
            Kind::Dir => {
                self.within(rel, |dir, name| mkdirat(dir, name, Mode::RWXU)).map_err(failed)
            }
            Kind::Symlink { target } => {
                let target = path::unescape(target).unwrap_or_default();
                self.within(rel, |dir, name| symlinkat(target, dir, name)).map_err(failed)
            }
            Kind::HardLink { to } => {
                let made = to.split().map_or(Err(Errno::INVAL), |(parent, old)| {
                    let from = self.dir(&parent)?;
                    self.within(rel, |dir, name| linkat(&from, old, dir, name, AtFlags::empty()))
                });
                made.map_err(failed)
            }
            Kind::File { size, chunks } => {
                // EXCL also refuses a symbolic link in the last place.
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file = self.within(rel, |dir, name| openat(dir, name, flags, mode));
                let path = self.path.join(rel.to_string());
                fill(&mut File::from(file.map_err(failed)?), &path, *size, chunks, packs)
            }
        }
    }

    /// Owner, mode and times, in this order: a change of owner takes setuid bits away.
    fn dress(&mut self, rel: &RelPath, entry: &Entry, owners: bool) -> Result<()> {
        let failed = self.failed("set the attributes of", rel);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: entry.mtime.div_euclid(1_000_000_000),
                tv_nsec: entry.mtime.rem_euclid(1_000_000_000),
            },
        };
        let mode = Mode::from_raw_mode(entry.mode);
        let is_link = matches!(entry.kind, Kind::Symlink { .. });
        let dressed = self.within(rel, |dir, name| {
            if owners {
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                chownat(dir, name, Some(uid), Some(gid), nofollow)?;
            }
            if !is_link {
                // The name was made by us in a tree that nobody else can reach: it is no link.
                chmodat(dir, name, mode, AtFlags::empty())?;
            }
            utimensat(dir, name, &times, nofollow)
        });
        dressed.map_err(failed)
    }

    /// Puts everything in the tree on stable storage.
    pub(super) fn sync(&self) -> Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(self.root.as_fd()).map_err(self.failed("sync", &RelPath::ROOT))?;
        #[cfg(not(target_os = "linux"))]
        {
            let _ = self.root.as_fd();
            rustix::fs::sync();
        }
        Ok(())
    }
}

fn fill(file: &mut File, path: &Path, size: u64, chunks: &[Hash], packs: &mut Packs) -> Result<()> {
    use std::io::{Seek, SeekFrom};
    for (number, hash) in chunks.iter().enumerate() {
        let chunk = packs.read(hash)?;
        if chunk.len() as u64 != chunk_length(size, number) {
            return Err(damaged(path, "a chunk does not have its length"));
        }
        if chunk.iter().all(|byte| *byte == 0) {
            // Holes stay holes.
            let length = i64::try_from(chunk.len()).unwrap_or(0);
            file.seek(SeekFrom::Current(length)).map_err(at("seek in", path))?;
        } else {
            file.write_all(&chunk).map_err(at("write", path))?;
        }
    }
    file.set_len(size).map_err(at("set the length of", path))
}

/// It was there when its folder was listed; the running grain took it away, or put something else there.
fn is_gone(error: Errno) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE, Errno::NXIO].contains(&error)
}

/// The first name of a file keeps it, the others become links to that name.
fn name_hard_links(all: &mut BTreeMap<RelPath, Found>) {
    let mut first: HashMap<(u64, u64), RelPath> = HashMap::new();
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "types differ by system"
    )]
    for (rel, found) in all.iter_mut() {
        if !matches!(found.kind, FoundKind::File) || (found.stat.st_nlink as u64) < 2 {
            continue;
        }
        let inode = (found.stat.st_dev as u64, found.stat.st_ino as u64);
        if let Some(to) = first.get(&inode) {
            found.kind = FoundKind::HardLink(to.clone());
        } else {
            first.insert(inode, rel.clone());
        }
    }
}
