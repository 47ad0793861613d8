//! `cluster …`.

use std::time::Duration;

use scrap_schema::api::{ArmBody, ClusterView, DisarmBody};
use scrap_schema::id::Name;
use tokio::time::Instant;

use super::names::Noun;
use super::{Ctx, show, status};
use crate::cli::{ArmArgs, ClusterCommand, DisarmArgs, Output};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::status as render;

/// So long owners have for their side of it. They do it within a second if they can be reached.
const OWNERS_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// `cluster …`.
pub(crate) async fn run(ctx: &Ctx, command: Option<ClusterCommand>) -> Result<(), Failure> {
    match command {
        None => status::quorum(ctx).await,
        Some(ClusterCommand::Disarm(args)) => disarm(ctx, args).await,
        Some(ClusterCommand::Arm(args)) => arm(ctx, args).await,
    }
}

async fn disarm(ctx: &Ctx, args: DisarmArgs) -> Result<(), Failure> {
    let by = ctx.settings.environment.person.clone();
    let body = DisarmBody { node: args.node.clone(), r#for: args.span, by };
    let call = Call::post(&["cluster", "disarm"]).json(&body);
    let view = change(ctx, &call, args.node.as_ref()).await?;
    let view = match args.wait.no_wait {
        true => view,
        false => {
            owners(ctx, view, |view| view.disarming.clone(), "still end with the lease").await?
        }
    };
    if ctx.for_people() && !args.wait.no_wait {
        ctx.print.note("nothing fails over by itself, and nothing ends with a lease: begin");
    }
    shown(ctx, &view)
}

async fn arm(ctx: &Ctx, args: ArmArgs) -> Result<(), Failure> {
    let by = ctx.settings.environment.person.clone();
    let body = ArmBody { node: args.node.clone(), by };
    let call = Call::post(&["cluster", "arm"]).json(&body);
    let view = change(ctx, &call, args.node.as_ref()).await?;
    let view = match args.wait.no_wait {
        true => view,
        false => {
            owners(ctx, view, |view| view.arming.clone(), "are not under the lease yet").await?
        }
    };
    shown(ctx, &view)
}

async fn change(ctx: &Ctx, call: &Call, node: Option<&Name>) -> Result<ClusterView, Failure> {
    let names: Vec<(Noun, &Name)> = node.into_iter().map(|node| (Noun::Node, node)).collect();
    ctx.named(ctx.client.value(call).await, &names).await
}

/// Waits until owners have done their side: until then the other half is not true.
async fn owners(
    ctx: &Ctx,
    mut view: ClusterView,
    left: impl Fn(&ClusterView) -> Vec<Name>,
    what: &str,
) -> Result<ClusterView, Failure> {
    let end = Instant::now() + OWNERS_LIMIT;
    loop {
        let grains = left(&view);
        if grains.is_empty() {
            return Ok(view);
        }
        if Instant::now() > end {
            let names: Vec<&str> = grains.iter().map(Name::as_str).collect();
            return Err(Failure::local(format!("these grains {what}: {}", names.join(", "))));
        }
        tokio::time::sleep(PAUSE).await;
        view = ctx.client.value(&Call::get(&["cluster"])).await?;
    }
}

fn shown(ctx: &Ctx, view: &ClusterView) -> Result<(), Failure> {
    let wide = ctx.settings.output == Output::Wide;
    show::one(
        ctx,
        view,
        |theme| render::text(view, wide, ctx.is_old(), theme),
        |theme| render::grid(view, theme),
    )
}
