//! A grain's log: a few files of limited size, named by the offset of their first byte, of which the oldest goes when a
//! new one begins. Offsets count from the first byte ever written, so that a reader goes on over any rotation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::log::tail_begin;
use crate::runtime::LogChunk;

/// Bytes of one file.
const PART: u64 = 1 << 20;
/// Files that are kept: three to four MiB.
const PARTS: usize = 4;

fn part_path(folder: &Path, offset: u64) -> PathBuf {
    folder.join(format!("log.{offset:016x}"))
}

/// Offsets of the parts that are there, oldest first.
fn parts(folder: &Path) -> io::Result<Vec<u64>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let offset = name.to_str().and_then(|name| name.strip_prefix("log."));
        parts.extend(offset.and_then(|offset| u64::from_str_radix(offset, 16).ok()));
    }
    parts.sort_unstable();
    Ok(parts)
}

/// The writing end.
pub(crate) struct LogWriter {
    folder: PathBuf,
    file: File,
    begins: u64,
    length: u64,
}

impl LogWriter {
    /// Goes on where the last writer ended.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let begins = parts(folder)?.pop().unwrap_or(0);
        let file = Self::append(&part_path(folder, begins))?;
        let length = file.metadata()?.len();
        Ok(Self { folder: folder.to_owned(), file, begins, length })
    }

    fn append(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    }

    /// Adds bytes, and drops the oldest ones that are too many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= PART {
            let begins = self.begins.saturating_add(self.length);
            self.file = Self::append(&part_path(&self.folder, begins))?;
            (self.begins, self.length) = (begins, 0);
            let parts = parts(&self.folder)?;
            let old = parts.len().saturating_sub(PARTS);
            for offset in parts.into_iter().take(old) {
                fs::remove_file(part_path(&self.folder, offset))?;
            }
        }
        self.file.write_all(bytes)?;
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// Reads a piece; see [`crate::runtime::Runtime::logs`].
pub(crate) fn read(
    folder: &Path,
    from: u64,
    tail: Option<u32>,
    limit: usize,
) -> io::Result<LogChunk> {
    let parts = parts(folder)?;
    let first = parts.first().copied().unwrap_or(0);
    let from = match tail {
        None => from.max(first),
        Some(lines) => {
            let all = read_from(folder, &parts, first, usize::MAX)?;
            first.saturating_add(tail_begin(&all, lines) as u64)
        }
    };
    let end = match parts.last() {
        Some(last) => last.saturating_add(fs::metadata(part_path(folder, *last))?.len()),
        None => 0,
    };
    let from = from.min(end);
    let text = read_from(folder, &parts, from, limit)?;
    let next = from.saturating_add(text.len() as u64);
    Ok(LogChunk { text, next })
}

fn read_from(folder: &Path, parts: &[u64], from: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut at = from;
    for (number, begins) in parts.iter().enumerate() {
        let ends = parts.get(number + 1).copied().unwrap_or(u64::MAX);
        if ends <= at {
            continue;
        }
        let file = match File::open(part_path(folder, *begins)) {
            Ok(file) => file,
            // Rotated away meanwhile: the reader goes on with what is kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len().min(ends - begins);
        let skip = at.saturating_sub(*begins).min(length);
        let room = limit.saturating_sub(text.len());
        let take = usize::try_from(length - skip).unwrap_or(usize::MAX).min(room);
        let mut piece = vec![0; take];
        file.read_exact_at(&mut piece, skip)?;
        text.append(&mut piece);
        at = begins.saturating_add(length);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_follows_over_every_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(folder.path()).unwrap();
        let (mut all, mut read_back, mut next) = (Vec::new(), Vec::new(), 0);
        for number in 0..200 {
            let line = format!("{number} {}\n", "x".repeat(40_000));
            writer.write(line.as_bytes()).unwrap();
            all.extend_from_slice(line.as_bytes());
            if number % 7 == 0 {
                writer = LogWriter::open(folder.path()).unwrap();
            }
            let chunk = read(folder.path(), next, None, 1 << 20).unwrap();
            read_back.extend_from_slice(&chunk.text);
            next = chunk.next;
        }
        assert_eq!(read_back.len(), all.len());
        assert!(read_back == all);
        assert_eq!(next, all.len() as u64);
        let oldest = read(folder.path(), 0, None, 10).unwrap();
        assert!(oldest.next > 10, "the beginning is gone");
        let kept = read(folder.path(), 0, None, usize::MAX).unwrap();
        assert!((3 << 20..5 << 20).contains(&kept.text.len()), "{}", kept.text.len());
        assert!(all.ends_with(&kept.text));
    }

    #[test]
    fn tail_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), 7, None, 10).unwrap(), LogChunk { text: vec![], next: 0 });
        let mut writer = LogWriter::open(folder.path()).unwrap();
        writer.write(b"one\ntwo\nthree\n").unwrap();
        let tail = read(folder.path(), 0, Some(2), 100).unwrap();
        assert_eq!((tail.text.as_slice(), tail.next), (&b"two\nthree\n"[..], 14));
        let rest = read(folder.path(), 14, None, 100).unwrap();
        assert_eq!((rest.text.as_slice(), rest.next), (&b""[..], 14));
        let beyond = read(folder.path(), 99, None, 100).unwrap();
        assert_eq!(beyond.next, 14);
    }
}
