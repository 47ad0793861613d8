//! Templates on this node: an archive becomes one, and one that another node has comes here. Decides nothing: which ones belong
//! here is said by `obey`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use scrap_host::archive::{self, ArchiveError, Limits};
use scrap_host::clock;
use scrap_host::datasets::{DatasetError, DatasetId, Datasets};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{Name, NodeId, TemplateId};
use scrap_schema::unit;
use thiserror::Error;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::daemon::Daemon;
use crate::execute::{Done, Trouble};
use crate::raft::{Committed, ProposeError};
use crate::transfer::{self, IDLE};

/// Where in a template the system lies, as the runtime expects it.
pub const SYSTEM: &str = "rootfs";

/// Why an archive did not become a template.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The archive is not good, or the disk did not take it.
    #[error("template `{name}` was not imported")]
    Archive {
        /// As it should be called.
        name: Name,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The datasets refused.
    #[error("template `{name}` was not imported")]
    Datasets {
        /// As it should be called.
        name: Name,
        /// Why.
        #[source]
        source: DatasetError,
    },
    /// The node did not manage it.
    #[error("template `{name}` was not imported: {why}")]
    Failed {
        /// As it should be called.
        name: Name,
        /// Why.
        why: String,
    },
    /// The cluster did not take it in.
    #[error("template `{name}` is here, and the cluster was not told")]
    Untold {
        /// As it should be called.
        name: Name,
        /// Why.
        #[source]
        source: ProposeError,
    },
}

/// What a person says about a template.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its identity, made by the caller.
    pub id: TemplateId,
    /// Its name.
    pub name: Name,
    /// For people.
    pub description: Option<String>,
}

/// Unpacks an archive into a new template, freezes it and tells the cluster. What was begun and not finished is removed.
///
/// # Errors
/// What is wrong with the archive, this node, or the cluster. A refusal of the cluster is in the answer.
pub async fn import<S, E>(
    daemon: &Daemon,
    wanted: Wanted,
    stream: S,
) -> Result<Committed, ImportError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<std::io::Error> + Send + 'static,
{
    let id = wanted.id;
    let imported = take_in(daemon, &wanted, stream).await;
    let kept = imported.as_ref().is_ok_and(|committed| committed.outcome.is_ok());
    // An answer that did not come may have been a good one: then the cluster's word decides what becomes of it.
    let unknown = matches!(imported, Err(ImportError::Untold { .. }));
    if !kept
        && !unknown
        && let Err(error) = daemon.host.datasets.destroy(DatasetId::Template(id)).await
    {
        tracing::warn!(template = %id, error = crate::logging::chain(&error), "left behind");
    }
    imported
}

async fn take_in<S, E>(
    daemon: &Daemon,
    wanted: &Wanted,
    stream: S,
) -> Result<Committed, ImportError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<std::io::Error> + Send + 'static,
{
    let (id, name) = (wanted.id, &wanted.name);
    let datasets = &daemon.host.datasets;
    let refused = |source| ImportError::Datasets { name: name.clone(), source };
    let tree = datasets.begin_template(id).await.map_err(refused)?.join(SYSTEM);
    let arch = unpack(tree, name, stream).await?;
    let sealed = datasets.seal_template(id, clock::wall()).await.map_err(refused)?;
    let dataset = datasets.get(DatasetId::Template(id)).await.map_err(refused)?;
    let command = Command::AddTemplate {
        template: id,
        name: name.clone(),
        guid: sealed.guid,
        size: dataset.map(|dataset| dataset.used).unwrap_or_default(),
        arch,
        os: std::env::consts::OS.to_owned(),
        node: daemon.me,
        description: wanted.description.clone(),
    };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let untold = |source| ImportError::Untold { name: name.clone(), source };
    let committed = daemon.consensus.propose(proposal).await.map_err(untold)?;
    if committed.outcome.is_ok() {
        daemon.agent.update(vec![crate::agent::Update::Template(id, Some(sealed.guid))]);
    }
    Ok(committed)
}

/// Unpacks on a thread of its own. Returns the architecture of what came out.
async fn unpack<S, E>(tree: PathBuf, name: &Name, stream: S) -> Result<String, ImportError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<std::io::Error> + Send + 'static,
{
    let input = SyncIoBridge::new(StreamReader::new(stream));
    let work = tokio::task::spawn_blocking(move || {
        std::fs::create_dir(&tree)
            .map_err(|source| ArchiveError::Write { path: tree.display().to_string(), source })?;
        let plain = archive::plain(input).map_err(ArchiveError::Damaged)?;
        let unpacked = archive::unpack(plain, &tree, Limits::default())?;
        tracing::info!(entries = unpacked.entries, bytes = unpacked.bytes.0, "archive unpacked");
        Ok(archive::architecture(&tree))
    });
    let archive = |source| ImportError::Archive { name: name.clone(), source };
    let failed = |error: tokio::task::JoinError| ImportError::Failed {
        name: name.clone(),
        why: error.to_string(),
    };
    let own = || rustix::system::uname().machine().to_string_lossy().into_owned();
    Ok(work.await.map_err(failed)?.map_err(archive)?.unwrap_or_else(own))
}

/// Gets a template from a node that has it.
///
/// # Errors
/// If that node cannot be reached or does not have it, or the stream is damaged; then nothing is here.
pub async fn fetch(daemon: &Daemon, template: TemplateId, from: NodeId) -> Done {
    let began = clock::boot_time();
    let wire = daemon.peers.template(from, template).await?.bytes_stream();
    let snapshot = transfer::receive_template(daemon, template, wire, IDLE).await?;
    let took = unit::Span::from_ms(clock::boot_time().since(began).ms());
    tracing::info!(%template, node = %from, %took, "template is here");
    Ok(vec![crate::agent::Update::Template(template, Some(snapshot.guid))])
}

/// Removes a template that the cluster does not have any more.
///
/// # Errors
/// If grains here still share its blocks, or the backend refuses.
pub async fn forget(daemon: &Daemon, template: TemplateId) -> Done {
    daemon.host.datasets.destroy(DatasetId::Template(template)).await?;
    Ok(vec![crate::agent::Update::Template(template, None)])
}

/// Longest time in which a sealed template is looked for before a stream of it begins.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// The sealed snapshot of a template here.
///
/// # Errors
/// If it is not here or not sealed.
pub async fn sealed(
    daemon: &Daemon,
    template: TemplateId,
) -> Result<scrap_schema::snapshot::Guid, Trouble> {
    let look = daemon.host.datasets.get(DatasetId::Template(template));
    let dataset = tokio::time::timeout(LOOK, look).await??;
    let sealed = dataset.and_then(|dataset| dataset.snapshots.last().map(|last| last.guid));
    sealed.ok_or_else(|| format!("template {template} is not here").into())
}
