//! Calls to peers: HTTP/1.1 on connections that stay open. One hop, no retries here: the algorithm and the callers repeat.
//!
//! Never calls this node itself.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use scrap_schema::command::Proposal;
use scrap_schema::id::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::generation::Generation;
use super::machine::Published;
use super::settings::{Settings, Timers};
use super::types::{Snapshot, SnapshotFile, Types, Vote};
use super::wire::{self, Forwarded, SnapshotHead};

/// Bytes that are read from a snapshot at once.
const CHUNK: usize = 256 << 10;
/// Connections that stay open to each peer: entries, heartbeats, and what is forwarded.
const IDLE_CONNECTIONS: usize = 4;

/// A call to a peer failed.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// It is this node.
    #[error("node {0} is this node: it does not call itself")]
    Myself(NodeId),
    /// Nobody knows where it is.
    #[error("the peer address of node {0} is unknown")]
    NoAddress(NodeId),
    /// The call itself.
    #[error("call of node {node} at `{url}`")]
    Http {
        node: NodeId,
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The peer refuses.
    #[error("node {node} at `{url}` answers {status}: {text}")]
    Refused { node: NodeId, url: String, status: u16, text: String },
    /// A snapshot cannot be read, or its stream stands still.
    #[error("snapshot for node {node}")]
    Snapshot {
        node: NodeId,
        #[source]
        source: io::Error,
    },
}

impl CallError {
    /// Whether the peer surely has not seen the call.
    pub(crate) fn never_arrived(&self) -> bool {
        match self {
            Self::Myself(_) | Self::NoAddress(_) => true,
            Self::Http { source, .. } => source.is_connect() || source.is_builder(),
            // Our own guard in front of the routes: the call was not looked at.
            Self::Refused { status, .. } => *status == 421 || *status == 404,
            Self::Snapshot { .. } => false,
        }
    }
}

/// Calls peers. A cheap handle.
#[derive(Clone)]
pub(crate) struct Peers {
    client: reqwest::Client,
    me: NodeId,
    timers: Timers,
    published: Arc<Published>,
    pub(super) generation: Generation,
}

impl Peers {
    /// Makes the client.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn new(
        settings: &Settings,
        published: Arc<Published>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(settings.timers.rpc)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()?;
        Ok(Self {
            client,
            me: settings.node,
            timers: settings.timers,
            published,
            generation: Generation::new(settings.cluster, settings.generation),
        })
    }

    /// Where a call goes. What the nodes say of themselves wins over what the membership was made with.
    fn url(&self, node: NodeId, fallback: Option<&str>, path: &str) -> Result<String, CallError> {
        if node == self.me {
            return Err(CallError::Myself(node));
        }
        let known = self
            .published
            .read(|cluster| cluster.nodes.get(&node).map(|node| node.addresses.peer.clone()));
        let address = known.or_else(|| fallback.map(str::to_owned));
        let address = address.ok_or(CallError::NoAddress(node))?;
        Ok(format!("http://{address}{path}"))
    }

    fn post(&self, node: NodeId, url: &str) -> reqwest::RequestBuilder {
        self.client
            .post(url)
            .header(wire::CLUSTER, self.generation.cluster.to_string())
            .header(wire::GENERATION, self.generation.own)
            .header(wire::FROM, self.me.to_string())
            .header(wire::TO, node.to_string())
    }

    async fn call<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        node: NodeId,
        url: String,
        question: &Q,
        limit: Duration,
    ) -> Result<A, CallError> {
        let sent = self.post(node, &url).timeout(limit).json(question).send().await;
        self.answer(node, url, sent).await
    }

    /// The other nodes of the present generation, as far as this one knows.
    pub(super) fn others(&self) -> Vec<NodeId> {
        self.published.read(|cluster| {
            let nodes = cluster.present_nodes().map(|node| node.id);
            nodes.filter(|node| *node != self.me).collect()
        })
    }

    /// Asks a node of which generation it is. Whether it answered at all.
    pub(super) async fn hello(&self, node: NodeId) -> bool {
        let Ok(url) = self.url(node, None, wire::HELLO) else { return false };
        let said =
            self.call::<(), serde::de::IgnoredAny>(node, url, &(), self.timers.rpc / 2).await;
        match said {
            Ok(_) | Err(CallError::Refused { .. }) => true,
            Err(
                CallError::Myself(_)
                | CallError::NoAddress(_)
                | CallError::Http { .. }
                | CallError::Snapshot { .. },
            ) => false,
        }
    }

    /// Gives a proposal to the leader.
    pub(crate) async fn propose(
        &self,
        leader: NodeId,
        fallback: Option<&str>,
        proposal: &Proposal,
        limit: Duration,
    ) -> Result<Forwarded, CallError> {
        let url = self.url(leader, fallback, wire::PROPOSE)?;
        self.call(leader, url, proposal, limit).await
    }
}

impl Peers {
    async fn answer<A: DeserializeOwned>(
        &self,
        node: NodeId,
        url: String,
        sent: Result<reqwest::Response, reqwest::Error>,
    ) -> Result<A, CallError> {
        let http = |url, source| CallError::Http { node, url, source };
        let response = match sent {
            Ok(response) => response,
            Err(source) => return Err(http(url, source.without_url())),
        };
        self.generation.hear_in(response.headers());
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(|source| http(url, source.without_url()));
        }
        let text = response.text().await.unwrap_or_default();
        let text = text.chars().take(300).collect();
        Err(CallError::Refused { node, url, status: status.as_u16(), text })
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { peers: self.clone(), node: NodeId(target), address: node.addr.clone() }
    }
}

/// Calls one peer for the algorithm.
pub(crate) struct Peer {
    peers: Peers,
    node: NodeId,
    address: String,
}

fn unreachable(error: CallError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl Peer {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<A, RPCError<Types>> {
        let url = self.peers.url(self.node, Some(&self.address), path).map_err(unreachable)?;
        self.peers.call(self.node, url, question, self.peers.timers.rpc).await.map_err(unreachable)
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, CallError> {
        let node = self.node;
        let fail = |source| CallError::Snapshot { node, source };
        let url = self.peers.url(node, Some(&self.address), wire::SNAPSHOT)?;
        let file = tokio::fs::File::open(&snapshot.snapshot.path).await.map_err(fail)?;
        let bytes = file.metadata().await.map_err(fail)?.len();
        let head = serde_json::to_vec(&SnapshotHead { vote, meta: snapshot.meta, bytes })
            .map_err(|error| fail(error.into()))?;
        let length = u32::try_from(head.len()).map_err(|error| fail(io::Error::other(error)))?;
        let first = [length.to_be_bytes().as_slice(), &head].concat();
        let total = first.len() as u64 + bytes;
        let moved = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&moved);
        let parts = stream::once(async { Ok(Bytes::from(first)) })
            .chain(tokio_util::io::ReaderStream::with_capacity(file, CHUNK))
            .inspect_ok(move |part: &Bytes| {
                count.fetch_add(part.len() as u64, Ordering::Relaxed);
            });
        let body = reqwest::Body::wrap_stream(parts);
        let sent = self.peers.post(node, &url).body(body).send();
        let exchange = async { self.peers.answer(node, url, sent.await).await };
        tokio::select! {
            answer = exchange => answer,
            () = stands_still(&moved, total, &self.peers.timers) => {
                Err(fail(io::Error::new(io::ErrorKind::TimedOut, "its stream stands still")))
            }
        }
    }
}

/// Ends when nothing has moved for too long, or the peer takes too long to install what it has.
async fn stands_still(moved: &AtomicU64, total: u64, timers: &Timers) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        let limit = if before >= total { timers.snapshot_install } else { timers.snapshot_idle };
        tokio::time::sleep(limit).await;
        if before == moved.load(Ordering::Relaxed) {
            return;
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        question: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.call(wire::APPEND, &question).await
    }

    async fn vote(
        &mut self,
        question: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call(wire::VOTE, &question).await
    }

    async fn pre_vote(
        &mut self,
        question: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call(wire::PRE_VOTE, &question).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => {
                sent.map_err(|error| StreamingError::from(unreachable(error)))
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        question: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call(wire::TRANSFER, &question).await
    }
}
