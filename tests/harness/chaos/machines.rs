//! Nodes that are machines of their own, whose power can really be cut: `tests/vm` driven by a run. The calling thread moves into
//! their network, as a visitor from outside of all nodes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use crate::platform::{Said, enter, leave_network, said};

/// What the machines are like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// What they use: `process` (OpenZFS and processes) or `dir`.
    pub hands: String,
    /// What is `/dev/watchdog`: `i6300esb` or `softdog`; none: nothing is.
    pub watchdog: Option<String>,
}

/// How a machine ended by itself, and when, in milliseconds of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `watchdog`, `reset` or `off`.
    pub how: String,
    /// When.
    pub at: u64,
}

/// Machines that are up.
pub struct Machines {
    spec: Spec,
    name: String,
    /// Their folder.
    dir: PathBuf,
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vm")
}

/// The number of a node in its name, such as `node2`.
fn number(node: &str) -> &str {
    node.trim_start_matches("node")
}

impl Machines {
    /// Starts machines and a cluster of them. Their programs are those of the folder of this one, as `tests/vm/programs` leaves them.
    ///
    /// # Errors
    /// If they do not come up.
    pub async fn start(nodes: usize, spec: Spec) -> anyhow::Result<Self> {
        leave_network()?;
        let name = format!("chaos-{}", std::process::id());
        let dir = Path::new("/var/tmp/scrap-vm").join(&name);
        let machines = Self { spec, name, dir };
        fs::create_dir_all(machines.traces())?;
        machines.tool("form", &["up", &nodes.to_string()]).await?;
        let network = Path::new("/run/netns").join(format!("scrap-vm-{}", machines.name));
        enter(&File::open(network)?)?;
        Ok(machines)
    }

    /// Where grains leave their traces, as it is called outside.
    #[must_use]
    pub fn traces(&self) -> PathBuf {
        self.dir.join("share/traces")
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> anyhow::Result<Command> {
        let me = std::env::current_exe()?;
        let target = me.ancestors().nth(2).context("this program lies in a folder of cargo's")?;
        let mut command = Command::new(home().join(tool));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
            .env("SCRAP_VM_NAME", &self.name)
            .env("SCRAP_VM_HANDS", &self.spec.hands)
            .env("SCRAP_VM_WATCHDOG", self.spec.watchdog.as_deref().unwrap_or_default())
            .env("SCRAP_VM_SHARE", format!("bin={}", target.join("vm/bin").display()));
        Ok(command)
    }

    async fn tool(&self, tool: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(tool, arguments)?.output().await?;
        said(output).good().with_context(|| format!("tests/vm/{tool} {}", arguments.join(" ")))
    }

    /// Runs a program in a machine, whatever comes of it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn exec(&self, node: &str, command: &[&str]) -> anyhow::Result<Said> {
        let arguments = [&["exec", number(node)], command].concat();
        Ok(said(self.command("run", &arguments)?.output().await?))
    }

    /// Runs shell text in a machine and returns its output.
    ///
    /// # Errors
    /// If it fails.
    pub async fn sh(&self, node: &str, text: &str) -> anyhow::Result<String> {
        self.exec(node, &[text]).await?.good().with_context(|| text.to_owned())
    }

    /// Whether it has power: whether its QEMU runs.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        let folder = self.dir.join(node);
        let Ok(pid) = fs::read_to_string(folder.join("pid")) else { return false };
        let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{}/", folder.display()))
    }

    /// What the verb of a lab is on machines.
    ///
    /// # Errors
    /// If it fails, or there is nothing like it.
    pub async fn verb(&self, arguments: &[&str]) -> anyhow::Result<()> {
        match arguments {
            ["kill", node] => {
                ensure!(self.is_on(node), "{node} has no power that could be cut");
                self.tool("run", &["kill", number(node)]).await?;
                ensure!(!self.is_on(node), "{node} still has power");
            }
            ["start", node] => {
                self.tool("run", &["start", number(node)]).await?;
                self.tool("form", &["daemon", number(node)]).await?;
            }
            ["boot", node] => drop(self.tool("run", &["boot", number(node)]).await?),
            [verb @ ("cut" | "join"), node] => {
                self.tool("run", &[verb, number(node)]).await?;
            }
            [verb @ ("daemon" | "halt"), node] => {
                self.tool("form", &[verb, number(node)]).await?;
            }
            other => bail!("machines cannot {}", other.join(" ")),
        }
        Ok(())
    }

    /// How a machine ended that nobody switched off; none: it runs, or was switched off.
    ///
    /// # Errors
    /// If that cannot be asked.
    pub async fn ended(&self, node: &str) -> anyhow::Result<Option<Ended>> {
        let text = self.tool("run", &["ended", number(node)]).await?;
        let Some((how, at)) = text.trim().split_once(' ') else { return Ok(None) };
        Ok(Some(Ended { how: how.to_owned(), at: at.parse()? }))
    }

    /// By how many milliseconds the clock of a machine is beside the one here: a file has the time at which it was written,
    /// by the clock here, and says that of the machine.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn clock_error(&self, node: &str) -> anyhow::Result<u64> {
        let name = format!("{node}.time");
        self.sh(node, &format!("date +%s%3N >/host/{name}")).await?;
        let file = self.dir.join("share").join(name);
        let here = wall_ms(fs::metadata(&file)?.modified()?);
        let there: u64 = fs::read_to_string(&file)?.trim().parse()?;
        Ok(here.abs_diff(there))
    }

    /// What the daemon of a node has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn log(&self, node: &str) -> anyhow::Result<String> {
        self.sh(node, "cat /var/log/scrapd.log").await
    }

    /// Switches everything off and leaves nothing.
    ///
    /// # Errors
    /// If that fails.
    pub async fn end(self) -> anyhow::Result<()> {
        leave_network()?;
        self.tool("run", &["down"]).await.map(drop)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(home().join("run"));
        command.arg("down").env("SCRAP_VM_NAME", &self.name).stdin(Stdio::null());
        let _ = command.status();
    }
}

/// Milliseconds of the wall clock.
#[must_use]
pub fn wall_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
