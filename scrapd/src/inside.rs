//! Terminals inside grains: a program at a terminal, or the console of the system itself.
//!
//! **Invariant:** a program never meets a shell of the machine; when the session is dropped, it ends.

use std::collections::BTreeMap;

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

/// Begins a session in a grain that runs here.
///
/// # Errors
/// Why there is none.
pub async fn attach(
    _daemon: &Daemon,
    (_grain, name): (GrainId, &str),
    attach: Attach,
) -> Result<Session, InsideError> {
    let why = match attach {
        Attach::Exec { window: Some(_), .. } => "gives programs no terminal",
        Attach::Exec { window: None, .. } => "has no users of its own",
        Attach::Console { .. } => "has no console",
    };
    Err(InsideError::Unsupported { name: name.to_owned(), why: why.to_owned() })
}
