//! Rules and routes that know no way for a grain's packet without [`MARK`], and the entries by which the node answers on
//! its LAN. Pure: what is wanted, what the kernel says it has, and the commands that make one of the other.
//!
//! The rules, in the order in which the kernel asks them. Numbers 1 to 10 belong to SCRAP:
//!
//! | number | rule | why |
//! |---|---|---|
//! | 1, 2 | from this machine, from the uplink: go to 5 | their packets do not pay for the number of grains |
//! | 3 | marked: go to 5 | the table has allowed it |
//! | 4 | from the interface of a grain: drop | one for each grain; by name, so it waits for interfaces that come |
//! | 5 | table `local` | was number 0, which nothing can be before |
//! | 6, 7 | from this machine, or marked: go to 10 | |
//! | 8 | table 7272 | drops what goes to a grain without a mark |
//! | 9 | drop | only if the machine was no router before: it becomes one for grains alone |
//! | 10 | nothing | where the others go to |
//!
//! The rule for `local` is added at its new place before the old one is taken away, and the other way round at the end,
//! so this machine is reached at every moment. It is marked as the kernel's own, as are the others, because programs
//! that set up networks remove rules which they do not know, but not the kernel's.
//!
//! A route with the worst metric drops what goes to a grain whose interface is not there: it would leave by the uplink
//! and come back for ever.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use super::rules::MARK;
use super::{GATEWAY4, GATEWAY6};

/// The table of what is dropped.
const TABLE: u32 = 7272;
/// By this number the kernel's entries are known as SCRAP's.
const PROTOCOL: &str = "72";
/// Worse than any route that the runtime sets.
const WORST: u32 = 2_147_483_647;

/// In this order rules are added: what others go to comes first. They are removed in the order that drops nothing.
const ADD_ORDER: [u32; 11] = [0, 10, 5, 6, 7, 1, 2, 3, 8, 9, 4];
const REMOVE_ORDER: [u32; 11] = [9, 8, 4, 7, 6, 3, 2, 1, 5, 10, 0];

/// What is asked of `ip -batch`, in the order in which [`present`] reads the answers.
pub const QUESTIONS: &str = "rule show\nroute show table main proto 72\nroute show table 7272 proto 72\n\
                             neigh show proxy\naddr show dev lo\n";

/// One entry of the kernel, as the words of an `ip` command without its verb.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    object: &'static str,
    words: String,
}

impl Entry {
    fn command(&self, verb: &str) -> String {
        // The kernel does not tell whose a rule is unless it is asked for details: no part of what is compared.
        let owner = if self.object == "rule" && verb == "add" { " protocol kernel" } else { "" };
        format!("{} {verb} {}{owner}", self.object, self.words)
    }

    fn rule(number: u32, words: &str) -> Self {
        Self { object: "rule", words: format!("pref {number} {words}") }
    }

    fn route(address: IpAddr, main: bool) -> Self {
        let table =
            if main { format!("table main metric {WORST}") } else { format!("table {TABLE}") };
        Self { object: "route", words: format!("blackhole {address} {table} proto {PROTOCOL}") }
    }

    fn proxy(address: IpAddr, uplink: &str) -> Self {
        let words = format!("proxy {address} dev {uplink} protocol {PROTOCOL}");
        Self { object: "neigh", words }
    }

    fn gateway() -> Self {
        Self { object: "addr", words: format!("{GATEWAY4}/32 dev lo scope link") }
    }

    fn number(&self) -> Option<u32> {
        self.words.split(' ').nth(1)?.parse().ok()
    }

    /// Where it comes in an order of rules; everything else after the rules, and last what an interface that has just gone refuses.
    fn place(&self, order: [u32; 11]) -> usize {
        let number = (self.object == "rule").then(|| self.number()).flatten();
        let other = order.len() + usize::from(self.object == "neigh");
        order.iter().position(|other| Some(*other) == number).unwrap_or(other)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.command("add"))
    }
}

/// What a node needs of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Interfaces whose packets need a mark: of grains that are wanted, and of others that are still there.
    pub interfaces: BTreeSet<String>,
    /// Those of them that are there.
    pub joined: BTreeSet<String>,
    /// Addresses of grains.
    pub addresses: BTreeSet<IpAddr>,
    /// The LAN interface.
    pub uplink: String,
    /// The uplink is there and can have entries.
    pub uplink_there: bool,
    /// The machine routes for others, grains or not.
    pub router: bool,
    /// IPv4, which has a gateway of its own on `lo`.
    pub v4: bool,
}

/// The entries that should be there.
#[must_use]
pub fn wanted(need: &Need) -> BTreeSet<Entry> {
    let mark = format!("fwmark {MARK:#x}/{MARK:#x}");
    let mut all: BTreeSet<Entry> = [
        Entry::rule(1, "iif lo goto 5"),
        Entry::rule(2, &format!("iif {} goto 5", need.uplink)),
        Entry::rule(3, &format!("{mark} goto 5")),
        Entry::rule(5, "lookup local"),
        Entry::rule(6, "iif lo goto 10"),
        Entry::rule(7, &format!("{mark} goto 10")),
        Entry::rule(8, &format!("lookup {TABLE}")),
        Entry::rule(10, "nop"),
    ]
    .into();
    if !need.router {
        all.insert(Entry::rule(9, "blackhole"));
    }
    let closed = need.interfaces.iter();
    all.extend(closed.map(|interface| Entry::rule(4, &format!("iif {interface} blackhole"))));
    for address in need.addresses.iter().copied() {
        all.insert(Entry::route(address, true));
        all.insert(Entry::route(address, false));
        if need.uplink_there {
            all.insert(Entry::proxy(address, &need.uplink));
        }
    }
    // LXC sets these once; the kernel forgets them when the other end is carried into the grain at a bad moment.
    let gateway = if need.v4 { IpAddr::V4(GATEWAY4) } else { IpAddr::V6(GATEWAY6) };
    all.extend(need.joined.iter().map(|interface| Entry::proxy(gateway, interface)));
    if need.v4 {
        all.insert(Entry::gateway());
    }
    all
}

/// The entries of a machine without grains: the rule of the table `local` is where the kernel puts it.
#[must_use]
pub fn untouched() -> BTreeSet<Entry> {
    [Entry::rule(0, "lookup local")].into()
}

/// The commands that make what is present into what is wanted: first what is missing, then what is too much.
#[must_use]
pub fn changes(wanted: &BTreeSet<Entry>, present: &BTreeSet<Entry>) -> Vec<String> {
    let (mut add, mut remove) = differences(wanted, present);
    add.sort_by_key(|entry| entry.place(ADD_ORDER));
    remove.sort_by_key(|entry| entry.place(REMOVE_ORDER));
    let add = add.into_iter().map(|entry| entry.command("add"));
    add.chain(remove.into_iter().map(|entry| entry.command("del"))).collect()
}

/// What is missing, and what is there and not wanted.
#[must_use]
pub fn differences<'a>(
    wanted: &'a BTreeSet<Entry>,
    present: &'a BTreeSet<Entry>,
) -> (Vec<&'a Entry>, Vec<&'a Entry>) {
    (wanted.difference(present).collect(), present.difference(wanted).collect())
}

/// What belongs to SCRAP of the answers to [`QUESTIONS`].
///
/// # Errors
/// An answer is not as expected.
pub fn present(answers: &str) -> Result<BTreeSet<Entry>, serde_json::Error> {
    let mut answers = serde_json::Deserializer::from_str(answers).into_iter::<serde_json::Value>();
    let mut next = || answers.next().unwrap_or(Ok(serde_json::Value::Array(Vec::new())));
    let rules: Vec<RuleAnswer> = serde_json::from_value(next()?)?;
    let mut all: BTreeSet<Entry> = rules.iter().filter_map(RuleAnswer::entry).collect();
    for main in [true, false] {
        let routes: Vec<RouteAnswer> = serde_json::from_value(next()?)?;
        let addresses = routes.iter().filter_map(|route| route.dst.parse().ok());
        all.extend(addresses.map(|address| Entry::route(address, main)));
    }
    let proxies: Vec<ProxyAnswer> = serde_json::from_value(next()?)?;
    let ours = proxies.iter().filter(|proxy| proxy.protocol.as_deref() == Some(PROTOCOL));
    all.extend(ours.filter_map(|proxy| Some(Entry::proxy(proxy.dst.parse().ok()?, &proxy.dev))));
    let links: Vec<LinkAnswer> = serde_json::from_value(next()?)?;
    let mut addresses = links.iter().flat_map(|link| &link.addr_info);
    if addresses.any(|address| address.local == Some(IpAddr::V4(GATEWAY4))) {
        all.insert(Entry::gateway());
    }
    Ok(all)
}

#[derive(Deserialize)]
struct RuleAnswer {
    priority: u32,
    src: Option<String>,
    srclen: Option<u8>,
    dst: Option<String>,
    dstlen: Option<u8>,
    fwmark: Option<String>,
    fwmask: Option<String>,
    iif: Option<String>,
    oif: Option<String>,
    goto: Option<u32>,
    action: Option<String>,
    table: Option<String>,
}

impl RuleAnswer {
    /// One of ours, or the kernel's rule for `local` at its own place.
    fn entry(&self) -> Option<Entry> {
        let mut words = Vec::new();
        for (word, address, length) in
            [("from", &self.src, self.srclen), ("to", &self.dst, self.dstlen)]
        {
            if let Some(address) = address.as_ref().filter(|address| *address != "all") {
                let length = length.map(|length| format!("/{length}")).unwrap_or_default();
                words.push(format!("{word} {address}{length}"));
            }
        }
        if let Some(mark) = &self.fwmark {
            let mask = self.fwmask.as_ref().map(|mask| format!("/{mask}")).unwrap_or_default();
            words.push(format!("fwmark {mark}{mask}"));
        }
        words.extend(self.iif.as_ref().map(|name| format!("iif {name}")));
        words.extend(self.oif.as_ref().map(|name| format!("oif {name}")));
        words.push(match (self.goto, &self.table, &self.action) {
            (Some(number), _, _) => format!("goto {number}"),
            (None, Some(table), _) => format!("lookup {table}"),
            (None, None, Some(action)) => action.clone(),
            (None, None, None) => "nop".to_owned(),
        });
        let words = words.join(" ");
        let ours = (1..=10).contains(&self.priority);
        let local = self.priority == 0 && words == "lookup local";
        (ours || local).then(|| Entry::rule(self.priority, &words))
    }
}

#[derive(Deserialize)]
struct RouteAnswer {
    dst: String,
}

#[derive(Deserialize)]
struct ProxyAnswer {
    dst: String,
    #[serde(default)]
    dev: String,
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct LinkAnswer {
    #[serde(default)]
    addr_info: Vec<AddressAnswer>,
}

#[derive(Deserialize)]
struct AddressAnswer {
    local: Option<IpAddr>,
}

#[cfg(test)]
mod tests;
