//! The packets that a node sends on its LAN by itself: bytes only.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An ARP frame of one who has or seeks an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arp {
    /// Answers (2) or asks (1).
    pub(super) reply: bool,
    /// Who sends it.
    pub(super) sender: ([u8; 6], Ipv4Addr),
    /// Whom it is about.
    pub(super) target: ([u8; 6], Ipv4Addr),
}

const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const TO_ALL: [u8; 6] = [0xff; 6];
const ARP_TYPE: [u8; 2] = [8, 6];

impl Arp {
    /// As a frame to everybody.
    pub(super) fn broadcast(self) -> Vec<u8> {
        let operation = if self.reply { [0, 2] } else { [0, 1] };
        [
            &TO_ALL[..],
            &self.sender.0,
            &ARP_TYPE,
            &HEAD,
            &operation,
            &self.sender.0,
            &self.sender.1.octets(),
            &self.target.0,
            &self.target.1.octets(),
        ]
        .concat()
    }

    /// Of a frame; `None`: it is something else.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let body = frame.get(14..42)?;
        if frame.get(12..14)? != ARP_TYPE || body.get(..6)? != HEAD {
            return None;
        }
        let reply = match body.get(6..8)? {
            [0, 1] => false,
            [0, 2] => true,
            _ => return None,
        };
        let mac = |at: usize| <[u8; 6]>::try_from(body.get(at..at + 6)?).ok();
        let address =
            |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
        Some(Self { reply, sender: (mac(8)?, address(14)?), target: (mac(18)?, address(24)?) })
    }

    /// Whether somebody says by it that the address is his own.
    pub(super) fn claims(self, address: Ipv4Addr, but_not: [u8; 6]) -> bool {
        // One who asks for the same address at the same time, without a sender, wants it too (RFC 5227).
        let also_asks = !self.reply && self.sender.1.is_unspecified() && self.target.1 == address;
        self.sender.0 != but_not && (self.sender.1 == address || also_asks)
    }
}

/// Says that an address is here, to everybody (RFC 4861, 4.4). The kernel adds the checksum.
pub(super) fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    const ROUTER_OVERRIDE: u8 = 0xa0;
    let head = [136, 0, 0, 0, ROUTER_OVERRIDE, 0, 0, 0];
    [&head[..], &address.octets(), &[2, 1], &mac].concat()
}

/// Asks who has an address (RFC 4861, 4.3). The kernel adds the checksum.
pub(super) fn neighbour_solicitation(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let head = [135, 0, 0, 0, 0, 0, 0, 0];
    [&head[..], &address.octets(), &[1, 1], &mac].concat()
}

/// Whether a message says that somebody has the address.
pub(super) fn is_advertisement_of(message: &[u8], address: Ipv6Addr) -> bool {
    message.first() == Some(&136) && message.get(8..24) == Some(&address.octets()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const WANTED: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 40);

    fn arp(reply: bool, mac: [u8; 6], sender: Ipv4Addr) -> Arp {
        Arp { reply, sender: (mac, sender), target: ([0; 6], WANTED) }
    }

    #[test]
    fn a_frame_reads_as_it_was_written() {
        let frame = arp(true, THEIRS, WANTED).broadcast();
        assert_eq!(frame.len(), 42);
        assert_eq!(Arp::read(&frame), Some(arp(true, THEIRS, WANTED)));
        for short in 0..frame.len() {
            assert_eq!(Arp::read(&frame[..short]), None, "{short} bytes");
        }
        let mut other = frame;
        other[13] = 0;
        assert_eq!(Arp::read(&other), None, "of another protocol");
    }

    #[test]
    fn an_address_is_claimed_by_others_only() {
        let none = Ipv4Addr::UNSPECIFIED;
        let other = Ipv4Addr::new(192, 168, 60, 41);
        assert!(arp(true, THEIRS, WANTED).claims(WANTED, OURS), "an answer");
        assert!(arp(false, THEIRS, none).claims(WANTED, OURS), "another who asks for it");
        assert!(!arp(false, OURS, none).claims(WANTED, OURS), "our own question");
        assert!(!arp(false, THEIRS, other).claims(WANTED, OURS), "one who wants to talk to it");
    }

    #[test]
    fn an_advertisement_is_of_its_address() {
        let address: Ipv6Addr = "fd00::5".parse().unwrap();
        let message = neighbour_advertisement(address, OURS);
        assert_eq!(message.len(), 32);
        assert!(is_advertisement_of(&message, address));
        assert!(!is_advertisement_of(&message, "fd00::6".parse().unwrap()));
        assert!(!is_advertisement_of(&neighbour_solicitation(address, OURS), address));
    }
}
