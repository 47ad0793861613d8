//! `/v1/policies`: contracts of classes of grains.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use scrap_schema::api::PolicyView;
use scrap_schema::command::Command;
use scrap_schema::id::Name;
use scrap_schema::manifest::ManifestKind;
use scrap_schema::problem::FieldError;

use super::error::{Answer, Failure, bad_manifest};
use super::input::{Asked, Head, Named};
use super::manifests::{PolicyManifest, nothing_lost, wrong_kind};
use super::state::{Api, shown, tagged};
use super::view;

/// Every policy, by name.
#[utoipa::path(get, path = "/v1/policies", tag = "policies",
    responses((status = 200, description = "Policies by name", body = [PolicyView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    Ok(api.read(|cluster| {
        let policies = cluster.policies.iter();
        let views: Vec<PolicyView> =
            policies.map(|(name, state)| view::policy(name, state)).collect();
        shown(cluster.index, views)
    }))
}

/// One policy.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The policy; its ETag is its modify index", body = PolicyView)))]
pub(super) async fn get(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api, &name.parse()?)
}

fn show(api: &Api, name: &Name) -> Answer {
    api.read(|cluster| {
        let state = cluster.policies.get(name);
        let state = state.ok_or_else(|| Failure::not_found("policy", name))?;
        Ok(tagged(cluster.index, state.modified, view::policy(name, state)))
    })
}

/// Makes or changes a policy.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies",
    params(("name" = String, Path, description = "Its name")),
    request_body(content((PolicyManifest = "application/json"), (PolicyManifest = "application/yaml"))),
    responses((status = 200, description = "The policy after the change", body = PolicyView)))]
pub(super) async fn put(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    let manifest = asked.manifest()?;
    let ManifestKind::Policy(policy) = &manifest.kind else {
        return Err(wrong_kind(&manifest.kind, "Policy"));
    };
    nothing_lost(&manifest)?;
    let name: Name = name.parse()?;
    if manifest.metadata.name != name {
        let detail = format!("policy `{name}` cannot be renamed to `{}`", manifest.metadata.name);
        return Err(bad_manifest(vec![FieldError::new("/metadata/name", detail)]));
    }
    let exists = api.read(|cluster| cluster.policies.contains_key(&name));
    // Nobody has read what does not exist: index 0 refuses to overwrite what somebody makes meanwhile.
    let if_index = if exists { asked.if_match(&query)?.index() } else { Some(0) };
    let command = Command::PutPolicy { name: name.clone(), if_index, policy: policy.clone() };
    api.propose(&asked, command).await?;
    show(&api, &name)
}

/// Removes a policy that no grain uses.
#[utoipa::path(delete, path = "/v1/policies/{name}", tag = "policies",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    asked.nothing()?;
    let name: Name = name.parse()?;
    show(&api, &name)?;
    let if_index = asked.if_match(&query)?.index();
    api.propose(&asked, Command::DeletePolicy { name, if_index }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
