//! Diverged data that were set aside, as a table and in full.

use scrap_schema::api::{ChangeKind, OrphanDiff, OrphanMount, OrphanView};

use super::grains::field;
use super::grid::{Cell, Column, Grid};
use super::text::{Clock, Theme, Tone, clean, short_size};

const COLUMNS: &[Column] = &[
    Column::new("ID", "id"),
    Column::new("GRAIN", "grain"),
    Column::new("NODE", "node"),
    Column::new("EPOCH", "epoch").right(),
    Column::new("NEWER", "newer_bytes").right(),
    Column::new("USED", "used_bytes").right(),
    Column::new("KEPT", "kept").right(),
];

/// The table of `orphan ls`.
pub(crate) fn grid(orphans: &[OrphanView], clock: &Clock, theme: Theme) -> Grid {
    let row = |orphan: &OrphanView| {
        vec![
            Cell::new(&orphan.id),
            orphan
                .grain_name
                .as_ref()
                .map_or_else(|| Cell::none(theme), |it| Cell::new(it.as_str())),
            Cell::new(orphan.node.as_str()),
            Cell::new(orphan.epoch.to_string()),
            Cell::raw(short_size(orphan.newer), orphan.newer.get()),
            Cell::raw(short_size(orphan.used), orphan.used.get()),
            Cell::raw(clock.age(orphan.kept), orphan.kept),
        ]
    };
    Grid::new(COLUMNS, orphans.iter().map(row).collect())
}

/// Everything about one.
pub(crate) fn info(orphan: &OrphanView, clock: &Clock, theme: Theme) -> String {
    let mut text = format!("{}\n", theme.paint(Tone::Strong, &clean(&orphan.id)));
    let mut field = |word: &str, value: &str| field(&mut text, word, value);
    match &orphan.grain_name {
        Some(name) => field("grain", name.as_str()),
        None => field("grain", &format!("{} (no longer there)", orphan.grain)),
    }
    field("node", orphan.node.as_str());
    field("written in", &format!("epoch {}", orphan.epoch));
    let (head, taken) = (orphan.head.guid, clock.moment(orphan.head.created));
    field("last state", &format!("{taken}, snapshot {head}"));
    match orphan.base {
        Some(base) => field("in common", &format!("up to snapshot {base}")),
        None => field("in common", "nothing"),
    }
    field("newer", &format!("about {} that only this copy has", orphan.newer.rounded()));
    field("used", &orphan.used.rounded());
    if let Some(operation) = orphan.operation {
        field("operation", &format!("{operation} works with it"));
    }
    field("kept since", &format!("{} ({})", clock.moment(orphan.kept), clock.ago(orphan.kept)));
    text
}

/// What one has that its grain has not: a line for each file.
pub(crate) fn diff(diff: &OrphanDiff, theme: Theme) -> String {
    if diff.changes.is_empty() {
        return "nothing differs from the state that it has in common with its grain\n".to_owned();
    }
    let mut text = String::new();
    for change in &diff.changes {
        let (sign, tone) = match change.kind {
            ChangeKind::Added => ("+", Tone::Good),
            ChangeKind::Removed => ("-", Tone::Bad),
            ChangeKind::Modified => ("M", Tone::Warn),
            ChangeKind::Renamed => ("R", Tone::Warn),
        };
        let path = clean(&change.path);
        let line = match &change.from {
            Some(from) => format!("{} {} {path}", clean(from), theme.arrow()),
            None => path,
        };
        text.push_str(&format!("{}  {line}\n", theme.paint(tone, sign)));
    }
    if diff.more {
        text.push_str("there is more: say --limit\n");
    }
    text
}

/// Where one can be read.
pub(crate) fn mount(mount: &OrphanMount) -> String {
    format!("{}:{}\n", mount.node, clean(&mount.path))
}
