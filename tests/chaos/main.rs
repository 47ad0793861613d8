//! Chaos over a real cluster in a lab on this machine: load, faults from a seed, and a judgement. Needs root.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    // Labs are made of Linux' namespaces.
    ExitCode::FAILURE
}
