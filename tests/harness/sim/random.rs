//! Random worlds and random scripts of faults. A case is data that shrinks, and prints itself as a scenario.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use scrap_decide::lead::Subject;
use scrap_schema::spec::FailoverMode;

use super::network::Weather;
use super::script::Script;
use super::trace::Tally;
use super::world::World;
use super::{Sim, scenario};

/// After everything is healed everything must run again within this time and the longest grace of a policy.
const HEALED_WITHIN_MS: u64 = 150_000;

/// A random world and what happens to it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Number of machines.
    pub nodes: usize,
    /// Policy of each grain, and its home.
    pub grains: Vec<(usize, usize)>,
    /// What happens, after how many seconds each.
    pub faults: Vec<(u64, Fault)>,
    /// Clock drift of each machine, in percent.
    pub drift: Vec<i64>,
    /// How many of a thousand messages are badly delayed.
    pub stalls: u64,
    /// How long entries take to be applied everywhere.
    pub apply_ms: u64,
    /// Bytes per second between machines.
    pub rate: u64,
    /// Feeds everything else.
    pub seed: u64,
}

/// What came of a case that broke no promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The same if everything that happened is the same.
    pub hash: String,
    /// How much happened.
    pub tally: Tally,
}

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Fault {
    /// `kill`.
    Kill(usize),
    /// `kill-daemon`.
    KillDaemon(usize),
    /// `start`.
    Start(usize),
    /// `goodbye`.
    Goodbye(usize),
    /// `network off|on`.
    Network(usize, bool),
    /// `partition` by the bits of a number.
    Partition(usize),
    /// `heal`.
    Heal,
    /// `elect`.
    Elect(usize),
    /// `cut-streams`.
    CutStreams(usize, usize, bool),
    /// `migrate`.
    Migrate(usize, usize),
    /// `cancel` a grain's operation.
    Cancel(usize),
    /// `drain`, `cancel` of a drain, `undrain`.
    Drain(usize),
    /// See `Drain`.
    CancelDrain(usize),
    /// See `Drain`.
    Undrain(usize),
    /// `stop`, `run`, `restart`.
    Stop(usize),
    /// See `Stop`.
    Run(usize),
    /// See `Stop`.
    Restart(usize),
    /// `failover` with any loss.
    Failover(usize),
    /// `snapshot` and later `restore`.
    Snapshot(usize, usize),
    /// See `Snapshot`.
    Restore(usize, usize),
    /// `clone`.
    Clone(usize, usize),
    /// `sick` on a machine.
    Sick(usize, usize, bool),
    /// `slow-stop`.
    SlowStop(usize, u64),
    /// `policy`.
    Policy(usize, usize),
    /// `create` another one.
    Create(usize, usize),
    /// `remove`, `undelete`, `purge`.
    Remove(usize),
    /// See `Remove`.
    Undelete(usize),
    /// See `Remove`.
    Purge(usize),
    /// `aside`: something is wanted of what was set aside.
    Aside(usize, usize),
}

const POLICIES: [&str; 4] = ["quick", "patient", "manual", "single"];

fn fault() -> impl Strategy<Value = Fault> {
    let n = || 0..5_usize;
    let faults = prop_oneof![
        4 => n().prop_map(Fault::Kill),
        4 => n().prop_map(Fault::KillDaemon),
        6 => n().prop_map(Fault::Start),
        1 => n().prop_map(Fault::Goodbye),
        4 => (n(), any::<bool>()).prop_map(|(a, on)| Fault::Network(a, on)),
        4 => (1..31_usize).prop_map(Fault::Partition),
        4 => Just(Fault::Heal),
        3 => n().prop_map(Fault::Elect),
        2 => (n(), n(), any::<bool>()).prop_map(|(a, b, cut)| Fault::CutStreams(a, b, cut)),
        6 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        2 => n().prop_map(Fault::Cancel),
        3 => n().prop_map(Fault::Drain),
        1 => n().prop_map(Fault::CancelDrain),
        2 => n().prop_map(Fault::Undrain),
        2 => n().prop_map(Fault::Stop),
        2 => n().prop_map(Fault::Run),
        1 => n().prop_map(Fault::Restart),
    ];
    let wishes = prop_oneof![
        3 => n().prop_map(Fault::Failover),
        2 => (n(), n()).prop_map(|(g, s)| Fault::Snapshot(g, s)),
        2 => (n(), n()).prop_map(|(g, s)| Fault::Restore(g, s)),
        1 => (n(), n()).prop_map(|(g, s)| Fault::Clone(g, s)),
        2 => (n(), n(), any::<bool>()).prop_map(|(g, a, s)| Fault::Sick(g, a, s)),
        1 => (n(), 1..30_u64).prop_map(|(g, s)| Fault::SlowStop(g, s)),
        1 => (n(), n()).prop_map(|(g, p)| Fault::Policy(g, p)),
        1 => (n(), n()).prop_map(|(g, p)| Fault::Create(g, p)),
        1 => n().prop_map(Fault::Remove),
        1 => n().prop_map(Fault::Undelete),
        1 => n().prop_map(Fault::Purge),
    ];
    prop_oneof![3 => faults, 1 => wishes]
}

/// Cases of so many nodes, with these grains and faults.
fn cases(
    nodes: std::ops::Range<usize>,
    grains: impl Strategy<Value = Vec<(usize, usize)>>,
    faults: impl Strategy<Value = Vec<(u64, Fault)>>,
    stalls: impl Strategy<Value = u64>,
    rate: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Case> {
    let drift = prop::collection::vec(-1..=1_i64, 5);
    let apply = prop_oneof![3 => Just(50_u64), 1 => 100..3000_u64];
    (nodes, grains, faults, drift, stalls, apply, rate, any::<u64>()).prop_map(
        |(nodes, grains, faults, drift, stalls, apply_ms, rate, seed)| Case {
            nodes,
            grains,
            faults,
            drift,
            stalls,
            apply_ms,
            rate,
            seed,
        },
    )
}

/// Any case.
pub fn case() -> impl Strategy<Value = Case> {
    let pause = prop_oneof![4 => 0..6_u64, 3 => 6..25_u64, 1 => 25..50_u64];
    let faults = prop::collection::vec((pause, fault()), 1..14);
    let grains = prop::collection::vec((0..4_usize, 0..5_usize), 1..4);
    let stalls = prop_oneof![2 => Just(0_u64), 1 => 1..200_u64];
    let rate = prop_oneof![3 => Just(100_u64 << 20), 1 => Just(1_u64 << 20)];
    cases(2..6, grains, faults, stalls, rate)
}

/// A case in which nodes die and come back all the time: three or more of them, grains that fail over by themselves.
pub fn hard_case() -> impl Strategy<Value = Case> {
    hard(hard_fault())
}

/// The same, and people want something of what was set aside.
pub fn aside_case() -> impl Strategy<Value = Case> {
    let aside = (0..5_usize, 0..3_usize).prop_map(|(g, what)| Fault::Aside(g, what));
    hard(prop_oneof![4 => hard_fault(), 1 => aside])
}

fn hard_fault() -> impl Strategy<Value = Fault> {
    let n = || 0..5_usize;
    prop_oneof![
        6 => n().prop_map(Fault::Kill),
        8 => n().prop_map(Fault::Start),
        1 => n().prop_map(Fault::KillDaemon),
        1 => n().prop_map(Fault::Goodbye),
        4 => (n(), prop::bool::weighted(0.4)).prop_map(|(a, on)| Fault::Network(a, on)),
        3 => (1..31_usize).prop_map(Fault::Partition),
        5 => Just(Fault::Heal),
        3 => n().prop_map(Fault::Elect),
        3 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        1 => (n(), n(), any::<bool>()).prop_map(|(a, b, cut)| Fault::CutStreams(a, b, cut)),
    ]
}

fn hard(fault: impl Strategy<Value = Fault>) -> impl Strategy<Value = Case> {
    let pause = prop_oneof![2 => 0..8_u64, 3 => 15..40_u64, 1 => 40..70_u64];
    let faults = prop::collection::vec((pause, fault), 10..40);
    let grains = prop::collection::vec((0..2_usize, 0..5_usize), 2..6);
    let stalls = prop_oneof![2 => Just(0_u64), 1 => 1..100_u64];
    cases(3..6, grains, faults, stalls, Just(100_u64 << 20))
}

impl Case {
    fn node(&self, number: usize) -> String {
        format!("n{}", number % self.nodes + 1)
    }

    fn grain(&self, number: usize) -> String {
        format!("g{}", number % (self.grains.len() + 1) + 1)
    }

    /// `world.toml`.
    #[must_use]
    pub fn world(&self) -> String {
        let names: Vec<String> = (0..self.nodes).map(|at| format!("\"n{}\"", at + 1)).collect();
        let mut text = format!(
            "nodes = [{}]\nrate = \"{}B\"\napply = \"{}ms\"\n\n[policy]\n",
            names.join(", "),
            self.rate,
            self.apply_ms
        );
        let policies = [
            ("quick", "auto", 2, "0s", "1h"),
            ("patient", "auto", 1, "20s", "30s"),
            ("manual", "manual", 1, "0s", "1h"),
            ("single", "auto", 0, "0s", "1h"),
        ];
        for (name, mode, copies, after, loss) in policies {
            let _ = writeln!(
                text,
                "{name} = {{ replicate = {{ every = \"5s\", copies = {copies} }}, failover = {{ mode = \"{mode}\", after = \"{after}\", maxDataLoss = \"{loss}\" }}, snapshots = {{ keep-last = 2, keep-hourly = 1, keep-daily = 1 }} }}"
            );
        }
        for (at, (policy, home)) in self.grains.iter().enumerate() {
            let (policy, home) = (POLICIES[policy % POLICIES.len()], self.node(*home));
            let _ = writeln!(
                text,
                "\n[grain.g{}]\nhome = \"{home}\"\npolicy = \"{policy}\"\nsize = \"4MiB\"",
                at + 1
            );
        }
        text
    }

    /// `script`.
    #[must_use]
    pub fn script(&self) -> String {
        let mut text = String::new();
        for (at, percent) in self.drift.iter().take(self.nodes).enumerate() {
            if *percent != 0 {
                let _ = writeln!(text, "at 0 clock n{} drift {percent}%", at + 1);
            }
        }
        let mut now = 5;
        for (pause, fault) in &self.faults {
            now += pause;
            let _ = writeln!(text, "at {now} {}", self.words(fault));
        }
        let _ = writeln!(text, "end {}", now + 5);
        text
    }

    fn words(&self, fault: &Fault) -> String {
        let (n, g) = (|at: &usize| self.node(*at), |at: &usize| self.grain(*at));
        let on = |on: &bool| if *on { "on" } else { "off" };
        match fault {
            Fault::Kill(a) => format!("kill {}", n(a)),
            Fault::KillDaemon(a) => format!("kill-daemon {}", n(a)),
            Fault::Start(a) => format!("start {}", n(a)),
            Fault::Goodbye(a) => format!("goodbye {}", n(a)),
            Fault::Network(a, state) => format!("network {} {}", n(a), on(state)),
            Fault::Partition(bits) => {
                let side = |bit: usize| {
                    let names = (0..self.nodes).filter(|at| (bits >> at) & 1 == bit);
                    names.map(|at| n(&at)).collect::<Vec<_>>().join(",")
                };
                match (side(0), side(1)) {
                    (a, b) if a.is_empty() || b.is_empty() => "heal".to_owned(),
                    (a, b) => format!("partition {a} | {b}"),
                }
            }
            Fault::Heal => "heal".to_owned(),
            Fault::Elect(a) => format!("elect {}", n(a)),
            Fault::CutStreams(a, b, state) => {
                format!("cut-streams {} {} {}", n(a), n(b), on(state))
            }
            Fault::Migrate(a, b) => format!("migrate {} to {}", g(a), n(b)),
            Fault::Cancel(a) => format!("cancel {}", g(a)),
            Fault::Drain(a) => format!("drain {}", n(a)),
            Fault::CancelDrain(a) => format!("cancel {}", n(a)),
            Fault::Undrain(a) => format!("undrain {}", n(a)),
            Fault::Stop(a) => format!("stop {}", g(a)),
            Fault::Run(a) => format!("run {}", g(a)),
            Fault::Restart(a) => format!("restart {}", g(a)),
            Fault::Failover(a) => format!("failover {} accept-loss=1h", g(a)),
            Fault::Snapshot(a, s) => format!("snapshot {} s{}", g(a), s % 2),
            Fault::Restore(a, s) => format!("restore {} s{}", g(a), s % 2),
            Fault::Clone(a, s) => format!("clone {} c{}", g(a), s % 2),
            Fault::Sick(a, b, true) => format!("sick {} on {}", g(a), n(b)),
            Fault::Sick(a, b, false) => format!("sick {} on {} no more", g(a), n(b)),
            Fault::SlowStop(a, s) => format!("slow-stop {} {s}s", g(a)),
            Fault::Policy(a, p) => format!("policy {} {}", g(a), POLICIES[p % POLICIES.len()]),
            Fault::Create(a, p) => {
                let name = self.grains.len() + 1;
                format!("create g{name} policy={} on={}", POLICIES[p % POLICIES.len()], n(a))
            }
            Fault::Remove(a) => format!("remove {}", g(a)),
            Fault::Undelete(a) => format!("undelete {}", g(a)),
            Fault::Purge(a) => format!("purge {}", g(a)),
            Fault::Aside(a, what) => {
                format!("aside {} {}", g(a), ["promote", "fork", "discard"][what % 3])
            }
        }
    }

    /// Plays it. Safety is looked at after every step, liveness when everything is healed.
    ///
    /// # Errors
    /// What must never be, or what does not come back to life; with the case as a scenario and the log.
    pub fn play(&self) -> Result<Report> {
        self.play_with(&mut None)
    }

    /// The same, with every action and every entry in words.
    pub fn trace(&self) -> (Vec<String>, Result<Report>) {
        let mut lines = Some(Vec::new());
        let result = self.play_with(&mut lines);
        (lines.unwrap_or_default(), result)
    }

    fn play_with(&self, lines: &mut Option<Vec<String>>) -> Result<Report> {
        let mut log = String::new();
        self.try_play(&mut log, lines).with_context(|| {
            format!(
                "--- world.toml\n{}\n--- script\n{}\n--- log\n{log}",
                self.world(),
                self.script()
            )
        })
    }

    fn try_play(&self, log: &mut String, lines: &mut Option<Vec<String>>) -> Result<Report> {
        let world: World = toml::from_str(&self.world())?;
        let script = Script::parse(&self.script())?;
        let mut sim = world.build(self.seed)?;
        sim.trace.lines = lines.take();
        sim.judge.compare_rows = self.seed.is_multiple_of(8);
        sim.weather =
            Weather { lag_ms: 5, stalls: self.stalls, stall_ms: 25_000, losses: self.stalls / 2 };
        sim.kill_slack = sim.chance(2) * 3_900;
        for order in &script.orders {
            sim.run_until(order.at);
            sim.say("script", &order.words);
            // What is not there any more cannot be worked on.
            if let Err(why) = sim.obey_order(&order.words) {
                sim.say("script", &format!("{why:#}"));
            }
        }
        sim.run_until(script.end * 1000);
        let result = heal(&mut sim).and_then(|()| scenario::end(&mut sim));
        *log = sim.log();
        *lines = sim.trace.lines.take();
        result?;
        let hash = sim.trace.hash();
        let mut tally = std::mem::take(&mut sim.trace.tally);
        tally.ms = sim.now;
        for order in &script.orders {
            let word = order.words.split(' ').next().unwrap_or_default();
            *tally.faults.entry(word.to_owned()).or_default() += 1;
        }
        Ok(Report { hash, tally })
    }
}

/// Ends every fault and waits until everything runs again.
fn heal(sim: &mut Sim) -> Result<()> {
    sim.say("script", "everything is healed");
    sim.heal();
    sim.weather = Weather::fair();
    for at in 0..sim.machines.len() {
        sim.machines[at].sick.clear();
        sim.start(at);
    }
    let end = sim.now + HEALED_WITHIN_MS;
    while sim.now < end && sim.judge.found.is_empty() {
        sim.step();
    }
    if let Some(found) = sim.judge.found.first() {
        anyhow::bail!("{found}");
    }
    alive(sim)
}

/// Every grain that should run runs; every operation that is not over says why.
fn alive(sim: &Sim) -> Result<()> {
    let leader = sim.leader().context("nobody leads")?;
    let reasons = sim.machines[leader].leading.as_ref().context("the leader does not lead")?;
    let waits = |subject: Subject| reasons.waiting.keys().any(|(waiting, _)| *waiting == subject);
    for grain in sim.truth.grains.values() {
        if !grain.wants_to_run() {
            continue;
        }
        let Some(owner) = grain.owner else {
            ensure!(waits(Subject::Grain(grain.id)), "{} has no owner and no reason", grain.name);
            continue;
        };
        let at = sim.machine_of(owner).context("the owner is no machine")?;
        let runs = sim.machines[at].instances.get(&grain.id);
        let auto = sim.truth.policy_of(grain).failover.mode == FailoverMode::Auto;
        ensure!(
            runs.is_some_and(|instance| instance.epoch == grain.epoch) && grain.started.is_some(),
            "{} ({}) does not run on {}: {:?}",
            grain.name,
            if auto { "auto" } else { "manual" },
            sim.truth.node_name(owner),
            grain.stage
        );
    }
    for operation in sim.truth.operations.values().filter(|it| !it.state.is_final()) {
        let grain = operation.work.grain().map(Subject::Grain);
        let said = waits(Subject::Operation(operation.id)) || grain.is_some_and(waits);
        ensure!(
            said,
            "{} {} is not over and has no reason",
            operation.work.word(),
            operation.target
        );
    }
    Ok(())
}
