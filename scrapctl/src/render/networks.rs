//! Networks as a table and in full.

use scrap_schema::api::{AddressView, NetworkView};
use scrap_schema::spec::Range;

use super::grains::field;
use super::grid::{Cell, Column, Grid};
use super::text::{Theme, Tone};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("V4", "v4"),
    Column::new("V6", "v6"),
    Column::new("GRAINS", "grains").right(),
    Column::new("EXCLUDED", "excluded").wide(),
];

fn ranges(ranges: &[Range]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The table of `network ls`.
pub(crate) fn grid(networks: &[NetworkView], theme: Theme) -> Grid {
    let pool = |pool: Option<Range>| {
        pool.map_or_else(|| Cell::none(theme), |pool| Cell::new(pool.to_string()))
    };
    let row = |network: &NetworkView| {
        vec![
            Cell::new(network.metadata.name.as_str()).tone(Tone::Strong),
            pool(network.spec.v4),
            pool(network.spec.v6),
            Cell::new(network.status.grains.len().to_string()),
            Cell::new(ranges(&network.spec.exclude)),
        ]
    };
    Grid::new(COLUMNS, networks.iter().map(row).collect())
}

/// Everything about one.
pub(crate) fn info(network: &NetworkView, theme: Theme) -> String {
    let mut text = theme.paint(Tone::Strong, network.metadata.name.as_str());
    text.push('\n');
    let spec = &network.spec;
    let pools = [("v4", spec.v4), ("v6", spec.v6)];
    for (word, pool) in pools {
        if let Some(pool) = pool {
            field(&mut text, word, &pool.to_string());
        }
    }
    if !spec.exclude.is_empty() {
        field(&mut text, "excluded", &ranges(&spec.exclude));
    }
    if network.status.grains.is_empty() {
        field(&mut text, "grains", theme.dash());
        return text;
    }
    text.push_str(&theme.paint(Tone::Strong, "addresses"));
    text.push('\n');
    for grain in &network.status.grains {
        field(&mut text, grain.grain.as_str(), &addresses(grain));
    }
    text
}

fn addresses(grain: &AddressView) -> String {
    let v4 = grain.address.map(|address| address.to_string());
    let v6 = grain.address6.map(|address| address.to_string());
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(", ")
}
