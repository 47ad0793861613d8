//! Around every request: an id, a line in the log, and an answer even after a panic.

use std::panic::AssertUnwindSafe;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use scrap_schema::problem::{Code, Problem};
use tracing::Instrument;

use super::error::{Failure, PROBLEM_JSON};
use super::gate::HEADER_HOP;

/// What to search the logs for.
pub(super) const HEADER_REQUEST_ID: &str = "x-request-id";

/// Gives the request its id and answers whatever happens.
pub(super) async fn around(mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    if let Ok(value) = HeaderValue::from_str(&id) {
        request.headers_mut().insert(HEADER_REQUEST_ID, value);
    }
    let span = tracing::info_span!(
        "request",
        id,
        method = %request.method(),
        path = request.uri().path(),
    );
    let method = request.method().clone();
    let response = async {
        let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = response.unwrap_or_else(|panic| panicked(panic.as_ref()));
        log(&method, &response);
        response
    };
    finish(response.instrument(span).await, &id)
}

/// The id that another node gave it, or a new one.
fn request_id(request: &Request) -> String {
    let headers = request.headers();
    let given = headers.get(HEADER_REQUEST_ID).filter(|_| headers.contains_key(HEADER_HOP));
    let given = given.and_then(|id| id.to_str().ok()).filter(|id| id.len() <= 64);
    given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(
        version = env!("CARGO_PKG_VERSION"),
        panic = text,
        "a handler panicked; please report"
    );
    Failure::internal(
        "a fault in scrap; please report it with the lines of the log that carry this id",
    )
    .into_response()
}

fn log(method: &Method, response: &Response) {
    let status = response.status().as_u16();
    match response.extensions().get::<Problem>() {
        Some(problem) if problem.code == Code::Internal => {
            tracing::error!(status, detail = problem.detail, "request failed");
        }
        Some(problem) => {
            tracing::info!(status, code = %problem.code, detail = problem.detail, "request refused");
        }
        None if *method == Method::GET => tracing::debug!(status, "request answered"),
        None => tracing::info!(status, "request answered"),
    }
}

/// Writes the id into the answer, and into the problem if it is one.
fn finish(mut response: Response, id: &str) -> Response {
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.request_id = Some(id.to_owned());
        let body = Json(&problem).into_response().into_body();
        *response.body_mut() = body;
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HEADER_REQUEST_ID, value);
    }
    response
}

/// No such address.
pub(super) async fn nowhere(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(120).collect();
    Failure::new(Code::NotFound, format!("there is nothing at `{path}`"))
        .hint("GET /v1/openapi.json lists every address")
}

/// The address exists, the method does not.
pub(super) async fn not_this_way(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(120).collect();
    Failure::new(Code::MethodNotAllowed, format!("`{path}` does not take {method}"))
        .hint("the header Allow lists the methods that it takes")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_with_the_id_of_the_request() {
        async fn broken() -> String {
            panic!("on purpose")
        }
        let router: Router = Router::new().route("/", get(broken)).layer(from_fn(around));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status().as_u16(), 500);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let id = response.headers()[HEADER_REQUEST_ID].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((problem.code, problem.request_id), (Code::Internal, Some(id)));
        assert!(!problem.detail.contains("on purpose"), "{}", problem.detail);
    }
}
