//! `/v1/grains`: what people want of grains. What happens to them is `grain_actions`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scrap_decide::cluster::{Cluster, Grain};
use scrap_decide::refusal::Refusal;
use scrap_host::clock;
use scrap_schema::api::{DryRun, GrainView, OperationView};
use scrap_schema::command::{Command, GrainText};
use scrap_schema::id::GrainId;
use scrap_schema::manifest::{Manifest, ManifestKind, parse};
use scrap_schema::problem::{Code, FieldError};
use scrap_schema::unit::Span;
use tokio::time::Instant;

use super::document::GrainOrPlan;
use super::error::{Answer, Failure, bad_manifest};
use super::input::{Asked, Head, Match, Named};
use super::manifests::{GrainManifest, GrainPatch, refused, wrong_kind};
use super::selector::Selector;
use super::state::{
    Api, Closing, find_grain, find_grain_anywhere, find_grain_to_undelete, fresh, fresh_operation,
    shown, tagged,
};
use super::{merge, view};

/// How long a trashed grain keeps its data.
pub(super) const TRASH_KEPT: Span = Span::from_secs(7 * 24 * 3600);
/// How long a purge waits for a living grain to stop.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Every grain, by name.
#[utoipa::path(get, path = "/v1/grains", tag = "grains",
    params(
        ("selector" = Option<String>, Query, description = "Only grains with these labels: `app=blog,tier!=x`"),
        ("trashed" = Option<bool>, Query, description = "Those in the trash instead"),
    ),
    responses((status = 200, description = "Grains by name", body = [GrainView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    let query = head.query(&["selector", "trashed", "stale"])?;
    let selector: Option<Selector> = query.parsed("selector", Code::BadRequest)?;
    let trashed = query.flag("trashed")?;
    query.flag("stale")?;
    let (index, views) = api.look(|world| {
        let mut grains: Vec<&Grain> = world
            .cluster
            .grains
            .values()
            .filter(|grain| grain.trashed_until.is_some() == trashed)
            .filter(|grain| selector.as_ref().is_none_or(|wanted| wanted.matches(&grain.labels)))
            .collect();
        grains.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        let views: Vec<GrainView> =
            grains.into_iter().map(|grain| view::grain(world, grain)).collect();
        (world.cluster.index, views)
    });
    Ok(shown(index, views))
}

/// Makes a grain.
#[utoipa::path(post, path = "/v1/grains", tag = "grains",
    request_body(content((GrainManifest = "application/json"), (GrainManifest = "application/yaml"))),
    responses((status = 202, description = "The operation that makes it", body = OperationView)))]
pub(super) async fn create(State(api): State<Api>, closing: Closing, asked: Asked) -> Answer {
    let query = asked.query(&["wait"])?;
    let wait = asked.wait(&query)?;
    let text = grain_text(asked.manifest()?)?;
    let (grain, operation) = (GrainId(fresh()), fresh_operation());
    let command = Command::CreateGrain { grain, operation, text: text.clone() };
    let outcome = api.try_propose(&asked, command).await?;
    let outcome =
        outcome.map_err(|refusal| api.read(|cluster| refused(cluster, refusal, |_| None)))?;
    api.begun(outcome, wait, &closing).await
}

/// One grain, by name or id.
#[utoipa::path(get, path = "/v1/grains/{name}", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The grain; its ETag is its modify index", body = GrainView)))]
pub(super) async fn get(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api, |cluster| find_grain(cluster, &name))
}

/// The answer with one grain.
pub(super) fn show<'a>(
    api: &Api,
    find: impl for<'c> FnOnce(&'c Cluster) -> Answer<&'c Grain> + 'a,
) -> Answer {
    api.look(|world| {
        let grain = find(world.cluster)?;
        Ok(tagged(world.cluster.index, grain.modified, view::grain(world, grain)))
    })
}

/// Replaces what is wanted of a grain.
#[utoipa::path(put, path = "/v1/grains/{name}", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content((GrainManifest = "application/json"), (GrainManifest = "application/yaml"))),
    responses((status = 200, description = "The grain after the change", body = GrainView)))]
pub(super) async fn put(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    let text = grain_text(asked.manifest()?)?;
    let grain = api.read(|cluster| {
        let grain = find_grain(cluster, &name)?;
        same_name(grain, &text)?;
        Ok::<_, Failure>(grain.id)
    })?;
    let if_index = asked.if_match(&query)?.index();
    update(&api, &asked, grain, if_index, text).await?
}

/// Changes some of what is wanted of a grain (RFC 7396).
#[utoipa::path(patch, path = "/v1/grains/{name}", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content((GrainPatch = "application/merge-patch+json"), (GrainPatch = "application/json"))),
    responses((status = 200, description = "The grain after the change", body = GrainView)))]
pub(super) async fn patch(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    const TRIES: u32 = 3;
    let query = asked.query(&["force"])?;
    let patch = asked.patch()?;
    for _ in 0..TRIES {
        let before = api.read(|cluster| find_grain(cluster, &name).cloned())?;
        let wanted = asked.if_match(&query)?;
        let text = patched(&before, &patch)?;
        // Made from this very state, so it may only be written over this very state.
        let if_index = wanted.index().or(Some(before.modified));
        match update(&api, &asked, before.id, if_index, text).await? {
            Err(failure) if wanted == Match::Any && failure.problem.code == Code::Changed => (),
            answer => return answer,
        }
    }
    Err(Failure::new(
        Code::Changed,
        format!("grain `{name}` changes all the time; nothing was changed"),
    )
    .hint("repeat the request"))
}

/// A change of a grain. Outer error: it has no answer. Inner error: it was refused.
async fn update(
    api: &Api,
    asked: &Asked,
    grain: GrainId,
    if_index: Option<u64>,
    text: GrainText,
) -> Answer<Answer> {
    let GrainText { name: _, labels, annotations, spec } = text;
    let command = Command::UpdateGrain { grain, if_index, labels, annotations, spec };
    Ok(match api.try_propose(asked, command).await? {
        Ok(_) => show_id(api, grain),
        Err(refusal) => Err(api.read(|cluster| refused(cluster, refusal, |_| None))),
    })
}

/// The answer with a grain that was just worked on.
pub(super) fn show_id(api: &Api, id: GrainId) -> Answer {
    show(api, |cluster| cluster.grains.get(&id).ok_or_else(|| Failure::not_found("grain", id)))
}

/// The manifest of a grain with a patch in it, through the same door as every manifest.
fn patched(grain: &Grain, patch: &serde_json::Value) -> Answer<GrainText> {
    let mut manifest = serde_json::to_value(view::grain_manifest(grain))
        .map_err(|error| Failure::internal(error.to_string()))?;
    merge::patch(&mut manifest, patch);
    let manifests = parse("-", &manifest.to_string()).map_err(|errors| {
        // Lines are of a text that nobody has written.
        let nowhere = |error| FieldError { line: None, column: None, ..error };
        bad_manifest(errors.field_errors().into_iter().map(nowhere).collect())
    })?;
    let manifest = manifests.into_iter().next().ok_or_else(|| bad_manifest(Vec::new()))?;
    let text = grain_text(manifest)?;
    same_name(grain, &text)?;
    Ok(text)
}

fn same_name(grain: &Grain, text: &GrainText) -> Answer<()> {
    if grain.name == text.name {
        return Ok(());
    }
    let detail = format!("grain `{}` cannot be renamed to `{}`", grain.name, text.name);
    let hint = "a grain keeps its name; `scrapctl clone` makes one with another";
    Err(bad_manifest(vec![FieldError::new("/metadata/name", detail).with_hint(hint)]))
}

/// What a manifest of a grain says.
pub(super) fn grain_text(manifest: Manifest) -> Answer<GrainText> {
    let Manifest { metadata, kind, line: _ } = manifest;
    match kind {
        ManifestKind::Grain(spec) => Ok(GrainText {
            name: metadata.name,
            labels: metadata.labels,
            annotations: metadata.annotations,
            spec,
        }),
        ManifestKind::Policy(_) | ManifestKind::Node(_) | ManifestKind::Network(_) => {
            Err(wrong_kind(&kind, "Grain"))
        }
    }
}

/// Puts a grain into the trash for 7 days; with `purge`, removes it and all its data.
#[utoipa::path(delete, path = "/v1/grains/{name}", tag = "grains",
    params(
        ("name" = String, Path, description = "Name or id"),
        ("purge" = Option<bool>, Query, description = "Remove it for good, from the trash or alive"),
        ("dryRun" = Option<bool>, Query, description = "Only say what would go"),
        ("wait" = Option<String>, Query, description = "With `purge`: longest time to wait until it has stopped; 30s if nobody says"),
    ),
    responses(
        (status = 200, description = "The grain in the trash, with its ETag; with `dryRun`, what would go", body = GrainOrPlan),
        (status = 204, description = "It is gone for good (`purge`)"),
    ))]
pub(super) async fn delete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["purge", "dryRun", "force", "wait"])?;
    asked.nothing()?;
    let (purge, dry) = (query.flag("purge")?, query.flag("dryRun")?);
    if dry {
        api.confirm().await?;
    }
    let grain = api.read(|cluster| match purge {
        true => find_grain_anywhere(cluster, &name).cloned(),
        false => find_grain(cluster, &name).cloned(),
    })?;
    if dry {
        return Ok(api.look(|world| shown(world.cluster.index, what_goes(world, &grain, purge))));
    }
    let wanted = asked.if_match(&query)?;
    if !purge {
        trash(&api, &asked, grain.id, wanted).await?;
        return show_id(&api, grain.id);
    }
    let wait = asked.wait(&query)?.unwrap_or(STOP_WAIT);
    // Two entries of the log with a wait between them: a caller that goes away must not leave it half done.
    let work = tokio::spawn(async move { remove(&api, &asked, &grain, wanted, wait).await });
    work.await.map_err(|error| Failure::internal(error.to_string()))?
}

async fn trash(api: &Api, asked: &Asked, grain: GrainId, wanted: Match) -> Answer<()> {
    let keep_until = clock::wall() + TRASH_KEPT;
    let if_index = wanted.index();
    api.propose(asked, Command::TrashGrain { grain, if_index, keep_until }).await?;
    Ok(())
}

async fn remove(
    api: &Api,
    asked: &Asked,
    grain: &Grain,
    wanted: Match,
    wait: Duration,
) -> Answer<Response> {
    let if_index = match grain.trashed_until {
        Some(_) => wanted.index(),
        None => {
            trash(api, asked, grain.id, wanted).await?;
            None
        }
    };
    // It may be in the trash only since a moment ago.
    let until = Instant::now() + wait;
    loop {
        stopped(api, grain, until).await?;
        let purge = Command::PurgeGrain { grain: grain.id, if_index };
        match api.try_propose(asked, purge).await? {
            Ok(_) => return Ok(StatusCode::NO_CONTENT.into_response()),
            // A start that was under way has come up: it is stopped now.
            Err(Refusal::WrongState { .. }) if !api.read(|now| is_stopped(now, grain.id)) => (),
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

/// Waits until a trashed grain surely runs nowhere.
async fn stopped(api: &Api, grain: &Grain, until: Instant) -> Answer<()> {
    let mut changes = api.daemon.consensus.changes();
    let until_stopped = async {
        loop {
            changes.borrow_and_update();
            if api.read(|cluster| is_stopped(cluster, grain.id)) || changes.changed().await.is_err()
            {
                return;
            }
        }
    };
    tokio::time::timeout_at(until, until_stopped).await.map_err(|_| {
        let detail = format!("grain `{}` is in the trash and is still being stopped", grain.name);
        Failure::new(Code::Timeout, detail)
            .hint(format!("repeat it in a moment: `scrapctl rm --purge {}`", grain.id))
    })
}

fn is_stopped(cluster: &Cluster, grain: GrainId) -> bool {
    let Some(grain) = cluster.grains.get(&grain) else { return true };
    let owner = grain.owner.and_then(|owner| cluster.nodes.get(&owner));
    grain.started.is_none() || owner.is_none_or(|owner| owner.liveness.is_surely_stopped())
}

/// What a removal takes with it.
fn what_goes(world: &view::World<'_>, grain: &Grain, purge: bool) -> DryRun {
    let mut steps = Vec::new();
    let name = &grain.name;
    let owner = grain.owner.map(|owner| world.cluster.node_name(owner));
    if let (true, Some(owner)) = (grain.started.is_some(), &owner) {
        steps.push(format!("stop grain {name} on node {owner}"));
    }
    let mut places: Vec<String> = owner.into_iter().collect();
    places.extend(grain.receivers().into_iter().map(|node| world.cluster.node_name(node)));
    let places = if places.is_empty() { "no node yet".to_owned() } else { places.join(", ") };
    if purge {
        steps.push(format!("remove its data and copies for good: {places}"));
        for snapshot in &grain.snapshots {
            steps.push(format!("remove snapshot {} of {}", snapshot.name, snapshot.created));
        }
    } else {
        let until = world.now.wall + TRASH_KEPT;
        steps.push(format!("keep its data and copies until {until}: {places}"));
        steps.push(format!("`scrapctl undelete {name}` takes it out of the trash until then"));
    }
    let refused = grain
        .operation
        .map(|operation| format!("grain {name} is busy: operation {operation} works on it"));
    DryRun { steps, refused, ..DryRun::default() }
}

/// Takes a grain out of the trash.
#[utoipa::path(post, path = "/v1/grains/{name}/undelete", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The grain, out of the trash", body = GrainView)))]
pub(super) async fn undelete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    asked.query(&[])?;
    asked.nothing()?;
    let grain = api.read(|cluster| find_grain_to_undelete(cluster, &name).map(|grain| grain.id))?;
    api.propose(&asked, Command::UndeleteGrain { grain }).await?;
    show_id(&api, grain)
}
