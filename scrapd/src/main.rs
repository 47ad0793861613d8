//! The program `scrapd`: everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    scrapd::front::main(scrapd::args::Cli::parse())
}
