//! Copies: what is looked for, frozen, sent, held and pruned.

use std::collections::BTreeMap;

use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, NodeId, OperationId};
use scrap_schema::snapshot::Guid;
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::Bytes;

use super::{head, host, orders, running, standby};
use crate::cluster::{Liveness, Stage};
use crate::fixture::{WEB, World, line, snapshot};
use crate::obey::{
    CopyFacts, DataFacts, Dirty, Failure, HostAction, HostFacts, Lane, hold_tag, obey,
};

#[test]
fn an_owner_looks_freezes_and_sends_at_its_interval() {
    let mut world = World::web(&[2]);
    world.now.wall = Timestamp(1_000_010_000);
    let mut host = host(&world, 1_000);
    host.runs.insert(WEB, running(1, true));
    let copies = |snapshots: &str| CopyFacts {
        snapshots: Some(line(snapshots).iter().map(|snapshot| snapshot.guid).collect()),
        ..CopyFacts::default()
    };
    let now = world.now.boot.0;
    let dirty =
        |bytes, ago| Dirty { bytes: Bytes(bytes), at: Timestamp(0), probed: BootTime(now - ago) };
    // The newest snapshot is 5 s old at first, 15 s later; the interval is 15 s.
    let cases = [
        (0, None, "1.5", ""),
        (0, Some(dirty(9, 1_000)), "1.5", ""),
        (0, None, "1.4", "send increment of web to node 2"),
        (0, None, "1.9", "ask node 2 for its copy of web"),
        (10_000, None, "1.5", "look for writes in web"),
        (10_000, Some(dirty(0, 1_000)), "1.5", ""),
        (10_000, Some(dirty(0, 15_000)), "1.5", "look for writes in web"),
    ];
    for (later, dirty, theirs, expected) in cases {
        let mut world = world.clone();
        world.now.wall = Timestamp(world.now.wall.0 + later);
        // What both have.
        let held = held(2, if theirs == "1.9" { "1.4" } else { theirs });
        host.data.insert(WEB, DataFacts { dirty, held, ..head("1.4 1.5", 1) });
        let known = if theirs == "1.9" { copies("1.4 1.9") } else { copies(theirs) };
        host.copies.insert((WEB, NodeId(2)), known);
        let expected: Vec<&str> = Some(expected).filter(|it| !it.is_empty()).into_iter().collect();
        assert_eq!(orders(&world, 1, &host), expected, "{later} ms, {dirty:?}, {theirs}");
    }
    world.now.wall = Timestamp(world.now.wall.0 + 10_000);
    let dirty = Some(dirty(9, 1_000));
    host.data.insert(WEB, DataFacts { dirty, held: held(2, "1.5"), ..head("1.4 1.5", 1) });
    host.copies.insert((WEB, NodeId(2)), copies("1.5"));
    let name = "snapshot web scrap.0000000000000001.0000000000000006";
    assert_eq!(orders(&world, 1, &host), [name]);
}

/// Whether the owner of three states, the newest 15 s old, freezes another one so much later, when its copies stand there.
fn freezes(world: &World, later: i64, copies: &[(u64, &str)], failed: Option<u64>) -> bool {
    let mut world = world.clone();
    world.now.wall = Timestamp(1_000_020_000 + later);
    let mut host = host(&world, 1_000);
    host.runs.insert(WEB, running(1, true));
    let dirty = Dirty { bytes: Bytes(9), at: Timestamp(0), probed: world.now.boot };
    host.data.insert(WEB, DataFacts { dirty: Some(dirty), ..head("1.3 1.4 1.5", 1) });
    for (node, states) in copies {
        let snapshots = Some(line(states).iter().map(|snapshot| snapshot.guid).collect());
        host.copies.insert((WEB, NodeId(*node)), CopyFacts { snapshots, ..CopyFacts::default() });
    }
    if let Some(node) = failed {
        let failure = Failure { attempts: 1, retry_at: BootTime(u64::MAX), why: String::new() };
        host.failed.insert(Lane::Copy(WEB, NodeId(node)), failure);
    }
    orders(&world, 1, &host).iter().any(|order| order.starts_with("snapshot"))
}

#[test]
fn nothing_more_is_frozen_while_the_best_copy_lacks_two_states() {
    // The interval is 15 s.
    let settled = World::web(&[2, 3]);
    let mut moving = settled.clone();
    if let Some(web) = moving.cluster.grains.get_mut(&WEB) {
        web.stage = Stage::Warming { operation: OperationId(7), to: NodeId(3) };
    }
    let cases = [
        ("one waits", &settled, 0, [(2, "1.3 1.4"), (3, "1.3")], None, true),
        ("two wait", &settled, 0, [(2, "1.3"), (3, "1.3")], None, false),
        ("even the first", &settled, 0, [(2, ""), (3, "1.3")], None, false),
        ("another one is fine", &settled, 0, [(2, "1.3"), (3, "1.3 1.4 1.5")], None, true),
        ("one that fails holds nothing up", &settled, 0, [(2, "1.3"), (3, "")], Some(2), false),
        ("nor does it count as fine", &settled, 0, [(2, "1.5"), (3, "1.3")], Some(2), false),
        ("for a quarter of an hour", &settled, 884_999, [(2, "1.3"), (3, "1.3")], None, false),
        ("and no longer", &settled, 885_000, [(2, "1.3"), (3, "1.3")], None, true),
        ("a move waits for its target", &moving, 0, [(2, "1.5"), (3, "1.3")], None, false),
        ("and for nobody else", &moving, 0, [(2, "1.3"), (3, "1.5")], None, true),
        ("but not for its first stream", &moving, 0, [(2, "1.4"), (3, "")], None, true),
        ("nor if it fails", &moving, 0, [(2, "1.4"), (3, "1.3")], Some(3), true),
    ];
    for (case, world, later, copies, failed, expected) in cases {
        assert_eq!(freezes(world, later, &copies, failed), expected, "{case}");
    }
    // Nothing that takes streams: it goes on as ever.
    let alone = World::web(&[2]);
    assert!(freezes(&alone, 0, &[(2, "1.3")], Some(2)));
    assert!(!freezes(&alone, 0, &[(2, "1.3")], None));
}

/// What is held for a node.
fn held(node: u64, state: &str) -> BTreeMap<String, Guid> {
    [(hold_tag(NodeId(node)), snapshot(state).guid)].into()
}

/// What is held and released.
fn upkeep(world: &World, node: u64, host: &HostFacts) -> Vec<String> {
    let orders = orders(world, node, host).into_iter();
    orders.filter(|order| order.starts_with("hold") || order.starts_with("release")).collect()
}

#[test]
fn what_two_nodes_have_is_held_by_both_of_them() {
    let world = World::web(&[2]);
    let states: Vec<Guid> = line("1.4 1.5").iter().map(|snapshot| snapshot.guid).collect();
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    owner
        .copies
        .insert((WEB, NodeId(2)), CopyFacts { snapshots: Some(states), ..CopyFacts::default() });
    let mut copy = host(&world, 1_000);
    // What is held: a stream was in a hurry, failed at it, or did it; it is for a node that is not concerned any more.
    let cases = [
        (BTreeMap::new(), "hold what web has here and on node"),
        (held(2, "1.4"), "hold what web has here and on node"),
        (held(2, "1.5"), ""),
        (held(2, "1.5").into_iter().chain(held(3, "1.4")).collect(), "release last:3 of web"),
    ];
    for (held, expected) in cases {
        let looked = Dirty { bytes: Bytes(0), at: Timestamp(0), probed: world.now.boot };
        let data = DataFacts { held: held.clone(), dirty: Some(looked), ..head("1.4 1.5", 1) };
        owner.data.insert(WEB, data);
        let by_owner = upkeep(&world, 1, &owner);
        assert_eq!(by_owner.len(), usize::from(!expected.is_empty()), "{by_owner:?}");
        assert!(by_owner.iter().all(|order| order.starts_with(expected)), "{by_owner:?}");
        let last = held.get(&hold_tag(NodeId(2))).copied();
        let mut theirs: BTreeMap<String, Guid> =
            last.into_iter().map(|guid| (hold_tag(NodeId(1)), guid)).collect();
        theirs.extend(held.into_iter().filter(|(tag, _)| *tag == hold_tag(NodeId(3))));
        copy.data.insert(WEB, DataFacts { held: theirs, ..standby("1.4 1.5", 1) });
        let by_copy = upkeep(&world, 2, &copy);
        assert_eq!(by_copy.len(), usize::from(!expected.is_empty()), "{by_copy:?}");
        assert!(by_copy.iter().all(|order| order.starts_with(expected)), "{by_copy:?}");
    }
    // The base of the next stream is not pruned while that is still to be done.
    let states: Vec<String> = (1..=40).map(|seq| format!("1.{seq}")).collect();
    let looked = Dirty { bytes: Bytes(0), at: Timestamp(0), probed: world.now.boot };
    owner.data.insert(WEB, DataFacts { dirty: Some(looked), ..head(&states.join(" "), 1) });
    let pruned = |owner: &HostFacts| {
        let actions = obey(NodeId(1), &world.cluster, owner, world.now);
        actions.iter().any(|action| {
            matches!(action, HostAction::Prune { snapshots, .. } if snapshots.contains(&snapshot("1.3").guid))
        })
    };
    assert!(pruned(&owner));
    owner.copies.insert(
        (WEB, NodeId(2)),
        CopyFacts { snapshots: Some(vec![snapshot("1.3").guid]), ..CopyFacts::default() },
    );
    assert!(!pruned(&owner));
    // Nor is its end, which is ordered in the same moment.
    let end = snapshot("1.4").guid;
    owner.data.get_mut(&WEB).unwrap().held = held(2, "1.3");
    let actions = obey(NodeId(1), &world.cluster, &owner, world.now);
    let sent = |action: &HostAction| matches!(action, HostAction::Send { to, .. } if *to == end);
    let pruned = |action: &HostAction| matches!(action, HostAction::Prune { snapshots, .. } if snapshots.contains(&end));
    assert!(actions.iter().any(sent) && !actions.iter().any(pruned), "{actions:?}");
}

#[test]
fn an_owner_that_never_heard_of_a_copy_prunes_nothing_before_it_has() {
    let mut world = World::web(&[2]);
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    let states: Vec<String> = (1..=40).map(|seq| format!("1.{seq}")).collect();
    let looked = Dirty { bytes: Bytes(0), at: Timestamp(0), probed: world.now.boot };
    owner.data.insert(WEB, DataFacts { dirty: Some(looked), ..head(&states.join(" "), 1) });
    let pruned = |world: &World, owner: &HostFacts| {
        let actions = obey(NodeId(1), &world.cluster, owner, world.now);
        actions.iter().any(|action| {
            matches!(action, HostAction::Prune { snapshots, .. } if snapshots.contains(&snapshot("1.3").guid))
        })
    };
    assert!(!pruned(&world, &owner));
    // One that does not answer for long is waited for no more.
    for (attempts, expected) in [(1, false), (9, false), (10, true)] {
        let failure = Failure { attempts, retry_at: BootTime(0), why: "of a test".to_owned() };
        owner.failed.insert(Lane::Copy(WEB, NodeId(2)), failure);
        assert_eq!(pruned(&world, &owner), expected, "{attempts}");
    }
    owner.failed.clear();
    // It ends at a state that is not here: the stream to it will begin at the newest one that is.
    let mut diverged = owner.clone();
    let known = line("1.2 1.3 1.99").iter().map(|snapshot| snapshot.guid).collect();
    diverged.copies.entry((WEB, NodeId(2))).or_default().says(known, world.now.boot);
    assert!(!pruned(&world, &diverged));
    let held = orders(&world, 1, &diverged);
    assert!(held.contains(&"hold what web has here and on node 2".to_owned()), "{held:?}");
    // Of one that is away the cluster knows where it stands, or nobody does.
    let node = world.cluster.nodes.get_mut(&NodeId(2)).unwrap();
    node.liveness = Liveness::Fenced { last_heard: Timestamp(0) };
    assert!(!pruned(&world, &owner), "it has not said yet");
    let remember = |world: &mut World, snapshot: Option<Guid>| {
        let (grain, epoch, node) = (WEB, Epoch(1), NodeId(2));
        let silent = snapshot.is_none();
        world.done(Command::RememberCopy { grain, epoch, node, snapshot, silent })
    };
    remember(&mut world, Some(snapshot("1.3").guid));
    assert!(!pruned(&world, &owner));
    remember(&mut world, None);
    assert!(pruned(&world, &owner), "nobody knows");
    remember(&mut world, Some(snapshot("1.3").guid));
    let mut copy = owner.clone();
    copy.data.insert(WEB, standby(&states.join(" "), 1));
    let by_copy = obey(NodeId(3), &world.cluster, &copy, world.now);
    let base = snapshot("1.3").guid;
    assert!(!by_copy.iter().any(
        |action| matches!(action, HostAction::Prune { snapshots, .. } if snapshots.contains(&base))
    ));
    // One that is back says it itself, also if nobody knew until then.
    remember(&mut world, None);
    world.cluster.nodes.get_mut(&NodeId(2)).unwrap().liveness = Liveness::Online;
    assert!(!pruned(&world, &owner), "it is asked first");
}

#[test]
fn a_state_that_another_copy_may_stand_at_is_jumped_over_by_none() {
    let mut world = World::web(&[2, 3]);
    let mut owner = host(&world, 1_000);
    owner.data.insert(WEB, DataFacts { held: held(2, "1.4"), ..head("1.4 1.5 1.6", 1) });
    let says = |states: &str| {
        let mut known = CopyFacts::default();
        known.says(line(states).iter().map(|snapshot| snapshot.guid).collect(), BootTime(0));
        known
    };
    owner.copies.insert((WEB, NodeId(2)), says("1.4"));
    owner.copies.insert((WEB, NodeId(3)), says("1.4"));
    let next = |world: &World, owner: &HostFacts| {
        let mut next = None;
        for action in obey(NodeId(1), &world.cluster, owner, world.now) {
            if let HostAction::Send { node: NodeId(2), to, .. } = action {
                next = Some(to);
            }
        }
        next
    };
    let (middle, newest) = (Some(snapshot("1.5").guid), Some(snapshot("1.6").guid));
    assert_eq!(next(&world, &owner), middle);
    // A grain that stands still waits for its last state, not for what nobody has.
    let (to, operation, ordered) = (NodeId(2), OperationId(1), 1);
    world.cluster.grains.get_mut(&WEB).unwrap().stage = Stage::Quiescing { to, operation, ordered };
    assert_eq!(next(&world, &owner), newest);
    owner.copies.insert((WEB, NodeId(3)), says("1.4 1.5"));
    assert_eq!(next(&world, &owner), middle);
    // What another one has is not known, or is on its way to it.
    owner.copies.remove(&(WEB, NodeId(3)));
    assert_eq!(next(&world, &owner), middle);
    owner.copies.insert((WEB, NodeId(3)), says("1.4"));
    owner.busy.insert(Lane::Copy(WEB, NodeId(3)));
    assert_eq!(next(&world, &owner), middle);
}

#[test]
fn a_copy_does_not_wait_for_a_hold_that_fails() {
    let world = World::web(&[2]);
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    owner.data.insert(WEB, head("1.4 1.5", 1));
    let known = CopyFacts { snapshots: Some(vec![snapshot("1.4").guid]), ..CopyFacts::default() };
    owner.copies.insert((WEB, NodeId(2)), known);
    let first = |owner: &HostFacts| {
        let orders = orders(&world, 1, owner).into_iter();
        orders.filter(|order| order.contains("node 2")).collect::<Vec<_>>()
    };
    assert_eq!(first(&owner), ["hold what web has here and on node 2"]);
    let failure = Failure { attempts: 1, retry_at: BootTime(0), why: "of a test".to_owned() };
    owner.failed.insert(Lane::Copy(WEB, NodeId(2)), failure);
    assert_eq!(first(&owner), ["send increment of web to node 2"]);
}

#[test]
fn while_a_grain_answers_nowhere_only_the_copy_that_it_waits_for_is_brought_forward() {
    let mut world = World::web(&[2, 3]);
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, head("1.1 1.2", 1));
    let first = Some(vec![snapshot("1.1").guid]);
    for node in [2, 3] {
        facts.copies.insert(
            (WEB, NodeId(node)),
            CopyFacts { snapshots: first.clone(), ..CopyFacts::default() },
        );
    }
    let (operation, to, from) = (OperationId(1), NodeId(2), NodeId(3));
    let (last, stopping) = (snapshot("1.2"), world.now.wall);
    let sent = |world: &World, facts: &HostFacts| -> Vec<String> {
        orders(world, 1, facts).into_iter().filter(|order| order.starts_with("send")).collect()
    };
    let to_one = |node: NodeId| format!("send increment of web to node {node}");
    let landing = Stage::Landing { from, operation, stopping };
    for (stage, expected) in [
        (Stage::Quiescing { to, operation, ordered: 0 }, vec![to_one(to)]),
        (Stage::Released { to, operation, last, stopping }, vec![to_one(to)]),
        (landing.clone(), vec![]),
    ] {
        world.cluster.grains.get_mut(&WEB).unwrap().stage = stage.clone();
        assert_eq!(sent(&world, &facts), expected, "{stage:?}");
    }
    // The one that it waits for does not get it.
    let failure = Failure { attempts: 1, retry_at: BootTime(0), why: "of a test".to_owned() };
    let mut cut = facts.clone();
    cut.failed.insert(Lane::Copy(WEB, to), failure.clone());
    let quiescing = Stage::Quiescing { to, operation, ordered: 0 };
    world.cluster.grains.get_mut(&WEB).unwrap().stage = quiescing;
    assert_eq!(sent(&world, &cut), [to_one(to), to_one(from)]);
    world.cluster.grains.get_mut(&WEB).unwrap().stage = landing;
    // It does not start, or it runs.
    let mut failing = facts.clone();
    failing.failed.insert(Lane::Run(WEB), failure);
    let mut up = facts;
    up.runs.insert(WEB, running(1, true));
    for facts in [&mut failing, &mut up] {
        // Held first; not while it answers nowhere.
        assert_eq!(sent(&world, facts), [to_one(to), to_one(from)]);
    }
}

#[test]
fn nothing_is_pruned_while_the_grain_answers_nowhere_because_it_moves() {
    let mut world = World::web(&[3]);
    let mut copy = host(&world, 1_000);
    // So many states of the same minute are kept by no policy.
    let states: Vec<String> = (1..=40).map(|seq| format!("1.{seq}")).collect();
    copy.data.insert(WEB, standby(&states.join(" "), 1));
    let prunes = |world: &World, host: &HostFacts| {
        orders(world, 3, host).iter().any(|order| order.starts_with("prune"))
    };
    assert!(prunes(&world, &copy));
    let operation = OperationId(1);
    let (from, to) = (NodeId(1), NodeId(3));
    let last = line("1.40").remove(0);
    let stopping = world.now.wall;
    let warming = Stage::Warming { to, operation };
    for (stage, expected) in [
        (warming, true),
        (Stage::Quiescing { to, operation, ordered: 0 }, false),
        (Stage::Released { to, operation, last, stopping }, false),
        (Stage::Landing { from, operation, stopping }, false),
    ] {
        world.cluster.grains.get_mut(&WEB).unwrap().stage = stage.clone();
        assert_eq!(prunes(&world, &copy), expected, "{stage:?}");
    }
}

#[test]
fn what_a_node_has_that_is_away_is_held_for_it() {
    let mut world = World::web(&[2]);
    world.fence(2);
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    owner.data.insert(WEB, head("1.4 1.5", 1));
    let known = Some(vec![snapshot("1.4").guid]);
    owner.copies.insert((WEB, NodeId(2)), CopyFacts { snapshots: known, ..CopyFacts::default() });
    assert_eq!(orders(&world, 1, &owner), ["hold what web has here and on node 2"]);
    owner.data.insert(WEB, DataFacts { held: held(2, "1.4"), ..head("1.4 1.5", 1) });
    assert_eq!(orders(&world, 1, &owner), [""; 0]);
}

#[test]
fn a_copy_that_gets_no_streams_is_asked_whether_it_is_still_there() {
    let world = World::web(&[2]);
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    let now = world.now.boot.0;
    let looked = Dirty { bytes: Bytes(0), at: Timestamp(0), probed: BootTime(now) };
    let held = held(2, "1.5");
    owner.data.insert(WEB, DataFacts { held, dirty: Some(looked), ..head("1.4 1.5", 1) });
    let states = |text| line(text).iter().map(|snapshot| snapshot.guid).collect::<Vec<Guid>>();
    // Ten intervals of fifteen seconds, and what this grain adds to it.
    let due = 150_000 + u64::try_from(WEB.0 % 75_000).unwrap();
    for (ago, expected) in [(due - 1, [].as_slice()), (due, &["ask node 2 for its copy of web"])] {
        let mut known = CopyFacts::default();
        known.says(states("1.4"), BootTime(0));
        known.took(snapshot("1.5").guid, BootTime(now - ago));
        owner.copies.insert((WEB, NodeId(2)), known);
        assert_eq!(orders(&world, 1, &owner), expected, "{ago} ms ago");
    }
    // What it says counts: it is made again.
    let known = owner.copies.get_mut(&(WEB, NodeId(2))).unwrap();
    known.says(Vec::new(), BootTime(now));
    assert_eq!(orders(&world, 1, &owner), ["send all of web to node 2"]);
}

#[test]
fn what_was_said_long_ago_is_not_said_in_a_row() {
    let mut known = CopyFacts::default();
    for (at, said) in [(0, 1), (1_000, 2), (10_999, 3), (20_999, 1), (21_000, 2)] {
        known.says(vec![Guid(1)], BootTime(at));
        assert_eq!(known.said, said, "at {at}");
    }
}

#[test]
fn a_copy_that_has_to_set_something_aside_is_not_asked_all_the_time() {
    let world = World::web(&[2]);
    let mut owner = host(&world, 1_000);
    owner.runs.insert(WEB, running(1, true));
    owner.data.insert(WEB, DataFacts { held: held(2, "1.4"), ..head("1.4 1.5", 1) });
    let states = |text| line(text).iter().map(|snapshot| snapshot.guid).collect::<Vec<Guid>>();
    let now = world.now.boot.0;
    let streams = |owner: &HostFacts| {
        let mut orders = orders(&world, 1, owner);
        orders.retain(|order| order.starts_with("ask") || order.starts_with("send"));
        orders
    };
    let ask = ["ask node 2 for its copy of web"].as_slice();
    let send = ["send increment of web to node 2"].as_slice();
    // How often it has said so, how long ago last.
    let cases = [
        (1, 0, [].as_slice()),
        (1, 999, &[]),
        (1, 1_000, ask),
        (9, 1_000, ask),
        // It does not set it aside by itself: the stream that begins before it says that it must.
        (10, 0, send),
    ];
    for (said, ago, expected) in cases {
        let mut known = CopyFacts::default();
        (0..said).for_each(|_| known.says(states("1.4 1.9"), BootTime(now - ago)));
        owner.copies.insert((WEB, NodeId(2)), known);
        assert_eq!(streams(&owner), expected, "{said} times, {ago} ms ago");
    }
    // There is nothing to send: it can only be asked.
    owner.data.insert(WEB, DataFacts { held: held(2, "1.4"), ..head("1.3 1.4", 1) });
    let mut known = CopyFacts::default();
    (0..20).for_each(|_| known.says(states("1.4 1.9"), BootTime(now - 1_000)));
    owner.copies.insert((WEB, NodeId(2)), known.clone());
    assert_eq!(streams(&owner), ask);
    // What has set something aside says something else.
    known.says(states("1.4"), BootTime(now));
    assert_eq!(known.said, 1);
}
