//! `orphan …`.

use std::time::Duration;

use scrap_schema::api::{OrphanDiff, OrphanMount, OrphanView};
use scrap_schema::problem::Code;

use super::{Ctx, show};
use crate::cli::{ListArgs, OrphanCommand};
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
    }
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
    let view: OrphanView = known(ctx.read(Call::get(&["orphans", id])).await)?;
    let clock = ctx.clock();
    show::one(
        ctx,
        &view,
        |theme| orphans::info(&view, &clock, theme),
        |theme| orphans::grid(std::slice::from_ref(&view), &clock, theme),
    )
}
