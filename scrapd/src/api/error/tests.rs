//! Every refusal has a code, a status and advice.

use scrap_schema::id::{Epoch, Name};
use scrap_schema::unit::Span;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[track_caller]
fn check(refusal: Refusal, status: u16, code: Code, hint: &str) {
    let problem = Failure::from(refusal.clone()).problem;
    assert_eq!((problem.status, problem.code), (status, code));
    assert_eq!(problem.detail, refusal.to_string());
    let said = problem.hint.unwrap_or_default();
    assert!(said.contains(hint) && !hint.is_empty(), "{said}");
}

#[test]
fn refusals_are_problems() {
    let web = || name("web");
    let grain = || "grain".to_owned();
    check(
        Refusal::NotFound { what: grain(), name: "x".into() },
        404,
        Code::NotFound,
        "scrapctl ls",
    );
    check(Refusal::NameTaken { what: grain(), name: web() }, 409, Code::Conflict, "another name");
    let changed = Refusal::Changed { what: grain(), name: web(), is: 5, have: 4 };
    check(changed, 412, Code::Changed, "ETag");
    check(Refusal::KeyReused, 422, Code::IdempotencyMismatch, "new key");
    let trashed = Refusal::WrongState { name: web(), is: "in the trash".into() };
    check(trashed, 409, Code::WrongState, "scrapctl undelete web");
    let stopped = Refusal::WrongState { name: web(), is: "stopped".into() };
    check(stopped, 409, Code::NotRunning, "scrapctl start web");
    let used = Refusal::InUse { what: "node".into(), name: "n1".into(), by: "grain web".into() };
    check(used, 409, Code::InUse, "scrapctl node drain n1");
    let by = "grain web, which is in the trash".to_owned();
    let used = Refusal::InUse { what: "node".into(), name: "n1".into(), by };
    check(used, 409, Code::InUse, "rm --purge");
    check(Refusal::Stale { offered: Epoch(1), held: Epoch(2) }, 409, Code::Changed, "repeat");
    check(Refusal::OutOfDate { why: "x".into() }, 409, Code::Changed, "repeat");
    let alive = Refusal::OwnerAlive { name: web(), owner: "n1".into(), is: "online".into() };
    check(alive, 409, Code::OwnerAlive, "scrapctl migrate web");
    let gone = Refusal::OwnerGone { name: web(), owner: "n1".into() };
    check(gone, 409, Code::WrongState, "scrapctl failover web --dry-run");
    let unfit = Refusal::NodeUnfit { node: "n1".into(), why: "is a witness".into() };
    check(unfit, 409, Code::WrongState, "scrapctl node ls");
    check(Refusal::LastNode { node: "n1".into() }, 409, Code::LastNode, "add another");
    let needed = Refusal::NodeNeeded { node: "n1".into(), why: "x".into() };
    check(needed, 409, Code::InUse, "scrapctl status");
    let (loss, limit) = (Span::from_ms(61_500), Span::from_secs(60));
    let large = Refusal::LossTooLarge { name: web(), loss, limit };
    check(large, 409, Code::LossTooLarge, "--accept-loss 62s");
    check(Refusal::Invalid { why: "x".into() }, 400, Code::BadManifest, "explain");
}

#[test]
fn a_busy_grain_names_its_operation() {
    let operation = "01k2x4f7m8n9p0q1r2s3t4v5w6 (it is drained; undrain it first)".to_owned();
    let busy = Refusal::Busy { what: "node".into(), name: name("n1"), operation };
    let problem = Failure::from(busy).problem;
    let id = "01k2x4f7m8n9p0q1r2s3t4v5w6";
    assert_eq!((problem.status, problem.code), (409, Code::Busy));
    assert_eq!(problem.operation.map(|id| id.to_string()).as_deref(), Some(id));
    assert!(problem.hint.unwrap().contains(id));
}

#[test]
fn a_change_without_an_answer_says_whether_it_may_have_happened() {
    let waited = std::time::Duration::from_secs(5);
    let none = Failure::from(ProposeError::NoLeader { waited });
    assert_eq!((none.problem.status, none.problem.code), (503, Code::NoLeader));
    assert!(none.problem.detail.ends_with("nothing was changed"));
    let unknown = Failure::from(ProposeError::Unknown { waited });
    assert_eq!((unknown.problem.status, unknown.problem.code), (503, Code::UnknownOutcome));
    assert!(unknown.problem.hint.unwrap().contains("same Idempotency-Key"));
    assert_eq!((none.retry_after, unknown.retry_after), (Some(1), Some(1)));
}

#[test]
fn statuses_are_errors() {
    for code in Code::ALL {
        assert!(status(*code).as_u16() >= 400, "{code}");
    }
}
