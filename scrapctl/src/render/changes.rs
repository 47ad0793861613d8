//! What `apply` did, and what `diff` found.

use std::fmt::Write as _;

use scrap_schema::api::{ApplyAction, ApplyResult, ApplyView, FieldChange};
use serde_json::Value;

use super::grid::{Cell, Column, Grid};
use super::text::{Theme, Tone, clean, clean_json};

const COLUMNS: &[Column] = &[
    Column::new("OBJECT", "object"),
    Column::new("ACTION", "action"),
    Column::new("OPERATION", "operation").wide(),
];

fn action(action: ApplyAction) -> (&'static str, Tone) {
    match action {
        ApplyAction::Created => ("created", Tone::Good),
        ApplyAction::Updated => ("updated", Tone::Warn),
        ApplyAction::Unchanged => ("unchanged", Tone::Dim),
        ApplyAction::Pruned => ("pruned", Tone::Bad),
    }
}

/// `grain/web`.
fn object(item: &ApplyResult) -> String {
    format!("{}/{}", clean(&item.kind.to_lowercase()), item.name)
}

/// One line per object.
pub(crate) fn text(applied: &ApplyView, dry_run: bool, theme: Theme) -> String {
    let mut text = String::new();
    for item in &applied.items {
        let (word, tone) = action(item.action);
        let would = if dry_run && item.action != ApplyAction::Unchanged { "would be " } else { "" };
        let _ = writeln!(text, "{}: {would}{}", object(item), theme.paint(tone, word));
    }
    text
}

/// The same as a table.
pub(crate) fn grid(applied: &ApplyView, theme: Theme) -> Grid {
    let rows = applied.items.iter().map(|item| {
        let (word, tone) = action(item.action);
        let operation = item.operation.map(|id| Cell::new(id.to_string()));
        vec![
            Cell::new(object(item)),
            Cell::new(word).tone(tone),
            operation.unwrap_or_else(|| Cell::none(theme)),
        ]
    });
    Grid::new(COLUMNS, rows.collect())
}

/// Object by object what differs, like a unified diff of fields.
pub(crate) fn diff(applied: &ApplyView, theme: Theme) -> String {
    let mut text = String::new();
    for item in applied.items.iter().filter(|item| item.action != ApplyAction::Unchanged) {
        let (word, _) = action(item.action);
        let head = format!("{}: would be {word}", object(item));
        let _ = writeln!(text, "{}", theme.paint(Tone::Strong, &head));
        for change in &item.changes {
            change_lines(&mut text, change, theme);
        }
    }
    text
}

fn change_lines(text: &mut String, change: &FieldChange, theme: Theme) {
    let path = path(&change.pointer);
    let mut side = |sign: char, tone: Tone, value: &Option<Value>| {
        if let Some(value) = value {
            let line = format!("{sign} {path}: {}", shown(value));
            let _ = writeln!(text, "{}", theme.paint(tone, &line));
        }
    };
    side('-', Tone::Bad, &change.before);
    side('+', Tone::Good, &change.after);
}

/// `/spec/resources/cpu` as people write it: `spec.resources.cpu`.
fn path(pointer: &str) -> String {
    let parts = pointer.trim_start_matches('/').split('/');
    let parts = parts.map(|part| clean(&part.replace("~1", "/").replace("~0", "~")));
    parts.collect::<Vec<_>>().join(".")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => clean(text),
        other => clean_json(&other.to_string()),
    }
}
