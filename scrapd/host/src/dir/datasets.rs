//! The trait on directories: each method names its work, takes the dataset's lock and goes to a thread that may block.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::aside::{self, Back, SetAside, Step};
use super::folder::{Folder, StoredRole};
use super::stream::bad;
use super::transfer::{self, Receive};
use super::{DirDatasets, blocking, files};
use crate::datasets::{
    Cause, Dataset, DatasetError, DatasetId, Datasets, Diff, Incoming, ORIGIN_TAG, PoolHealth,
    PoolState, Result, Role, Shape, Space, Written,
};

/// Pieces of a stream that may wait between disk and network.
const QUEUE: usize = 4;

impl Datasets for DirDatasets {
    async fn list(&self) -> Result<Vec<Dataset>> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.list()).await.map_err(unnamed("list"))
    }

    async fn get(&self, id: DatasetId) -> Result<Option<Dataset>> {
        let folder = self.inner.folder(id);
        let read = blocking(move || Ok(folder.meta()?.map(|meta| meta.describe(id))));
        read.await.map_err(|cause| DatasetError { work: "look at", dataset: id, cause })
    }

    async fn create(&self, grain: GrainId, epoch: Epoch, shape: Shape) -> Result<()> {
        let id = DatasetId::Grain(grain);
        let create = move |inner: &super::Inner| inner.create(id, StoredRole::Owner, epoch, shape);
        self.locked(id, "create", create).await
    }

    async fn set_role(&self, grain: GrainId, role: Role, epoch: Epoch) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        let change = move |inner: &super::Inner| {
            inner.set_role(id, role, epoch)?;
            inner.described(id)
        };
        self.locked(id, "change the role of", change).await
    }

    async fn set_shape(&self, grain: GrainId, shape: Shape) -> Result<()> {
        let id = DatasetId::Grain(grain);
        let change = move |inner: &super::Inner| {
            inner.change(id, |meta| {
                meta.quota = shape.quota;
                meta.reservation = shape.reservation;
                meta.record_size = shape.record_size;
                Ok(())
            })
        };
        self.locked(id, "set the limits of", change).await
    }

    async fn set_properties(
        &self,
        id: DatasetId,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        let change = move |inner: &super::Inner| {
            inner.change(id, |meta| {
                meta.properties.extend(properties);
                Ok(())
            })
        };
        self.locked(id, "set properties of", change).await
    }

    fn path(&self, grain: GrainId) -> PathBuf {
        self.inner.folder(DatasetId::Grain(grain)).head()
    }

    async fn open_head(&self, grain: GrainId) -> Result<()> {
        let id = DatasetId::Grain(grain);
        let look = move |inner: &super::Inner| match inner.folder(id).must()?.role_of(id) {
            Role::Owner => Ok(()),
            is @ (Role::Standby | Role::Orphan | Role::Template) => Err(Cause::WrongRole { is }),
        };
        self.locked(id, "open", look).await
    }

    async fn written(&self, id: DatasetId) -> Result<Written> {
        self.locked(id, "measure", move |inner| inner.written(id)).await
    }

    async fn snapshot(
        &self,
        grain: GrainId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        let (id, name) = (DatasetId::Grain(grain), name.clone());
        self.locked(id, "snapshot", move |inner| inner.snapshot(id, &name, now)).await
    }

    async fn prune(&self, grain: GrainId, guids: &[Guid]) -> Result<()> {
        let (id, guids) = (DatasetId::Grain(grain), guids.to_vec());
        self.locked(id, "prune", move |inner| inner.prune(id, &guids)).await
    }

    async fn hold(&self, grain: GrainId, guid: Guid, tag: &str) -> Result<Dataset> {
        let (id, tag) = (DatasetId::Grain(grain), tag.to_owned());
        let change = move |inner: &super::Inner| {
            inner.change(id, |meta| {
                meta.row(guid)?;
                if tag == ORIGIN_TAG {
                    return Err(Cause::Held(format!("the tag `{tag}` is the backend's own")));
                }
                meta.holds.insert(tag, guid);
                Ok(())
            })?;
            inner.described(id)
        };
        self.locked(id, "hold a snapshot of", change).await
    }

    async fn release(&self, grain: GrainId, tag: &str) -> Result<()> {
        let (id, tag) = (DatasetId::Grain(grain), tag.to_owned());
        let change = move |inner: &super::Inner| {
            inner.change(id, |meta| {
                if tag != ORIGIN_TAG {
                    meta.holds.remove(&tag);
                }
                Ok(())
            })
        };
        self.locked(id, "release a snapshot of", change).await
    }

    async fn send(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let failed = |cause| DatasetError { work: "send", dataset: id, cause };
        let plan = self
            .locked(id, "send", move |inner| transfer::plan(&inner.folder(id), from, to))
            .await?;
        let folder = self.inner.folder(id);
        let (pieces, mut taken) = mpsc::channel(QUEUE);
        let producer = tokio::spawn(blocking(move || {
            transfer::produce(&folder, plan, |piece| pieces.blocking_send(piece).is_ok())
        }));
        let mut length = 0;
        let broken = |source| Cause::Io { what: "the stream cannot be written".to_owned(), source };
        while let Some(piece) = taken.recv().await {
            out.write_all(&piece).await.map_err(|error| failed(broken(error)))?;
            length += piece.len() as u64;
        }
        let produced = producer.await.unwrap_or_else(|error| {
            Err(files::refused("the work was broken off", std::io::Error::other(error)))
        });
        produced.map_err(failed)?;
        out.flush().await.map_err(|error| failed(broken(error)))?;
        Ok(length)
    }

    async fn estimate(&self, id: DatasetId, from: Option<Guid>, to: Guid) -> Result<u64> {
        let plan = move |inner: &super::Inner| transfer::plan(&inner.folder(id), from, to);
        Ok(self.locked(id, "estimate", plan).await?.length())
    }

    async fn receive(
        &self,
        grain: GrainId,
        incoming: Incoming,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        if incoming.resumed {
            let cause = bad("nothing is kept here of a stream that was cut off");
            return Err(DatasetError { work: "receive into", dataset: id, cause });
        }
        let receive = Receive { id, epoch: incoming.epoch, from: incoming.from };
        self.take_in(receive, "receive into", input).await?;
        self.must(id).await
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
        let refuse = move |inner: &super::Inner| {
            inner.folder(id).must()?;
            Err(Cause::NoSnapshot(to))
        };
        self.locked(id, "send the rest of", refuse).await
    }

    async fn set_aside(
        &self,
        grain: GrainId,
        base: Option<Guid>,
        orphan_name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        let order = SetAside { grain, base, name: orphan_name.clone(), now };
        let done = self.locked(id, "set aside", move |inner| {
            inner.end_receives(id);
            order.run(inner, Step::Done)
        });
        done.await?.ok_or(DatasetError { work: "set aside", dataset: id, cause: Cause::Missing })
    }

    async fn take_back(&self, grain: GrainId, epoch: Epoch) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        let guard = self.inner.slot(id).lock_owned().await;
        self.locked(DatasetId::Orphan(grain, epoch), "take back", move |inner| {
            let _guard = guard;
            inner.end_receives(id);
            aside::take_back(inner, grain, epoch, Back::Done)?.ok_or(Cause::Missing)
        })
        .await
    }

    async fn restore(&self, grain: GrainId, guid: Guid) -> Result<()> {
        let id = DatasetId::Grain(grain);
        self.locked(id, "restore", move |inner| inner.restore(id, guid)).await
    }

    async fn clone_from(
        &self,
        from: DatasetId,
        guid: Guid,
        to: GrainId,
        epoch: Epoch,
        shape: Shape,
    ) -> Result<()> {
        let id = DatasetId::Grain(to);
        let stage = move |inner: &super::Inner| {
            if inner.folder(from).meta()?.is_some() && inner.folder(id).meta()?.is_some() {
                inner.folder(from).must()?.row(guid)?;
                return Err(Cause::Exists);
            }
            aside::stage_clone(inner, from, guid, epoch, shape)
        };
        let staging = self.locked(from, "clone", stage).await?;
        let appear = move |inner: &super::Inner| {
            inner.appear(id, &Folder { path: staging.path().join("dataset") })
        };
        self.locked(id, "create", appear).await
    }

    async fn begin_template(&self, template: TemplateId) -> Result<PathBuf> {
        let id = DatasetId::Template(template);
        self.locked(id, "begin", move |inner| inner.begin_template(id)).await
    }

    async fn seal_template(&self, template: TemplateId, now: Timestamp) -> Result<Snapshot> {
        let id = DatasetId::Template(template);
        self.locked(id, "seal", move |inner| inner.seal_template(id, now)).await
    }

    async fn receive_template(
        &self,
        template: TemplateId,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Snapshot> {
        let id = DatasetId::Template(template);
        self.take_in(Receive { id, epoch: Epoch(0), from: None }, "receive", input).await
    }

    async fn view(&self, id: DatasetId, guid: Option<Guid>) -> Result<PathBuf> {
        self.locked(id, "show", move |inner| inner.view(id, guid)).await
    }

    async fn conceal(&self, id: DatasetId) -> Result<()> {
        self.locked(id, "end the views of", move |inner| inner.conceal(id)).await
    }

    async fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> Result<Diff> {
        self.locked(id, "compare", move |inner| inner.diff(id, from, limit)).await
    }

    async fn destroy(&self, id: DatasetId) -> Result<()> {
        let discard = move |inner: &super::Inner| {
            inner.end_receives(id);
            inner.conceal(id)?;
            inner.discard(&inner.folder(id).path)
        };
        self.locked(id, "destroy", discard).await
    }

    async fn space(&self) -> Result<Space> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.space()).await.map_err(unnamed("measure the space of"))
    }

    async fn health(&self) -> Result<PoolHealth> {
        let (state, scrubbed) = (PoolState::Online, None);
        Ok(PoolHealth { state, errors: 0, scrubbed, busy: false, what: None })
    }

    async fn scrub(&self, _before: Timestamp) -> Result<bool> {
        Ok(false)
    }
}

impl DirDatasets {
    /// Takes a stream in, into whatever it is for.
    async fn take_in(
        &self,
        receive: Receive,
        work: &'static str,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Snapshot> {
        let (frames, taken) = mpsc::channel(QUEUE);
        let (inner, dataset) = (Arc::clone(&self.inner), receive.id);
        let worker = tokio::spawn(blocking(move || receive.run(&inner, taken)));
        // Ends when the stream does or the worker wants no more; either way the worker says what came of it. When nobody
        // waits here any more, the worker finds the stream too short.
        let read = transfer::read_frames(input, frames).await;
        let result = worker.await.unwrap_or_else(|error| {
            Err(files::refused("the work was broken off", std::io::Error::other(error)))
        });
        let result = match (result, read) {
            (Ok(snapshot), _) => Ok(snapshot),
            // What is wrong with the stream itself says more than that it ended.
            (Err(Cause::BadStream(_)), Err(cause)) | (Err(cause), _) => Err(cause),
        };
        result.map_err(|cause| DatasetError { work, dataset, cause })
    }
}

/// Work that is on no single dataset still has to name one: the first.
fn unnamed(work: &'static str) -> impl FnOnce(Cause) -> DatasetError {
    move |cause| DatasetError { work, dataset: DatasetId::Grain(GrainId(0)), cause }
}
