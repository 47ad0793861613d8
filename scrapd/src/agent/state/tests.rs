//! What a look at the runtime may say while an order is under way, and after it.

use scrap_host::datasets::DatasetId;
use scrap_host::runtime::{Instance, InstanceState, Listing, RuntimeCause, RuntimeError};
use scrap_schema::id::{Epoch, GrainId, NodeId};
use scrap_schema::node::Verdict;
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

#[test]
fn a_grant_counts_from_its_sending_once_what_the_leader_knew_is_applied_here() {
    let mut state = State::default();
    let granted = |state: &State| state.facts.lease.granted;
    let answer = |sent, index, verdict| {
        let sent = BootTime(sent);
        Update::Answered(RenewalAnswer { sent, verdict, index, wants_full: false }, BootTime(900))
    };
    state.take(answer(100, 10, Verdict::Granted));
    state.applied(9);
    assert_eq!(granted(&state), None, "the picture of the cluster is older than the grant");
    state.applied(10);
    assert_eq!(granted(&state), Some(BootTime(100)));
    state.take(answer(200, 10, Verdict::Suspected));
    state.take(answer(300, 10, Verdict::Unregistered));
    state.take(answer(50, 10, Verdict::Granted));
    state.applied(11);
    assert_eq!(granted(&state), Some(BootTime(100)), "neither refused nor late ones count");
    state.take(Update::Granted(Some(BootTime(80))));
    state.take(Update::Granted(None));
    assert_eq!(granted(&state), Some(BootTime(100)));
    state.take(Update::Granted(Some(BootTime(150))));
    assert_eq!(granted(&state), Some(BootTime(150)), "what an earlier daemon was granted");
}

#[test]
fn a_look_from_before_a_start_or_a_stop_is_not_believed() {
    let mut state = State::default();
    let as_of = state.changes;
    state.take(Update::Started(WEB, Epoch(3), true));
    state.take(Update::Instances(Listing::default(), as_of));
    assert!(runs(&state) && state.facts.runs[&WEB].armed, "it began after the look");
    let as_of = state.changes;
    state.take(Update::Stopped(WEB, StopReason::Unwanted));
    state.take(Update::Instances(seen(InstanceState::Running), as_of));
    assert!(!alive(&state), "it was stopped after the look");
    state.take(Update::Instances(seen(InstanceState::Running), state.changes));
    assert!(alive(&state));
    state.take(Update::Instances(Listing::default(), state.changes));
    assert!(!alive(&state) && state.facts.runs[&WEB].stopped.is_some(), "it has vanished");
}

#[test]
fn what_a_look_says_of_a_running_grain_is_taken_whole() {
    let mut state = State::default();
    state.take(Update::Started(WEB, Epoch(3), false));
    let mut listing = seen(InstanceState::BackingOff);
    listing.instances[0].epoch = Epoch(4);
    listing.instances[0].deadline = Some(BootTime(70));
    state.take(Update::Instances(listing, state.changes));
    let run = &state.facts.runs[&WEB];
    assert_eq!((run.alive, run.up, run.armed, run.epoch), (true, false, true, Epoch(4)));
    state.take(Update::Disarmed(WEB));
    assert!(!state.facts.runs[&WEB].armed);
    state.take(Update::Armed(WEB));
    assert!(state.facts.runs[&WEB].armed);
}

#[test]
fn pauses_after_failures_double_up_to_half_a_minute() {
    let mut state = State::default();
    let lane = Lane::Copy(WEB, NodeId(2));
    let pauses: Vec<u64> = (0..9)
        .map(|_| {
            state.failed(lane, "refused".to_owned(), BootTime(0));
            state.facts.failed[&lane].retry_at.0
        })
        .collect();
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    state.succeeded(lane, true);
    assert!(state.facts.failed.is_empty());
}

#[test]
fn what_a_check_found_of_an_earlier_start_says_nothing_of_this_one() {
    let mut state = State::default();
    state.take(Update::Started(WEB, Epoch(1), false));
    let checked = |start, result| Checked { start, result, counts: true, at: Timestamp(5) };
    state.take(Update::Health(WEB, checked(0, Ok(()))));
    assert_eq!(state.facts.runs[&WEB].ready, None);
    state.take(Update::Health(WEB, checked(1, Err("port 80 is closed".to_owned()))));
    assert_eq!((state.facts.runs[&WEB].healthy, state.facts.runs[&WEB].failing), (Some(false), 1));
    state.take(Update::Health(WEB, checked(1, Ok(()))));
    let run = &state.facts.runs[&WEB];
    assert_eq!((run.ready, run.failing, &run.ailment), (Some(Timestamp(5)), 0, &None));
    state.take(Update::Stopped(WEB, StopReason::Unwell));
    state.take(Update::Health(WEB, checked(1, Ok(()))));
    assert_eq!(state.facts.runs[&WEB].healthy, None, "what is stopped answers nobody");
}

#[test]
fn a_look_for_writes_counts_until_the_next_snapshot() {
    let mut state = State::default();
    let snapshot = |seq| Snapshot {
        name: SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication },
        guid: Guid(seq),
        created: Timestamp(0),
    };
    let with = |seqs: &[u64]| {
        let snapshots = seqs.iter().map(|seq| snapshot(*seq)).collect();
        Update::Data(WEB, Some(Dataset { snapshots, ..dataset(Role::Owner, 1) }))
    };
    let dirty = Dirty { bytes: Bytes(7), at: Timestamp(1), probed: BootTime(1) };
    state.take(with(&[1]));
    state.take(Update::Dirty(WEB, dirty));
    state.take(with(&[1]));
    assert_eq!(state.facts.data[&WEB].dirty, Some(dirty));
    state.take(with(&[1, 2]));
    assert_eq!(state.facts.data[&WEB].dirty, None);
}
