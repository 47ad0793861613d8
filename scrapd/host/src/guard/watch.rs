//! The guard's loop: look at every slot, end what should be dead, pet the watchdog, say what is over. Asks for no memory,
//! writes to no disk, waits for nobody.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::time::BootTime;
use scrap_schema::timing::KILL_MIN;
use scrap_schema::unit::Span;

use super::asked::Asks;
use super::attest::{Token, Word};
use super::board::{Board, Holder, PEERS_MAX, Slot};
use super::count;
use super::dog::Dog;
use super::sweep::{Deed, Names, Sweep};
use crate::clock;

/// So long after the deadline a keeper should have ended its grain by itself.
const GRACE: Span = Span::from_ms(1200);
/// What is left of the promised time is for the guard.
const _: () = assert!(GRACE.ms() + 500 <= KILL_MIN.ms());
/// Longest pause, and the one while something should be dead and is not.
const PAUSE: Span = Span::from_ms(500);
const PAUSE_SHORT: Span = Span::from_ms(50);
/// Looks at the same grain in the first round: most of what is killed is gone at once. What cannot be killed, because its storage
/// hangs, is looked at once in each round, or the guard would take a processor for itself.
const TRIES: u32 = 10;
/// Between two words that a registration is over.
const SAY_EVERY: Span = Span::from_secs(1);
/// A daemon that is started again is there within this.
const ALONE: Span = Span::from_secs(5);
/// So long after a lease has ended whoever waits for that is told of it.
const LINGER: Span = Span::from_secs(120);

/// What one look at all slots found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Something is kept.
    any: bool,
    /// Something has a deadline, or may have one in a moment.
    armed: bool,
    /// Something has outlived its deadline.
    undead: bool,
    /// The next moment at which something is to be done.
    next: Option<BootTime>,
}

pub(super) struct Watch {
    board: Board,
    sweep: Sweep,
    dog: Option<Dog>,
    asks: Asks,
    /// Somebody has asked it to end.
    asked: bool,
    /// A watchdog could not be let go when this one was wanted instead.
    refused: Option<u64>,
    /// By which words go out, of both kinds of addresses.
    ways: [Option<UdpSocket>; 2],
    said: BootTime,
    /// The registration under which something with a deadline was seen last. The end of any other one is nobody's concern.
    armed_under: Option<BootId>,
    /// Since when there has been no daemon.
    alone: Option<BootTime>,
}

fn way(address: SocketAddr) -> Option<UdpSocket> {
    let socket = UdpSocket::bind(address).ok()?;
    // A network that does not take a word must not hold up the next look.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

impl Watch {
    /// All that will be needed.
    pub(super) fn new(board: Board, sweep: Sweep, dog: Option<Dog>, asks: Asks) -> Self {
        let ways = [(Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::UNSPECIFIED, 0).into()].map(way);
        let (said, armed_under, alone) = (BootTime::default(), None, None);
        Self {
            board,
            sweep,
            dog,
            asks,
            asked: false,
            refused: None,
            ways,
            said,
            armed_under,
            alone,
        }
    }

    /// Until nobody needs a guard any more.
    pub(super) fn run(mut self) {
        let before = count::asked();
        loop {
            let pause = match self.round(clock::boot_time()) {
                Some(pause) => pause,
                None if self.dog.as_ref().is_none_or(Dog::let_go) => {
                    self.board.clear_away();
                    return;
                }
                // A watchdog that cannot be let go is petted as long as the machine is on.
                None => PAUSE,
            };
            self.board.beat(clock::boot_time(), count::asked().saturating_sub(before));
            self.asked |= self.asks.wait(Duration::from_millis(pause.ms()));
        }
    }

    /// What the daemon wants of the watchdog: another time, another one, or none. Then this one is let go, if it can be, which is tried
    /// once: every try keeps the machine alive for another while.
    fn heed(&mut self) {
        let Some(dog) = &mut self.dog else { return };
        let (wanted, within) = self.board.wanted_dog();
        if dog.mark() != wanted {
            if self.refused != Some(wanted) && dog.let_go() {
                self.dog = None;
                self.board.dog_is(0, Span::ZERO);
            } else {
                self.refused = Some(wanted);
            }
        } else if dog.may_wait() != within {
            dog.wait_for(within);
            self.board.dog_is(dog.mark(), dog.within());
        }
    }

    /// One round. How long to wait for the next one; `None`: there is nothing to guard and nobody to guard it for.
    fn round(&mut self, now: BootTime) -> Option<Span> {
        let seen = self.look(now);
        // Nothing that keeps the machine alive is done while something has outlived its deadline.
        if !seen.undead {
            self.heed();
        }
        let fresh = self.pet(&seen, now);
        if seen.armed {
            self.armed_under = self.board.registration();
        } else {
            self.say_what_is_over(now);
        }
        if self.is_needless(&seen, now) {
            return None;
        }
        if seen.undead || !fresh {
            return Some(PAUSE_SHORT);
        }
        let next = seen.next.map_or(PAUSE, |next| next.since(now));
        Some(next.clamp(PAUSE_SHORT, PAUSE))
    }

    /// Pets the watchdog if all that should be dead is. `false`: what was seen says nothing any more, because this process stood still
    /// in between.
    fn pet(&self, seen: &Seen, looked: BootTime) -> bool {
        let Some(dog) = self.dog.as_ref().filter(|_| !seen.undead) else { return true };
        let now = clock::boot_time();
        let before_deadlines = seen.next.is_none_or(|next| now < next);
        let fresh = before_deadlines && now.since(looked).ms() < dog.within().ms() / 2;
        if fresh {
            dog.pet();
        }
        fresh
    }

    fn look(&mut self, now: BootTime) -> Seen {
        let mut seen = Seen::default();
        // The board's words are shared for the life of the process; the loop changes only the tools.
        let Self { board, sweep, .. } = self;
        for slot in board.slots() {
            match slot.holder() {
                Holder::Nobody => continue,
                Holder::Entering(pid) if !sweep.is_there(pid) => {
                    slot.leave();
                    continue;
                }
                Holder::Entering(_) => seen.armed = true,
                Holder::Keeper(keeper) => {
                    if !sweep.is_alive(keeper) && is_empty(sweep, &slot) {
                        slot.leave();
                        continue;
                    }
                    if let Some(deadline) = slot.deadline() {
                        seen.armed = true;
                        let end = deadline + GRACE;
                        if now >= end {
                            let first = slot.is_to_end();
                            if first {
                                board.count_kill();
                            }
                            if end_it(sweep, &slot, if first { TRIES } else { 1 }) {
                                slot.leave();
                                continue;
                            }
                            // Whoever has much to end is no guard that stands still.
                            board.awake_at(clock::boot_time());
                        }
                        // From the deadline on: whoever has died at last is petted for again.
                        seen.undead |= now >= deadline;
                        let next = if now < deadline { deadline } else { end };
                        seen.next = Some(seen.next.map_or(next, |before| before.min(next)));
                    }
                }
            }
            seen.any = true;
        }
        seen
    }

    /// The lease has ended and nothing runs under it: nothing begins any more under this registration, and others are told.
    fn say_what_is_over(&mut self, now: BootTime) {
        let boot = self.board.registration().filter(|boot| self.armed_under == Some(*boot));
        let Some(boot) = boot else { return };
        let (lease, told) = (self.board.lease(), now.since(self.said) < SAY_EVERY);
        if !self.board.knows_all() || lease == BootTime::default() || now <= lease || told {
            return;
        }
        self.said = now;
        let (token, node) = (Token(self.board.token()), NodeId(self.board.node()));
        self.board.close(boot);
        // After the door is closed: whoever came through before is seen now, and nobody comes after.
        if self.is_anybody_armed() || self.board.registration() != Some(boot) {
            return;
        }
        let datagram = Word { node, boot, token }.datagram();
        for peer in (0..PEERS_MAX).map_while(|index| self.board.peer(index)) {
            let way = self.ways.get(usize::from(peer.is_ipv6())).and_then(Option::as_ref);
            // One that does not arrive is said again.
            let _ = way.map(|way| way.send_to(&datagram, peer));
        }
    }

    fn is_anybody_armed(&self) -> bool {
        self.board.slots().any(|slot| match slot.holder() {
            Holder::Nobody => false,
            Holder::Entering(_) => true,
            Holder::Keeper(_) => slot.deadline().is_some(),
        })
    }

    fn is_needless(&mut self, seen: &Seen, now: BootTime) -> bool {
        if self.asked && !seen.armed {
            return true;
        }
        let daemon = self.board.daemon();
        let lives = daemon.is_some_and(|daemon| self.sweep.is_alive(daemon));
        if lives && !self.board.is_replaced() {
            self.alone = None;
            return false;
        }
        let since = *self.alone.get_or_insert(now);
        let told = now >= self.board.lease() + LINGER || self.board.is_replaced();
        !seen.any && told && now.since(since) >= ALONE
    }
}

/// Whether nothing is left of what a slot says.
fn is_empty(sweep: &mut Sweep, slot: &Slot<'_>) -> bool {
    let mut names = Names::new();
    let Some(target) = names.target(slot) else { return false };
    sweep.pass(&target, Deed::Look) == Ok(0)
}

/// Ends what outlived its deadline, and its keeper last: until then it adopts whoever loses a parent, and stands still so that
/// it starts nothing again. Whether nothing is left.
fn end_it(sweep: &mut Sweep, slot: &Slot<'_>, tries: u32) -> bool {
    let mut names = Names::new();
    let (Holder::Keeper(keeper), Some(target)) = (slot.holder(), names.target(slot)) else {
        return false;
    };
    for _ in 0..tries {
        sweep.signal(keeper, Signal::STOP);
        sweep.kill_group(&target);
        if sweep.pass(&target, Deed::Kill) == Ok(0) {
            sweep.signal(keeper, Signal::KILL);
            if !sweep.is_alive(keeper) && sweep.pass(&target, Deed::Look) == Ok(0) {
                return true;
            }
        }
    }
    false
}
