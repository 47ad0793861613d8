//! Streams: events over several connections, logs, and a program's stdin and stdout at the same time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use scrap_schema::event::Event;
use scrap_schema::problem::{Code, Problem};

use crate::fake::{Act, Node};
use crate::values::{cluster, event, grain};
use crate::{command, json, ok, run, run_with_stdin};

/// Events as a stream; the last of an index carries its id.
fn sse(events: &[(Event, bool)]) -> Vec<u8> {
    let mut text = ": here\n\n".to_owned();
    for (event, last) in events {
        let data = serde_json::to_string(event).unwrap();
        text.push_str(&format!("event: failover\ndata: {data}\n"));
        if *last {
            text.push_str(&format!("id: {}\n", event.index));
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn stream(events: &[(Event, bool)], stay: bool) -> Act {
    Act::Stream { kind: "text/event-stream", bytes: sse(events), stay }
}

#[test]
fn events_go_on_where_they_broke_off_without_doubles() {
    let node = Node::start(|seen, before| match (seen.line.as_str(), before) {
        ("GET /v1/cluster", _) => ok(&cluster()),
        // It breaks off in the middle of index 12.
        ("GET /v1/events", 0) => {
            stream(&[(event(11, 0, "a"), true), (event(12, 0, "b"), false)], false)
        }
        ("GET /v1/events", 1) => {
            stream(&[(event(12, 0, "b"), false), (event(12, 1, "c"), true)], true)
        }
        _ => crate::elsewhere(),
    });
    let home = tempfile::tempdir().unwrap();
    let args = ["events", "--follow", "--since", "10", "-o", "json"];
    let mut child = command(home.path(), &[&node.address], &args).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    let messages: Vec<String> =
        lines.map(|line| serde_json::from_str::<Event>(&line.unwrap()).unwrap().message).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(messages, ["a", "b", "c"]);
    let asked: Vec<String> = node
        .seen()
        .into_iter()
        .filter(|seen| seen.line == "GET /v1/events")
        .map(|seen| seen.headers["last-event-id"].clone())
        .collect();
    assert_eq!(asked, ["10", "11"]);
}

#[test]
fn events_that_are_no_longer_kept_are_missed_aloud() {
    let node = Node::start(|seen, _| match seen.headers.get("last-event-id").map(String::as_str) {
        Some("10") => {
            let mut gone = Problem::new(Code::Gone, 410, "events before 40 are no longer kept");
            gone.oldest = Some(40);
            Act::Json(410, json(&gone))
        }
        Some("40") => stream(&[(event(41, 0, "new"), true)], true),
        _ => crate::elsewhere(),
    });
    let home = tempfile::tempdir().unwrap();
    let args = ["events", "--follow", "--since", "10"];
    let mut child = command(home.path(), &[&node.address], &args).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    let ran = crate::ran(child.wait_with_output().unwrap());
    assert!(line.ends_with("new\n"), "{line}");
    assert!(
        ran.stderr.contains("events after index 10 and up to 40 are no longer kept"),
        "{ran:?}"
    );
}

#[test]
fn stdin_and_stdout_of_a_program_flow_at_the_same_time() {
    let node = Node::start(|_, _| Act::Echo(3));
    let home = tempfile::tempdir().unwrap();
    let args = ["exec", "--env", "A=b", "web", "--", "cat", "-n"];
    let mut child =
        command(home.path(), &[&node.address], &args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // Each line comes back before the next one is written: nothing waits for the end of stdin.
    for text in ["one\n", "two\n"] {
        stdin.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    }
    drop(stdin);
    let ran = crate::ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (3, "began\n"));
    assert_eq!(node.seen()[0].body, "{\"command\":[\"cat\",\"-n\"],\"env\":{\"A\":\"b\"}}\n");
}

#[test]
fn stdin_is_passed_whole() {
    let node = Node::start(|_, _| Act::Echo(0));
    let input = "x".repeat(100_000);
    let ran = run_with_stdin(&[&node.address], &["exec", "web", "--", "cat"], input.as_bytes());
    assert_eq!(ran.status, 0);
    assert_eq!(ran.stdout, input);
}

#[test]
fn a_program_that_cannot_be_run_is_126() {
    let end = br#"{"status":null,"error":"no such program"}"#;
    let length = u32::try_from(end.len()).unwrap().to_be_bytes();
    let bytes = [&[3][..], &length, end].concat();
    let node = Node::start(move |_, _| Act::Stream {
        kind: "application/octet-stream",
        bytes: bytes.clone(),
        stay: false,
    });
    let ran = run(&[&node.address], &["exec", "web", "--", "x"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (126, "error: no such program\n"));
    let end = br#"{"status":127,"error":"the program `x` is not there"}"#;
    let length = u32::try_from(end.len()).unwrap().to_be_bytes();
    let bytes = [&[3][..], &length, end].concat();
    let node = Node::start(move |_, _| Act::Stream {
        kind: "application/octet-stream",
        bytes: bytes.clone(),
        stay: false,
    });
    let ran = run(&[&node.address], &["exec", "web", "--", "x"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (127, "error: the program `x` is not there\n"));
}

#[test]
fn logs_are_passed_as_they_are() {
    let bytes = b"raw \x1b[31m\xff bytes\n".to_vec();
    let sent = bytes.clone();
    let node = Node::start(move |_, _| Act::Stream {
        kind: "text/plain",
        bytes: sent.clone(),
        stay: false,
    });
    let home = tempfile::tempdir().unwrap();
    let output =
        command(home.path(), &[&node.address], &["logs", "web", "--tail", "5"]).output().unwrap();
    assert_eq!(output.stdout, bytes);
    assert_eq!(node.lines(), ["GET /v1/grains/web/logs?tail=5"]);
}

#[test]
fn followed_logs_follow_the_grain() {
    let text = |text: &str| Act::Stream {
        kind: "text/plain",
        bytes: text.as_bytes().to_vec(),
        stay: false,
    };
    let node = Node::start(move |seen, before| match (seen.line.as_str(), before) {
        ("GET /v1/grains/web/logs?follow=true", _) => text("on ada\n"),
        ("GET /v1/grains/web/logs?tail=0&follow=true", _) => text("on bob\n"),
        ("GET /v1/grains/web", 0) => ok(&grain("web")),
        ("GET /v1/grains/web", _) => {
            let mut web = grain("web");
            web.status.state = scrap_schema::api::GrainState::Stopped;
            ok(&web)
        }
        _ => crate::elsewhere(),
    });
    let ran = run(&[&node.address], &["logs", "-f", "web"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "on ada\non bob\n"), "{ran:?}");
    assert!(ran.stderr.contains("some lines may be missing"), "{ran:?}");
}
