//! Problems of a configuration, as an operator reads them. Never a value, always the line and what to write instead.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1; `None`: it is about something that is not there.
    pub line: Option<usize>,
    /// The key, with its section: `listen.api`; empty: the whole file.
    pub key: String,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A file that is refused, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct BadConfig {
    /// Which file.
    pub path: PathBuf,
    /// The problems, in the order of the file.
    pub faults: Vec<Fault>,
}

impl BadConfig {
    /// A file with one problem.
    pub(super) fn one(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), faults: vec![fault] }
    }
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match self.faults.len() {
            1 => "1 problem".to_owned(),
            several => format!("{several} problems"),
        };
        write!(f, "{count} in the configuration `{}`", self.path.display())?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// The problem of a file that cannot be read at all.
pub(super) fn unreadable(error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "say where it is with `--config FILE`; an example with every key \
                                    is `docs/examples/scrapd.toml`"
        }
        _ => "the user that runs `scrapd` must be able to read it",
    };
    let what = format!("the file cannot be read: {error}");
    Fault { line: None, key: String::new(), what, hint: Some(hint.to_owned()) }
}
