//! The trait on a pool: each method names its work, takes the dataset's lock and goes to its end on its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use super::aside::{SetAside, Step};
use super::back::Back;
use super::names;
use super::role::is_mountpoint;
use super::send::Plan;
use super::{ZfsDatasets, broken_off, unnamed};
use crate::datasets::{
    Cause, Dataset, DatasetError, DatasetId, Datasets, Diff, Frozen, Incoming, PoolHealth, Result,
    Role, Shape, Space, Written,
};

impl Datasets for ZfsDatasets {
    async fn list(&self) -> Result<Vec<Dataset>> {
        let found = self.inner.everything().await.map_err(unnamed("list"))?;
        let origins = self.inner.origins().await.map_err(unnamed("list"))?;
        let mut all = Vec::new();
        for found in found {
            match found.describe(&self.inner.names, &origins) {
                Ok(dataset) => all.push(dataset),
                Err(cause) => tracing::warn!(dataset = found.name, %cause, "not listed"),
            }
        }
        Ok(all)
    }

    async fn get(&self, id: DatasetId) -> Result<Option<Dataset>> {
        let failed = |cause| DatasetError { work: "look at", dataset: id, cause };
        let Some(found) = self.inner.find(id).await.map_err(failed)? else { return Ok(None) };
        self.inner.described(&found).await.map(Some).map_err(failed)
    }

    async fn create(&self, grain: GrainId, epoch: Epoch, shape: Shape) -> Result<()> {
        let id = DatasetId::Grain(grain);
        self.locked(id, "create", move |inner| async move { inner.create(id, epoch, shape).await })
            .await
    }

    async fn set_role(&self, grain: GrainId, role: Role, epoch: Epoch) -> Result<Dataset> {
        let id = DatasetId::Grain(grain);
        self.holding(id, "change the role of", move |inner, mut held| async move {
            inner.set_role(&mut held, id, role, epoch).await
        })
        .await
    }

    async fn set_shape(&self, grain: GrainId, shape: Shape) -> Result<()> {
        let id = DatasetId::Grain(grain);
        self.locked(id, "set the limits of", move |inner| async move {
            inner.set_shape(id, shape).await
        })
        .await
    }

    async fn set_properties(
        &self,
        id: DatasetId,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        self.locked(id, "set properties of", move |inner| async move {
            let found = inner.must(id).await?;
            let known = found.texts();
            let new = properties.iter().filter(|(key, value)| known.get(*key) != Some(*value));
            let pieces: Vec<_> = new.flat_map(|(key, value)| names::text(key, value)).collect();
            inner.set(&found.name, &pieces).await
        })
        .await
    }

    fn path(&self, grain: GrainId) -> PathBuf {
        self.inner.names.mountpoint(DatasetId::Grain(grain))
    }

    async fn open_head(&self, grain: GrainId) -> Result<()> {
        let id = DatasetId::Grain(grain);
        // Its own file system at that place says enough, and asks no program.
        if is_mountpoint(&self.inner.names.mountpoint(id)).await {
            return Ok(());
        }
        self.locked(id, "open", move |inner| async move { inner.open_again(id).await }).await
    }

    async fn written(&self, id: DatasetId) -> Result<Written> {
        self.holding(
            id,
            "measure",
            move |inner, mut held| async move { inner.written(&mut held).await },
        )
        .await
    }

    async fn snapshot(
        &self,
        grain: GrainId,
        name: &SnapshotName,
        now: Timestamp,
    ) -> Result<Snapshot> {
        let (id, name) = (DatasetId::Grain(grain), name.clone());
        self.holding(id, "snapshot", move |inner, mut held| async move {
            inner.snapshot(&mut held, &name, now).await
        })
        .await
    }

    async fn snapshot_all(
        &self,
        wanted: &[(GrainId, SnapshotName)],
        now: Timestamp,
    ) -> Vec<(GrainId, Result<Frozen>)> {
        Arc::clone(&self.inner).snapshot_all(wanted.to_vec(), now).await
    }

    async fn prune(&self, grain: GrainId, guids: &[Guid]) -> Result<()> {
        let (id, guids) = (DatasetId::Grain(grain), guids.to_vec());
        self.locked(id, "prune", move |inner| async move { inner.prune(id, &guids).await }).await
    }

    async fn hold(&self, grain: GrainId, guid: Guid, tag: &str) -> Result<Dataset> {
        let (id, tag) = (DatasetId::Grain(grain), tag.to_owned());
        self.holding(id, "hold a snapshot of", move |inner, mut held| async move {
            inner.hold(&mut held, guid, &tag).await
        })
        .await
    }

    async fn release(&self, grain: GrainId, tag: &str) -> Result<()> {
        let (id, tag) = (DatasetId::Grain(grain), tag.to_owned());
        self.locked(id, "release a snapshot of", move |inner| async move {
            inner.release(id, &tag).await
        })
        .await
    }

    async fn send(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let plan = self.plan(id, from, to, "send").await?;
        let sent = self.inner.produce(&plan, out).await;
        if let Err(Cause::Missing) = sent {
            // Planned by what was known: a new look says what is missing.
            drop(self.inner.lock(id).await);
            self.plan(id, from, to, "send").await?;
        }
        sent.map_err(|cause| DatasetError { work: "send", dataset: id, cause })
    }

    async fn estimate(&self, id: DatasetId, from: Option<Guid>, to: Guid) -> Result<u64> {
        let plan = self.plan(id, from, to, "estimate").await?;
        let estimated = self.inner.estimate(&plan).await;
        estimated.map_err(|cause| DatasetError { work: "estimate", dataset: id, cause })
    }

    async fn estimate_cheaply(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
    ) -> Result<Option<u64>> {
        if from.is_some() && !self.inner.can.estimate {
            return Ok(None);
        }
        let plan = self.plan(id, from, to, "estimate").await?;
        let estimated = self.inner.estimate_cheaply(&plan).await;
        estimated.map_err(|cause| DatasetError { work: "estimate", dataset: id, cause })
    }

    async fn receive(
        &self,
        grain: GrainId,
        incoming: Incoming,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Dataset> {
        let dataset = DatasetId::Grain(grain);
        let received = self.inner.receive(dataset, incoming, input).await;
        let described = async { self.inner.described(&received?).await };
        described.await.map_err(|cause| DatasetError { work: "receive into", dataset, cause })
    }

    async fn unfinished(&self, grain: GrainId) -> Result<Option<String>> {
        let dataset = DatasetId::Grain(grain);
        let token = self.inner.unfinished(dataset).await;
        token.map_err(|cause| DatasetError { work: "look for the rest of", dataset, cause })
    }

    async fn send_rest(
        &self,
        id: DatasetId,
        token: &str,
        to: Guid,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let failed = |cause| DatasetError { work: "send the rest of", dataset: id, cause };
        let plan = self.inner.rest(id, token, to).await.map_err(failed)?;
        self.inner.produce(&plan, out).await.map_err(failed)
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
        let done = self.locked(id, "set aside", move |inner| async move {
            order.run(&inner, Step::Done).await?.ok_or(Cause::Missing)
        });
        done.await
    }

    async fn take_back(&self, grain: GrainId, epoch: Epoch) -> Result<Dataset> {
        let guard = self.inner.lock(DatasetId::Grain(grain)).await;
        let id = DatasetId::Orphan(grain, epoch);
        self.locked(id, "take back", move |inner| async move {
            let _guard = guard;
            inner.take_back(grain, epoch, Back::Done).await?.ok_or(Cause::Missing)
        })
        .await
    }

    async fn restore(&self, grain: GrainId, guid: Guid) -> Result<()> {
        let id = DatasetId::Grain(grain);
        self.locked(id, "restore", move |inner| async move { inner.restore(id, guid).await }).await
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
        // To its end, even if nobody waits for it any more; it takes the locks itself.
        let inner = Arc::clone(&self.inner);
        let work =
            tokio::spawn(async move { inner.make_clone(from, guid, id, epoch, shape).await });
        let result = work.await.unwrap_or_else(|error| Err(broken_off(error)));
        result.map_err(|cause| DatasetError { work: "clone", dataset: from, cause })
    }

    async fn begin_template(&self, template: TemplateId) -> Result<PathBuf> {
        let id = DatasetId::Template(template);
        self.locked(id, "begin", move |inner| async move { inner.begin_template(id).await }).await
    }

    async fn seal_template(&self, template: TemplateId, now: Timestamp) -> Result<Snapshot> {
        let id = DatasetId::Template(template);
        self.locked(id, "seal", move |inner| async move { inner.seal_template(id, now).await })
            .await
    }

    async fn receive_template(
        &self,
        template: TemplateId,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Snapshot> {
        let dataset = DatasetId::Template(template);
        let incoming = Incoming::new(Epoch(0), None);
        let received = self.inner.receive(dataset, incoming, input).await;
        let sealed = received.and_then(|found| {
            found.newest().map(|snap| snap.snapshot.clone()).ok_or(Cause::Missing)
        });
        sealed.map_err(|cause| DatasetError { work: "receive", dataset, cause })
    }

    async fn view(&self, id: DatasetId, guid: Option<Guid>) -> Result<PathBuf> {
        self.locked(id, "show", move |inner| async move { inner.view(id, guid).await }).await
    }

    async fn conceal(&self, id: DatasetId) -> Result<()> {
        self.locked(id, "end the views of", move |inner| async move { inner.conceal(id).await })
            .await
    }

    async fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> Result<Diff> {
        self.locked(id, "compare", move |inner| async move { inner.diff(id, from, limit).await })
            .await
    }

    async fn destroy(&self, id: DatasetId) -> Result<()> {
        self.locked(id, "destroy", move |inner| async move { inner.destroy(id).await }).await
    }

    async fn space(&self) -> Result<Space> {
        self.inner.space().await.map_err(unnamed("measure the space of"))
    }

    async fn health(&self) -> Result<PoolHealth> {
        self.inner.health().await.map_err(unnamed("ask for the health of"))
    }

    async fn scrub(&self, before: Timestamp) -> Result<bool> {
        self.inner.scrub(before).await.map_err(unnamed("scrub"))
    }
}

impl ZfsDatasets {
    /// What a stream would be, by what is here while nobody changes it.
    async fn plan(
        &self,
        id: DatasetId,
        from: Option<Guid>,
        to: Guid,
        work: &'static str,
    ) -> Result<Plan> {
        self.holding(id, work, move |inner, mut held| async move {
            inner.plan(&mut held, from, to).await
        })
        .await
    }
}
