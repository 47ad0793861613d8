//! Operations: as a table, as progress while they go on, and their end.

use scrap_schema::api::{OperationView, PhaseView, Progress};
use scrap_schema::operation::{Loss, Need, OperationState, Phase};
use scrap_schema::unit::{Bytes, Span};

use super::grid::{Cell, Column, Grid};
use super::text::{Clock, Theme, Tone, clean, hint, short_span, span};

const COLUMNS: &[Column] = &[
    Column::new("ID", "id"),
    Column::new("KIND", "kind"),
    Column::new("TARGET", "target"),
    Column::new("STATE", "state"),
    Column::new("PHASE", "phase"),
    Column::new("AGE", "created").right(),
    Column::new("TOOK", "took_ms").right(),
    Column::new("MESSAGE", "message").wide(),
];

/// Width of the names of phases.
const PHASE_WIDTH: usize = 14;

fn tone(state: OperationState) -> Tone {
    match state {
        OperationState::Running => Tone::Warn,
        OperationState::Succeeded => Tone::Good,
        OperationState::Failed => Tone::Bad,
        OperationState::Cancelled => Tone::Dim,
    }
}

/// The table of `op ls`.
pub(crate) fn grid(operations: &[OperationView], clock: &Clock, theme: Theme) -> Grid {
    let row = |operation: &OperationView| {
        let none = || Cell::none(theme);
        let message = match &operation.waiting {
            Some(waiting) => format!("waiting: {}", waiting.reason),
            None => operation.summary.message.clone(),
        };
        vec![
            Cell::new(operation.id.to_string()),
            Cell::new(&operation.kind),
            Cell::new(&operation.target),
            Cell::new(operation.state.to_string()).tone(tone(operation.state)),
            operation.phase.map_or_else(none, |phase| Cell::raw(phase_words(phase), phase)),
            Cell::raw(clock.age(operation.created), operation.created),
            operation.finished.map_or_else(none, |finished| {
                let took = finished.since(operation.created).ms();
                Cell::raw(short_span(took), took)
            }),
            Cell::new(message),
        ]
    };
    Grid::new(COLUMNS, operations.iter().map(row).collect())
}

/// The name without its kind: `grains/web` is `web`.
pub(crate) fn short_target(operation: &OperationView) -> String {
    let target = &operation.target;
    clean(target.split_once('/').map_or(target.as_str(), |(_, name)| name))
}

/// `warm 2` if it is the second of its kind.
fn phase_name(operation: &OperationView, at: usize) -> String {
    let Some(view) = operation.phases.get(at) else { return String::new() };
    let same = |other: &&PhaseView| other.phase == view.phase;
    let all = operation.phases.iter().filter(same).count();
    if all < 2 {
        return phase_words(view.phase).to_owned();
    }
    let before = operation.phases.iter().take(at + 1).filter(same).count();
    format!("{} {before}", phase_words(view.phase))
}

/// What happens in a phase, for the reader.
fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Warm => "copy",
        Phase::Stop => "stop",
        Phase::Final => "copy the rest",
        Phase::Start => "start",
        Phase::Move => "move grains",
        Phase::Data => "data",
        Phase::Undo => "put back",
    }
}

fn is_done(operation: &OperationView, at: usize) -> bool {
    let last = at + 1 == operation.phases.len();
    let took = operation.phases.get(at).is_some_and(|phase| phase.took_ms.is_some());
    took || !last || operation.state.is_final()
}

/// What to say once about an operation since it was last looked at: finished phases, and a new reason to wait.
pub(crate) fn news(
    before: Option<&OperationView>,
    now: &OperationView,
    theme: Theme,
) -> Vec<String> {
    let said = |at: usize| before.is_some_and(|b| at < b.phases.len() && is_done(b, at));
    let mut lines = Vec::new();
    for at in 0..now.phases.len() {
        if is_done(now, at) && !said(at) {
            lines.push(phase_line(now, at, theme));
        }
    }
    let reason = |operation: &OperationView| {
        operation.waiting.as_ref().map(|waiting| waiting.reason.clone())
    };
    if let Some(waiting) = &now.waiting
        && !now.state.is_final()
        && before.and_then(reason) != reason(now)
    {
        let dots = theme.paint(Tone::Warn, theme.dots());
        lines.push(format!(" {dots} waiting: {}", clean(&waiting.reason)));
        if let Some(text) = &waiting.hint {
            lines.push(format!("  {}", hint(text, theme).trim_end()));
        }
    }
    if let Some(need) = now.needs.as_ref().filter(|_| !now.state.is_final())
        && before.and_then(|before| before.needs.as_ref()) != Some(need)
    {
        lines.extend(needs(need, theme));
    }
    lines
}

/// What an operation needs that has not moved on for long.
fn needs(need: &Need, theme: Theme) -> Vec<String> {
    let dots = theme.paint(Tone::Warn, theme.dots());
    let mut lines = vec![format!(" {dots} it has not moved on for long: {}", clean(&need.what))];
    lines.push(format!("  {}", hint(&format!("look at it: {}", need.look), theme).trim_end()));
    if let Some(cancel) = &need.cancel {
        lines.push(format!("  {}", hint(&format!("give it up: {cancel}"), theme).trim_end()));
    }
    lines
}

fn phase_line(operation: &OperationView, at: usize, theme: Theme) -> String {
    let failed = at + 1 == operation.phases.len()
        && matches!(operation.state, OperationState::Failed | OperationState::Cancelled);
    let mark = if failed {
        theme.paint(Tone::Bad, theme.cross())
    } else {
        theme.paint(Tone::Good, theme.tick())
    };
    let name = phase_name(operation, at);
    let took = took(operation, at).map(span).unwrap_or_default();
    format!(" {mark} {name:<PHASE_WIDTH$} {took}").trim_end().to_owned()
}

fn took(operation: &OperationView, at: usize) -> Option<u64> {
    let phase = operation.phases.get(at)?;
    if phase.took_ms.is_some() {
        return phase.took_ms;
    }
    let end = operation.phases.get(at + 1).map(|next| next.began).or(operation.finished)?;
    Some(end.since(phase.began).ms())
}

/// What is under way, for a line that changes.
pub(crate) fn under_way(operation: &OperationView, clock: &Clock, theme: Theme) -> String {
    let at = operation.phases.len().checked_sub(1).filter(|at| !is_done(operation, *at));
    let (name, since) = match at.and_then(|at| operation.phases.get(at).map(|it| (at, it))) {
        Some((at, phase)) => (phase_name(operation, at), phase.began),
        None => (clean(&operation.kind), operation.created),
    };
    let elapsed = span(clock.now.since(since).ms());
    let mut text = format!("{name:<PHASE_WIDTH$} {elapsed}");
    if let Some(waiting) = &operation.waiting {
        text.push_str(&format!("  waiting: {}", clean(&waiting.reason)));
    } else if let Some(progress) = &operation.progress {
        text.push_str(&progress_text(progress, theme));
    }
    text
}

fn progress_text(progress: &Progress, theme: Theme) -> String {
    let mut text = String::new();
    if !progress.text.is_empty() {
        text.push_str(&format!("  {}", clean(&progress.text)));
    }
    match (progress.bytes, progress.total_bytes) {
        (Some(done), Some(all)) => {
            let percent = done.get().saturating_mul(100).checked_div(all.get()).unwrap_or(100);
            text.push_str(&format!("  {} of {}, {percent} %", done.rounded(), all.rounded()));
        }
        (Some(done), None) => text.push_str(&format!("  {}", done.rounded())),
        (None, _) => (),
    }
    if let Some(rate) = progress.rate.filter(|rate| *rate != Bytes(0)) {
        text.push_str(&format!("  {}/s", rate.rounded()));
    }
    if let Some(downtime) = progress.expected_downtime_ms {
        text.push_str(&format!("  expected downtime {} {}", theme.about(), span(downtime)));
    }
    text
}

/// How it ended: a line, and what it cost.
pub(crate) fn end(operation: &OperationView, clock: &Clock, theme: Theme) -> String {
    let target = theme.paint(Tone::Strong, &short_target(operation));
    let word = match operation.state {
        OperationState::Running => theme.paint(Tone::Warn, "goes on"),
        OperationState::Succeeded => theme.paint(Tone::Good, "done"),
        OperationState::Failed => theme.paint(Tone::Bad, "failed"),
        OperationState::Cancelled => theme.paint(Tone::Warn, "cancelled"),
    };
    let mut text = format!("{target}: {} {word}", clean(&operation.kind));
    if let Some(finished) = operation.finished {
        text.push_str(&format!(" in {}", finished.since(operation.created).rounded()));
    }
    let summary = &operation.summary;
    if !summary.message.is_empty() {
        text.push_str(&format!(": {}", clock.words(&summary.message)));
    }
    text.push('\n');
    if let Some(downtime) = summary.downtime_ms {
        text.push_str(&format!("  downtime {}\n", span(downtime)));
    }
    if let Some(lost) = &summary.loss {
        text.push_str(&format!("  {}\n", loss(lost, clock)));
    }
    if let Some(text_hint) = &summary.hint {
        text.push_str(&hint(text_hint, theme));
    }
    text
}

/// What was lost, as an upper bound.
pub(crate) fn loss(loss: &Loss, clock: &Clock) -> String {
    let (from, until) = (clock.moment(loss.from), clock.moment(loss.until));
    // The day need not be said twice.
    let until = match (from.split_once(' '), until.split_once(' ')) {
        (Some((day, _)), Some((same, time))) if day == same => time.to_owned(),
        _ => until,
    };
    let window = Span::from_ms(loss.window_ms).rounded_up();
    let bytes = match loss.last_known_bytes {
        Some(Bytes(0)) => "; its node had reported no unsent writes".to_owned(),
        Some(bytes) => format!("; {} or more", bytes.rounded()),
        None => String::new(),
    };
    let less = loss.if_silence_was_the_end().map(|less| format!("; {less}")).unwrap_or_default();
    format!("lost at most what was written in {window}, {from} to {until}{less}{bytes}")
}
