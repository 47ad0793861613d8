//! `/v1/cluster/disarm` and `…/arm`: nothing fails over by itself while people work on network or machines.

use axum::extract::State;
use scrap_host::clock;
use scrap_schema::api::{ArmBody, ClusterView, DisarmBody};
use scrap_schema::command::Command;
use scrap_schema::id::{Name, NodeId};

use super::cluster;
use super::error::Answer;
use super::input::Asked;
use super::power::named;
use super::state::{Api, find_node};

/// Nothing fails over by itself, and nothing is ended by the lease, once `disarming` of the cluster is empty.
#[utoipa::path(post, path = "/v1/cluster/disarm", tag = "cluster",
    request_body(content = DisarmBody, description = "May be left out"),
    responses((status = 200, description = "The cluster after the change", body = ClusterView)))]
pub(super) async fn disarm(State(api): State<Api>, asked: Asked) -> Answer {
    asked.query(&[])?;
    let DisarmBody { node, r#for, by } = asked.json_or_default()?;
    let (node, by) = (scope(&api, node.as_ref())?, named(by.as_deref())?);
    let until = r#for.map(|span| clock::wall() + span);
    api.propose(&asked, Command::Disarm { node, until, by }).await?;
    cluster::show(&api)
}

/// The end of that. Grains fail over by themselves again when `arming` of the cluster is empty.
#[utoipa::path(post, path = "/v1/cluster/arm", tag = "cluster",
    request_body(content = ArmBody, description = "May be left out"),
    responses((status = 200, description = "The cluster after the change", body = ClusterView)))]
pub(super) async fn arm(State(api): State<Api>, asked: Asked) -> Answer {
    asked.query(&[])?;
    let ArmBody { node, by } = asked.json_or_default()?;
    let (node, by) = (scope(&api, node.as_ref())?, named(by.as_deref())?);
    api.propose(&asked, Command::Arm { node, by: Some(by) }).await?;
    cluster::show(&api)
}

fn scope(api: &Api, node: Option<&Name>) -> Answer<Option<NodeId>> {
    let id = |name: &Name| api.read(|cluster| find_node(cluster, name.as_str()).map(|it| it.id));
    node.map(id).transpose()
}
