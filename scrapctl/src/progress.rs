//! Shows operations while they go on, on stderr: live on a terminal, else line by line, or as JSON.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use scrap_schema::api::OperationView;

use crate::print::Print;
use crate::render::operations::{news, short_target, under_way};
use crate::render::text::{Clock, Theme, clean_json};
use crate::settings::Progress;

/// What is shown of some operations.
pub(crate) struct Board {
    print: Print,
    theme: Theme,
    form: Form,
    /// Several operations need their names in front.
    several: bool,
}

enum Form {
    None,
    Plain,
    Json,
    Live { all: MultiProgress, bars: Vec<ProgressBar> },
}

impl Board {
    /// An empty board for so many operations.
    pub(crate) fn new(form: Progress, print: &Print, operations: usize) -> Self {
        let theme = print.err_theme();
        let form = match form {
            Progress::None => Form::None,
            Progress::Plain => Form::Plain,
            Progress::Json => Form::Json,
            Progress::Live => live(operations, theme, print),
        };
        Self { print: print.clone(), theme, form, several: operations > 1 }
    }

    /// Shows what is new about one of them.
    pub(crate) fn update(
        &self,
        place: usize,
        before: Option<&OperationView>,
        now: &OperationView,
        clock: &Clock,
    ) {
        let name = if self.several { format!("{}:", short_target(now)) } else { String::new() };
        let lines = || news(before, now, self.theme).into_iter().map(|it| format!("{name}{it}"));
        match &self.form {
            Form::None => (),
            Form::Plain => lines().for_each(|line| self.print.note(&line)),
            Form::Json if before == Some(now) => (),
            Form::Json => {
                // An operation is our own type with text keys: its serialisation cannot fail.
                let text = serde_json::to_string(now).unwrap_or_default();
                self.print.note(&clean_json(&text));
            }
            Form::Live { bars, .. } => {
                lines().for_each(|line| self.print.note(&line));
                let Some(bar) = bars.get(place) else { return };
                if now.state.is_final() {
                    bar.finish_and_clear();
                } else {
                    bar.set_message(format!("{name}{}", under_way(now, clock, self.theme)));
                }
            }
        }
    }

    /// Takes the moving lines away, so that what comes next stands alone.
    pub(crate) fn end(&self) {
        if let Form::Live { all, .. } = &self.form {
            // A terminal that is gone is no reason to fail.
            drop(all.clear());
            self.print.set_live(None);
        }
    }
}

fn live(operations: usize, theme: Theme, print: &Print) -> Form {
    let all = MultiProgress::new();
    print.set_live(Some(all.clone()));
    let style = ProgressStyle::with_template(" {spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let style =
        style.tick_chars(if theme.utf8 { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ " } else { "|/-\\ " });
    let bars = (0..operations).map(|_| {
        let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    let bars = bars.collect();
    Form::Live { all, bars }
}
