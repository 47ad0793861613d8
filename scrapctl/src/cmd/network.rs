//! `network …`.

use scrap_schema::api::NetworkView;
use scrap_schema::id::Name;

use super::names::Noun;
use super::{Ctx, grain, show};
use crate::cli::{ListArgs, NetworkCommand};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::networks;

/// `network …`.
pub(crate) async fn run(ctx: &Ctx, command: NetworkCommand) -> Result<(), Failure> {
    match command {
        NetworkCommand::Ls(list) => ls(ctx, &list).await,
        NetworkCommand::Info(args) => info(ctx, &args.network).await,
        NetworkCommand::Rm(args) => rm(ctx, &args.network).await,
    }
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let all: Vec<NetworkView> = ctx.read(Call::get(&["networks"])).await?;
    let grid = |theme| networks::grid(&all, theme);
    let nothing = "there are no networks yet; make one with `scrapctl apply`";
    show::list(ctx, &all, grid, list, nothing)
}

async fn info(ctx: &Ctx, network: &Name) -> Result<(), Failure> {
    let read = ctx.read(Call::get(&["networks", network.as_str()])).await;
    let view: NetworkView = ctx.named(read, &[(Noun::Network, network)]).await?;
    show::one(
        ctx,
        &view,
        |theme| networks::info(&view, theme),
        |theme| networks::grid(std::slice::from_ref(&view), theme),
    )
}

async fn rm(ctx: &Ctx, network: &Name) -> Result<(), Failure> {
    let path = ["networks", network.as_str()];
    let read = ctx.client.send(&Call::get(&path)).await;
    let read = ctx.named(read, &[(Noun::Network, network)]).await?;
    grain::done_once(ctx.client.send(&Call::delete(&path, read.etag.as_deref())).await)?;
    ctx.print.note(&format!("network {network} is removed"));
    Ok(())
}
