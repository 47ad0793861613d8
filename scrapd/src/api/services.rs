//! `/v1/grains/{name}/services`: what the init of a grain says of its services, asked on the node where it lives.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use scrap_host::runtime::{Activity, Runtime, ServiceState};
use scrap_schema::api::{ServiceActivity, ServiceView, ServicesView};

use super::error::{Answer, from_runtime};
use super::input::{Named, Pairs};
use super::owner::{Place, reach};
use super::state::Api;

/// What runs inside a grain, as its init tells it.
#[utoipa::path(get, path = "/v1/grains/{name}/services", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 200, description = "By name; empty where its init keeps no list", body = ServicesView)))]
pub(super) async fn services(
    State(api): State<Api>,
    Named(name): Named,
    request: Request,
) -> Answer {
    Pairs::of(request.uri(), &[])?;
    let (grain, name) = match reach(&api, &name, request).await? {
        Place::Here { grain, name, request: _ } => (grain, name),
        Place::Answered(response) => return Ok(response),
    };
    let told = api.daemon.host.runtime.services(grain).await;
    let told = told.map_err(|error| from_runtime(&error, &name))?;
    Ok(Json(ServicesView { services: told.into_iter().map(shown).collect() }).into_response())
}

fn shown(told: ServiceState) -> ServiceView {
    let activity = match told.activity {
        Activity::Active => ServiceActivity::Active,
        Activity::Changing => ServiceActivity::Changing,
        Activity::Inactive => ServiceActivity::Inactive,
        Activity::Failed => ServiceActivity::Failed,
    };
    ServiceView { name: told.name, activity, words: told.words }
}
