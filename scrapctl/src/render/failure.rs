//! What went wrong, why, and what to do now.

use scrap_schema::problem::{Code, FieldError, Problem};

use super::operations::end;
use super::text::{Clock, Theme, Tone, clean, hint};
use crate::failure::{Attempt, Failure};

/// `error: …`, indented details, then the hint.
pub(crate) fn text(failure: &Failure, verbose: bool, clock: &Clock, theme: Theme) -> String {
    if let Failure::Operations { operations } = failure {
        let ends = operations.iter().map(|operation| end(operation, clock, theme));
        let ends: String = ends.collect();
        return format!("{}: {ends}", theme.paint(Tone::Bad, "error"));
    }
    let mut text = format!("{}: {}\n", theme.paint(Tone::Bad, "error"), lines(&headline(failure)));
    details(&mut text, failure, verbose);
    if let Some(what) = advice(failure) {
        text.push_str(&hint(&what, theme));
    }
    text
}

/// Our own texts may have several lines; each is cleaned, and all but the first stand below.
fn lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n  ")
}

fn headline(failure: &Failure) -> String {
    match failure {
        Failure::Unreachable { tried, .. } => match spoken(tried) {
            Some(problem) => small(&problem.title),
            None if tried.is_empty() => "no server is known".to_owned(),
            None => failure.to_string(),
        },
        Failure::Usage { .. }
        | Failure::Missing { .. }
        | Failure::Manifests { .. }
        | Failure::Problem { .. }
        | Failure::Strange { .. }
        | Failure::Operations { .. }
        | Failure::Timeout { .. }
        | Failure::Interrupted { .. }
        | Failure::File { .. }
        | Failure::Local { .. }
        | Failure::Stdout(_)
        | Failure::Status(_) => failure.to_string(),
    }
}

/// A sentence as the rest of one.
fn small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The problem of the first node that said something about the cluster.
fn spoken(tried: &[Attempt]) -> Option<&Problem> {
    tried.iter().find_map(|attempt| attempt.problem.as_deref())
}

fn details(text: &mut String, failure: &Failure, verbose: bool) {
    match failure {
        Failure::Manifests { faults } => {
            for (file, fault) in faults {
                fault_lines(text, Some(file), fault);
            }
        }
        Failure::Problem { problem, server, repeated } => {
            for candidate in &problem.candidates {
                let reasons: Vec<String> = candidate.reasons.iter().map(|it| clean(it)).collect();
                text.push_str(&format!("  {}: {}\n", candidate.node, reasons.join("; ")));
            }
            // One fault is what the headline says already.
            let said = |fault: &FieldError| fault.detail == problem.detail;
            for fault in problem.errors.iter().filter(|fault| !said(fault)) {
                fault_lines(text, None, fault);
            }
            if let Some(operation) = &problem.operation {
                text.push_str(&format!("  operation {operation}\n"));
            }
            if *repeated {
                text.push_str(
                    "  the answer to an earlier attempt got lost; that one may have been carried out\n",
                );
            }
            if verbose {
                let id = problem.request_id.as_deref().unwrap_or("unknown");
                let (code, status) = (problem.code, problem.status);
                text.push_str(&format!(
                    "  {server} answered {status} {code}, request {}\n",
                    clean(id)
                ));
            }
        }
        Failure::Unreachable { tried, .. } => {
            for attempt in tried {
                text.push_str(&format!("  {}: {}\n", attempt.server, clean(&attempt.outcome)));
            }
        }
        Failure::Timeout { operations, .. } | Failure::Interrupted { operations } => {
            for operation in operations {
                text.push_str(&format!(
                    "  operation {operation} continues; scrapctl op attach {operation}\n"
                ));
            }
        }
        Failure::Usage { .. }
        | Failure::Missing { .. }
        | Failure::Strange { .. }
        | Failure::Operations { .. }
        | Failure::File { .. }
        | Failure::Local { .. }
        | Failure::Stdout(_)
        | Failure::Status(_) => (),
    }
}

fn fault_lines(text: &mut String, file: Option<&str>, fault: &FieldError) {
    let mut place = String::new();
    if let Some(file) = file {
        place.push_str(&clean(file));
    }
    for number in [fault.line, fault.column].into_iter().flatten() {
        let colon = if place.is_empty() { "" } else { ":" };
        place.push_str(&format!("{colon}{number}"));
    }
    if place.is_empty() {
        place = clean(&fault.pointer);
    }
    let colon = if place.is_empty() { "" } else { ": " };
    text.push_str(&format!("  {place}{colon}{}\n", clean(&fault.detail)));
    if let Some(what) = &fault.hint {
        text.push_str(&format!("    {}\n", clean(what)));
    }
}

fn advice(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Usage { hint, .. } | Failure::Local { hint, .. } => hint.clone(),
        Failure::Missing { hint, .. } => Some(hint.clone()),
        Failure::Problem { problem, .. } => match (&problem.hint, problem.code) {
            (Some(hint), _) => Some(hint.clone()),
            (None, Code::Internal) => {
                Some("please report it, with the lines of the node's log around now".to_owned())
            }
            (None, _) => None,
        },
        Failure::Unreachable { sent: true, .. } => {
            Some("it may have been done; look before you repeat it: scrapctl op ls".to_owned())
        }
        Failure::Unreachable { tried, .. } => Some(match spoken(tried) {
            Some(problem) => problem
                .hint
                .clone()
                .unwrap_or_else(|| "what a node knows by itself is shown with --stale".to_owned()),
            None if tried.iter().any(|attempt| attempt.connected) => {
                "what a node knows by itself is shown with --stale".to_owned()
            }
            None => "is scrapd running? name other nodes with --server, or once for all with \
                     `scrapctl context add`"
                .to_owned(),
        }),
        Failure::Strange { .. } => {
            Some("is it a node of SCRAP, and of the same version as scrapctl?".to_owned())
        }
        Failure::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Some("look at the path; nothing was sent".to_owned())
        }
        Failure::Manifests { .. }
        | Failure::Operations { .. }
        | Failure::Timeout { .. }
        | Failure::Interrupted { .. }
        | Failure::File { .. }
        | Failure::Stdout(_)
        | Failure::Status(_) => None,
    }
}
