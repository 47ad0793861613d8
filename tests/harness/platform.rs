//! Clusters with real pools, containers and networks: `tests/lab/lab` driven by a test. The test's thread moves into the network
//! of the client, a computer beside the nodes, so that it sees what a visitor sees. Nothing is left when a test ends.

pub mod book;
pub mod leftovers;
pub mod template;
pub mod twice;
pub mod watcher;
pub mod wire;
pub mod writer;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use scrap_schema::api::{GrainState, GrainView, NodeState};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cluster::api::Api;
use crate::cluster::{program, wait_for};
use leftovers::Trace;

/// Names of nodes, in the order of their ids.
pub const NAMES: [&str; 3] = ["ada", "ben", "cleo"];
/// Doors of the API of nodes, in the order of their ids.
const SERVERS: [&str; 3] = ["10.99.0.1:7272", "10.99.0.2:7272", "10.99.0.3:7272"];
/// Longest time for anything that should happen soon. Never a measure of speed: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(120);
/// The variable that says that labs are wanted; `make platform` sets it.
pub const WANTED: &str = "SCRAP_PLATFORM";

/// What kind of lab.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Options of `lab up`.
    pub options: Vec<String>,
    /// Its name; by itself one that no other lab has.
    pub name: Option<String>,
}

impl Spec {
    /// A lab of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    /// The same with another option of `lab up`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }
}

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
}

impl Said {
    /// Its output, if it ended well.
    ///
    /// # Errors
    /// Its complaints, if not.
    pub fn good(self) -> anyhow::Result<String> {
        ensure!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        Ok(self.stdout)
    }

    /// Everything that a reader at a terminal sees.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A lab that is up.
pub struct Lab {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its API, asked from the client.
    pub api: Api,
    /// How what is left of it is recognised.
    pub trace: Trace,
    guard: Option<Child>,
    passed: bool,
}

/// The program that makes labs.
#[must_use]
pub fn lab_program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/lab")
}

/// Why there can be no lab here and now; `None`: there can be one.
#[must_use]
pub fn refusal() -> Option<&'static str> {
    if std::env::var_os(WANTED).is_none() {
        return Some("`make platform` runs it");
    }
    (!rustix::process::geteuid().is_root()).then_some("it needs root")
}

/// Starts a lab, or says why not and returns `None`.
///
/// # Errors
/// If it does not come up.
#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
pub async fn up(spec: Spec) -> anyhow::Result<Option<Lab>> {
    if let Some(why) = refusal() {
        eprintln!("SKIPPED: {why}");
        return Ok(None);
    }
    Lab::start(spec).await.map(Some)
}

/// A name that no other lab has.
#[must_use]
pub fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{number}", std::process::id())
}

impl Lab {
    /// Starts a lab, wanted or not.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        let name = spec.name.unwrap_or_else(new_name);
        let dir = PathBuf::from("/var/lib/scrap-lab").join(&name);
        leave_network()?;
        let trace = Trace::begin(&name);
        let guard = Some(guard(&name)?);
        let servers = SERVERS.map(|server| format!("http://{server}"));
        let api = Api::new(servers.into())?;
        let lab = Self { name, dir, api, trace, guard, passed: false };
        let bin = programs()?;
        let mut arguments = vec!["up".to_owned(), "--bin-dir".to_owned()];
        arguments.push(bin.display().to_string());
        arguments.extend(spec.options);
        lab.verb(&arguments).await?;
        lab.trace.look();
        enter_network(&lab.dir.join("machines/client.inner"))?;
        Ok(lab)
    }

    /// Runs a verb of the lab, such as `cut ben`.
    ///
    /// # Errors
    /// If it fails.
    pub async fn verb<S: AsRef<str>>(&self, arguments: &[S]) -> anyhow::Result<String> {
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        if let ["kill", machine, ..] = words[..] {
            self.trace.ends(Some(machine));
        }
        let said = self.run(&words).await?;
        said.good().with_context(|| format!("lab {}", words.join(" ")))
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = Command::new(lab_program());
        command.args(["--name", &self.name]).args(arguments).stdin(Stdio::null());
        let output = command.kill_on_drop(true).output().await.context("cannot start the lab")?;
        Ok(said(output))
    }

    /// Runs a program inside a machine.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn exec(&self, machine: &str, command: &[&str]) -> anyhow::Result<Said> {
        self.run(&[&["exec", machine, "--"], command].concat()).await
    }

    /// Runs shell text of a test inside a machine and returns its output.
    ///
    /// # Errors
    /// If it fails.
    pub async fn sh(&self, machine: &str, text: &str) -> anyhow::Result<String> {
        self.exec(machine, &["sh", "-ec", text]).await?.good().with_context(|| text.to_owned())
    }

    /// Runs `scrapctl` at the client, whatever comes of it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn ctl_said(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        self.exec("client", &[&["scrapctl", "--color", "never"], arguments].concat()).await
    }

    /// Runs `scrapctl` at the client and returns its output.
    ///
    /// # Errors
    /// If it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.ctl_said(arguments).await?;
        said.good().with_context(|| format!("scrapctl {}", arguments.join(" ")))
    }

    /// Runs `scrapctl` in the client's network with a text to read: the same for what it says, and faster.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn ctl_fed(&self, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
        let mut command = Command::new(programs()?.join("scrapctl"));
        command.args(["--color", "never"]).args(arguments);
        command.env("SCRAP_SERVER", SERVERS.join(",")).env("HOME", &self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("cannot start scrapctl")?;
        let mut feed = child.stdin.take().context("it has an input")?;
        let fed = async move {
            // Whoever refuses its arguments reads nothing.
            let _ = feed.write_all(input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(fed, child.wait_with_output());
        Ok(said(output?))
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        let file = self.dir.join("manifests.yaml");
        fs::write(&file, manifests)?;
        self.ctl(&["apply", "-f", &file.display().to_string()]).await
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
        wait_for(SOON, &format!("grain {name} {what}"), async || {
            let grain = self.api.grain(name).await?;
            Ok(wanted(&grain).then_some(grain))
        })
        .await
    }

    /// Waits until a grain runs and so many complete copies of it are there.
    ///
    /// # Errors
    /// If that is not so in time.
    pub async fn is_protected(&self, name: &str, copies: usize) -> anyhow::Result<GrainView> {
        // A copy may be a gigabyte.
        wait_for(5 * SOON, &format!("grain {name} runs and has its copies"), async || {
            let grain = self.api.grain(name).await?;
            let there = grain.status.copies.iter().filter(|copy| copy.snapshot.is_some()).count();
            let ready = grain.status.state == GrainState::Running && there >= copies;
            Ok(ready.then_some(grain))
        })
        .await
    }

    /// Waits until a node is online.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn is_online(&self, node: &str) -> anyhow::Result<()> {
        wait_for(SOON, &format!("node {node} is online"), async || {
            let state = self.api.node(node).await?.status.state;
            Ok((state == NodeState::Online).then_some(()))
        })
        .await
    }

    /// The node that a grain runs on.
    ///
    /// # Errors
    /// If it has none.
    pub async fn owner(&self, name: &str) -> anyhow::Result<String> {
        let grain = self.api.grain(name).await?;
        Ok(grain.status.node.with_context(|| format!("grain {name} has no node"))?.to_string())
    }

    /// A node that is not this one.
    #[must_use]
    pub fn other(&self, node: &str) -> &'static str {
        NAMES.into_iter().find(|name| *name != node).unwrap_or(NAMES[0])
    }

    /// Waits until a text that `scrapctl` prints says this word.
    ///
    /// # Errors
    /// If it does not in time; with what it said last.
    pub async fn says(&self, arguments: &[&str], word: &str) -> anyhow::Result<String> {
        let mut last = String::new();
        let said = wait_for(SOON, &format!("scrapctl {arguments:?} says `{word}`"), async || {
            last = self.ctl_said(arguments).await?.all();
            Ok(last.to_lowercase().contains(&word.to_lowercase()).then(|| last.clone()))
        })
        .await;
        said.with_context(|| format!("last it said:\n{last}"))
    }

    /// The dataset below which a node keeps everything.
    #[must_use]
    pub fn dataset(&self, node: &str) -> String {
        format!("{}-{node}/scrap", self.name)
    }

    /// The dataset of a grain on a node.
    ///
    /// # Errors
    /// If it has none there.
    pub async fn dataset_of(&self, node: &str, grain: &str) -> anyhow::Result<String> {
        let id = self.api.grain(grain).await?.metadata.id.context("a grain has an id")?;
        let list = self.sh(node, &format!("zfs list -H -o name -r {}", self.dataset(node))).await?;
        let found = list.lines().find(|name| name.contains(&id) && name.contains("/grains/"));
        found
            .map(ToOwned::to_owned)
            .with_context(|| format!("{node} has no dataset of {id}: {list}"))
    }

    /// The end of a test that has passed: nothing is left, and that is looked at.
    ///
    /// # Errors
    /// If something is left.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.passed = true;
        // Some may have been switched off and on.
        self.trace.look();
        self.trace.ends(None);
        self.verb(&["down"]).await?;
        leave_network()?;
        let left = self.trace.left();
        if !left.is_empty() {
            bail!("left of the lab {}:\n  {}", self.name, left.join("\n  "));
        }
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "what a failed test leaves for its reader")]
    fn show_logs(&self) {
        let mut nodes: Vec<PathBuf> = fs::read_dir(self.dir.join("nodes"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        nodes.sort_unstable();
        for node in nodes {
            let path = node.join("scrapd.log");
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            eprintln!("==== the end of {}\n{}", path.display(), tail.join("\n"));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.passed {
            self.show_logs();
        }
        if let Some(mut guard) = self.guard.take() {
            // The end of its input is its order.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// What a program said.
pub(crate) fn said(output: Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Said { status: output.status, stdout, stderr }
}

/// The folder of the programs under test: beside the test, unless `SCRAP_LAB_BIN` names another one.
fn programs() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SCRAP_LAB_BIN") {
        return Ok(folder.into());
    }
    let scrapd = program("scrapd")?;
    Ok(scrapd.parent().context("scrapd lies in a folder")?.to_owned())
}

/// Starts the program that takes the lab down when this process has ended, however it ends.
fn guard(name: &str) -> anyhow::Result<Child> {
    let mut command = std::process::Command::new(lab_program());
    command.args(["--name", name, "guard"]).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start the guard of the lab")
}

/// The network of the machine outside, as it was before any thread of a test was moved.
static OUTSIDE: OnceLock<File> = OnceLock::new();

/// Moves the calling thread back into the network of the machine outside.
///
/// # Errors
/// If it cannot be entered.
pub fn leave_network() -> anyhow::Result<()> {
    if OUTSIDE.get().is_none() {
        let _ = OUTSIDE.set(File::open("/proc/thread-self/ns/net")?);
    }
    let outside = OUTSIDE.get().context("there is a network outside")?;
    move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot go back to the network of the machine outside")
}

/// Moves the calling thread into the network of the machine whose first process stands in this record.
fn enter_network(record: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(record)?;
    let pid = text.split(' ').next().unwrap_or_default();
    enter(&File::open(format!("/proc/{pid}/ns/net"))?)
}

/// Moves the calling thread into a network.
///
/// # Errors
/// If it cannot be entered.
pub(crate) fn enter(network: &File) -> anyhow::Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter the network of the client")
}
