//! The network of grains on real interfaces: network namespaces play the LAN, the nodes, and the grains. Needs root, so it
//! is run only where `SCRAP_TEST_NET=1` says that it may.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod frames;
mod isolation;
mod lab;
mod life;
mod lxc;
mod moves;
mod openings;
mod probe;

/// Whether tests that change interfaces may run. Says so if not.
#[expect(clippy::print_stdout, reason = "who runs the tests reads it")]
fn may_run() -> bool {
    let may = std::env::var_os("SCRAP_TEST_NET").is_some_and(|value| value == "1");
    if !may {
        println!("skipped: needs root and SCRAP_TEST_NET=1");
    }
    may
}
