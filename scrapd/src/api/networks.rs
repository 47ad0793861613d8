//! `/v1/networks`: where grains get their addresses from.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use scrap_schema::api::NetworkView;
use scrap_schema::command::Command;
use scrap_schema::id::Name;
use scrap_schema::manifest::ManifestKind;
use scrap_schema::problem::FieldError;

use super::error::{Answer, Failure, bad_manifest};
use super::input::{Asked, Head, Named};
use super::manifests::{NetworkManifest, nothing_lost, wrong_kind};
use super::state::{Api, shown, tagged};
use super::view;

/// Every network, by name.
#[utoipa::path(get, path = "/v1/networks", tag = "networks",
    responses((status = 200, description = "Networks by name", body = [NetworkView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    Ok(api.look(|world| {
        let networks = world.cluster.networks.iter();
        let views: Vec<NetworkView> =
            networks.map(|(name, state)| view::network(world, name, state)).collect();
        shown(world.cluster.index, views)
    }))
}

/// One network.
#[utoipa::path(get, path = "/v1/networks/{name}", tag = "networks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The network; its ETag is its modify index", body = NetworkView)))]
pub(super) async fn get(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api, &name.parse()?)
}

fn show(api: &Api, name: &Name) -> Answer {
    api.look(|world| {
        let state = world.cluster.networks.get(name);
        let state = state.ok_or_else(|| Failure::not_found("network", name))?;
        Ok(tagged(world.cluster.index, state.modified, view::network(world, name, state)))
    })
}

/// Makes or changes a network.
#[utoipa::path(put, path = "/v1/networks/{name}", tag = "networks",
    params(("name" = String, Path, description = "Its name")),
    request_body(content((NetworkManifest = "application/json"), (NetworkManifest = "application/yaml"))),
    responses((status = 200, description = "The network after the change", body = NetworkView)))]
pub(super) async fn put(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    let manifest = asked.manifest()?;
    let ManifestKind::Network(network) = &manifest.kind else {
        return Err(wrong_kind(&manifest.kind, "Network"));
    };
    nothing_lost(&manifest)?;
    let name: Name = name.parse()?;
    if manifest.metadata.name != name {
        let detail = format!("network `{name}` cannot be renamed to `{}`", manifest.metadata.name);
        return Err(bad_manifest(vec![FieldError::new("/metadata/name", detail)]));
    }
    let exists = api.read(|cluster| cluster.networks.contains_key(&name));
    // Nobody has read what does not exist: index 0 refuses to overwrite what somebody makes meanwhile.
    let if_index = if exists { asked.if_match(&query)?.index() } else { Some(0) };
    let network = network.clone();
    let command = Command::PutNetwork { name: name.clone(), if_index, network };
    api.propose(&asked, command).await?;
    show(&api, &name)
}

/// Removes a network that no grain uses.
#[utoipa::path(delete, path = "/v1/networks/{name}", tag = "networks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    asked.nothing()?;
    let name: Name = name.parse()?;
    show(&api, &name)?;
    let if_index = asked.if_match(&query)?.index();
    api.propose(&asked, Command::DeleteNetwork { name, if_index }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
