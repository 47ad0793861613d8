//! The keeper: one small process per running grain that starts its program, restarts it, writes its log, and ends it when
//! told to or when its lease has run out, whether or not the daemon is still there. One thread, no tokio, no disk writes
//! while nothing changes. It never moves its deadline by itself, and it ends last.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use crate::clock;
use crate::processes::{self, Process};

mod halt;
pub(crate) mod lock;
pub(crate) mod log;
mod place;
pub(crate) mod protocol;
mod spawn;
mod system;
mod talk;
mod watch;

use lock::Lock;
use log::LogWriter;
use place::Place;
use protocol::{Begun, Order, socket_path};
pub(crate) use spawn::TERMINAL;
use watch::Keeper;

/// What the binary `scrap-keeper` does. Its standard input must be a socket on which its order comes.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == spawn::BECOME => {
            let _ = spawn::become_program(arguments);
            ExitCode::from(127)
        }
        Some(word) if word == spawn::TERMINAL => {
            let _ = spawn::become_in_terminal(arguments);
            ExitCode::from(127)
        }
        Some(_) => ExitCode::from(2),
        None => match keep() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

fn keep() -> io::Result<()> {
    let daemon = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let mut daemon = UnixStream::from(daemon);
    let mut line = String::new();
    BufReader::new(&daemon).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let (answer, keeper) = match begin(order) {
        Ok(keeper) => (Begun::Started, Some(keeper)),
        Err(answer) => (answer, None),
    };
    // A daemon that died meanwhile finds us by the record.
    let _ = daemon.write_all(&protocol::line(&answer)?);
    drop(daemon);
    keeper.map_or(Ok(()), Keeper::run)
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Begun {
    let what = what.to_owned();
    move |error| Begun::Failed { what, errno: error.raw_os_error().unwrap_or(0) }
}

fn begin(order: Order) -> Result<Keeper, Begun> {
    // Before anything else: an order that comes late, from a daemon that is no more, must not disturb another keeper.
    let lock = Lock::take(&order.folder).map_err(|error| {
        let another = error.kind() == io::ErrorKind::WouldBlock;
        failed(if another { "another keeper of it lives" } else { "cannot lock its folder" })(error)
    })?;
    if order.deadline.is_some_and(|deadline| deadline <= clock::boot_time()) {
        return Err(Begun::TooLate);
    }
    if !order.data.is_dir() {
        let what = format!("its folder {} is not there", order.data.display());
        return Err(failed(&what)(io::ErrorKind::NotFound.into()));
    }
    rustix::process::setsid().map_err(|error| failed("cannot begin a session")(error.into()))?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed("cannot become the parent of orphans")(error.into()))?;
    let socket = socket_path(&order.folder);
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(failed("cannot listen"))?;
    listener.set_nonblocking(true).map_err(failed("cannot listen"))?;
    let log = LogWriter::open(&order.folder).map_err(failed("cannot open the log"))?;
    let boot = processes::boot_id().map_err(failed("cannot read the boot's identity"))?;
    let me = Process::me();
    // Before anything of the grain begins: from now on the guard knows of it.
    let place = Place::enter(&order, me).map_err(failed("cannot enter it on the guard's board"))?;
    if order.deadline.is_some() && place.is_over() {
        place.leave();
        return Err(Begun::TooLate);
    }
    Keeper::begin(order, me, boot, listener, log, (lock, place))
}
