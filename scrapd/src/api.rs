//! The HTTP API `/v1`: reads requests strictly, asks the consensus, shows views. One file for each noun.
//!
//! No decision about grains or nodes is made here, no state is kept here, and only `error` names HTTP statuses of problems.
//! **Invariant:** a change is one entry of the log; a connection that breaks off never leaves half of one.

mod apply;
mod arm;
mod array;
mod cluster;
mod document;
mod error;
mod events;
mod exec;
mod gate;
mod grain_actions;
mod grains;
mod health;
mod input;
mod logs;
mod manifests;
mod merge;
mod middle;
mod networks;
mod nodes;
mod operations;
mod orphans;
mod owner;
mod policies;
mod power;
mod proxy;
mod selector;
mod serve;
mod services;
mod state;
mod templates;
mod terminal;
mod view;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::daemon::Daemon;
use state::Api;

pub use serve::serve;

/// The doors of a node that has no hands yet: every answer says why.
pub(crate) fn not_ready(why: &str) -> Router {
    let failure = error::Failure::not_ready(why);
    Router::new().fallback(move || std::future::ready(failure.clone()))
}

/// The whole API of a node.
pub fn routes(daemon: Arc<Daemon>) -> Router {
    let api = Api { daemon };
    let led = led().route_layer(from_fn_with_state(api.clone(), gate::led));
    let (router, _) = here().merge(led).split_for_parts();
    router
        .fallback(middle::nowhere)
        .method_not_allowed_fallback(middle::not_this_way)
        .with_state(api)
        .layer(from_fn(middle::around))
}

/// What every node answers by itself.
fn here() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(cluster::info))
        .routes(routes!(cluster::hash))
        .routes(routes!(document::openapi))
        .routes(routes!(logs::logs))
        .routes(routes!(exec::exec))
        .routes(routes!(terminal::console))
        .routes(routes!(services::services))
        .routes(routes!(orphans::diff))
        .routes(routes!(orphans::view, orphans::conceal))
        .routes(routes!(templates::import))
        .routes(routes!(power::fence_test))
}

/// What the leader answers.
fn led() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(cluster::cluster))
        .routes(routes!(arm::disarm))
        .routes(routes!(arm::arm))
        .routes(routes!(cluster::quorum))
        .routes(routes!(cluster::orphans))
        .routes(routes!(cluster::orphan))
        .routes(routes!(orphans::fork))
        .routes(routes!(orphans::promote))
        .routes(routes!(orphans::discard))
        .routes(routes!(grains::list, grains::create))
        .routes(routes!(grains::get, grains::put, grains::patch, grains::delete))
        .routes(routes!(grains::undelete))
        .routes(routes!(grain_actions::start))
        .routes(routes!(grain_actions::stop))
        .routes(routes!(grain_actions::restart))
        .routes(routes!(grain_actions::migrate))
        .routes(routes!(grain_actions::failover))
        .routes(routes!(grain_actions::snapshot))
        .routes(routes!(grain_actions::restore))
        .routes(routes!(grain_actions::clone))
        .routes(routes!(grain_actions::placement))
        .routes(routes!(grain_actions::place_new))
        .routes(routes!(nodes::list, nodes::join))
        .routes(routes!(nodes::get, nodes::put, nodes::delete))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::cordon))
        .routes(routes!(nodes::uncordon))
        .routes(routes!(power::confirm_off))
        .routes(routes!(policies::list))
        .routes(routes!(policies::get, policies::put, policies::delete))
        .routes(routes!(networks::list))
        .routes(routes!(networks::get, networks::put, networks::delete))
        .routes(routes!(templates::list))
        .routes(routes!(templates::get, templates::delete))
        .routes(routes!(operations::list))
        .routes(routes!(operations::get, operations::cancel))
        .routes(routes!(events::events))
        .routes(routes!(apply::apply))
}

/// The OpenAPI document of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    let (led, mut all) = (led().into_openapi(), here().into_openapi());
    all.merge(led.clone());
    document::complete(all, &led)
}

/// The same as text, made once.
fn openapi_json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| openapi().to_pretty_json().unwrap_or_default())
}
