//! Nodes as places for a grain, best first, with the reasons.

use scrap_schema::api::PlacementView;

use super::grid::{Cell, Column, Grid};
use super::text::{Theme, Tone, clean};

const COLUMNS: &[Column] = &[
    Column::new("NODE", "node"),
    Column::new("SCORE", "score").right(),
    Column::new("HERE", "current"),
    Column::new("WHY", "reasons").wide(),
];

/// The table of `place`.
pub(crate) fn grid(placement: &PlacementView) -> Grid {
    let rows = placement.nodes.iter().map(|node| {
        vec![
            Cell::new(node.node.as_str()).tone(Tone::Strong),
            match node.score {
                Some(score) => Cell::new(score.to_string()),
                None => Cell::raw("unfit", "").tone(Tone::Warn),
            },
            Cell::raw(if node.current { "*" } else { "" }, node.current),
            Cell::new(node.reasons.join("; ")),
        ]
    });
    Grid::new(COLUMNS, rows.collect())
}

/// Every node with what makes up its score, or what it lacks.
pub(crate) fn explain(placement: &PlacementView, theme: Theme) -> String {
    let mut text = String::new();
    for node in &placement.nodes {
        let name = theme.paint(Tone::Strong, node.node.as_str());
        let here = if node.current { ", it lives here now" } else { "" };
        let score = match node.score {
            Some(score) => format!("score {score}"),
            None => theme.paint(Tone::Warn, "cannot take it"),
        };
        text.push_str(&format!("{name}: {score}{here}\n"));
        for reason in &node.reasons {
            text.push_str(&format!("  {}\n", clean(reason)));
        }
    }
    text
}
