//! The contract of `Runtime`, run against every backend, and what only real processes show.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
#[cfg(target_os = "linux")]
mod container;
mod contract;
#[cfg(target_os = "linux")]
mod debian;
#[cfg(target_os = "linux")]
mod guard;
#[cfg(target_os = "linux")]
mod lxc;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod walls;

mod mem {
    crate::contract::suite!(crate::bench::MemBench);
}

#[cfg(target_os = "linux")]
mod processes {
    crate::contract::suite!(crate::bench::ProcessBench);
}

#[cfg(target_os = "linux")]
mod containers {
    crate::contract::suite!(crate::container::LxcBench);
}
