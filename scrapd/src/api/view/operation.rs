//! An operation, as the API shows it, with samples of its progress from the leader's memory. Pure.

use scrap_decide::apply::cancellable;
use scrap_decide::cluster::Grain;
use scrap_decide::lead::Subject;
use scrap_decide::migrate;
use scrap_schema::api::{OperationView, PhaseView, Progress, WaitingView};
use scrap_schema::node::CopyReport;
use scrap_schema::operation::{Operation, Phase, Work};

use super::grain::destination;
use super::{World, count};

/// The whole operation.
pub(crate) fn operation(world: &World<'_>, operation: &Operation) -> OperationView {
    let over = operation.state.is_final();
    OperationView {
        id: operation.id,
        kind: operation.work.word().to_owned(),
        target: target(operation),
        state: operation.state,
        phase: operation.phases.last().filter(|_| !over).map(|record| record.phase),
        phases: phases(operation),
        progress: if over { None } else { progress(world, operation) },
        waiting: if over { None } else { waiting(world, operation) },
        needs: operation.needs.clone(),
        cancellable: !operation.cancel_requested && cancellable(world.cluster, operation).is_ok(),
        created: operation.created,
        created_index: operation.created_index,
        finished: operation.finished,
        summary: operation.summary.clone(),
    }
}

fn target(operation: &Operation) -> String {
    match (&operation.work, operation.work.grain()) {
        (Work::Discard { .. }, _) => format!("orphans/{}", operation.target),
        (_, Some(_)) => format!("grains/{}", operation.target),
        (_, None) => format!("nodes/{}", operation.target),
    }
}

fn phases(operation: &Operation) -> Vec<PhaseView> {
    let ends = operation.phases.iter().skip(1).map(|next| Some(next.began));
    let ends = ends.chain(std::iter::once(operation.finished));
    let phase = |(record, end): (&scrap_schema::operation::PhaseRecord, Option<_>)| PhaseView {
        phase: record.phase,
        began: record.began,
        took_ms: end.map(|end: scrap_schema::time::Timestamp| end.since(record.began).ms()),
    };
    operation.phases.iter().zip(ends).map(phase).collect()
}

fn waiting(world: &World<'_>, operation: &Operation) -> Option<WaitingView> {
    let own = world.held(Subject::Operation(operation.id));
    let target = match &operation.work {
        Work::Drain { node } => Some(Subject::Node(*node)),
        work => work.grain().map(Subject::Grain),
    };
    let held = own.or_else(|| target.and_then(|target| world.held(target)));
    held.map(|held| world.waiting(held))
}

fn progress(world: &World<'_>, operation: &Operation) -> Option<Progress> {
    match &operation.work {
        Work::Drain { node } => {
            let grains = world.cluster.grains.values();
            let left = grains.filter(|grain| grain.owner == Some(*node)).count();
            Some(words(format!("{} to go", count(left, "grain"))))
        }
        Work::Migrate { grain, .. } => {
            let grain = world.cluster.grains.get(grain)?;
            copying(world, grain, operation.phases.last()?.phase)
        }
        Work::Create { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Restart { .. }
        | Work::Failover { .. }
        | Work::Snapshot { .. }
        | Work::Restore { .. }
        | Work::Clone { .. }
        | Work::Fork { .. }
        | Work::Promote { .. }
        | Work::Discard { .. } => None,
    }
}

fn words(text: String) -> Progress {
    Progress { text, bytes: None, total_bytes: None, rate: None, expected_downtime_ms: None }
}

/// How far the data of a moving grain are.
fn copying(world: &World<'_>, grain: &Grain, phase: Phase) -> Option<Progress> {
    let to = destination(grain)?;
    let name = world.node_word(to);
    match phase {
        Phase::Warm | Phase::Stop | Phase::Final => (),
        Phase::Prepare | Phase::Move | Phase::Data | Phase::Undo => return None,
        Phase::Start => return Some(words(format!("{name} starts it"))),
    }
    let Some(copy) = world.observed.copy(grain, to) else {
        return Some(words(format!("waiting for the first report of the copy on {name}")));
    };
    let (bytes, total) = copy.sending.unzip();
    let round = match phase {
        Phase::Final => "last round".to_owned(),
        Phase::Prepare | Phase::Warm | Phase::Stop | Phase::Start => round(copy),
        Phase::Move | Phase::Data | Phase::Undo => round(copy),
    };
    let text = match (bytes, total) {
        (Some(bytes), Some(total)) => {
            format!("{round} to {name}: {} of {}", bytes.rounded(), total.rounded())
        }
        _ => format!("{round} to {name}: {} left", copy.pending.rounded()),
    };
    Some(Progress {
        text,
        bytes,
        total_bytes: total,
        rate: Some(copy.rate).filter(|rate| rate.get() > 0),
        expected_downtime_ms: grain.started.map(|_| migrate::predict(copy).ms()),
    })
}

fn round(copy: &CopyReport) -> String {
    format!("round {}", copy.rounds.saturating_add(1))
}
