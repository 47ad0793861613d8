//! The users and groups of a tree's files become those of a grain on this machine. Every name is opened below the tree's root
//! and through no link. May be broken off anywhere: what is done is known by its owner, and what a change of owner takes away
//! (bits and capabilities that lend rights) is noted before the first one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod, fchown,
    fgetxattr, fsetxattr, open, openat2, statat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::keepers::io_cause;
use crate::runtime::{IdRange, RuntimeCause};

/// Beside the tree: it is shifted, and to where.
const MARKER: &str = ".scrap-ids";
/// Beside the tree while it is being shifted: what is to be given back.
const NOTES: &str = ".scrap-ids.notes";
/// The tree in a grain's data.
const TREE: &str = "rootfs";
const CAPABILITY: &str = "security.capability";
/// Of the folder of a grain's data, whose group is that of the grain's root: it may pass through, and see no name.
const PASSABLE: u32 = 0o710;
/// Bits that lend rights.
const LENDING: u32 = 0o6000;
/// Capabilities with and without a root of their own.
const CAPS_PLAIN: (u32, usize) = (0x0200_0000, 20);
const CAPS_ROOTED: (u32, usize) = (0x0300_0000, 24);
const CAPS_KIND: u32 = 0xff00_0000;

/// What a file had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    path: Vec<u8>,
    mode: u32,
    capability: Option<Vec<u8>>,
}

/// Why a tree is not shifted.
#[derive(Debug)]
enum Trouble {
    Io {
        path: PathBuf,
        source: io::Error,
    },
    /// Somebody else owns it, whoever that is.
    Foreign {
        path: PathBuf,
        id: u32,
    },
}

type Done<T> = Result<T, Trouble>;

fn at(path: &Path) -> impl FnOnce(Errno) -> Trouble {
    let path = path.to_owned();
    move |errno| Trouble::Io { path, source: errno.into() }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Trouble {
    let path = path.to_owned();
    move |source| Trouble::Io { path, source }
}

/// What an id becomes. `None`: it is neither of the tree as it was made, nor of the grain.
fn shifted(id: u32, ids: IdRange) -> Option<u32> {
    if ids.contains(id) {
        Some(id)
    } else if id < ids.count {
        ids.base.checked_add(id)
    } else {
        None
    }
}

/// The capabilities of a file as the grain's root would have given them.
fn rooted(capability: &[u8], ids: IdRange) -> Option<Vec<u8>> {
    let kind = u32::from_le_bytes(capability.get(..4)?.try_into().ok()?);
    let (bare, body) = (kind & !CAPS_KIND, capability.get(4..20)?);
    let root = match (kind & CAPS_KIND, capability.len()) {
        CAPS_PLAIN => 0,
        CAPS_ROOTED => u32::from_le_bytes(capability.get(20..24)?.try_into().ok()?),
        _ => return None,
    };
    let mut new = (CAPS_ROOTED.0 | bare).to_le_bytes().to_vec();
    new.extend_from_slice(body);
    new.extend_from_slice(&shifted(root, ids)?.to_le_bytes());
    Some(new)
}

struct Tree {
    root: OwnedFd,
    ids: IdRange,
}

impl Tree {
    fn open(data: &Path, ids: IdRange) -> Done<Self> {
        let path = data.join(TREE);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = open(&path, flags, Mode::empty()).map_err(at(&path))?;
        Ok(Self { root, ids })
    }

    fn open_below(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.root, path, flags, Mode::empty(), below)
    }

    /// Visits every entry, a folder after all that is in it, the root last. Never holds more than one folder open.
    fn walk(&self, visit: &mut dyn FnMut(&OwnedFd, &Path, &Path, &Stat) -> Done<()>) -> Done<()> {
        let mut todo = vec![(PathBuf::new(), false)];
        while let Some((path, listed)) = todo.pop() {
            if listed {
                let folder = path.parent().unwrap_or(Path::new(""));
                let (folder, name) = match path.file_name() {
                    Some(name) => (folder, Path::new(name)),
                    None => (Path::new(""), Path::new("")),
                };
                let parent = self.open_below(folder, OFlags::PATH).map_err(at(&path))?;
                let stat = if name.as_os_str().is_empty() {
                    rustix::fs::fstat(&parent)
                } else {
                    statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
                };
                visit(&parent, &path, name, &stat.map_err(at(&path))?)?;
                continue;
            }
            todo.push((path.clone(), true));
            let opened = self.open_below(&path, OFlags::RDONLY | OFlags::DIRECTORY);
            let folder = opened.map_err(at(&path))?;
            let entries = Dir::read_from(&folder).map_err(at(&path))?;
            for entry in entries {
                let entry = entry.map_err(at(&path))?;
                let name = Path::new(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()));
                if name == Path::new(".") || name == Path::new("..") {
                    continue;
                }
                let whole = path.join(name);
                let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at(&whole))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    todo.push((whole, false));
                } else {
                    visit(&folder, &whole, name, &stat)?;
                }
            }
        }
        Ok(())
    }

    fn owner(&self, path: &Path, stat: &Stat) -> Done<(u32, u32)> {
        let foreign = |id| Trouble::Foreign { path: path.to_owned(), id };
        let user = shifted(stat.st_uid, self.ids).ok_or_else(|| foreign(stat.st_uid))?;
        let group = shifted(stat.st_gid, self.ids).ok_or_else(|| foreign(stat.st_gid))?;
        Ok((user, group))
    }

    /// What has to be given back later. Refuses a tree of which anything belongs to an id that is not `known`.
    fn take_notes(&self, known: impl Fn(u32) -> bool) -> Done<Vec<Note>> {
        let mut notes = Vec::new();
        self.walk(&mut |folder, path, name, stat| {
            if let Some(id) = [stat.st_uid, stat.st_gid].into_iter().find(|id| !known(*id)) {
                return Err(Trouble::Foreign { path: path.to_owned(), id });
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(());
            }
            let capability = match stat.st_mode & 0o111 {
                0 => None,
                _ => capability(folder, name).map_err(at(path))?,
            };
            if stat.st_mode & LENDING != 0 || capability.is_some() {
                let (path, mode) = (path.as_os_str().as_bytes().to_vec(), stat.st_mode & 0o7777);
                notes.push(Note { path, mode, capability });
            }
            Ok(())
        })?;
        Ok(notes)
    }

    fn change_owners(&self) -> Done<()> {
        self.walk(&mut |folder, path, name, stat| {
            let (user, group) = self.owner(path, stat)?;
            if (user, group) == (stat.st_uid, stat.st_gid) {
                return Ok(());
            }
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
            chownat(folder, name, Some(user), Some(group), flags).map_err(at(path))
        })
    }

    fn give_back(&self, notes: &[Note]) -> Done<()> {
        for note in notes {
            let path = Path::new(std::ffi::OsStr::from_bytes(&note.path));
            let file =
                self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(at(path))?;
            fchmod(&file, Mode::from_raw_mode(note.mode)).map_err(at(path))?;
            if let Some(new) = note.capability.as_ref().and_then(|old| rooted(old, self.ids)) {
                fsetxattr(&file, CAPABILITY, &new, rustix::fs::XattrFlags::empty())
                    .map_err(at(path))?;
            }
        }
        Ok(())
    }
}

/// The capabilities of a file. `None`: it has none, or its file system knows none.
fn capability(folder: &OwnedFd, name: &Path) -> rustix::io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mut buffer = [0_u8; 64];
    match fgetxattr(&file, CAPABILITY, &mut buffer) {
        Ok(length) => Ok(buffer.get(..length).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets the grain's root through the folder of its data, and nobody else of this machine: what lends rights in there, such as
/// a setuid file that the grain made, lends them to whoever can reach it.
fn admit(data: &Path, ids: IdRange) -> Done<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(data, flags, Mode::empty()).map_err(at(data))?;
    let stat = rustix::fs::fstat(&folder).map_err(at(data))?;
    if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (0, ids.base, PASSABLE) {
        return Ok(());
    }
    // Closed first: whoever was its group gets nothing by being it a moment longer.
    fchmod(&folder, Mode::RWXU).map_err(at(data))?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(ids.base));
    fchown(&folder, Some(user), Some(group)).map_err(at(data))?;
    fchmod(&folder, Mode::from_raw_mode(PASSABLE)).map_err(at(data))
}

/// Writes a file as a whole, onto stable storage.
fn write(path: &Path, text: &[u8]) -> Done<()> {
    let temporary = path.with_extension("new");
    let wrote = File::create(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    });
    wrote.map_err(io_at(path))
}

fn write_as_json(path: &Path, what: &impl Serialize) -> Done<()> {
    let text = serde_json::to_vec(what).map_err(|error| io_at(path)(error.into()))?;
    write(path, &text)
}

fn read(path: &Path) -> Done<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(path)(error)),
    }
}

/// The ids that a tree was shifted to.
fn marked(data: &Path) -> Done<Option<IdRange>> {
    let path = data.join(MARKER);
    let Some(text) = read(&path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| io_at(&path)(error.into()))
}

fn work(data: &Path, ids: IdRange) -> Done<()> {
    let tree = Tree::open(data, ids)?;
    let notes_path = data.join(NOTES);
    let notes = match read(&notes_path)? {
        // Of its template, or it was broken off: what is shifted already has lost what is noted here.
        Some(text) => {
            serde_json::from_slice(&text).map_err(|error| io_at(&notes_path)(error.into()))?
        }
        None => {
            let notes = tree.take_notes(|id| shifted(id, ids).is_some())?;
            write_as_json(&notes_path, &notes)?;
            notes
        }
    };
    tree.change_owners()?;
    tree.give_back(&notes)?;
    rustix::fs::syncfs(&tree.root).map_err(at(data))?;
    // From now on its root may come through.
    admit(data, ids)?;
    let marker = data.join(MARKER);
    write_as_json(&marker, &ids)?;
    fs::remove_file(&notes_path).map_err(io_at(&notes_path))
}

/// Notes beside the tree of a template what each of its clones has to give back, so that no clone has to look for it.
///
/// # Errors
/// A file belongs to a user that no grain has, or the system refuses.
pub(super) fn note(data: &Path, count: u32) -> Result<(), RuntimeCause> {
    let noted = Tree::open(data, IdRange { base: 0, count })
        .and_then(|tree| write_as_json(&data.join(NOTES), &tree.take_notes(|id| id < count)?));
    noted.map_err(|trouble| match trouble {
        Trouble::Foreign { path, id } => RuntimeCause::NotReady {
            what: format!("{} belongs to user or group {id}", path.display()),
            hint: format!("grains have users and groups below {count}"),
        },
        trouble @ Trouble::Io { .. } => cause(data, trouble),
    })
}

fn cause(data: &Path, trouble: Trouble) -> RuntimeCause {
    match trouble {
        Trouble::Io { path, source } => {
            let path = data.join(TREE).join(path);
            io_cause(format!("cannot change the owners of {}", path.display()), source)
        }
        Trouble::Foreign { path, id } => RuntimeCause::NotReady {
            what: format!(
                "{} belongs to {id}, which is neither of a fresh system nor of this grain",
                data.join(TREE).join(path).display()
            ),
            hint: "nothing was started; create the grain from a template that is owned by root"
                .to_owned(),
        },
    }
}

fn other_ids(data: &Path, held: IdRange, ids: IdRange) -> RuntimeCause {
    RuntimeCause::NotReady {
        what: format!(
            "the users of {} are {} from {} on, and {} from {} on were wanted",
            data.display(),
            held.count,
            held.base,
            ids.count,
            ids.base
        ),
        hint: "a grain keeps its users for life; nothing was changed".to_owned(),
    }
}

/// Closes the folder of a tree that is shifted, however it was made.
fn admitted(data: &Path, ids: IdRange) -> Result<(), RuntimeCause> {
    admit(data, ids).map_err(|trouble| match trouble {
        Trouble::Io { path, source } => {
            io_cause(format!("cannot close {} to others", path.display()), source)
        }
        trouble @ Trouble::Foreign { .. } => cause(data, trouble),
    })
}

/// Shifts the tree in a grain's data.
///
/// # Errors
/// It is shifted to other ids, has files of somebody else, or the system refuses. May be tried again.
pub(super) fn shift(data: &Path, ids: IdRange) -> Result<(), RuntimeCause> {
    if ids.base < ids.count || ids.base.checked_add(ids.count).is_none() {
        return Err(RuntimeCause::NotReady {
            what: format!(
                "{} users from {} on cannot be told from those of a tree",
                ids.count, ids.base
            ),
            hint: "a range begins above its own length".to_owned(),
        });
    }
    match marked(data).map_err(|trouble| cause(data, trouble))? {
        Some(held) if held == ids => admitted(data, ids),
        Some(held) => Err(other_ids(data, held, ids)),
        None => work(data, ids).map_err(|trouble| cause(data, trouble)),
    }
}

/// Whether the tree is shifted to these ids. Then its folder is passable for its root alone.
pub(super) fn check(data: &Path, ids: IdRange) -> Result<(), RuntimeCause> {
    match marked(data).map_err(|trouble| cause(data, trouble))? {
        Some(held) if held == ids => admitted(data, ids),
        Some(held) => Err(other_ids(data, held, ids)),
        None => Err(RuntimeCause::NotReady {
            what: format!("the users of {} are not those of a grain yet", data.display()),
            hint: "prepare it first".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
