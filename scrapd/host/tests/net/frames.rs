//! Frames as somebody with bad intentions would make them: every field is chosen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is inside an IP packet.
#[derive(Debug, Clone)]
pub(crate) enum Inside {
    Udp(u16),
    Tcp(u16),
    Echo,
    /// Protocol number, and bytes that the checksum of ICMPv6 is put into.
    Message(Vec<u8>),
}

/// A frame, and what it says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) hardware: ([u8; 6], [u8; 6]),
    pub(crate) vlan: Option<(u16, u16)>,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) inside: Inside,
    /// An option that asks the first router to send it on to this one.
    pub(crate) source_route: Option<Ipv4Addr>,
    pub(crate) token: String,
}

const UDP: u8 = 17;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

impl Frame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (source, destination) = self.hardware;
        let mut frame = [destination, source].concat();
        if let Some((kind, tag)) = self.vlan {
            frame.extend(kind.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([8, 0]);
                frame.extend(self.v4(from, to));
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.v6(from, to));
            }
            _ => panic!("families do not mix: {self:?}"),
        }
        frame
    }

    fn v4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let pseudo = [from.octets(), to.octets()].concat();
        let (protocol, inside) = self.inside(&pseudo, ICMP);
        let options = self
            .source_route
            .map_or(vec![], |via| [&[131, 7, 4][..], &via.octets(), &[0]].concat());
        let words = 5 + u8::try_from(options.len() / 4).unwrap();
        let length = u16::try_from(usize::from(words) * 4 + inside.len()).unwrap();
        let mut head = vec![0x40 | words, 0];
        head.extend(length.to_be_bytes());
        head.extend([0, 0, 0, 0, self.ttl, protocol, 0, 0]);
        head.extend(&pseudo);
        head.extend(options);
        let sum = checksum(&head);
        head[10..12].copy_from_slice(&sum);
        head.extend(inside);
        head
    }

    fn v6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let pseudo = [from.octets(), to.octets()].concat();
        let (protocol, inside) = self.inside(&pseudo, ICMP6);
        let mut head = vec![0x60, 0, 0, 0];
        head.extend(u16::try_from(inside.len()).unwrap().to_be_bytes());
        head.extend([protocol, self.ttl]);
        head.extend(&pseudo);
        head.extend(inside);
        head
    }

    fn inside(&self, pseudo: &[u8], icmp: u8) -> (u8, Vec<u8>) {
        let token = self.token.as_bytes();
        let (protocol, sum_at, mut bytes) = match &self.inside {
            Inside::Udp(port) => {
                let length = u16::try_from(8 + token.len()).unwrap();
                let head =
                    [4000_u16.to_be_bytes(), port.to_be_bytes(), length.to_be_bytes(), [0; 2]];
                (UDP, 6, [&head.concat(), token].concat())
            }
            Inside::Tcp(port) => {
                let ports = [4000_u16.to_be_bytes(), port.to_be_bytes()].concat();
                let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
                (TCP, 16, [&ports[..], &rest, token].concat())
            }
            Inside::Echo => {
                let kind = if icmp == ICMP { 8 } else { 128 };
                (icmp, 2, [&[kind, 0, 0, 0, 7, 7, 0, 1], token].concat())
            }
            Inside::Message(message) => (icmp, 2, [message, token].concat()),
        };
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let with_pseudo = !(protocol == ICMP && icmp == ICMP);
        let pseudo =
            if with_pseudo { [pseudo, &length, &[0, 0, 0, protocol]].concat() } else { Vec::new() };
        let sum = checksum(&[&pseudo[..], &bytes].concat());
        bytes[sum_at..sum_at + 2].copy_from_slice(&sum);
        (protocol, bytes)
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// An ARP frame whose trailer is the token.
pub(crate) fn arp(
    hardware: ([u8; 6], [u8; 6]),
    operation: u8,
    sender: ([u8; 6], Ipv4Addr),
    target: Ipv4Addr,
    token: &str,
) -> Vec<u8> {
    let (source, destination) = hardware;
    [
        &destination[..],
        &source,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &sender.0,
        &sender.1.octets(),
        &[0; 6],
        &target.octets(),
        token.as_bytes(),
    ]
    .concat()
}
