//! The stream between two pools of this backend: a magic, then frames of a tag, a length and a payload: one header,
//! removed paths, entries, chunks, and an end with the hash of everything before. Knows no folders; believes nothing that
//! it has not checked.

use std::collections::{BTreeSet, HashMap};

use scrap_schema::snapshot::{Guid, Snapshot};
use serde::{Deserialize, Serialize};

use super::manifest::{CHUNK, Entry, Hash, Manifest, line, parse_line};
use super::path::RelPath;
use crate::datasets::Cause;

/// The first bytes of every stream; the number is the version.
pub(super) const MAGIC: &[u8; 10] = b"SCRAPDIR1\n";
/// A tag and a length.
const FRAME_HEAD: u64 = 5;
/// No payload is longer: a chunk, or one line (of a file of 2 TiB at most) with a batch before it.
const PAYLOAD_MAX: u32 = 256 << 20;
/// Lines are sent in batches of about this size.
const BATCH: usize = 512 << 10;
/// All lines of one stream together: a bound for the memory that a stranger may take.
const LINES_MAX: u64 = 1 << 30;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Header,
    Removed,
    Entries,
    Chunk,
    End,
}

impl Tag {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Header => b'H',
            Self::Removed => b'R',
            Self::Entries => b'E',
            Self::Chunk => b'C',
            Self::End => b'Z',
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Header, Self::Removed, Self::Entries, Self::Chunk, Self::End];
        all.into_iter().find(|tag| tag.byte() == byte)
    }

    /// Longest payload with this tag.
    pub(super) fn limit(self) -> u32 {
        match self {
            Self::Header | Self::End => 64 << 10,
            Self::Chunk => 1 << 20,
            Self::Removed | Self::Entries => PAYLOAD_MAX,
        }
    }
}

/// What a stream says about itself first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Where it begins; `None` for a full one.
    pub(super) from: Option<Guid>,
    pub(super) snapshot: Snapshot,
    /// BLAKE3 of the manifest that must come out.
    pub(super) manifest: Hash,
    /// Bytes of all chunks that follow.
    pub(super) bytes: u64,
}

/// A frame as it is written.
pub(super) fn frame(tag: Tag, payload: &[u8]) -> Result<Vec<u8>, Cause> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= tag.limit());
    let length =
        length.ok_or_else(|| bad(format!("a frame of {} bytes is too long", payload.len())))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(tag.byte());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// A stream that must not be believed.
pub(super) fn bad(why: impl Into<String>) -> Cause {
    Cause::BadStream(why.into())
}

fn text(result: serde_json::Result<String>) -> Result<String, Cause> {
    result.map_err(|error| bad(error.to_string()))
}

/// Everything of a stream but its chunks, and which these are.
pub(super) struct Plan {
    /// Header, removed paths and entries as frames.
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) chunks: Vec<(Hash, u64)>,
}

impl Plan {
    /// What must be sent so that `old` becomes `new`.
    pub(super) fn new(
        old: Option<&Manifest>,
        new: &Manifest,
        checksum: Hash,
    ) -> Result<Self, Cause> {
        let mut known = old.map(Manifest::chunks).unwrap_or_default();
        let mut chunks = Vec::new();
        for entry in new.entries.values() {
            // In the order of the paths, so that reading goes forward.
            collect_chunks(entry, &mut known, &mut chunks);
        }
        let header = Header {
            from: old.map(|old| old.snapshot.guid),
            snapshot: new.snapshot.clone(),
            manifest: checksum,
            bytes: chunks.iter().map(|(_, length)| *length).fold(0, u64::saturating_add),
        };
        let mut frames =
            vec![frame(Tag::Header, text(serde_json::to_string(&header))?.as_bytes())?];
        if let Some(old) = old {
            let removed = old.entries.keys().filter(|path| !new.entries.contains_key(*path));
            let lines = removed.map(|path| text(serde_json::to_string(path)).map(|t| t + "\n"));
            batches(Tag::Removed, lines, &mut frames)?;
        }
        let changed = new
            .entries
            .iter()
            .filter(|(path, entry)| old.and_then(|old| old.entries.get(*path)) != Some(entry));
        batches(Tag::Entries, changed.map(|(path, entry)| text(line(path, entry))), &mut frames)?;
        Ok(Self { frames, chunks })
    }

    /// Exact length of the stream in bytes.
    pub(super) fn length(&self) -> u64 {
        let frames: u64 = self.frames.iter().map(|frame| frame.len() as u64).sum();
        let chunks: u64 = self.chunks.iter().map(|(_, length)| length + FRAME_HEAD).sum();
        MAGIC.len() as u64 + frames + chunks + FRAME_HEAD + 32
    }
}

fn collect_chunks(entry: &Entry, known: &mut HashMap<Hash, u64>, out: &mut Vec<(Hash, u64)>) {
    use super::manifest::{Kind, chunk_length};
    if let Kind::File { size, chunks } = &entry.kind {
        for (number, hash) in chunks.iter().enumerate() {
            let length = chunk_length(*size, number);
            if known.insert(*hash, length).is_none() {
                out.push((*hash, length));
            }
        }
    }
}

fn batches(
    tag: Tag,
    lines: impl Iterator<Item = Result<String, Cause>>,
    frames: &mut Vec<Vec<u8>>,
) -> Result<(), Cause> {
    let mut batch = String::new();
    for line in lines {
        batch.push_str(&line?);
        if batch.len() >= BATCH {
            frames.push(frame(tag, batch.as_bytes())?);
            batch.clear();
        }
    }
    if !batch.is_empty() {
        frames.push(frame(tag, batch.as_bytes())?);
    }
    Ok(())
}

/// Puts a manifest together from a base and the lines of a stream.
pub(super) struct Assembly {
    header: Header,
    manifest: Manifest,
    lines: u64,
}

impl Assembly {
    /// Begins with the base, or with nothing.
    pub(super) fn new(header: Header, base: Option<Manifest>) -> Self {
        let entries = base.map(|base| base.entries).unwrap_or_default();
        let manifest = Manifest { snapshot: header.snapshot.clone(), entries };
        Self { header, manifest, lines: 0 }
    }

    fn lines<'a>(&mut self, payload: &'a [u8]) -> Result<std::str::Lines<'a>, Cause> {
        self.lines = self.lines.saturating_add(payload.len() as u64);
        if self.lines > LINES_MAX {
            return Err(bad("it has too many lines"));
        }
        let text = std::str::from_utf8(payload).map_err(|error| bad(error.to_string()))?;
        Ok(text.lines())
    }

    /// Takes paths out.
    pub(super) fn remove(&mut self, payload: &[u8]) -> Result<(), Cause> {
        for line in self.lines(payload)? {
            let path: RelPath =
                serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            self.manifest.entries.remove(&path);
        }
        Ok(())
    }

    /// Puts entries in.
    pub(super) fn add(&mut self, payload: &[u8]) -> Result<(), Cause> {
        for line in self.lines(payload)? {
            let (path, entry) = parse_line(line).map_err(bad)?;
            self.manifest.entries.insert(path, entry);
        }
        Ok(())
    }

    /// The manifest, if it is the one that was announced and every path in it stays inside.
    pub(super) fn finish(self) -> Result<Manifest, Cause> {
        self.manifest.check().map_err(bad)?;
        let bytes = self.manifest.encode().map_err(|error| bad(error.to_string()))?;
        if Hash::of(&bytes) != self.header.manifest {
            return Err(bad("the paths do not match their checksum"));
        }
        Ok(self.manifest)
    }
}

/// Which chunks must still come.
pub(super) struct Needed {
    missing: BTreeSet<Hash>,
    /// Bytes that may still come.
    left: u64,
}

impl Needed {
    /// The chunks of a manifest of which `have` knows no length.
    pub(super) fn new(
        manifest: &Manifest,
        header: &Header,
        have: impl Fn(&Hash) -> Option<u32>,
    ) -> Result<Self, Cause> {
        let mut missing = BTreeSet::new();
        for (hash, length) in manifest.chunks() {
            match have(&hash) {
                Some(here) if u64::from(here) == length => (),
                Some(_) => return Err(bad(format!("chunk {hash} has another length here"))),
                None => {
                    missing.insert(hash);
                }
            }
        }
        Ok(Self { missing, left: header.bytes })
    }

    /// Takes one chunk in. `None`: it is here already.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<Option<Hash>, Cause> {
        let length = chunk.len() as u64;
        self.left =
            self.left.checked_sub(length).ok_or_else(|| bad("it is longer than it said"))?;
        if length == 0 || length > CHUNK {
            return Err(bad("a chunk has an impossible length"));
        }
        let hash = Hash::of(chunk);
        Ok(self.missing.remove(&hash).then_some(hash))
    }

    /// That all are here.
    pub(super) fn finish(&self) -> Result<(), Cause> {
        match self.missing.len() {
            0 => Ok(()),
            missing => Err(bad(format!("{missing} chunks are missing or have other bytes"))),
        }
    }
}
