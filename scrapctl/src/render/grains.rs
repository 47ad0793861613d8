//! Grains as a table and in full.

use scrap_schema::api::{CopyView, GrainState, GrainView};
use scrap_schema::snapshot::{Purpose, Snapshot};

use super::grid::{Cell, Column, Grid};
use super::operations::loss;
use super::text::{
    Clock, Theme, Tone, clean, labels, short_size, short_span, span, used_of, waiting,
};

static COLUMNS: [Column; 15] = columns(Column::new("ADDRESS", "address").wide());
/// With the addresses, if there are some.
static ADDRESSED: [Column; 15] = columns(Column::new("ADDRESS", "address"));

const fn columns(address: Column) -> [Column; 15] {
    [
        Column::new("NAME", "name"),
        Column::new("STATE", "state"),
        Column::new("NODE", "node"),
        Column::new("CPU", "cpu_cores").right(),
        Column::new("MEM", "memory_bytes").right(),
        Column::new("DISK", "disk_bytes").right(),
        Column::new("COPIES", "copies"),
        Column::new("LAG", "lag_ms").right(),
        Column::new("POLICY", "policy").wide(),
        Column::new("EPOCH", "epoch").wide().right(),
        Column::new("RESTARTS", "restarts").wide().right(),
        Column::new("LABELS", "labels").wide(),
        Column::new("ID", "id").wide(),
        Column::new("TEMPLATE", "template").wide(),
        address,
    ]
}

/// One word, and what it means.
pub(crate) fn state(state: GrainState) -> (&'static str, Tone) {
    match state {
        GrainState::Pending => ("pending", Tone::Warn),
        GrainState::Starting => ("starting", Tone::Warn),
        GrainState::Running => ("running", Tone::Good),
        GrainState::Unhealthy => ("unhealthy", Tone::Bad),
        GrainState::Stopping => ("stopping", Tone::Warn),
        GrainState::Stopped => ("stopped", Tone::Dim),
        GrainState::Moving => ("moving", Tone::Warn),
        GrainState::Lost => ("lost", Tone::Bad),
        GrainState::Trashed => ("trashed", Tone::Dim),
    }
}

/// The table of `ls`.
pub(crate) fn grid(grains: &[GrainView], theme: Theme) -> Grid {
    let addressed = grains.iter().any(|grain| !addresses(grain).is_empty());
    let columns = if addressed { &ADDRESSED } else { &COLUMNS };
    Grid::new(columns, grains.iter().map(|grain| row(grain, theme)).collect())
}

fn row(grain: &GrainView, theme: Theme) -> Vec<Cell> {
    let (word, tone) = state(grain.status.state);
    let used = grain.status.usage;
    let resources = &grain.spec.resources;
    let none = || Cell::none(theme);
    let lag_tone = if replicated(grain) == Some(false) { Tone::Warn } else { Tone::Plain };
    vec![
        Cell::new(grain.metadata.name.as_str()).tone(Tone::Strong),
        Cell::new(word).tone(tone),
        node(grain, theme),
        used.map_or_else(none, |used| Cell::raw(format!("{}%", (used.cpu.0 + 5) / 10), used.cpu)),
        used.map_or_else(none, |used| {
            Cell::raw(used_of(used.memory, resources.memory), used.memory.get())
        }),
        used.map_or_else(none, |used| {
            Cell::raw(used_of(used.disk, resources.disk), used.disk.get())
        }),
        copies(&grain.status.copies, theme),
        grain.status.lag_ms.map_or_else(none, |ms| Cell::raw(short_span(ms), ms)).tone(lag_tone),
        Cell::new(grain.spec.protect.as_str()),
        Cell::new(grain.status.epoch.to_string()),
        used.map_or_else(none, |used| Cell::new(used.restarts.to_string())),
        Cell::new(labels(&grain.metadata.labels)),
        Cell::new(grain.metadata.id.as_deref().unwrap_or_default()),
        Cell::new(grain.spec.template.to_string()),
        match addresses(grain) {
            none if none.is_empty() => Cell::none(theme),
            some => Cell::new(some),
        },
    ]
}

/// Its addresses in one line.
fn addresses(grain: &GrainView) -> String {
    let v4 = grain.status.address.map(|address| address.to_string());
    let v6 = grain.status.address6.map(|address| address.to_string());
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(" ")
}

fn replicated(grain: &GrainView) -> Option<bool> {
    let found = grain.status.conditions.iter().find(|condition| condition.r#type == "Replicated");
    found.and_then(|condition| condition.status)
}

fn node(grain: &GrainView, theme: Theme) -> Cell {
    match (&grain.status.node, &grain.status.moving_to) {
        (Some(from), Some(to)) => Cell::raw(format!("{from}{}{to}", theme.arrow()), from),
        (Some(node), None) => Cell::new(node.as_str()),
        (None, _) => Cell::none(theme),
    }
}

fn copies(copies: &[CopyView], theme: Theme) -> Cell {
    if copies.is_empty() {
        return Cell::none(theme);
    }
    let text = copies.iter().map(|copy| {
        let lag = copy.lag_ms.map_or(theme.dash().to_owned(), short_span);
        let mark = if !copy.reachable || copy.trouble.is_some() { "!" } else { "" };
        format!("{} {lag}{mark}", copy.node)
    });
    let raw = copies.iter().map(|copy| {
        format!("{}:{}", copy.node, copy.lag_ms.map(|ms| ms.to_string()).unwrap_or_default())
    });
    let bad = copies.iter().any(|copy| !copy.reachable || copy.trouble.is_some());
    Cell::raw(text.collect::<Vec<_>>().join(", "), raw.collect::<Vec<_>>().join(" ")).tone(if bad {
        Tone::Warn
    } else {
        Tone::Plain
    })
}

/// A line of `info`: a word, and what it is.
pub(super) fn field(text: &mut String, word: &str, value: &str) {
    text.push_str(&format!("  {word:<12}{value}\n"));
}

/// Everything about one.
pub(crate) fn info(grain: &GrainView, clock: &Clock, theme: Theme) -> String {
    let mut text = headline(grain, theme);
    facts(&mut text, grain, clock);
    conditions(&mut text, grain, clock, theme);
    copy_lines(&mut text, grain, theme);
    snapshots(&mut text, &grain.status.snapshots, clock, theme);
    if let Some(failover) = &grain.status.last_failover {
        text.push_str(&theme.paint(Tone::Strong, "last failover"));
        text.push('\n');
        let lost = failover.loss.as_ref().map_or("nothing lost".to_owned(), |it| loss(it, clock));
        let (from, to) = (&failover.from, &failover.to);
        let when = clock.moment(failover.at);
        let arrow = theme.arrow();
        text.push_str(&format!(
            "  {when}  {from} {arrow} {to}, epoch {}: {lost}\n",
            failover.epoch
        ));
    }
    if let Some(view) = &grain.status.waiting {
        text.push_str(&waiting(view, theme));
    }
    if let Some(operation) = &grain.status.operation {
        text.push_str(&format!("operation: scrapctl op attach {operation}\n"));
    }
    text
}

fn headline(grain: &GrainView, theme: Theme) -> String {
    let (word, tone) = state(grain.status.state);
    let name = theme.paint(Tone::Strong, grain.metadata.name.as_str());
    let mut text = format!("{name}  {}", theme.paint(tone, word));
    match (&grain.status.node, &grain.status.moving_to) {
        (Some(from), Some(to)) => text.push_str(&format!(", {from} {} {to}", theme.arrow())),
        (Some(node), None) => text.push_str(&format!(" on {node}")),
        (None, _) => (),
    }
    text.push_str(&format!(", epoch {}\n", grain.status.epoch));
    text
}

fn facts(text: &mut String, grain: &GrainView, clock: &Clock) {
    let (spec, status, metadata) = (&grain.spec, &grain.status, &grain.metadata);
    let mut field = |word: &str, value: &str| field(text, word, value);
    if let Some(id) = &metadata.id {
        field("id", &clean(id));
    }
    if !metadata.labels.is_empty() {
        field("labels", &labels(&metadata.labels));
    }
    if !metadata.annotations.is_empty() {
        field("annotations", &labels(&metadata.annotations));
    }
    field("template", &spec.template.to_string());
    if let Some(network) = &spec.network {
        let mac = status.mac.as_deref().map_or(String::new(), |mac| format!(", {}", clean(mac)));
        field("address", &format!("{} ({}{mac})", addresses(grain), network.name));
    }
    field("policy", spec.protect.as_str());
    if !spec.command.is_empty() {
        let words: Vec<String> = spec.command.iter().map(|word| clean(word)).collect();
        field("command", &words.join(" "));
    }
    if let Some(created) = metadata.created {
        field("created", &format!("{} ({})", clock.moment(created), clock.ago(created)));
    }
    if let Some(started) = status.started {
        field("running for", &clock.now.since(started).rounded());
    }
    if let Some(until) = status.trashed_until {
        field("removed on", &clock.moment(until));
    }
    let resources = &spec.resources;
    match status.usage {
        Some(used) => {
            field("cpu", &format!("{} of {} cores", used.cpu, resources.cpu));
            field(
                "memory",
                &format!("{} of {}", used.memory.rounded(), resources.memory.rounded()),
            );
            field("disk", &format!("{} of {}", used.disk.rounded(), resources.disk.rounded()));
            field("restarts", &used.restarts.to_string());
        }
        None => {
            let (memory, disk) = (resources.memory.rounded(), resources.disk.rounded());
            field("reserved", &format!("{} cores, {memory} memory, {disk} disk", resources.cpu));
        }
    }
    if let Some(lag) = status.lag_ms {
        field("lag", &format!("{} would be lost if its node died now", span(lag)));
    }
}

fn conditions(text: &mut String, grain: &GrainView, clock: &Clock, theme: Theme) {
    if grain.status.conditions.is_empty() {
        return;
    }
    text.push_str(&theme.paint(Tone::Strong, "conditions"));
    text.push('\n');
    for condition in &grain.status.conditions {
        let (word, tone) = match condition.status {
            Some(true) => ("yes", Tone::Good),
            Some(false) => ("no", Tone::Bad),
            None => ("?", Tone::Warn),
        };
        let word = theme.paint(tone, &format!("{word:<3}"));
        let (kind, message) = (clean(&condition.r#type), clock.words(&condition.message));
        text.push_str(format!("  {kind:<12}{word}  {message}").trim_end());
        text.push('\n');
    }
}

fn copy_lines(text: &mut String, grain: &GrainView, theme: Theme) {
    if grain.status.copies.is_empty() {
        return;
    }
    text.push_str(&theme.paint(Tone::Strong, "copies"));
    text.push('\n');
    for copy in &grain.status.copies {
        let node = format!("{:<12}", copy.node);
        let age = match copy.lag_ms {
            Some(ms) => format!("{} behind", span(ms)),
            None => "nothing yet".to_owned(),
        };
        text.push_str(&format!("  {node}{age}"));
        if let Some(pending) = copy.pending.filter(|pending| pending.get() > 0) {
            text.push_str(&format!(", {} to send", short_size(pending)));
        }
        if !copy.reachable {
            text.push_str(&format!(", {}", theme.paint(Tone::Bad, "not reachable")));
        }
        if let Some(trouble) = &copy.trouble {
            text.push_str(&format!(", {}", theme.paint(Tone::Warn, &clean(trouble))));
        }
        text.push('\n');
    }
}

fn snapshots(text: &mut String, snapshots: &[Snapshot], clock: &Clock, theme: Theme) {
    if snapshots.is_empty() {
        return;
    }
    text.push_str(&theme.paint(Tone::Strong, "snapshots"));
    text.push('\n');
    let names: Vec<String> = snapshots.iter().map(snapshot_name).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for (snapshot, name) in snapshots.iter().zip(names) {
        let when = clock.moment(snapshot.created);
        text.push_str(&format!("  {name:<width$}  {when}  {}\n", snapshot.guid));
    }
}

/// How to name a snapshot in a command.
pub(crate) fn snapshot_word(snapshot: &Snapshot) -> String {
    match &snapshot.name.purpose {
        Purpose::User(name) => name.to_string(),
        Purpose::Replication | Purpose::Final(_) | Purpose::Orphan | Purpose::Template => {
            snapshot.guid.to_string()
        }
    }
}

/// What a person calls a snapshot. One without a name of its own is known by its guid.
fn snapshot_name(snapshot: &Snapshot) -> String {
    match &snapshot.name.purpose {
        Purpose::User(name) => name.to_string(),
        Purpose::Replication => "(replication)".to_owned(),
        Purpose::Final(_) => "(state before a move or a restore)".to_owned(),
        Purpose::Orphan => "(set aside)".to_owned(),
        Purpose::Template => "(the template)".to_owned(),
    }
}
