//! Random worlds and random scripts of faults. A case is data that shrinks, and prints itself as a scenario.

mod fault;

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use scrap_decide::lead::Subject;
use scrap_schema::command::Command;
use scrap_schema::spec::FailoverMode;
use scrap_schema::timing::Preset;

use super::network::Weather;
use super::script::Script;
use super::trace::Tally;
use super::world::World;
use super::{Sim, scenario};
pub use fault::Fault;

/// After everything is healed everything must run again within this time and the longest grace of a policy.
const HEALED_WITHIN_MS: u64 = 150_000;
/// Somebody leads again within this.
const LEADS_WITHIN_MS: u64 = 10_000;
/// What is switched off by a plug that was asked before is on again by then.
const POWERED_WITHIN_MS: u64 = 30_000;
/// Disks and streams are no slower than this by then.
const HEALED_DELAY_MS: u64 = 3_000;
/// As above, in bytes per second.
const HEALED_RATE: u64 = 1 << 20;

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
    /// What can cut the power of each machine: nothing for most.
    pub plugs: Vec<usize>,
    /// How many of a thousand messages are badly delayed, are lost, come twice.
    pub weather: [u64; 3],
    /// How long entries take to be applied everywhere.
    pub apply_ms: u64,
    /// Bytes per second between machines.
    pub rate: u64,
    /// Whether the lease has the numbers of `swift`.
    pub swift: bool,
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

const POLICIES: [&str; 4] = ["quick", "patient", "manual", "single"];

/// Which kind of histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Every day, and what people want.
    Mild,
    /// Nodes die and come back all the time.
    Hard,
    /// The same, and people want something of what was set aside.
    Aside,
    /// What stands still, is heard by half, comes late or twice, or shows the wrong time.
    Storm,
    /// Power, plugs, arming, a new beginning.
    Power,
    /// Who is a member.
    Members,
    /// One failover after the other, of many grains: not in turn with the others.
    Dense,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Mild, Self::Hard, Self::Aside, Self::Storm, Self::Power, Self::Members];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mild => "mild",
            Self::Hard => "hard",
            Self::Aside => "aside",
            Self::Storm => "storm",
            Self::Power => "power",
            Self::Members => "members",
            Self::Dense => "dense",
        }
    }

    /// Histories of this kind.
    pub fn cases(self) -> BoxedStrategy<Case> {
        match self {
            Self::Mild => case().boxed(),
            Self::Hard => harder(fault::hard(), 10..40, Just([0; 3]).boxed()),
            Self::Aside => harder(fault::aside(), 10..40, Just([0; 3]).boxed()),
            Self::Storm => {
                let weather = (0..200_u64, 0..100_u64, 0..300_u64);
                let weather = weather.prop_map(|(stalls, losses, echoes)| [stalls, losses, echoes]);
                harder(fault::storm(), 8..30, weather.boxed())
            }
            Self::Power => {
                let weather =
                    (0..50_u64, 0..300_u64).prop_map(|(some, echoes)| [some, some, echoes]);
                harder(fault::power(), 8..30, weather.boxed())
            }
            Self::Dense => dense(),
            Self::Members => harder(fault::members(), 8..25, Just([0; 3]).boxed()),
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = Self::ALL.into_iter().chain([Self::Dense]);
        let found = all.into_iter().find(|kind| kind.word() == text);
        found.with_context(|| format!("`{text}` is no kind of histories"))
    }
}

/// Any case of every day.
pub fn case() -> impl Strategy<Value = Case> {
    let pause = prop_oneof![4 => 0..6_u64, 3 => 6..25_u64, 1 => 25..50_u64];
    let faults = prop::collection::vec((pause, fault::mild()), 1..14);
    let grains = prop::collection::vec((0..4_usize, 0..5_usize), 1..4);
    let stalls = prop_oneof![2 => Just(0_u64), 1 => 1..200_u64];
    let rate = prop_oneof![3 => Just(100_u64 << 20), 1 => Just(1_u64 << 20)];
    let weather = (stalls, any::<bool>());
    let weather = weather.prop_map(|(it, echoes)| [it, it / 2, if echoes { it * 2 } else { 0 }]);
    cases(2..6, grains, faults, weather, rate)
}

/// A case in which people want something of what was set aside.
pub fn aside_case() -> impl Strategy<Value = Case> {
    Kind::Aside.cases()
}

/// Three nodes or more, and grains that fail over by themselves.
fn harder(
    fault: impl Strategy<Value = Fault> + 'static,
    count: std::ops::Range<usize>,
    weather: BoxedStrategy<[u64; 3]>,
) -> BoxedStrategy<Case> {
    let pause = prop_oneof![2 => 0..8_u64, 3 => 15..40_u64, 1 => 40..70_u64];
    let faults = prop::collection::vec((pause, fault), count);
    let grains = prop::collection::vec((0..3_usize, 0..5_usize), 2..6);
    let stalls = (0..3_usize, 1..100_u64);
    let stalls = stalls.prop_map(|(which, it)| if which == 0 { [it, it / 2, it] } else { [0; 3] });
    let weather = (weather, stalls);
    let weather = weather.prop_map(|(all, some)| if all == [0; 3] { some } else { all });
    cases(3..6, grains, faults, weather, Just(100_u64 << 20)).boxed()
}

/// Five nodes with a dozen of grains each lose one after the other, in every way that there is.
fn dense() -> BoxedStrategy<Case> {
    let fault = (0..5_usize, 0..10_usize, 15..24_u64, 4..12_u64);
    let faults = prop::collection::vec(fault, 20..30).prop_map(|losses| {
        let mut faults = Vec::new();
        let mut pause = 5;
        for (node, how, away, rest) in losses {
            let (fails, returns) = fault::loss(node, how, away);
            faults.extend(fails.into_iter().map(|fault| (std::mem::take(&mut pause), fault)));
            faults.extend(
                returns
                    .into_iter()
                    .enumerate()
                    .map(|(at, fault)| (if at == 0 { away } else { 0 }, fault)),
            );
            pause = rest;
        }
        faults
    });
    let grains = (0..5_usize).prop_map(|first| (0..20).map(|at| (0, first + at)).collect());
    let stalls = (0..3_usize, 1..30_u64);
    let weather = stalls.prop_map(|(which, it)| if which == 0 { [it, it / 2, it] } else { [0; 3] });
    let cases = cases(5..6, grains, faults, weather, Just(100_u64 << 20));
    cases.prop_map(|case| Case { swift: true, plugs: vec![7; 5], apply_ms: 50, ..case }).boxed()
}

/// Cases of so many nodes, with these grains and faults.
fn cases(
    nodes: std::ops::Range<usize>,
    grains: impl Strategy<Value = Vec<(usize, usize)>>,
    faults: impl Strategy<Value = Vec<(u64, Fault)>>,
    weather: impl Strategy<Value = [u64; 3]>,
    rate: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Case> {
    let drift = prop::collection::vec(-1..=1_i64, 5);
    let plugs = prop::collection::vec(0..8_usize, 5);
    let apply = prop_oneof![3 => Just(50_u64), 1 => 100..3000_u64];
    let swift = prop::bool::weighted(0.2);
    (nodes, grains, faults, drift, plugs, weather, apply, rate, (swift, any::<u64>())).prop_map(
        |(nodes, grains, faults, drift, plugs, weather, apply_ms, rate, (swift, seed))| Case {
            nodes,
            grains,
            faults,
            drift,
            plugs,
            weather,
            apply_ms,
            rate,
            swift,
            seed,
        },
    )
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
            "nodes = [{}]\nlater = [\"w1\"]\nseed = {}\nrate = \"{}B\"\napply = \"{}ms\"\n\n[policy]\n",
            names.join(", "),
            self.seed >> 8,
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
        for (at, plug) in self.plugs.iter().take(self.nodes).enumerate() {
            if let Some(plug) = ["works", "fails", "hangs"].get(*plug) {
                let _ = writeln!(text, "\n[node.n{}]\nplug = \"{plug}\"", at + 1);
            }
        }
        text.push_str("\n[node.w1]\nrole = \"witness\"\n");
        if self.swift {
            let numbers = serde_json::to_value(Preset::Swift.timing()).unwrap_or_default();
            text.push_str("\n[timing]\n");
            for (key, value) in numbers.as_object().into_iter().flatten() {
                let _ = writeln!(text, "{key} = {value}");
            }
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
        let [stalls, losses, echoes] = self.weather;
        if self.weather != [0; 3] {
            let _ = writeln!(text, "at 0 weather {stalls} {losses} {echoes}");
        }
        if self.seed.is_multiple_of(2) {
            let _ = writeln!(text, "at 0 slow-kills {}s", if self.swift { 1 } else { 3 });
        }
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
        play_texts(&self.world(), &self.script(), log, lines)
    }
}

/// Plays a world and a script as a history: what is not there any more cannot be worked on, and everything is healed at the end.
///
/// # Errors
/// What must never be, or what does not come back to life.
pub fn play_texts(
    world: &str,
    script: &str,
    log: &mut String,
    lines: &mut Option<Vec<String>>,
) -> Result<Report> {
    let world: World = toml::from_str(world)?;
    let script = Script::parse(script)?;
    let mut sim = world.build(1)?;
    sim.trace.lines = lines.take();
    sim.probes = true;
    sim.judge.compare_rows = world.seed.is_some_and(|seed| seed.is_multiple_of(8));
    for order in &script.orders {
        sim.run_until(order.at);
        sim.say("script", &order.words);
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

/// Ends every fault and waits until everything runs again.
fn heal(sim: &mut Sim) -> Result<()> {
    sim.say("script", "everything is healed");
    sim.heal();
    sim.resume_all();
    sim.weather = Weather::fair();
    for at in 0..sim.machines.len() {
        let machine = &mut sim.machines[at];
        machine.sick.clear();
        (machine.wall_ahead, machine.foreign_disk) = (0, 0);
        machine.apply_delay = machine.apply_delay.min(HEALED_DELAY_MS);
        sim.start(at);
    }
    sim.rate = sim.rate.max(HEALED_RATE);
    arm_all(sim);
    let end = sim.now + HEALED_WITHIN_MS;
    let healed = sim.now;
    while sim.now < end && sim.judge.found.is_empty() {
        sim.step();
        if sim.now == healed + LEADS_WITHIN_MS {
            ensure!(sim.leader().is_some(), "nobody leads 10 s after everything was healed");
            arm_all(sim);
        }
        // A plug that was pulled just before has done its work after.
        if (sim.now - healed).is_multiple_of(5_000) && sim.now < healed + POWERED_WITHIN_MS {
            (0..sim.machines.len()).for_each(|at| sim.start(at));
        }
    }
    if let Some(found) = sim.judge.found.first() {
        anyhow::bail!("{found}");
    }
    alive(sim)
}

/// Nothing is disarmed any more.
fn arm_all(sim: &mut Sim) {
    let disarmed = sim.truth.nodes.values().filter(|node| node.disarmed.is_some());
    let nodes: Vec<_> = disarmed.map(|node| Some(node.id)).collect();
    for node in nodes.into_iter().chain([None]) {
        if sim.leader().is_some() {
            sim.ask(Command::Arm { node, by: None });
        }
    }
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
        // It was wiped, or left out when the cluster began anew.
        let Some(at) = sim.machine_of(owner) else {
            ensure!(waits(Subject::Grain(grain.id)), "{} has lost its owner", grain.name);
            continue;
        };
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
