//! Any node answers: followers send requests on, once, and say so.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{Epoch, GrainId, NodeId};
use serde_json::json;

use super::lab::{JSON, Lab, Node, manifest};

/// The leader and a follower.
fn roles(lab: &Lab) -> (&Node, &Node) {
    let leads = |node: &&Node| node.daemon.consensus.leadership().borrow().me;
    let leader = lab.nodes.iter().find(leads).expect("a leader");
    let follower = lab.nodes.iter().find(|node| !leads(node)).expect("a follower");
    (leader, follower)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_asks_the_leader() {
    let lab = Lab::three().await;
    let (leader, follower) = roles(&lab);
    let name = leader.daemon.name.to_string();

    let made = follower.ask("POST", "/v1/grains", &[JSON], &manifest("web")).await.ok(202);
    assert_eq!(made.header("x-scrap-served-by"), name);
    assert!(made.header("location").starts_with("/v1/operations/"));
    // Linearizable: what was answered is seen by whoever asks afterwards, wherever.
    for node in &lab.nodes {
        let read = node.ask("GET", "/v1/grains/web", &[], "").await.ok(200);
        assert_eq!(read.json()["metadata"]["name"], "web");
        assert!(read.header("etag").starts_with('"'));
    }
    let refused = follower.ask("PUT", "/v1/grains/web", &[JSON], &manifest("web")).await.ok(428);
    assert_eq!(refused.json()["code"], "precondition-required");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.json()["request_id"], refused.header("x-request-id"));
    let wrong = follower.ask("POST", "/v1/grains", &[JSON], "{").await.ok(400);
    assert_eq!(wrong.json()["code"], "bad-json");
    let large = format!("{}{}", " ".repeat(1 << 20), manifest("mail"));
    follower.ask("POST", "/v1/grains", &[JSON], &large).await.ok(413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_answers_stale_questions_itself() {
    let lab = Lab::three().await;
    let (leader, follower) = roles(&lab);
    let stale = follower.ask("GET", "/v1/nodes?stale=true", &[], "").await.ok(200);
    assert_eq!(stale.header("x-scrap-served-by"), "");
    assert!(stale.header("x-scrap-age-ms").parse::<u64>().is_ok());
    assert_eq!(stale.json().as_array().unwrap().len(), 3);
    follower.ask("GET", "/readyz", &[], "").await.ok(200);
    let not = follower.ask("GET", "/readyz?leader", &[], "").await.ok(503);
    assert_eq!(not.text, "not ready: another node leads\n");
    leader.ask("GET", "/readyz?leader", &[], "").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_on_once() {
    let lab = Lab::three().await;
    let (_, follower) = roles(&lab);
    let reply = follower.ask("GET", "/v1/grains", &[("x-scrap-hop", "1")], "").await.ok(503);
    assert_eq!(reply.json()["code"], "no-leader");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(reply.json()["hint"].as_str().unwrap().contains("?stale=true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_changes_and_stale_reads_go_on() {
    let lab = Lab::three().await;
    let (leader, _) = roles(&lab);
    for node in lab.nodes.iter().filter(|node| node.daemon.me != leader.daemon.me) {
        node.daemon.shutdown.cancel();
        node.daemon.consensus.close().await;
    }
    let reply = leader.ask("GET", "/v1/grains", &[], "").await.ok(503).json();
    assert_eq!(reply["code"], "no-quorum");
    assert!(reply["detail"].as_str().unwrap().contains("no majority of the voters"), "{reply}");
    // One that it takes in before it knows of the loss can end either way, and is said to: whoever asks later is refused.
    let refused = async {
        loop {
            let change = leader.ask("POST", "/v1/grains", &[JSON], &manifest("web")).await.ok(503);
            if change.json()["code"] != "unknown-outcome" {
                return change;
            }
        }
    };
    let change = tokio::time::timeout(super::lab::LIMIT, refused).await.unwrap();
    assert!(change.header("retry-after") == "1", "{}", change.text);
    assert_eq!(change.json()["code"], "no-quorum");
    leader.ask("GET", "/v1/grains?stale=true", &[], "").await.ok(200);
    wait_for_silence(leader).await;
    let status = leader.ask("GET", "/v1/cluster?stale=true", &[], "").await.ok(200).json();
    assert_eq!((&status["leader"], &status["nodesOnline"]), (&json!(null), &json!(null)));
}

/// Waits until a node does not count on the leader any more that it knew.
async fn wait_for_silence(node: &Node) {
    let consensus = &node.daemon.consensus;
    let Some(leader) = consensus.live_leader() else { return };
    tokio::time::timeout(super::lab::LIMIT, consensus.lost(leader)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_alone_says_so_in_plain_words() {
    let lab = Lab::three().await;
    let (_, follower) = roles(&lab);
    for node in lab.nodes.iter().filter(|node| node.daemon.me != follower.daemon.me) {
        node.daemon.shutdown.cancel();
        node.daemon.consensus.close().await;
    }
    let plain = |reply: &serde_json::Value| {
        let said = format!("{} {}", reply["detail"], reply["hint"]);
        let inside = ["error sending", "tcp", "os error", "http:"];
        assert!(!inside.iter().any(|word| said.contains(word)), "{said}");
    };
    // At first it still believes in the leader.
    let reply = follower.ask("GET", "/v1/grains", &[], "").await.ok(503).json();
    assert_eq!(reply["code"], "no-leader");
    plain(&reply);
    wait_for_silence(follower).await;
    for (method, path) in [("GET", "/v1/grains"), ("POST", "/v1/grains")] {
        let reply = follower.ask(method, path, &[JSON], &manifest("web")).await.ok(503).json();
        assert_eq!(reply["code"], "no-leader");
        assert!(reply["detail"].as_str().unwrap().contains("no majority of the voters"), "{reply}");
        plain(&reply);
    }
    let status = follower.ask("GET", "/v1/cluster?stale=true", &[], "").await.ok(200).json();
    assert_eq!((&status["leader"], &status["nodesOnline"]), (&json!(null), &json!(null)));
    assert_eq!(status["health"], "critical");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_programs_are_asked_where_the_grain_lives() {
    let lab = Lab::three().await;
    let (_, follower) = roles(&lab);
    let other = lab.nodes.iter().find(|node| node.daemon.me != follower.daemon.me).unwrap();
    let made = follower.ask("POST", "/v1/grains", &[JSON], &manifest("web")).await.ok(202);
    assert_eq!(made.json()["target"], "grains/web");
    let view = other.ask("GET", "/v1/grains/web", &[], "").await.json();
    let grain: GrainId = view["metadata"]["id"].as_str().unwrap().parse().unwrap();
    let none = other.ask("GET", "/v1/grains/web/logs", &[], "").await.ok(409);
    assert_eq!(none.json()["code"], "not-running");

    let (to, cause) = (follower.daemon.me, AssignCause::Place);
    lab.propose(Command::AssignGrain { grain, epoch: Epoch(0), to, base: None, cause }).await;
    let index = lab.index();
    for node in &lab.nodes {
        node.daemon.consensus.changes().wait_for(|applied| *applied >= index).await.unwrap();
    }
    super::streams::run(follower, grain).await;
    follower.runtime().write_log(grain, "hello\n");
    let log = other.ask("GET", "/v1/grains/web/logs", &[], "").await.ok(200);
    assert_eq!(
        (log.text.as_str(), log.header("x-scrap-served-by")),
        ("hello\n", follower.daemon.name.as_str())
    );
    let hop = other.ask("GET", "/v1/grains/web/logs", &[("x-scrap-hop", "1")], "").await.ok(503);
    assert_eq!(hop.json()["code"], "unavailable");

    let run = other
        .ask("POST", "/v1/grains/web/exec", &[], "{\"command\":[\"cat\"]}\nthrough")
        .await
        .ok(200);
    assert!(run.text.contains("through") && run.text.contains("\"status\":0"), "{:?}", run.text);
    assert_ne!(other.daemon.me, NodeId(0));
    assert_eq!(json!(follower.daemon.name), json!(run.header("x-scrap-served-by")));
}
