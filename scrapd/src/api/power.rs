//! `/v1/nodes/{name}/confirm-off` and `…/fence-test`: what people and devices know of the power of a node.

use axum::extract::State;
use scrap_decide::preview;
use scrap_host::{clock, fence};
use scrap_schema::api::{ConfirmOffBody, DryRun, FenceTest};
use scrap_schema::command::Command;
use scrap_schema::fence::OffBy;
use scrap_schema::problem::Code;

use super::document::NodeOrPlan;
use super::error::{Answer, Failure};
use super::grain_actions::as_dry_run;
use super::input::{Asked, Named};
use super::nodes::show;
use super::state::{Api, find_node, shown};
use super::view::World;

/// Longest name of a person.
const BY_MAX: usize = 80;

/// Somebody has made sure that a silent node is off: its grains may start elsewhere at once.
#[utoipa::path(post, path = "/v1/nodes/{name}/confirm-off", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    request_body(content = ConfirmOffBody, description = "May be left out"),
    responses((status = 200, description = "What would happen with each of its grains (`dryRun`), or the node", body = NodeOrPlan)))]
pub(super) async fn confirm_off(
    State(api): State<Api>,
    Named(name): Named,
    asked: Asked,
) -> Answer {
    asked.query(&[])?;
    let body: ConfirmOffBody = asked.json_or_default()?;
    let by = who(body.by.as_deref())?;
    if body.dry_run {
        api.confirm().await?;
        return api.look(|world| {
            let plan = what_happens(world, &name, by)?;
            Ok(shown(world.cluster.index, plan))
        });
    }
    let command = api.look(|world| said(world, &name, by))?;
    api.propose(&asked, command).await?;
    show(&api, &name)
}

/// The command that says it, of the node's present start.
fn said(world: &World<'_>, name: &str, by: OffBy) -> Answer<Command> {
    let node = find_node(world.cluster, name)?;
    // Of one that never registered nothing can run: any start is as good, it is refused.
    let boot = node.boot.unwrap_or_default();
    let until = world.observed.wall_of(node.id, world.now);
    Ok(Command::ConfirmNodeOff { node: node.id, boot, until, by })
}

fn what_happens(world: &World<'_>, name: &str, by: OffBy) -> Answer<DryRun> {
    let node = find_node(world.cluster, name)?.id;
    let command = said(world, name, by)?;
    let plan = preview::confirmed_off(world.cluster, world.observed, world.now, node, command);
    Ok(match plan {
        Ok(preview) => as_dry_run(preview),
        Err(refusal) => {
            let problem = Failure::from(refusal).problem;
            DryRun { refused: Some(problem.detail), hint: problem.hint, ..DryRun::default() }
        }
    })
}

/// Asks the device of a node whether the node has power. The answering node asks, with its own settings; nothing is changed.
#[utoipa::path(post, path = "/v1/nodes/{name}/fence-test", tag = "nodes",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The device answers", body = FenceTest)))]
pub(super) async fn fence_test(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    asked.query(&[])?;
    asked.nothing()?;
    let (index, node, spec) = api.read(|cluster| {
        let node = find_node(cluster, &name)?;
        Ok::<_, Failure>((cluster.index, node.name.clone(), node.spec.fence.clone()))
    })?;
    let Some(spec) = spec else {
        let detail = format!("nobody has said how the power of node `{node}` is cut");
        let hint = format!("write `spec.fence` into its manifest: `scrapctl edit node/{node}`");
        return Err(Failure::new(Code::WrongState, detail).hint(hint));
    };
    let began = clock::boot_time();
    match fence::look(&api.daemon.fence, &node, &spec).await {
        Ok(power) => {
            let took_ms = clock::boot_time().since(began).ms();
            let (from, program) = (api.daemon.name.clone(), spec.program);
            Ok(shown(index, FenceTest { node, from, program, power, took_ms }))
        }
        Err(error) => {
            let from = &api.daemon.name;
            let detail = format!("asked on node `{from}`: {}", crate::logging::chain(&error));
            Err(Failure::new(Code::OperationFailed, detail).hint(error.hint()))
        }
    }
}

/// Who says it.
fn who(by: Option<&str>) -> Answer<OffBy> {
    named(by).map(|by| OffBy::Person { by })
}

/// A person's name, as text for people.
pub(super) fn named(by: Option<&str>) -> Answer<String> {
    let by = by.unwrap_or("somebody").trim();
    if by.is_empty() || by.len() > BY_MAX || by.chars().any(char::is_control) {
        let detail = format!("`by` is a name of at most {BY_MAX} bytes, in one line");
        return Err(Failure::bad_value(Code::BadRequest, "/by", &detail));
    }
    Ok(by.to_owned())
}
