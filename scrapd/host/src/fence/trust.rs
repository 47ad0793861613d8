//! Whether a file is what root put there: owned by root, or by the user of this daemon, and writable by nobody else, as is every
//! folder on the way to it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::FenceError;

const OTHERS_WRITE: u32 = 0o022;
const OTHERS_AT_ALL: u32 = 0o077;
const EXECUTE: u32 = 0o100;
const STICKY: u32 = 0o1000;
/// Largest file of settings.
const SETTINGS_MAX: u64 = 64 << 10;

/// A program that may be started: where it really is.
pub(super) fn program(path: &Path) -> Result<PathBuf, FenceError> {
    let (real, found) = trusted(path)?;
    if found.mode() & EXECUTE == 0 {
        return Err(untrusted(path, "it is no program: it cannot be executed"));
    }
    Ok(real)
}

/// The text of a file that has secrets in it.
pub(super) fn settings(path: &Path) -> Result<String, FenceError> {
    let (real, found) = trusted(path)?;
    if found.mode() & OTHERS_AT_ALL != 0 {
        return Err(untrusted(path, "others may read the secrets in it"));
    }
    if found.len() > SETTINGS_MAX {
        return Err(untrusted(path, "it is too large"));
    }
    fs::read_to_string(&real).map_err(|source| io(path, source))
}

fn trusted(path: &Path) -> Result<(PathBuf, Metadata), FenceError> {
    if !path.is_absolute() {
        return Err(untrusted(path, "its path is not absolute"));
    }
    let real = fs::canonicalize(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FenceError::Missing { path: path.to_owned() },
        _ => io(path, source),
    })?;
    let found = fs::metadata(&real).map_err(|source| io(path, source))?;
    if !found.is_file() {
        return Err(untrusted(path, "it is no file"));
    }
    // A link can be put in the place of the file by whoever may write to its folder, too.
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    for place in real.ancestors().chain(folder.as_deref().into_iter().flat_map(Path::ancestors)) {
        let found = fs::metadata(place).map_err(|source| io(place, source))?;
        if let Some(why) = stranger(&found) {
            return Err(untrusted(place, why));
        }
    }
    Ok((real, found))
}

/// Why somebody else may have written this.
fn stranger(found: &Metadata) -> Option<&'static str> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != me {
        return Some("it belongs to somebody else");
    }
    // In a folder such as /tmp everybody adds, and nobody changes what is another's.
    let sticky = found.is_dir() && found.mode() & STICKY != 0;
    (found.mode() & OTHERS_WRITE != 0 && !sticky).then_some("others may write to it")
}

fn untrusted(path: &Path, why: &str) -> FenceError {
    FenceError::Untrusted { path: path.to_owned(), why: why.to_owned() }
}

fn io(path: &Path, source: std::io::Error) -> FenceError {
    FenceError::Io { what: format!("read `{}`", path.display()), source }
}
