//! Problems: how every refusal and failure is said over HTTP (RFC 9457), and the closed list of their codes.
//!
//! What a program may rely on is [`Code`]; everything else is for people. HTTP statuses are chosen in the API room,
//! never here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{Name, OperationId};

/// A refusal or failure as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// A page that explains the code.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The code in a few words; the same text for every problem of this code.
    pub title: String,
    /// The HTTP status it came with.
    pub status: u16,
    /// What programs act on. A code that this version does not know reads as `internal`; title and detail still
    /// say what it was.
    #[serde(deserialize_with = "known_or_internal")]
    pub code: Code,
    /// What happened, with the names and numbers of this case.
    pub detail: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The operation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub operation: Option<OperationId>,
    /// What to search the logs for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Each fault of a refused body, in the order of the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Why each node was refused, for `no-placement` and `no-replica`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// For `gone`: the oldest index from which events are still kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}

/// One fault in a text that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901); empty means the whole document.
    pub pointer: String,
    /// Line in the text as it was sent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in that line in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong, in one sentence.
    pub detail: String,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A node that was considered and refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// Its name.
    pub node: Name,
    /// Everything that speaks against it.
    pub reasons: Vec<String>,
}

impl FieldError {
    /// A fault at a pointer, its line not yet known.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        Self { pointer, line: None, column: None, detail, hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Problem {
    /// A problem of a code, with what happened. The status is the API's to choose.
    #[must_use]
    pub fn new(code: Code, status: u16, detail: impl Into<String>) -> Self {
        Self {
            type_uri: code.type_uri(),
            title: code.title().to_owned(),
            status,
            code,
            detail: detail.into(),
            hint: None,
            operation: None,
            request_id: None,
            errors: Vec::new(),
            candidates: Vec::new(),
            oldest: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

/// How `scrapctl` ends. Documented, tested, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, or there was nothing to do.
    Ok = 0,
    /// Failed; for `diff`: there are differences.
    Failed = 1,
    /// The command line or the file is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// Not allowed.
    Denied = 4,
    /// Something else has changed or holds it meanwhile.
    Conflict = 5,
    /// No node answers, or the cluster has no leader or no majority.
    Unreachable = 6,
    /// No node can take the grain.
    NoPlacement = 7,
    /// Accepted, then the operation failed.
    OperationFailed = 8,
    /// `--timeout` was reached; the operation goes on.
    Timeout = 124,
    /// Interrupted; the operation goes on.
    Interrupted = 130,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Declares [`Code`]: per code its meaning (the doc comment), slug, title, exit and what to do.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident: $slug:literal, $title:literal, $exit:ident, $remedy:literal;)+) => {
        /// What kind of problem it is: a closed list, additions only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(rename_all = "kebab-case")]
        pub enum Code {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl Code {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$code),+];

            /// The code as JSON carries it.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$code => $slug,)+ }
            }

            /// The code in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)+ }
            }

            /// How `scrapctl` ends with it.
            #[must_use]
            pub const fn exit_code(self) -> Exit {
                match self { $(Self::$code => Exit::$exit,)+ }
            }

            /// What it means, for the reference page.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($meaning),+),)+ }
            }

            /// What a person can do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy,)+ }
            }
        }
    };
}

codes! {
    /// The request makes no sense: a wrong path, query or header.
    BadRequest: "bad-request", "The request is wrong", Usage,
        "Read `detail`; the API reference lists what each request takes.";
    /// The body is not JSON, or not of the right shape.
    BadJson: "bad-json", "The body is not the JSON that is expected", Usage,
        "`errors` names line, column and JSON pointer of each fault.";
    /// A manifest or spec is refused. Nothing was changed.
    BadManifest: "bad-manifest", "The manifest is refused", Usage,
        "`errors` names line, column and JSON pointer of each fault. `scrapctl explain grain.spec` lists what may be written.";
    /// A key that does not exist. Unknown keys are never ignored: a misspelt one would silently do nothing.
    UnknownField: "unknown-field", "A key does not exist", Usage,
        "The hint names the nearest key that exists.";
    /// A size, time span or number of cores cannot be read, or has no unit.
    BadQuantity: "bad-quantity", "A quantity cannot be read", Usage,
        "Write sizes as `256MiB`, spans as `30s` or `5m`, cores as `1.5`.";
    /// What was named does not exist.
    NotFound: "not-found", "It does not exist", NotFound,
        "List what exists: `scrapctl ls`, `scrapctl node ls`.";
    /// The address exists, but not for this method.
    MethodNotAllowed: "method-not-allowed", "The method is not allowed here", Usage,
        "The header `Allow` lists the methods. If `scrapctl` sent it, its version differs from the node's.";
    /// The body is larger than this address takes.
    PayloadTooLarge: "payload-too-large", "The body is too large", Usage,
        "Split the manifests into several files.";
    /// The header `Content-Type` names a format that is not understood here.
    UnsupportedMediaType: "unsupported-media-type", "The format of the body is not supported", Usage,
        "Send `application/json`; manifests may also come as `application/yaml`.";
    /// The name is taken.
    Conflict: "conflict", "The name is taken", Conflict,
        "Choose another name, or change the one that exists.";
    /// It was changed by somebody else since it was read (`If-Match` did not match). Nothing was changed.
    Changed: "changed", "It was changed meanwhile", Conflict,
        "Read it again, look at the change, and repeat.";
    /// An existing object may only be changed by somebody who has read it: the header `If-Match` is missing.
    PreconditionRequired: "precondition-required", "The header `If-Match` is required", Usage,
        "Send the `ETag` of the last read as `If-Match`, or `?force=true` to overwrite whatever is there.";
    /// The same `Idempotency-Key` came before with another request.
    IdempotencyMismatch: "idempotency-mismatch", "The idempotency key was used for another request", Conflict,
        "Make a new key for every new request; repeat a key only with the same body.";
    /// Another operation works on it.
    Busy: "busy", "Another operation works on it", Conflict,
        "Wait for it (`scrapctl op attach`) or cancel it (`scrapctl op cancel`); `operation` names it.";
    /// The grain is not running, and this needs a running one.
    NotRunning: "not-running", "The grain is not running", Failed,
        "Start it with `scrapctl start`, or read in `scrapctl info` why it does not run.";
    /// What was named is not in a state that allows this: in the trash, moving, or there already.
    WrongState: "wrong-state", "Its state does not allow this", Conflict,
        "`detail` says what state it is in; `scrapctl info` shows the rest.";
    /// No node can take the grain. `candidates` says for each node why not.
    NoPlacement: "no-placement", "No node can run this grain", NoPlacement,
        "Lower what the grain asks for, undrain a node, or add one.";
    /// No complete copy of the grain's data can be reached.
    NoReplica: "no-replica", "No usable copy of the data is reachable", Failed,
        "Bring back a node that holds a copy; `candidates` names them.";
    /// The newest copy is older than the policy's `maxDataLoss`: a failover would lose more than it allows.
    LossTooLarge: "loss-too-large", "A failover would lose too much", Failed,
        "Bring the old owner back, or accept the loss: `scrapctl failover --accept-loss`.";
    /// The grain's owner is alive, so taking the grain away from it would lose data for nothing.
    OwnerAlive: "owner-alive", "The owner is alive", Failed,
        "Move the grain without loss: `scrapctl migrate`.";
    /// It is still used, so it cannot be removed.
    InUse: "in-use", "It is still used", Failed,
        "`detail` names who uses it; change or remove that first.";
    /// All addresses of a network, or all ranges of user ids, are given to grains.
    Exhausted: "exhausted", "Nothing is left to give", Failed,
        "`detail` names what is used up; purge grains that are in the trash, or make the pool larger.";
    /// The last node of a cluster cannot be removed.
    LastNode: "last-node", "It is the last node", Failed,
        "Add another node first.";
    /// No leader is known: an election is going on, or this node is cut off. Nothing was changed.
    NoLeader: "no-leader", "The cluster has no leader", Unreachable,
        "Wait a few seconds and repeat. Reads with `?stale=true` answer without a leader.";
    /// No majority of the voters can be reached. Nothing was changed.
    NoQuorum: "no-quorum", "The cluster has no majority", Unreachable,
        "Bring back enough voters for a majority; `scrapctl node ls` shows them. Reads with `?stale=true` still answer.";
    /// The node starts, stops, or cannot reach the one that would answer. Nothing was changed.
    Unavailable: "unavailable", "The node cannot answer now", Unreachable,
        "Repeat in a moment, or ask another node.";
    /// The time limit of the request was reached. An operation that was accepted goes on.
    Timeout: "timeout", "It takes longer than the limit", Timeout,
        "Look after it: `scrapctl op attach`.";
    /// The leader was lost while the change was being written: it may have been made or not.
    UnknownOutcome: "unknown-outcome", "It is unknown whether it was done", Failed,
        "Repeat the request with the same `Idempotency-Key` (it is done once at most), or look whether the change is there.";
    /// The operation has passed the point from which it can only go forward, or has ended.
    NotCancellable: "not-cancellable", "The operation can no longer be cancelled", Failed,
        "Wait for its end: `scrapctl op attach`.";
    /// The operation was accepted and failed later.
    OperationFailed: "operation-failed", "The operation failed", OperationFailed,
        "`scrapctl op attach` shows the phase in which it failed and why.";
    /// This node belongs to no cluster.
    NotAMember: "not-a-member", "The node belongs to no cluster", Unreachable,
        "Make a cluster with `scrapd init`, or let the node join one with `scrapd join`.";
    /// The node does not trust the caller: it listens only locally, or the cluster admits nobody now.
    NotTrusted: "not-trusted", "The caller is not trusted", Denied,
        "Ask on the node itself, or let an operator of the cluster admit you.";
    /// The events that were asked for are no longer kept. `oldest` is the first index that still is.
    Gone: "gone", "These events are no longer kept", Failed,
        "Read the present state, then follow the events from `oldest` on.";
    /// The caller asks too often.
    TooManyRequests: "too-many-requests", "Too many requests", Unreachable,
        "Wait for the time in the header `Retry-After`.";
    /// The runtime or storage of this node cannot do this.
    Unsupported: "unsupported", "This node cannot do it", Failed,
        "`detail` names what is missing.";
    /// A fault in scrap itself, or a code that this version of `scrapctl` does not know yet.
    Internal: "internal", "A fault in scrap", Failed,
        "Please report it with the lines of the log that carry `request_id`.";
}

impl Code {
    /// The page that explains it.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("https://docs.scrap.example/problems/{}", self.slug())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

/// A text that is no code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no problem code of this version")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let known = Self::ALL.iter().find(|code| code.slug() == text);
        known.copied().ok_or_else(|| UnknownCode(text.chars().take(80).collect()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A newer node may send a code that this program does not know; its words must still reach the reader.
fn known_or_internal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
    Ok(String::deserialize(deserializer)?.parse().unwrap_or(Code::Internal))
}

#[cfg(test)]
mod tests;
