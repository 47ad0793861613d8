//! Any commands in any order: the state stays free of contradictions, what changes is touched, a refusal has no effect.

use proptest::prelude::*;
use scrap_schema::command::{ApplyItem, AssignCause, Command};
use scrap_schema::id::{BootId, Epoch, GrainId, Name, NodeId, OperationId};
use scrap_schema::node::NodeRole;
use scrap_schema::operation::{Phase, Work};
use scrap_schema::snapshot::Snapshot;
use scrap_schema::spec::{Labels, NodeSpec, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use crate::fixture::{World, new_node, registration, snapshot, text};

fn grain() -> impl Strategy<Value = GrainId> {
    (1..4_u128).prop_map(GrainId)
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..5_u64).prop_map(NodeId)
}

fn boot() -> impl Strategy<Value = BootId> {
    (1..3_u64).prop_map(BootId)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (0..4_u64).prop_map(Epoch)
}

fn operation() -> impl Strategy<Value = OperationId> {
    (1..6_u128).prop_map(OperationId)
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(|name| name.parse().unwrap())
}

fn frozen() -> impl Strategy<Value = Snapshot> {
    prop_oneof![Just("1.1"), Just("1.2#"), Just("2.3"), Just("1.4!")].prop_map(snapshot)
}

const AT: Timestamp = Timestamp(7);

fn work() -> impl Strategy<Value = Work> {
    let to = || prop::option::of(node());
    prop_oneof![
        grain().prop_map(|grain| Work::Start { grain }),
        grain().prop_map(|grain| Work::Stop { grain }),
        grain().prop_map(|grain| Work::Restart { grain }),
        (grain(), to()).prop_map(|(grain, to)| Work::Migrate { grain, to }),
        (grain(), to(), any::<bool>()).prop_map(|(grain, to, owner_is_off)| Work::Failover {
            grain,
            to,
            accept_loss: None,
            owner_is_off
        }),
        node().prop_map(|node| Work::Drain { node }),
        (grain(), name()).prop_map(|(grain, name)| Work::Snapshot { grain, name }),
        (grain(), frozen())
            .prop_map(|(grain, frozen)| Work::Restore { grain, snapshot: frozen.guid }),
        (grain(), grain()).prop_map(|(from, grain)| Work::Clone { from, snapshot: None, grain }),
    ]
}

fn wishes() -> BoxedStrategy<Command> {
    prop_oneof![
        3 => (grain(), operation(), name()).prop_map(|(grain, operation, name)| {
            Command::CreateGrain { grain, operation, text: text(name.as_str()) }
        }),
        1 => (grain(), name(), any::<bool>()).prop_map(|(grain, name, running)| {
            let mut new = text(name.as_str());
            new.spec.running = running;
            let (labels, annotations, spec) = (new.labels, new.annotations, new.spec);
            Command::UpdateGrain { grain, if_index: None, labels, annotations, spec }
        }),
        1 => grain().prop_map(|grain| Command::TrashGrain { grain, if_index: None, keep_until: AT }),
        1 => grain().prop_map(|grain| Command::UndeleteGrain { grain }),
        1 => grain().prop_map(|grain| Command::PurgeGrain { grain, if_index: None }),
        4 => (operation(), work(), name()).prop_map(|(operation, work, name)| {
            Command::StartOperation { operation, work, text: Some(text(name.as_str())) }
        }),
        1 => operation().prop_map(|operation| Command::CancelOperation { operation }),
        2 => (operation(), any::<bool>(), any::<bool>()).prop_map(|(operation, failed, cancelled)| {
            let summary = Default::default();
            Command::FinishOperation { operation, failed, cancelled, summary }
        }),
        1 => operation().prop_map(|operation| Command::EnterPhase { operation, phase: Phase::Data }),
        1 => (grain(), operation(), node()).prop_map(|(grain, operation, node)| {
            Command::OperationStuck { grain, operation, node, why: "of a test".to_owned() }
        }),
        1 => (grain(), operation(), name(), any::<bool>()).prop_map(|(new_id, operation, name, prune)| {
            let items = vec![
                ApplyItem::Policy { name: "mine".parse().unwrap(), policy: Policy::standard() },
                ApplyItem::Grain { new_id, operation, text: text(name.as_str()) },
            ];
            let prune = prune.then(Labels::new);
            Command::Apply { items, prune, keep_until: AT, unchanged_after: None }
        }),
        1 => Just(Command::DeletePolicy { name: "mine".parse().unwrap(), if_index: None }),
    ]
    .boxed()
}

fn nodes() -> BoxedStrategy<Command> {
    prop_oneof![
        (1..6_u64).prop_map(|number| Command::AddNode { node: new_node(number, NodeRole::Data) }),
        (node(), boot()).prop_map(|(node, boot)| {
            let new = new_node(node.0, NodeRole::Data);
            registration(node, boot, new.addresses, new.facts)
        }),
        (node(), boot()).prop_map(|(node, boot)| Command::SuspectNode {
            node,
            boot,
            last_heard: AT
        }),
        (node(), boot(), 1..9_u32).prop_map(|(node, boot, tick)| Command::TickNode {
            node,
            boot,
            tick
        }),
        (node(), boot()).prop_map(|(node, boot)| Command::FenceNode { node, boot }),
        (node(), boot()).prop_map(|(node, boot)| Command::AttestNode { node, boot }),
        (node(), boot()).prop_map(|(node, boot)| Command::LeaveNode { node, boot }),
        (node(), boot()).prop_map(|(node, boot)| {
            Command::AlarmNode { node, boot, what: "a table is gone".to_owned(), well: false }
        }),
        (node(), any::<bool>()).prop_map(|(node, cordoned)| Command::SetCordon { node, cordoned }),
        node().prop_map(|node| Command::UndrainNode { node }),
        node().prop_map(|node| Command::RemoveNode { node, if_index: None, leave_orphans: true }),
        node().prop_map(|node| {
            let (labels, spec) = (Labels::new(), NodeSpec { cordoned: true, fence: None });
            Command::UpdateNode { node, if_index: None, labels, spec }
        }),
    ]
    .boxed()
}

fn decisions() -> BoxedStrategy<Command> {
    let of = || (grain(), epoch(), operation());
    let cause = prop_oneof![
        2 => Just(AssignCause::Place),
        1 => operation().prop_map(|operation| AssignCause::Migrate { operation }),
        1 => Just(AssignCause::Failover { loss: None }),
    ];
    prop_oneof![
        4 => (grain(), epoch(), node(), prop::option::of(frozen()), cause).prop_map(
            |(grain, epoch, to, base, cause)| Command::AssignGrain { grain, epoch, to, base, cause }
        ),
        1 => (grain(), epoch(), prop::collection::btree_set(node(), 0..3))
            .prop_map(|(grain, epoch, standbys)| Command::SetStandbys { grain, epoch, standbys }),
        1 => (grain(), epoch(), node(), prop::option::of(frozen())).prop_map(
            |(grain, epoch, node, frozen)| {
                let snapshot = frozen.map(|frozen| frozen.guid);
                Command::RememberCopy { grain, epoch, node, snapshot, silent: false }
            }
        ),
        3 => (of(), node()).prop_map(|((grain, epoch, operation), to)| {
            Command::BeginMigration { grain, epoch, operation, to }
        }),
        2 => of().prop_map(|(grain, epoch, operation)| {
            Command::QuiesceGrain { grain, epoch, operation }
        }),
        1 => of().prop_map(|(grain, epoch, operation)| {
            Command::AbortMigration { grain, epoch, operation, why: "of a test".to_owned() }
        }),
        1 => of().prop_map(|(grain, epoch, operation)| Command::TurnBack { grain, epoch, operation }),
        1 => of().prop_map(|(grain, epoch, operation)| {
            Command::EndMigration { grain, epoch, operation }
        }),
    ]
    .boxed()
}

fn facts() -> BoxedStrategy<Command> {
    let of = || (grain(), epoch(), operation());
    prop_oneof![
        2 => (grain(), epoch()).prop_map(|(grain, epoch)| Command::GrainBorn { grain, epoch }),
        1 => (grain(), epoch()).prop_map(|(grain, epoch)| Command::GrainArmed { grain, epoch, seen: None }),
        2 => (grain(), epoch()).prop_map(|(grain, epoch)| Command::GrainStarted { grain, epoch, at: AT, seen: None }),
        1 => (grain(), epoch()).prop_map(|(grain, epoch)| Command::GrainStopped { grain, epoch, at: AT, seen: None }),
        2 => (of(), frozen(), 10..60_u64).prop_map(|((grain, epoch, operation), last, quiesced)| {
            Command::GrainReleased { grain, epoch, operation, last, stopping: AT, quiesced }
        }),
        1 => (of(), frozen()).prop_map(|((grain, epoch, operation), snapshot)| {
            Command::SnapshotTaken { grain, epoch, operation, snapshot }
        }),
        1 => (of(), frozen()).prop_map(|((grain, epoch, operation), before)| {
            Command::GrainRestored { grain, epoch, operation, before }
        }),
        1 => (grain(), epoch(), node(), frozen()).prop_map(|(grain, orphan_epoch, node, head)| {
            let (base, newer, used) = (None, Bytes(1), Bytes(2));
            Command::OrphanKept { grain, orphan_epoch, node, base, head, newer, used, seen: None }
        }),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_leave_a_state_without_contradictions(
        commands in prop::collection::vec(
            prop_oneof![3 => wishes(), 2 => nodes(), 4 => decisions(), 3 => facts()],
            1..120,
        )
    ) {
        let mut world = World::nodes(3);
        for command in commands {
            // The looking is done by the world.
            let _ = world.try_apply(command);
        }
    }
}
