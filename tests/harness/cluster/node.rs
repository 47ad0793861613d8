//! One node under test: its folder, its configuration, its daemon.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use scrap_schema::timing::Timing;

use super::processes::{self, Process};
use super::{Spec, program, wait_for};

/// Lines of a log that are shown when a test fails.
const TAIL: usize = 60;

/// A node under test.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Everything of it.
    pub dir: PathBuf,
    /// Port of its API.
    pub api: u16,
    /// Port for other nodes.
    pub peer: u16,
    daemon: Option<Child>,
}

impl Node {
    /// Writes its configuration.
    pub(super) fn new(
        dir: PathBuf,
        name: &str,
        ports: (u16, u16),
        spec: &Spec,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir)?;
        let node = Self { name: name.to_owned(), dir, api: ports.0, peer: ports.1, daemon: None };
        fs::write(node.config(), node.configuration(spec)?)?;
        Ok(node)
    }

    fn configuration(&self, spec: &Spec) -> anyhow::Result<String> {
        let Timing { renew, suspect, stop, lease, kill, tick, ticks } = spec.timing;
        let (heartbeat, election) = spec.pace;
        let keeper = program("scrap-keeper")?;
        Ok(format!(
            "data_dir = \"{data}\"\nrun_dir = \"{run}\"\nname = \"{name}\"\nrole = \"{role}\"\non_shutdown = \"{on_shutdown}\"\n\
             [labels]\nzone = \"{name}\"\n\
             [listen]\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\n\
             [host]\nkeeper = \"{keeper}\"\n\
             [fence]\nsettings = \"{root}/fence\"\nagents = \"{root}/agents\"\nhooks = \"{root}/hooks\"\n\
             [reserve]\ncpu = 64\nmemory = \"64GiB\"\ndisk = \"1024GiB\"\n\
             [log]\nfilter = \"{filter}\"\n\
             [timing]\nrenew = \"{renew}\"\nsuspect = \"{suspect}\"\nstop = \"{stop}\"\nlease = \"{lease}\"\n\
             kill = \"{kill}\"\ntick = \"{tick}\"\nticks = {ticks}\n\
             [raft]\nheartbeat = \"{heartbeat}\"\nelection = \"{election}\"\n",
            data = self.data().display(),
            run = self.dir.join("run").display(),
            root = self.dir.parent().context("a node has a folder in another one")?.display(),
            name = self.name,
            role = if spec.witness == Some(self.name.as_str()) { "witness" } else { "data" },
            on_shutdown = spec.on_shutdown,
            api = self.api,
            peer = self.peer,
            keeper = keeper.display(),
            filter = spec.log,
        ))
    }

    /// Address of its API.
    #[must_use]
    pub fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("scrapd.toml")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("scrapd.log")
    }

    /// `scrapd` of this node with these arguments; what it says goes to the log.
    pub(super) fn scrapd(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(program("scrapd")?);
        command.args(arguments).env("SCRAPD_CONFIG", self.config()).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Runs `scrapd` of this node with these arguments to its end: what it said, and whether it succeeded.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn once(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let mut command = self.scrapd(arguments)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Starts `scrapd` of this node with these arguments; what it says goes to the log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn begin(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        Ok(self.scrapd(arguments)?.spawn()?)
    }

    /// Everything that its daemon has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Runs `scrapd init` or `scrapd join` to its end.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn prepare(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.scrapd(arguments)?;
        let ended = tokio::task::spawn_blocking(move || command.status()).await??;
        if !ended.success() {
            bail!("`scrapd {}` of {}: {ended}\n{}", arguments.join(" "), self.name, self.tail());
        }
        Ok(())
    }

    /// Starts its daemon and returns at once.
    ///
    /// # Errors
    /// If it runs already or cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            bail!("{} runs already", self.name);
        }
        self.daemon = Some(self.scrapd(&["run"])?.spawn().context("cannot start scrapd")?);
        Ok(())
    }

    /// Its daemon, if it runs.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        let child = self.daemon.as_ref()?;
        Process::of(i32::try_from(child.id()).ok()?)
    }

    /// Whether its daemon runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// Sends a signal to its daemon.
    pub fn signal(&self, signal: Signal) {
        if let Some(daemon) = self.process() {
            daemon.signal(signal);
        }
    }

    /// `kill -9` of its daemon alone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// As if its power was cut: daemon, keepers and grains are gone. (What they wrote without a sync stays: the machine
    /// under the test has not lost its power.)
    ///
    /// # Errors
    /// If something cannot be killed.
    pub fn kill9_with_grains(&mut self) -> anyhow::Result<()> {
        // Everything stands still at first, so that nobody sees another die.
        for process in processes::of_folder(&self.dir) {
            process.signal(Signal::STOP);
        }
        processes::kill_all(&self.dir)?;
        self.kill9()
    }

    /// Asks its daemon to end and waits for that.
    ///
    /// # Errors
    /// If it does not end in time, or ends with a failure.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        let ended = self.ended(Duration::from_secs(30)).await?;
        if !ended.success() {
            bail!("{} ended with {ended}\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Waits until its daemon has ended by itself.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
        let Some(mut daemon) = self.daemon.take() else { bail!("{} does not run", self.name) };
        let what = format!("the daemon of {} has ended", self.name);
        let ended = wait_for(limit, &what, async || Ok(daemon.try_wait()?)).await;
        if ended.is_err() {
            self.daemon = Some(daemon);
        }
        ended
    }

    /// Living processes of grains on this node: neither the daemon nor keepers.
    #[must_use]
    pub fn grain_processes(&self) -> Vec<Process> {
        let all = processes::of_folder(&self.dir).into_iter();
        all.filter(|process| process.variable("SCRAP_INSTANCE").is_some()).collect()
    }

    /// Living keepers on this node.
    #[must_use]
    pub fn keepers(&self) -> Vec<Process> {
        let all = processes::of_folder(&self.dir).into_iter();
        all.filter(|process| process.program().as_deref() == Some("scrap-keeper")).collect()
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log())
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
}
