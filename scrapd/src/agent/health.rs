//! Health checks: whether a started grain answers. One task for each running grain; closely until it answers, then as often as its
//! spec says. A grain without a check counts as answering once its program runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scrap_decide::obey::RunFacts;
use scrap_host::clock;
use scrap_host::runtime::{Activity, Exec, Runtime, ServiceState};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::spec::{Health, Probe};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Checked, Update};
use crate::daemon::Daemon;
use crate::logging::chain;

/// Pause between two checks of a grain that has not answered yet.
const CLOSELY: Duration = Duration::from_millis(15);
/// A grain that is not well is asked for its services at most so often, and has so long for its answer.
const INSIDE_EVERY: Duration = Duration::from_secs(30);
const INSIDE_WITHIN: Duration = Duration::from_secs(5);
/// More of its services are not named, nor more letters of each word.
const SERVICES_MAX: usize = 3;
const WORD_MAX: usize = 80;
/// Longest such pause: a grain that takes long is not asked a hundred times a second for ever.
const CLOSELY_MAX: Duration = Duration::from_secs(1);

/// Starts a watcher for every running grain that has none.
pub(super) fn watch(daemon: &Arc<Daemon>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let new: Vec<(GrainId, Epoch, u64)> = daemon.agent.with(|state| {
        let mut new = Vec::new();
        for (grain, run) in state.facts.runs.iter().filter(|(_, run)| run.alive) {
            let start = state.starts.get(grain).copied().unwrap_or(0);
            if state.watched.get(grain) != Some(&(run.epoch, start)) {
                new.push((*grain, run.epoch, start));
            }
        }
        for (grain, epoch, start) in &new {
            state.watched.insert(*grain, (*epoch, *start));
        }
        new
    });
    for (grain, epoch, start) in new {
        tasks.spawn(watcher(daemon.clone(), grain, epoch, start, shutdown.clone()));
    }
}

async fn watcher(
    daemon: Arc<Daemon>,
    grain: GrainId,
    epoch: Epoch,
    start: u64,
    shutdown: CancellationToken,
) {
    let mut closely = CLOSELY;
    let mut inside = Inside::default();
    loop {
        let current = daemon.agent.with(|state| {
            state.watched.get(&grain) == Some(&(epoch, start))
                && state.facts.runs.get(&grain).is_some_and(|run| run.alive)
        });
        if !current {
            return;
        }
        let known = daemon.consensus.read(|cluster| {
            let grain = cluster.grains.get(&grain)?;
            let own = grain
                .attachment()
                .and_then(|own| own.v4.map(IpAddr::V4).or(own.v6.map(IpAddr::V6)));
            // A program of the machine itself answers on the machine's own address.
            let address = own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            Some((grain.spec.health.clone(), address))
        });
        let Some((health, address)) = known else { return };
        let result = match &health {
            Some(health) => check(&daemon, grain, address, health).await,
            None => {
                let run = daemon.agent.with(|state| state.facts.runs.get(&grain).cloned());
                let up = run.is_some_and(|run| run.up);
                up.then_some(()).ok_or_else(|| "its program does not run".to_owned())
            }
        };
        let result = inside.add_to(&daemon, grain, health.as_ref(), result).await;
        let healthy = result.is_ok();
        note(&daemon, grain, start, health.as_ref(), result);
        let every =
            health.as_ref().map_or(CLOSELY_MAX, |health| Duration::from_millis(health.every.ms()));
        let pause = if healthy { every.max(CLOSELY) } else { closely.min(every.max(CLOSELY)) };
        if !healthy {
            closely = (closely * 5 / 4).min(CLOSELY_MAX);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            () = shutdown.cancelled() => return,
        }
    }
}

/// What the grain's own init says while its checks fail: it may know why.
#[derive(Default)]
struct Inside {
    /// What it said, and when it was asked.
    told: Option<(String, Instant)>,
}

impl Inside {
    /// Adds to a failure what else is known of it. A grain that may still be starting is not asked.
    async fn add_to(
        &mut self,
        daemon: &Daemon,
        grain: GrainId,
        health: Option<&Health>,
        result: Result<(), String>,
    ) -> Result<(), String> {
        let Err(why) = result else {
            self.told = None;
            return Ok(());
        };
        let grace = health.map_or(Span::ZERO, |health| health.grace);
        let run = daemon.agent.with(|state| state.facts.runs.get(&grain).cloned());
        if !run.is_some_and(|run| is_expected(&run, grace, clock::boot_time())) {
            return Err(why);
        }
        if self.told.as_ref().is_none_or(|(_, asked)| asked.elapsed() >= INSIDE_EVERY) {
            let asked = tokio::time::timeout(INSIDE_WITHIN, daemon.host.runtime.services(grain));
            // Whoever does not answer says nothing.
            let services = asked.await.ok().and_then(Result::ok).unwrap_or_default();
            self.told = Some((unwell(&services), Instant::now()));
        }
        let told = self.told.as_ref().map_or("", |(told, _)| told.as_str());
        Err(format!("{why}{told}"))
    }
}

/// Services that do not do what they should, as the end of a sentence.
fn unwell(services: &[ServiceState]) -> String {
    // Both are texts of the grain.
    let short = |text: &str| text.chars().take(WORD_MAX).collect::<String>();
    let said =
        |service: &ServiceState| format!("{} is {}", short(&service.name), short(&service.words));
    let is_unwell = |service: &&ServiceState| match service.activity {
        Activity::Failed | Activity::Changing => true,
        Activity::Active | Activity::Inactive => false,
    };
    let unwell: Vec<String> =
        services.iter().filter(is_unwell).take(SERVICES_MAX).map(said).collect();
    if unwell.is_empty() { String::new() } else { format!("; inside it {}", unwell.join(", ")) }
}

/// Whether a grain should answer by now. What has answered once is expected to go on, whatever its grace is.
fn is_expected(run: &RunFacts, grace: Span, now: BootTime) -> bool {
    run.ready.is_some() || now.since(run.since) >= grace
}

fn note(
    daemon: &Daemon,
    grain: GrainId,
    start: u64,
    health: Option<&Health>,
    result: Result<(), String>,
) {
    let (now, grace) = (clock::now(), health.map_or(Span::ZERO, |health| health.grace));
    let changed = daemon.agent.with(|state| {
        let before = state.facts.runs.get(&grain).cloned();
        let counts = before.as_ref().is_some_and(|run| is_expected(run, grace, now.boot));
        let checked = Checked { start, result, counts, at: now.wall };
        state.take(Update::Health(grain, checked));
        let after = state.facts.runs.get(&grain);
        before.as_ref().map(|run| (run.healthy, run.failing))
            != after.map(|run| (run.healthy, run.failing))
    });
    if changed {
        daemon.agent.wake();
    }
}

/// Makes every check of a grain, one after the other; all must hold.
///
/// # Errors
/// What the first one that failed says, for a person.
async fn check(
    daemon: &Daemon,
    grain: GrainId,
    address: IpAddr,
    health: &Health,
) -> Result<(), String> {
    let limit = Duration::from_millis(health.timeout.ms());
    for probe in health.each() {
        let failed =
            match tokio::time::timeout(limit, probe_once(daemon, grain, address, probe)).await {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(_) => format!("no answer within {}", health.timeout),
            };
        return Err(match probe {
            Probe::Tcp(tcp) => format!("tcp port {}: {failed}", tcp.port),
            Probe::Http(http) => format!("http port {} {}: {failed}", http.port, http.path),
            Probe::Exec(exec) => {
                format!("exec {}: {failed}", exec.command.first().map_or("", String::as_str))
            }
        });
    }
    Ok(())
}

async fn probe_once(
    daemon: &Daemon,
    grain: GrainId,
    address: IpAddr,
    probe: Probe<'_>,
) -> Result<(), String> {
    match probe {
        Probe::Tcp(tcp) => {
            let connected = TcpStream::connect((address, tcp.port)).await;
            connected.map(|_| ()).map_err(|error| error.to_string())
        }
        Probe::Http(http) => http_answers(address, http.port, &http.path).await,
        Probe::Exec(check) => runs_well(daemon, grain, &check.command).await,
    }
}

/// A program inside the grain must end with status 0. What it prints is thrown away.
async fn runs_well(daemon: &Daemon, grain: GrainId, command: &[String]) -> Result<(), String> {
    let order =
        Exec { grain, command: command.to_vec(), env: BTreeMap::new(), tty: None, user: None };
    let started = daemon.host.runtime.exec(order).await;
    let mut child = started.map_err(|error| chain(&error))?.child;
    drop(child.stdin.take());
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    // Read to its end, so that it does not wait for a reader.
    let (_, _, status) = tokio::join!(drain(&mut out), drain(&mut err), child.wait());
    let status = status.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}

async fn drain<R: tokio::io::AsyncRead + Unpin>(pipe: &mut Option<R>) {
    if let Some(pipe) = pipe {
        let _ = tokio::io::copy(pipe, &mut tokio::io::sink()).await;
    }
}

/// One plain request: a whole HTTP client for a status line would be a connection pool that keeps the grain awake.
async fn http_answers(address: IpAddr, port: u16, path: &str) -> Result<(), String> {
    let status = http_status(address, port, path).await.map_err(|error| error.to_string())?;
    match status {
        Some(status) if (100..400).contains(&status) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("the answer is no HTTP".to_owned()),
    }
}

async fn http_status(address: IpAddr, port: u16, path: &str) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let host = std::net::SocketAddr::new(address, port);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: scrapd-health\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    // `HTTP/1.1 200`
    let status = std::str::from_utf8(head.get(9..12).unwrap_or_default()).ok();
    Ok(status.and_then(|digits| digits.parse::<u16>().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_do_not_run_are_named_and_none_says_too_much() {
        let service = |name: &str, activity, words: &str| ServiceState {
            name: name.to_owned(),
            activity,
            words: words.to_owned(),
        };
        let well =
            [service("a", Activity::Active, "run"), service("b", Activity::Inactive, "down")];
        assert_eq!(unwell(&well), "");
        let nginx = service("nginx", Activity::Changing, "down (normally up, want up)");
        assert_eq!(unwell(&[nginx]), "; inside it nginx is down (normally up, want up)");
        let mad = service(&"x".repeat(1000), Activity::Failed, &"y".repeat(1000));
        let said = unwell(&vec![mad; 9]);
        assert_eq!(said.matches(" is ").count(), SERVICES_MAX);
        assert!(said.len() < 600, "{said}");
    }
}
