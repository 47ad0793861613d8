//! Who answers: this node or the leader. Reads are linearizable unless somebody asks for `?stale=true`.
//!
//! Nothing here looks into bodies or decides what a request means.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use scrap_schema::api::HEADER_AGE;

use super::error::{Answer, Failure};
use super::proxy;
use super::state::Api;

/// Marks a request that another node has sent on.
pub(super) const HEADER_HOP: &str = "x-scrap-hop";

/// In front of everything that needs the newest state or the leader's memory.
pub(super) async fn led(State(api): State<Api>, request: Request, next: Next) -> Answer {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && (wants_stale(&request) || wants_stream(&request)) {
        return Ok(stale(&api, next.run(request).await));
    }
    if api.daemon.consensus.leadership().borrow().me {
        if reads {
            api.confirm().await?;
        } else if api.daemon.consensus.live_leader().is_none() {
            return Err(Failure::no_quorum(
                "no majority of the voters can be reached from the leader; nothing was changed",
            ));
        }
        return Ok(next.run(request).await);
    }
    if request.headers().contains_key(HEADER_HOP) {
        let why = "the node that was thought to lead does not";
        return Err(Failure::no_leader(why));
    }
    match api.daemon.consensus.live_leader() {
        Some(leader) => proxy::to_leader(&api, leader, request).await,
        None => Err(api.leaderless()),
    }
}

/// Whether the query holds `stale=true`. Anything else that is wrong with it is the handler's to say.
fn wants_stale(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| matches!(pair, "stale" | "stale=true"))
}

/// Streams of events run on every node and survive a change of leader.
fn wants_stream(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Says how old the answer may be. Without the header: this node has not been up to date since its start.
fn stale(api: &Api, mut response: Response) -> Response {
    if let Some(age) = api.daemon.consensus.age() {
        response.headers_mut().insert(HEADER_AGE, HeaderValue::from(age.ms()));
    }
    response
}
