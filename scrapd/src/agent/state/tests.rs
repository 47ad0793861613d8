//! What a look at the runtime may say while an order is under way, and after it.

use scrap_host::runtime::{Instance, InstanceState};
use scrap_schema::id::{Epoch, GrainId};

use super::*;

const WEB: GrainId = GrainId(7);

fn seen(state: InstanceState) -> Vec<Instance> {
    let (epoch, deadline) = (Epoch(1), None);
    vec![Instance { grain: WEB, epoch, state, restarts: 0, last_exit: None, deadline }]
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
