//! The network of this node's grains: translated from the cluster's wishes, carried out by the hands, looked after all the time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use scrap_decide::reach::{Around, Reach, around, reach, reaches};
use scrap_host::clock;
use scrap_host::net::{
    Attachment, Interface, NetError, NetTrouble, Opening, Peers, Prefix, Protocol, Surroundings,
    Weight, interface,
};
use scrap_schema::id::GrainId;
use scrap_schema::spec;
use scrap_schema::unit::Span;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Update;
use super::alarm::alarm;
use crate::daemon::Daemon;
use crate::execute::Trouble;
use crate::logging::chain;

/// Pause between two looks at the network when nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// When a grain's address is told to its network after a start: some do not hear the first word.
const ANNOUNCE_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)];

/// How long the word counts that nobody has an address.
const FREE_FOR: Span = Span::from_secs(60);

/// Keeps the network as it should be, until `shutdown`.
pub(super) async fn keep(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    let mut changes = daemon.consensus.changes();
    let mut last = None;
    let mut looked = tokio::time::Instant::now();
    let mut lasting = Vec::new();
    while !shutdown.is_cancelled() {
        changes.mark_unchanged();
        let wanted = wanted(&daemon, None);
        let due = looked.elapsed() >= LOOK_EVERY;
        let is_new = last.as_ref() != Some(&wanted);
        if due || is_new {
            looked = tokio::time::Instant::now();
            // What is new is missing, of course.
            if !is_new {
                let found = daemon.host.net.look(&wanted).await;
                for trouble in &found {
                    warn!(%trouble, "the network of grains was not as it should be");
                }
                tell(&daemon, &found).await;
                let lasts = found.iter().filter(|it| it.weight() == Weight::Lasting);
                lasting = lasts.map(|trouble| chain(trouble)).collect();
            }
            let mut failed = look_after(&daemon, &wanted).await.err();
            let comes =
                |last: &BTreeMap<_, _>| wanted.keys().any(|grain| !last.contains_key(grain));
            if failed.is_none() && is_new && last.as_ref().is_none_or(comes) {
                // Our own changes are heard as those of others are: seen once more now, a start need not look.
                failed = look_after(&daemon, &wanted).await.err();
            }
            let troubles = lasting.iter().chain(&failed).cloned().collect();
            last = failed.is_none().then_some(wanted);
            daemon.agent.with(|state| state.take(Update::Network(troubles)));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY / 10) => (),
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => (),
        }
    }
}

/// Tells people what somebody did to the network of grains.
async fn tell(daemon: &Daemon, found: &[NetTrouble]) {
    let tampered = found.iter().find(|trouble| trouble.weight() == Weight::Tampered);
    if let Some(what) = tampered {
        alarm(daemon, "network", format!("{what}; it is laid again now")).await;
    }
}

/// Mends what is not as it should be, or says why it cannot.
async fn look_after(daemon: &Daemon, wanted: &BTreeMap<GrainId, Attachment>) -> Result<(), String> {
    let net = &daemon.host.net;
    let surroundings = daemon.consensus.read(|cluster| surroundings(around(cluster)));
    net.surround(surroundings).await;
    net.arrange(wanted).await.map_err(|error| {
        let why = chain(&error);
        warn!(error = why, "the network of grains cannot be arranged");
        why
    })
}

/// Every grain that has an interface here now, and one that is about to start.
fn wanted(daemon: &Daemon, starting: Option<GrainId>) -> BTreeMap<GrainId, Attachment> {
    let reaches = daemon.consensus.read(|cluster| {
        let now = clock::boot_time();
        let mut here = daemon.agent.with(|state| reaches(daemon.me, cluster, &state.facts, now));
        let grain = starting.and_then(|grain| cluster.grains.get(&grain));
        here.extend(grain.and_then(|grain| Some((grain.id, reach(grain)?))));
        here
    });
    reaches.into_iter().map(|(grain, reach)| (grain, attachment(grain, reach))).collect()
}

/// Asks the network whether somebody else has the addresses of a grain: silence is the answer, and takes its time.
async fn is_free(daemon: &Daemon, own: &Attachment) -> Result<(), Trouble> {
    let ask = async |address| Ok((address, daemon.host.net.in_use(address).await?));
    let asked = futures_util::future::try_join_all(own.addresses().map(ask));
    let asked: Vec<(IpAddr, bool)> = asked.await.map_err(|error: NetError| Trouble::from(error))?;
    match asked.into_iter().find(|(_, taken)| *taken) {
        Some((address, _)) => {
            let hint = "give the grain another one, or exclude it in its network";
            let what = "another machine of the network has the address";
            Err(format!("{what} {address} already; {hint}").into())
        }
        None => Ok(()),
    }
}

/// Asks before the grain is about to start, while other work on it goes on. What it finds out that is bad the start says.
pub(crate) async fn ask_early(daemon: &Daemon, grain: GrainId) {
    let own = daemon.consensus.read(|cluster| cluster.grains.get(&grain).and_then(reach));
    let Some(own) = own else { return };
    let own = attachment(grain, own);
    if is_free(daemon, &own).await.is_ok() {
        let free = (own.addresses().collect(), clock::boot_time());
        daemon.agent.with(|state| state.free.insert(grain, free));
    }
}

/// Whether that was asked and answered just now. It is forgotten with the question.
fn is_known_free(daemon: &Daemon, grain: GrainId, own: &Attachment) -> bool {
    let free = daemon.agent.with(|state| state.free.remove(&grain));
    free.is_some_and(|(free, asked)| {
        free.iter().copied().eq(own.addresses()) && clock::boot_time().since(asked) < FREE_FOR
    })
}

/// Prepares the network for a grain that is about to start: its rules are there before its interface is.
///
/// # Errors
/// If they could not be set, or somebody else has the address of a grain that has never had it: then it must not start.
pub(crate) async fn before_start(
    daemon: &Daemon,
    grain: GrainId,
) -> Result<Option<Interface>, Trouble> {
    let (own, new) = daemon.consensus.read(|cluster| {
        let grain = cluster.grains.get(&grain);
        (grain.and_then(reach), grain.is_some_and(|grain| grain.is_new()))
    });
    let Some(own) = own else { return Ok(None) };
    let own = attachment(grain, own);
    if new && !is_known_free(daemon, grain, &own) {
        is_free(daemon, &own).await?;
    }
    daemon.host.net.arrange_for(grain, &wanted(daemon, Some(grain))).await?;
    Ok(Some(interface(&own)))
}

/// Opens the way to a grain that was started, and tells the network where it is now.
///
/// # Errors
/// If the way could not be opened.
pub(crate) async fn after_start(daemon: &Arc<Daemon>, grain: GrainId) -> Result<(), Trouble> {
    let own = daemon.consensus.read(|cluster| cluster.grains.get(&grain).and_then(reach));
    let Some(own) = own else { return Ok(()) };
    let own = attachment(grain, own);
    daemon.host.net.arrange_for(grain, &wanted(daemon, Some(grain))).await?;
    let daemon = daemon.clone();
    tokio::spawn(async move {
        for pause in ANNOUNCE_AFTER {
            tokio::time::sleep(pause).await;
            // It may have gone elsewhere meanwhile: then its new node speaks.
            if !wanted(&daemon, None).contains_key(&grain) && !pause.is_zero() {
                return;
            }
            if let Err(error) = daemon.host.net.announce(&own).await {
                warn!(%grain, error = chain(&error), "its address could not be announced");
            }
        }
    });
    Ok(())
}

fn surroundings(around: Around) -> Surroundings {
    let pools = around.pools.iter().filter_map(|pool| Prefix::new(pool.address, pool.prefix));
    Surroundings { nodes: around.nodes, pools: pools.collect() }
}

fn attachment(grain: GrainId, reach: Reach) -> Attachment {
    let ingress = reach.ingress.iter().map(|rule| opening(rule.protocol, rule.range(), rule.from));
    let egress = reach.egress.iter().map(|rule| opening(rule.protocol, rule.range(), rule.to));
    Attachment {
        grain,
        mac: reach.mac,
        v4: reach.v4,
        v6: reach.v6,
        ingress: ingress.flatten().collect(),
        egress: egress.flatten().collect(),
    }
}

/// One rule as the hands know it: a rule with ports that is about everything is about both protocols that have ports.
fn opening(
    protocol: spec::Protocol,
    ports: Option<(u16, u16)>,
    peers: spec::Peers,
) -> Vec<Opening> {
    let peers = match peers {
        spec::Peers::Any => Peers::Anywhere,
        spec::Peers::Internet => Peers::Internet,
        spec::Peers::Block(block) => Peers::Net(block.address, block.prefix),
    };
    let each = protocol.each(ports.is_some()).iter();
    each.map(|protocol| Opening { protocol: to_protocol(*protocol), ports, peers }).collect()
}

fn to_protocol(protocol: spec::Protocol) -> Protocol {
    match protocol {
        spec::Protocol::Tcp => Protocol::Tcp,
        spec::Protocol::Udp => Protocol::Udp,
        spec::Protocol::Icmp => Protocol::Icmp,
        spec::Protocol::Any => Protocol::Any,
    }
}
