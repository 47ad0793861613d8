//! The keeper's loop: wait for something, write the log, reap, look at the deadline, take the next step.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use scrap_schema::time::BootTime;
use scrap_schema::timing::KILL_MIN;
use scrap_schema::unit::Span;

use super::lock::Lock;
use super::log::LogWriter;
use super::place::Place;
use super::protocol::{self, Begun, Order, Record, Request, Stable, State, Status};
use super::spawn;
use super::system::{Asked, System};
use super::talk::{self, Caller, Heard};
use crate::clock;
use crate::processes::Process;

/// So long after its start an init that hears nothing may only not listen yet.
const YOUNG: Span = Span::from_secs(5);
/// When the deadline passes, the kill comes at most this long after the asking.
const DEADLINE_GRACE: Span = Span::from_secs(1);
/// The rest of the promised time is for the kill and for seeing that it was one.
const _: () = assert!(DEADLINE_GRACE.ms() * 2 <= KILL_MIN.ms());
const PAUSE_FIRST: Span = Span::from_secs(1);
const PAUSE_LAST: Span = Span::from_secs(60);
/// A program that ran this long begins with the first pause again.
const RAN_WELL: Span = Span::from_secs(60);
/// Longest sleep of the loop: also bounds how late a deadline is seen after the machine was suspended.
const TICK_MS: u64 = 1000;

/// What happens when nothing of the program is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Restart,
    End,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running {
        since: BootTime,
    },
    /// Everything was asked to end, and is killed from `kill_at` on.
    Clearing {
        since: BootTime,
        kill_at: BootTime,
        then: Then,
        /// Nobody has heard it, and may only not have listened yet: asked again; who hears has time until this moment.
        unheard: Option<BootTime>,
    },
    BackingOff {
        until: BootTime,
    },
    Ended,
}

pub(super) struct Keeper {
    order: Order,
    record: Record,
    listener: UnixListener,
    callers: Vec<Caller>,
    log: LogWriter,
    output: PipeReader,
    /// Given to every start of the program.
    input: PipeWriter,
    /// What is done besides for a grain that is a system.
    system: Option<System>,
    phase: Phase,
    main: Option<Main>,
    pause: Span,
    /// Left when nothing of the grain is left.
    place: Place,
    /// Let go of by the system when this process has ended, after the last word in the record.
    _lock: Lock,
}

/// The program's first process.
struct Main {
    pid: Pid,
    /// Becomes readable when it ends.
    ended: Option<OwnedFd>,
}

impl Main {
    fn new(pid: Pid) -> Self {
        #[cfg(target_os = "linux")]
        let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let ended = None;
        Self { pid, ended }
    }
}

/// The pause after a program that ran for so long, when the one before was `pause`.
fn next_pause(pause: Span, ran: Span) -> Span {
    if ran >= RAN_WELL || pause == Span::ZERO {
        PAUSE_FIRST
    } else {
        (pause + pause).min(PAUSE_LAST)
    }
}

fn exit_text(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("status {status:?}"),
    }
}

impl Keeper {
    /// Starts the program for the first time.
    pub(super) fn begin(
        order: Order,
        me: Process,
        boot: String,
        listener: UnixListener,
        log: LogWriter,
        (lock, place): (Lock, Place),
    ) -> Result<Self, Begun> {
        let failed = |what: &str, error: &io::Error| Begun::Failed {
            what: what.to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
        };
        let (output, input) = io::pipe().map_err(|error| failed("cannot make a pipe", &error))?;
        rustix::io::ioctl_fionbio(&output, true)
            .map_err(|error| failed("cannot set up a pipe", &error.into()))?;
        let system = order.system.clone().map(System::new).transpose();
        let system = system.map_err(|error| failed("cannot make a pipe", &error))?;
        let status = Status {
            state: State::Running,
            restarts: 0,
            last_exit: None,
            deadline: order.deadline,
        };
        let record = Record {
            grain: order.grain,
            epoch: order.epoch,
            command: order.command.clone(),
            keeper: me,
            boot,
            tag: order.tag.clone(),
            cage: order.system.as_ref().map(|system| system.cage.clone()),
            status,
        };
        // Before the program: whoever looks from now on knows that something may run.
        protocol::write_record(&order.folder, &record, Stable::Yes)
            .map_err(|error| failed("cannot write keeper.json", &error))?;
        let phase = Phase::Running { since: clock::boot_time() };
        let (callers, pause) = (Vec::new(), Span::ZERO);
        let (main, _lock) = (None, lock);
        let mut keeper = Self {
            order,
            record,
            listener,
            callers,
            log,
            output,
            input,
            system,
            phase,
            main,
            pause,
            place,
            _lock,
        };
        match keeper.spawn() {
            Ok(pid) => {
                keeper.main = Some(Main::new(pid));
                Ok(keeper)
            }
            Err(error) => {
                keeper.record.status.last_exit = Some(format!("cannot be started: {error}"));
                keeper.finish();
                let program = keeper.order.command.first().cloned().unwrap_or_default();
                Err(Begun::Program { program, errno: error.raw_os_error().unwrap_or(0) })
            }
        }
    }

    fn spawn(&mut self) -> io::Result<Pid> {
        if let Some(system) = &self.system {
            // A group that is there already would not be used.
            system.clear_away();
        }
        let errors = self.system.as_mut().map_or(&self.input, System::begin);
        spawn::start(&self.order, &self.input, errors)
    }

    /// Keeps it until its end.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !matches!(self.phase, Phase::Ended) {
            self.wait();
            self.write_log();
            self.hear_program();
            self.reap();
            self.hear();
            self.look_at_deadline();
            self.step();
        }
        self.write_log();
        self.finish();
        Ok(())
    }

    fn wait(&mut self) {
        let now = clock::boot_time();
        let until = |moment: BootTime| moment.since(now).ms().min(TICK_MS);
        let mut timeout = match self.phase {
            Phase::Running { .. } => TICK_MS,
            Phase::BackingOff { until: moment } => until(moment),
            // Soon at first: most programs end at once.
            Phase::Clearing { since, .. } if now.since(since).ms() < 300 => 10,
            Phase::Clearing { .. } => 50,
            Phase::Ended => 0,
        };
        if let Some(deadline) = self.record.status.deadline
            && matches!(self.phase, Phase::Running { .. } | Phase::BackingOff { .. })
        {
            timeout = timeout.min(until(deadline));
        }
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.output, PollFlags::IN),
        ];
        let messages = self.system.as_ref().map(System::messages);
        fds.extend(messages.map(|messages| PollFd::new(messages, PollFlags::IN)));
        fds.extend(self.callers.iter().map(|caller| PollFd::new(&caller.stream, PollFlags::IN)));
        let ended = self.main.as_ref().and_then(|main| main.ended.as_ref());
        fds.extend(ended.map(|fd| PollFd::new(fd, PollFlags::IN)));
        // Where the system cannot tell that the program ended, it is asked more often.
        let timeout =
            if ended.is_none() && self.main.is_some() { timeout.min(100) } else { timeout };
        let timeout = i64::try_from(timeout).unwrap_or(1000);
        let timeout = Timespec { tv_sec: timeout / 1000, tv_nsec: (timeout % 1000) * 1_000_000 };
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn write_log(&mut self) {
        let mut buffer = [0; 8192];
        // Bounded, so that a program that never stops talking cannot keep us from its deadline.
        for _ in 0..64 {
            let Ok(length) = self.output.read(&mut buffer) else { return };
            let bytes = buffer.get(..length).unwrap_or_default();
            // A full disk costs log lines, never the grain.
            let _ = match &mut self.system {
                Some(system) => self.log.write(&system.plain(bytes)),
                None => self.log.write(bytes),
            };
        }
    }

    fn hear_program(&mut self) {
        let lines = self.system.as_mut().map(System::hear).unwrap_or_default();
        if !lines.is_empty() {
            let _ = self.log.write(&lines);
        }
    }

    /// Collects every child that ended: the program, and orphans that became ours.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if self.main.as_ref().is_some_and(|main| main.pid == pid) {
                self.main = None;
                self.hear_program();
                let end = self.system.as_ref().and_then(|system| system.end(status));
                self.record.status.last_exit = Some(end.unwrap_or_else(|| exit_text(status)));
                if let Phase::Running { since } = self.phase {
                    let ran = clock::boot_time().since(since);
                    self.pause = next_pause(self.pause, ran);
                    self.clear(Then::Restart, DEADLINE_GRACE);
                }
            }
        }
    }

    fn hear(&mut self) {
        talk::accept(&self.listener, &mut self.callers);
        for mut caller in std::mem::take(&mut self.callers) {
            match caller.listen() {
                Heard::Nothing => self.callers.push(caller),
                Heard::Gone => (),
                Heard::Asked(request) => {
                    if let Ok(line) = self.obey(request) {
                        caller.answer(&line);
                    }
                }
            }
        }
    }

    fn obey(&mut self, request: Request) -> io::Result<Vec<u8>> {
        match request {
            Request::Order => return protocol::line(&self.order),
            Request::Status => (),
            Request::Note => self.note(),
            Request::Extend { deadline } => self.extend(deadline),
            Request::Arm { deadline } => self.arm(deadline),
            Request::Disarm => self.disarm(),
            Request::Stop { grace_ms } => self.end(Span::from_ms(grace_ms)),
        }
        let status = Status { state: self.state(), ..self.record.status.clone() };
        protocol::line(&status)
    }

    /// Dead stays dead: a deadline that has passed is not moved, however late anybody asks.
    fn extend(&mut self, deadline: BootTime) {
        if let Some(held) = self.record.status.deadline
            && held > clock::boot_time()
        {
            self.record.status.deadline = Some(held.max(deadline));
            self.place.live_until(self.record.status.deadline);
        }
    }

    /// Gives it a deadline if it has none. Not when the guard may have said that nothing here has one any more: it asks for
    /// deadlines after it has closed the door, and this looks at the door after it has entered one, so one sees the other.
    fn arm(&mut self, deadline: BootTime) {
        match self.record.status.deadline {
            None => {
                self.place.live_until(Some(deadline));
                if self.place.is_over() {
                    self.place.live_until(None);
                } else {
                    self.record.status.deadline = Some(deadline);
                }
            }
            Some(_) => self.extend(deadline),
        }
    }

    /// Takes its deadline away, unless that has passed: dead stays dead.
    fn disarm(&mut self) {
        if self.record.status.deadline.is_some_and(|held| held > clock::boot_time()) {
            self.record.status.deadline = None;
            self.place.live_until(None);
        }
    }

    fn state(&self) -> State {
        match self.phase {
            Phase::Running { .. } => State::Running,
            Phase::BackingOff { .. } | Phase::Clearing { then: Then::Restart, .. } => {
                State::BackingOff
            }
            Phase::Clearing { then: Then::End, .. } => State::Stopping,
            Phase::Ended => State::Stopped,
        }
    }

    fn look_at_deadline(&mut self) {
        let passed = |deadline: BootTime| deadline <= clock::boot_time();
        if self.record.status.deadline.is_some_and(passed) {
            self.end(DEADLINE_GRACE.min(Span::from_ms(self.order.grace_ms)));
        }
    }

    /// Begins the end. Asked again: only ever sooner.
    fn end(&mut self, grace: Span) {
        match &mut self.phase {
            Phase::Clearing { kill_at, then: Then::End, unheard, .. } => {
                let end = clock::boot_time() + grace;
                *kill_at = (*kill_at).min(end);
                *unheard = unheard.map(|until| until.min(end));
            }
            Phase::Running { .. }
            | Phase::BackingOff { .. }
            | Phase::Clearing { then: Then::Restart, .. } => self.clear(Then::End, grace),
            Phase::Ended => (),
        }
    }

    /// Asks everything that belongs to the program to end.
    fn clear(&mut self, then: Then, grace: Span) {
        let since = clock::boot_time();
        let end = since + grace;
        let young_until = match self.phase {
            Phase::Running { since: started } => started + YOUNG,
            Phase::Clearing { .. } | Phase::BackingOff { .. } | Phase::Ended => since,
        };
        let (kill_at, unheard) = match self.ask() {
            Asked::Somebody => (end, None),
            Asked::Nobody if young_until > since => (end.min(young_until), Some(end)),
            Asked::Nobody => (since, None),
        };
        self.phase = Phase::Clearing { since, kill_at, then, unheard };
    }

    fn ask(&self) -> Asked {
        match &self.system {
            Some(system) => system.ask(&self.record.family(), &self.record.tag),
            None => {
                self.signal_all(Signal::TERM);
                Asked::Somebody
            }
        }
    }

    /// Sends a signal to everything that is left; says whether that was anything.
    fn signal_all(&self, signal: Signal) -> bool {
        if cfg!(target_os = "linux") {
            // What cannot be seen now is tried again at the next step.
            let Ok(members) = self.record.family().members() else { return true };
            for member in &members {
                member.signal(signal);
            }
            return !members.is_empty();
        }
        // Without /proc the group is all that is known.
        let group = self.main.as_ref().map(|main| main.pid);
        group.is_some_and(|pid| rustix::process::kill_process_group(pid, signal).is_ok())
    }

    fn is_empty(&self) -> bool {
        let family = self.record.family();
        self.main.is_none()
            && !family.is_plainly_there()
            && family.members().is_ok_and(|left| left.is_empty())
    }

    fn kill(&self) {
        if let Some(system) = &self.system {
            system.kill();
        }
        self.signal_all(Signal::KILL);
    }

    fn step(&mut self) {
        let now = clock::boot_time();
        match self.phase {
            Phase::Running { .. } | Phase::Ended => (),
            Phase::Clearing { since, kill_at, then, unheard } => {
                if self.is_empty() {
                    if let Some(system) = &self.system {
                        system.clear_away();
                    }
                    self.phase = match then {
                        Then::End => Phase::Ended,
                        Then::Restart => Phase::BackingOff { until: now + self.pause },
                    };
                    self.note();
                } else if now >= kill_at {
                    self.kill();
                } else if let Some(until) = unheard
                    && self.ask() == Asked::Somebody
                {
                    self.phase = Phase::Clearing { since, kill_at: until, then, unheard: None };
                }
            }
            Phase::BackingOff { until } if until <= now => self.restart(now),
            Phase::BackingOff { .. } => (),
        }
    }

    fn restart(&mut self, now: BootTime) {
        self.record.status.restarts = self.record.status.restarts.saturating_add(1);
        match self.spawn() {
            Ok(pid) => {
                self.main = Some(Main::new(pid));
                self.phase = Phase::Running { since: now };
            }
            Err(error) => {
                self.record.status.last_exit = Some(format!("cannot be started: {error}"));
                self.pause = next_pause(self.pause, Span::ZERO);
                self.phase = Phase::BackingOff { until: now + self.pause };
            }
        }
        self.note();
    }

    /// Leaves the record as it is now. Without a disk the daemon still hears it from us.
    fn note(&mut self) {
        self.record.status.state = self.state();
        // A disk that stands still must not keep us from the deadline of a program that runs.
        let stable = if self.main.is_none() { Stable::Yes } else { Stable::NotNow };
        let _ = protocol::write_record(&self.order.folder, &self.record, stable);
    }

    fn finish(&mut self) {
        self.phase = Phase::Ended;
        let _ = std::fs::remove_file(protocol::socket_path(&self.order.folder));
        self.note();
        self.place.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_again() {
        let mut pause = Span::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause = next_pause(pause, Span::from_secs(1));
            pauses.push(pause.ms() / 1000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(next_pause(pause, RAN_WELL), PAUSE_FIRST);
    }
}
