//! Reports that come late, or for the second time: nothing that was decided since is taken back by them.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::operation::Work;
use scrap_schema::unit::Bytes;

use super::AT;
use crate::cluster::Stage;
use crate::fixture::{WEB, World, new_node, snapshot};
use scrap_schema::node::NodeRole;

const GRAIN: GrainId = WEB;
const EPOCH: Epoch = Epoch(1);

fn now(world: &World) -> Option<u64> {
    Some(world.cluster.index)
}

fn disarm() -> Command {
    Command::Disarm { node: None, until: None, by: "kim".to_owned() }
}

#[test]
fn a_stop_that_was_seen_before_a_restart_is_not_its_stop() {
    let mut world = World::web(&[2]);
    let seen = now(&world);
    let operation = world.begin(Work::Restart { grain: GRAIN });
    let stopped = |seen| Command::GrainStopped { grain: GRAIN, epoch: EPOCH, at: AT, seen };
    world.refused(stopped(seen));
    assert_eq!(world.the(GRAIN).stage, Stage::Restarting { operation: Some(operation) });
    let seen = now(&world);
    world.done(stopped(seen));
    assert_eq!(world.the(GRAIN).stage, Stage::Settled);
}

#[test]
fn a_start_that_was_seen_before_a_stop_does_not_count_after_it() {
    let mut world = World::web(&[2]);
    let seen = now(&world);
    world.done(Command::GrainStopped { grain: GRAIN, epoch: EPOCH, at: AT, seen });
    let started = |seen| Command::GrainStarted { grain: GRAIN, epoch: EPOCH, at: AT, seen };
    world.refused(started(seen));
    assert_eq!(world.the(GRAIN).started, None);
    let seen = now(&world);
    world.done(started(seen));
    // What says nothing of it is of an older version.
    world.done(Command::GrainStopped { grain: GRAIN, epoch: EPOCH, at: AT, seen: None });
}

#[test]
fn what_is_handed_over_does_not_start() {
    let mut world = World::web(&[2]);
    let operation = world.begin(Work::Restart { grain: GRAIN });
    let (to, last, from, orphan) = (NodeId(2), snapshot("1.9#"), GrainId(9), None);
    for stage in [
        Stage::Quiescing { to, operation, ordered: 0 },
        Stage::Released { to, operation, last: last.clone(), stopping: AT },
        Stage::Restarting { operation: Some(operation) },
        Stage::Restoring { operation, snapshot: last.guid },
        Stage::Cloning { operation, from, snapshot: None, orphan },
    ] {
        let grain = world.cluster.grains.get_mut(&GRAIN).unwrap();
        (grain.started, grain.stage) = (None, stage);
        // Whoever says so, and however much of the log it has.
        let seen = now(&world);
        world.refused(Command::GrainStarted { grain: GRAIN, epoch: EPOCH, at: AT, seen });
    }
}

#[test]
fn only_what_is_in_the_trash_is_removed_for_good() {
    let mut world = World::web(&[2]);
    let seen = now(&world);
    world.done(Command::GrainStopped { grain: GRAIN, epoch: EPOCH, at: AT, seen });
    world.refused(Command::PurgeGrain { grain: GRAIN, if_index: None });
    assert!(world.cluster.grains.contains_key(&GRAIN));
}

#[test]
fn what_ran_under_a_lease_before_others_needed_none_is_not_armed_by_that() {
    let changes: [&dyn Fn(&mut World); 3] = [
        &|world| {
            world.done(disarm());
            world.done(Command::Arm { node: None, by: None });
        },
        &|world| {
            world.done(Command::Disarm { node: Some(NodeId(1)), until: None, by: "kim".into() });
            world.done(Command::Arm { node: Some(NodeId(1)), by: None });
        },
        &|world| {
            world.done(Command::RemoveNode {
                node: NodeId(3),
                if_index: None,
                leave_orphans: false,
            });
            world.join(4, NodeRole::Data);
        },
    ];
    for change in changes {
        let mut world = World::web(&[2]);
        world.done(disarm());
        world.done(Command::UnarmGrain { grain: GRAIN, epoch: EPOCH });
        world.done(Command::Arm { node: None, by: None });
        let armed = |seen| Command::GrainArmed { grain: GRAIN, epoch: EPOCH, seen };
        let seen = now(&world);
        // Meanwhile its owner takes the deadline away, and gives it back only when it knows the last of it.
        change(&mut world);
        world.refused(armed(seen));
        assert!(!world.the(GRAIN).armed);
        let seen = now(&world);
        world.done(armed(seen));
        assert!(world.the(GRAIN).armed);
    }
}

#[test]
fn a_policy_that_changes_twice_arms_nothing_by_what_was_said_before() {
    let mut world = World::web(&[2]);
    world.done(disarm());
    world.done(Command::UnarmGrain { grain: GRAIN, epoch: EPOCH });
    world.done(Command::Arm { node: None, by: None });
    let seen = now(&world);
    let name = world.the(GRAIN).spec.protect.clone();
    let policy = world.cluster.policies[&name].policy.clone();
    let mut other = policy.clone();
    other.failover.mode = scrap_schema::spec::FailoverMode::Manual;
    let put = |policy| Command::PutPolicy { name: name.clone(), if_index: None, policy };
    world.done(put(other));
    world.done(put(policy));
    world.refused(Command::GrainArmed { grain: GRAIN, epoch: EPOCH, seen });
}

#[test]
fn a_registration_that_comes_late_makes_no_start_of_before_count() {
    let mut world = World::nodes(3);
    let (node, facts) = (NodeId(2), new_node(2, NodeRole::Data));
    let register = |boot, seal: &str, again, seen| Command::RegisterNode {
        node,
        boot: BootId(boot),
        addresses: facts.addresses.clone(),
        facts: facts.facts.clone(),
        seal: Some(seal.to_owned()),
        again,
        seen,
    };
    let before = now(&world);
    world.done(register(7, "a", false, before));
    let after = now(&world);
    world.done(register(8, "b", true, after));
    world.refused(register(7, "a", false, before));
    let known = &world.cluster.nodes[&node];
    assert_eq!((known.boot, known.seal.as_deref()), (Some(BootId(8)), Some("b")));
    // The same one again is known.
    world.done(register(8, "b", true, after));
    world.done(Command::SuspectNode { node, boot: BootId(8), last_heard: AT });
    world.refused(register(8, "b", true, after));
}

#[test]
fn what_was_set_aside_and_is_gone_does_not_come_back_by_an_old_report() {
    let mut world = World::web(&[2]);
    let node = NodeId(2);
    let kept = |seen| Command::OrphanKept {
        grain: GRAIN,
        orphan_epoch: EPOCH,
        node,
        base: None,
        head: snapshot("1.3"),
        newer: Bytes(1),
        used: Bytes(2),
        seen,
    };
    let gone = |seen| Command::OrphanGone {
        grain: GRAIN,
        orphan_epoch: EPOCH,
        node,
        head_again: true,
        seen,
    };
    let first = now(&world);
    world.done(kept(first));
    let second = now(&world);
    world.done(gone(second));
    world.refused(kept(first));
    assert!(world.cluster.orphans.is_empty());
    let third = now(&world);
    world.done(kept(third));
    world.refused(gone(second));
    assert_eq!(world.cluster.orphans.len(), 1);
}
