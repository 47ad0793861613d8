//! The simulated runtime, and reports to the cluster: the actions of `obey` that are not about data.

use scrap_decide::obey::{HostAction, RunFacts, StopReason};
use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;

use super::execute::Effect;
use super::machine::{Flight, Instance};
use super::{NoLeader, Sim};

impl Sim {
    pub(super) fn land_run(&mut self, at: usize, action: &HostAction) -> Effect {
        let now = self.machines[at].now(self.now);
        match action {
            HostAction::Start { grain, epoch, deadline } => {
                self.begin_run(at, *grain, *epoch, *deadline)
            }
            HostAction::Stop { grain, why, .. } => {
                let machine = &mut self.machines[at];
                let ran = machine.instances.remove(grain).is_some();
                if let Some(run) = machine.runs.get_mut(grain) {
                    run.alive = false;
                    run.up = false;
                    run.stopped.get_or_insert(now.boot);
                    let unwell = *why == StopReason::Unwell;
                    run.relapses = if unwell && ran { run.relapses + 1 } else { 0 };
                }
                if ran {
                    self.host_says(at, *grain, "is stopped");
                }
                Ok(())
            }
            HostAction::Arm { grain, deadline } => {
                self.may_begin(at, Some(*deadline))?;
                let machine = &mut self.machines[at];
                if let (Some(instance), Some(run)) =
                    (machine.instances.get_mut(grain), machine.runs.get_mut(grain))
                {
                    instance.deadline = Some(*deadline);
                    run.armed = true;
                }
                Ok(())
            }
            HostAction::Disarm { grain } => {
                let machine = &mut self.machines[at];
                if let (Some(instance), Some(run)) =
                    (machine.instances.get_mut(grain), machine.runs.get_mut(grain))
                {
                    // Dead stays dead.
                    if instance.deadline.is_some_and(|held| held > now.boot) {
                        instance.deadline = None;
                        run.armed = false;
                    }
                }
                Ok(())
            }
            HostAction::Extend { deadline } => {
                let machine = &mut self.machines[at];
                for instance in machine.instances.values_mut() {
                    if let Some(known) = instance.deadline.as_mut().filter(|it| **it > now.boot) {
                        *known = (*known).max(*deadline);
                    }
                }
                machine.extended = Some(*deadline);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_run(
        &mut self,
        at: usize,
        grain: GrainId,
        epoch: Epoch,
        deadline: Option<BootTime>,
    ) -> Effect {
        self.may_begin(at, deadline)?;
        let now = self.machines[at].now(self.now);
        let machine = &mut self.machines[at];
        machine.instances.insert(grain, Instance { epoch, deadline, started: now.wall });
        let run = RunFacts {
            epoch,
            alive: true,
            up: true,
            armed: deadline.is_some(),
            since: now.boot,
            relapses: machine.runs.get(&grain).map_or(0, |run| run.relapses),
            ..RunFacts::default()
        };
        machine.runs.insert(grain, run);
        self.judge_start(at, grain, epoch);
        self.check_health(at);
        Ok(())
    }

    /// Whether a keeper begins anything with this deadline: not after it, and not when the guard may have said that nothing runs.
    fn may_begin(&self, at: usize, deadline: Option<BootTime>) -> Effect {
        let machine = &self.machines[at];
        if deadline.is_some_and(|deadline| deadline <= machine.clock.read(self.now)) {
            return Err("its deadline has passed".to_owned());
        }
        if deadline.is_some() && machine.board.is_closed() {
            return Err("the guard has said that nothing runs here any more".to_owned());
        }
        Ok(())
    }

    /// A line about a grain on a machine.
    pub(super) fn host_says(&mut self, at: usize, grain: GrainId, what: &str) {
        let who = format!("{}/host", self.machines[at].name);
        let name = self.name(grain);
        self.say(&who, &format!("{name} {what}"));
    }

    pub(super) fn report(&mut self, at: usize, command: Command) -> Effect {
        let who = format!("{}/node", self.machines[at].name);
        let told = HostAction::Tell { command: Box::new(command.clone()) };
        match self.submit(at, command) {
            Err(NoLeader) => Err("no answer".to_owned()),
            Ok(applied) => {
                self.tell(&who, &applied.events);
                // A refusal means that the world has moved on: the next round decides on the new one, once it is applied here.
                let index = self.truth.index;
                let begun = self.machines[at].now(self.now);
                let end = self.now;
                let flight = Flight { action: told, begun, end, awaits: Some(index), seen: 0 };
                self.machines[at].flights.push(flight);
                Ok(())
            }
        }
    }
}
