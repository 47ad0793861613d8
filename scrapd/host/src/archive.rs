//! Unpacking an archive that a person gave into an empty tree: the base system of grains.
//!
//! The archive is a stranger's: nothing in it may touch anything outside the tree, and it may not fill the machine. Every
//! name is walked from the tree's own descriptor, part by part, and no part may be a symbolic link. Devices are left out,
//! because a grain gets its own; owners, modes, times, links and extended attributes are kept. Never starts a program.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use scrap_schema::unit::Bytes;
use thiserror::Error;

mod open;
mod place;
mod system;

pub use open::plain;
pub use system::architecture;

/// What an archive may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: Bytes,
    /// Files, folders and links together.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: Bytes(64 << 30), entries: 4_000_000 }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all files together.
    pub bytes: Bytes,
    /// Files, folders and links together.
    pub entries: u64,
    /// Devices that were left out.
    pub devices: u64,
}

/// Why an archive cannot be unpacked.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It is no archive, or it is damaged or ends too early.
    #[error("the archive cannot be read")]
    Damaged(#[source] io::Error),
    /// It has nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// A name in it leaves the tree or goes through a link.
    #[error("`{path}` in the archive {why}")]
    BadEntry {
        /// As the archive calls it, made safe for a terminal.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It holds more than it may.
    #[error("the archive holds more than {0}")]
    TooLarge(Bytes),
    /// It holds more than it may.
    #[error("the archive holds more than {0} files")]
    TooMany(u64),
    /// The file system refused.
    #[error("cannot write `{path}`")]
    Write {
        /// As the archive calls it, made safe for a terminal.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    /// Whether the archive is to blame, and not this machine.
    #[must_use]
    pub fn is_of_the_archive(&self) -> bool {
        match self {
            Self::Damaged(_)
            | Self::Empty
            | Self::BadEntry { .. }
            | Self::TooLarge(_)
            | Self::TooMany(_) => true,
            Self::Write { .. } => false,
        }
    }
}

/// Most that is read between two entries: long names, attributes, maps of holes.
const HEADERS_MAX: u64 = 8 << 20;

/// Unpacks a tar stream into `tree`, an existing folder that nobody else writes to. Blocks: call it on a thread of its own.
///
/// # Errors
/// What is wrong with the archive, or what the file system refuses. What was unpacked until then stays: the caller removes it.
pub fn unpack(input: impl Read, tree: &Path, limits: Limits) -> Result<Unpacked, ArchiveError> {
    let allowed = Cell::new(0);
    let mut archive = tar::Archive::new(Sparing { input, allowed: &allowed });
    let mut place = place::Place::open(tree)?;
    let mut unpacked = Unpacked::default();
    let mut entries = archive.entries().map_err(ArchiveError::Damaged)?;
    loop {
        // Long names and attributes come in headers that are read as a whole.
        allowed.set(HEADERS_MAX);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(ArchiveError::Damaged)?;
        allowed.set(u64::MAX);
        unpacked.entries = unpacked.entries.saturating_add(1);
        if unpacked.entries > limits.entries {
            return Err(ArchiveError::TooMany(limits.entries));
        }
        let left = limits.bytes.0.saturating_sub(unpacked.bytes.0);
        if entry.size() > left {
            return Err(ArchiveError::TooLarge(limits.bytes));
        }
        match place.put(&mut entry)? {
            place::Put::Bytes(bytes) => {
                unpacked.bytes = Bytes(unpacked.bytes.0.saturating_add(bytes));
            }
            place::Put::LeftOut => unpacked.devices = unpacked.devices.saturating_add(1),
        }
        // What nobody wanted of it belongs to no header.
        io::copy(&mut entry, &mut io::sink()).map_err(ArchiveError::Damaged)?;
    }
    if unpacked.entries == 0 {
        return Err(ArchiveError::Empty);
    }
    place.finish()?;
    Ok(unpacked)
}

/// Ends when more is read than is allowed now.
struct Sparing<'a, R> {
    input: R,
    allowed: &'a Cell<u64>,
}

impl<R: Read> Read for Sparing<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let allowed = self.allowed.get();
        if allowed == 0 && !into.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a header is too large"));
        }
        let most = usize::try_from(allowed).unwrap_or(usize::MAX).min(into.len());
        let read = self.input.read(into.get_mut(..most).unwrap_or_default())?;
        self.allowed.set(allowed.saturating_sub(read as u64));
        Ok(read)
    }
}

/// A name of an archive for people: no control characters, not too long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().count() > 120 {
        shown.push('…');
    }
    shown
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> ArchiveError {
    let path: PathBuf = path.to_owned();
    move |source| ArchiveError::Write { path: shown(&path), source }
}

#[cfg(test)]
mod tests;
