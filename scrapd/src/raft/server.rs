//! What peers call: the algorithm's messages, snapshots, forwarded proposals.
//!
//! A call from another cluster or generation, or meant for another node, is refused before anything of it is read. A forwarded proposal is
//! never forwarded again. Who the caller really is, is the listener's matter (the certificate), not this room's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, BodyDataStream};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest,
};
use scrap_host::clock;
use scrap_schema::command::Proposal;
use tokio::io::AsyncWriteExt;

use super::Consensus;
use super::generation::text;
use super::propose::Attempt;
use super::types::{Snapshot, SnapshotFile, Types};
use super::wire::{self, Forwarded, SnapshotHead};
use crate::store::snapshot;

/// Numbers the files that snapshots are received into.
static INCOMING: AtomicU64 = AtomicU64::new(0);

/// The routes.
pub(super) fn routes(consensus: Consensus) -> Router {
    let ours = middleware::from_fn_with_state(consensus.clone(), only_ours);
    let guard = middleware::from_fn_with_state(consensus.clone(), guard);
    let messages = Router::new()
        .route(wire::APPEND, post(append))
        .route(wire::VOTE, post(vote))
        .route(wire::PRE_VOTE, post(pre_vote))
        .route(wire::TRANSFER, post(transfer))
        .route(wire::PROPOSE, post(propose))
        .route(wire::HELLO, post(|| async { Json(()) }))
        .layer(DefaultBodyLimit::max(wire::BODY_LIMIT));
    let streams = Router::new()
        .route(wire::SNAPSHOT, post(receive_snapshot))
        .layer(DefaultBodyLimit::disable());
    messages.merge(streams).layer(guard).layer(ours).with_state(consensus)
}

/// Refuses every call that is not of this cluster in this generation, before anything of it is read.
pub(crate) async fn only_ours(
    State(consensus): State<Consensus>,
    request: Request,
    next: Next,
) -> Response {
    let generation = &consensus.inner.peers.generation;
    let response = match generation.refusal(request.headers()) {
        Some(why) => (StatusCode::MISDIRECTED_REQUEST, why).into_response(),
        None => next.run(request).await,
    };
    generation.sign(response)
}

/// Refuses calls that are not for this node.
async fn guard(State(consensus): State<Consensus>, request: Request, next: Next) -> Response {
    let me = consensus.inner.settings.node.to_string();
    let to = text(request.headers(), wire::TO);
    if to != me {
        let text = format!("this is node {me}, not node `{to}`");
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

/// The algorithm has stopped, or a snapshot cannot be taken.
struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn stopped(error: impl std::fmt::Display) -> Failed {
    Failed(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn append(
    State(consensus): State<Consensus>,
    Json(question): Json<AppendEntriesRequest<Types>>,
) -> Result<impl IntoResponse, Failed> {
    let arrived = clock::boot_time();
    let committed = question.leader_commit.map_or(0, |committed| committed.index);
    let answer = consensus.inner.raft.append_entries(question).await.map_err(stopped)?;
    match &answer {
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            consensus.inner.heard_from_leader(arrived, committed);
        }
        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => (),
    }
    Ok(Json(answer))
}

async fn vote(
    State(consensus): State<Consensus>,
    Json(question): Json<VoteRequest<Types>>,
) -> Result<impl IntoResponse, Failed> {
    consensus.inner.raft.vote(question).await.map(Json).map_err(stopped)
}

async fn pre_vote(
    State(consensus): State<Consensus>,
    Json(question): Json<VoteRequest<Types>>,
) -> Result<impl IntoResponse, Failed> {
    consensus.inner.raft.pre_vote(question).await.map(Json).map_err(stopped)
}

async fn transfer(
    State(consensus): State<Consensus>,
    Json(question): Json<TransferLeaderRequest<Types>>,
) -> Result<impl IntoResponse, Failed> {
    consensus.inner.raft.handle_transfer_leader(question).await.map(Json).map_err(stopped)
}

async fn propose(
    State(consensus): State<Consensus>,
    Json(proposal): Json<Proposal>,
) -> Json<Forwarded> {
    let limit = consensus.inner.settings.timers.propose;
    Json(match consensus.inner.propose_here(&proposal, limit).await {
        Attempt::Done(committed) => Forwarded::Committed { committed },
        Attempt::NotNow { leader } => Forwarded::NotNow { leader },
        Attempt::Closed => Forwarded::NotNow { leader: None },
        Attempt::Unknown => Forwarded::Unknown,
    })
}

/// Receives in a task of its own: a caller that goes away must not leave a half installed snapshot.
async fn receive_snapshot(
    State(consensus): State<Consensus>,
    body: Body,
) -> Result<Json<SnapshotResponse<Types>>, Failed> {
    let task = tokio::spawn(async move {
        let number = INCOMING.fetch_add(1, Ordering::Relaxed);
        let dir = &consensus.inner.settings.dir;
        let incoming = Incoming(snapshot::temporary_path(dir, "incoming", number));
        receive(&consensus, body.into_data_stream(), &incoming).await
    });
    task.await.map_err(stopped)?.map(Json)
}

/// A file that goes if nobody has taken it.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Ok(()) => (),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "a temporary file stays")
            }
        }
    }
}

async fn receive(
    consensus: &Consensus,
    body: BodyDataStream,
    incoming: &Incoming,
) -> Result<SnapshotResponse<Types>, Failed> {
    let mut body =
        Parts { body, rest: BytesMut::new(), idle: consensus.inner.settings.timers.snapshot_idle };
    let length = u32::from_be_bytes(body.exactly::<4>().await?);
    if length > wire::HEAD_LIMIT {
        return Err(bad(format!("the head of the snapshot has {length} bytes")));
    }
    let head = body.take(length as usize).await?;
    let head: SnapshotHead = serde_json::from_slice(&head).map_err(bad)?;
    let file = |error: std::io::Error| {
        let text = format!("file `{}`: {error}", incoming.0.display());
        Failed(StatusCode::INSUFFICIENT_STORAGE, text)
    };
    let mut to = tokio::fs::File::create(&incoming.0).await.map_err(file)?;
    let mut missing = head.bytes;
    while missing > 0 {
        let part = body.some().await?;
        let more = part.len() as u64;
        missing = missing.checked_sub(more).ok_or_else(|| bad("the snapshot is too long"))?;
        to.write_all(&part).await.map_err(file)?;
    }
    to.flush().await.map_err(file)?;
    to.sync_all().await.map_err(file)?;
    drop(to);
    // A broken snapshot must be found here: further on it would stop this node for good.
    let stored = snapshot::load_snapshot(&incoming.0)
        .await
        .map_err(|error| bad(crate::logging::chain(&error)))?;
    let applied = stored.meta.map(|meta| meta.applied);
    let wanted = head.meta.last_log_id.as_ref().map(serde_json::to_vec).transpose().map_err(bad)?;
    if applied != wanted {
        return Err(bad("the snapshot is not of the entry that it came for"));
    }
    let snapshot =
        Snapshot { meta: head.meta, snapshot: SnapshotFile { path: incoming.0.clone() } };
    consensus.inner.raft.install_full_snapshot(head.vote, snapshot).await.map_err(stopped)
}

fn bad(error: impl std::fmt::Display) -> Failed {
    Failed(StatusCode::BAD_REQUEST, error.to_string())
}

/// A body in parts, with a limit for the pause between two.
struct Parts {
    body: BodyDataStream,
    rest: BytesMut,
    idle: std::time::Duration,
}

impl Parts {
    /// The next bytes, at least one.
    async fn some(&mut self) -> Result<Bytes, Failed> {
        if self.rest.has_remaining() {
            return Ok(self.rest.split().freeze());
        }
        loop {
            let part = tokio::time::timeout(self.idle, self.body.next()).await.map_err(|_| {
                Failed(StatusCode::REQUEST_TIMEOUT, "the stream stands still".to_owned())
            })?;
            let part = part.ok_or_else(|| bad("the snapshot is too short"))?.map_err(bad)?;
            if !part.is_empty() {
                return Ok(part);
            }
        }
    }

    /// So many bytes.
    async fn take(&mut self, count: usize) -> Result<Bytes, Failed> {
        let mut taken = BytesMut::new();
        while taken.len() < count {
            let part = self.some().await?;
            taken.extend_from_slice(&part);
        }
        self.rest = taken.split_off(count);
        Ok(taken.freeze())
    }

    async fn exactly<const N: usize>(&mut self) -> Result<[u8; N], Failed> {
        let taken = self.take(N).await?;
        <[u8; N]>::try_from(taken.as_ref()).map_err(bad)
    }
}
