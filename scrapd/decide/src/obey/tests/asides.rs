//! Table tests of what lies aside on a node: what begins with it, what goes, what is told.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{Epoch, NodeId, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Purpose, Snapshot};
use scrap_schema::unit::Bytes;

use super::super::OrphanFacts;
use super::{head, host, orders, standby};
use crate::cluster::Stage;
use crate::fixture::{WEB, World, line, snapshot};
use crate::obey::HostFacts;

fn end() -> Snapshot {
    let mut head = snapshot("1.9");
    head.name.purpose = Purpose::Orphan;
    head
}

fn facts() -> OrphanFacts {
    let line = line("1.5 1.6 1.8").iter().chain([&end()]).map(|it| it.guid).collect();
    let (head, base) = (end(), Some(snapshot("1.6").guid));
    OrphanFacts { head, base, line, newer: Some(Bytes(7)), used: Bytes(9) }
}

/// n2 went on from 1.6 in epoch 2, n1 has set aside what it had until 1.9.
fn diverged() -> World {
    let mut world = World::web(&[2, 3]);
    world.fence(1);
    let (base, cause) = (Some(snapshot("1.6")), AssignCause::Failover { loss: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    let node = world.cluster.nodes[&NodeId(1)].clone();
    let (addresses, facts_) = (node.addresses, node.facts);
    let boot = scrap_schema::id::BootId(2);
    world.done(Command::RegisterNode {
        node: NodeId(1),
        boot,
        addresses,
        facts: facts_,
        seal: None,
        again: false,
        seen: None,
    });
    world.done(Command::GrainStarted { grain, epoch: Epoch(2), at: world.now.wall, seen: None });
    let facts = facts();
    world.done(Command::OrphanKept {
        grain,
        orphan_epoch: Epoch(1),
        node: NodeId(1),
        base: facts.base,
        head: facts.head,
        newer: Bytes(7),
        used: Bytes(9),
        seen: None,
    });
    world
}

/// A person wanted that to be the head; n2 has let go.
fn promoted() -> World {
    let mut world = diverged();
    let operation = world.begin(Work::Promote { grain: WEB, epoch: Epoch(1), node: NodeId(1) });
    let (grain, epoch) = (WEB, Epoch(2));
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    let Stage::Quiescing { ordered, .. } = world.the(WEB).stage else { panic!("not stopped") };
    world.done(Command::GrainReleased {
        grain,
        epoch,
        operation,
        last: snapshot("2.12"),
        stopping: world.now.wall,
        quiesced: ordered,
    });
    let (base, cause) = (Some(end()), AssignCause::Promote { operation });
    world.done(Command::AssignGrain { grain, epoch, to: NodeId(1), base, cause });
    world
}

fn aside(world: &World) -> HostFacts {
    let mut host = host(world, 1_000);
    host.orphans.insert((WEB, Epoch(1)), facts());
    host
}

#[test]
fn what_becomes_the_head_takes_the_place_of_a_copy_that_has_nothing_else() {
    let world = promoted();
    let take_back = "take back what was set aside of web in epoch 1";
    let set_aside = "keep diverged data of web aside";
    for (here, expected) in [
        (None, take_back),
        (Some(standby("1.5 1.6", 1)), take_back),
        // What the grain had until now is kept.
        (Some(standby("1.5 1.6 2.7", 2)), set_aside),
        (Some(standby("2.7", 2)), "keep all data of web aside: nothing in common"),
        (Some(head("1.5 1.6 2.7", 2)), set_aside),
    ] {
        let mut host = aside(&world);
        host.data.extend(here.clone().map(|data| (WEB, data)));
        assert_eq!(orders(&world, 1, &host), [expected], "{here:?}");
    }
    // Killed after it: it is a copy that ends at what the epoch begins from.
    let mut host = host(&world, 1_000);
    let mut back = standby("1.5 1.6 1.8", 1);
    back.snapshots.push(end());
    host.data.insert(WEB, back.clone());
    let told = "tell: what node 1 kept aside of grain web, epoch 1, is its head again";
    assert_eq!(orders(&world, 1, &host), ["promote web, epoch 3", told]);
    // And after that.
    back.role = super::DataRole::Owner;
    back.epoch = Epoch(3);
    host.data.insert(WEB, back);
    let orders = orders(&world, 1, &host);
    assert!(orders.contains(&"start web, epoch 3".to_owned()), "{orders:?}");
}

#[test]
fn what_the_grain_had_is_set_aside_where_it_ran_and_on_copies() {
    let world = promoted();
    for (node, here) in [
        (2, head("1.5 1.6 2.7 2.12", 2)),
        (3, standby("1.5 1.6 2.7", 2)),
        // It has gone on from there, and its last state is not one of a setting aside that was broken off.
        (2, standby("1.5 1.6 2.7", 2)),
    ] {
        let mut host = host(&world, 1_000);
        host.data.insert(WEB, here.clone());
        assert_eq!(orders(&world, node, &host), ["keep diverged data of web aside"], "{here:?}");
    }
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, standby("1.5 1.6", 2));
    assert!(!orders(&world, 3, &host).iter().any(|order| order.contains("aside")));
    // A copy of the new line.
    let mut copy = standby("1.5 1.6 1.8", 3);
    copy.snapshots.push(end());
    host.data.insert(WEB, copy);
    assert!(!orders(&world, 3, &host).iter().any(|order| order.contains("aside")));
}

#[test]
fn what_became_the_head_is_set_aside_again_under_a_name_of_its_own() {
    let mut world = promoted();
    world.cluster.grains.get_mut(&WEB).unwrap().stage = Stage::Settled;
    world.cluster.grains.get_mut(&WEB).unwrap().operation = None;
    let mut data = head("1.5 1.6 1.8", 3);
    data.snapshots.push(end());
    let host = host(&world, 1_000);
    let plan = super::super::SetAside::plan(&host, world.the(WEB), &data, None).unwrap();
    assert_eq!((plan.name.epoch, plan.name.seq), (Epoch(3), 10));
    // One that was broken off keeps its name.
    data.snapshots.last_mut().unwrap().guid = snapshot("7.7").guid;
    let plan = super::super::SetAside::plan(&host, world.the(WEB), &data, None).unwrap();
    assert_eq!(plan.name, end().name);
}

#[test]
fn a_persons_word_removes_it_and_after_a_crash_it_is_removed_again() {
    let mut world = diverged();
    let work = Work::Discard { of: WEB, epoch: Epoch(1), node: NodeId(1), by: None };
    let operation = OperationId(7);
    world.done(Command::StartOperation { operation, work, text: None });
    let remove = "remove what was set aside of web in epoch 1";
    let gone = "tell: what node 1 kept aside of grain web, epoch 1, is removed";
    let mut host = aside(&world);
    host.data.insert(WEB, standby("1.5 1.6", 1));
    assert!(orders(&world, 1, &host).contains(&remove.to_owned()));
    host.data.clear();
    host.orphans.clear();
    // Killed before it was noted: nobody knows whether it is there.
    assert_eq!(orders(&world, 1, &host), [remove]);
    host.discarded.insert((WEB, Epoch(1)));
    assert_eq!(orders(&world, 1, &host), [gone]);
    // Others have nothing to do with it.
    assert_eq!(orders(&world, 3, &aside(&world)).len(), 2, "one is told, a copy begins");
}

#[test]
fn a_setting_aside_that_was_broken_off_leaves_a_copy_that_begins_at_the_fork() {
    let world = diverged();
    let mut host = aside(&world);
    assert_eq!(orders(&world, 1, &host), ["keep diverged data of web aside"]);
    host.data.insert(WEB, standby("1.5 1.6", 1));
    assert!(!orders(&world, 1, &host).iter().any(|order| order.contains("aside")));
    // What has nothing in common with the line gives no copy.
    let mut host = aside(&world);
    host.orphans.get_mut(&(WEB, Epoch(1))).unwrap().base = Some(snapshot("1.5").guid);
    assert_eq!(orders(&world, 1, &host), [""; 0]);
}

#[test]
fn other_data_in_the_same_place_are_told_anew() {
    let world = diverged();
    let mut host = aside(&world);
    host.data.insert(WEB, standby("1.5 1.6", 1));
    let told = |host: &HostFacts| {
        orders(&world, 1, host).iter().any(|order| order.starts_with("tell: diverged data"))
    };
    assert!(!told(&host));
    host.orphans.get_mut(&(WEB, Epoch(1))).unwrap().head = snapshot("1.11");
    assert!(told(&host));
}
