//! Operations seen through to their end, over the death of the node that was asked; apply, diff, rm.

use std::time::{Duration, Instant};

use expect_test::expect;
use scrap_schema::api::{
    ApplyAction, ApplyResult, ApplyView, DryRun, GrainState, NodeView, OperationView,
};
use scrap_schema::operation::OperationState;
use scrap_schema::problem::Code;

use crate::fake::{Act, Node};
use crate::values::{ended, grain, name, node, operation};
use crate::{accepted, command, no, ok, run, run_with_stdin};

/// Begins and ends a migration; between the two it is asked twice.
fn mover(end: OperationState) -> Node {
    Node::start(move |seen, before| match (seen.line.as_str(), before) {
        ("POST /v1/grains/mail-alice/migrate", _) => accepted(&operation()),
        (line, 0) if line.starts_with("GET /v1/operations/") => ok(&operation()),
        (line, _) if line.starts_with("GET /v1/operations/") => ok(&ended(end)),
        _ => no(Code::NotFound, 404, "no"),
    })
}

#[test]
fn a_migration_is_seen_through() {
    let node = mover(OperationState::Succeeded);
    let ran = run(&[&node.address], &["migrate", "mail-alice", "--to", "cy"]);
    expect![[r#"
        exit 0
        mail-alice: migrate done in 7.0 s: moved from ada to cy
          downtime 3.2 s
        -- stderr
         ✓ prepare        300 ms
         ✓ copy 1         2.3 s
         ✓ copy 2         200 ms
         ✓ stop           1.1 s
         ✓ copy the rest  90 ms
         ✓ start          2.0 s
    "#]]
    .assert_eq(&ran.all(&[]));
    assert_eq!(node.seen()[0].body, r#"{"to":"cy","dryRun":false}"#);
}

#[test]
fn an_operation_that_fails_is_exit_8() {
    let node = mover(OperationState::Failed);
    let ran = run(&[&node.address], &["mv", "mail-alice"]);
    expect![[r#"
        exit 8
        -- stderr
         ✓ prepare        300 ms
         ✓ copy 1         2.3 s
         ✓ copy 2         200 ms
         ✓ stop           1.1 s
         ✓ copy the rest  90 ms
         ✗ start          2.0 s
        error: mail-alice: migrate failed in 7.0 s: moved from ada to cy
          downtime 3.2 s
    "#]]
    .assert_eq(&ran.all(&[]));
}

#[test]
fn programs_read_the_operation() {
    let node = mover(OperationState::Succeeded);
    let args = ["migrate", "mail-alice", "-o", "json", "--progress", "json"];
    let ran = run(&[&node.address], &args);
    let end: OperationView = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(end, ended(OperationState::Succeeded));
    // Progress is JSON too, one object per change.
    let states: Vec<OperationView> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states, [operation(), ended(OperationState::Succeeded)]);
}

#[test]
fn quiet_leaves_only_the_answer() {
    let node = mover(OperationState::Succeeded);
    let ran = run(&[&node.address], &["-q", "migrate", "mail-alice"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("mail-alice: migrate done"), "{ran:?}");
}

#[test]
fn waiting_survives_the_death_of_the_node() {
    let other = Node::start(|_, _| ok(&ended(OperationState::Succeeded)));
    let mut bob: NodeView = node("bob");
    bob.status.addresses.api = other.address.clone();
    let dying = Node::start(move |seen, _| match seen.line.as_str() {
        "POST /v1/grains/mail-alice/migrate" => accepted(&operation()),
        line if line.starts_with("GET /v1/nodes") => ok(&vec![bob.clone()]),
        _ => Act::Drop,
    });
    let ran = run(&[&dying.address], &["migrate", "mail-alice"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!other.seen().is_empty());
}

#[test]
fn a_timeout_leaves_the_operation_alone() {
    let node = Node::start(|seen, _| match seen.line.as_str() {
        line if line.starts_with("POST") => accepted(&operation()),
        _ => ok(&operation()),
    });
    let ran = run(&[&node.address], &["migrate", "mail-alice", "--timeout", "500ms"]);
    expect![[r#"
        exit 124
        -- stderr
         ✓ prepare        300 ms
        error: the time of --timeout is over
          operation 00000000000000000000000009 continues; scrapctl op attach 00000000000000000000000009
    "#]].assert_eq(&ran.all(&[]));
}

#[test]
fn ctrl_c_detaches() {
    let node = Node::start(|seen, _| match seen.line.as_str() {
        line if line.starts_with("POST") => accepted(&operation()),
        _ => ok(&operation()),
    });
    let home = tempfile::tempdir().unwrap();
    let child = command(home.path(), &[&node.address], &["migrate", "mail-alice"]).spawn().unwrap();
    // It waits for the signal from the moment at which it asks about the operation.
    let until = Instant::now() + Duration::from_secs(20);
    while node.seen().len() < 2 {
        assert!(Instant::now() < until, "it never asked");
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let ran = crate::ran(child.wait_with_output().unwrap());
    assert_eq!(ran.status, 130, "{ran:?}");
    let id = operation().id;
    let told = format!("operation {id} continues; scrapctl op attach {id}");
    assert!(ran.stderr.contains(&told), "{ran:?}");
    assert!(node.lines().iter().all(|line| !line.starts_with("DELETE")));
}

#[test]
fn a_dry_run_is_a_plan_and_its_refusal_a_failure() {
    let node = Node::start(|seen, _| {
        assert!(seen.body.contains(r#""dryRun":true"#), "{}", seen.body);
        let refused = seen.body.contains(r#""to":"bob""#).then(|| "bob is draining".to_owned());
        let steps = vec!["copy 3 MiB to cy".to_owned()];
        ok(&DryRun { steps, refused, expected_downtime_ms: Some(1_500), ..DryRun::default() })
    });
    let ran = run(&[&node.address], &["migrate", "web", "--to", "cy", "--dry-run"]);
    assert_eq!(ran.all(&[]), "exit 0\n  copy 3 MiB to cy\nexpected downtime ≈ 1.5 s\n");
    let ran = run(&[&node.address], &["migrate", "web", "--to", "bob", "--dry-run"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.starts_with("refused: bob is draining\n"), "{ran:?}");
}

const MANIFEST: &str =
    "apiVersion: scrap/v1\nkind: Grain\nmetadata: {name: web}\nspec: {command: [sleep, '60']}\n";

fn applier(action: ApplyAction) -> Node {
    Node::start(move |seen, _| match seen.line.as_str() {
        line if line.starts_with("GET /v1/operations/") => ok(&ended(OperationState::Succeeded)),
        _ => ok(&ApplyView {
            changed: action != ApplyAction::Unchanged,
            index: 7,
            items: vec![ApplyResult {
                kind: "Grain".to_owned(),
                name: name("web"),
                action,
                operation: (action == ApplyAction::Created).then(|| operation().id),
                changes: Vec::new(),
            }],
        }),
    })
}

#[test]
fn apply_says_whether_it_changed_anything() {
    let node = applier(ApplyAction::Created);
    let args = ["apply", "-f", "-", "-o", "json", "--prune", "app=web", "--check-index", "6"];
    let ran = run_with_stdin(&[&node.address], &args, MANIFEST.as_bytes());
    assert_eq!(ran.status, 0, "{ran:?}");
    let applied: ApplyView = serde_json::from_str(&ran.stdout).unwrap();
    assert!(applied.changed);
    assert_eq!(node.seen()[0].line, "POST /v1/apply?prune=app%3Dweb&checkIndex=6");
    assert!(node.seen()[0].body.starts_with(r#"[{"apiVersion":"scrap/v1","kind":"Grain""#));
    // The grain that was made was waited for.
    assert!(node.lines()[1].starts_with("GET /v1/operations/"));
    let node = applier(ApplyAction::Unchanged);
    let ran = run_with_stdin(&[&node.address], &["apply", "-f", "-"], MANIFEST.as_bytes());
    assert_eq!(ran.all(&[]), "exit 0\ngrain/web: unchanged\n");
}

#[test]
fn diff_ends_with_1_if_something_differs() {
    let node = applier(ApplyAction::Updated);
    let ran = run_with_stdin(&[&node.address], &["diff", "-f", "-"], MANIFEST.as_bytes());
    assert_eq!(ran.all(&[]), "exit 1\ngrain/web: would be updated\n");
    assert_eq!(node.lines(), ["POST /v1/apply?dryRun=true"]);
    let node = applier(ApplyAction::Unchanged);
    let ran = run_with_stdin(&[&node.address], &["diff", "-f", "-"], MANIFEST.as_bytes());
    assert_eq!(ran.all(&[]), "exit 0\n");
}

#[test]
fn a_wrong_manifest_is_refused_before_anything_is_sent() {
    let node = applier(ApplyAction::Created);
    let wrong = MANIFEST.replace("command", "comand");
    let ran = run_with_stdin(&[&node.address], &["diff", "-f", "-"], wrong.as_bytes());
    expect![[r#"
        exit 2
        -- stderr
        error: the manifest is refused; nothing was changed
          -:4:8: there is no key `comand` here
            did you mean `command`?
    "#]]
    .assert_eq(&ran.all(&[]));
    assert!(node.seen().is_empty());
}

#[test]
fn a_file_that_is_no_text_is_refused_like_a_wrong_one() {
    let node = applier(ApplyAction::Created);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"kind: \xff").unwrap();
    let path = file.path().to_str().unwrap();
    let ran = run(&[&node.address], &["apply", "-f", path]);
    assert_eq!(
        ran.all(&[]).replace(path, "FILE"),
        "exit 2\n-- stderr\nerror: the manifest is refused; nothing was changed\n  FILE: it is no text in UTF-8\n"
    );
    let ran = run(&[&node.address], &["apply", "-f", "/no/such/file"]);
    assert!(ran.stderr.ends_with("hint: look at the path; nothing was sent\n"), "{ran:?}");
    assert!(node.seen().is_empty());
}

fn remover() -> Node {
    Node::start(|seen, _| {
        let mut web = grain("web");
        match seen.line.as_str() {
            "GET /v1/grains/web" => {
                let etag = vec![("etag", "\"17\"".to_owned())];
                Act::With(200, etag, serde_json::to_string(&web).unwrap())
            }
            "DELETE /v1/grains/web" => {
                web.status.state = GrainState::Trashed;
                web.status.trashed_until = Some(crate::values::NOW);
                ok(&web)
            }
            "DELETE /v1/grains/web?purge=true" => Act::With(204, Vec::new(), String::new()),
            _ => ok(&DryRun { steps: vec!["stop web".to_owned()], ..DryRun::default() }),
        }
    })
}

#[test]
fn rm_says_how_to_undo_it() {
    let node = remover();
    let ran = run(&[&node.address], &["rm", "web"]);
    expect![[r#"
        exit 0
        -- stderr
        web is in the trash until 2026-11-21 00:00:00; take it out again with: scrapctl undelete web
    "#]]
    .assert_eq(&ran.all(&[]));
    assert_eq!(node.seen()[1].headers["if-match"], "\"17\"");
}

#[test]
fn purge_needs_a_person_or_yes() {
    let node = remover();
    let ran = run(&[&node.address], &["rm", "--purge", "web"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert_eq!(node.lines(), ["GET /v1/grains/web"]);
    let ran = run(&[&node.address], &["rm", "--purge", "--yes", "web"]);
    assert_eq!(ran.all(&[]), "exit 0\n-- stderr\nweb is removed for good\n");
    assert_eq!(node.lines()[2], "DELETE /v1/grains/web?purge=true");
    let ran = run(&[&node.address], &["rm", "--purge", "--dry-run", "web"]);
    assert_eq!(ran.all(&[]), "exit 0\n  stop web\n");
}

/// A cluster in whose trash these many grains `web` are.
fn full_trash(many: usize) -> Node {
    Node::start(move |seen, _| {
        let mut web = grain("web");
        web.status.state = GrainState::Trashed;
        match seen.line.as_str() {
            "GET /v1/grains/web" => no(Code::NotFound, 404, "there is no grain `web`"),
            "GET /v1/grains?trashed=true" => ok(&vec![web; many]),
            line if line.starts_with("GET /v1/grains/") => ok(&web),
            _ => Act::With(204, Vec::new(), String::new()),
        }
    })
}

#[test]
fn purge_finds_a_name_in_the_trash_if_no_living_grain_has_it() {
    let id = grain("web").metadata.id.unwrap();
    let node = full_trash(1);
    let ran = run(&[&node.address], &["rm", "--purge", "--yes", "web"]);
    assert_eq!(ran.all(&[]), "exit 0\n-- stderr\nweb is removed for good\n");
    assert_eq!(node.lines()[3], format!("DELETE /v1/grains/{id}?purge=true"));
    let ran = run(&[&full_trash(2).address], &["rm", "--purge", "--yes", "web"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains(&format!("say which by its id: {id}, {id}")), "{ran:?}");
    let ran = run(&[&full_trash(1).address], &["rm", "web"]);
    assert_eq!(ran.status, 3, "{ran:?}");
}

#[test]
fn wait_tells_what_is_missing() {
    let node = Node::start(|_, before| {
        let mut web = grain("web");
        if before == 0 {
            web.status.state = GrainState::Starting;
        }
        ok(&web)
    });
    let ran = run(&[&node.address], &["wait", "grain/web", "--for=running"]);
    assert_eq!(ran.all(&[]), "exit 0\n");
    assert_eq!(node.seen().len(), 2);
    let args = ["wait", "grain/web", "--for=stopped", "--timeout", "200ms"];
    let ran = run(&[&node.address], &args);
    assert_eq!(ran.status, 124);
    assert_eq!(ran.stderr, "error: grain/web is not stopped after 200ms: it is running on ada\n");
    let gone = Node::start(|_, _| no(Code::NotFound, 404, "there is no grain `web`"));
    assert_eq!(run(&[&gone.address], &["wait", "grain/web", "--for=gone"]).status, 0);
}
