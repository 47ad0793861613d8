//! What a client does in order: repeated requests, ETags, waiting, the trash, sets of manifests, nodes, policies.

use scrap_decide::cluster::Outcome;
use scrap_host::clock;
use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::operation::Summary;
use scrap_schema::spec::FailoverMode;
use serde_json::{Value, json};

use super::lab::{JSON, Lab, Reply, YAML, manifest};

fn operation(reply: &Reply) -> OperationId {
    reply.json()["id"].as_str().unwrap().parse().unwrap()
}

async fn finish(lab: &Lab, operation: OperationId) {
    let summary = Summary { message: "done".to_owned(), ..Summary::default() };
    let (failed, cancelled) = (false, false);
    lab.propose(Command::FinishOperation { operation, failed, cancelled, summary }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_one_effect() {
    let lab = Lab::one().await;
    let key = ("idempotency-key", "6f1c");
    let first = lab.ask("POST", "/v1/grains", &[JSON, key], &manifest("web")).await.ok(202);
    let again = lab.ask("POST", "/v1/grains", &[JSON, key], &manifest("web")).await.ok(202);
    assert_eq!(operation(&first), operation(&again));
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(lab.get("/v1/grains").await.json().as_array().unwrap().len(), 1);

    let other = lab.ask("POST", "/v1/grains", &[JSON, key], &manifest("mail")).await.ok(422);
    assert_eq!(other.json()["code"], "idempotency-mismatch");
    let elsewhere = lab.ask("POST", "/v1/grains/web/stop", &[key], "").await.ok(422);
    assert_eq!(elsewhere.json()["code"], "idempotency-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_refusal_stays_a_refusal() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let key = ("idempotency-key", "a");
    lab.ask("POST", "/v1/grains", &[JSON, key], &manifest("web")).await.ok(409);
    let etag = lab.get("/v1/grains/web").await.header("etag").to_owned();
    lab.ask("DELETE", "/v1/grains/web", &[("if-match", &etag)], "").await.ok(200);
    // Now it would be possible, but this request was answered already.
    lab.ask("POST", "/v1/grains", &[JSON, key], &manifest("web")).await.ok(409);
    lab.post("/v1/grains", &manifest("web")).await.ok(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_read_it_changes_it() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let read = lab.get("/v1/grains/web").await.ok(200);
    let etag = read.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", read.json()["metadata"]["modifyIndex"]));

    let changed = manifest("web").replace("1000", "2000");
    let put =
        lab.ask("PUT", "/v1/grains/web", &[JSON, ("if-match", &etag)], &changed).await.ok(200);
    assert_ne!(put.header("etag"), etag);
    assert_eq!(put.json()["spec"]["command"][1], "2000");
    assert_eq!(put.json()["metadata"]["generation"], 2);

    let late =
        lab.ask("PUT", "/v1/grains/web", &[JSON, ("if-match", &etag)], &changed).await.ok(412);
    assert_eq!(late.json()["code"], "changed");
    let forced =
        lab.ask("PUT", "/v1/grains/web?force=true", &[JSON], &manifest("web")).await.ok(200);
    assert_eq!(forced.json()["spec"]["command"][1], "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_what_it_names() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let patch = json!({
        "metadata": {"labels": {"tier": "x", "app": null}},
        "spec": {"resources": {"memory": "128MiB"}},
    });
    let patched = lab
        .ask(
            "PATCH",
            "/v1/grains/web?force=true",
            &[("content-type", "application/merge-patch+json")],
            &patch.to_string(),
        )
        .await
        .ok(200)
        .json();
    assert_eq!(patched["metadata"]["labels"], json!({"tier": "x"}));
    assert_eq!(patched["spec"]["resources"]["memory"], "128MiB");
    assert_eq!(patched["spec"]["command"], json!(["sleep", "1000"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_patches_at_the_same_time_are_all_there() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let one = |key: &str| {
        let patch = json!({"metadata": {"labels": {key: "y"}}}).to_string();
        async { lab.ask("PATCH", "/v1/grains/web?force=true", &[JSON], &{ patch }).await.ok(200) }
    };
    futures_util::future::join3(one("a"), one("b"), one("c")).await;
    let labels = lab.get("/v1/grains/web").await.json()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"app": "web", "a": "y", "b": "y", "c": "y"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_operation() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let short = lab.ask("POST", "/v1/grains/web/stop?wait=50ms", &[], "").await.ok(202);
    let id = operation(&short);
    assert_eq!(short.header("location"), format!("/v1/operations/{id}"));
    assert_eq!(short.header("retry-after"), "1");
    assert_eq!(short.json()["state"], "running");

    let path = format!("/v1/operations/{id}?wait=30s");
    let (over, ()) = futures_util::future::join(lab.get(&path), finish(&lab, id)).await;
    assert_eq!(over.ok(200).json()["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_gets_the_end() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let asked = lab.ask("POST", "/v1/grains/web/stop", &[("prefer", "respond-async, wait=30")], "");
    let ended = async {
        let mut changes = lab.nodes[0].daemon.consensus.changes();
        loop {
            let running = lab.get("/v1/operations?state=running").await.json();
            if let Some(id) = running[0]["id"].as_str() {
                return finish(&lab, id.parse().unwrap()).await;
            }
            changes.changed().await.unwrap();
        }
    };
    let (reply, ()) = futures_util::future::join(asked, ended).await;
    let reply = reply.ok(200);
    assert_eq!(reply.json()["state"], "succeeded");
    assert_eq!(reply.json()["summary"]["message"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_stale_answers_have_an_age() {
    let lab = Lab::one().await;
    let fresh = lab.get("/v1/cluster").await.ok(200);
    assert_eq!(fresh.header("x-scrap-index"), lab.index().to_string());
    assert_eq!(fresh.header("x-scrap-age-ms"), "");
    let stale = lab.get("/v1/cluster?stale=true").await.ok(200);
    assert_eq!(stale.header("x-scrap-index"), lab.index().to_string());
    assert!(stale.header("x-scrap-age-ms").parse::<u64>().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trashed_grain_comes_back() {
    let lab = Lab::one().await;
    let id = lab.grain("web").await;
    let plan = lab.ask("DELETE", "/v1/grains/web?dryRun=true", &[], "").await.ok(200).json();
    assert_eq!(plan["steps"][0], "stop grain web on node n1");
    let trashed = lab.ask("DELETE", "/v1/grains/web?force=true", &[], "").await.ok(200).json();
    assert_eq!(trashed["status"]["state"], "trashed");
    let missing = lab.get("/v1/grains/web").await.ok(404).json();
    assert!(missing["hint"].as_str().unwrap().contains("undelete"), "{missing}");
    lab.get(&format!("/v1/grains/{id}")).await.ok(200);
    assert_eq!(lab.get("/v1/grains").await.json(), json!([]));
    assert_eq!(lab.get("/v1/grains?trashed=true").await.json()[0]["metadata"]["name"], "web");
    lab.ask("POST", "/v1/grains/web/undelete", &[], "").await.ok(200);
    lab.get("/v1/grains/web").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn undelete_looks_in_the_trash_first() {
    let lab = Lab::one().await;
    let old = lab.grain("web").await;
    lab.ask("DELETE", "/v1/grains/web?force=true", &[], "").await.ok(200);
    let new = lab.grain("web").await;
    let taken = lab.ask("POST", "/v1/grains/web/undelete", &[], "").await.ok(409).json();
    assert_eq!(taken["code"], "conflict");
    assert!(taken["detail"].as_str().unwrap().contains(&old.to_string()), "{taken}");
    let hint = format!("`scrapctl undelete {old}`");
    assert!(taken["hint"].as_str().unwrap().contains(&hint), "{taken}");
    lab.ask("DELETE", "/v1/grains/web?force=true", &[], "").await.ok(200);
    let several = lab.ask("POST", "/v1/grains/web/undelete", &[], "").await.ok(409).json();
    let hint = several["hint"].as_str().unwrap();
    assert!(hint.contains(&old.to_string()) && hint.contains(&new.to_string()), "{several}");
    let back = lab.ask("POST", &format!("/v1/grains/{old}/undelete"), &[], "").await.ok(200);
    assert_eq!(back.json()["metadata"]["id"], old.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_until_the_grain_is_stopped() {
    let lab = Lab::one().await;
    let grain = lab.grain("web").await;
    let late = lab.ask("DELETE", "/v1/grains/web?purge=true&force=true&wait=50ms", &[], "").await;
    let late = late.ok(504);
    assert_eq!(late.json()["code"], "timeout");
    assert_eq!(lab.get("/v1/grains?trashed=true").await.json()[0]["status"]["state"], "trashed");

    lab.ask("POST", "/v1/grains/web/undelete", &[], "").await.ok(200);
    let purge = lab.ask("DELETE", "/v1/grains/web?purge=true&force=true", &[], "");
    let stopped = async {
        let mut changes = lab.nodes[0].daemon.consensus.changes();
        let trashed = |index: &u64| {
            *index > 0
                && lab.nodes[0].daemon.consensus.read(|cluster| {
                    cluster.grains.get(&grain).is_some_and(|grain| grain.trashed_until.is_some())
                })
        };
        changes.wait_for(trashed).await.unwrap();
        lab.propose(Command::GrainStopped {
            grain,
            epoch: Epoch(1),
            at: clock::wall(),
            seen: None,
        })
        .await;
    };
    let (purged, ()) = futures_util::future::join(purge, stopped).await;
    purged.ok(204);
    lab.get(&format!("/v1/grains/{grain}")).await.ok(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_manifests_is_all_or_nothing() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let set = "apiVersion: scrap/v1\nkind: Policy\nmetadata: {name: mine}\nspec: {replicate: {copies: 1}}\n---\n\
               apiVersion: scrap/v1\nkind: Grain\nmetadata: {name: web, labels: {app: web}}\nspec: {command: [sleep, '5'], protect: mine}\n---\n\
               apiVersion: scrap/v1\nkind: Grain\nmetadata: {name: mail, labels: {app: web}}\nspec: {command: [x]}\n";
    let before = lab.index();
    let dry = lab.ask("POST", "/v1/apply?dryRun=true", &[YAML], set).await.ok(200).json();
    assert_eq!(lab.index(), before, "a dry run changes nothing");
    assert_eq!(dry["changed"], true);
    let actions = |reply: &Value| -> Vec<String> {
        let items = reply["items"].as_array().unwrap().iter();
        items
            .map(|item| {
                format!("{} {}", item["name"].as_str().unwrap(), item["action"].as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(actions(&dry), ["mine created", "web updated", "mail created"]);
    assert_eq!(dry["items"][2]["operation"], Value::Null);
    let pointers: Vec<_> = dry["items"][1]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["pointer"].clone())
        .collect();
    assert_eq!(pointers, [json!("/spec/command"), json!("/spec/protect")]);

    let path = format!("/v1/apply?checkIndex={}", dry["index"]);
    let done = lab.ask("POST", &path, &[YAML], set).await.ok(200).json();
    assert_eq!(actions(&done), actions(&dry));
    assert_eq!(done["items"][1]["changes"], dry["items"][1]["changes"]);
    let made: OperationId = done["items"][2]["operation"].as_str().unwrap().parse().unwrap();
    lab.get(&format!("/v1/operations/{made}")).await.ok(200);
    lab.ask("POST", &path, &[YAML], set).await.ok(409);

    let again = lab.ask("POST", "/v1/apply", &[YAML], set).await.ok(200).json();
    assert_eq!(again["changed"], false, "{again}");

    let bad = format!(
        "[{},{}]",
        manifest("new"),
        manifest("other").replace("\"spec\":{", "\"spec\":{\"protect\":\"nobody\",")
    );
    lab.ask("POST", "/v1/apply", &[JSON], &bad).await.ok(400);
    lab.get("/v1/grains/new").await.ok(404);

    let unknown = set
        .replace("metadata: {name: mail", "metadata: {name: chat")
        .replace("command: [x]", "command: [x], protect: nobody");
    let unknown = lab.ask("POST", "/v1/apply", &[YAML], &unknown).await.ok(400).json();
    assert_eq!(
        (&unknown["code"], &unknown["errors"][0]["line"]),
        (&json!("bad-manifest"), &json!(11))
    );
    lab.get("/v1/grains/chat").await.ok(404);

    finish(&lab, made).await;
    let policy = r#"{"apiVersion":"scrap/v1","kind":"Policy","metadata":{"name":"more"},"spec":{"replicate":{"copies":2}}}"#;
    let one = lab.post("/v1/apply", policy).await.ok(200).json();
    assert_eq!(actions(&one), ["more created"]);
    let node =
        r#"{"apiVersion":"scrap/v1","kind":"Node","metadata":{"name":"n1","labels":{"a":"b"}}}"#;
    let both = lab.post("/v1/apply", &format!("[{policy},{node}]")).await.ok(200).json();
    assert_eq!(actions(&both), ["more unchanged", "n1 updated"]);

    let gone = lab.ask("DELETE", "/v1/grains/mail?dryRun=true", &[], "").await.ok(200).json();
    assert_eq!(gone["refused"], Value::Null, "{gone}");
    let pruned =
        lab.ask("POST", "/v1/apply?prune=app=web", &[JSON], &manifest("web")).await.ok(200).json();
    assert_eq!(actions(&pruned), ["web updated", "mail pruned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_cordoned_drained_and_removed() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let join = json!({
        "name": "n2", "role": "data", "labels": {"zone": "b"},
        "addresses": {"api": "127.0.0.1:1", "peer": "127.0.0.1:2"},
        "facts": {"cpu": 4, "memory": "8GiB", "disk": "100GiB", "arch": "x86_64", "os": "linux", "templates": ["process"], "version": "0"},
    });
    let joined = lab.post("/v1/nodes", &join.to_string()).await.ok(201);
    assert_eq!(joined.header("location"), "/v1/nodes/n2");
    assert_eq!(joined.json()["node"], 2);
    assert_eq!(joined.json()["members"].as_object().unwrap().len(), 2);
    // The answer was lost; the same machine asks again.
    assert_eq!(lab.post("/v1/nodes", &join.to_string()).await.ok(201).json()["node"], 2);

    let cordoned = lab.ask("POST", "/v1/nodes/n2/cordon", &[], "").await.ok(200).json();
    assert_eq!(cordoned["spec"]["cordoned"], true);
    let etag = lab.get("/v1/nodes/n2").await.header("etag").to_owned();
    let wanted = r#"{"apiVersion":"scrap/v1","kind":"Node","metadata":{"name":"n2","labels":{"zone":"c"}},"spec":{"cordoned":false}}"#;
    let put =
        lab.ask("PUT", "/v1/nodes/n2", &[JSON, ("if-match", &etag)], wanted).await.ok(200).json();
    assert_eq!(
        (&put["metadata"]["labels"]["zone"], &put["spec"]["cordoned"]),
        (&json!("c"), &json!(false))
    );

    let plan = lab.ask("DELETE", "/v1/nodes/n1?dryRun=true", &[], "").await.ok(200).json();
    assert!(plan["refused"].as_str().unwrap().contains("web"), "{plan}");
    let used = lab.ask("DELETE", "/v1/nodes/n1?force=true", &[], "").await.ok(409).json();
    assert_eq!(used["code"], "in-use");
    assert!(used["hint"].as_str().unwrap().contains("scrapctl node drain n1"), "{used}");

    let dry = lab.post("/v1/nodes/n2/drain", r#"{"dryRun":true}"#).await.ok(200).json();
    assert_eq!(dry["steps"][0], "node n2 stays empty until it is undrained");
    let drain = lab.ask("POST", "/v1/nodes/n2/drain", &[], "").await.ok(202);
    let busy = lab.ask("POST", "/v1/nodes/n2/drain", &[], "").await.ok(409).json();
    assert_eq!((&busy["code"], &busy["operation"]), (&json!("busy"), &drain.json()["id"]));
    let cancelled =
        lab.ask("DELETE", &format!("/v1/operations/{}", operation(&drain)), &[], "").await;
    assert_eq!(cancelled.ok(202).json()["cancellable"], false);

    finish(&lab, operation(&drain)).await;
    let again = lab.ask("POST", "/v1/nodes/n2/drain", &[], "").await.ok(409).json();
    assert_eq!(again["code"], "wrong-state");
    assert_eq!(again["detail"], "node `n2` is drained already");
    assert!(again["hint"].as_str().unwrap().contains("scrapctl node undrain n2"), "{again}");
    lab.ask("POST", "/v1/nodes/n2/undrain", &[], "").await.ok(200);
    lab.ask("DELETE", "/v1/nodes/n2?force=true", &[], "").await.ok(204);
    lab.get("/v1/nodes/n2").await.ok(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_made_changed_and_removed() {
    let lab = Lab::one().await;
    let built_in = lab.get("/v1/policies").await.ok(200).json();
    let names: Vec<_> = built_in
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["prompt", "relaxed", "standard"]);
    let mine = r#"{"apiVersion":"scrap/v1","kind":"Policy","metadata":{"name":"mine"},"spec":{"failover":{"mode":"manual"}}}"#;
    let made = lab.ask("PUT", "/v1/policies/mine", &[JSON], mine).await.ok(200);
    assert_eq!(made.json()["spec"]["failover"]["mode"], json!(FailoverMode::Manual));
    lab.ask("PUT", "/v1/policies/mine", &[JSON], mine).await.ok(428);
    let etag = made.header("etag").to_owned();
    let changed = mine.replace("manual", "auto");
    lab.ask("PUT", "/v1/policies/mine", &[JSON, ("if-match", &etag)], &changed).await.ok(200);
    lab.ask("DELETE", "/v1/policies/mine", &[("if-match", &etag)], "").await.ok(412);
    lab.ask("DELETE", "/v1/policies/mine?force=true", &[], "").await.ok(204);
    lab.get("/v1/policies/mine").await.ok(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn placement_says_why_not() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    // The node has never registered: it is not online.
    let view = lab.get("/v1/grains/web/placement").await.ok(200).json();
    assert_eq!(view["nodes"][0]["node"], "n1");
    assert_eq!(view["nodes"][0]["current"], true);
    assert_eq!(view["nodes"][0]["reasons"][0], "is not online");
    let before = lab.index();
    let view = lab.post("/v1/place", &manifest("new")).await.ok(200).json();
    assert_eq!(
        (&view["nodes"][0]["score"], &view["nodes"][0]["current"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(lab.index(), before);

    let none = lab.post("/v1/grains/web/migrate", "").await.ok(409).json();
    assert_eq!(none["code"], "no-placement");
    assert_eq!(none["candidates"][0]["node"], "n1");
    let dry = lab.post("/v1/grains/web/migrate", r#"{"dryRun":true}"#).await.ok(200).json();
    assert!(dry["refused"].is_string(), "{dry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_differ_where_they_are_told_to() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    let body = r#"{"name":"copy","env":{"PORT":"8081"}}"#;
    lab.post("/v1/grains/web/clone", body).await.ok(202);
    let copy = lab.get("/v1/grains/copy").await.ok(200).json();
    assert_eq!(copy["spec"]["env"], json!({"PORT": "8081"}));
    assert_eq!((&copy["spec"]["running"], &copy["status"]["node"]), (&json!(false), &json!("n1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_who_and_how_it_is() {
    let lab = Lab::one().await;
    assert_eq!(lab.get("/livez").await.ok(200).text, "ok\n");
    assert_eq!(lab.get("/readyz").await.ok(200).text, "ready\n");
    lab.get("/readyz?leader").await.ok(200);
    let info = lab.get("/v1").await.ok(200).json();
    assert_eq!(
        (&info["cluster"], &info["node"], &info["api"]),
        (&json!("attic"), &json!("n1"), &json!("v1"))
    );
    let hash = lab.get("/v1/cluster/hash").await.ok(200).json();
    assert_eq!(hash["index"], lab.index());
    let known = lab.nodes[0].daemon.consensus.hash_at(None).unwrap().1;
    assert_eq!(hash["hash"], known);
    let document = lab.get("/v1/openapi.json").await.ok(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let cluster = lab.get("/v1/cluster").await.ok(200).json();
    assert_eq!((&cluster["leader"], &cluster["voters"]), (&json!("n1"), &json!(["n1"])));
    assert_eq!(lab.get("/v1/orphans").await.ok(200).json(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_outlives_the_answer_that_was_not_read() {
    let lab = Lab::one().await;
    let grain: GrainId = lab.grain("web").await;
    // Whoever drops the request after it was sent finds its effect or nothing, never a part.
    let outcome = lab.propose(Command::SetCordon { node: NodeId(1), cordoned: true }).await;
    assert_eq!(outcome, Outcome::Done);
    {
        let purge = lab.ask("DELETE", "/v1/grains/web?purge=true&force=true", &[], "");
        let trashed = async {
            let mut changes = lab.nodes[0].daemon.consensus.changes();
            let trashed = |_: &u64| {
                lab.nodes[0].daemon.consensus.read(|cluster| {
                    cluster.grains.get(&grain).is_some_and(|grain| grain.trashed_until.is_some())
                })
            };
            changes.wait_for(trashed).await.unwrap();
        };
        // The request is dropped as soon as the first half of the work is done.
        tokio::select! {
            _ = purge => panic!("it cannot be over, the grain still runs"),
            () = trashed => (),
        }
    }
    lab.propose(Command::GrainStopped { grain, epoch: Epoch(1), at: clock::wall(), seen: None })
        .await;
    let mut changes = lab.nodes[0].daemon.consensus.changes();
    let gone =
        |_: &u64| lab.nodes[0].daemon.consensus.read(|cluster| cluster.purged.contains(&grain));
    tokio::time::timeout(super::lab::LIMIT, changes.wait_for(gone)).await.unwrap().unwrap();
}
