//! Table tests of disarming and arming: in which order, and what is never given away meanwhile.

use scrap_schema::command::Command;
use scrap_schema::id::{BootId, Epoch, NodeId};
use scrap_schema::spec::FailoverMode;
use scrap_schema::time::Timestamp;

use crate::cluster::Outcome;
use crate::fixture::{WEB, World, copy};
use crate::lead::lead;

fn disarm(node: Option<u64>, until: Option<Timestamp>) -> Command {
    Command::Disarm { node: node.map(NodeId), until, by: "kim".to_owned() }
}

fn arm(node: Option<u64>) -> Command {
    Command::Arm { node: node.map(NodeId), by: Some("kim".to_owned()) }
}

/// What the leader commits now about arming, and why the grain waits.
fn plan(world: &mut World) -> (Vec<String>, Vec<&'static str>) {
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let commands = plan.commands.iter().map(ToString::to_string);
    let commands =
        commands.filter(|it| it.contains("arm") || it.contains("lease") || it.contains("assign"));
    (commands.collect(), plan.waiting.iter().map(|waiting| waiting.reason.kind()).collect())
}

fn listening() -> World {
    let mut world = World::web(&[2]);
    world.observed.since = world.now.boot;
    world.hear(1, Default::default());
    world.hear(2, [(WEB, copy("1.9"))].into());
    world.hear(3, Default::default());
    world
}

const UNARM: &str = "needs no lease any more";

#[test]
fn a_grain_is_unarmed_by_the_leader_after_it_was_disarmed() {
    for node in [None, Some(1)] {
        let mut world = listening();
        assert!(world.the(WEB).armed && plan(&mut world).0.is_empty());
        assert_eq!(world.done(disarm(node, None)), Outcome::Done);
        assert_eq!(world.done(disarm(node, None)), Outcome::Unchanged);
        assert!(world.the(WEB).armed, "not before the leader has looked at it");
        let (commands, _) = plan(&mut world);
        assert!(commands.len() == 1 && commands[0].contains(UNARM), "{commands:?}");
        world.done(Command::UnarmGrain { grain: WEB, epoch: Epoch(1) });
        assert!(!world.the(WEB).armed && plan(&mut world).0.is_empty());
        // Its owner cannot say meanwhile that it is armed.
        world.refused(Command::GrainArmed { grain: WEB, epoch: Epoch(1), seen: None });
        assert_eq!(world.done(arm(node)), Outcome::Done);
        assert_eq!(world.done(arm(node)), Outcome::Unchanged);
        assert!(!world.the(WEB).armed, "its owner gives it a deadline first");
        world.refused(Command::UnarmGrain { grain: WEB, epoch: Epoch(9) });
        world.done(Command::GrainArmed { grain: WEB, epoch: Epoch(1), seen: None });
        world.refused(Command::UnarmGrain { grain: WEB, epoch: Epoch(1) });
    }
    let mut other = listening();
    other.done(disarm(Some(2), None));
    assert!(plan(&mut other).0.is_empty(), "it is on another node");
}

#[test]
fn what_is_disarmed_for_a_time_is_armed_by_itself() {
    let mut world = listening();
    let until = Timestamp(world.now.wall.0 + 1_000);
    world.done(disarm(None, Some(until)));
    world.done(disarm(Some(3), Some(until)));
    world.done(Command::UnarmGrain { grain: WEB, epoch: Epoch(1) });
    world.wait(999);
    assert!(plan(&mut world).0.is_empty());
    world.wait(1);
    assert_eq!(plan(&mut world).0, ["arm the cluster", "arm node 3"]);
}

#[test]
fn nothing_is_given_away_while_it_is_disarmed_but_by_a_person() {
    let mut world = listening();
    world.done(disarm(Some(1), None));
    world.fence(1);
    let (commands, waits) = plan(&mut world);
    assert!(commands.is_empty() && waits.contains(&"disarmed"), "{commands:?} {waits:?}");
    // Its owner was silent when it was disarmed: it died with the lease, and nobody has to say so.
    assert!(world.the(WEB).armed);
    let mut asked = world.clone();
    let work = scrap_schema::operation::Work::Failover {
        grain: WEB,
        to: None,
        accept_loss: None,
        owner_is_off: false,
    };
    asked.begin(work);
    world.wait(6_000);
    asked.wait(6_000);
    assert!(plan(&mut world).0.is_empty());
    assert!(plan(&mut asked).0[0].starts_with("assign grain"));
    world.done(arm(Some(1)));
    assert!(plan(&mut world).0[0].starts_with("assign grain"));
}

#[test]
fn a_silent_owner_hears_of_nothing_so_its_grain_stays_armed() {
    let mut world = listening();
    world.done(Command::SuspectNode {
        node: NodeId(1),
        boot: BootId(1),
        last_heard: world.now.wall,
    });
    world.done(disarm(None, None));
    assert!(plan(&mut world).0.is_empty());
}

#[test]
fn a_policy_that_becomes_manual_takes_the_lease_away_too() {
    let mut world = listening();
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.mode = FailoverMode::Manual;
    let (commands, _) = plan(&mut world);
    assert!(commands.len() == 1 && commands[0].contains(UNARM), "{commands:?}");
}
