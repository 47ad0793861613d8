//! What is written where: forms of output, closed pipes, contexts, raw requests, scripts and manuals.

use std::io::Read as _;

use expect_test::expect;
use scrap_schema::api::GrainView;

use crate::fake::{Act, Node};
use crate::values::{EVIL, grain, node, policy, troubled_grain};
use crate::{command, ok, run, run_in};

fn two() -> Node {
    Node::start(|_, _| ok(&vec![grain("web"), troubled_grain()]))
}

#[test]
fn lists_have_many_forms() {
    let node = two();
    let ls = |args: &[&str]| {
        let ran = run(&[&node.address], &[&["ls"], args].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{args:?}");
        ran.stdout
    };
    assert_eq!(ls(&["-o", "name"]), "web\nmail-alice\n");
    assert_eq!(ls(&["--sort", "name", "-o", "name"]), "mail-alice\nweb\n");
    assert_eq!(
        ls(&["--columns", "name,lag", "--no-headers"]),
        "web          9s\nmail-alice  14m\n"
    );
    assert_eq!(
        ls(&["-o", "csv", "--columns", "name,lag_ms"]),
        "name,lag_ms\nweb,9000\nmail-alice,840000\n"
    );
    let read: Vec<GrainView> = serde_json::from_str(&ls(&["-o", "json"])).unwrap();
    assert_eq!(read, [grain("web"), troubled_grain()]);
    let read: Vec<GrainView> = serde_saphyr::from_str(&ls(&["-o", "yaml"])).unwrap();
    assert_eq!(read, [grain("web"), troubled_grain()]);
}

#[test]
fn no_form_lets_the_cluster_speak_to_the_terminal() {
    let evil = Node::start(|_, _| {
        let mut web = grain("web");
        web.metadata.labels.insert("a".to_owned(), EVIL.to_owned());
        ok(&vec![web])
    });
    for form in ["wide", "json", "yaml", "name"] {
        let ran = run(&[&evil.address], &["ls", "-o", form]);
        let bad =
            ran.stdout.chars().find(|it| (it.is_control() && *it != '\n') || *it == '\u{202e}');
        assert_eq!(bad, None, "{form}: {:?}", ran.stdout);
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    let node = two();
    let home = tempfile::tempdir().unwrap();
    let stdout = |name: &str, value: &str, args: &[&str]| {
        let mut command = command(home.path(), &[&node.address], args);
        let output = command.env(name, value).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!stdout("X", "", &["ls"]).contains('\x1b'));
    assert!(stdout("CLICOLOR_FORCE", "1", &["ls"]).contains('\x1b'));
    assert!(stdout("NO_COLOR", "1", &["ls", "--color=always"]).contains('\x1b'));
    assert!(stdout("LC_ALL", "C", &["ls"]).is_ascii());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let many: Vec<GrainView> = (0..3000).map(|at| grain(&format!("web-{at}"))).collect();
    let node = Node::start(move |_, _| ok(&many));
    let home = tempfile::tempdir().unwrap();
    let mut child = command(home.path(), &[&node.address], &["ls", "-o", "json"]).spawn().unwrap();
    let mut some = [0; 100];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    let ran = crate::ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn nothing_is_said_on_stderr() {
    let empty = Node::start(|_, _| crate::elsewhere());
    let ran = run(&[&empty.address], &["ls"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    assert_eq!(ran.stderr, "there are no grains yet; make one with `scrapctl launch`\n");
    let ran = run(&[&empty.address], &["ls", "-o", "json"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("[]\n", ""));
}

#[test]
fn get_prints_manifests() {
    let node = Node::start(|seen, _| match seen.line.as_str() {
        "GET /v1/policies/standard" => ok(&policy("standard")),
        _ => ok(&vec![node("ada"), node("bob")]),
    });
    let ran = run(&[&node.address], &["get", "policy", "standard", "-o", "yaml"]);
    expect![[r#"
        exit 0
        apiVersion: scrap/v1
        kind: Policy
        metadata:
          name: standard
          created: "2026-11-18T00:00:00.000Z"
          modifyIndex: 17
          generation: 1
        spec:
          replicate:
            every: 15s
            copies: 2
            spread: zone
            alertAfter: 2m
          failover:
            mode: auto
            after: 3m
            maxDataLoss: 1m
          snapshots:
            keep-last: 12
            keep-hourly: 48
            keep-daily: 14
    "#]]
    .assert_eq(&ran.all(&[]));
    let ran = run(&[&node.address], &["get", "nodes", "--bare"]);
    expect![[r#"
        exit 0
        apiVersion: scrap/v1
        kind: Node
        metadata:
          name: ada
        spec:
          cordoned: false
        ---
        apiVersion: scrap/v1
        kind: Node
        metadata:
          name: bob
        spec:
          cordoned: false
    "#]]
    .assert_eq(&ran.all(&[]));
    let parsed = scrap_schema::manifest::parse("-", &ran.stdout).unwrap();
    assert_eq!(parsed.len(), 2);
}

#[test]
fn edit_keeps_the_text_when_it_is_refused() {
    let refusing = Node::start(|seen, _| match seen.line.as_str() {
        "GET /v1/policies/standard" => {
            let etag = vec![("etag", "\"17\"".to_owned())];
            Act::With(200, etag, serde_json::to_string(&policy("standard")).unwrap())
        }
        _ => crate::no(
            scrap_schema::problem::Code::Changed,
            412,
            "policy `standard` was changed meanwhile",
        ),
    });
    let home = tempfile::tempdir().unwrap();
    let editor = home.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i s/15s/20s/ \"$2\"\n").unwrap();
    make_executable(&editor);
    let mut command = command(home.path(), &[&refusing.address], &["edit", "policy", "standard"]);
    command.env("EDITOR", format!("{} --wait", editor.display())).env("PATH", "/usr/bin:/bin");
    command.env("TMPDIR", home.path());
    let ran = crate::ran(command.output().unwrap());
    assert_eq!(ran.status, 5, "{ran:?}");
    let kept = ran.stderr.split_whitespace().find(|word| word.ends_with(".yaml;")).unwrap();
    let kept = std::fs::read_to_string(kept.trim_end_matches(';')).unwrap();
    assert!(kept.contains("every: 20s"), "{kept}");
    assert_eq!(refusing.seen()[1].line, "PUT /v1/policies/standard");
    assert_eq!(refusing.seen()[1].headers["if-match"], "\"17\"");
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn contexts_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| run_in(home.path(), &[], args);
    assert_eq!(here(&["context", "add", "home", "ada", "bob:7000"]).status, 0);
    assert_eq!(here(&["context", "add", "lab", "10.0.0.1,10.0.0.2:80"]).status, 0);
    assert_eq!(here(&["context", "use", "lab"]).status, 0);
    assert_eq!(
        here(&["context", "ls"]).stdout,
        "NAME  CURRENT  SERVERS\nhome           ada:7272,bob:7000\nlab   *        10.0.0.1:7272,10.0.0.2:80\n"
    );
    assert!(here(&["context", "show"]).stdout.starts_with("context  lab\n"));
    assert_eq!(
        here(&["context", "rm", "lba"]).stderr,
        "error: there is no context `lba`\n  hint: did you mean `lab`?\n"
    );
    assert_eq!(here(&["context", "use", "lba"]).status, 3);
    assert_eq!(here(&["context", "rm", "lab"]).status, 0);
    let shown = here(&["context", "show", "-o", "json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["context"], serde_json::Value::Null);
    assert_eq!(here(&["--context", "nowhere", "status"]).status, 2);
}

#[test]
fn api_sends_what_it_is_given() {
    let node = Node::start(|_, _| Act::With(200, Vec::new(), "{\"raw\":1}".to_owned()));
    let ran = run(&[&node.address], &["api", "get", "/v1/grains?selector=app=mail"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "{\"raw\":1}"), "{ran:?}");
    run(&[&node.address], &["api", "POST", "/v1/place", "--data", "{\"a\":1}"]);
    run(&[&node.address], &["api", "GET", "/livez"]);
    assert_eq!(run(&[&node.address], &["api", "GET", "v1/grains"]).status, 2);
    let seen = node.seen();
    assert_eq!(seen[0].line, "GET /v1/grains?selector=app%3Dmail");
    assert_eq!((seen[1].line.as_str(), seen[1].body.as_str()), ("POST /v1/place", "{\"a\":1}"));
    assert_eq!(seen[1].headers["content-type"], "application/json");
    assert_eq!(seen[2].line, "GET /livez");
}

#[test]
fn completion_knows_grains() {
    let node = two();
    let home = tempfile::tempdir().unwrap();
    let script = run_in(home.path(), &[], &["completion", "bash"]);
    assert!(script.stdout.contains("COMPLETE=\"bash\""), "{script:?}");
    let mut command = command(home.path(), &[&node.address], &["--", "scrapctl", "info", ""]);
    let output = command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.contains("mail-alice") && words.contains("web"), "{words:?}");
    assert_eq!(node.lines(), ["GET /v1/grains?stale=true"]);
}

#[test]
fn manuals_are_written() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("man");
    let ran = run_in(home.path(), &[], &["man", dir.to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for page in ["scrapctl.1", "scrapctl-migrate.1", "scrapctl-node-drain.1"] {
        assert!(dir.join(page).is_file(), "{page}");
    }
}

#[test]
fn mistakes_on_the_command_line_look_like_errors() {
    let ran = run(&[], &["shwo"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.starts_with("error: unrecognized subcommand 'shwo'\n"), "{ran:?}");
    assert!(ran.stderr.contains("  hint: a similar subcommand exists: 'show'"), "{ran:?}");
    assert_eq!(run(&[], &["--help"]).status, 0);
    assert_eq!(run(&[], &["explain", "grain.spec.memroy"]).status, 2);
}
