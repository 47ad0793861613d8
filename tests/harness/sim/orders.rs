//! Orders of scripts that make machines, clocks, disks and networks misbehave.

use anyhow::{Context, Result, bail, ensure};
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_schema::command::Command;
use scrap_schema::id::NodeId;
use scrap_schema::unit::{Bytes, Span};

use super::Sim;
use super::disk::Content;
use super::network::Weather;

/// What was written within so long may not be on disk yet when the power fails.
const UNSYNCED: usize = 50;
/// A message that is badly delayed comes within this.
const STALL_MS: u64 = 25_000;
/// One that comes twice comes again within this.
const ECHO_MS: u64 = 180_000;

impl Sim {
    /// Does it if it is one of these.
    pub(super) fn misbehave(&mut self, parts: &[&str]) -> Result<bool> {
        match parts {
            ["pause", node, part, time] => {
                let (at, time): (usize, Span) = (self.at(node)?, time.parse()?);
                self.pause(at, part, time.ms());
            }
            ["weather", stalls, losses, echoes] => {
                let (stalls, losses, echoes) = (stalls.parse()?, losses.parse()?, echoes.parse()?);
                let (stall_ms, echo_ms) = (STALL_MS, ECHO_MS);
                let fair = Weather::fair();
                self.weather = Weather { stalls, stall_ms, losses, echoes, echo_ms, ..fair };
            }
            ["holds", state] => self.holds_fail = *state == "fail",
            ["slow-kills", time] => self.kill_slack = time.parse::<Span>()?.ms(),
            ["resume"] => self.resume_all(),
            ["lose-power", node] => {
                let at = self.at(node)?;
                self.lose_power(at);
            }
            ["kill-all"] => (0..self.machines.len()).for_each(|at| self.lose_power(at)),
            ["start-all"] => (0..self.machines.len()).for_each(|at| self.start(at)),
            // What `b` says does not get to `a`.
            ["deaf", a, b, state] => {
                let (a, b) = (self.at(a)?, self.at(b)?);
                if a != b {
                    self.one_way(b, a, *state != "on");
                }
            }
            ["bridge", node] => {
                let at = self.at(node)?;
                self.bridge(at);
            }
            ["flap", "off"] => self.flap = None,
            ["flap", time] => self.flap = Some(time.parse::<Span>()?.ms().max(1_000)),
            ["wall", node, seconds] => {
                let (at, seconds): (usize, i64) = (self.at(node)?, seconds.parse()?);
                self.turn_wall(at, seconds * 1_000);
            }
            ["slow-disk", node, time] => {
                let (at, time): (usize, Span) = (self.at(node)?, time.parse()?);
                self.machines[at].apply_delay = time.ms();
            }
            ["rate", bytes] => self.rate = bytes.parse::<Bytes>()?.0.max(1),
            _ => return self.change_members(parts),
        }
        Ok(true)
    }

    /// The same of members, operations, and what a script expects.
    fn change_members(&mut self, parts: &[&str]) -> Result<bool> {
        match parts {
            ["wipe", node] => {
                let at = self.at(node)?;
                self.wipe(at)?;
            }
            ["rm-node", node] => {
                let node = self.node(&node.parse()?)?;
                self.remove_node(node);
            }
            ["rejoin", node] => {
                let at = self.at(node)?;
                self.rejoin(at)?;
            }
            ["recover", node] => {
                let at = self.at(node)?;
                self.recover(at)?;
            }
            ["cancel-all"] => self.cancel_all(),
            ["expect", grain, "on", node] => {
                let (grain, at) = (self.grain(grain)?, self.at(node)?);
                if !self.machines[at].instances.contains_key(&grain) {
                    let what = format!("{} does not run on {node}", self.name(grain));
                    self.find(what);
                }
            }
            // Since the log begins.
            ["expect", grain, "on", node, "all-the-time"] => {
                let (grain, at) = (self.grain(grain)?, self.at(node)?);
                let run = self.machines[at].instances.get(&grain);
                let began = self.machines[at].now(self.zero).wall;
                if run.is_none_or(|run| run.started >= began) {
                    let what = format!("{} did not run on {node} all the time", self.name(grain));
                    self.find(what);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn at(&self, text: &str) -> Result<usize> {
        let at = self.machines.iter().position(|machine| machine.name.as_str() == text);
        at.with_context(|| format!("no machine `{text}`"))
    }

    /// Two halves that do not hear each other, and one machine that hears both.
    fn bridge(&mut self, middle: usize) {
        self.heal();
        let others: Vec<usize> = (0..self.machines.len()).filter(|at| *at != middle).collect();
        let (left, right) = others.split_at(others.len() / 2);
        for a in left {
            for b in right {
                self.link(*a, *b, false);
            }
        }
    }

    /// The power fails: what clients wrote last was neither on disk nor acknowledged, and the state that the daemon had
    /// written is a little older than its log.
    pub(super) fn lose_power(&mut self, at: usize) {
        if !self.machines[at].up {
            return;
        }
        let lost = usize::try_from(self.chance(UNSYNCED as u64)).unwrap_or(0);
        let back = self.chance(20);
        let machine = &mut self.machines[at];
        for grain in machine.instances.keys() {
            let Some(dataset) = machine.datasets.get_mut(grain) else { continue };
            let newest = dataset.snapshots.last().map(|newest| newest.content.clone());
            let unfrozen = dataset.head.without(&newest.unwrap_or_default());
            let gone = unfrozen.last(lost);
            dataset.head = dataset.head.without(&gone);
            self.judge.discarded.entry(*grain).or_default().join(&gone);
        }
        self.kill(at);
        self.fall_back(at, back);
    }

    /// The state on disk is so many entries older than the log, which is read again.
    fn fall_back(&mut self, at: usize, entries: u64) {
        let until = self.machines[at].cluster.index.saturating_sub(entries);
        self.machines[at].cluster = self.replayed(until);
    }

    /// The state after so many entries.
    pub(super) fn replayed(&self, until: u64) -> Cluster {
        let mut cluster = self.origin.clone();
        let after = usize::try_from(cluster.index).unwrap_or(usize::MAX);
        let all = self.entries.iter().enumerate().skip(after);
        for (index, (_, proposal)) in all.take_while(|(index, _)| (*index as u64) < until) {
            scrap_decide::apply::apply(&mut cluster, index as u64 + 1, proposal);
        }
        cluster
    }

    /// Its disks are new. What only they had is gone, and nobody promised otherwise.
    fn wipe(&mut self, at: usize) -> Result<()> {
        let voters = self.voters();
        let left = voters.iter().filter(|voter| **voter != at).count();
        // Whoever does that to a majority has lost the cluster, and knows it.
        ensure!(left * 2 > self.voters.len(), "the others are no majority");
        self.kill(at);
        let machine = &mut self.machines[at];
        let gone = std::mem::take(&mut machine.datasets).into_iter();
        let gone = gone.map(|(grain, dataset)| (grain, dataset.everything()));
        let asides = std::mem::take(&mut machine.orphans).into_iter();
        let asides = asides.map(|((grain, _), aside)| (grain, aside.content));
        for (grain, content) in gone.chain(asides) {
            self.only_there(grain, content);
        }
        let machine = &mut self.machines[at];
        machine.templates.clear();
        machine.cluster = Default::default();
        machine.logged = 0;
        machine.id = NodeId(0);
        machine.hint = None;
        Ok(())
    }

    fn only_there(&mut self, grain: scrap_schema::id::GrainId, content: Content) {
        let mut gone = content;
        for machine in &self.machines {
            let asides = machine.orphans.iter().filter(|((of, _), _)| *of == grain);
            let asides = asides.map(|(_, aside)| aside.content.clone());
            let heads = machine.datasets.get(&grain).map(super::disk::Dataset::everything);
            for other in asides.chain(heads) {
                gone = gone.without(&other);
            }
        }
        self.judge.discarded.entry(grain).or_default().join(&gone);
    }

    fn remove_node(&mut self, node: NodeId) {
        let command = Command::RemoveNode { node, if_index: None, leave_orphans: true };
        if self.ask(command) != Some(Outcome::Done) {
            return;
        }
        self.choose_voters();
        if let Some(at) = self.machine_of(node) {
            self.left_out(at);
        }
    }

    /// Its daemon hears that it is no member any more, stops what runs, and ends. What is on its disks stays.
    pub(super) fn left_out(&mut self, at: usize) {
        let grains: Vec<_> = self.machines[at].instances.keys().copied().collect();
        grains.into_iter().for_each(|grain| self.end(at, grain));
        self.kill_daemon(at);
        let machine = &mut self.machines[at];
        machine.id = NodeId(0);
        machine.cluster = Default::default();
        machine.logged = 0;
        machine.hint = None;
    }

    /// Joins as another node than it was, with whatever is on its disks.
    fn rejoin(&mut self, at: usize) -> Result<()> {
        if self.machines[at].id.0 != 0 {
            bail!("it is a member");
        }
        let name = self.machines[at].name.clone();
        if let Ok(old) = self.node(&name)
            && !self.truth.left_behind(&self.truth.nodes[&old])
        {
            self.remove_node(old);
        }
        self.join(at)?;
        self.machines[at].cluster = self.origin.clone();
        self.machines[at].hint = self.leader();
        self.start(at);
        Ok(())
    }

    fn cancel_all(&mut self) {
        let running = self.truth.operations.values().filter(|it| !it.state.is_final());
        let running: Vec<_> = running.map(|operation| operation.id).collect();
        for operation in running {
            self.ask(Command::CancelOperation { operation });
        }
    }
}
