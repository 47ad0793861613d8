//! Table tests of what a leader has heard.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::Span;

use crate::fixture::{WEB, World, copy, copy_seen, data};

#[test]
fn it_is_cold_when_all_that_were_heard_registered_under_this_leader_and_one_was_not() {
    let mut world = World::nodes(3);
    let cold = |world: &World| world.observed.is_cold(&world.cluster, NodeId(3));
    assert!(!cold(&world), "it has not said when it began");
    let last = world.cluster.index;
    world.observed.began = Some(0);
    assert!(!cold(&world), "nobody was heard");
    world.hear(1, Default::default());
    world.hear(2, Default::default());
    assert!(cold(&world));
    let mut before = world.clone();
    before.observed.began = Some(last);
    assert!(!cold(&before), "those that were heard were there before it");
    // One whose lease was not renewed for a while registers again, and was there all the time.
    for number in [1, 2] {
        let node = before.cluster.nodes[&NodeId(number)].clone();
        let (node, addresses, facts) = (node.id, node.addresses, node.facts);
        let (boot, seal, again) = (BootId(7), None, true);
        before.done(Command::RegisterNode {
            node,
            boot,
            addresses,
            facts,
            seal,
            again,
            seen: None,
        });
        before.hear(number, Default::default());
    }
    assert!(!cold(&before), "they were there before it, and registered again");
    world.hear(3, Default::default());
    assert!(!cold(&world), "nobody is missing");
}

#[test]
fn a_renewal_that_was_overtaken_says_nothing() {
    let mut world = World::web(&[2]);
    let late = world.now;
    world.wait(5_000);
    world.hear(2, [(WEB, copy("1.7"))].into());
    let then = world.now;
    world.now.boot = late.boot;
    world.hear(2, [(WEB, copy("1.3"))].into());
    let head = world.observed.report(NodeId(2), WEB).unwrap().data.clone().unwrap().head;
    assert_eq!(head.unwrap().name.seq, 7);
    assert_eq!(world.observed.nodes[&NodeId(2)].last, then.boot);
}

#[test]
fn a_late_renewal_of_an_earlier_registration_makes_nobody_forget_the_present_one() {
    let mut world = World::web(&[2]);
    let (node, present) = (NodeId(2), BootId(1));
    world.hear(2, [(WEB, copy("1.7"))].into());
    let heard = world.observed.nodes[&node].clone();
    let mut late = scrap_schema::node::Renewal {
        node,
        boot: BootId(9),
        sent: world.now.boot,
        wall: world.now.wall,
        usage: Default::default(),
        pool: None,
        network: Vec::new(),
        full: true,
        grains: Default::default(),
    };
    assert!(!world.observed.hear(&late, Some(present), world.now));
    assert!(!world.observed.hear(&late, None, world.now));
    assert_eq!(world.observed.nodes[&node], heard);
    late.boot = present;
    assert!(world.observed.hear(&late, Some(present), world.now));
    assert!(world.observed.nodes[&node].grains.is_empty());
}

#[test]
fn silence_counts_from_the_latest_of_hearing_listening_and_registering() {
    let mut world = World::nodes(2);
    let silence = |world: &World, node: u64| {
        let boot = world.cluster.nodes[&NodeId(node)].boot;
        world.observed.silence(NodeId(node), boot, world.now.boot).ms()
    };
    world.observed.since = BootTime(world.now.boot.0 - 500);
    assert_eq!(silence(&world, 1), 500);
    world.observed.refresh(&world.cluster, world.now);
    assert_eq!(silence(&world, 1), 0);
    world.wait(400);
    world.hear(1, Default::default());
    world.wait(300);
    assert_eq!((silence(&world, 1), silence(&world, 2)), (300, 700));
}

#[test]
fn lag_is_the_owners_age_of_a_copy_and_the_time_since_it_spoke() {
    let mut world = World::web(&[2]);
    let mut report = data("1.5", true, scrap_schema::id::Epoch(1));
    let current_to = Timestamp(world.now.wall.0 - 4_000);
    report.copies.insert(NodeId(2), copy_seen("1.5", current_to, 0));
    world.hear(1, [(WEB, report)].into());
    world.wait(2_500);
    let grain = world.the(WEB);
    assert_eq!(world.observed.lag(grain, NodeId(2), world.now), Some(Span::from_ms(6_500)));
    assert_eq!(world.observed.lag(grain, NodeId(3), world.now), None);
    assert_eq!(world.observed.best_lag(&world.cluster, grain, world.now).unwrap().ms(), 6_500);
}
