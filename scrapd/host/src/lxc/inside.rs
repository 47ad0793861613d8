//! Looking into a running system from outside, without ever leaving its root: names are resolved as the system itself would.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use crate::processes::Process;

/// Where programs are looked for that are named without a folder.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether a process runs this program of the machine.
pub(super) fn is_run_by(process: Process, program: &Path) -> bool {
    let runs = fs::metadata(format!("/proc/{}/exe", process.pid));
    let (Ok(runs), Ok(program)) = (runs, fs::metadata(program)) else { return false };
    (runs.dev(), runs.ino()) == (program.dev(), program.ino())
}

/// Looks for a program as the system would start it.
///
/// # Errors
/// `NotFound`, `PermissionDenied` if it may not be executed, or what the system says.
pub(super) fn find_program(init: Process, program: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(format!("/proc/{}/root", init.pid), flags, Mode::empty())?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.to_owned()]
    } else {
        FOLDERS.map(|folder| format!("{folder}/{program}")).into()
    };
    for candidate in candidates {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // Links lead to where they lead inside.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&root, &candidate, flags, Mode::empty(), resolve).and_then(fstat);
        match found {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                last = io::ErrorKind::PermissionDenied.into();
            }
            Ok(stat) if stat.st_mode & 0o111 == 0 => last = io::ErrorKind::PermissionDenied.into(),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::NOENT) => (),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
