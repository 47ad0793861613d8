//! The folder that a node keeps its state in: who may use it, and what is in it. Never removes anything that this
//! program has not made.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;

/// Name of the file that is locked while a daemon or a set-up uses the folder.
const LOCK: &str = "lock";

/// The right to use a data folder; ends when it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock of the kernel.
    lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("the data folder `{path}` is in use by {}", holder(*pid))]
    InUse {
        /// Which folder.
        path: PathBuf,
        /// Who, if it has said so.
        pid: Option<u32>,
    },
    /// Something in it is not there or not allowed.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl DataDir {
    /// Makes the folder if it is not there, and takes it for this process alone.
    ///
    /// # Errors
    /// If another process has it, or the system refuses.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { what, path, source }
        };
        std::fs::create_dir_all(path).map_err(failed("make the folder", path))?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(failed("open", &file))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Who holds it is a courtesy: the refusal stands without it.
                let pid =
                    lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(DataDirError::InUse { path: path.to_owned(), pid });
            }
            Err(errno) => return Err(failed("lock", &file)(errno.into())),
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write(&mut lock).map_err(failed("write", &file))?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of everything in it but the lock, in order.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn entries(&self) -> Result<Vec<String>, DataDirError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&self.path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.retain(|name| name != LOCK);
            names.sort();
            Ok(names)
        };
        list().map_err(|source| DataDirError::Io {
            what: "list the folder",
            path: self.path.clone(),
            source,
        })
    }

    /// Writes a small file so that it is there whole or not at all, even after a power cut.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, name: &str, text: &str) -> Result<(), DataDirError> {
        let (new, path) = (self.path.join(format!("{name}.new")), self.path.join(name));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| DataDirError::Io { what: "write", path: path.clone(), source })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // The kernel frees the lock with the file; the pid must not outlive it.
        if let Err(error) = self.lock.set_len(0) {
            tracing::debug!(%error, "the pid in the lock file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_never_share_a_folder_and_the_second_hears_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::take(dir.path()).unwrap();
        let refused = DataDir::take(dir.path()).unwrap_err().to_string();
        assert!(
            refused.ends_with(&format!("in use by process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        assert!(DataDir::take(dir.path()).is_ok());
    }

    #[test]
    fn the_lock_is_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::take(&dir.path().join("new/folder")).unwrap();
        assert!(data_dir.entries().unwrap().is_empty());
        data_dir.write("b", "text").unwrap();
        data_dir.write("a", "old").unwrap();
        data_dir.write("a", "new").unwrap();
        assert_eq!(data_dir.entries().unwrap(), ["a", "b"]);
        assert_eq!(std::fs::read_to_string(data_dir.path().join("a")).unwrap(), "new");
    }
}
