//! A filter at the very beginning of a grain's path, below the table: drops what the kernel delivers to this machine
//! without asking a routing rule. Those are broadcasts and groups of IPv4, and frames that are neither IP nor ARP or
//! come with the tag of a VLAN. It is constant, so there is nothing to be kept up to date, and `nft flush ruleset` does
//! not touch it.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::NetError;
use super::program::TC;

/// Classic BPF over the frame: code, jump if true, jump if false, operand. The answer 2 drops, -1 lets it go on.
const PROGRAM: [(u16, u8, u8, u32); 12] = [
    (32, 0, 0, 0xffff_f030), // A = whether there was a VLAN tag
    (21, 0, 9, 0),           // no: on, yes: drop
    (40, 0, 0, 12),          // A = type of the frame
    (21, 0, 4, 0x0800),      // IPv4: on, else to the other types
    (32, 0, 0, 30),          // A = destination
    (53, 5, 0, 0xe000_0000), // 224.0.0.0 and above: drop
    (32, 0, 0, 26),          // A = source
    (21, 3, 2, 0),           // 0.0.0.0: drop, else let it go on
    (21, 1, 0, 0x86dd),      // IPv6: let it go on
    (21, 0, 1, 0x0806),      // ARP: let it go on, else drop
    (6, 0, 0, u32::MAX),
    (6, 0, 0, 2),
];

fn program() -> String {
    let steps = PROGRAM.iter().map(|(code, yes, no, k)| format!("{code} {yes} {no} {k}"));
    format!("{},{}", PROGRAM.len(), steps.collect::<Vec<_>>().join(","))
}

#[derive(Deserialize)]
struct Queue {
    kind: String,
    dev: Option<String>,
}

/// Those of the interfaces that have no place for a filter, so none.
pub(super) async fn missing(interfaces: &BTreeSet<String>) -> Result<BTreeSet<String>, NetError> {
    if interfaces.is_empty() {
        return Ok(BTreeSet::new());
    }
    let answer = TC.run(&["-j", "qdisc", "show"], "").await?;
    let queues: Vec<Queue> = serde_json::from_str(&answer)
        .map_err(|source| NetError::Answer { program: TC.name(), source })?;
    let places = queues.into_iter().filter(|queue| queue.kind == "clsact");
    let places: BTreeSet<String> = places.filter_map(|queue| queue.dev).collect();
    Ok(interfaces.difference(&places).cloned().collect())
}

/// Makes a place for a filter at some interfaces, and gives some theirs.
pub(super) async fn arrange(
    places: &BTreeSet<String>,
    filters: &BTreeSet<String>,
) -> Result<(), NetError> {
    let places = places.iter().map(|interface| format!("qdisc add dev {interface} clsact\n"));
    let program = program();
    let filters = filters.iter().map(|interface| {
        let place = format!("dev {interface} ingress prio 1 handle 1 protocol all");
        format!("filter replace {place} bpf da bytecode \"{program}\"\n")
    });
    let lines: String = places.chain(filters).collect();
    if lines.is_empty() { Ok(()) } else { TC.run(&["-batch", "-"], &lines).await.map(drop) }
}
