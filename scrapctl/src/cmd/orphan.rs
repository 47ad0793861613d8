//! `orphan …`.

use std::time::Duration;

use scrap_schema::api::{
    DiscardBody, DryRun, ForkBody, OrphanDiff, OrphanMount, OrphanView, PromoteBody,
};
use scrap_schema::problem::Code;

use super::{Ctx, grain, operation, show};
use crate::cli::{
    ListArgs, OrphanCommand, OrphanDiscardArgs, OrphanForkArgs, OrphanPromoteArgs, WaitArgs,
};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::orphans;

/// Comparing and mounting takes its time.
const SLOW: Duration = Duration::from_secs(60);

/// `orphan …`.
pub(crate) async fn run(ctx: &Ctx, command: OrphanCommand) -> Result<(), Failure> {
    match command {
        OrphanCommand::Ls(list) => ls(ctx, &list).await,
        OrphanCommand::Info(args) => info(ctx, &args.id).await,
        OrphanCommand::Diff(args) => diff(ctx, &args.orphan.id, args.limit).await,
        OrphanCommand::Mount(args) => mount(ctx, &args.id).await,
        OrphanCommand::Unmount(args) => unmount(ctx, &args.id).await,
        OrphanCommand::Fork(args) => fork(ctx, args).await,
        OrphanCommand::Promote(args) => promote(ctx, args).await,
        OrphanCommand::Discard(args) => discard(ctx, args).await,
    }
}

async fn fork(ctx: &Ctx, args: OrphanForkArgs) -> Result<(), Failure> {
    let body = ForkBody {
        name: args.new,
        like: args.like,
        env: args.env.into_iter().collect(),
        running: args.start,
        dry_run: args.dry_run,
    };
    let call = Call::post(&["orphans", &args.orphan.id, "fork"]).json(&body);
    begin(ctx, &call, args.dry_run, args.wait).await
}

async fn promote(ctx: &Ctx, args: OrphanPromoteArgs) -> Result<(), Failure> {
    let id = args.orphan.id;
    let path = ["orphans", id.as_str(), "promote"];
    if !args.dry_run && !args.yes {
        let orphan = read(ctx, &id).await?;
        // What would happen is said before it is confirmed.
        let plan = Call::post(&path).json(&PromoteBody { dry_run: true });
        let plan: DryRun = known(ctx.client.value(&plan).await)?;
        grain::show_plan(ctx, &plan)?;
        let name = name(&orphan);
        grain::confirm(ctx, &format!("This changes what grain {name} has."), &name)?;
    }
    let call = Call::post(&path).json(&PromoteBody { dry_run: args.dry_run });
    begin(ctx, &call, args.dry_run, args.wait).await
}

async fn discard(ctx: &Ctx, args: OrphanDiscardArgs) -> Result<(), Failure> {
    let id = args.orphan.id;
    if !args.dry_run && !args.yes {
        let orphan = read(ctx, &id).await?;
        let (name, newer) = (name(&orphan), orphan.newer.rounded());
        let question = format!(
            "This removes for good what node {} has kept aside of grain {name}: {newer} that nobody else has.",
            orphan.node
        );
        grain::confirm(ctx, &question, &name)?;
    }
    let body = DiscardBody { by: who(ctx), dry_run: args.dry_run };
    let call = Call::post(&["orphans", &id, "discard"]).json(&body);
    begin(ctx, &call, args.dry_run, args.wait).await
}

async fn begin(ctx: &Ctx, call: &Call, dry_run: bool, wait: WaitArgs) -> Result<(), Failure> {
    let reply = known(ctx.client.send(call).await)?;
    if dry_run {
        return grain::show_plan(ctx, &reply.json()?);
    }
    operation::finish(ctx, vec![reply.json()?], wait).await
}

async fn read(ctx: &Ctx, id: &str) -> Result<OrphanView, Failure> {
    known(ctx.read(Call::get(&["orphans", id])).await)
}

/// What is typed to confirm: the name of its grain.
fn name(orphan: &OrphanView) -> String {
    orphan.grain_name.as_ref().map_or_else(|| orphan.grain.to_string(), ToString::to_string)
}

/// Who sits here, as the machine calls them. For the record only.
fn who(ctx: &Ctx) -> Option<String> {
    let user = ctx.settings.environment.person.clone()?;
    let plain: String = user.chars().filter(|letter| !letter.is_control()).take(100).collect();
    (!plain.is_empty()).then_some(plain)
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let orphans: Vec<OrphanView> = ctx.read(Call::get(&["orphans"])).await?;
    let clock = ctx.clock();
    let grid = |theme| orphans::grid(&orphans, &clock, theme);
    show::list(ctx, &orphans, grid, list, "nothing was set aside")
}

/// Adds where to look to a failure that says that there is no such orphan.
fn known<T>(mut read: Result<T, Failure>) -> Result<T, Failure> {
    if let Err(Failure::Problem { problem, .. }) = &mut read
        && problem.code == Code::NotFound
    {
        problem.hint = Some("what was set aside is listed by: scrapctl orphan ls".to_owned());
    }
    read
}

async fn diff(ctx: &Ctx, id: &str, limit: Option<u64>) -> Result<(), Failure> {
    let call = Call::get(&["orphans", id, "diff"]).query_if("limit", limit).answered_within(SLOW);
    let diff: OrphanDiff = known(ctx.client.value(&call).await)?;
    show::text(ctx, &diff, |theme| orphans::diff(&diff, theme))
}

async fn mount(ctx: &Ctx, id: &str) -> Result<(), Failure> {
    let call = Call::post(&["orphans", id, "view"]).answered_within(SLOW);
    let mount: OrphanMount = known(ctx.client.value(&call).await)?;
    show::text(ctx, &mount, |_| orphans::mount(&mount))?;
    ctx.print.note(&format!("when you have seen enough: scrapctl orphan unmount {id}"));
    Ok(())
}

async fn unmount(ctx: &Ctx, id: &str) -> Result<(), Failure> {
    let call = Call::delete(&["orphans", id, "view"], None).answered_within(SLOW);
    known(ctx.client.send(&call).await)?;
    ctx.print.note("it is shown no longer");
    Ok(())
}

async fn info(ctx: &Ctx, id: &str) -> Result<(), Failure> {
    let view = read(ctx, id).await?;
    let clock = ctx.clock();
    show::one(
        ctx,
        &view,
        |theme| orphans::info(&view, &clock, theme),
        |theme| orphans::grid(std::slice::from_ref(&view), &clock, theme),
    )
}
