//! The one place of the daemon that makes a command out of a program and its arguments. Never a shell, never a string
//! that is split; whoever calls it adds environment, pipes and the kill at the end.

use std::ffi::OsStr;
use std::process::Stdio;

/// A command of the daemon: arguments as a list, nothing inherited but stderr, killed when its handle is dropped.
#[expect(clippy::disallowed_methods, reason = "the one place where the daemon makes a command")]
pub(crate) fn command(program: &OsStr, arguments: &[String]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Program and arguments of a command line that may be empty.
pub(crate) fn split(command: &[String]) -> std::io::Result<(&OsStr, &[String])> {
    match command {
        [program, arguments @ ..] => Ok((OsStr::new(program), arguments)),
        [] => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the command is empty")),
    }
}
