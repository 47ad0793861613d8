//! Starting and stopping: a grain runs here if and only if this node owns its present epoch, holds its head and, where it needs
//! one, its lease.

use scrap_schema::spec::Stop;
use scrap_schema::unit::Span;

use super::facts::unwell;
use super::{Here, HostAction, Lane, StopReason};
use crate::cluster::{Declined, Stage};
use crate::mutant::{self, Mutant};

pub(super) fn decide(here: Here<'_>, actions: &mut Vec<HostAction>) {
    match (should_run(here), here.is_alive()) {
        (Err(why), true) => stop(here, why, actions),
        (Ok(()), true) if is_of_old_epoch(here) => stop(here, StopReason::OldEpoch, actions),
        // The owner tries what a person would try first. Another node takes it over only when this one is gone: a program that
        // is not well here is mostly not well there either, and a move loses what was written since the last copy.
        (Ok(()), true) if unwell(here).is_some() => stop(here, StopReason::Unwell, actions),
        (Ok(()), true) => arm(here, actions),
        (Ok(()), false) => start(here, actions),
        (Err(_), false) => (),
    }
}

/// Whether the grain runs under the lease here: always once it is armed, and before as soon as the cluster wants it.
fn under_lease(here: Here<'_>) -> bool {
    here.grain.armed || here.cluster.needs_lease(here.grain)
}

fn should_run(here: Here<'_>) -> Result<(), StopReason> {
    if !here.owns() {
        return Err(StopReason::NotOwner);
    }
    if here.grain.declined != Declined::No {
        return Err(StopReason::NoHead);
    }
    if !here.grain.wants_to_run() {
        return Err(StopReason::Unwanted);
    }
    match here.grain.stage {
        Stage::Settled | Stage::Warming { .. } | Stage::Landing { .. } => (),
        Stage::Quiescing { .. } | Stage::Released { .. } => return Err(StopReason::Moves),
        Stage::Restarting { .. } | Stage::Restoring { .. } => return Err(StopReason::Restarts),
        Stage::Unplaced | Stage::Cloning { .. } => return Err(StopReason::Unwanted),
    }
    if !here.holds_head() && !mutant::is(Mutant::RunsWithoutHead) {
        return Err(if here.data.is_none() { StopReason::NoHead } else { StopReason::OldEpoch });
    }
    let timing = here.cluster.timing();
    if mutant::is(Mutant::StartsUnleased) {
        return Ok(());
    }
    if here.grain.armed && !here.host.lease.is_held(timing, here.now.boot) && !is_kept(here) {
        return Err(StopReason::LeaseEnds);
    }
    Ok(())
}

/// A daemon that has just started knows of no grant yet. What it found running under the lease dies by itself at the deadline that
/// it was given, so it may run until then.
fn is_kept(here: Here<'_>) -> bool {
    here.host.lease.granted.is_none() && here.run.is_some_and(|run| run.alive && run.armed)
}

fn is_of_old_epoch(here: Here<'_>) -> bool {
    here.run.is_some_and(|run| run.epoch != here.grain.epoch)
}

fn stop(here: Here<'_>, why: StopReason, actions: &mut Vec<HostAction>) {
    let timing = here.cluster.timing();
    let wanted = match why {
        // A grain in the trash or without a place has no other wish.
        StopReason::Unwanted
        | StopReason::Moves
        | StopReason::Restarts
        | StopReason::NotOwner
        | StopReason::OldEpoch
        | StopReason::NoHead
        | StopReason::Removed
        | StopReason::Unwell => here.grain.spec.stop.timeout,
        StopReason::LeaseEnds => Stop::default().timeout.min(here.grain.spec.stop.timeout),
    };
    // Never longer than what is left of the lease: the keeper would kill it harder.
    let left = here.host.lease.deadline(timing).map(|deadline| deadline.since(here.now.boot));
    let grace = match (why, left) {
        (StopReason::LeaseEnds, Some(left)) => wanted.min(left),
        (StopReason::LeaseEnds, None) => Span::ZERO,
        (
            StopReason::Unwanted
            | StopReason::Moves
            | StopReason::Restarts
            | StopReason::NotOwner
            | StopReason::OldEpoch
            | StopReason::NoHead
            | StopReason::Removed
            | StopReason::Unwell,
            _,
        ) => wanted,
    };
    actions.push(HostAction::Stop { grain: here.grain.id, grace, why });
}

fn start(here: Here<'_>, actions: &mut Vec<HostAction>) {
    let (grain, epoch) = (here.grain.id, here.grain.epoch);
    // Nothing may change the data's shape under a starting program.
    if here.host.busy.contains(&Lane::Shape(grain)) {
        return;
    }
    if is_resting(here) {
        return;
    }
    let timing = here.cluster.timing();
    let deadline = match under_lease(here) {
        // A start under a lease that nobody has granted yet waits for the first grant.
        true if mutant::is(Mutant::StartsUnleased) => Some(here.now.boot + timing.lease),
        true if !here.host.lease.is_held(timing, here.now.boot) => return,
        true => here.host.lease.deadline(timing),
        false => None,
    };
    actions.push(HostAction::Start { grain, epoch, deadline });
}

/// The first pause before a grain that is not well is started again; the first time there is none. Doubles every time.
const REST_FIRST: Span = Span::from_secs(10);
/// The longest pause.
const REST_MAX: Span = Span::from_secs(300);

/// Whether a grain that was stopped because it was not well waits before it is started again.
fn is_resting(here: Here<'_>) -> bool {
    let Some(run) = here.run.filter(|run| run.epoch == here.grain.epoch) else { return false };
    let (Some(stopped), Some(doublings)) = (run.stopped, run.relapses.checked_sub(2)) else {
        return false;
    };
    let rest = REST_FIRST.ms().checked_shl(doublings.min(16)).unwrap_or(u64::MAX);
    here.now.boot < stopped + Span::from_ms(rest.min(REST_MAX.ms()))
}

/// A grain that was started without the lease and needs one now (`docs/decisions/0005`), or the other way round.
fn arm(here: Here<'_>, actions: &mut Vec<HostAction>) {
    let timing = here.cluster.timing();
    let armed = here.run.is_some_and(|run| run.armed);
    let held = here.host.lease.is_held(timing, here.now.boot);
    // Nobody gives it away by himself any more, and that is known here: it may outlive the lease.
    let early = mutant::is(Mutant::DisarmsFirst) && !here.cluster.needs_lease(here.grain);
    if armed && (early || !under_lease(here)) {
        actions.push(HostAction::Disarm { grain: here.grain.id });
    }
    if under_lease(here)
        && !armed
        && held
        && let Some(deadline) = here.host.lease.deadline(timing)
    {
        actions.push(HostAction::Arm { grain: here.grain.id, deadline });
    }
}
