//! Table tests of placement: every refusal, every part of a score, order and ties.

use scrap_schema::command::Command;
use scrap_schema::id::{GrainId, Name, NodeId, TemplateId};
use scrap_schema::node::{NodeRole, PoolFacts, PoolState, RuntimeKind};
use scrap_schema::snapshot::Guid;
use scrap_schema::spec::{GrainNetwork, Labels};
use scrap_schema::unit::{Bytes, MilliCpu};

use super::{Loads, Purpose, Ranking, Wanted, place};
use crate::cluster::{Grain, Node};
use crate::fixture::{WEB, World, copy};

fn labels(text: &str) -> Labels {
    let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn node(world: &mut World, number: u64) -> &mut Node {
    world.cluster.nodes.get_mut(&NodeId(number)).unwrap()
}

fn grain(world: &mut World, id: GrainId) -> &mut Grain {
    world.cluster.grains.get_mut(&id).unwrap()
}

fn ranking(world: &World, purpose: Purpose) -> Ranking {
    place(&world.cluster, &world.observed, Wanted::of(world.the(WEB), purpose))
}

/// What n2 lacks of the grain of most tests after a change of the world.
fn check(change: impl FnOnce(&mut World), purpose: Purpose, expected: &str) {
    let mut world = World::web(&[]);
    change(&mut world);
    let ranking = ranking(&world, purpose);
    let unfit = ranking.unfit.get(&NodeId(2)).cloned().unwrap_or_default();
    let words: Vec<String> = unfit.iter().map(ToString::to_string).collect();
    assert_eq!(words.join(" and "), expected);
    assert_eq!(expected.is_empty(), ranking.fit.iter().any(|it| it.node == NodeId(2)));
}

#[test]
fn every_refusal_names_what_is_missing() {
    use Purpose::{Copy, Run};
    check(|_| (), Run, "");
    check(|world| world.fence(2), Run, "is not online");
    check(|world| world.fence(2), Copy, "is not online");
    let drain = |world: &mut World| {
        node(world, 2).drain = Some(scrap_schema::id::OperationId(1));
    };
    check(drain, Run, "is draining");
    check(drain, Copy, "is draining");
    check(|world| node(world, 2).spec.cordoned = true, Run, "is cordoned");
    let role = "has a role that does not allow it";
    check(|world| node(world, 2).role = NodeRole::Storage, Run, role);
    check(|world| node(world, 2).role = NodeRole::Storage, Copy, "");
    check(|world| node(world, 2).role = NodeRole::Witness, Copy, role);
    check(|world| node(world, 2).facts.runtimes.clear(), Run, "cannot run this template");
    check(|world| node(world, 2).facts.runtimes.clear(), Copy, "");
    let network = |world: &mut World| {
        let name = "grains".parse().unwrap();
        grain(world, WEB).spec.network = Some(GrainNetwork { name, address: None, address6: None });
    };
    check(network, Run, "has no network on which grains can have addresses");
    check(network, Copy, "");
    let require = |world: &mut World| grain(world, WEB).spec.place.require = labels("ssd=yes");
    check(require, Run, "lacks label ssd=yes");
    check(require, Copy, "");
    let memory = |world: &mut World| node(world, 2).facts.memory = Bytes(60 << 20);
    check(memory, Run, "needs 4.0 MiB more memory");
    check(memory, Copy, "");
    let cpu = |world: &mut World| grain(world, WEB).spec.resources.cpu = MilliCpu(8_100);
    check(cpu, Run, "needs 0.1 more cpu");
    let disk = |world: &mut World| node(world, 2).facts.disk = Bytes(1 << 29);
    check(disk, Run, "needs 512.0 MiB more disk");
    check(disk, Copy, "needs 512.0 MiB more disk");
}

/// The grain of most tests begins from a template that was imported on n1.
fn from_template(world: &mut World) {
    let template = TemplateId(7);
    world.done(Command::AddTemplate {
        template,
        name: "debian-13".parse().unwrap(),
        guid: Guid(70),
        size: Bytes(1),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        description: None,
        node: NodeId(1),
    });
    let grain = grain(world, WEB);
    grain.template = Some(template);
    grain.spec.template = "debian-13".parse().unwrap();
}

#[test]
fn a_system_lives_where_its_kind_can_run() {
    use Purpose::{Copy, Run};
    let with = |runtimes: &'static [RuntimeKind], arch: &'static str| {
        move |world: &mut World| {
            from_template(world);
            node(world, 2).facts.runtimes = runtimes.iter().copied().collect();
            arch.clone_into(&mut node(world, 2).facts.arch);
        }
    };
    use RuntimeKind::{Jail, Lxc, Process};
    check(with(&[Process, Lxc], "x86_64"), Run, "");
    check(with(&[Process], "x86_64"), Run, "cannot run this template");
    check(with(&[Jail], "x86_64"), Run, "cannot run this template");
    check(with(&[Lxc], "aarch64"), Run, "is aarch64, its template is x86_64");
    // A copy is safe there all the same, but is rather kept where it can run.
    check(with(&[Process], "x86_64"), Copy, "");
    let mut world = World::web(&[]);
    with(&[Lxc], "x86_64")(&mut world);
    assert_eq!(ranking(&world, Copy).fit.first().map(|best| best.node), Some(NodeId(2)));
}

#[test]
fn full_and_broken_storage_takes_nothing_new() {
    use Purpose::{Copy, Run};
    let with = |state: PoolState, used: u64, has_copy: bool| {
        move |world: &mut World| {
            let (used, free) = (Bytes(used), Bytes(100 - used));
            let what = (state == PoolState::Suspended).then(|| "a disk is gone".to_owned());
            let pool = PoolFacts { state, used, free, what, ..PoolFacts::default() };
            world.pools.insert(2, pool);
            let reports = has_copy.then(|| (WEB, copy("1.1"))).into_iter().collect();
            world.hear(2, reports);
        }
    };
    for purpose in [Run, Copy] {
        check(with(PoolState::Online, 90, false), purpose, "");
        check(with(PoolState::Degraded, 1, false), purpose, "");
        let full = "has storage that is 91 % full and takes new data up to 90 %";
        check(with(PoolState::Online, 91, false), purpose, full);
        // What is there already may be used.
        check(with(PoolState::Online, 91, true), purpose, "");
        check(with(PoolState::ReadOnly, 1, true), purpose, "has storage that is read-only");
        let gone = "has storage that is suspended (a disk is gone)";
        check(with(PoolState::Suspended, 1, true), purpose, gone);
    }
}

#[test]
fn everything_that_is_missing_is_said_in_order() {
    let change = |world: &mut World| {
        world.fence(2);
        node(world, 2).spec.cordoned = true;
        node(world, 2).facts.memory = Bytes(0);
    };
    let words = "is not online and is cordoned and needs 64.0 MiB more memory";
    check(change, Purpose::Run, words);
}

#[test]
fn keeping_apart_works_in_both_directions_and_not_for_copies() {
    let hostile = |one: &'static str, other: &'static str| {
        move |world: &mut World| {
            world.grain(GrainId(2), "mail", 2, &[]);
            grain(world, GrainId(2)).labels = labels("app=mail tier=db");
            grain(world, WEB).labels = labels("app=web");
            let set = |text: &str| match text {
                "" => Vec::new(),
                text => vec![labels(text)],
            };
            grain(world, WEB).spec.place.apart_from = set(one);
            grain(world, GrainId(2)).spec.place.apart_from = set(other);
        }
    };
    let words = "has grain mail, which this one keeps apart from";
    check(hostile("app=mail", ""), Purpose::Run, words);
    check(hostile("", "app=web"), Purpose::Run, words);
    check(hostile("app=mail tier=db", ""), Purpose::Run, words);
    check(hostile("app=mail tier=web", ""), Purpose::Run, "");
    check(hostile("", ""), Purpose::Run, "");
    check(hostile("app=mail", ""), Purpose::Copy, "");
}

#[test]
fn a_copy_that_is_there_needs_no_more_disk_and_minds_no_cordon() {
    let change = |world: &mut World| {
        world.hear(2, [(WEB, copy("1.1"))].into());
        node(world, 2).spec.cordoned = true;
        node(world, 2).facts.disk = Bytes(0);
    };
    check(change, Purpose::Run, "");
}

#[test]
fn what_others_reserve_counts() {
    let mut world = World::web(&[]);
    world.grain(GrainId(2), "mail", 2, &[3]);
    grain(&mut world, GrainId(2)).spec.resources.memory = Bytes(4 << 30);
    grain(&mut world, GrainId(2)).spec.resources.disk = Bytes(100 << 30);
    let refusals = ranking(&world, Purpose::Run).refusals(&world.cluster);
    let expected =
        "n2 needs 64.0 MiB more memory and needs 1.0 GiB more disk; n3 needs 1.0 GiB more disk";
    assert_eq!(refusals, expected);
}

/// The parts of the score of n2.
fn parts(change: impl FnOnce(&mut World), purpose: Purpose) -> Vec<String> {
    let mut world = World::web(&[]);
    change(&mut world);
    let ranking = ranking(&world, purpose);
    let candidate = ranking.fit.iter().find(|it| it.node == NodeId(2)).unwrap();
    assert_eq!(candidate.score, candidate.parts.iter().map(|part| part.points).sum::<i64>());
    candidate.parts.iter().map(|part| format!("{} {}", part.points, part.what)).collect()
}

#[test]
fn a_score_is_the_sum_of_its_parts() {
    let empty = ["100 4.0 GiB memory free", "100 4 cpu free", "50 100.0 GiB disk free"];
    assert_eq!(parts(|_| (), Purpose::Run), empty);
    let busy = |world: &mut World| {
        world.hear(2, [].into());
        world.observed.nodes.get_mut(&NodeId(2)).unwrap().usage.cpu = MilliCpu(4000);
    };
    assert_eq!(parts(busy, Purpose::Run)[1], "0 0 cpu free");
    let prefer = |world: &mut World| {
        grain(world, WEB).spec.place.prefer = Some("n2".parse::<Name>().unwrap());
    };
    assert_eq!(parts(prefer, Purpose::Run)[3], "150 is preferred");
    let crowd = |world: &mut World| {
        world.grain(GrainId(2), "a", 2, &[]);
        world.grain(GrainId(3), "b", 2, &[]);
    };
    assert_eq!(parts(crowd, Purpose::Run)[3], "-8 2 grains there");
    let there = |world: &mut World| world.hear(2, [(WEB, copy("1.1"))].into());
    assert_eq!(parts(there, Purpose::Run)[3], "120 has a copy");
    let used = |world: &mut World| node(world, 2).facts.memory = Bytes(128 << 20);
    assert_eq!(parts(used, Purpose::Run)[0], "100 128.0 MiB memory free");
    let zones = |world: &mut World| {
        for (number, zone) in [(1, "zone=a"), (2, "zone=b"), (3, "zone=a")] {
            node(world, number).labels = labels(zone);
        }
    };
    assert_eq!(parts(zones, Purpose::Copy)[3], "200 is another failure domain");
    assert_eq!(parts(zones, Purpose::Run).len(), 3);
}

#[test]
fn the_owner_is_worth_staying_on() {
    let world = World::web(&[]);
    let ranking = ranking(&world, Purpose::Run);
    let owner = &ranking.fit[0];
    assert_eq!(owner.node, NodeId(1));
    assert_eq!(owner.parts.last().unwrap().what, "lives there");
}

#[test]
fn the_best_comes_first_and_ties_go_to_the_smaller_id() {
    let order = |world: &World| -> Vec<u64> {
        ranking(world, Purpose::Run).fit.iter().map(|it| it.node.0).collect()
    };
    let mut world = World::web(&[]);
    assert_eq!(order(&world), [1, 2, 3]);
    world.hear(3, [(WEB, copy("1.1"))].into());
    assert_eq!(order(&world), [3, 1, 2]);
    grain(&mut world, WEB).spec.place.prefer = Some("n2".parse().unwrap());
    assert_eq!(order(&world), [2, 3, 1]);
}

#[test]
fn grains_that_keep_apart_are_kept_apart_within_one_round_too() {
    let mut world = World::web(&[]);
    world.grain(GrainId(2), "mail", 1, &[]);
    grain(&mut world, GrainId(2)).labels = labels("app=mail");
    grain(&mut world, WEB).spec.place.apart_from = vec![labels("app=mail")];
    grain(&mut world, GrainId(2)).owner = None;
    let mut loads = Loads::of(&world.cluster, &world.observed, None);
    loads.will_run(NodeId(2), world.the(GrainId(2)));
    let wanted = Wanted::of(world.the(WEB), Purpose::Run);
    let ranking = loads.rank(&world.cluster, wanted);
    assert_eq!(
        ranking.refusals(&world.cluster),
        "n2 has grain mail, which this one keeps apart from"
    );
}
