//! What one does to a demo that runs, from another terminal: one function per verb. They find its processes through
//! their records and never trust a pid alone.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use scrap_schema::api::ClusterView;
use scrap_schema::id::Name;

use super::api::Api;
use super::layout::{DemoNode, Layout};
use super::process::{self, Process, Record};
use super::supervise::{READY, cut_power, last_lines, spawn, stop_nodes, tail, this_program};
use crate::front::say;
use crate::setup::refused;

/// Limit for the end of the supervisor with all its nodes.
const STOP: Duration = Duration::from_secs(120);
/// Limit for a node's first answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The supervisor, if it runs.
fn supervisor(layout: &Layout) -> anyhow::Result<Option<Process>> {
    Record::find(&layout.dir.join("demo.pid"), Path::new("demo"))
}

fn daemon(node: &DemoNode) -> anyhow::Result<Option<Process>> {
    Record::find(&node.pid_path(), &node.config_path())
}

/// Starts the demo in the background, or brings back the nodes of a running one that are down.
pub(super) async fn up(layout: &Layout) -> anyhow::Result<()> {
    let api = Api::of(layout)?;
    if supervisor(layout)?.is_some() {
        for node in &layout.nodes {
            if daemon(node)?.is_none() {
                restart(layout, &node.name).await?;
            }
        }
        api.wait_for_all(layout, READY).await?;
        say(format!("the demo in `{}` is up", layout.dir.display()));
        return Ok(());
    }
    layout.write()?;
    let path = layout.log();
    let log = OpenOptions::new().create(true).write(true).truncate(true).open(&path);
    let log = log.with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut command = this_program()?;
    command.arg("demo").arg("--dir").arg(&layout.dir);
    command.stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().context("scrapd cannot be started")?;
    say(format!("starting three nodes, their supervisor's log is `{}`", path.display()));
    tokio::select! {
        ready = api.wait_for_all(layout, READY) => ready?,
        _ = child.wait() => bail!("the demo has ended; {}", last_lines(&path)),
    }
    let servers: Vec<String> = layout.nodes.iter().map(|node| node.api.to_string()).collect();
    say(format!("three nodes are up: {}", servers.join(", ")));
    Ok(())
}

/// Ends everything, and removes it if `purge`.
pub(super) async fn stop(layout: &Layout, purge: bool) -> anyhow::Result<()> {
    if !layout.exists() {
        say(format!("there is no demo in `{}`", layout.dir.display()));
        return Ok(());
    }
    if let Some(supervisor) = supervisor(layout)? {
        supervisor.signal(Signal::TERM)?;
        if !supervisor.wait(STOP).await? {
            bail!(
                "the demo has not ended within {} s; {}",
                STOP.as_secs(),
                last_lines(&layout.log())
            );
        }
    }
    stop_nodes(layout).await?;
    if purge {
        layout.purge()?;
        say("the demo is stopped, and nothing of it is left");
    } else {
        say(format!("the demo is stopped; its data are in `{}`", layout.dir.display()));
    }
    Ok(())
}

/// Ends a node as a power cut does.
pub(super) async fn kill(layout: &Layout, name: &Name, only_daemon: bool) -> anyhow::Result<()> {
    let node = layout.node(name)?;
    match cut_power(node, only_daemon).await? {
        0 => {
            let hint = format!("start it with `scrapd demo restart {name}`");
            Err(refused(format!("nothing of node `{name}` runs"), hint))
        }
        1 => {
            say(format!("{name}: its daemon is gone"));
            Ok(())
        }
        ended => {
            say(format!("{name}: its daemon and {} processes of its grains are gone", ended - 1));
            Ok(())
        }
    }
}

/// Starts a node that is down and waits for its first answer.
pub(super) async fn restart(layout: &Layout, name: &Name) -> anyhow::Result<()> {
    let node = layout.node(name)?;
    if !layout.exists() {
        let what = format!("there is no demo in `{}`", layout.dir.display());
        return Err(refused(what, "start one with `scrapd demo up`"));
    }
    if let Some(daemon) = daemon(node)? {
        let hint = format!("end it with `scrapd demo kill {name}`");
        return Err(refused(format!("node `{name}` runs already as process {}", daemon.pid), hint));
    }
    let mut child = spawn(node)?;
    let api = Api::of(layout)?.only(node.api);
    tokio::select! {
        answer = api.wait_for("/v1/cluster?stale=true", ANSWER, |_: ClusterView| Ok(())) => {
            answer.with_context(|| tail(node))?;
        }
        _ = child.wait() => bail!("node {name} has ended; {}", tail(node)),
    }
    say(format!("{name}: up again"));
    Ok(())
}

/// Says what runs.
pub(super) async fn status(layout: &Layout) -> anyhow::Result<()> {
    if !layout.exists() {
        say(format!("there is no demo in `{}`", layout.dir.display()));
        return Ok(());
    }
    match supervisor(layout)? {
        Some(process) => {
            say(format!("demo in `{}`, process {}", layout.dir.display(), process.pid))
        }
        None => say(format!("demo in `{}`, not running", layout.dir.display())),
    }
    for node in &layout.nodes {
        let state = match daemon(node)? {
            Some(process) => format!("process {}", process.pid),
            None => "down".to_owned(),
        };
        let grains = process::grains(&node.dir, &node.run_dir).len();
        say(format!("  {:<6} {:<16} {state}, {grains} processes of grains", node.name, node.api));
    }
    match Api::of(layout)?.get::<ClusterView>("/v1/cluster").await {
        Ok(view) => {
            let leader = view.leader.map_or_else(|| "nobody".to_owned(), |name| name.to_string());
            say(format!(
                "  {} leads, {} of {} nodes online",
                leader,
                view.nodes_online.map_or_else(|| "?".to_owned(), |online| online.to_string()),
                view.nodes
            ));
            view.reasons.iter().for_each(|reason| say(format!("  {reason}")));
        }
        Err(_) => say("  no node answers"),
    }
    Ok(())
}
