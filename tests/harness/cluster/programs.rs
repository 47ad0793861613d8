//! Where the programs under test are: in the target folder beside the test's own executable.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// A program of this workspace, of the same profile as the running test.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find out where this test is")?;
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let near = me.ancestors().skip(1).take(2);
    let found = near.map(|folder| folder.join(name)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "the program `{name}` is not built beside {}\n  hint: `make test` builds every program \
             first; by hand: `cargo build --workspace --bins`",
            me.display()
        ),
    }
}
