//! Renewals of the node's lease: registration, then one renewal after another, with what changed in the reports.
//!
//! The lease counts from the time of *sending*, and only when this node has applied what the leader had applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scrap_decide::refusal::Refusal;
use scrap_host::clock;
use scrap_host::guard::Token;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{BootId, GrainId, NodeId};
use scrap_schema::node::{GrainReport, NodeFacts, Renewal, RenewalAnswer, Verdict};
use scrap_schema::timing::Timing;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Update;
use crate::daemon::Daemon;
use crate::leader;

/// Shortest pause between two renewals, also when something urgent has changed.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Pause after a registration that did not succeed.
const RETRY: Duration = Duration::from_millis(300);

/// What the leader has of this node's reports.
#[derive(Default)]
struct Told {
    leader: Option<(NodeId, u64)>,
    reports: BTreeMap<GrainId, GrainReport>,
    full: bool,
}

/// Registers this start of the daemon and renews its lease until `shutdown`. Ends early if the node is no member any more.
pub async fn renewals(daemon: Arc<Daemon>, facts: NodeFacts, shutdown: CancellationToken) {
    let mut told = Told::default();
    while !shutdown.is_cancelled() {
        let Some(boot) = registered(&daemon, &facts, &shutdown).await else { return };
        if daemon.host.guard.is_over(boot) {
            info!("the guard has said that nothing runs here any more: registering again");
            daemon.agent.with(|state| state.boot = None);
            continue;
        }
        let timing = daemon.consensus.read(|cluster| cluster.timing());
        match renew_once(&daemon, boot, timing, &mut told).await {
            Some(Verdict::Granted) | None => (),
            Some(Verdict::Suspected | Verdict::Unregistered) => {
                info!("the lease is not renewed any more: registering again");
                daemon.agent.with(|state| state.boot = None);
                continue;
            }
            Some(Verdict::Removed) => {
                warn!("this node is no member of the cluster any more: ending");
                daemon.shutdown.cancel();
                return;
            }
        }
        pause(&daemon, timing, &told, &shutdown).await;
    }
}

/// The registration of this start, made if there is none.
async fn registered(
    daemon: &Daemon,
    facts: &NodeFacts,
    shutdown: &CancellationToken,
) -> Option<BootId> {
    loop {
        if let Some(boot) = daemon.agent.with(|state| state.boot) {
            return Some(boot);
        }
        match register(daemon, facts).await {
            Ok(boot) => return Some(boot),
            Err(NotRegistered::Refused(refusal)) => {
                warn!(%refusal, "this node is no member of the cluster: ending");
                daemon.shutdown.cancel();
                return None;
            }
            Err(NotRegistered::NotNow) => (),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => (),
            () = shutdown.cancelled() => return None,
        }
    }
}

enum NotRegistered {
    /// There is no such member.
    Refused(Refusal),
    /// There is no leader, or no random numbers.
    NotNow,
}

/// Registers this start, once.
async fn register(daemon: &Daemon, facts: &NodeFacts) -> Result<BootId, NotRegistered> {
    let boot = BootId(fresh());
    let token = Token::draw().map_err(|why| {
        warn!(%why, "no random numbers");
        NotRegistered::NotNow
    })?;
    let command = Command::RegisterNode {
        node: daemon.me,
        boot,
        addresses: daemon.addresses.clone(),
        facts: facts.clone(),
        seal: daemon.host.guard.is_on().then(|| token.seal()),
        again: daemon.agent.with(|state| state.registered.is_some()),
        seen: Some(daemon.consensus.read(|cluster| cluster.index)),
    };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let committed = daemon.consensus.propose(proposal).await.map_err(|error| {
        tracing::debug!(%error, "not registered yet");
        NotRegistered::NotNow
    })?;
    committed.outcome.map_err(|refusal| {
        // An earlier registration is not applied here yet.
        let is_early = matches!(refusal, Refusal::OutOfDate { .. });
        if is_early { NotRegistered::NotNow } else { NotRegistered::Refused(refusal) }
    })?;
    info!(node = %daemon.me, index = committed.index, "registered");
    // First: until then nothing that needs the lease begins.
    daemon.host.guard.register(daemon.me, boot, &token);
    daemon.agent.with(|state| {
        state.boot = Some(boot);
        state.registered = Some(committed.index);
    });
    daemon.agent.wake();
    Ok(boot)
}

/// A number that no other start of a daemon has.
fn fresh() -> u64 {
    let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
    // The random half, short enough for every JSON reader.
    (high.rotate_left(17) ^ low) >> 11
}

async fn renew_once(
    daemon: &Daemon,
    boot: BootId,
    timing: Timing,
    told: &mut Told,
) -> Option<Verdict> {
    let leadership = *daemon.consensus.leadership().borrow();
    let leader = leadership.leader?;
    if told.leader != Some((leader, leadership.term)) {
        *told = Told { leader: Some((leader, leadership.term)), ..Told::default() };
    }
    let (usage, pool, network, reports) = daemon.agent.with(|state| {
        (state.usage, state.facts.pool.clone(), state.network.clone(), state.reports.clone())
    });
    let now = clock::now();
    let renewal = Renewal {
        node: daemon.me,
        boot,
        sent: now.boot,
        wall: now.wall,
        usage,
        pool,
        network,
        full: !told.full,
        grains: difference(told, &reports),
    };
    let answer = ask(daemon, leader, renewal, timing).await?;
    told.full = !answer.wants_full;
    told.reports = if told.full { reports } else { BTreeMap::new() };
    let verdict = answer.verdict;
    daemon.agent.update(vec![Update::Answered(answer, clock::boot_time())]);
    Some(verdict)
}

fn difference(
    told: &Told,
    reports: &BTreeMap<GrainId, GrainReport>,
) -> BTreeMap<GrainId, Option<GrainReport>> {
    let changed = reports.iter().filter(|(grain, report)| told.reports.get(grain) != Some(report));
    let gone = told.reports.keys().filter(|grain| !reports.contains_key(grain));
    let changed = changed.map(|(grain, report)| (*grain, Some(report.clone())));
    changed.chain(gone.map(|grain| (*grain, None))).collect()
}

async fn ask(
    daemon: &Daemon,
    leader: NodeId,
    renewal: Renewal,
    timing: Timing,
) -> Option<RenewalAnswer> {
    if leader == daemon.me {
        return leader::renew(&daemon.consensus, &daemon.leader, renewal).await.ok();
    }
    let limit = Duration::from_millis(timing.suspect.ms());
    match daemon.peers.renew(leader, &renewal, limit).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(error = crate::logging::chain(&error), "renewal not answered");
            None
        }
    }
}

/// Waits for the time of the next renewal, or for a change that somebody waits for.
async fn pause(daemon: &Daemon, timing: Timing, told: &Told, shutdown: &CancellationToken) {
    tokio::time::sleep(PAUSE_MIN).await;
    let next = tokio::time::sleep(Duration::from_millis(timing.renew.ms()));
    tokio::pin!(next);
    loop {
        if is_urgent(daemon, told) {
            return;
        }
        tokio::select! {
            () = &mut next => return,
            () = daemon.agent.urgent.notified() => (),
            () = shutdown.cancelled() => return,
        }
    }
}

/// Whether the leader waits for what has changed: about a grain that an operation works on.
fn is_urgent(daemon: &Daemon, told: &Told) -> bool {
    daemon.consensus.read(|cluster| {
        daemon.agent.with(|state| {
            state.reports.iter().any(|(grain, report)| {
                let worked_on =
                    cluster.grains.get(grain).is_some_and(|grain| grain.operation.is_some());
                worked_on && told.reports.get(grain) != Some(report)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_says_what_is_new_what_changed_and_what_is_gone() {
        let report = |trouble: &str| {
            let trouble = Some(trouble.to_owned());
            GrainReport { data: None, run: None, copies: BTreeMap::new(), trouble }
        };
        let all = |reports: &[(u128, &str)]| -> BTreeMap<GrainId, GrainReport> {
            reports.iter().map(|(grain, trouble)| (GrainId(*grain), report(trouble))).collect()
        };
        let told = Told { reports: all(&[(1, "a"), (2, "b"), (3, "c")]), ..Told::default() };
        let said = difference(&told, &all(&[(1, "a"), (2, "B"), (4, "d")]));
        let expected =
            [(GrainId(2), Some(report("B"))), (GrainId(3), None), (GrainId(4), Some(report("d")))];
        assert_eq!(said, expected.into());
        assert_eq!(
            difference(&Told::default(), &all(&[(1, "a")])).len(),
            1,
            "all, if nothing is known"
        );
    }

    #[test]
    fn no_two_registrations_have_one_number() {
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| fresh()).collect();
        assert_eq!(numbers.len(), 1000);
        // Every reader of JSON can hold them.
        assert!(numbers.iter().all(|number| *number < 1 << 53 && *number != 0));
    }
}
