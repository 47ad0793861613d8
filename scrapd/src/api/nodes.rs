//! `/v1/nodes`: members, what people say about them, emptying and removing them.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use scrap_decide::cluster::Node;
use scrap_decide::cluster::Outcome;
use scrap_decide::preview;
use scrap_schema::api::{DrainBody, DryRun, JoinBody, Joined, NodeView, OperationView};
use scrap_schema::command::{Command, NewNode};
use scrap_schema::id::NodeId;
use scrap_schema::manifest::ManifestKind;
use scrap_schema::operation::Work;
use scrap_schema::problem::{Code, FieldError};

use super::document::PlanOrOperation;
use super::error::{Answer, Failure, bad_manifest};
use super::grain_actions::{as_dry_run, judged};
use super::input::{Asked, Head, Named};
use super::manifests::{NodeManifest, nothing_lost, wrong_kind};
use super::state::{Api, Closing, find_node, fresh_operation, shown, tagged};
use super::view;

/// Every node, by name.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes",
    responses((status = 200, description = "Nodes by name", body = [NodeView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    Ok(api.look(|world| {
        let mut nodes: Vec<&Node> = world.cluster.nodes.values().collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        let views: Vec<NodeView> = nodes.into_iter().map(|node| view::node(world, node)).collect();
        shown(world.cluster.index, views)
    }))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The node; its ETag is its modify index", body = NodeView)))]
pub(super) async fn get(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api, &name)
}

pub(super) fn show(api: &Api, name: &str) -> Answer {
    api.look(|world| {
        let node = find_node(world.cluster, name)?;
        Ok(tagged(world.cluster.index, node.modified, view::node(world, node)))
    })
}

fn id_of(api: &Api, name: &str) -> Answer<NodeId> {
    api.read(|cluster| find_node(cluster, name).map(|node| node.id))
}

/// Changes what people say about a node.
#[utoipa::path(put, path = "/v1/nodes/{name}", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    request_body(content((NodeManifest = "application/json"), (NodeManifest = "application/yaml"))),
    responses((status = 200, description = "The node after the change", body = NodeView)))]
pub(super) async fn put(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    let manifest = asked.manifest()?;
    let ManifestKind::Node(spec) = &manifest.kind else {
        return Err(wrong_kind(&manifest.kind, "Node"));
    };
    nothing_lost(&manifest)?;
    let node = id_of(&api, &name)?;
    if manifest.metadata.name.as_str() != name {
        let detail = format!("node `{name}` cannot be renamed to `{}`", manifest.metadata.name);
        return Err(bad_manifest(vec![FieldError::new("/metadata/name", detail)]));
    }
    let if_index = asked.if_match(&query)?.index();
    let labels = manifest.metadata.labels.clone();
    let command = Command::UpdateNode { node, if_index, labels, spec: spec.clone() };
    api.propose(&asked, command).await?;
    show(&api, &name)
}

/// A new machine becomes a member.
#[utoipa::path(post, path = "/v1/nodes", tag = "nodes",
    request_body = JoinBody,
    responses((status = 201, description = "It is a member now", body = Joined)))]
pub(super) async fn join(State(api): State<Api>, asked: Asked) -> Answer {
    asked.query(&[])?;
    let JoinBody { name, role, labels, addresses, facts } = asked.json()?;
    check_addresses(&addresses.api, "/addresses/api")?;
    check_addresses(&addresses.peer, "/addresses/peer")?;
    let node = NewNode { name: name.clone(), role, labels, addresses, facts };
    let node = match api.propose(&asked, Command::AddNode { node }).await? {
        Outcome::Node { node } => node,
        Outcome::Done
        | Outcome::Unchanged
        | Outcome::Grain { .. }
        | Outcome::Operation { .. }
        | Outcome::Items { .. } => return Err(Failure::internal("the node has no number")),
    };
    let (index, joined) = api.read(|cluster| {
        let identity = cluster.identity.as_ref();
        let identity = identity.ok_or_else(|| Failure::unavailable("there is no cluster yet"))?;
        let members = cluster.nodes.values().map(|node| (node.id, node.addresses.clone()));
        let joined = Joined {
            node,
            cluster: identity.name.clone(),
            cluster_id: identity.id.to_string(),
            generation: identity.generation,
            members: members.collect(),
        };
        Ok::<_, Failure>((cluster.index, joined))
    })?;
    let mut response = (StatusCode::CREATED, shown(index, joined)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/nodes/{name}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `host:port`, nothing else: other nodes build addresses of it.
fn check_addresses(text: &str, pointer: &str) -> Answer<()> {
    let sound = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_sound = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        host_sound && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if sound {
        return Ok(());
    }
    let short: String = text.chars().take(80).collect();
    let detail = format!("`{short}` is not of the form host:port");
    Err(Failure::bad_value(Code::BadRequest, pointer, &detail))
}

/// Moves everything off a node and keeps new grains away.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    request_body(content = DrainBody, description = "May be left out"),
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn drain(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    let wait = asked.wait(&asked.query(&["wait"])?)?;
    let body: DrainBody = asked.json_or_default()?;
    let node = id_of(&api, &name)?;
    if body.dry_run {
        api.confirm().await?;
        let (index, dry) = api.look(|world| {
            let mut dry =
                as_dry_run(preview::drain(world.cluster, world.observed, world.now, node));
            judged(world, &Work::Drain { node }, &mut dry);
            (world.cluster.index, dry)
        });
        return Ok(shown(index, dry));
    }
    let work = Work::Drain { node };
    let command = Command::StartOperation { operation: fresh_operation(), work, text: None };
    let outcome = api.propose(&asked, command).await?;
    api.begun(outcome, wait, &closing).await
}

/// A drained node comes back into use.
#[utoipa::path(post, path = "/v1/nodes/{name}/undrain", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The node", body = NodeView)))]
pub(super) async fn undrain(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    change(&api, &asked, &name, |node| Command::UndrainNode { node }).await
}

/// Nothing new comes to a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/cordon", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The node", body = NodeView)))]
pub(super) async fn cordon(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    change(&api, &asked, &name, |node| Command::SetCordon { node, cordoned: true }).await
}

/// New grains and copies come to a node again.
#[utoipa::path(post, path = "/v1/nodes/{name}/uncordon", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The node", body = NodeView)))]
pub(super) async fn uncordon(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    change(&api, &asked, &name, |node| Command::SetCordon { node, cordoned: false }).await
}

async fn change(
    api: &Api,
    asked: &Asked,
    name: &str,
    command: impl FnOnce(NodeId) -> Command,
) -> Answer {
    asked.query(&[])?;
    asked.nothing()?;
    let node = id_of(api, name)?;
    api.propose(asked, command(node)).await?;
    show(api, name)
}

/// Removes a node that owns nothing.
#[utoipa::path(delete, path = "/v1/nodes/{name}", tag = "nodes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("dryRun" = Option<bool>, Query, description = "Only say what would go"),
        ("leaveOrphans" = Option<bool>, Query, description = "Its orphans may stay behind on its disks"),
    ),
    responses(
        (status = 200, description = "What would go (`dryRun`)", body = DryRun),
        (status = 204, description = "It is no member any more"),
    ))]
pub(super) async fn delete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["dryRun", "force", "leaveOrphans"])?;
    asked.nothing()?;
    let leave_orphans = query.flag("leaveOrphans")?;
    if query.flag("dryRun")? {
        api.confirm().await?;
        return api.look(|world| {
            let node = find_node(world.cluster, &name)?;
            Ok(shown(world.cluster.index, what_goes(world, node, leave_orphans)))
        });
    }
    let node = id_of(&api, &name)?;
    let if_index = asked.if_match(&query)?.index();
    api.propose(&asked, Command::RemoveNode { node, if_index, leave_orphans }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What the removal of a node takes with it.
fn what_goes(world: &view::World<'_>, node: &Node, leave_orphans: bool) -> DryRun {
    let view = view::node(world, node);
    let mut steps = Vec::new();
    for grain in &view.status.copies {
        steps.push(format!("the copy of grain {grain} there does not count any more"));
    }
    for orphan in world.cluster.orphans.values().filter(|orphan| orphan.key.node == node.id) {
        let (id, newer) = (view::orphan_id(world, orphan), orphan.newer.rounded());
        steps.push(format!("orphan {id} stays behind on its disks: {newer} that nobody else has"));
    }
    steps.push(format!("node {} is no member any more; its data stay on its disks", node.name));
    let command = Command::RemoveNode { node: node.id, if_index: None, leave_orphans };
    let refusal = preview::tried(world.cluster, world.now, command).err();
    let problem = refusal.map(|refusal| Failure::from(refusal).problem);
    let (refused, hint) = problem.map(|problem| (problem.detail, problem.hint)).unzip();
    DryRun { steps, refused, hint: hint.flatten(), ..DryRun::default() }
}
