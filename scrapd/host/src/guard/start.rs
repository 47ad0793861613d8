//! The daemon's side of the guard: making its board, starting it, and seeing to it that there is one.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use scrap_schema::id::{BootId, GrainId, NodeId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use super::attest::Token;
use super::board::{Board, Holder};
use super::{GuardError, Settings, dog};
use crate::clock;
use crate::keeper::lock;
use crate::keeper::protocol::{self, Record};
use crate::processes::Process;
use crate::run;

/// A guard watches within this, or says why not.
const BEGIN: Duration = Duration::from_secs(10);
/// A guard that was not awake for so long stands still.
const ASLEEP: Span = Span::from_secs(5);
/// A guard that is awake has let go of a watchdog within this.
const LET_GO: Duration = Duration::from_secs(3);
/// Between two looks whether there is a guard; and where a machine is reset soon after it has none.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_OFTEN: Duration = Duration::from_millis(250);
/// The guard of this node, as the daemon knows it.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    /// `kill` of the lease's numbers, in milliseconds: the watchdog waits so long at most. A node that has just joined learns it late.
    kill_ms: AtomicU64,
    /// The guard that is there has a watchdog that this kernel does not let go: it stays.
    keeps: AtomicBool,
    board: Arc<Board>,
}

impl Guard {
    /// Opens the board of this node, or makes one, and sees to it that it is guarded.
    ///
    /// # Errors
    /// There can be no board, or no guard.
    pub async fn open(settings: Settings) -> Result<Self, GuardError> {
        let path = Board::path(&settings.run_dir);
        let trouble = |what| {
            let path = path.clone();
            move |source| GuardError::Board { what, path, source }
        };
        let folder = tokio::fs::create_dir_all(&settings.run_dir).await;
        folder.map_err(trouble("make the folder of"))?;
        let board = match Board::open(&path) {
            Ok(board) => board,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Board::make(&path).map_err(trouble("make"))?
            }
            Err(error) => return Err(trouble("open")(error)),
        };
        board.is_whole(is_whole(&settings.run_dir, &board).map_err(trouble("compare"))?);
        board.daemon_is(Process::me());
        let kill_ms = settings.watchdog.as_ref().map_or(0, |(_, within)| within.ms()).into();
        let (keeps, board) = (AtomicBool::new(false), Arc::new(board));
        let guard = Self { settings, kill_ms, keeps, board };
        guard.ensure().await?;
        Ok(guard)
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Starts a guard if there is none, or none that is awake and of the program that is installed now.
    ///
    /// # Errors
    /// There is none and none can be started.
    pub async fn ensure(&self) -> Result<bool, GuardError> {
        let (mark, within) = self.wanted_dog();
        self.board.want_dog(mark, within);
        let path = Board::path(&self.settings.run_dir);
        let guarded = self.board.is_guarded();
        let guarded =
            guarded.map_err(|source| GuardError::Board { what: "look at", path, source })?;
        if guarded && self.is_good() {
            return Ok(false);
        }
        if let Some(guard) = self.board.guard().filter(|_| guarded) {
            if !self.unwanted_dog_is_gone().await {
                self.keeps.store(true, Ordering::Relaxed);
                return Ok(false);
            }
            // What it has open of a watchdog goes on counting until the next guard has it.
            guard.signal(Signal::KILL);
        }
        self.start().await?;
        Ok(true)
    }

    /// Whether the guard that is there is awake, has what is wanted, and is of the program that is installed now.
    fn is_good(&self) -> bool {
        // One that has just taken the lock says who it is in a moment.
        let Some(guard) = self.board.guard() else { return false };
        if self.keeps.load(Ordering::Relaxed) {
            return true;
        }
        let awake = self.is_awake();
        let same = |one: std::fs::Metadata, two: std::fs::Metadata| {
            (one.dev(), one.ino()) == (two.dev(), two.ino())
        };
        let running = std::fs::metadata(format!("/proc/{}/exe", guard.pid));
        let installed = std::fs::metadata(&self.settings.program);
        let same = running.ok().zip(installed.ok()).is_none_or(|(one, two)| same(one, two));
        awake && same && self.has_wanted_dog()
    }

    fn watchdog(&self) -> Option<(&Path, Span)> {
        let within = Span::from_ms(self.kill_ms.load(Ordering::Relaxed));
        self.settings.watchdog.as_ref().map(|(device, _)| (device.as_path(), within))
    }

    /// The mark of the watchdog that is to be petted, and how long it may wait; 0: none.
    fn wanted_dog(&self) -> (u64, Span) {
        self.watchdog().map_or((0, Span::ZERO), |(device, within)| (dog::mark(device), within))
    }

    /// What `kill` of the lease's numbers is: so long a watchdog may wait.
    pub fn kill_is(&self, kill: Span) {
        self.kill_ms.store(kill.ms(), Ordering::Relaxed);
    }

    fn has_wanted_dog(&self) -> bool {
        self.board.dog().0 == self.wanted_dog().0
    }

    /// What is wrong with the watchdog that the guard has, and the way out.
    #[must_use]
    pub fn dog_trouble(&self) -> Option<String> {
        let ((has, waits), (wanted, within)) = (self.board.dog(), self.wanted_dog());
        if has != wanted && self.keeps.load(Ordering::Relaxed) {
            return Some(
                "this kernel lets no watchdog go (`nowayout`): the guard keeps the one it has until the machine is off. \
                 hint: restart the machine to have what is configured"
                    .to_owned(),
            );
        }
        (has == wanted && waits > within).then(|| {
            format!(
                "the watchdog waits {waits}, and `kill` of the lease's numbers is {within}: a reset may come too late. \
                 hint: another device, or a preset with a longer `kill`"
            )
        })
    }

    /// Where a watchdog is petted, nobody takes the place of a guard that stands still: whoever opens the device keeps the machine
    /// alive for another while, and what holds up the one guard may hold up the next. The device resets the machine.
    fn is_awake(&self) -> bool {
        self.board.dog().0 != 0 || clock::boot_time().since(self.board.last_beat()) < ASLEEP
    }

    /// How often it is to be looked whether there is a guard.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        if self.settings.watchdog.is_some() { LOOK_OFTEN } else { LOOK_EVERY }
    }

    /// Waits until a guard that is awake has let go of a watchdog that nobody would pet after it. `false`: it does not, because
    /// it cannot.
    async fn unwanted_dog_is_gone(&self) -> bool {
        let gone = async {
            while self.board.dog().0 != 0 && !self.has_wanted_dog() && self.is_awake() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LET_GO, gone).await.is_ok()
    }

    async fn start(&self) -> Result<(), GuardError> {
        let program = &self.settings.program;
        let failed = |source| GuardError::Start { program: program.clone(), source };
        let refused = |why: String| GuardError::Refused { program: program.clone(), why };
        let mut arguments = vec![Board::path(&self.settings.run_dir).display().to_string()];
        if let Some((device, within)) = self.watchdog() {
            arguments.extend([device.display().to_string(), within.ms().to_string()]);
        }
        let limit = Instant::now() + BEGIN;
        while Instant::now() < limit {
            let mut command = run::command(program.as_os_str(), &arguments);
            // It outlives the daemon.
            command.kill_on_drop(false).stderr(Stdio::piped());
            let mut child = command.spawn().map_err(failed)?;
            let pid = child.id();
            let ready = async {
                while self.board.guard().map(|guard| guard.pid.unsigned_abs()) != pid {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            let ended = tokio::select! {
                () = ready => return Ok(()),
                ended = child.wait() => ended.map_err(failed)?,
                () = tokio::time::sleep_until(limit) => break,
            };
            let mut why = String::new();
            if let Some(stderr) = &mut child.stderr {
                let _ = timeout(BEGIN, stderr.read_to_string(&mut why)).await;
            }
            if !ended.success() {
                return Err(refused(why.trim().to_owned()));
            }
            // Another one has the board at this moment, such as one that is just ending.
            if self.board.is_guarded().unwrap_or(false) && self.is_good() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(refused("it does not say why".to_owned()))
    }

    /// A registration begins. What its end is proven with goes to the guard alone.
    pub fn register(&self, node: NodeId, boot: BootId, token: &Token) {
        self.board.register(node.0, boot, &token.0);
    }

    /// Grains may run under the lease until then, and these nodes are told when that is over.
    pub fn lease_until(&self, deadline: BootTime, peers: &[SocketAddr]) {
        self.board.tell(peers);
        self.board.lease_until(deadline);
    }
}

/// Whether every keeper that lives is on the board.
fn is_whole(run_dir: &Path, board: &Board) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(run_dir)? {
        let entry = entry?;
        let grain = entry.file_name().to_str().and_then(|name| name.parse::<GrainId>().ok());
        if grain.is_none() || !lock::is_held(&entry.path())? {
            continue;
        }
        let record = std::fs::read(protocol::record_path(&entry.path()));
        let record = record.ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let known = record.is_some_and(|record| {
            board.slots().any(|slot| slot.holder() == Holder::Keeper(record.keeper))
        });
        if !known {
            return Ok(false);
        }
    }
    Ok(true)
}
