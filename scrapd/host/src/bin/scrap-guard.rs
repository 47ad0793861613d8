//! The guard of one node; everything is in [`scrap_host::guard`]. The daemon starts it, nobody else does.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: scrap_host::guard::Counted = scrap_host::guard::Counted;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    scrap_host::guard::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::from(2)
}
