//! A small real service for trying out: a web site with a guestbook, made to be run as a grain. An entry that was
//! answered with 201 is on disk. It knows nothing of clusters but the names in its environment.
#![forbid(unsafe_code)]

mod book;
mod site;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use book::{Book, Entry};
use site::Site;

/// Longest text of an entry.
const ENTRY_MAX: usize = 4096;
/// Largest file of the site.
const FILE_MAX: usize = 8 << 20;

/// Who answers: said with every answer, so that a visitor can tell two nodes apart.
#[derive(Clone)]
struct Place {
    node: String,
    epoch: String,
}

struct Service {
    book: Book,
    site: Site,
    place: Place,
}

/// A list of entries.
#[derive(Serialize)]
struct Entries {
    /// Number of the newest entry; 0: there is none.
    newest: u64,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The first number to list.
    #[serde(default)]
    from: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line in the grain's log.
fn log(line: &str) {
    use std::io::Write as _;
    // A log that nobody reads must not stop the service.
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn serve() -> anyhow::Result<()> {
    let setting = |name: &str| std::env::var(name).ok();
    let port: u16 = setting("PORT")
        .context("the environment variable PORT is missing")?
        .parse()
        .context("the environment variable PORT is not a port")?;
    let data = setting("SCRAP_DATA").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let word = |name| setting(name).unwrap_or_default();
    let place = Place { node: word("SCRAP_NODE"), epoch: word("SCRAP_EPOCH") };
    let book = Book::open(&data.join("entries.jsonl"))?;
    let site = Site::open(data.join("site"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    log(&format!("guestbook on http://{address}, {} entries", book.newest()));
    let service = Arc::new(Service { book, site, place });
    axum::serve(listener, routes(service))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
        .context("the server broke off")?;
    log("stopped cleanly");
    Ok(())
}

fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/entries", get(list).post(sign))
        .route("/", get(show_front))
        .route("/{*path}", get(show).put(upload))
        .layer(DefaultBodyLimit::max(FILE_MAX))
        .layer(from_fn_with_state(service.place.clone(), say_place))
        .with_state(service)
}

async fn say_place(
    State(place): State<Place>,
    method: Method,
    uri: Uri,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [("x-scrap-node", &place.node), ("x-scrap-epoch", &place.epoch)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if response.status().is_server_error() {
        log(&format!("{method} {uri}: {}", response.status()));
    }
    response
}

/// An answer that is one sentence.
fn sentence(status: StatusCode, text: impl Into<String>) -> Response {
    (status, format!("{}\n", text.into())).into_response()
}

fn failed(error: &anyhow::Error) -> Response {
    log(&format!("error: {error:#}"));
    sentence(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

async fn list(State(service): State<Arc<Service>>, Query(query): Query<ListQuery>) -> Response {
    let entries = service.book.list(query.from);
    Json(Entries { newest: service.book.newest(), entries }).into_response()
}

async fn sign(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let text = match std::str::from_utf8(&body) {
        Ok(text) if text.trim().is_empty() => {
            return sentence(StatusCode::BAD_REQUEST, "an entry needs a text");
        }
        Ok(text) if text.len() > ENTRY_MAX => {
            let what = format!("an entry has at most {ENTRY_MAX} bytes");
            return sentence(StatusCode::PAYLOAD_TOO_LARGE, what);
        }
        Ok(text) => text.trim().to_owned(),
        Err(_) => return sentence(StatusCode::BAD_REQUEST, "an entry must be UTF-8"),
    };
    let (node, epoch) = (service.place.node.clone(), service.place.epoch.clone());
    let written = tokio::task::spawn_blocking(move || service.book.add(text, node, epoch)).await;
    match written {
        Ok(Ok(entry)) => (StatusCode::CREATED, Json(entry)).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error.into()),
    }
}

async fn show_front(State(service): State<Arc<Service>>) -> Response {
    file(&service.site, "index.html")
}

async fn show(State(service): State<Arc<Service>>, Path(path): Path<String>) -> Response {
    file(&service.site, &path)
}

fn file(site: &Site, path: &str) -> Response {
    let Some(path) = site.path(path) else {
        return sentence(StatusCode::NOT_FOUND, "there is no such page");
    };
    match std::fs::read(&path) {
        Ok(bytes) => ([(CONTENT_TYPE, site::kind(&path))], bytes).into_response(),
        Err(_) => sentence(
            StatusCode::NOT_FOUND,
            "there is no such page; upload it with `curl -T FILE http://ADDRESS/FILE`",
        ),
    }
}

async fn upload(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    body: Bytes,
) -> Response {
    let Some(path) = service.site.path(&path) else {
        let what = "a file is named by letters, digits, `.`, `-`, `_` and `/`, and does not begin with `.`";
        return sentence(StatusCode::BAD_REQUEST, what);
    };
    let written = tokio::task::spawn_blocking(move || site::write(&path, &body)).await;
    match written {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error.into()),
    }
}

#[cfg(test)]
mod tests;
