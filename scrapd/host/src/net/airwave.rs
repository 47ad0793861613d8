//! Speaks on the LAN in the name of grains, and listens whether somebody else does.
//!
//! ARP needs sockets of the link layer, the neighbour discovery of IPv6 raw ones of ICMP; both need root.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily as NixFamily, SockFlag, SockProtocol, SockType, bind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::Attachment;
use super::error::NetError;
use super::frames::{Arp, is_advertisement_of, neighbour_advertisement, neighbour_solicitation};
use super::interfaces::Interfaces;
use super::rules::solicited;

/// Questions of whether an address is in use, and the time that each waits for an answer.
const QUESTIONS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(400);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The LAN, seen from this node.
#[derive(Debug)]
pub(super) struct Airwave {
    uplink: String,
    mac: [u8; 6],
    index: u32,
    address: nix::sys::socket::LinkAddr,
    v4: Option<Ipv4Addr>,
    link_local: Option<Ipv6Addr>,
}

impl Airwave {
    /// Of an uplink that is there and has an Ethernet.
    pub(super) fn new(uplink: &str, interfaces: &Interfaces) -> Result<Self, NetError> {
        let missing = || NetError::NoUplink { uplink: uplink.to_owned() };
        let link = interfaces.all.get(uplink).ok_or_else(missing)?;
        let address = link.address.ok_or_else(missing)?;
        let mac = link.mac.ok_or_else(missing)?;
        Ok(Self {
            uplink: uplink.to_owned(),
            mac,
            index: u32::try_from(link.index).unwrap_or(0),
            address,
            v4: link.addresses.keys().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }),
            link_local: interfaces.link_local(uplink),
        })
    }

    fn failed(&self, work: &'static str) -> impl FnOnce(io::Error) -> NetError + use<> {
        let uplink = self.uplink.clone();
        move |source| NetError::Wire { work, uplink, source }
    }

    /// Tells everybody on the LAN that the grain's addresses are here.
    pub(super) fn announce(&self, grain: &Attachment) -> Result<(), NetError> {
        if let Some(address) = grain.v4 {
            self.announce4(address).map_err(self.failed("announce an address by ARP"))?;
        }
        if let Some(address) = grain.v6 {
            let failed = self.failed("announce an address by neighbour discovery");
            self.announce6(address).map_err(failed)?;
        }
        Ok(())
    }

    /// Both as a question and as an answer: some listen to one of them only.
    fn announce4(&self, address: Ipv4Addr) -> io::Result<()> {
        let socket = self.link_socket()?;
        for reply in [false, true] {
            let target = if reply { self.mac } else { [0; 6] };
            let arp = Arp { reply, sender: (self.mac, address), target: (target, address) };
            rustix::net::send(&socket, &arp.broadcast(), SendFlags::empty())?;
        }
        Ok(())
    }

    fn announce6(&self, address: Ipv6Addr) -> io::Result<()> {
        let socket = self.icmp_socket()?;
        let message = neighbour_advertisement(address, self.mac);
        self.send6(&socket, &message, ALL_NODES)
    }

    /// Whether somebody on the LAN has the address already. Blocks for up to [`QUESTIONS`] times [`PATIENCE`].
    pub(super) fn in_use(&self, address: IpAddr) -> Result<bool, NetError> {
        let failed = self.failed("ask whether an address is in use");
        match address {
            IpAddr::V4(address) => self.in_use4(address).map_err(failed),
            IpAddr::V6(address) => self.in_use6(address).map_err(failed),
        }
    }

    fn in_use4(&self, address: Ipv4Addr) -> io::Result<bool> {
        let socket = self.link_socket()?;
        // Without a sender, so that nobody learns a wrong one (RFC 5227). A node answers that for itself only; for its
        // grains it answers who asks with an address of his own.
        let senders = [Some(Ipv4Addr::UNSPECIFIED), self.v4].into_iter().flatten();
        let questions: Vec<Vec<u8>> = senders
            .map(|sender| Arp {
                reply: false,
                sender: (self.mac, sender),
                target: ([0; 6], address),
            })
            .map(Arp::broadcast)
            .collect();
        let claims =
            |frame: &[u8]| Arp::read(frame).is_some_and(|arp| arp.claims(address, self.mac));
        for _ in 0..QUESTIONS {
            for question in &questions {
                rustix::net::send(&socket, question, SendFlags::empty())?;
            }
            if hears(&socket, claims)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_use6(&self, address: Ipv6Addr) -> io::Result<bool> {
        let socket = self.icmp_socket()?;
        let question = neighbour_solicitation(address, self.mac);
        for _ in 0..QUESTIONS {
            self.send6(&socket, &question, solicited(address))?;
            if hears(&socket, |message| is_advertisement_of(message, address))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// ARP of the uplink alone.
    fn link_socket(&self) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let all = SockProtocol::EthAll;
        let socket = nix::sys::socket::socket(NixFamily::Packet, SockType::Raw, flags, all)?;
        bind(socket.as_raw_fd(), &self.address)?;
        Ok(socket)
    }

    fn icmp_socket(&self) -> io::Result<OwnedFd> {
        let link_local = self.link_local.ok_or_else(|| {
            io::Error::other("it has no link-local address yet, or IPv6 is off there")
        })?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let icmp = Some(rustix::net::ipproto::ICMPV6);
        let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::RAW, flags, icmp)?;
        rustix::net::bind(&socket, &SocketAddrV6::new(link_local, 0, 0, self.index))?;
        // Neighbours believe only what cannot have come through a router.
        rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255)?;
        rustix::net::sockopt::set_ipv6_unicast_hops(&socket, Some(255))?;
        Ok(socket)
    }

    fn send6(&self, socket: &OwnedFd, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        rustix::net::sendto(socket, message, SendFlags::empty(), &to)?;
        Ok(())
    }
}

/// Whether something is heard before the patience ends.
fn hears(socket: &OwnedFd, is_it: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0_u8; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut sockets = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut sockets, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => (),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) if is_it(buffer.get(..length).unwrap_or_default()) => return Ok(true),
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => (),
            Err(errno) => return Err(errno.into()),
        }
    }
}
