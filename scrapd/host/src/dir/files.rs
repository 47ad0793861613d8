//! Files and folders as the other modules want them: every change is either wholly there after a crash or not at all,
//! and every error names its path. Knows nothing of datasets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use scrap_schema::unit::Bytes;

use crate::datasets::{Cause, Space};

/// Work inside this backend: its caller adds the dataset.
pub(super) type Result<T> = std::result::Result<T, Cause>;

/// What the system said, with the thing that it was said about. A full disk or quota is its own cause.
pub(super) fn refused(what: impl Into<String>, error: impl Into<io::Error>) -> Cause {
    let source = error.into();
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    if source.raw_os_error().is_some_and(|code| full.contains(&code)) {
        return Cause::NoSpace;
    }
    Cause::Io { what: what.into(), source }
}

/// As [`refused`], for `map_err` with a path.
pub(super) fn at<E: Into<io::Error>>(call: &str, path: &Path) -> impl FnOnce(E) -> Cause {
    move |error| refused(format!("cannot {call} {}", path.display()), error)
}

/// Something on disk is not what was written there.
pub(super) fn damaged(path: &Path, why: &str) -> Cause {
    let what = format!("{} is damaged: {why}", path.display());
    Cause::Io { what, source: io::ErrorKind::InvalidData.into() }
}

/// 64 random bits from the system.
pub(super) fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| refused("the system gives no random numbers", error))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Makes a folder, with everything above it, that others may pass through but not list.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at("create", path))
}

/// A new file that only this user may read.
pub(super) fn create_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(at("create", path))
}

/// A file that is being written beside its place. Removed with this value unless it was put there: half a file on a full
/// disk would only keep it full.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    /// Opens it, empty.
    pub(super) fn create(path: PathBuf) -> Result<(Self, File)> {
        let file = create_file(&path)?;
        Ok((Self { path, placed: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames it to its place and makes that stable.
    pub(super) fn place(mut self, to: &Path) -> Result<()> {
        rename(&self.path, to)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is swept when the pool is opened.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Size of the file system of a path, and what is free for this user.
pub(super) fn space(path: &Path) -> Result<Space> {
    let stat = rustix::fs::statvfs(path).map_err(at("measure", path))?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
    Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

/// Puts the names in a folder on stable storage.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at("sync", path))
}

/// The folder of a path that has one.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Replaces a file: after a crash it has the old contents or the new ones. Stable when this returns.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let (temporary, mut file) = Temporary::create(path.with_extension("tmp"))?;
    file.write_all(contents).map_err(at("write", temporary.path()))?;
    file.sync_all().map_err(at("sync", temporary.path()))?;
    temporary.place(path)
}

/// Renames and makes both names stable.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(at("rename", from))?;
    sync_dir(parent(to))?;
    if parent(from) == parent(to) { Ok(()) } else { sync_dir(parent(from)) }
}

/// Names in a folder, sorted. A folder that is not there is empty.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at("list", path))?;
        // Everything that this backend makes has a plain name; what has not is not ours.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a file; a missing one is fine.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a folder with all that is in it; a missing one is fine. Never follows a link out of it.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A grain may have taken its own folders' write bits away.
            open_up(path);
            fs::remove_dir_all(path).map_err(at("remove", path))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lets this user change all folders below. What cannot be opened shows itself at the removal.
fn open_up(path: &Path) {
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        // `file_type` does not follow links.
        let dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        todo.extend(dirs.map(|entry| entry.path()));
    }
}

/// A folder for unfinished work: removed with it, unless it was renamed to where it belongs.
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    /// A new, empty folder below `tmp`.
    pub(super) fn new(tmp: &Path, purpose: &str) -> Result<Self> {
        let path = tmp.join(format!("{purpose}-{:016x}", random()?));
        make_dir(&path, 0o711)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(cause) = remove_tree(&self.path) {
            // The next start sweeps it.
            tracing::warn!(path = %self.path.display(), %cause, "unfinished work is left behind");
        }
    }
}

/// Makes two folders change places. On Linux at one stroke; elsewhere the first start after a crash in between finds no
/// folder at `to`.
pub(super) fn exchange(from: &Path, to: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).map_err(at("rename", from))?;
    }
    #[cfg(not(target_os = "linux"))]
    {
        let aside = from.with_extension("old");
        fs::rename(to, &aside).map_err(at("rename", to))?;
        fs::rename(from, to).map_err(at("rename", from))?;
    }
    sync_dir(parent(to))?;
    sync_dir(parent(from))
}
