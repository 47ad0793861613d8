//! `node …`.

use scrap_schema::api::{ConfirmOffBody, DrainBody, DryRun, FenceTest, NodeView};
use scrap_schema::id::Name;

use super::names::Noun;
use super::{Ctx, grain, show};
use crate::cli::{ConfirmOffArgs, DrainArgs, ListArgs, NodeCommand, NodeRmArgs};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::nodes;

/// `node …`.
pub(crate) async fn run(ctx: &Ctx, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls(list) => ls(ctx, &list).await,
        NodeCommand::Info(args) => info(ctx, &args.node).await,
        NodeCommand::Drain(args) => drain(ctx, args).await,
        NodeCommand::Undrain(args) => {
            change(ctx, &args.node, "undrain", "may take grains again").await
        }
        NodeCommand::Cordon(args) => {
            change(ctx, &args.node, "cordon", "takes no new grains and copies").await
        }
        NodeCommand::Uncordon(args) => {
            change(ctx, &args.node, "uncordon", "may take new grains and copies again").await
        }
        NodeCommand::ConfirmOff(args) => confirm_off(ctx, &args).await,
        NodeCommand::FenceTest(args) => fence_test(ctx, &args.node).await,
        NodeCommand::Rm(args) => rm(ctx, &args).await,
    }
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let nodes: Vec<NodeView> = ctx.read(Call::get(&["nodes"])).await?;
    ctx.client.learn(&nodes);
    show::list(ctx, &nodes, |theme| nodes::grid(&nodes, theme), list, "there are no nodes")
}

async fn info(ctx: &Ctx, node: &Name) -> Result<(), Failure> {
    let read = ctx.read(Call::get(&["nodes", node.as_str()])).await;
    let view: NodeView = ctx.named(read, &[(Noun::Node, node)]).await?;
    show_one(ctx, &view)
}

fn show_one(ctx: &Ctx, view: &NodeView) -> Result<(), Failure> {
    let clock = ctx.clock();
    show::one(
        ctx,
        view,
        |theme| nodes::info(view, &clock, theme),
        |theme| nodes::grid(std::slice::from_ref(view), theme),
    )
}

async fn drain(ctx: &Ctx, args: DrainArgs) -> Result<(), Failure> {
    let node = args.node.node;
    let body = DrainBody { dry_run: args.dry_run };
    let call = Call::post(&["nodes", node.as_str(), "drain"]).json(&body);
    grain::begin_or_plan(ctx, &call, args.dry_run, &[(Noun::Node, &node)], args.wait).await
}

async fn change(ctx: &Ctx, node: &Name, verb: &str, done: &str) -> Result<(), Failure> {
    let answer = ctx.client.value(&Call::post(&["nodes", node.as_str(), verb])).await;
    let view: NodeView = ctx.named(answer, &[(Noun::Node, node)]).await?;
    if ctx.for_people() {
        ctx.print.note(&format!("{} {done}", view.metadata.name));
        return Ok(());
    }
    show_one(ctx, &view)
}

/// Says that a silent node is off. A wrong word is a grain that runs twice, so it asks, and shows before what would happen.
async fn confirm_off(ctx: &Ctx, args: &ConfirmOffArgs) -> Result<(), Failure> {
    let node = &args.node.node;
    let path = ["nodes", node.as_str(), "confirm-off"];
    let by = ctx.settings.environment.person.clone();
    let body = |dry_run| ConfirmOffBody { by: by.clone(), dry_run };
    if args.dry_run {
        let plan = ctx.client.value(&Call::post(&path).json(&body(true))).await;
        let plan: DryRun = ctx.named(plan, &[(Noun::Node, node)]).await?;
        return grain::show_plan(ctx, &plan);
    }
    match &args.yes_it_is_off {
        Some(named) if named == node => (),
        Some(named) => {
            let message = format!("`--yes-it-is-off {named}` names another node than `{node}`");
            let hint = Some("look once more which machine is off, then name it twice".to_owned());
            return Err(Failure::Usage { message, hint });
        }
        None => {
            let plan = ctx.client.value(&Call::post(&path).json(&body(true))).await;
            let plan: DryRun = ctx.named(plan, &[(Noun::Node, node)]).await?;
            grain::show_plan(ctx, &plan)?;
            let question = format!(
                "This starts what ran on {node} elsewhere. If {node} is not off, it may run twice then."
            );
            grain::confirm_as(ctx, &question, node.as_str(), &format!("--yes-it-is-off {node}"))?;
        }
    }
    let answer = ctx.client.value(&Call::post(&path).json(&body(false))).await;
    let view: NodeView = ctx.named(answer, &[(Noun::Node, node)]).await?;
    if ctx.for_people() {
        ctx.print.note(&format!("{} counts as off", view.metadata.name));
        return Ok(());
    }
    show_one(ctx, &view)
}

async fn fence_test(ctx: &Ctx, node: &Name) -> Result<(), Failure> {
    let answer = ctx.client.value(&Call::post(&["nodes", node.as_str(), "fence-test"])).await;
    let test: FenceTest = ctx.named(answer, &[(Noun::Node, node)]).await?;
    show::text(ctx, &test, |_| nodes::fence_test(&test))
}

async fn rm(ctx: &Ctx, args: &NodeRmArgs) -> Result<(), Failure> {
    let node = &args.node.node;
    let path = ["nodes", node.as_str()];
    let read = ctx.named(ctx.client.send(&Call::get(&path)).await, &[(Noun::Node, node)]).await?;
    let view: NodeView = read.json()?;
    let call = Call::delete(&path, read.etag.as_deref());
    let call = if args.leave_orphans { call.query("leaveOrphans", true) } else { call };
    if args.dry_run {
        let plan: DryRun = ctx.client.value(&call.query("dryRun", true)).await?;
        return grain::show_plan(ctx, &plan);
    }
    if !args.yes {
        let copies = view.status.copies.len();
        let question = format!(
            "This removes node {node} from the cluster, with {copies} copies that it keeps. \
             Its identity is not used again."
        );
        grain::confirm(ctx, &question, node.as_str())?;
    }
    grain::done_once(ctx.client.send(&call).await)?;
    ctx.print.note(&format!("{node} is no member of the cluster any more"));
    Ok(())
}
