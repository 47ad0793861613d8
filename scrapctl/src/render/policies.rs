//! Policies as a table and in full.

use scrap_schema::api::PolicyView;
use scrap_schema::spec::FailoverMode;
use scrap_schema::unit::Span;

use super::grains::field;
use super::grid::{Cell, Column, Grid};
use super::text::{Theme, Tone, clean, count, short_span};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("EVERY", "every_ms").right(),
    Column::new("COPIES", "copies").right(),
    Column::new("SPREAD", "spread"),
    Column::new("ALERT", "alert_after_ms").right(),
    Column::new("FAILOVER", "failover"),
    Column::new("AFTER", "after_ms").right(),
    Column::new("MAX-LOSS", "max_data_loss_ms").right(),
    Column::new("KEEP", "keep"),
];

fn mode(mode: FailoverMode) -> &'static str {
    match mode {
        FailoverMode::Auto => "auto",
        FailoverMode::Manual => "manual",
    }
}

/// A span somebody wrote, as short as it can be.
fn written(span: Span) -> Cell {
    let text = if span == Span::ZERO { "0".to_owned() } else { short_span(span.ms()) };
    Cell::raw(text, span.ms())
}

/// The table of `policy ls`.
pub(crate) fn grid(policies: &[PolicyView], theme: Theme) -> Grid {
    let row = |policy: &PolicyView| {
        let (replicate, failover) = (&policy.spec.replicate, &policy.spec.failover);
        let keep = &policy.spec.snapshots;
        vec![
            Cell::new(policy.metadata.name.as_str()).tone(Tone::Strong),
            written(replicate.every),
            Cell::new(replicate.copies.to_string()),
            replicate.spread.as_ref().map_or_else(|| Cell::none(theme), Cell::new),
            written(replicate.alert_after),
            Cell::new(mode(failover.mode)),
            written(failover.after),
            written(failover.max_data_loss),
            Cell::new(format!(
                "{} last, {} hourly, {} daily",
                keep.keep_last, keep.keep_hourly, keep.keep_daily
            )),
        ]
    };
    Grid::new(COLUMNS, policies.iter().map(row).collect())
}

/// Everything about one, in sentences.
pub(crate) fn info(policy: &PolicyView, theme: Theme) -> String {
    let (replicate, failover) = (&policy.spec.replicate, &policy.spec.failover);
    let mut text = theme.paint(Tone::Strong, policy.metadata.name.as_str());
    text.push('\n');
    let spread = replicate.spread.as_ref();
    let spread = spread.map(|label| format!(", spread over `{}`", clean(label)));
    let copies = count(usize::try_from(replicate.copies).unwrap_or(usize::MAX), "copy");
    let copies = copies.replace("copys", "copies");
    let mut field = |word: &str, value: &str| field(&mut text, word, value);
    field(
        "replicate",
        &format!(
            "{copies}{}, at most {} behind; alarm after {}",
            spread.unwrap_or_default(),
            replicate.every.rounded(),
            replicate.alert_after.rounded()
        ),
    );
    let loss = failover.max_data_loss.rounded();
    field(
        "failover",
        &match failover.mode {
            FailoverMode::Auto => format!(
                "by itself after {} of silence, if at most {loss} would be lost",
                failover.after.rounded()
            ),
            FailoverMode::Manual => "only by a person".to_owned(),
        },
    );
    let keep = &policy.spec.snapshots;
    field(
        "snapshots",
        &format!(
            "the last {}, one for each of {} hours and {} days",
            keep.keep_last, keep.keep_hourly, keep.keep_daily
        ),
    );
    text
}
