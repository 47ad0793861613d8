//! Table tests of what is said of the power of nodes.

use scrap_schema::command::Command;
use scrap_schema::fence::OffBy;
use scrap_schema::id::{BootId, NodeId};

use crate::cluster::{Liveness, Outcome};
use crate::fixture::{World, registration};
use crate::lease::brake;
use crate::refusal::Refusal;

fn off(world: &World, number: u64, boot: u64) -> Command {
    let by = OffBy::Person { by: "kim".to_owned() };
    Command::ConfirmNodeOff { node: NodeId(number), boot: BootId(boot), until: world.now.wall, by }
}

fn suspect(world: &mut World, number: u64) {
    let (node, boot) = (NodeId(number), BootId(1));
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
}

#[test]
fn a_word_about_a_silent_node_ends_its_countdown() {
    let mut world = World::nodes(3);
    suspect(&mut world, 3);
    assert_eq!(world.done(off(&world.clone(), 3, 1)), Outcome::Done);
    let node = &world.cluster.nodes[&NodeId(3)];
    assert!(node.liveness.is_surely_stopped() && node.off.is_some());
    // Said twice it is said once, and the countdown has nothing to count any more.
    assert_eq!(world.done(off(&world.clone(), 3, 1)), Outcome::Unchanged);
    let (node, boot) = (NodeId(3), BootId(1));
    world.refused(Command::TickNode { node, boot, tick: 1 });
    world.refused(Command::FenceNode { node, boot });
}

#[test]
fn a_word_after_the_countdown_or_a_goodbye_is_remembered_too() {
    let mut world = World::nodes(3);
    world.fence(3);
    world.done(off(&world.clone(), 3, 1));
    world.done(Command::LeaveNode { node: NodeId(2), boot: BootId(1) });
    world.done(off(&world.clone(), 2, 1));
    assert!(matches!(world.cluster.nodes[&NodeId(2)].liveness, Liveness::Away { .. }));
    assert!(world.cluster.nodes.values().skip(1).all(|node| node.off.is_some()));
}

#[test]
fn nobody_can_say_it_of_a_node_that_lives_or_of_another_start_of_it() {
    let mut world = World::nodes(3);
    let alive = world.refused(off(&world.clone(), 3, 1));
    assert_eq!(alive.to_string(), "node `n3` is online: its lease is renewed");
    suspect(&mut world, 3);
    assert!(matches!(world.refused(off(&world.clone(), 3, 2)), Refusal::OutOfDate { .. }));
    assert!(matches!(world.refused(off(&world.clone(), 9, 1)), Refusal::NotFound { .. }));
}

#[test]
fn a_node_that_registers_again_is_off_no_more() {
    let mut world = World::nodes(3);
    suspect(&mut world, 3);
    world.done(off(&world.clone(), 3, 1));
    let node = world.cluster.nodes[&NodeId(3)].clone();
    world.done(registration(node.id, BootId(2), node.addresses, node.facts));
    let node = &world.cluster.nodes[&NodeId(3)];
    assert!(node.liveness.is_online() && node.off.is_none());
    // What was said of the start before says nothing of this one.
    world.done(Command::SuspectNode {
        node: NodeId(3),
        boot: BootId(2),
        last_heard: world.now.wall,
    });
    world.refused(off(&world.clone(), 3, 1));
}

#[test]
fn a_node_is_given_time_once_while_it_is_suspected_and_until_it_is_back() {
    let mut world = World::nodes(3);
    let wait_for = |boot| Command::AwaitNode { node: NodeId(3), boot: BootId(boot) };
    world.refused(wait_for(1));
    suspect(&mut world, 3);
    world.refused(wait_for(2));
    assert_eq!(world.done(wait_for(1)), Outcome::Done);
    assert_eq!(world.done(wait_for(1)), Outcome::Unchanged);
    let node = world.cluster.nodes[&NodeId(3)].clone();
    assert_eq!(node.awaited, Some(world.now.wall));
    world.done(registration(node.id, BootId(2), node.addresses, node.facts));
    assert_eq!(world.cluster.nodes[&NodeId(3)].awaited, None);
}

#[test]
fn a_node_that_somebody_has_looked_at_is_no_reason_for_the_brake() {
    let mut world = World::nodes(3);
    (2..=3).for_each(|number| suspect(&mut world, number));
    assert_eq!(brake(&world.cluster), Some((2, 3)));
    world.done(off(&world.clone(), 3, 1));
    assert_eq!(brake(&world.cluster), None);
}
