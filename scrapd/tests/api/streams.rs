//! Long answers: events without gap and repetition, logs, programs inside grains.

use std::collections::BTreeMap;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use scrap_host::runtime::{Runtime, Start};
use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId};
use scrap_schema::unit::{Bytes as Size, MilliCpu, Span};
use serde_json::Value;

use super::lab::{LIMIT, Lab};

const SSE: (&str, &str) = ("accept", "text/event-stream");

/// A stream that is being read.
struct Events {
    body: BodyDataStream,
    text: String,
}

/// One frame of it.
#[derive(Debug, Clone, PartialEq)]
struct Frame {
    event: String,
    id: Option<u64>,
    data: Value,
}

impl Events {
    async fn open(lab: &Lab, path: &str, last: Option<u64>) -> Self {
        let last = last.map(|last| last.to_string());
        let mut headers = vec![SSE];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let response = lab.nodes[0].open("GET", path, &headers, Body::empty()).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    frame
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|v| v.trim().to_owned())
                };
                let Some(event) = field("event:") else { continue };
                let data = serde_json::from_str(&field("data:").unwrap()).unwrap();
                return Some(Frame { event, id: field("id:").map(|id| id.parse().unwrap()), data });
            }
            let piece =
                tokio::time::timeout(LIMIT, self.body.next()).await.expect("no event in time")?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }
}

async fn flip(lab: &Lab, cordoned: bool) {
    lab.propose(Command::SetCordon { node: NodeId(1), cordoned }).await;
}

/// Index and place of every event after an index, as the state has them.
fn known(lab: &Lab, since: u64) -> Vec<(u64, u64)> {
    lab.nodes[0].daemon.consensus.read(|cluster| {
        let keys = cluster.events.keys().filter(|(index, _)| *index > since);
        keys.map(|(index, place)| (*index, u64::from(*place))).collect()
    })
}

fn key(frame: &Frame) -> (u64, u64) {
    (frame.data["index"].as_u64().unwrap(), frame.data["place"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_what_was_and_goes_on_with_what_is() {
    let lab = Lab::one().await;
    let mut events = Events::open(&lab, "/v1/events?since=0", None).await;
    let before = known(&lab, 0);
    for wanted in &before {
        assert_eq!(key(&events.next().await.unwrap()), *wanted);
    }
    flip(&lab, true).await;
    let live = events.next().await.unwrap();
    assert_eq!((live.event.as_str(), live.id), ("node", Some(lab.index())));
    assert_eq!(live.data["message"], "node n1 is cordoned: nothing new comes to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_event_of_an_entry_has_its_index() {
    let lab = Lab::one().await;
    let mut events = Events::open(&lab, "/v1/events?since=0", None).await;
    // Forming a cluster is one entry that causes two events.
    let (first, second) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert_eq!(key(&first).0, key(&second).0);
    assert_eq!((first.id, second.id), (None, Some(key(&second).0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_misses_nothing_and_reads_nothing_twice() {
    const CHANGES: usize = 150;
    let lab = Lab::one().await;
    let start = lab.index();
    let writing = async {
        for number in 0..CHANGES {
            flip(&lab, number % 2 == 0).await;
        }
    };
    let reading = async {
        let (mut seen, mut last) = (Vec::new(), start);
        while seen.len() < CHANGES {
            let mut events = Events::open(&lab, "/v1/events", Some(last)).await;
            // Breaks off again and again, in the middle of everything.
            for _ in 0..7 {
                if seen.len() == CHANGES {
                    break;
                }
                let frame = events.next().await.unwrap();
                seen.push(key(&frame));
                last = frame.id.unwrap_or(last);
            }
        }
        seen
    };
    let ((), seen) = futures_util::future::join(writing, reading).await;
    assert_eq!(seen, known(&lab, start));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_finds_what_it_missed_in_the_state() {
    // More than any queue between the log and a reader holds.
    const CHANGES: usize = 2_500;
    let lab = Lab::one().await;
    let start = lab.index();
    let mut events = Events::open(&lab, "/v1/events", Some(start)).await;
    let writes = futures_util::stream::iter(0..CHANGES).map(|number| flip(&lab, number % 2 == 0));
    writes.buffer_unordered(64).collect::<Vec<()>>().await;
    for wanted in known(&lab, start) {
        assert_eq!(key(&events.next().await.unwrap()), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_what_it_names() {
    let lab = Lab::one().await;
    lab.grain("web").await;
    lab.grain("mail").await;
    let list = lab.get("/v1/events?since=0&grain=web").await.ok(200).json();
    let grain = lab.get("/v1/grains/web").await.json()["metadata"]["id"].clone();
    let found = list["events"].as_array().unwrap();
    assert!(found.len() >= 2 && found.iter().all(|event| event["grain"] == grain), "{list}");
    let topics = lab.get("/v1/events?since=0&topic=node").await.ok(200).json();
    assert!(topics["events"].as_array().unwrap().iter().all(|event| event["topic"] == "node"));
    let mut events = Events::open(&lab, "/v1/events?since=0&topic=grain", None).await;
    let first = events.next().await.unwrap();
    assert_eq!(first.data["message"], "grain web was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_server_stops() {
    let lab = Lab::one().await;
    let url = format!("http://{}/v1/events", lab.nodes[0].api);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(url).header(SSE.0, SSE.1).send().await.unwrap();
    lab.nodes[0].daemon.shutdown.cancel();
    let rest = tokio::time::timeout(LIMIT, response.bytes()).await.expect("it does not end");
    assert_eq!(rest.unwrap(), Bytes::new());
}

pub(crate) async fn run(node: &super::lab::Node, grain: GrainId) {
    let order = Start {
        grain,
        epoch: Epoch(1),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        env: BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]),
        data: std::env::temp_dir(),
        memory: Size(0),
        cpu: MilliCpu(0),
        deadline: None,
        grace: Span::from_secs(1),
        system: None,
    };
    node.runtime().start(order).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_and_followed() {
    let lab = Lab::one().await;
    let grain = lab.grain("web").await;
    assert_eq!(lab.get("/v1/grains/web/logs").await.ok(409).json()["code"], "not-running");
    assert_eq!(lab.get("/v1/grains/web/services").await.ok(409).json()["code"], "not-running");
    run(&lab.nodes[0], grain).await;
    let runtime = lab.nodes[0].runtime();
    runtime.write_log(grain, "one\ntwo\nthree\n");
    let none = lab.get("/v1/grains/web/services").await.ok(200).json();
    assert_eq!(none, serde_json::json!({"services": []}), "its init keeps no list");
    let all = lab.get("/v1/grains/web/logs").await.ok(200);
    assert_eq!(all.text, "one\ntwo\nthree\n");
    assert_eq!(all.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(lab.get("/v1/grains/web/logs?tail=2").await.text, "two\nthree\n");

    let response = lab.nodes[0]
        .open("GET", "/v1/grains/web/logs?tail=1&follow=true", &[], Body::empty())
        .await;
    let mut body = response.into_body().into_data_stream();
    let mut read = async || {
        let piece = tokio::time::timeout(LIMIT, body.next()).await.expect("no line in time");
        String::from_utf8(piece.unwrap().unwrap().to_vec()).unwrap()
    };
    assert_eq!(read().await, "three\n");
    runtime.write_log(grain, "four\n");
    assert_eq!(read().await, "four\n");
}

/// Splits an answer of exec into what each kind of frame carried.
fn frames(mut bytes: &[u8]) -> (String, String, Value) {
    let (mut out, mut err, mut end) = (Vec::new(), Vec::new(), Value::Null);
    while let [kind, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (payload, rest) = rest.split_at(length);
        match kind {
            1 => out.extend_from_slice(payload),
            2 => err.extend_from_slice(payload),
            3 => end = serde_json::from_slice(payload).unwrap(),
            other => panic!("a frame of kind {other}"),
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), end)
}

async fn exec(lab: &Lab, request: &str) -> (String, String, Value) {
    let response =
        lab.nodes[0].open("POST", "/v1/grains/web/exec", &[], Body::from(request.to_owned())).await;
    assert_eq!(response.status().as_u16(), 200);
    let body = http_body_util::BodyExt::collect(response.into_body());
    let body = tokio::time::timeout(LIMIT, body).await.expect("no end in time");
    frames(&body.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_inside_a_grain() {
    let lab = Lab::one().await;
    let grain = lab.grain("web").await;
    let none =
        lab.ask("POST", "/v1/grains/web/exec", &[], "{\"command\":[\"true\"]}\n").await.ok(409);
    assert_eq!(none.json()["code"], "not-running");
    run(&lab.nodes[0], grain).await;

    let (out, err, end) = exec(&lab, "{\"command\":[\"cat\"]}\nfrom stdin\nsecond line").await;
    assert_eq!((out.as_str(), err.as_str()), ("from stdin\nsecond line", ""));
    assert_eq!(end["status"], 0);

    let script =
        r#"{"command":["sh","-c","echo $COLOUR $SIZE; echo bad >&2; exit 3"],"env":{"SIZE":"xl"}}"#;
    let (out, err, end) = exec(&lab, script).await;
    assert_eq!(
        (out.as_str(), err.as_str(), &end["status"]),
        ("blue xl\n", "bad\n", &serde_json::json!(3))
    );

    let (_, _, end) = exec(&lab, "{\"command\":[\"sh\",\"-c\",\"kill -9 $$\"]}\n").await;
    assert_eq!(end["status"], 137);
    let (_, _, end) = exec(&lab, "{\"command\":[\"/no/such\"]}\n").await;
    assert_eq!(end["status"], 127);
    assert_eq!(end["error"], "the program `/no/such` of grain `web` is not there");
    let (_, _, end) = exec(&lab, "{\"command\":[\"/etc/passwd\"]}\n").await;
    assert_eq!(end["status"], 126);
    assert!(end["error"].as_str().unwrap().contains("cannot be executed: "), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_ends_when_its_caller_goes() {
    let lab = Lab::one().await;
    let grain = lab.grain("web").await;
    run(&lab.nodes[0], grain).await;
    let script = "{\"command\":[\"sh\",\"-c\",\"echo $$; exec sleep 1000\"]}\n";
    let response = lab.nodes[0].open("POST", "/v1/grains/web/exec", &[], Body::from(script)).await;
    let mut body = response.into_body().into_data_stream();
    let first = tokio::time::timeout(LIMIT, body.next()).await.unwrap().unwrap().unwrap();
    let pid = String::from_utf8(first[5..].to_vec()).unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    assert!(process.exists());
    drop(body);
    let began = tokio::time::Instant::now();
    // Dead is dead, even if nobody has waited for it yet.
    while std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(began.elapsed() < LIMIT, "it still runs");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
