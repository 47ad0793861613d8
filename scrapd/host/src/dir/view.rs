//! Looking at datasets: views for people, and what differs between a head and a snapshot. Changes no dataset.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scrap_schema::snapshot::Guid;

use super::files::{self, Result, Staging};
use super::head;
use super::manifest::{Entry, Kind, Manifest};
use super::path::RelPath;
use super::{Inner, scan};
use crate::datasets::{Cause, Change, ChangeKind, DatasetId, Diff};

/// What a view keeps of the mode of a file: nobody writes it, nobody runs it.
const FILE_BITS: u32 = 0o444;
/// And of a folder.
const DIR_BITS: u32 = 0o555;

impl Inner {
    pub(super) fn views(&self) -> PathBuf {
        self.root.join("views")
    }

    /// See `Datasets::view`. A copy of the snapshot; the head is shown as it is.
    pub(super) fn view(&self, id: DatasetId, guid: Option<Guid>) -> Result<PathBuf> {
        let folder = self.folder(id);
        let meta = folder.must()?;
        let row = match guid {
            Some(guid) => meta.row(guid)?,
            None if folder.head().exists() => return Ok(folder.head()),
            None => meta.line.last().ok_or(Cause::Missing)?,
        };
        let of = self.views().join(id.to_string());
        let path = of.join(row.snapshot.guid.to_string());
        if path.exists() {
            return Ok(path);
        }
        let mut manifest = folder.manifest(row)?;
        manifest.entries.values_mut().for_each(only_readable);
        let staging = Staging::new(&self.tmp(), "view")?;
        let new = staging.path().join("view");
        head::show(&folder, &manifest, &new)?;
        files::make_dir(&of, 0o711)?;
        files::rename(&new, &path)?;
        Ok(path)
    }

    /// See `Datasets::conceal`.
    pub(super) fn conceal(&self, id: DatasetId) -> Result<()> {
        files::remove_tree(&self.views().join(id.to_string()))
    }

    /// See `Datasets::diff`.
    pub(super) fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> Result<Diff> {
        let folder = self.folder(id);
        let meta = folder.must()?;
        let old = folder.manifest(meta.row(from)?)?;
        let new = if folder.head().exists() {
            // Hashes what looks different and keeps nothing.
            scan::scan(&folder.head(), &folder.known(&meta)?, |_, _| Ok(()))?.entries
        } else {
            let newest = meta.line.last().map(|row| folder.manifest(row)).transpose()?;
            newest.map(|manifest| manifest.entries).unwrap_or_default()
        };
        Ok(changes(&old, &new, limit))
    }
}

fn only_readable(entry: &mut Entry) {
    entry.mode &= match entry.kind {
        Kind::Dir => DIR_BITS,
        Kind::File { .. } | Kind::Symlink { .. } | Kind::HardLink { .. } => FILE_BITS,
    };
    // Whoever made the copy can always read it.
    entry.mode |= if entry.kind == Kind::Dir { 0o500 } else { 0o400 };
}

/// What differs, in order of path. The head itself is not told: its time changes with every name in it.
fn changes(old: &Manifest, new: &BTreeMap<RelPath, Entry>, limit: usize) -> Diff {
    let mut changes = Vec::new();
    for (path, entry) in new.iter().filter(|(path, _)| **path != RelPath::ROOT) {
        let kind = match old.entries.get(path) {
            None => ChangeKind::Added,
            Some(was) if was != entry => ChangeKind::Modified,
            Some(_) => continue,
        };
        changes.push(Change { path: path.bytes().to_vec(), kind });
    }
    let removed = old.entries.keys().filter(|path| !new.contains_key(*path));
    changes.extend(
        removed.map(|path| Change { path: path.bytes().to_vec(), kind: ChangeKind::Removed }),
    );
    changes.sort();
    let more = changes.len() > limit;
    changes.truncate(limit);
    Diff { changes, more }
}
