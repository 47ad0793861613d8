//! A cluster on a virtual clock: the real `lead`, `apply`, `obey` and `check`, everything else simulated. No tokio, no threads, no
//! real time; the same seed gives the same run. After every step [`judge`] looks for what must never be.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a harness of tests")]

pub mod asides;
pub mod deeds;
pub mod disk;
pub mod execute;
pub mod faults;
pub mod forged;
pub mod guard;
pub mod judge;
pub mod log;
pub mod machine;
pub mod network;
pub mod orders;
pub mod power;
pub mod promises;
pub mod random;
pub mod recover;
pub mod rules;
pub mod run;
pub mod scenario;
pub mod script;
pub mod shaken;
pub mod trace;
pub mod words;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::apply::Applied;
use scrap_decide::check::check;
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::lead::lead;
use scrap_decide::mutant::{self, Mutant};
use scrap_decide::obey::{HostAction, obey};
use scrap_decide::refusal::Refusal;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::event::Event;
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::operation::Work;
use scrap_schema::time::BootTime;

use judge::Judge;
use machine::{Machine, wall};
use network::{Mail, Weather};
use power::Cutting;
use trace::Trace;

use crate::random::Random;

/// Length of a step in milliseconds.
pub const STEP_MS: u64 = 50;
/// Time between two writes of a client.
const WRITE_EVERY_MS: u64 = 100;
/// A node decides again after so long even if nothing changed.
const OBEY_EVERY_MS: u64 = 500;
/// A leader decides again after so long even if nothing changed.
const LEAD_EVERY_MS: u64 = 1_000;
/// An entry that a leader has appended is committed within this, when disks are slow.
const PENDING_MS: u64 = 6_000;

/// The simulated cluster.
#[derive(Debug)]
pub struct Sim {
    /// Simulated time in milliseconds.
    pub now: u64,
    /// Every machine; the first one forms the cluster.
    pub machines: Vec<Machine>,
    /// The state with every committed entry applied.
    pub truth: Cluster,
    /// What must never be, and what was written.
    pub judge: Judge,
    /// What it did so far.
    pub trace: Trace,
    /// The operator's log.
    pub lines: Vec<String>,
    /// Whether lines are written down.
    pub verbose: bool,
    /// Whether it is tried out now and then what would be done, and taken, if something were otherwise.
    pub probes: bool,
    /// Whether clients write.
    pub clients: bool,
    /// Size of a grain's data and of one write.
    pub sizes: BTreeMap<GrainId, (u64, u64)>,
    /// How long a grain takes to stop, if not the usual time.
    pub slow_stops: BTreeMap<GrainId, u64>,
    /// Whether every stream is told, not only the first one and the first after a trouble.
    pub tells_streams: bool,
    /// Bytes per second between two machines.
    pub rate: u64,
    /// A stream takes at least so long, however little is in it.
    pub stream_ms: u64,
    /// How bad the network is.
    pub weather: Weather,
    /// How long after the deadline an instance may still live.
    pub kill_slack: u64,
    /// Names of all grains that ever were.
    pub names: BTreeMap<GrainId, String>,
    /// Whether nothing can be held on any disk.
    pub holds_fail: bool,
    /// Since when a head that was left behind is on a machine that is well, and not listed.
    unlisted: BTreeMap<(usize, GrainId, Epoch), u64>,
    /// When a renewal of a registration last came to the present leader, and when it had been sent.
    heard: BTreeMap<(NodeId, BootId), (u64, BootTime)>,
    /// Whether what is committed now was decided a while ago.
    late: bool,
    /// Since when the present one leads.
    crowned: u64,
    /// Whether a wall clock was turned.
    pub walls_turned: bool,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// What a machine without any state begins with.
    origin: Cluster,
    /// Another voter leads after so many milliseconds each.
    pub flap: Option<u64>,
    zero: u64,
    entries: Vec<(u64, Proposal)>,
    checked: u64,
    /// From and to: what the one says does not get to the other.
    cut: BTreeSet<(usize, usize)>,
    streams_cut: BTreeSet<(usize, usize)>,
    mail: Vec<Mail>,
    cuttings: Vec<Cutting>,
    /// Entries of leaders that are not committed yet, and when they are, by whoever leads then.
    pending: Vec<(u64, Command)>,
    leader: Option<usize>,
    leaderless: Option<u64>,
    random: Random,
    seed: u64,
    guids: u64,
    ids: u128,
}

/// Why nothing was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLeader;

impl Sim {
    /// Machines without a cluster.
    #[must_use]
    pub fn new(machines: Vec<Machine>, seed: u64) -> Self {
        Self {
            now: 0,
            machines,
            truth: Cluster::default(),
            judge: Judge::default(),
            trace: Trace::default(),
            lines: Vec::new(),
            verbose: true,
            probes: false,
            clients: true,
            sizes: BTreeMap::new(),
            slow_stops: BTreeMap::new(),
            tells_streams: false,
            rate: 100 << 20,
            stream_ms: 50,
            weather: Weather::fair(),
            kill_slack: 0,
            names: BTreeMap::new(),
            zero: 0,
            entries: Vec::new(),
            checked: 0,
            walls_turned: false,
            voters: [NodeId(1)].into(),
            origin: Cluster::default(),
            flap: None,
            cut: BTreeSet::new(),
            streams_cut: BTreeSet::new(),
            mail: Vec::new(),
            cuttings: Vec::new(),
            pending: Vec::new(),
            holds_fail: false,
            unlisted: BTreeMap::new(),
            heard: BTreeMap::new(),
            crowned: 0,
            late: false,
            leader: None,
            leaderless: None,
            random: Random::new(seed),
            seed,
            guids: 0,
            ids: 0,
        }
    }

    /// From now on the log counts from zero.
    pub fn begin_log(&mut self) {
        self.zero = self.now;
        self.verbose = true;
    }

    /// A number that nobody had before.
    pub fn next_id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    /// The next pseudo-random number below a limit.
    pub fn chance(&mut self, below: u64) -> u64 {
        self.random.below(below)
    }

    /// Lets time pass until a moment, counted from where the log begins.
    pub fn run_until(&mut self, ms: u64) {
        while self.now < self.zero + ms && self.judge.found.is_empty() {
            self.step();
        }
    }

    /// One step of time.
    pub fn step(&mut self) {
        self.now += STEP_MS;
        self.elect();
        self.commit_pending();
        self.deliver();
        self.end_cuts();
        for at in 0..self.machines.len() {
            self.watch_over(at);
            self.catch_up(at);
            self.renew(at);
            self.check_health(at);
            self.land_flights(at);
        }
        if self.clients && self.now.is_multiple_of(WRITE_EVERY_MS) {
            self.write();
        }
        for at in 0..self.machines.len() {
            self.obey(at);
        }
        for at in 0..self.machines.len() {
            self.lead(at);
        }
        self.judge_step();
    }

    /// Commits a command that somebody at a machine proposes; `None`: a person somewhere.
    ///
    /// # Errors
    /// There is no leader in reach that can commit.
    pub fn propose(&mut self, from: Option<usize>, command: Command) -> Result<Applied, NoLeader> {
        let leader = self.leader().ok_or(NoLeader)?;
        if from.is_some_and(|from| !self.hears(leader, from)) {
            return Err(NoLeader);
        }
        let at = from.map_or(wall(self.now), |from| self.machines[from].now(self.now).wall);
        let proposal = Proposal { at, key: None, command };
        let index = u64::try_from(self.entries.len()).unwrap() + 1;
        if let Command::CreateGrain { grain, text, .. }
        | Command::StartOperation {
            work: Work::Clone { grain, .. }, text: Some(text), ..
        } = &proposal.command
        {
            self.names.insert(*grain, text.name.to_string());
        }
        // Only these are compared with what was before.
        let before = (self.judge.compare_rows
            || matches!(proposal.command, Command::AssignGrain { .. }))
        .then(|| self.truth.clone());
        let applied = scrap_decide::apply::apply(&mut self.truth, index, &proposal);
        self.trace.entry(self.now, &proposal.command, &applied);
        self.judge_entry(before.as_ref(), &proposal, &applied);
        if self.probes {
            self.forge();
        }
        self.entries.push((self.now, proposal));
        self.catch_up(leader);
        // The answer does not get back: whoever asked does not know what became of it.
        if from.is_some_and(|from| !self.hears(from, leader)) {
            return Err(NoLeader);
        }
        Ok(applied)
    }

    /// A person's wish. Refusals are logged.
    pub fn ask(&mut self, command: Command) -> Option<Outcome> {
        match self.propose(None, command) {
            Err(NoLeader) => {
                self.say("script", "no leader: nothing was committed");
                None
            }
            Ok(applied) => {
                self.tell("script", &applied.events);
                match applied.outcome {
                    Ok(outcome) => Some(outcome),
                    Err(refusal) => {
                        self.say("script", &format!("refused: {refusal}"));
                        None
                    }
                }
            }
        }
    }

    /// A grain's name, also after its removal.
    #[must_use]
    pub fn name(&self, grain: GrainId) -> String {
        self.names.get(&grain).cloned().unwrap_or_else(|| grain.to_string())
    }

    fn tell(&mut self, who: &str, events: &[Event]) {
        for event in events {
            self.say(who, &event.message);
        }
    }

    /// Applies what a machine has got of the log.
    fn catch_up(&mut self, at: usize) {
        let Some(leader) = self.leader.filter(|at| self.machines[*at].leading.is_some()) else {
            return;
        };
        if !self.machines[at].is_running() || !self.hears(at, leader) {
            return;
        }
        let machine = &mut self.machines[at];
        machine.hint = Some(leader);
        if at != leader {
            machine.leading = None;
        }
        let delay = if at == leader { 0 } else { machine.apply_delay };
        loop {
            let index = machine.cluster.index;
            let Some((committed, proposal)) = self.entries.get(usize::try_from(index).unwrap())
            else {
                break;
            };
            if committed + delay > self.now {
                break;
            }
            let before = (at != leader && self.judge.compare_rows).then(|| machine.cluster.clone());
            let applied = scrap_decide::apply::apply(&mut machine.cluster, index + 1, proposal);
            if let Some(before) = before {
                self.judge.untouched(&before, &machine.cluster, &applied, &proposal.command);
            }
            machine.changed = true;
            machine.logged = machine.logged.max(machine.cluster.index);
            machine.tenant.applied(machine.cluster.index);
            machine.forget_copies();
        }
    }

    fn obey(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        // Nothing is obeyed before this start of the daemon is registered and that is known here.
        let known = machine.registered.is_some_and(|index| index <= machine.cluster.index);
        if !machine.is_running() || !known && !mutant::is(Mutant::ObeysUnregistered) {
            return;
        }
        if !machine.changed && self.now < machine.obeyed + OBEY_EVERY_MS {
            return;
        }
        machine.changed = false;
        machine.obeyed = self.now;
        let host = machine.host_facts(&self.sizes);
        let actions = obey(machine.id, &machine.cluster, &host, machine.now(self.now));
        self.judge_orders(at, &host, &actions);
        if self.probes {
            self.shake(at, host);
        }
        for action in actions {
            self.begin(at, action);
        }
    }

    /// What a machine would do now.
    #[must_use]
    pub fn orders(&self, at: usize) -> Vec<HostAction> {
        let machine = &self.machines[at];
        let host = machine.host_facts(&self.sizes);
        obey(machine.id, &machine.cluster, &host, machine.now(self.now))
    }

    fn lead(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        if !machine.is_running() {
            return;
        }
        let Some(leading) = machine.leading.as_mut() else { return };
        if leading.index == machine.cluster.index && now < leading.decided + LEAD_EVERY_MS {
            return;
        }
        // A round waits for its own entries.
        if !self.pending.is_empty() {
            return;
        }
        leading.decided = now;
        leading.index = machine.cluster.index;
        let clocks = machine.now(now);
        let machine = &mut self.machines[at];
        let leading = machine.leading.as_mut().expect("it leads");
        leading.observed.refresh(&machine.cluster, clocks);
        let plan = lead(&machine.cluster, &leading.observed, clocks);
        let suspected = leading.observed.suspecting.clone();
        leading.observed.decided(&plan.commands);
        let newly: Vec<_> = leading.observed.suspecting.difference(&suspected).copied().collect();
        // One that leads no more decides for nobody.
        if self.leader() == Some(at) {
            newly.into_iter().for_each(|(node, _)| self.judge_silence(node));
        }
        self.hear_reasons(at, &plan.waiting);
        self.judge_cuts(at, &plan.cuts);
        self.begin_cuts(at, plan.cuts);
        let who = format!("{}/lead", self.machines[at].name);
        for command in plan.commands {
            // What it knew, the next leader may know better: nothing is forwarded.
            if self.leader() != Some(at) {
                return self.not_proposed(at, suspected);
            }
            let words = format!("{command}");
            // It may take the disks of a majority a while, and another one may lead by then.
            let stalls = self.weather.stalls > 0 && self.chance(1000) < self.weather.stalls;
            if stalls || !self.pending.is_empty() {
                let later = self.now + self.chance(PENDING_MS);
                // In the order in which they were appended.
                let before = self.pending.last().map_or(0, |(due, _)| *due);
                self.pending.push((later.max(before), command));
                continue;
            }
            match self.propose(Some(at), command) {
                // It has lost its majority: the next rounds will show.
                Err(NoLeader) => return self.not_proposed(at, suspected),
                Ok(applied) => {
                    self.tell(&who, &applied.events);
                    self.judge.refusal(&words, &applied.outcome);
                }
            }
        }
    }

    /// What a leader wanted was not proposed: it suspects whom it suspected before.
    fn not_proposed(&mut self, at: usize, suspected: BTreeSet<(NodeId, BootId)>) {
        if let Some(leading) = self.machines[at].leading.as_mut() {
            leading.observed.suspecting = suspected;
            let appended: Vec<_> =
                self.pending.iter().map(|(_, command)| command.clone()).collect();
            leading.observed.decided(&appended);
        }
    }

    /// Commits what leaders have appended and could not commit until now.
    fn commit_pending(&mut self) {
        let now = self.now;
        if self.pending.iter().all(|(due, _)| *due > now) || self.leader().is_none() {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(due, _)| *due <= now);
        self.pending = later;
        self.late = true;
        for (_, command) in due {
            if let Ok(applied) = self.propose(None, command) {
                self.tell("log", &applied.events);
            }
        }
        self.late = false;
    }

    /// What the leader would commit now.
    #[must_use]
    pub fn plan(&self) -> Vec<Command> {
        let Some(at) = self.leader else { return Vec::new() };
        let machine = &self.machines[at];
        let Some(leading) = machine.leading.as_ref() else { return Vec::new() };
        let mut observed = leading.observed.clone();
        let now = machine.now(self.now);
        observed.refresh(&machine.cluster, now);
        lead(&machine.cluster, &observed, now).commands
    }

    /// Contradictions of the committed state.
    fn contradictions(&mut self) {
        for contradiction in check(&self.truth) {
            self.judge.found.push(format!("contradiction: {contradiction}"));
        }
    }

    /// A refusal that the leader gets for its own decision is a sign that deciding and applying disagree.
    #[must_use]
    pub fn is_harmless(refusal: &Refusal) -> bool {
        match refusal {
            Refusal::OutOfDate { .. } | Refusal::Stale { .. } => true,
            Refusal::NotFound { .. }
            | Refusal::NameTaken { .. }
            | Refusal::Changed { .. }
            | Refusal::KeyReused
            | Refusal::Busy { .. }
            | Refusal::WrongState { .. }
            | Refusal::InUse { .. }
            | Refusal::NotCancellable { .. }
            | Refusal::OwnerAlive { .. }
            | Refusal::OwnerGone { .. }
            | Refusal::NodeAlive { .. }
            | Refusal::LastNode { .. }
            | Refusal::NodeNeeded { .. }
            | Refusal::NodeUnfit { .. }
            | Refusal::LossTooLarge { .. }
            | Refusal::AddressTaken { .. }
            | Refusal::AddressUnfit { .. }
            | Refusal::NetworksOverlap { .. }
            | Refusal::Exhausted { .. }
            | Refusal::Invalid { .. } => false,
        }
    }
}
