//! `status` and `cluster`.

use scrap_schema::api::{ClusterView, QuorumView};

use super::{Ctx, show};
use crate::cli::Output;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::{quorum, status};

/// Says whether everything is all right, and if not, why.
pub(crate) async fn status(ctx: &Ctx) -> Result<(), Failure> {
    let cluster: ClusterView = ctx.read(Call::get(&["cluster"])).await?;
    let wide = ctx.settings.output == Output::Wide;
    show::one(
        ctx,
        &cluster,
        |theme| status::text(&cluster, wide, ctx.is_old(), theme),
        |theme| status::grid(&cluster, theme),
    )
}

/// Says who votes, and what the loss of one more node would mean.
pub(crate) async fn quorum(ctx: &Ctx) -> Result<(), Failure> {
    let view: QuorumView = ctx.read(Call::get(&["cluster", "quorum"])).await?;
    show::one(
        ctx,
        &view,
        |theme| quorum::text(&view, ctx.is_old(), theme),
        |theme| quorum::grid(&view, theme),
    )
}
