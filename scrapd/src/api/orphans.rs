//! `/v1/orphans/{id}/…`: what is inside of an orphan, from the node where it lies; and what can become of it.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scrap_decide::cluster::{Orphan, OrphanKey};
use scrap_decide::preview;
use scrap_schema::api::{
    DiscardBody, ForkBody, OperationView, OrphanDiff, OrphanMount, PromoteBody,
};
use scrap_schema::command::GrainText;
use scrap_schema::id::GrainId;
use scrap_schema::operation::Work;
use scrap_schema::problem::{Code, FieldError};

use super::document::PlanOrOperation;
use super::error::{Answer, Failure};
use super::grain_actions::{self, as_dry_run, begin};
use super::input::{Asked, Named, Pairs};
use super::owner::reach_node;
use super::state::{Api, Closing, find_grain, fresh, shown};
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

/// Makes a new grain from an orphan, where that lies. The orphan stays.
#[utoipa::path(post, path = "/v1/orphans/{id}/fork", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    request_body = ForkBody,
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn fork(
    State(api): State<Api>,
    Named(id): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let body: ForkBody = asked.json()?;
    let orphan = find(&api, &id)?;
    let dry_run = body.dry_run;
    let text = text_of(&api, &orphan, body)?;
    if dry_run {
        api.confirm().await?;
        let (index, dry) = api.look(|world| {
            let preview = preview::fork(world.cluster, world.observed, world.now, &orphan, &text);
            (world.cluster.index, as_dry_run(preview))
        });
        return Ok(shown(index, dry));
    }
    let OrphanKey { grain: of, epoch, node } = orphan.key;
    let work = Work::Fork { grain: GrainId(fresh()), of, epoch, node };
    begin(&api, &closing, &asked, work, Some(text)).await
}

/// What the new grain is: as its orphan's grain or another one, with its own name and address.
fn text_of(api: &Api, orphan: &Orphan, body: ForkBody) -> Answer<GrainText> {
    let like = match &body.like {
        Some(like) => {
            api.read(|cluster| find_grain(cluster, like.as_str()).cloned()).map_err(|failure| {
                let fault = FieldError::new("/like", failure.problem.detail.clone());
                failure.errors(vec![fault])
            })?
        }
        None => {
            api.read(|cluster| cluster.grains.get(&orphan.key.grain).cloned()).ok_or_else(|| {
                let detail = "the grain that it is of is gone, and its spec with it";
                Failure::new(Code::NotFound, detail)
                    .hint("say whose spec the new grain gets: `--like GRAIN`")
            })?
        }
    };
    let mut spec = like.spec;
    spec.env.extend(body.env);
    spec.running = body.running;
    // An address belongs to one grain: the new one gets its own.
    if let Some(network) = &mut spec.network {
        (network.address, network.address6) = (None, None);
    }
    let faults = scrap_schema::strict::Validate::validate(&spec);
    if !faults.is_empty() {
        return Err(super::error::bad_manifest(faults));
    }
    let (labels, annotations) = (like.labels, like.annotations);
    Ok(GrainText { name: body.name, labels, annotations, spec })
}

/// Makes an orphan the head of its grain; what the grain has until then is set aside.
#[utoipa::path(post, path = "/v1/orphans/{id}/promote", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    request_body(content = PromoteBody, description = "May be left out"),
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn promote(
    State(api): State<Api>,
    Named(id): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let PromoteBody { dry_run } = asked.json_or_default()?;
    let orphan = find(&api, &id)?;
    let OrphanKey { grain, epoch, node } = orphan.key;
    let head_of = api.read(|cluster| cluster.grains.get(&grain).cloned());
    let head_of = head_of.ok_or_else(|| {
        Failure::new(Code::NotFound, "the grain that it is of is gone")
            .hint(format!("make a new one of it: `scrapctl orphan fork {id} NAME --like GRAIN`"))
    })?;
    let work = Work::Promote { grain, epoch, node };
    if dry_run {
        let preview = |world: &view::World<'_>| {
            preview::promote(world.cluster, world.observed, world.now, &head_of, &orphan)
        };
        return grain_actions::dry_run(&api, work, preview).await;
    }
    begin(&api, &closing, &asked, work, None).await
}

/// Longest word for who wants an orphan removed.
const BY_MAX: usize = 100;

/// Removes an orphan for good.
#[utoipa::path(post, path = "/v1/orphans/{id}/discard", tag = "orphans",
    params(("id" = String, Path, description = "`<grain id>.<epoch>@<node>`")),
    request_body(content = DiscardBody, description = "May be left out"),
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn discard(
    State(api): State<Api>,
    Named(id): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let DiscardBody { by, dry_run } = asked.json_or_default()?;
    if by.as_ref().is_some_and(|by| by.chars().count() > BY_MAX || by.chars().any(char::is_control))
    {
        let why = format!("at most {BY_MAX} characters, none of them a control character");
        let failure = Failure::new(Code::BadRequest, "who wants that is no plain text");
        return Err(failure.errors(vec![FieldError::new("/by", why)]));
    }
    let orphan = find(&api, &id)?;
    let OrphanKey { grain: of, epoch, node } = orphan.key;
    let work = Work::Discard { of, epoch, node, by };
    if dry_run {
        let preview = |world: &view::World<'_>| {
            preview::discard(world.cluster, world.observed, world.now, &orphan)
        };
        return grain_actions::dry_run(&api, work, preview).await;
    }
    begin(&api, &closing, &asked, work, None).await
}

/// An orphan by what it is called.
fn find(api: &Api, id: &str) -> Answer<Orphan> {
    let found = api.look(|world| {
        let mut orphans = world.cluster.orphans.values();
        orphans.find(|orphan| view::orphan_id(world, orphan) == id).cloned()
    });
    let short: String = id.chars().take(120).collect();
    found.ok_or_else(|| Failure::not_found("orphan", short))
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
    let orphan = find(api, &id)?;
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
