//! The simulated network and consensus: who reaches whom, who leads, when a renewal and its answer arrive.

use std::collections::BTreeSet;

use scrap_decide::apply::Applied;
use scrap_decide::lease::answer;
use scrap_decide::observed::Observed;
use scrap_decide::voters::choose;
use scrap_schema::command::Command;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::node::{Addresses, Renewal, RenewalAnswer, Verdict};

use super::guard::seal;
use super::machine::Leading;
use super::{NoLeader, Sim};

/// Time without a leader until another one is elected.
const ELECTION_MS: u64 = 2_000;

/// Pause after a registration that did not succeed.
const REGISTER_AGAIN_MS: u64 = 300;

/// Between two looks who should vote.
const VOTERS_EVERY_MS: u64 = 1_000;

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
    /// Of a thousand messages so many come a second time.
    pub echoes: u64,
    /// How much later at most.
    pub echo_ms: u64,
}

impl Weather {
    /// A good local network.
    #[must_use]
    pub fn fair() -> Self {
        Self { lag_ms: 5, stalls: 0, stall_ms: 0, losses: 0, echoes: 0, echo_ms: 0 }
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

/// What is in a message.
#[derive(Debug, Clone)]
pub enum Letter {
    /// A renewal of a lease.
    Renewal(Box<Renewal>),
    /// The answer to one.
    Answer {
        /// The registration that it is about.
        boot: BootId,
        /// What the leader says.
        answer: RenewalAnswer,
    },
    /// A report or a registration that comes late, or for the second time. Nobody waits for the answer any more.
    Report(Box<Command>),
    /// A guard says that nothing runs under a registration any more.
    Word {
        /// Of this node.
        node: NodeId,
        /// The registration.
        boot: BootId,
    },
}

/// What becomes of a report on its way.
enum Fate {
    Arrives,
    /// It is lost, or its answer is.
    Unanswered {
        arrives: bool,
    },
    /// It comes when nobody waits for its answer any more.
    Late,
}

impl Sim {
    /// Whether what one machine says gets to another one. Both daemons must run.
    #[must_use]
    pub fn hears(&self, to: usize, from: usize) -> bool {
        let running = self.machines[from].is_running() && self.machines[to].is_running();
        running && (from == to || !self.cut.contains(&(from, to)))
    }

    /// Whether two machines hear each other.
    #[must_use]
    pub fn reach(&self, a: usize, b: usize) -> bool {
        self.hears(a, b) && self.hears(b, a)
    }

    /// Whether data streams get from one machine to another.
    #[must_use]
    pub fn streams(&self, a: usize, b: usize) -> bool {
        self.reach(a, b) && !self.streams_cut.contains(&(a.min(b), a.max(b)))
    }

    /// Machines that vote.
    #[must_use]
    pub fn voters(&self) -> Vec<usize> {
        self.voters.iter().filter_map(|voter| self.machine_of(*voter)).collect()
    }

    /// The leader lets others vote when members come and go.
    pub(super) fn choose_voters(&mut self) {
        let Some(leader) = self.leader() else { return };
        let machine = &self.machines[leader];
        let up_to_date = |other: &NodeId| {
            let at = self.machine_of(*other).filter(|at| self.reach(leader, *at));
            at.is_some_and(|at| self.machines[at].cluster.index + 10 >= machine.cluster.index)
        };
        let nodes = machine.cluster.nodes.keys().copied();
        let caught_up: BTreeSet<NodeId> = nodes.filter(up_to_date).collect();
        let now = machine.now(self.now);
        let chosen = choose(&machine.cluster, &self.voters, machine.id, &caught_up, now);
        let reached = chosen.iter().filter(|voter| caught_up.contains(voter)).count();
        // In both sets, or nothing is changed.
        if chosen != self.voters && reached * 2 > chosen.len() {
            self.judge_voters(&chosen);
            self.voters = chosen;
        }
    }

    pub(super) fn has_majority(&self, at: usize) -> bool {
        let voters = self.voters();
        let reached = voters.iter().filter(|voter| self.reach(at, **voter)).count();
        // One that was wiped or left out votes no more, and counts.
        reached * 2 > self.voters.len()
    }

    /// The machine that leads and can commit.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.leader.filter(|at| self.machines[*at].leading.is_some() && self.has_majority(*at))
    }

    pub(super) fn elect(&mut self) {
        if let Some(period) = self.flap.filter(|period| self.now.is_multiple_of(*period)) {
            let voters = self.voters();
            let turn = usize::try_from(self.now / period).unwrap_or(0) % voters.len().max(1);
            if let Some(next) = voters.get(turn).copied().filter(|next| self.has_majority(*next)) {
                self.crown(next);
            }
        }
        if self.now.is_multiple_of(VOTERS_EVERY_MS) {
            self.choose_voters();
        }
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
        // What the one before had appended: the first of it is committed with the first entry of this one, which says nothing before; the
        // rest is lost.
        let kept = self.chance(u64::try_from(self.pending.len()).unwrap_or_default() + 1);
        self.pending.truncate(usize::try_from(kept).unwrap_or_default());
        self.pending.iter_mut().for_each(|(due, _)| *due = self.now);
        self.leader = Some(at);
        self.leaderless = None;
        self.crowned = self.now;
        self.heard.clear();
        self.say(&self.machines[at].name.to_string(), "leads");
        let machine = &mut self.machines[at];
        let me = Some(machine.id);
        let began = Some(self.truth.index);
        let observed = Observed { me, began, ..Observed::from(machine.clock.read(self.now)) };
        machine.leading =
            Some(Leading { observed, decided: 0, index: 0, waiting: Default::default() });
        self.catch_up(at);
    }

    pub(super) fn post(&mut self, from: usize, to: usize, letter: Letter) {
        let weather = self.weather;
        if self.chance(1000) < weather.losses {
            return;
        }
        let stalled = self.chance(1000) < weather.stalls;
        let stall = if stalled { self.chance(weather.stall_ms) } else { 0 };
        let lag = if from == to { 0 } else { weather.lag_ms };
        let due = self.now + lag + stall;
        if weather.echoes > 0 && self.chance(1000) < weather.echoes {
            let due = due + self.chance(weather.echo_ms);
            self.mail.push(Mail { due, from, to, letter: letter.clone() });
        }
        self.mail.push(Mail { due, from, to, letter });
    }

    pub(super) fn deliver(&mut self) {
        let now = self.now;
        if self.mail.iter().all(|mail| mail.due > now) {
            return;
        }
        let (due, later): (Vec<Mail>, Vec<Mail>) =
            std::mem::take(&mut self.mail).into_iter().partition(|mail| mail.due <= now);
        self.mail = later;
        for mail in due {
            let cut = mail.from != mail.to && self.cut.contains(&(mail.from, mail.to));
            let machine = &self.machines[mail.to];
            // It lies there until the daemon goes on.
            if let Some(until) = machine.pauses.daemon.filter(|_| machine.up && !cut) {
                self.mail.push(Mail { due: until, ..mail });
                continue;
            }
            if cut || !machine.is_running() {
                continue;
            }
            match mail.letter {
                Letter::Renewal(renewal) => self.renewal(mail.from, mail.to, &renewal),
                Letter::Answer { boot, answer } => self.answered(mail.to, boot, answer),
                Letter::Word { node, boot } => self.word(mail.to, node, boot),
                Letter::Report(command) => self.overdue(mail.from, mail.to, *command),
            }
        }
    }

    /// A report comes whose node waits for no answer. An old leader passes it on, as everybody does.
    fn overdue(&mut self, from: usize, to: usize, command: Command) {
        let who = format!("{}/late", self.machines[from].name);
        match self.propose(Some(to), command) {
            Err(NoLeader) => (),
            Ok(applied) => self.tell(&who, &applied.events),
        }
    }

    /// Proposes what a machine reports, in whatever the weather is.
    pub(super) fn submit(&mut self, at: usize, command: Command) -> Result<Applied, NoLeader> {
        let weather = self.weather;
        if weather.losses == 0 && weather.stalls == 0 && weather.echoes == 0 {
            return self.propose(Some(at), command);
        }
        let fate = self.chance(1000);
        let fate = match fate {
            _ if fate < weather.losses => Fate::Unanswered { arrives: fate.is_multiple_of(2) },
            _ if fate < weather.losses + weather.stalls => Fate::Late,
            _ => Fate::Arrives,
        };
        let to = self.machines[at].hint.unwrap_or(at);
        let echoes = self.chance(1000) < weather.echoes;
        let late = match fate {
            Fate::Late => Some(1_000 + self.chance(weather.stall_ms.max(1) * 2)),
            Fate::Arrives | Fate::Unanswered { .. } if echoes => Some(self.chance(weather.echo_ms)),
            Fate::Arrives | Fate::Unanswered { .. } => None,
        };
        if let Some(late) = late {
            let letter = Letter::Report(Box::new(command.clone()));
            self.mail.push(Mail { due: self.now + late, from: at, to, letter });
        }
        match fate {
            Fate::Arrives => self.propose(Some(at), command),
            Fate::Unanswered { arrives: true } => {
                let who = format!("{}/node", self.machines[at].name);
                if let Ok(applied) = self.propose(Some(at), command) {
                    self.tell(&who, &applied.events);
                }
                Err(NoLeader)
            }
            Fate::Unanswered { arrives: false } | Fate::Late => Err(NoLeader),
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
        if machine.board.is_over(machine.boot) {
            machine.register = true;
        }
        if machine.register && now >= machine.next_registration {
            self.register(at);
        }
        let machine = &mut self.machines[at];
        if now < machine.next_renewal {
            return;
        }
        machine.next_renewal = now + machine.cluster.timing().renew.ms();
        let renewal = machine.renewal(now, &self.sizes);
        self.post(at, leader, Letter::Renewal(Box::new(renewal)));
    }

    /// Every registration has a number of its own, also one that nobody answered.
    fn register(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.boots += 1;
        machine.next_registration = self.now + REGISTER_AGAIN_MS;
        let (node, boot, facts) = (machine.id, BootId(machine.boots), machine.facts.clone());
        let who = format!("{}/node", machine.name);
        let command = Command::RegisterNode {
            node,
            boot,
            addresses: addresses(machine.name.as_str()),
            facts,
            seal: Some(seal(boot)),
            again: machine.registered.is_some(),
            seen: Some(machine.cluster.index),
        };
        let Ok(applied) = self.submit(at, command) else { return };
        self.tell(&who, &applied.events);
        let machine = &mut self.machines[at];
        if applied.outcome.is_err() {
            return;
        }
        machine.register = false;
        machine.boot = boot;
        machine.registered = Some(self.truth.index);
        machine.board.register(boot);
        // Its lease may be running out: it does not wait for the next turn.
        machine.next_renewal = self.now;
    }

    fn renewal(&mut self, from: usize, to: usize, renewal: &Renewal) {
        let now = self.machines[to].now(self.now);
        let confirmed = self.leader() == Some(to);
        if self.leader == Some(to) {
            let key = (renewal.node, renewal.boot);
            // One that was overtaken says nothing.
            if self.heard.get(&key).is_none_or(|(_, sent)| *sent <= renewal.sent) {
                self.heard.insert(key, (self.now, renewal.sent));
                let known = self.truth.nodes.get(&renewal.node).and_then(|node| node.boot);
                if known == Some(renewal.boot) {
                    self.judge.spoke.insert(renewal.node, self.now);
                }
            }
        }
        let machine = &mut self.machines[to];
        let Some(leading) = machine.leading.as_mut() else { return };
        let present = machine.cluster.nodes.get(&renewal.node).and_then(|node| node.boot);
        let known = leading.observed.hear(renewal, present, now);
        // The quorum is asked after the receipt.
        let index = machine.cluster.index;
        let confirmed = confirmed.then_some(index);
        let verdict =
            answer(&machine.cluster, &leading.observed, renewal.node, renewal.boot, confirmed);
        let Some(verdict) = verdict else { return };
        if verdict == Verdict::Granted {
            self.judge_grant(to, renewal);
        }
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
            Verdict::Removed => self.left_out(at),
        }
    }
}

/// Where a machine listens: nobody connects.
#[must_use]
pub fn addresses(name: &str) -> Addresses {
    Addresses { api: format!("{name}:7272"), peer: format!("{name}:7273") }
}
