//! Datasets in memory: a head is a map from path to contents, a snapshot is a frozen copy of it. Knows no modes, links
//! or quotas, cannot go on with a stream that was cut off, and copies templates as a whole. Guids are numbers made of a seed and a counter, so that a scenario is the same at every run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::lock;
use crate::datasets::{
    Cause, Dataset, DatasetError, DatasetId, Datasets, Diff, Incoming, ORIGIN_TAG, PoolHealth,
    PoolState, Result, Role, Shape, Space, Written, template_name,
};

mod handles;
mod stored;
mod stream;

use stored::{State, Stored, Tree, change_role, prune_line, set_aside, take_back};

/// The in-memory twin. Clones share the same state, as two handles of one pool would.
#[derive(Debug, Clone)]
pub struct MemDatasets {
    state: Arc<Mutex<State>>,
}

impl Default for MemDatasets {
    fn default() -> Self {
        Self::new(0)
    }
}

impl MemDatasets {
    /// An empty pool of 1 TiB. Two nodes of one test need two seeds, or their guids would be the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let space = Space { total: Bytes(1 << 40), free: Bytes(1 << 40) };
        // Far apart, so that counters of neighbouring seeds never meet.
        let seed = seed.wrapping_mul(0xd134_2543_de82_ef95);
        let (stored, views) = (BTreeMap::new(), BTreeMap::new());
        let state = State { seed, guids: 0, space, stored, views };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn with<T>(
        &self,
        id: DatasetId,
        work: &'static str,
        action: impl FnOnce(&mut State, DatasetId) -> std::result::Result<T, Cause>,
    ) -> Result<T> {
        let result = action(&mut lock(&self.state), id);
        result.map_err(|cause| DatasetError { work, dataset: id, cause })
    }
}

/// Checks a stream against what is here, before anything is changed.
fn accept(
    state: &State,
    id: DatasetId,
    from: Option<Guid>,
    header: &stream::Header,
) -> std::result::Result<(), Cause> {
    let stored = state.stored.get(&id);
    if stored.is_some_and(|stored| stored.position(header.snapshot.guid).is_ok()) {
        return Err(Cause::Exists);
    }
    if header.from != from {
        let said = header.from.map_or("nothing".to_owned(), |guid| guid.to_string());
        return Err(Cause::BadStream(format!("it begins at {said}, which was not asked for")));
    }
    let Some(stored) = stored else {
        let cloned = from.is_none_or(|from| state.template(from).is_some());
        return if cloned { Ok(()) } else { Err(Cause::Missing) };
    };
    if stored.role != Role::Standby {
        return Err(Cause::WrongRole { is: stored.role });
    }
    match (from, stored.newest()) {
        (None, None) => Err(Cause::Exists),
        (from, newest) if from != newest => Err(Cause::Diverged { newest, from }),
        (_, _) => Ok(()),
    }
}

/// That a stream is one of a whole template, and may come in.
fn accept_template(
    state: &State,
    id: DatasetId,
    header: &stream::Header,
) -> std::result::Result<(), Cause> {
    if state.stored.get(&id).is_some_and(|stored| stored.newest().is_some()) {
        return Err(Cause::Exists);
    }
    if header.from.is_some() || header.snapshot.name != template_name() {
        return Err(Cause::BadStream("it is not the whole of a template".to_owned()));
    }
    Ok(())
}

impl Datasets for MemDatasets {
    async fn list(&self) -> Result<Vec<Dataset>> {
        let state = lock(&self.state);
        Ok(state.stored.iter().map(|(id, stored)| stored.describe(*id)).collect())
    }

    async fn get(&self, id: DatasetId) -> Result<Option<Dataset>> {
        Ok(lock(&self.state).stored.get(&id).map(|stored| stored.describe(id)))
    }

    async fn create(&self, grain: GrainId, epoch: Epoch, shape: Shape) -> Result<()> {
        self.with(DatasetId::Grain(grain), "create", |state, id| {
            if state.stored.contains_key(&id) {
                return Err(Cause::Exists);
            }
            state.stored.insert(id, Stored::new(Role::Owner, epoch, shape));
            Ok(())
        })
    }

    async fn set_role(&self, grain: GrainId, role: Role, epoch: Epoch) -> Result<Dataset> {
        self.with(DatasetId::Grain(grain), "change the role of", |state, id| {
            let stored = state.find(id)?;
            change_role(stored, role, epoch)?;
            Ok(stored.describe(id))
        })
    }

    async fn set_shape(&self, grain: GrainId, shape: Shape) -> Result<()> {
        self.with(DatasetId::Grain(grain), "set the limits of", |state, id| {
            state.find(id)?.shape = shape;
            Ok(())
        })
    }

    async fn set_properties(
        &self,
        id: DatasetId,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        self.with(id, "set properties of", |state, id| {
            state.find(id)?.properties.extend(properties);
            Ok(())
        })
    }

    fn path(&self, grain: GrainId) -> PathBuf {
        PathBuf::from(format!("/mem/grains/{grain}"))
    }

    async fn open_head(&self, grain: GrainId) -> Result<()> {
        self.with(DatasetId::Grain(grain), "open", |state, id| match state.find(id)?.role {
            Role::Owner => Ok(()),
            is @ (Role::Standby | Role::Orphan | Role::Template) => Err(Cause::WrongRole { is }),
        })
    }

    async fn written(&self, id: DatasetId) -> Result<Written> {
        self.with(id, "measure", |state, id| Ok(state.find(id)?.written()))
    }

    async fn snapshot(
        &self,
        grain: GrainId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        self.with(DatasetId::Grain(grain), "snapshot", |state, id| {
            let stored = state.find(id)?;
            let known = stored.line.iter().any(|(snapshot, _)| snapshot.name == *name);
            if stored.role != Role::Owner && !known {
                return Err(Cause::WrongRole { is: stored.role });
            }
            state.snapshot(id, name, now)
        })
    }

    async fn prune(&self, grain: GrainId, guids: &[Guid]) -> Result<()> {
        self.with(DatasetId::Grain(grain), "prune", |state, id| prune_line(state.find(id)?, guids))
    }

    async fn hold(&self, grain: GrainId, guid: Guid, tag: &str) -> Result<Dataset> {
        self.with(DatasetId::Grain(grain), "hold a snapshot of", |state, id| {
            let stored = state.find(id)?;
            stored.position(guid)?;
            if tag == ORIGIN_TAG {
                return Err(Cause::Held(format!("the tag `{tag}` is the backend's own")));
            }
            stored.holds.insert(tag.to_owned(), guid);
            Ok(stored.describe(id))
        })
    }

    async fn release(&self, grain: GrainId, tag: &str) -> Result<()> {
        self.with(DatasetId::Grain(grain), "release a snapshot of", |state, id| {
            let stored = state.find(id)?;
            if tag != ORIGIN_TAG {
                stored.holds.remove(tag);
            }
            Ok(())
        })
    }

    async fn send(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let bytes = self.with(id, "send", |state, id| encode(state.find(id)?, from, to))?;
        let written = async { out.write_all(&bytes).await.and(out.flush().await) };
        written.await.map_err(|source| DatasetError {
            work: "send",
            dataset: id,
            cause: Cause::Io { what: "the stream cannot be written".to_owned(), source },
        })?;
        Ok(bytes.len() as u64)
    }

    async fn estimate(&self, id: DatasetId, from: Option<Guid>, to: Guid) -> Result<u64> {
        self.with(id, "estimate", |state, id| Ok(encode(state.find(id)?, from, to)?.len() as u64))
    }

    async fn receive(
        &self,
        grain: GrainId,
        incoming: Incoming,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        let Incoming { epoch, from, resumed, hurried: _ } = incoming;
        let failed = |cause| DatasetError { work: "receive into", dataset: id, cause };
        if resumed {
            let why = "nothing is kept here of a stream that was cut off";
            return Err(failed(Cause::BadStream(why.to_owned())));
        }
        let header = stream::read_header(input).await.map_err(failed)?;
        accept(&lock(&self.state), id, from, &header).map_err(failed)?;
        if header.length() > lock(&self.state).space().free.0 {
            return Err(failed(Cause::NoSpace));
        }
        let changes = stream::read_body(&header, input).await.map_err(failed)?;
        self.with(id, "receive into", |state, id| {
            // Asked again: the world may have changed while the stream came in.
            accept(state, id, from, &header)?;
            let origin = from.and_then(|from| state.template(from)).cloned();
            let stored = state.stored.entry(id).or_insert_with(|| {
                let mut stored = Stored::new(Role::Standby, epoch, Shape::default());
                stored.begin_as(origin);
                stored
            });
            let mut tree = stored.newest_tree();
            tree.retain(|path, _| !header.removed.contains(path));
            tree.extend(changes);
            stored.line.push((header.snapshot, tree));
            stored.epoch = stored.epoch.max(epoch);
            Ok(stored.describe(id))
        })
    }

    async fn unfinished(&self, _grain: GrainId) -> Result<Option<String>> {
        Ok(None)
    }

    async fn send_rest(
        &self,
        id: DatasetId,
        _token: &str,
        to: Guid,
        _out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        self.with(id, "send the rest of", |state, id| {
            state.find(id)?;
            Err(Cause::NoSnapshot(to))
        })
    }

    async fn set_aside(
        &self,
        grain: GrainId,
        base: Option<Guid>,
        orphan_name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Dataset> {
        self.with(DatasetId::Grain(grain), "set aside", |state, _| {
            set_aside(state, grain, base, orphan_name, now)
        })
    }

    async fn take_back(&self, grain: GrainId, epoch: Epoch) -> Result<Dataset> {
        self.with(DatasetId::Orphan(grain, epoch), "take back", |state, _| {
            take_back(state, grain, epoch)
        })
    }

    async fn restore(&self, grain: GrainId, guid: Guid) -> Result<()> {
        self.with(DatasetId::Grain(grain), "restore", |state, id| {
            let stored = state.find(id)?;
            if stored.role != Role::Owner {
                return Err(Cause::WrongRole { is: stored.role });
            }
            stored.head = Some(stored.tree(guid)?.clone());
            Ok(())
        })
    }

    async fn clone_from(
        &self,
        from: DatasetId,
        guid: Guid,
        to: GrainId,
        epoch: Epoch,
        shape: Shape,
    ) -> Result<()> {
        self.with(from, "clone", |state, from| {
            let source = state.find(from)?;
            let origin =
                source.line.get(source.position(guid)?).cloned().ok_or(Cause::NoSnapshot(guid))?;
            let id = DatasetId::Grain(to);
            if state.stored.contains_key(&id) {
                return Err(Cause::Exists);
            }
            let mut stored = Stored::new(Role::Owner, epoch, shape);
            stored.begin_as(Some(origin));
            state.stored.insert(id, stored);
            Ok(())
        })
    }

    async fn begin_template(&self, template: TemplateId) -> Result<PathBuf> {
        self.with(DatasetId::Template(template), "begin", |state, id| {
            if state.stored.get(&id).is_some_and(|stored| stored.newest().is_some()) {
                return Err(Cause::Exists);
            }
            state.stored.insert(id, Stored::new(Role::Template, Epoch(0), Shape::default()));
            Ok(PathBuf::from(format!("/mem/{id}")))
        })
    }

    async fn seal_template(&self, template: TemplateId, now: Timestamp) -> Result<Snapshot> {
        self.with(DatasetId::Template(template), "seal", |state, id| {
            let snapshot = state.snapshot(id, &template_name(), now)?;
            state.find(id)?.head = None;
            Ok(snapshot)
        })
    }

    async fn receive_template(
        &self,
        template: TemplateId,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Snapshot> {
        let id = DatasetId::Template(template);
        let failed = |cause| DatasetError { work: "receive", dataset: id, cause };
        let header = stream::read_header(input).await.map_err(failed)?;
        accept_template(&lock(&self.state), id, &header).map_err(failed)?;
        let tree = stream::read_body(&header, input).await.map_err(failed)?;
        self.with(id, "receive", |state, id| {
            accept_template(state, id, &header)?;
            let mut stored = Stored::new(Role::Template, Epoch(0), Shape::default());
            stored.head = None;
            stored.line.push((header.snapshot.clone(), tree));
            state.stored.insert(id, stored);
            Ok(header.snapshot)
        })
    }

    async fn view(&self, id: DatasetId, guid: Option<Guid>) -> Result<PathBuf> {
        self.with(id, "show", |state, id| {
            let stored = state.find(id)?;
            let tree = match guid {
                Some(guid) => stored.tree(guid)?.clone(),
                None => stored.head.clone().unwrap_or_else(|| stored.newest_tree()),
            };
            let which = guid.map_or("head".to_owned(), |guid| guid.to_string());
            let path = PathBuf::from(format!("/mem/views/{id}/{which}"));
            state.views.insert(path.clone(), (id, tree));
            Ok(path)
        })
    }

    async fn conceal(&self, id: DatasetId) -> Result<()> {
        lock(&self.state).views.retain(|_, (of, _)| *of != id);
        Ok(())
    }

    async fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> Result<Diff> {
        self.with(id, "compare", |state, id| {
            let stored = state.find(id)?;
            let newest = stored.newest_tree();
            let head = stored.head.as_ref().unwrap_or(&newest);
            Ok(stored::changes(stored.tree(from)?, head, limit))
        })
    }

    async fn destroy(&self, id: DatasetId) -> Result<()> {
        let mut state = lock(&self.state);
        state.stored.remove(&id);
        state.views.retain(|_, (of, _)| *of != id);
        Ok(())
    }

    async fn space(&self) -> Result<Space> {
        Ok(lock(&self.state).space())
    }

    async fn health(&self) -> Result<PoolHealth> {
        let (state, scrubbed) = (PoolState::Online, None);
        Ok(PoolHealth { state, errors: 0, scrubbed, busy: false, what: None })
    }

    async fn scrub(&self, _before: Timestamp) -> Result<bool> {
        Ok(false)
    }
}

fn encode(stored: &Stored, from: Option<Guid>, to: Guid) -> std::result::Result<Vec<u8>, Cause> {
    let empty = Tree::new();
    let at = stored.position(to)?;
    let (snapshot, new) = stored.line.get(at).ok_or(Cause::NoSnapshot(to))?;
    let old = match from {
        Some(guid) if stored.position(guid)? >= at => {
            return Err(Cause::Diverged { newest: Some(to), from });
        }
        Some(guid) => stored.tree(guid)?,
        None => &empty,
    };
    stream::encode(from, snapshot, old, new)
}
