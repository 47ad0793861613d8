//! What can go wrong with simulated machines, and what passes by itself: deadlines, health checks.

use scrap_decide::obey::{HostAction, RunFacts};
use scrap_schema::command::Command;
use scrap_schema::id::{BootId, GrainId};

use super::Sim;
use super::guard::{Board, Pauses};
use super::machine::{Clock, Machine};

/// Time between two health checks.
const CHECK_EVERY_MS: u64 = 1_000;

impl Sim {
    /// A grain is killed.
    pub(super) fn end(&mut self, at: usize, grain: GrainId) {
        let now = self.machines[at].clock.read(self.now);
        let machine = &mut self.machines[at];
        machine.instances.remove(&grain);
        if let Some(run) = machine.runs.get_mut(&grain) {
            run.alive = false;
            run.up = false;
            run.stopped.get_or_insert(now);
        }
        machine.changed = true;
    }

    /// Notices grains that answer, and those that do not any more.
    pub(super) fn check_health(&mut self, at: usize) {
        let wall = self.machines[at].now(self.now).wall;
        let machine = &mut self.machines[at];
        if !machine.is_running() {
            return;
        }
        let now = self.now;
        for (grain, run) in machine.runs.iter_mut().filter(|(_, run)| run.alive) {
            let ill = machine.ill.get(grain);
            if ill.is_some() && now.is_multiple_of(CHECK_EVERY_MS) {
                run.healthy = Some(false);
                run.failing += 1;
                run.ailment = Some("port 80 is closed".to_owned());
                machine.changed = true;
            } else if ill.is_none() && run.failing > 0 {
                (run.failing, run.relapses) = (0, 0);
                (run.healthy, run.ailment) = (Some(true), None);
                machine.changed = true;
            }
            if run.ready.is_none() && !machine.sick.contains(grain) && ill.is_none() {
                run.ready = Some(wall);
                run.healthy = Some(true);
                machine.changed = true;
            }
        }
    }

    /// Connects two machines or cuts them off from each other.
    pub fn link(&mut self, a: usize, b: usize, on: bool) {
        self.one_way(a, b, on);
        self.one_way(b, a, on);
    }

    /// Lets messages of one machine come to another one or not.
    pub fn one_way(&mut self, from: usize, to: usize, on: bool) {
        match on {
            true => drop(self.cut.remove(&(from, to))),
            false => drop(self.cut.insert((from, to))),
        }
    }

    /// Lets data streams pass between two machines or not.
    pub fn link_streams(&mut self, a: usize, b: usize, on: bool) {
        let pair = (a.min(b), a.max(b));
        match on {
            true => drop(self.streams_cut.remove(&pair)),
            false => drop(self.streams_cut.insert(pair)),
        }
    }

    /// Connects a machine with all others or with none.
    pub fn network(&mut self, at: usize, on: bool) {
        for other in 0..self.machines.len() {
            if other != at {
                self.link(at, other, on);
            }
        }
    }

    /// Only machines of the same group reach each other.
    pub fn partition(&mut self, groups: &[Vec<usize>]) {
        let group = |at: usize| groups.iter().position(|group| group.contains(&at));
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                self.link(a, b, group(a) == group(b));
            }
        }
    }

    /// Everybody reaches everybody.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.streams_cut.clear();
        self.flap = None;
        self.holds_fail = false;
    }

    /// Power is gone: everything that ran is dead, unfrozen writes stay on disk.
    pub fn kill(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.up = false;
        machine.instances.clear();
        machine.pauses = Pauses::default();
        machine.board = Board::default();
        machine.forget();
    }

    /// The daemon is gone; grains live on until their deadline.
    pub fn kill_daemon(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.daemon = false;
        machine.pauses.daemon = None;
        machine.forget();
    }

    /// Power is back, or the daemon starts again.
    pub fn start(&mut self, at: usize) {
        let now = self.now;
        let wall = self.machines[at].now(now).wall;
        let machine = &mut self.machines[at];
        if machine.up && machine.daemon {
            return;
        }
        if !machine.up {
            let drift_ppm = machine.clock.drift_ppm;
            machine.clock = Clock { set: now, shown: 20_000, drift_ppm };
        }
        machine.up = true;
        machine.daemon = true;
        machine.boots += 1;
        machine.boot = BootId(machine.boots);
        machine.life = machine.boot;
        machine.next_renewal = now;
        machine.changed = true;
        let since = machine.clock.read(now);
        // What runs is found again by whoever keeps it.
        let found = machine.instances.iter().map(|(grain, instance)| {
            let run = RunFacts {
                epoch: instance.epoch,
                alive: true,
                up: true,
                armed: instance.deadline.is_some(),
                ready: Some(wall),
                since,
                ..RunFacts::default()
            };
            (*grain, run)
        });
        machine.runs = found.collect();
    }

    /// The daemon stops what runs under a lease, says so, and ends with the machine.
    pub fn goodbye(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let under_lease = machine.instances.iter().filter(|(_, it)| it.deadline.is_some());
        let under_lease: Vec<GrainId> = under_lease.map(|(grain, _)| *grain).collect();
        if !machine.is_running() {
            return;
        }
        machine.flights.clear();
        for grain in under_lease {
            self.end(at, grain);
            self.host_says(at, grain, "is stopped");
        }
        let (node, boot) = (self.machines[at].id, self.machines[at].boot);
        let who = format!("{}/node", self.machines[at].name);
        if let Ok(applied) = self.propose(Some(at), Command::LeaveNode { node, boot }) {
            self.tell(&who, &applied.events);
        }
        self.kill(at);
    }

    /// A machine's wall clock shows something else from now on. What is lost is told by wall clocks: nobody can compare it any more.
    pub fn turn_wall(&mut self, at: usize, ahead_ms: i64) {
        self.machines[at].wall_ahead = ahead_ms;
        self.walls_turned = true;
    }

    /// A machine's boot clock runs at another speed from now on.
    pub fn drift(&mut self, at: usize, ppm: i64) {
        let machine = &mut self.machines[at];
        machine.clock = machine.clock.with_drift(self.now, ppm);
    }

    /// Whether nothing is left to do anywhere: the leader plans nothing, nodes only look and renew.
    #[must_use]
    pub fn restless(&self) -> Vec<String> {
        let mut restless: Vec<String> =
            self.plan().iter().map(|command| format!("the leader would {command}")).collect();
        for at in 0..self.machines.len() {
            if !self.machines[at].is_running() || self.machines[at].id.0 == 0 {
                continue;
            }
            for action in self.orders(at) {
                match action {
                    HostAction::Probe { .. } | HostAction::Extend { .. } => (),
                    // One that is well is asked now and then.
                    HostAction::Ask { grain, node }
                        if self.machines[at]
                            .copies
                            .get(&(grain, node))
                            .is_some_and(|known| known.facts.snapshots.is_some()) => {}
                    other => restless.push(format!("{} would {other}", self.machines[at].name)),
                }
            }
        }
        restless
    }
}

impl Machine {
    /// Forgets what it knew of copies that it does not look after, or whose node has started again since.
    pub(super) fn forget_copies(&mut self) {
        let cluster = &self.cluster;
        self.copies.retain(|(grain, node), _| {
            let online = cluster.nodes.get(node).is_some_and(|node| node.liveness.is_online());
            let looked_after = cluster.grains.get(grain).is_some_and(|grain| {
                grain.owner == Some(self.id) && grain.receivers().contains(node)
            });
            online && looked_after
        });
    }
}
