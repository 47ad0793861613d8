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

/// Whether the first process of a system is the system's own by now: until then it runs the program that makes systems, and
/// one that has no program any more is on its way out.
pub(super) fn has_begun(init: Process, maker: &Path) -> bool {
    let runs = match fs::metadata(format!("/proc/{}/exe", init.pid)) {
        Ok(runs) => runs,
        // What only hides its program from us runs one.
        Err(error) => return error.kind() == io::ErrorKind::PermissionDenied,
    };
    fs::metadata(maker).map_or(true, |maker| (runs.dev(), runs.ino()) != (maker.dev(), maker.ino()))
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs something that ends")]
    fn a_process_that_ends_is_no_system_that_has_begun() {
        let mine = std::env::current_exe().unwrap();
        assert!(!has_begun(Process::me(), &mine));
        assert!(has_begun(Process::me(), Path::new("/bin/sh")));
        assert!(has_begun(Process::me(), Path::new("/nothing/makes/systems")));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process { pid: i32::try_from(child.id()).unwrap(), started: 0 };
        // Ended, and not waited for yet.
        let flags = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), flags).unwrap();
        assert!(!has_begun(process, &mine));
        child.wait().unwrap();
    }
}
