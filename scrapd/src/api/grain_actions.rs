//! `/v1/grains/{name}/…`: long work on grains. Each begins an operation, or says what it would do.

use axum::extract::State;
use scrap_decide::cluster::{Grain, Stage};
use scrap_decide::place::{Purpose, Wanted, place};
use scrap_decide::preview::{self, Preview};
use scrap_schema::api::{
    CloneBody, DryRun, FailoverBody, MigrateBody, OperationView, PlacementView, RestoreBody,
    SnapshotBody,
};
use scrap_schema::command::{Command, GrainText};
use scrap_schema::id::{GrainId, Name, NodeId};
use scrap_schema::operation::Work;
use scrap_schema::problem::{Code, FieldError};
use scrap_schema::snapshot::{self, Guid, Snapshot};

use super::document::PlanOrOperation;
use super::error::{Answer, Failure};
use super::grains::grain_text;
use super::input::{Asked, Head, Named};
use super::manifests::GrainManifest;
use super::state::{Api, Closing, find_grain, fresh, fresh_operation, shown};
use super::view::{self, World};

/// Begins work on a grain, or on what was set aside of one.
pub(super) async fn begin(
    api: &Api,
    closing: &Closing,
    asked: &Asked,
    work: Work,
    text: Option<GrainText>,
) -> Answer {
    let wait = asked.wait(&asked.query(&["wait"])?)?;
    let operation = fresh_operation();
    let command = Command::StartOperation { operation, work, text };
    let outcome = api.propose(asked, command).await?;
    api.begun(outcome, wait, closing).await
}

fn id_of(api: &Api, name: &str) -> Answer<GrainId> {
    api.read(|cluster| find_grain(cluster, name).map(|grain| grain.id))
}

/// Starts a stopped grain.
#[utoipa::path(post, path = "/v1/grains/{name}/start", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 202, description = "The operation", body = OperationView)))]
pub(super) async fn start(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.nothing()?;
    let grain = id_of(&api, &name)?;
    begin(&api, &closing, &asked, Work::Start { grain }, None).await
}

/// Stops a grain and keeps it stopped.
#[utoipa::path(post, path = "/v1/grains/{name}/stop", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 202, description = "The operation", body = OperationView)))]
pub(super) async fn stop(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.nothing()?;
    let grain = id_of(&api, &name)?;
    begin(&api, &closing, &asked, Work::Stop { grain }, None).await
}

/// Stops a grain and starts it again where it is.
#[utoipa::path(post, path = "/v1/grains/{name}/restart", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 202, description = "The operation", body = OperationView)))]
pub(super) async fn restart(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.nothing()?;
    let grain = id_of(&api, &name)?;
    begin(&api, &closing, &asked, Work::Restart { grain }, None).await
}

/// Moves a grain to another node without loss.
#[utoipa::path(post, path = "/v1/grains/{name}/migrate", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content = MigrateBody, description = "May be left out"),
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn migrate(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let body: MigrateBody = asked.json_or_default()?;
    let (grain, to) = with_target(&api, &name, body.to.as_ref())?;
    let work = Work::Migrate { grain: grain.id, to };
    if body.dry_run {
        let dry = |world: &World<'_>| {
            preview::migrate(world.cluster, world.observed, world.now, &grain, to)
        };
        return dry_run(&api, work, dry).await;
    }
    api.look(|world| has_place(world, &grain, to))?;
    begin(&api, &closing, &asked, work, None).await
}

/// Refuses a move that has no place to go before it is written down, with every node's reason.
fn has_place(world: &World<'_>, grain: &Grain, to: Option<NodeId>) -> Answer<()> {
    // What the grain's own state forbids is said by the state.
    let movable = grain.stage == Stage::Settled && grain.operation.is_none() && to != grain.owner;
    if !movable || grain.owner.is_none() {
        return Ok(());
    }
    let preview = preview::migrate(world.cluster, world.observed, world.now, grain, to);
    let Some(refused) = preview.refused else { return Ok(()) };
    let ranking = place(world.cluster, world.observed, Wanted::of(grain, Purpose::Run));
    let mut failure = Failure::new(Code::NoPlacement, refused)
        .hint("lower `spec.resources`, undrain a node, or add one");
    failure.problem.candidates = view::candidates(world, &ranking);
    Err(failure)
}

/// Starts a grain from a copy because its owner is gone.
#[utoipa::path(post, path = "/v1/grains/{name}/failover", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content = FailoverBody, description = "May be left out"),
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn failover(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let body: FailoverBody = asked.json_or_default()?;
    let (grain, to) = with_target(&api, &name, body.to.as_ref())?;
    let FailoverBody { accept_loss, owner_is_off, .. } = body;
    let work = Work::Failover { grain: grain.id, to, accept_loss, owner_is_off };
    if body.dry_run {
        let asked = work.clone();
        let dry = |world: &World<'_>| {
            preview::failover(world.cluster, world.observed, world.now, &grain, &asked)
        };
        return dry_run(&api, work, dry).await;
    }
    begin(&api, &closing, &asked, work, None).await
}

fn with_target(api: &Api, name: &str, to: Option<&Name>) -> Answer<(Grain, Option<NodeId>)> {
    api.read(|cluster| {
        let grain = find_grain(cluster, name)?.clone();
        let Some(to) = to else { return Ok((grain, None)) };
        let node = cluster.node_named(to).ok_or_else(|| {
            let missing = Failure::not_found("node", to);
            let fault = FieldError::new("/to", missing.problem.detail.clone());
            missing.errors(vec![fault])
        })?;
        Ok((grain, Some(node.id)))
    })
}

/// The answer to a dry run: the plan, and why the state would refuse it now.
pub(super) async fn dry_run(
    api: &Api,
    work: Work,
    preview: impl FnOnce(&World<'_>) -> Preview,
) -> Answer {
    api.confirm().await?;
    let (index, dry) = api.look(|world| {
        let mut dry = as_dry_run(preview(world));
        judged(world, &work, &mut dry);
        (world.cluster.index, dry)
    });
    Ok(shown(index, dry))
}

/// Puts into a plan why the state refuses the work now, with the hint that the work itself would get.
pub(super) fn judged(world: &World<'_>, work: &Work, dry: &mut DryRun) {
    if let Err(refusal) = preview::requested(world.cluster, world.now, work) {
        let problem = Failure::from(refusal).problem;
        dry.refused = Some(problem.detail);
        dry.hint = problem.hint;
    }
}

pub(super) fn as_dry_run(preview: Preview) -> DryRun {
    let Preview { steps, loss, expected_downtime_ms, refused, hint } = preview;
    DryRun { steps, loss, expected_downtime_ms, refused, hint }
}

/// Takes a snapshot with a name.
#[utoipa::path(post, path = "/v1/grains/{name}/snapshots", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body = SnapshotBody,
    responses((status = 202, description = "The operation", body = OperationView)))]
pub(super) async fn snapshot(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let SnapshotBody { name: wanted } = asked.json()?;
    let grain = api.read(|cluster| find_grain(cluster, &name).cloned())?;
    let work = Work::Snapshot { grain: grain.id, name: wanted.clone() };
    // A repeated request gets its first answer, even if the snapshot is there by now.
    let key = asked.key()?;
    let repeated =
        key.is_some_and(|key| api.read(|cluster| cluster.answers.contains_key(&key.key)));
    if !repeated && grain.snapshots.iter().any(|known| is_called(known, &wanted)) {
        let detail = format!("grain `{name}` has a snapshot `{wanted}` already");
        return Err(Failure::new(Code::Conflict, detail).hint("choose another name"));
    }
    begin(&api, &closing, &asked, work, None).await
}

fn is_called(known: &Snapshot, name: &Name) -> bool {
    match &known.name.purpose {
        snapshot::Purpose::User(user) => user == name,
        snapshot::Purpose::Replication
        | snapshot::Purpose::Final(_)
        | snapshot::Purpose::Orphan
        | snapshot::Purpose::Template => false,
    }
}

/// Makes a grain's data equal to a snapshot; the state before is kept as a snapshot.
#[utoipa::path(post, path = "/v1/grains/{name}/restore", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body = RestoreBody,
    responses(
        (status = 200, description = "What would happen (`dryRun`), or the operation if it is over already (`wait`)", body = PlanOrOperation),
        (status = 202, description = "The operation", body = OperationView),
    ))]
pub(super) async fn restore(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let body: RestoreBody = asked.json()?;
    let grain = api.read(|cluster| find_grain(cluster, &name).cloned())?;
    let snapshot = find_snapshot(&grain, &body.snapshot)?.clone();
    let work = Work::Restore { grain: grain.id, snapshot: snapshot.guid };
    if body.dry_run {
        return dry_run(&api, work, |world| restoring(world, &grain, &snapshot)).await;
    }
    begin(&api, &closing, &asked, work, None).await
}

fn find_snapshot<'a>(grain: &'a Grain, text: &str) -> Answer<&'a Snapshot> {
    let guid: Option<Guid> = text.parse().ok();
    let name: Option<Name> = text.parse().ok();
    let is = |known: &&Snapshot| {
        guid == Some(known.guid) || name.as_ref().is_some_and(|name| is_called(known, name))
    };
    // The newest of a name.
    grain.snapshots.iter().rev().find(is).ok_or_else(|| {
        let short: String = text.chars().take(80).collect();
        let missing = Failure::not_found("snapshot", short);
        let fault = FieldError::new("/snapshot", missing.problem.detail.clone());
        let hint = format!("`scrapctl info {}` lists its snapshots", grain.name);
        missing.hint(hint).errors(vec![fault])
    })
}

fn restoring(world: &World<'_>, grain: &Grain, snapshot: &Snapshot) -> Preview {
    let name = &grain.name;
    let owner = grain.owner.map(|owner| world.cluster.node_name(owner)).unwrap_or_default();
    let mut steps = Vec::new();
    if grain.started.is_some() {
        steps.push(format!("stop grain {name} on node {owner}"));
    }
    steps.push("keep its present state as a snapshot: nothing is lost".to_owned());
    steps
        .push(format!("make its data equal to snapshot {} of {}", snapshot.guid, snapshot.created));
    if grain.wants_to_run() {
        steps.push(format!("start it again on node {owner}"));
    }
    Preview { steps, ..Preview::default() }
}

/// Makes a new grain from another one's data.
#[utoipa::path(post, path = "/v1/grains/{name}/clone", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body = CloneBody,
    responses((status = 202, description = "The operation", body = OperationView)))]
pub(super) async fn clone(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    asked.query(&["wait"])?;
    let body: CloneBody = asked.json()?;
    let source = api.read(|cluster| find_grain(cluster, &name).cloned())?;
    let snapshot = body.snapshot.as_deref().map(|text| find_snapshot(&source, text)).transpose()?;
    let snapshot = snapshot.map(|snapshot| snapshot.guid);
    let mut spec = source.spec.clone();
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
    let text = GrainText {
        name: body.name,
        labels: source.labels.clone(),
        annotations: source.annotations.clone(),
        spec,
    };
    let work = Work::Clone { from: source.id, snapshot, grain: GrainId(fresh()) };
    begin(&api, &closing, &asked, work, Some(text)).await
}

/// Every node as a place for a grain.
#[utoipa::path(get, path = "/v1/grains/{name}/placement", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 200, description = "Best first", body = PlacementView)))]
pub(super) async fn placement(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    api.look(|world| {
        let grain = find_grain(world.cluster, &name)?;
        let ranking = place(world.cluster, world.observed, Wanted::of(grain, Purpose::Run));
        Ok(shown(world.cluster.index, view::placement(world, &ranking, grain.owner)))
    })
}

/// Every node as a place for a grain that nobody has made.
#[utoipa::path(post, path = "/v1/place", tag = "grains",
    request_body(content((GrainManifest = "application/json"), (GrainManifest = "application/yaml"))),
    responses((status = 200, description = "Best first; nothing is made", body = PlacementView)))]
pub(super) async fn place_new(State(api): State<Api>, asked: Asked) -> Answer {
    asked.query(&[])?;
    let text = grain_text(asked.manifest()?)?;
    api.confirm().await?;
    api.look(|world| {
        let GrainText { spec, labels, .. } = &text;
        let wanted = Wanted { purpose: Purpose::Run, grain: None, spec, labels };
        let ranking = place(world.cluster, world.observed, wanted);
        Ok(shown(world.cluster.index, view::placement(world, &ranking, None)))
    })
}
