//! What changed in a head since its newest snapshot: a walk over its stats that reads only files which look different.
//! Stores nothing itself and never changes the head.
//!
//! A head that is being written while it is scanned gives a state that it never had as a whole: each file as it was at
//! some moment of the scan. It is exact when the grain is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rustix::fs::Stat;

use super::files::Result;
use super::index::{Index, Seen};
use super::manifest::{CHUNK, Entry, Hash, Kind, Manifest, line_bound};
use super::path::RelPath;
use super::tree::{self, Found, FoundKind, Tree};
use crate::clock;

/// Where a scan begins: the newest snapshot and how its files looked.
#[derive(Default)]
pub(super) struct Known {
    pub(super) manifest: Option<Manifest>,
    pub(super) index: Index,
}

/// What a head would be as a snapshot.
pub(super) struct Scanned {
    pub(super) entries: BTreeMap<RelPath, Entry>,
    pub(super) index: Index,
}

/// What a comparison found.
pub(super) struct Compared {
    /// Upper bound of a stream; zero exactly if nothing changed.
    pub(super) bytes: u64,
    /// Bytes of all files.
    pub(super) size: u64,
    /// The index as it is now known, if that is more than before.
    pub(super) index: Option<Index>,
}

/// Bytes of a stream beside its lines and chunks, and per chunk.
const STREAM_OVERHEAD: u64 = 1024;
const CHUNK_OVERHEAD: u64 = 16;

enum Verdict {
    Same,
    Changed,
    /// Looks different where only reading can tell.
    Unsure,
}

/// Whose files these are and which mode bits there are can only be compared where they can be restored.
#[derive(Clone, Copy)]
pub(super) struct Comparable {
    owners: bool,
}

impl Comparable {
    /// As far as this user can restore it.
    pub(super) fn here() -> Self {
        Self { owners: rustix::process::geteuid().is_root() }
    }

    pub(super) fn owners(self) -> bool {
        self.owners
    }

    fn attributes(self, entry: &Entry, stat: &Stat) -> bool {
        let bits = if self.owners { 0o7777 } else { 0o1777 };
        let owners = !self.owners || (entry.uid == stat.st_uid && entry.gid == stat.st_gid);
        owners && entry.mtime == tree::mtime(stat) && entry.mode & bits == mode(stat) & bits
    }

    fn judge(self, found: &Found, entry: &Entry, seen: Option<&Seen>) -> Verdict {
        let same = |same: bool| if same { Verdict::Same } else { Verdict::Changed };
        let stat = &found.stat;
        match (&found.kind, &entry.kind) {
            (FoundKind::Dir, Kind::Dir) => same(self.attributes(entry, stat)),
            (FoundKind::Symlink(now), Kind::Symlink { target }) => {
                // The mode of a link means nothing and differs between systems.
                let entry = Entry { mode: mode(stat), ..entry.clone() };
                same(now == target && self.attributes(&entry, stat))
            }
            (FoundKind::HardLink(now), Kind::HardLink { to }) => same(now == to),
            (FoundKind::File, Kind::File { size, .. }) => {
                if *size != tree::size(stat) || !self.attributes(entry, stat) {
                    Verdict::Changed
                } else if seen.is_some_and(|seen| seen.proves(stat)) {
                    Verdict::Same
                } else {
                    Verdict::Unsure
                }
            }
            (
                FoundKind::Dir | FoundKind::Symlink(_) | FoundKind::HardLink(_) | FoundKind::File,
                Kind::Dir | Kind::Symlink { .. } | Kind::HardLink { .. } | Kind::File { .. },
            ) => Verdict::Changed,
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "the field has other types on other systems")]
fn mode(stat: &Stat) -> u32 {
    (stat.st_mode as u32) & 0o7777
}

fn entry(stat: &Stat, kind: Kind) -> Entry {
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    Entry { mode: mode(stat), uid, gid, mtime: tree::mtime(stat), kind }
}

/// Nanoseconds since 1970, by the clock that file systems use.
fn file_time() -> i64 {
    clock::wall().0.saturating_mul(1_000_000)
}

/// The head as a snapshot. `store` gets each chunk of what is not surely unchanged.
pub(super) fn scan(
    head: &Path,
    known: &Known,
    mut store: impl FnMut(Hash, &[u8]) -> Result<()>,
) -> Result<Scanned> {
    let began = file_time();
    let comparable = Comparable::here();
    let mut tree = Tree::open(head)?;
    let found = tree.walk()?;
    let mut scanned = Scanned { entries: BTreeMap::new(), index: Index::default() };
    for (path, mut found) in found {
        first_name_or_file(&mut found.kind, &scanned.entries);
        let old = known.manifest.as_ref().and_then(|manifest| manifest.entries.get(&path));
        let seen = known.index.seen.get(&path);
        let verdict = old.map_or(Verdict::Changed, |old| comparable.judge(&found, old, seen));
        if let (Verdict::Same, Some(old)) = (&verdict, old) {
            if let Some(seen) = seen {
                scanned.index.seen.insert(path.clone(), seen.clone());
            }
            scanned.entries.insert(path, old.clone());
            continue;
        }
        let kind = match found.kind {
            FoundKind::Dir => Kind::Dir,
            FoundKind::Symlink(target) => Kind::Symlink { target },
            FoundKind::HardLink(to) => Kind::HardLink { to },
            FoundKind::File => {
                let Some((read, seen)) = read_file(&mut tree, &path, began, &mut store)? else {
                    continue;
                };
                scanned.index.seen.insert(path.clone(), seen);
                // As whose it was known, where that cannot be seen here.
                let old = old.filter(|old| comparable.attributes(old, &found.stat));
                let entry =
                    old.map_or(read.clone(), |old| Entry { kind: read.kind, ..old.clone() });
                scanned.entries.insert(path, entry);
                continue;
            }
        };
        scanned.entries.insert(path, entry(&found.stat, kind));
    }
    drop_dangling(&mut scanned.entries);
    Ok(scanned)
}

/// One more name of a file whose first name vanished before it was read is that file now.
fn first_name_or_file(kind: &mut FoundKind, entries: &BTreeMap<RelPath, Entry>) {
    if let FoundKind::HardLink(to) = kind
        && !matches!(entries.get(to).map(|first| &first.kind), Some(Kind::File { .. }))
    {
        *kind = FoundKind::File;
    }
}

/// A file with its chunks. A file that changed while it was read is read again next time.
fn read_file(
    tree: &mut Tree,
    path: &RelPath,
    began: i64,
    store: &mut impl FnMut(Hash, &[u8]) -> Result<()>,
) -> Result<Option<(Entry, Seen)>> {
    let (mut chunks, mut size) = (Vec::new(), 0_u64);
    let read = tree.read(path, |piece| {
        let hash = Hash::of(piece);
        chunks.push(hash);
        size = size.saturating_add(piece.len() as u64);
        store(hash, piece)
    })?;
    Ok(read.map(|(before, after)| {
        let seen = Seen::new(&before, began);
        let quiet = Seen::new(&after, began) == seen && size == tree::size(&before);
        let seen = if quiet { seen } else { seen.doubtful() };
        (entry(&before, Kind::File { size, chunks }), seen)
    }))
}

/// Takes out what lost its folder between the walk and the reading.
fn drop_dangling(entries: &mut BTreeMap<RelPath, Entry>) {
    let mut gone = BTreeSet::new();
    for path in entries.keys() {
        let lost = path.split().is_some_and(|(dir, _)| {
            let parent = entries.get(&dir).filter(|_| !gone.contains(&dir));
            parent.is_none_or(|parent| parent.kind != Kind::Dir)
        });
        if lost {
            gone.insert(path.clone());
        }
    }
    entries.retain(|path, _| !gone.contains(path));
}

/// Compares the head with what is known. Reads only files that look different but may be the same.
pub(super) fn compare(head: &Path, known: &Known) -> Result<Compared> {
    let began = file_time();
    let comparable = Comparable::here();
    let mut tree = Tree::open(head)?;
    let found = tree.walk()?;
    let empty = BTreeMap::new();
    let old = known.manifest.as_ref().map_or(&empty, |manifest| &manifest.entries);
    let mut compared = Compared { bytes: 0, size: 0, index: None };
    let mut index = Index::default();
    for (path, now) in &found {
        let size = if matches!(now.kind, FoundKind::File) { tree::size(&now.stat) } else { 0 };
        compared.size = compared.size.saturating_add(size);
        let seen = known.index.seen.get(path);
        let verdict =
            old.get(path).map_or(Verdict::Changed, |entry| comparable.judge(now, entry, seen));
        let same = match (verdict, old.get(path)) {
            (Verdict::Same, _) => {
                index.seen.extend(seen.map(|seen| (path.clone(), seen.clone())));
                true
            }
            (Verdict::Unsure, Some(entry)) => {
                let read = read_file(&mut tree, path, began, &mut |_, _| Ok(()))?;
                let same = read.as_ref().is_some_and(|(read, _)| read.kind == entry.kind);
                index.seen.extend(read.filter(|_| same).map(|(_, seen)| (path.clone(), seen)));
                same
            }
            (Verdict::Changed | Verdict::Unsure, _) => {
                // A head of which there is no snapshot is empty when nothing but itself is there.
                old.is_empty() && *path == RelPath::ROOT
            }
        };
        if !same {
            compared.bytes = compared.bytes.saturating_add(bound(path, now, size));
        }
    }
    let gone = old.keys().filter(|path| !found.contains_key(*path));
    let gone = gone.map(RelPath::text_length).fold(0, u64::saturating_add);
    compared.bytes = compared.bytes.saturating_add(gone);
    if compared.bytes > 0 {
        compared.bytes = compared.bytes.saturating_add(STREAM_OVERHEAD);
    }
    compared.index = (index != known.index).then_some(index);
    Ok(compared)
}

fn bound(path: &RelPath, found: &Found, size: u64) -> u64 {
    let target = match &found.kind {
        FoundKind::Symlink(target) => target.len() as u64,
        FoundKind::HardLink(to) => to.text_length(),
        FoundKind::Dir | FoundKind::File => 0,
    };
    let frames = size.div_ceil(CHUNK).saturating_mul(CHUNK_OVERHEAD);
    size.saturating_add(frames).saturating_add(line_bound(path, size, target))
}
