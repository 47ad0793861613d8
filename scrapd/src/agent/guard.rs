//! What the daemon tells the guard of this node and hears from it, and the door at which the guards of other nodes say that
//! nothing runs there any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use scrap_decide::lease;
use scrap_host::clock;
use scrap_host::guard::{LENGTH, Word};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::time::BootTime;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::daemon::Daemon;
use crate::logging::chain;

/// After a socket has failed, it is not asked again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Until when the guard was told last that grains may run.
#[derive(Default)]
pub(super) struct Told(Option<BootTime>);

/// Tells the guard how long the lease goes now, and whom it tells of its end.
pub(super) fn tell(daemon: &Daemon, told: &mut Told) {
    let lease = daemon.agent.with(|state| state.facts.lease);
    let (until, peers) = daemon.consensus.read(|cluster| {
        let others = cluster.nodes.values().filter(|node| node.id != daemon.me);
        let peers: Vec<SocketAddr> =
            others.filter_map(|node| node.addresses.peer.parse().ok()).collect();
        (lease.deadline(cluster.timing()), peers)
    });
    if let Some(until) = until.filter(|until| told.0 != Some(*until)) {
        daemon.host.guard.lease_until(until, &peers);
        told.0 = Some(until);
    }
}

/// Sees to it that there is a guard, and says what it had to do, until `shutdown`.
pub(super) async fn keep(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    let guard = &daemon.host.guard;
    if !guard.is_on() {
        return;
    }
    let arrangements = guard.arrangements();
    info!(?arrangements, "the guard watches");
    let (mut kills, mut trouble, mut dog) = (guard.kills(), false, None);
    while !shutdown.is_cancelled() {
        // A node that has just joined did not know it when the guard was started.
        guard.kill_is(daemon.consensus.read(|cluster| cluster.timing().kill));
        match guard.ensure().await {
            Ok(true) => {
                warn!("the guard was gone, or not what it should be: another one watches now")
            }
            Ok(false) => trouble = false,
            Err(why) if !trouble => {
                error!(error = chain(&why), "there is no guard; it is tried again and again");
                trouble = true;
            }
            Err(_) => (),
        }
        let said = guard.dog_trouble();
        if let Some(why) = said.as_ref().filter(|_| said != dog) {
            warn!("{why}");
        }
        dog = said;
        let now = guard.kills();
        if now > kills {
            warn!(grains = now - kills, "the guard ended grains whose keepers did not");
            kills = now;
            daemon.agent.wake();
        }
        tokio::select! {
            () = tokio::time::sleep(guard.look_every()) => (),
            () = shutdown.cancelled() => (),
        }
    }
}

/// Hears the guards of other nodes, and passes on what is proven and waited for.
pub async fn hear(daemon: Arc<Daemon>, socket: UdpSocket, shutdown: CancellationToken) {
    let mut datagram = [0; LENGTH + 1];
    loop {
        let heard = tokio::select! {
            heard = socket.recv(&mut datagram) => heard,
            () = shutdown.cancelled() => return,
        };
        let word = match heard {
            Ok(length) => datagram.get(..length).and_then(Word::parse),
            Err(why) => {
                debug!(%why, "cannot hear guards");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(word) = word {
            pass_on(&daemon, word).await;
        }
    }
}

async fn pass_on(daemon: &Daemon, word: Word) {
    let seal = word.token.seal();
    let command: Option<Command> =
        daemon.consensus.read(|cluster| lease::attested(cluster, word.node, word.boot, &seal));
    let Some(command) = command else { return };
    info!(node = %word.node, "its guard says that nothing runs there any more");
    let proposal = Proposal { at: clock::wall(), key: None, command };
    // One that is lost is said again.
    if let Err(why) = daemon.consensus.propose(proposal).await {
        debug!(%why, "the word of a guard was not passed on");
    }
}
