//! The watchdog of machines, really: they are reset by it when nothing else ends what should be dead, and only then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use scrap_schema::api::GrainState;
use scrap_schema::timing::Timing;

use super::figures::Figures;
use super::ledgers::Ledger;
use super::machines::{Ended, Machines, wall_ms};
use super::run::{ledgers, say};
use super::trace;
use super::world::{Kind, World, boot_ms};
use crate::cluster::{Never, wait_for};
use crate::commit;

/// A machine that stays up for so many times of its watchdog is petted.
const TIMES: u64 = 4;
/// Where the kernel says what its first watchdog does.
const DOG: &str = "/sys/class/watchdog/watchdog0";
/// A grain that writes into a file system that can be made to stand still: then nothing ends it.
const STUCK: &str = "\
apiVersion: scrap/v1
kind: Grain
metadata: {name: stuck}
spec:
  command: [sh, -c, 'while :; do echo >>/frozen/line || sleep 1; sleep 0.1; done']
  resources: {cpu: 0.1, memory: 16MiB, disk: 16MiB}
  protect: chaos
";

/// A machine under test.
struct Bench {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    figures: Figures,
    began: u64,
    /// How long watchdogs wait, in milliseconds.
    dog_ms: u64,
    timing: Timing,
}

impl Bench {
    fn machines(&self) -> anyhow::Result<&Machines> {
        self.world.ground.machines()
    }

    fn ok(&self, what: &str) {
        let ms = boot_ms().saturating_sub(self.began);
        say(&format!("ok {:>4}.{} s  {what}", ms / 1000, ms % 1000 / 100));
    }

    async fn sh(&self, node: &str, text: &str) -> anyhow::Result<String> {
        Ok(self.machines()?.sh(node, text).await?.trim().to_owned())
    }

    /// Waits for a condition that is a shell's, in a machine.
    async fn so(&self, node: &str, what: &str, text: &str) -> anyhow::Result<()> {
        wait_for(self.world.pace.healed, what, async || {
            Ok(self.machines()?.exec(node, &[text]).await?.status.success().then_some(()))
        })
        .await
    }

    /// Waits so many times of its watchdog, in which the machine has to stay on.
    async fn stays_on(&self, node: &str, times: u64) -> anyhow::Result<()> {
        let end = boot_ms() + times * self.dog_ms;
        wait_for(self.world.pace.healed, "some time is over", async || {
            if !self.machines()?.is_on(node) {
                let how = self.machines()?.ended(node).await?;
                return Err(Never::from(format!("{node} was reset: {how:?}")).into());
            }
            Ok((boot_ms() > end).then_some(()))
        })
        .await
    }

    /// Waits until a machine has ended, by its watchdog. Returns when.
    async fn is_reset(&self, node: &str) -> anyhow::Result<u64> {
        wait_for(self.world.pace.healed, &format!("{node} is reset"), async || {
            Ok((!self.machines()?.is_on(node)).then_some(()))
        })
        .await?;
        let ended = self.machines()?.ended(node).await?;
        match ended.with_context(|| format!("{node} has ended for another reason"))? {
            Ended { how, at } if how == "watchdog" || how == "reset" => Ok(at),
            other => bail!("{node} has ended otherwise: {other:?}"),
        }
    }

    async fn guard(&self, node: &str) -> anyhow::Result<String> {
        self.sh(node, "pidof scrap-guard").await
    }

    /// Waits until another guard than this one pets.
    async fn another_guard(&self, node: &str, old: &str) -> anyhow::Result<()> {
        let text = format!(
            "new=$(pidof scrap-guard) && [ \"$new\" != {old} ] && grep -qx active {DOG}/state"
        );
        self.so(node, "another guard watches", &text).await
    }

    async fn is_let_go(&self, node: &str) -> anyhow::Result<()> {
        let text = format!("! pidof scrap-guard && grep -qx inactive {DOG}/state");
        self.so(node, "the guard has ended and let its watchdog go", &text).await
    }

    async fn is_petted(&self, node: &str) -> anyhow::Result<()> {
        let text = format!("pidof scrap-guard && grep -qx active {DOG}/state");
        self.so(node, "a guard pets", &text).await
    }

    async fn is_well(&self) -> anyhow::Result<()> {
        self.world.is_healed(std::slice::from_ref(&self.ledger.name)).await
    }
}

fn now() -> u64 {
    wall_ms(SystemTime::now())
}

async fn petted(bench: &mut Bench, device: &str) -> anyhow::Result<()> {
    for node in bench.world.nodes.clone() {
        bench.is_petted(&node).await?;
        let name = bench.sh(&node, &format!("cat {DOG}/identity")).await?;
        let expected = if device == "softdog" { "Software Watchdog" } else { "i6300ESB timer" };
        ensure!(name == expected, "{node} has a watchdog of another kind: {name}");
        // A node that has just joined hears late how long it may wait.
        let secs = bench.timing.kill.ms() / 1000;
        let text = format!("grep -qx {secs} {DOG}/timeout");
        bench
            .so(&node, &format!("the watchdog of {node} waits as long as `kill` is"), &text)
            .await?;
        bench.dog_ms = secs * 1000;
    }
    for node in bench.world.nodes.clone() {
        bench.stays_on(&node, TIMES).await?;
    }
    bench.ok(&format!(
        "{device} is petted, and no machine is reset in {TIMES} times its {} s",
        bench.dog_ms / 1000
    ));
    Ok(())
}

/// The daemon ends, and begins again.
async fn restarted(bench: &Bench, node: &str) -> anyhow::Result<()> {
    let guard = bench.guard(node).await?;
    let again = "pid=$(pidof scrapd); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done";
    bench.sh(node, again).await?;
    bench.stays_on(node, 2).await?;
    bench.is_well().await?;
    ensure!(bench.guard(node).await? == guard, "another guard watches");
    bench.ok("the daemon is restarted: the guard stays");
    Ok(())
}

/// One guard follows the other.
async fn replaced(bench: &Bench, node: &str) -> anyhow::Result<()> {
    for (what, deed) in [
        ("is killed", "kill -KILL $(pidof scrap-guard)"),
        ("is asked to end", "kill $(pidof scrap-guard)"),
        ("is upgraded", "cd /usr/local/bin && cp scrap-guard new && mv new scrap-guard"),
    ] {
        let old = bench.guard(node).await?;
        bench.sh(node, deed).await?;
        bench.another_guard(node, &old).await?;
        bench.stays_on(node, 2).await?;
        bench.ok(&format!("the guard {what}: another one has the watchdog in time"));
    }
    Ok(())
}

/// A grain is armed: its guard does not end.
async fn armed(bench: &Bench) -> anyhow::Result<()> {
    let owner = bench.world.owner(&bench.ledger.name).await?;
    restarted(bench, &owner).await?;
    let guard = bench.guard(&owner).await?;
    bench.sh(&owner, &format!("kill {guard}")).await?;
    bench.stays_on(&owner, 2).await?;
    ensure!(bench.guard(&owner).await? == guard, "a guard that is needed has ended");
    bench.ok("a guard that is asked to end stays while something is armed");
    bench.sh(&owner, "kill -KILL $(pidof scrap-guard)").await?;
    bench.another_guard(&owner, &guard).await?;
    bench.stays_on(&owner, 2).await?;
    bench.is_well().await?;
    ensure!(bench.world.owner(&bench.ledger.name).await? == owner, "the grain has moved");
    bench.ok("with something armed, a guard that is killed is followed by another");
    Ok(())
}

/// What becomes of a machine on which nothing is armed, when daemon and guard end.
async fn ended(bench: &mut Bench, node: &str) -> anyhow::Result<()> {
    bench.world.verb(&["halt", node]).await?;
    bench.stays_on(node, 2).await?;
    bench.sh(node, "kill $(pidof scrap-guard)").await?;
    bench.is_let_go(node).await?;
    bench.stays_on(node, 2).await?;
    bench.ok("daemon and guard are asked to end: the watchdog is let go");
    busy(bench, node).await?;
    unwanted(bench, node).await?;
    never_let_go(bench, node).await?;
    bench.world.verb(&["halt", node]).await?;
    let began = now();
    bench.sh(node, "kill -KILL $(pidof scrap-guard)").await?;
    let reset = bench.is_reset(node).await?;
    bench.figures.add("guard killed, nobody follows -> reset", reset.saturating_sub(began));
    bench.ok("a guard that is killed where no daemon starts another: the machine is reset");
    bench.world.power_on(node).await?;
    bench.is_well().await?;
    // Nobody takes its place: what holds it up may hold up the next.
    bench.sh(node, "kill -STOP $(pidof scrap-guard)").await?;
    bench.is_reset(node).await?;
    bench.ok("a guard that stands still while its daemon runs: the machine is reset");
    bench.world.power_on(node).await?;
    bench.is_well().await
}

/// Somebody else has the device.
async fn busy(bench: &Bench, node: &str) -> anyhow::Result<()> {
    bench
        .sh(
            node,
            "rm -f /run/free; : >/var/log/scrapd.log; setsid sh -c 'exec 3>/dev/watchdog; while [ ! -e /run/free ]; do echo >&3; \
             sleep 0.5; done; echo V >&3' >/dev/null 2>&1 </dev/null &",
        )
        .await?;
    bench.world.verb(&["daemon", node]).await?;
    let said = "grep -q 'somebody else has it' /var/log/scrapd.log";
    bench.so(node, "the log names who has the watchdog", said).await?;
    bench.sh(node, "touch /run/free").await?;
    bench.is_petted(node).await?;
    bench.is_well().await?;
    bench.ok("a watchdog that somebody else has is named, and taken when it is free");
    Ok(())
}

/// The key is taken out of the configuration.
async fn unwanted(bench: &Bench, node: &str) -> anyhow::Result<()> {
    let config = "/etc/scrap/scrapd.toml";
    bench.world.verb(&["halt", node]).await?;
    bench.sh(node, &format!("cp {config} /root/kept && sed -i /^watchdog/d {config}")).await?;
    bench.world.verb(&["daemon", node]).await?;
    bench
        .so(
            node,
            "the watchdog is let go",
            &format!("pidof scrap-guard && grep -qx inactive {DOG}/state"),
        )
        .await?;
    bench.stays_on(node, 2).await?;
    bench.world.verb(&["halt", node]).await?;
    bench.sh(node, &format!("mv /root/kept {config}")).await?;
    bench.world.verb(&["daemon", node]).await?;
    bench.is_petted(node).await?;
    bench.ok("a watchdog that is not configured any more is let go");
    Ok(())
}

/// The same with a kernel that never lets one go.
async fn never_let_go(bench: &Bench, node: &str) -> anyhow::Result<()> {
    let module = bench.sh(node, "lsmod | grep -o '^softdog\\|^i6300esb'").await?;
    let end = "kill $(pidof scrap-guard)";
    bench.world.verb(&["halt", node]).await?;
    bench.sh(node, end).await?;
    bench.is_let_go(node).await?;
    bench.sh(node, &format!("rmmod {module} && modprobe {module} nowayout=1")).await?;
    bench.world.verb(&["daemon", node]).await?;
    bench.is_petted(node).await?;
    bench.world.verb(&["halt", node]).await?;
    bench.sh(node, end).await?;
    bench.stays_on(node, TIMES).await?;
    bench.is_petted(node).await?;
    bench.world.verb(&["daemon", node]).await?;
    bench.is_well().await?;
    bench.ok("a watchdog that cannot be let go is petted by a guard that stays");
    Ok(())
}

/// Everything that could end a grain stands still, on a node that is cut off.
async fn all_stand_still(bench: &mut Bench) -> anyhow::Result<()> {
    let owner = bench.world.owner(&bench.ledger.name).await?;
    bench.world.verb(&["cut", &owner]).await?;
    let began = now();
    bench
        .sh(
            &owner,
            "kill -STOP $(cat /run/scrapd.supervisor) $(pidof scrapd scrap-keeper scrap-guard)",
        )
        .await?;
    let reset = bench.is_reset(&owner).await?;
    bench.figures.add("cut off, all stand still -> reset", reset.saturating_sub(began));
    let lives = bench.world.ground.lives()?;
    let last = lives.iter().filter(|life| life.node == owner).map(|life| life.last).max();
    let last = last.context("the grain has left a trace")?;
    ensure!(last > began, "the grain had ended before everything stood still");
    bench.figures.add("last moment of the grain -> reset", reset.saturating_sub(last));
    starts_elsewhere(bench, &owner, reset).await?;
    bench.ok("cut off, with daemon, keepers and guard standing still: reset, and only then it runs elsewhere");
    back(bench, &owner).await
}

async fn back(bench: &Bench, node: &str) -> anyhow::Result<()> {
    bench.world.verb(&["join", node]).await?;
    bench.world.power_on(node).await?;
    bench.is_well().await
}

/// The grain runs on another node, and did so only after the reset; before that it ran all the time.
async fn starts_elsewhere(bench: &mut Bench, old: &str, reset: u64) -> anyhow::Result<()> {
    let name = bench.ledger.name.clone();
    let next = wait_for(bench.world.pace.healed, "the grain lives elsewhere", async || {
        let lives = bench.world.ground.lives()?;
        Ok(lives
            .into_iter()
            .find(|life| life.grain == name && life.node != old && life.first > reset))
    })
    .await?;
    bench.figures.add("reset -> runs elsewhere", next.first - reset);
    let count = bench.ledger.count();
    wait_for(bench.world.pace.healed, "the grain answers", async || {
        Ok((bench.ledger.count() > count).then_some(()))
    })
    .await
}

/// A grain that nothing ends: its node is cut off, and guard and keepers do what they can.
async fn cannot_be_killed(bench: &mut Bench) -> anyhow::Result<()> {
    for node in bench.world.nodes.clone() {
        bench.sh(&node, "truncate -s 16M /root/frozen.img && mke2fs -q /root/frozen.img && mkdir -p /frozen && mount -o loop /root/frozen.img /frozen").await?;
    }
    bench.world.api.apply(STUCK).await?;
    wait_for(bench.world.pace.healed, "the grain runs and has a copy", async || {
        let grain = bench.world.api.grain("stuck").await?.status;
        let copies = grain.copies.iter().filter(|copy| copy.snapshot.is_some()).count();
        Ok((grain.state == GrainState::Running && copies > 0).then_some(()))
    })
    .await?;
    let owner = bench.world.owner("stuck").await?;
    bench.sh(&owner, "fsfreeze -f /frozen").await?;
    let held = "for pid in $(pgrep -f '[f]rozen/line'); do grep -q '^State:.*D' /proc/$pid/status && exit 0; done; exit 1";
    bench.so(&owner, "the grain cannot be killed any more", held).await?;
    bench.world.verb(&["cut", &owner]).await?;
    let began = now();
    let reset = bench.is_reset(&owner).await?;
    let took = reset.saturating_sub(began);
    bench.figures.add("cut off, nothing ends the grain -> reset", took);
    let most = bench.timing.lease + bench.timing.kill;
    ensure!(took <= most.ms(), "reset after {took} ms; lease and kill are {most}");
    wait_for(bench.world.pace.healed, "it runs elsewhere", async || {
        let grain = bench.world.api.grain("stuck").await?.status;
        let elsewhere = grain.node.is_some_and(|node| node.as_str() != owner);
        Ok((elsewhere && grain.state == GrainState::Running).then_some(()))
    })
    .await?;
    bench.figures.add("reset -> that runs elsewhere", now().saturating_sub(reset));
    bench.ok("cut off, with a grain that nothing ends: reset before lease and kill are over");
    back(bench, &owner).await
}

/// On one machine, where nothing is armed.
async fn alone(bench: &mut Bench, device: &str) -> anyhow::Result<()> {
    petted(bench, device).await?;
    let node = bench.world.nodes.first().cloned().context("there is a node")?;
    restarted(bench, &node).await?;
    replaced(bench, &node).await?;
    ended(bench, &node).await
}

/// In a cluster, where a lease ends.
async fn together(bench: &mut Bench, device: &str) -> anyhow::Result<()> {
    petted(bench, device).await?;
    armed(bench).await?;
    all_stand_still(bench).await?;
    cannot_be_killed(bench).await?;
    let lives = bench.world.ground.lives()?;
    let nodes: BTreeSet<&str> = lives.iter().map(|life| life.node.as_str()).collect();
    ensure!(nodes.len() > 1, "the grain never lived elsewhere");
    let twice = trace::contradictions(&lives);
    ensure!(twice.is_empty(), "{}", twice.join("\n"));
    bench.ok("no grain ran twice");
    Ok(())
}

async fn show_logs(world: &World) {
    for node in &world.nodes {
        let log = world.ground.log(node).await.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        say(&format!("--- the log of {node}\n{}", tail.join("\n")));
    }
}

/// Plays it with so many machines. Returns whether everything was as it should be.
async fn with(nodes: usize, device: &str, kind: Kind) -> anyhow::Result<bool> {
    let world = World::start(&Kind { nodes, ..kind }).await?;
    world.leader().await?;
    let lease = world.api.cluster().await?.lease.context("the lease has numbers")?;
    let ledger = ledgers(&world, 1).await?.pop().context("there is a grain")?;
    let tasks = ledger.start(world.pace.entries);
    let (figures, timing) = (Figures::default(), lease.timing);
    let mut bench = Bench { world, ledger, figures, began: boot_ms(), dog_ms: 0, timing };
    let ended = match nodes {
        1 => alone(&mut bench, device).await,
        _ => together(&mut bench, device).await,
    };
    say(&bench.figures.table());
    if let Err(error) = &ended {
        say(&format!("BROKEN: {error:#}"));
        show_logs(&bench.world).await;
    }
    bench.ledger.stop();
    for task in tasks {
        task.await?;
    }
    let Bench { world, ledger, .. } = bench;
    drop(ledger);
    let world = Arc::into_inner(world).context("somebody still holds the machines")?;
    world.ground.end().await?;
    Ok(ended.is_ok())
}

/// Plays all of it with this kind of device, first on one machine, then on three. Returns whether everything was as it should be.
///
/// # Errors
/// If there are no machines.
pub async fn play(device: &str, kind: Kind) -> anyhow::Result<bool> {
    let good = with(1, device, kind.clone()).await? && with(3, device, kind).await?;
    let word = if good { "PASS" } else { "FAIL" };
    say(&format!("{word}: watchdog {device}, commit {}", commit()));
    Ok(good)
}
