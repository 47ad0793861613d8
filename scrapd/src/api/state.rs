//! What handlers hold: the daemon, and the ways to look at it and to change it. No handler touches the consensus by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scrap_decide::cluster::{Cluster, Grain, Outcome};
use scrap_decide::refusal::Refusal;
use scrap_host::clock;
use scrap_schema::api::{HEADER_INDEX, OperationView};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{GrainId, Name, OperationId};
use scrap_schema::problem::Code;
use scrap_schema::unit::Span;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{Answer, Failure};
use super::input::Asked;
use super::view::{self, Raft, World};
use crate::daemon::Daemon;

/// The state of every handler.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) daemon: Arc<Daemon>,
}

/// An election that goes on for this long does not find a majority.
const ELECTION_LIMIT: Span = Span::from_secs(10);

/// Ends long answers when the server stops.
#[derive(Debug, Clone, Default)]
pub(super) struct Closing(pub(super) CancellationToken);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Closing {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Api {
    /// Looks at everything at once. `f` must be short: changes wait meanwhile.
    ///
    /// The state is locked first and the leader's memory inside; whoever needs both must keep this order.
    pub(super) fn look<R>(&self, f: impl FnOnce(&World<'_>) -> R) -> R {
        let consensus = &self.daemon.consensus;
        let leadership = *consensus.leadership().borrow();
        let raft = Raft {
            leads: leadership.me,
            leader: consensus.live_leader(),
            voters: consensus.members().voters,
        };
        let now = clock::now();
        consensus.read(|cluster| {
            self.daemon.leader.with(|observed, waiting| {
                let held = view::by_subject(waiting);
                f(&World { cluster, observed, held: &held, raft: &raft, now })
            })
        })
    }

    /// Looks at the replicated state alone.
    pub(super) fn read<R>(&self, f: impl FnOnce(&Cluster) -> R) -> R {
        self.daemon.consensus.read(f)
    }

    /// Makes sure that what is read next is not older than this moment. Only on the leader.
    pub(super) async fn confirm(&self) -> Answer<()> {
        match self.daemon.consensus.confirm_leadership().await {
            Ok(_) => Ok(()),
            Err(_) if self.daemon.consensus.leadership().borrow().me => {
                Err(Failure::no_quorum("no majority of the voters can be reached from the leader"))
            }
            Err(_) => Err(Failure::no_leader("the leader changed while it was asked")),
        }
    }

    /// Why there is nobody to ask.
    pub(super) fn leaderless(&self) -> Failure {
        match self.daemon.consensus.silence() {
            Some(silence) if silence > ELECTION_LIMIT => Failure::no_quorum(&format!(
                "no majority of the voters can be reached: there has been no leader for {}",
                silence.rounded()
            )),
            Some(_) | None => Failure::no_leader(
                "no leader is known here: an election goes on, or no majority of the voters can be reached",
            ),
        }
    }

    /// Brings a change into the log. One atomic step: a caller that goes away loses nothing of it by halves.
    pub(super) async fn propose(&self, asked: &Asked, command: Command) -> Answer<Outcome> {
        Ok(self.try_propose(asked, command).await??)
    }

    /// The same; what the state refuses is for the caller to judge.
    pub(super) async fn try_propose(
        &self,
        asked: &Asked,
        command: Command,
    ) -> Answer<Result<Outcome, Refusal>> {
        let key = asked.key()?;
        let said = command.to_string();
        let proposal = Proposal { at: clock::wall(), key, command };
        let committed = self.daemon.consensus.propose(proposal).await.map_err(|error| {
            tracing::warn!(command = said, %error, "change has no answer");
            match (Failure::from(error), self.daemon.consensus.leadership().borrow().me) {
                (failure, true) if failure.problem.code == Code::NoLeader => Failure::no_quorum(
                    "no majority of the voters can be reached from the leader; nothing was changed",
                ),
                (failure, _) => failure,
            }
        })?;
        match &committed.outcome {
            Ok(_) => tracing::info!(
                command = said,
                index = committed.index,
                repeated = committed.repeated,
                "change made"
            ),
            Err(refusal) => tracing::info!(command = said, %refusal, "change refused"),
        }
        self.applied(committed.index).await;
        Ok(committed.outcome)
    }

    /// Waits until an entry is applied here. On the leader it is already.
    async fn applied(&self, index: u64) {
        const LIMIT: Duration = Duration::from_secs(5);
        let mut changes = self.daemon.consensus.changes();
        // Whoever reads too early sees the state before; the change itself is safe.
        let _ = tokio::time::timeout(LIMIT, changes.wait_for(|applied| *applied >= index)).await;
    }

    /// Waits until an operation is over, the time is up or the server stops, and says how it is then.
    pub(super) async fn operation_after(
        &self,
        id: OperationId,
        wait: Option<Duration>,
        closing: &Closing,
    ) -> Answer<(u64, OperationView)> {
        let deadline = Instant::now() + wait.unwrap_or_default();
        let mut changes = self.daemon.consensus.changes();
        loop {
            changes.borrow_and_update();
            let (index, view) = self.look(|world| {
                let operation = world.cluster.operations.get(&id);
                (world.cluster.index, operation.map(|operation| view::operation(world, operation)))
            });
            let view = view.ok_or_else(|| Failure::not_found("operation", id))?;
            if view.state.is_final() || Instant::now() >= deadline {
                return Ok((index, view));
            }
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Ok((index, view));
                    }
                }
                () = tokio::time::sleep_until(deadline) => (),
                () = closing.0.cancelled() => return Ok((index, view)),
            }
        }
    }

    /// The answer to a request that began an operation: 202 while it runs, 200 if it is over already.
    pub(super) async fn begun(
        &self,
        outcome: Outcome,
        wait: Option<Duration>,
        closing: &Closing,
    ) -> Answer {
        let operation = match outcome {
            Outcome::Operation { operation }
            | Outcome::Grain { operation: Some(operation), .. } => operation,
            Outcome::Done
            | Outcome::Unchanged
            | Outcome::Node { .. }
            | Outcome::Items { .. }
            | Outcome::Grain { operation: None, .. } => {
                return Err(Failure::internal("the change was made but began no operation"));
            }
        };
        let (index, view) = self.operation_after(operation, wait, closing).await?;
        Ok(operation_answer(index, &view))
    }
}

/// An operation: 202 while it runs, 200 if it is over.
pub(super) fn operation_answer(index: u64, view: &OperationView) -> Response {
    let over = view.state.is_final();
    let status = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, shown(index, view)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{}", view.id)) {
        headers.insert(header::LOCATION, location);
    }
    if !over {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(1_u16));
    }
    response
}

/// A body with the log index that it is of.
pub(super) fn shown(index: u64, body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(HEADER_INDEX, HeaderValue::from(index));
    response
}

/// The same of one object, with its ETag.
pub(super) fn tagged(index: u64, modified: u64, body: impl Serialize) -> Response {
    let mut response = shown(index, body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{modified}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A new identity; sorts by time.
pub(super) fn fresh() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// A new operation's identity.
pub(super) fn fresh_operation() -> OperationId {
    OperationId(fresh())
}

/// A grain outside the trash by name, or any by id.
pub(super) fn find_grain<'a>(cluster: &'a Cluster, text: &str) -> Answer<&'a Grain> {
    if let Some(grain) = text.parse::<Name>().ok().and_then(|name| cluster.grain_named(&name)) {
        return Ok(grain);
    }
    if let Some(grain) = text.parse::<GrainId>().ok().and_then(|id| cluster.grains.get(&id)) {
        return Ok(grain);
    }
    text.parse::<Name>()?;
    let mut trashed = cluster.grains.values().filter(|grain| grain.name.as_str() == text);
    let missing = Failure::not_found("grain", text);
    Err(match trashed.next() {
        Some(grain) => missing.hint(format!(
            "one of this name is in the trash: `scrapctl undelete {text}`, or ask for it as {}",
            grain.id
        )),
        None => missing,
    })
}

/// A grain by name or id, in the trash or not; a name that several trashed ones have is refused.
pub(super) fn find_grain_anywhere<'a>(cluster: &'a Cluster, text: &str) -> Answer<&'a Grain> {
    find_grain(cluster, text).or_else(|missing| find_trashed(cluster, text)?.ok_or(missing))
}

/// A grain that a person wants back: the trash comes first, or a living one of the same name would be the answer.
pub(super) fn find_grain_to_undelete<'a>(cluster: &'a Cluster, text: &str) -> Answer<&'a Grain> {
    let Some(trashed) = find_trashed(cluster, text)? else { return find_grain(cluster, text) };
    if cluster.grain_named(&trashed.name).is_none() {
        return Ok(trashed);
    }
    let (name, id) = (&trashed.name, trashed.id);
    let detail = format!("there is a grain `{name}` already; the one in the trash is {id}");
    let hint = format!("make room first: `scrapctl rm {name}`, then `scrapctl undelete {id}`");
    Err(Failure::new(Code::Conflict, detail).hint(hint))
}

/// The grain in the trash that has this name, if there is one.
fn find_trashed<'a>(cluster: &'a Cluster, text: &str) -> Answer<Option<&'a Grain>> {
    let called = |grain: &&Grain| grain.trashed_until.is_some() && grain.name.as_str() == text;
    let trashed: Vec<&Grain> = cluster.grains.values().filter(called).collect();
    match trashed.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let ids: Vec<_> = several.iter().map(|grain| grain.id.to_string()).collect();
            let detail = format!("several grains `{text}` are in the trash");
            let hint = format!("say which by its id: {}", ids.join(", "));
            Err(Failure::new(Code::Conflict, detail).hint(hint))
        }
    }
}

/// A node by name or number.
pub(super) fn find_node<'a>(
    cluster: &'a Cluster,
    text: &str,
) -> Answer<&'a scrap_decide::cluster::Node> {
    let name: Name = text.parse()?;
    cluster.node_named(&name).ok_or_else(|| Failure::not_found("node", name))
}
