//! Table tests of what a node does with grains that are whole systems: templates, clones, first streams, health.

use scrap_schema::command::Command;
use scrap_schema::id::{GrainId, NodeId, OperationId, TemplateId};
use scrap_schema::node::{PoolFacts, PoolState};
use scrap_schema::snapshot::{Guid, Purpose};
use scrap_schema::spec::{Check, GrainNetwork, Health, TcpCheck};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::{Bytes, Span};

use super::{CopyFacts, HostFacts, RunFacts, World, head, host, orders, running};
use crate::cluster::{Grain, Stage};
use crate::fixture::{WEB, snapshot};
use crate::lease::Lease;
use crate::obey::{DataFacts, DataRole, Failure, Lane, copy_of};
use crate::reach::reaches;

const DEBIAN: TemplateId = TemplateId(7);
const ORIGIN: Guid = Guid(70);

fn grain(world: &mut World) -> &mut Grain {
    world.cluster.grains.get_mut(&WEB).unwrap()
}

/// The grain of most tests begins from a template that was imported on n3.
fn world(copies: &[u64]) -> World {
    let mut world = World::web(copies);
    world.done(Command::AddTemplate {
        template: DEBIAN,
        name: "debian-13".parse().unwrap(),
        guid: ORIGIN,
        size: Bytes(1),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        description: None,
        node: NodeId(3),
    });
    grain(&mut world).template = Some(DEBIAN);
    world
}

fn said(world: &World, node: u64, host: &HostFacts) -> Vec<String> {
    let name = DEBIAN.to_string();
    orders(world, node, host).iter().map(|order| order.replace(&name, "debian")).collect()
}

#[test]
fn a_template_that_one_node_cannot_give_is_asked_of_the_next() {
    let mut world = world(&[]);
    (grain(&mut world).born, grain(&mut world).started) = (false, None);
    world.done(Command::TemplateHeld { template: DEBIAN, node: NodeId(2) });
    let mut host = host(&world, 1_000);
    for (attempts, from) in [(0, 2), (1, 3), (2, 2), (3, 3)] {
        let failure = Failure { attempts, retry_at: world.now.boot, why: "of a test".to_owned() };
        host.failed.insert(Lane::Template(DEBIAN), failure);
        assert_eq!(said(&world, 1, &host), [format!("get template debian from node {from}")]);
    }
}

#[test]
fn a_template_is_there_before_its_clone() {
    let mut world = world(&[]);
    (grain(&mut world).born, grain(&mut world).started) = (false, None);
    let mut host = host(&world, 1_000);
    assert_eq!(said(&world, 1, &host), ["get template debian from node 3"]);
    host.templates.insert(DEBIAN, ORIGIN);
    let both = ["make web from template debian", "tell: node 1 has template debian"];
    assert_eq!(said(&world, 1, &host), both);
    // Nobody who could give it is there: nothing is invented.
    world.fence(3);
    host.templates.clear();
    assert_eq!(said(&world, 1, &host), [""; 0]);
}

#[test]
fn who_keeps_copies_gets_the_template_and_who_does_not_leaves_it() {
    let world = world(&[2]);
    let facts = host(&world, 1_000);
    assert_eq!(said(&world, 2, &facts), ["get template debian from node 3"]);
    let elsewhere = World::web(&[]);
    assert_eq!(said(&elsewhere, 2, &facts), [""; 0]);
}

#[test]
fn full_or_broken_storage_gets_no_templates() {
    let world = world(&[2]);
    let mut facts = host(&world, 1_000);
    let pool = |state, used| PoolFacts {
        state,
        used: Bytes(used),
        free: Bytes(100 - used),
        ..PoolFacts::default()
    };
    facts.pool = Some(pool(PoolState::Online, 90));
    assert_eq!(said(&world, 2, &facts).len(), 1);
    facts.pool = Some(pool(PoolState::Online, 91));
    assert_eq!(said(&world, 2, &facts), [""; 0]);
    facts.pool = Some(pool(PoolState::ReadOnly, 1));
    assert_eq!(said(&world, 2, &facts), [""; 0]);
}

#[test]
fn what_was_removed_goes_and_what_is_missing_is_said() {
    let mut world = world(&[]);
    let mut facts = host(&world, 1_000);
    assert_eq!(said(&world, 3, &facts), ["tell: node 3 has template debian no longer"]);
    facts.templates.insert(DEBIAN, ORIGIN);
    assert_eq!(said(&world, 3, &facts), [""; 0]);
    grain(&mut world).template = None;
    world.done(Command::RemoveTemplate { template: DEBIAN, if_index: None });
    assert_eq!(said(&world, 3, &facts), ["remove template debian"]);
    // One that the cluster never heard of is being imported, or was left behind: it is left alone.
    facts.templates = [(TemplateId(8), Guid(80))].into();
    assert_eq!(said(&world, 3, &facts), [""; 0]);
}

/// What n1 sends to n2, whose copy has these states, when these nodes have the template.
fn first_stream(holders: &[u64], known: &[u64], begins_with_template: bool) -> Vec<String> {
    let mut world = world(&[2]);
    let template = world.cluster.templates.get_mut(&DEBIAN).unwrap();
    template.holders = holders.iter().copied().map(NodeId).collect();
    let mut facts = host(&world, 1_000);
    let mut data = head("0.1 1.2 1.3", 1);
    data.snapshots[0].name.purpose = Purpose::Template;
    data.snapshots[0].guid = if begins_with_template { ORIGIN } else { Guid(1) };
    facts.data.insert(WEB, data);
    facts.runs.insert(WEB, running(1, true));
    if holders.contains(&1) {
        facts.templates.insert(DEBIAN, ORIGIN);
    }
    let known: Vec<Guid> = known.iter().copied().map(Guid).collect();
    if let Some(common) = known.last().filter(|common| **common != ORIGIN)
        && let Some(data) = facts.data.get_mut(&WEB)
    {
        data.held.insert(crate::obey::hold_tag(NodeId(2)), *common);
    }
    facts
        .copies
        .insert((WEB, NodeId(2)), CopyFacts { snapshots: Some(known), ..CopyFacts::default() });
    let orders = said(&world, 1, &facts).into_iter();
    orders.filter(|order| order.starts_with("send") || order.starts_with("ask")).collect()
}

#[test]
fn the_first_stream_builds_on_the_template_or_waits_for_it() {
    let increment = ["send increment of web to node 2"];
    let all = ["send all of web to node 2"];
    // n2 has it, by the word of the cluster or by its own.
    assert_eq!(first_stream(&[1, 2], &[], true), increment);
    assert_eq!(first_stream(&[1], &[70], true), increment);
    // n2 can get it from n1: so it will.
    assert_eq!(first_stream(&[1], &[], true), [""; 0]);
    // Nobody has it any more.
    assert_eq!(first_stream(&[], &[], true), all);
    // The line does not begin with it.
    assert_eq!(first_stream(&[1, 2], &[], false), all);
    // There is a copy already.
    assert_eq!(first_stream(&[1], &[70, 102], true), increment);
}

#[test]
fn a_grain_that_is_like_its_template_gets_a_state_of_its_own_to_copy() {
    let mut world = world(&[2]);
    world.done(Command::TemplateHeld { template: DEBIAN, node: NodeId(2) });
    let mut facts = host(&world, 1_000);
    let mut data = head("0.1", 1);
    (data.snapshots[0].name.purpose, data.snapshots[0].guid) = (Purpose::Template, ORIGIN);
    facts.data.insert(WEB, data);
    facts.runs.insert(WEB, running(1, true));
    facts.copies.insert(
        (WEB, NodeId(2)),
        CopyFacts { snapshots: Some(vec![ORIGIN]), ..CopyFacts::default() },
    );
    let orders = said(&world, 1, &facts);
    assert!(orders.iter().any(|order| order.starts_with("snapshot web")), "{orders:?}");
    assert!(!orders.iter().any(|order| order.starts_with("send")), "{orders:?}");
}

#[test]
fn a_template_on_a_node_is_no_copy_of_its_grains() {
    let world = world(&[2]);
    let copy = |known: Option<&[u64]>| {
        let mut facts = HostFacts::default();
        let snapshots = known.map(|known| known.iter().copied().map(Guid).collect());
        facts.copies.insert((WEB, NodeId(2)), CopyFacts { snapshots, ..CopyFacts::default() });
        copy_of(&world.cluster, &facts, WEB, NodeId(2)).map(<[Guid]>::len)
    };
    assert_eq!(copy(None), None);
    assert_eq!(copy(Some(&[])), None);
    assert_eq!(copy(Some(&[70])), None);
    assert_eq!(copy(Some(&[70, 102])), Some(2));
    assert_eq!(copy(Some(&[102])), Some(1));
}

fn health(world: &mut World, grace: u64) {
    let check = Check { tcp: Some(TcpCheck { port: 80 }), ..Check::default() };
    grain(world).spec.health = Some(Health { grace: Span::from_ms(grace), ..Health::of(check) });
}

/// What n1 does with a run that began ten seconds ago.
fn unwell(failing: u32, grace: u64) -> Vec<String> {
    let mut world = World::web(&[]);
    health(&mut world, grace);
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, head("1.1", 1));
    let run = RunFacts {
        since: BootTime(world.now.boot.0 - 10_000),
        healthy: Some(false),
        failing,
        ailment: Some("port 80 is closed".to_owned()),
        ..running(1, true)
    };
    facts.runs.insert(WEB, run);
    orders(&world, 1, &facts)
}

#[test]
fn a_grain_whose_checks_keep_failing_is_stopped_and_the_cluster_hears_why() {
    let stop = "stop web: it is not well";
    assert_eq!(unwell(3, 10_000), [stop, "tell: grain web is not well: port 80 is closed"]);
    // Twice may be bad luck, and within the grace nothing counts.
    assert_eq!(unwell(2, 10_000), [""; 0]);
    assert_eq!(unwell(3, 10_001), [""; 0]);
}

#[test]
fn it_rests_longer_and_longer_before_it_starts_again() {
    let mut world = World::web(&[]);
    health(&mut world, 0);
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, head("1.1", 1));
    let mut starts = |relapses: u32, ago: u64| {
        let stopped = Some(BootTime(world.now.boot.0 - ago));
        let run = RunFacts { alive: false, up: false, stopped, relapses, ..running(1, true) };
        facts.runs.insert(WEB, run);
        !orders(&world, 1, &facts).is_empty()
    };
    assert!(starts(0, 0) && starts(1, 0));
    assert!(!starts(2, 9_999) && starts(2, 10_000));
    assert!(!starts(3, 19_999) && starts(3, 20_000));
    assert!(!starts(100, 299_999) && starts(100, 300_000));
}

#[test]
fn that_it_is_well_again_is_said_once() {
    let mut world = World::web(&[]);
    health(&mut world, 0);
    let epoch = world.the(WEB).epoch;
    let ailment = Some("port 80 is closed".to_owned());
    world.done(Command::GrainHealth { grain: WEB, epoch, ailment, seen: None });
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, head("1.1", 1));
    facts.runs.insert(WEB, RunFacts { healthy: Some(true), ..running(1, true) });
    assert_eq!(orders(&world, 1, &facts), ["tell: grain web is well again"]);
    world.done(Command::GrainHealth { grain: WEB, epoch, ailment: None, seen: None });
    assert_eq!(orders(&world, 1, &facts), [""; 0]);
    let events = |world: &World| {
        let about = world.cluster.events.values().filter(|event| event.grain == Some(WEB));
        about.filter(|event| event.message.contains("well")).count()
    };
    assert_eq!(events(&world), 2);
    world.done(Command::GrainHealth { grain: GrainId(WEB.0), epoch, ailment: None, seen: None });
    assert_eq!(events(&world), 2);
}

/// The grain, with an address of its own.
fn on_a_network() -> World {
    let mut world = World::web(&[2]);
    let web = grain(&mut world);
    web.spec.network =
        Some(GrainNetwork { name: "lan".parse().unwrap(), address: None, address6: None });
    (web.mac, web.address) = (Some([2, 0, 0, 0, 0, 1]), Some("10.0.0.9".parse().unwrap()));
    world
}

#[test]
fn a_grain_has_its_address_where_it_runs_or_is_being_started_and_nowhere_else() {
    let world = on_a_network();
    let here = |node: u64, facts: &HostFacts| {
        reaches(NodeId(node), &world.cluster, facts, world.now.boot).contains_key(&WEB)
    };
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, head("1.1", 1));
    assert!(!here(1, &facts), "somebody else may have the address that it wants");
    facts.busy.insert(Lane::Run(WEB));
    assert!(here(1, &facts), "its start needs it");
    facts.busy.clear();
    facts.runs.insert(WEB, running(1, true));
    assert!(here(1, &facts));
    assert!(!here(2, &facts), "another node owns it");
    facts.data.insert(WEB, head("1.1", 0));
    assert!(!here(1, &facts), "what runs is of an older epoch");
    facts.data.insert(WEB, DataFacts { role: DataRole::Standby, ..head("1.1", 1) });
    assert!(!here(1, &facts), "it is only a copy");
}

#[test]
fn a_grain_that_stands_still_has_its_address_where_it_goes() {
    let mut world = on_a_network();
    let (to, from, operation) = (NodeId(2), NodeId(1), OperationId(5));
    let (stopping, ordered) = (Timestamp(1), 1);
    let last = snapshot("1.2");
    grain(&mut world).armed = true;
    let mut facts = host(&world, 1_000);
    facts.data.insert(WEB, DataFacts { role: DataRole::Standby, ..head("1.1", 1) });
    let held = Lease { granted: Some(world.now.boot) };
    facts.lease = held;
    for (stage, owner, places) in [
        (Stage::Settled, 1, ""),
        (Stage::Warming { to, operation }, 1, ""),
        (Stage::Quiescing { to, operation, ordered }, 1, ""),
        (Stage::Released { to, operation, last, stopping }, 1, "2"),
        (Stage::Landing { from, operation, stopping }, 2, "2"),
    ] {
        let web = grain(&mut world);
        (web.stage, web.owner) = (stage.clone(), Some(NodeId(owner)));
        let here = |world: &World, facts: &HostFacts, node: u64| {
            reaches(NodeId(node), &world.cluster, facts, world.now.boot).contains_key(&WEB)
        };
        let found: String = (1..=3)
            .filter(|node| here(&world, &facts, *node))
            .map(|node| node.to_string())
            .collect();
        assert_eq!(found, places, "{stage:?}");
        grain(&mut world).spec.running = false;
        assert!(
            !(1..=3).any(|node| here(&world, &facts, node)),
            "{stage:?}, and it should not run"
        );
        grain(&mut world).spec.running = true;
        facts.lease = Lease::default();
        assert!(
            !(1..=3).any(|node| here(&world, &facts, node)),
            "{stage:?}, and it holds no lease"
        );
        facts.lease = held;
    }
}
