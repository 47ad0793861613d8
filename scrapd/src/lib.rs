//! The body of SCRAP: the daemon on every node.
//!
//! | task | reads | writes |
//! |---|---|---|
//! | consensus (`raft`) | peers' messages | the log, the state, [`raft::Consensus`] |
//! | `leader` | state, renewals | proposals |
//! | `agent` | state, host facts | host actions, proposals |
//! | renewals (`agent`) | reports | the lease |
//! | `peer` door | renewals, streams | leader's memory, datasets |
//! | `api` door | state, leader's memory | proposals |
//!
//! The consensus, the leases and their door run on a runtime of their own, so that load on the API cannot cause an election
//! (`docs/decisions/0007`). Everything is spawned in [`run`]. Decisions are made in `scrap-decide`, deeds are done by
//! `scrap-host`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod args;
pub mod config;
pub mod daemon;
pub mod data_dir;
#[cfg(target_os = "linux")]
pub mod demo;
pub mod execute;
pub mod facts;
pub mod front;
mod hands;
pub mod identity;
pub mod inside;
pub mod leader;
pub mod logging;
pub mod orphans;
pub mod peer;
pub mod raft;
pub mod setup;
pub mod store;
pub mod templates;
pub mod transfer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use scrap_host::clock;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::node::{NodeFacts, NodeRole};
use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use config::{Config, OnShutdown};
use daemon::Daemon;
use hands::{Doors, same};
use identity::Identity;
use peer::Peers;
use raft::Consensus;

/// Threads for the consensus and the leases.
const CORE_THREADS: usize = 2;
/// Limit for the goodbye of a node that ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs a node until `shutdown`.
///
/// # Errors
/// If it cannot start, or the consensus of this node has failed.
pub async fn run(
    config: Config,
    identity: Identity,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let core = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CORE_THREADS)
        .thread_name("core")
        .enable_all()
        .build()
        .context("the runtime of the consensus cannot be started")?;
    let result = node(config, identity, core.handle().clone(), shutdown).await;
    core.shutdown_background();
    result
}

async fn node(
    config: Config,
    identity: Identity,
    core: tokio::runtime::Handle,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let doors = Doors {
        api: listen(config.listen.api, "the API").await?,
        peer: listen(config.listen.peer, "other nodes").await?,
    };
    let guards = hear_guards(config.listen.peer).await?;
    let assembled = assemble(&config, &identity, &doors, &core, shutdown.clone()).await?;
    let Some((daemon, facts)) = assembled else { return Ok(()) };
    let consensus = daemon.consensus.clone();

    let hands_stop = CancellationToken::new();
    let doors_stop = CancellationToken::new();
    let peer_routes = consensus.routes().merge(peer::routes(daemon.clone()));
    let peers = core.spawn(api::serve(same(&doors.peer)?, peer_routes, doors_stop.clone()));
    core.spawn(agent::hear_guards(daemon.clone(), guards, doors_stop.clone()));
    let leader = core.spawn(leader::run(
        consensus.clone(),
        identity.node,
        daemon.leader.clone(),
        daemon.fence.clone(),
        hands_stop.clone(),
    ));
    let renewals = core.spawn(agent::renewals(daemon.clone(), facts, hands_stop.clone()));
    let agent = tokio::spawn(agent::run(daemon.clone(), hands_stop.clone()));
    let api = tokio::spawn(api::serve(
        same(&doors.api)?,
        api::routes(daemon.clone()),
        doors_stop.clone(),
    ));
    drop(doors);
    info!(node = %identity.name, api = %config.listen.api, peer = %config.listen.peer, "running");

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        why = consensus.failed() => Some(why),
        newer = consensus.left_behind() => {
            hands_stop.cancel();
            agent.await.context("the agent has ended badly")?;
            return left_behind(&config, &daemon, newer).await;
        }
    };
    if let Some(why) = failed {
        // What is in memory may be newer than what is on disk: nothing more is promised.
        error!(why, "the consensus of this node has failed");
        anyhow::bail!("the consensus of this node has failed: {why}");
    }
    info!(node = %identity.name, "ending");
    // First of all: whoever takes over decides while this node still stops what runs here.
    consensus.may_lead(false);
    consensus.hand_over(None).await;
    hands_stop.cancel();
    let at_rest = agent.await.context("the agent has ended badly")?;
    if config.role == NodeRole::Data && config.on_shutdown == OnShutdown::Stop {
        leave(&daemon, at_rest).await;
    }
    renewals.await.context("the renewals have ended badly")?;
    leader.await.context("the leader's loop has ended badly")?;
    doors_stop.cancel();
    closed([("API", api), ("peer", peers)]).await;
    consensus.close().await;
    info!(node = %identity.name, "ended");
    Ok(())
}

/// Waits until the doors have closed, and not for ever.
async fn closed<T>(doors: [(&str, tokio::task::JoinHandle<T>); 2]) {
    for (door, task) in doors {
        if tokio::time::timeout(GOODBYE, task).await.is_err() {
            warn!(door, "open connections were cut off");
        }
    }
}

/// Opens the databases and the hands, and looks at what is on this host. `None`: `shutdown` came before there were hands.
async fn assemble(
    config: &Config,
    identity: &Identity,
    doors: &Doors,
    core: &tokio::runtime::Handle,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<(Arc<Daemon>, NodeFacts)>> {
    let mut facts = facts::measure(config)?;
    let settings = config.raft_settings(identity.node, identity.cluster_id);
    let settings = settings.of_generation(identity.generation);
    let consensus = core.spawn(Consensus::open(settings)).await??;
    let Some(hands) = hands::open(config, &consensus, doors, core, &shutdown).await? else {
        consensus.close().await;
        return Ok(None);
    };
    if config.reserve.disk.is_none() && config.role != NodeRole::Witness {
        // Where the datasets are is not always where the databases are.
        facts.disk = hands.space;
    }
    hands.agent.with(|state| state.disk = facts.disk);
    let daemon = Arc::new(Daemon {
        me: identity.node,
        name: identity.name.clone(),
        cluster_id: identity.cluster_id,
        consensus: consensus.clone(),
        leader: leader::Memory::default(),
        agent: hands.agent,
        host: hands.host,
        runtime: config.host.runtime,
        fence: config.fence.clone(),
        peers: Peers::new(consensus)?,
        http: reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .build()?,
        scrub_every: config.host.zfs.as_ref().map(|zfs| zfs.scrub_every).unwrap_or_default(),
        started: clock::boot_time(),
        addresses: config.advertise.clone(),
        shutdown,
    });
    Ok(Some((daemon, facts)))
}

async fn listen(
    address: std::net::SocketAddr,
    whom: &str,
) -> anyhow::Result<std::net::TcpListener> {
    let taken = || format!("cannot listen for {whom} on {address}");
    TcpListener::bind(address).await.and_then(TcpListener::into_std).with_context(taken)
}

/// Where guards of other nodes are heard: at the same address, in datagrams.
async fn hear_guards(address: std::net::SocketAddr) -> anyhow::Result<UdpSocket> {
    let taken = || format!("cannot listen for guards of other nodes on {address} (UDP)");
    UdpSocket::bind(address).await.with_context(taken)
}

/// Stops the grains of this node and says so: they may be started elsewhere at once. `at_rest`: nothing is under way that
/// could still start one.
async fn leave(daemon: &Daemon, at_rest: bool) {
    let stopped = agent::stop_everything(daemon).await;
    if stopped && at_rest {
        goodbye(daemon).await;
    } else {
        warn!("no goodbye: not every grain is surely stopped; the lease will run out");
    }
}

/// The cluster was begun anew without this node: nothing may run here any more, and the next start has to know.
async fn left_behind(config: &Config, daemon: &Daemon, newer: u64) -> anyhow::Result<()> {
    let stopped = agent::stop_everything(daemon).await;
    daemon.consensus.close().await;
    let mark = config.data_dir.join(identity::LEFT_BEHIND);
    std::fs::write(&mark, format!("{newer}\n"))
        .with_context(|| format!("cannot write `{}`", mark.display()))?;
    if !stopped {
        error!("not every grain of this node is surely stopped: look at `ps`");
    }
    Err(identity::IdentityError::LeftBehind { name: daemon.name.clone() }.into())
}

async fn goodbye(daemon: &Daemon) {
    let Some(boot) = daemon.agent.with(|state| state.boot) else { return };
    let command = Command::LeaveNode { node: daemon.me, boot };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    match tokio::time::timeout(GOODBYE, daemon.consensus.propose(proposal)).await {
        Ok(Ok(committed)) => match committed.outcome {
            Ok(_) => info!("said goodbye"),
            Err(refusal) => warn!(%refusal, "the goodbye was refused; the lease will run out"),
        },
        Ok(Err(error)) => warn!(%error, "could not say goodbye; the lease will run out"),
        Err(_) => warn!("could not say goodbye in time; the lease will run out"),
    }
}
