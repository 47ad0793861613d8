//! `/v1/orphans/{id}/…`: what is inside of an orphan, from the node where it lies.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scrap_decide::cluster::{Orphan, OrphanKey};
use scrap_schema::api::{OrphanDiff, OrphanMount};
use scrap_schema::problem::Code;

use super::error::{Answer, Failure};
use super::input::{Named, Pairs};
use super::owner::reach_node;
use super::state::{Api, shown};
use super::view;
use crate::logging::chain;
use crate::orphans::{self, OrphanError};

/// How many changes are told if nobody says.
const CHANGES: u64 = 1_000;
/// How many are told at most.
const CHANGES_MAX: u64 = 100_000;

/// What an orphan has that the grain's own line has not.
#[utoipa::path(get, path = "/v1/orphans/{id}/diff", tag = "orphans",
    params(
        ("id" = String, Path, description = "`<grain id>.<epoch>@<node>`"),
        ("limit" = Option<u64>, Query, description = "At most so many changes; 1000 if nobody says"),
    ),
    responses((status = 200, description = "The changes since the common state", body = OrphanDiff)))]
pub(super) async fn diff(State(api): State<Api>, Named(id): Named, request: Request) -> Answer {
    let limit = Pairs::of(request.uri(), &["limit"])?.number("limit")?.unwrap_or(CHANGES);
    let (orphan, id) = match here(&api, id, request).await? {
        Found::Here(orphan, id) => (orphan, id),
        Found::Answered(response) => return Ok(response),
    };
    let Some(base) = orphan.base else {
        let detail = "it has nothing in common with its grain: all of it is new";
        return Err(Failure::new(Code::Unsupported, detail)
            .hint(format!("`scrapctl orphan mount {id}` lets you read it")));
    };
    let limit = usize::try_from(limit.min(CHANGES_MAX)).unwrap_or(usize::MAX);
    let (changes, more) = orphans::diff(&api.daemon, of(&orphan), base, limit).await?;
    let index = api.read(|cluster| cluster.index);
    Ok(shown(index, OrphanDiff { id, base, changes, more }))
}

/// Shows an orphan in a folder of its node, read only.
#[utoipa::path(post, path = "/v1/orphans/{id}/view", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    responses((status = 200, description = "Where it can be read", body = OrphanMount)))]
pub(super) async fn view(State(api): State<Api>, Named(id): Named, request: Request) -> Answer {
    Pairs::of(request.uri(), &[])?;
    let (orphan, id) = match here(&api, id, request).await? {
        Found::Here(orphan, id) => (orphan, id),
        Found::Answered(response) => return Ok(response),
    };
    let path = orphans::view(&api.daemon, of(&orphan)).await?;
    let (index, node) = api.read(|cluster| (cluster.index, api.daemon.name.clone()));
    Ok(shown(index, OrphanMount { id, node, path: path.display().to_string() }))
}

/// Ends the views of an orphan.
#[utoipa::path(delete, path = "/v1/orphans/{id}/view", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    responses((status = 204, description = "Nothing shows it any more")))]
pub(super) async fn conceal(State(api): State<Api>, Named(id): Named, request: Request) -> Answer {
    Pairs::of(request.uri(), &[])?;
    match here(&api, id, request).await? {
        Found::Here(orphan, _) => orphans::conceal(&api.daemon, of(&orphan)).await?,
        Found::Answered(response) => return Ok(response),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn of(orphan: &Orphan) -> (scrap_schema::id::GrainId, scrap_schema::id::Epoch) {
    let OrphanKey { grain, epoch, node: _ } = orphan.key;
    (grain, epoch)
}

enum Found {
    Here(Orphan, String),
    Answered(Response),
}

/// Finds the node of an orphan by the state as it is here, and asks it if it is another one.
async fn here(api: &Api, id: String, request: Request) -> Answer<Found> {
    let found = api.look(|world| {
        let mut orphans = world.cluster.orphans.values();
        orphans.find(|orphan| view::orphan_id(world, orphan) == id).cloned()
    });
    let short: String = id.chars().take(120).collect();
    let orphan = found.ok_or_else(|| Failure::not_found("orphan", short))?;
    if let Some(node) = &orphan.left_on {
        let detail = format!("it was left on node {node}, which is no member any more");
        return Err(Failure::new(Code::Unavailable, detail));
    }
    Ok(match reach_node(api, orphan.key.node, request).await? {
        None => Found::Here(orphan, id),
        Some(response) => Found::Answered(response),
    })
}

impl From<OrphanError> for Failure {
    fn from(error: OrphanError) -> Self {
        let detail = chain(&error);
        match error {
            OrphanError::Unsupported { .. } => Self::new(Code::Unsupported, detail),
            OrphanError::NotHere => Self::new(Code::NotFound, detail)
                .hint("`scrapctl orphan ls` lists what was set aside"),
            OrphanError::Failed { .. } => Self::internal(&detail),
        }
    }
}
