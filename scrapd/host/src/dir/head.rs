//! Heads: made from a snapshot in an empty folder, frozen into one, compared with one. Never writes into a live head.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::files::{self, Result, at};
use super::folder::{Folder, Meta, Row};
use super::index::{Index, Seen};
use super::manifest::{Kind, Manifest};
use super::pack::PackWriter;
use super::scan::{self, Comparable};
use super::tree::{self, Tree};
use crate::datasets::Written;

/// Tries of a millisecond to see the file system's clock move on.
const SETTLE_TRIES: u32 = 100;

/// Makes the state of a snapshot in a new folder and puts it on stable storage. The newest snapshot's index comes with it.
pub(super) fn make(folder: &Folder, row: &Row, head: &Path) -> Result<Index> {
    let manifest = folder.manifest(row)?;
    let mut packs = folder.packs()?;
    files::make_dir(head, 0o700)?;
    let mut tree = Tree::open(head)?;
    tree.make(&manifest, &mut packs, Comparable::here().owners())?;
    let index = look(&mut tree, &manifest, files::parent(head))?;
    tree.sync()?;
    Ok(index)
}

/// Makes the state of a manifest, whose chunks this folder has, in a new folder for people to look at.
pub(super) fn show(folder: &Folder, manifest: &Manifest, path: &Path) -> Result<()> {
    files::make_dir(path, 0o700)?;
    Tree::open(path)?.make(manifest, &mut folder.packs()?, Comparable::here().owners())
}

/// How the files of a new head look.
fn look(tree: &mut Tree, manifest: &Manifest, beside: &Path) -> Result<Index> {
    let mut stats = Vec::new();
    for (path, entry) in &manifest.entries {
        if matches!(entry.kind, Kind::File { .. }) {
            stats.push((path.clone(), tree.stat(path)?));
        }
    }
    let newest = stats.iter().map(|(_, stat)| tree::ctime(stat)).max().unwrap_or(i64::MIN);
    let settled = settle(beside, newest)?;
    let began = if settled { None } else { Some(newest) };
    let seen = stats.into_iter().map(|(path, stat)| {
        let seen = began.map_or_else(|| Seen::settled(&stat), |began| Seen::new(&stat, began));
        (path, seen)
    });
    Ok(Index { seen: seen.collect() })
}

/// Waits a moment until a new file would get a later time than `newest`: every later write to the head then looks
/// different. Where the file system's clock is too coarse for that, the files are read once more later.
fn settle(beside: &Path, newest: i64) -> Result<bool> {
    let probe = beside.join("probe.tmp");
    let mut settled = false;
    for _ in 0..SETTLE_TRIES {
        let mut file = files::create_file(&probe)?;
        file.write_all(b"x").map_err(at("write", &probe))?;
        let meta = file.metadata().map_err(at("stat", &probe))?;
        let now = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
        settled = now > newest;
        if settled {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    files::remove_file(&probe)?;
    Ok(settled)
}

/// Freezes the head: chunks, manifest, then the line that names them.
pub(super) fn freeze(
    folder: &Folder,
    meta: &mut Meta,
    name: &SnapshotName,
    now: Timestamp,
) -> Result<Snapshot> {
    let known = folder.known(meta)?;
    let packs = folder.packs()?;
    let mut writer = None;
    let scanned = scan::scan(&folder.head(), &known, |hash, piece| {
        if packs.length(&hash).is_some() {
            return Ok(());
        }
        if writer.is_none() {
            writer = Some(PackWriter::new(&folder.packs_dir())?);
        }
        writer.as_mut().map_or(Ok(()), |writer| writer.add(hash, piece))
    })?;
    let pack = writer.map(PackWriter::finish).transpose()?.flatten();
    if let Some(pack) = pack {
        let size = fs::metadata(&pack).map_err(at("stat", &pack))?.len();
        meta.packed = Bytes(packs.size().saturating_add(size));
    }
    let snapshot = Snapshot { name: name.clone(), guid: Guid(files::random()?), created: now };
    let manifest = Manifest { snapshot: snapshot.clone(), entries: scanned.entries };
    meta.head = Bytes(manifest.size());
    push(folder, meta, &manifest)?;
    scanned.index.save(&folder.index_path(), snapshot.guid)?;
    Ok(snapshot)
}

/// Adds a snapshot to the line, whose chunks are here.
pub(super) fn push(folder: &Folder, meta: &mut Meta, manifest: &Manifest) -> Result<()> {
    let checksum = folder.keep_manifest(manifest)?;
    meta.line.push(Row { snapshot: manifest.snapshot.clone(), manifest: checksum });
    folder.save(meta)
}

/// What was written into the head since the newest snapshot.
pub(super) fn written(folder: &Folder, meta: &Meta) -> Result<Written> {
    let known = folder.known(meta)?;
    let compared = scan::compare(&folder.head(), &known)?;
    if let (Some(index), Some(newest)) = (compared.index, meta.newest()) {
        index.save(&folder.index_path(), newest)?;
    }
    Ok(Written { bytes: Bytes(compared.bytes), head: Bytes(compared.size) })
}
