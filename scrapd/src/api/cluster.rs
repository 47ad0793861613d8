//! `/v1`, `/v1/cluster`, `/v1/orphans`: who answers, how it is, and what was set aside.

use axum::extract::State;
use scrap_schema::api::{ApiInfo, ClusterView, OrphanView, QuorumView, StateHash};
use scrap_schema::problem::Code;

use super::error::{Answer, Failure};
use super::input::{Head, Named};
use super::state::{Api, shown};
use super::view;

/// Who answers, and what it can.
#[utoipa::path(get, path = "/v1", tag = "cluster",
    responses((status = 200, description = "The answering node", body = ApiInfo)))]
pub(super) async fn info(State(api): State<Api>, head: Head) -> Answer {
    head.query(&[])?;
    api.read(|cluster| {
        let identity = cluster.identity.as_ref().ok_or_else(not_formed)?;
        let info = ApiInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: "v1".to_owned(),
            extensions: Vec::new(),
            cluster: identity.name.clone(),
            cluster_id: identity.id.to_string(),
            node: api.daemon.name.clone(),
        };
        Ok(shown(cluster.index, info))
    })
}

fn not_formed() -> Failure {
    Failure::new(Code::NotAMember, "this node knows of no cluster yet")
        .hint("make one with `scrapd init`, or join one with `scrapd join`")
}

/// Is everything all right, and if not, why.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, description = "Health with its reasons", body = ClusterView)))]
pub(super) async fn cluster(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api)
}

pub(super) fn show(api: &Api) -> Answer {
    api.look(|world| {
        let view = view::cluster(world).ok_or_else(not_formed)?;
        Ok(shown(world.cluster.index, view))
    })
}

/// Who takes part in the consensus, and what one more loss would mean.
#[utoipa::path(get, path = "/v1/cluster/quorum", tag = "cluster",
    responses((status = 200, description = "Votes and members", body = QuorumView)))]
pub(super) async fn quorum(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    let consensus = &api.daemon.consensus;
    let part = view::Part { changing: consensus.members().joint, behind: consensus.behind() };
    api.look(|world| {
        let view = view::quorum(world, &part).ok_or_else(not_formed)?;
        Ok(shown(world.cluster.index, view))
    })
}

/// A hash of the replicated state of the answering node.
#[utoipa::path(get, path = "/v1/cluster/hash", tag = "cluster",
    params(("index" = Option<u64>, Query, description = "After this log index; the newest if nobody says")),
    responses((status = 200, description = "The hash", body = StateHash)))]
pub(super) async fn hash(State(api): State<Api>, head: Head) -> Answer {
    let wanted = head.query(&["index"])?.number("index")?;
    let consensus = &api.daemon.consensus;
    let Some((index, hash)) = consensus.hash_at(wanted) else {
        let applied = api.read(|cluster| cluster.index);
        let wanted = wanted.unwrap_or_default();
        if wanted > applied {
            let detail = format!("index {wanted} is not applied here yet, {applied} is");
            return Err(Failure::unavailable(detail));
        }
        let detail =
            format!("the hash of index {wanted} is not kept any more, {applied} is applied");
        return Err(Failure::new(Code::Gone, detail).hint("ask for a newer index"));
    };
    Ok(shown(index, StateHash { node: api.daemon.name.clone(), index, hash }))
}

/// Diverged data that were set aside.
#[utoipa::path(get, path = "/v1/orphans", tag = "orphans",
    responses((status = 200, description = "By grain, epoch and node", body = [OrphanView])))]
pub(super) async fn orphans(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    Ok(api.look(|world| {
        let orphans = world.cluster.orphans.values();
        let views: Vec<OrphanView> =
            orphans.filter_map(|orphan| view::orphan(world, orphan)).collect();
        shown(world.cluster.index, views)
    }))
}

/// One set of diverged data.
#[utoipa::path(get, path = "/v1/orphans/{id}", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    responses((status = 200, description = "The orphan", body = OrphanView)))]
pub(super) async fn orphan(State(api): State<Api>, Named(id): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    api.look(|world| {
        let mut orphans = world.cluster.orphans.values();
        let found = orphans.find(|orphan| view::orphan_id(world, orphan) == id);
        let view = found.and_then(|orphan| view::orphan(world, orphan));
        let short: String = id.chars().take(120).collect();
        let view = view.ok_or_else(|| Failure::not_found("orphan", short))?;
        Ok(shown(world.cluster.index, view))
    })
}
