//! Nodes as a table and in full.

use scrap_schema::api::{FenceTest, NodeState, NodeView};
use scrap_schema::fence::FenceSpec;
use scrap_schema::id::Name;
use scrap_schema::node::{NodeRole, PoolFacts, PoolState};

use super::grains::field;
use super::grid::{Cell, Column, Grid};
use super::text::{Clock, Theme, Tone, clean, labels, short_span, span, used_of};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("STATE", "state"),
    Column::new("ROLE", "role"),
    Column::new("RAFT", "raft"),
    Column::new("CPU", "cpu_cores").right(),
    Column::new("MEM", "memory_bytes").right(),
    Column::new("DISK", "disk_bytes").right(),
    Column::new("GRAINS", "grains").right(),
    Column::new("COPIES", "copies").right(),
    Column::new("HEARD", "silent_ms").right(),
    Column::new("API", "api").wide(),
    Column::new("OS", "os").wide(),
    Column::new("ARCH", "arch").wide(),
    Column::new("VERSION", "version").wide(),
    Column::new("LABELS", "labels").wide(),
];

fn state(node: &NodeView) -> (String, Tone) {
    let (word, tone) = match node.status.state {
        NodeState::Online => ("online", Tone::Good),
        NodeState::Suspect => ("suspect", Tone::Warn),
        NodeState::Fenced => ("fenced", Tone::Bad),
        NodeState::Away => ("away", Tone::Dim),
    };
    let wish = match (node.status.draining, node.spec.cordoned) {
        (true, _) if node.status.grains.is_empty() => " drained",
        (true, _) => " draining",
        (false, true) => " cordoned",
        (false, false) => "",
    };
    let tone = if wish.is_empty() || tone != Tone::Good { tone } else { Tone::Warn };
    (format!("{word}{wish}"), tone)
}

pub(super) fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Data => "data",
        NodeRole::Storage => "storage",
        NodeRole::Witness => "witness",
    }
}

/// The table of `node ls`.
pub(crate) fn grid(nodes: &[NodeView], theme: Theme) -> Grid {
    Grid::new(COLUMNS, nodes.iter().map(|node| row(node, theme)).collect())
}

fn row(node: &NodeView, theme: Theme) -> Vec<Cell> {
    let (word, tone) = state(node);
    let (status, facts) = (&node.status, &node.status.facts);
    let none = || Cell::none(theme);
    // A witness has no datasets: zeros would look as if it could have some.
    let holds = status.role != NodeRole::Witness;
    vec![
        Cell::new(node.metadata.name.as_str()).tone(Tone::Strong),
        Cell::new(word).tone(tone),
        Cell::new(role(status.role)),
        Cell::new(&status.raft),
        status.usage.map_or_else(none, |used| {
            let percent = (used.cpu.0 * 100 + facts.cpu.0 / 2).checked_div(facts.cpu.0);
            Cell::raw(format!("{}%", percent.unwrap_or(0)), used.cpu)
        }),
        status.usage.map_or_else(none, |used| {
            Cell::raw(used_of(used.memory, facts.memory), used.memory.get())
        }),
        status
            .usage
            .filter(|_| holds)
            .map_or_else(none, |used| Cell::raw(used_of(used.disk, facts.disk), used.disk.get())),
        if holds { Cell::new(status.grains.len().to_string()) } else { none() },
        if holds { Cell::new(status.copies.len().to_string()) } else { none() },
        status.silent_ms.map_or_else(none, |ms| Cell::raw(short_span(ms), ms)),
        Cell::new(&status.addresses.api),
        Cell::new(&facts.os),
        Cell::new(&facts.arch),
        Cell::new(&facts.version),
        Cell::new(labels(&node.metadata.labels)),
    ]
}

/// Everything about one.
pub(crate) fn info(node: &NodeView, clock: &Clock, theme: Theme) -> String {
    let (word, tone) = state(node);
    let name = theme.paint(Tone::Strong, node.metadata.name.as_str());
    let mut text = format!("{name}  {}\n", theme.paint(tone, &word));
    let (status, facts) = (&node.status, &node.status.facts);
    let mut field = |word: &str, value: &str| field(&mut text, word, value);
    if let Some(id) = &node.metadata.id {
        field("id", &clean(id));
    }
    if !node.metadata.labels.is_empty() {
        field("labels", &labels(&node.metadata.labels));
    }
    field("role", &format!("{}, {}", role(status.role), clean(&status.raft)));
    field("api", &clean(&status.addresses.api));
    field("peers", &clean(&status.addresses.peer));
    let (os, arch, version) = (clean(&facts.os), clean(&facts.arch), clean(&facts.version));
    field("system", &format!("{os} {arch}, scrapd {version}"));
    if let Some(created) = node.metadata.created {
        field("member for", &clock.now.since(created).rounded());
    }
    if let Some(fence) = &node.spec.fence {
        let FenceSpec { program, timeout, .. } = fence;
        field(
            "power",
            &format!(
                "cut by {program} within {timeout}: scrapctl node fence-test {}",
                node.metadata.name
            ),
        );
    }
    if let Some(by) = &status.off {
        field("off", &format!("confirmed by {}", clean(&by.to_string())));
    }
    if let Some(silent) = status.silent_ms {
        field("heard", &format!("{} ago", span(silent)));
    }
    let reserved = &status.reserved;
    let used = status.usage;
    let line = |used: Option<String>, all: String, reserved: String| {
        let used = used.map_or_else(|| "use unknown".to_owned(), |used| format!("{used} used"));
        format!("{used} of {all}, {reserved} reserved")
    };
    let cpu = used.map(|used| used.cpu.to_string());
    field("cpu", &line(cpu, format!("{} cores", facts.cpu), reserved.cpu.to_string()));
    let memory = used.map(|used| used.memory.rounded());
    field("memory", &line(memory, facts.memory.rounded(), reserved.memory.rounded()));
    let disk = used.map(|used| used.disk.rounded());
    field("disk", &line(disk, facts.disk.rounded(), reserved.disk.rounded()));
    if let Some(pool) = &status.pool {
        field("storage", &storage(pool, clock, theme));
    }
    let runtimes: Vec<String> = facts.runtimes.iter().map(ToString::to_string).collect();
    let runtimes = if runtimes.is_empty() { theme.dash().to_owned() } else { runtimes.join(", ") };
    field("runs", &runtimes);
    let network = facts.network.as_deref().map(clean);
    field("uplink", network.as_deref().unwrap_or(theme.dash()));
    for what in &status.network {
        field("trouble", &theme.paint(Tone::Bad, &clean(what)));
    }
    field("grains", &names(&status.grains, theme));
    field("copies of", &names(&status.copies, theme));
    text
}

/// What the device that can cut a node's power has answered.
pub(crate) fn fence_test(test: &FenceTest) -> String {
    let FenceTest { node, from, program, power, took_ms } = test;
    format!("{node}: power is {power}, says {program} on {from} after {}\n", span(*took_ms))
}

/// How its storage is, in one line.
fn storage(pool: &PoolFacts, clock: &Clock, theme: Theme) -> String {
    let tone = match pool.state {
        PoolState::Online => Tone::Good,
        PoolState::Degraded => Tone::Warn,
        PoolState::ReadOnly | PoolState::Suspended | PoolState::Faulted => Tone::Bad,
    };
    let mut text = theme.paint(tone, &pool.state.to_string());
    if let Some(percent) = pool.percent() {
        let full = format!("{percent}% full");
        let full = if pool.is_full() { theme.paint(Tone::Bad, &full) } else { full };
        text.push_str(&format!(", {full}, {} free", pool.free.rounded()));
    }
    if pool.errors > 0 {
        let errors =
            super::text::count(usize::try_from(pool.errors).unwrap_or(usize::MAX), "error");
        text.push_str(&format!(", {}", theme.paint(Tone::Bad, &errors)));
    }
    if pool.busy {
        text.push_str(", being scrubbed or repaired");
    }
    if let Some(scrubbed) = pool.scrubbed {
        text.push_str(&format!(", scrubbed {}", clock.ago(scrubbed)));
    }
    if let Some(what) = &pool.what {
        text.push_str(&format!(": {}", clean(what)));
    }
    text
}

fn names(names: &[Name], theme: Theme) -> String {
    if names.is_empty() {
        return theme.dash().to_owned();
    }
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
