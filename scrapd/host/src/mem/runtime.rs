//! A runtime in memory: instances are rows, and their deadlines are looked at whenever somebody asks. Starts no
//! program, except for `exec`, which runs the real one beside nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use scrap_schema::id::GrainId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, Span};

use super::lock;
use crate::processes::{self, Process};
use crate::runtime::{
    Exec, ExecChild, IdRange, Instance, InstanceState, Listing, LogChunk, Result, Runtime,
    RuntimeCause, RuntimeError, ServiceState, Start, Usage, Window,
};
use crate::terminal::Terminal;
use crate::{clock, run};

/// Bytes of log that are kept per grain.
const LOG_KEPT: usize = 4 << 20;

type Clock = Arc<dyn Fn() -> BootTime + Send + Sync>;

/// The in-memory twin. Clones share the same instances, as a restarted daemon would find them again.
#[derive(Clone)]
pub struct MemRuntime {
    rows: Arc<Mutex<BTreeMap<GrainId, Row>>>,
    clock: Clock,
}

#[derive(Debug, Clone)]
struct Row {
    order: Start,
    instance: Instance,
    usage: Usage,
    log: Vec<u8>,
    /// Bytes that were dropped from the beginning of the log.
    dropped: u64,
    stubborn: bool,
    frozen: bool,
    /// Real processes that `exec` started.
    beside: Vec<Process>,
}

impl fmt::Debug for MemRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemRuntime").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Default for MemRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Row {
    fn new(order: Start) -> Self {
        let instance = Instance {
            grain: order.grain,
            epoch: order.epoch,
            state: InstanceState::Running,
            restarts: 0,
            last_exit: None,
            deadline: order.deadline,
        };
        let usage = Usage { cpu_ms: 0, memory: Bytes(1 << 20), processes: 1 };
        let (log, beside) = (Vec::new(), Vec::new());
        Self { order, instance, usage, log, dropped: 0, stubborn: false, frozen: false, beside }
    }

    fn is_live(&self) -> bool {
        match self.instance.state {
            InstanceState::Running | InstanceState::BackingOff | InstanceState::Stopping => true,
            InstanceState::Stopped => false,
        }
    }

    fn end(&mut self, exit: &str) {
        for process in self.beside.drain(..) {
            process.signal(Signal::KILL);
        }
        self.instance.last_exit = Some(exit.to_owned());
        self.instance.state =
            if self.stubborn { InstanceState::Stopping } else { InstanceState::Stopped };
    }

    fn expire(&mut self, now: BootTime) {
        if self.is_live() && self.instance.deadline.is_some_and(|deadline| deadline <= now) {
            self.end("deadline passed");
        }
    }
}

fn not_running(work: &'static str, grain: GrainId) -> RuntimeError {
    RuntimeError { work, grain, cause: RuntimeCause::NotRunning }
}

impl MemRuntime {
    /// No instances, on the machine's own clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(clock::boot_time)
    }

    /// No instances, on a clock that a test moves.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> BootTime + Send + Sync + 'static) -> Self {
        Self { rows: Arc::default(), clock: Arc::new(clock) }
    }

    /// For tests: the program ends by itself and waits for its next start. Without effect if it does not run.
    pub fn crash(&self, grain: GrainId, exit: &str) {
        self.change(grain, |row| {
            if row.is_live() {
                row.instance.state = InstanceState::BackingOff;
                row.instance.last_exit = Some(exit.to_owned());
            }
        });
    }

    /// For tests: the pause after a crash is over.
    pub fn come_back(&self, grain: GrainId) {
        self.change(grain, |row| {
            if row.instance.state == InstanceState::BackingOff {
                row.instance.state = InstanceState::Running;
                row.instance.restarts += 1;
            }
        });
    }

    /// For tests: whether the processes of this grain survive every kill.
    pub fn set_stubborn(&self, grain: GrainId, stubborn: bool) {
        self.change(grain, |row| row.stubborn = stubborn);
    }

    /// For tests: what the grain uses.
    pub fn set_usage(&self, grain: GrainId, usage: Usage) {
        self.change(grain, |row| row.usage = usage);
    }

    /// For tests: the program writes to its log.
    pub fn write_log(&self, grain: GrainId, text: &str) {
        self.change(grain, |row| {
            row.log.extend_from_slice(text.as_bytes());
            let over = row.log.len().saturating_sub(LOG_KEPT);
            row.log.drain(..over);
            row.dropped += over as u64;
        });
    }

    /// For tests: the order that the running instance was started with.
    #[must_use]
    pub fn order(&self, grain: GrainId) -> Option<Start> {
        lock(&self.rows).get(&grain).filter(|row| row.is_live()).map(|row| row.order.clone())
    }

    /// For tests: whether nothing of the grain runs now.
    #[must_use]
    pub fn is_frozen(&self, grain: GrainId) -> bool {
        lock(&self.rows).get(&grain).is_some_and(|row| row.is_live() && row.frozen)
    }

    fn set_frozen(&self, work: &'static str, grain: GrainId, frozen: bool) -> Result<()> {
        self.with(|rows| {
            let row = rows.get_mut(&grain).filter(|row| row.is_live());
            row.ok_or_else(|| not_running(work, grain))?.frozen = frozen;
            Ok(())
        })
    }

    fn change(&self, grain: GrainId, change: impl FnOnce(&mut Row)) {
        self.with(|rows| {
            if let Some(row) = rows.get_mut(&grain) {
                change(row);
            }
        });
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<GrainId, Row>) -> T) -> T {
        let now = (self.clock)();
        let mut rows = lock(&self.rows);
        for row in rows.values_mut() {
            row.expire(now);
        }
        action(&mut rows)
    }
}

/// Says no to a start that must not be, and whether anything is left to do.
fn admit(row: &mut Row, order: &Start) -> std::result::Result<bool, RuntimeCause> {
    if !row.is_live() {
        return Ok(true);
    }
    let held = row.instance.epoch;
    if order.epoch < held {
        return Err(RuntimeCause::Stale { offered: order.epoch, held });
    }
    if order.epoch == held && row.instance.state != InstanceState::Stopping {
        return Ok(false);
    }
    row.end("stopped");
    if row.is_live() { Err(RuntimeCause::StillAlive { left: 1 }) } else { Ok(true) }
}

/// A piece of a log whose first byte has the offset `first`.
fn piece(log: &[u8], first: u64, from: u64, tail: Option<u32>, limit: usize) -> LogChunk {
    let begin = match tail {
        Some(lines) => crate::log::tail_begin(log, lines),
        None => usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX).min(log.len()),
    };
    let text: Vec<u8> = log.iter().skip(begin).take(limit).copied().collect();
    let next = first + (begin + text.len()) as u64;
    LogChunk { text, next }
}

impl Runtime for MemRuntime {
    async fn list(&self) -> Result<Listing> {
        let instances = self.with(|rows| rows.values().map(|row| row.instance.clone()).collect());
        Ok(Listing { instances, unclear: Vec::new() })
    }

    async fn start(&self, order: Start) -> Result<()> {
        let grain = order.grain;
        let now = (self.clock)();
        let failed = |cause| RuntimeError { work: "start", grain, cause };
        run::split(&order.command)
            .map_err(|source| failed(RuntimeCause::Program { program: String::new(), source }))?;
        self.with(|rows| {
            let due = match rows.get_mut(&grain) {
                Some(row) => admit(row, &order).map_err(failed)?,
                None => true,
            };
            if !due {
                return Ok(());
            }
            if order.deadline.is_some_and(|deadline| deadline <= now) {
                return Err(failed(crate::runtime::deadline_passed()));
            }
            let old = rows.remove(&grain);
            let mut row = Row::new(order);
            if let Some(old) = old {
                (row.log, row.dropped, row.stubborn) = (old.log, old.dropped, old.stubborn);
            }
            rows.insert(grain, row);
            Ok(())
        })
    }

    async fn stop(&self, grain: GrainId, _grace: Span) -> Result<()> {
        self.with(|rows| {
            let Some(row) = rows.get_mut(&grain).filter(|row| row.is_live()) else {
                return Ok(());
            };
            row.end("signal 15");
            if row.is_live() {
                let cause = RuntimeCause::StillAlive { left: 1 };
                return Err(RuntimeError { work: "stop", grain, cause });
            }
            Ok(())
        })
    }

    async fn arm(&self, grain: GrainId, deadline: BootTime) -> Result<()> {
        self.with(|rows| {
            let row = rows.get_mut(&grain).filter(|row| row.is_live());
            let row = row.ok_or_else(|| not_running("arm", grain))?;
            row.instance.deadline = row.instance.deadline.max(Some(deadline));
            Ok(())
        })
    }

    async fn disarm(&self, grain: GrainId) -> Result<()> {
        self.with(|rows| {
            let row = rows.get_mut(&grain).filter(|row| row.is_live());
            let row = row.ok_or_else(|| not_running("disarm", grain))?;
            row.instance.deadline = None;
            Ok(())
        })
    }

    async fn extend(&self, deadline: BootTime) -> Result<Vec<RuntimeError>> {
        self.with(|rows| {
            for row in rows
                .values_mut()
                .filter(|row| row.is_live() && row.instance.state != InstanceState::Stopping)
            {
                row.instance.deadline = row.instance.deadline.map(|held| held.max(deadline));
            }
        });
        Ok(Vec::new())
    }

    async fn usage(&self, grain: GrainId) -> Result<Usage> {
        self.with(|rows| {
            let row = rows.get(&grain).filter(|row| row.is_live());
            row.map(|row| row.usage).ok_or_else(|| not_running("measure", grain))
        })
    }

    async fn logs(
        &self,
        grain: GrainId,
        from: u64,
        tail: Option<u32>,
        limit: usize,
    ) -> Result<LogChunk> {
        self.with(|rows| {
            let row = rows.get(&grain).ok_or_else(|| not_running("read the log of", grain))?;
            Ok(piece(&row.log, row.dropped, from, tail, limit))
        })
    }

    async fn exec(&self, exec: Exec) -> Result<ExecChild> {
        let order = self.order(exec.grain).ok_or_else(|| not_running("exec in", exec.grain))?;
        let failed = |source| {
            let program = exec.command.first().cloned().unwrap_or_default();
            let cause = RuntimeCause::Program { program, source };
            RuntimeError { work: "exec in", grain: exec.grain, cause }
        };
        let (program, arguments) = run::split(&exec.command).map_err(failed)?;
        let mut command = run::command(program, arguments);
        command.envs(&order.env).envs(&exec.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let terminal = match exec.tty {
            Some(window) => {
                let (terminal, end) = Terminal::open(window).map_err(failed)?;
                command.stdout(end.try_clone().map_err(failed)?);
                command.stderr(end.try_clone().map_err(failed)?).stdin(end);
                Some(terminal)
            }
            None => None,
        };
        let child = command.spawn().map_err(failed)?;
        let process = child.id().and_then(|pid| processes::stat(i32::try_from(pid).ok()?).ok()?);
        self.change(exec.grain, |row| row.beside.extend(process.map(|stat| stat.process)));
        Ok(ExecChild { child, terminal })
    }

    async fn prepare(&self, _data: &Path, _ids: IdRange) -> Result<()> {
        Ok(())
    }

    async fn console(&self, grain: GrainId, _window: Window) -> Result<ExecChild> {
        self.order(grain).ok_or_else(|| not_running("open the console of", grain))?;
        Err(RuntimeError {
            work: "open the console of",
            grain,
            cause: crate::runtime::no_console(),
        })
    }

    async fn freeze(&self, grain: GrainId) -> Result<()> {
        self.set_frozen("freeze", grain, true)
    }

    async fn thaw(&self, grain: GrainId) -> Result<()> {
        self.set_frozen("thaw", grain, false)
    }

    async fn services(&self, grain: GrainId) -> Result<Vec<ServiceState>> {
        self.order(grain).map(|_| Vec::new()).ok_or_else(|| not_running("look into", grain))
    }

    async fn forget(&self, grain: GrainId) -> Result<()> {
        self.with(|rows| match rows.get(&grain) {
            Some(row) if row.is_live() => {
                let cause = RuntimeCause::StillAlive {
                    left: usize::try_from(row.usage.processes).unwrap_or(usize::MAX),
                };
                Err(RuntimeError { work: "forget", grain, cause })
            }
            Some(_) | None => {
                rows.remove(&grain);
                Ok(())
            }
        })
    }
}
