//! Nodes that are not there, die in the middle, or have no leader: what is asked twice, and what never.

use scrap_schema::api::NodeView;
use scrap_schema::problem::Code;

use crate::fake::{Act, Node, nobody};
use crate::values::{cluster, name, node, operation};
use crate::{accepted, elsewhere, no, ok, run, run_in};

fn home() -> Node {
    Node::start(|_, _| ok(&cluster()))
}

#[test]
fn the_next_node_answers_when_one_is_not_there() {
    let good = home();
    let ran = run(&[&nobody(), &good.address], &["status"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("home   HEALTHY"), "{ran:?}");
}

#[test]
fn nobody_at_all_is_exit_6_and_soon() {
    let gone = nobody();
    let ran = run(&[&gone], &["status"]);
    expect_test::expect![[r#"
        exit 6
        -- stderr
        error: no node answers
          [node 0]: cannot be reached (connection refused)
          hint: is scrapd running? name other nodes with --server, or once for all with `scrapctl context add`
    "#]].assert_eq(&ran.all(&[&gone]));
}

#[test]
fn a_write_whose_answer_is_lost_is_repeated_with_the_same_key() {
    let dying = Node::start(|_, _| Act::Drop);
    let good = Node::start(|_, _| accepted(&operation()));
    let ran = run(&[&dying.address, &good.address], &["stop", "web", "--no-wait"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "00000000000000000000000009\n"), "{ran:?}");
    let (first, second) = (&dying.seen()[0], &good.seen()[0]);
    assert_eq!(first.line, "POST /v1/grains/web/stop");
    assert_eq!(second.line, first.line);
    assert_eq!(second.headers["idempotency-key"], first.headers["idempotency-key"]);
    assert_eq!(first.headers["idempotency-key"].len(), 36);
}

#[test]
fn every_write_has_a_key_of_its_own() {
    let good = Node::start(|_, _| accepted(&operation()));
    let ran = run(&[&good.address], &["stop", "a", "b", "--no-wait"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let keys: Vec<_> = good.seen().iter().map(|it| it.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn an_answer_cut_in_the_middle_is_asked_again() {
    let cut = Node::start(|_, _| Act::Cut("{\"name\":".to_owned()));
    let good = home();
    let ran = run(&[&cut.address, &good.address], &["status"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(cut.seen().len(), 1);
}

#[test]
fn a_node_that_hangs_is_left_for_the_next_one() {
    let hanging = Node::start(|_, _| Act::Silence);
    let good = Node::start(|_, _| accepted(&operation()));
    let ran = run(&[&hanging.address, &good.address], &["stop", "web", "--no-wait"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!((hanging.seen().len(), good.seen().len()), (1, 1));
}

#[test]
fn a_node_without_a_leader_is_asked_again() {
    let node = Node::start(|_, before| match before {
        0 | 1 => no(Code::NoLeader, 503, "an election is going on"),
        _ => ok(&cluster()),
    });
    let ran = run(&[&node.address], &["status", "-o", "json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(node.seen().len(), 3);
}

#[test]
fn a_refusal_is_not_asked_twice() {
    let refusing = Node::start(|_, _| no(Code::Busy, 409, "another operation works on web"));
    let other = Node::start(|_, _| accepted(&operation()));
    let ran = run(&[&refusing.address, &other.address], &["stop", "web"]);
    assert_eq!(ran.status, 5, "{ran:?}");
    assert_eq!(ran.stderr, "error: another operation works on web\n");
    assert_eq!((refusing.seen().len(), other.seen().len()), (1, 0));
}

#[test]
fn a_program_is_not_started_twice() {
    let dying = Node::start(|_, _| Act::Drop);
    let other = Node::start(|_, _| Act::Echo(0));
    let ran = run(&[&dying.address, &other.address], &["exec", "web", "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("it may have been done"), "{ran:?}");
    assert!(other.seen().is_empty());
}

#[test]
fn nodes_that_were_learnt_help_when_the_named_one_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let second = Node::start(|_, _| ok(&cluster()));
    let mut bob: NodeView = node("bob");
    bob.status.addresses.api = second.address.clone();
    // The first node answers once, and then never again.
    let first = Node::start(move |seen, before| match (seen.line.as_str(), before) {
        ("GET /v1/nodes?stale=true", _) => ok(&vec![bob.clone()]),
        (_, 0) => ok(&cluster()),
        _ => Act::Drop,
    });
    assert_eq!(run_in(home.path(), &[], &["context", "add", "home", &first.address]).status, 0);
    assert_eq!(run_in(home.path(), &[], &["status"]).status, 0);
    let ran = run_in(home.path(), &[], &["status"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(second.seen().len(), 1);
    // And the one that answered is asked first from now on.
    assert_eq!(run_in(home.path(), &[], &["status"]).status, 0);
    assert_eq!((first.seen().len(), second.seen().len()), (2, 2));
}

#[test]
fn people_without_a_leader_see_what_a_node_knows() {
    let node = Node::start(|seen, _| {
        if !seen.line.contains("stale=true") {
            return no(Code::NoQuorum, 503, "2 of 3 voters are silent");
        }
        let age = vec![("x-scrap-age-ms", "12000".to_owned())];
        let mut cluster = cluster();
        cluster.leader = None;
        Act::With(200, age, serde_json::to_string(&cluster).unwrap())
    });
    let ran = run(&[&node.address], &["status"]);
    assert_eq!(ran.status, 6, "{ran:?}");
    assert!(ran.stdout.starts_with("home   NOT ANSWERING, was HEALTHY"), "{ran:?}");
    assert!(ran.stderr.contains("the cluster does not answer: this is what"), "{ran:?}");
    assert!(ran.stderr.contains("knew 12 s ago"), "{ran:?}");
}

#[test]
fn people_see_what_a_node_knows_when_it_only_looks_for_a_leader() {
    let node = Node::start(|seen, _| match seen.line.contains("stale=true") {
        true => ok(&cluster()),
        false => Act::Silence,
    });
    let ran = run(&[&nobody(), &node.address], &["status"]);
    assert_eq!(ran.status, 6, "{ran:?}");
    assert!(ran.stdout.starts_with("home   NOT ANSWERING, was HEALTHY"), "{ran:?}");
}

#[test]
fn stale_is_asked_for_and_said() {
    let node = home();
    let ran = run(&[&node.address], &["status", "--stale"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(node.lines(), ["GET /v1/cluster?stale=true"]);
    assert!(ran.stderr.contains("this is what"), "{ran:?}");
}

#[test]
fn programs_without_a_leader_get_an_error() {
    let node = Node::start(|_, _| no(Code::NoQuorum, 503, "2 of 3 voters are silent"));
    let ran = run(&[&node.address], &["ls", "-o", "json", "--timeout", "1s"]);
    expect_test::expect![[r#"
        exit 6
        -- stderr
        error: the cluster has no majority
          [node 0]: 2 of 3 voters are silent
          hint: what a node knows by itself is shown with --stale
    "#]]
    .assert_eq(&ran.all(&[&node.address]));
}

#[test]
fn something_that_is_not_scrap_is_called_so() {
    let strange = Node::start(|_, _| Act::With(404, Vec::new(), "<html>".to_owned()));
    let ran = run(&[&strange.address], &["ls"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("is it a node of SCRAP"), "{ran:?}");
}

#[test]
fn a_removal_whose_answer_was_lost_is_done() {
    let dying = Node::start(|seen, _| match seen.line.as_str() {
        "GET /v1/policies/old" => {
            let etag = vec![("etag", "\"17\"".to_owned())];
            Act::With(200, etag, serde_json::to_string(&crate::values::policy("old")).unwrap())
        }
        line if line.starts_with("GET") => elsewhere(),
        _ => Act::Drop,
    });
    let other = Node::start(|_, _| no(Code::NotFound, 404, "there is no policy `old`"));
    let ran = run(&[&dying.address, &other.address], &["policy", "rm", "old"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(other.seen()[0].line, "DELETE /v1/policies/old");
    assert_eq!(other.seen()[0].headers["if-match"], "\"17\"");
}

#[test]
fn names_that_do_not_exist_get_the_nearest_one() {
    let node = Node::start(|seen, _| match seen.line.as_str() {
        "GET /v1/grains?stale=true" => ok(&vec![crate::values::grain("mail-alice")]),
        line if line.contains("trashed") => elsewhere(),
        _ => no(Code::NotFound, 404, "there is no grain `mail-alcie`"),
    });
    let ran = run(&[&node.address], &["migrate", "mail-alcie"]);
    assert_eq!(ran.status, 3);
    assert_eq!(
        ran.stderr,
        "error: there is no grain `mail-alcie`\n  hint: did you mean grain `mail-alice`?\n"
    );
    let trashed = Node::start(|seen, _| match seen.line.as_str() {
        line if line.contains("trashed=true") => ok(&vec![crate::values::grain("web")]),
        "GET /v1/grains?stale=true" => elsewhere(),
        _ => no(Code::NotFound, 404, "there is no grain `web`"),
    });
    let ran = run(&[&trashed.address], &["info", name("web").as_str()]);
    assert!(ran.stderr.contains("it is in the trash: scrapctl undelete web"), "{ran:?}");
}
