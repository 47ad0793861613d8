//! What a look at the runtime may say while an order is under way, and after it.

use scrap_host::datasets::DatasetId;
use scrap_host::runtime::{Instance, InstanceState, Listing, RuntimeCause, RuntimeError};
use scrap_schema::id::{Epoch, GrainId, NodeId};
use scrap_schema::snapshot::{Purpose, Snapshot, SnapshotName};

use super::*;

const WEB: GrainId = GrainId(7);

fn seen(state: InstanceState) -> Listing {
    let (epoch, deadline) = (Epoch(1), None);
    let instance = Instance { grain: WEB, epoch, state, restarts: 0, last_exit: None, deadline };
    Listing { instances: vec![instance], unclear: Vec::new() }
}

fn unclear() -> Listing {
    let cause = RuntimeCause::StillAlive { left: 1 };
    let error = RuntimeError { work: "look at", grain: WEB, cause };
    Listing { instances: Vec::new(), unclear: vec![error] }
}

fn alive(state: &State) -> bool {
    state.facts.runs.get(&WEB).is_some_and(|run| run.alive)
}

fn runs(state: &State) -> bool {
    state.facts.runs.get(&WEB).is_some_and(|run| run.up)
}

#[test]
fn a_look_in_the_middle_of_a_start_does_not_make_a_grain_run() {
    let mut state = State::default();
    state.facts.busy.insert(Lane::Run(WEB));
    state.take(Update::Instances(seen(InstanceState::Running), state.changes));
    assert!(!runs(&state));
}

#[test]
fn a_look_from_before_a_failed_start_does_not_make_a_grain_run() {
    let mut state = State::default();
    let as_of = state.changes;
    state.failed(Lane::Run(WEB), "no such program".to_owned(), BootTime(1000));
    state.take(Update::Instances(seen(InstanceState::Running), as_of));
    assert!(!runs(&state));
    // A later one is believed.
    state.take(Update::Instances(seen(InstanceState::Running), state.changes));
    assert!(runs(&state));
}

#[test]
fn a_grain_that_cannot_be_looked_at_is_not_taken_for_stopped() {
    let mut state = State::default();
    state.take(Update::Instances(seen(InstanceState::Running), state.changes));
    state.take(Update::Instances(unclear(), state.changes));
    assert!(runs(&state), "what was known stays true");

    let mut fresh = State::default();
    fresh.take(Update::Instances(unclear(), fresh.changes));
    assert!(alive(&fresh) && !runs(&fresh), "something of it may be alive");
    assert!(fresh.unclear.contains_key(&WEB));
    fresh.take(Update::Instances(seen(InstanceState::Stopped), fresh.changes));
    assert!(!alive(&fresh) && fresh.unclear.is_empty());
}

#[test]
fn an_extension_is_tried_again_at_its_own_pace() {
    let mut state = State::default();
    for attempt in 1..9 {
        let now = BootTime(10_000 * attempt);
        state.failed(Lane::Lease, "cannot list".to_owned(), now);
        assert_eq!(state.facts.failed[&Lane::Lease].retry_at, now + RETRY_FIRST);
    }
}

#[test]
fn a_grain_that_was_not_reached_is_told_and_tried_again() {
    let mut state = State::default();
    let silent = BTreeMap::from([(WEB, "its keeper does not answer".to_owned())]);
    state.take(Update::Extended(BootTime(5000), silent.clone()));
    assert_eq!((state.facts.extended, &state.silent), (None, &silent));
    assert!(state.facts.failed.contains_key(&Lane::Lease), "not again at once");
    state.take(Update::Extended(BootTime(6000), BTreeMap::new()));
    assert_eq!(state.facts.extended, Some(BootTime(6000)));
    assert!(state.silent.is_empty());
}

#[test]
fn an_answered_question_does_not_shorten_the_pause_after_the_next_failure() {
    let lane = Lane::Copy(WEB, NodeId(2));
    let mut state = State::default();
    let mut pauses = Vec::new();
    for now in [0, 100_000, 200_000].map(BootTime) {
        state.failed(lane, "refused".to_owned(), now);
        pauses.push(state.facts.failed[&lane].retry_at.0 - now.0);
        state.succeeded(lane, false);
    }
    assert!(pauses[0] < pauses[1] && pauses[1] < pauses[2], "{pauses:?}");
    state.succeeded(lane, true);
    assert!(state.facts.failed.is_empty());
}

#[test]
fn a_copy_that_has_everything_has_failed_at_nothing() {
    let name = SnapshotName { epoch: Epoch(1), seq: 2, purpose: Purpose::Replication };
    let newest = Snapshot { name, guid: Guid(2), created: Timestamp(0) };
    let mut state = State::default();
    let data = Dataset { snapshots: vec![newest], ..dataset(Role::Owner, 1) };
    state.take(Update::Data(WEB, Some(data)));
    for (says, fails) in [(vec![], true), (vec![Guid(1)], true), (vec![Guid(1), Guid(2)], false)] {
        let lane = Lane::Copy(WEB, NodeId(2));
        state.failed(lane, "away".to_owned(), BootTime(0));
        state.succeeded(lane, false);
        state.take(Update::Copy(WEB, NodeId(2), says.clone()));
        assert_eq!(state.facts.failed.contains_key(&lane), fails, "{says:?}");
    }
}

/// A dataset with nothing in it.
fn dataset(role: Role, epoch: u64) -> Dataset {
    Dataset {
        id: DatasetId::Grain(WEB),
        role,
        epoch: Epoch(epoch),
        snapshots: Vec::new(),
        bookmarks: Vec::new(),
        properties: BTreeMap::new(),
        used: Bytes(0),
        quota: Bytes(0),
        base: None,
        holds: BTreeMap::new(),
    }
}

#[test]
fn whoever_becomes_the_owner_again_asks_what_the_copies_have() {
    let mut state = State::default();
    state.take(Update::Data(WEB, Some(dataset(Role::Owner, 1))));
    state.take(Update::Copy(WEB, NodeId(2), vec![Guid(5)]));
    state.take(Update::Data(WEB, Some(dataset(Role::Owner, 1))));
    assert!(state.facts.copies.contains_key(&(WEB, NodeId(2))), "an owner all along");
    state.take(Update::Data(WEB, Some(dataset(Role::Standby, 2))));
    state.take(Update::Data(WEB, Some(dataset(Role::Owner, 3))));
    assert!(state.facts.copies.is_empty());
}

#[test]
fn a_change_of_role_that_was_refused_looks_for_writes_again() {
    let mut state = State::default();
    state.take(Update::Data(WEB, Some(dataset(Role::Owner, 1))));
    let dirty = Dirty { bytes: Bytes(0), at: Timestamp(1), probed: BootTime(1) };
    state.take(Update::Dirty(WEB, dirty));
    assert_eq!(state.facts.data[&WEB].dirty, Some(dirty));
    state.failed(Lane::Shape(WEB), "the head has writes of its own".to_owned(), BootTime(2));
    assert_eq!(state.facts.data[&WEB].dirty, None);
}
