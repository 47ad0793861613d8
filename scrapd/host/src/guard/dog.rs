//! The watchdog of the machine: resets it when nobody has petted it for some time. Opened once and kept for life, because
//! closing it may reset the machine, and a device that is free may be taken by somebody else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Updater, opcode};
use scrap_schema::unit::Span;

/// Shortest time that is asked for: some devices know no shorter one.
const LEAST: u64 = 2;
/// From the Linux watchdog API: `_IOWR('W', 6, int)`, sets the time and says which it has become.
const SET_TIMEOUT: rustix::ioctl::Opcode = opcode::read_write::<i32>(b'W', 6);

/// The device, open.
#[derive(Debug)]
pub(super) struct Dog {
    device: OwnedFd,
}

impl Dog {
    /// Opens it and makes it wait for `within` at most.
    ///
    /// # Errors
    /// It is not there, or is no watchdog, or waits longer than that. Then it was let go again.
    #[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
    pub(super) fn open(path: &Path, within: Span) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let dog = Self { device: rustix::fs::open(path, flags, Mode::empty())? };
        let most = (within.ms() / 1000).max(LEAST);
        let mut secs = i32::try_from(most).unwrap_or(i32::MAX);
        // SAFETY: the request takes a pointer to an `int` that it reads and writes; this is one, and it lives long enough.
        let set = unsafe {
            rustix::ioctl::ioctl(&dog.device, Updater::<SET_TIMEOUT, i32>::new(&mut secs))
        };
        if let Err(error) = set {
            dog.let_go();
            return Err(error.into());
        }
        if u64::try_from(secs).unwrap_or(u64::MAX) > most {
            dog.let_go();
            let what = format!("it waits {secs} s at least, and may wait {most} s at most");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(dog)
    }

    /// Keeps the machine alive for another while.
    pub(super) fn pet(&self) {
        let _ = rustix::io::write(&self.device, b"\0");
    }

    /// Ends the watch: by the letter that the drivers expect. One that was built never to end goes on, and resets.
    pub(super) fn let_go(&self) {
        let _ = rustix::io::write(&self.device, b"V");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("watchdog");
        assert!(Dog::open(&file, Span::from_secs(4)).is_err());
        std::fs::write(&file, "").unwrap();
        let error = Dog::open(&file, Span::from_secs(4)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTTY.raw_os_error()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "V");
    }
}
