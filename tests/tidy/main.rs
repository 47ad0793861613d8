//! The house rules that a program can check. Each rule is a function from a text to what is wrong with it, tested on a
//! text that breaks it, and then run over the whole repository. Changes no file.
#![expect(clippy::unwrap_used, reason = "a test that cannot read what it looks at has failed")]

mod edges;
mod paper;
mod rooms;
mod shape;
mod source;

use std::path::{Path, PathBuf};

use source::Source;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a rule over every source and fails with everything that it found.
fn every_source(rule: impl Fn(&Source) -> Vec<String>) {
    let sources = Source::all(&root());
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    nothing(sources.iter().flat_map(rule).collect());
}

/// Fails if anything was found.
#[track_caller]
fn nothing(found: Vec<String>) {
    assert!(found.is_empty(), "{} things are untidy:\n  {}", found.len(), found.join("\n  "));
}
