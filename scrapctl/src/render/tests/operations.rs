//! Progress of operations as people see it.

use expect_test::{Expect, expect};
use scrap_schema::api::{OperationView, Progress, WaitingView};
use scrap_schema::operation::{OperationState, Phase};
use scrap_schema::unit::Bytes;

use super::{PLAIN, clock, table};
use crate::render::operations::{end, grid, news, under_way};
use crate::values::*;

#[expect(clippy::needless_pass_by_value, reason = "a golden is written where it is used")]
fn check(before: Option<&OperationView>, now: &OperationView, expected: Expect) {
    let lines: String = news(before, now, PLAIN).iter().map(|it| format!("|{it}\n")).collect();
    expected.assert_eq(&lines);
}

#[test]
fn finished_phases_are_told_once() {
    let first = operation();
    check(
        None,
        &first,
        expect![[r#"
            | ✓ prepare        300 ms
        "#]],
    );
    check(Some(&first), &first, expect![""]);
    check(
        Some(&first),
        &ended(OperationState::Succeeded),
        expect![[r#"
            | ✓ copy 1         2.3 s
            | ✓ copy 2         200 ms
            | ✓ stop           1.1 s
            | ✓ copy the rest  90 ms
            | ✓ start          2.0 s
        "#]],
    );
}

#[test]
fn a_failed_phase_is_marked() {
    let mut failed = operation();
    failed.state = OperationState::Failed;
    failed.finished = Some(ago(1));
    check(
        Some(&operation()),
        &failed,
        expect![[r#"
            | ✗ copy           2.0 s
        "#]],
    );
}

#[test]
fn a_reason_to_wait_is_told_when_it_changes() {
    let waiting = |reason: &str| {
        let waiting = WaitingView {
            subject: "grain mail-alice".to_owned(),
            reason: reason.to_owned(),
            hint: Some("undrain bob: scrapctl node undrain bob".to_owned()),
        };
        OperationView { waiting: Some(waiting), ..operation() }
    };
    check(
        Some(&operation()),
        &waiting("bob is draining"),
        expect![[r#"
            | … waiting: bob is draining
            |    hint: undrain bob: scrapctl node undrain bob
        "#]],
    );
    check(Some(&waiting("bob is draining")), &waiting("bob is draining"), expect![""]);
    check(
        Some(&waiting("bob is draining")),
        &waiting("no node has room"),
        expect![[r#"
            | … waiting: no node has room
            |    hint: undrain bob: scrapctl node undrain bob
        "#]],
    );
}

#[test]
fn what_is_under_way() {
    expect!["copy           3.0 s"].assert_eq(&under_way(&operation(), &clock(), PLAIN));
    let progress = Progress {
        text: "round 2".to_owned(),
        bytes: Some(Bytes(53 << 20)),
        total_bytes: Some(Bytes(212 << 20)),
        rate: Some(Bytes(94 << 20)),
        expected_downtime_ms: Some(4_000),
    };
    let copying = OperationView { progress: Some(progress), ..operation() };
    expect!["copy           3.0 s  round 2  53.0 MiB of 212.0 MiB, 25 %  94.0 MiB/s  expected downtime ≈ 4.0 s"].assert_eq(&under_way(&copying, &clock(), PLAIN));
    let new = OperationView { phases: Vec::new(), phase: None, ..operation() };
    expect!["migrate        4.0 s"].assert_eq(&under_way(&new, &clock(), PLAIN));
}

#[test]
fn the_end_says_what_it_cost() {
    expect![[r#"
        mail-alice: migrate done in 7.0 s: moved from ada to cy
          downtime 3.2 s
    "#]]
    .assert_eq(&end(&ended(OperationState::Succeeded), &clock(), PLAIN));
    let mut lost = ended(OperationState::Failed);
    lost.summary.message = "cy did not start it".to_owned();
    lost.summary.loss = Some(loss());
    lost.summary.hint = Some("look at its log: scrapctl logs mail-alice".to_owned());
    expect![[r#"
        mail-alice: migrate failed in 7.0 s: cy did not start it
          downtime 3.2 s
          lost at most what was written in 12 s, 2026-11-19 23:59:48 to 2026-11-20 00:00:00; 180.0 KiB or more
          hint: look at its log: scrapctl logs mail-alice
    "#]].assert_eq(&end(&lost, &clock(), PLAIN));
}

#[test]
fn operations_as_a_table() {
    let mut second = ended(OperationState::Failed);
    second.target = "nodes/ada".to_owned();
    second.kind = "drain".to_owned();
    table(
        &grid(&[operation(), second], &clock(), PLAIN),
        true,
        expect![[r#"
            ID                          KIND     TARGET             STATE    PHASE  AGE  TOOK  MESSAGE
            00000000000000000000000009  migrate  grains/mail-alice  running  copy    4s     –
            00000000000000000000000009  drain    nodes/ada          failed   –      60s    7s  moved from ada to cy
        "#]],
    );
}

#[test]
fn phases_without_a_time_take_it_from_the_next() {
    let mut operation = operation();
    operation.phases = vec![phase(Phase::Prepare, 10, None), phase(Phase::Warm, 7, None)];
    check(
        None,
        &operation,
        expect![[r#"
            | ✓ prepare        3.0 s
        "#]],
    );
}
