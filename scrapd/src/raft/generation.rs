//! Peers talk only within one cluster and one generation of it (`docs/decisions/0023`): both sides look, on every call.
//!
//! Who hears of a newer generation was left behind: from then on it confirms nothing, votes for nobody, and its daemon ends.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use futures_util::future::join_all;
use scrap_schema::id::{ClusterId, NodeId};
use tokio::sync::watch;

use super::network::Peers;
use super::{Consensus, wire};

/// What is said to a node that was left behind, and of one.
const JOIN_AGAIN: &str = "stop its daemon, then `scrapd join --again`; its data are kept";

/// The generation of this node, and the newest one that it has heard of.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(super) cluster: ClusterId,
    pub(super) own: u64,
    newest: Arc<watch::Sender<u64>>,
}

impl Generation {
    pub(super) fn new(cluster: ClusterId, own: u64) -> Self {
        Self { cluster, own, newest: Arc::new(watch::Sender::new(own)) }
    }

    /// The newer generation that this node was left behind by.
    pub(super) fn newer(&self) -> Option<u64> {
        let newest = *self.newest.borrow();
        (newest > self.own).then_some(newest)
    }

    /// What a peer said of itself. Nobody who is of the same cluster says more than there is.
    pub(super) fn hear(&self, theirs: u64) {
        let heard = self.newest.send_if_modified(|newest| {
            let newer = theirs > *newest;
            *newest = (*newest).max(theirs);
            newer
        });
        if heard {
            tracing::error!(
                generation = self.own,
                newer = theirs,
                "the cluster was begun anew without this node: it was left behind; {JOIN_AGAIN}"
            );
        }
    }

    /// Ends when this node knows that it was left behind.
    pub(super) async fn left_behind(&self) -> u64 {
        let mut newest = self.newest.subscribe();
        let newer = newest.wait_for(|newest| *newest > self.own).await.ok().map(|newer| *newer);
        match newer {
            Some(newer) => newer,
            None => std::future::pending().await,
        }
    }

    /// Takes in what an answer says of its sender.
    pub(super) fn hear_in(&self, headers: &HeaderMap) {
        if text(headers, wire::CLUSTER) == self.cluster.to_string() {
            self.hear(number(headers));
        }
    }

    /// Says of whom an answer is.
    pub(super) fn sign(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(wire::GENERATION, HeaderValue::from(self.own));
        if let Ok(cluster) = HeaderValue::from_str(&self.cluster.to_string()) {
            headers.insert(wire::CLUSTER, cluster);
        }
        response
    }

    /// Why a call with these headers is not for this node; `None`: it is.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<String> {
        let (ours, cluster) = (self.cluster.to_string(), text(headers, wire::CLUSTER));
        if cluster != ours {
            return Some(format!("this node belongs to cluster {ours}, not to `{cluster}`"));
        }
        let (own, theirs) = (self.own, number(headers));
        self.hear(theirs);
        if theirs < own {
            return Some(format!(
                "the cluster was begun anew as generation {own}, and you are of generation {theirs}: you were left behind; {JOIN_AGAIN}"
            ));
        }
        self.newer().map(|newer| {
            format!("this node is of generation {own} and was left behind by generation {newer}; {JOIN_AGAIN}")
        })
    }
}

/// A version that tells no generation knows only the first.
fn number(headers: &HeaderMap) -> u64 {
    text(headers, wire::GENERATION).parse().unwrap_or_default()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Asks everybody who is known whether the cluster was begun anew. Returns who answers at all.
pub(super) async fn ask_around(peers: &Peers) -> Vec<NodeId> {
    let others = peers.others();
    let asked = others.iter().map(|node| async move { (*node, peers.hello(*node).await) });
    let answers = join_all(asked).await;
    answers.into_iter().filter(|(_, answers)| *answers).map(|(node, _)| node).collect()
}

impl Consensus {
    /// The generation of the cluster that this node belongs to.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.peers.generation.own
    }

    /// Ends when this node knows that the cluster was begun anew without it, with the newer generation. The daemon must end then,
    /// and what runs here with it.
    pub async fn left_behind(&self) -> u64 {
        self.inner.peers.generation.left_behind().await
    }

    /// What a call to a peer says of its sender, beside the call itself.
    ///
    /// # Errors
    /// If a header cannot be made of it.
    pub(crate) fn signature(&self) -> Result<HeaderMap, axum::http::header::InvalidHeaderValue> {
        let generation = &self.inner.peers.generation;
        let mut headers = HeaderMap::new();
        headers.insert(wire::CLUSTER, HeaderValue::from_str(&generation.cluster.to_string())?);
        headers.insert(wire::GENERATION, HeaderValue::from(generation.own));
        Ok(headers)
    }
}
