//! A grain with bad intentions tries every way out that it can write on its wire, and ears everywhere else say what they heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};
use scrap_host::net::{GATEWAY4, GATEWAY6, interface};

use crate::frames::{Frame, Inside, arp};
use crate::lab::{ALIAS, GRAINS, INTERNET4, Lab, MACHINES, attachment, internet6, lan4, lan6};

/// The port of the node's API.
pub(crate) const API: u16 = 7272;
const EVERYBODY: [u8; 6] = [0xff; 6];

/// Who heard what: "<grain> <how> <to whom>", and the name of the ear.
pub(crate) type Heard = BTreeSet<(String, String)>;

/// Listens on the wire of the LAN, of every grain and of the Internet, and at what nodes deliver to their own sockets.
pub(crate) struct Ears {
    all: Vec<(String, OwnedFd)>,
}

impl Ears {
    pub(crate) fn new(lab: &Lab) -> Self {
        let mut all = Vec::new();
        let wires = ["lan", "internet"].into_iter().chain(GRAINS.map(|grain| grain.0));
        for name in wires {
            all.push((name.to_owned(), lab.enter(name, wire)));
        }
        for name in ["a", "b"] {
            lab.enter(name, || {
                for (family, protocols) in [(2, [1, 6, 17]), (10, [58, 6, 17])] {
                    let sockets = protocols.map(|protocol| local(family, protocol));
                    all.extend(sockets.map(|socket| (name.to_owned(), socket)));
                }
            });
        }
        for (_, socket) in &all {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, 1 << 25);
        }
        Self { all }
    }

    /// Everything that is heard until it has been quiet for a while. A grain's own words are no news to it.
    pub(crate) fn listen(&self, quiet: Duration) -> Heard {
        let mut heard = Heard::new();
        let mut last = Instant::now();
        let mut buffer = vec![0_u8; 1 << 16];
        while last.elapsed() < quiet {
            let mut sockets: Vec<PollFd<'_>> =
                self.all.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)).collect();
            let left = Timespec::try_from(quiet.saturating_sub(last.elapsed())).unwrap();
            if poll(&mut sockets, Some(&left)).unwrap() == 0 {
                break;
            }
            for (name, socket) in &self.all {
                while let Ok((length, _)) =
                    rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)
                {
                    for token in tokens(&buffer[..length]) {
                        if !token.starts_with(&format!("{name} ")) {
                            last = Instant::now();
                            heard.insert((token, name.clone()));
                        }
                    }
                }
            }
        }
        heard
    }
}

/// Every frame of a namespace.
fn wire() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap()
}

/// Packets of a protocol that a machine takes as its own.
fn local(family: u16, protocol: u32) -> OwnedFd {
    let family = rustix::net::AddressFamily::from_raw(family);
    let protocol = rustix::net::Protocol::from_raw(protocol.try_into().unwrap());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol)).unwrap()
}

fn tokens(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("<<").skip(1).filter_map(|part| part.split_once(">>"));
    // A checksum before it may look like its beginning.
    parts.map(|(token, _)| token.trim_start_matches('<').to_owned()).collect()
}

/// A grain's wire, to write on.
pub(crate) struct Mouth {
    name: &'static str,
    last: u8,
    mac: [u8; 6],
    /// The host end.
    router: ([u8; 6], Ipv6Addr),
    socket: OwnedFd,
}

impl Mouth {
    pub(crate) fn new(lab: &Lab, name: &'static str) -> Self {
        let (_, node, last) = GRAINS.into_iter().find(|grain| grain.0 == name).unwrap();
        let attachment = attachment(last, vec![], vec![]);
        let router = lab.link(node, &interface(&attachment).host);
        let socket = lab.enter(name, || {
            let links = getifaddrs().unwrap().filter(|link| link.interface_name == "eth0");
            let mut links = links.filter_map(|link| link.address?.as_link_addr().copied());
            let link = links.next().unwrap();
            assert!(link.len() > 0);
            let socket = wire();
            bind(socket.as_raw_fd(), &link).unwrap();
            socket
        });
        Self { name, last, mac: attachment.mac, router, socket }
    }

    pub(crate) fn say(&self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(60), 0);
        rustix::net::send(&self.socket, &frame, SendFlags::empty()).unwrap();
    }

    fn token(&self, how: &str, to: &str) -> String {
        format!("<<{} {how} {to}>>", self.name)
    }

    /// A frame as an honest grain writes it, but to whom it wants.
    pub(crate) fn honest(&self, how: &str, to: (&str, IpAddr), inside: Inside) -> Frame {
        let from = match to.1 {
            IpAddr::V4(_) => IpAddr::V4(lan4(self.last)),
            IpAddr::V6(_) => IpAddr::V6(lan6(self.last)),
        };
        Frame {
            hardware: (self.mac, self.router.0),
            vlan: None,
            from,
            to: to.1,
            ttl: 64,
            inside,
            source_route: None,
            token: self.token(how, to.0),
        }
    }

    /// Everything that it can try.
    pub(crate) fn say_everything(&self) {
        for (name, address) in targets(self) {
            for frame in self.tries(&name, address) {
                self.say(&frame.bytes());
            }
        }
        for frame in self.groups().into_iter().chain(self.lies6()) {
            self.say(&frame.bytes());
        }
        for frame in self.lies4() {
            self.say(&frame);
        }
    }

    fn tries(&self, name: &str, address: IpAddr) -> Vec<Frame> {
        let honest = |how: &str, inside| self.honest(how, (name, address), inside);
        let udp = |how: &str| honest(how, Inside::Udp(API));
        let other = if self.name == "a1" { 42 } else { 41 };
        let mut all = vec![
            udp("udp"),
            honest("tcp", Inside::Tcp(API)),
            honest("tcp-80", Inside::Tcp(80)),
            honest("echo", Inside::Echo),
            Frame { ttl: 1, ..udp("ttl-1") },
            Frame { ttl: 255, ..udp("ttl-255") },
            Frame { hardware: ([2, 0, 0, 0, 0, other], self.router.0), ..udp("as-other-mac") },
            Frame { hardware: (self.mac, EVERYBODY), ..udp("frame-to-everybody") },
            Frame { hardware: (self.mac, [2, 0, 0, 0, 0, other]), ..udp("frame-to-other") },
            Frame { vlan: Some((0x8100, 0)), ..udp("vlan-0") },
            Frame { vlan: Some((0x8100, 5)), ..udp("vlan-5") },
            Frame { vlan: Some((0x88a8, 5)), ..udp("service-vlan-5") },
        ];
        for (how, last) in
            [("as-other", other), ("as-client", 99), ("as-node", 11), ("as-router", 1)]
        {
            let from = if address.is_ipv4() { lan4(last).into() } else { lan6(last).into() };
            all.push(Frame { from, ..udp(how) });
        }
        if address.is_ipv4() {
            let from = |from: Ipv4Addr| IpAddr::V4(from);
            all.push(Frame { from: from(Ipv4Addr::UNSPECIFIED), ..udp("as-nobody") });
            all.push(Frame { from: from(Ipv4Addr::LOCALHOST), ..udp("as-localhost") });
            all.push(Frame { from: from(GATEWAY4), ..udp("as-gateway") });
            all.push(Frame { source_route: Some(lan4(99)), ..udp("source-route") });
        } else {
            let from = |from: Ipv6Addr| IpAddr::V6(from);
            all.push(Frame { from: from(Ipv6Addr::UNSPECIFIED), ..udp("as-nobody") });
            all.push(Frame { from: from(Ipv6Addr::LOCALHOST), ..udp("as-localhost") });
            all.push(Frame { from: from(GATEWAY6), ..udp("as-gateway") });
            all.push(Frame { from: from(lan4(99).to_ipv6_mapped()), ..udp("as-mapped") });
            let message =
                [&[136, 0, 0, 0, 0xe0, 0, 0, 0][..], &lan6(1).octets(), &[2, 1], &self.mac];
            let advertisement = Inside::Message(message.concat());
            all.push(Frame { ttl: 255, ..honest("advertisement", advertisement) });
            let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &GATEWAY6.octets(), &[1, 1], &self.mac];
            all.push(Frame {
                ttl: 255,
                ..honest("solicitation", Inside::Message(message.concat()))
            });
        }
        all
    }

    /// To groups and to everybody.
    fn groups(&self) -> Vec<Frame> {
        let mut all = Vec::new();
        for to in [
            "224.0.0.1",
            "224.0.0.251",
            "239.1.1.1",
            "255.255.255.255",
            "192.168.60.255",
            "0.0.0.0",
        ] {
            let address = (to, IpAddr::V4(to.parse().unwrap()));
            let udp = |how: &str| self.honest(how, address, Inside::Udp(API));
            all.push(udp("udp"));
            all.push(self.honest("echo", address, Inside::Echo));
            all.push(Frame { hardware: (self.mac, EVERYBODY), ..udp("frame-to-everybody") });
            all.push(Frame { from: Ipv4Addr::UNSPECIFIED.into(), ..udp("as-nobody") });
            all.push(Frame { from: lan4(99).into(), ..udp("as-client") });
        }
        for to in ["ff01::1", "ff02::1", "ff02::2", "ff02::fb", "ff05::2", "ff0e::1", "::"] {
            let address = (to, IpAddr::V6(to.parse().unwrap()));
            let group = [0x33, 0x33, 0, 0, 0, 1];
            all.push(self.honest("udp", address, Inside::Udp(API)));
            all.push(Frame {
                hardware: (self.mac, group),
                ..self.honest("echo", address, Inside::Echo)
            });
        }
        all
    }

    /// Says by neighbour discovery that it is somebody else, or a router.
    fn lies6(&self) -> Vec<Frame> {
        let all_nodes = IpAddr::V6("ff02::1".parse().unwrap());
        let link_local = IpAddr::V6(
            "fe80::ff:fe00:0"
                .parse::<Ipv6Addr>()
                .unwrap()
                .to_bits()
                .wrapping_add(self.last.into())
                .into(),
        );
        let lladdr = [&[2, 1][..], &self.mac].concat();
        let advertise = |address: Ipv6Addr| {
            [&[136, 0, 0, 0, 0xe0, 0, 0, 0][..], &address.octets(), &lladdr].concat()
        };
        let router =
            [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &self.mac].concat();
        let redirect =
            [&[137, 0, 0, 0, 0, 0, 0, 0][..], &lan6(self.last).octets(), &internet6().octets()]
                .concat();
        let mut all = Vec::new();
        for (how, message) in [
            ("advertise-router", advertise(lan6(1))),
            ("advertise-node", advertise(lan6(11))),
            ("advertise-other", advertise(lan6(if self.name == "a2" { 41 } else { 42 }))),
            ("router-advertisement", router),
            ("redirect", redirect),
        ] {
            for to in [
                ("ff02::1", all_nodes),
                ("host-end", self.router.1.into()),
                ("client", lan6(99).into()),
            ] {
                let frame = self.honest(how, to, Inside::Message(message.clone()));
                all.push(Frame { ttl: 255, from: link_local, ..frame.clone() });
                all.push(Frame { ttl: 255, ..frame });
            }
        }
        all
    }

    /// Says by ARP that it is somebody else, and asks for others.
    fn lies4(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for destination in [EVERYBODY, self.router.0] {
            for (name, last) in MACHINES.into_iter().chain(GRAINS.map(|grain| (grain.0, grain.2))) {
                if name == self.name {
                    continue;
                }
                let hardware = (self.mac, destination);
                let reply = self.token("arp-reply-as", name);
                all.push(arp(hardware, 2, (self.mac, lan4(last)), lan4(11), &reply));
                let ask = self.token("arp-ask-for", name);
                all.push(arp(hardware, 1, (self.mac, lan4(self.last)), lan4(last), &ask));
                let announce = self.token("arp-announce-as", name);
                all.push(arp(hardware, 1, (self.mac, lan4(last)), lan4(last), &announce));
            }
        }
        all
    }
}

/// Whom it tries to reach.
fn targets(mouth: &Mouth) -> BTreeMap<String, IpAddr> {
    let machines = MACHINES.into_iter().chain(GRAINS.map(|grain| (grain.0, grain.2)));
    let mut all: BTreeMap<String, IpAddr> = machines
        .filter(|(name, _)| *name != mouth.name)
        .flat_map(|(name, last)| {
            [(format!("{name}/4"), lan4(last).into()), (format!("{name}/6"), lan6(last).into())]
        })
        .collect();
    let mapped = |address: Ipv4Addr| IpAddr::V6(address.to_ipv6_mapped());
    let more = [
        ("alias", ALIAS.into()),
        ("localhost/4", Ipv4Addr::LOCALHOST.into()),
        ("localhost/6", Ipv6Addr::LOCALHOST.into()),
        ("gateway/4", GATEWAY4.into()),
        ("gateway/6", GATEWAY6.into()),
        ("host-end", mouth.router.1.into()),
        ("internet/4", INTERNET4.into()),
        ("internet/6", internet6().into()),
        ("mapped-node", mapped(lan4(11))),
        ("mapped-client", mapped(lan4(99))),
        ("mapped-localhost", mapped(Ipv4Addr::LOCALHOST)),
        ("compatible-node", IpAddr::V6(Ipv6Addr::from_bits(lan4(11).to_bits().into()))),
    ];
    all.extend(more.map(|(name, address)| (name.to_owned(), address)));
    all
}
