//! Events as lines and as CSV.

use scrap_schema::event::{Event, Severity, Topic};

use super::grid::{Cell, Column, Grid};
use super::text::{Clock, Theme, Tone};

const COLUMNS: &[Column] = &[
    Column::new("INDEX", "index").right(),
    Column::new("TIME", "time"),
    Column::new("TOPIC", "topic"),
    Column::new("SEVERITY", "severity"),
    Column::new("MESSAGE", "message"),
    Column::new("GRAIN", "grain_id").wide(),
    Column::new("NODE", "node_id").wide(),
    Column::new("OPERATION", "operation_id").wide(),
];

/// A topic as the API writes it.
pub(crate) fn topic(topic: Topic) -> &'static str {
    match topic {
        Topic::Cluster => "cluster",
        Topic::Node => "node",
        Topic::Grain => "grain",
        Topic::Failover => "failover",
        Topic::Replication => "replication",
        Topic::Orphan => "orphan",
        Topic::Operation => "operation",
        Topic::Policy => "policy",
        Topic::Network => "network",
        Topic::Template => "template",
    }
}

fn severity(severity: Severity) -> (&'static str, Tone) {
    match severity {
        Severity::Info => ("info", Tone::Plain),
        Severity::Warning => ("warning", Tone::Warn),
        Severity::Critical => ("critical", Tone::Bad),
    }
}

/// One event on one line. Columns have fixed widths, so that a list and what follows it look the same.
pub(crate) fn line(event: &Event, clock: &Clock, theme: Theme) -> String {
    let (_, tone) = severity(event.severity);
    let message = theme.paint(tone, &clock.words(&event.message));
    let index = theme.paint(Tone::Dim, &format!("{:>7}", event.index));
    format!("{index}  {}  {:<11}  {message}\n", clock.moment(event.at), topic(event.topic))
}

/// The table, for the forms that programs read.
pub(crate) fn grid(events: &[Event], theme: Theme, clock: &Clock) -> Grid {
    let row = |event: &Event| {
        let (word, tone) = severity(event.severity);
        let none = || Cell::none(theme);
        vec![
            Cell::new(event.index.to_string()),
            Cell::raw(clock.moment(event.at), event.at),
            Cell::new(topic(event.topic)),
            Cell::new(word).tone(tone),
            Cell::raw(clock.words(&event.message), &event.message).tone(tone),
            event.grain.map_or_else(none, |id| Cell::new(id.to_string())),
            event.node.map_or_else(none, |id| Cell::new(id.to_string())),
            event.operation.map_or_else(none, |id| Cell::new(id.to_string())),
        ]
    };
    Grid::new(COLUMNS, events.iter().map(row).collect())
}
