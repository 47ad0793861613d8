//! Table tests of needs: what is said of an operation that does not move, when, and how often.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, Epoch, NodeId};
use scrap_schema::operation::{Need, Phase, Work};
use scrap_schema::unit::Bytes;

use crate::fixture::{WEB, World, copy_seen, data};
use crate::lead::lead;

/// What the leader would write down now.
fn said(world: &mut World) -> Vec<Need> {
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let needs = plan.commands.into_iter().filter_map(|command| {
        let Command::OperationNeeds { need, .. } = command else { return None };
        Some(need)
    });
    needs.collect()
}

/// The same, and it is written down.
fn noted(world: &mut World) -> Vec<Need> {
    let needs = said(world);
    for need in &needs {
        let operation = world.cluster.operations.values().find(|it| !it.state.is_final()).unwrap();
        let phase = operation.phases.last().unwrap().phase;
        let operation = operation.id;
        world.done(Command::OperationNeeds { operation, phase, need: need.clone() });
    }
    needs
}

/// Time passes and every node goes on saying what it said.
fn wait(world: &mut World, minutes: u64) {
    world.wait(minutes * 60_000);
    for heard in world.observed.nodes.values_mut() {
        heard.last = world.now.boot;
        heard.wall = world.now.wall;
    }
}

/// Nobody can take the grain, and a move was asked for.
fn nowhere() -> World {
    let mut world = World::web(&[2]);
    for number in [1, 2, 3] {
        world.hear(number, [].into());
    }
    for number in [2, 3] {
        world.done(Command::SetCordon { node: NodeId(number), cordoned: true });
    }
    world.begin(Work::Migrate { grain: WEB, to: None });
    world.observed.refresh(&world.cluster, world.now);
    world
}

#[test]
fn after_a_quarter_of_an_hour_it_is_said_what_is_missing_and_what_to_type_once() {
    let mut world = nowhere();
    wait(&mut world, 14);
    assert_eq!(noted(&mut world), []);
    wait(&mut world, 1);
    let needs = noted(&mut world);
    let [need] = needs.as_slice() else { panic!("{needs:?}") };
    assert_eq!(need.kind, "no-place");
    assert_eq!(need.what, "no node can take it: n2 is cordoned; n3 is cordoned");
    assert_eq!(need.look, "scrapctl place web");
    let cancel = need.cancel.clone().unwrap();
    assert!(cancel.starts_with("scrapctl op cancel "), "{cancel}");
    // It is in the state and among the events, and not said again.
    let operation = world.cluster.operations.values().last().unwrap();
    assert_eq!(operation.needs.as_ref(), Some(need));
    let last = world.cluster.events.values().last().unwrap();
    let text = &last.message;
    assert!(
        text.starts_with("migrate web has not moved on for long: no node can take it"),
        "{text}"
    );
    wait(&mut world, 60);
    assert_eq!(noted(&mut world), []);
}

#[test]
fn another_reason_is_said_anew_and_a_new_phase_forgets_it() {
    let mut world = nowhere();
    wait(&mut world, 15);
    assert_eq!(noted(&mut world).len(), 1);
    world.done(Command::SuspectNode {
        node: NodeId(1),
        boot: BootId(1),
        last_heard: world.now.wall,
    });
    let kinds: Vec<String> = noted(&mut world).into_iter().map(|need| need.kind).collect();
    assert_eq!(kinds, ["owner-silent"]);
    let operation = world.cluster.operations.values().last().unwrap().id;
    world.done(Command::EnterPhase { operation, phase: Phase::Warm });
    assert_eq!(world.cluster.operations[&operation].needs, None);
    // Its clock begins with the phase.
    assert_eq!(noted(&mut world), []);
    // What is said of a phase that is over is out of date.
    let need = Need { kind: String::new(), what: String::new(), look: String::new(), cancel: None };
    world.refused(Command::OperationNeeds { operation, phase: Phase::Prepare, need });
}

#[test]
fn a_new_leader_counts_by_the_wall_clock_on() {
    let mut world = nowhere();
    wait(&mut world, 14);
    world.observed.marks.clear();
    wait(&mut world, 1);
    assert_eq!(said(&mut world).len(), 1);
}

#[test]
fn a_copy_that_is_on_its_way_needs_nobody() {
    let mut world = World::web(&[2]);
    let operation = world.begin(Work::Migrate { grain: WEB, to: Some(NodeId(3)) });
    world.done(Command::BeginMigration { grain: WEB, epoch: Epoch(1), operation, to: NodeId(3) });
    for (sending, said_of_it) in [(true, 0), (false, 1)] {
        let mut world = world.clone();
        let mut report = data("1.1", true, Epoch(1));
        let mut copy = copy_seen("1.1", world.now.wall, 900 << 30);
        copy.sending = sending.then_some((Bytes(1), Bytes(2)));
        report.copies.insert(NodeId(3), copy);
        world.hear(1, [(WEB, report)].into());
        world.hear(2, [].into());
        world.hear(3, [].into());
        // The switch itself is made after ten minutes; it is not committed here.
        wait(&mut world, 9);
        world.observed.refresh(&world.cluster, world.now);
        wait(&mut world, 6);
        assert_eq!(said(&mut world).len(), said_of_it, "{sending}");
    }
}
