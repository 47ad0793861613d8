//! Becoming a member against a server of a few lines; refusals of folders.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use scrap_schema::api::{JoinBody, Joined};
use scrap_schema::problem::{Code, Problem};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> Config {
    let dir = dir.display();
    Config::parse(&format!("data_dir = \"{dir}/data\"\nrun_dir = \"/run/s\"\nname = \"bob\""))
        .unwrap()
}

fn joined() -> Joined {
    Joined {
        node: NodeId(4),
        cluster: "home".parse().unwrap(),
        cluster_id: ClusterId(9).to_string(),
        generation: 0,
        members: std::collections::BTreeMap::new(),
    }
}

/// A server whose answer to a join is made of the number of the question, from 0.
async fn server(
    answer: impl Fn(usize, JoinBody) -> Result<Joined, Box<Refusal>> + Send + Sync + 'static,
) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answer) = (asked.clone(), Arc::new(answer));
    let handler = post(move |Json(body): Json<JoinBody>| async move {
        answer(count.fetch_add(1, Ordering::SeqCst), body)
            .map(|joined| (StatusCode::CREATED, Json(joined)))
            .map_err(|refusal| *refusal)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/v1/nodes", handler);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

type Refusal = (StatusCode, Json<Problem>);

fn problem(status: StatusCode, code: Code, detail: &str) -> Box<Refusal> {
    Box::new((status, Json(Problem::new(code, status.as_u16(), detail))))
}

#[tokio::test]
async fn a_join_goes_on_until_there_is_a_leader_and_writes_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (address, asked) = server(|number, body| match number {
        0 => Err(problem(StatusCode::SERVICE_UNAVAILABLE, Code::NoLeader, "no leader")),
        _ if body.name.as_str() == "bob" => Ok(joined()),
        _ => Err(problem(StatusCode::BAD_REQUEST, Code::BadRequest, "not bob")),
    })
    .await;
    // Nobody listens at the first address.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    join(&config, &[nobody, address], LIMIT, false).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let identity = Identity::find(&config.data_dir).unwrap().unwrap();
    assert_eq!((identity.node, identity.cluster_id), (NodeId(4), ClusterId(9)));
    let again = join(&config, &[address], LIMIT, false).await.unwrap_err().to_string();
    assert!(again.ends_with("is node `bob` of cluster `home` already"), "{again}");
    let init = init(&config, "home".parse().unwrap()).await.unwrap_err().to_string();
    assert_eq!(init, again);
}

#[tokio::test]
async fn a_refusal_of_the_cluster_is_final_and_leaves_the_folder_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (address, asked) = server(|number, _| match number {
        0 => Err(problem(StatusCode::CONFLICT, Code::Conflict, "there is a node `bob` already")),
        _ => Ok(joined()),
    })
    .await;
    let error = join(&config, &[address], LIMIT, false).await.unwrap_err();
    assert!(error.to_string().ends_with("refuses node `bob`: there is a node `bob` already"));
    assert!(error.downcast::<Refused>().unwrap().hint.contains("another `name`"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    join(&config, &[address], LIMIT, false).await.unwrap();
}

#[tokio::test]
async fn nobody_answers_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error =
        join(&config(dir.path()), &[nobody], Duration::from_millis(50), false).await.unwrap_err();
    assert!(error.to_string().contains(&format!("last: {nobody}: ")), "{error}");
    assert!(!error.to_string().contains("error sending"), "{error}");
    assert_eq!(error.downcast::<Refused>().unwrap().exit, Exit::Unreachable);
}

#[tokio::test]
async fn a_wrong_port_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new()).await });
    let error = join(&config(dir.path()), &[address], LIMIT, false).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{address}: it answered 404")), "{error}");
    assert!(error.downcast::<Refused>().unwrap().hint.contains("a node's API"));
}

#[test]
fn a_folder_of_somebody_else_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::create_dir_all(&config.data_dir).unwrap();
    std::fs::write(config.data_dir.join("photo.jpg"), "").unwrap();
    let error = fresh_data_dir(&config).unwrap_err().to_string();
    assert!(error.ends_with("is not empty: `photo.jpg`"), "{error}");
    assert!(config.data_dir.join("photo.jpg").exists());
}

#[test]
fn an_interrupted_init_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::create_dir_all(config.data_dir.join("snapshots/1")).unwrap();
    std::fs::write(config.raft_db_path(), "half").unwrap();
    std::fs::write(config.data_dir.join(UNFINISHED), "").unwrap();
    let data_dir = fresh_data_dir(&config).unwrap();
    assert!(data_dir.entries().unwrap().is_empty());
}
