//! Templates on this node: unpacked from an archive and sealed, or received from another node. Decides nothing: which ones
//! belong here is said by `obey`.
//!
//! **Invariant:** a template that is not sealed is none. What is in an archive is written below one folder and nowhere else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use scrap_decide::cluster::IDS_PER_GRAIN;
use scrap_decide::obey::Lane;
use scrap_decide::refusal::Refusal;
use scrap_host::archive::{self, ArchiveError, Limits};
use scrap_host::clock;
use scrap_host::datasets::{Cause, DatasetError, DatasetId, Datasets};
use scrap_host::runtime::{Runtime, RuntimeCause};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{Name, NodeId, TemplateId};
use scrap_schema::snapshot::Guid;
use tokio_stream::StreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::agent::Update;
use crate::config::RuntimeKind;
use crate::daemon::Daemon;
use crate::execute::{Done, Trouble};
use crate::logging::chain;
use crate::transfer::{self, IDLE};

/// Where in a template the system lies, as the runtime expects it.
pub const SYSTEM: &str = "rootfs";

/// What a person says about a template that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: Name,
    /// One line about it.
    pub description: Option<String>,
    /// Processor architecture, if the archive does not say it.
    pub arch: Option<String>,
}

/// Why a template was not imported. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// This node cannot keep templates.
    #[error("this node cannot keep templates: {why}")]
    Unsupported {
        /// What is missing.
        why: String,
    },
    /// The archive is none, or holds what no template may hold.
    #[error("the archive is refused: {why}")]
    Archive {
        /// What is wrong, and where in it.
        why: String,
    },
    /// It is larger than a template may be, or than there is room for.
    #[error("there is no room for it: {why}")]
    TooLarge {
        /// How much there is.
        why: String,
    },
    /// The connection broke off.
    #[error("the archive broke off")]
    Broke,
    /// The cluster does not want it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Anything else.
    #[error("the template could not be written")]
    Failed {
        /// Why.
        #[source]
        source: Trouble,
    },
}

impl From<DatasetError> for ImportError {
    fn from(error: DatasetError) -> Self {
        if matches!(error.cause, Cause::NoSpace) {
            return Self::TooLarge { why: chain(&error) };
        }
        Self::Failed { source: error.into() }
    }
}

impl From<ArchiveError> for ImportError {
    fn from(error: ArchiveError) -> Self {
        let why = chain(&error);
        let is_full = |source: &std::io::Error| {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            matches!(source.kind(), StorageFull | QuotaExceeded)
        };
        match error {
            ArchiveError::Damaged(source) if is_broken_off(&source) => Self::Broke,
            ArchiveError::Damaged(_) | ArchiveError::Empty | ArchiveError::BadEntry { .. } => {
                Self::Archive { why }
            }
            ArchiveError::TooLarge(_) | ArchiveError::TooMany(_) => Self::TooLarge { why },
            ArchiveError::Write { ref source, .. } if is_full(source) => Self::TooLarge { why },
            ArchiveError::Write { .. } => Self::Failed { source: error.into() },
        }
    }
}

/// What stands for an error of the connection while it passes through those who read the archive.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke off")]
struct BrokenOff(#[source] axum::Error);

fn is_broken_off(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<BrokenOff>())
}

/// Unpacks an archive (tar, plain or packed with zstd, xz or gzip), seals it and tells the cluster.
///
/// # Errors
/// Why not; then nothing of it is left, unless the cluster did not answer: it may have taken it in.
pub async fn import(
    daemon: &Arc<Daemon>,
    import: Import,
    archive: BodyDataStream,
) -> Result<TemplateId, ImportError> {
    if daemon.runtime != RuntimeKind::Lxc {
        let why = "its grains are programs of the machine itself".to_owned();
        return Err(ImportError::Unsupported { why });
    }
    let template = TemplateId(uuid::Uuid::now_v7().as_u128());
    // A task of its own: a caller who hangs up leaves nothing half done behind.
    let daemon = daemon.clone();
    let work = tokio::spawn(async move {
        // Nobody takes half of it for something that somebody else has put there.
        let _lane = daemon.agent.reserve(Lane::Template(template));
        let sealed = take_in(&daemon, template, archive).await;
        let told = match sealed {
            Ok(sealed) => tell(&daemon, template, import, sealed).await,
            Err(error) => Err(Untold::Surely(error)),
        };
        match told {
            Ok(()) => Ok(template),
            Err(Untold::Perhaps(error)) => Err(error),
            Err(Untold::Surely(error)) => {
                let left = daemon.host.datasets.destroy(DatasetId::Template(template)).await;
                if let Err(left) = left {
                    tracing::warn!(%template, error = chain(&left), "a half template is left");
                }
                Err(error)
            }
        }
    });
    work.await.unwrap_or_else(|error| Err(ImportError::Failed { source: error.into() }))
}

/// Why the cluster does not know a template.
enum Untold {
    /// It does not and never will.
    Surely(ImportError),
    /// It has not answered.
    Perhaps(ImportError),
}

/// A template that was just sealed.
struct Sealed {
    guid: Guid,
    arch: Option<String>,
}

async fn take_in(
    daemon: &Daemon,
    template: TemplateId,
    archive: BodyDataStream,
) -> Result<Sealed, ImportError> {
    let datasets = &daemon.host.datasets;
    let tree = datasets.begin_template(template).await?.join(SYSTEM);
    let arch = unpack(tree.clone(), archive).await?;
    if let Some(above) = tree.parent() {
        let noted = daemon.host.runtime.note(above, IDS_PER_GRAIN).await;
        noted.map_err(|cause| match cause {
            cause @ RuntimeCause::NotReady { .. } => ImportError::Archive { why: chain(&cause) },
            cause => ImportError::Failed { source: cause.into() },
        })?;
    }
    let sealed = datasets.seal_template(template, clock::wall()).await?;
    Ok(Sealed { guid: sealed.guid, arch })
}

/// Unpacks on a thread of its own. Returns the architecture of what came out.
async fn unpack(tree: PathBuf, archive: BodyDataStream) -> Result<Option<String>, ImportError> {
    // The limit is on the connection alone: unpacking takes the time that it takes.
    let stream = futures_util::stream::unfold(archive, |mut archive| async move {
        let piece = match tokio::time::timeout(IDLE, archive.next()).await {
            Ok(piece) => piece?,
            Err(silent) => Err(axum::Error::new(silent)),
        };
        Some((piece.map_err(|error| std::io::Error::other(BrokenOff(error))), archive))
    });
    let stream = Box::pin(stream);
    let input = SyncIoBridge::new(StreamReader::new(stream));
    let work = tokio::task::spawn_blocking(move || {
        let cannot = |source| ArchiveError::Write { path: tree.display().to_string(), source };
        // What strangers have packed lends rights by its bits: no user of this machine gets at it. A grain's users are let in when
        // its files belong to them.
        if let Some(above) = tree.parent() {
            std::fs::set_permissions(above, Permissions::from_mode(0o700)).map_err(cannot)?;
        }
        std::fs::create_dir(&tree).map_err(cannot)?;
        let plain = archive::plain(input).map_err(ArchiveError::Damaged)?;
        let unpacked = archive::unpack(plain, &tree, Limits::default())?;
        tracing::info!(entries = unpacked.entries, bytes = unpacked.bytes.0, "archive unpacked");
        Ok::<_, ArchiveError>(archive::architecture(&tree))
    });
    let unpacked = work.await.map_err(|error| ImportError::Failed { source: error.into() })?;
    Ok(unpacked?)
}

async fn tell(
    daemon: &Daemon,
    template: TemplateId,
    import: Import,
    sealed: Sealed,
) -> Result<(), Untold> {
    let dataset = daemon.host.datasets.get(DatasetId::Template(template)).await;
    let dataset = dataset.map_err(|error| Untold::Surely(error.into()))?;
    let own = || rustix::system::uname().machine().to_string_lossy().into_owned();
    let command = Command::AddTemplate {
        template,
        name: import.name,
        guid: sealed.guid,
        size: dataset.map(|dataset| dataset.used).unwrap_or_default(),
        arch: sealed.arch.or(import.arch).unwrap_or_else(own),
        os: std::env::consts::OS.to_owned(),
        description: import.description,
        node: daemon.me,
    };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    // Known here before the cluster knows it, or this node would at once say that it does not have it.
    daemon.agent.with(|state| state.take(Update::Template(template, Some(sealed.guid))));
    match daemon.consensus.propose(proposal).await {
        Ok(committed) => match committed.outcome {
            Ok(_) => {
                // Whoever asks this node next is told of it.
                crate::execute::applied_here(daemon, committed.index).await;
                Ok(())
            }
            Err(refusal) => {
                daemon.agent.with(|state| state.take(Update::Template(template, None)));
                Err(Untold::Surely(refusal.into()))
            }
        },
        Err(error) => Err(Untold::Perhaps(ImportError::Failed { source: error.into() })),
    }
}

/// Gets a template from a node that has it.
///
/// # Errors
/// If that node cannot be reached or does not have it, or the stream is damaged; then nothing is here.
pub async fn fetch(daemon: &Daemon, template: TemplateId, from: NodeId) -> Done {
    let began = clock::boot_time();
    let wire = daemon.peers.template(from, template).await?.bytes_stream();
    let snapshot = transfer::receive_template(daemon, template, wire, IDLE).await?;
    let took = clock::boot_time().since(began);
    tracing::info!(%template, node = %from, %took, "template is here");
    Ok(vec![Update::Template(template, Some(snapshot.guid))])
}

/// Removes a template that the cluster does not have any more.
///
/// # Errors
/// If grains here still share its blocks, or the backend refuses.
pub async fn forget(daemon: &Daemon, template: TemplateId) -> Done {
    daemon.host.datasets.destroy(DatasetId::Template(template)).await?;
    Ok(vec![Update::Template(template, None)])
}

/// Longest time in which a sealed template is looked for before a stream of it begins.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// The sealed snapshot of a template here.
///
/// # Errors
/// If it is not here or not sealed.
pub async fn sealed(daemon: &Daemon, template: TemplateId) -> Result<Guid, Trouble> {
    let look = daemon.host.datasets.get(DatasetId::Template(template));
    let dataset = tokio::time::timeout(LOOK, look).await??;
    let sealed = dataset.and_then(|dataset| dataset.snapshots.last().map(|last| last.guid));
    sealed.ok_or_else(|| format!("template {template} is not here").into())
}
