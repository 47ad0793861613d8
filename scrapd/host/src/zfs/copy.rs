//! Making a head equal to a snapshot, file by file: ZFS can only go back by throwing snapshots away, and none may vanish.
//! What is untouched since is left alone, so the cost follows what changed. Broken off, it is begun again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, linkat, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use scrap_schema::snapshot::Guid;

use super::role::state;
use super::walk::{Horizon, Rel, Tree, kind, untouched};
use super::{Inner, Result, at, blocking};
use crate::datasets::{Cause, DatasetId, Role};

impl Inner {
    /// See `Datasets::restore`.
    pub(super) async fn restore(&self, id: DatasetId, guid: Guid) -> Result<()> {
        let found = self.must(id).await?;
        match found.role()? {
            Role::Owner => (),
            is @ (Role::Standby | Role::Orphan | Role::Template) => {
                return Err(Cause::WrongRole { is });
            }
        }
        let horizon = Horizon::of(found.snap(guid)?.taken);
        self.open_head(&found).await?;
        let shown = self.view(id, Some(guid)).await?;
        let head = self.names.mountpoint(id);
        let restored = blocking(move || make_equal(&shown, &head, horizon)).await;
        let (view, _) = self.names.view(id, &guid.to_string());
        self.end_view(&view).await?;
        restored?;
        let found = self.must(id).await?;
        self.flush(&found).await?;
        // Any change of a property brings everything that was written before to the pool.
        self.set(&found.name, &state(Role::Owner, found.epoch())).await
    }
}

/// Makes the tree at `head` what is at `shown`.
fn make_equal(shown: &Path, head: &Path, horizon: Horizon) -> Result<()> {
    let (mut from, mut to) = (Tree::open(shown)?, Tree::open(head)?);
    let (wanted, there) = (from.walk()?, to.walk()?);
    let kept = |path: &Rel, stat: &Stat| {
        wanted.get(path).is_some_and(|want| {
            let folder = kind(want) == FileType::Directory && kind(stat) == FileType::Directory;
            folder || untouched(want, stat, horizon)
        })
    };
    // From the leaves up: what is in a folder before the folder.
    for (path, stat) in there.iter().rev().filter(|(path, stat)| !kept(path, stat)) {
        let flags = match kind(stat) {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        to.let_go();
        let removed = to.within(path, |dir, name| unlinkat(dir, name, flags));
        removed.map_err(to.failed("remove", path))?;
    }
    let mut first: BTreeMap<u64, Rel> = BTreeMap::new();
    for (path, want) in &wanted {
        let is_kept = there.get(path).is_some_and(|stat| kept(path, stat));
        make(&mut from, &mut to, path, want, is_kept, &mut first)?;
    }
    // Folders last and from the leaves up: their times change with every name in them.
    for (path, want) in wanted.iter().rev().filter(|(_, want)| kind(want) == FileType::Directory) {
        let same = there.get(path).is_some_and(|stat| untouched(want, stat, horizon));
        to.let_go();
        let now =
            to.within(path, |dir, name| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        let now = now.map_err(to.failed("stat", path))?;
        if !same || !untouched(want, &now, horizon) {
            dress(&mut from, &mut to, path, want)?;
        }
    }
    Ok(())
}

/// Makes one path that is not there. Names of one file become names of one file again.
fn make(
    from: &mut Tree,
    to: &mut Tree,
    path: &Rel,
    want: &Stat,
    is_kept: bool,
    first: &mut BTreeMap<u64, Rel>,
) -> Result<()> {
    let many = kind(want) != FileType::Directory && want.st_nlink > 1;
    if is_kept {
        if many {
            first.entry(want.st_ino).or_insert_with(|| path.clone());
        }
        return Ok(());
    }
    if let Some(other) = first.get(&want.st_ino).filter(|_| many) {
        let (parent, name) = super::walk::split(other);
        let linked = to.dir(parent).and_then(|dir| {
            to.within(path, |into, new| linkat(&dir, name, into, new, AtFlags::empty()))
        });
        return linked.map_err(to.failed("link", path));
    }
    let mode = Mode::RUSR | Mode::WUSR;
    match kind(want) {
        FileType::Directory => {
            let made = to.within(path, |dir, name| mkdirat(dir, name, Mode::RWXU));
            return made.map_err(to.failed("create", path));
        }
        FileType::RegularFile => fill(from, to, path, want)?,
        FileType::Symlink => {
            let target = from.link(path)?;
            let made = to.within(path, |dir, name| symlinkat(target, dir, name));
            made.map_err(to.failed("create", path))?;
        }
        other => {
            #[allow(clippy::useless_conversion, reason = "the type differs by system")]
            let device = Dev::from(want.st_rdev);
            let made = to.within(path, |dir, name| mknodat(dir, name, other, mode, device));
            made.map_err(to.failed("create", path))?;
        }
    }
    if many {
        first.insert(want.st_ino, path.clone());
    }
    dress(from, to, path, want)
}

fn fill(from: &mut Tree, to: &mut Tree, path: &Rel, want: &Stat) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let made = to.within(path, |dir, name| openat(dir, name, flags, mode));
    let mut new = File::from(made.map_err(to.failed("create", path))?);
    let shown = Path::new("the head").join(String::from_utf8_lossy(path).as_ref());
    let (mut old, mut piece) = (from.file(path)?, Vec::new());
    loop {
        from.read_piece(path, &mut old, &mut piece)?;
        if piece.is_empty() {
            break;
        }
        if piece.iter().all(|byte| *byte == 0) {
            // Holes stay holes.
            let length = i64::try_from(piece.len()).unwrap_or(0);
            new.seek(SeekFrom::Current(length)).map_err(at("seek in", &shown))?;
        } else {
            new.write_all(&piece).map_err(at("write", &shown))?;
        }
    }
    new.set_len(u64::try_from(want.st_size).unwrap_or(0)).map_err(at("set the length of", &shown))
}

/// Owner, mode, attributes and times, in this order: a change of owner takes setuid bits and capabilities away.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
fn dress(from: &mut Tree, to: &mut Tree, path: &Rel, want: &Stat) -> Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let attributes = attributes(from, path)?;
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(want.st_atime, want.st_atime_nsec as i64),
        last_modification: time(want.st_mtime, want.st_mtime_nsec as i64),
    };
    let dressed = to.within(path, |dir, name| {
        chownat(
            dir,
            name,
            Some(Uid::from_raw(want.st_uid)),
            Some(Gid::from_raw(want.st_gid)),
            nofollow,
        )?;
        if kind(want) != FileType::Symlink {
            // Made by us in a tree that nothing runs on: it is no link.
            chmodat(dir, name, Mode::from_raw_mode(want.st_mode), AtFlags::empty())?;
        }
        set_attributes(dir, name, &attributes)?;
        utimensat(dir, name, &times, nofollow)
    });
    dressed.map_err(to.failed("set the attributes of", path))
}

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// A path through an open folder: there are no calls for attributes that take one. The last part is not followed.
fn through(dir: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend(name);
    path
}

fn list_attributes(path: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        // A file system without attributes has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(error) => return Err(error),
    };
    names.truncate(length);
    let parts = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(parts.map(<[u8]>::to_vec).collect())
}

fn attributes(from: &mut Tree, path: &Rel) -> Result<Attributes> {
    let read = from.within(path, |dir, name| {
        let path = through(dir, name);
        let mut all = Attributes::new();
        for attribute in list_attributes(&path)? {
            let mut value = vec![0; 64 << 10];
            let length =
                rustix::fs::lgetxattr(path.as_slice(), attribute.as_slice(), value.as_mut_slice())?;
            value.truncate(length);
            all.insert(attribute, value);
        }
        Ok(all)
    });
    read.map_err(from.failed("read the attributes of", path))
}

fn set_attributes(dir: &OwnedFd, name: &[u8], wanted: &Attributes) -> rustix::io::Result<()> {
    let path = through(dir, name);
    for attribute in list_attributes(&path)? {
        if !wanted.contains_key(&attribute) {
            rustix::fs::lremovexattr(path.as_slice(), attribute.as_slice())?;
        }
    }
    for (attribute, value) in wanted {
        let flags = XattrFlags::empty();
        rustix::fs::lsetxattr(path.as_slice(), attribute.as_slice(), value, flags)?;
    }
    Ok(())
}
