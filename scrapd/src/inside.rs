//! Terminals inside grains: a program at a terminal, or the console of the system itself.
//!
//! **Invariant:** a program never meets a shell of the machine; when the session is dropped, it ends.

use std::collections::BTreeMap;

use scrap_host::runtime::{self, Exec, ExecChild, Runtime, RuntimeCause, RuntimeError};
use scrap_schema::api::Window;
use scrap_schema::id::GrainId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;

use crate::daemon::Daemon;

/// What somebody wants to sit at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// A program of the grain.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// Environment beside the grain's own.
        env: BTreeMap<String, String>,
        /// The user inside the grain; root if nobody says.
        user: Option<String>,
        /// Size of its terminal; `None`: pipes.
        window: Option<Window>,
    },
    /// The console of the system.
    Console {
        /// Size of the terminal.
        window: Window,
    },
}

/// A terminal of a program inside a grain, from the outer side.
pub trait Terminal: AsyncRead + AsyncWrite + Send + Unpin {
    /// Tells the program that the window has another size.
    ///
    /// # Errors
    /// What the system says.
    fn resize(&self, window: Window) -> std::io::Result<()>;
}

/// A program inside a grain and what somebody sits at.
pub struct Session {
    /// The program, without pipes of its own if there is a terminal.
    pub child: Child,
    /// Its terminal; `None`: pipes were asked for.
    pub terminal: Option<Box<dyn Terminal>>,
}

/// Why nobody can sit there.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// This node cannot do it.
    #[error("grain `{name}` {why}")]
    Unsupported {
        /// The grain.
        name: String,
        /// What is missing, as the end of a sentence.
        why: String,
    },
    /// The grain does not run.
    #[error("grain `{name}` is not running here")]
    NotRunning {
        /// The grain.
        name: String,
    },
    /// The program is not there, or cannot be executed.
    #[error("the program `{program}` of grain `{name}` cannot be run")]
    Program {
        /// The grain.
        name: String,
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It has no such user.
    #[error("grain `{name}` has no user {user:?}: {why}")]
    NoUser {
        /// The grain.
        name: String,
        /// The user.
        user: String,
        /// What was found.
        why: &'static str,
    },
    /// Anything else.
    #[error("cannot reach into grain `{name}`")]
    Failed {
        /// The grain.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A terminal of the hands.
impl Terminal for runtime::Terminal {
    fn resize(&self, window: Window) -> std::io::Result<()> {
        Self::resize(self, to_window(window))
    }
}

fn to_window(window: Window) -> runtime::Window {
    runtime::Window { rows: window.rows, columns: window.columns }
}

/// Begins a session in a grain that runs here.
///
/// # Errors
/// Why there is none.
pub async fn attach(
    daemon: &Daemon,
    (grain, name): (GrainId, &str),
    attach: Attach,
) -> Result<Session, InsideError> {
    let runtime = &daemon.host.runtime;
    let begun = match attach {
        Attach::Exec { command, env, user, window } => {
            let tty = window.map(to_window);
            runtime.exec(Exec { grain, command, env, tty, user }).await
        }
        Attach::Console { window } => runtime.console(grain, to_window(window)).await,
    };
    let ExecChild { child, terminal } = begun.map_err(|error| failed(error, name))?;
    let terminal = terminal.map(|terminal| Box::new(terminal) as Box<dyn Terminal>);
    Ok(Session { child, terminal })
}

fn failed(error: RuntimeError, name: &str) -> InsideError {
    let name = name.to_owned();
    match error.cause {
        RuntimeCause::NotRunning => InsideError::NotRunning { name },
        RuntimeCause::Program { program, source } => InsideError::Program { name, program, source },
        RuntimeCause::NoUser { user, why } => InsideError::NoUser { name, user, why },
        RuntimeCause::NotPossible { what, hint } => {
            InsideError::Unsupported { name, why: format!("cannot do that: {what}; {hint}") }
        }
        RuntimeCause::NotReady { .. }
        | RuntimeCause::Stale { .. }
        | RuntimeCause::StillAlive { .. }
        | RuntimeCause::Io { .. } => InsideError::Failed { name, source: error.into() },
    }
}
