//! The JSON door: every fault has its line, its pointer and advice; several are reported at once.

use expect_test::{Expect, expect};

use super::*;
use crate::spec::GrainSpec;

fn print(errors: &[FieldError]) -> String {
    let line = |error: &FieldError| {
        let (line, column) = (error.line.unwrap_or(0), error.column.unwrap_or(0));
        let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{line}:{column} {} {}{hint}\n", error.pointer, error.detail)
    };
    errors.iter().map(line).collect()
}

fn check(body: &str, expected: Expect) {
    let text = match strict_json::<GrainSpec>(body.as_bytes()) {
        Ok(spec) => format!("{spec:?}"),
        Err(bad) => format!("{}\n{}", bad.code, print(&bad.errors)),
    };
    expected.assert_eq(&text);
}

#[test]
fn a_good_body_is_read() {
    let body = br#"{"command": ["\u00e4 \ud83d\ude00 \"q\"", "x"], "resources": {"cpu": 1.5}}"#;
    let spec: GrainSpec = strict_json(body).unwrap();
    assert_eq!(spec.command, ["ä 😀 \"q\"", "x"]);
    assert_eq!(spec.resources.cpu.0, 1500);
}

#[test]
fn broken_json() {
    check(
        "{\n  \"command\": [\"a\" \"b\"]\n}",
        expect![[r#"
        bad-json
        2:19  this is not JSON: expected `,` or `]`
    "#]],
    );
    check(
        "",
        expect![[r#"
            bad-json
            1:1  this is not JSON: it ends too early
        "#]],
    );
    check(
        "{} {}",
        expect![[r#"
        bad-json
        1:4  this is not JSON: trailing characters
    "#]],
    );
    check(
        r#"{"protect": "\ud800"}"#,
        expect![[r#"
        bad-json
        1:13 /protect this text has a broken escape
    "#]],
    );
    check(
        "template: process",
        expect![[r#"
        bad-json
        1:2  this is not JSON: expected ident
    "#]],
    );
}

#[test]
fn not_utf_8() {
    let bad = strict_json::<GrainSpec>(b"{\n \"x\": \"\xff\"}").unwrap_err();
    assert_eq!(print(&bad.errors), "2:8  the body is not UTF-8\n");
}

#[test]
fn only_unknown_keys() {
    check(
        "{\"comand\": [],\n \"helth\": {}}",
        expect![[r#"
            unknown-field
            1:2 /comand there is no key `comand` here (did you mean `command`?)
            2:2 /helth there is no key `helth` here (did you mean `health`?)
        "#]],
    );
}

#[test]
fn an_unknown_key_beside_another_fault_is_a_bad_request() {
    let bad = strict_json::<GrainSpec>(b"{\"comand\": [], \"running\": 1}").unwrap_err();
    assert_eq!((bad.code, bad.errors.len()), (Code::BadRequest, 2));
    assert_eq!(bad.to_string(), "there is no key `comand` here (and 1 more)");
}

#[test]
fn many_faults_at_once() {
    check(
        r#"{
  "command": ["ok", 7],
  "command": [],
  "resources": {"memory": 256, "disk": "4GB", "cpus": 1},
  "health": {"http": {"path": "/", "prot": 80}, "every": "10"},
  "running": "yes",
  "template": "linux",
  "place": {"apartFrom": [{"app": "mail"}, {"app": 5}]}
}"#,
        expect![[r#"
            bad-request
            2:21 /command/1 the number 7 stands where a text is expected (put it in quotes)
            3:3 /command the key `command` stands twice, first in line 2 (keep one of the two)
            4:27 /resources/memory `256` is not a size: it has no unit; write `256MiB` or `256GiB`
            4:40 /resources/disk `4GB` is not a size: `GB` is not a unit; did you mean `4GiB`?
            4:47 /resources/cpus there is no key `cpus` here (did you mean `cpu`?)
            5:36 /health/http/prot there is no key `prot` here (did you mean `port`?)
            5:58 /health/every `10` is not a time span: it has no unit; write `10s` or `10m`
            6:14 /running "yes" stands where `true` or `false` is expected
            8:52 /place/apartFrom/1/app the number 5 stands where a text is expected (put it in quotes)
        "#]],
    );
}

#[test]
fn depth_is_limited() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    check(
        &format!("{{\"command\": {deep}}}"),
        expect![[r#"
        bad-json
        1:44 /command/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0 more than 32 levels are nested here
    "#]],
    );
}

#[test]
fn meaning_is_checked_with_lines() {
    let body =
        b"{\"stop\": {\"timeout\": \"11m\"},\n \"command\": [],\n  \"health\": {\"tcp\": {\"port\": 0}}}";
    let bad = strict_json_valid::<GrainSpec>(body).unwrap_err();
    assert_eq!(bad.code, Code::BadManifest);
    expect![[r#"
        1:22 /stop/timeout 11m is too long to wait for a stop (at most 10m: a failing node has no more time)
        2:2 /command a grain of the template `process` needs a command (write program and arguments as a list: [/usr/bin/caddy, run])
        3:30 /health/tcp/port port 0 does not exist (1 to 65535)
    "#]].assert_eq(&print(&bad.errors));
}

#[test]
fn nearest_knows_typos_beginnings_and_other_spellings() {
    let keys = ["command", "template", "apartFrom", "maxDataLoss"];
    let near = |word| nearest(word, keys);
    assert_eq!(near("comand"), Some("command"));
    assert_eq!(near("apart_from"), Some("apartFrom"));
    assert_eq!(near("max-data-los"), Some("maxDataLoss"));
    assert_eq!(near("temp"), Some("template"));
    assert_eq!(near("image"), None);
    assert_eq!(near("t"), None);
}

#[test]
fn a_list_is_no_block() {
    check(
        r#"{"command": ["x"], "resources": [0.5, "64MiB"]}"#,
        expect![[r#"
            bad-request
            1:33 /resources a list stands where a block of keys and values is expected
        "#]],
    );
    check(
        "[\"process\"]",
        expect![[r#"
        bad-request
        1:1  a list stands where a block of keys and values is expected
    "#]],
    );
}
