//! Being asked to end, by the signals that end others at once: the guard takes them when it is awake, and ends only when
//! nothing depends on it. Whoever switches the machine off asks everybody so, and a watchdog that nobody lets go goes on counting.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::libc;

/// The signals that ask.
pub(super) struct Asks(libc::sigset_t);

impl Asks {
    /// From now on they wait to be taken.
    #[expect(unsafe_code, reason = "calls of the system that rustix has no functions for")]
    pub(super) fn new() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is made by the first call; the others read it, and there is one thread.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            set.assume_init()
        };
        Self(set)
    }

    /// Waits so long, or until somebody asks. Whether somebody did.
    #[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let pause = libc::timespec {
            tv_sec: libc::time_t::try_from(pause.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: pause.subsec_nanos().into(),
        };
        // SAFETY: both are read during the call and live longer.
        unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const pause) > 0 }
    }
}
