//! Views of made-up worlds, as text.

use expect_test::expect;
use scrap_decide::lead::WaitReason;
use scrap_schema::api::{GrainState, NodeState};
use scrap_schema::command::{Command, GrainText};
use scrap_schema::id::{BootId, Epoch};
use scrap_schema::node::{PoolFacts, PoolState};
use scrap_schema::operation::Work;
use scrap_schema::spec::Labels;
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::timing::Timing;
use scrap_schema::unit::Bytes;

use super::*;

mod world;

use world::*;

#[test]
fn a_sound_grain() {
    let world = Fixture::with_web();
    world.check_web(
        GrainState::Running,
        expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready yes Running: it answers on n1
        Healthy yes CheckPassed: its health check passes
        Replicated yes UpToDate: 2 copies, the oldest 500 ms old
        Protected yes FailsOver: at most the last 200 ms of writes would be lost
    "#]],
    );
    world.check_cluster(expect![[r#"
        Healthy, 1/1 running, 3/3 online
    "#]]);
}

#[test]
fn the_whole_view_of_a_grain() {
    let world = Fixture::with_web();
    let view = world.look(|sight| grain(sight, world.web()));
    expect![[r#"
        {
          "apiVersion": "scrap/v1",
          "kind": "Grain",
          "metadata": {
            "name": "web",
            "id": "00000000000000000000000007",
            "created": "2023-11-14T22:13:20.000Z",
            "modifyIndex": 7,
            "generation": 1
          },
          "spec": {
            "template": "process",
            "command": [
              "web"
            ],
            "resources": {
              "cpu": 0.1,
              "memory": "64MiB",
              "disk": "1GiB"
            },
            "health": {
              "tcp": {
                "port": 80
              },
              "every": "10s",
              "grace": "30s"
            },
            "protect": "standard",
            "stop": {
              "timeout": "10s"
            },
            "running": true
          },
          "status": {
            "state": "running",
            "node": "n1",
            "epoch": 1,
            "conditions": [
              {
                "type": "Placed",
                "status": true,
                "reason": "Assigned",
                "message": "lives on n1 in epoch 1"
              },
              {
                "type": "Ready",
                "status": true,
                "reason": "Running",
                "message": "it answers on n1"
              },
              {
                "type": "Healthy",
                "status": true,
                "reason": "CheckPassed",
                "message": "its health check passes"
              },
              {
                "type": "Replicated",
                "status": true,
                "reason": "UpToDate",
                "message": "2 copies, the oldest 500 ms old"
              },
              {
                "type": "Protected",
                "status": true,
                "reason": "FailsOver",
                "message": "at most the last 200 ms of writes would be lost"
              }
            ],
            "copies": [
              {
                "node": "n2",
                "lagMs": 200,
                "snapshot": "0000000000000005",
                "pending": "0B",
                "reachable": true
              },
              {
                "node": "n3",
                "lagMs": 500,
                "snapshot": "0000000000000005",
                "pending": "0B",
                "reachable": true
              }
            ],
            "lagMs": 200,
            "usage": {
              "cpu": 0.02,
              "memory": "30MiB",
              "disk": "3MiB",
              "restarts": 0
            },
            "snapshots": [],
            "started": "2023-11-14T22:13:20.000Z"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&view).unwrap());
}

#[test]
fn a_grain_whose_check_fails() {
    let mut world = Fixture::with_web();
    let mut report = running();
    report.run.as_mut().unwrap().healthy = Some(false);
    world.hear(report);
    world.check_web(
        GrainState::Unhealthy,
        expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready no Unhealthy: its health check fails
        Healthy no CheckFailed: its health check fails
        Replicated yes UpToDate: 2 copies, the oldest 500 ms old
        Protected yes FailsOver: at most the last 200 ms of writes would be lost
    "#]],
    );
    world.check_cluster(expect![[r#"
        Critical, 0/1 running, 3/3 online
        grain web on n1: its health check fails
    "#]]);
}

#[test]
fn a_report_from_before_the_grain_answered_says_nothing_about_it() {
    let mut world = Fixture::with_web();
    let mut report = running();
    report.run.as_mut().unwrap().healthy = Some(false);
    let now = world.now;
    world.now = Now { boot: BootTime(0), wall: Timestamp(START - 200) };
    world.hear(report);
    world.now = now;
    assert_eq!(world.look(|looked| grain(looked, world.web())).status.state, GrainState::Running);
}

#[test]
fn a_grain_whose_program_keeps_ending() {
    let mut world = Fixture::with_web();
    let mut report = running();
    let run = report.run.as_mut().unwrap();
    (run.up, run.restarts, run.last_exit) = (false, 3, Some("exit status 1".into()));
    world.hear(report);
    world.check_web(GrainState::Unhealthy, expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready no Unhealthy: its program ended (exit status 1, restarted 3 times) and starts again
        Healthy no ProgramEnded: its program ended (exit status 1, restarted 3 times) and starts again
        Replicated yes UpToDate: 2 copies, the oldest 500 ms old
        Protected yes FailsOver: at most the last 200 ms of writes would be lost
    "#]]);
    world.check_cluster(expect![[r#"
        Critical, 0/1 running, 3/3 online
        grain web on n1: its program ended (exit status 1, restarted 3 times) and starts again
    "#]]);
}

#[test]
fn a_grain_with_an_old_copy() {
    let mut world = Fixture::with_web();
    world.now = at(400_000);
    let mut report = running();
    report.copies.insert(NodeId(3), copy(399_000));
    report.copies.get_mut(&NodeId(2)).unwrap().trouble = Some("connection refused".into());
    world.hear(report);
    world.check_web(GrainState::Running, expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready yes Running: it answers on n1
        Healthy yes CheckPassed: its health check passes
        Replicated no Behind: a copy is 6 min old, the policy worries after 2m: copy on n2: connection refused
        Protected yes FailsOver: at most the last 1.0 s of writes would be lost
    "#]]);
    world.check_cluster(expect![[r#"
        Degraded, 1/1 running, 3/3 online
        grain web is not protected as its policy wants: a copy is 6 min old, the policy worries after 2m: copy on n2: connection refused
    "#]]);
}

#[test]
fn a_copy_that_stands_still_for_a_known_reason_is_named_before_it_is_too_old() {
    let mut world = Fixture::with_web();
    let mut report = running();
    report.copies.get_mut(&NodeId(2)).unwrap().trouble = Some("connection refused".into());
    world.hear(report);
    let replicated = |world: &Fixture| {
        let looked = world.look(|looked| grain(looked, world.web()));
        let mut all = looked.status.conditions.into_iter();
        let condition = all.find(|condition| condition.r#type == "Replicated").unwrap();
        (condition.reason, condition.message)
    };
    // It has not missed a round yet.
    assert_eq!(replicated(&world).0, "UpToDate");
    let every = world.look(|looked| looked.cluster.policy_of(world.web()).replicate.every);
    world.now = at(every.ms() * 2 + 1_000);
    let (reason, message) = replicated(&world);
    assert_eq!(reason, "Stuck");
    assert!(message.ends_with("stands still: copy on n2: connection refused"), "{message}");
    world.check_cluster(expect![[r#"
        Degraded, 1/1 running, 3/3 online
        grain web is not protected as its policy wants: a copy is 30 s old and stands still: copy on n2: connection refused
    "#]]);
}

#[test]
fn a_sick_host_is_a_reason() {
    let pool = |state, used: u64, errors, what: Option<&str>| PoolFacts {
        state,
        errors,
        used: Bytes(used),
        free: Bytes(100 - used),
        scrubbed: None,
        busy: false,
        what: what.map(str::to_owned),
    };
    let missing = "the uplink `eth0` is not there: no grain can be reached";
    for (pool, network, expected) in [
        (pool(PoolState::Online, 90, 0, None), vec![], ""),
        (
            pool(PoolState::Degraded, 10, 0, Some("sdb is offline")),
            vec![],
            "the storage of node n1 is degraded: sdb is offline",
        ),
        (pool(PoolState::Online, 10, 3, None), vec![], "the storage of node n1 has errors"),
        (
            pool(PoolState::Online, 91, 0, None),
            vec![],
            "the storage of node n1 is 91 % full: it takes nothing new",
        ),
        (
            pool(PoolState::Online, 10, 0, None),
            vec![missing.to_owned()],
            "node n1: the uplink `eth0` is not there: no grain can be reached",
        ),
    ] {
        let mut world = Fixture::with_web();
        world.hear(running());
        let heard = world.observed.nodes.get_mut(&NodeId(1)).unwrap();
        (heard.pool, heard.network) = (Some(pool), network);
        let view = world.look(cluster).unwrap();
        let reasons: Vec<&str> = view.reasons.iter().map(String::as_str).collect();
        let expected: Vec<&str> = Some(expected).filter(|it| !it.is_empty()).into_iter().collect();
        assert_eq!(reasons, expected);
    }
}

#[test]
fn a_grain_without_a_place() {
    let mut world = Fixture::new();
    let mut text = Fixture::with_web().web().clone();
    text.spec.health = None;
    let text = GrainText {
        name: text.name,
        labels: Labels::new(),
        annotations: Labels::new(),
        spec: text.spec,
    };
    world.run(Command::CreateGrain { grain: WEB, operation: CREATE, text });
    world.check_cluster(expect![[r#"
        Healthy, 0/1 running, 3/3 online
    "#]]);
    let refusals = "n1 is draining; n2 needs 512.0 MiB more memory".to_owned();
    world.wait(Subject::Grain(WEB), WaitReason::NoPlace { refusals });
    world.check_web(
        GrainState::Pending,
        expect![[r#"
        Placed no Waiting: no node can take it: n1 is draining; n2 needs 512.0 MiB more memory
        Ready no Pending: it has no node yet
        Healthy ? NotRunning: it does not run
        Replicated no NoData: it has no data yet
        Protected no NoData: it has no data yet
    "#]],
    );
    world.check_cluster(expect![[r#"
        Critical, 0/1 running, 3/3 online
        grain web does not run: no node can take it: n1 is draining; n2 needs 512.0 MiB more memory
    "#]]);
}

#[test]
fn a_silent_owner() {
    let mut world = Fixture::with_web();
    world.silence(1, 3);
    world.raft.leader = Some(NodeId(2));
    world.wait(Subject::Grain(WEB), WaitReason::OwnerSilent { owner: "n1".into() });
    world.check_web(
        GrainState::Lost,
        expect![[r#"
            Placed yes Assigned: lives on n1 in epoch 1
            Ready ? OwnerLost: n1 is silent; the countdown runs
            Healthy ? OwnerLost: n1 is silent; the countdown runs
            Replicated yes UpToDate: 2 copies, the oldest 500 ms old
            Protected yes FailsOver: at most the last 200 ms of writes would be lost
        "#]],
    );
    world.check_cluster(expect![[r#"
        Critical, 0/1 running, 2/3 online
        node n1 is silent and counts as dead in 10 s; 1 grain may be down with it: web (node n1 is silent; it may still run there)
        2 of 3 voters answer: if one more is lost, nothing can be changed
    "#]]);
}

#[test]
fn a_dead_owner_and_nobody_may_decide() {
    let mut world = Fixture::with_web();
    let all = Timing::default().ticks;
    world.silence(1, all);
    world.run(Command::FenceNode { node: NodeId(1), boot: BootId(1) });
    world.now = at(3 * 60_000);
    world.wait(Subject::Grain(WEB), WaitReason::NoCopy { owner: "n1".into() });
    world.check_cluster(expect![[r#"
        Critical, 0/1 running, 2/3 online
        node n1 is fenced, last heard 3 min ago; 1 grain is down with it: web (no reachable node has a copy of it; its data are on n1)
        2 of 3 voters answer: if one more is lost, nothing can be changed
    "#]]);
}

#[test]
fn a_follower_does_not_judge_what_it_has_not_heard() {
    let mut world = Fixture::with_web();
    world.observed = Observed::default();
    world.raft.leads = false;
    world.check_web(GrainState::Running, expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready yes Running: it answers on n1
        Healthy ? NotTheLeader: the answering node does not lead; reports of nodes are with the leader
        Replicated ? NotTheLeader: the answering node does not lead; reports of nodes are with the leader
        Protected ? NotTheLeader: the answering node does not lead; reports of nodes are with the leader
    "#]]);
    world.raft.leader = None;
    world.check_cluster(expect![[r#"
        Critical, ?/1 running, ?/3 online
        no leader is known here: nothing can be changed, nothing fails over, and what runs is unknown
    "#]]);
}

#[test]
fn a_new_leader_waits_for_reports() {
    let mut world = Fixture::with_web();
    world.observed = Observed::from(BootTime(900));
    world.check_web(
        GrainState::Running,
        expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready yes Running: it answers on n1
        Healthy ? NotHeardYet: n1 has not reported to this leader yet
        Replicated ? NotHeardYet: n1 has not reported to this leader yet
        Protected ? NotHeardYet: n1 has not reported to this leader yet
    "#]],
    );
}

#[test]
fn a_leader_that_was_just_elected_does_not_say_that_all_is_well() {
    let mut world = Fixture::with_web();
    world.observed = Observed::from(BootTime(900));
    world.check_cluster(expect![[r#"
        Degraded, 0/1 running, 0/3 online
        the leader was just elected; waiting for reports: n1, n2, n3
    "#]]);
    // What never reports is the countdown's to judge.
    world.observed = Observed::from(BootTime(0));
    world.now = at(60_000);
    world.check_cluster(expect![[r#"
        Healthy, 1/1 running, 3/3 online
    "#]]);
}

#[test]
fn a_move_says_how_far_it_is() {
    let mut world = Fixture::with_web();
    let work = Work::Migrate { grain: WEB, to: Some(NodeId(2)) };
    world.run(Command::StartOperation { operation: MOVE, work, text: None });
    let (epoch, operation, to) = (Epoch(1), MOVE, NodeId(2));
    world.run(Command::BeginMigration { grain: WEB, epoch, operation, to });
    let mut report = running();
    let copy = report.copies.get_mut(&to).unwrap();
    copy.sending = Some((Bytes(64 << 20), Bytes(256 << 20)));
    copy.pending = Bytes(200 << 20);
    world.hear(report);
    world.check_web(
        GrainState::Moving,
        expect![[r#"
        Placed yes Assigned: lives on n1 in epoch 1
        Ready yes Moving: it answers while its data are copied to n2
        Healthy yes CheckPassed: its health check passes
        Replicated yes UpToDate: 2 copies, the oldest 500 ms old
        Protected yes FailsOver: at most the last 200 ms of writes would be lost
    "#]],
    );
    let view = world.look(|sight| super::operation(sight, &sight.cluster.operations[&MOVE]));
    expect![[r#"
        {
          "text": "round 2 to n2: 64.0 MiB of 256.0 MiB",
          "bytes": "64MiB",
          "totalBytes": "256MiB",
          "rate": "100MiB",
          "expectedDowntimeMs": 2000
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&view.progress).unwrap());
    assert_eq!((view.target.as_str(), view.cancellable), ("grains/web", true));
    world.check_cluster(expect![[r#"
        Healthy, 1/1 running, 3/3 online
    "#]]);
}

#[test]
fn what_nobody_has_measured_is_not_zero() {
    let mut world = Fixture::with_web();
    let pending = |world: &Fixture| {
        world.look(|sight| grain(sight, &sight.cluster.grains[&WEB]).status.copies[0].pending)
    };
    assert_eq!(pending(&world), Some(Bytes(0)));
    world.now = at(15_000);
    assert_eq!(pending(&world), None);
    let step = world.look(|sight| {
        let web = &sight.cluster.grains[&WEB];
        let to = Some(NodeId(2));
        let plan =
            scrap_decide::preview::migrate(sight.cluster, sight.observed, sight.now, web, to);
        plan.steps[0].clone()
    });
    expect!["copy what node n2 lacks of grain web while it runs (0 B measured; what was written in the last 15 s is not)"]
        .assert_eq(&step);
}

#[test]
fn phases_say_how_long_they_took() {
    let world = Fixture::with_web();
    let view = world.look(|sight| operation(sight, &sight.cluster.operations[&CREATE]));
    assert!(view.phases.iter().all(|phase| phase.took_ms.is_some()), "{:?}", view.phases);
    assert_eq!((view.phase, view.cancellable), (None, false));
    assert_eq!(view.summary.message, "it answers");
}

#[test]
fn a_node() {
    let mut world = Fixture::with_web();
    let view = world.look(|sight| node(sight, &sight.cluster.nodes[&NodeId(1)]));
    assert_eq!((view.status.state, view.status.raft.as_str()), (NodeState::Online, "leader"));
    assert_eq!(view.status.grains, ["web".parse().unwrap()]);
    assert_eq!((view.status.silent_ms, view.status.reserved.memory), (Some(0), Bytes(64 << 20)));
    world.observed.nodes.remove(&NodeId(2));
    let other = world.look(|sight| node(sight, &sight.cluster.nodes[&NodeId(2)]));
    assert_eq!((other.status.copies, other.status.usage), (vec!["web".parse().unwrap()], None));
    assert_eq!(other.status.raft, "voter");
}

#[test]
fn one_more_lost_voter_is_worth_a_word() {
    let mut world = Fixture::new();
    world.silence(3, 0);
    world.check_cluster(expect![[r#"
        Degraded, 0/0 running, 2/3 online
        node n3 is silent and counts as dead in 16 s
        2 of 3 voters answer: if one more is lost, nothing can be changed
    "#]]);
}

#[test]
fn a_grain_beyond_its_quota_is_said() {
    let mut world = Fixture::with_web();
    let spec = &mut world.cluster.grains.get_mut(&WEB).unwrap().spec;
    spec.resources.disk = Bytes(1 << 20);
    world.check_cluster(expect![[r#"
        Degraded, 1/1 running, 3/3 online
        grain web has 3.0 MiB of data, more than the 1.0 MiB that it may have
    "#]]);
}

#[test]
fn many_names_are_cut() {
    let all: Vec<String> = ('a'..='h').map(String::from).collect();
    assert_eq!(names(&all), "a, b, c, d, e and 3 more");
    assert_eq!(names(&all[..2]), "a, b");
    assert_eq!(count(1, "copy"), "1 copy");
    assert_eq!(count(2, "copy"), "2 copies");
}
