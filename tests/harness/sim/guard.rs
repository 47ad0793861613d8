//! What ends grains on a simulated machine whether its daemon lives or not: keepers, a guard, a watchdog. The guard's word to others
//! that nothing runs there any more. As decision 0032 says it, for machines that can be made to stand still in every part.

use scrap_decide::lease::attested;
use scrap_decide::mutant::{self, Mutant};
use scrap_schema::id::{BootId, GrainId, NodeId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;

use super::network::Letter;
use super::{NoLeader, Sim};

/// So long after the deadline the guard ends what its keeper did not.
const GRACE: Span = Span::from_ms(1_200);
/// Between two words that a registration is over.
const SAY_EVERY_MS: u64 = 1_000;

/// What keepers, guard and daemon of a machine share; it lasts as long as the machine has power.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The registration that counts.
    pub registration: Option<BootId>,
    /// Until when grains may run under the lease, as the daemon said last.
    pub lease: Option<BootTime>,
    /// Nothing that needs the lease begins under this registration any more.
    pub closed: Option<BootId>,
    /// The registration under which something with a deadline was seen last.
    armed_under: Option<BootId>,
    said: u64,
}

impl Board {
    /// A registration begins. It is not over before a lease was granted under it.
    pub fn register(&mut self, boot: BootId) {
        self.registration = Some(boot);
        self.lease = None;
    }

    /// Whether a registration is over by the guard's word.
    #[must_use]
    pub fn is_over(&self, boot: BootId) -> bool {
        self.closed == Some(boot)
    }

    /// Whether nothing that needs the lease may begin now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.registration.is_some_and(|boot| self.is_over(boot))
    }
}

/// Which parts of a machine stand still, and until when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pauses {
    /// The daemon.
    pub daemon: Option<u64>,
    /// The keepers.
    pub keepers: Option<u64>,
    /// The guard: since when, and until when.
    pub guard: Option<(u64, u64)>,
}

/// What proves the end of a registration, sealed or not: nobody guesses in a simulation.
#[must_use]
pub fn seal(boot: BootId) -> String {
    format!("seal of {boot}")
}

impl Sim {
    /// Stops a part of a machine for a time: `daemon`, `keepers`, `guard`, or `all`.
    pub fn pause(&mut self, at: usize, part: &str, ms: u64) {
        let until = self.now + ms;
        let pauses = &mut self.machines[at].pauses;
        if matches!(part, "daemon" | "all") {
            pauses.daemon = Some(until);
        }
        if matches!(part, "keepers" | "all") {
            pauses.keepers = Some(until);
        }
        if matches!(part, "guard" | "all") {
            pauses.guard = Some((self.now, until));
        }
    }

    /// What stood still goes on when its time is over.
    pub(super) fn resume(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        let pauses = &mut machine.pauses;
        if pauses.daemon.is_some_and(|until| until <= now) {
            pauses.daemon = None;
            machine.changed = true;
        }
        if pauses.keepers.is_some_and(|until| until <= now) {
            pauses.keepers = None;
        }
        if pauses.guard.is_some_and(|(_, until)| until <= now) {
            pauses.guard = None;
        }
    }

    /// Everything goes on.
    pub fn resume_all(&mut self) {
        for machine in &mut self.machines {
            machine.pauses = Pauses::default();
            machine.changed = true;
        }
    }

    /// The watchdog, the keepers and the guard of a machine, whatever its daemon does.
    pub(super) fn watch_over(&mut self, at: usize) {
        if !self.machines[at].up {
            return;
        }
        self.resume(at);
        let kill = self.machines[at].cluster.timing().kill.ms();
        let pauses = self.machines[at].pauses;
        let unpetted = pauses.guard.is_some_and(|(since, _)| self.now >= since + kill);
        if unpetted && self.machines[at].watchdog {
            let name = self.machines[at].name.to_string();
            self.say(&format!("{name}/dog"), "resets the machine: its guard stands still");
            self.kill(at);
            return;
        }
        self.end_leases(at);
        if pauses.guard.is_none() {
            self.attest(at);
        }
    }

    /// Kills what has passed its deadline.
    fn end_leases(&mut self, at: usize) {
        if mutant::is(Mutant::NoGuard) {
            return;
        }
        let machine = &self.machines[at];
        let now = machine.clock.read(self.now);
        let slack = match (machine.pauses.keepers, machine.pauses.guard) {
            (None, _) => Span::from_ms(self.kill_slack),
            (Some(_), None) => GRACE.max(Span::from_ms(self.kill_slack)),
            // Nobody is awake to do it.
            (Some(_), Some(_)) => return,
        };
        let over = machine.instances.iter().filter(|(_, instance)| {
            instance.deadline.is_some_and(|deadline| deadline + slack <= now)
        });
        let over: Vec<GrainId> = over.map(|(grain, _)| *grain).collect();
        for grain in over {
            self.end(at, grain);
            self.host_says(at, grain, "is dead: its lease has ended");
        }
    }

    /// The guard looks whether anything runs under the lease, and says so when nothing does any more.
    fn attest(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        let daemon = machine.up && machine.daemon && machine.pauses.daemon.is_none();
        let until = machine.tenant.lease().deadline(machine.cluster.timing());
        let board = &mut machine.board;
        if let Some(until) = until.filter(|until| daemon && machine.told != Some(*until)) {
            board.lease = board.lease.max(Some(until));
            machine.told = Some(until);
        }
        if machine.instances.values().any(|instance| instance.deadline.is_some()) {
            board.armed_under = board.registration;
            return;
        }
        let Some(boot) = board.registration.filter(|boot| board.armed_under == Some(*boot)) else {
            return;
        };
        let over = board.lease.is_some_and(|lease| lease < machine.clock.read(now));
        if !over || now < board.said + SAY_EVERY_MS {
            return;
        }
        board.said = now;
        board.closed = Some(boot);
        let node = machine.id;
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            self.post(at, other, Letter::Word { node, boot });
        }
    }

    /// A guard's word has come to a machine.
    pub(super) fn word(&mut self, at: usize, node: NodeId, boot: BootId) {
        let Some(command) = attested(&self.machines[at].cluster, node, boot, &seal(boot)) else {
            return;
        };
        let who = format!("{}/guard", self.machines[at].name);
        match self.propose(Some(at), command) {
            Err(NoLeader) => (),
            Ok(applied) => self.tell(&who, &applied.events),
        }
    }
}
