//! The one place that names HTTP statuses: what is refused or fails here becomes an RFC 9457 problem with a code and a hint.
//!
//! Nothing here decides; it translates.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scrap_decide::refusal::{IS_DRAINED, ORPHANS, Refusal};
use scrap_host::runtime::{RuntimeCause, RuntimeError};
use scrap_schema::id::BadId;
use scrap_schema::manifest::ManifestErrors;
use scrap_schema::problem::{Code, FieldError, Problem};
use scrap_schema::strict::BadBody;

use crate::raft::ProposeError;

/// Media type of problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which a client should ask again when there is no leader.
const RETRY_AFTER: u32 = 1;

/// What a body that cannot be read at all should have been.
pub(super) const WHOLE_BODY: &str =
    "the body is one JSON object; `/v1/openapi.json` says which keys it may have";

/// A request that has no good answer.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) problem: Box<Problem>,
    pub(super) retry_after: Option<u32>,
}

/// Result of a handler.
pub(super) type Answer<T = Response> = Result<T, Failure>;

/// The HTTP status of a code.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest
        | Code::BadJson
        | Code::BadManifest
        | Code::UnknownField
        | Code::BadQuantity => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::Conflict
        | Code::Busy
        | Code::WrongState
        | Code::NotRunning
        | Code::NoPlacement
        | Code::NoReplica
        | Code::LossTooLarge
        | Code::OwnerAlive
        | Code::InUse
        | Code::Exhausted
        | Code::LastNode
        | Code::NotCancellable
        | Code::OperationFailed => StatusCode::CONFLICT,
        Code::Changed => StatusCode::PRECONDITION_FAILED,
        Code::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::NoLeader
        | Code::NoQuorum
        | Code::Unavailable
        | Code::UnknownOutcome
        | Code::NotAMember => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::NotTrusted => StatusCode::FORBIDDEN,
        Code::Gone => StatusCode::GONE,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Failure {
    /// A failure of a code, with what happened.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Problem::new(code, status(code).as_u16(), detail);
        Self { problem: Box::new(problem), retry_after: None }
    }

    /// The same with advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// The same with the faults of a text.
    pub(super) fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.problem.errors = errors;
        self
    }

    /// The caller was too slow with its request.
    pub(super) fn slow_request(detail: impl Into<String>) -> Self {
        Self::new(Code::Timeout, detail).with_status(StatusCode::REQUEST_TIMEOUT)
    }

    /// A refusal of a whole set because something in it was changed: no precondition of one object, as an ETag is.
    pub(super) fn of_a_set(self) -> Self {
        if self.problem.code != Code::Changed {
            return self;
        }
        self.hint("look at the differences again, then apply").with_status(StatusCode::CONFLICT)
    }

    /// The same with another status than the usual one of its code.
    fn with_status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self
    }

    fn retry(mut self) -> Self {
        self.retry_after = Some(RETRY_AFTER);
        self
    }

    /// One wrong value in the query or a header.
    pub(super) fn bad_value(code: Code, pointer: impl Into<String>, detail: &str) -> Self {
        Self::new(code, detail).errors(vec![FieldError::new(pointer, detail)])
    }

    /// A key that does not exist, with the nearest that does.
    pub(super) fn unknown_key(pointer: String, key: &str, allowed: &[&str]) -> Self {
        use scrap_schema::strict::{list, nearest};
        let short: String = key.chars().take(60).collect();
        let detail = format!("there is no query parameter `{short}` here");
        let hint = match nearest(key, allowed.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if allowed.is_empty() => "this address takes none".to_owned(),
            None => format!("allowed: {}", list(allowed.iter().copied())),
        };
        let fault = FieldError::new(pointer, detail.clone()).with_hint(hint.clone());
        Self::new(Code::UnknownField, detail).hint(hint).errors(vec![fault])
    }

    /// There is no such thing.
    pub(super) fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} `{name}`")).hint(list_hint(what))
    }

    /// Nobody leads, as far as this node knows.
    pub(super) fn no_leader(why: &str) -> Self {
        Self::new(Code::NoLeader, why)
            .hint("repeat in a moment; reads with `?stale=true` answer without a leader")
            .retry()
    }

    /// No majority of the voters can be reached.
    pub(super) fn no_quorum(why: &str) -> Self {
        Self::new(Code::NoQuorum, why)
            .hint("bring voters back; reads with `?stale=true` answer without a majority")
            .retry()
    }

    /// The one that would answer cannot be reached; nothing was changed.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, detail).hint("repeat in a moment, or ask another node").retry()
    }

    /// This node cannot do anything yet.
    pub(super) fn not_ready(why: &str) -> Self {
        Self::new(Code::Unavailable, format!("this node cannot work yet: {why}"))
            .hint("put that right: the node tries again by itself; or ask another node")
            .retry()
    }

    /// It is unknown whether a change was made.
    pub(super) fn unknown_outcome(detail: impl Into<String>) -> Self {
        Self::new(Code::UnknownOutcome, detail)
            .hint("retry with the same Idempotency-Key: it is done once at most")
            .retry()
    }

    /// A fault of ours. The cause is for the log; people get the request id.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(Code::Internal, detail)
    }
}

/// How to see what exists.
fn list_hint(what: &str) -> &'static str {
    match what {
        "grain" => "`scrapctl ls` lists grains, `scrapctl ls --trashed` those in the trash",
        "node" => "`scrapctl node ls` lists nodes",
        "policy" => "`scrapctl policy ls` lists policies",
        "network" => "`scrapctl network ls` lists networks",
        "template" => "`scrapctl template ls` lists templates",
        "operation" => {
            "`scrapctl op ls` lists operations; old ones are forgotten when they are over"
        }
        "orphan" => "`scrapctl orphan ls` lists orphans",
        "snapshot" => "`scrapctl info` lists the snapshots of a grain",
        _ => "`scrapctl status` shows what there is",
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let with = |code: Code, hint: &str| Self::new(code, detail.clone()).hint(hint);
        match refusal {
            Refusal::NotFound { what, .. } => with(Code::NotFound, list_hint(&what)),
            Refusal::NameTaken { .. } => {
                with(Code::Conflict, "choose another name, or change the one that exists")
            }
            Refusal::Changed { .. } => with(
                Code::Changed,
                "read it again and repeat with the new ETag, or use ?force=true",
            ),
            Refusal::KeyReused => {
                with(Code::IdempotencyMismatch, "make a new key for every request")
            }
            Refusal::Busy { operation, .. } => {
                let id = operation.split_whitespace().next().unwrap_or_default().to_owned();
                let hint = format!("wait for it (`scrapctl op attach {id}`) or cancel it");
                of_operation(with(Code::Busy, &hint), &id)
            }
            Refusal::WrongState { name, is } => wrong_state(detail, name.as_str(), &is),
            Refusal::InUse { what, name, by } => with(Code::InUse, &in_use_hint(&what, &name, &by)),
            Refusal::Stale { .. } | Refusal::OutOfDate { .. } => {
                with(Code::Changed, "something else happened at the same time; repeat the request")
                    .with_status(StatusCode::CONFLICT)
            }
            Refusal::NotCancellable { operation, .. } => {
                let hint = format!("wait for its end: `scrapctl op attach {operation}`");
                of_operation(with(Code::NotCancellable, &hint), &operation)
            }
            Refusal::OwnerAlive { name, .. } => {
                with(Code::OwnerAlive, &format!("move it without loss: `scrapctl migrate {name}`"))
            }
            Refusal::OwnerGone { name, .. } => {
                let hint = format!(
                    "bring the node back, or see what a failover would lose: `scrapctl failover {name} --dry-run`"
                );
                with(Code::WrongState, &hint)
            }
            Refusal::NodeAlive { node, .. } => with(
                Code::WrongState,
                &format!(
                    "what is shut down or unplugged falls silent first: `scrapctl node info {node}`; to empty a node that runs: `scrapctl node drain {node}`"
                ),
            ),
            Refusal::NodeUnfit { node, why } => with(Code::WrongState, &unfit_hint(&node, &why)),
            Refusal::LastNode { .. } => with(Code::LastNode, "add another node first"),
            Refusal::NodeNeeded { .. } => {
                with(Code::InUse, "bring the others back first: `scrapctl status` names them")
            }
            Refusal::LossTooLarge { name, loss, .. } => {
                let secs = loss.ms().div_ceil(1000);
                let hint =
                    format!("accept the loss: `scrapctl failover {name} --accept-loss {secs}s`");
                with(Code::LossTooLarge, &hint)
            }
            Refusal::Invalid { .. } => {
                with(Code::BadManifest, "`scrapctl explain` lists what may be written")
            }
            Refusal::AddressTaken { .. }
            | Refusal::AddressUnfit { .. }
            | Refusal::NetworksOverlap { .. }
            | Refusal::Exhausted { .. } => {
                let (code, hint) = nothing_to_give(&refusal);
                with(code, &hint)
            }
        }
    }
}

fn unfit_hint(node: &str, why: &str) -> String {
    match why {
        IS_DRAINED => format!("it may take grains again after `scrapctl node undrain {node}`"),
        _ => "`scrapctl node ls` shows the nodes".to_owned(),
    }
}

fn of_operation(mut failure: Failure, id: &str) -> Failure {
    failure.problem.operation = id.parse().ok();
    failure
}

/// Addresses and ids that a grain or a network cannot have, and what to do about it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only these here")]
fn nothing_to_give(refusal: &Refusal) -> (Code, String) {
    let (code, hint) = match refusal {
        Refusal::AddressTaken { .. } => (
            Code::Conflict,
            "choose another address, or name none: then it gets the lowest free one",
        ),
        Refusal::NetworksOverlap { .. } => {
            (Code::Conflict, "give each network addresses of its own")
        }
        Refusal::AddressUnfit { network, .. } => {
            let hint = format!("`scrapctl network info {network}` shows what it has");
            return (Code::BadManifest, hint);
        }
        _ => (
            Code::Exhausted,
            "purge grains that are in the trash (`scrapctl ls --trashed`), or make the pool larger",
        ),
    };
    (code, hint.to_owned())
}

/// What to do about what still uses a thing.
fn in_use_hint(what: &str, name: &str, by: &str) -> String {
    if by.ends_with("in the trash") {
        return "`scrapctl ls --trashed` shows it; remove it for good with `scrapctl rm --purge`, \
                or take it out with `scrapctl undelete`"
            .to_owned();
    }
    if by.starts_with(ORPHANS) {
        return format!(
            "`scrapctl orphan ls` shows them; `scrapctl node rm {name} --leave-orphans` leaves them on its disks"
        );
    }
    match what {
        "node" => format!("empty it first: `scrapctl node drain {name}`"),
        _ => "change what uses it first".to_owned(),
    }
}

fn wrong_state(detail: String, name: &str, is: &str) -> Failure {
    let (code, hint) = match is {
        "in the trash" => (Code::WrongState, format!("take it out: `scrapctl undelete {name}`")),
        "not in the trash" => (Code::InUse, format!("remove it first: `scrapctl rm {name}`")),
        is if is.starts_with("running: an address") => {
            (Code::WrongState, format!("stop it first: `scrapctl stop {name}`"))
        }
        "stopped" => (Code::NotRunning, format!("start it: `scrapctl start {name}`")),
        _ => (Code::WrongState, format!("`scrapctl info {name}` shows what it does")),
    };
    Failure::new(code, detail).hint(hint)
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader { .. } => {
                Self::no_leader(&format!("{error}; nothing was changed"))
            }
            ProposeError::Unknown { .. } => Self::unknown_outcome(error.to_string()),
            ProposeError::TooLarge { .. } => Self::new(Code::PayloadTooLarge, error.to_string())
                .hint("split the manifests into several files"),
            ProposeError::Closed => Self::unavailable("this node is stopping; nothing was changed"),
        }
    }
}

impl From<BadBody> for Failure {
    fn from(body: BadBody) -> Self {
        let mut failure = Self::new(body.code, body.to_string());
        failure.problem.hint = body.errors.iter().find_map(|error| error.hint.clone());
        let whole = body.errors.iter().any(|error| error.pointer.is_empty());
        if failure.problem.hint.is_none() && (whole || body.code == Code::BadJson) {
            failure = failure.hint(WHOLE_BODY);
        }
        failure.errors(body.errors)
    }
}

impl From<ManifestErrors> for Failure {
    fn from(errors: ManifestErrors) -> Self {
        bad_manifest(errors.field_errors())
    }
}

/// A refused manifest; the first fault is the sentence, all of them are in `errors`.
pub(super) fn bad_manifest(errors: Vec<FieldError>) -> Failure {
    let detail = match errors.as_slice() {
        [] => "the manifest is refused".to_owned(),
        [only] => only.detail.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.detail, rest.len()),
    };
    let mut failure = Failure::new(Code::BadManifest, detail);
    failure.problem.hint = errors.iter().find_map(|error| error.hint.clone());
    failure.errors(errors)
}

impl From<BadId> for Failure {
    fn from(error: BadId) -> Self {
        let hint = match error.what {
            "an operation id" => "`scrapctl op ls` lists operations with their ids",
            "a name" => "a name is as `scrapctl ls` shows it: a-z, 0-9 and -",
            _ => "copy it from where it was shown",
        };
        Self::new(Code::BadRequest, error.to_string()).hint(hint)
    }
}

/// What to know about a program that a grain has not.
pub(super) const NO_PROGRAM: &str =
    "the program must exist inside the grain; it is not given to a shell";

/// What to do about a user that a grain has not.
pub(super) const NO_USER: &str = "name one of its /etc/passwd, or give `uid:gid` in numbers";

/// What a runtime refuses, for the person who asked.
pub(super) fn from_runtime(error: &RuntimeError, name: &str) -> Failure {
    // The error itself names the grain by its id; people know its name.
    let causes = format!("grain `{name}`: {}", crate::logging::chain(&error.cause));
    match &error.cause {
        RuntimeCause::NotRunning => {
            Failure::new(Code::NotRunning, format!("grain `{name}` does not run here"))
                .hint(format!("`scrapctl info {name}` shows why"))
        }
        RuntimeCause::Stale { .. } => Failure::unavailable(causes),
        RuntimeCause::Program { .. } => Failure::new(Code::BadRequest, causes).hint(NO_PROGRAM),
        RuntimeCause::NoUser { .. } => Failure::new(Code::BadRequest, causes).hint(NO_USER),
        RuntimeCause::NotPossible { .. } => Failure::new(Code::BadRequest, causes),
        RuntimeCause::NotReady { .. }
        | RuntimeCause::StillAlive { .. }
        | RuntimeCause::Io { .. } => {
            tracing::error!(grain = %error.grain, error = %causes, "runtime failed");
            Failure::internal(causes)
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&*self.problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The outermost layer writes the request's id into it.
        response.extensions_mut().insert(*self.problem);
        response
    }
}

#[cfg(test)]
mod tests;
