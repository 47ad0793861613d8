//! The simulated network and consensus: who reaches whom, who leads, when a renewal and its answer arrive.

use scrap_decide::lease::answer;
use scrap_decide::observed::Observed;
use scrap_schema::command::Command;
use scrap_schema::id::BootId;
use scrap_schema::node::{Addresses, Renewal, RenewalAnswer, Verdict};

use super::machine::Leading;
use super::{NoLeader, Sim};

/// Time without a leader until another one is elected.
const ELECTION_MS: u64 = 2_000;

/// How long messages travel.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The usual time one way.
    pub lag_ms: u64,
    /// Of a thousand messages so many are delayed badly.
    pub stalls: u64,
    /// By how much at most.
    pub stall_ms: u64,
    /// Of a thousand messages so many are lost.
    pub losses: u64,
}

impl Weather {
    /// A good local network.
    #[must_use]
    pub fn fair() -> Self {
        Self { lag_ms: 5, stalls: 0, stall_ms: 0, losses: 0 }
    }
}

/// A message under way.
#[derive(Debug, Clone)]
pub struct Mail {
    due: u64,
    from: usize,
    to: usize,
    letter: Letter,
}

#[derive(Debug, Clone)]
enum Letter {
    Renewal(Box<Renewal>),
    Answer { boot: BootId, answer: RenewalAnswer },
}

impl Sim {
    /// Whether two machines are connected and their daemons run.
    #[must_use]
    pub fn reach(&self, a: usize, b: usize) -> bool {
        let running = self.machines[a].is_running() && self.machines[b].is_running();
        running && (a == b || !self.cut.contains(&(a.min(b), a.max(b))))
    }

    /// Whether data streams get from one machine to another.
    #[must_use]
    pub fn streams(&self, a: usize, b: usize) -> bool {
        self.reach(a, b) && !self.streams_cut.contains(&(a.min(b), a.max(b)))
    }

    /// Members that vote: one of two, three of three or four, five of more.
    #[must_use]
    pub fn voters(&self) -> Vec<usize> {
        let members: Vec<usize> =
            (0..self.machines.len()).filter(|at| self.machines[*at].id.0 != 0).collect();
        let count = match members.len() {
            0..=2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        members.into_iter().take(count).collect()
    }

    pub(super) fn has_majority(&self, at: usize) -> bool {
        let voters = self.voters();
        let reached = voters.iter().filter(|voter| self.reach(at, **voter)).count();
        reached * 2 > voters.len()
    }

    /// The machine that leads and can commit.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.leader.filter(|at| self.machines[*at].leading.is_some() && self.has_majority(*at))
    }

    pub(super) fn elect(&mut self) {
        if self.leader().is_some() {
            self.leaderless = None;
            return;
        }
        let since = *self.leaderless.get_or_insert(self.now);
        if self.now < since + ELECTION_MS {
            return;
        }
        let voters = self.voters();
        if let Some(next) = voters.into_iter().find(|voter| self.has_majority(*voter)) {
            self.crown(next);
        }
    }

    /// Makes a machine the leader. The former one finds out when it hears of it.
    pub fn crown(&mut self, at: usize) {
        self.leader = Some(at);
        self.leaderless = None;
        self.say(&self.machines[at].name.to_string(), "leads");
        let machine = &mut self.machines[at];
        let me = Some(machine.id);
        let began = Some(self.truth.index);
        let observed = Observed { me, began, ..Observed::from(machine.clock.read(self.now)) };
        machine.leading =
            Some(Leading { observed, decided: 0, index: 0, waiting: Default::default() });
        self.catch_up(at);
    }

    fn post(&mut self, from: usize, to: usize, letter: Letter) {
        let weather = self.weather;
        if self.chance(1000) < weather.losses {
            return;
        }
        let stalled = self.chance(1000) < weather.stalls;
        let stall = if stalled { self.chance(weather.stall_ms) } else { 0 };
        let lag = if from == to { 0 } else { weather.lag_ms };
        self.mail.push(Mail { due: self.now + lag + stall, from, to, letter });
    }

    pub(super) fn deliver(&mut self) {
        let now = self.now;
        let (due, later): (Vec<Mail>, Vec<Mail>) =
            std::mem::take(&mut self.mail).into_iter().partition(|mail| mail.due <= now);
        self.mail = later;
        for mail in due {
            if !self.reach(mail.from, mail.to) {
                continue;
            }
            match mail.letter {
                Letter::Renewal(renewal) => self.renewal(mail.from, mail.to, &renewal),
                Letter::Answer { boot, answer } => self.answered(mail.to, boot, answer),
            }
        }
    }

    /// Sends a renewal when it is time, and registers when it was told to.
    pub(super) fn renew(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        if !machine.is_running() || machine.id.0 == 0 {
            return;
        }
        let Some(leader) = machine.hint else { return };
        if machine.register {
            self.register(at);
        }
        let machine = &mut self.machines[at];
        if now < machine.next_renewal {
            return;
        }
        machine.next_renewal = now + machine.cluster.timing().renew.ms();
        let renewal = machine.renewal(now, &self.sizes);
        if self.reach(at, leader) {
            self.post(at, leader, Letter::Renewal(Box::new(renewal)));
        }
    }

    fn register(&mut self, at: usize) {
        let machine = &self.machines[at];
        let (node, boot, facts) = (machine.id, machine.boot, machine.facts.clone());
        let who = format!("{}/node", machine.name);
        let addresses = addresses(machine.name.as_str());
        let command =
            Command::RegisterNode { node, boot, addresses, facts, seal: None, again: false };
        match self.propose(Some(at), command) {
            Err(NoLeader) => (),
            Ok(applied) => {
                self.machines[at].register = false;
                // Its lease may be running out: it does not wait for the next turn.
                self.machines[at].next_renewal = self.now;
                self.tell(&who, &applied.events);
            }
        }
    }

    fn renewal(&mut self, from: usize, to: usize, renewal: &Renewal) {
        let now = self.machines[to].now(self.now);
        let confirmed = self.leader() == Some(to);
        let machine = &mut self.machines[to];
        let Some(leading) = machine.leading.as_mut() else { return };
        let known = leading.observed.hear(renewal, now);
        // The quorum is asked after the receipt.
        let index = machine.cluster.index;
        let confirmed = confirmed.then_some(index);
        let verdict = answer(&machine.cluster, renewal.node, renewal.boot, confirmed);
        let Some(verdict) = verdict else { return };
        let answer = RenewalAnswer { sent: renewal.sent, verdict, index, wants_full: !known };
        self.post(to, from, Letter::Answer { boot: renewal.boot, answer });
    }

    fn answered(&mut self, at: usize, boot: BootId, answer: RenewalAnswer) {
        let machine = &mut self.machines[at];
        if machine.boot != boot {
            return;
        }
        match answer.verdict {
            Verdict::Granted => {
                machine.tenant.answered(&answer, machine.clock.read(self.now));
                machine.changed |= machine.tenant.applied(machine.cluster.index);
            }
            Verdict::Suspected | Verdict::Unregistered => machine.register = true,
            Verdict::Removed => (),
        }
    }
}

/// Where a machine listens: nobody connects.
#[must_use]
pub fn addresses(name: &str) -> Addresses {
    Addresses { api: format!("{name}:7272"), peer: format!("{name}:7273") }
}
