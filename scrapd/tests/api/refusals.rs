//! What is malformed or not allowed is refused with a code, a place and advice, and changes nothing.

use super::lab::{JSON, Lab, YAML, manifest};

/// One malformed request: method, path, headers, body → status, code, pointer of the first fault, part of the hint.
type Row<'a> =
    (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, (u16, &'a str, &'a str, &'a str));

const MATCH: (&str, &str) = ("if-match", "*");
const PATCH: (&str, &str) = ("content-type", "application/merge-patch+json");
const GRAIN: &str = r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"web"},"spec":{"command":["true"]}}"#;
const POLICY: &str =
    r#"{"apiVersion":"scrap/v1","kind":"Policy","metadata":{"name":"relaxed"},"spec":{}}"#;
const NODE: &str = r#"{"apiVersion":"scrap/v1","kind":"Node","metadata":{"name":"n1"}}"#;

/// Refused at the door: the log does not even see it.
#[rustfmt::skip]
const AT_THE_DOOR: &[Row] = &[
    // addresses and methods
    ("GET", "/", &[], "", (404, "not-found", "", "openapi.json")),
    ("GET", "/v1/grain", &[], "", (404, "not-found", "", "openapi.json")),
    ("GET", "/v2/grains", &[], "", (404, "not-found", "", "openapi.json")),
    ("PUT", "/v1/grains", &[JSON], "{}", (405, "method-not-allowed", "", "Allow")),
    ("DELETE", "/v1/cluster", &[], "", (405, "method-not-allowed", "", "Allow")),
    ("GET", "/v1/grains/web/start", &[], "", (405, "method-not-allowed", "", "Allow")),
    // names and ids in the path
    ("GET", "/v1/grains/nobody", &[], "", (404, "not-found", "", "scrapctl ls")),
    ("GET", "/v1/grains/Web_1", &[], "", (400, "bad-request", "", "")),
    ("GET", "/v1/grains/%ff", &[], "", (400, "bad-request", "", "")),
    ("GET", "/v1/nodes/nobody", &[], "", (404, "not-found", "", "node ls")),
    ("GET", "/v1/policies/nobody", &[], "", (404, "not-found", "", "policy ls")),
    ("GET", "/v1/operations/short", &[], "", (400, "bad-request", "", "op ls")),
    ("GET", "/v1/operations/01k2x4f7m8n9p0q1r2s3t4v5w6", &[], "", (404, "not-found", "", "op ls")),
    ("GET", "/v1/orphans/what", &[], "", (404, "not-found", "", "orphan ls")),
    ("POST", "/v1/grains/nobody/start", &[], "", (404, "not-found", "", "scrapctl ls")),
    ("POST", "/v1/nodes/nobody/cordon", &[], "", (404, "not-found", "", "node ls")),
    // query parameters
    ("GET", "/v1/grains?selektor=a=b", &[], "", (400, "unknown-field", "/query/selektor", "did you mean `selector`?")),
    ("GET", "/v1/grains?trashed=maybe", &[], "", (400, "bad-request", "/query/trashed", "trashed=true")),
    ("GET", "/v1/grains?selector=app", &[], "", (400, "bad-request", "/query/selector", "")),
    ("GET", "/v1/grains?trashed=true&trashed=true", &[], "", (400, "bad-request", "/query/trashed", "")),
    ("GET", "/v1/cluster?stale=perhaps", &[], "", (400, "bad-request", "/query/stale", "")),
    ("GET", "/v1/cluster/hash?index=last", &[], "", (400, "bad-request", "/query/index", "digits")),
    ("GET", "/v1/operations?state=done", &[], "", (400, "bad-request", "/query/state", "")),
    ("GET", "/v1/operations?limit=-1", &[], "", (400, "bad-request", "/query/limit", "")),
    ("GET", "/v1/operations/01k2x4f7m8n9p0q1r2s3t4v5w6?wait=30", &[], "", (400, "bad-quantity", "/query/wait", "")),
    ("GET", "/v1/operations/01k2x4f7m8n9p0q1r2s3t4v5w6?wait=2h", &[], "", (400, "bad-quantity", "/query/wait", "")),
    ("GET", "/v1/events?topic=grains", &[], "", (400, "bad-request", "/query/topic", "one of them")),
    ("GET", "/v1/events?grain=nobody", &[], "", (404, "not-found", "", "scrapctl ls")),
    ("GET", "/v1/events", &[("accept", "text/event-stream"), ("last-event-id", "x")], "", (400, "bad-request", "/headers/last-event-id", "last event")),
    ("GET", "/v1/grains/web/logs?tail=all", &[], "", (400, "bad-request", "/query/tail", "")),
    ("GET", "/v1/events?since=1&since=2", &[], "", (400, "bad-request", "/query/since", "")),
    // bodies
    ("POST", "/v1/grains", &[], GRAIN, (415, "unsupported-media-type", "", "application/yaml")),
    ("POST", "/v1/grains", &[("content-type", "text/html")], GRAIN, (415, "unsupported-media-type", "", "application/json")),
    ("POST", "/v1/grains", &[JSON], "{", (400, "bad-json", "", "one JSON object")),
    ("POST", "/v1/grains", &[JSON], "apiVersion: scrap/v1", (400, "bad-json", "", "")),
    ("POST", "/v1/grains", &[JSON], "", (400, "bad-json", "", "")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"a"},"spec":{"comand":["x"]}}"#, (400, "bad-manifest", "/spec/comand", "did you mean `command`?")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"A"},"spec":{"command":["x"]}}"#, (400, "bad-manifest", "/metadata/name", "")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"a"},"spec":{"command":["x"],"resources":{"memory":256}}}"#, (400, "bad-manifest", "/spec/resources/memory", "")),
    ("POST", "/v1/grains", &[JSON], POLICY, (400, "bad-manifest", "/kind", "/v1/apply")),
    ("POST", "/v1/grains", &[YAML], "a: [", (400, "bad-manifest", "/a", "")),
    ("POST", "/v1/grains", &[YAML], "", (400, "bad-manifest", "", "apiVersion")),
    ("POST", "/v1/grains/web/migrate", &[JSON], r#"{"too":"n1"}"#, (400, "unknown-field", "/too", "did you mean `to`?")),
    ("POST", "/v1/grains/web/migrate", &[JSON], r#"{"to":"n9"}"#, (404, "not-found", "/to", "node ls")),
    ("POST", "/v1/grains/web/migrate", &[JSON], "[]", (400, "bad-request", "", "one JSON object")),
    ("POST", "/v1/grains/web/migrate", &[JSON], r#"["n2"]"#, (400, "bad-request", "", "")),
    ("POST", "/v1/grains/web/migrate", &[JSON], "null", (400, "bad-request", "", "one JSON object")),
    ("POST", "/v1/nodes/n1/drain", &[JSON], "[]", (400, "bad-request", "", "")),
    ("POST", "/v1/grains/web/snapshots", &[JSON], r#"["before"]"#, (400, "bad-request", "", "")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"a"},"spec":{"command":["x"],"resources":[0.5,"64MiB"]}}"#, (400, "bad-manifest", "/spec/resources", "")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":["a"],"spec":{"command":["x"]}}"#, (400, "bad-manifest", "/metadata", "")),
    ("POST", "/v1/grains/web/migrate", &[JSON], r#"{"dryRun":"yes"}"#, (400, "bad-request", "/dryRun", "")),
    ("POST", "/v1/grains/web/failover", &[JSON], r#"{"acceptLoss":60}"#, (400, "bad-request", "/acceptLoss", "")),
    ("POST", "/v1/grains/web/snapshots", &[JSON], "{}", (400, "bad-request", "", "")),
    ("POST", "/v1/grains/web/snapshots", &[JSON], r#"{"name":"before upgrade"}"#, (400, "bad-request", "/name", "")),
    ("POST", "/v1/grains/web/restore", &[JSON], r#"{"snapshot":"yesterday"}"#, (404, "not-found", "/snapshot", "scrapctl info web")),
    ("POST", "/v1/grains/web/clone", &[JSON], r#"{"name":"copy","env":{"A=B":"x"}}"#, (400, "bad-manifest", "/env/A=B", "")),
    ("POST", "/v1/grains/web/start", &[JSON], r#"{"now":true}"#, (400, "bad-request", "", "")),
    ("POST", "/v1/grains/web/exec", &[], "{}\n", (400, "bad-request", "/command", "")),
    ("POST", "/v1/grains/web/exec", &[], "{\"command\":[\"\"]}\n", (400, "bad-request", "/command/0", "")),
    ("POST", "/v1/grains/web/exec", &[], "{\"command\":[\"ls\",\"a\\u0000b\"]}\n", (400, "bad-request", "/command/1", "")),
    ("POST", "/v1/grains/web/exec", &[], "{\"command\":[\"ls\"],\"env\":{\"a b\":\"x\"}}\n", (400, "bad-request", "/env/a b", "")),
    ("POST", "/v1/grains/web/exec", &[], "ls\n", (400, "bad-json", "", "one JSON object")),
    ("POST", "/v1/nodes", &[JSON], r#"{"name":"n2"}"#, (400, "bad-request", "", "")),
    ("POST", "/v1/nodes", &[JSON], r#"{"name":"n2","role":"data","labels":{},"addresses":{"api":"http://x/","peer":"a:1"},"facts":{"cpu":1,"memory":"1GiB","disk":"1GiB","arch":"x","os":"x","templates":[],"version":"x"}}"#, (400, "bad-request", "/addresses/api", "")),
    ("PUT", "/v1/nodes/n1", &[JSON, MATCH], POLICY, (400, "bad-manifest", "/kind", "")),
    ("PUT", "/v1/nodes/n1", &[JSON, MATCH], r#"{"apiVersion":"scrap/v1","kind":"Node","metadata":{"name":"n1","annotations":{"a":"b"}}}"#, (400, "bad-manifest", "/metadata/annotations", "remove")),
    ("PUT", "/v1/policies/relaxed", &[JSON, MATCH], r#"{"apiVersion":"scrap/v1","kind":"Policy","metadata":{"name":"relaxed","labels":{"a":"b"}},"spec":{}}"#, (400, "bad-manifest", "/metadata/labels", "remove")),
    ("PUT", "/v1/policies/other", &[JSON, MATCH], POLICY, (400, "bad-manifest", "/metadata/name", "")),
    ("PUT", "/v1/grains/web", &[JSON, MATCH], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"other"},"spec":{"command":["x"]}}"#, (400, "bad-manifest", "/metadata/name", "clone")),
    ("PUT", "/v1/grains/nobody", &[JSON, MATCH], GRAIN, (404, "not-found", "", "")),
    ("PATCH", "/v1/grains/web", &[PATCH, MATCH], r#"{"spec":{"runing":false}}"#, (400, "bad-manifest", "/spec/runing", "did you mean `running`?")),
    ("PATCH", "/v1/grains/web", &[PATCH, MATCH], r#"{"metadata":{"name":"other"}}"#, (400, "bad-manifest", "/metadata/name", "clone")),
    ("PATCH", "/v1/grains/web", &[PATCH, MATCH], r#"[]"#, (400, "bad-request", "", "")),
    ("PATCH", "/v1/grains/web", &[PATCH, MATCH], r#"{"status":{}}"#, (400, "bad-manifest", "/status", "spec")),
    // preconditions and keys
    ("PUT", "/v1/grains/web", &[JSON], GRAIN, (428, "precondition-required", "", "force=true")),
    ("PATCH", "/v1/grains/web", &[PATCH], "{}", (428, "precondition-required", "", "ETag")),
    ("DELETE", "/v1/grains/web", &[], "", (428, "precondition-required", "", "ETag")),
    ("DELETE", "/v1/grains/web?purge=true", &[], "", (428, "precondition-required", "", "ETag")),
    ("DELETE", "/v1/nodes/n1", &[], "", (428, "precondition-required", "", "ETag")),
    ("PUT", "/v1/nodes/n1", &[JSON], NODE, (428, "precondition-required", "", "ETag")),
    ("DELETE", "/v1/policies/relaxed", &[], "", (428, "precondition-required", "", "ETag")),
    ("PUT", "/v1/grains/web", &[JSON, ("if-match", "7")], GRAIN, (400, "bad-request", "/headers/if-match", "quotes")),
    ("PUT", "/v1/grains/web", &[JSON, ("if-match", "W/\"7\"")], GRAIN, (400, "bad-request", "/headers/if-match", "quotes")),
    ("POST", "/v1/grains/web/stop", &[("idempotency-key", "two words")], "", (400, "bad-request", "/headers/idempotency-key", "UUID")),
    ("POST", "/v1/grains/web/stop", &[("idempotency-key", "")], "", (400, "bad-request", "/headers/idempotency-key", "")),
    // apply
    ("POST", "/v1/apply?dryrun=true", &[YAML], "", (400, "unknown-field", "/query/dryrun", "did you mean `dryRun`?")),
    ("POST", "/v1/apply?prune=app!=x", &[JSON], GRAIN, (400, "bad-request", "/query/prune", "")),
    ("POST", "/v1/apply", &[JSON], "[]", (400, "bad-manifest", "", "")),
    ("POST", "/v1/apply", &[JSON], r#"[{"kind":"Grain"}]"#, (400, "bad-manifest", "/0", "")),
    ("POST", "/v1/apply?dryRun=true", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"a"},"spec":{"command":["x"],"protect":"relxed"}}"#, (400, "bad-manifest", "/spec/protect", "did you mean `relaxed`?")),
    ("POST", "/v1/apply?dryRun=true", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Node","metadata":{"name":"n9"}}"#, (404, "not-found", "/metadata/name", "node ls")),
    ("POST", "/v1/apply", &[YAML], "apiVersion: scrap/v1\nkind: Template\nmetadata: {name: x}\nspec: {}\n", (400, "bad-manifest", "/kind", "template import")),
    // networks, templates, orphans
    ("GET", "/v1/networks/nope", &[], "", (404, "not-found", "", "network ls")),
    ("GET", "/v1/templates/nope", &[], "", (404, "not-found", "", "template ls")),
    ("POST", "/v1/templates", &[], "", (400, "bad-request", "/query/name", "debian-13")),
    ("POST", "/v1/templates?name=../x", &[], "", (400, "bad-request", "/query/name", "")),
    ("GET", "/v1/orphans/nope/diff", &[], "", (404, "not-found", "", "orphan ls")),
    ("POST", "/v1/orphans/nope/view", &[], "", (404, "not-found", "", "orphan ls")),
    // log
    ("GET", "/v1/cluster/hash?index=999999", &[], "", (503, "unavailable", "", "")),
];

/// Refused by the state: the entry stands in the log and changes nothing.
#[rustfmt::skip]
const BY_THE_STATE: &[Row] = &[
    ("POST", "/v1/grains", &[JSON], GRAIN, (409, "conflict", "", "another name")),
    ("POST", "/v1/grains", &[JSON], r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"a"},"spec":{"command":["x"],"protect":"relxed"}}"#, (400, "bad-manifest", "/spec/protect", "did you mean `relaxed`?")),
    ("PUT", "/v1/grains/web", &[JSON, ("if-match", "\"1\"")], GRAIN, (412, "changed", "", "force=true")),
    ("PATCH", "/v1/grains/web", &[PATCH, ("if-match", "\"1\"")], r#"{"spec":{"running":false}}"#, (412, "changed", "", "force=true")),
    ("DELETE", "/v1/grains/web", &[("if-match", "\"1\"")], "", (412, "changed", "", "force=true")),
    ("DELETE", "/v1/policies/standard", &[MATCH], "", (409, "in-use", "", "")),
    ("DELETE", "/v1/policies/relaxed", &[("if-match", "\"999\"")], "", (412, "changed", "", "")),
    ("DELETE", "/v1/nodes/n1", &[("if-match", "\"999\"")], "", (412, "changed", "", "force=true")),
    ("DELETE", "/v1/nodes/n1", &[MATCH], "", (409, "last-node", "", "another node")),
    ("POST", "/v1/apply?checkIndex=1", &[JSON], GRAIN, (409, "changed", "", "again")),
    ("POST", "/v1/grains/web/migrate", &[JSON], r#"{"to":"n1"}"#, (409, "wrong-state", "", "scrapctl info web")),
    ("POST", "/v1/grains/web/failover", &[JSON], "{}", (409, "owner-alive", "", "scrapctl migrate web")),
    ("POST", "/v1/grains/idle/restart", &[], "", (409, "not-running", "", "scrapctl start idle")),
    ("DELETE", "/v1/operations/01k2x4f7m8n9p0q1r2s3t4v5w6", &[], "", (404, "not-found", "", "op ls")),
];

async fn prepared() -> Lab {
    let lab = Lab::one().await;
    lab.grain("web").await;
    lab.grain("idle").await;
    let reply = lab.post("/v1/grains/idle/stop", "").await.ok(202);
    let operation = reply.json()["id"].as_str().unwrap().parse().unwrap();
    let summary = scrap_schema::operation::Summary::default();
    lab.propose(scrap_schema::command::Command::FinishOperation {
        operation,
        failed: false,
        cancelled: false,
        summary,
    })
    .await;
    lab
}

async fn check(lab: &Lab, row: &Row<'_>) {
    let (method, path, headers, body, (status, code, pointer, hint)) = *row;
    let what = format!("{method} {path} {headers:?} {body}");
    let reply = lab.ask(method, path, headers, body).await;
    assert_eq!(reply.status.as_u16(), status, "{what}\n{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json", "{what}");
    let problem = reply.json();
    assert_eq!(problem["code"], code, "{what}\n{problem:#}");
    assert_eq!(problem["status"], status, "{what}");
    assert_eq!(problem["request_id"], reply.header("x-request-id"), "{what}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{what}");
    let first = problem["errors"].get(0).map_or("", |fault| fault["pointer"].as_str().unwrap());
    assert_eq!(first, pointer, "{what}\n{problem:#}");
    if !hint.is_empty() {
        let said = problem["hint"].as_str().unwrap_or_default();
        assert!(said.contains(hint), "{what}\n{problem:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_refuses_and_the_log_does_not_see_it() {
    let lab = prepared().await;
    for row in AT_THE_DOOR {
        let before = lab.index();
        check(&lab, row).await;
        assert_eq!(lab.index(), before, "{} {} changed something", row.0, row.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_refuses_and_stays_as_it_was() {
    let lab = prepared().await;
    let state = || {
        lab.nodes[0].daemon.consensus.read(|cluster| {
            let mut cluster = cluster.clone();
            cluster.index = 0;
            cluster
        })
    };
    for row in BY_THE_STATE {
        let before = state();
        check(&lab, row).await;
        assert_eq!(state(), before, "{} {} changed something", row.0, row.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_with_and_without_its_length() {
    let lab = Lab::one().await;
    let before = lab.index();
    let large = format!("{}{}", " ".repeat(1 << 20), manifest("web"));
    let length = large.len().to_string();
    for headers in [&[JSON][..], &[JSON, ("content-length", &length)][..]] {
        let reply = lab.ask("POST", "/v1/grains", headers, &large).await.ok(413);
        assert_eq!(reply.json()["code"], "payload-too-large");
    }
    assert_eq!(lab.index(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_says_which_are_right() {
    let lab = Lab::one().await;
    let reply = lab.ask("PUT", "/v1/grains", &[], "").await.ok(405);
    let allowed = reply.header("allow");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_refuses_unknown_parameters() {
    let lab = prepared().await;
    let before = lab.index();
    for (method, path) in super::document::operations() {
        let path = path.replace("{name}", if path.contains("/nodes/") { "n1" } else { "web" });
        let path = path.replace("{id}", "01k2x4f7m8n9p0q1r2s3t4v5w6");
        let reply = lab.ask(&method, &format!("{path}?nonsense=1"), &[], "").await;
        assert_eq!(reply.status.as_u16(), 400, "{method} {path}: {}", reply.text);
        let problem = reply.json();
        assert_eq!(problem["code"], "unknown-field", "{method} {path}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], "/query/nonsense", "{method} {path}");
    }
    assert_eq!(lab.index(), before);
}
