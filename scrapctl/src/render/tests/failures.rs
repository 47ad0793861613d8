//! What the reader is told when something goes wrong.

use expect_test::{Expect, expect};
use scrap_schema::operation::OperationState;
use scrap_schema::problem::{Candidate, Code, FieldError, Problem};

use super::{PLAIN, clock};
use crate::failure::{Attempt, Failure};
use crate::render::failure::text;
use crate::values::*;

#[expect(clippy::needless_pass_by_value, reason = "a golden is written where it is used")]
fn check(failure: Failure, verbose: bool, exit: u8, expected: Expect) {
    expected.assert_eq(&text(&failure, verbose, &clock(), PLAIN));
    assert_eq!(failure.exit(), exit);
}

fn refused(problem: Problem) -> Failure {
    Failure::Problem { problem: Box::new(problem), server: "ada:7272".to_owned(), repeated: false }
}

fn attempt(server: &str, outcome: &str, problem: Option<Problem>) -> Attempt {
    Attempt {
        server: server.to_owned(),
        outcome: outcome.to_owned(),
        connected: !outcome.starts_with("cannot"),
        problem: problem.map(Box::new),
    }
}

#[test]
fn a_refusal_with_candidates() {
    let mut problem = Problem::new(Code::NoPlacement, 409, "no node can take grain `web`")
        .with_hint("undrain with `scrapctl node undrain bob`, or lower `memory` in its spec");
    problem.request_id = Some("01k2".to_owned());
    let candidate = |node: &str, reasons: &[&str]| Candidate {
        node: name(node),
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    problem.candidates =
        vec![candidate("bob", &["draining"]), candidate("cy", &["needs 512 MiB more memory"])];
    check(
        refused(problem.clone()),
        false,
        7,
        expect![[r#"
        error: no node can take grain `web`
          bob: draining
          cy: needs 512 MiB more memory
          hint: undrain with `scrapctl node undrain bob`, or lower `memory` in its spec
    "#]],
    );
    check(
        refused(problem),
        true,
        7,
        expect![[r#"
        error: no node can take grain `web`
          bob: draining
          cy: needs 512 MiB more memory
          ada:7272 answered 409 no-placement, request 01k2
          hint: undrain with `scrapctl node undrain bob`, or lower `memory` in its spec
    "#]],
    );
}

#[test]
fn faults_of_a_manifest_name_file_line_and_column() {
    let fault = FieldError {
        line: Some(7),
        column: Some(3),
        ..FieldError::new("/spec/memroy", "there is no key `memroy` here")
            .with_hint("did you mean `memory`?")
    };
    let faults = vec![("web.yaml".to_owned(), fault)];
    check(
        Failure::Manifests { faults },
        false,
        2,
        expect![[r#"
        error: the manifest is refused; nothing was changed
          web.yaml:7:3: there is no key `memroy` here
            did you mean `memory`?
    "#]],
    );
}

#[test]
fn nobody_answers() {
    let tried = vec![
        attempt("ada:7272", "cannot be reached (connection refused)", None),
        attempt("bob:7272", "gave no answer within 8 s", None),
    ];
    check(
        Failure::Unreachable { tried: tried.clone(), sent: false },
        false,
        6,
        expect![[r#"
            error: no node answers
              ada:7272: cannot be reached (connection refused)
              bob:7272: gave no answer within 8 s
              hint: what a node knows by itself is shown with --stale
        "#]],
    );
    check(
        Failure::Unreachable { tried, sent: true },
        false,
        6,
        expect![[r#"
        error: no node answers
          ada:7272: cannot be reached (connection refused)
          bob:7272: gave no answer within 8 s
          hint: it may have been done; look before you repeat it: scrapctl op ls
    "#]],
    );
}

#[test]
fn a_cluster_without_a_leader_says_so() {
    let problem = Problem::new(Code::NoLeader, 503, "no leader since 12 s, 2 of 3 voters silent");
    let tried = vec![attempt("ada:7272", "no leader since 12 s", Some(problem))];
    check(
        Failure::Unreachable { tried, sent: false },
        false,
        6,
        expect![[r#"
            error: the cluster has no leader
              ada:7272: no leader since 12 s
              hint: what a node knows by itself is shown with --stale
        "#]],
    );
}

#[test]
fn a_failed_operation() {
    let mut failed = ended(OperationState::Failed);
    failed.summary.message = "cy did not start it".to_owned();
    failed.summary.downtime_ms = None;
    failed.summary.hint = Some("it runs on ada as before".to_owned());
    check(
        Failure::Operations { operations: vec![failed] },
        false,
        8,
        expect![[r#"
        error: mail-alice: migrate failed in 7.0 s: cy did not start it
          hint: it runs on ada as before
    "#]],
    );
}

#[test]
fn what_goes_on_without_us() {
    let operations = vec![scrap_schema::id::OperationId(9)];
    check(
        Failure::Interrupted { operations: operations.clone() },
        false,
        130,
        expect![[r#"
        error: interrupted
          operation 00000000000000000000000009 continues; scrapctl op attach 00000000000000000000000009
    "#]],
    );
    let what = "the time of --timeout is over".to_owned();
    check(
        Failure::Timeout { what, operations },
        false,
        124,
        expect![[r#"
        error: the time of --timeout is over
          operation 00000000000000000000000009 continues; scrapctl op attach 00000000000000000000000009
    "#]],
    );
}

#[test]
fn a_refusal_after_a_lost_answer() {
    let problem = Problem::new(Code::Changed, 412, "grain `web` was changed meanwhile");
    let server = "bob:7272".to_owned();
    let failure = Failure::Problem { problem: Box::new(problem), server, repeated: true };
    check(
        failure,
        false,
        5,
        expect![[r#"
        error: grain `web` was changed meanwhile
          the answer to an earlier attempt got lost; that one may have been carried out
    "#]],
    );
}

#[test]
fn our_own_mistakes_are_one_line_each() {
    let message = "the configuration `c.toml` is wrong\nline 3: \x1b[31m".to_owned();
    check(
        Failure::Usage { message, hint: None },
        false,
        2,
        expect![[r#"
        error: the configuration `c.toml` is wrong
          line 3: \u{1b}[31m
    "#]],
    );
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let failure = Failure::Stdout(error);
    assert!(failure.is_silent());
    assert_eq!(failure.exit(), 0);
    let full = Failure::Stdout(std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert!(!full.is_silent());
    assert_eq!(full.exit(), 1);
}
