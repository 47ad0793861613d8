//! Table tests of `apply`: what each decision needs to be true, what a repeated request gets, what an interruption leaves behind.
//! [`World`] looks at every entry: rows that change are touched, a refusal has no effect, there are no contradictions.

use std::collections::BTreeSet;

use scrap_schema::command::{ApplyItem, AssignCause, Command};
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId, OperationId};
use scrap_schema::operation::{OperationState, Work};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::{Bytes, Span};

use crate::cluster::{Declined, Outcome, Stage};
use crate::fail_over::on_main_line;
use crate::fixture::{WEB, World, snapshot, text};
use crate::refusal::Refusal;

mod late;
mod lots;
mod moves;
mod random;
mod recover;
mod repeats;

const AT: Timestamp = Timestamp(5);

fn failover(to: u64, base: &str) -> Command {
    let cause = AssignCause::Failover { loss: None };
    let base = Some(snapshot(base));
    Command::AssignGrain { grain: WEB, epoch: Epoch(1), to: NodeId(to), base, cause }
}

fn migration(world: &mut World) -> OperationId {
    let operation = world.begin(Work::Migrate { grain: WEB, to: Some(NodeId(2)) });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::BeginMigration { grain, epoch, operation, to });
    operation
}

fn released(world: &mut World) -> OperationId {
    let operation = migration(world);
    let (grain, epoch) = (WEB, Epoch(1));
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    let last = snapshot("1.9#");
    let quiesced = world.cluster.index;
    world.done(Command::GrainReleased { grain, epoch, operation, last, stopping: AT, quiesced });
    operation
}

fn landed(world: &mut World) -> OperationId {
    let operation = released(world);
    world.done(hand_over(operation, 2, "1.9#"));
    operation
}

fn hand_over(operation: OperationId, to: u64, base: &str) -> Command {
    let (base, cause) = (Some(snapshot(base)), AssignCause::Migrate { operation });
    Command::AssignGrain { grain: WEB, epoch: Epoch(1), to: NodeId(to), base, cause }
}

fn ended(world: &World, operation: OperationId) -> (OperationState, String) {
    let operation = &world.cluster.operations[&operation];
    (operation.state, operation.summary.message.clone())
}

#[test]
fn every_order_of_another_epoch_is_stale() {
    let mut world = World::web(&[2]);
    let (grain, operation, to) = (WEB, OperationId(1), NodeId(2));
    let base = Some(snapshot("1.1"));
    for epoch in [Epoch(0), Epoch(2)] {
        let last = snapshot("1.9");
        let cause = AssignCause::Failover { loss: None };
        for command in [
            Command::AssignGrain { grain, epoch, to, base: base.clone(), cause },
            Command::SetStandbys { grain, epoch, standbys: BTreeSet::from([NodeId(3)]) },
            Command::BeginMigration { grain, epoch, operation, to },
            Command::QuiesceGrain { grain, epoch, operation },
            Command::AbortMigration { grain, epoch, operation, why: String::new() },
            Command::TurnBack { grain, epoch, operation },
            Command::EndMigration { grain, epoch, operation },
            Command::GrainBorn { grain, epoch },
            Command::GrainArmed { grain, epoch, seen: None },
            Command::GrainStarted { grain, epoch, at: AT, seen: None },
            Command::GrainStopped { grain, epoch, at: AT, seen: None },
            Command::GrainReleased {
                grain,
                epoch,
                operation,
                last: last.clone(),
                stopping: AT,
                quiesced: 1,
            },
            Command::SnapshotTaken { grain, epoch, operation, snapshot: last.clone() },
            Command::GrainRestored { grain, epoch, operation, before: last },
        ] {
            let refusal = world.refused(command);
            assert_eq!(refusal, Refusal::Stale { offered: epoch, held: Epoch(1) });
        }
    }
}

#[test]
fn a_grain_is_given_away_only_when_its_owner_is_surely_stopped() {
    let mut world = World::web(&[2]);
    world.refused(failover(2, "1.1"));
    let (node, boot) = (NodeId(1), BootId(1));
    world.done(Command::SuspectNode { node, boot, last_heard: AT });
    world.refused(failover(2, "1.1"));
    let mut world = World::web(&[2]);
    world.fence(1);
    world.refused(failover(9, "1.1"));
    let cause = AssignCause::Failover { loss: None };
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.refused(Command::AssignGrain { grain, epoch, to, base: None, cause });
    let mut unarmed = world.clone();
    unarmed.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    unarmed.refused(failover(2, "1.1"));
    world.done(failover(2, "1.1"));
    let web = world.the(WEB);
    assert_eq!((web.epoch, web.owner, &web.stage), (Epoch(2), Some(NodeId(2)), &Stage::Settled));
    assert_eq!((web.standbys.len(), web.started), (1, None));
    world.refused(failover(2, "1.1"));
}

#[test]
fn an_epoch_that_cannot_begin_is_given_away_again() {
    let mut world = World::web(&[2, 3]);
    world.fence(1);
    world.done(failover(2, "1.5"));
    let (grain, epoch) = (WEB, Epoch(2));
    let again = |base: &str| Command::AssignGrain {
        grain,
        epoch,
        to: NodeId(3),
        base: Some(snapshot(base)),
        cause: AssignCause::Failover { loss: None },
    };
    let decline = |epoch, sure| Command::GrainDeclined { grain, epoch, sure };
    world.refused(again("1.4"));
    world.refused(decline(Epoch(1), false));
    world.refused(decline(epoch, true));
    let mut begun = world.clone();
    begun.done(Command::GrainStarted { grain, epoch, at: AT, seen: None });
    begun.refused(decline(epoch, false));
    world.done(decline(epoch, false));
    assert_eq!(world.done(decline(epoch, false)), Outcome::Unchanged);
    // It may have begun in the moment before it knew: nobody else gets it before it is sure.
    world.refused(again("1.4"));
    world.refused(Command::GrainStarted { grain, epoch, at: AT, seen: None });
    assert!(!on_main_line(world.the(WEB), &snapshot("1.6")));
    world.done(decline(epoch, true));
    assert_eq!(world.done(decline(epoch, true)), Outcome::Unchanged);
    // Nothing forks off where nothing began.
    assert!(on_main_line(world.the(WEB), &snapshot("1.6")));
    world.done(again("1.6"));
    let web = world.the(WEB);
    let expected = (Epoch(3), Some(NodeId(3)), Declined::No);
    assert_eq!((web.epoch, web.owner, web.declined), expected);
    assert!(!on_main_line(world.the(WEB), &snapshot("1.7")));
}

#[test]
fn what_was_decided_before_others_fell_silent_is_not_done_any_more() {
    let silent =
        |number| Command::SuspectNode { node: NodeId(number), boot: BootId(1), last_heard: AT };
    let mut world = World::web(&[2, 3]);
    world.fence(1);
    let mut target = world.clone();
    target.done(silent(2));
    target.refused(failover(2, "1.1"));
    // Two of three are silent: the third one is more likely to be cut off itself.
    target.refused(failover(3, "1.1"));
    let work = Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off: false };
    target.begin(work);
    target.done(failover(3, "1.1"));
    world.done(failover(2, "1.1"));
    // A move is not assigned to a node that has just fallen silent.
    let mut world = World::web(&[2, 3]);
    let operation = released(&mut world);
    world.done(silent(2));
    world.refused(hand_over(operation, 2, "1.9#"));
}

#[test]
fn a_person_who_says_that_the_owner_is_off_is_believed_only_after_the_fence() {
    let mut world = World::web(&[2]);
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    let ask = Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off: true };
    let (operation, work) = (OperationId(7), ask);
    let command = Command::StartOperation { operation, work: work.clone(), text: None };
    assert!(matches!(world.refused(command.clone()), Refusal::OwnerAlive { .. }));
    world.done(Command::SuspectNode { node: NodeId(1), boot: BootId(1), last_heard: AT });
    world.done(command);
    world.refused(failover(2, "1.1"));
    for tick in 1..=8 {
        world.done(Command::TickNode { node: NodeId(1), boot: BootId(1), tick });
    }
    world.done(Command::FenceNode { node: NodeId(1), boot: BootId(1) });
    world.done(failover(2, "1.1"));
}

#[test]
fn a_failover_that_is_asked_for_ends_what_the_lost_owner_was_doing() {
    let guid = snapshot("1.1").guid;
    let works = [
        Work::Restart { grain: WEB },
        Work::Stop { grain: WEB },
        Work::Snapshot { grain: WEB, name: "before".parse().unwrap() },
        Work::Restore { grain: WEB, snapshot: guid },
        Work::Migrate { grain: WEB, to: None },
    ];
    let failover = Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off: true };
    for work in works {
        let mut world = World::web(&[2]);
        let operation = world.begin(work);
        world.fence(1);
        let failover = world.begin(failover.clone());
        let message = "node n1 went away in the middle of it; a failover was asked for";
        assert_eq!(ended(&world, operation), (OperationState::Failed, message.to_owned()));
        let web = world.the(WEB);
        assert_eq!((web.operation, &web.stage), (Some(failover), &Stage::Settled));
    }
    let mut world = World::web(&[2]);
    migration(&mut world);
    world.fence(1);
    let command = |work| Command::StartOperation { operation: OperationId(7), work, text: None };
    assert!(matches!(world.refused(command(failover)), Refusal::Busy { .. }));
}

#[test]
fn what_only_the_owner_can_do_is_not_begun_without_it() {
    let mut world = World::web(&[2]);
    world.fence(1);
    let guid = snapshot("1.1").guid;
    let works = [
        Work::Restart { grain: WEB },
        Work::Snapshot { grain: WEB, name: "before".parse().unwrap() },
        Work::Restore { grain: WEB, snapshot: guid },
        Work::Migrate { grain: WEB, to: None },
    ];
    for work in works {
        let command = Command::StartOperation { operation: OperationId(7), work, text: None };
        assert!(matches!(world.refused(command), Refusal::OwnerGone { .. }));
    }
}

#[test]
fn a_node_goes_only_if_the_others_can_go_on_without_it() {
    let remove =
        |number| Command::RemoveNode { node: NodeId(number), if_index: None, leave_orphans: false };
    let mut world = World::web(&[2]);
    assert!(matches!(world.refused(remove(1)), Refusal::InUse { by, .. } if by == "grain web"));
    let mut trashed = world.clone();
    trashed.done(Command::TrashGrain { grain: WEB, if_index: None, keep_until: AT });
    let Refusal::InUse { by, .. } = trashed.refused(remove(1)) else { panic!("it goes") };
    assert_eq!(by, "grain web, which is in the trash");
    let stale = Command::RemoveNode { node: NodeId(3), if_index: Some(0), leave_orphans: false };
    assert!(matches!(world.refused(stale), Refusal::Changed { .. }));
    let mut dead = world.clone();
    dead.fence(3);
    let no_majority = Refusal::NodeNeeded {
        node: "n2".to_owned(),
        why: "1 of the other 2 is no majority".to_owned(),
    };
    assert_eq!(dead.refused(remove(2)), no_majority);
    dead.done(remove(3));
    let mut four = World::nodes(4);
    four.grain(WEB, "web", 1, &[2]);
    four.fence(1);
    let last_copy = Refusal::NodeNeeded {
        node: "n2".to_owned(),
        why: "it has the only reachable copy of grain web".to_owned(),
    };
    assert_eq!(four.refused(remove(2)), last_copy);
    world.done(remove(2));
    assert!(world.the(WEB).standbys.is_empty());
    world.done(remove(3));
    let mut alone = World::nodes(1);
    assert!(matches!(alone.refused(remove(1)), Refusal::LastNode { .. }));
}

#[test]
fn a_node_takes_its_orphans_away_only_by_a_persons_word() {
    let mut world = World::web(&[2]);
    let node = NodeId(3);
    let snapshot = snapshot("1.1");
    world.done(Command::OrphanKept {
        grain: WEB,
        orphan_epoch: Epoch(1),
        node,
        base: None,
        head: snapshot,
        newer: Bytes(5),
        used: Bytes(7),
        seen: None,
    });
    let remove = |leave_orphans| Command::RemoveNode { node, if_index: None, leave_orphans };
    let Refusal::InUse { by, .. } = world.refused(remove(false)) else { panic!("it goes") };
    assert_eq!(by, "orphans, data that only it has: web of epoch 1");
    world.done(remove(true));
    let kept: Vec<_> =
        world.cluster.orphans.values().map(|orphan| orphan.left_on.clone()).collect();
    assert_eq!(kept, [Some("n3".parse().unwrap())]);
}

#[test]
fn a_set_is_refused_if_something_in_it_changed_meanwhile() {
    let mut world = World::web(&[]);
    let prompt = world.cluster.policies[&"prompt".parse().unwrap()].clone();
    let index = prompt.modified;
    let items = vec![ApplyItem::Policy { name: "prompt".parse().unwrap(), policy: prompt.policy }];
    let set = |unchanged_after| Command::Apply {
        items: items.clone(),
        prune: None,
        keep_until: AT,
        unchanged_after: Some(unchanged_after),
    };
    assert!(matches!(world.refused(set(index - 1)), Refusal::Changed { have, .. } if have < index));
    world.done(set(index));
}

#[test]
fn a_failover_in_the_middle_of_a_drain_lets_the_drain_go_on() {
    let mut world = World::web(&[2]);
    let operation = OperationId(7);
    let work = Work::Drain { node: NodeId(1) };
    world.done(Command::StartOperation { operation, work, text: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    world.done(Command::BeginMigration { grain, epoch, operation, to });
    world.done(Command::QuiesceGrain { grain, epoch, operation });
    let last = snapshot("1.9#");
    let quiesced = world.cluster.index;
    world.done(Command::GrainReleased { grain, epoch, operation, last, stopping: AT, quiesced });
    world.done(hand_over(operation, 2, "1.9#"));
    world.fence(2);
    let (epoch, to) = (Epoch(2), NodeId(1));
    let (base, cause) = (Some(snapshot("1.9#")), AssignCause::Failover { loss: None });
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    assert_eq!(world.the(WEB).operation, None);
    assert_eq!(ended(&world, operation).0, OperationState::Running);
}

#[test]
fn a_snapshot_ends_only_the_work_that_asked_for_it() {
    let mut world = World::web(&[2]);
    let (grain, epoch, snapshot) = (WEB, Epoch(1), snapshot("1.1"));
    let operation = world.begin(Work::Restart { grain });
    world.refused(Command::SnapshotTaken { grain, epoch, operation, snapshot });
}

/// A drain gives a move up and begins it again in the same epoch: the answer to the first order must not count for the second one,
/// because the grain ran in between.
#[test]
fn a_release_answers_one_order_only() {
    let mut world = World::web(&[2]);
    let operation = OperationId(7);
    let work = Work::Drain { node: NodeId(1) };
    world.done(Command::StartOperation { operation, work, text: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(2));
    let order = |world: &mut World| {
        world.done(Command::BeginMigration { grain, epoch, operation, to });
        world.done(Command::QuiesceGrain { grain, epoch, operation });
        world.cluster.index
    };
    let first = order(&mut world);
    world.done(Command::AbortMigration { grain, epoch, operation, why: "of a test".to_owned() });
    let second = order(&mut world);
    let last = snapshot("1.9#");
    let release = |quiesced| {
        let last = last.clone();
        Command::GrainReleased { grain, epoch, operation, last, stopping: AT, quiesced }
    };
    world.refused(release(first));
    world.done(release(second));
}

#[test]
fn what_needs_no_lease_any_more_is_not_armed_by_a_late_report() {
    let mut world = World::web(&[2]);
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.mode = scrap_schema::spec::FailoverMode::Manual;
    world.refused(Command::GrainArmed { grain: WEB, epoch: Epoch(1), seen: None });
}

#[test]
fn a_new_grain_takes_no_operation_from_another_one() {
    let mut world = World::web(&[2]);
    let operation = migration(&mut world);
    let (grain, new_id) = (GrainId(77), GrainId(77));
    world.refused(Command::CreateGrain { grain, operation, text: text("new") });
    let items = vec![ApplyItem::Grain { new_id, operation, text: text("new") }];
    let (prune, keep_until) = (None, AT);
    world.refused(Command::Apply { items, prune, keep_until, unchanged_after: None });
    assert_eq!(world.cluster.operations[&operation].work.grain(), Some(WEB));
}

#[test]
fn a_grain_that_is_still_being_made_can_be_removed() {
    let mut world = World::nodes(3);
    let (grain, operation, keep_until) = (WEB, OperationId(7), AT);
    world.done(Command::CreateGrain { grain, operation, text: text("web") });
    world.done(Command::TrashGrain { grain, if_index: None, keep_until });
    let message = "the grain was removed".to_owned();
    assert_eq!(ended(&world, operation), (OperationState::Cancelled, message));
    world.done(Command::PurgeGrain { grain, if_index: None });
    assert!(world.cluster.purged.contains(&grain));
}

#[test]
fn a_clone_begins_in_the_epoch_of_its_source() {
    for epoch in [1, 5] {
        let mut world = World::web(&[2]);
        let source = world.cluster.grains.get_mut(&WEB).unwrap();
        source.epoch = Epoch(epoch);
        source.tenures.last_mut().unwrap().epoch = Epoch(epoch);
        let (operation, grain) = (OperationId(7), GrainId(2));
        let work = Work::Clone { from: WEB, snapshot: None, grain };
        world.done(Command::StartOperation { operation, work, text: Some(text("twin")) });
        let twin = world.the(grain);
        let tenures: Vec<Epoch> = twin.tenures.iter().map(|tenure| tenure.epoch).collect();
        assert_eq!((twin.epoch, tenures), (Epoch(epoch), vec![Epoch(epoch)]));
    }
}

#[test]
fn a_clone_without_data_leaves_nothing_behind() {
    let clone = |world: &mut World| {
        let (operation, grain) = (OperationId(7), GrainId(2));
        let work = Work::Clone { from: WEB, snapshot: None, grain };
        world.done(Command::StartOperation { operation, work, text: Some(text("twin")) });
    };
    let mut world = World::web(&[2]);
    clone(&mut world);
    let (grain, if_index, keep_until) = (GrainId(2), None, AT);
    world.done(Command::TrashGrain { grain, if_index, keep_until });
    assert_eq!(world.cluster.grains.len(), 1);
    let mut world = World::web(&[2]);
    clone(&mut world);
    let (operation, node, why) = (OperationId(7), NodeId(1), "gone".to_owned());
    world.done(Command::OperationStuck { grain: GrainId(2), operation, node, why });
    assert_eq!(world.cluster.grains.len(), 1);
    assert_eq!(ended(&world, operation), (OperationState::Failed, "node n1: gone".to_owned()));
}

#[test]
fn facts_that_are_known_change_nothing() {
    let mut world = World::web(&[2]);
    let (grain, epoch) = (WEB, Epoch(1));
    world.done(Command::GrainArmed { grain, epoch, seen: None });
    for command in [
        Command::GrainBorn { grain, epoch },
        Command::GrainArmed { grain, epoch, seen: None },
        Command::GrainStarted { grain, epoch, at: AT, seen: None },
        Command::SetStandbys { grain, epoch, standbys: BTreeSet::from([NodeId(2)]) },
        Command::SetCordon { node: NodeId(2), cordoned: false },
        Command::UndrainNode { node: NodeId(2) },
        Command::UndeleteGrain { grain },
    ] {
        assert_eq!(world.done(command), Outcome::Unchanged);
    }
    let kept = |node| Command::OrphanKept {
        grain,
        orphan_epoch: epoch,
        node: NodeId(node),
        base: None,
        head: snapshot("1.3"),
        newer: Bytes(1),
        used: Bytes(2),
        seen: None,
    };
    assert_eq!(world.done(kept(1)), Outcome::Done);
    assert_eq!(world.done(kept(1)), Outcome::Unchanged);
    assert_eq!(world.done(kept(2)), Outcome::Done);
}

#[test]
fn a_snapshot_that_is_reported_twice_is_remembered_once() {
    let mut world = World::web(&[2]);
    let operation = world.begin(Work::Snapshot { grain: WEB, name: "kept".parse().unwrap() });
    let taken = Command::SnapshotTaken {
        grain: WEB,
        epoch: Epoch(1),
        operation,
        snapshot: snapshot("1.4!"),
    };
    world.done(taken.clone());
    world.refused(taken);
    assert_eq!(world.the(WEB).snapshots.len(), 1);
}

#[test]
fn names_are_free_again_in_the_trash_and_taken_on_the_way_back() {
    let mut world = World::web(&[]);
    let (grain, if_index, keep_until) = (WEB, None, AT);
    world.done(Command::TrashGrain { grain, if_index, keep_until });
    world.grain(GrainId(2), "web", 2, &[]);
    assert!(matches!(world.refused(Command::UndeleteGrain { grain }), Refusal::NameTaken { .. }));
    world.refused(Command::PurgeGrain { grain, if_index: None });
    world.done(Command::GrainStopped { grain, epoch: Epoch(1), at: AT, seen: None });
    world.done(Command::PurgeGrain { grain, if_index: None });
    assert!(world.cluster.grain_named(&"web".parse().unwrap()).is_some());
}

#[test]
fn somebody_elses_change_is_noticed() {
    let mut world = World::web(&[]);
    let is = world.the(WEB).modified;
    let update = |if_index| {
        let mut new = text("web");
        new.labels.insert("a".to_owned(), "b".to_owned());
        let (labels, annotations, spec) = (new.labels, new.annotations, new.spec);
        Command::UpdateGrain { grain: WEB, if_index, labels, annotations, spec }
    };
    assert!(matches!(world.refused(update(Some(is + 1))), Refusal::Changed { .. }));
    world.done(update(Some(is)));
    assert!(matches!(
        world.refused(Command::TrashGrain { grain: WEB, if_index: Some(is), keep_until: AT }),
        Refusal::Changed { .. }
    ));
}

#[test]
fn what_a_program_was_started_with_changes_by_starting_it_again() {
    type Change = fn(&mut scrap_schema::spec::GrainSpec);
    let changes: [(&str, Change, bool); 4] = [
        ("memory", |spec| spec.resources.memory = Bytes(512 << 20), true),
        ("cpu", |spec| spec.resources.cpu = "3".parse().unwrap(), true),
        ("disk", |spec| spec.resources.disk = Bytes(512 << 30), false),
        ("stop", |spec| spec.stop.timeout = Span::from_secs(77), false),
    ];
    for (what, change, restarts) in changes {
        let mut world = World::web(&[]);
        let mut spec = world.the(WEB).spec.clone();
        change(&mut spec);
        let (labels, annotations, if_index) = (Default::default(), Default::default(), None);
        world.done(Command::UpdateGrain { grain: WEB, if_index, labels, annotations, spec });
        let restarting = world.the(WEB).stage == Stage::Restarting { operation: None };
        assert_eq!(restarting, restarts, "{what}");
    }
}
