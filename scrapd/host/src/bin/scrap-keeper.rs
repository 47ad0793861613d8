//! The keeper of one running grain; everything is in [`scrap_host::keeper`]. The daemon starts it, nobody else does.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    scrap_host::keeper::main()
}
