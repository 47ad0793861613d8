//! Table tests of who votes. Nodes are a word each: `1` online, `1-` dead for long, `1?` dead for a moment, `1~` online and behind,
//! `1w` a witness, `1.` a member whose daemon has never started, `1x` removed.

use std::collections::BTreeSet;

use scrap_schema::command::Command;
use scrap_schema::id::NodeId;
use scrap_schema::node::NodeRole;
use scrap_schema::operation::Work;

use super::{choose, heir};
use crate::fixture::{World, new_node};

struct Votes {
    world: World,
    caught_up: BTreeSet<NodeId>,
}

fn world(nodes: &str) -> Votes {
    let mut world = World::nodes(0);
    let mut caught_up = BTreeSet::new();
    let words: Vec<(u64, &str)> =
        nodes.split_whitespace().map(|word| (word[..1].parse().unwrap(), &word[1..])).collect();
    for (number, mark) in &words {
        let role = if *mark == "w" { NodeRole::Witness } else { NodeRole::Data };
        match *mark {
            "." => drop(world.done(Command::AddNode { node: new_node(*number, role) })),
            _ => world.join(*number, role),
        }
        if *mark != "~" {
            caught_up.insert(NodeId(*number));
        }
    }
    for (number, _) in words.iter().filter(|(_, mark)| *mark == "x") {
        let (node, if_index) = (NodeId(*number), None);
        world.done(Command::RemoveNode { node, if_index, leave_orphans: false });
    }
    words.iter().filter(|(_, mark)| *mark == "-").for_each(|(number, _)| world.fence(*number));
    // One has been silent for ten minutes, the other for nearly so long.
    world.wait(1);
    words.iter().filter(|(_, mark)| *mark == "?").for_each(|(number, _)| world.fence(*number));
    world.wait(599_999);
    Votes { world, caught_up }
}

fn ids(text: &str) -> BTreeSet<NodeId> {
    text.split_whitespace().map(|id| NodeId(id.parse().unwrap())).collect()
}

/// Node 1 leads.
#[track_caller]
fn check(nodes: &str, present: &str, wanted: &str) {
    let Votes { world, caught_up } = world(nodes);
    let chosen = choose(&world.cluster, &ids(present), NodeId(1), &caught_up, world.now);
    assert_eq!(chosen, ids(wanted), "{nodes}, voters {present}");
    let again = choose(&world.cluster, &chosen, NodeId(1), &caught_up, world.now);
    assert_eq!(again, chosen, "{nodes}: chosen again from {wanted}");
}

#[test]
fn one_and_two_nodes_have_one_voter() {
    check("1", "1", "1");
    check("1 2", "1", "1");
    check("1 2w", "1", "1");
}

#[test]
fn three_and_four_nodes_have_three_voters_and_more_have_five() {
    check("1 2 3", "1", "1 2 3");
    check("1 2 3w", "1", "1 2 3");
    check("1 2 3 4", "1 2 3", "1 2 3");
    check("1 2 3 4 5", "1 2 3", "1 2 3 4 5");
    check("1 2 3 4 5 6 7", "1 2 3 4 5", "1 2 3 4 5");
}

#[test]
fn nobody_votes_before_it_is_there_and_has_caught_up() {
    check("1 2 3~", "1", "1");
    check("1 2 3.", "1", "1");
    check("1 2 3?", "1", "1");
    check("1 2 3 4~ 5", "1 2 3", "1 2 3");
}

#[test]
fn a_witness_votes_before_others_and_drives_nobody_out() {
    check("1 2 3 4w", "1", "1 2 4");
    check("1 2 3 4w", "1 2 3", "1 2 3");
    check("1 2 3- 4 5 6 7w", "1 2 3 4 5", "1 2 4 5 7");
}

#[test]
fn a_voter_that_is_gone_for_long_is_replaced_if_somebody_can_come() {
    check("1 2 3- 4", "1 2 3", "1 2 4");
    check("1 2 3? 4", "1 2 3", "1 2 3");
    check("1 2 3- 4~", "1 2 3", "1 2 3");
    check("1 2 3-", "1 2 3", "1 2 3");
    // Five are wanted and cannot be: the dead one is replaced all the same.
    check("1 2 3- 4 5-", "1 2 3", "1 2 4");
    check("1 2 3- 4- 5 6", "1 2 3 4 5", "1 2 3 5 6");
    check("1 2 3- 4- 5 6 7", "1 2 3 4 5", "1 2 5 6 7");
}

#[test]
fn the_count_never_falls_by_itself() {
    check("1 2- 3-", "1 2 3", "1 2 3");
    check("1 2 3 4- 5-", "1 2 3 4 5", "1 2 3 4 5");
    // Only because a person has removed members.
    check("1 2 3x 4 5", "1 2 3 4 5", "1 2 4");
    check("1 2 3x", "1 2 3", "1");
}

#[test]
fn the_leader_stays_and_a_change_that_was_left_half_done_ends_odd() {
    check("1 2 3 4", "1 2 3 4", "1 2 3");
    check("1 2- 3 4", "1 2 3 4", "1 3 4");
}

#[test]
fn a_leader_that_is_being_emptied_has_an_heir() {
    let Votes { mut world, caught_up } = world("1 2 3~ 4");
    let next = |world: &World, voters| {
        heir(&world.cluster, &ids(voters), NodeId(1), &caught_up).map(|node| node.0)
    };
    assert_eq!(next(&world, "1 2 3"), None, "nobody empties it");
    world.begin(Work::Drain { node: NodeId(1) });
    assert_eq!(next(&world, "1 2 3"), Some(2));
    assert_eq!(next(&world, "1 3 4"), Some(4), "whoever is behind would hold everything up");
    assert_eq!(next(&world, "1"), None, "there is nobody else");
    world.fence(2);
    assert_eq!(next(&world, "1 2 3"), None, "nobody who is gone");
}
