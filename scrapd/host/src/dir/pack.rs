//! Packs: the chunks that one snapshot added, one after the other in one file, with their hashes at its end. A pack is
//! never changed; it is written aside, made stable, and renamed. Which chunks are needed is not known here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{self, Result, Temporary, at, damaged};
use super::manifest::{CHUNK, Hash};
use crate::datasets::Cause;

const MAGIC: &[u8; 8] = b"SCRAPPK1";
/// A hash and a length.
const ROW: usize = 36;
/// The number of rows and their hash.
const TRAILER: usize = 40;

/// Space that no pack may take: with a full disk the log of the cluster could not be written, and the node would be gone.
const FLOOR: u64 = 8 << 20;
/// The free space is looked at whenever so much was written.
const LOOK_EVERY: u64 = 1 << 20;

/// A pack that is being written.
pub(super) struct PackWriter {
    folder: PathBuf,
    id: u64,
    temporary: Temporary,
    file: BufWriter<File>,
    rows: HashMap<Hash, u32>,
    /// In the order of their bytes.
    order: Vec<Hash>,
    bytes: u64,
    floor: u64,
}

impl PackWriter {
    /// A new pack in this folder. Nothing of it counts before [`Self::finish`].
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let id = files::random()?;
        let (temporary, file) = Temporary::create(folder.join(format!("{id:016x}.tmp")))?;
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC).map_err(at("write", temporary.path()))?;
        let (rows, order) = (HashMap::new(), Vec::new());
        let (folder, bytes, floor) = (folder.to_owned(), 0, FLOOR);
        Ok(Self { folder, id, temporary, file, rows, order, bytes, floor })
    }

    /// Adds a chunk, once.
    pub(super) fn add(&mut self, hash: Hash, chunk: &[u8]) -> Result<()> {
        if self.rows.contains_key(&hash) {
            return Ok(());
        }
        let length = u32::try_from(chunk.len())
            .map_err(|_| damaged(self.temporary.path(), "a chunk is too long"))?;
        let before = self.bytes / LOOK_EVERY;
        self.bytes = self.bytes.saturating_add(u64::from(length));
        if self.bytes / LOOK_EVERY != before && files::space(&self.folder)?.free.0 < self.floor {
            return Err(Cause::NoSpace);
        }
        self.file.write_all(chunk).map_err(at("write", self.temporary.path()))?;
        self.rows.insert(hash, length);
        self.order.push(hash);
        Ok(())
    }

    /// Makes the pack stable and visible. A pack without chunks is not kept.
    pub(super) fn finish(self) -> Result<Option<PathBuf>> {
        let Self { folder, id, temporary, mut file, rows, order, bytes: _, floor: _ } = self;
        if order.is_empty() {
            return Ok(None);
        }
        let mut footer = Vec::with_capacity(order.len() * ROW + TRAILER);
        for hash in &order {
            footer.extend_from_slice(&hash.0);
            footer.extend_from_slice(&rows.get(hash).copied().unwrap_or(0).to_be_bytes());
        }
        let checksum = Hash::of(&footer);
        footer.extend_from_slice(&(order.len() as u64).to_be_bytes());
        footer.extend_from_slice(&checksum.0);
        file.write_all(&footer).map_err(at("write", temporary.path()))?;
        let file =
            file.into_inner().map_err(|error| at("write", temporary.path())(error.into_error()))?;
        file.sync_all().map_err(at("sync", temporary.path()))?;
        let path = folder.join(format!("{id:016x}.pack"));
        temporary.place(&path)?;
        Ok(Some(path))
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    pack: usize,
    offset: u64,
    length: u32,
}

/// One pack as it lies there.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) path: PathBuf,
    /// Bytes of the whole file.
    pub(super) size: u64,
    /// Its chunks with their lengths.
    pub(super) rows: Vec<(Hash, u32)>,
}

/// All packs of a dataset, and where each chunk is.
pub(super) struct Packs {
    pub(super) packs: Vec<Pack>,
    places: HashMap<Hash, Place>,
    /// The pack that was read last.
    open: Option<(usize, File)>,
}

impl Packs {
    /// Reads the ends of all packs in this folder.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let mut all = Self { packs: Vec::new(), places: HashMap::new(), open: None };
        for name in files::names(folder)?.iter().filter(|name| name.ends_with(".pack")) {
            let pack = read_rows(&folder.join(name))?;
            let mut offset = MAGIC.len() as u64;
            for (hash, length) in &pack.rows {
                let place = Place { pack: all.packs.len(), offset, length: *length };
                all.places.insert(*hash, place);
                offset = offset.saturating_add(u64::from(*length));
            }
            all.packs.push(pack);
        }
        Ok(all)
    }

    /// Length of a chunk, if it is here.
    pub(super) fn length(&self, hash: &Hash) -> Option<u32> {
        self.places.get(hash).map(|place| place.length)
    }

    /// Whether the bytes of this chunk are read from this pack (and not from another copy of it).
    pub(super) fn serves(&self, pack: usize, hash: &Hash) -> bool {
        self.places.get(hash).is_some_and(|place| place.pack == pack)
    }

    /// Bytes of all packs.
    pub(super) fn size(&self) -> u64 {
        self.packs.iter().map(|pack| pack.size).fold(0, u64::saturating_add)
    }

    /// The bytes of a chunk, checked against its hash.
    pub(super) fn read(&mut self, hash: &Hash) -> Result<Vec<u8>> {
        let missing = || damaged(Path::new("its packs"), &format!("chunk {hash} is missing"));
        let place = *self.places.get(hash).ok_or_else(missing)?;
        let pack = self.packs.get(place.pack).ok_or_else(missing)?;
        let file = match self.open.take() {
            Some((number, file)) if number == place.pack => file,
            Some(_) | None => File::open(&pack.path).map_err(at("open", &pack.path))?,
        };
        let length = usize::try_from(place.length).map_err(|_| missing())?;
        let mut chunk = vec![0; length];
        file.read_exact_at(&mut chunk, place.offset).map_err(at("read", &pack.path))?;
        self.open = Some((place.pack, file));
        if Hash::of(&chunk) != *hash {
            return Err(damaged(&pack.path, &format!("chunk {hash} has other bytes")));
        }
        Ok(chunk)
    }
}

fn read_rows(path: &Path) -> Result<Pack> {
    let file = File::open(path).map_err(at("open", path))?;
    let size = file.metadata().map_err(at("stat", path))?.len();
    let bad = || damaged(path, "its table of chunks is not what was written");
    let mut trailer = [0; TRAILER];
    let trailer_at = size.checked_sub(TRAILER as u64).ok_or_else(bad)?;
    file.read_exact_at(&mut trailer, trailer_at).map_err(at("read", path))?;
    let (count, checksum) = trailer.split_first_chunk::<8>().ok_or_else(bad)?;
    let count = u64::from_be_bytes(*count);
    let length = count.checked_mul(ROW as u64).filter(|length| *length <= trailer_at);
    let length = length.ok_or_else(bad)?;
    let mut footer = vec![0; usize::try_from(length).map_err(|_| bad())?];
    file.read_exact_at(&mut footer, trailer_at - length).map_err(at("read", path))?;
    if Hash::of(&footer).0.as_slice() != checksum {
        return Err(bad());
    }
    let row = |row: &[u8]| {
        let (hash, length) = row.split_first_chunk::<32>()?;
        let length = u32::from_be_bytes(*length.first_chunk()?);
        (u64::from(length) <= CHUNK).then_some((Hash(*hash), length))
    };
    let rows = footer.chunks_exact(ROW).map(row).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
    Ok(Pack { path: path.to_owned(), size, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_that_finds_no_space_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::new(folder.path()).unwrap();
        writer.floor = u64::MAX;
        let chunk = vec![7; 600 << 10];
        writer.add(Hash([1; 32]), &chunk).unwrap();
        let refused = writer.add(Hash([2; 32]), &chunk).unwrap_err();
        assert!(matches!(refused, Cause::NoSpace), "{refused:?}");
        assert_eq!(files::names(folder.path()).unwrap().len(), 1);
        drop(writer);
        assert_eq!(files::names(folder.path()).unwrap(), [""; 0]);
    }
}
