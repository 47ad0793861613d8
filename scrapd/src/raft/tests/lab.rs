//! Nodes in one process that talk over real HTTP on loopback, and what the tests ask of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use scrap_schema::command::{Command, IdempotencyKey, NewNode, Proposal};
use scrap_schema::id::{ClusterId, Name, NodeId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole};
use scrap_schema::spec::{Labels, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use tokio_util::sync::CancellationToken;

use crate::raft::{Committed, Compaction, Consensus, FormError, Settings, Timers};

/// Longest wait for anything.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

pub(super) const CLUSTER: ClusterId = ClusterId(0x5C4A9);

/// Waits until `condition` gives something.
pub(super) async fn wait_for<R>(what: &str, mut condition: impl FnMut() -> Option<R>) -> R {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn settings(dir: PathBuf, node: NodeId) -> Settings {
    let timers = Timers {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
        ..Timers::default()
    };
    Settings { timers, ..Settings::new(dir, node, CLUSTER) }
}

/// A node that takes part.
pub(super) struct Node {
    pub(super) consensus: Consensus,
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(super) async fn start(settings: Settings, at: Option<SocketAddr>) -> Self {
        let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let consensus = Consensus::open(settings).await.unwrap();
        let stop = CancellationToken::new();
        let routes = consensus.routes();
        let stopped = stop.clone().cancelled_owned();
        let served = tokio::spawn(async move {
            // Connections end with the server: a stopped node answers nobody.
            tokio::select! {
                result = async { axum::serve(listener, routes).await } => result.unwrap(),
                () = stopped => (),
            }
        });
        Self { consensus, address, stop, served }
    }

    /// Stops it cleanly.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap();
        self.consensus.close().await;
    }
}

/// Some nodes.
pub(super) struct Lab {
    dir: PathBuf,
    /// Goes with the nodes if it is theirs.
    _own: Option<tempfile::TempDir>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    compaction: Compaction,
}

impl Lab {
    fn empty(dir: PathBuf, own: Option<tempfile::TempDir>, compaction: Compaction) -> Self {
        let (nodes, addresses) = (BTreeMap::new(), BTreeMap::new());
        Self { dir, _own: own, nodes, addresses, compaction }
    }

    /// One node that is a cluster.
    pub(super) async fn one() -> Self {
        Self::with(Compaction::default()).await
    }

    pub(super) async fn with(compaction: Compaction) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut lab = Self::empty(own.path().to_owned(), Some(own), compaction);
        lab.form().await;
        lab
    }

    pub(super) async fn at(dir: PathBuf, compaction: Compaction) -> Self {
        let mut lab = Self::empty(dir, None, compaction);
        lab.form().await;
        lab
    }

    /// Three voters.
    pub(super) async fn three(compaction: Compaction) -> Self {
        let mut lab = Self::with(compaction).await;
        lab.grow().await;
        lab
    }

    pub(super) async fn three_at(dir: PathBuf, compaction: Compaction) -> Self {
        let mut lab = Self::at(dir, compaction).await;
        lab.grow().await;
        lab
    }

    /// Nodes that another process has left. One that had not formed its cluster yet does so.
    pub(super) async fn reopen(dir: PathBuf, numbers: &[u64], compaction: Compaction) -> Self {
        let mut lab = Self::empty(dir, None, compaction);
        let book = std::fs::read_to_string(lab.dir.join("book")).unwrap_or_default();
        for line in book.lines() {
            let (node, address) = line.split_once(' ').unwrap();
            let node = NodeId(node.parse().unwrap());
            lab.addresses.insert(node, address.parse().unwrap());
        }
        for number in numbers {
            lab.start(*number).await;
        }
        if numbers.len() == 1 {
            lab.form_here().await;
        }
        lab
    }

    async fn form(&mut self) {
        self.start(1).await;
        self.form_here().await;
    }

    async fn form_here(&self) {
        let node = &self.nodes[&NodeId(1)];
        match node.consensus.form(node.address.to_string()).await {
            Ok(()) | Err(FormError::AlreadyFormed) => (),
            Err(error) => panic!("{error:?}"),
        }
        self.leader().await;
        // Without effect if it was done before.
        node.consensus.propose(form(node.address)).await.unwrap();
    }

    async fn grow(&mut self) {
        for number in [2, 3] {
            self.start(number).await;
            let address = self.addresses[&NodeId(number)];
            let join = Command::AddNode { node: new_node(number, address) };
            self.nodes[&NodeId(1)].consensus.propose(plain(join)).await.unwrap();
        }
        self.nodes[&NodeId(1)].consensus.set_members(ids([1, 2, 3]), self.book()).await.unwrap();
    }

    /// Stops all nodes cleanly.
    pub(super) async fn close(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.stop().await;
        }
    }

    /// Peer addresses of all nodes.
    pub(super) fn book(&self) -> BTreeMap<NodeId, String> {
        self.addresses.iter().map(|(node, address)| (*node, address.to_string())).collect()
    }

    pub(super) fn path(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("n{node}"))
    }

    /// Starts a node, at its old address if it had one.
    pub(super) async fn start(&mut self, number: u64) -> NodeId {
        let node = NodeId(number);
        let settings = Settings { compaction: self.compaction, ..settings(self.path(node), node) };
        let started = Node::start(settings, self.addresses.get(&node).copied()).await;
        self.addresses.insert(node, started.address);
        self.nodes.insert(node, started);
        node
    }

    /// Its next start is at another address.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.addresses.remove(&node);
    }

    pub(super) async fn stop(&mut self, node: NodeId) {
        self.nodes.remove(&node).unwrap().stop().await;
    }

    /// The leader, as soon as all nodes that run agree on one that runs and it answers for a majority.
    pub(super) async fn leader(&self) -> NodeId {
        let leader = wait_for("a leader that all agree on", || {
            let seen: BTreeSet<Option<NodeId>> = self
                .nodes
                .values()
                .map(|node| node.consensus.leadership().borrow().leader)
                .collect();
            let leader = seen.iter().next().copied().flatten()?;
            (seen.len() == 1 && self.nodes.contains_key(&leader)).then_some(leader)
        });
        leader.await
    }

    /// Waits until all nodes that run have applied as much and compares their hashes there.
    pub(super) async fn agree_at(&self, index: u64) {
        let mut hashes = BTreeMap::new();
        for (node, running) in &self.nodes {
            wait_for("the index to be applied", || {
                (*running.consensus.changes().borrow() >= index).then_some(())
            })
            .await;
            hashes.insert(*node, running.consensus.hash_at(Some(index)));
        }
        let known: BTreeSet<_> = hashes.values().flatten().collect();
        assert_eq!(known.len(), 1, "the states differ: {hashes:?}");
    }
}

pub(super) fn ids<const N: usize>(numbers: [u64; N]) -> BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

pub(super) fn plain(command: Command) -> Proposal {
    Proposal { at: Timestamp(1_700_000_000_000), key: None, command }
}

pub(super) fn keyed(command: Command, key: &str) -> Proposal {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: format!("{command:?}") };
    Proposal { key: Some(key), ..plain(command) }
}

pub(super) fn new_node(number: u64, peer: SocketAddr) -> NewNode {
    NewNode {
        name: format!("n{number}").parse().unwrap(),
        role: NodeRole::Data,
        labels: Labels::new(),
        addresses: Addresses { api: format!("127.0.0.1:{number}"), peer: peer.to_string() },
        facts: NodeFacts::default(),
    }
}

pub(super) fn form(peer: SocketAddr) -> Proposal {
    plain(Command::FormCluster {
        cluster: CLUSTER,
        name: "lab".parse().unwrap(),
        timing: Timing::default(),
        node: new_node(1, peer),
    })
}

/// Changes policy `name`; every call with another `number` has an effect.
pub(super) fn put_policy(name: &str, number: u64) -> Command {
    let mut policy = Policy::standard();
    policy.replicate.every = scrap_schema::unit::Span::from_secs(10 + number);
    Command::PutPolicy { name: name.parse().unwrap(), if_index: None, policy }
}

pub(super) fn policy_seconds(consensus: &Consensus, name: &str) -> Option<u64> {
    let name: Name = name.parse().unwrap();
    consensus
        .read(|cluster| cluster.policies.get(&name).map(|it| it.policy.replicate.every.ms() / 1000))
}

/// Proposes and expects an effect.
pub(super) async fn change(consensus: &Consensus, command: Command) -> Committed {
    let committed = consensus.propose(plain(command)).await.unwrap();
    committed.outcome.clone().unwrap();
    committed
}
