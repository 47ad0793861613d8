//! `status`.

use scrap_schema::api::ClusterView;

use super::{Ctx, show};
use crate::cli::Output;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::status;

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
