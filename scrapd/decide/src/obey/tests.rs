//! Table tests of `obey`: what a node does with what it has.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{Epoch, NodeId, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::Snapshot;
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::Bytes;

use super::{
    CopyFacts, DataFacts, DataRole, Dirty, Failure, HostFacts, Lane, OrphanFacts, RunFacts, obey,
};
use crate::cluster::{Grain, Stage};
use crate::fixture::{WEB, World, line, snapshot};
use crate::lease::Lease;

mod anew;
mod asides;
mod streams;
mod systems;

fn head(snapshots: &str, epoch: u64) -> DataFacts {
    DataFacts {
        role: DataRole::Owner,
        epoch: Epoch(epoch),
        snapshots: line(snapshots),
        bookmarks: Vec::new(),
        held: Default::default(),
        used: Bytes(0),
        dirty: None,
        restored: None,
        described: 99,
    }
}

fn standby(snapshots: &str, epoch: u64) -> DataFacts {
    DataFacts { role: DataRole::Standby, ..head(snapshots, epoch) }
}

fn running(epoch: u64, armed: bool) -> RunFacts {
    RunFacts {
        epoch: Epoch(epoch),
        alive: true,
        up: true,
        armed,
        ready: Some(Timestamp(1)),
        ..RunFacts::default()
    }
}

/// A host that holds its lease, granted so long ago.
fn host(world: &World, ago: u64) -> HostFacts {
    let granted = BootTime(world.now.boot.0 - ago);
    let extended = Lease { granted: Some(granted) }.deadline(world.cluster.timing());
    HostFacts { lease: Lease { granted: Some(granted) }, extended, ..HostFacts::default() }
}

fn orders(world: &World, node: u64, host: &HostFacts) -> Vec<String> {
    let actions = obey(NodeId(node), &world.cluster, host, world.now);
    let name = WEB.to_string();
    actions.iter().map(|action| action.to_string().replace(&name, "web")).collect()
}

#[test]
fn an_owner_with_its_head_and_a_lease_starts() {
    let world = World::web(&[]);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    assert_eq!(orders(&world, 1, &host), ["start web, epoch 1"]);
    host.lease = Lease::default();
    host.extended = None;
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    // Not yet armed, but it will need the lease.
    let mut world = world;
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    assert_eq!(orders(&world, 1, &host), [""; 0]);
}

#[test]
fn a_program_without_a_health_check_counts_when_it_has_stayed_up() {
    let mut world = World::web(&[]);
    world.cluster.grains.get_mut(&WEB).unwrap().started = None;
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    let began = |world: &World, ms| Timestamp(world.now.wall.0 - ms);
    let reports = |world: &World, host: &HostFacts| {
        orders(world, 1, host).iter().any(|order| order.contains("answers"))
    };
    let mut run = RunFacts { ready: Some(began(&world, 999)), ..running(1, false) };
    for (ready, up, checked, counts) in [
        (999, true, false, false),
        (1_000, true, false, true),
        (1_000, false, false, false),
        (0, true, true, true),
    ] {
        (run.ready, run.up) = (Some(began(&world, ready)), up);
        let check = serde_json::from_value(serde_json::json!({"tcp": {"port": 80}})).unwrap();
        world.cluster.grains.get_mut(&WEB).unwrap().spec.health = checked.then_some(check);
        host.runs.insert(WEB, run.clone());
        assert_eq!(reports(&world, &host), counts, "{ready} {up} {checked}");
    }
}

#[test]
fn a_node_stops_by_itself_when_its_lease_runs_out_but_not_before() {
    let world = World::web(&[]);
    for (ago, expected) in [(5_999, 0), (6_000, 1), (60_000, 1)] {
        let mut host = host(&world, ago);
        host.data.insert(WEB, head("1.1", 1));
        host.runs.insert(WEB, running(1, true));
        let stop = vec!["stop web: the lease is running out"; expected];
        assert_eq!(orders(&world, 1, &host), stop, "granted {ago} ms ago");
    }
}

#[test]
fn a_daemon_that_has_just_started_leaves_what_it_finds_to_its_deadline() {
    let world = World::web(&[]);
    let mut host = HostFacts::default();
    host.data.insert(WEB, head("1.1", 1));
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    host.runs.insert(WEB, running(1, false));
    assert_eq!(orders(&world, 1, &host), ["stop web: the lease is running out"]);
}

#[test]
fn what_runs_without_a_lease_is_armed_before_the_cluster_is_told() {
    let mut world = World::web(&[]);
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    host.runs.insert(WEB, running(1, false));
    assert_eq!(orders(&world, 1, &host), ["put web under the lease"]);
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), ["tell: grain web runs under the lease"]);
    // A start that is under way may have no deadline.
    host.runs.clear();
    host.busy.insert(Lane::Run(WEB));
    assert_eq!(orders(&world, 1, &host), [""; 0]);
}

#[test]
fn nobody_runs_what_belongs_to_another_node_or_epoch() {
    let world = World::web(&[2]);
    let mut other = host(&world, 1_000);
    other.runs.insert(WEB, running(1, true));
    other.data.insert(WEB, standby("1.1", 1));
    assert_eq!(orders(&world, 2, &other), ["stop web: it has another owner"]);
    let mut old = host(&world, 1_000);
    old.runs.insert(WEB, running(0, true));
    old.data.insert(WEB, head("1.1", 1));
    assert!(orders(&world, 1, &old).contains(&"stop web: it is of an older epoch".to_owned()));
}

#[test]
fn a_grain_that_was_born_never_gets_an_empty_dataset() {
    let mut world = World::web(&[]);
    let host = host(&world, 1_000);
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    world.cluster.grains.get_mut(&WEB).unwrap().born = false;
    assert_eq!(orders(&world, 1, &host), ["create dataset of web, epoch 1"]);
}

/// The grain's second epoch, on n2, from a state.
fn second_epoch(base: &str) -> World {
    let mut world = World::web(&[2]);
    world.fence(1);
    let (base, cause) = (Some(snapshot(base)), AssignCause::Failover { loss: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    world
}

#[test]
fn a_copy_is_promoted_only_from_the_state_that_was_decided() {
    let world = second_epoch("1.5");
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, standby("1.4 1.5", 1));
    assert_eq!(orders(&world, 2, &host), ["promote web, epoch 2"]);
    // The choice was made by an older report: nothing is invented, and the leader hears of it.
    let declined = ["tell: the owner of grain web cannot begin epoch 2"];
    host.data.insert(WEB, standby("1.4", 1));
    assert_eq!(orders(&world, 2, &host), declined);
    host.data.clear();
    assert_eq!(orders(&world, 2, &host), declined);
    host.data.insert(WEB, standby("1.4", 1));
    let mut world = world;
    let (grain, epoch) = (WEB, Epoch(2));
    world.done(Command::GrainDeclined { grain, epoch, sure: false });
    // It knows that now: whatever it finds after all, it begins nothing, and says that it is sure when nothing runs.
    let sure = ["tell: the owner of grain web never begins epoch 2"];
    for data in [standby("1.4", 1), standby("1.4 1.5", 1), head("1.4 1.5", 2), head("1.4 1.6", 1)] {
        host.data.insert(WEB, data);
        assert_eq!(orders(&world, 2, &host), sure);
    }
    host.runs.insert(WEB, running(2, true));
    let while_it_runs = orders(&world, 2, &host);
    assert!(while_it_runs.iter().any(|order| order.starts_with("stop web")), "{while_it_runs:?}");
    assert!(!while_it_runs.contains(&sure[0].to_owned()), "{while_it_runs:?}");
    host.runs.clear();
    world.done(Command::GrainDeclined { grain, epoch, sure: true });
    assert_eq!(orders(&world, 2, &host), [""; 0]);
}

#[test]
fn a_head_that_was_left_behind_becomes_a_copy_or_is_set_aside() {
    let world = second_epoch("1.5");
    let mut host = host(&world, 1_000);
    let dirty = |bytes| Dirty { bytes: Bytes(bytes), at: Timestamp(0), probed: BootTime(0) };
    let aside = "keep diverged data of web aside";
    for (snapshots, dirty, expected) in [
        ("1.4 1.5", None, "look for writes in web"),
        ("1.4 1.5", Some(dirty(0)), "make web a copy"),
        ("1.4 1.5", Some(dirty(1)), aside),
        ("1.4 1.5 1.6", Some(dirty(0)), aside),
        ("1.6", Some(dirty(0)), "keep all data of web aside: nothing in common"),
    ] {
        host.data.insert(WEB, DataFacts { dirty, ..head(snapshots, 1) });
        assert_eq!(orders(&world, 1, &host), [expected], "{snapshots} {dirty:?}");
    }
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), ["stop web: it has another owner"]);
}

#[test]
fn data_keep_their_shape_until_what_ran_on_them_is_surely_stopped() {
    // It is the owner again, from a copy, while its last run of the epoch before is being ended.
    let mut world = second_epoch("1.5");
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.4 1.5", 1));
    host.busy.insert(Lane::Run(WEB));
    assert_eq!(orders(&world, 2, &host), [""; 0]);
    host.busy.clear();
    assert_eq!(orders(&world, 2, &host), ["look for writes in web"]);
    // Its copy is not here, and could be made from what lies aside: not while something may still come up here.
    world.cluster.grains.get_mut(&WEB).unwrap().standbys.insert(NodeId(1));
    host.data.clear();
    let (base, head) = (Some(snapshot("1.5").guid), snapshot("1.6"));
    let (line, newer) = (vec![snapshot("1.5").guid, head.guid], None);
    let orphan = OrphanFacts { head, base, line, newer, used: Bytes(9) };
    host.orphans.insert((WEB, Epoch(1)), orphan);
    assert_eq!(orders(&world, 1, &host), ["keep diverged data of web aside"]);
    host.busy.insert(Lane::Run(WEB));
    assert_eq!(orders(&world, 1, &host), [""; 0]);
}

#[test]
fn a_copy_that_is_ahead_of_the_fork_is_set_aside() {
    let world = second_epoch("1.5");
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, standby("1.5 1.6", 1));
    assert_eq!(orders(&world, 1, &host), ["keep diverged data of web aside"]);
    host.orphans.insert(
        (WEB, Epoch(1)),
        super::OrphanFacts {
            head: snapshot("1.9"),
            base: None,
            line: Vec::new(),
            newer: Some(Bytes(0)),
            used: Bytes(0),
        },
    );
    assert_eq!(orders(&world, 1, &host)[0], "make web a copy");
}

/// The grain was told to stop on n1, to go to n2.
fn quiescing() -> World {
    let mut world = World::web(&[2]);
    let operation = OperationId(1);
    let work = Work::Migrate { grain: WEB, to: Some(NodeId(2)) };
    world.done(Command::StartOperation { operation, work, text: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::BeginMigration { grain, epoch, operation, to });
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    world
}

#[test]
fn the_last_state_is_frozen_after_the_stop_and_looked_at_once_more() {
    let world = quiescing();
    let mut host = host(&world, 1_000);
    let guids = line("1.5").iter().map(|snapshot| snapshot.guid).collect();
    host.copies
        .insert((WEB, NodeId(2)), CopyFacts { snapshots: Some(guids), ..CopyFacts::default() });
    host.data.insert(WEB, head("1.5", 1));
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), ["stop web: it moves away"]);
    let stopped = RunFacts { alive: false, stopped: Some(BootTime(500)), ..running(1, true) };
    host.runs.insert(WEB, stopped);
    let freeze = orders(&world, 1, &host);
    assert!(freeze[0].starts_with("snapshot web") && freeze[0].contains(".final."), "{freeze:?}");
    host.data.insert(WEB, head("1.5 1.6#", 1));
    let early = Dirty { bytes: Bytes(0), at: Timestamp(0), probed: BootTime(499) };
    let late = Dirty { probed: BootTime(500), ..early };
    let look = "look for writes in web";
    for (dirty, expected) in
        [(None, look), (Some(early), look), (Some(late), "tell: grain web is released, epoch 1")]
    {
        host.data.insert(WEB, DataFacts { dirty, ..head("1.5 1.6#", 1) });
        let orders = orders(&world, 1, &host);
        assert!(orders.contains(&expected.to_owned()), "{dirty:?}: {orders:?}");
    }
}

#[test]
fn a_release_is_not_told_while_a_start_may_still_come_up() {
    let world = quiescing();
    let mut host = host(&world, 1_000);
    let stopped = RunFacts { alive: false, stopped: Some(BootTime(500)), ..running(1, true) };
    host.runs.insert(WEB, stopped);
    let dirty = Some(Dirty { bytes: Bytes(0), at: Timestamp(0), probed: BootTime(500) });
    host.data.insert(WEB, DataFacts { dirty, ..head("1.5 1.6#", 1) });
    let released = "tell: grain web is released, epoch 1".to_owned();
    assert!(orders(&world, 1, &host).contains(&released));
    host.busy.insert(Lane::Run(WEB));
    assert!(!orders(&world, 1, &host).contains(&released));
}

#[test]
fn a_node_that_is_no_member_any_more_stops_everything_and_keeps_its_data() {
    let mut world = World::web(&[2]);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, standby("1.1", 1));
    host.runs.insert(WEB, running(1, true));
    world.cluster.nodes.remove(&NodeId(3));
    assert_eq!(orders(&world, 3, &host), ["stop web: it has another owner"]);
    host.runs.clear();
    world.cluster.purged.insert(WEB);
    assert_eq!(orders(&world, 3, &host), [""; 0]);
}

#[test]
fn what_is_under_way_or_has_just_failed_is_not_ordered_again() {
    let world = World::web(&[]);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    host.busy.insert(Lane::Run(WEB));
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    host.busy.clear();
    let retry_at = BootTime(world.now.boot.0 + 1);
    let failure = Failure { attempts: 1, retry_at, why: "of a test".to_owned() };
    host.failed.insert(Lane::Run(WEB), failure.clone());
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    host.failed.insert(Lane::Run(WEB), Failure { retry_at: world.now.boot, ..failure });
    assert_eq!(orders(&world, 1, &host), ["start web, epoch 1"]);
}

#[test]
fn a_snapshot_that_always_fails_is_given_up() {
    let mut world = World::web(&[]);
    world.begin(Work::Snapshot { grain: WEB, name: "before".parse().unwrap() });
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    host.runs.insert(WEB, running(1, true));
    let retry_at = BootTime(world.now.boot.0 + 1);
    let told = |host: &HostFacts| orders(&world, 1, host).iter().any(|it| it.contains("is stuck"));
    for (attempts, expected) in [(1, false), (5, false), (6, true)] {
        let failure = Failure { attempts, retry_at, why: "of a test".to_owned() };
        host.failed.insert(Lane::Snap(WEB), failure);
        assert_eq!(told(&host), expected, "{attempts}");
    }
}

#[test]
fn removed_grains_lose_their_data_and_unknown_ones_only_stop() {
    let mut world = World::nodes(1);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), ["stop web: it was removed"]);
    host.runs.clear();
    assert_eq!(orders(&world, 1, &host), [""; 0]);
    world.cluster.purged.insert(WEB);
    assert_eq!(orders(&world, 1, &host), ["remove dataset of web"]);
}

#[test]
fn a_surplus_copy_goes_only_when_the_grain_is_settled() {
    let world = World::web(&[3]);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, standby("1.1", 1));
    assert_eq!(orders(&world, 2, &host), ["remove dataset of web"]);
    // Nobody else keeps one yet, it is in the trash, it starts again.
    let changes: [&dyn Fn(&mut Grain); 3] = [
        &|grain| grain.standbys.clear(),
        &|grain| grain.trashed_until = Some(Timestamp(1)),
        &|grain| grain.stage = Stage::Restarting { operation: None },
    ];
    for change in changes {
        let mut world = World::web(&[3]);
        change(world.cluster.grains.get_mut(&WEB).unwrap());
        assert_eq!(orders(&world, 2, &host), [""; 0]);
    }
}

#[test]
fn what_is_in_the_trash_does_not_run() {
    let mut world = World::web(&[2]);
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, head("1.1", 1));
    assert!(orders(&world, 1, &host).iter().any(|order| order.starts_with("start web")));
    world.cluster.grains.get_mut(&WEB).unwrap().trashed_until = Some(Timestamp(1));
    assert!(!orders(&world, 1, &host).iter().any(|order| order.starts_with("start web")));
    host.runs.insert(WEB, running(1, true));
    let orders = orders(&world, 1, &host);
    assert!(orders.iter().any(|order| order.starts_with("stop web")), "{orders:?}");
}

#[test]
fn a_grain_whose_data_somebody_took_away_is_stopped_and_that_is_the_reason() {
    let world = World::web(&[]);
    let mut host = host(&world, 1_000);
    host.runs.insert(WEB, running(1, true));
    assert_eq!(orders(&world, 1, &host), ["stop web: its dataset is not here any more"]);
    host.data.insert(WEB, head("1.1", 0));
    assert_eq!(orders(&world, 1, &host)[0], "stop web: it is of an older epoch");
}

#[test]
fn limits_that_cannot_be_set_hold_up_no_snapshot() {
    let mut world = World::web(&[]);
    world.begin(Work::Snapshot { grain: WEB, name: "before".parse().unwrap() });
    let mut host = host(&world, 1_000);
    host.data.insert(WEB, DataFacts { described: 0, ..head("1.1", 1) });
    host.runs.insert(WEB, running(1, true));
    let both = orders(&world, 1, &host);
    let describes = |orders: &[String]| orders.iter().any(|order| order == "describe web");
    let snapshots =
        |orders: &[String]| orders.iter().any(|order| order.starts_with("snapshot web"));
    assert!(describes(&both) && snapshots(&both), "{both:?}");
    let retry_at = BootTime(world.now.boot.0 + 1);
    let failure = Failure { attempts: 1, retry_at, why: "of a test".to_owned() };
    host.failed.insert(Lane::Describe(WEB), failure);
    let one = orders(&world, 1, &host);
    assert!(!describes(&one) && snapshots(&one), "{one:?}");
}

#[test]
fn a_look_that_found_nothing_counts_whatever_later_ones_find() {
    let snapshots = line("1.1 1.2");
    let mut looks = super::Looks::default();
    let saw = |looks: &mut super::Looks, snapshots: &[Snapshot], bytes, second: i64| {
        let at = Timestamp(1_000_000_000 + 1000 * second);
        looks.saw(snapshots, Dirty { bytes: Bytes(bytes), at, probed: BootTime(0) });
    };
    let seconds = |looks: &super::Looks, text: &str| {
        (looks.current_to(&snapshot(text)).0 - 1_000_000_000) / 1000
    };
    // (bytes found, when, up to when a copy of 1.2 has everything)
    for (bytes, second, current) in [(7, 3, 2), (0, 5, 5), (9, 8, 5), (0, 7, 7), (0, 6, 7)] {
        saw(&mut looks, &snapshots, bytes, second);
        assert_eq!(seconds(&looks, "1.2"), current, "found {bytes} at {second}");
        assert_eq!(seconds(&looks, "1.1"), 1);
    }
    // A newer state says nothing of what an older copy lacks, and takes nothing from what it has.
    saw(&mut looks, &line("1.1 1.2 1.9"), 0, 30);
    assert_eq!((seconds(&looks, "1.2"), seconds(&looks, "1.9")), (7, 30));
}
