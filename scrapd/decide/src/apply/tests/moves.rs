//! A planned move: each step needs the one before, and one that is given up leaves nothing behind.

use super::*;

#[test]
fn a_move_hands_over_exactly_what_was_released_to_whom_it_was_promised() {
    let mut world = World::web(&[2]);
    let operation = migration(&mut world);
    world.refused(hand_over(operation, 2, "1.9#"));
    let mut world = World::web(&[2]);
    let operation = released(&mut world);
    world.refused(hand_over(operation, 3, "1.9#"));
    world.refused(hand_over(operation, 2, "1.8#"));
    world.refused(hand_over(OperationId(1), 2, "1.9#"));
    let (base, cause) = (None, AssignCause::Migrate { operation });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.refused(Command::AssignGrain { grain, epoch, to, base, cause });
    world.done(hand_over(operation, 2, "1.9#"));
    let from = NodeId(1);
    assert_eq!(world.the(WEB).stage, Stage::Landing { from, operation, stopping: AT });
}

#[test]
fn the_copy_of_a_move_counts_when_the_owner_is_gone() {
    for (gone, copies) in [(false, vec![]), (true, vec![NodeId(2)])] {
        let mut world = World::web(&[]);
        let operation = migration(&mut world);
        if gone {
            world.fence(1);
        }
        let (grain, epoch, why) = (WEB, Epoch(1), String::new());
        world.done(Command::AbortMigration { grain, epoch, operation, why });
        let standbys: Vec<_> = world.the(WEB).standbys.iter().copied().collect();
        assert_eq!(standbys, copies, "the owner is gone: {gone}");
    }
}

#[test]
fn each_step_of_a_move_needs_the_one_before() {
    let (grain, epoch) = (WEB, Epoch(1));
    let mut world = World::web(&[2]);
    let operation = world.begin(Work::Migrate { grain: WEB, to: Some(NodeId(2)) });
    world.refused(Command::QuiesceGrain { grain, epoch, operation });
    world.refused(Command::AbortMigration { grain, epoch, operation, why: String::new() });
    let begin = |to, operation| Command::BeginMigration { grain, epoch, operation, to: NodeId(to) };
    world.refused(begin(1, operation));
    world.refused(begin(9, operation));
    world.refused(begin(2, OperationId(1)));
    // Another one works on it, and would be right otherwise.
    let drain = world.begin(Work::Drain { node: NodeId(3) });
    world.cluster.grains.get_mut(&WEB).unwrap().operation = Some(drain);
    world.refused(begin(2, operation));
    world.cluster.grains.get_mut(&WEB).unwrap().operation = Some(operation);
    world.done(begin(2, operation));
    world.refused(begin(2, operation));
    world.refused(Command::QuiesceGrain { grain, epoch, operation: OperationId(1) });
    let last = snapshot("1.9#");
    let release = |quiesced| {
        let last = last.clone();
        Command::GrainReleased { grain, epoch, operation, last, stopping: AT, quiesced }
    };
    world.refused(release(world.cluster.index));
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    let ordered = world.cluster.index;
    world.refused(release(ordered - 1));
    world.done(release(ordered));
    world.refused(release(ordered));
    world.refused(Command::TurnBack { grain, epoch, operation });
    world.refused(Command::EndMigration { grain, epoch, operation });
    world.done(hand_over(operation, 2, "1.9#"));
    let epoch = Epoch(2);
    world.refused(Command::AbortMigration { grain, epoch, operation, why: String::new() });
    world.done(Command::GrainStarted { grain, epoch, at: Timestamp(905), seen: None });
    world.done(Command::EndMigration { grain, epoch, operation });
    let summary = &world.cluster.operations[&operation].summary;
    assert_eq!(
        (summary.message.as_str(), summary.downtime_ms),
        ("grain web moved from n1 to n2", Some(900))
    );
}

#[test]
fn an_operation_does_not_end_from_outside_while_a_grain_is_in_the_middle_of_it() {
    for reach in [migration, released, landed] {
        let mut world = World::web(&[2]);
        let operation = reach(&mut world);
        let (failed, cancelled, summary) = (true, false, Default::default());
        world.refused(Command::FinishOperation { operation, failed, cancelled, summary });
    }
}

#[test]
fn giving_up_a_move_puts_everything_back() {
    for reach in [migration, released] {
        let mut world = World::web(&[2]);
        let operation = reach(&mut world);
        let (grain, epoch, why) = (WEB, Epoch(1), "of a test".to_owned());
        world.done(Command::AbortMigration { grain, epoch, operation, why });
        let web = world.the(WEB);
        assert_eq!((web.epoch, web.owner, web.operation), (epoch, Some(NodeId(1)), None));
        assert_eq!(web.stage, Stage::Settled);
        let message = "grain web stays where it is: of a test".to_owned();
        assert_eq!(ended(&world, operation), (OperationState::Failed, message));
    }
}

#[test]
fn a_failover_in_the_middle_of_a_move_or_a_restore_ends_it() {
    let message = "node n2 went away in the middle of it; grain web goes on from a copy";
    let mut world = World::web(&[2]);
    let operation = landed(&mut world);
    world.fence(2);
    let base = Some(snapshot("1.9#"));
    let (grain, epoch, to) = (WEB, Epoch(2), NodeId(1));
    let cause = AssignCause::Failover { loss: None };
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    assert_eq!(ended(&world, operation), (OperationState::Failed, message.to_owned()));
    let guid = snapshot("1.1").guid;
    let message = message.replace("n2", "n1");
    let works = [
        Work::Restore { grain: WEB, snapshot: guid },
        Work::Snapshot { grain: WEB, name: "before".parse().unwrap() },
    ];
    for work in works {
        let mut world = World::web(&[2]);
        let operation = world.begin(work);
        world.fence(1);
        world.done(failover(2, "1.1"));
        assert_eq!(ended(&world, operation), (OperationState::Failed, message.clone()));
    }
}
