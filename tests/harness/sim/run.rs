//! The simulated runtime, and reports to the cluster: the actions of `obey` that are not about data.

use scrap_decide::obey::{HostAction, RunFacts, StopReason};
use scrap_schema::command::Command;
use scrap_schema::id::GrainId;

use super::execute::Effect;
use super::machine::{Flight, Instance};
use super::{NoLeader, Sim};

impl Sim {
    pub(super) fn land_run(&mut self, at: usize, action: &HostAction) -> Effect {
        let now = self.machines[at].now(self.now);
        match action {
            HostAction::Start { grain, epoch, deadline } => {
                let machine = &mut self.machines[at];
                let started = now.wall;
                let instance = Instance { epoch: *epoch, deadline: *deadline, started };
                machine.instances.insert(*grain, instance);
                let run = RunFacts {
                    epoch: *epoch,
                    alive: true,
                    up: true,
                    armed: deadline.is_some(),
                    since: now.boot,
                    relapses: machine.runs.get(grain).map_or(0, |run| run.relapses),
                    ..RunFacts::default()
                };
                machine.runs.insert(*grain, run);
                self.judge_start(at, *grain, *epoch);
                self.check_health(at);
                Ok(())
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
                    instance.deadline = None;
                    run.armed = false;
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

    /// A line about a grain on a machine.
    pub(super) fn host_says(&mut self, at: usize, grain: GrainId, what: &str) {
        let who = format!("{}/host", self.machines[at].name);
        let name = self.name(grain);
        self.say(&who, &format!("{name} {what}"));
    }

    pub(super) fn report(&mut self, at: usize, command: Command) -> Effect {
        let who = format!("{}/node", self.machines[at].name);
        let told = HostAction::Tell { command: Box::new(command.clone()) };
        match self.propose(Some(at), command) {
            Err(NoLeader) => Err("no leader".to_owned()),
            Ok(applied) => {
                self.tell(&who, &applied.events);
                if let Err(refusal) = applied.outcome {
                    return Err(refusal.to_string());
                }
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
