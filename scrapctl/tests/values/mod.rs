//! Values of the API's types for tests: one small cluster at one moment, `home` on ada, bob and cy.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot make its values has failed")]

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::api::*;
use scrap_schema::event::{Event, Severity, Topic};
use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole, NodeUsage, RuntimeKind};
use scrap_schema::operation::{Loss, OperationState, Phase, Summary};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::spec::{Egress, GrainSpec, Labels, NodeSpec, Policy, Template};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu};

/// 2026-11-21 00:00:00 UTC.
pub(crate) const NOW: Timestamp = Timestamp(1_795_219_200_000);
const MIB: u64 = 1 << 20;

/// Text that does things to a terminal.
pub(crate) const EVIL: &str = "\x1b[2J\x07evil\u{9b}31m\u{202e}\r\n";

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// So many seconds before [`NOW`].
pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn metadata(of: &str, id: Option<String>) -> MetadataView {
    MetadataView {
        name: name(of),
        id,
        labels: Labels::new(),
        annotations: Labels::new(),
        created: Some(ago(3 * 86_400)),
        modify_index: 17,
        generation: Some(1),
    }
}

fn condition(kind: &str, status: Option<bool>, message: &str) -> Condition {
    let reason = "Reason".to_owned();
    Condition { r#type: kind.to_owned(), status, reason, message: message.to_owned() }
}

pub(crate) fn copy(node: &str, lag_ms: Option<u64>) -> CopyView {
    CopyView {
        node: name(node),
        lag_ms,
        snapshot: lag_ms.map(|_| Guid(7)),
        pending: Some(Bytes(0)),
        reachable: true,
        trouble: None,
    }
}

/// A grain that runs on ada with a copy on bob.
pub(crate) fn grain(of: &str) -> GrainView {
    let spec = GrainSpec {
        template: Template::Process,
        command: vec!["python3".to_owned(), "-m".to_owned(), "http.server".to_owned()],
        env: BTreeMap::new(),
        resources: scrap_schema::spec::Resources {
            cpu: MilliCpu(500),
            memory: Bytes(256 * MIB),
            disk: Bytes(1 << 30),
            ..scrap_schema::spec::Resources::default()
        },
        network: None,
        ingress: Vec::new(),
        egress: Egress::default_rules(),
        health: None,
        protect: Policy::standard_name(),
        place: scrap_schema::spec::Placement::default(),
        stop: scrap_schema::spec::Stop::default(),
        running: true,
    };
    let status = GrainStatus {
        state: GrainState::Running,
        node: Some(name("ada")),
        moving_to: None,
        epoch: Epoch(4),
        address: None,
        address6: None,
        mac: None,
        ids: None,
        conditions: vec![
            condition("Ready", Some(true), "it answers"),
            condition("Replicated", Some(true), "1 of 1 copies is fresh"),
        ],
        copies: vec![copy("bob", Some(9_000))],
        lag_ms: Some(9_000),
        usage: Some(GrainUsage {
            cpu: MilliCpu(12),
            memory: Bytes(38 * MIB),
            disk: Bytes(120 * MIB),
            restarts: 0,
        }),
        waiting: None,
        operation: None,
        snapshots: Vec::new(),
        last_failover: None,
        started: Some(ago(7_260)),
        trashed_until: None,
    };
    GrainView {
        api_version: "scrap/v1".to_owned(),
        kind: "Grain".to_owned(),
        metadata: metadata(of, Some(GrainId(5).to_string())),
        spec,
        status,
    }
}

/// A grain with everything that can be wrong or going on.
pub(crate) fn troubled_grain() -> GrainView {
    let mut grain = grain("mail-alice");
    grain.metadata.labels = labels(&[("app", "mail"), ("owner", "alice")]);
    let status = &mut grain.status;
    status.state = GrainState::Moving;
    status.moving_to = Some(name("cy"));
    status.conditions = vec![
        condition("Ready", Some(false), "it moves to cy"),
        condition("Replicated", Some(false), "the copy on bob is 14 min old"),
        condition("Healthy", None, ""),
    ];
    status.copies = vec![
        CopyView {
            reachable: false,
            pending: Some(Bytes(3 * MIB)),
            trouble: Some("node bob is suspect".to_owned()),
            ..copy("bob", Some(840_000))
        },
        copy("cy", None),
    ];
    status.lag_ms = Some(840_000);
    status.waiting = Some(WaitingView {
        subject: "grain mail-alice".to_owned(),
        reason: "bob does not answer".to_owned(),
        hint: Some("look at bob: scrapctl node info bob".to_owned()),
    });
    status.operation = Some(OperationId(9));
    status.snapshots = vec![Snapshot {
        name: SnapshotName {
            epoch: Epoch(4),
            seq: 12,
            purpose: Purpose::User(name("before-upgrade")),
        },
        guid: Guid(0xa1b2),
        created: ago(3_600),
    }];
    status.last_failover = Some(FailoverView {
        at: ago(86_400),
        from: name("bob"),
        to: name("ada"),
        epoch: Epoch(4),
        loss: Some(loss()),
    });
    grain
}

pub(crate) fn loss() -> Loss {
    Loss {
        from: ago(86_412),
        until: ago(86_400),
        window_ms: 12_000,
        heard: None,
        last_known_bytes: Some(Bytes(180 << 10)),
    }
}

pub(crate) fn node(of: &str) -> NodeView {
    let facts = NodeFacts {
        cpu: MilliCpu(4000),
        memory: Bytes(8 << 30),
        disk: Bytes(500 << 30),
        arch: "aarch64".to_owned(),
        os: "linux".to_owned(),
        runtimes: BTreeSet::from([RuntimeKind::Process]),
        network: None,
        version: "0.1.0".to_owned(),
    };
    let usage = NodeUsage { cpu: MilliCpu(300), memory: Bytes(2 << 30), disk: Bytes(41 << 30) };
    let status = NodeStatus {
        state: NodeState::Online,
        role: NodeRole::Data,
        raft: "voter".to_owned(),
        addresses: Addresses {
            api: "127.0.0.1:7272".to_owned(),
            peer: "127.0.0.1:7273".to_owned(),
        },
        facts,
        usage: Some(usage),
        network: Vec::new(),
        pool: None,
        reserved: GrainUsage {
            cpu: MilliCpu(500),
            memory: Bytes(256 * MIB),
            disk: Bytes(1 << 30),
            restarts: 0,
        },
        silent_ms: Some(400),
        off: None,
        draining: false,
        grains: vec![name("blog")],
        copies: vec![name("mail-alice"), name("xmpp")],
    };
    NodeView {
        api_version: "scrap/v1".to_owned(),
        kind: "Node".to_owned(),
        metadata: metadata(of, Some("1".to_owned())),
        spec: NodeSpec { cordoned: false, fence: None },
        status,
    }
}

pub(crate) fn policy(of: &str) -> PolicyView {
    PolicyView {
        api_version: "scrap/v1".to_owned(),
        kind: "Policy".to_owned(),
        metadata: metadata(of, None),
        spec: Policy::standard(),
    }
}

pub(crate) fn cluster() -> ClusterView {
    ClusterView {
        name: name("home"),
        health: ClusterHealth::Healthy,
        reasons: Vec::new(),
        leader: Some(name("ada")),
        index: 4711,
        voters: vec![name("ada"), name("bob"), name("cy")],
        nodes_online: Some(3),
        nodes: 3,
        grains_running: Some(11),
        grains_wanted: 11,
        grains: 12,
        worst_lag_ms: Some(14_000),
        worst_lag_grain: Some(name("xmpp")),
        waiting: Vec::new(),
        orphans: 0,
        lease: Some(Timing::default().into()),
        disarmed: Vec::new(),
        disarming: Vec::new(),
        arming: Vec::new(),
    }
}

pub(crate) fn phase(phase: Phase, began: i64, took_ms: Option<u64>) -> PhaseView {
    PhaseView { phase, began: ago(began), took_ms }
}

/// A migration that is copying.
pub(crate) fn operation() -> OperationView {
    OperationView {
        id: OperationId(9),
        kind: "migrate".to_owned(),
        target: "grains/mail-alice".to_owned(),
        state: OperationState::Running,
        phase: Some(Phase::Warm),
        phases: vec![phase(Phase::Prepare, 4, Some(300)), phase(Phase::Warm, 3, None)],
        progress: None,
        waiting: None,
        needs: None,
        cancellable: true,
        created: ago(4),
        created_index: 4700,
        finished: None,
        summary: Summary::default(),
    }
}

/// The same at its end.
pub(crate) fn ended(state: OperationState) -> OperationView {
    let mut operation = operation();
    operation.state = state;
    operation.phase = None;
    operation.phases = vec![
        phase(Phase::Prepare, 60, Some(300)),
        phase(Phase::Warm, 59, Some(2_300)),
        phase(Phase::Warm, 57, Some(200)),
        phase(Phase::Stop, 56, Some(1_100)),
        phase(Phase::Final, 55, Some(90)),
        phase(Phase::Start, 55, Some(2_000)),
    ];
    operation.created = ago(60);
    operation.finished = Some(ago(53));
    operation.summary = Summary {
        message: "moved from ada to cy".to_owned(),
        downtime_ms: Some(3_200),
        loss: None,
        hint: None,
    };
    operation
}

pub(crate) fn event(index: u64, place: u32, message: &str) -> Event {
    Event {
        index,
        place,
        at: ago(30),
        topic: Topic::Failover,
        severity: Severity::Critical,
        grain: Some(GrainId(5)),
        node: Some(NodeId(2)),
        operation: None,
        message: message.to_owned(),
    }
}

pub(crate) fn orphan() -> OrphanView {
    OrphanView {
        id: format!("{}.3@bob", GrainId(5)),
        grain: GrainId(5),
        grain_name: Some(name("mail-alice")),
        node: name("bob"),
        epoch: Epoch(3),
        head: Snapshot {
            name: SnapshotName { epoch: Epoch(3), seq: 40, purpose: Purpose::Orphan },
            guid: Guid(0xbeef),
            created: ago(86_400),
        },
        base: Some(Guid(0xa1)),
        newer: Bytes(180 << 10),
        used: Bytes(2 * MIB),
        kept: ago(80_000),
        operation: None,
    }
}
