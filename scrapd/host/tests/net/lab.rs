//! A LAN with two nodes, a client and a router to an Internet, each a network namespace, and grains joined to nodes as
//! LXC would do it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use scrap_host::net::{
    Attachment, GATEWAY4, GATEWAY6, HostNet, NetError, NetSettings, NetTrouble, Opening,
    Surroundings, interface,
};
use scrap_schema::id::GrainId;

/// Addresses of the LAN end in this.
pub(crate) fn lan4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 60, last)
}

/// Addresses of the LAN end in this, written as the number of IPv4 is.
pub(crate) fn lan6(last: u8) -> Ipv6Addr {
    format!("fd00:60::{last}").parse().unwrap()
}

/// On the loopback of node a: no address of the LAN.
pub(crate) const ALIAS: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
pub(crate) const INTERNET4: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

pub(crate) fn internet6() -> Ipv6Addr {
    "2a02:8::8".parse().unwrap()
}

/// Machines on the LAN: name, last number.
pub(crate) const MACHINES: [(&str, u8); 4] = [("a", 11), ("b", 12), ("client", 99), ("router", 1)];
/// Grains: name, node, last number.
pub(crate) const GRAINS: [(&str, &str, u8); 4] =
    [("a1", "a", 41), ("a2", "a", 42), ("b1", "b", 51), ("b2", "b", 52)];

/// All of it; gone when dropped.
pub(crate) struct Lab {
    prefix: String,
    folder: tempfile::TempDir,
}

/// A node's network and the grains that it owns.
pub(crate) struct Node {
    space: String,
    pub(crate) net: HostNet,
    pub(crate) wanted: BTreeMap<GrainId, Attachment>,
}

impl Lab {
    /// Everything but the grains.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("scn{}x{count}", std::process::id());
        let lab = Self { prefix, folder: tempfile::tempdir().unwrap() };
        for name in ["lan", "internet"].into_iter().chain(MACHINES.map(|machine| machine.0)) {
            lab.space(name);
        }
        lab.ip("lan", "link add br0 type bridge mcast_snooping 0");
        lab.ip("lan", "link set br0 up");
        for (name, last) in MACHINES {
            let peer = lab.full(name);
            lab.ip("lan", &format!("link add name {name} type veth peer name eth0 address 02:60:00:00:00:{last:02} netns {peer}"));
            lab.ip("lan", &format!("link set dev {name} master br0 up"));
            lab.ip(name, &format!("addr add {}/24 dev eth0", lan4(last)));
            lab.ip(name, &format!("addr add {}/64 dev eth0 nodad", lan6(last)));
            lab.ip(name, "link set eth0 up");
            if name != "router" {
                lab.ip(name, &format!("route add default via {}", lan4(1)));
                lab.ip(name, &format!("-6 route add default via {}", lan6(1)));
            }
        }
        lab.ip("a", &format!("addr add {ALIAS}/32 dev lo"));
        let internet = lab.full("internet");
        lab.ip("router", &format!("link add wan type veth peer name eth0 netns {internet}"));
        for (name, device, last) in [("router", "wan", 1), ("internet", "eth0", 8)] {
            lab.ip(name, &format!("addr add 8.8.8.{last}/24 dev {device}"));
            lab.ip(name, &format!("addr add 2a02:8::{last}/64 dev {device} nodad"));
            lab.ip(name, &format!("link set {device} up"));
        }
        lab.ip("internet", "route add default via 8.8.8.1");
        lab.ip("internet", "-6 route add default via 2a02:8::1");
        // Loose as on Debian, and strict.
        lab.set("a", "ipv4/conf/eth0/rp_filter", "2");
        lab.set("b", "ipv4/conf/eth0/rp_filter", "1");
        lab.set("router", "ipv4/ip_forward", "1");
        lab.set("router", "ipv6/conf/all/forwarding", "1");
        lab
    }

    /// Everything, and four grains that have no openings. The nodes are not arranged.
    pub(crate) fn with_grains() -> (Self, BTreeMap<&'static str, Node>) {
        let lab = Self::new();
        let mut nodes: BTreeMap<&'static str, Node> =
            ["a", "b"].map(|name| (name, lab.node(name))).into();
        for (name, node, last) in GRAINS {
            lab.space(name);
            let attachment = attachment(last, vec![], vec![]);
            lab.attach(node, name, &attachment);
            nodes.get_mut(node).unwrap().wanted.insert(attachment.grain, attachment);
        }
        (lab, nodes)
    }

    pub(crate) fn space(&self, name: &str) {
        run("ip", &["netns", "add", &self.full(name)]);
        self.ip(name, "link set lo up");
        // Addresses are there at once.
        self.set(name, "ipv6/conf/default/accept_dad", "0");
        self.set(name, "ipv6/conf/default/dad_transmits", "0");
    }

    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn ip(&self, name: &str, arguments: &str) -> String {
        let space = self.full(name);
        let arguments: Vec<&str> = arguments.split_ascii_whitespace().collect();
        run("ip", &[&["-n", space.as_str()][..], &arguments].concat())
    }

    pub(crate) fn nft(&self, name: &str, arguments: &str) -> String {
        self.run(name, &format!("nft {arguments}"))
    }

    pub(crate) fn run(&self, name: &str, command: &str) -> String {
        let command: Vec<&str> = command.split_ascii_whitespace().collect();
        self.enter(name, || run(command[0], &command[1..]))
    }

    pub(crate) fn set(&self, name: &str, path: &str, value: &str) {
        self.enter(name, || fs::write(format!("/proc/sys/net/{path}"), value).unwrap());
    }

    pub(crate) fn get(&self, name: &str, path: &str) -> String {
        self.enter(name, || fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap())
    }

    /// Does something inside a namespace.
    pub(crate) fn enter<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.full(name), work)
    }

    pub(crate) fn node(&self, name: &'static str) -> Node {
        let memory = self.folder.path().join(name);
        let settings = NetSettings { uplink: "eth0".to_owned(), table: "scrap".to_owned(), memory };
        let net = HostNet::open(settings).unwrap();
        let nodes =
            [11, 12].iter().flat_map(|last| [IpAddr::V4(lan4(*last)), IpAddr::V6(lan6(*last))]);
        let surroundings = Surroundings { nodes: nodes.collect(), pools: [].into() };
        let node = Node { space: self.full(name), net, wanted: BTreeMap::new() };
        node.block(|net| net.surround(surroundings.clone()));
        node
    }

    /// What `lxc-start` does with the keys of `lxc_keys`, as it was seen to do it.
    pub(crate) fn attach(&self, node: &str, grain: &str, attachment: &Attachment) {
        let interface = interface(attachment);
        let host = &interface.host;
        let mac: Vec<String> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let (peer, mac) = (self.full(grain), mac.join(":"));
        self.ip(
            node,
            &format!("link add name {host} type veth peer name eth0 address {mac} netns {peer}"),
        );
        self.ip(node, &format!("link set {host} up"));
        if let Some((address, length)) = interface.v4 {
            self.set(node, &format!("ipv4/conf/{host}/forwarding"), "1");
            self.ip(node, &format!("route add {address} dev {host}"));
            self.ip(node, &format!("neigh add proxy {GATEWAY4} dev {host}"));
            self.ip(grain, &format!("addr add {address}/{length} dev eth0"));
        }
        if let Some((address, length)) = interface.v6 {
            self.set(node, &format!("ipv6/conf/{host}/forwarding"), "1");
            self.set(node, &format!("ipv6/conf/{host}/proxy_ndp"), "1");
            self.ip(node, &format!("-6 route add {address} dev {host}"));
            self.ip(node, &format!("-6 neigh add proxy {GATEWAY6} dev {host}"));
            self.ip(grain, &format!("addr add {address}/{length} dev eth0 nodad"));
        }
        self.ip(grain, "link set eth0 up");
        if interface.v4.is_some() {
            self.ip(grain, &format!("route add {GATEWAY4} dev eth0"));
            self.ip(grain, &format!("route add default via {GATEWAY4} dev eth0"));
        }
        if interface.v6.is_some() {
            self.ip(grain, &format!("-6 route add default via {GATEWAY6} dev eth0"));
        }
    }

    /// The grain's container has ended.
    pub(crate) fn detach(&self, node: &str, attachment: &Attachment) {
        self.ip(node, &format!("link del {}", interface(attachment).host));
    }

    /// The hardware address of an interface, and the link-local address that the kernel has made.
    pub(crate) fn link(&self, name: &str, device: &str) -> ([u8; 6], Ipv6Addr) {
        let text = self.ip(name, &format!("-j addr show dev {device}"));
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mac = all[0]["address"].as_str().unwrap();
        let mac: Vec<u8> =
            mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let addresses = all[0]["addr_info"].as_array().unwrap();
        let mut addresses = addresses.iter().filter_map(|one| one["local"].as_str()?.parse().ok());
        let local = addresses.find(Ipv6Addr::is_unicast_link_local).unwrap();
        (mac.try_into().unwrap(), local)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let all = ["lan", "internet"].into_iter();
        let all = all.chain(MACHINES.map(|machine| machine.0)).chain(GRAINS.map(|grain| grain.0));
        for name in all {
            let space = self.full(name);
            if fs::exists(format!("/run/netns/{space}")).unwrap_or(false) {
                run("ip", &["netns", "del", &space]);
            }
        }
    }
}

impl Node {
    /// Runs work of the network inside the node's namespace.
    pub(crate) fn block<'a, T: Send, F: Future<Output = T>>(
        &'a self,
        work: impl FnOnce(&'a HostNet) -> F + Send,
    ) -> T {
        enter(&self.space, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work(&self.net))
        })
    }

    pub(crate) fn arrange(&self) {
        self.try_arrange().unwrap();
    }

    pub(crate) fn try_arrange(&self) -> Result<(), NetError> {
        self.block(|net| net.arrange(&self.wanted))
    }

    pub(crate) fn look(&self) -> Vec<NetTrouble> {
        self.block(|net| net.look(&self.wanted))
    }

    pub(crate) fn open(&mut self, last: u8, ingress: Vec<Opening>, egress: Vec<Opening>) {
        let attachment = attachment(last, ingress, egress);
        assert!(self.wanted.insert(attachment.grain, attachment).is_some());
    }
}

/// The attachment of a grain of the lab.
pub(crate) fn attachment(last: u8, ingress: Vec<Opening>, egress: Vec<Opening>) -> Attachment {
    Attachment {
        grain: GrainId(u128::from(last)),
        mac: [2, 0, 0, 0, 0, last],
        v4: Some(lan4(last)),
        v6: Some(lan6(last)),
        ingress,
        egress,
    }
}

/// A thread lives in the namespace that it enters, and so does every program that it starts.
fn enter<T: Send>(space: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let space = fs::File::open(format!("/run/netns/{space}")).unwrap();
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let said = attempt(program, arguments);
    said.unwrap_or_else(|said| panic!("{program} {}: {said}", arguments.join(" ")))
}

/// What a program says, or what it complains about.
#[expect(clippy::disallowed_methods, reason = "tests build their own network")]
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
