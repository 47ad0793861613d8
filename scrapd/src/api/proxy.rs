//! Sends a request on to the node that can answer it, and streams the answer back. One hop, never two.
//!
//! Nothing here looks into bodies. A caller that goes away takes the request to the other node with it.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use scrap_schema::id::NodeId;

use super::error::{Answer, Failure};
use super::gate::HEADER_HOP;
use super::state::Api;
use crate::logging::chain;

/// Who has answered in place of the asked node.
pub(super) const HEADER_SERVED_BY: &str = "x-scrap-served-by";

/// Headers of requests that travel.
const REQUEST_HEADERS: [HeaderName; 10] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("x-request-id"),
    header::USER_AGENT,
];

/// Headers of answers that travel.
const RESPONSE_HEADERS: [HeaderName; 9] = [
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    HeaderName::from_static(scrap_schema::api::HEADER_INDEX),
    HeaderName::from_static(scrap_schema::api::HEADER_AGE),
];

/// Sends a request on to the leader. If it stops leading before it answers, nobody waits for it any longer.
pub(super) async fn to_leader(api: &Api, leader: NodeId, request: Request) -> Answer {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    tokio::select! {
        answer = send(api, leader, request) => answer.map_err(|failure| match failure {
            Unsent::Unreachable(name) => Failure::no_leader(&format!(
                "the leader, node {name}, cannot be reached from here; nothing was changed"
            )),
            Unsent::Other(failure) => failure,
        }),
        () = api.daemon.consensus.lost(leader) => Err(if reads {
            Failure::no_leader("the leader was lost while it was asked")
        } else {
            Failure::unknown_outcome("the leader was lost while it was asked to make the change")
        }),
    }
}

/// Why a node gave no answer.
enum Unsent {
    /// It was not there: it surely has not got the request.
    Unreachable(String),
    /// Anything else.
    Other(Failure),
}

/// Sends a request on to a node that is asked because a grain lives there.
pub(super) async fn to_node(api: &Api, node: NodeId, request: Request) -> Answer {
    send(api, node, request).await.map_err(|failure| match failure {
        Unsent::Unreachable(name) => Failure::unavailable(format!(
            "node {name}, which would answer, cannot be reached from here"
        )),
        Unsent::Other(failure) => failure,
    })
}

async fn send(api: &Api, node: NodeId, request: Request) -> Result<Response, Unsent> {
    let (name, address) = api.read(|cluster| {
        let found = cluster.nodes.get(&node);
        let gone = || Failure::unavailable("the node that would answer is no member any more");
        found
            .map(|node| (node.name.to_string(), node.addresses.api.clone()))
            .ok_or_else(|| Unsent::Other(gone()))
    })?;
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let mut headers = pick(&parts.headers, &REQUEST_HEADERS);
    headers.insert(HEADER_HOP, HeaderValue::from_static("1"));
    let mut onward =
        api.daemon.http.request(parts.method, format!("http://{address}{path}")).headers(headers);
    if !body.is_end_stream() {
        onward = onward.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match onward.send().await {
        Ok(answer) => Ok(back(&name, answer)),
        Err(error) => Err(broken(&name, &error, reads)),
    }
}

fn pick(headers: &HeaderMap, wanted: &[HeaderName]) -> HeaderMap {
    let mut picked = HeaderMap::new();
    for name in wanted {
        for value in headers.get_all(name) {
            picked.append(name, value.clone());
        }
    }
    picked
}

fn back(name: &str, answer: reqwest::Response) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = pick(answer.headers(), &RESPONSE_HEADERS);
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert(HEADER_SERVED_BY, name);
    }
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    response
}

/// A node that did not answer. If it may have got the request, a change may have been made.
fn broken(name: &str, error: &reqwest::Error, reads: bool) -> Unsent {
    // The causes are words of the inside: they are for the log.
    tracing::warn!(node = name, error = %chain(error), "request could not be sent on");
    if error.is_connect() {
        return Unsent::Unreachable(name.to_owned());
    }
    let detail = format!("node {name} broke off before it answered");
    Unsent::Other(match reads {
        true => Failure::unavailable(detail),
        false => Failure::unknown_outcome(detail),
    })
}
