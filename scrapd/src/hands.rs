//! The hands of this node: the backends that the configuration names, opened, and what is on this host, read once.
//!
//! Storage that is not there yet, hangs or was exported, and programs that are missing, do not end the daemon: it votes, answers
//! every request with the reason, and tries again. It does not lead, is not registered and obeys nothing meanwhile, so to the
//! cluster it is silent, and its grains are started elsewhere when its lease has ended.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use scrap_host::any::{AnyDatasets, AnyRuntime};
use scrap_host::datasets::{Cause, DatasetError, Datasets as _};
use scrap_host::dir::DirDatasets;
use scrap_host::guard::{AnyGuard, GuardError};
#[cfg(target_os = "linux")]
use scrap_host::guard::{Guard, Settings};
use scrap_host::lxc::{LxcRuntime, OpenError};
use scrap_host::mem::{MemDatasets, MemRuntime};
use scrap_host::net::AnyNet;
#[cfg(target_os = "linux")]
use scrap_host::net::{HostNet, NetSettings};
use scrap_host::process::ProcessRuntime;
use scrap_host::zfs::{ZfsDatasets, ZfsSettings};
use scrap_schema::node::NodeRole;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::agent;
use crate::api;
use crate::config::{Config, DatasetsKind, RuntimeKind};
use crate::daemon::Host;
use crate::logging::chain;
use crate::raft::Consensus;

/// Pause between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// After so long somebody is told that it takes time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Hands that can be used, and what they found.
pub(crate) struct Hands {
    /// The backends.
    pub(crate) host: Arc<Host>,
    /// What is on this host.
    pub(crate) agent: agent::Handle,
    /// Space where the datasets are.
    pub(crate) space: Bytes,
}

/// Why there are no hands.
enum NotOpen {
    /// It will be so at the next start too: somebody has to change the configuration or the installation.
    ForGood(anyhow::Error),
    /// It may pass.
    ForNow(anyhow::Error),
}

/// Where others knock meanwhile.
pub(crate) struct Doors {
    /// Requests of people and programs.
    pub(crate) api: StdListener,
    /// Other nodes.
    pub(crate) peer: StdListener,
}

/// A socket that hears what `listener` hears.
pub(crate) fn same(listener: &StdListener) -> anyhow::Result<TcpListener> {
    let clone = listener.try_clone().context("a listening socket cannot be shared")?;
    TcpListener::from_std(clone).context("a listening socket cannot be used")
}

/// Opens the hands, however long that takes. `None`: `shutdown` came first.
///
/// # Errors
/// If it cannot succeed before somebody changes something here, or the consensus of this node has failed.
pub(crate) async fn open(
    config: &Config,
    consensus: &Consensus,
    doors: &Doors,
    core: &tokio::runtime::Handle,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Hands>> {
    let opened = tokio::select! {
        opened = keep_trying(config, consensus, doors, core, shutdown) => opened,
        // Whoever leads without hands renews nobody's lease, and keeps others from it that could.
        never = consensus.lead_reluctantly() => match never {},
    };
    if matches!(opened, Ok(Some(_))) {
        consensus.may_lead(true);
    }
    opened
}

async fn keep_trying(
    config: &Config,
    consensus: &Consensus,
    doors: &Doors,
    core: &tokio::runtime::Handle,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Hands>> {
    let mut waiting: Option<Waiting> = None;
    let mut last = String::new();
    loop {
        let opened = async {
            let opening = try_open(config, consensus);
            tokio::pin!(opening);
            if let Ok(opened) = tokio::time::timeout(PATIENCE, &mut opening).await {
                return Ok(opened);
            }
            if waiting.is_none() {
                let why = "its storage and its containers are still being opened";
                waiting = Some(Waiting::begin(doors, consensus, core, why)?);
            }
            anyhow::Ok(opening.await)
        };
        let opened = tokio::select! {
            opened = opened => opened?,
            why = consensus.failed() => anyhow::bail!("the consensus of this node has failed: {why}"),
            () = shutdown.cancelled() => return Ok(None),
        };
        let why = match opened {
            Ok(hands) => {
                if waiting.is_some() {
                    info!("the hands of this node are there");
                }
                return Ok(Some(hands));
            }
            Err(NotOpen::ForGood(error)) => return Err(error),
            Err(NotOpen::ForNow(error)) => format!("{error:#}"),
        };
        if why != last {
            error!(why, "this node cannot work yet; it tries again every {} s", RETRY.as_secs());
            waiting = Some(Waiting::begin(doors, consensus, core, &why)?);
            last = why;
        }
        tokio::select! {
            () = async {
                // One that led before it was started again may lead still.
                consensus.hand_over(None).await;
                tokio::time::sleep(RETRY).await;
            } => (),
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

/// The doors of a node without hands. Ends when dropped.
struct Waiting {
    stop: CancellationToken,
}

impl Waiting {
    fn begin(
        doors: &Doors,
        consensus: &Consensus,
        core: &tokio::runtime::Handle,
        why: &str,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        core.spawn(api::serve(same(&doors.peer)?, consensus.routes(), stop.clone()));
        core.spawn(api::serve(same(&doors.api)?, api::not_ready(why), stop.clone()));
        Ok(Self { stop })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn try_open(config: &Config, consensus: &Consensus) -> Result<Hands, NotOpen> {
    let timing = consensus.read(|cluster| cluster.timing());
    let host = Arc::new(backends(config, timing).await.map_err(sorted)?);
    let space = host.datasets.space().await.map_err(|error| sorted(error.into()))?.total;
    let agent = agent::Handle::default();
    agent::gather(&host, &agent, timing).await.map_err(|error| {
        let error = anyhow::anyhow!(chain(error.as_ref()));
        NotOpen::ForNow(error.context("cannot read what is on this host"))
    })?;
    Ok(Hands { host, agent, space })
}

/// Whether what keeps the hands from opening may pass.
fn sorted(error: anyhow::Error) -> NotOpen {
    let passes = match error.downcast_ref::<OpenError>() {
        Some(OpenError::NoTool { .. } | OpenError::Io { .. }) => true,
        Some(OpenError::PathTooLong { .. } | OpenError::NoKeeper { .. } | OpenError::NotRoot) => {
            false
        }
        None => error.is::<Cause>() || error.is::<DatasetError>() || error.is::<GuardError>(),
    };
    if passes { NotOpen::ForNow(error) } else { NotOpen::ForGood(error) }
}

/// The backends that the configuration names.
async fn backends(config: &Config, timing: Timing) -> anyhow::Result<Host> {
    if config.role == NodeRole::Witness {
        // It only votes: it needs neither storage nor containers nor a keeper, whatever `[host]` says.
        let datasets = AnyDatasets::Mem(MemDatasets::new(std::process::id().into()));
        return Ok(Host {
            datasets,
            runtime: AnyRuntime::Mem(MemRuntime::new()),
            net: AnyNet::Off,
            guard: AnyGuard::Off,
        });
    }
    let datasets = match config.host.datasets {
        DatasetsKind::Dir => {
            let root = config.data_dir.join("pool");
            AnyDatasets::Dir(DirDatasets::open(&root).await?)
        }
        DatasetsKind::Zfs => {
            let zfs = config.host.zfs.as_ref().context("`dataset` is missing under `[host]`")?;
            let settings = ZfsSettings::new(&zfs.dataset, &zfs.mount);
            let what = || format!("the datasets below `{}` cannot be opened", zfs.dataset);
            AnyDatasets::Zfs(ZfsDatasets::open(settings).await.with_context(what)?)
        }
        DatasetsKind::Mem => AnyDatasets::Mem(MemDatasets::new(std::process::id().into())),
    };
    let runtime = match config.host.runtime {
        RuntimeKind::Process => {
            AnyRuntime::Process(ProcessRuntime::open(&config.run_dir, keeper(config)?).await?)
        }
        RuntimeKind::Lxc => {
            AnyRuntime::Lxc(LxcRuntime::open(&config.run_dir, keeper(config)?).await?)
        }
        RuntimeKind::Mem => AnyRuntime::Mem(MemRuntime::new()),
    };
    Ok(Host { datasets, runtime, net: net(config)?, guard: guard(config, timing).await? })
}

fn keeper(config: &Config) -> anyhow::Result<std::path::PathBuf> {
    match &config.host.keeper {
        Some(keeper) => Ok(keeper.clone()),
        None => beside_me("scrap-keeper", "keeper"),
    }
}

/// Who watches over what the runtime starts.
#[cfg(target_os = "linux")]
async fn guard(config: &Config, timing: Timing) -> anyhow::Result<AnyGuard> {
    match config.host.runtime {
        RuntimeKind::Mem => return Ok(AnyGuard::Off),
        RuntimeKind::Process | RuntimeKind::Lxc => (),
    }
    let program = match &config.host.guard {
        Some(guard) => guard.clone(),
        None => beside_me("scrap-guard", "guard")?,
    };
    let watchdog = config.host.watchdog.clone().map(|device| (device, timing.kill));
    let settings = Settings { run_dir: config.run_dir.clone(), program, watchdog };
    Ok(AnyGuard::On(Guard::open(settings).await?))
}

#[cfg(not(target_os = "linux"))]
async fn guard(_: &Config, _: Timing) -> anyhow::Result<AnyGuard> {
    Ok(AnyGuard::Off)
}

/// The network of grains, if the configuration names one.
#[cfg(target_os = "linux")]
fn net(config: &Config) -> anyhow::Result<AnyNet> {
    let Some(uplink) = config.network.uplink.clone() else { return Ok(AnyNet::Off) };
    let memory = config.run_dir.join("network.json");
    let settings = NetSettings { uplink, table: "scrap".to_owned(), memory };
    Ok(AnyNet::Host(HostNet::open(settings)?))
}

#[cfg(not(target_os = "linux"))]
fn net(_: &Config) -> anyhow::Result<AnyNet> {
    Ok(AnyNet::Off)
}

/// A program that is installed beside this one.
fn beside_me(name: &str, key: &str) -> anyhow::Result<std::path::PathBuf> {
    let me = std::env::current_exe().context("cannot find out where this program is")?;
    let program = me.with_file_name(name);
    if program.exists() {
        return Ok(program);
    }
    let hint = format!("install it there, or name it with `{key}` under `[host]`");
    anyhow::bail!("`{}` is missing\n  hint: {hint}", program.display())
}
