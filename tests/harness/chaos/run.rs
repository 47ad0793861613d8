//! A run: a cluster, work on it, faults for so many minutes, healing, judgement.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::clients::Clients;
use super::figures::Figures;
use super::history::{self, is_acknowledged_change};
use super::judge::{Account, Judgement};
use super::ledgers::{self, Ledger};
use super::nemesis::{self, Deck, Kind, Strike};
use super::trace;
use super::world::{self, World, boot_ms};
use crate::commit;

/// How long work is counted before and after a fault.
const COUNTED: Duration = Duration::from_secs(3);
/// How long the work may need to be as much as it should.
const WARM: Duration = Duration::from_secs(60);
/// With clocks that differ by more than this nothing can be judged by their times.
const CLOCKS: u64 = 1_000;
/// The first port of a ledger.
const PORT: u16 = 9100;

/// What is wanted of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long faults come.
    pub minutes: u64,
    /// How many come at least.
    pub rounds: usize,
    /// What they are made of.
    pub seed: u64,
    /// The cluster.
    pub kind: world::Kind,
    /// Which kinds of faults.
    pub faults: Vec<Kind>,
    /// Acknowledged deeds in a second before and after each fault; with less the run says nothing.
    pub least: u64,
    /// Clients of the API.
    pub clients: u64,
    /// Grains.
    pub grains: usize,
    /// Where everything that was seen is left; none: nowhere.
    pub out: Option<PathBuf>,
}

/// A run that goes on.
pub struct Run {
    options: Options,
    pub(super) world: Arc<World>,
    pub(super) clients: Arc<Clients>,
    pub(super) ledgers: Vec<Arc<Ledger>>,
    tasks: Vec<JoinHandle<()>>,
    strikes: Vec<Strike>,
    pub(super) judgement: Judgement,
    pub(super) figures: Figures,
    began: u64,
    /// How far the clocks of nodes were from the one here at most.
    clocks_ms: u64,
}

/// Says a line to whoever watches.
#[expect(clippy::print_stdout, reason = "what happens is what this is for")]
pub fn say(line: &str) {
    println!("{line}");
}

/// Grains for a run, as many as wanted, and waits until they are protected.
///
/// # Errors
/// If the grains do not come up.
pub async fn ledgers(world: &Arc<World>, count: usize) -> anyhow::Result<Vec<Arc<Ledger>>> {
    let mut ledgers = Vec::new();
    let mut manifests = ledgers::policy(world.copies(), world.pace.every);
    for (number, port) in (0..count).zip(PORT..) {
        let ledger = Ledger::new(world, &format!("led-{number}"), port)?;
        let prefer = world.homes.get(number % world.homes.len()).context("there are nodes")?;
        manifests.push_str("---\n");
        manifests.push_str(&ledger.manifest(prefer)?);
        ledgers.push(ledger);
    }
    world.api.apply(&manifests).await?;
    let names: Vec<String> = ledgers.iter().map(|ledger| ledger.name.clone()).collect();
    world.is_healed(&names).await?;
    Ok(ledgers)
}

impl Run {
    /// Starts a cluster and its work.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let world = World::start(&options.kind).await?;
        let mut tasks = vec![world.supervise()];
        let ledgers = ledgers(&world, options.grains).await?;
        let clients = Clients::new(&world, world.pace.deeds)?;
        tasks.extend(clients.start(options.clients, options.seed));
        for ledger in &ledgers {
            tasks.extend(ledger.start(world.pace.entries));
        }
        let (strikes, judgement, figures) = (Vec::new(), Judgement::default(), Figures::default());
        let began = boot_ms();
        Ok(Self {
            options,
            world,
            clients,
            ledgers,
            tasks,
            strikes,
            judgement,
            figures,
            began,
            clocks_ms: 0,
        })
    }

    /// How long it goes on, for lines that people read.
    pub(super) fn at(&self) -> String {
        let ms = boot_ms().saturating_sub(self.began);
        format!("{:>7}.{:03}", ms / 1000, ms % 1000)
    }

    /// Names of the grains.
    pub(super) fn names(&self) -> Vec<String> {
        self.ledgers.iter().map(|ledger| ledger.name.clone()).collect()
    }

    fn done(&self) -> u64 {
        self.clients.history.answered() + self.ledgers.iter().map(|it| it.count()).sum::<u64>()
    }

    /// Deeds in a second, now.
    async fn load(&self) -> u64 {
        let before = self.done();
        sleep(COUNTED).await;
        (self.done() - before) / COUNTED.as_secs()
    }

    /// Waits until there is as much work as there should be. Returns how much there is.
    pub(super) async fn is_busy(&mut self, when: &str) -> u64 {
        let end = Instant::now() + WARM;
        loop {
            let load = self.load().await;
            if load >= self.options.least {
                return load;
            }
            if Instant::now() > end {
                let least = self.options.least;
                let why = format!("{load} deeds a second {when}; at least {least} are needed");
                self.judgement.invalid.push(why);
                return load;
            }
        }
    }

    async fn strike(&mut self, planned: nemesis::Planned) -> anyhow::Result<Strike> {
        let grain = self.ledgers.first().map(|ledger| ledger.name.clone()).unwrap_or_default();
        let strike = nemesis::strike(&self.world, planned, &grain)
            .await
            .with_context(|| format!("the fault {} could not be done", planned.kind.name()))?;
        say(&format!(
            "{} {} {:?} for {:?} (leader {}, owner {})",
            self.at(),
            strike.kind.name(),
            strike.victims,
            planned.hold * self.world.pace.hold,
            strike.leader,
            strike.owner
        ));
        Ok(strike)
    }

    async fn undo(&mut self, mut strike: Strike) -> anyhow::Result<()> {
        strike.undo(&self.world).await?;
        say(&format!("{} {} is over", self.at(), strike.kind.name()));
        self.strikes.push(strike);
        Ok(())
    }

    /// One fault, sometimes with another one before it is over, then healing.
    async fn round(&mut self, deck: &mut Deck) -> anyhow::Result<()> {
        let Some(planned) = deck.next() else { return Ok(()) };
        let before = self.is_busy(&format!("before {}", planned.kind.name())).await;
        let first = self.strike(planned).await?;
        nemesis::hold(&self.world, &planned).await;
        let mut second = None;
        // Where nobody is left to lead nobody can be chosen for the next one.
        let all = first.victims.len() == self.world.nodes.len();
        if planned.overlaps && !all && deck.left_of_round() > 0 && self.leader_answers().await {
            let Some(next) = deck.next() else { return Ok(()) };
            second = Some(self.strike(next).await?);
            nemesis::hold(&self.world, &next).await;
        }
        self.undo(first).await?;
        if let Some(second) = second {
            self.undo(second).await?;
        }
        let undone = boot_ms();
        self.world.is_healed(&self.names()).await.context("not everything healed")?;
        let healed = boot_ms().saturating_sub(undone);
        self.figures.add("fault over -> everything well", healed);
        self.look_at_clocks().await?;
        let after = self.is_busy(&format!("after {}", planned.kind.name())).await;
        say(&format!(
            "{} well after {healed} ms; {before} deeds/s before, {after} after",
            self.at()
        ));
        Ok(())
    }

    async fn look_at_clocks(&mut self) -> anyhow::Result<()> {
        if self.world.ground.machines().is_err() {
            return Ok(());
        }
        for node in &self.world.nodes {
            let error = self.world.ground.clock_error(node).await?;
            self.figures.add("clock of a machine beside ours", error);
            self.clocks_ms = self.clocks_ms.max(error);
        }
        if self.clocks_ms > CLOCKS {
            let why =
                format!("a clock is {} ms wrong: no time of it says anything", self.clocks_ms);
            self.judgement.invalid.push(why);
        }
        Ok(())
    }

    async fn leader_answers(&self) -> bool {
        self.world.api.cluster().await.is_ok_and(|cluster| cluster.leader.is_some())
    }

    /// Kinds of faults that are nothing where no guard runs.
    fn leave_out_guards(&mut self) {
        if !self.options.faults.iter().any(|kind| kind.needs_guard()) {
            return;
        }
        let guarded = |node: &String| !self.world.processes(node, "scrap-guard").is_empty();
        if self.world.nodes.iter().all(guarded) {
            return;
        }
        for kind in self.options.faults.extract_if(.., |kind| kind.needs_guard()) {
            say(&format!("SKIPPED: {} (no guard runs beside the daemons)", kind.name()));
        }
    }

    /// Faults until the time is over and every kind has come.
    async fn faults(&mut self) -> anyhow::Result<()> {
        self.leave_out_guards();
        let end = Instant::now() + Duration::from_secs(60 * self.options.minutes);
        let mut deck = Deck::new(&self.options.faults, self.options.seed);
        loop {
            self.round(&mut deck).await?;
            let came: BTreeSet<Kind> = self.strikes.iter().map(|strike| strike.kind).collect();
            let all = self.options.faults.iter().all(|kind| came.contains(kind));
            if Instant::now() > end && all && self.strikes.len() >= self.options.rounds {
                return Ok(());
            }
        }
    }

    /// Everything ends, and is looked at.
    async fn settle(&mut self) -> anyhow::Result<Vec<Account>> {
        self.clients.stop();
        for ledger in &self.ledgers {
            ledger.stop();
        }
        // The supervisor goes on.
        for task in self.tasks.drain(1..) {
            task.await.context("somebody at work has panicked")?;
        }
        self.world.is_healed(&self.names()).await?;
        let leader = self.world.agrees().await?;
        say(&format!("{} all nodes have the same state; the leader is {leader}", self.at()));
        self.clients.read_all().await?;
        let lives = self.world.ground.lives()?;
        self.judgement.broken.extend(trace::contradictions(&lives));
        if let Some(gap) = trace::smallest_gap(&lives) {
            self.figures.add("end of one life -> begin of the next elsewhere", gap);
        }
        let mut accounts = Vec::new();
        for ledger in &self.ledgers {
            ledger.look().await;
            let text = ledger.all().await?;
            self.judgement.broken.extend(
                ledgers::disorder(&text).into_iter().map(|it| format!("{}: {it}", ledger.name)),
            );
            let own = lives.iter().filter(|life| life.grain == ledger.name);
            let (acks, kept) = (ledger.acks(), ledgers::serials(&text));
            let lost = acks.iter().map(|ack| ack.serial).filter(|it| !kept.contains(it)).collect();
            accounts.push(Account {
                name: ledger.name.clone(),
                acks,
                kept,
                aside: ledger.set_aside(&lost, self.world.pace.healed).await?,
                failovers: ledger.failovers(),
                epochs: own.map(|life| life.epoch).collect(),
                clocks_ms: self.clocks_ms,
            });
        }
        if lives.is_empty() {
            self.judgement.invalid.push("no grain has left a trace".to_owned());
        }
        Ok(accounts)
    }

    fn judge(&mut self, accounts: &[Account]) {
        let judged = self.clients.history.judge();
        say(&format!("{} registers have an order", judged.good));
        self.judgement.broken.extend(judged.bad);
        self.judgement.invalid.extend(
            judged.undecided.iter().map(|key| format!("the search for {key} was given up")),
        );
        let records = self.clients.history.records();
        match history::planted(&records) {
            Some(lies) if history::judge(&lies).bad.is_empty() => {
                self.judgement.invalid.push("a planted lie was believed".to_owned());
            }
            Some(_) => {}
            None => self.judgement.invalid.push("no lie could be planted".to_owned()),
        }
        for account in accounts {
            account.judge(&mut self.judgement);
            for loss in account.losses() {
                self.figures.add("loss of a failover, told", loss.told_ms);
                self.figures
                    .add("loss of a failover, told if silence was the end", loss.if_dead_ms);
                self.figures.add("loss of a failover, real", loss.real_ms);
            }
        }
        self.outages();
    }

    /// How long nobody was answered after each fault.
    fn outages(&mut self) {
        let records = self.clients.history.records();
        let changes: Vec<(u64, u64)> = records
            .iter()
            .filter(|record| is_acknowledged_change(&record.op))
            .filter_map(|record| Some((record.asked, record.answered?)))
            .collect();
        let acks: Vec<_> = self.ledgers.iter().map(|ledger| ledger.acks()).collect();
        for strike in &self.strikes {
            let name = strike.kind.name();
            let began = strike.began;
            let next = changes.iter().filter(|(asked, _)| *asked >= began).map(|(_, at)| *at).min();
            if let Some(next) = next {
                self.figures.add(&format!("{name} -> next change"), next - began);
            }
            // A grain that lived elsewhere has not noticed.
            for acks in &acks {
                let place = acks.partition_point(|ack| ack.asked.0 < began);
                let (before, after) = acks.split_at(place);
                let Some((last, next)) = before.last().zip(after.first()) else { continue };
                if strike.victims.contains(&last.node) {
                    let figure = format!("{name} -> its grain answers");
                    self.figures.add(&figure, next.acked.0 - began);
                }
            }
        }
    }

    /// A promise was broken.
    pub(super) fn broken(&mut self, what: String) {
        say(&format!("{} BROKEN: {what}", self.at()));
        self.judgement.broken.push(what);
    }

    /// Lets everything end, judges, and takes the cluster down.
    ///
    /// # Errors
    /// If something of the cluster is left.
    pub(super) async fn finish(mut self) -> anyhow::Result<(Judgement, Figures)> {
        let accounts = match self.settle().await {
            Ok(accounts) => accounts,
            Err(error) => {
                self.broken(format!("at the end: {error:#}"));
                Vec::new()
            }
        };
        self.judge(&accounts);
        self.leave(&accounts).await?;
        say(&format!(
            "{} faults, {} deeds, {} daemons started again, {} acknowledged entries",
            self.strikes.len(),
            self.done(),
            self.world.restarts(),
            accounts.iter().map(|account| account.acks.len()).sum::<usize>()
        ));
        say(&self.figures.table());
        self.clients.stop();
        self.world.end_supervision();
        for task in self.tasks.drain(..) {
            task.await?;
        }
        let Self { world, clients, ledgers, judgement, figures, .. } = self;
        drop((clients, ledgers));
        let world = Arc::into_inner(world).context("somebody still holds the cluster")?;
        if judgement.broken.is_empty() {
            world.ground.end().await?;
        }
        Ok((judgement, figures))
    }

    async fn leave(&self, accounts: &[Account]) -> anyhow::Result<()> {
        let Some(out) = &self.options.out else { return Ok(()) };
        std::fs::create_dir_all(out)?;
        let lines = |items: Vec<String>| items.join("\n") + "\n";
        let records = self.clients.history.records();
        let records = records.iter().map(|record| format!("{record:?}")).collect();
        std::fs::write(out.join("history"), lines(records))?;
        let strikes = self.strikes.iter().map(|strike| format!("{strike:?}")).collect();
        std::fs::write(out.join("faults"), lines(strikes))?;
        let lives = self.world.ground.lives()?;
        let lives = lives.iter().map(|life| format!("{life:?}")).collect();
        std::fs::write(out.join("lives"), lines(lives))?;
        for account in accounts {
            std::fs::write(out.join(&account.name), format!("{account:#?}\n"))?;
        }
        for node in &self.world.nodes {
            let log = self.world.ground.log(node).await?;
            std::fs::write(out.join(format!("{node}.log")), log)?;
        }
        Ok(())
    }
}

/// Plays a run to its end and says everything about it.
///
/// # Errors
/// If the cluster could not be had. What a cluster did wrong is in the judgement.
pub async fn play(options: Options) -> anyhow::Result<Judgement> {
    say(&format!("seed {}, {:?}", options.seed, options.kind));
    let seed = options.seed;
    let mut run = Run::start(options).await?;
    if let Err(error) = run.faults().await {
        run.broken(format!("{error:#}"));
    }
    let (judgement, _) = run.finish().await?;
    let (word, commit) = (judgement.word(), commit());
    say(&format!("{}{word}: seed {seed}, commit {commit}", judgement.reasons()));
    Ok(judgement)
}
