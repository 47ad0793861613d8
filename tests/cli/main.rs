//! What an operator reads: one session of `scrapctl` with a real cluster, and everything that it refuses. Exit status,
//! stdout and stderr of each command stand in one file; what differs from run to run is replaced by its kind in brackets.

mod redact;
mod refusals;
mod session;
mod terminal;
