//! Templates as a table and in full.

use scrap_schema::api::TemplateView;
use scrap_schema::id::Name;

use super::grains::field;
use super::grid::{Cell, Column, Grid};
use super::text::{Clock, Theme, Tone, clean, short_size};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("OS", "os"),
    Column::new("ARCH", "arch"),
    Column::new("SIZE", "size_bytes").right(),
    Column::new("NODES", "nodes"),
    Column::new("GRAINS", "grains").right(),
    Column::new("IMPORTED", "imported").right(),
    Column::new("DESCRIPTION", "description").wide(),
    Column::new("ID", "id").wide(),
];

fn names(names: &[Name], theme: Theme) -> String {
    match names {
        [] => theme.dash().to_owned(),
        names => names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// The table of `template ls`.
pub(crate) fn grid(templates: &[TemplateView], clock: &Clock, theme: Theme) -> Grid {
    let row = |template: &TemplateView| {
        let (metadata, status) = (&template.metadata, &template.status);
        vec![
            Cell::new(metadata.name.as_str()).tone(Tone::Strong),
            Cell::new(&status.os),
            Cell::new(&status.arch),
            Cell::raw(short_size(status.size), status.size.get()),
            Cell::new(names(&status.nodes, theme)),
            Cell::new(status.grains.len().to_string()),
            metadata.created.map_or_else(
                || Cell::none(theme),
                |created| Cell::raw(clock.age(created), created),
            ),
            Cell::new(status.description.as_deref().unwrap_or_default()),
            Cell::new(metadata.id.as_deref().unwrap_or_default()),
        ]
    };
    Grid::new(COLUMNS, templates.iter().map(row).collect())
}

/// Everything about one.
pub(crate) fn info(template: &TemplateView, clock: &Clock, theme: Theme) -> String {
    let (metadata, status) = (&template.metadata, &template.status);
    let mut text = theme.paint(Tone::Strong, metadata.name.as_str());
    text.push('\n');
    let mut field = |word: &str, value: &str| field(&mut text, word, value);
    if let Some(description) = &status.description {
        field("about", &clean(description));
    }
    if let Some(id) = &metadata.id {
        field("id", &clean(id));
    }
    field("system", &format!("{} {}", clean(&status.os), clean(&status.arch)));
    field("size", &status.size.rounded());
    field("snapshot", &status.guid.to_string());
    if let Some(created) = metadata.created {
        let from = status.origin.as_ref().map_or(String::new(), |node| format!(" on {node}"));
        field("imported", &format!("{} ({}){from}", clock.moment(created), clock.ago(created)));
    }
    field("nodes", &names(&status.nodes, theme));
    field("grains", &names(&status.grains, theme));
    text
}
