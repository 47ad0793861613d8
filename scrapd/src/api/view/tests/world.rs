//! Part of the tests of views: a made-up world of three nodes and a grain, and how a test looks at it.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::Expect;
use scrap_decide::apply::apply;
use scrap_decide::cluster::{Cluster, Grain, Outcome};
use scrap_decide::lead::WaitReason;
use scrap_schema::api::GrainState;
use scrap_schema::command::{AssignCause, Command, GrainText, NewNode, Proposal};
use scrap_schema::id::{BootId, ClusterId, Epoch};
use scrap_schema::node::{
    Addresses, CopyReport, DataReport, GrainReport, NodeFacts, NodeRole, NodeUsage, Renewal,
    RunReport, RuntimeKind,
};
use scrap_schema::operation::Summary;
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::spec::{GrainSpec, Labels};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu};

use super::super::*;

pub(super) const WEB: GrainId = GrainId(7);
pub(super) const CREATE: OperationId = OperationId(70);
pub(super) const MOVE: OperationId = OperationId(71);
pub(super) const START: i64 = 1_700_000_000_000;

/// Three nodes `n1` to `n3`; `n1` leads and `web` lives on it with copies on the others, one second after the start.
pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    pub(super) observed: Observed,
    pub(super) waiting: Vec<Waiting>,
    pub(super) raft: Raft,
    pub(super) now: Now,
}

pub(super) fn at(ms: u64) -> Now {
    Now { boot: BootTime(ms), wall: Timestamp(START + i64::try_from(ms).unwrap()) }
}

pub(super) fn snapshot(seq: u64) -> Snapshot {
    let name = SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication };
    Snapshot { name, guid: Guid(seq), created: Timestamp(START) }
}

pub(super) fn new_node(name: &str) -> NewNode {
    let facts = NodeFacts {
        cpu: MilliCpu(4000),
        memory: Bytes(8 << 30),
        disk: Bytes(100 << 30),
        arch: "x86_64".into(),
        os: "linux".into(),
        runtimes: [RuntimeKind::Process].into(),
        network: None,
        version: "0".into(),
    };
    let addresses = Addresses { api: format!("{name}:1"), peer: format!("{name}:2") };
    let (role, labels) = (NodeRole::Data, Labels::new());
    NewNode { name: name.parse().unwrap(), role, labels, addresses, facts }
}

pub(super) fn copy(current_to: u64) -> CopyReport {
    CopyReport {
        common: Some(Guid(5)),
        current_to: Some(at(current_to).wall),
        pending: Bytes(0),
        sending: None,
        rate: Bytes(100 << 20),
        rounds: 1,
        trouble: None,
    }
}

pub(super) fn running() -> GrainReport {
    GrainReport {
        data: Some(DataReport {
            owner: true,
            epoch: Epoch(1),
            head: Some(snapshot(5)),
            used: Bytes(3 << 20),
            dirty: Bytes(0),
        }),
        run: Some(RunReport {
            armed: true,
            epoch: Epoch(1),
            up: true,
            healthy: Some(true),
            ailment: None,
            restarts: 0,
            cpu: MilliCpu(20),
            memory: Bytes(30 << 20),
            last_exit: None,
        }),
        copies: [(NodeId(2), copy(800)), (NodeId(3), copy(500))].into(),
        trouble: None,
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        let raft = Raft {
            leads: true,
            leader: Some(NodeId(1)),
            voters: [NodeId(1), NodeId(2), NodeId(3)].into(),
        };
        let (cluster, observed) = (Cluster::default(), Observed::from(BootTime(0)));
        let mut world = Self { cluster, observed, waiting: Vec::new(), raft, now: at(1000) };
        let (name, timing) = ("attic".parse().unwrap(), Timing::default());
        world.run(Command::FormCluster {
            cluster: ClusterId(1),
            name,
            timing,
            node: new_node("n1"),
        });
        for name in ["n2", "n3"] {
            world.run(Command::AddNode { node: new_node(name) });
        }
        for node in 1..=3 {
            world.register(NodeId(node));
            world.hear_of(node, BTreeMap::new());
        }
        world
    }

    pub(super) fn with_web() -> Self {
        let mut world = Self::new();
        let spec = serde_json::from_value::<GrainSpec>(serde_json::json!({
            "command": ["web"], "health": {"tcp": {"port": 80}}, "protect": "standard",
        }));
        let text = GrainText {
            name: "web".parse().unwrap(),
            labels: Labels::new(),
            annotations: Labels::new(),
            spec: spec.unwrap(),
        };
        world.run(Command::CreateGrain { grain: WEB, operation: CREATE, text });
        let (to, cause) = (NodeId(1), AssignCause::Place);
        world.run(Command::AssignGrain { grain: WEB, epoch: Epoch(0), to, base: None, cause });
        let standbys: BTreeSet<_> = [NodeId(2), NodeId(3)].into();
        world.run(Command::SetStandbys { grain: WEB, epoch: Epoch(1), standbys });
        world.run(Command::GrainBorn { grain: WEB, epoch: Epoch(1) });
        world.run(Command::GrainArmed { grain: WEB, epoch: Epoch(1), seen: None });
        world.run(Command::GrainStarted {
            grain: WEB,
            epoch: Epoch(1),
            at: Timestamp(START),
            seen: None,
        });
        let summary = Summary { message: "it answers".into(), ..Summary::default() };
        let (failed, cancelled) = (false, false);
        world.run(Command::FinishOperation { operation: CREATE, failed, cancelled, summary });
        world.hear(running());
        world
    }

    #[track_caller]
    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let index = self.cluster.index + 1;
        let proposal = Proposal { at: Timestamp(START), key: None, command };
        apply(&mut self.cluster, index, &proposal).outcome.unwrap()
    }

    pub(super) fn register(&mut self, node: NodeId) {
        let member = &self.cluster.nodes[&node];
        let (addresses, facts) = (member.addresses.clone(), member.facts.clone());
        self.run(Command::RegisterNode {
            node,
            boot: BootId(node.0),
            addresses,
            facts,
            seal: None,
            again: false,
            seen: None,
        });
    }

    /// The owner reports, at this moment.
    pub(super) fn hear(&mut self, web: GrainReport) {
        self.hear_of(1, BTreeMap::from([(WEB, Some(web))]));
    }

    /// A node reports, at this moment.
    pub(super) fn hear_of(&mut self, node: u64, grains: BTreeMap<GrainId, Option<GrainReport>>) {
        let renewal = Renewal {
            node: NodeId(node),
            boot: BootId(node),
            sent: self.now.boot,
            wall: self.now.wall,
            usage: NodeUsage { cpu: MilliCpu(100), memory: Bytes(1 << 30), disk: Bytes(1 << 30) },
            pool: None,
            network: Vec::new(),
            full: true,
            grains,
        };
        self.observed.hear(&renewal, Some(renewal.boot), self.now);
    }

    pub(super) fn silence(&mut self, node: u64, ticks: u32) {
        let (node, boot, last_heard) = (NodeId(node), BootId(node), Timestamp(START));
        self.run(Command::SuspectNode { node, boot, last_heard });
        for tick in 1..=ticks {
            self.run(Command::TickNode { node, boot, tick });
        }
    }

    pub(super) fn wait(&mut self, subject: Subject, reason: WaitReason) {
        self.waiting.push(Waiting { subject, reason });
    }

    /// Looks at it as handlers do.
    pub(super) fn look<R>(&self, f: impl FnOnce(&World<'_>) -> R) -> R {
        let Self { cluster, observed, waiting, raft, now } = self;
        f(&World { cluster, observed, held: &by_subject(waiting), raft, now: *now })
    }

    pub(super) fn web(&self) -> &Grain {
        &self.cluster.grains[&WEB]
    }

    /// State and conditions of `web`, a line each.
    #[track_caller]
    pub(super) fn check_web(&self, state: GrainState, conditions: Expect) {
        let view = self.look(|world| grain(world, self.web()));
        let line = |condition: &scrap_schema::api::Condition| {
            let status = match condition.status {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            format!("{} {status} {}: {}\n", condition.r#type, condition.reason, condition.message)
        };
        assert_eq!(view.status.state, state);
        conditions.assert_eq(&view.status.conditions.iter().map(line).collect::<String>());
    }

    /// Health and reasons of the cluster, a line each.
    #[track_caller]
    pub(super) fn check_cluster(&self, expected: Expect) {
        let view = self.look(cluster).unwrap();
        let known = |it: Option<u32>| it.map_or_else(|| "?".to_owned(), |it| it.to_string());
        let (running, online) = (known(view.grains_running), known(view.nodes_online));
        let mut text = format!(
            "{:?}, {running}/{} running, {online}/{} online\n",
            view.health, view.grains_wanted, view.nodes
        );
        for reason in view.reasons {
            text.push_str(&reason);
            text.push('\n');
        }
        expected.assert_eq(&text);
    }
}
