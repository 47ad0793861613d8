//! The cluster begins anew from n1: what is left behind, what waits, what comes back.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::node::{NodeRole, Verdict};
use scrap_schema::operation::{OperationState, Work};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;

use crate::cluster::Liveness;
use crate::fixture::{WEB, World, copy, new_node};
use crate::lead::lead;
use crate::lease;
use crate::observed::Observed;
use crate::voters;

const MAIL: GrainId = GrainId(2);
const EPOCHS: u64 = 1 << 32;

fn target(command: &Command) -> Option<NodeId> {
    if let Command::AssignGrain { grain: MAIL, to, .. } = command { Some(*to) } else { None }
}

fn anew(world: &mut World, generation: u64) {
    world.done(Command::RecoverCluster { generation, node: NodeId(1) });
}

/// `web` on n1 with a copy on n2, `mail` on n2 with a copy on n1; then n1 is all that is left.
fn recovered() -> World {
    let mut world = World::web(&[2]);
    world.grain(MAIL, "mail", 2, &[1]);
    anew(&mut world, 1);
    world
}

#[test]
fn the_others_are_left_behind_and_nothing_is_given_away_without_a_word() {
    let mut world = recovered();
    for node in [2, 3] {
        let node = &world.cluster.nodes[&NodeId(node)];
        assert!(world.cluster.left_behind(node) && !node.liveness.is_online(), "{node:?}");
    }
    assert_eq!(voters::wanted(&world.cluster), 1);
    assert_eq!(lease::brake(&world.cluster), None, "who is left behind is not silent");
    for (grain, owner) in [(WEB, 1), (MAIL, 2)] {
        let grain = world.the(grain);
        assert_eq!((grain.owner, grain.epoch), (Some(NodeId(owner)), Epoch(EPOCHS + 1)));
        assert!(!grain.armed && grain.started.is_none(), "{grain:?}");
    }
    world.observed.since = BootTime(0);
    world.hear(1, [(MAIL, copy("1.5"))].into());
    world.wait(3_600_000);
    world.hear(1, [(MAIL, copy("1.5"))].into());
    let plan = lead(&world.cluster, &world.observed, world.now);
    let moves = plan.commands.iter().any(|it| matches!(it, Command::AssignGrain { .. }));
    assert!(!moves, "{plan:?}");
    let waits = plan.waiting.iter().any(|it| it.reason.kind() == "needs-word");
    assert!(waits, "{plan:?}");

    // The hour since the last copy is a loss at most; a person accepts it.
    let (to, accept_loss) = (None, Some(Span::from_secs(7200)));
    let work = Work::Failover { grain: MAIL, to, accept_loss, owner_is_off: true };
    world.begin(work);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let to = plan.commands.iter().find_map(target);
    assert_eq!(to, Some(NodeId(1)), "{plan:?}");
}

#[test]
fn it_happens_once_for_each_generation() {
    let mut world = recovered();
    let before = world.cluster.clone();
    anew(&mut world, 1);
    assert_eq!(world.the(WEB).epoch, before.grains[&WEB].epoch);
    for generation in [0, 3] {
        world.refused(Command::RecoverCluster { generation, node: NodeId(1) });
    }
    // Not even the other survivor, afterwards.
    world.refused(Command::RecoverCluster { generation: 1, node: NodeId(2) });
    anew(&mut world, 2);
    assert_eq!(world.the(WEB).epoch, Epoch(2 * EPOCHS + 1));
}

#[test]
fn what_was_under_way_is_given_up() {
    let mut world = World::web(&[2]);
    let operation = world.begin(Work::Migrate { grain: WEB, to: Some(NodeId(2)) });
    anew(&mut world, 1);
    assert_eq!(world.cluster.operations[&operation].state, OperationState::Failed);
    assert_eq!(world.the(WEB).operation, None);
}

#[test]
fn who_was_left_behind_gets_no_lease_and_joins_again_as_another_node() {
    let mut world = recovered();
    let (node, boot) = (NodeId(2), BootId(1));
    let index = Some(world.cluster.index);
    assert_eq!(
        lease::answer(&world.cluster, &Observed::default(), node, boot, index),
        Some(Verdict::Removed)
    );
    let new = new_node(2, NodeRole::Data);
    let (addresses, facts) = (new.addresses.clone(), new.facts.clone());
    let register = |node, boot| {
        let (addresses, facts) = (addresses.clone(), facts.clone());
        Command::RegisterNode { node, boot, addresses, facts, seal: None, again: false, seen: None }
    };
    world.refused(register(node, BootId(2)));
    world.done(Command::AddNode { node: new });
    let names: Vec<String> = world.cluster.nodes.values().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["n1", "n2-left-2", "n3", "n2"]);
    world.done(register(NodeId(4), BootId(1)));
    assert_eq!(world.cluster.nodes[&NodeId(4)].liveness, Liveness::Online);
    assert_eq!(world.cluster.members().count(), 2);
}

#[test]
fn what_the_same_machine_still_has_is_found_under_its_new_number() {
    let mut world = World::web(&[2]);
    world.grain(MAIL, "mail", 2, &[]);
    anew(&mut world, 1);
    world.join(4, NodeRole::Data);
    world.observed.since = BootTime(0);
    world.hear(1, [].into());
    world.hear(4, [(MAIL, copy("1.7"))].into());
    world.begin(Work::Failover { grain: MAIL, to: None, accept_loss: None, owner_is_off: true });
    let plan = lead(&world.cluster, &world.observed, world.now);
    let to = plan.commands.iter().find_map(target);
    assert_eq!(to, Some(NodeId(4)), "{plan:?}");
}
