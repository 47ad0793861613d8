//! The five conditions of a grain, each with one word and one sentence. Pure.

use scrap_decide::cluster::{Grain, Liveness, Stage};
use scrap_schema::api::{Condition, GrainState};
use scrap_schema::id::NodeId;
use scrap_schema::spec::FailoverMode;
use scrap_schema::unit::Span;

use super::grain::{is_older_than_start, owner_report, run_report};
use super::{World, count};

type Verdict = (Option<bool>, &'static str, String);

/// `Placed`, `Ready`, `Healthy`, `Replicated`, `Protected`.
pub(super) fn conditions(world: &World<'_>, grain: &Grain, state: GrainState) -> Vec<Condition> {
    let all = [
        ("Placed", placed(world, grain)),
        ("Ready", ready(world, grain, state)),
        ("Healthy", healthy(world, grain)),
        ("Replicated", replicated(world, grain)),
        ("Protected", protected(world, grain)),
    ];
    let condition = |(name, (status, reason, message)): (&str, Verdict)| Condition {
        r#type: name.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
    };
    all.into_iter().map(condition).collect()
}

fn waits(world: &World<'_>, grain: &Grain) -> Option<String> {
    world.waiting_with_grain(grain.id, grain.operation).map(|waiting| waiting.reason)
}

fn placed(world: &World<'_>, grain: &Grain) -> Verdict {
    match grain.owner {
        Some(owner) => {
            let message = format!("lives on {} in epoch {}", world.node_word(owner), grain.epoch);
            (Some(true), "Assigned", message)
        }
        None => match waits(world, grain) {
            Some(reason) => (Some(false), "Waiting", reason),
            None => (Some(false), "Pending", "no node was chosen yet".to_owned()),
        },
    }
}

fn ready(world: &World<'_>, grain: &Grain, state: GrainState) -> Verdict {
    let owner = grain.owner.map_or_else(|| "its node".to_owned(), |owner| world.node_word(owner));
    let answers = Some(grain.started.is_some());
    match state {
        GrainState::Pending => (Some(false), "Pending", "it has no node yet".to_owned()),
        GrainState::Starting => match waits(world, grain) {
            Some(reason) => (Some(false), "Waiting", reason),
            None => (Some(false), "Starting", starting(world, grain)),
        },
        GrainState::Running => (Some(true), "Running", format!("it answers on {owner}")),
        GrainState::Unhealthy => (Some(false), "Unhealthy", trouble(world, grain)),
        GrainState::Stopping => (Some(false), "Stopping", format!("{owner} stops it")),
        GrainState::Stopped => {
            (Some(false), "Stopped", "it is stopped because it should be".to_owned())
        }
        GrainState::Moving => (answers, "Moving", moving(world, grain)),
        GrainState::Lost => (None, "OwnerLost", lost(world, grain)),
        GrainState::Trashed => (Some(false), "Trashed", trashed(grain)),
    }
}

/// A grain that does not answer yet, and what its owner says about that.
pub(super) fn starting(world: &World<'_>, grain: &Grain) -> String {
    let owner = grain.owner.map_or_else(|| "its node".to_owned(), |owner| world.node_word(owner));
    match owner_report(world, grain).and_then(|report| report.trouble.as_ref()) {
        Some(trouble) => format!("{owner} tries to start it: {trouble}"),
        None => format!("{owner} starts it; no answer yet"),
    }
}

fn trashed(grain: &Grain) -> String {
    match grain.trashed_until {
        Some(until) => format!("it is in the trash until {until}"),
        None => "it is in the trash".to_owned(),
    }
}

/// What ails a grain that has answered and does not any more.
pub(super) fn trouble(world: &World<'_>, grain: &Grain) -> String {
    let Some(run) = run_report(world, grain) else {
        if let Some(ailment) = &grain.ailment {
            return format!("it was not well ({}) and starts again", ailment.why);
        }
        return "its node reports no process of it".to_owned();
    };
    let restarts = match run.restarts {
        0 => String::new(),
        times => format!(", restarted {}", count(usize::try_from(times).unwrap_or(0), "time")),
    };
    match (&run.last_exit, run.up) {
        (Some(exit), false) => format!("its program ended ({exit}{restarts}) and starts again"),
        (None, false) => format!("its program does not run{restarts}"),
        (_, true) => match &run.ailment {
            Some(why) => format!("its health check fails: {why}"),
            None => "its health check fails".to_owned(),
        },
    }
}

fn moving(world: &World<'_>, grain: &Grain) -> String {
    match &grain.stage {
        Stage::Warming { to, .. } => {
            format!("it answers while its data are copied to {}", world.node_word(*to))
        }
        Stage::Quiescing { to, .. } => {
            format!("it is being stopped to go to {}", world.node_word(*to))
        }
        Stage::Released { to, .. } => {
            format!("it is stopped; its last writes go to {}", world.node_word(*to))
        }
        Stage::Landing { from, .. } => {
            format!("it comes from {} and starts", world.node_word(*from))
        }
        Stage::Unplaced
        | Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => "it moves".to_owned(),
    }
}

/// Why nothing is known of a grain whose owner is not online.
pub(super) fn lost(world: &World<'_>, grain: &Grain) -> String {
    let owner = grain.owner.and_then(|owner| world.cluster.nodes.get(&owner));
    let Some(owner) = owner else { return "its node is no member any more".to_owned() };
    let name = &owner.name;
    match &owner.liveness {
        Liveness::Online | Liveness::Joining => format!("{name} has not registered yet"),
        Liveness::Suspect { .. } => format!("{name} is silent; the countdown runs"),
        Liveness::Fenced { .. } if grain.armed => {
            format!("{name} is fenced: nothing of it runs there")
        }
        Liveness::Fenced { .. } => {
            format!("{name} is silent, and {} needs no lease: it may still run there", grain.name)
        }
        Liveness::Away { .. } => format!("{name} said goodbye"),
    }
}

/// Why reports about a grain cannot be judged here, if they cannot.
fn unknown(world: &World<'_>, grain: &Grain) -> Option<Verdict> {
    let owner = grain.owner?;
    if !world.raft.leads {
        let message = "the answering node does not lead; reports of nodes are with the leader";
        return Some((None, "NotTheLeader", message.to_owned()));
    }
    if !world.has_heard(owner) {
        let message = format!("{} has not reported to this leader yet", world.node_word(owner));
        return Some((None, "NotHeardYet", message));
    }
    None
}

fn healthy(world: &World<'_>, grain: &Grain) -> Verdict {
    if grain.started.is_none() {
        return (None, "NotRunning", "it does not run".to_owned());
    }
    if grain.owner.is_some_and(|owner| !world.is_online(owner)) {
        return (None, "OwnerLost", lost(world, grain));
    }
    if let Some(verdict) = unknown(world, grain) {
        return verdict;
    }
    match run_report(world, grain) {
        None if is_older_than_start(world, grain) => {
            let message = "it has just started; the next report tells".to_owned();
            (None, "NotHeardYet", message)
        }
        None => (Some(false), "NoProcess", trouble(world, grain)),
        Some(run) if !run.up => (Some(false), "ProgramEnded", trouble(world, grain)),
        Some(run) => match (run.healthy, &grain.spec.health) {
            (Some(true), _) => (Some(true), "CheckPassed", "its health check passes".to_owned()),
            (Some(false), _) => (Some(false), "CheckFailed", trouble(world, grain)),
            (None, Some(_)) => (None, "NotCheckedYet", "no check has ended yet".to_owned()),
            (None, None) => {
                (Some(true), "ProgramRuns", "its program runs; it has no health check".to_owned())
            }
        },
    }
}

fn replicated(world: &World<'_>, grain: &Grain) -> Verdict {
    let policy = world.cluster.policy_of(grain);
    let wanted = usize::try_from(policy.replicate.copies).unwrap_or(usize::MAX);
    if wanted == 0 {
        let message = format!("policy {} wants no copies", grain.spec.protect);
        return (Some(true), "NoneWanted", message);
    }
    if !grain.born {
        return (Some(false), "NoData", "it has no data yet".to_owned());
    }
    if let Some(verdict) = unknown(world, grain) {
        return verdict;
    }
    let lag = |node: &NodeId| world.observed.lag(grain, *node, world.now);
    let reachable: Vec<_> = grain.standbys.iter().filter(|node| world.is_online(**node)).collect();
    let have: Vec<Span> = reachable.iter().filter_map(|node| lag(node)).collect();
    let oldest = have.iter().max().copied().unwrap_or_default();
    if have.len() < wanted {
        let reason = if reachable.len() < wanted { "TooFewCopies" } else { "FirstCopyUnderWay" };
        let why = copy_trouble(world, grain).or_else(|| waits(world, grain));
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let lacks = if reachable.len() < wanted { "can be reached" } else { "has all data yet" };
        let message = format!("{} of {} {lacks}{why}", have.len(), count(wanted, "copy"));
        return (Some(false), reason, message);
    }
    if oldest > policy.replicate.alert_after {
        let why = copy_trouble(world, grain).map_or_else(String::new, |why| format!(": {why}"));
        let message = format!(
            "a copy is {} old, the policy worries after {}{why}",
            oldest.rounded(),
            policy.replicate.alert_after
        );
        return (Some(false), "Behind", message);
    }
    if let Some(message) = stuck(world, grain, policy.replicate.every) {
        return (Some(false), "Stuck", message);
    }
    let message = format!("{}, the oldest {} old", count(have.len(), "copy"), oldest.rounded());
    (Some(true), "UpToDate", message)
}

/// A copy that has missed two rounds for a reason that is known: that is said before it is too old for the policy.
fn stuck(world: &World<'_>, grain: &Grain, every: Span) -> Option<String> {
    grain.standbys.iter().find_map(|node| {
        let trouble = world.observed.copy(grain, *node)?.trouble.as_ref()?;
        let lag = world.observed.lag(grain, *node, world.now)?;
        let name = world.node_word(*node);
        let message = || {
            format!("a copy is {} old and stands still: copy on {name}: {trouble}", lag.rounded())
        };
        (lag > every + every).then(message)
    })
}

/// Why a copy does not move forward, in the owner's words.
fn copy_trouble(world: &World<'_>, grain: &Grain) -> Option<String> {
    let of_copy = |node: &NodeId| {
        let trouble = world.observed.copy(grain, *node)?.trouble.clone()?;
        Some(format!("copy on {}: {trouble}", world.node_word(*node)))
    };
    let own = || owner_report(world, grain).and_then(|report| report.trouble.clone());
    grain.standbys.iter().find_map(of_copy).or_else(own)
}

fn protected(world: &World<'_>, grain: &Grain) -> Verdict {
    if !grain.born {
        return (Some(false), "NoData", "it has no data yet".to_owned());
    }
    if let Some(verdict) = unknown(world, grain) {
        return verdict;
    }
    let failover = world.cluster.policy_of(grain).failover;
    let Some(lag) = world.observed.best_lag(world.cluster, grain, world.now) else {
        let why = match grain.standbys.iter().any(|node| world.is_online(*node)) {
            true => "no copy has all data yet",
            false => "no copy can be reached",
        };
        let message = format!("{why}: all of it would be lost with its node");
        return (Some(false), "NoCopy", message);
    };
    if lag > failover.max_data_loss {
        let message = format!(
            "the last {} of writes would be lost, the policy allows {}",
            lag.rounded_up(),
            failover.max_data_loss
        );
        return (Some(false), "CopyTooOld", message);
    }
    let message = format!("at most the last {} of writes would be lost", lag.rounded_up());
    match failover.mode {
        FailoverMode::Auto if world.cluster.disarmed(grain.owner).is_some() => (
            Some(true),
            "Disarmed",
            format!("{message}; while it is disarmed only a person starts it elsewhere"),
        ),
        FailoverMode::Auto if !world.cluster.needs_lease(grain) => (
            Some(true),
            "NeedsAPerson",
            format!(
                "{message}; with fewer than three members only a person can start it elsewhere"
            ),
        ),
        FailoverMode::Auto => (Some(true), "FailsOver", message),
        FailoverMode::Manual => {
            (Some(true), "NeedsAPerson", format!("{message}; only a person starts it elsewhere"))
        }
    }
}
