//! Random histories of two nodes: a real backend must do what the in-memory twin does, refusal by refusal.

use std::collections::BTreeMap;
use std::mem::discriminant;

use proptest::prelude::*;
use scrap_host::datasets::{
    Cause, Dataset, DatasetError, DatasetId, Datasets, Incoming, Role, Shape,
};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::snapshot::{Guid, SnapshotName};
use scrap_schema::time::Timestamp;

use crate::bench::{Bench, DirBench, MemBench};
use crate::contract::{ID, WEB, as_found, holds, name, orphan_name};
use crate::zfs::ZfsBench;

const PATHS: [&str; 3] = ["a", "b", "d/c"];

#[derive(Debug, Clone)]
enum Op {
    Create,
    Write(usize, usize),
    Remove(usize),
    Snapshot,
    /// To the other node, from its newest snapshot or in full.
    Send {
        full: bool,
    },
    Prune(usize),
    Hold(usize, bool),
    Promote,
    Demote,
    SetAside(Option<usize>),
    Restore(usize),
    CloneAndLook(usize),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Create),
        6 => (0..PATHS.len(), prop_oneof![0..50_usize, Just(1_100_000)]).prop_map(|(path, size)| Op::Write(path, size)),
        2 => (0..PATHS.len()).prop_map(Op::Remove),
        6 => Just(Op::Snapshot),
        6 => prop::bool::weighted(0.3).prop_map(|full| Op::Send { full }),
        2 => (0..6_usize).prop_map(Op::Prune),
        1 => (0..6_usize, any::<bool>()).prop_map(|(number, on)| Op::Hold(number, on)),
        2 => Just(Op::Promote),
        2 => Just(Op::Demote),
        2 => prop::option::of(0..6_usize).prop_map(Op::SetAside),
        1 => (0..6_usize).prop_map(Op::Restore),
        1 => (0..6_usize).prop_map(Op::CloneAndLook),
        1 => Just(Op::Reopen),
    ]
}

/// A dataset with names in place of guids, which differ between the backends.
type Looks = (DatasetId, Role, Epoch, Vec<SnapshotName>, Option<SnapshotName>);

fn looks(dataset: &Dataset) -> Looks {
    let base = dataset
        .base
        .and_then(|base| dataset.snapshots.iter().position(|snapshot| snapshot.guid == base));
    // What an orphan shares with its grain may be pruned there.
    let own = dataset.snapshots.iter().skip(base.unwrap_or(0));
    let names = own.map(|snapshot| snapshot.name.clone()).collect();
    let named = |guid: Guid| {
        let found = dataset.snapshots.iter().find(|snapshot| snapshot.guid == guid);
        found.map(|snapshot| snapshot.name.clone())
    };
    (dataset.id, dataset.role, dataset.epoch, names, dataset.base.and_then(named))
}

/// Does something, and looks whether the dataset is then what it says.
async fn told<D: Datasets>(
    datasets: &D,
    work: impl Future<Output = Result<Dataset, DatasetError>>,
) -> Result<(), DatasetError> {
    as_found(datasets, work.await?).await;
    Ok(())
}

struct World<B> {
    nodes: [B; 2],
}

impl<B: Bench> World<B> {
    fn new() -> Self {
        Self { nodes: [B::new(1), B::new(2)] }
    }

    async fn guids(&self, node: usize) -> Vec<Guid> {
        let found = self.nodes[node].datasets().get(ID).await.unwrap();
        found.map(|d| d.snapshots.iter().map(|s| s.guid).collect()).unwrap_or_default()
    }

    /// Does one thing at one node; `step` makes contents, names and times unique.
    async fn run(&mut self, node: usize, op: &Op, step: u64) -> Result<(), Cause> {
        let guids = self.guids(node).await;
        let pick = |number: usize| guids.get(number).copied().unwrap_or(Guid(1));
        let now = Timestamp(i64::try_from(step).unwrap());
        let bench = &self.nodes[node];
        let d = bench.datasets();
        let owner = d.get(ID).await.unwrap().is_some_and(|found| found.role == Role::Owner);
        let result = match op {
            Op::Create => d.create(WEB, Epoch(step), Shape::default()).await,
            Op::Write(path, size) => {
                if owner {
                    let mut contents = step.to_be_bytes().to_vec();
                    contents.resize(8 + size, 7);
                    bench.write(WEB, PATHS[*path], &contents);
                }
                Ok(())
            }
            Op::Remove(path) => {
                if owner && bench.read(WEB, PATHS[*path]).is_some() {
                    bench.remove(WEB, PATHS[*path]);
                }
                Ok(())
            }
            Op::Snapshot => d.snapshot(WEB, &name(1, step), now).await.map(|_| ()),
            Op::Send { full } => {
                let other = self.nodes[1 - node].datasets();
                let base = self.guids(1 - node).await.last().copied().filter(|_| !*full);
                let to = guids.last().copied().unwrap_or(Guid(1));
                let mut bytes = Vec::new();
                match d.send(ID, base, to, &mut bytes).await {
                    Ok(_) => {
                        let input = &mut bytes.as_slice();
                        told(other, other.receive(WEB, Incoming::new(Epoch(step), base), input))
                            .await
                    }
                    Err(error) => Err(error),
                }
            }
            Op::Prune(number) => d.prune(WEB, &[pick(*number)]).await,
            Op::Hold(number, true) => told(d, d.hold(WEB, pick(*number), "tag")).await,
            Op::Hold(_, false) => d.release(WEB, "tag").await,
            Op::Promote => told(d, d.set_role(WEB, Role::Owner, Epoch(step))).await,
            Op::Demote => told(d, d.set_role(WEB, Role::Standby, Epoch(step))).await,
            Op::SetAside(number) => {
                let base = number.map(pick);
                d.set_aside(WEB, base, &orphan_name(1, step), now).await.map(|_| ())
            }
            Op::Restore(number) => d.restore(WEB, pick(*number)).await,
            Op::CloneAndLook(number) => {
                let copy = GrainId(9);
                let cloned =
                    d.clone_from(ID, pick(*number), copy, Epoch(step), Shape::default()).await;
                if cloned.is_ok() {
                    d.destroy(DatasetId::Grain(copy)).await.unwrap();
                }
                cloned
            }
            Op::Reopen => {
                self.nodes[node].reopen();
                Ok(())
            }
        };
        result.map_err(|error| error.cause)
    }

    async fn look(
        &self,
    ) -> Vec<(Vec<Looks>, BTreeMap<String, SnapshotName>, Vec<Option<Vec<u8>>>)> {
        let mut seen = Vec::new();
        for bench in &self.nodes {
            let list = bench.datasets().list().await.unwrap();
            let found = list.iter().find(|dataset| dataset.id == ID);
            let named = |guid: Guid| {
                let snapshots = &found.unwrap().snapshots;
                snapshots.iter().find(|snapshot| snapshot.guid == guid).unwrap().name.clone()
            };
            let holds = match found {
                Some(_) => holds(bench.datasets(), WEB).await,
                None => BTreeMap::new(),
            };
            let holds = holds.into_iter().map(|(tag, guid)| (tag, named(guid))).collect();
            let is_owner = found.is_some_and(|found| found.role == Role::Owner);
            // Without a head the twin would show its newest snapshot.
            let heads = PATHS.iter().filter(|_| is_owner).map(|path| bench.read(WEB, path));
            seen.push((list.iter().map(looks).collect(), holds, heads.collect()));
        }
        seen
    }

    async fn written(&self, node: usize) -> u64 {
        self.nodes[node].datasets().written(ID).await.map_or(0, |written| written.bytes.0)
    }
}

async fn history<B: Bench>(ops: Vec<(usize, Op)>) {
    let (mut mem, mut real) = (World::<MemBench>::new(), World::<B>::new());
    for (step, (node, op)) in ops.into_iter().enumerate() {
        let step = step as u64 + 1;
        let (in_mem, in_real) = (mem.written(node).await, real.written(node).await);
        assert!(in_mem == 0 || in_real > 0, "step {step}: the real backend missed a write");
        // A file that came and went changes its folder's time, of which the twin knows nothing.
        if matches!(op, Op::Demote) && (in_mem == 0) != (in_real == 0) {
            continue;
        }
        let got = real.run(node, &op, step).await;
        // What an orphan shares is held; the twin shares nothing.
        if B::SHARES && matches!((&op, &got), (Op::Prune(_), Err(Cause::Held(_)))) {
            continue;
        }
        let expected = mem.run(node, &op, step).await;
        match (&expected, &got) {
            (Ok(()), Ok(())) => (),
            (Err(a), Err(b)) if discriminant(a) == discriminant(b) => (),
            _ => panic!("step {step}, {op:?} at {node}: {expected:?} in memory, {got:?} for real"),
        }
        assert_eq!(mem.look().await, real.look().await, "after step {step}, {op:?} at {node}");
    }
}

fn run<B: Bench>(ops: Vec<(usize, Op)>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let first = std::iter::once((0, Op::Create));
    runtime.unwrap().block_on(history::<B>(first.chain(ops).collect()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn directories_do_what_the_twin_does(ops in prop::collection::vec((0..2_usize, op()), 1..60)) {
        run::<DirBench>(ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6, failure_persistence: None, max_shrink_iters: 24, ..ProptestConfig::default()
    })]
    #[test]
    fn a_pool_does_what_the_twin_does(ops in prop::collection::vec((0..2_usize, op()), 20..45)) {
        if ZfsBench::available() {
            run::<ZfsBench>(ops);
        }
    }
}
