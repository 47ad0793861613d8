//! Real clusters on this machine: `scrapd` processes with data folders, ports on loopback, fast leases. Nothing is left of
//! them when a test ends, however it ends; after a failure only their folder stays, with the logs.

pub mod api;
pub mod disk;
pub mod grain;
pub mod node;
mod ports;
pub mod processes;
mod programs;
pub mod twice;
pub mod writer;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use scrap_schema::api::{GrainState, GrainView, NodeState, NodeView, StateHash};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Span;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use api::Api;
use grain::Guestbook;
use node::Node;
use ports::Ports;
pub use programs::program;
use twice::Watch;

/// Names of nodes, in the order of their ids.
pub const NAMES: [&str; 5] = ["ada", "bob", "cy", "dan", "eve"];
/// Longest time for anything that should happen soon. Never a measure of speed: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(60);

/// What kind of cluster.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Number of nodes, up to five.
    pub nodes: usize,
    /// The numbers of the lease.
    pub timing: Timing,
    /// Heartbeat and election of the consensus.
    pub pace: (Span, Span),
    /// What becomes of grains when a daemon is asked to end: `keep` or `stop`.
    pub on_shutdown: &'static str,
    /// Filter of the daemons' logs.
    pub log: &'static str,
    /// A node whose data lie on a file system of their own, of so many MiB.
    pub small_disk: Option<(&'static str, u32)>,
    /// A node that only votes.
    pub witness: Option<&'static str>,
}

impl Spec {
    /// So many nodes with fast leases.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let ms = Span::from_ms;
        let timing = Timing {
            renew: ms(200),
            suspect: ms(1000),
            stop: ms(1500),
            lease: ms(2200),
            kill: ms(2000),
            tick: ms(500),
            ticks: 9,
        };
        Self {
            nodes,
            timing,
            pace: (ms(100), ms(1800)),
            on_shutdown: "keep",
            log: "info,scrapd=debug",
            small_disk: None,
            witness: None,
        }
    }

    /// The same with these numbers of the lease.
    #[must_use]
    pub fn timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// The same with the numbers that a cluster has when nobody says anything.
    #[must_use]
    pub fn default_timing(self) -> Self {
        let pace = (Span::from_ms(250), Span::from_secs(2));
        Self { timing: Timing::default(), pace, log: "info", ..self }
    }
}

/// A cluster under test.
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its API, through all nodes.
    pub api: Api,
    spec: Spec,
    ports: Ports,
    root: Option<TempDir>,
    janitor: Child,
    passed: bool,
}

impl Cluster {
    /// Makes a cluster and waits until every node is online and votes are as they should be.
    ///
    /// # Errors
    /// If a program is missing or the cluster does not come up.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        let mut cluster = Self::lay_out(spec)?;
        let first = cluster.nodes.first_mut().context("a cluster has at least one node")?;
        first.prepare(&["init", "--cluster", "test"]).await?;
        first.start()?;
        let server = first.server();
        for node in cluster.nodes.iter_mut().skip(1) {
            node.prepare(&["join", "--server", &server, "--timeout", "60s"]).await?;
            node.start()?;
        }
        cluster.all_online().await?;
        Ok(cluster)
    }

    /// Folders, ports and configurations; nothing runs.
    fn lay_out(spec: Spec) -> anyhow::Result<Self> {
        // Names of sockets have about 100 bytes: the folder's name is short.
        let root = tempfile::Builder::new().prefix("scrap-").rand_bytes(6).tempdir_in("/tmp")?;
        let janitor = janitor(root.path())?;
        let mut ports = Ports::take()?;
        let mut nodes = Vec::new();
        for name in NAMES.iter().take(spec.nodes) {
            let node =
                Node::new(root.path().join(name), name, (ports.one()?, ports.one()?), &spec)?;
            if let Some((_, mib)) = spec.small_disk.filter(|(small, _)| small == name) {
                disk::mount(&node.data(), mib)?;
            }
            nodes.push(node);
        }
        let api = Api::new(nodes.iter().map(Node::server).collect())?;
        Ok(Self { nodes, api, spec, ports, root: Some(root), janitor, passed: false })
    }

    /// Its kind.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The folder of everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.as_ref().map_or(Path::new("/nonexistent"), |root| root.path())
    }

    /// A port for a grain.
    ///
    /// # Errors
    /// If there is none left.
    pub fn port(&mut self) -> anyhow::Result<u16> {
        self.ports.one()
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.with_context(|| format!("there is no node {name}"))
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn node_mut(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.with_context(|| format!("there is no node {name}"))
    }

    /// The name of the leader, once there is one that answers.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn leader(&self) -> anyhow::Result<String> {
        wait_for(SOON, "there is a leader", async || {
            let cluster = self.api.cluster().await?;
            Ok(cluster.leader.map(|leader| leader.to_string()))
        })
        .await
    }

    /// Waits until every node is online and the right number of them votes.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn all_online(&self) -> anyhow::Result<()> {
        let voters = match self.spec.nodes {
            0..=2 => 1,
            3..=4 => 3,
            _ => 5,
        };
        wait_for(SOON, "every node is online and votes", async || {
            let nodes: Vec<NodeView> = self.api.get("/v1/nodes").await?;
            let online = nodes.iter().filter(|node| node.status.state == NodeState::Online).count();
            let cluster = self.api.cluster().await?;
            let ready = online == self.spec.nodes && cluster.voters.len() == voters;
            Ok(ready.then_some(()))
        })
        .await
    }

    /// Waits until so many nodes are online, whoever else is remembered.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn all_online_of(&self, count: usize) -> anyhow::Result<()> {
        wait_for(SOON, &format!("{count} nodes are online"), async || {
            let nodes: Vec<NodeView> = self.api.get("/v1/nodes").await?;
            let online = nodes.iter().filter(|node| node.status.state == NodeState::Online).count();
            Ok((online == count).then_some(()))
        })
        .await
    }

    /// Waits until a node itself can answer for the cluster again.
    ///
    /// # Errors
    /// If it cannot in time.
    pub async fn answers(&self, server: &str) -> anyhow::Result<()> {
        let ready = api::Call::get("/readyz");
        wait_for(SOON, &format!("{server} is ready"), async || {
            let answer = self.api.ask(server, &ready).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    }

    /// Waits until a node is in this state.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn node_is(&self, name: &str, state: NodeState) -> anyhow::Result<()> {
        wait_for(SOON, &format!("node {name} is {state:?}"), async || {
            let node = self.api.node(name).await?;
            Ok((node.status.state == state).then_some(()))
        })
        .await
    }

    /// Waits until a grain looks as wanted. Returns how it looks then.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn grain_is(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&GrainView) -> bool,
    ) -> anyhow::Result<GrainView> {
        let what = format!("grain {name} {what}");
        wait_for(SOON, &what, async || {
            let grain = self.api.grain(name).await?;
            Ok(wanted(&grain).then_some(grain))
        })
        .await
    }

    /// Creates a guestbook with so many copies and waits until it runs and its copies are there.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn guestbook(&mut self, on: &str, copies: u32) -> anyhow::Result<Guestbook> {
        let book = Guestbook::new("book", self.port()?)?.on(on);
        let manifests = format!("{}---\n{}", grain::policy(copies), book.manifest()?);
        self.api.apply(&manifests).await?;
        self.is_protected(&book.name, copies).await?;
        Ok(book)
    }

    /// Waits until a grain runs and so many copies of it are there.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn is_protected(&self, name: &str, copies: u32) -> anyhow::Result<GrainView> {
        let copies = usize::try_from(copies).unwrap_or_default();
        self.grain_is(name, "runs and has its copies", |grain| {
            let there = grain.status.copies.iter().filter(|copy| copy.snapshot.is_some()).count();
            grain.status.state == GrainState::Running && there >= copies
        })
        .await
    }

    /// Begins to watch that no grain runs twice.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::start(self.root().to_owned())
    }

    /// Waits until all running nodes have the same state at the same index.
    ///
    /// # Errors
    /// If their states differ, or they do not come to the same index in time.
    pub async fn hashes_agree(&self) -> anyhow::Result<StateHash> {
        wait_for(SOON, "every node has applied the same", async || {
            let mut hashes = Vec::new();
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                hashes.push(self.api.hash(&node.server()).await?);
            }
            let Some(first) = hashes.first().cloned() else { bail!("no node runs") };
            if hashes.iter().any(|hash| hash.index != first.index) {
                return Ok(None);
            }
            if hashes.iter().any(|hash| hash.hash != first.hash) {
                return Err(Never::from(format!("the states differ: {hashes:#?}")).into());
            }
            Ok(Some(first))
        })
        .await
    }

    /// The end of a test that has passed: the nodes that run have the same state. Nothing is kept.
    ///
    /// # Errors
    /// If their states differ.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if self.nodes.iter().any(Node::is_running) {
            self.hashes_agree().await?;
        }
        self.passed = true;
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "what a failed test leaves for its reader")]
    fn keep_logs(&mut self) {
        for node in &self.nodes {
            eprintln!("==== the end of {}\n{}", node.log().display(), node.tail());
        }
        if let Some(root) = self.root.take() {
            eprintln!("==== the cluster's folder is kept: {}", root.keep().display());
        }
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Err(error) = node.kill9_with_grains() {
                eprintln!("{}: {error}", node.name);
            }
        }
        // The end of its input is the janitor's order.
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
        if !self.passed {
            self.keep_logs();
        }
        if let Some(root) = &self.root
            && let Err(error) = disk::unmount_below(root.path())
        {
            eprintln!("{error:#}");
        }
    }
}

/// Starts the program that clears up behind this test, in a group of its own, so that it outlives us.
///
/// # Errors
/// If it cannot be started.
pub fn janitor(root: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(program("scrap-janitor")?);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut janitor = command.current_dir("/").spawn().context("cannot start the janitor")?;
    let input = janitor.stdin.as_mut().context("the janitor has no input")?;
    writeln!(input, "{}", root.display())?;
    Ok(janitor)
}

/// The wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A failure that waiting cannot mend.
#[derive(Debug)]
pub struct Never(String);

impl From<String> for Never {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

/// Waits until a condition is true, by looking again and again. An error of the condition counts as "not yet", unless it
/// is a [`Never`].
///
/// # Errors
/// If the condition does not come true within the limit.
pub async fn wait_for<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        let last = match condition().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) if error.is::<Never>() => return Err(error),
            Err(error) => Some(error),
        };
        if Instant::now() > end {
            return Err(match last {
                Some(error) => error.context(format!("not so within {limit:?}: {what}")),
                None => anyhow::anyhow!("not so within {limit:?}: {what}"),
            });
        }
        sleep(Duration::from_millis(20)).await;
    }
}
