//! `policy …`.

use scrap_schema::api::PolicyView;
use scrap_schema::id::Name;

use super::names::Noun;
use super::{Ctx, grain, show};
use crate::cli::{ListArgs, PolicyCommand};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::policies;

/// `policy …`.
pub(crate) async fn run(ctx: &Ctx, command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Ls(list) => ls(ctx, &list).await,
        PolicyCommand::Info(args) => info(ctx, &args.policy).await,
        PolicyCommand::Rm(args) => rm(ctx, &args.policy).await,
    }
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let policies: Vec<PolicyView> = ctx.read(Call::get(&["policies"])).await?;
    let grid = |theme| policies::grid(&policies, theme);
    show::list(ctx, &policies, grid, list, "there are no policies")
}

async fn info(ctx: &Ctx, policy: &Name) -> Result<(), Failure> {
    let read = ctx.read(Call::get(&["policies", policy.as_str()])).await;
    let view: PolicyView = ctx.named(read, &[(Noun::Policy, policy)]).await?;
    show::one(
        ctx,
        &view,
        |theme| policies::info(&view, theme),
        |theme| policies::grid(std::slice::from_ref(&view), theme),
    )
}

async fn rm(ctx: &Ctx, policy: &Name) -> Result<(), Failure> {
    let path = ["policies", policy.as_str()];
    let read = ctx.client.send(&Call::get(&path)).await;
    let read = ctx.named(read, &[(Noun::Policy, policy)]).await?;
    grain::done_once(ctx.client.send(&Call::delete(&path, read.etag.as_deref())).await)?;
    ctx.print.note(&format!("policy {policy} is removed"));
    Ok(())
}
