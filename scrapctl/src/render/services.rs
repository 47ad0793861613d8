//! Services inside a grain, as its init tells them. Everything is text of the grain.

use scrap_schema::api::{ServiceActivity, ServicesView};

use super::grid::{Cell, Column, Grid};
use super::text::Tone;

const COLUMNS: &[Column] = &[
    Column::new("SERVICE", "name"),
    Column::new("STATE", "activity"),
    Column::new("ITS INIT SAYS", "words"),
];

/// The table of `services`.
pub(crate) fn grid(services: &ServicesView) -> Grid {
    let rows = services.services.iter().map(|service| {
        let (word, tone) = match service.activity {
            ServiceActivity::Active => ("active", Tone::Good),
            ServiceActivity::Changing => ("changing", Tone::Warn),
            ServiceActivity::Inactive => ("inactive", Tone::Dim),
            ServiceActivity::Failed => ("failed", Tone::Bad),
        };
        vec![
            Cell::new(service.name.as_str()).tone(Tone::Strong),
            Cell::new(word).tone(tone),
            Cell::new(service.words.as_str()),
        ]
    });
    Grid::new(COLUMNS, rows.collect())
}
