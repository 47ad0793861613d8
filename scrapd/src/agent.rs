//! The agent's loop: gather, `obey`, execute. The only caller of the hands; decides nothing itself.
//!
//! Facts live in one [`State`] behind a mutex that is never held across an await. Each action runs in a task of its own and
//! brings back updates of the facts; its lane is busy meanwhile. Nothing is obeyed before this start of the daemon is registered
//! and its registration applied here: an older picture of the cluster never starts anything.

mod alarm;
mod guard;
mod health;
mod reach;
mod renew;
mod report;
mod scrub;
mod state;
mod survey;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scrap_decide::obey::{HostAction, HostFacts, Lane, obey};
use scrap_host::clock;
use scrap_host::runtime::Runtime;
use scrap_schema::id::GrainId;
use scrap_schema::time::{BootTime, Now};
use scrap_schema::unit::Span;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::daemon::{Daemon, Host};
use crate::execute::{self, Trouble};
use crate::transfer::Turns;

pub use guard::hear as hear_guards;
pub(crate) use reach::{after_start, ask_early, before_start};
pub use renew::renewals;
pub use state::{Checked, Reading, Sending, State, Update};
pub(crate) use state::{PROPERTY_GENERATION, PROPERTY_RESTORED};
pub(crate) use survey::{By, look_again};

/// Longest pause between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Pause after a round before the next one, so that a burst of changes makes one round.
const SETTLE: Duration = Duration::from_millis(2);
/// Pause between two looks at what runs.
const LOOK_EVERY: Span = Span::from_secs(1);
/// Pause between two measurements of what runs.
const MEASURE_EVERY: Span = Span::from_secs(15);

/// How long actions that are under way are waited for at the end.
const LAST_ACTIONS: Duration = Duration::from_secs(5);

/// The agent's facts, shared with the doors that need them.
#[derive(Clone, Default)]
pub struct Handle {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    urgent: Arc<Notify>,
    /// Places for streams, in and out.
    pub turns: Turns,
}

impl Handle {
    /// Looks at the facts, or changes them. Keep `f` short.
    pub fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of the facts.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.with(|state| state.facts.clone())
    }

    /// Takes a lane for work that comes from outside the loop, such as a stream from another node. `None`: it is taken.
    #[must_use]
    pub fn reserve(&self, lane: Lane) -> Option<Reserved> {
        let free = self.with(|state| state.facts.busy.insert(lane));
        free.then(|| Reserved { agent: self.clone(), lane })
    }

    /// Takes updates in and wakes the loop.
    pub fn update(&self, updates: Vec<Update>) {
        self.with(|state| {
            for update in updates {
                state.take(update);
            }
        });
        self.wake();
    }

    /// Makes the loop look again now.
    pub fn wake(&self) {
        self.news.notify_one();
        self.urgent.notify_one();
    }
}

/// A lane that is taken until this is dropped.
pub struct Reserved {
    agent: Handle,
    lane: Lane,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.agent.with(|state| state.facts.busy.remove(&self.lane));
        self.agent.wake();
    }
}

/// Reads everything that is on this host. Once, at the start of the daemon.
///
/// # Errors
/// If the backends cannot say what they have.
pub async fn gather(
    host: &Host,
    agent: &Handle,
    timing: scrap_schema::timing::Timing,
) -> Result<(), Trouble> {
    let mut updates = execute::look_at_everything(host).await?;
    let listing = host.runtime.list().await?;
    for error in &listing.unclear {
        warn!(error = crate::logging::chain(error), "cannot see whether this grain runs");
    }
    // What an earlier daemon was granted is still granted: its keepers hold the deadline.
    let deadline = listing.instances.iter().filter_map(|instance| instance.deadline).max();
    let granted = deadline.map(|deadline| BootTime(deadline.0.saturating_sub(timing.lease.ms())));
    updates.push(Update::Instances(listing, 0));
    updates.push(Update::Granted(granted));
    agent.update(updates);
    Ok(())
}

/// Obeys until `shutdown`. Returns when every action that was under way has ended or five seconds have passed; says whether all
/// have ended. A start that was given up may still come up later.
pub async fn run(daemon: Arc<Daemon>, shutdown: CancellationToken) -> bool {
    let mut changes = daemon.consensus.changes();
    let tasks = tokio_util::task::TaskTracker::new();
    let mut looked = BootTime::default();
    let mut measured = BootTime::default();
    let mut look = None::<tokio::task::JoinHandle<()>>;
    let mut measurement = None::<tokio::task::JoinHandle<()>>;
    let mut told = guard::Told::default();
    tasks.spawn(guard::keep(daemon.clone(), shutdown.clone()));
    tasks.spawn(reach::keep(daemon.clone(), shutdown.clone()));
    tasks.spawn(survey::keep(daemon.clone(), shutdown.clone()));
    tasks.spawn(scrub::keep(daemon.clone(), shutdown.clone()));
    while !shutdown.is_cancelled() {
        let now = clock::now();
        // In a task of its own: a keeper that is slow to answer must not hold up the lease of the others.
        let looking = look.as_ref().is_some_and(|look| !look.is_finished());
        if now.boot.since(looked) >= LOOK_EVERY && !looking {
            looked = now.boot;
            look = Some(tasks.spawn(look_at_runs(daemon.clone())));
        }
        // One at a time: tools that hang must not pile up.
        let measuring = measurement.as_ref().is_some_and(|task| !task.is_finished());
        if now.boot.since(measured) >= MEASURE_EVERY && !measuring {
            measured = now.boot;
            measurement = Some(tasks.spawn(measure(daemon.clone())));
        }
        changes.mark_unchanged();
        let (freezes, others) = execute::freezes(plan(&daemon, now));
        // Before anything of it is done: the guard must not think that the lease is over while something begins under it.
        guard::tell(&daemon, &mut told);
        if !freezes.is_empty() {
            tasks.spawn(freeze(daemon.clone(), freezes));
        }
        for action in others {
            tasks.spawn(carry_out(daemon.clone(), action));
        }
        health::watch(&daemon, &tasks, &shutdown);
        // The lock of the cluster first, then the agent's: the same order everywhere.
        daemon.consensus.read(|cluster| {
            daemon.agent.with(|state| state.reports = report::all(daemon.me, cluster, state));
        });
        tokio::time::sleep(SETTLE).await;
        tokio::select! {
            () = tokio::time::sleep(ROUND) => (),
            _ = changes.changed() => (),
            () = daemon.agent.news.notified() => (),
            () = shutdown.cancelled() => (),
        }
    }
    tasks.close();
    let ended = tokio::time::timeout(LAST_ACTIONS, tasks.wait()).await.is_ok();
    if !ended {
        warn!("some actions did not end in time; they are healed at the next start");
    }
    ended
}

/// What to do now. Takes the lanes of what it returns.
fn plan(daemon: &Daemon, now: Now) -> Vec<HostAction> {
    daemon.consensus.read(|cluster| {
        daemon.agent.with(|state| {
            state.applied(cluster.index);
            // Until the registration of this start is applied here the picture of the cluster may be older than what
            // an earlier start already did.
            if state.registered.is_none_or(|index| cluster.index < index) {
                return Vec::new();
            }
            state.forget_old_failures(cluster);
            state.forget_gone(cluster);
            let actions = obey(daemon.me, cluster, &state.facts, now);
            for lane in actions.iter().map(HostAction::lane) {
                state.facts.busy.insert(lane);
                if let Lane::Run(grain)
                | Lane::Shape(grain)
                | Lane::Snap(grain)
                | Lane::Describe(grain) = lane
                    && let Some(grain) = cluster.grains.get(&grain)
                {
                    state.tries(lane, grain);
                }
            }
            actions
        })
    })
}

async fn carry_out(daemon: Arc<Daemon>, action: HostAction) {
    let lane = action.lane();
    let asks = matches!(action, HostAction::Ask { .. });
    let quiet = asks || matches!(action, HostAction::Probe { .. } | HostAction::Extend { .. });
    let words = action.to_string();
    // Only these take anything away, and may have got half-way.
    let takes = matches!(lane, Lane::Shape(_)) || matches!(action, HostAction::Prune { .. });
    let by = if takes { By::Us } else { By::Somebody };
    let result = execute::execute(&daemon, action).await;
    if !(quiet && result.is_ok()) {
        say(&words, &result);
    }
    if let (Err(_), Lane::Run(grain) | Lane::Shape(grain) | Lane::Snap(grain)) = (&result, &lane) {
        look_again(&daemon, *grain, by).await;
    }
    done(&daemon, lane, !asks, result);
}

/// Freezes several grains at once: where the backend can it is one moment and one piece of work for the disk.
async fn freeze(daemon: Arc<Daemon>, freezes: Vec<execute::Freeze>) {
    for (freeze, result) in execute::snapshots(&daemon, freezes).await {
        let action = HostAction::Snapshot { grain: freeze.grain, name: freeze.name };
        say(&action.to_string(), &result);
        done(&daemon, action.lane(), true, result);
    }
}

fn say(words: &str, result: &execute::Done) {
    match result {
        Ok(_) => debug!(action = words, "done"),
        Err(error) => {
            warn!(action = words, error = crate::logging::chain(error.as_ref()), "failed")
        }
    }
}

/// Takes in what came of an action, and frees its lane.
fn done(daemon: &Daemon, lane: Lane, delivers: bool, result: execute::Done) {
    daemon.agent.with(|state| {
        state.facts.busy.remove(&lane);
        match result {
            Ok(updates) => {
                state.succeeded(lane, delivers);
                for update in updates {
                    state.take(update);
                }
            }
            Err(error) => {
                state.failed(lane, crate::logging::chain(error.as_ref()), clock::boot_time())
            }
        }
    });
    daemon.agent.wake();
}

/// Looks at what runs: a grain may end, and its keeper with it, without anybody's order.
async fn look_at_runs(daemon: Arc<Daemon>) {
    let as_of = daemon.agent.with(|state| state.changes);
    match daemon.host.runtime.list().await {
        Ok(listing) => {
            let known = daemon.agent.with(|state| state.unclear.clone());
            for error in listing.unclear.iter().filter(|error| !known.contains_key(&error.grain)) {
                warn!(error = crate::logging::chain(error), "cannot see whether this grain runs");
            }
            daemon.agent.with(|state| state.take(Update::Instances(listing, as_of)));
        }
        Err(error) => warn!(error = crate::logging::chain(&error), "cannot see what runs"),
    }
}

/// Measures what runs and what the node uses.
async fn measure(daemon: Arc<Daemon>) {
    let alive: Vec<GrainId> = daemon.agent.with(|state| {
        state.facts.runs.iter().filter(|(_, run)| run.alive).map(|(grain, _)| *grain).collect()
    });
    let mut updates = Vec::with_capacity(alive.len());
    for grain in alive {
        // A grain that has ended meanwhile uses nothing.
        if let Ok(usage) = daemon.host.runtime.usage(grain).await {
            updates.push(Update::Usage(grain, usage, clock::boot_time()));
        }
    }
    let pool = execute::pool(&daemon).await;
    updates.push(Update::Pool(pool.clone()));
    match execute::node_usage(&daemon).await {
        Ok(reading) => updates.push(Update::Node(reading)),
        Err(error) => {
            debug!(error = crate::logging::chain(error.as_ref()), "cannot measure this node")
        }
    }
    daemon.agent.with(|state| {
        for update in updates {
            state.take(update);
        }
    });
    alarm::pool(&daemon, &pool).await;
}

/// Stops every grain and verifies it; says whether all are stopped. For an end of the daemon that is meant to be an end of its
/// grains.
pub async fn stop_everything(daemon: &Daemon) -> bool {
    let listing = match daemon.host.runtime.list().await {
        Ok(listing) => listing,
        // Not seen is not stopped.
        Err(error) => {
            warn!(
                error = crate::logging::chain(&error),
                "cannot see what runs: nothing was stopped"
            );
            return false;
        }
    };
    let known = listing.instances.iter().map(|instance| instance.grain);
    // Of those it may still be found out.
    let unclear = listing.unclear.iter().map(|error| error.grain);
    let stops = known.chain(unclear).map(|grain| {
        let grace = daemon.consensus.read(|cluster| {
            let known = cluster.grains.get(&grain);
            known.map_or(Span::from_secs(5), |grain| grain.spec.stop.timeout)
        });
        daemon.host.runtime.stop(grain, grace)
    });
    let stopped = futures_util::future::join_all(stops).await;
    let all = stopped.iter().all(Result::is_ok);
    for error in stopped.into_iter().filter_map(Result::err) {
        warn!(error = crate::logging::chain(&error), "not stopped");
    }
    info!(all, "stopped the grains of this node");
    all
}
