//! The manifest of a snapshot: every path with its type, mode, owner, time, size and chunks; the same bytes on every
//! node, so that one checksum proves a copy. Knows neither where chunks lie nor what a head looks like now.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use scrap_schema::snapshot::Snapshot;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::path::{self, RelPath};

/// Files are cut in pieces of this many bytes.
pub(super) const CHUNK: u64 = 1 << 20;
/// What one line takes beside its path and chunks, at most.
const LINE_MAX: u64 = 256;
/// What one chunk takes in a line.
const HASH_TEXT: u64 = 67;

/// BLAKE3 of a chunk or manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl Hash {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(text).map_err(de::Error::custom)?;
        Ok(Self(*hash.as_bytes()))
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Kind {
    /// A folder.
    Dir,
    /// A file: its pieces in order, all of [`CHUNK`] bytes but the last.
    File { size: u64, chunks: Vec<Hash> },
    /// A symbolic link, escaped as paths are. It may point anywhere; nobody here follows it.
    Symlink { target: String },
    /// One more name of the file at another path, which sorts before this one.
    HardLink { to: RelPath },
}

/// One path of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The permission bits, with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Nanoseconds since 1970.
    pub(super) mtime: i64,
    pub(super) kind: Kind,
}

/// One line of the file and of the stream.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: RelPath,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    scrap_manifest: u32,
    snapshot: Snapshot,
}

/// All paths of a snapshot. A parent comes before its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) snapshot: Snapshot,
    pub(super) entries: BTreeMap<RelPath, Entry>,
}

/// Length of the piece with this number of a file of this size.
pub(super) fn chunk_length(size: u64, number: usize) -> u64 {
    size.saturating_sub(CHUNK.saturating_mul(number as u64)).min(CHUNK)
}

/// The line of one entry, with its newline.
pub(super) fn line(path: &RelPath, entry: &Entry) -> Result<String, serde_json::Error> {
    let Entry { mode, uid, gid, mtime, kind } = entry.clone();
    let mut text =
        serde_json::to_string(&Line { path: path.clone(), mode, uid, gid, mtime, kind })?;
    text.push('\n');
    Ok(text)
}

/// Reads one line back.
pub(super) fn parse_line(text: &str) -> Result<(RelPath, Entry), String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Line { path, mode, uid, gid, mtime, kind } = line;
    Ok((path, Entry { mode, uid, gid, mtime, kind }))
}

/// Upper bound of what a stream carries for a path whose file has this size.
pub(super) fn line_bound(path: &RelPath, size: u64, target: u64) -> u64 {
    path.text_length() + LINE_MAX + target * 3 + size.div_ceil(CHUNK) * HASH_TEXT
}

impl Manifest {
    /// Its bytes: a header line, then a line per path.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let header = Header { scrap_manifest: 1, snapshot: self.snapshot.clone() };
        let mut text = serde_json::to_string(&header)?;
        text.push('\n');
        for (path, entry) in &self.entries {
            text.push_str(&line(path, entry)?);
        }
        Ok(text.into_bytes())
    }

    /// Reads and checks what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        let header = lines.next().ok_or("it is empty")?;
        let header: Header = serde_json::from_str(header).map_err(|error| error.to_string())?;
        if header.scrap_manifest != 1 {
            return Err(format!("it has version {}", header.scrap_manifest));
        }
        let entries = lines.map(parse_line).collect::<Result<_, _>>()?;
        let manifest = Self { snapshot: header.snapshot, entries };
        manifest.check()?;
        Ok(manifest)
    }

    /// That every path can be made in an empty folder, in order, without leaving it: each parent is a folder of this
    /// manifest (so never a link), hard links go to files, sizes fit chunks.
    pub(super) fn check(&self) -> Result<(), String> {
        let kind = |path: &RelPath| self.entries.get(path).map(|entry| &entry.kind);
        if kind(&RelPath::ROOT) != Some(&Kind::Dir) {
            return Err("its root is not a folder".to_owned());
        }
        for (path, entry) in &self.entries {
            if let Some((parent, _)) = path.split()
                && kind(&parent) != Some(&Kind::Dir)
            {
                return Err(format!("`{path}` is not in a folder"));
            }
            let good = match &entry.kind {
                Kind::Dir => true,
                Kind::File { size, chunks } => chunks.len() as u64 == size.div_ceil(CHUNK),
                Kind::Symlink { target } => path::unescape(target)
                    .is_some_and(|target| !target.is_empty() && !target.contains(&0)),
                Kind::HardLink { to } => to < path && matches!(kind(to), Some(Kind::File { .. })),
            };
            if !good || entry.mode > 0o7777 {
                return Err(format!("`{path}` is not well formed"));
            }
        }
        Ok(())
    }

    /// Every chunk once, with its length.
    pub(super) fn chunks(&self) -> HashMap<Hash, u64> {
        let mut all = HashMap::new();
        for entry in self.entries.values() {
            if let Kind::File { size, chunks } = &entry.kind {
                let lengths = chunks.iter().enumerate();
                all.extend(lengths.map(|(number, hash)| (*hash, chunk_length(*size, number))));
            }
        }
        all
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match &entry.kind {
            Kind::File { size, .. } => *size,
            Kind::Dir | Kind::Symlink { .. } | Kind::HardLink { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scrap_schema::id::Epoch;
    use scrap_schema::snapshot::{Guid, Purpose, SnapshotName};
    use scrap_schema::time::Timestamp;

    fn manifest(entries: &[(&str, Kind)]) -> Manifest {
        let name = SnapshotName { epoch: Epoch(1), seq: 1, purpose: Purpose::Replication };
        let snapshot = Snapshot { name, guid: Guid(7), created: Timestamp(5) };
        let entry =
            |kind: &Kind| Entry { mode: 0o644, uid: 0, gid: 0, mtime: -5, kind: kind.clone() };
        let entries =
            entries.iter().map(|(path, kind)| (path.parse().unwrap(), entry(kind))).collect();
        Manifest { snapshot, entries }
    }

    fn file(size: u64) -> Kind {
        Kind::File {
            size,
            chunks: vec![Hash([1; 32]); usize::try_from(size.div_ceil(CHUNK)).unwrap()],
        }
    }

    #[test]
    fn text_and_manifest_are_the_same() {
        let link = Kind::Symlink { target: "../%ff".to_owned() };
        let hard = Kind::HardLink { to: "a/f".parse().unwrap() };
        let whole = manifest(&[
            (".", Kind::Dir),
            ("a", Kind::Dir),
            ("a/f", file(CHUNK + 1)),
            ("b", link),
            ("c", hard),
        ]);
        let bytes = whole.encode().unwrap();
        assert_eq!(Manifest::decode(&bytes), Ok(whole.clone()));
        for (path, entry) in &whole.entries {
            let bound = line_bound(path, 2 * CHUNK, 9);
            assert!(line(path, entry).unwrap().len() as u64 <= bound);
        }
    }

    #[test]
    fn what_could_leave_the_folder_is_refused() {
        let link = || Kind::Symlink { target: "/etc".to_owned() };
        let hard = |to: &str| Kind::HardLink { to: to.parse().unwrap() };
        let dir = (".", Kind::Dir);
        let bad = [
            vec![("a", file(0))],
            vec![dir.clone(), ("a", link()), ("a/passwd", file(0))],
            vec![dir.clone(), ("a/b", file(0))],
            vec![dir.clone(), ("a", hard("b")), ("b", file(0))],
            vec![dir.clone(), ("a", link()), ("b", hard("a"))],
            vec![dir.clone(), ("b", hard("a"))],
            vec![dir.clone(), ("a", Kind::File { size: 5, chunks: Vec::new() })],
            vec![dir.clone(), ("a", Kind::Symlink { target: String::new() })],
        ];
        for entries in bad {
            assert!(manifest(&entries).check().is_err(), "{entries:?}");
        }
        assert_eq!(manifest(&[dir]).check(), Ok(()));
    }
}
