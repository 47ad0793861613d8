//! What a visitor gets, through the routes, without a socket.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::util::ServiceExt as _;

use super::*;

fn service(data: &std::path::Path) -> Router {
    let place = Place { node: "ada".to_owned(), epoch: "3".to_owned() };
    let book = Book::open(&data.join("entries.jsonl")).unwrap();
    let site = Site::open(data.join("site")).unwrap();
    routes(Arc::new(Service { book, site, place }))
}

async fn ask(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let request =
        Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers().get("x-scrap-node").unwrap(), "ada");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn entries_are_numbered_kept_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let router = service(dir.path());
    let (status, first) = ask(&router, "POST", "/entries", " hello\n").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(first, r#"{"number":1,"text":"hello","node":"ada","epoch":"3"}"#);
    ask(&router, "POST", "/entries", "again").await;
    // A new start reads what was answered.
    let router = service(dir.path());
    let (_, list) = ask(&router, "GET", "/entries?from=2", "").await;
    assert_eq!(
        list,
        r#"{"newest":2,"entries":[{"number":2,"text":"again","node":"ada","epoch":"3"}]}"#
    );
}

#[tokio::test]
async fn bad_entries_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let router = service(dir.path());
    assert_eq!(ask(&router, "POST", "/entries", " \n").await.0, StatusCode::BAD_REQUEST);
    let long = "x".repeat(ENTRY_MAX + 1);
    assert_eq!(ask(&router, "POST", "/entries", &long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ask(&router, "GET", "/entries?form=2", "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pages_are_uploaded_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let router = service(dir.path());
    assert_eq!(ask(&router, "GET", "/", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&router, "PUT", "/index.html", "<p>hi").await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, "PUT", "/img/a.svg", "<svg>").await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, "GET", "/", "").await, (StatusCode::OK, "<p>hi".to_owned()));
    assert_eq!(ask(&router, "GET", "/img/a.svg", "").await.1, "<svg>");
}

#[tokio::test]
async fn no_path_leads_out_of_the_site() {
    let dir = tempfile::tempdir().unwrap();
    let router = service(dir.path());
    ask(&router, "POST", "/entries", "secret").await;
    for path in
        ["/../entries.jsonl", "/%2e%2e/entries.jsonl", "/.index.html.new", "/a//b", "/a%00b", "/a/"]
    {
        assert_eq!(ask(&router, "GET", path, "").await.0, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(ask(&router, "PUT", path, "x").await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[test]
fn a_torn_last_line_is_cut_off_and_damage_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("entries.jsonl");
    let book = Book::open(&path).unwrap();
    book.add("one".into(), "ada".into(), "1".into()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), b"{\"number\":2,\"te"].concat()).unwrap();
    let book = Book::open(&path).unwrap();
    assert_eq!(book.newest(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    std::fs::write(&path, [b"rubbish\n", whole.as_slice()].concat()).unwrap();
    assert!(Book::open(&path).is_err());
}
