//! Starting the grain's program from its keeper. The program is reached through a second run of the keeper's own binary,
//! which asks the system to kill it when the keeper dies, and then becomes the program. No shell, nothing inherited.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, getpid, getppid};

use super::protocol::Order;
use crate::processes::TAG;

/// The first argument of that second run.
pub(super) const BECOME: &str = "become";

/// The first argument of a run that becomes a program on a terminal.
pub(crate) const TERMINAL: &str = "terminal";

/// The keeper's own binary, also when the file was replaced by an upgrade meanwhile.
fn own_binary() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Starts the program. Its first process leads a group of its own.
#[expect(clippy::disallowed_methods, reason = "the one place where a keeper starts its program")]
pub(super) fn start(order: &Order, log: &PipeWriter, errors: &PipeWriter) -> io::Result<Pid> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(own_binary()?);
    command.arg(BECOME).arg(getpid().to_string()).args(&order.command);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.envs(&order.env).env(TAG, &order.tag).current_dir(&order.data).process_group(0);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(log.try_clone()?).stderr(errors.try_clone()?);
    let pid = Pid::from_child(&command.spawn()?);
    // Holds the other end of the pair.
    drop(command);
    let mut errno = [0; 4];
    match ours.read_exact(&mut errno) {
        Ok(()) => Err(io::Error::from_raw_os_error(i32::from_be_bytes(errno))),
        // Closed without a word: it has become the program.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(pid),
        Err(error) => Err(error),
    }
}

/// Starts a program that nobody waits for. It belongs to the grain by its tag, and ends with it at the latest.
#[expect(clippy::disallowed_methods, reason = "a keeper asks its system's init to halt")]
pub(super) fn aside(command: &[String], tag: &str) -> io::Result<()> {
    let (program, arguments) = crate::run::split(command)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env(TAG, tag).process_group(0);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(|_| ())
}

/// The second run: becomes the program, or says on its standard input why it cannot.
#[expect(clippy::disallowed_methods, reason = "becomes the grain's program")]
pub(super) fn become_program(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> io::Error {
    let keeper = arguments.next().and_then(|pid| pid.to_str()?.parse().ok());
    let program = arguments.next().unwrap_or_default();
    let prepare = || {
        let pair = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(UnixStream::from(pair))
    };
    let mut pair = match prepare() {
        Ok(pair) => pair,
        Err(error) => return error,
    };
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != keeper {
        // The keeper died before the request was in place.
        return io::ErrorKind::BrokenPipe.into();
    }
    let error = Command::new(program).args(arguments).exec();
    let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error());
    let _ = pair.write_all(&errno.to_be_bytes());
    error
}

/// Becomes a program whose terminal is standard input, or says on standard error, which is a socket, why it cannot.
#[expect(clippy::disallowed_methods, reason = "becomes a program beside the grain's own")]
pub(super) fn become_in_terminal(
    mut arguments: impl Iterator<Item = std::ffi::OsString>,
) -> io::Error {
    let program = arguments.next().unwrap_or_default();
    let prepare = || {
        let pair = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        rustix::stdio::dup2_stderr(rustix::stdio::stdin())?;
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        io::Result::Ok(UnixStream::from(pair))
    };
    let mut pair = match prepare() {
        Ok(pair) => pair,
        Err(error) => return error,
    };
    let error = Command::new(program).args(arguments).exec();
    let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error());
    let _ = pair.write_all(&errno.to_be_bytes());
    error
}
