//! `/v1/operations`: long work, its progress, and undoing it.

use std::cmp::Reverse;

use axum::extract::State;
use scrap_schema::api::OperationView;
use scrap_schema::command::Command;
use scrap_schema::id::OperationId;
use scrap_schema::operation::OperationState;

use super::error::Answer;
use super::input::{Asked, Head, Named, wait};
use super::state::{Api, Closing, operation_answer, shown};
use super::view;

/// How many operations are listed if nobody says.
const LIMIT: u64 = 100;

/// Operations, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations",
    params(
        ("state" = Option<OperationState>, Query, description = "Only those"),
        ("limit" = Option<u64>, Query, description = "At most so many; 100 if nobody says"),
    ),
    responses((status = 200, description = "Newest first", body = [OperationView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    let query = head.query(&["state", "limit", "stale"])?;
    query.flag("stale")?;
    let words = ["running", "succeeded", "failed", "cancelled"];
    let state: Option<OperationState> = query.word("state", &words)?;
    let limit = usize::try_from(query.number("limit")?.unwrap_or(LIMIT)).unwrap_or(usize::MAX);
    Ok(api.look(|world| {
        let all = world.cluster.operations.values();
        let mut found: Vec<_> =
            all.filter(|operation| state.is_none_or(|state| operation.state == state)).collect();
        found.sort_by_key(|operation| Reverse((operation.created_index, operation.id)));
        let views = found.into_iter().take(limit);
        let views: Vec<OperationView> =
            views.map(|operation| view::operation(world, operation)).collect();
        shown(world.cluster.index, views)
    }))
}

/// One operation; with `wait`, when it is over or the time is up.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations",
    params(
        ("id" = String, Path, description = "Its id"),
        ("wait" = Option<String>, Query, description = "Longest time to wait for its end: `30s`"),
    ),
    responses((status = 200, description = "The operation", body = OperationView)))]
pub(super) async fn get(
    State(api): State<Api>,
    Named(id): Named,
    closing: Closing,
    head: Head,
) -> Answer {
    let query = head.query(&["wait", "stale"])?;
    query.flag("stale")?;
    let wait = wait(&head.headers, &query)?;
    let id: OperationId = id.parse()?;
    let (index, view) = api.operation_after(id, wait, &closing).await?;
    Ok(shown(index, view))
}

/// Asks for an operation to be undone.
#[utoipa::path(delete, path = "/v1/operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 202, description = "It is being undone", body = OperationView)))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Named(id): Named,
    closing: Closing,
    asked: Asked,
) -> Answer {
    let query = asked.query(&["wait"])?;
    asked.nothing()?;
    let wait = asked.wait(&query)?;
    let operation: OperationId = id.parse()?;
    api.propose(&asked, Command::CancelOperation { operation }).await?;
    let (index, view) = api.operation_after(operation, wait, &closing).await?;
    Ok(operation_answer(index, &view))
}
