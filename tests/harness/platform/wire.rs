//! Frames on the wires of a lab: ears in the networks of machines and grains, and a mouth at a grain's own interface.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, bail, ensure};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Lab;

/// A hardware address.
pub type Mac = [u8; 6];
/// The hardware address of everybody.
pub const EVERYBODY: Mac = [0xff; 6];
/// The kernel's number for frames of every kind.
const EVERY_FRAME: u16 = 0x0003;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMP6: u8 = 58;
const ADVERTISEMENT: u8 = 136;

/// Hears every frame of a network.
pub struct Ear {
    /// Where it is.
    pub name: String,
    socket: OwnedFd,
}

impl Ear {
    /// An ear in a machine of a lab: a node, `client`, `lan`.
    ///
    /// # Errors
    /// If the machine is down.
    pub fn at(lab: &Lab, machine: &str) -> anyhow::Result<Self> {
        let record = fs::read_to_string(lab.dir.join(format!("machines/{machine}.inner")))?;
        let pid = record.split(' ').next().context("a record begins with a number")?;
        Self::of(machine, pid.parse()?)
    }

    /// An ear in the network that a process is in.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn of(name: &str, pid: i32) -> anyhow::Result<Self> {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        // A thread lives in the network that it enters, and this one ends with the socket it has made.
        let made = thread::spawn(move || -> anyhow::Result<OwnedFd> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let every = Protocol::from_raw(u32::from(EVERY_FRAME.to_be()).try_into()?);
            let socket = rustix::net::socket_with(
                AddressFamily::PACKET,
                SocketType::RAW,
                flags,
                Some(every),
            )?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 1 << 25)?;
            Ok(socket)
        });
        let Ok(socket) = made.join() else { bail!("the thread of an ear has panicked") };
        Ok(Self { name: name.to_owned(), socket: socket? })
    }

    /// Every frame since it listened last.
    #[must_use]
    pub fn listen(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0_u8; 1 << 16];
        while let Ok((length, _)) =
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)
        {
            frames.push(buffer.get(..length).unwrap_or_default().to_vec());
        }
        frames
    }
}

/// Says frames at the interface of a grain, as root inside it could.
#[derive(Debug, Clone, Copy)]
pub struct Mouth {
    /// A process of the grain.
    pub pid: i32,
}

impl Mouth {
    /// The mouth of a grain whose ids begin with this one.
    ///
    /// # Errors
    /// If no process of it is found.
    pub fn of(ids: u32) -> anyhow::Result<Self> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid else { continue };
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            let user = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
            if user == Some(ids) {
                return Ok(Self { pid });
            }
        }
        bail!("no process has the user {ids}")
    }

    /// Says a frame.
    ///
    /// # Errors
    /// If it cannot be said.
    pub fn say(self, frame: &[u8]) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net"]);
        command.args(["socat", "-u", "STDIN", "INTERFACE:eth0"]).stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot start nsenter")?;
        let mut padded = frame.to_vec();
        padded.resize(frame.len().max(60), 0);
        let mut input = child.stdin.take().context("it has an input")?;
        std::io::Write::write_all(&mut input, &padded)?;
        drop(input);
        ensure!(child.wait()?.success(), "socat failed");
        Ok(())
    }

    /// The hardware address of the grain, and that of the node's end of its cable.
    ///
    /// # Errors
    /// If they are not known.
    pub fn hardware(self) -> anyhow::Result<(Mac, Mac)> {
        let run = |line: &[&str]| -> anyhow::Result<String> {
            let mut command = Command::new("nsenter");
            command.args(["--target", &self.pid.to_string(), "--net", "ip"]).args(line);
            Ok(String::from_utf8(command.output()?.stdout)?)
        };
        let own = run(&["-o", "link", "show", "dev", "eth0"])?;
        let own = word_after(&own, "link/ether").and_then(mac);
        let near = run(&["neigh", "show", "169.254.0.1", "dev", "eth0"])?;
        let near = word_after(&near, "lladdr").and_then(mac);
        own.zip(near).context("the grain has no link, or does not know its gateway")
    }
}

fn word_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.split_once(word)?.1.split_whitespace().next()
}

/// Reads `02:60:00:00:00:11`.
#[must_use]
pub fn mac(text: &str) -> Option<Mac> {
    let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// A frame from the first to the second, with a payload of this kind.
#[must_use]
pub fn frame(hardware: (Mac, Mac), kind: u16, payload: &[u8]) -> Vec<u8> {
    [&hardware.1[..], &hardware.0, &kind.to_be_bytes(), payload].concat()
}

/// A question (1) or an answer (2) of ARP, and a token behind it.
#[must_use]
pub fn arp(
    hardware: (Mac, Mac),
    operation: u8,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    token: &str,
) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let payload =
        [&head[..], &hardware.0, &sender.octets(), &[0; 6], &target.octets(), token.as_bytes()];
    frame(hardware, ARP, &payload.concat())
}

/// A packet of UDP without a checksum, to a port that everybody would hear on the wire, with a token in it.
#[must_use]
pub fn udp4(hardware: (Mac, Mac), from: Ipv4Addr, to: Ipv4Addr, token: &str) -> Vec<u8> {
    let length = u8::try_from(28 + token.len()).unwrap_or(u8::MAX);
    let mut head = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, 17, 0, 0];
    head.extend(from.octets());
    head.extend(to.octets());
    let sum = checksum(&head);
    head.splice(10..12, sum);
    let udp = [0x0f, 0xa0, 0x1c, 0x68, 0, length - 20, 0, 0];
    frame(hardware, 0x0800, &[&head[..], &udp, token.as_bytes()].concat())
}

/// A message of ICMPv6 that is never forwarded (135 asks, 136 advertises), about a target, with a token behind it.
#[must_use]
pub fn neighbour(
    hardware: (Mac, Mac),
    kind: u8,
    (from, to): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    token: &str,
) -> Vec<u8> {
    let flags = if kind == ADVERTISEMENT { 0x20 } else { 0 };
    let option = [if kind == ADVERTISEMENT { 2 } else { 1 }, 1];
    let mut message = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &option].concat();
    message.extend(hardware.0);
    message.extend(token.as_bytes());
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let ends = [from.octets(), to.octets()].concat();
    let pseudo = [&ends[..], &[0, 0], &length, &[0, 0, 0, ICMP6], &message].concat();
    message.splice(2..4, checksum(&pseudo));
    let head = [&[0x60, 0, 0, 0][..], &length, &[ICMP6, 255], &ends].concat();
    frame(hardware, IPV6, &[head, message].concat())
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pair = |pair: &[u8]| match pair {
        [high, low] => u32::from(*high) << 8 | u32::from(*low),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or_default()).to_be_bytes()
}

/// Whether a frame carries a token.
#[must_use]
pub fn carries(frame: &[u8], token: &str) -> bool {
    frame.windows(token.len()).any(|part| part == token.as_bytes())
}

/// What a frame to everybody says without having been asked: an address, and the hardware that has it from now on. Gratuitous
/// ARP, or an advertisement to all nodes that is no answer and replaces what they believed.
#[must_use]
pub fn announced(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let part = |from: usize, to: usize| frame.get(from..to);
    let kind = u16::from_be_bytes(part(12, 14)?.try_into().ok()?);
    if kind == ARP {
        let sender: [u8; 4] = part(28, 32)?.try_into().ok()?;
        let unasked = part(0, 6)? == EVERYBODY && part(38, 42)? == sender;
        let hardware: Mac = part(22, 28)?.try_into().ok()?;
        return unasked.then_some((IpAddr::from(sender), hardware));
    }
    let advertises = kind == IPV6 && *frame.get(20)? == ICMP6 && *frame.get(54)? == ADVERTISEMENT;
    if !advertises {
        return None;
    }
    let all_nodes: Ipv6Addr = "ff02::1".parse().ok()?;
    let (solicited, overrides) = (frame.get(58)? & 0x40 != 0, frame.get(58)? & 0x20 != 0);
    let unasked = part(38, 54)? == all_nodes.octets() && !solicited && overrides;
    let target: [u8; 16] = part(62, 78)?.try_into().ok()?;
    // Its first option is the hardware address of the target.
    let named = part(78, 80)? == [2, 1];
    let hardware: Mac = part(80, 86)?.try_into().ok()?;
    (unasked && named).then_some((IpAddr::from(target), hardware))
}
