//! Programs that run beside a grain's own, on pipes or on a terminal. The caller gives the command line and looks after what
//! it means.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::Keepers;
use crate::keeper::TERMINAL;
use crate::run;
use crate::runtime::{ExecChild, Window};
use crate::terminal::Terminal;

/// A program is there or is not within this.
const BEGIN: Duration = Duration::from_secs(20);

/// Starts a command line on pipes, or on a terminal that it then owns. `set_up` adds environment and folder.
///
/// # Errors
/// The command is empty, or cannot be started.
pub(crate) async fn spawn(
    keepers: &Keepers,
    command: &[String],
    tty: Option<Window>,
    set_up: impl FnOnce(&mut Command),
) -> std::io::Result<ExecChild> {
    let (program, arguments) = run::split(command)?;
    let Some(window) = tty else {
        let mut command = run::command(program, arguments);
        set_up(&mut command);
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        return Ok(ExecChild { child: command.spawn()?, terminal: None });
    };
    let (terminal, end) = Terminal::open(window)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut through = vec![TERMINAL.to_owned()];
    through.extend_from_slice(command);
    let mut command = run::command(&OsString::from(&keepers.keeper), &through);
    set_up(&mut command);
    command.stdout(end.try_clone()?).stdin(end).stderr(OwnedFd::from(theirs));
    let child = command.spawn()?;
    // Holds the other ends.
    drop(command);
    let mut errno = [0; 4];
    let mut ours = UnixStream::from_std(ours)?;
    match timeout(BEGIN, ours.read_exact(&mut errno)).await {
        Ok(Ok(_)) => Err(std::io::Error::from_raw_os_error(i32::from_be_bytes(errno))),
        // Closed without a word: it has become the program.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Ok(ExecChild { child, terminal: Some(terminal) })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}
