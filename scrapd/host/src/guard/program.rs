//! What the binary does before it watches: opens, locks and reserves all that it will need.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use scrap_schema::unit::Span;

use super::Arrangements;
use super::asked::Asks;
use super::board::Board;
use super::dog::Dog;
use super::sweep::Sweep;
use super::watch::Watch;
use crate::clock;
use crate::processes::Process;

/// What the binary `scrap-guard` does: `scrap-guard BOARD [WATCHDOG WITHIN_MS]`. What keeps it from watching is said on
/// standard error.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let watchdog = match arguments.as_slice() {
        [_] => None,
        [_, device, within] => {
            let within = within.to_str().and_then(|within| within.parse().ok());
            let Some(within) = within else { return ExitCode::from(2) };
            Some((PathBuf::from(device), Span::from_ms(within)))
        }
        _ => return ExitCode::from(2),
    };
    let Some(board) = arguments.first() else { return ExitCode::from(2) };
    match prepare(Path::new(board), watchdog) {
        Ok(Some(watch)) => {
            watch.run();
            ExitCode::SUCCESS
        }
        // Somebody else guards it.
        Ok(None) => ExitCode::SUCCESS,
        Err(why) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(path: &Path, watchdog: Option<(PathBuf, Span)>) -> Result<Option<Watch>, String> {
    let say = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let board = Board::open(path).map_err(say("cannot open its board"))?;
    if !board.lock().map_err(say("cannot lock its board"))? {
        return Ok(None);
    }
    let _ = rustix::process::setsid();
    // Before the watchdog is opened: an end in good order lets it go.
    let asks = Asks::new();
    // So that no file system is kept from being unmounted.
    let _ = rustix::process::chdir("/");
    let sweep = Sweep::new().map_err(say("cannot look at the processes of this machine"))?;
    let dog = watchdog.map(|(device, within)| {
        let what = format!("the watchdog {} cannot be used", device.display());
        Dog::open(&device, within).map_err(say(&what))
    });
    let dog = dog.transpose()?;
    let arrangements = Arrangements {
        locked: rustix::mm::mlockall(
            rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::FUTURE,
        )
        .is_ok(),
        first: run_first().is_ok(),
        watchdog: dog.is_some(),
    };
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // First: whoever reads who it is must not think that it sleeps.
    board.beat(clock::boot_time(), 0);
    let has = dog.as_ref().map_or((0, Span::ZERO), |dog| (dog.mark(), dog.within()));
    board.dog_is(has.0, has.1);
    board.guarded_by(Process::me(), arrangements);
    Ok(Some(Watch::new(board, sweep, dog, asks)))
}

/// Before everything that shares the processors: it needs them for moments only, and must have them then.
#[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
fn run_first() -> std::io::Result<()> {
    use nix::libc;
    // SAFETY: for this process; the parameters are read during the call and are a plain number.
    let done = unsafe {
        let parameters = libc::sched_param { sched_priority: 1 };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
