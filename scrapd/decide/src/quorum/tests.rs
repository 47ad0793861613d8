//! What people are told about the next loss.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use scrap_schema::command::Command;
use scrap_schema::id::{BootId, GrainId, NodeId};
use scrap_schema::node::NodeRole;

use super::{Quorum, advice, if_lost};
use crate::fixture::{WEB, World, copy};

const MAIL: GrainId = GrainId(2);
const BLOG: GrainId = GrainId(3);

/// So many data nodes, and a witness if there should be one.
fn nodes(data: u64, witness: bool) -> World {
    let mut world = World::nodes(data);
    if witness {
        world.join(data + 1, NodeRole::Witness);
    }
    world
}

/// `web` on n1 with a copy on n2, `mail` the other way round, `blog` on n2 alone.
fn with_grains(mut world: World) -> World {
    world.grain(WEB, "web", 1, &[2]);
    world.grain(MAIL, "mail", 2, &[1]);
    world.grain(BLOG, "blog", 2, &[]);
    world
}

fn reported(world: &mut World) {
    world.observed.since = world.now.boot;
    for node in world.cluster.nodes.keys().map(|node| node.0).collect::<Vec<_>>() {
        let report = match node {
            1 => [(MAIL, copy("1.5"))].into(),
            2 => [(WEB, copy("1.5"))].into(),
            _ => [].into(),
        };
        world.hear(node, report);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a golden is written where it is used")]
#[track_caller]
fn check(mut world: World, voters: u64, expected: Expect) {
    reported(&mut world);
    let voters: BTreeSet<NodeId> = (1..=voters).map(NodeId).collect();
    let quorum = Quorum::of(&world.cluster, &voters);
    let leased = world.cluster.grains.values().filter(|it| it.armed).count();
    let mut text = format!("{quorum}\n{}\n", quorum.next_loss(leased));
    for (node, lost) in if_lost(&world.cluster, &world.observed, &voters, world.now) {
        writeln!(text, "{}: {lost}", world.cluster.node_name(node)).unwrap();
    }
    text.extend(advice(&world.cluster, &voters).map(|advice| format!("hint: {advice}\n")));
    expected.assert_eq(&text);
}

#[test]
fn one_node() {
    let mut world = nodes(1, false);
    world.grain(WEB, "web", 1, &[]);
    check(
        world,
        1,
        expect![[r#"
        1 of 1 voter answers, 1 is needed
        the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on
        n1: nothing can be changed until it is back; web is down until it is back
    "#]],
    );
}

#[test]
fn two_nodes() {
    check(
        with_grains(nodes(2, false)),
        1,
        expect![[r#"
        1 of 1 voter answers, 1 is needed
        the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on
        n1: nothing can be changed until it is back; web is down until it is back
        n2: control goes on; mail waits for your word; blog is down until it is back
        hint: a third voter lets grains start elsewhere by themselves; a small machine that runs nothing is enough: `role = "witness"` in its configuration, then `scrapd join`
    "#]],
    );
}

#[test]
fn two_nodes_and_a_witness() {
    check(
        with_grains(nodes(2, true)),
        3,
        expect![[r#"
        3 of 3 voters answer, 2 are needed
        one more voter may be lost; then no other
        n1: control goes on; web starts elsewhere by itself
        n2: control goes on; mail starts elsewhere by itself; blog is down until it is back
        n3: control goes on
    "#]],
    );
}

#[test]
fn two_nodes_and_a_dead_witness() {
    let mut world = with_grains(nodes(2, true));
    world.fence(3);
    check(
        world,
        3,
        expect![[r#"
        2 of 3 voters answer, 2 are needed
        if one more voter is lost, nothing can be changed until it is back; 3 grains that need the lease stop, the others go on
        n1: nothing can be changed until it is back; web is down until it is back; mail, blog stop too: nobody renews their lease
        n2: nothing can be changed until it is back; mail, blog are down until it is back; web stops too: nobody renews its lease
        hint: bring n3 back; if it never comes back: `scrapctl node rm n3`, and let another machine join
    "#]],
    );
}

#[test]
fn no_majority() {
    let mut world = with_grains(nodes(3, false));
    world.fence(2);
    world.fence(3);
    check(
        world,
        3,
        expect![[r#"
        1 of 3 voters answers, 2 are needed
        nothing can be changed until one more voter comes back; 3 grains that need the lease stand still, the others go on
        n1: nothing can be changed until it is back; web is down until it is back
        hint: bring back n2, n3; if they are lost for good, `scrapd recover` makes a new beginning from a node that is left
    "#]],
    );
}

#[test]
fn five_nodes_and_one_that_has_gone() {
    let mut world = with_grains(nodes(5, false));
    let (node, boot) = (NodeId(5), BootId(1));
    world.done(Command::LeaveNode { node, boot });
    check(
        world,
        5,
        expect![[r#"
        4 of 5 voters answer, 3 are needed
        one more voter may be lost; then no other
        n1: control goes on; web starts elsewhere by itself
        n2: control goes on; mail starts elsewhere by itself; blog is down until it is back
        n3: control goes on
        n4: control goes on
        hint: bring n5 back; if it never comes back: `scrapctl node rm n5`, and let another machine join
    "#]],
    );
}
