//! Table tests of the lease.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::node::{RenewalAnswer, Verdict};
use scrap_schema::time::BootTime;
use scrap_schema::timing::Timing;

use super::{Lease, Tenant, answer, attested, brake};
use crate::cluster::Liveness;
use crate::fixture::World;
use crate::lead::lead;

fn held(granted: Option<u64>, now: u64) -> (bool, Option<u64>, Option<u64>) {
    let (lease, timing) = (Lease { granted: granted.map(BootTime) }, Timing::default());
    let now = BootTime(now);
    let next = lease.next_deadline(timing, now).map(|at| at.0);
    (lease.is_held(timing, now), lease.deadline(timing).map(|at| at.0), next)
}

#[test]
fn a_lease_counts_from_sending_and_ends_before_it_kills() {
    assert_eq!(held(None, 0), (false, None, None));
    assert_eq!(held(Some(1_000), 1_000), (true, Some(10_000), Some(7_000)));
    assert_eq!(held(Some(1_000), 6_999), (true, Some(10_000), Some(7_000)));
    assert_eq!(held(Some(1_000), 7_000), (false, Some(10_000), None));
    assert_eq!(held(Some(1_000), 99_000), (false, Some(10_000), None));
}

#[test]
fn a_grant_counts_when_this_node_knows_what_the_leader_knew() {
    let answer = |verdict, sent, index| RenewalAnswer {
        sent: BootTime(sent),
        verdict,
        index,
        wants_full: false,
    };
    let granted = |tenant: &Tenant| tenant.lease().granted.map(|granted| granted.0);
    let mut tenant = Tenant::default();
    for (sent, index) in [(1_000, 5), (2_000, 7), (1_500, 7), (3_000, 9)] {
        tenant.answered(&answer(Verdict::Granted, sent, index), BootTime(9_000));
    }
    assert_eq!(granted(&tenant), None);
    for (applied, expected, longer) in
        [(4, None, false), (5, Some(1_000), true), (8, Some(2_000), true), (8, Some(2_000), false)]
    {
        assert_eq!(tenant.applied(applied), longer, "{applied}");
        assert_eq!(granted(&tenant), expected, "{applied}");
    }
    // One that was overtaken makes it no shorter, and a refusal nothing.
    tenant.applied(9);
    tenant.answered(&answer(Verdict::Granted, 500, 9), BootTime(9_000));
    for verdict in [Verdict::Suspected, Verdict::Unregistered, Verdict::Removed] {
        tenant.answered(&answer(verdict, 8_000, 9), BootTime(9_000));
    }
    assert!(!tenant.applied(99));
    assert_eq!(granted(&tenant), Some(3_000));
    // A node that stands far behind keeps the first ones and takes no more.
    for index in 100..200 {
        tenant.answered(&answer(Verdict::Granted, index * 100, index), BootTime(90_000));
    }
    assert!(tenant.applied(199));
    assert_eq!(granted(&tenant), Some(13_100));
}

#[test]
fn nothing_is_answered_without_a_majority() {
    let world = World::nodes(3);
    let said = |confirmed| answer(&world.cluster, &world.observed, NodeId(1), BootId(1), confirmed);
    assert_eq!(said(None), None);
    assert_eq!(said(Some(world.cluster.index + 1)), None, "it knows less than was committed");
    assert_eq!(said(Some(world.cluster.index)), Some(Verdict::Granted));
}

fn says(world: &World, node: u64, boot: u64) -> Verdict {
    let index = Some(world.cluster.index);
    answer(&world.cluster, &world.observed, NodeId(node), BootId(boot), index).unwrap()
}

#[test]
fn what_is_about_to_be_suspected_is_granted_nothing() {
    let mut world = World::nodes(3);
    let (node, boot) = (NodeId(3), BootId(1));
    let suspects = Command::SuspectNode { node, boot, last_heard: world.now.wall };
    let says = |world: &World, node, boot| {
        let index = Some(world.cluster.index);
        answer(&world.cluster, &world.observed, NodeId(node), BootId(boot), index)
    };
    world.observed.decided(std::slice::from_ref(&suspects));
    // It speaks in the last moment: what would be told of a loss counts from before that.
    assert_eq!(says(&world, 3, 1), None);
    assert_eq!(says(&world, 3, 2), Some(Verdict::Unregistered));
    assert_eq!(says(&world, 2, 1), Some(Verdict::Granted));
    // Nobody knows what has become of that: it is decided again, although the node has spoken.
    world.hear(3, Default::default());
    let again = |world: &World| {
        let plan = lead(&world.cluster, &world.observed, world.now);
        let mut commands = plan.commands.into_iter();
        commands.any(|it| matches!(it, Command::SuspectNode { node: of, .. } if of == node))
    };
    world.observed.refresh(&world.cluster, world.now);
    assert!(again(&world));
    // Surely not proposed: what it has said counts.
    let mut failed = world.observed.clone();
    failed.not_proposed(&suspects);
    assert!(!failed.suspects(node, boot));
    // Committed, and it registers anew: nobody suspects that start.
    world.done(suspects);
    world.observed.refresh(&world.cluster, world.now);
    assert_eq!(says(&world, 3, 1), Some(Verdict::Suspected));
    assert!(!world.observed.suspects(node, boot));
    assert!(!again(&world));
}

#[test]
fn only_the_registered_start_of_an_online_node_is_granted_a_lease() {
    let mut world = World::nodes(3);
    assert_eq!(says(&world, 1, 1), Verdict::Granted);
    assert_eq!(says(&world, 1, 2), Verdict::Unregistered);
    assert_eq!(says(&world, 9, 1), Verdict::Removed);
    let (node, boot) = (NodeId(3), BootId(1));
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    assert_eq!(says(&world, 3, 1), Verdict::Suspected);
    let mut fenced = World::nodes(3);
    fenced.fence(3);
    assert_eq!(says(&fenced, 3, 1), Verdict::Suspected);
    let mut away = World::nodes(3);
    away.done(Command::LeaveNode { node, boot });
    assert_eq!(says(&away, 3, 1), Verdict::Unregistered);
    world.cluster.nodes.get_mut(&node).unwrap().boot = None;
    assert_eq!(says(&world, 3, 1), Verdict::Unregistered);
}

#[test]
fn what_a_leader_before_has_granted_counts_as_heard() {
    let mut world = World::nodes(3);
    world.hear(1, Default::default());
    world.hear(2, Default::default());
    let sent = world.now.wall;
    // Another one leads by now, and hears what was sent long before it did. What was granted meanwhile it does not know.
    world.wait(20_000);
    world.observed.since = world.now.boot;
    let began = world.now.wall;
    world.wait(5_000);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let heard = |node| {
        let suspects = plan.commands.iter().find_map(|command| {
            let Command::SuspectNode { node: of, last_heard, .. } = command else { return None };
            (of.0 == node).then_some(*last_heard)
        });
        suspects.unwrap()
    };
    assert_ne!(heard(1), sent);
    assert_eq!((heard(1), heard(2), heard(3)), (began, began, world.now.wall));
    // What came after it began is what it says.
    world.hear(1, Default::default());
    let sent = world.now.wall;
    world.wait(5_000);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let of_one = Command::SuspectNode { node: NodeId(1), boot: BootId(1), last_heard: sent };
    assert!(plan.commands.contains(&of_one), "{:?}", plan.commands);
}

#[test]
fn more_than_half_of_the_data_nodes_silent_is_the_brake() {
    for (nodes, silent, expected) in [
        (1, 0, None),
        (2, 1, None),
        (2, 2, Some((2, 2))),
        (3, 1, None),
        (3, 2, Some((2, 3))),
        (4, 2, None),
        (4, 3, Some((3, 4))),
        (5, 3, Some((3, 5))),
    ] {
        let mut world = World::nodes(nodes);
        (1..=silent).for_each(|number| world.fence(number));
        assert_eq!(brake(&world.cluster), expected, "{silent} of {nodes}");
    }
}

#[test]
fn a_goodbye_is_no_silence() {
    let mut world = World::nodes(3);
    world.fence(1);
    world.done(Command::LeaveNode { node: NodeId(2), boot: BootId(1) });
    assert_eq!(brake(&world.cluster), None);
}

/// The commands about nodes that a leader decides on, so long after it began to listen and heard of everybody.
fn after(world: &mut World, ms: u64) -> Vec<String> {
    world.wait(ms);
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    plan.commands.iter().map(ToString::to_string).collect()
}

fn listening() -> World {
    let mut world = World::nodes(3);
    world.observed.since = world.now.boot;
    (1..=3).for_each(|number| world.hear(number, Default::default()));
    world.observed.refresh(&world.cluster, world.now);
    world
}

#[test]
fn silence_is_suspected_then_counted_tick_by_tick_then_fenced() {
    let mut world = listening();
    assert_eq!(after(&mut world, 2_999), Vec::<String>::new());
    world.hear(1, Default::default());
    world.hear(2, Default::default());
    assert_eq!(after(&mut world, 1), ["suspect node 3"]);
    let (node, boot) = (NodeId(3), BootId(1));
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    for tick in 1..=8 {
        (1..=2).for_each(|number| world.hear(number, Default::default()));
        assert_eq!(after(&mut world, 0), Vec::<String>::new(), "tick {tick}");
        (1..=2).for_each(|number| world.hear(number, Default::default()));
        assert_eq!(after(&mut world, 2_000), [format!("tick {tick} of the countdown of node 3")]);
        world.done(Command::TickNode { node, boot, tick });
    }
    (1..=2).for_each(|number| world.hear(number, Default::default()));
    assert_eq!(after(&mut world, 0), ["fence node 3"]);
}

#[test]
fn a_new_leader_counts_from_when_it_began_to_listen() {
    let mut world = World::nodes(3);
    world.observed.since = world.now.boot;
    world.observed.refresh(&world.cluster, world.now);
    assert_eq!(after(&mut world, 2_999), Vec::<String>::new());
    assert_eq!(after(&mut world, 1).len(), 3);
}

#[test]
fn a_node_that_has_just_registered_is_not_silent_yet() {
    let mut world = listening();
    world.wait(60_000);
    (1..=2).for_each(|number| world.hear(number, Default::default()));
    let facts = world.cluster.nodes[&NodeId(3)].facts.clone();
    let addresses = world.cluster.nodes[&NodeId(3)].addresses.clone();
    world.done(Command::RegisterNode {
        node: NodeId(3),
        boot: BootId(2),
        addresses,
        facts,
        seal: None,
        again: false,
        seen: None,
    });
    assert_eq!(after(&mut world, 0), Vec::<String>::new());
    (1..=2).for_each(|number| world.hear(number, Default::default()));
    assert_eq!(after(&mut world, 3_000), ["suspect node 1", "suspect node 2", "suspect node 3"]);
}

#[test]
fn a_guards_word_ends_the_countdown_of_the_start_that_it_is_about() {
    let mut world = World::nodes(3);
    let (node, boot) = (NodeId(3), BootId(2));
    let known = world.cluster.nodes[&node].clone();
    let seal = Some("sealed".to_owned());
    world.done(Command::RegisterNode {
        node,
        boot,
        addresses: known.addresses,
        facts: known.facts,
        seal,
        again: false,
        seen: None,
    });
    let word = |world: &World, boot, seal| attested(&world.cluster, node, boot, seal);
    // As long as nobody waits for it, it changes nothing.
    assert_eq!(word(&world, boot, "sealed"), None);
    world.refused(Command::AttestNode { node, boot });
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    assert_eq!(word(&world, boot, "another"), None);
    assert_eq!(word(&world, BootId(1), "sealed"), None);
    assert_eq!(attested(&world.cluster, NodeId(2), BootId(1), "sealed"), None);
    assert_eq!(attested(&world.cluster, NodeId(9), boot, "sealed"), None);
    world.refused(Command::AttestNode { node, boot: BootId(1) });
    let command = word(&world, boot, "sealed").unwrap();
    assert_eq!(command, Command::AttestNode { node, boot });
    world.done(command.clone());
    assert!(matches!(world.cluster.nodes[&node].liveness, Liveness::Fenced { .. }));
    assert_eq!(word(&world, boot, "sealed"), None);
    world.refused(command);
}

#[test]
fn ticks_out_of_order_and_a_fence_before_the_last_tick_are_refused() {
    let mut world = World::nodes(3);
    let (node, boot) = (NodeId(3), BootId(1));
    world.refused(Command::TickNode { node, boot, tick: 1 });
    world.refused(Command::FenceNode { node, boot });
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    world.refused(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    world.refused(Command::TickNode { node, boot, tick: 2 });
    world.done(Command::TickNode { node, boot, tick: 1 });
    world.refused(Command::TickNode { node, boot, tick: 1 });
    world.refused(Command::TickNode { node, boot: BootId(2), tick: 2 });
    for tick in 2..=7 {
        world.done(Command::TickNode { node, boot, tick });
        world.refused(Command::FenceNode { node, boot });
    }
    world.done(Command::TickNode { node, boot, tick: 8 });
    world.refused(Command::TickNode { node, boot, tick: 9 });
    world.refused(Command::FenceNode { node, boot: BootId(7) });
    world.done(Command::FenceNode { node, boot });
}
