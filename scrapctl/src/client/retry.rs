//! Which failures of one node are a reason to ask the next one, and how long to pause. Pure.

use std::error::Error as _;
use std::time::Duration;

use scrap_schema::problem::{Code, Problem};

use super::call::Repeat;
use crate::failure::Attempt;

/// What one attempt means.
pub(crate) enum Verdict<T> {
    /// The answer.
    Done(T),
    /// No, and every node would say the same.
    Refused(Box<Problem>),
    /// Another node, or the same one later, may do better.
    Again {
        /// What happened.
        attempt: Attempt,
        /// Whether the request may have been carried out.
        sent: bool,
    },
}

/// What a refusal means.
pub(super) fn judge<T>(problem: Problem, repeat: Repeat, server: &str) -> Verdict<T> {
    let again = match passing(problem.code) {
        Passing::No => false,
        Passing::NotDone => true,
        Passing::MaybeDone => repeat == Repeat::Safe,
    };
    if !again {
        return Verdict::Refused(Box::new(problem));
    }
    let sent = passing(problem.code) == Passing::MaybeDone;
    let outcome = problem.detail.clone();
    let problem = Some(Box::new(problem));
    let attempt = Attempt { server: server.to_owned(), outcome, connected: true, problem };
    Verdict::Again { attempt, sent }
}

/// Whether a problem may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// It stays.
    No,
    /// It may; nothing was done.
    NotDone,
    /// It may; nobody knows whether it was done.
    MaybeDone,
}

fn passing(code: Code) -> Passing {
    match code {
        Code::NoLeader
        | Code::NoQuorum
        | Code::Unavailable
        | Code::NotAMember
        | Code::TooManyRequests => Passing::NotDone,
        Code::UnknownOutcome | Code::Timeout => Passing::MaybeDone,
        Code::BadRequest
        | Code::BadJson
        | Code::BadManifest
        | Code::UnknownField
        | Code::BadQuantity
        | Code::Exhausted
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::PayloadTooLarge
        | Code::UnsupportedMediaType
        | Code::Conflict
        | Code::Changed
        | Code::PreconditionRequired
        | Code::IdempotencyMismatch
        | Code::Busy
        | Code::NotRunning
        | Code::WrongState
        | Code::NoPlacement
        | Code::NoReplica
        | Code::LossTooLarge
        | Code::OwnerAlive
        | Code::InUse
        | Code::LastNode
        | Code::NotCancellable
        | Code::OperationFailed
        | Code::NotTrusted
        | Code::Gone
        | Code::Unsupported
        | Code::Internal => Passing::No,
    }
}

/// Keeps what each node did last. An attempt that was cut short by the end of our own time says nothing about the node.
pub(super) fn note(tried: &mut Vec<Attempt>, attempt: Attempt, cut_short: bool) {
    match tried.iter_mut().find(|known| known.server == attempt.server) {
        Some(_) if cut_short && attempt.problem.is_none() => (),
        Some(known) => *known = attempt,
        None => tried.push(attempt),
    }
}

/// Whether to go round again. A cluster that never answered and refuses every connection is not there;
/// one that answered before, or says that it has no leader, is probably back in a moment.
pub(super) fn is_worth_waiting(tried: &[Attempt], answered: bool) -> bool {
    answered || tried.iter().any(|attempt| attempt.problem.is_some())
}

/// Whether a node says that no majority can be reached, and none says anything better.
pub(super) fn has_no_majority(tried: &[Attempt]) -> bool {
    let mut spoken = tried.iter().filter_map(|attempt| attempt.problem.as_ref()).peekable();
    spoken.peek().is_some() && spoken.all(|problem| problem.code == Code::NoQuorum)
}

/// What to say while it is still being tried.
pub(super) fn remark(tried: &[Attempt]) -> String {
    let spoken = tried.iter().find(|attempt| attempt.problem.is_some()).or(tried.first());
    match spoken {
        Some(attempt) => format!("{}: {}; still trying", attempt.server, attempt.outcome),
        None => "no server is known".to_owned(),
    }
}

/// A transport error in a few words: the innermost cause is the one that says something.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return "cannot be reached (no answer to the connection)".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        return format!("cannot be reached ({})", without_number(&cause.to_string()));
    }
    if error.source().is_none() {
        return "broke off".to_owned();
    }
    format!("broke off ({})", without_number(&cause.to_string()))
}

/// `Connection refused (os error 111)` without the number.
fn without_number(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Growing pauses between rounds.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(150))
    }
}

impl Pause {
    const LONGEST: Duration = Duration::from_secs(1);

    /// The pause before the next round.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 3 / 2).min(Self::LONGEST);
        now
    }
}
