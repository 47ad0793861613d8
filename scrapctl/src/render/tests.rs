//! What the reader sees: golden text over values of the API's types.

mod failures;
mod operations;
mod quorum;

use expect_test::{Expect, expect};
use scrap_schema::api::*;

use super::text::{Clock, Theme};
use super::{changes, events, grains, nodes, orphans, place, plan, policies, status};
use crate::cli::ListArgs;
use crate::render::grid::Grid;
use crate::values::*;

const PLAIN: Theme = Theme { color: false, utf8: true };

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

#[expect(clippy::needless_pass_by_value, reason = "a golden is written where it is used")]
fn table(grid: &Grid, wide: bool, expected: Expect) {
    expected.assert_eq(&grid.table(&ListArgs::default(), wide, PLAIN).unwrap());
}

fn stopped() -> GrainView {
    let mut grain = grain("blog");
    grain.status.state = GrainState::Stopped;
    grain.status.usage = None;
    grain.status.copies = Vec::new();
    grain.status.lag_ms = None;
    grain
}

#[test]
fn grains_as_a_table() {
    let all = [stopped(), troubled_grain(), grain("xmpp")];
    table(
        &grains::grid(&all, PLAIN),
        false,
        expect![[r#"
        NAME        STATE    NODE    CPU      MEM     DISK  COPIES          LAG
        blog        stopped  ada       –        –        –  –                 –
        mail-alice  moving   ada→cy   1%  38/256M  120M/1G  bob 14m!, cy –  14m
        xmpp        running  ada      1%  38/256M  120M/1G  bob 9s           9s
    "#]],
    );
    table(
        &grains::grid(&all, PLAIN),
        true,
        expect![[r#"
            NAME        STATE    NODE    CPU      MEM     DISK  COPIES          LAG  POLICY    EPOCH  RESTARTS  LABELS                ID                          TEMPLATE  ADDRESS
            blog        stopped  ada       –        –        –  –                 –  standard      4         –                        00000000000000000000000005  process   –
            mail-alice  moving   ada→cy   1%  38/256M  120M/1G  bob 14m!, cy –  14m  standard      4         0  app=mail,owner=alice  00000000000000000000000005  process   –
            xmpp        running  ada      1%  38/256M  120M/1G  bob 9s           9s  standard      4         0                        00000000000000000000000005  process   –
        "#]],
    );
    let ascii = Theme { color: false, utf8: false };
    let text = grains::grid(&all, ascii).table(&ListArgs::default(), true, ascii).unwrap();
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn grains_for_programs() {
    let all = [troubled_grain(), grain("xmpp")];
    expect![[r#"
        name,state,node,cpu_cores,memory_bytes,disk_bytes,copies,lag_ms,policy,epoch,restarts,labels,id,template,address
        mail-alice,moving,ada,0.012,39845888,125829120,bob:840000 cy:,840000,standard,4,0,"app=mail,owner=alice",00000000000000000000000005,process,
        xmpp,running,ada,0.012,39845888,125829120,bob:9000,9000,standard,4,0,,00000000000000000000000005,process,
    "#]].assert_eq(&grains::grid(&all, PLAIN).csv(&ListArgs::default()).unwrap());
}

#[test]
fn a_grain_in_full() {
    expect![[r#"
        xmpp  running on ada, epoch 4
          id          00000000000000000000000005
          template    process
          policy      standard
          command     python3 -m http.server
          created     2026-11-18 00:00:00 (3 d ago)
          running for 2 h
          cpu         0.012 of 0.5 cores
          memory      38.0 MiB of 256.0 MiB
          disk        120.0 MiB of 1.0 GiB
          restarts    0
          lag         9.0 s would be lost if its node died now
        conditions
          Ready       yes  it answers
          Replicated  yes  1 of 1 copies is fresh
        copies
          bob         9.0 s behind
    "#]]
    .assert_eq(&grains::info(&grain("xmpp"), &clock(), PLAIN));
}

#[test]
fn a_grain_in_trouble() {
    expect![[r#"
        mail-alice  moving, ada → cy, epoch 4
          id          00000000000000000000000005
          labels      app=mail,owner=alice
          template    process
          policy      standard
          command     python3 -m http.server
          created     2026-11-18 00:00:00 (3 d ago)
          running for 2 h
          cpu         0.012 of 0.5 cores
          memory      38.0 MiB of 256.0 MiB
          disk        120.0 MiB of 1.0 GiB
          restarts    0
          lag         14 min would be lost if its node died now
        conditions
          Ready       no   it moves to cy
          Replicated  no   the copy on bob is 14 min old
          Healthy     ?
        copies
          bob         14 min behind, 3M to send, not reachable, node bob is suspect
          cy          nothing yet
        snapshots
          before-upgrade  2026-11-20 23:00:00  000000000000a1b2
        last failover
          2026-11-20 00:00:00  bob → ada, epoch 4: lost at most what was written in 12 s, 2026-11-19 23:59:48 to 2026-11-20 00:00:00; 180.0 KiB or more
        waiting: grain mail-alice: bob does not answer
          hint: look at bob: scrapctl node info bob
        operation: scrapctl op attach 00000000000000000000000009
    "#]].assert_eq(&grains::info(&troubled_grain(), &clock(), PLAIN));
}

#[test]
fn nodes_as_a_table_and_in_full() {
    let mut bob = node("bob");
    bob.status.state = NodeState::Suspect;
    bob.status.usage = None;
    bob.status.silent_ms = Some(12_000);
    let mut cy = node("cy");
    cy.status.draining = true;
    cy.status.grains = Vec::new();
    let all = [node("ada"), bob, cy];
    table(
        &nodes::grid(&all, PLAIN),
        true,
        expect![[r#"
        NAME  STATE           ROLE  RAFT   CPU   MEM     DISK  GRAINS  COPIES  HEARD  API             OS     ARCH     VERSION  LABELS
        ada   online          data  voter   8%  2/8G  41/500G       1       2    <1s  127.0.0.1:7272  linux  aarch64  0.1.0
        bob   suspect         data  voter    –     –        –       1       2    12s  127.0.0.1:7272  linux  aarch64  0.1.0
        cy    online drained  data  voter   8%  2/8G  41/500G       0       2    <1s  127.0.0.1:7272  linux  aarch64  0.1.0
    "#]],
    );
    expect![[r#"
        ada  online
          id          1
          role        data, voter
          api         127.0.0.1:7272
          peers       127.0.0.1:7273
          system      linux aarch64, scrapd 0.1.0
          member for  3 d
          heard       400 ms ago
          cpu         0.3 used of 4 cores, 0.5 reserved
          memory      2.0 GiB used of 8.0 GiB, 256.0 MiB reserved
          disk        41.0 GiB used of 500.0 GiB, 1.0 GiB reserved
          runs        process
          uplink      –
          grains      blog
          copies of   mail-alice, xmpp
    "#]]
    .assert_eq(&nodes::info(&all[0], &clock(), PLAIN));
}

#[test]
fn policies_as_a_table_and_in_full() {
    let mut manual = policy("by-hand");
    manual.spec.failover.mode = scrap_schema::spec::FailoverMode::Manual;
    manual.spec.replicate.copies = 1;
    manual.spec.replicate.spread = None;
    let all = [policy("standard"), manual];
    table(
        &policies::grid(&all, PLAIN),
        false,
        expect![[r#"
        NAME      EVERY  COPIES  SPREAD  ALERT  FAILOVER  AFTER  MAX-LOSS  KEEP
        standard    15s       2  zone       2m  auto         3m       60s  12 last, 48 hourly, 14 daily
        by-hand     15s       1  –          2m  manual       3m       60s  12 last, 48 hourly, 14 daily
    "#]],
    );
    expect![[r#"
        standard
          replicate   2 copies, spread over `zone`, at most 15 s behind; alarm after 2 min
          failover    by itself after 3 min of silence, if at most 60 s would be lost
          snapshots   the last 12, one for each of 48 hours and 14 days
    "#]]
    .assert_eq(&policies::info(&all[0], PLAIN));
    expect![[r#"
        by-hand
          replicate   1 copy, at most 15 s behind; alarm after 2 min
          failover    only by a person
          snapshots   the last 12, one for each of 48 hours and 14 days
    "#]]
    .assert_eq(&policies::info(&all[1], PLAIN));
}

#[test]
fn status_of_a_healthy_cluster_is_one_line() {
    expect![[r#"
        home   HEALTHY   3/3 nodes   11/11 grains running   oldest copy 14 s (xmpp)
    "#]]
    .assert_eq(&status::text(&cluster(), false, false, PLAIN));
}

#[test]
fn status_says_why() {
    let mut cluster = cluster();
    cluster.health = ClusterHealth::Critical;
    cluster.reasons = vec!["bob is silent for 12 s".to_owned(), "blog does not run".to_owned()];
    cluster.leader = None;
    cluster.nodes_online = None;
    cluster.grains_running = None;
    cluster.orphans = 1;
    cluster.waiting = vec![WaitingView {
        subject: "grain blog".to_owned(),
        reason: "its newest copy is 3 min old, its policy allows 1 min".to_owned(),
        hint: Some("scrapctl failover blog --accept-loss 3m".to_owned()),
    }];
    expect![[r#"
        home   CRITICAL   ?/3 nodes   ?/11 grains running   oldest copy 14 s (xmpp)
          bob is silent for 12 s
          blog does not run
        waiting: grain blog: its newest copy is 3 min old, its policy allows 1 min
          hint: scrapctl failover blog --accept-loss 3m
        1 orphan of diverged data: scrapctl orphan ls
        there is no leader
    "#]]
    .assert_eq(&status::text(&cluster, false, false, PLAIN));
}

#[test]
fn events_are_lines() {
    let text = events::line(&event(4711, 0, "web: bob -> ada, epoch 4"), &clock(), PLAIN);
    expect![[r#"
        |   4711  2026-11-20 23:59:30  failover     web: bob -> ada, epoch 4
    "#]]
    .assert_eq(&format!("|{text}"));
}

#[test]
fn orphans_as_a_table_and_in_full() {
    let all = [orphan()];
    table(
        &orphans::grid(&all, &clock(), PLAIN),
        false,
        expect![[r#"
        ID                                GRAIN       NODE  EPOCH  NEWER  USED  KEPT
        00000000000000000000000005.3@bob  mail-alice  bob       3   180K    2M   22h
    "#]],
    );
    expect![[r#"
        00000000000000000000000005.3@bob
          grain       mail-alice
          node        bob
          written in  epoch 3
          last state  2026-11-20 00:00:00, snapshot 000000000000beef
          in common   up to snapshot 00000000000000a1
          newer       about 180.0 KiB that only this copy has
          used        2.0 MiB
          kept since  2026-11-20 01:46:40 (22 h ago)
    "#]]
    .assert_eq(&orphans::info(&all[0], &clock(), PLAIN));
}

fn placement() -> PlacementView {
    let candidate = |node: &str, score, reasons: &[&str]| CandidateView {
        node: name(node),
        score,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        current: node == "ada",
    };
    PlacementView {
        nodes: vec![
            candidate("cy", Some(812), &["a fresh copy is there: 300", "memory free: 512"]),
            candidate("ada", Some(640), &["memory free: 640"]),
            candidate("bob", None, &["draining", "needs 512 MiB more memory"]),
        ],
    }
}

#[test]
fn places_best_first() {
    table(
        &place::grid(&placement()),
        false,
        expect![[r#"
        NODE  SCORE  HERE
        cy      812
        ada     640  *
        bob   unfit
    "#]],
    );
    expect![[r#"
        cy: score 812
          a fresh copy is there: 300
          memory free: 512
        ada: score 640, it lives here now
          memory free: 640
        bob: cannot take it
          draining
          needs 512 MiB more memory
    "#]]
    .assert_eq(&place::explain(&placement(), PLAIN));
}

#[test]
fn plans_say_what_they_cost() {
    let dry = DryRun {
        steps: vec!["promote the copy on bob".to_owned(), "start it there".to_owned()],
        loss: Some(loss()),
        expected_downtime_ms: Some(4_000),
        refused: Some("the copy is 3 min old, the policy allows 1 min".to_owned()),
        hint: Some("allow it with --accept-loss 3m".to_owned()),
    };
    expect![[r#"
        refused: the copy is 3 min old, the policy allows 1 min
          hint: allow it with --accept-loss 3m
        if it were not refused, this would happen:
          promote the copy on bob
          start it there
        expected downtime ≈ 4.0 s
        would lose at most what was written in 12 s, 2026-11-19 23:59:48 to 2026-11-20 00:00:00; 180.0 KiB or more
    "#]].assert_eq(&plan::text(&dry, &clock(), PLAIN));
    expect![[r#"
        nothing would happen
    "#]]
    .assert_eq(&plan::text(&DryRun::default(), &clock(), PLAIN));
}

fn applied() -> ApplyView {
    let item = |kind: &str, of: &str, action, changes| ApplyResult {
        kind: kind.to_owned(),
        name: name(of),
        action,
        operation: None,
        changes,
    };
    let change = |pointer: &str, before: Option<serde_json::Value>, after| FieldChange {
        pointer: pointer.to_owned(),
        before,
        after,
    };
    ApplyView {
        changed: true,
        index: 4711,
        items: vec![
            item("Policy", "standard", ApplyAction::Unchanged, Vec::new()),
            item(
                "Grain",
                "web",
                ApplyAction::Updated,
                vec![
                    change("/spec/resources/memory", Some("64MiB".into()), Some("128MiB".into())),
                    change("/metadata/labels/a~1b", None, Some("x".into())),
                    change("/spec/place", Some(serde_json::json!({"prefer": "ada"})), None),
                ],
            ),
            item("Grain", "old", ApplyAction::Pruned, Vec::new()),
        ],
    }
}

#[test]
fn apply_says_what_it_did() {
    expect![[r#"
        policy/standard: unchanged
        grain/web: updated
        grain/old: pruned
    "#]]
    .assert_eq(&changes::text(&applied(), false, PLAIN));
    expect![[r#"
        policy/standard: unchanged
        grain/web: would be updated
        grain/old: would be pruned
    "#]]
    .assert_eq(&changes::text(&applied(), true, PLAIN));
}

#[test]
fn diff_is_field_by_field() {
    expect![[r#"
        grain/web: would be updated
        - spec.resources.memory: 64MiB
        + spec.resources.memory: 128MiB
        + metadata.labels.a/b: x
        - spec.place: {"prefer":"ada"}
        grain/old: would be pruned
    "#]]
    .assert_eq(&changes::diff(&applied(), PLAIN));
}

/// Every free text of every view, replaced by one that does things to a terminal.
#[test]
fn no_text_from_the_cluster_reaches_the_terminal_as_it_is() {
    fn poison<T: serde::Serialize + serde::de::DeserializeOwned>(view: &T) -> T {
        fn walk(value: &mut serde_json::Value, poison: &dyn Fn(&str) -> bool) {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        match value {
                            serde_json::Value::String(text) if poison(key) => {
                                *text = EVIL.to_owned();
                            }
                            serde_json::Value::Array(items) if poison(key) => {
                                items.iter_mut().for_each(|item| *item = EVIL.into());
                            }
                            other => walk(other, poison),
                        }
                    }
                }
                serde_json::Value::Array(items) => {
                    items.iter_mut().for_each(|item| walk(item, poison));
                }
                _ => (),
            }
        }
        let free = |key: &str| {
            let texts = [
                "message", "reason", "reasons", "hint", "subject", "trouble", "steps", "refused",
                "app", "owner", "command", "type", "raft", "api", "peer", "arch", "os", "version",
                "pointer", "text", "kind", "id", "nextLoss", "ifLost",
            ];
            texts.contains(&key)
        };
        let mut value = serde_json::to_value(view).unwrap();
        walk(&mut value, &free);
        serde_json::from_value(value).unwrap()
    }
    let clock = clock();
    let list = ListArgs::default();
    let mut cluster = cluster();
    cluster.reasons = vec!["x".to_owned()];
    cluster.waiting = troubled_grain().status.waiting.into_iter().collect();
    let grain = poison(&troubled_grain());
    let texts = [
        grains::info(&grain, &clock, PLAIN),
        grains::grid(&[grain], PLAIN).table(&list, true, PLAIN).unwrap(),
        nodes::info(&poison(&node("ada")), &clock, PLAIN),
        nodes::grid(&[poison(&node("ada"))], PLAIN).table(&list, true, PLAIN).unwrap(),
        status::text(&poison(&cluster), true, true, PLAIN),
        super::quorum::text(&poison(&quorum::three()), false, PLAIN),
        super::quorum::grid(&poison(&quorum::three()), PLAIN).table(&list, true, PLAIN).unwrap(),
        events::line(&poison(&event(1, 0, "x")), &clock, PLAIN),
        orphans::info(&poison(&orphan()), &clock, PLAIN),
        orphans::grid(&[poison(&orphan())], &clock, PLAIN).table(&list, true, PLAIN).unwrap(),
        place::explain(&poison(&placement()), PLAIN),
        place::grid(&poison(&placement())).table(&list, true, PLAIN).unwrap(),
        plan::text(
            &poison(&DryRun { steps: vec!["x".to_owned()], ..DryRun::default() }),
            &clock,
            PLAIN,
        ),
        changes::diff(&poison(&applied()), PLAIN),
        changes::text(&poison(&applied()), false, PLAIN),
    ];
    for text in texts {
        assert!(text.contains("evil"), "nothing was poisoned: {text}");
        let bad = text.chars().find(|it| (it.is_control() && *it != '\n') || *it == '\u{202e}');
        assert_eq!(bad, None, "{text:?}");
    }
}
