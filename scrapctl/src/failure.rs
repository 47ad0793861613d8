//! How a command ends badly: what is said, and with which number `scrapctl` ends. Never prints.

use std::io;
use std::path::PathBuf;

use scrap_schema::api::OperationView;
use scrap_schema::id::OperationId;
use scrap_schema::problem::{Exit, FieldError, Problem};
use thiserror::Error;

/// Why a command did not do what it should.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The command line, an environment variable or the configuration is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Something that is named does not exist on this machine.
    #[error("{message}")]
    Missing {
        /// What.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A manifest is wrong; nothing was sent.
    #[error("{}", count_faults(faults))]
    Manifests {
        /// The faults with the files they are in.
        faults: Vec<(String, FieldError)>,
    },
    /// The cluster said no.
    #[error("{}", problem.detail)]
    Problem {
        /// Its words.
        problem: Box<Problem>,
        /// The node that answered.
        server: String,
        /// Whether an earlier attempt of the same request got lost on its way and may have been carried out.
        repeated: bool,
    },
    /// No node gave a usable answer in time.
    #[error("no node answers")]
    Unreachable {
        /// What each of them did.
        tried: Vec<Attempt>,
        /// Whether the request may have reached one of them.
        sent: bool,
    },
    /// An answer that is not from SCRAP.
    #[error("`{server}` gave an answer that scrapctl does not understand: {reason}")]
    Strange {
        /// Who answered.
        server: String,
        /// What is strange.
        reason: String,
    },
    /// The operation was accepted and did not succeed.
    #[error("{}", operation_end(operations))]
    Operations {
        /// Those that did not succeed.
        operations: Vec<OperationView>,
    },
    /// The time of `--timeout` is over.
    #[error("{what}")]
    Timeout {
        /// What is not so yet.
        what: String,
        /// What goes on.
        operations: Vec<OperationId>,
    },
    /// The person pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted {
        /// What goes on.
        operations: Vec<OperationId>,
    },
    /// A file on this machine.
    #[error("{what} `{}`: {source}", path.display())]
    File {
        /// What was tried: `cannot read`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something on this machine that is no file.
    #[error("{message}")]
    Local {
        /// What.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The reader of stdout has gone or stdout is full.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[source] io::Error),
    /// Everything was said already; only the number is left.
    #[error("exit status {0}")]
    Status(u8),
}

/// What became of one node that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Its address.
    pub(crate) server: String,
    /// What happened.
    pub(crate) outcome: String,
    /// Whether it took the request at all.
    pub(crate) connected: bool,
    /// What the cluster's own problem was, if it answered with one.
    pub(crate) problem: Option<Box<Problem>>,
}

fn count_faults(faults: &[(String, FieldError)]) -> String {
    match faults {
        [_] => "the manifest is refused; nothing was changed".to_owned(),
        _ => format!("the manifests are refused ({} faults); nothing was changed", faults.len()),
    }
}

fn operation_end(operations: &[OperationView]) -> String {
    match operations {
        [only] => format!("{} of {} {}", only.kind, only.target, only.state),
        _ => format!("{} operations did not succeed", operations.len()),
    }
}

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// Something on this machine.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::Local { message: message.into(), hint: None }
    }

    /// The number that the shell sees. One table: [`Exit`].
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Manifests { .. } => Exit::Usage.code(),
            Self::Missing { .. } => Exit::NotFound.code(),
            Self::Problem { problem, .. } => problem.code.exit_code().code(),
            Self::Unreachable { .. } => Exit::Unreachable.code(),
            Self::Operations { .. } => Exit::OperationFailed.code(),
            Self::Timeout { .. } => Exit::Timeout.code(),
            Self::Interrupted { .. } => Exit::Interrupted.code(),
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok.code(),
            Self::Strange { .. } | Self::File { .. } | Self::Local { .. } | Self::Stdout(_) => {
                Exit::Failed.code()
            }
            Self::Status(status) => *status,
        }
    }

    /// Whether there is nothing left to say.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Status(_) => true,
            Self::Stdout(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Usage { .. }
            | Self::Missing { .. }
            | Self::Manifests { .. }
            | Self::Problem { .. }
            | Self::Unreachable { .. }
            | Self::Strange { .. }
            | Self::Operations { .. }
            | Self::Timeout { .. }
            | Self::Interrupted { .. }
            | Self::File { .. }
            | Self::Local { .. } => false,
        }
    }
}
