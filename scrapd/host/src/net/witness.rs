//! Hears from the kernel that somebody has changed its network, so that nothing needs to be asked when nobody has.
//! Only counts that something happened, never what.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// Links, filters of links, addresses and routes of IPv4, rules of IPv4, addresses and routes of IPv6, rules of IPv6:
/// the numbers of the kernel's groups, which begin with 1.
const ROUTE_GROUPS: [u32; 8] = [1, 4, 5, 7, 8, 9, 11, 19];
/// Tables of nftables.
const FILTER_GROUPS: [u32; 1] = [7];

/// An ear at the kernel. What happened before it was made is not heard.
#[derive(Debug)]
pub(super) struct Witness {
    sockets: [OwnedFd; 2],
}

impl Witness {
    /// Begins to listen, in the network namespace of this thread.
    pub(super) fn new() -> io::Result<Self> {
        let listen = |protocol, groups: &[u32]| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket =
                rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
            let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            // The protocol of routes is the one without a name.
            sockets: [
                listen(None, &ROUTE_GROUPS)?,
                listen(Some(netlink::NETFILTER), &FILTER_GROUPS)?,
            ],
        })
    }

    /// Whether something has happened since the last call. What cannot be heard has happened.
    pub(super) fn something_happened(&self) -> bool {
        // Both are emptied.
        self.sockets.iter().fold(false, |happened, socket| happened | drain(socket))
    }
}

fn drain(socket: &OwnedFd) -> bool {
    let mut happened = false;
    let mut buffer = [0_u8; 64];
    // Its own limit only: the kernel drops what does not fit, and says so once by an error.
    for _ in 0..100_000 {
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::INTR) => happened = true,
            Err(Errno::AGAIN) => return happened,
            Err(_) => happened = true,
        }
    }
    true
}
