//! The small language of scenarios: one line per order, `at SECONDS WORDS`. Names of nodes and grains as a person says them.

use anyhow::{Context, Result, bail};
use scrap_decide::cluster::OrphanKey;
use scrap_decide::obey::DataRole;
use scrap_schema::command::{Command, GrainText};
use scrap_schema::fence::OffBy;
use scrap_schema::id::{Epoch, GrainId, Name, NodeId, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::Purpose;
use scrap_schema::spec::{GrainNetwork, GrainSpec, Labels};
use scrap_schema::unit::{Bytes, Span};

use super::Sim;
use super::machine::wall;
use super::world::GrainSetting;

/// One line of a script.
#[derive(Debug, Clone)]
pub struct Order {
    /// When, in milliseconds since the log began.
    pub at: u64,
    /// What.
    pub words: String,
}

/// A script: orders in order of time, and when the scenario ends.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Orders.
    pub orders: Vec<Order>,
    /// The end, in seconds.
    pub end: u64,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// A line is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        let mut script = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(' ').context("a line has two words at least")? {
                ("end", seconds) => script.end = seconds.parse().context("end SECONDS")?,
                ("at", rest) => {
                    let (seconds, words) =
                        rest.trim().split_once(' ').context("at SECONDS WORDS")?;
                    let at: f64 = seconds.parse().with_context(|| format!("`{line}`"))?;
                    let at = std::time::Duration::from_secs_f64(at).as_millis();
                    let at = u64::try_from(at)?;
                    script.orders.push(Order { at, words: words.trim().to_owned() });
                }
                (other, _) => bail!("`{other}` is neither `at` nor `end`"),
            }
        }
        script.orders.sort_by_key(|order| order.at);
        if script.end == 0 {
            bail!("the script has no end");
        }
        Ok(script)
    }
}

impl Sim {
    /// Plays a script to its end.
    ///
    /// # Errors
    /// A line is not understood, or names something that is not there.
    pub fn play(&mut self, script: &Script) -> Result<()> {
        for order in &script.orders {
            self.run_until(order.at);
            self.say("script", &order.words);
            self.obey_order(&order.words).with_context(|| format!("`{}`", order.words))?;
        }
        self.run_until(script.end * 1000);
        Ok(())
    }

    pub(super) fn obey_order(&mut self, words: &str) -> Result<()> {
        let parts: Vec<&str> = words.split_whitespace().collect();
        if self.misbehave(&parts)? {
            return Ok(());
        }
        match parts.as_slice() {
            ["network", node, state] => {
                let at = self.at(node)?;
                self.network(at, is_on(state)?);
            }
            ["partition", ..] => {
                let text = words.trim_start_matches("partition");
                let groups: Result<Vec<Vec<usize>>> = text
                    .split('|')
                    .map(|group| group.split(',').map(|name| self.at(name.trim())).collect())
                    .collect();
                self.partition(&groups?);
            }
            ["heal"] => self.heal(),
            ["kill", node] => {
                let at = self.at(node)?;
                self.kill(at);
            }
            ["kill-daemon", node] => {
                let at = self.at(node)?;
                self.kill_daemon(at);
            }
            ["start", node] => {
                let at = self.at(node)?;
                self.start(at);
            }
            ["goodbye", node] => {
                let at = self.at(node)?;
                self.goodbye(at);
            }
            ["join", node] => {
                let at = self.at(node)?;
                self.join(at)?;
            }
            ["elect", node] => {
                let at = self.at(node)?;
                if self.has_majority(at) {
                    self.crown(at);
                }
            }
            ["cut-streams", a, b, state] => {
                let (a, b, cut) = (self.at(a)?, self.at(b)?, is_on(state)?);
                self.link_streams(a, b, !cut);
            }
            ["clock", node, "drift", percent] => {
                let at = self.at(node)?;
                let percent: i64 = percent.trim_end_matches('%').parse()?;
                self.drift(at, percent * 10_000);
            }
            ["tell-streams", state] => self.tells_streams = is_on(state)?,
            ["pool", node, state] => {
                let at = self.at(node)?;
                self.machines[at].pool = serde_json::from_value((*state).into())?;
            }
            ["import", template, node] => self.import(&name(template)?, &name(node)?)?,
            ["disk", node, used] => {
                let at = self.at(node)?;
                let used: Bytes = used.parse()?;
                self.machines[at].foreign_disk = used.0;
            }
            _ => return self.obey_wish(&parts),
        }
        Ok(())
    }

    fn obey_wish(&mut self, parts: &[&str]) -> Result<()> {
        match parts {
            ["create", name, rest @ ..] => self.create(&name.parse()?, &setting(rest)?),
            ["slow-stop", grain, time] => {
                let (grain, time): (GrainId, Span) = (self.grain(grain)?, time.parse()?);
                self.slow_stops.insert(grain, time.ms());
            }
            ["sick", grain, "on", node, rest @ ..] => {
                let (grain, at) = (self.grain(grain)?, self.at(node)?);
                match rest {
                    ["no", "more"] => drop(self.machines[at].sick.remove(&grain)),
                    _ => drop(self.machines[at].sick.insert(grain)),
                }
            }
            ["ill", grain, "on", node, rest @ ..] => {
                let (grain, at) = (self.grain(grain)?, self.at(node)?);
                match rest {
                    ["no", "more"] => drop(self.machines[at].ill.remove(&grain)),
                    _ => drop(self.machines[at].ill.insert(grain, self.now)),
                }
            }
            ["disarm", rest @ ..] => {
                let (mut node, mut until) = (None, None);
                for word in rest {
                    match word.strip_prefix("for=") {
                        Some(span) => until = Some(wall(self.now) + span.parse::<Span>()?),
                        None => node = Some(self.node_id(word)?),
                    }
                }
                self.ask(Command::Disarm { node, until, by: "kim@desk".to_owned() });
            }
            ["arm", rest @ ..] => {
                let node = rest.first().map(|node| self.node_id(node)).transpose()?;
                self.ask(Command::Arm { node, by: Some("kim@desk".to_owned()) });
            }
            ["confirm-off", node] => {
                let node = self.node_id(node)?;
                // She looks before she says so.
                let online = self.truth.nodes[&node].liveness.is_online();
                if !online && self.machine_of(node).is_some_and(|at| self.machines[at].up) {
                    bail!("it is not off");
                }
                let boot = self.truth.nodes[&node].boot.context("it never registered")?;
                let (until, by) = (wall(self.now), "kim@desk".to_owned());
                let by = OffBy::Person { by };
                self.ask(Command::ConfirmNodeOff { node, boot, until, by });
            }
            ["remove", grain] => {
                let (grain, keep_until) = (self.grain(grain)?, wall(self.now + 3_600_000));
                self.ask(Command::TrashGrain { grain, if_index: None, keep_until });
            }
            ["purge", name] => {
                let grain = self.trashed(name)?;
                self.ask(Command::PurgeGrain { grain, if_index: None });
            }
            ["undelete", name] => {
                let grain = self.trashed(name)?;
                self.ask(Command::UndeleteGrain { grain });
            }
            _ => return self.obey_change(parts),
        }
        Ok(())
    }

    fn obey_change(&mut self, parts: &[&str]) -> Result<()> {
        match parts {
            ["cordon", node] => self.cordon(node, true)?,
            ["uncordon", node] => self.cordon(node, false)?,
            ["undrain", node] => {
                let node = self.node_id(node)?;
                self.ask(Command::UndrainNode { node });
            }
            ["policy", grain, policy] => {
                let grain = self.truth.grain_named(&name(grain)?).context("no such grain")?.clone();
                let spec = GrainSpec { protect: policy.parse()?, ..grain.spec };
                let (labels, annotations) = (grain.labels, grain.annotations);
                self.ask(Command::UpdateGrain {
                    grain: grain.id,
                    if_index: None,
                    labels,
                    annotations,
                    spec,
                });
            }
            ["copies", grain, nodes] => {
                let (id, nodes) = (self.grain(grain)?, nodes.split(','));
                let standbys: Result<_> = nodes.map(|node| self.node_id(node)).collect();
                let epoch = self.truth.grains[&id].epoch;
                self.ask(Command::SetStandbys { grain: id, epoch, standbys: standbys? });
            }
            ["cancel", target] => {
                let of = |operation: &&scrap_schema::operation::Operation| {
                    operation.target.as_str() == *target && !operation.state.is_final()
                };
                let operation = self.truth.operations.values().find(of);
                if let Some(operation) = operation.map(|operation| operation.id) {
                    self.ask(Command::CancelOperation { operation });
                }
            }
            _ => return self.obey_work(parts),
        }
        Ok(())
    }

    fn obey_work(&mut self, parts: &[&str]) -> Result<()> {
        let mut text = None;
        let work = match parts {
            ["migrate", grain] => Work::Migrate { grain: self.grain(grain)?, to: None },
            ["migrate", grain, "to", node] => {
                Work::Migrate { grain: self.grain(grain)?, to: Some(self.node_id(node)?) }
            }
            ["drain", node] => Work::Drain { node: self.node_id(node)? },
            ["stop", grain] => Work::Stop { grain: self.grain(grain)? },
            ["run", grain] => Work::Start { grain: self.grain(grain)? },
            ["restart", grain] => Work::Restart { grain: self.grain(grain)? },
            ["failover", grain, rest @ ..] => {
                let (mut accept_loss, mut owner_is_off, mut to) = (None, false, None);
                for word in rest {
                    match word.split_once('=') {
                        Some(("accept-loss", span)) => accept_loss = Some(span.parse()?),
                        Some(("to", node)) => to = Some(self.node_id(node)?),
                        _ if *word == "owner-is-off" => owner_is_off = true,
                        _ => bail!("`{word}` is nothing to say of a failover"),
                    }
                }
                Work::Failover { grain: self.grain(grain)?, to, accept_loss, owner_is_off }
            }
            ["snapshot", grain, snapshot] => {
                Work::Snapshot { grain: self.grain(grain)?, name: snapshot.parse()? }
            }
            ["restore", grain, snapshot] => {
                let id = self.grain(grain)?;
                let purpose = Purpose::User(snapshot.parse()?);
                let snapshots = &self.truth.grains[&id].snapshots;
                let known = snapshots.iter().find(|known| known.name.purpose == purpose);
                let snapshot = known.context("no such snapshot")?.guid;
                Work::Restore { grain: id, snapshot }
            }
            ["clone", from, to] => {
                let from = self.grain(from)?;
                let grain = GrainId(self.next_id());
                let spec = GrainSpec { running: true, ..self.truth.grains[&from].spec.clone() };
                let (labels, annotations) = (Labels::new(), Labels::new());
                text = Some(GrainText { name: to.parse()?, labels, annotations, spec });
                Work::Clone { from, snapshot: None, grain }
            }
            _ => return self.obey_aside(parts),
        };
        let operation = OperationId(self.next_id());
        self.ask(Command::StartOperation { operation, work, text });
        Ok(())
    }

    /// What is wanted of what was set aside.
    fn obey_aside(&mut self, parts: &[&str]) -> Result<()> {
        let mut text = None;
        let work = match parts {
            ["promote", orphan] => {
                let key = self.orphan(orphan)?;
                Work::Promote { grain: key.grain, epoch: key.epoch, node: key.node }
            }
            ["discard", orphan] => {
                let key = self.orphan(orphan)?;
                Work::Discard { of: key.grain, epoch: key.epoch, node: key.node, by: None }
            }
            ["fork", orphan, to] => {
                let key = self.orphan(orphan)?;
                let grain = GrainId(self.next_id());
                let spec =
                    GrainSpec { running: true, ..self.truth.grains[&key.grain].spec.clone() };
                let (labels, annotations) = (Labels::new(), Labels::new());
                text = Some(GrainText { name: to.parse()?, labels, annotations, spec });
                Work::Fork { grain, of: key.grain, epoch: key.epoch, node: key.node }
            }
            ["aside", grain, what] => {
                let of = self.grain(grain)?;
                let mut orphans = self.truth.orphans.values().map(|orphan| orphan.key);
                let key = orphans.find(|key| key.grain == of).context("nothing is set aside")?;
                let node = self.truth.node_name(key.node);
                let orphan = format!("{grain}.{}@{node}", key.epoch);
                return match *what {
                    "fork" => self.obey_aside(&["fork", &orphan, &format!("{grain}-2")]),
                    word => self.obey_aside(&[word, &orphan]),
                };
            }
            _ => bail!("not understood"),
        };
        let operation = OperationId(self.next_id());
        self.ask(Command::StartOperation { operation, work, text });
        Ok(())
    }

    fn cordon(&mut self, node: &str, cordoned: bool) -> Result<()> {
        let node = self.node_id(node)?;
        self.ask(Command::SetCordon { node, cordoned });
        Ok(())
    }

    fn node_id(&self, text: &str) -> Result<NodeId> {
        self.node(&name(text)?)
    }

    pub(super) fn grain(&self, text: &str) -> Result<GrainId> {
        Ok(self.truth.grain_named(&name(text)?).with_context(|| format!("no grain `{text}`"))?.id)
    }

    /// `GRAIN.EPOCH@NODE`.
    fn orphan(&self, text: &str) -> Result<OrphanKey> {
        let (rest, node) = text.split_once('@').context("GRAIN.EPOCH@NODE")?;
        let (grain, epoch) = rest.split_once('.').context("GRAIN.EPOCH@NODE")?;
        let (grain, epoch) = (self.grain(grain)?, Epoch(epoch.parse()?));
        Ok(OrphanKey { grain, epoch, node: self.node_id(node)? })
    }

    fn trashed(&self, text: &str) -> Result<GrainId> {
        let mut grains = self.truth.grains.values();
        let found =
            grains.find(|grain| grain.name.as_str() == text && grain.trashed_until.is_some());
        Ok(found.with_context(|| format!("no grain `{text}` in the trash"))?.id)
    }

    /// Who has data of a grain, in words: for the end of a scenario.
    #[must_use]
    pub fn whereabouts(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for grain in self.truth.grains.values() {
            let mut places = Vec::new();
            for machine in &self.machines {
                let role = machine.datasets.get(&grain.id).map(|data| match data.role {
                    DataRole::Owner => "head",
                    DataRole::Standby => "copy",
                });
                let runs = machine.instances.contains_key(&grain.id).then_some("running");
                let asides = machine.orphans.keys().filter(|(of, _)| *of == grain.id).count();
                let aside = (asides > 0).then_some("orphan");
                let what: Vec<&str> = role.into_iter().chain(runs).chain(aside).collect();
                if !what.is_empty() {
                    places.push(format!("{} {}", machine.name, what.join("+")));
                }
            }
            let epoch = grain.epoch;
            if let Some(address) = grain.attachment().and_then(|attached| attached.v4) {
                places.push(format!("address {address}"));
            }
            if places.is_empty() {
                places.push("nowhere".to_owned());
            }
            lines.push(format!("{} epoch {epoch}: {}", grain.name, places.join(", ")));
        }
        lines
    }
}

fn name(text: &str) -> Result<Name> {
    Ok(text.parse()?)
}

fn is_on(text: &str) -> Result<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => bail!("`{other}` is neither `on` nor `off`"),
    }
}

/// What a script says of a new grain: words `KEY=VALUE`.
fn setting(words: &[&str]) -> Result<GrainSetting> {
    let mut setting = GrainSetting::default();
    for word in words {
        let (key, value) = word.split_once('=').context("KEY=VALUE")?;
        match key {
            "policy" => setting.policy = value.parse()?,
            "on" => setting.home = Some(value.parse()?),
            "memory" => setting.memory = Some(value.parse()?),
            "size" => setting.size = value.parse()?,
            "write" => setting.write = value.parse()?,
            "template" => setting.template = value.parse()?,
            "network" => {
                let (name, address, address6) = (value.parse()?, None, None);
                setting.network = Some(GrainNetwork { name, address, address6 });
            }
            other => bail!("`{other}` is nothing to say of a grain"),
        }
    }
    Ok(setting)
}
