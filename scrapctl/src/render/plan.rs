//! What would happen: the answer to every `--dry-run`.

use scrap_schema::api::DryRun;

use super::operations::loss;
use super::text::{Clock, Theme, Tone, clean, hint, span};

/// The plan step by step, and what it would cost.
pub(crate) fn text(plan: &DryRun, clock: &Clock, theme: Theme) -> String {
    let mut text = String::new();
    if let Some(refused) = &plan.refused {
        text.push_str(&format!("{}: {}\n", theme.paint(Tone::Bad, "refused"), clean(refused)));
        if let Some(words) = &plan.hint {
            text.push_str(&hint(words, theme));
        }
        if !plan.steps.is_empty() {
            text.push_str("if it were not refused, this would happen:\n");
        }
    }
    for step in &plan.steps {
        text.push_str(&format!("  {}\n", clock.words(step)));
    }
    if let Some(downtime) = plan.expected_downtime_ms {
        text.push_str(&format!("expected downtime {} {}\n", theme.about(), span(downtime)));
    }
    if let Some(lost) = &plan.loss {
        let lost = loss(lost, clock).replacen("lost", "would lose", 1);
        text.push_str(&format!("{}\n", theme.paint(Tone::Warn, &lost)));
    }
    if text.is_empty() {
        text.push_str("nothing would happen\n");
    }
    text
}
