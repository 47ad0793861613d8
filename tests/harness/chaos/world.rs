//! The cluster that chaos comes over: a lab, its wires, its power, its processes, and somebody who starts daemons again that have
//! ended, as the supervisor of every real machine does.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use scrap_host::clock;
use scrap_schema::api::{GrainState, NodeState, NodeView, OperationView};
use scrap_schema::operation::OperationState;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::ground::{Ground, Pace};
use super::machines::{self, Machines};
use crate::cluster::Never;
use crate::cluster::api::{Api, Call};
use crate::cluster::processes::Process;
use crate::cluster::wait_for;
use crate::platform::{Lab, Spec};

/// Pause of the supervisor between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// How long a daemon that has ended stays down.
const RESTART: Duration = Duration::from_millis(700);
/// Longest time until everything is well again after faults.
pub const HEALED: Duration = Duration::from_secs(180);
/// Names of the nodes of labs.
const NAMES: [&str; 5] = ["ada", "ben", "cleo", "dora", "emil"];

/// What kind of cluster.
#[derive(Debug, Clone)]
pub struct Kind {
    /// How many nodes.
    pub nodes: usize,
    /// `dir` or `zfs`.
    pub datasets: String,
    /// `process` or `lxc`.
    pub runtime: String,
    /// `fast`, `default` or a preset.
    pub timing: String,
    /// A node that votes and runs nothing.
    pub witness: Option<String>,
    /// Machines of their own instead of a lab: what they are like. The fields below are of labs.
    pub machines: Option<machines::Spec>,
    /// Size of a file system of each node's own for its data folder; none: it has as much as the machine.
    pub data_size: Option<String>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            nodes: 3,
            machines: None,
            datasets: "dir".to_owned(),
            runtime: "process".to_owned(),
            timing: "fast".to_owned(),
            witness: None,
            data_size: Some("256M".to_owned()),
        }
    }
}

/// A cluster with somebody who starts its daemons again.
pub struct World {
    /// What its nodes are.
    pub ground: Ground,
    /// How fast things can be.
    pub pace: Pace,
    /// Names of its nodes.
    pub nodes: Vec<String>,
    /// Those of them that run grains.
    pub homes: Vec<String>,
    /// Its API, with the patience of an operator.
    pub api: Api,
    /// Whose daemons nobody starts now: switched off, or meant to be down.
    held: Mutex<BTreeSet<String>>,
    /// One change of power or daemons at a time.
    verbs: tokio::sync::Mutex<()>,
    restarts: AtomicU64,
    stop: Arc<AtomicBool>,
}

/// The address of a node's API.
#[must_use]
pub fn server(number: usize) -> String {
    format!("http://10.99.0.{}:7272", number + 1)
}

impl World {
    /// Starts a lab. The calling thread is in the network of its client afterwards.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(kind: &Kind) -> anyhow::Result<Arc<Self>> {
        if let Some(spec) = &kind.machines {
            let nodes: Vec<String> =
                (1..=kind.nodes).map(|number| format!("node{number}")).collect();
            let machines = Machines::start(kind.nodes, spec.clone()).await?;
            return Self::on(Ground::Machines(machines), nodes.clone(), nodes);
        }
        let number = kind.nodes.to_string();
        let mut spec = Spec::named(&format!("chaos-{}", std::process::id()))
            .option("--nodes", &number)
            .option("--datasets", &kind.datasets)
            .option("--runtime", &kind.runtime)
            .option("--timing", &kind.timing);
        if let Some(size) = &kind.data_size {
            spec = spec.option("--data-size", size);
        }
        if let Some(witness) = &kind.witness {
            spec = spec.option("--witness", witness);
        }
        let lab = Lab::start(spec).await?;
        fs::create_dir_all(lab.dir.join("traces"))?;
        let nodes: Vec<String> = NAMES.iter().take(kind.nodes).map(ToString::to_string).collect();
        let runs = |node: &&String| kind.witness.as_ref() != Some(*node);
        let homes = nodes.iter().filter(runs).cloned().collect();
        Self::on(Ground::Lab(Box::new(lab)), nodes, homes)
    }

    /// The cluster of nodes that are up.
    fn on(ground: Ground, nodes: Vec<String>, homes: Vec<String>) -> anyhow::Result<Arc<Self>> {
        let api = Api::new((0..nodes.len()).map(|number| ground.server(number)).collect())?;
        let pace = ground.pace();
        let (held, verbs) = (Mutex::default(), tokio::sync::Mutex::new(()));
        let (restarts, stop) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        Ok(Arc::new(Self { ground, pace, nodes, homes, api, held, verbs, restarts, stop }))
    }

    /// The address of a node's API, by its name.
    #[must_use]
    pub fn server(&self, node: &str) -> String {
        let number = self.nodes.iter().position(|name| name == node);
        self.ground.server(number.unwrap_or_default())
    }

    /// Every node but these.
    #[must_use]
    pub fn others(&self, but: &[String]) -> Vec<String> {
        self.nodes.iter().filter(|node| !but.contains(node)).cloned().collect()
    }

    /// How often a daemon was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody starts the daemon of this node until it is let go.
    pub fn hold(&self, node: &str) {
        self.held().insert(node.to_owned());
    }

    /// The supervisor looks after this node again.
    pub fn let_go(&self, node: &str) {
        self.held().remove(node);
    }

    /// Processes of a program on a node, as the machine outside sees them.
    #[must_use]
    pub fn processes(&self, node: &str, program: &str) -> Vec<Process> {
        let Ok(lab) = self.ground.lab() else { return Vec::new() };
        let group = format!("/scrap-lab.{}/{node}", lab.name);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(process) = pid.and_then(Process::of) else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.trim_end() != program {
                continue;
            }
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let of_node = |line: &str| {
                line.split_once(&group)
                    .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
            };
            if groups.lines().any(of_node) {
                found.push(process);
            }
        }
        found
    }

    /// Sends a signal to every process of a program on a node. Returns how many there were.
    pub fn signal(&self, node: &str, program: &str, signal: Signal) -> usize {
        let processes = self.processes(node, program);
        for process in &processes {
            process.signal(signal);
            // Whoever waits for a stopped process from outside of its namespace stops as well.
            if signal == Signal::CONT
                && let Some(parent) = parent(process.pid).and_then(Process::of)
            {
                parent.signal(Signal::CONT);
            }
        }
        processes.len()
    }

    /// Runs a verb of the lab that changes power or daemons, one at a time.
    ///
    /// # Errors
    /// If it fails.
    pub async fn verb(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let _one = self.verbs.lock().await;
        self.ground.verb(arguments).await
    }

    /// Cuts the power of these nodes.
    ///
    /// # Errors
    /// If the lab cannot.
    pub async fn power_off(&self, nodes: &[String]) -> anyhow::Result<()> {
        for node in nodes {
            self.hold(node);
        }
        for node in nodes {
            self.verb(&["kill", node]).await?;
        }
        Ok(())
    }

    /// Switches a node on again.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn power_on(&self, node: &str) -> anyhow::Result<()> {
        self.verb(&["start", node]).await?;
        self.let_go(node);
        Ok(())
    }

    async fn look_after(&self, node: &str) -> anyhow::Result<()> {
        let down = || !self.held().contains(node) && self.processes(node, "scrapd").is_empty();
        if !down() {
            return Ok(());
        }
        sleep(RESTART).await;
        let _one = self.verbs.lock().await;
        if down() {
            self.ground.verb(&["daemon", node, "start"]).await?;
            self.restarts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins to start daemons again that have ended.
    #[must_use]
    pub fn supervise(self: &Arc<Self>) -> JoinHandle<()> {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            // Machines have a supervisor each.
            if world.ground.lab().is_err() {
                return;
            }
            while !world.stop.load(Ordering::Relaxed) {
                for node in &world.nodes {
                    // One that does not begin is tried again.
                    let _ = world.look_after(node).await;
                }
                sleep(LOOK).await;
            }
        })
    }

    /// Nobody starts anything again.
    pub fn end_supervision(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Switches a node on, and off again after so long, while it boots, or while its daemon begins.
    ///
    /// # Errors
    /// If it cannot be done.
    pub async fn power_on_and_off(
        &self,
        node: &str,
        after: Duration,
        whole: bool,
    ) -> anyhow::Result<()> {
        let verb = match self.ground {
            Ground::Machines(_) if !whole => "boot",
            Ground::Lab(_) | Ground::Machines(_) => "start",
        };
        self.verb(&[verb, node]).await?;
        sleep(after).await;
        self.verb(&["kill", node]).await
    }

    /// Moves a grain and waits until it is there.
    ///
    /// # Errors
    /// If that fails.
    pub async fn moves(&self, grain: &str, to: &str) -> anyhow::Result<()> {
        let path = format!("/v1/grains/{grain}/migrate");
        let asked: OperationView = self.api.post(&path, &json!({"to": to})).await?;
        let ended = self.api.ended(asked.id, self.pace.healed).await?;
        ensure!(ended.state == OperationState::Succeeded, "{ended:#?}");
        Ok(())
    }

    /// The leader, once there is one.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn leader(&self) -> anyhow::Result<String> {
        wait_for(self.pace.healed, "there is a leader", async || {
            Ok(self.api.cluster().await?.leader.map(|leader| leader.to_string()))
        })
        .await
    }

    /// The owner of a grain, once it has one.
    ///
    /// # Errors
    /// If it has none in time.
    pub async fn owner(&self, grain: &str) -> anyhow::Result<String> {
        wait_for(self.pace.healed, &format!("{grain} has an owner"), async || {
            Ok(self.api.grain(grain).await?.status.node.map(|node| node.to_string()))
        })
        .await
    }

    /// How many copies grains have here.
    #[must_use]
    pub fn copies(&self) -> usize {
        2.min(self.homes.len().saturating_sub(1))
    }

    /// Waits until every node is online, as many vote as should, and these grains run with their copies.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn is_healed(&self, grains: &[String]) -> anyhow::Result<()> {
        let voters = match self.nodes.len() {
            0..=2 => 1,
            3..=4 => 3,
            _ => 5,
        };
        wait_for(self.pace.healed, "every node is online and votes", async || {
            let nodes: Vec<NodeView> = self.api.get("/v1/nodes").await?;
            let online = nodes.iter().filter(|node| node.status.state == NodeState::Online).count();
            let ready =
                online == self.nodes.len() && self.api.cluster().await?.voters.len() == voters;
            Ok(ready.then_some(()))
        })
        .await?;
        for grain in grains {
            wait_for(self.pace.healed, &format!("{grain} runs and has its copies"), async || {
                let grain = self.api.grain(grain).await?;
                let copies = grain.status.copies.iter();
                let there = copies.filter(|copy| copy.snapshot.is_some() && copy.reachable).count();
                let ready = grain.status.state == GrainState::Running && there >= self.copies();
                if !ready {
                    bail!("{:?}", grain.status);
                }
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until all nodes name one leader and have the same state at the same index.
    ///
    /// # Errors
    /// If their states differ, or they do not agree in time.
    pub async fn agrees(&self) -> anyhow::Result<String> {
        wait_for(self.pace.healed, "every node has applied the same", async || {
            let (mut hashes, mut leaders) = (Vec::new(), BTreeSet::new());
            for node in &self.nodes {
                let server = self.server(node);
                hashes.push(self.api.hash(&server).await?);
                let view: scrap_schema::api::ClusterView =
                    self.api.ask(&server, &Call::get("/v1/cluster?stale=true")).await?.json()?;
                leaders.insert(view.leader.map(|leader| leader.to_string()));
            }
            let first = hashes.first().cloned().context("there are nodes")?;
            if hashes.iter().any(|hash| hash.index != first.index) {
                return Ok(None);
            }
            if hashes.iter().any(|hash| hash.hash != first.hash) {
                return Err(Never::from(format!("the states differ: {hashes:#?}")).into());
            }
            let one = leaders.iter().flatten().next().cloned();
            Ok(one.filter(|_| leaders.len() == 1))
        })
        .await
    }
}

/// The parent of a process.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Milliseconds of boot time: one clock for all nodes, because all are on one machine.
#[must_use]
pub fn boot_ms() -> u64 {
    clock::boot_time().0
}
