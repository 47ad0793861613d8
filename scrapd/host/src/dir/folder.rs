//! One dataset's folder: its description, manifests, packs and head. `meta.json` is the truth: what it does not name is
//! left over from something unfinished. Takes no locks.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::unit::Bytes;
use serde::{Deserialize, Serialize};

use super::files::{self, Result, at, damaged, refused};
use super::index::Index;
use super::manifest::{Hash, Manifest};
use super::pack::{PackWriter, Packs};
use super::scan::Known;
use crate::datasets::{Cause, Dataset, DatasetId, ORIGIN_TAG, Role, Shape};

/// More packs than this are merged, the small ones first.
const PACKS_MAX: usize = 64;
const PACK_SMALL: u64 = 4 << 20;

/// A role as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredRole {
    Owner,
    Standby,
    Orphan,
    Template,
}

/// One snapshot of the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) snapshot: Snapshot,
    /// BLAKE3 of its manifest.
    pub(super) manifest: Hash,
}

/// `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    /// Of this format.
    pub(super) version: u32,
    pub(super) role: StoredRole,
    pub(super) epoch: Epoch,
    pub(super) quota: Bytes,
    /// Kept for whoever asks; ordinary directories know neither.
    #[serde(default)]
    pub(super) reservation: Bytes,
    #[serde(default)]
    pub(super) record_size: Bytes,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) holds: BTreeMap<String, Guid>,
    pub(super) base: Option<Guid>,
    /// Oldest first.
    pub(super) line: Vec<Row>,
    /// Bytes of the packs and of the head, as last measured.
    pub(super) packed: Bytes,
    pub(super) head: Bytes,
    /// Snapshots that were pruned since the packs were last looked through.
    pub(super) pruned: usize,
}

impl Meta {
    /// Of a new dataset.
    pub(super) fn new(role: StoredRole, epoch: Epoch, shape: Shape) -> Self {
        Self {
            version: 1,
            role,
            epoch,
            quota: shape.quota,
            reservation: shape.reservation,
            record_size: shape.record_size,
            properties: BTreeMap::new(),
            holds: BTreeMap::new(),
            base: None,
            line: Vec::new(),
            packed: Bytes(0),
            head: Bytes(0),
            pruned: 0,
        }
    }

    /// Makes a snapshot of another dataset the beginning of this new one.
    pub(super) fn begin_as(&mut self, row: Row) {
        self.holds.insert(ORIGIN_TAG.to_owned(), row.snapshot.guid);
        self.line.push(row);
    }

    pub(super) fn newest(&self) -> Option<Guid> {
        self.line.last().map(|row| row.snapshot.guid)
    }

    pub(super) fn row(&self, guid: Guid) -> Result<&Row> {
        let row = self.line.iter().find(|row| row.snapshot.guid == guid);
        row.ok_or(Cause::NoSnapshot(guid))
    }

    /// As the trait says it.
    pub(super) fn describe(&self, id: DatasetId) -> Dataset {
        Dataset {
            id,
            role: self.role_of(id),
            epoch: self.epoch,
            snapshots: self.line.iter().map(|row| row.snapshot.clone()).collect(),
            bookmarks: Vec::new(),
            properties: self.properties.clone(),
            used: Bytes(self.packed.0.saturating_add(self.head.0)),
            quota: self.quota,
            base: self.base,
            holds: self.holds.clone(),
        }
    }

    /// What lies among the orphans or templates is one, also while it is still being set aside.
    pub(super) fn role_of(&self, id: DatasetId) -> Role {
        match (id, self.role) {
            (DatasetId::Template(_), _) | (_, StoredRole::Template) => Role::Template,
            (DatasetId::Orphan(..), _) | (_, StoredRole::Orphan) => Role::Orphan,
            (DatasetId::Grain(_), StoredRole::Owner) => Role::Owner,
            (DatasetId::Grain(_), StoredRole::Standby) => Role::Standby,
        }
    }
}

/// The folder of one dataset.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn head(&self) -> PathBuf {
        self.path.join("head")
    }

    pub(super) fn packs_dir(&self) -> PathBuf {
        self.path.join("packs")
    }

    pub(super) fn snapshots_dir(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.path.join("head.index")
    }

    fn meta_path(&self) -> PathBuf {
        self.path.join("meta.json")
    }

    pub(super) fn manifest_path(&self, guid: Guid) -> PathBuf {
        self.snapshots_dir().join(format!("{guid}.manifest"))
    }

    /// Makes the folders of a new dataset, without its `meta.json`.
    pub(super) fn lay_out(&self) -> Result<()> {
        files::make_dir(&self.path, 0o711)?;
        files::make_dir(&self.packs_dir(), 0o700)?;
        files::make_dir(&self.snapshots_dir(), 0o700)
    }

    /// Its description; `None` if there is no such dataset.
    pub(super) fn meta(&self) -> Result<Option<Meta>> {
        let path = self.meta_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("read", &path)(error)),
        };
        let meta: Meta = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("{} is not readable", path.display()), error))?;
        if meta.version == 1 {
            Ok(Some(meta))
        } else {
            Err(damaged(&path, &format!("it has the unknown version {}", meta.version)))
        }
    }

    /// Its description, where it must exist.
    pub(super) fn must(&self) -> Result<Meta> {
        self.meta()?.ok_or(Cause::Missing)
    }

    /// Replaces the description: the moment at which a change happens.
    pub(super) fn save(&self, meta: &Meta) -> Result<()> {
        let text = serde_json::to_vec_pretty(meta)
            .map_err(|error| refused("cannot write meta.json", error))?;
        files::replace(&self.meta_path(), &text)
    }

    /// Keeps a manifest; it counts when a line names it. Returns its checksum.
    pub(super) fn keep_manifest(&self, manifest: &Manifest) -> Result<Hash> {
        let bytes =
            manifest.encode().map_err(|error| refused("cannot write the manifest", error))?;
        files::replace(&self.manifest_path(manifest.snapshot.guid), &bytes)?;
        Ok(Hash::of(&bytes))
    }

    /// The manifest of a snapshot, checked.
    pub(super) fn manifest(&self, row: &Row) -> Result<Manifest> {
        let path = self.manifest_path(row.snapshot.guid);
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        if Hash::of(&bytes) != row.manifest {
            return Err(damaged(&path, "it does not match its checksum"));
        }
        Manifest::decode(&bytes).map_err(|why| damaged(&path, &why))
    }

    /// What is known of the head: the newest snapshot and how its files looked.
    pub(super) fn known(&self, meta: &Meta) -> Result<Known> {
        let Some(row) = meta.line.last() else { return Ok(Known::default()) };
        let index = Index::load(&self.index_path(), row.snapshot.guid);
        Ok(Known { manifest: Some(self.manifest(row)?), index })
    }

    pub(super) fn packs(&self) -> Result<Packs> {
        Packs::load(&self.packs_dir())
    }

    /// Removes manifests that no line names and files that were never finished.
    pub(super) fn sweep(&self, meta: &Meta) -> Result<()> {
        let named: HashSet<PathBuf> =
            meta.line.iter().map(|row| self.manifest_path(row.snapshot.guid)).collect();
        for dir in [self.path.clone(), self.packs_dir(), self.snapshots_dir()] {
            for path in files::names(&dir)?.iter().map(|name| dir.join(name)) {
                let extension = path.extension();
                let unnamed =
                    extension.is_some_and(|is| is == "manifest") && !named.contains(&path);
                if unnamed || extension.is_some_and(|is| is == "tmp") {
                    files::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the packs that no snapshot needs any more, and writes those anew of which less than half is needed.
    pub(super) fn collect(&self, meta: &mut Meta) -> Result<()> {
        let mut live = HashSet::new();
        for row in &meta.line {
            live.extend(self.manifest(row)?.chunks().into_keys());
        }
        let mut packs = self.packs()?;
        let many = packs.packs.len() > PACKS_MAX;
        let (mut doomed, mut keep): (Vec<PathBuf>, Vec<Hash>) = (Vec::new(), Vec::new());
        for (number, pack) in packs.packs.iter().enumerate() {
            let needed = pack
                .rows
                .iter()
                .filter(|(hash, _)| live.contains(hash) && packs.serves(number, hash));
            let bytes: u64 = needed.clone().map(|(_, length)| u64::from(*length)).sum();
            if bytes.saturating_mul(2) < pack.size || (many && pack.size < PACK_SMALL) {
                doomed.push(pack.path.clone());
                keep.extend(needed.map(|(hash, _)| *hash));
            }
        }
        if !keep.is_empty() {
            let mut writer = PackWriter::new(&self.packs_dir())?;
            for hash in keep {
                writer.add(hash, &packs.read(&hash)?)?;
            }
            writer.finish()?;
        }
        for path in doomed {
            files::remove_file(&path)?;
        }
        meta.pruned = 0;
        meta.packed = Bytes(self.packs()?.size());
        Ok(())
    }

    /// Adds the packs and some snapshots of another dataset to this new one: hard links, nothing is copied.
    pub(super) fn share(&self, other: &Self, rows: &[Row]) -> Result<()> {
        let link = |from: &Path, to: &Path| fs::hard_link(from, to).map_err(at("link", from));
        for name in files::names(&other.packs_dir())?.iter().filter(|name| name.ends_with(".pack"))
        {
            link(&other.packs_dir().join(name), &self.packs_dir().join(name))?;
        }
        for row in rows {
            let guid = row.snapshot.guid;
            link(&other.manifest_path(guid), &self.manifest_path(guid))?;
        }
        files::sync_dir(&self.packs_dir())?;
        files::sync_dir(&self.snapshots_dir())
    }
}
