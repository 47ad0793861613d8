//! Small worlds for table tests, made by `apply` alone. Every entry that goes through here is checked: nothing changes untouched,
//! a refusal changes nothing, no contradictions.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::command::{AssignCause, Command, GrainText, NewNode, Proposal};
use scrap_schema::id::{BootId, ClusterId, Epoch, GrainId, Name, NodeId, OperationId};
use scrap_schema::node::{
    Addresses, CopyReport, DataReport, GrainReport, NodeFacts, NodeRole, NodeUsage, PoolFacts,
    Renewal, RuntimeKind,
};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::spec::{Egress, GrainSpec, Labels, Placement, Resources, Stop, Template};
use scrap_schema::time::{BootTime, Now, Timestamp};
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu};
use serde_json::{Value, json};

use crate::apply::{Applied, apply};
use crate::check::check;
use crate::cluster::{Cluster, Grain, Key, Outcome};
use crate::observed::Observed;
use crate::refusal::Refusal;

/// The grain of most tests.
pub(crate) const WEB: GrainId = GrainId(1);

/// A world under test.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) observed: Observed,
    pub(crate) now: Now,
    /// What nodes say of their storage from now on.
    pub(crate) pools: BTreeMap<u64, PoolFacts>,
}

impl World {
    /// So many online data nodes named n1, n2, …
    pub(crate) fn nodes(count: u64) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            observed: Observed::default(),
            now: Now { boot: BootTime(1_000_000), wall: Timestamp(1_000_000_000) },
            pools: BTreeMap::new(),
        };
        for number in 1..=count {
            world.join(number, NodeRole::Data);
        }
        world
    }

    /// Another node joins and starts.
    pub(crate) fn join(&mut self, number: u64, role: NodeRole) {
        let node = new_node(number, role);
        let facts = node.facts.clone();
        let addresses = node.addresses.clone();
        let command = match number {
            1 => Command::FormCluster {
                cluster: ClusterId(1),
                name: "home".parse().unwrap(),
                timing: Timing::default(),
                node,
            },
            _ => Command::AddNode { node },
        };
        self.done(command);
        self.done(registration(NodeId(number), BootId(1), addresses, facts));
    }

    /// A grain that answers on a node, with copies on others.
    pub(crate) fn grain(&mut self, id: GrainId, name: &str, owner: u64, copies: &[u64]) {
        let operation = OperationId(id.0 + 1000);
        self.done(Command::CreateGrain { grain: id, operation, text: text(name) });
        let (to, epoch) = (NodeId(owner), Epoch(0));
        self.done(Command::AssignGrain {
            grain: id,
            epoch,
            to,
            base: None,
            cause: AssignCause::Place,
        });
        let epoch = Epoch(1);
        self.done(Command::GrainBorn { grain: id, epoch });
        self.done(Command::GrainStarted { grain: id, epoch, at: self.now.wall, seen: None });
        let standbys = copies.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        if !standbys.is_empty() {
            self.done(Command::SetStandbys { grain: id, epoch, standbys });
        }
        let summary = Default::default();
        let (failed, cancelled) = (false, false);
        self.done(Command::FinishOperation { operation, failed, cancelled, summary });
    }

    /// The grain of most tests: on n1, copies as said.
    pub(crate) fn web(copies: &[u64]) -> Self {
        let mut world = Self::nodes(3);
        world.grain(WEB, "web", 1, copies);
        world
    }

    pub(crate) fn the(&self, id: GrainId) -> &Grain {
        self.cluster.grains.get(&id).unwrap()
    }

    /// Applies a command and looks at what it did.
    pub(crate) fn try_apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.propose(Proposal { at: self.now.wall, key: None, command }).outcome
    }

    /// The same with everything around it.
    pub(crate) fn propose(&mut self, proposal: Proposal) -> Applied {
        let before = self.cluster.clone();
        let index = before.index + 1;
        let applied = apply(&mut self.cluster, index, &proposal);
        let (was, is) = (rows(&before), rows(&self.cluster));
        let changed = was.keys().chain(is.keys()).filter(|key| was.get(key) != is.get(key));
        for key in changed {
            assert!(applied.touched.contains(key), "{key:?} changed and is not touched");
        }
        if applied.outcome.is_err() && proposal.key.is_none() {
            assert!(applied.touched.is_empty(), "a refusal touched {:?}", applied.touched);
            assert!(applied.events.is_empty(), "a refusal told {:?}", applied.events);
        }
        assert_eq!(check(&self.cluster), Vec::new(), "after {:?}", proposal.command);
        let mut derived = self.cluster.clone();
        derived.derive();
        assert_eq!(derived.names, self.cluster.names, "after {:?}", proposal.command);
        applied
    }

    /// Applies a command that must have an effect.
    pub(crate) fn done(&mut self, command: Command) -> Outcome {
        let words = format!("{command:?}");
        match self.try_apply(command) {
            Ok(outcome) => outcome,
            Err(refusal) => panic!("{words}: {refusal}"),
        }
    }

    /// Applies a command that must be refused, and returns why.
    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        let words = format!("{command:?}");
        match self.try_apply(command) {
            Ok(outcome) => panic!("{words}: {outcome:?}"),
            Err(refusal) => refusal,
        }
    }

    /// Begins work on the grain of most tests.
    pub(crate) fn begin(&mut self, work: Work) -> OperationId {
        let operation = OperationId(5000 + u128::from(self.cluster.index));
        self.done(Command::StartOperation { operation, work, text: None });
        operation
    }

    /// A node falls silent and its countdown ends.
    pub(crate) fn fence(&mut self, number: u64) {
        let (node, boot) = (NodeId(number), BootId(1));
        self.done(Command::SuspectNode { node, boot, last_heard: self.now.wall });
        for tick in 1..=Timing::default().ticks {
            self.done(Command::TickNode { node, boot, tick });
        }
        self.done(Command::FenceNode { node, boot });
    }

    /// A node reports what it has.
    pub(crate) fn hear(&mut self, number: u64, reports: BTreeMap<GrainId, GrainReport>) {
        let present = self.cluster.nodes.get(&NodeId(number)).and_then(|node| node.boot);
        let renewal = Renewal {
            node: NodeId(number),
            boot: present.unwrap_or(BootId(1)),
            sent: self.now.boot,
            wall: self.now.wall,
            usage: NodeUsage::default(),
            pool: self.pools.get(&number).cloned(),
            network: Vec::new(),
            full: true,
            grains: reports.into_iter().map(|(grain, report)| (grain, Some(report))).collect(),
        };
        self.observed.hear(&renewal, present, self.now);
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now.boot = BootTime(self.now.boot.0 + ms);
        self.now.wall = Timestamp(self.now.wall.0 + i64::try_from(ms).unwrap());
    }
}

/// Every row as the store would write it.
pub(crate) fn rows(cluster: &Cluster) -> BTreeMap<Key, Value> {
    let row = |key: &Key| match key {
        Key::Identity => json!(cluster.identity),
        Key::Node(id) => json!(cluster.nodes.get(id)),
        Key::Policy(name) => json!(cluster.policies.get(name)),
        Key::Network(name) => json!(cluster.networks.get(name)),
        Key::Template(id) => json!(cluster.templates.get(id)),
        Key::RemovedTemplate(id) => json!(cluster.removed_templates.contains(id)),
        Key::Grain(id) => json!(cluster.grains.get(id)),
        Key::Purged(id) => json!(cluster.purged.contains(id)),
        Key::Operation(id) => json!(cluster.operations.get(id)),
        Key::Orphan(key) => json!(cluster.orphans.get(key)),
        Key::Answer(key) => json!(cluster.answers.get(key)),
        Key::Event(index, place) => json!(cluster.events.get(&(*index, *place))),
    };
    cluster.keys().into_iter().map(|key| (key.clone(), row(&key))).collect()
}

pub(crate) fn new_node(number: u64, role: NodeRole) -> NewNode {
    NewNode {
        name: format!("n{number}").parse().unwrap(),
        role,
        labels: Labels::new(),
        addresses: Addresses { api: format!("n{number}:7272"), peer: format!("n{number}:7273") },
        facts: NodeFacts {
            cpu: MilliCpu(4000),
            memory: Bytes(4 << 30),
            disk: Bytes(100 << 30),
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            runtimes: BTreeSet::from([RuntimeKind::Process]),
            network: None,
            version: "0.1.0".to_owned(),
        },
    }
}

pub(crate) fn text(name: &str) -> GrainText {
    let spec = GrainSpec {
        template: Template::Process,
        command: vec!["serve".to_owned()],
        env: BTreeMap::new(),
        resources: Resources::default(),
        network: None,
        ingress: Vec::new(),
        egress: Egress::default_rules(),
        health: None,
        protect: "prompt".parse().unwrap(),
        place: Placement::default(),
        stop: Stop::default(),
        running: true,
    };
    let name: Name = name.parse().unwrap();
    GrainText { name, labels: Labels::new(), annotations: Labels::new(), spec }
}

/// The registration of a start of a daemon, as one of a version without a guard says it.
pub(crate) fn registration(
    node: NodeId,
    boot: BootId,
    addresses: Addresses,
    facts: NodeFacts,
) -> Command {
    let (seal, again, seen) = (None, false, None);
    Command::RegisterNode { node, boot, addresses, facts, seal, again, seen }
}

/// `e.s`: a replication snapshot of epoch e, number s; `e.s!` one of a person; `e.s#` a last state of operation 1. The guid is
/// 100 · e + s, frozen s seconds after the beginning.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let bare = text.trim_end_matches(['!', '#']);
    let (epoch, seq) = bare.split_once('.').unwrap();
    let (epoch, seq): (u64, u64) = (epoch.parse().unwrap(), seq.parse().unwrap());
    let purpose = match text.chars().last() {
        Some('!') => Purpose::User("kept".parse().unwrap()),
        Some('#') => Purpose::Final(OperationId(1)),
        Some(_) | None => Purpose::Replication,
    };
    Snapshot {
        name: SnapshotName { epoch: Epoch(epoch), seq, purpose },
        guid: Guid(100 * epoch + seq),
        created: Timestamp(1_000_000_000 + 1000 * i64::try_from(seq).unwrap()),
    }
}

/// Several of them, oldest first.
pub(crate) fn line(text: &str) -> Vec<Snapshot> {
    text.split_whitespace().map(snapshot).collect()
}

/// A report of a copy that ends at a snapshot.
pub(crate) fn copy(head: &str) -> GrainReport {
    data(head, false, Epoch(1))
}

/// A report of a dataset.
pub(crate) fn data(head: &str, owner: bool, epoch: Epoch) -> GrainReport {
    let head = Some(snapshot(head));
    let data = DataReport { owner, epoch, head, used: Bytes(0), dirty: Bytes(0) };
    GrainReport { data: Some(data), run: None, copies: BTreeMap::new(), trouble: None }
}

/// What an owner says of a copy.
pub(crate) fn copy_seen(common: &str, current_to: Timestamp, pending: u64) -> CopyReport {
    CopyReport {
        common: Some(snapshot(common).guid),
        current_to: Some(current_to),
        pending: Bytes(pending),
        sending: None,
        rate: Bytes(0),
        rounds: 1,
        trouble: None,
    }
}
