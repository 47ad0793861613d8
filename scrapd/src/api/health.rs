//! `/livez` and `/readyz`: does the process live, and may it be asked. Text for load balancers; no secrets, no proxying.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scrap_schema::unit::Span;

use super::error::Answer;
use super::input::Head;
use super::state::Api;

/// Longest time since this node knew that it was up to date.
const FRESH: Span = Span::from_secs(10);

/// Whether the process lives.
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub(super) async fn livez(head: Head) -> Answer {
    head.query(&[])?;
    Ok("ok\n".into_response())
}

/// Whether this node may be asked; with `leader`, whether it leads.
#[utoipa::path(get, path = "/readyz", tag = "health",
    params(("leader" = Option<bool>, Query, description = "Ready only if this node leads")),
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready, with the reason", body = String, content_type = "text/plain"),
    ))]
pub(super) async fn readyz(State(api): State<Api>, head: Head) -> Answer {
    let must_lead = head.query(&["leader"])?.flag("leader")?;
    Ok(match not_ready(&api, must_lead) {
        None => "ready\n".into_response(),
        Some(why) => unready(&why),
    })
}

fn unready(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
}

fn not_ready(api: &Api, must_lead: bool) -> Option<String> {
    let consensus = &api.daemon.consensus;
    let joined = api
        .read(|cluster| cluster.identity.is_some() && cluster.nodes.contains_key(&api.daemon.me));
    if !joined {
        return Some("this node is no member of a cluster".to_owned());
    }
    match consensus.age() {
        None => return Some("it has not been up to date since its start".to_owned()),
        Some(age) if age > FRESH => {
            return Some(format!("it was last up to date {} ago", age.rounded()));
        }
        Some(_) => (),
    }
    let leads = consensus.leadership().borrow().me;
    (must_lead && !leads).then(|| "another node leads".to_owned())
}
