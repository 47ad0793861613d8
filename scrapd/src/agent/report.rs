//! What this node reports of each grain: translated from the facts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::cluster::{Cluster, Grain};
use scrap_decide::obey::{DataFacts, DataRole, Lane, copy_of, hold_tag};
use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::node::{CopyReport, DataReport, GrainReport, RunReport};
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::State;

/// What an owner without data says: it makes none anew for a grain that had some.
const GONE: &str =
    "its dataset is not there any more: put it back under its name, and it is started by itself";

/// The reports of all grains that are or run here.
pub(super) fn all(me: NodeId, cluster: &Cluster, state: &State) -> BTreeMap<GrainId, GrainReport> {
    let data = state.facts.data.keys();
    let alive = state.facts.runs.iter().filter(|(_, run)| run.alive).map(|(grain, _)| grain);
    // Also those whose data should be here and are not.
    let owned = cluster.grains.values().filter(|grain| grain.owner == Some(me) && grain.born);
    let owned = owned.map(|grain| &grain.id);
    let grains: BTreeSet<GrainId> = data.chain(alive).chain(owned).copied().collect();
    grains.into_iter().map(|grain| (grain, one(me, cluster, state, grain))).collect()
}

fn one(me: NodeId, cluster: &Cluster, state: &State, id: GrainId) -> GrainReport {
    let data = state.facts.data.get(&id);
    let grain = cluster.grains.get(&id).filter(|grain| grain.owner == Some(me));
    let copies = match (grain, data) {
        (Some(grain), Some(data)) => copies(cluster, grain, data, state),
        (Some(_), None) | (None, _) => BTreeMap::new(),
    };
    GrainReport {
        data: data.map(data_report),
        run: run(state, id),
        copies,
        trouble: trouble(state, id, grain.is_some_and(|grain| grain.born) && data.is_none()),
    }
}

fn data_report(data: &DataFacts) -> DataReport {
    DataReport {
        owner: data.role == DataRole::Owner,
        epoch: data.epoch,
        head: data.snapshots.last().cloned(),
        used: data.used,
        dirty: data.dirty.map_or(Bytes(0), |dirty| dirty.bytes),
    }
}

fn run(state: &State, id: GrainId) -> Option<RunReport> {
    let run = state.facts.runs.get(&id).filter(|run| run.alive)?;
    let (restarts, last_exit) = state.restarts.get(&id).cloned().unwrap_or_default();
    let measured = state.measured.get(&id).copied().unwrap_or_default();
    Some(RunReport {
        epoch: run.epoch,
        up: run.up,
        armed: run.armed,
        healthy: run.healthy,
        ailment: run.ailment.clone(),
        restarts,
        cpu: measured.cpu,
        memory: measured.memory,
        last_exit,
    })
}

/// Why it cannot be looked at, that its data are gone, or the last failure in any of the grain's lanes but those of its copies, which
/// say it themselves.
fn trouble(state: &State, id: GrainId, gone: bool) -> Option<String> {
    let lanes = [Lane::Run(id), Lane::Shape(id), Lane::Snap(id), Lane::Describe(id)];
    let failed = || lanes.iter().find_map(|lane| state.facts.failed.get(lane));
    let unseen = state.unclear.get(&id).or_else(|| state.silent.get(&id));
    let gone = || gone.then(|| GONE.to_owned());
    unseen.cloned().or_else(gone).or_else(|| failed().map(|failure| failure.why.clone()))
}

fn copies(
    cluster: &Cluster,
    grain: &Grain,
    data: &DataFacts,
    state: &State,
) -> BTreeMap<NodeId, CopyReport> {
    let receivers = grain.receivers().into_iter();
    let known = |node| copy_of(cluster, &state.facts, grain.id, node);
    receivers.map(|node| (node, copy(grain.id, node, known(node), data, state))).collect()
}

/// `known`: the snapshots of its copy.
fn copy(
    grain: GrainId,
    node: NodeId,
    known: Option<&[Guid]>,
    data: &DataFacts,
    state: &State,
) -> CopyReport {
    let has = |guid: &Guid| known.is_some_and(|known| known.contains(guid));
    // Of one that cannot be asked, what is held for it is the last that is known. One that has said that it has nothing has nothing.
    let has_said =
        state.facts.copies.get(&(grain, node)).is_some_and(|copy| copy.snapshots.is_some());
    let held = data.held.get(&hold_tag(node)).filter(|_| !has_said);
    let is_common = |guid: &Guid| has(guid) || held == Some(guid);
    let common = data.snapshots.iter().rev().find(|snapshot| is_common(&snapshot.guid));
    let stream = state.streams.get(&(grain, node)).cloned().unwrap_or_default();
    let newest = data.snapshots.last();
    let up_to_date = common.is_some() && common == newest;
    let dirty = data.dirty.map_or(Bytes(0), |dirty| dirty.bytes);
    let behind =
        if up_to_date { 0 } else { stream.behind.0.max(data_behind(data, common.is_some())) };
    let failed = state.facts.failed.get(&Lane::Copy(grain, node));
    CopyReport {
        common: common.map(|common| common.guid),
        current_to: common.map(|common| current_to(grain, common, state)),
        pending: Bytes(behind.saturating_add(dirty.0)),
        sending: stream.sending.as_ref().map(|sending| sending.read()),
        rate: stream.rate,
        rounds: stream.rounds,
        trouble: stream.waits.or_else(|| {
            let failed = failed.filter(|failure| failure.attempts > 1 && !up_to_date);
            failed.map(|failure| failure.why.clone())
        }),
    }
}

/// A copy that has nothing lacks everything.
fn data_behind(data: &DataFacts, has_something: bool) -> u64 {
    if has_something { 0 } else { data.used.0 }
}

/// Everything written before this moment is on the copy: when the newest common state was frozen, or the last look that found that
/// nothing had been written since.
fn current_to(grain: GrainId, common: &Snapshot, state: &State) -> Timestamp {
    state.looks.get(&grain).map_or(common.created, |looks| looks.current_to(common))
}

#[cfg(test)]
mod tests {
    use scrap_decide::obey::CopyFacts;
    use scrap_schema::id::Epoch;
    use scrap_schema::snapshot::{Purpose, Snapshot, SnapshotName};
    use scrap_schema::time::BootTime;

    use super::*;

    #[test]
    fn what_is_held_for_a_copy_counts_only_until_it_has_said_what_it_has() {
        let (grain, node) = (GrainId(1), NodeId(2));
        let snapshot = |seq| Snapshot {
            name: SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication },
            guid: Guid(seq),
            created: Timestamp(0),
        };
        let data = DataFacts {
            role: DataRole::Owner,
            epoch: Epoch(1),
            snapshots: vec![snapshot(1), snapshot(2)],
            bookmarks: Vec::new(),
            held: [(hold_tag(node), Guid(2))].into(),
            used: Bytes(9),
            dirty: None,
            restored: None,
            described: 0,
        };
        let mut state = State::default();
        state.failed(Lane::Copy(grain, node), "it is full".to_owned(), BootTime(0));
        state.failed(Lane::Copy(grain, node), "it is full".to_owned(), BootTime(0));
        let mut told = |said: Option<&[u64]>, known: Option<&[Guid]>| {
            let mut copy_facts = CopyFacts::default();
            if let Some(said) = said {
                copy_facts.says(said.iter().copied().map(Guid).collect(), BootTime(0));
            }
            state.facts.copies.insert((grain, node), copy_facts);
            let told = copy(grain, node, known, &data, &state);
            (told.common, told.pending, told.trouble.is_some())
        };
        assert_eq!(told(None, None), (Some(Guid(2)), Bytes(0), false));
        assert_eq!(told(Some(&[1]), Some(&[Guid(1)])), (Some(Guid(1)), Bytes(0), true));
        // It is gone: nothing that is held here makes it whole again.
        assert_eq!(told(Some(&[]), None), (None, Bytes(9), true));
    }
}
