//! The daemon's log and its last words. Sets up; never logs anything itself, never writes to stdout.

use std::io::{IsTerminal as _, Write as _};
use std::panic;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Sends the log of this process to stderr in the form and with the filter of the configuration.
///
/// # Errors
/// If the filter makes no sense.
pub fn start(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(error, "somebody else takes the log");
    }
    Ok(())
}

/// What a panic leaves behind: version, place, and what to do.
fn last_words(version: &str, place: &str, thread: &str, message: &str) -> String {
    format!(
        "scrapd {version} panicked at {place} in thread `{thread}`: {message}\n\
         This is a bug in scrapd. Please report these two lines and the log before them.\n\
         The process ends now. Data on disk are safe; grains run on as long as their lease allows.\n"
    )
}

/// From now on a panic in any thread ends the process at once: a daemon with a dead loop inside would look alive.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|info| {
        let place =
            info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let message = info.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let text = last_words(env!("CARGO_PKG_VERSION"), &place, name, message);
        // Nobody is left to tell if stderr is gone too.
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::abort();
    }));
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let log = Log { format: LogFormat::Text, filter: "scrapd=loud".to_owned() };
        assert!(start(&log).is_err());
    }

    /// The process that the next test looks at; alone it does nothing but pass.
    #[test]
    fn dies_when_told_to() {
        if std::env::var_os("SCRAP_TEST_PANIC").is_some() {
            abort_on_panic();
            let thread = std::thread::Builder::new().name("loop".to_owned());
            let _ = thread.spawn(|| panic!("boom")).map(std::thread::JoinHandle::join);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of the end of a process needs one")]
    fn a_panic_in_any_thread_ends_the_process_with_its_place() {
        let exe = std::env::current_exe().unwrap();
        let output = std::process::Command::new(exe)
            .args(["--exact", "--nocapture", "logging::tests::dies_when_told_to"])
            .env("SCRAP_TEST_PANIC", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{stderr}");
        assert!(stderr.contains(concat!("scrapd ", env!("CARGO_PKG_VERSION"), " panicked at ")));
        assert!(stderr.contains("logging.rs:"), "{stderr}");
        assert!(stderr.contains("in thread `loop`: boom"), "{stderr}");
        assert!(stderr.contains("Please report"), "{stderr}");
    }
}
