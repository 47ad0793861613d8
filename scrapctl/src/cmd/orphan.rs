//! `orphan …`.

use scrap_schema::api::OrphanView;
use scrap_schema::problem::Code;

use super::{Ctx, show};
use crate::cli::{ListArgs, OrphanCommand};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::orphans;

/// `orphan …`.
pub(crate) async fn run(ctx: &Ctx, command: OrphanCommand) -> Result<(), Failure> {
    match command {
        OrphanCommand::Ls(list) => ls(ctx, &list).await,
        OrphanCommand::Info(args) => info(ctx, &args.id).await,
    }
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let orphans: Vec<OrphanView> = ctx.read(Call::get(&["orphans"])).await?;
    let clock = ctx.clock();
    let grid = |theme| orphans::grid(&orphans, &clock, theme);
    show::list(ctx, &orphans, grid, list, "nothing was set aside")
}

async fn info(ctx: &Ctx, id: &str) -> Result<(), Failure> {
    let mut read = ctx.read::<OrphanView>(Call::get(&["orphans", id])).await;
    if let Err(Failure::Problem { problem, .. }) = &mut read
        && problem.code == Code::NotFound
    {
        problem.hint = Some("what was set aside is listed by: scrapctl orphan ls".to_owned());
    }
    let view = read?;
    let clock = ctx.clock();
    show::one(
        ctx,
        &view,
        |theme| orphans::info(&view, &clock, theme),
        |theme| orphans::grid(std::slice::from_ref(&view), &clock, theme),
    )
}
