//! The watchdog of the machine: resets it when nobody has petted it for some time. Opened once and kept for life, because
//! closing it may reset the machine, and a device that is free may be taken by somebody else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, major, minor};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};
use scrap_schema::unit::Span;

/// Shortest time that is asked for: the guard's own rhythm is slower than a shorter one allows.
const LEAST: i32 = 2;
/// The guard before may have been killed a moment ago, and still have the device.
const BUSY: Duration = Duration::from_secs(1);
const BUSY_LOOK: Duration = Duration::from_millis(10);
/// From the Linux watchdog API: `_IOR('W', 4, int)` switches it on or off, `_IOWR('W', 6, int)` sets the time and says which it
/// has become, `_IOR('W', 7, int)` says it.
const SET_OPTIONS: Opcode = opcode::read::<i32>(b'W', 4);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);
const DISABLE: i32 = 1;
/// `/dev/watchdog`, which is the first watchdog by another name.
const FIRST: (u32, u32) = (10, 130);

/// The device, open.
#[derive(Debug)]
pub(super) struct Dog {
    device: OwnedFd,
    /// How long it may wait.
    may_wait: Span,
    /// How long it waits.
    within: Span,
    mark: u64,
}

/// Which watchdog is meant, as a number that is not 0.
pub(super) fn mark(path: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let hash = blake3::hash(path.as_os_str().as_bytes());
    hash.as_bytes().iter().take(8).fold(0, |word, byte| (word << 8) | u64::from(*byte)) | 1
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

impl Dog {
    /// Opens it and makes it wait for `within` at most.
    ///
    /// # Errors
    /// It is not there, somebody else has it, it is no watchdog, or it waits longer than that. Then it was let go again, or the error
    /// says that it could not be.
    pub(super) fn open(path: &Path, within: Span) -> io::Result<Self> {
        let most = in_seconds(within);
        // Before it is opened: from then on it counts, and not every kernel lets it be stopped.
        if let Some(least) = least_time(path).filter(|least| *least > most) {
            return Err(refused(too_long(least, most)));
        }
        let (device, mark) = (open(path)?, mark(path));
        let mut dog = Self { device, may_wait: within, within, mark };
        let Err(error) = dog.waits(within) else { return Ok(dog) };
        if dog.let_go() {
            return Err(error);
        }
        let what = format!(
            "{error}; and this kernel lets none go (`nowayout`), so the machine is reset soon: take `watchdog` out of the configuration"
        );
        Err(io::Error::new(error.kind(), what))
    }

    fn waits(&mut self, within: Span) -> io::Result<()> {
        let most = in_seconds(within);
        let secs = longest(most, |secs| self.set(secs), || self.time())?;
        self.within = Span::from_secs(u64::from(secs.unsigned_abs()));
        Ok(())
    }

    /// Makes it wait for `within` at most from now on. One that cannot goes on as it was.
    pub(super) fn wait_for(&mut self, within: Span) {
        self.may_wait = within;
        if self.waits(within).is_err() {
            let _ = self.set(in_seconds(self.within));
        }
        self.pet();
    }

    /// How long it may wait, as it was last told.
    pub(super) fn may_wait(&self) -> Span {
        self.may_wait
    }

    /// Which one it is: see [`mark`].
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// How long it waits.
    pub(super) fn within(&self) -> Span {
        self.within
    }

    #[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
    fn set(&self, secs: i32) -> Result<i32, Errno> {
        let mut secs = secs;
        // SAFETY: the request takes a pointer to an `int` that it reads and writes; this is one, and it lives long enough.
        unsafe { ioctl(&self.device, Updater::<SET_TIMEOUT, i32>::new(&mut secs)) }?;
        Ok(secs)
    }

    #[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
    fn time(&self) -> Result<i32, Errno> {
        // SAFETY: the request takes a pointer to an `int` that it writes.
        unsafe { ioctl(&self.device, Getter::<GET_TIMEOUT, i32>::new()) }
    }

    #[expect(unsafe_code, reason = "a call of the system that rustix has no function for")]
    fn disable(&self) -> Result<(), Errno> {
        // SAFETY: the request takes a pointer to an `int` that it reads.
        unsafe { ioctl(&self.device, Setter::<SET_OPTIONS, i32>::new(DISABLE)) }
    }

    /// Keeps the machine alive for another while.
    pub(super) fn pet(&self) {
        let _ = rustix::io::write(&self.device, b"\0");
    }

    /// Ends the watch: by the letter that the drivers expect, and by the call that says whether it could be. `false`: this
    /// kernel never ends one (`nowayout`), so whoever has it must go on.
    pub(super) fn let_go(&self) -> bool {
        let _ = rustix::io::write(&self.device, b"V");
        // Old drivers have no such call; the letter is all that they know.
        if self.disable() != Err(Errno::BUSY) {
            return true;
        }
        // Takes the letter back.
        self.pet();
        false
    }
}

/// What a device is told.
fn in_seconds(within: Span) -> i32 {
    i32::try_from(within.ms() / 1000).unwrap_or(i32::MAX).max(LEAST)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let end = Instant::now() + BUSY;
    loop {
        match rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(device) => return Ok(device),
            Err(Errno::BUSY) if Instant::now() < end => sleep(BUSY_LOOK),
            Err(Errno::BUSY) => {
                let what =
                    "somebody else has it, such as systemd (`RuntimeWatchdogSec`) or `watchdogd`";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn too_long(least: i32, most: i32) -> String {
    format!(
        "it waits {least} s at least, and may wait {most} s at most, which is `kill` of the lease's numbers"
    )
}

/// Makes a device wait as long as it can, but not longer than `most`; `set` tries, `time` asks one whose time is fixed.
fn longest(
    most: i32,
    mut set: impl FnMut(i32) -> Result<i32, Errno>,
    time: impl FnOnce() -> Result<i32, Errno>,
) -> io::Result<i32> {
    let mut secs = most;
    loop {
        let is = match set(secs) {
            // Some know only shorter ones, and some only a few.
            Err(Errno::INVAL) if secs > LEAST => None,
            Err(Errno::INVAL) => {
                return Err(refused(format!("it does not wait for {LEAST} s to {most} s")));
            }
            Err(Errno::OPNOTSUPP) => match time()? {
                is if is <= most => return Ok(is),
                is => return Err(refused(too_long(is, most))),
            },
            Err(error) => return Err(error.into()),
            Ok(is) => Some(is),
        };
        match is {
            Some(is) if is <= most => return Ok(is),
            Some(is) if secs <= LEAST => return Err(refused(too_long(is, most))),
            Some(_) | None => secs = (secs / 2).max(LEAST),
        }
    }
}

/// The folder in which the kernel says what it knows of a device.
fn known(path: &Path) -> Option<PathBuf> {
    let stat = rustix::fs::stat(path).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return None;
    }
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    Some(match number {
        FIRST => PathBuf::from("/sys/class/watchdog/watchdog0"),
        (major, minor) => PathBuf::from(format!("/sys/dev/char/{major}:{minor}")),
    })
}

/// The shortest time that a device waits, where the kernel says it.
fn least_time(path: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(known(path)?.join("min_timeout")).ok()?;
    text.trim().parse().ok()
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
        assert_eq!(error.raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "V");
    }

    /// A device that takes these times, and makes what it takes a multiple of `step`.
    fn asked(most: i32, takes: std::ops::RangeInclusive<i32>, step: i32) -> Result<i32, String> {
        let set = |secs| match takes.contains(&secs) {
            true => Ok((secs + step - 1) / step * step),
            false => Err(Errno::INVAL),
        };
        longest(most, set, || Err(Errno::OPNOTSUPP)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_waits_as_long_as_it_can_but_not_longer_than_it_may() {
        assert_eq!(asked(4, 1..=1000, 1), Ok(4));
        assert_eq!(asked(60, 1..=15, 1), Ok(15));
        assert_eq!(asked(5, 1..=1000, 4), Ok(4));
        let long = asked(4, 1..=1000, 16).unwrap_err();
        assert!(long.contains("waits 16 s at least, and may wait 4 s"), "{long}");
        let never = asked(4, 30..=1000, 1).unwrap_err();
        assert!(never.contains("does not wait for 2 s to 4 s"), "{never}");
    }

    #[test]
    fn a_time_that_cannot_be_set_must_be_short_enough() {
        let fixed = |is: i32| longest(4, |_| Err(Errno::OPNOTSUPP), || Ok(is)).ok();
        assert_eq!((fixed(3), fixed(4), fixed(5)), (Some(3), Some(4), None));
    }

    #[test]
    fn another_device_is_another_mark() {
        let of = |path: &str| mark(Path::new(path));
        assert_eq!(of("/dev/watchdog"), of("/dev/watchdog"));
        assert_ne!(of("/dev/watchdog"), of("/dev/watchdog1"));
        assert_ne!(of(""), 0);
    }
}
