//! `completion` and `man`: what a shell and a manual need to know about the command line. Never asks the cluster.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::{Cli, Shell};
use crate::failure::Failure;
use crate::print::Print;

/// The variable by which a shell asks for candidates.
const VARIABLE: &str = "COMPLETE";

/// Prints the script that a shell reads.
pub(crate) fn completion(print: &Print, shell: Shell) -> Result<(), Failure> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let name = "scrapctl";
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::to_str).unwrap_or(name);
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, name, name, program, &mut script)
        .map_err(|error| Failure::local(format!("cannot write the script: {error}")))?;
    print.out_bytes(&script)
}

/// Writes manual pages.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "cannot write", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}
