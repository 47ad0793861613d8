//! What of the state is about programs: which run, since when, whether they answer.

use std::collections::BTreeSet;

use scrap_decide::obey::{Lane, RunFacts, StopReason};
use scrap_host::clock;
use scrap_host::runtime::{Instance, InstanceState, Listing, RuntimeError};
use scrap_schema::id::{Epoch, GrainId};

use super::{Checked, State};

impl State {
    /// Of a grain that cannot be looked at stays true what was known. If nothing was, something of it may be alive.
    pub(super) fn unclear(&mut self, listing: &Listing) {
        let now = clock::boot_time();
        for error in &listing.unclear {
            self.facts.runs.entry(error.grain).or_insert(RunFacts {
                epoch: Epoch(0),
                alive: true,
                up: false,
                since: now,
                ..RunFacts::default()
            });
        }
        let why = |error: &RuntimeError| (error.grain, crate::logging::chain(error));
        self.unclear = listing.unclear.iter().map(why).collect();
    }

    pub(super) fn instances(&mut self, listing: Listing, as_of: u64) {
        let now = clock::now();
        let instances: Vec<Instance> = listing.instances;
        for instance in &instances {
            let alive = match instance.state {
                InstanceState::Running | InstanceState::BackingOff | InstanceState::Stopping => {
                    true
                }
                InstanceState::Stopped => false,
            };
            let up = instance.state == InstanceState::Running;
            self.restarts.insert(instance.grain, (instance.restarts, instance.last_exit.clone()));
            // An order to start or stop that is under way knows better: a program that is about to fail its start looks
            // for a moment like one that runs.
            if self.is_newer(instance.grain, as_of) {
                continue;
            }
            let run = self.facts.runs.entry(instance.grain).or_insert_with(|| RunFacts {
                epoch: instance.epoch,
                alive,
                up,
                armed: instance.deadline.is_some(),
                since: now.boot,
                stopped: (!alive).then_some(now.boot),
                ..RunFacts::default()
            });
            if run.alive && !alive {
                run.stopped = Some(now.boot);
                run.ready = None;
                run.healthy = None;
            }
            run.alive = alive;
            run.up = up;
            run.epoch = instance.epoch;
            run.armed = instance.deadline.is_some();
        }
        // One that the runtime does not know any more does not run; when it was stopped is still of interest.
        let mut known: BTreeSet<GrainId> = instances.iter().map(|it| it.grain).collect();
        known.extend(self.unclear.keys());
        for (grain, run) in &mut self.facts.runs {
            let changed = self.changed.get(grain).is_some_and(|changed| *changed > as_of);
            let gone = run.alive && !known.contains(grain);
            if gone && !changed && !self.facts.busy.contains(&Lane::Run(*grain)) {
                run.alive = false;
                run.up = false;
                run.stopped = Some(now.boot);
            }
        }
    }

    /// Whether an order to start or stop the grain is under way or has ended since: it knows better than a look.
    pub(super) fn is_newer(&self, grain: GrainId, as_of: u64) -> bool {
        let changed = self.changed.get(&grain).is_some_and(|changed| *changed > as_of);
        changed || self.facts.busy.contains(&Lane::Run(grain))
    }

    pub(super) fn note_change(&mut self, grain: GrainId) {
        self.changes = self.changes.saturating_add(1);
        self.changed.insert(grain, self.changes);
    }

    pub(super) fn started(&mut self, grain: GrainId, epoch: Epoch, armed: bool) {
        self.note_change(grain);
        let start = self.starts.entry(grain).or_default();
        *start = start.saturating_add(1);
        let relapses = self.facts.runs.get(&grain).map_or(0, |run| run.relapses);
        let run = RunFacts {
            epoch,
            alive: true,
            up: true,
            armed,
            since: clock::boot_time(),
            relapses,
            ..RunFacts::default()
        };
        self.facts.runs.insert(grain, run);
    }

    pub(super) fn stopped(&mut self, grain: GrainId, why: StopReason) {
        self.note_change(grain);
        let now = clock::boot_time();
        if let Some(run) = self.facts.runs.get_mut(&grain) {
            run.alive = false;
            run.up = false;
            run.ready = None;
            run.healthy = None;
            run.stopped = Some(now);
            run.relapses = match why {
                StopReason::Unwell => run.relapses.saturating_add(1),
                StopReason::Unwanted
                | StopReason::NotOwner
                | StopReason::OldEpoch
                | StopReason::NoHead
                | StopReason::LeaseEnds
                | StopReason::Moves
                | StopReason::Restarts
                | StopReason::Removed => 0,
            };
        }
        // What was seen before the stop says nothing about what was written until then.
        self.watched.remove(&grain);
        self.measured.remove(&grain);
    }

    pub(super) fn health(&mut self, grain: GrainId, checked: Checked) {
        let Checked { start, result, counts, at } = checked;
        let current = self.starts.get(&grain).copied().unwrap_or(0) == start;
        if let Some(run) = self.facts.runs.get_mut(&grain).filter(|run| current && run.alive) {
            run.healthy = Some(result.is_ok());
            match result {
                Ok(()) => {
                    (run.failing, run.relapses, run.ailment) = (0, 0, None);
                    run.ready.get_or_insert(at);
                }
                Err(why) => {
                    run.failing = run.failing.saturating_add(u32::from(counts));
                    run.ailment = Some(why);
                }
            }
        }
    }
}
