//! What happens to a grain that does not answer where it was moved to, and to the drain that moved it.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{Epoch, NodeId, OperationId};
use scrap_schema::operation::{OperationState, Work};
use scrap_schema::time::Timestamp;

use crate::fixture::{WEB, World, snapshot};
use crate::lead::{Plan, WaitReason, lead};

/// What the leader decides now.
fn round(world: &mut World) -> Plan {
    world.observed.refresh(&world.cluster, world.now);
    lead(&world.cluster, &world.observed, world.now)
}

/// Everybody renews, and time passes.
fn wait(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.wait(1_000);
        for node in 1..=3 {
            world.hear(node, [].into());
        }
    }
}

/// n1 lets the grain go; the target has its last state.
fn hand_over(world: &mut World, operation: OperationId, epoch: u64, to: u64) {
    let (grain, epoch, last) = (WEB, Epoch(epoch), snapshot(&format!("{epoch}.9#")));
    let (quiesced, stopping) = (world.cluster.index, Timestamp(1));
    let base = Some(last.clone());
    world.done(Command::GrainReleased { grain, epoch, operation, last, stopping, quiesced });
    let (to, cause) = (NodeId(to), AssignCause::Migrate { operation });
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
}

/// It has its new owner, n2, and does not answer there.
fn landing(work: Work) -> (World, OperationId) {
    let mut world = World::web(&[2]);
    let operation = world.begin(work);
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::BeginMigration { grain, epoch, operation, to });
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    hand_over(&mut world, operation, 1, 2);
    wait(&mut world, 1);
    (world, operation)
}

/// Waits until the leader decides something.
fn decided(world: &mut World) -> Command {
    for _ in 0..120 {
        if let Some(command) = round(world).commands.pop() {
            return command;
        }
        wait(world, 1);
    }
    panic!("nothing was decided for two minutes");
}

#[test]
fn a_grain_that_answers_neither_there_nor_here_goes_back_once() {
    let works = [Work::Migrate { grain: WEB, to: None }, Work::Drain { node: NodeId(1) }];
    for work in works {
        let (mut world, operation) = landing(work.clone());
        let (grain, epoch) = (WEB, Epoch(2));
        let back = Command::TurnBack { grain, epoch, operation };
        assert_eq!(decided(&mut world), back);
        world.done(back);
        hand_over(&mut world, operation, 2, 1);
        let end = Command::EndMigration { grain, epoch: Epoch(3), operation };
        assert_eq!(decided(&mut world), end);
        world.done(end);
        assert_eq!(world.the(WEB).operation, None);
        let state = world.cluster.operations[&operation].state;
        let message = world.cluster.operations[&operation].summary.message.clone();
        if let Work::Migrate { .. } = work {
            let says = "grain web answers neither on n2 nor on n1, where it is; nothing is lost";
            assert_eq!((state, message.as_str()), (OperationState::Failed, says));
            continue;
        }
        // The drain leaves it alone, and says so, until it need not start.
        assert_eq!(state, OperationState::Running);
        let plan = round(&mut world);
        let came_back = WaitReason::CameBack { grain: "web".to_owned() };
        assert!(plan.waiting.iter().any(|waiting| waiting.reason == came_back), "{plan:?}");
        assert!(!plan.commands.iter().any(|it| matches!(it, Command::BeginMigration { .. })));
        world.done(Command::StartOperation {
            operation: OperationId(8),
            work: Work::Stop { grain: WEB },
            text: None,
        });
        let (failed, cancelled, summary) = (false, false, Default::default());
        let operation = OperationId(8);
        world.done(Command::FinishOperation { operation, failed, cancelled, summary });
        let plan = round(&mut world);
        assert!(plan.commands.iter().any(|it| matches!(it, Command::BeginMigration { .. })));
    }
}

#[test]
fn without_a_way_back_it_stays_where_it_is() {
    let (mut world, operation) = landing(Work::Migrate { grain: WEB, to: None });
    world.fence(1);
    let end = Command::EndMigration { grain: WEB, epoch: Epoch(2), operation };
    for _ in 0..120 {
        world.wait(1_000);
        world.hear(2, [].into());
        world.hear(3, [].into());
        if round(&mut world).commands.contains(&end) {
            world.done(end);
            let says = "grain web moved to n2 and does not answer there; n1 is not online";
            assert_eq!(world.cluster.operations[&operation].summary.message, says);
            return;
        }
    }
    panic!("the move never ended");
}

#[test]
fn what_has_been_in_the_trash_long_enough_goes_for_good() {
    let mut world = World::web(&[2]);
    let keep_until = Timestamp(world.now.wall.0 + 5_000);
    world.done(Command::TrashGrain { grain: WEB, if_index: None, keep_until });
    let purge = Command::PurgeGrain { grain: WEB, if_index: None };
    wait(&mut world, 4);
    assert!(!round(&mut world).commands.contains(&purge));
    wait(&mut world, 1);
    // It must have stopped first.
    assert!(!round(&mut world).commands.contains(&purge));
    world.done(Command::GrainStopped {
        grain: WEB,
        epoch: Epoch(1),
        at: world.now.wall,
        seen: None,
    });
    assert!(round(&mut world).commands.contains(&purge));
    world.done(purge);
}
