//! What an unpacked system is made for: read from a program in it, never run.

use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// Programs that every system has one of.
const PROGRAMS: [&str; 6] =
    ["bin/busybox", "usr/bin/busybox", "usr/bin/dash", "bin/dash", "usr/bin/bash", "bin/bash"];

/// The processor architecture of the system in `tree`, as `uname -m` says it; `None` if no known program is in it.
/// Links are followed inside the tree only.
#[must_use]
pub fn architecture(tree: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = open(tree, flags, Mode::empty()).ok()?;
    PROGRAMS.iter().find_map(|program| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&tree, *program, flags, Mode::empty(), inside).ok()?;
        let mut head = [0; 20];
        std::fs::File::from(file).read_exact(&mut head).ok()?;
        machine(&head).map(str::to_owned)
    })
}

/// The machine of an ELF header.
fn machine(head: &[u8; 20]) -> Option<&'static str> {
    let [0x7f, b'E', b'L', b'F', class, order, ..] = *head else { return None };
    let [low, high] = [head[18], head[19]];
    let number = match order {
        1 => u16::from_le_bytes([low, high]),
        2 => u16::from_be_bytes([low, high]),
        _ => return None,
    };
    match (number, class) {
        (3, 1) => Some("i686"),
        (62, 2) => Some("x86_64"),
        (40, 1) => Some("armv7l"),
        (183, 2) => Some("aarch64"),
        (243, 2) => Some("riscv64"),
        _ => None,
    }
}
