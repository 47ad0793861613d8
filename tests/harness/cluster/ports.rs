//! Ports for one cluster: a block of numbers that no other test process takes. Never uses the range from which the system
//! takes the ports of outgoing connections.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::bail;

/// Below the range of outgoing connections of Linux and FreeBSD.
const FIRST: u16 = 10_000;
const BLOCK: u16 = 64;
const BLOCKS: u16 = 340;

/// A block of ports. Its first one is held open, which keeps other test processes away from the others.
pub(super) struct Ports {
    _guard: TcpListener,
    next: u16,
    end: u16,
}

impl Ports {
    /// Takes a block that nobody has.
    ///
    /// # Errors
    /// If all are taken.
    pub(super) fn take() -> anyhow::Result<Self> {
        let start = start();
        for step in 0..BLOCKS {
            let base = FIRST + (start + step) % BLOCKS * BLOCK;
            if let Ok(guard) = TcpListener::bind((Ipv4Addr::LOCALHOST, base)) {
                return Ok(Self { _guard: guard, next: base + 1, end: base + BLOCK });
            }
        }
        bail!("all {BLOCKS} blocks of test ports are taken")
    }

    /// A port of the block on which nobody listens.
    ///
    /// # Errors
    /// If the block is used up.
    pub(super) fn one(&mut self) -> anyhow::Result<u16> {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("the block of test ports that ends at {} is used up", self.end)
    }
}

/// Test processes begin their search at different blocks.
fn start() -> u16 {
    let pid = u64::from(std::process::id());
    let block = pid.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u16::try_from(block % u64::from(BLOCKS)).unwrap_or_default()
}
