//! Table tests of what a person wants of data that were set aside: step by step, what waits, and what is refused.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId, OperationId};
use scrap_schema::operation::{OperationState, Work};
use scrap_schema::snapshot::{Purpose, Snapshot};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use crate::cluster::{OrphanKey, Stage};
use crate::fail_over::on_main_line;
use crate::fixture::{WEB, World, data, snapshot, text};
use crate::lead::lead;
use crate::preview;
use crate::refusal::Refusal;

const KEY: OrphanKey = OrphanKey { grain: WEB, epoch: Epoch(1), node: NodeId(1) };

/// The last state of what was set aside: the ninth of epoch 1, three beyond the fork.
fn aside() -> Snapshot {
    let mut head = snapshot("1.9");
    head.name.purpose = Purpose::Orphan;
    head
}

/// n1 died, n2 went on from 1.6 in epoch 2; n1 came back and set aside what it had until 1.9.
fn diverged() -> World {
    let mut world = World::web(&[2, 3]);
    world.fence(1);
    let (base, cause) = (Some(snapshot("1.6")), AssignCause::Failover { loss: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    let node = world.cluster.nodes[&NodeId(1)].clone();
    let (addresses, facts) = (node.addresses, node.facts);
    world.done(Command::RegisterNode {
        node: NodeId(1),
        boot: BootId(2),
        addresses,
        facts,
        seal: None,
        again: false,
        seen: None,
    });
    world.done(Command::GrainStarted { grain, epoch: Epoch(2), at: world.now.wall, seen: None });
    world.done(Command::OrphanKept {
        grain,
        orphan_epoch: Epoch(1),
        node: NodeId(1),
        base: Some(snapshot("1.6").guid),
        head: aside(),
        newer: Bytes(2048),
        used: Bytes(9000),
        seen: None,
    });
    world
}

fn promote() -> Work {
    Work::Promote { grain: WEB, epoch: Epoch(1), node: NodeId(1) }
}

fn discard() -> Work {
    Work::Discard { of: WEB, epoch: Epoch(1), node: NodeId(1), by: Some("ada".to_owned()) }
}

/// What the leader does next, in words, and what the operation waits for.
fn next(world: &mut World) -> (Vec<String>, Vec<String>) {
    world.observed.refresh(&world.cluster, world.now);
    for heard in world.observed.nodes.values_mut() {
        heard.last = world.now.boot;
    }
    let plan = lead(&world.cluster, &world.observed, world.now);
    let of_operation = plan
        .waiting
        .iter()
        .filter(|waiting| matches!(waiting.subject, crate::lead::Subject::Operation(_)));
    let waits = of_operation.map(|waiting| waiting.reason.to_string()).collect();
    let commands = plan.commands.iter().map(ToString::to_string);
    let commands =
        commands.filter(|command| !command.contains("copies") && !command.contains("the copy"));
    (commands.collect(), waits)
}

/// Does what the leader says.
fn follow(world: &mut World) {
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    for command in plan.commands {
        world.done(command);
    }
}

fn hear(world: &mut World) {
    for number in [1, 2, 3] {
        world.hear(number, [].into());
        let boot = world.cluster.nodes[&NodeId(number)].boot.unwrap();
        world.observed.nodes.get_mut(&NodeId(number)).unwrap().boot = boot;
    }
}

fn state(world: &World) -> OperationState {
    world.cluster.operations.values().last().unwrap().state
}

#[test]
fn what_was_set_aside_becomes_the_head_by_a_planned_change_of_owner() {
    let mut world = diverged();
    hear(&mut world);
    let operation = world.begin(promote());
    assert_eq!(next(&mut world).0, [format!("stop grain {WEB} for its move")]);
    follow(&mut world);
    assert!(matches!(world.the(WEB).stage, Stage::Quiescing { to: NodeId(1), .. }));
    // Its owner freezes what it has and lets go: that is what makes it safe, and nothing else.
    let give = |epoch| Command::AssignGrain {
        grain: WEB,
        epoch,
        to: NodeId(1),
        base: Some(aside()),
        cause: AssignCause::Promote { operation },
    };
    world.refused(give(Epoch(2)));
    let quiesced = world.cluster.index;
    let Stage::Quiescing { ordered, .. } = world.the(WEB).stage else { panic!("{quiesced}") };
    world.done(Command::GrainReleased {
        grain: WEB,
        epoch: Epoch(2),
        operation,
        last: snapshot("2.12"),
        stopping: world.now.wall,
        quiesced: ordered,
    });
    world.wait(1_000);
    follow(&mut world);
    let web = world.the(WEB);
    assert_eq!((web.epoch, web.owner), (Epoch(3), Some(NodeId(1))));
    assert!(matches!(web.stage, Stage::Landing { from: NodeId(2), .. }));
    // What was set aside is on the line now, and what n2 had is not.
    for (head, is_on) in [("1.6", true), ("1.8", true), ("1.10", false), ("2.7", false)] {
        assert_eq!(on_main_line(web, &snapshot(head)), is_on, "{head}");
    }
    assert!(on_main_line(web, &aside()), "the end of it too");
    world.done(Command::GrainStarted {
        grain: WEB,
        epoch: Epoch(3),
        at: world.now.wall,
        seen: None,
    });
    world.done(Command::OrphanGone {
        grain: WEB,
        orphan_epoch: Epoch(1),
        node: NodeId(1),
        head_again: true,
        seen: None,
    });
    follow(&mut world);
    let operation = &world.cluster.operations[&operation];
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(
        operation.summary.message,
        "grain web goes on with what was set aside on n1; what it had until then is set aside on n2"
    );
    assert!(world.cluster.orphans.is_empty());
}

#[test]
fn an_owner_that_is_surely_dead_needs_not_let_go_and_one_that_is_only_silent_must() {
    let mut world = diverged();
    hear(&mut world);
    let (node, boot, last_heard) = (NodeId(2), BootId(1), world.now.wall);
    world.done(Command::SuspectNode { node, boot, last_heard });
    assert!(matches!(
        world.refused(Command::StartOperation {
            operation: OperationId(77),
            work: promote(),
            text: None
        }),
        Refusal::OwnerGone { .. }
    ));
    for tick in 1..=world.cluster.timing().ticks {
        world.done(Command::TickNode { node, boot, tick });
    }
    world.done(Command::FenceNode { node, boot });
    let operation = world.begin(promote());
    follow(&mut world);
    let web = world.the(WEB);
    assert_eq!((web.epoch, web.owner), (Epoch(3), Some(NodeId(1))));
    assert_eq!(web.stage.operation(), Some(operation));
}

#[test]
fn while_its_node_is_away_each_of_them_waits_and_says_so() {
    let away = "node n1 is away, and what was set aside lies there";
    for work in [promote(), discard()] {
        let mut world = diverged();
        hear(&mut world);
        world.done(Command::LeaveNode { node: NodeId(1), boot: BootId(2) });
        let operation = world.begin(work.clone());
        assert_eq!(next(&mut world), (vec![], vec![away.to_owned()]), "{work:?}");
        // Given up, everything is as it was.
        world.done(Command::CancelOperation { operation });
        follow(&mut world);
        assert_eq!(state(&world), OperationState::Cancelled, "{work:?}");
        assert_eq!(world.cluster.orphans[&KEY].discard, None);
        assert_eq!(world.the(WEB).operation, None);
    }
    let mut world = diverged();
    hear(&mut world);
    world.done(Command::LeaveNode { node: NodeId(1), boot: BootId(2) });
    fork(&mut world).unwrap();
    assert_eq!(next(&mut world).1, [away]);
}

fn fork(world: &mut World) -> Result<(), Refusal> {
    let work = Work::Fork { grain: GrainId(9), of: WEB, epoch: Epoch(1), node: NodeId(1) };
    let (operation, text) = (OperationId(99), Some(text("web-2")));
    world.try_apply(Command::StartOperation { operation, work, text }).map(|_| ())
}

#[test]
fn a_fork_is_a_new_grain_where_its_data_lie_and_the_orphan_stays() {
    let mut world = diverged();
    hear(&mut world);
    fork(&mut world).unwrap();
    let new = world.the(GrainId(9));
    assert_eq!((new.owner, new.epoch), (Some(NodeId(1)), Epoch(1)));
    let stage = Stage::Cloning {
        operation: OperationId(99),
        from: WEB,
        snapshot: Some(aside().guid),
        orphan: Some(Epoch(1)),
    };
    assert_eq!(new.stage, stage);
    // Until it has its data nothing else is done with them.
    let busy = Command::StartOperation { operation: OperationId(5), work: discard(), text: None };
    assert!(matches!(world.refused(busy.clone()), Refusal::InUse { .. }));
    world.done(Command::GrainBorn { grain: GrainId(9), epoch: Epoch(1) });
    world.done(Command::GrainStarted {
        grain: GrainId(9),
        epoch: Epoch(1),
        at: world.now.wall,
        seen: None,
    });
    follow(&mut world);
    assert_eq!(world.cluster.operations[&OperationId(99)].state, OperationState::Succeeded);
    assert!(world.cluster.orphans.contains_key(&KEY));
    world.done(busy);
}

#[test]
fn what_is_discarded_goes_when_its_node_says_so_and_who_wanted_it_is_written_down() {
    let mut world = diverged();
    hear(&mut world);
    let operation = world.begin(discard());
    assert_eq!(next(&mut world), (vec![], vec!["n1 removes it".to_owned()]));
    let cancel = world.refused(Command::CancelOperation { operation });
    assert!(cancel.to_string().ends_with("what is removed does not come back"), "{cancel}");
    world.done(Command::OrphanGone {
        grain: WEB,
        orphan_epoch: Epoch(1),
        node: NodeId(1),
        head_again: false,
        seen: None,
    });
    assert_eq!(state(&world), OperationState::Succeeded);
    assert!(world.cluster.orphans.is_empty());
    let told: Vec<&str> =
        world.cluster.events.values().map(|event| event.message.as_str()).collect();
    for expected in [
        "what node n1 kept aside of grain web, epoch 1, is removed because a person wants that (ada)",
        "what node n1 kept aside of grain web, epoch 1, is removed for good: 2.0 KiB that nobody else had",
    ] {
        assert!(told.contains(&expected), "{told:#?}");
    }
}

#[test]
fn one_thing_at_a_time_and_only_what_is_there() {
    let start = |work| Command::StartOperation { operation: OperationId(5), work, text: None };
    let mut world = diverged();
    hear(&mut world);
    for work in [
        Work::Promote { grain: WEB, epoch: Epoch(2), node: NodeId(1) },
        Work::Discard { of: WEB, epoch: Epoch(1), node: NodeId(2), by: None },
    ] {
        assert!(matches!(world.refused(start(work)), Refusal::NotFound { .. }));
    }
    world.begin(discard());
    for work in [promote(), discard()] {
        assert!(matches!(world.refused(start(work)), Refusal::InUse { .. }));
    }
    assert!(matches!(fork(&mut world), Err(Refusal::InUse { .. })));
    // On the disks of a node that is no member it is out of reach.
    let mut world = diverged();
    world.cluster.orphans.get_mut(&KEY).unwrap().left_on = Some("n1".parse().unwrap());
    for work in [promote(), discard()] {
        assert!(matches!(world.refused(start(work)), Refusal::NodeUnfit { .. }));
    }
}

#[test]
fn a_dry_run_says_what_becomes_what_and_how_much_newer_it_is() {
    let mut world = diverged();
    hear(&mut world);
    world.hear(2, [(WEB, data("2.12", true, Epoch(2)))].into());
    world.now.wall = Timestamp(1_000_060_000);
    for heard in world.observed.nodes.values_mut() {
        (heard.wall, heard.received) = (world.now.wall, world.now.wall);
    }
    let orphan = world.cluster.orphans[&KEY].clone();
    let (cluster, observed, now) = (&world.cluster, &world.observed, world.now);
    let plan = preview::promote(cluster, observed, now, world.the(WEB), &orphan);
    assert_eq!(
        plan.steps,
        [
            "stop grain web on node n2 and freeze its last state",
            "set aside on node n2 what it has now: everything that was written since 1970-01-12T13:46:46.000Z; it ends 51 s later than what takes its place",
            "set aside on n3 what the copies there have of that",
            "make what node n1 has kept aside its head, epoch 3: the state of 1970-01-12T13:46:49.000Z, with 2.0 KiB that nobody else has",
            "start it on node n1",
            "make its copies anew; until then only node n1 has these data",
        ]
    );
    assert_eq!(plan.refused, None);
    let plan = preview::discard(cluster, observed, now, &orphan);
    assert_eq!(
        plan.steps,
        [
            "remove for good what node n1 has kept aside of grain web, epoch 1: its state of 1970-01-12T13:46:49.000Z",
            "2.0 KiB that nobody else has are lost",
            "about 8.8 KiB become free on node n1",
        ]
    );
    let plan = preview::fork(cluster, observed, now, &orphan, &text("web"));
    assert_eq!(plan.refused.as_deref(), Some("there is a grain `web` already"));
}
