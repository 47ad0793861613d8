//! Where entries of an archive are put: every name from the tree's own descriptor, part by part, never through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
    utimensat,
};
use tar::{Entry, EntryType};

use super::{ArchiveError, cannot_write, shown};

/// How a tar says extended attributes.
const XATTR: &str = "SCHILY.xattr.";
const NAME_MAX: usize = 4096;
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What became of an entry.
pub(super) enum Put {
    /// It is there; its file has so many bytes.
    Bytes(u64),
    /// A device.
    LeftOut,
}

/// The tree that an archive is unpacked into.
pub(super) struct Place {
    root: OwnedFd,
    /// The folder of the last entry: most entries are beside the one before.
    last: Option<(PathBuf, OwnedFd)>,
    /// Modes and times of folders, which change while they are filled.
    folders: Vec<(PathBuf, Attributes)>,
}

#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: Mode,
    uid: u32,
    gid: u32,
    mtime: i64,
}

/// Whether an entry carries the bytes of a file.
fn has_content<R: Read>(entry: &Entry<'_, R>) -> bool {
    let kind = entry.header().entry_type();
    kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()
}

impl Place {
    pub(super) fn open(tree: &Path) -> Result<Self, ArchiveError> {
        let root = rustix::fs::open(tree, FOLDER, Mode::empty());
        let root = root.map_err(|error| cannot_write(tree)(error.into()))?;
        Ok(Self { root, last: None, folders: Vec::new() })
    }

    /// Puts one entry where it belongs. What an earlier entry put there is replaced.
    pub(super) fn put<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<Put, ArchiveError> {
        let raw = entry.path_bytes().into_owned();
        let path = relative(&raw)?;
        let attributes = attributes(entry)?;
        let kind = entry.header().entry_type();
        let Some((parent, name)) = split(&path) else {
            // The tree's own root.
            if kind.is_dir() {
                self.folders.push((path, attributes));
            }
            return Ok(Put::Bytes(0));
        };
        if is_device(kind) {
            return Ok(Put::LeftOut);
        }
        let parent = self.folder(&parent)?;
        let written = match kind {
            EntryType::Directory => {
                make_folder(parent.as_fd(), &name, &path)?;
                self.folders.push((path.clone(), attributes));
                0
            }
            EntryType::Symlink => {
                let target = link_name(entry, &path)?;
                clear(parent.as_fd(), &name, &path)?;
                put_symlink(parent.as_fd(), &name, &target, attributes)
                    .map_err(cannot_write(&path))?;
                0
            }
            EntryType::Link => {
                let target = relative(link_name(entry, &path)?.as_os_str().as_bytes())?;
                self.put_link(&target, parent.as_fd(), &name, &path)?;
                0
            }
            EntryType::Fifo => {
                clear(parent.as_fd(), &name, &path)?;
                put_fifo(parent.as_fd(), &name, attributes).map_err(cannot_write(&path))?;
                0
            }
            _ if has_content(entry) => {
                clear(parent.as_fd(), &name, &path)?;
                put_file(parent.as_fd(), &name, entry, attributes, &path)?
            }
            // Headers of formats that say nothing about files.
            _ => 0,
        };
        self.last = split(&path).map(|(folder, _)| (folder, parent));
        Ok(Put::Bytes(written))
    }

    /// Gives folders their owners, modes and times, the deepest first.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        self.last = None;
        let folders = std::mem::take(&mut self.folders);
        for (path, attributes) in folders.iter().rev() {
            let folder = self.folder(path)?;
            set(&File::from(folder), *attributes).map_err(cannot_write(path))?;
        }
        Ok(())
    }

    /// A folder of the tree, made if it is not there. No part of its name may be a link.
    fn folder(&mut self, path: &Path) -> Result<OwnedFd, ArchiveError> {
        if let Some((known, fd)) = self.last.take_if(|(known, _)| known == path) {
            let _ = known;
            return Ok(fd);
        }
        let denied = |error: io::Error| match error.raw_os_error() {
            Some(code) if is_link_error(code) => bad(path, "goes through a link or a file"),
            _ => cannot_write(path)(error),
        };
        let mut folder = self.root.try_clone().map_err(&denied)?;
        for part in path.components() {
            let name = part.as_os_str();
            let next = match openat(&folder, name, FOLDER, Mode::empty()) {
                Err(error) if error == rustix::io::Errno::NOENT => {
                    mkdirat(&folder, name, Mode::from(0o755))
                        .map_err(|error| denied(error.into()))?;
                    openat(&folder, name, FOLDER, Mode::empty())
                }
                opened => opened,
            };
            folder = next.map_err(|error| denied(error.into()))?;
        }
        Ok(folder)
    }

    fn put_link(
        &mut self,
        target: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let (folder, file) =
            split(target).ok_or_else(|| bad(path, "is a link to the archive's root"))?;
        // Only to what an earlier entry has put here.
        let folder = self.folder(&folder)?;
        let there = statat(&folder, &file, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| bad(path, "is a link to what is not in the archive before it"))?;
        if FileType::from_raw_mode(there.st_mode).is_dir() {
            return Err(bad(path, "is a hard link to a folder"));
        }
        // A link to itself is there already, and must not be removed first.
        let here = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        if here.is_some_and(|here| here.st_ino == there.st_ino && here.st_dev == there.st_dev) {
            return Ok(());
        }
        clear(parent, name, path)?;
        linkat(&folder, &file, parent, name, AtFlags::empty())
            .map_err(|error| cannot_write(path)(error.into()))
    }
}

fn is_device(kind: EntryType) -> bool {
    kind.is_character_special() || kind.is_block_special()
}

fn is_link_error(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::LOOP, Errno::NOTDIR].iter().any(|errno| errno.raw_os_error() == code)
}

fn bad(path: &Path, why: &'static str) -> ArchiveError {
    ArchiveError::BadEntry { path: shown(path), why }
}

/// A name of the archive as one below the tree.
fn relative(raw: &[u8]) -> Result<PathBuf, ArchiveError> {
    let path = Path::new(OsStr::from_bytes(raw));
    if raw.contains(&0) || raw.len() > NAME_MAX {
        return Err(bad(path, "is no name that a file can have"));
    }
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => relative.push(name),
            Component::CurDir | Component::RootDir => (),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad(path, "leaves the archive by `..`"));
            }
        }
    }
    Ok(relative)
}

fn split(path: &Path) -> Option<(PathBuf, std::ffi::OsString)> {
    Some((path.parent()?.to_owned(), path.file_name()?.to_owned()))
}

fn link_name<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, ArchiveError> {
    let name = entry.link_name_bytes().unwrap_or_default();
    if name.is_empty() || name.contains(&0) || name.len() > NAME_MAX {
        return Err(bad(path, "is a link to nothing"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(&name)))
}

fn attributes<R: Read>(entry: &Entry<'_, R>) -> Result<Attributes, ArchiveError> {
    let header = entry.header();
    let number = |read: io::Result<u64>| {
        let id = read.map_err(ArchiveError::Damaged)?;
        u32::try_from(id).map_err(|error| ArchiveError::Damaged(io::Error::other(error)))
    };
    Ok(Attributes {
        mode: Mode::from_raw_mode(header.mode().map_err(ArchiveError::Damaged)? & 0o7777),
        uid: number(header.uid())?,
        gid: number(header.gid())?,
        mtime: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0),
    })
}

/// Removes what an earlier entry put there; a folder stays, and what needs its place is refused by the system.
fn clear(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), ArchiveError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(cannot_write(path)(error.into())),
    }
}

fn make_folder(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), ArchiveError> {
    match mkdirat(parent, name, Mode::from(0o700)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let there = there.map_err(|error| cannot_write(path)(error.into()))?;
            if FileType::from_raw_mode(there.st_mode).is_dir() {
                return Ok(());
            }
            clear(parent, name, path)?;
            mkdirat(parent, name, Mode::from(0o700))
                .map_err(|error| cannot_write(path)(error.into()))
        }
        Err(error) => Err(cannot_write(path)(error.into())),
    }
}

fn owner(attributes: Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

fn times(attributes: Attributes) -> Timestamps {
    let time = Timespec { tv_sec: attributes.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn put_symlink(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    target: &Path,
    attributes: Attributes,
) -> io::Result<()> {
    symlinkat(target, parent, name)?;
    let (uid, gid) = owner(attributes);
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(parent, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn put_fifo(parent: BorrowedFd<'_>, name: &OsStr, attributes: Attributes) -> io::Result<()> {
    mknodat(parent, name, FileType::Fifo, attributes.mode, 0)?;
    let (uid, gid) = owner(attributes);
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn put_file<R: Read>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    entry: &mut Entry<'_, R>,
    attributes: Attributes,
    path: &Path,
) -> Result<u64, ArchiveError> {
    let failed = |error: rustix::io::Errno| cannot_write(path)(error.into());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::from(0o600)).map_err(failed)?;
    let mut file = File::from(file);
    let bytes = copy(entry, &mut file, path)?;
    set(&file, attributes).map_err(cannot_write(path))?;
    set_xattrs(entry, &file, path)?;
    Ok(bytes)
}

/// Copies a file's bytes. Which side failed says who is to blame.
fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<u64, ArchiveError> {
    use std::io::Write as _;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0_u64;
    loop {
        let read = from.read(&mut buffer).map_err(ArchiveError::Damaged)?;
        if read == 0 {
            return Ok(bytes);
        }
        let piece = buffer.get(..read).unwrap_or_default();
        to.write_all(piece).map_err(cannot_write(path))?;
        bytes = bytes.saturating_add(read as u64);
    }
}

/// Owner first: a change of owner takes the bits away that run a file as somebody else.
fn set(file: &File, attributes: Attributes) -> io::Result<()> {
    let (uid, gid) = owner(attributes);
    fchown(file, uid, gid)?;
    fchmod(file, attributes.mode)?;
    futimens(file, &times(attributes))?;
    Ok(())
}

/// Extended attributes; those that the file system cannot keep are left out, capabilities of files among them.
fn set_xattrs<R: Read>(
    entry: &mut Entry<'_, R>,
    file: &File,
    path: &Path,
) -> Result<(), ArchiveError> {
    let Some(extensions) = entry.pax_extensions().map_err(ArchiveError::Damaged)? else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension.map_err(ArchiveError::Damaged)?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR)) else {
            continue;
        };
        if !(name.starts_with("user.") || name == "security.capability") {
            continue;
        }
        match fsetxattr(file, name, extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => (),
            Err(error) => return Err(cannot_write(path)(error.into())),
        }
    }
    Ok(())
}
