//! Nodes with a real log on a temporary folder, and a short way to ask them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use scrap_decide::cluster::Outcome;
use scrap_host::any::{AnyDatasets, AnyRuntime};
use scrap_host::clock;
use scrap_host::mem::{MemDatasets, MemRuntime};
use scrap_host::net::AnyNet;
use scrap_schema::command::{AssignCause, Command, NewNode, Proposal};
use scrap_schema::id::{ClusterId, Epoch, GrainId, NodeId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole, RuntimeKind};
use scrap_schema::spec::Labels;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use scrapd::daemon::{Daemon, Host};
use scrapd::peer::Peers;
use scrapd::raft::{Consensus, Settings, Timers};
use scrapd::{agent, api, leader};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const CLUSTER: ClusterId = ClusterId(0xA91);

/// A node.
pub(crate) struct Node {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) router: Router,
    pub(crate) api: SocketAddr,
    _stop: DropGuard,
}

/// Some nodes, the first one formed the cluster.
pub(crate) struct Lab {
    pub(crate) nodes: Vec<Node>,
    _dir: tempfile::TempDir,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

impl Lab {
    pub(crate) async fn one() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = Node::start(dir.path(), 1).await;
        let lab = Self { nodes: vec![first], _dir: dir };
        lab.form().await;
        lab
    }

    /// Three voters.
    pub(crate) async fn three() -> Self {
        let mut lab = Self::one().await;
        for number in [2, 3] {
            let node = Node::start(lab._dir.path(), number).await;
            lab.propose(Command::AddNode { node: new_node(&node) }).await;
            lab.nodes.push(node);
        }
        let voters: BTreeSet<NodeId> = lab.nodes.iter().map(|node| node.daemon.me).collect();
        let peers: BTreeMap<NodeId, String> = lab
            .nodes
            .iter()
            .map(|node| (node.daemon.me, node.daemon.addresses.peer.clone()))
            .collect();
        lab.nodes[0].daemon.consensus.set_members(voters, peers).await.unwrap();
        let index = lab.index();
        for node in &lab.nodes {
            let consensus = &node.daemon.consensus;
            consensus.changes().wait_for(|applied| *applied >= index).await.unwrap();
            consensus.leadership().wait_for(|now| now.leader.is_some()).await.unwrap();
        }
        lab
    }

    async fn form(&self) {
        let node = &self.nodes[0];
        let consensus = &node.daemon.consensus;
        consensus.form(node.daemon.addresses.peer.clone()).await.unwrap();
        consensus.leadership().wait_for(|now| now.me).await.unwrap();
        let (name, timing) = ("attic".parse().unwrap(), Timing::default());
        let node = new_node(node);
        self.propose(Command::FormCluster { cluster: CLUSTER, name, timing, node }).await;
    }

    /// Brings a change into the log; it must not be refused.
    pub(crate) async fn propose(&self, command: Command) -> Outcome {
        let proposal = Proposal { at: clock::wall(), key: None, command };
        let committed = self.nodes[0].daemon.consensus.propose(proposal).await.unwrap();
        committed.outcome.unwrap()
    }

    /// The log index that the first node has applied.
    pub(crate) fn index(&self) -> u64 {
        self.nodes[0].daemon.consensus.read(|cluster| cluster.index)
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        self.nodes[0].ask(method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, &[JSON], body).await
    }

    /// Makes a grain and lets it live on the first node, running.
    pub(crate) async fn grain(&self, name: &str) -> GrainId {
        let reply = self.post("/v1/grains", &manifest(name)).await.ok(202);
        let id = self.get(&format!("/v1/grains/{name}")).await.json()["metadata"]["id"].clone();
        let grain: GrainId = id.as_str().unwrap().parse().unwrap();
        let epoch = Epoch(0);
        let to = self.nodes[0].daemon.me;
        let cause = AssignCause::Place;
        self.propose(Command::AssignGrain { grain, epoch, to, base: None, cause }).await;
        let epoch = epoch.next();
        self.propose(Command::GrainBorn { grain, epoch }).await;
        self.propose(Command::GrainStarted { grain, epoch, at: clock::wall(), seen: None }).await;
        let operation = reply.json()["id"].as_str().unwrap().parse().unwrap();
        let summary = scrap_schema::operation::Summary::default();
        let (failed, cancelled) = (false, false);
        self.propose(Command::FinishOperation { operation, failed, cancelled, summary }).await;
        grain
    }
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const YAML: (&str, &str) = ("content-type", "application/yaml");

/// A small sound grain as JSON.
pub(crate) fn manifest(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"scrap/v1","kind":"Grain","metadata":{{"name":"{name}","labels":{{"app":"{name}"}}}},"spec":{{"command":["sleep","1000"]}}}}"#
    )
}

fn new_node(node: &Node) -> NewNode {
    NewNode {
        name: node.daemon.name.clone(),
        role: NodeRole::Data,
        labels: Labels::new(),
        addresses: node.daemon.addresses.clone(),
        facts: NodeFacts {
            cpu: MilliCpu(4000),
            memory: Bytes(8 << 30),
            disk: Bytes(100 << 30),
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            runtimes: [RuntimeKind::Process].into(),
            network: None,
            version: "0".to_owned(),
        },
    }
}

impl Node {
    async fn start(root: &std::path::Path, number: u64) -> Self {
        let me = NodeId(number);
        let stop = CancellationToken::new();
        let peer = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let door = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let api = door.local_addr().unwrap();
        let addresses =
            Addresses { api: api.to_string(), peer: peer.local_addr().unwrap().to_string() };
        let timers = Timers {
            heartbeat: Duration::from_millis(60),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(800),
            ..Timers::default()
        };
        let dir = root.join(number.to_string());
        let settings = Settings { timers, ..Settings::new(dir, me, CLUSTER) };
        let consensus = Consensus::open(settings).await.unwrap();
        let host = Host {
            guard: scrap_host::guard::AnyGuard::Off,
            datasets: AnyDatasets::Mem(MemDatasets::new(number)),
            runtime: AnyRuntime::Mem(MemRuntime::new()),
            net: AnyNet::Off,
        };
        let daemon = Arc::new(Daemon {
            me,
            name: format!("n{number}").parse().unwrap(),
            cluster_id: CLUSTER,
            consensus: consensus.clone(),
            leader: leader::Memory::default(),
            agent: agent::Handle::default(),
            host: Arc::new(host),
            runtime: scrapd::config::RuntimeKind::Mem,
            peers: Peers::new(consensus.clone()).unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            fence: Default::default(),
            scrub_every: Span::ZERO,
            started: clock::boot_time(),
            addresses,
            shutdown: stop.clone(),
        });
        tokio::spawn(api::serve(peer, consensus.routes(), stop.clone()));
        let router = api::routes(daemon.clone());
        tokio::spawn(api::serve(door, router.clone(), stop.clone()));
        Self { daemon, router, api, _stop: stop.drop_guard() }
    }

    /// The twin of this node's runtime.
    pub(crate) fn runtime(&self) -> &MemRuntime {
        match &self.daemon.host.runtime {
            AnyRuntime::Mem(runtime) => runtime,
            AnyRuntime::Process(_) | AnyRuntime::Lxc(_) => panic!("the lab runs nothing"),
        }
    }

    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.router.clone().oneshot(request.body(body).unwrap());
        tokio::time::timeout(LIMIT, answer).await.expect("no answer in time").unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let response = self.open(method, path, headers, Body::from(body.to_owned())).await;
        let (parts, answer) = response.into_parts();
        let answer = tokio::time::timeout(LIMIT, answer.collect()).await.expect("no end in time");
        let text = String::from_utf8_lossy(&answer.unwrap().to_bytes()).into_owned();
        let reply = Reply { status: parts.status, headers: parts.headers, text };
        let faults = super::contract::faults(method, path, body, &reply);
        assert!(faults.is_empty(), "{method} {path} is not as documented: {faults:#?}");
        reply
    }
}
