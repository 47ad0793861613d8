//! Between nodes: renewals of leases, questions about copies, streams. The client side and the door.
//!
//! Plain HTTP/1.1 on the peer address until trust is built; one connection for each stream, never multiplexed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use scrap_decide::obey::DataRole;
use scrap_host::datasets::Datasets;
use scrap_schema::id::{GrainId, NodeId, TemplateId};
use scrap_schema::node::{Renewal, RenewalAnswer};
use scrap_schema::snapshot::Guid;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::daemon::Daemon;
use crate::leader;
use crate::logging::chain;
use crate::raft::{Consensus, only_ours};
use crate::transfer::{self, HEADER_OFFER, IDLE, OfferBody, Received};

/// Limit for a question to a peer.
const ASK: Duration = Duration::from_secs(5);
/// Limit for a connection to a peer.
const CONNECT: Duration = Duration::from_secs(2);
/// Silence on a connection after which it is looked whether the other machine is there, and between two such looks.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Largest renewal: a report of a few thousand grains.
const RENEWAL_MAX: usize = 16 << 20;

/// Trouble with a peer.
#[derive(Debug, Error)]
pub enum PeerError {
    /// It is no member, so it has no address.
    #[error("node {0} is no member")]
    Unknown(NodeId),
    /// It cannot be reached, or the connection broke.
    #[error("node {node} cannot be reached for {what}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// What for.
        what: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It said no.
    #[error("node {node} refused {what}: {why}")]
    Refused {
        /// Which.
        node: NodeId,
        /// What.
        what: &'static str,
        /// Its words.
        why: String,
    },
}

/// The way to other nodes.
#[derive(Clone)]
pub struct Peers {
    consensus: Consensus,
    http: reqwest::Client,
}

impl Peers {
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(consensus: Consensus) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            // Whoever waits for an answer hears that the other machine is gone.
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(3)
            .pool_max_idle_per_host(4);
        // Numbers always make headers; without them every peer would refuse.
        let http = http.default_headers(consensus.signature().unwrap_or_default()).build()?;
        Ok(Self { consensus, http })
    }

    fn url(&self, node: NodeId, path: &str) -> Result<String, PeerError> {
        let address = self
            .consensus
            .read(|cluster| cluster.nodes.get(&node).map(|node| node.addresses.peer.clone()));
        let address = address.ok_or(PeerError::Unknown(node))?;
        Ok(format!("http://{address}{path}"))
    }

    /// Renews this node's lease at the leader.
    ///
    /// # Errors
    /// If the leader cannot be reached in time or does not lead.
    pub async fn renew(
        &self,
        leader: NodeId,
        renewal: &Renewal,
        limit: Duration,
    ) -> Result<RenewalAnswer, PeerError> {
        let request = self.http.post(self.url(leader, "/peer/renew")?).json(renewal).timeout(limit);
        answer(leader, "a renewal", request).await
    }

    /// The snapshots of a node's copy of a grain, oldest first.
    ///
    /// # Errors
    /// If the node cannot be reached, or what it has is no copy yet.
    pub async fn copy(&self, node: NodeId, grain: GrainId) -> Result<Vec<Guid>, PeerError> {
        let url = self.url(node, &format!("/peer/copies/{grain}"))?;
        answer(node, "a question about a copy", self.http.get(url).timeout(ASK)).await
    }

    /// What a node has kept of a grain's stream that was cut off, if it can go on.
    ///
    /// # Errors
    /// If the node cannot be reached.
    pub async fn unfinished(
        &self,
        node: NodeId,
        grain: GrainId,
    ) -> Result<Option<String>, PeerError> {
        let url = self.url(node, &format!("/peer/unfinished/{grain}"))?;
        answer(node, "a question about a copy", self.http.get(url).timeout(ASK)).await
    }

    /// Asks for a template. The answer's body is the stream, in frames.
    ///
    /// # Errors
    /// If the node cannot be reached or does not have it.
    pub async fn template(
        &self,
        node: NodeId,
        template: TemplateId,
    ) -> Result<reqwest::Response, PeerError> {
        let what = "a template";
        let url = self.url(node, &format!("/peer/templates/{template}"))?;
        let unreachable = |source| PeerError::Unreachable { node, what, source };
        let response = self.http.get(url).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let why = response.text().await.map_err(unreachable)?;
            return Err(PeerError::Refused { node, what, why });
        }
        Ok(response)
    }

    /// Sends a stream and waits for the receiver's word.
    ///
    /// # Errors
    /// If the receiver refuses or the connection breaks.
    pub async fn stream(
        &self,
        node: NodeId,
        grain: GrainId,
        offer: &OfferBody,
        body: reqwest::Body,
    ) -> Result<Received, PeerError> {
        let url = self.url(node, &format!("/peer/streams/{grain}"))?;
        let refused = |error: serde_json::Error| PeerError::Refused {
            node,
            what: "a stream",
            why: error.to_string(),
        };
        let offer = serde_json::to_string(offer).map_err(refused)?;
        let request = self.http.post(url).header(HEADER_OFFER, offer).body(body);
        answer(node, "a stream", request).await
    }
}

async fn answer<T: DeserializeOwned>(
    node: NodeId,
    what: &'static str,
    request: reqwest::RequestBuilder,
) -> Result<T, PeerError> {
    let unreachable = |source| PeerError::Unreachable { node, what, source };
    let response = request.send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        let why = response.text().await.map_err(unreachable)?;
        return Err(PeerError::Refused { node, what, why });
    }
    response.json().await.map_err(unreachable)
}

/// The door for other nodes, beside that of the consensus.
pub fn routes(daemon: Arc<Daemon>) -> Router {
    let ours = from_fn_with_state(daemon.consensus.clone(), only_ours);
    Router::new()
        .route("/peer/renew", post(renew).layer(DefaultBodyLimit::max(RENEWAL_MAX)))
        .route("/peer/copies/{grain}", get(copy))
        .route("/peer/unfinished/{grain}", get(unfinished))
        .route("/peer/streams/{grain}", post(stream).layer(DefaultBodyLimit::disable()))
        .route("/peer/templates/{template}", get(template))
        .layer(ours)
        .with_state(daemon)
}

fn refusal(status: StatusCode, why: String) -> Response {
    (status, why).into_response()
}

async fn renew(State(daemon): State<Arc<Daemon>>, Json(renewal): Json<Renewal>) -> Response {
    match leader::renew(&daemon.consensus, &daemon.leader, renewal).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, chain(&error)),
    }
}

fn grain_id(text: &str) -> Result<GrainId, Box<Response>> {
    text.parse::<GrainId>()
        .map_err(|error| Box::new(refusal(StatusCode::BAD_REQUEST, error.to_string())))
}

async fn copy(State(daemon): State<Arc<Daemon>>, Path(grain): Path<String>) -> Response {
    let grain = match grain_id(&grain) {
        Ok(grain) => grain,
        Err(response) => return *response,
    };
    let copy: Result<Vec<Guid>, &str> =
        daemon.agent.with(|state| match state.facts.data.get(&grain) {
            // A first stream may begin from a template that is here.
            None => Ok(state.facts.templates.values().copied().collect()),
            Some(data) => match data.role {
                DataRole::Standby => {
                    Ok(data.snapshots.iter().map(|snapshot| snapshot.guid).collect())
                }
                DataRole::Owner => {
                    Err("what is here is not a copy yet: its own writes are set aside first")
                }
            },
        });
    match copy {
        Ok(snapshots) => Json(snapshots).into_response(),
        Err(why) => refusal(StatusCode::CONFLICT, why.to_owned()),
    }
}

async fn unfinished(State(daemon): State<Arc<Daemon>>, Path(grain): Path<String>) -> Response {
    let grain = match grain_id(&grain) {
        Ok(grain) => grain,
        Err(response) => return *response,
    };
    match daemon.host.datasets.unfinished(grain).await {
        Ok(token) => Json(token).into_response(),
        Err(error) => refusal(StatusCode::CONFLICT, chain(&error)),
    }
}

async fn template(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Response {
    let id = match id.parse::<TemplateId>() {
        Ok(id) => id,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match transfer::offer_template(daemon, id).await {
        Ok(body) => body.into_response(),
        Err(error) => refusal(StatusCode::CONFLICT, chain(error.as_ref())),
    }
}

async fn stream(
    State(daemon): State<Arc<Daemon>>,
    Path(grain): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let grain = match grain_id(&grain) {
        Ok(grain) => grain,
        Err(response) => return *response,
    };
    let offer = headers.get(HEADER_OFFER).and_then(|header| header.to_str().ok());
    let offer: OfferBody = match serde_json::from_str(offer.unwrap_or_default()) {
        Ok(offer) => offer,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, format!("no offer: {error}")),
    };
    // In a task of its own: a sender that dies takes its request along, and what has arrived of it must become known all the same, or
    // a failover would take this copy for an older one than it is.
    let work = tokio::spawn(async move {
        transfer::receive(&daemon, grain, &offer, body.into_data_stream(), IDLE).await
    });
    match work.await {
        Ok(Ok(received)) => Json(received).into_response(),
        Ok(Err(error)) => {
            tracing::debug!(%grain, error = chain(&error), "stream not taken in");
            refusal(StatusCode::CONFLICT, chain(&error))
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
