//! Is everything all right, and if not, why: one line, then the reasons.

use scrap_schema::api::{ClusterHealth, ClusterView, LeaseView};
use scrap_schema::timing::{Preset, Timing};

use super::grid::{Cell, Column, Grid};
use super::text::{Theme, Tone, clean, count, span, waiting};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("HEALTH", "health"),
    Column::new("NODES-ONLINE", "nodes_online").right(),
    Column::new("NODES", "nodes").right(),
    Column::new("GRAINS-RUNNING", "grains_running").right(),
    Column::new("GRAINS-WANTED", "grains_wanted").right(),
    Column::new("WORST-LAG", "worst_lag_ms").right(),
    Column::new("ORPHANS", "orphans").right(),
    Column::new("LEADER", "leader"),
];

/// In one word.
pub(crate) fn health(health: ClusterHealth) -> (&'static str, Tone) {
    match health {
        ClusterHealth::Healthy => ("HEALTHY", Tone::Good),
        ClusterHealth::Degraded => ("DEGRADED", Tone::Warn),
        ClusterHealth::Critical => ("CRITICAL", Tone::Bad),
    }
}

/// The answer of `status`. An old one must not look like the present.
pub(crate) fn text(cluster: &ClusterView, wide: bool, old: bool, theme: Theme) -> String {
    let (word, tone) = health(cluster.health);
    let (word, tone) = match old {
        true => (format!("NOT ANSWERING, was {word}"), Tone::Bad),
        false => (word.to_owned(), tone),
    };
    // What nobody may overlook: a dead node stays dead.
    let (word, tone) = match cluster.disarmed.is_empty() {
        true => (word, tone),
        false => (format!("{word}, DISARMED"), Tone::Bad),
    };
    let worst = match (cluster.worst_lag_ms, &cluster.worst_lag_grain) {
        (Some(ms), Some(grain)) => format!("oldest copy {} ({grain})", span(ms)),
        (Some(ms), None) => format!("oldest copy {}", span(ms)),
        (None, _) => "no copies".to_owned(),
    };
    let mut text = format!(
        "{}   {}   {}/{} nodes   {}/{} grains running   {worst}\n",
        theme.paint(Tone::Strong, cluster.name.as_str()),
        theme.paint(tone, &word),
        known(cluster.nodes_online),
        cluster.nodes,
        known(cluster.grains_running),
        cluster.grains_wanted,
    );
    for reason in &cluster.reasons {
        text.push_str(&format!("  {}\n", clean(reason)));
    }
    for view in &cluster.waiting {
        text.push_str(&waiting(view, theme));
    }
    if cluster.orphans > 0 {
        let orphans = count(usize::try_from(cluster.orphans).unwrap_or(usize::MAX), "orphan");
        text.push_str(&format!("{orphans} of diverged data: scrapctl orphan ls\n"));
    }
    match &cluster.leader {
        None => text.push_str(&format!("{}\n", theme.paint(Tone::Bad, "there is no leader"))),
        Some(leader) if wide => {
            let voters: Vec<&str> = cluster.voters.iter().map(|voter| voter.as_str()).collect();
            let index = cluster.index;
            text.push_str(&format!(
                "leader {leader}, voters {}, index {index}\n",
                voters.join(", ")
            ));
        }
        Some(_) => (),
    }
    if let Some(lease) = cluster.lease.as_ref().filter(|_| wide) {
        text.push_str(&format!("{}\n", numbers(lease)));
    }
    text
}

/// The numbers of the lease, in one line.
pub(crate) fn numbers(lease: &LeaseView) -> String {
    let preset = lease.preset.map_or("own numbers", Preset::word);
    let Timing { stop, lease: ends, .. } = lease.timing;
    let fenced = span(lease.fenced_after_ms);
    format!(
        "lease {preset}: grains stop {stop} after their node's last word, are killed after {ends}; fenced after {fenced}"
    )
}

/// A number that nobody may know.
fn known(number: Option<u32>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

/// The same as one row.
pub(crate) fn grid(cluster: &ClusterView, theme: Theme) -> Grid {
    let number = |number: u32| Cell::new(number.to_string());
    let none = || Cell::none(theme);
    let row = vec![
        Cell::new(cluster.name.as_str()),
        Cell::new(health(cluster.health).0.to_lowercase()),
        cluster.nodes_online.map_or_else(none, number),
        number(cluster.nodes),
        cluster.grains_running.map_or_else(none, number),
        number(cluster.grains_wanted),
        cluster.worst_lag_ms.map_or_else(none, |ms| Cell::new(ms.to_string())),
        number(cluster.orphans),
        cluster.leader.as_ref().map_or_else(none, |leader| Cell::new(leader.as_str())),
    ];
    Grid::new(COLUMNS, vec![row])
}
