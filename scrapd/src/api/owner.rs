//! Requests that only the node of a grain can answer: finds that node and sends them on. One hop, never two.

use axum::extract::Request;
use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::problem::Code;

use super::error::{Answer, Failure};
use super::gate::HEADER_HOP;
use super::proxy;
use super::state::{Api, find_grain};

/// Where a request about a grain is answered.
pub(super) enum Place {
    /// Here.
    Here { grain: GrainId, name: String, request: Request },
    /// Elsewhere; this is the answer.
    Answered(axum::response::Response),
}

/// Finds the owner by the state as it is here, and asks it if it is another node.
pub(super) async fn reach(api: &Api, name: &str, request: Request) -> Answer<Place> {
    let (grain, name, owner) = api.read(|cluster| {
        let grain = find_grain(cluster, name)?;
        Ok::<_, Failure>((grain.id, grain.name.to_string(), grain.owner))
    })?;
    let Some(owner) = owner else {
        return Err(Failure::new(Code::NotRunning, format!("grain `{name}` has no node yet"))
            .hint(format!("`scrapctl info {name}` shows what it waits for")));
    };
    if owner == api.daemon.me {
        return Ok(Place::Here { grain, name, request });
    }
    if request.headers().contains_key(HEADER_HOP) {
        let owner = node_name(api, owner);
        let detail = format!("grain `{name}` has moved to node {owner} meanwhile");
        return Err(Failure::unavailable(detail));
    }
    Ok(Place::Answered(proxy::to_node(api, owner, request).await?))
}

/// The same for something that lies on a node, whoever owns it. `None`: it lies here.
pub(super) async fn reach_node(
    api: &Api,
    node: NodeId,
    request: Request,
) -> Answer<Option<axum::response::Response>> {
    if node == api.daemon.me {
        return Ok(None);
    }
    if request.headers().contains_key(HEADER_HOP) {
        let node = node_name(api, node);
        return Err(Failure::unavailable(format!("it is on node {node}, not here")));
    }
    proxy::to_node(api, node, request).await.map(Some)
}

fn node_name(api: &Api, node: NodeId) -> String {
    api.read(|cluster| cluster.node_name(node))
}
