//! The lock on a grain's folder that its keeper holds for life: two keepers of one grain never live at once, and whoever
//! finds it free knows that none lives. The system lets go of it when the keeper ends, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use scrap_schema::unit::Span;

use crate::clock;

/// A keeper that has noted its end is gone within this; somebody who only looks is gone at once.
const PATIENCE: Span = Span::from_secs(2);
const NAME: &str = "lock";

/// The lock, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it for this process.
    ///
    /// # Errors
    /// `WouldBlock`: another keeper lives. Else what the system says.
    pub(super) fn take(folder: &Path) -> io::Result<Self> {
        let until = clock::boot_time() + PATIENCE;
        loop {
            match Self::try_take(folder) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if clock::boot_time() >= until {
                        return Err(error);
                    }
                    sleep(Duration::from_millis(10));
                }
                taken => return taken,
            }
        }
    }

    fn try_take(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // A folder that was removed and made anew meanwhile has another lock.
        let (mine, there) = (file.metadata()?, std::fs::metadata(&path)?);
        if (mine.dev(), mine.ino()) != (there.dev(), there.ino()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Self { _file: file })
    }
}

/// Whether a keeper holds it.
pub(crate) fn is_held(folder: &Path) -> io::Result<bool> {
    let file = match File::open(folder.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_whoever_looks_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_held(folder.path()).unwrap());
        let lock = Lock::try_take(folder.path()).unwrap();
        assert!(is_held(folder.path()).unwrap());
        let second = Lock::try_take(folder.path()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(!is_held(folder.path()).unwrap());
        Lock::try_take(folder.path()).unwrap();
    }
}
