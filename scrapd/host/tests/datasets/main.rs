//! The contract of `Datasets`, run against every backend, and what only one backend promises.
//! A test here never looks into a backend's files; `dir.rs` does, to break them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod contract;
mod dir;
mod random;
mod zfs;

mod mem {
    crate::contract::suite!(crate::bench::MemBench);
}

mod pool {
    crate::contract::suite!(crate::zfs::ZfsBench);
}

mod pool_by_plain_tools {
    crate::contract::suite!(crate::zfs::PlainZfsBench);
}

mod directories {
    crate::contract::suite!(crate::bench::DirBench);
}
