//! What the in-memory pool holds, and the rules by which it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::stream;
use crate::datasets::{
    Cause, Change, ChangeKind, Dataset, DatasetId, Diff, ORIGIN_TAG, Role, Shape, Space, Written,
};

/// Contents by path, shared between head and snapshots until one of them changes.
pub(super) type Tree = BTreeMap<String, Arc<Vec<u8>>>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) guids: u64,
    pub(super) space: Space,
    pub(super) stored: BTreeMap<DatasetId, Stored>,
    pub(super) views: BTreeMap<PathBuf, (DatasetId, Tree)>,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) role: Role,
    pub(super) epoch: Epoch,
    pub(super) shape: Shape,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) holds: BTreeMap<String, Guid>,
    pub(super) base: Option<Guid>,
    /// `None`: not writable here.
    pub(super) head: Option<Tree>,
    pub(super) line: Vec<(Snapshot, Tree)>,
}

impl Stored {
    pub(super) fn new(role: Role, epoch: Epoch, shape: Shape) -> Self {
        let head = matches!(role, Role::Owner | Role::Template).then(Tree::new);
        let (properties, holds) = (BTreeMap::new(), BTreeMap::new());
        Self { role, epoch, shape, properties, holds, base: None, head, line: Vec::new() }
    }

    /// Makes the snapshot of another dataset the beginning of this new one.
    pub(super) fn begin_as(&mut self, origin: Option<(Snapshot, Tree)>) {
        let Some((snapshot, tree)) = origin else { return };
        self.holds.insert(ORIGIN_TAG.to_owned(), snapshot.guid);
        if self.head.is_some() {
            self.head = Some(tree.clone());
        }
        self.line.push((snapshot, tree));
    }

    pub(super) fn newest(&self) -> Option<Guid> {
        self.line.last().map(|(snapshot, _)| snapshot.guid)
    }

    pub(super) fn newest_tree(&self) -> Tree {
        self.line.last().map(|(_, tree)| tree.clone()).unwrap_or_default()
    }

    pub(super) fn position(&self, guid: Guid) -> std::result::Result<usize, Cause> {
        let found = self.line.iter().position(|(snapshot, _)| snapshot.guid == guid);
        found.ok_or(Cause::NoSnapshot(guid))
    }

    pub(super) fn tree(&self, guid: Guid) -> std::result::Result<&Tree, Cause> {
        let found = self.line.iter().find(|(snapshot, _)| snapshot.guid == guid);
        found.map(|(_, tree)| tree).ok_or(Cause::NoSnapshot(guid))
    }

    pub(super) fn written(&self) -> Written {
        let newest = self.newest_tree();
        let head = self.head.as_ref().unwrap_or(&newest);
        Written { bytes: Bytes(stream::difference(&newest, head)), head: Bytes(size(head)) }
    }

    pub(super) fn describe(&self, id: DatasetId) -> Dataset {
        let trees = self.line.iter().map(|(_, tree)| tree).chain(self.head.as_ref());
        Dataset {
            id,
            role: self.role,
            epoch: self.epoch,
            snapshots: self.line.iter().map(|(snapshot, _)| snapshot.clone()).collect(),
            bookmarks: Vec::new(),
            properties: self.properties.clone(),
            used: Bytes(used(trees)),
            quota: self.shape.quota,
            base: self.base,
            holds: self.holds.clone(),
        }
    }
}

/// What differs between two trees, in order of path.
pub(super) fn changes(old: &Tree, new: &Tree, limit: usize) -> Diff {
    let mut changes = Vec::new();
    for (path, contents) in new {
        let kind = match old.get(path) {
            None => ChangeKind::Added,
            Some(was) if was != contents => ChangeKind::Modified,
            Some(_) => continue,
        };
        changes.push(Change { path: path.clone().into_bytes(), kind });
    }
    let removed = old.keys().filter(|path| !new.contains_key(*path));
    changes.extend(
        removed.map(|path| Change { path: path.clone().into_bytes(), kind: ChangeKind::Removed }),
    );
    changes.sort();
    let more = changes.len() > limit;
    changes.truncate(limit);
    Diff { changes, more }
}

pub(super) fn size(tree: &Tree) -> u64 {
    tree.values().map(|contents| contents.len() as u64).sum()
}

/// Contents that several trees share count once.
fn used<'a>(trees: impl Iterator<Item = &'a Tree>) -> u64 {
    let shared: BTreeMap<_, _> = trees
        .flat_map(Tree::values)
        .map(|contents| (Arc::as_ptr(contents), contents.len() as u64))
        .collect();
    shared.values().sum()
}

impl State {
    pub(super) fn guid(&mut self) -> Guid {
        self.guids += 1;
        // splitmix64: spreads the counter over all 64 bits, so that two seeds do not meet.
        let mut z = self.seed.wrapping_add(self.guids.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Guid(z ^ (z >> 31))
    }

    pub(super) fn find(&mut self, id: DatasetId) -> std::result::Result<&mut Stored, Cause> {
        self.stored.get_mut(&id).ok_or(Cause::Missing)
    }

    /// The snapshot of the sealed template with this guid.
    pub(super) fn template(&self, guid: Guid) -> Option<&(Snapshot, Tree)> {
        let templates = self.stored.iter().filter(|(id, _)| matches!(id, DatasetId::Template(_)));
        let mut sealed = templates.filter_map(|(_, stored)| stored.line.last());
        sealed.find(|(snapshot, _)| snapshot.guid == guid)
    }

    pub(super) fn used(&self) -> u64 {
        self.stored
            .values()
            .map(|stored| stored.describe(DatasetId::Grain(GrainId(0))).used.0)
            .sum()
    }

    pub(super) fn space(&self) -> Space {
        let free = self.space.free.0.saturating_sub(self.used());
        Space { total: self.space.total, free: Bytes(free) }
    }

    pub(super) fn snapshot(
        &mut self,
        id: DatasetId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> std::result::Result<Snapshot, Cause> {
        let guid = self.guid();
        let stored = self.find(id)?;
        if let Some((existing, _)) = stored.line.iter().find(|(snapshot, _)| snapshot.name == *name)
        {
            return Ok(existing.clone());
        }
        let tree = stored.head.clone().unwrap_or_else(|| stored.newest_tree());
        let snapshot = Snapshot { name: name.clone(), guid, created: now };
        stored.line.push((snapshot.clone(), tree));
        Ok(snapshot)
    }
}

/// Changes the role of what is stored; see `Datasets::set_role` of the trait.
pub(super) fn change_role(
    stored: &mut Stored,
    role: Role,
    epoch: Epoch,
) -> std::result::Result<(), Cause> {
    match role {
        Role::Owner => {
            if stored.head.is_none() {
                stored.head = Some(stored.newest_tree());
            }
        }
        Role::Standby => {
            if stored.written().bytes.0 > 0 {
                let newest = stored.newest();
                return Err(Cause::Diverged { newest, from: newest });
            }
            stored.head = None;
        }
        Role::Orphan | Role::Template => return Err(Cause::WrongRole { is: stored.role }),
    }
    stored.role = role;
    stored.epoch = epoch;
    Ok(())
}

pub(super) fn prune_line(stored: &mut Stored, guids: &[Guid]) -> std::result::Result<(), Cause> {
    for guid in guids {
        if let Some((tag, _)) = stored.holds.iter().find(|(_, held)| *held == guid) {
            return Err(Cause::Held(format!("snapshot {guid} by `{tag}`")));
        }
        if stored.newest() == Some(*guid) {
            return Err(Cause::Held(format!("snapshot {guid} is the newest")));
        }
    }
    stored.line.retain(|(snapshot, _)| !guids.contains(&snapshot.guid));
    Ok(())
}

/// The orphan of this grain whose last snapshot has this name: an earlier call has got that far.
fn find_orphan(state: &State, grain: GrainId, name: &SnapshotName) -> Option<DatasetId> {
    let orphans = state.stored.iter().filter(|(id, stored)| {
        matches!(id, DatasetId::Orphan(of, _) if *of == grain)
            && stored.line.last().is_some_and(|(snapshot, _)| snapshot.name == *name)
    });
    orphans.map(|(id, _)| *id).next()
}

pub(super) fn set_aside(
    state: &mut State,
    grain: GrainId,
    base: Option<Guid>,
    name: &SnapshotName,
    now: Timestamp,
) -> std::result::Result<Dataset, Cause> {
    if let Some(done) = find_orphan(state, grain, name) {
        return Ok(state.find(done)?.describe(done));
    }
    let id = DatasetId::Grain(grain);
    let stored = state.find(id)?;
    let keep = base.map(|base| stored.position(base)).transpose()?;
    let orphan_id = DatasetId::Orphan(grain, stored.epoch);
    if state.stored.contains_key(&orphan_id) {
        return Err(Cause::Exists);
    }
    state.snapshot(id, name, now)?;
    let mut orphan = state.stored.remove(&id).ok_or(Cause::Missing)?;
    if let Some(keep) = keep {
        let mut standby = orphan.clone();
        standby.line.truncate(keep + 1);
        standby.head = None;
        standby.role = Role::Standby;
        let kept: Vec<Guid> = standby.line.iter().map(|(snapshot, _)| snapshot.guid).collect();
        standby.holds.retain(|_, guid| kept.contains(guid));
        state.stored.insert(id, standby);
    }
    orphan.role = Role::Orphan;
    orphan.head = None;
    orphan.base = base;
    orphan.holds.clear();
    let described = orphan.describe(orphan_id);
    state.stored.insert(orphan_id, orphan);
    Ok(described)
}

/// See `Datasets::take_back` of the trait.
pub(super) fn take_back(
    state: &mut State,
    grain: GrainId,
    epoch: Epoch,
) -> std::result::Result<Dataset, Cause> {
    let (id, orphan_id) = (DatasetId::Grain(grain), DatasetId::Orphan(grain, epoch));
    let line: Vec<Guid> =
        state.find(orphan_id)?.line.iter().map(|(snapshot, _)| snapshot.guid).collect();
    if let Some(there) = state.stored.get(&id) {
        if there.role != Role::Standby {
            return Err(Cause::WrongRole { is: there.role });
        }
        if there.line.iter().any(|(snapshot, _)| !line.contains(&snapshot.guid)) {
            return Err(Cause::Diverged { newest: there.newest(), from: line.last().copied() });
        }
    }
    let mut back = state.stored.remove(&orphan_id).ok_or(Cause::Missing)?;
    state.views.retain(|_, (of, _)| *of != orphan_id && *of != id);
    back.role = Role::Standby;
    back.epoch = epoch;
    back.base = None;
    let described = back.describe(id);
    state.stored.insert(id, back);
    Ok(described)
}
