//! A demo in the foreground: forms the cluster the first time, starts the nodes, tells what happens to them, and ends
//! them all when it is told to end. A node that dies stays dead: the demo is about failures.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use scrap_schema::id::Name;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::api::Api;
use super::layout::{DemoNode, Layout};
use super::ports;
use super::process::{self, Record};
use crate::data_dir::{DataDir, DataDirError};
use crate::front::say;
use crate::identity::Identity;
use crate::setup::{self, refused};

/// Limit for the nodes' coming together.
pub(super) const READY: Duration = Duration::from_secs(90);
/// Limit for a clean end of a node with all its grains.
const STOP: Duration = Duration::from_secs(45);
/// Limit for the end of a process that was killed.
const KILLED: Duration = Duration::from_secs(10);
/// Rounds of looking for processes that were started while others were killed.
const ROUNDS: usize = 50;
/// Name of the cluster.
const CLUSTER: &str = "demo";

/// Runs the demo until SIGTERM or SIGINT.
pub(super) async fn foreground(layout: &Layout) -> anyhow::Result<()> {
    let _lock = match DataDir::take(&layout.dir) {
        Ok(lock) => lock,
        Err(DataDirError::InUse { path, .. }) => {
            let what = format!("the demo in `{}` runs already", path.display());
            return Err(refused(what, "see `scrapd demo status`; end it with `scrapd demo stop`"));
        }
        Err(error) => return Err(error.into()),
    };
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut children = JoinSet::new();
    let started = tokio::select! {
        started = start(layout, &mut children) => started.map(|()| true),
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    };
    if matches!(started, Ok(true)) {
        introduce(layout);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(ended) = children.join_next() => obituary(&ended?),
            }
        }
    }
    if started.is_ok() {
        say("stopping all nodes and their grains");
    }
    let stopped = stop_nodes(layout).await;
    started.map(drop).and(stopped)
}

/// How a child ended.
type Ended = (Name, std::io::Result<ExitStatus>);

fn obituary((name, status): &Ended) {
    let how = status.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    say(format!("{name} has ended ({how}); bring it back with `scrapd demo restart {name}`"));
}

async fn start(layout: &Layout, children: &mut JoinSet<Ended>) -> anyhow::Result<()> {
    // What a supervisor has left that died without a word.
    stop_nodes(layout).await?;
    ports::check(layout)?;
    layout.write()?;
    Record::of(std::process::id())?.write(&layout.dir.join("demo.pid"))?;
    let (first, others) = layout.nodes.split_first().context("a demo has nodes")?;
    if Identity::find(&first.config().data_dir)?.is_none() {
        setup::init(&first.config(), CLUSTER.parse()?).await?;
    }
    watch(children, first, spawn(first)?);
    for node in others {
        if Identity::find(&node.config().data_dir)?.is_none() {
            setup::join(&node.config(), &[first.api], READY, false)
                .await
                .with_context(|| tail(first))?;
        }
        watch(children, node, spawn(node)?);
    }
    let api = Api::of(layout)?;
    tokio::select! {
        ready = api.wait_for_all(layout, READY) => ready,
        Some(Ok((name, _))) = children.join_next() => {
            bail!("node {name} has ended: {}", tail(layout.node(&name)?))
        }
    }
}

fn watch(children: &mut JoinSet<Ended>, node: &DemoNode, mut child: Child) {
    let name = node.name.clone();
    children.spawn(async move { (name, child.wait().await) });
}

/// Starts the daemon of a node in the background, its log appended to a file.
pub(super) fn spawn(node: &DemoNode) -> anyhow::Result<Child> {
    let path = node.log();
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut command = this_program()?;
    command.arg("run").arg("--config").arg(node.config_path());
    command.stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().context("scrapd cannot be started")?;
    let pid = child.id().context("scrapd has ended at once")?;
    Record::of(pid)?.write(&node.pid_path())?;
    Ok(child)
}

/// This program again, in a process group of its own so that Ctrl-C reaches only the supervisor. Programs beside it,
/// such as the guestbook, are found by name.
#[expect(clippy::disallowed_methods, reason = "the demo starts this program itself, not a grain")]
pub(super) fn this_program() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("this program does not know where it is")?;
    let mut path = program.parent().map(|folder| folder.as_os_str().to_owned()).unwrap_or_default();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(OsString::from(":"));
        path.push(rest);
    }
    let mut command = Command::new(program);
    command.env("PATH", path).stdin(Stdio::null()).process_group(0);
    Ok(command)
}

/// The end of a node's log, for an error.
pub(super) fn tail(node: &DemoNode) -> String {
    last_lines(&node.log())
}

/// The last lines of a file.
pub(super) fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    format!("the end of `{}`:\n    {}", path.display(), last.join("\n    "))
}

/// Asks every daemon to end, waits, and ends by force what is left.
pub(super) async fn stop_nodes(layout: &Layout) -> anyhow::Result<()> {
    let mut ends = JoinSet::new();
    for node in &layout.nodes {
        if let Some(daemon) = Record::find(&node.pid_path(), &node.config_path())? {
            daemon.signal(Signal::TERM)?;
            let name = node.name.clone();
            ends.spawn(async move { (name, daemon.wait(STOP).await) });
        }
    }
    while let Some(end) = ends.join_next().await {
        let (name, ended) = end?;
        if !ended? {
            say(format!("{name} has not ended within {} s and is killed", STOP.as_secs()));
        }
    }
    for node in &layout.nodes {
        cut_power(node, false).await?;
    }
    Ok(())
}

/// Ends a node's daemon and, unless only that is wanted, all its keepers and grains, without a word to any of them.
/// Says how many processes it were.
pub(super) async fn cut_power(node: &DemoNode, only_daemon: bool) -> anyhow::Result<usize> {
    let mut ended = 0;
    if let Some(daemon) = Record::find(&node.pid_path(), &node.config_path())? {
        daemon.signal(Signal::KILL)?;
        if !daemon.wait(KILLED).await? {
            bail!("the daemon of {} does not die", node.name);
        }
        ended += 1;
    }
    if only_daemon {
        return Ok(ended);
    }
    // A keeper that is killed late may have started its program once more.
    for _ in 0..ROUNDS {
        let grains = process::grains(&node.dir, &node.run_dir);
        if grains.is_empty() {
            return Ok(ended);
        }
        for grain in &grains {
            grain.signal(Signal::KILL)?;
        }
        for grain in grains {
            ended += 1;
            if !grain.wait(KILLED).await? {
                bail!("a process of a grain of {} does not die", node.name);
            }
        }
    }
    bail!("grains of {} come back faster than they can be ended", node.name)
}

/// What one can do now.
pub(super) fn introduce(layout: &Layout) {
    let short = |path: PathBuf| {
        let here = std::env::current_dir().ok();
        let below = here.and_then(|here| path.strip_prefix(here).map(Path::to_owned).ok());
        below.map_or(path, |below| Path::new(".").join(below)).display().to_string()
    };
    let program = |name: &str| {
        let path = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
        short(path.unwrap_or_else(|| name.into()))
    };
    let (ctl, daemon) = (program("scrapctl"), program("scrapd"));
    let servers: Vec<String> = layout.nodes.iter().map(|node| node.api.to_string()).collect();
    let dir = short(layout.dir.clone());
    say(format!(
        "three nodes are up; play with them:\n  \
         export SCRAP_SERVER={}\n  \
         {ctl} status\n  \
         {ctl} node ls\n  \
         {ctl} launch process hello --health-port 8080 -- python3 -m http.server 8080\n  \
         {ctl} migrate hello\n  \
         {daemon} demo --dir {dir} kill ben      # as a power cut does\n  \
         {daemon} demo --dir {dir} restart ben\n  \
         {daemon} demo --dir {dir} tour          # a move and a failover under load\n  \
         {daemon} demo --dir {dir} stop --purge  # end it, leave nothing",
        servers.join(",")
    ));
}
