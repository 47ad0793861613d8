//! Table tests: whose power is cut, and when nobody's is.

use scrap_schema::command::Command;
use scrap_schema::fence::{FenceProtocol, FenceSpec, OffBy};
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::spec::{FailoverMode, NodeSpec};
use scrap_schema::unit::Span;

use crate::fixture::{WEB, World, copy, registration};
use crate::lead::lead;

const SILENT: NodeId = NodeId(1);

/// The grain is on n1, which has a plug and is silent; n2 has a copy; n3 leads.
fn silent() -> World {
    let mut world = World::web(&[2]);
    let how = FenceSpec {
        program: "fence_plug".parse().unwrap(),
        protocol: FenceProtocol::Agent,
        timeout: Span::from_secs(20),
    };
    let labels = world.cluster.nodes[&SILENT].labels.clone();
    let spec = NodeSpec { fence: Some(how), ..NodeSpec::default() };
    world.done(Command::UpdateNode { node: SILENT, if_index: None, labels, spec });
    world.observed.me = Some(NodeId(3));
    world.observed.since = world.now.boot;
    world.hear(2, [(WEB, copy("1.9"))].into());
    world.hear(3, Default::default());
    world.done(Command::SuspectNode { node: SILENT, boot: BootId(1), last_heard: world.now.wall });
    world
}

/// Whom the leader cuts off now, and what it says of the silent node.
fn plan(world: &mut World) -> (Vec<String>, Vec<&'static str>) {
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let said = plan.waiting.iter().map(|waiting| waiting.reason.kind());
    let said = said.filter(|kind| kind.contains("power")).collect();
    (plan.cuts.iter().map(|cut| cut.name.to_string()).collect(), said)
}

fn cut(world: &mut World) -> bool {
    plan(world).0 == ["n1"]
}

#[test]
fn the_power_of_a_silent_node_is_cut_once() {
    let mut world = silent();
    assert_eq!(plan(&mut world), (vec!["n1".to_owned()], vec![]));
    world.observed.cut_begins(SILENT, BootId(1));
    assert_eq!(plan(&mut world), (vec![], vec!["cuts-power"]));
    let by = OffBy::Agent { program: "fence_plug".parse().unwrap(), from: "n3".parse().unwrap() };
    let (boot, until) = (BootId(1), world.now.wall);
    world.done(Command::ConfirmNodeOff { node: SILENT, boot, until, by });
    assert_eq!(plan(&mut world), (vec![], vec![]));
}

#[test]
fn a_try_that_failed_is_made_again_after_a_pause_that_grows() {
    let mut world = silent();
    for (failed, pause) in [(true, 5_000), (false, 10_000), (false, 20_000)] {
        assert!(cut(&mut world));
        world.observed.cut_begins(SILENT, BootId(1));
        let now = world.now.boot;
        assert_eq!(world.observed.cut_failed(SILENT, BootId(1), "no".to_owned(), now), failed);
        world.wait(pause - 1);
        assert_eq!(plan(&mut world), (vec![], vec!["cannot-cut-power"]));
        world.wait(1);
    }
    // What became of it says nothing of another start of the node.
    let now = world.now.boot;
    assert!(!world.observed.cut_failed(SILENT, BootId(2), "no".to_owned(), now));
    assert!(cut(&mut world));
}

#[test]
fn nobody_is_cut_off_who_lives_or_leads_or_said_goodbye() {
    let mut world = silent();
    world.observed.me = Some(SILENT);
    assert!(!cut(&mut world), "itself");
    let mut world = silent();
    let node = world.cluster.nodes[&SILENT].clone();
    world.done(registration(SILENT, BootId(2), node.addresses, node.facts));
    assert!(!cut(&mut world), "it is back");
    world.done(Command::LeaveNode { node: SILENT, boot: BootId(2) });
    assert!(!cut(&mut world), "it said goodbye");
}

#[test]
fn nobody_is_cut_off_while_most_are_silent() {
    let mut world = silent();
    world.done(Command::SuspectNode {
        node: NodeId(2),
        boot: BootId(1),
        last_heard: world.now.wall,
    });
    assert!(!cut(&mut world));
}

#[test]
fn nobody_is_cut_off_when_that_helps_no_grain() {
    let mut world = silent();
    world.cluster.grains.get_mut(&WEB).unwrap().spec.running = false;
    assert!(!cut(&mut world), "it should not run");
    let mut world = silent();
    world.hear(2, Default::default());
    assert!(!cut(&mut world), "nobody has a copy");
    let policy = "prompt".parse().unwrap();
    let mut world = silent();
    world.cluster.policies.get_mut(&policy).unwrap().policy.failover.mode = FailoverMode::Manual;
    assert!(!cut(&mut world), "its policy leaves it to a person");
    let mut world = silent();
    let after = Span::from_secs(60);
    world.cluster.policies.get_mut(&policy).unwrap().policy.failover.after = after;
    assert!(!cut(&mut world), "its policy is patient");
    world.wait(60_000);
    assert!(cut(&mut world), "it was");
    let mut world = silent();
    world.cluster.nodes.get_mut(&SILENT).unwrap().spec.fence = None;
    assert!(!cut(&mut world), "it has no plug");
}

#[test]
fn after_the_countdown_only_what_runs_without_a_lease_needs_a_proof() {
    let mut world = silent();
    let (node, boot) = (SILENT, BootId(1));
    for tick in 1..=world.cluster.timing().ticks {
        world.done(Command::TickNode { node, boot, tick });
    }
    world.done(Command::FenceNode { node, boot });
    assert!(!cut(&mut world));
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    assert!(cut(&mut world));
}
