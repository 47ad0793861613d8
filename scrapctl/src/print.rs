//! The only writer of stdout and stderr. Says how text may look there (colour, letters), never what it says.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

use crate::failure::Failure;
use crate::render::text::Theme;
use crate::settings::Settings;

/// Where text goes.
#[derive(Debug, Clone)]
pub(crate) struct Print {
    out: Theme,
    err: Theme,
    quiet: bool,
    /// Moving lines at the bottom of the terminal: what is said meanwhile goes above them.
    live: Arc<Mutex<Option<MultiProgress>>>,
}

impl Print {
    /// As the settings say.
    pub(crate) fn new(settings: &Settings) -> Self {
        let utf8 = settings.environment.utf8;
        Self {
            out: Theme { color: settings.color_out, utf8 },
            err: Theme { color: settings.color_err, utf8 },
            quiet: settings.quiet,
            live: Arc::default(),
        }
    }

    /// For the time before there are settings.
    pub(crate) fn plain() -> Self {
        let theme = Theme { color: false, utf8: false };
        Self { out: theme, err: theme, quiet: false, live: Arc::default() }
    }

    /// How text on stdout may look.
    pub(crate) fn out_theme(&self) -> Theme {
        self.out
    }

    /// How text on stderr may look.
    pub(crate) fn err_theme(&self) -> Theme {
        self.err
    }

    /// Writes text to stdout and ends its last line.
    pub(crate) fn out(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.write_all(end.as_bytes()))
            .and_then(|()| stdout.flush())
            .map_err(Failure::Stdout)
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn out_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::Stdout)
    }

    /// Writes bytes to stderr as they are.
    pub(crate) fn err_bytes(&self, bytes: &[u8]) {
        // There is nobody to tell about a stderr that is gone.
        drop(io::stderr().lock().write_all(bytes));
    }

    /// Says something beside the answer, unless that is not wanted.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// From now on there are moving lines; `None`: no longer.
    pub(crate) fn set_live(&self, live: Option<MultiProgress>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Says something on stderr in any case.
    pub(crate) fn err(&self, text: &str) {
        if let Some(live) = &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            // As below: there is nobody to tell.
            drop(live.println(text.trim_end()));
            return;
        }
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let mut stderr = io::stderr().lock();
        drop(write!(stderr, "{text}{end}"));
    }

    /// Asks something on stderr without ending the line.
    pub(crate) fn ask(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        drop(write!(stderr, "{text}").and_then(|()| stderr.flush()));
    }
}
