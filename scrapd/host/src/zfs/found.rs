//! One dataset as it was found in the pool: its properties, its own snapshots, and those that its line begins with because
//! it is a clone. Reads; changes nothing.

use std::collections::BTreeMap;

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::kept::Origins;
use super::names::{self, BASE, CREATED, EPOCH, Names, ORIGIN, ROLE, TEMPORARY};
use super::words::{self, Value};
use super::{Inner, Result};
use crate::datasets::{CLONE_TAG, Cause, Dataset, DatasetId, ORIGIN_TAG, Role};

/// What is asked of every snapshot.
pub(super) const OF_SNAPSHOTS: &str = "guid,createtxg,creation,userrefs,scrap:created";
/// The property by which a stream goes on that was cut off.
pub(super) const TOKEN: &str = "receive_resume_token";
/// Longest chain of clones of clones that is followed.
const CHAIN_MAX: usize = 64;

/// A snapshot of a line, by its full name in the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snap {
    pub(super) full: String,
    pub(super) snapshot: Snapshot,
    txg: u64,
    /// When, by the clock of the pool that it was taken in; seconds since 1970.
    pub(super) taken: i64,
    /// Holds of any kind, also foreign ones.
    pub(super) userrefs: u64,
}

/// Snapshots of one dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snaps {
    /// Of the line, oldest first.
    pub(super) own: Vec<Snap>,
    /// Made by people or other programs, with the transaction of each.
    pub(super) foreign: Vec<(String, u64)>,
    /// Ours, and not of the line.
    pub(super) temporary: Vec<String>,
    /// Of what is or was of the line, oldest first: they have the names of their snapshots.
    pub(super) bookmarks: Vec<Snap>,
}

/// A dataset.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) id: DatasetId,
    pub(super) name: String,
    pub(super) properties: BTreeMap<String, Value>,
    /// Of other datasets, before its own.
    pub(super) before: Vec<Snap>,
    pub(super) snaps: Snaps,
}

/// Sorts the snapshots of one dataset out of a table.
pub(super) fn snapshots(dataset: &str, table: &BTreeMap<String, BTreeMap<String, Value>>) -> Snaps {
    let mut snaps = Snaps::default();
    let below = |mark: char| {
        let prefix = format!("{dataset}{mark}");
        let from = table.range(prefix.clone()..);
        from.map_while(move |(full, properties)| {
            Some((full, full.strip_prefix(&prefix)?, properties))
        })
    };
    for (full, short, properties) in below('@') {
        if short.starts_with(TEMPORARY) {
            snaps.temporary.push(full.clone());
        } else if let Some(snap) = Snap::of(full, short, properties) {
            snaps.own.push(snap);
        } else {
            let txg = properties.get("createtxg").and_then(|txg| words::number(&txg.value));
            snaps.foreign.push((full.clone(), txg.unwrap_or(0)));
        }
    }
    snaps.bookmarks.extend(below('#').filter_map(|(full, short, it)| Snap::of(full, short, it)));
    snaps.own.sort_by_key(Snap::order);
    snaps.bookmarks.sort_by_key(Snap::order);
    snaps
}

impl Snap {
    /// One of our names, by its properties.
    fn of(full: &str, short: &str, properties: &BTreeMap<String, Value>) -> Option<Self> {
        let number =
            |name: &str| properties.get(name).and_then(|value| words::number(&value.value));
        let (name, guid) = (short.parse().ok()?, Guid(number("guid")?));
        let created = properties.get(CREATED).and_then(|value| value.value.parse().ok());
        // What came in with a stream whose receiver stopped right after it has the time of its pool, in seconds.
        let seconds = number("creation").and_then(|seconds| i64::try_from(seconds).ok());
        let taken = seconds.unwrap_or(0);
        let created = created.unwrap_or(taken.saturating_mul(1000));
        Some(Self {
            full: full.to_owned(),
            snapshot: Snapshot { name, guid, created: Timestamp(created) },
            txg: number("createtxg").unwrap_or(0),
            taken,
            userrefs: number("userrefs").unwrap_or(0),
        })
    }

    pub(super) fn order(&self) -> (u64, Epoch, u64) {
        (self.txg, self.snapshot.name.epoch, self.snapshot.name.seq)
    }
}

impl Found {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let value = self.properties.get(name)?;
        (value.own && value.value != "-").then_some(value.value.as_str())
    }

    /// Notes what was set since it was found.
    pub(super) fn note(&mut self, pairs: &[(String, String)]) {
        for (property, value) in pairs {
            let value = Value { value: value.clone(), own: true };
            self.properties.insert(property.clone(), value);
        }
    }

    /// Notes that it was mounted or unmounted since.
    pub(super) fn note_mounted(&mut self, mounted: bool) {
        let value = if mounted { "yes" } else { "no" };
        self.note(&[("mounted".to_owned(), value.to_owned())]);
    }

    /// Whether a stream into it was cut off, and can go on.
    pub(super) fn is_unfinished(&self) -> bool {
        self.value(TOKEN).is_some_and(|token| token.len() > 1)
    }

    /// Notes a snapshot that was made since: its newest one.
    pub(super) fn note_snapshot(&mut self, snapshot: Snapshot) {
        self.snaps.own.push(Snap {
            full: format!("{}@{}", self.name, snapshot.name),
            txg: u64::MAX,
            taken: snapshot.created.0.div_euclid(1000),
            userrefs: 0,
            snapshot,
        });
    }

    /// The same of one that came in: no stream into it is unfinished any more, however it was when it was seen.
    pub(super) fn note_whole(&mut self, snapshot: Snapshot) {
        self.properties.remove(TOKEN);
        self.note_snapshot(snapshot);
    }

    fn bytes(&self, name: &str) -> u64 {
        self.properties.get(name).and_then(|value| words::number(&value.value)).unwrap_or(0)
    }

    /// Whether a property of the pool itself has this value, wherever it comes from.
    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.properties.get(name).is_some_and(|found| found.value == value)
    }

    pub(super) fn mounted(&self) -> bool {
        self.is("mounted", "yes")
    }

    /// The snapshot that it is a clone of.
    pub(super) fn clone_of(&self) -> Option<&str> {
        self.properties
            .get("origin")
            .map(|value| value.value.as_str())
            .filter(|name| name.contains('@'))
    }

    /// By where it lies; a grain's by its property.
    pub(super) fn role(&self) -> std::result::Result<Role, Cause> {
        match self.id {
            DatasetId::Orphan(..) => Ok(Role::Orphan),
            DatasetId::Template(_) => Ok(Role::Template),
            DatasetId::Grain(_) => match self.value(ROLE) {
                Some("owner") => Ok(Role::Owner),
                Some("standby" | "orphan") => Ok(Role::Standby),
                Some(_) | None => Err(Cause::Foreign { what: format!("dataset {}", self.name) }),
            },
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.value(EPOCH).and_then(words::number).unwrap_or(0))
    }

    pub(super) fn line(&self) -> impl DoubleEndedIterator<Item = &Snap> {
        self.before.iter().chain(&self.snaps.own)
    }

    pub(super) fn newest(&self) -> Option<&Snap> {
        self.line().next_back()
    }

    pub(super) fn newest_guid(&self) -> Option<Guid> {
        self.newest().map(|snap| snap.snapshot.guid)
    }

    pub(super) fn snap(&self, guid: Guid) -> std::result::Result<&Snap, Cause> {
        self.line().find(|snap| snap.snapshot.guid == guid).ok_or(Cause::NoSnapshot(guid))
    }

    /// Where an increment can begin: a snapshot, or what is left of one that somebody destroyed.
    pub(super) fn base(&self, guid: Guid) -> std::result::Result<&Snap, Cause> {
        let is = |snap: &&Snap| snap.snapshot.guid == guid;
        self.line().find(is).or(self.orphaned().find(is)).ok_or(Cause::NoSnapshot(guid))
    }

    /// The bookmarks whose snapshots are gone, oldest first.
    pub(super) fn orphaned(&self) -> impl Iterator<Item = &Snap> {
        let gone = |mark: &&Snap| self.snap(mark.snapshot.guid).is_err();
        self.snaps.bookmarks.iter().filter(gone)
    }

    /// What somebody else made after the newest snapshot: no increment comes in over it.
    pub(super) fn in_the_way(&self) -> Option<&str> {
        let newest = self.snaps.own.last().map_or(0, |snap| snap.txg);
        let mut later = self.snaps.foreign.iter().filter(|(_, txg)| *txg >= newest);
        later.next().map(|(name, _)| name.as_str())
    }

    pub(super) fn quota(&self) -> Bytes {
        Bytes(self.bytes("quota"))
    }

    pub(super) fn referenced(&self) -> Bytes {
        Bytes(self.bytes("referenced"))
    }

    /// Tags and what they hold, or held before somebody destroyed it.
    pub(super) fn held(&self) -> impl Iterator<Item = (String, Guid)> {
        let own = self.properties.iter().filter(|(_, value)| value.own);
        own.filter_map(|(name, value)| Some((names::held(name)?, value.value.parse().ok()?)))
    }

    /// Tags and what they hold, with the backend's own one for the origin.
    pub(super) fn holds(&self) -> BTreeMap<String, Guid> {
        let is_here = |(_, guid): &(String, Guid)| self.base(*guid).is_ok();
        let mut holds: BTreeMap<String, Guid> = self.held().filter(is_here).collect();
        let origin: Option<Guid> = self.value(ORIGIN).and_then(|text| text.parse().ok());
        if let Some(guid) = origin.filter(|guid| self.snap(*guid).is_ok()) {
            holds.insert(ORIGIN_TAG.to_owned(), guid);
        }
        holds
    }

    /// The same, with a tag for each dataset that is a clone of a snapshot here.
    pub(super) fn all_holds(&self, names: &Names, origins: &Origins) -> BTreeMap<String, Guid> {
        let mut holds = self.holds();
        for (clone, origin) in clones(origins, &self.name) {
            if let Some(snap) = self.line().find(|snap| snap.full == origin) {
                let tag = format!("{CLONE_TAG}{}", names.short(&clone));
                holds.insert(tag, snap.snapshot.guid);
            }
        }
        holds
    }

    /// The free texts, as they are stored and as they read.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        let own = self.properties.iter().filter(|(_, value)| value.own);
        own.filter_map(|(name, value)| {
            names::read_text(name, &value.value, |piece| self.value(piece))
        })
        .collect()
    }

    /// As the trait says it, with all tags: people's reasons, the origin's, and one for each dataset that is a clone of a
    /// snapshot here.
    pub(super) fn describe(
        &self,
        names: &Names,
        origins: &Origins,
    ) -> std::result::Result<Dataset, Cause> {
        let role = self.role()?;
        let base = self.value(BASE).and_then(|text| text.parse().ok());
        let used = self.bytes("usedbydataset").saturating_add(self.bytes("usedbysnapshots"));
        Ok(Dataset {
            id: self.id,
            role,
            epoch: self.epoch(),
            snapshots: self.line().map(|snap| snap.snapshot.clone()).collect(),
            bookmarks: self.orphaned().map(|mark| mark.snapshot.clone()).collect(),
            properties: self.texts(),
            used: Bytes(used),
            quota: self.quota(),
            base: base.filter(|_| role == Role::Orphan),
            holds: self.all_holds(names, origins),
        })
    }
}

impl Inner {
    /// Reads a dataset; `None` if there is none. A root that is not there is an error: no dataset of it is known to be
    /// gone.
    pub(super) async fn find(&self, id: DatasetId) -> Result<Option<Found>> {
        self.find_named(id, self.names.of(id)).await
    }

    /// The same, where it must be.
    pub(super) async fn must(&self, id: DatasetId) -> Result<Found> {
        self.find(id).await?.ok_or(Cause::Missing)
    }

    /// As the trait says it.
    pub(super) async fn described(&self, found: &Found) -> Result<Dataset> {
        found.describe(&self.names, &*self.origins().await?)
    }

    pub(super) async fn find_named(&self, id: DatasetId, name: String) -> Result<Option<Found>> {
        let (properties, snaps) = match self.properties_and_snapshots(&name).await {
            Ok(both) => both,
            Err(Cause::Missing) => {
                self.root_is_there().await?;
                return Ok(None);
            }
            Err(cause) => return Err(cause),
        };
        let mut found = Found { id, name, properties, before: Vec::new(), snaps };
        found.before = self.before(found.clone_of().map(str::to_owned)).await?;
        Ok(Some(found))
    }

    async fn properties_and_snapshots(
        &self,
        name: &str,
    ) -> Result<(BTreeMap<String, Value>, Snaps)> {
        let get = ["get", "-Hp", "-o", "name,property,value,source"];
        if self.can.whole {
            let whole = [&get[..], &["-r", "-d", "1", "all", name]].concat();
            let mut table = words::properties(&self.tools.zfs(&whole).await?);
            let snaps = snapshots(name, &table);
            return Ok((table.remove(name).unwrap_or_default(), snaps));
        }
        let all = [&get[..], &["all", name]].concat();
        let (out, snaps) = tokio::join!(self.tools.zfs(&all), self.snapshots_of(name));
        Ok((words::properties(&out?).remove(name).unwrap_or_default(), snaps?))
    }

    pub(super) async fn root_is_there(&self) -> Result<()> {
        match self.tools.zfs(&["list", "-H", "-o", "name", self.names.root()]).await {
            Ok(_) => Ok(()),
            Err(Cause::Missing) => Err(Cause::PoolMissing { pool: self.names.root().to_owned() }),
            Err(cause) => Err(cause),
        }
    }

    pub(super) async fn snapshots_of(&self, name: &str) -> Result<Snaps> {
        let columns = "name,property,value,source";
        let get = ["get", "-Hp", "-r", "-d", "1", "-o", columns, OF_SNAPSHOTS, name];
        let out = self.tools.zfs(&get).await?;
        Ok(snapshots(name, &words::properties(&out)))
    }

    /// The line up to and with a snapshot that something is a clone of.
    async fn before(&self, mut origin: Option<String>) -> Result<Vec<Snap>> {
        let mut parts: Vec<Vec<Snap>> = Vec::new();
        while let Some(full) = origin.take() {
            let Some(part) = self.sealed(&full).await?.filter(|_| parts.len() <= CHAIN_MAX) else {
                break;
            };
            parts.push(part);
            let dataset = full.split('@').next().unwrap_or_default();
            origin = self.origins().await?.get(dataset).filter(|name| name.contains('@')).cloned();
        }
        Ok(parts.into_iter().rev().flatten().collect())
    }

    /// Every dataset, by three questions however many there are.
    pub(super) async fn everything(&self) -> Result<Vec<Found>> {
        self.kept.forget();
        let root = self.names.root();
        let list = ["list", "-H", "-t", "filesystem", "-r", "-o", "name", root];
        let listed = match self.tools.zfs(&list).await {
            Err(Cause::Missing) => {
                return Err(Cause::PoolMissing { pool: root.to_owned() });
            }
            result => result?,
        };
        let known: Vec<(DatasetId, &str)> =
            listed.lines().filter_map(|name| Some((self.names.parse(name)?, name))).collect();
        let mut all = BTreeMap::new();
        for some in known.chunks(200) {
            let get = ["get", "-Hp", "-o", "name,property,value,source", "all"];
            let get: Vec<String> = get
                .iter()
                .copied()
                .chain(some.iter().map(|(_, name)| *name))
                .map(str::to_owned)
                .collect();
            match self.tools.zfs_list(&get).await {
                Ok(out) => all.extend(words::properties(&out)),
                // One of them went away meanwhile: one by one.
                Err(Cause::Missing) => return self.one_by_one(&known).await,
                Err(cause) => return Err(cause),
            }
        }
        let get = ["get", "-Hp", "-r", "-o", "name,property,value,source", OF_SNAPSHOTS, root];
        let table = words::properties(&self.tools.zfs(&get).await?);
        let origins: Origins = all
            .iter()
            .filter_map(|(name, found)| Some((name.clone(), found.get("origin")?.value.clone())))
            .collect();
        let mut founds = Vec::new();
        for (id, name) in known {
            let Some(properties) = all.remove(name) else { continue };
            let snaps = snapshots(name, &table);
            let before = chain(name, &origins, &table);
            founds.push(Found { id, name: name.to_owned(), properties, before, snaps });
        }
        founds.sort_by_key(|found| found.id);
        Ok(founds)
    }

    async fn one_by_one(&self, known: &[(DatasetId, &str)]) -> Result<Vec<Found>> {
        let mut founds = Vec::new();
        for (id, _) in known {
            founds.extend(self.find(*id).await?);
        }
        founds.sort_by_key(|found| found.id);
        Ok(founds)
    }

    /// What is a clone of a snapshot of this dataset: its full name, and the full name of the snapshot.
    pub(super) async fn dependents(&self, name: &str) -> Result<Vec<(String, String)>> {
        Ok(clones(&*self.origins_now().await?, name))
    }
}

/// What is a clone of a snapshot of a dataset, with the full name of that.
pub(super) fn clones(origins: &Origins, name: &str) -> Vec<(String, String)> {
    let of = |origin: &str| origin.split_once('@').is_some_and(|(dataset, _)| dataset == name);
    let ours = origins.iter().filter(|(_, origin)| of(origin));
    ours.map(|(clone, origin)| (clone.clone(), origin.clone())).collect()
}

/// As [`Inner::before`], out of tables that are here.
fn chain(
    name: &str,
    origins: &Origins,
    table: &BTreeMap<String, BTreeMap<String, Value>>,
) -> Vec<Snap> {
    let mut parts: Vec<Vec<Snap>> = Vec::new();
    let mut at = name;
    while let Some((origin, (dataset, _))) =
        origins.get(at).and_then(|origin| Some((origin, origin.split_once('@')?)))
    {
        let mut part = snapshots(dataset, table).own;
        match part.iter().position(|snap| snap.full == *origin) {
            Some(end) if parts.len() <= CHAIN_MAX => part.truncate(end + 1),
            Some(_) | None => break,
        }
        parts.push(part);
        at = dataset;
    }
    parts.into_iter().rev().flatten().collect()
}
