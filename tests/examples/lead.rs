//! How long one pass of `lead` takes for 1 000 nodes and 10 000 grains, and one of `obey` for 200 grains.
//!
//! `cargo run --release -p scrap-tests --example lead`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use scrap_decide::cluster::{
    Cluster, Declined, Grain, Identity, Liveness, Node, PolicyState, Stage, Tenure,
};
use scrap_decide::lead::lead;
use scrap_decide::lease::Lease;
use scrap_decide::obey::{CopyFacts, DataFacts, DataRole, Dirty, HostFacts, RunFacts, obey};
use scrap_decide::observed::{Heard, Observed};
use scrap_schema::id::{BootId, ClusterId, Epoch, GrainId, NodeId};
use scrap_schema::node::{
    CopyReport, DataReport, GrainReport, NodeFacts, NodeRole, NodeUsage, RuntimeKind,
};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::spec::{
    Egress, GrainSpec, Labels, NodeSpec, Placement, Policy, Resources, Stop, Template,
};
use scrap_schema::time::{BootTime, Now, Timestamp};
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use scrap_tests::sim::network::addresses;

const NODES: u64 = 1_000;
const GRAINS: u64 = 10_000;
const NOW: Now = Now { boot: BootTime(10_000_000), wall: Timestamp(1_767_225_600_000) };

fn main() {
    let mut out = std::io::stdout().lock();
    let mut say = |what: &str, time: Duration, count: usize| {
        let _ = writeln!(out, "{:>9.2} ms  {what} ({count})", time.as_secs_f64() * 1000.0);
    };
    let (cluster, observed) = world();
    measure("lead: everything settled and protected", &cluster, &observed, &mut say);

    let mut dead = cluster.clone();
    for node in dead.nodes.values_mut().take(100) {
        node.liveness = Liveness::Fenced { last_heard: Timestamp(NOW.wall.0 - 200_000) };
    }
    measure("lead: 100 nodes fenced, their grains fail over", &dead, &observed, &mut say);

    let mut thin = cluster.clone();
    for grain in thin.grains.values_mut() {
        grain.standbys.pop_last();
    }
    measure("lead: every grain lacks a copy", &thin, &observed, &mut say);

    let mut full = thin.clone();
    full.nodes.values_mut().for_each(|node| node.facts.disk = Bytes(0));
    measure("lead: every grain lacks a copy and there is no room", &full, &observed, &mut say);

    let mut fresh = cluster.clone();
    for grain in fresh.grains.values_mut().take(1_000) {
        grain.owner = None;
        grain.epoch = Epoch(0);
        grain.tenures.clear();
        grain.standbys.clear();
        grain.born = false;
        grain.stage = Stage::Unplaced;
    }
    measure("lead: 1 000 new grains", &fresh, &observed, &mut say);

    let (me, cluster, host) = node();
    let (time, count) = best(|| obey(me, &cluster, &host, NOW).len());
    say("obey: 200 grains at rest", time, count);
}

fn measure(
    what: &str,
    cluster: &Cluster,
    observed: &Observed,
    say: &mut impl FnMut(&str, Duration, usize),
) {
    let mut observed = observed.clone();
    observed.refresh(cluster, NOW);
    let (time, count) = best(|| lead(cluster, &observed, NOW).commands.len());
    say(what, time, count);
}

/// The best of five.
fn best(mut work: impl FnMut() -> usize) -> (Duration, usize) {
    let runs = (0..5).map(|_| {
        let begun = Instant::now();
        let count = work();
        (begun.elapsed(), count)
    });
    runs.min().unwrap_or_default()
}

fn world() -> (Cluster, Observed) {
    let mut cluster = Cluster::default();
    cluster.identity = Some(Identity {
        id: ClusterId(1),
        name: name("big"),
        timing: Timing::default(),
        next_node: NODES + 1,
        formed: NOW.wall,
        disarmed: None,
        generation: 0,
        leases: 0,
    });
    let mut policy = Policy::standard();
    policy.failover.max_data_loss = Span::from_secs(3600);
    cluster.policies.insert(Policy::standard_name(), PolicyState { policy, modified: 1 });
    for id in 1..=NODES {
        cluster.nodes.insert(NodeId(id), member(id));
    }
    for id in 0..GRAINS {
        let grain = grain(id, id % NODES + 1, &[(id + 101) % NODES + 1, (id + 307) % NODES + 1]);
        cluster.grains.insert(grain.id, grain);
    }
    cluster.derive();
    let mut observed = Observed::from(BootTime(0));
    for id in 1..=NODES {
        observed.nodes.insert(NodeId(id), heard());
    }
    for grain in cluster.grains.values() {
        for node in grain.standbys.iter().copied().chain(grain.owner) {
            let owner = grain.owner == Some(node);
            let standbys = grain.standbys.iter().filter(|_| owner);
            let copies = standbys.map(|standby| (*standby, copy())).collect();
            if let Some(heard) = observed.nodes.get_mut(&node) {
                heard.grains.insert(grain.id, report(owner, copies));
            }
        }
    }
    (cluster, observed)
}

fn name(text: &str) -> scrap_schema::id::Name {
    text.parse().unwrap_or_else(|_| unreachable!("a valid name"))
}

fn member(id: u64) -> Node {
    Node {
        id: NodeId(id),
        name: name(&format!("n{id}")),
        role: NodeRole::Data,
        labels: Labels::from([("zone".to_owned(), format!("z{}", id % 10))]),
        spec: NodeSpec::default(),
        addresses: addresses(&format!("n{id}")),
        facts: NodeFacts {
            cpu: MilliCpu(16_000),
            memory: Bytes(64 << 30),
            disk: Bytes(4 << 40),
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            runtimes: BTreeSet::from([RuntimeKind::Process]),
            network: None,
            version: "0.1.0".to_owned(),
        },
        boot: Some(BootId(1)),
        seal: None,
        liveness: Liveness::Online,
        off: None,
        disarmed: None,
        generation: 0,
        registered: 1,
        since: 1,
        awaited: None,
        drain: None,
        modified: 1,
        created: NOW.wall,
    }
}

fn grain(id: u64, owner: u64, standbys: &[u64]) -> Grain {
    Grain {
        id: GrainId(u128::from(id) + 1),
        name: name(&format!("g{id}")),
        labels: Labels::from([("app".to_owned(), format!("a{id}"))]),
        annotations: Labels::new(),
        spec: spec(id),
        generation: 1,
        created: NOW.wall,
        modified: 1,
        epoch: Epoch(1),
        owner: Some(NodeId(owner)),
        stage: Stage::Settled,
        standbys: standbys.iter().copied().map(NodeId).collect(),
        away: Default::default(),
        born: true,
        armed: true,
        declined: Declined::No,
        started: Some(NOW.wall),
        operation: None,
        came_back: None,
        tenures: vec![Tenure { epoch: Epoch(1), node: NodeId(owner), base: None }],
        snapshots: Vec::new(),
        last_failover: None,
        trashed_until: None,
        template: None,
        address: None,
        address6: None,
        mac: None,
        ids: None,
        ailment: None,
        touched: 0,
    }
}

fn spec(id: u64) -> GrainSpec {
    // One of a hundred keeps apart from another one.
    let apart = Labels::from([("app".to_owned(), format!("a{}", id + 1))]);
    let apart_from = if id.is_multiple_of(100) { vec![apart] } else { Vec::new() };
    GrainSpec {
        template: Template::Process,
        command: vec!["serve".to_owned()],
        env: BTreeMap::new(),
        resources: Resources::default(),
        network: None,
        ingress: Vec::new(),
        egress: Egress::default_rules(),
        health: None,
        protect: Policy::standard_name(),
        place: Placement { apart_from, ..Placement::default() },
        stop: Stop::default(),
        running: true,
    }
}

fn snapshot(seq: u64) -> Snapshot {
    let name = SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication };
    let created = Timestamp(NOW.wall.0 - 5_000);
    Snapshot { name, guid: Guid(seq), created }
}

fn heard() -> Heard {
    Heard {
        boot: BootId(1),
        last: NOW.boot,
        sent: NOW.boot,
        wall: NOW.wall,
        received: NOW.wall,
        usage: NodeUsage::default(),
        pool: None,
        network: Vec::new(),
        full: true,
        grains: BTreeMap::new(),
    }
}

fn report(owner: bool, copies: BTreeMap<NodeId, CopyReport>) -> GrainReport {
    let (head, epoch) = (Some(snapshot(9)), Epoch(1));
    let data = DataReport { owner, epoch, head, used: Bytes(1 << 20), dirty: Bytes(0) };
    GrainReport { data: Some(data), run: None, copies, trouble: None }
}

fn copy() -> CopyReport {
    CopyReport {
        common: Some(Guid(9)),
        current_to: Some(NOW.wall),
        pending: Bytes(0),
        sending: None,
        rate: Bytes(100 << 20),
        rounds: 9,
        trouble: None,
    }
}

/// A node with 200 grains of a cluster with all of them: 100 of its own, 100 copies.
fn node() -> (NodeId, Cluster, HostFacts) {
    let (mut cluster, _) = world();
    for (at, grain) in cluster.grains.values_mut().take(200).enumerate() {
        let (owner, other) = if at % 2 == 0 { (1, 2) } else { (2, 1) };
        *grain = Grain {
            owner: Some(NodeId(owner)),
            standbys: BTreeSet::from([NodeId(other)]),
            tenures: vec![Tenure { epoch: Epoch(1), node: NodeId(owner), base: None }],
            ..grain.clone()
        };
    }
    for grain in cluster.grains.values_mut().skip(200) {
        grain.standbys.remove(&NodeId(1));
        if grain.owner == Some(NodeId(1)) {
            grain.owner = Some(NodeId(3));
        }
    }
    let lease = Lease { granted: Some(NOW.boot) };
    let mut host = HostFacts { lease, extended: Some(BootTime(u64::MAX)), ..HostFacts::default() };
    let snapshots: Vec<Snapshot> = (1..10).map(snapshot).collect();
    let dirty = Some(Dirty { bytes: Bytes(0), at: NOW.wall, probed: NOW.boot });
    for grain in cluster.grains.values().take(200) {
        let owner = grain.owner == Some(NodeId(1));
        let data = DataFacts {
            role: if owner { DataRole::Owner } else { DataRole::Standby },
            epoch: Epoch(1),
            snapshots: snapshots.clone(),
            bookmarks: Vec::new(),
            held: BTreeMap::new(),
            used: Bytes(1 << 20),
            dirty,
            restored: None,
            described: 1,
        };
        host.data.insert(grain.id, data);
        if owner {
            let run = RunFacts {
                epoch: Epoch(1),
                alive: true,
                up: true,
                armed: true,
                ready: Some(NOW.wall),
                ..RunFacts::default()
            };
            host.runs.insert(grain.id, run);
            let known = snapshots.iter().map(|snapshot| snapshot.guid).collect();
            host.copies.insert(
                (grain.id, NodeId(2)),
                CopyFacts { snapshots: Some(known), ..CopyFacts::default() },
            );
        }
    }
    (NodeId(1), cluster, host)
}
