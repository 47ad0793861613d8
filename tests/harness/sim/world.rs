//! The world at the beginning of a scenario: machines, policies, grains at home with their copies.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::lease::Tenant;
use scrap_schema::command::{Command, GrainText, NewNode};
use scrap_schema::id::{BootId, ClusterId, GrainId, Name, NodeId, OperationId, TemplateId};
use scrap_schema::node::{NodeFacts, NodeRole, PoolState, RuntimeKind};
use scrap_schema::snapshot::Guid;
use scrap_schema::spec::{
    Check, Egress, GrainNetwork, GrainSpec, Health, Labels, NetworkSpec, NodeSpec, Placement,
    Policy, Resources, Stop, TcpCheck, Template,
};
use scrap_schema::time::BootTime;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use serde::Deserialize;

use super::guard::{Board, Pauses};
use super::machine::{Clock, Machine};
use super::network::addresses;
use super::power::Plug;
use super::{STEP_MS, Sim};

/// `world.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// Names of the machines; the first one forms the cluster.
    pub nodes: Vec<Name>,
    /// Machines that are there but no members until the script says `join`.
    pub later: Vec<Name>,
    /// Whether the log begins with the very first entry instead of when everything is quiet.
    pub from_the_beginning: bool,
    /// What is special about machines.
    pub node: BTreeMap<Name, NodeSetting>,
    /// The lease's numbers.
    pub timing: Timing,
    /// Policies beside the standard ones.
    pub policy: BTreeMap<Name, Policy>,
    /// Networks.
    pub network: BTreeMap<Name, NetworkSpec>,
    /// Templates, and the machine that each is imported on.
    pub template: BTreeMap<Name, Name>,
    /// Grains.
    pub grain: BTreeMap<Name, GrainSetting>,
    /// Bytes per second between two machines.
    pub rate: Option<Bytes>,
    /// A stream takes at least so long, however little is in it.
    pub stream: Option<Span>,
    /// Feeds chance.
    pub seed: Option<u64>,
    /// How long an entry takes until every node has applied it.
    pub apply: Option<Span>,
}

/// What is special about a machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSetting {
    /// What it is for.
    pub role: NodeRole,
    /// Labels.
    pub labels: Labels,
    /// Main memory.
    pub memory: Option<Bytes>,
    /// Space for datasets.
    pub disk: Option<Bytes>,
    /// Ways of running grains beside programs of the machine.
    pub runtimes: BTreeSet<RuntimeKind>,
    /// What can cut its power from outside.
    pub plug: Option<Plug>,
    /// Whether nothing resets it when its guard stands still.
    pub no_watchdog: bool,
}

/// A grain of the world.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrainSetting {
    /// Where it is at the beginning.
    pub home: Option<Name>,
    /// Where its copies are at the beginning; the policy decides if nothing is said.
    pub replicas: Option<Vec<Name>>,
    /// Its policy.
    pub policy: Name,
    /// Labels.
    pub labels: Labels,
    /// Grains that it keeps apart from.
    pub apart_from: Vec<Labels>,
    /// Main memory.
    pub memory: Option<Bytes>,
    /// Size of its data at the beginning.
    pub size: Bytes,
    /// Size of one write; there are ten in a second.
    pub write: Bytes,
    /// Whether it is stopped.
    pub stopped: bool,
    /// What it begins from.
    pub template: Template,
    /// Its network.
    pub network: Option<GrainNetwork>,
}

impl Default for GrainSetting {
    fn default() -> Self {
        Self {
            home: None,
            replicas: None,
            policy: "prompt".parse().unwrap(),
            labels: Labels::new(),
            apart_from: Vec::new(),
            memory: None,
            size: Bytes(10 << 20),
            write: Bytes(4 << 10),
            stopped: false,
            template: Template::Process,
            network: None,
        }
    }
}

impl GrainSetting {
    /// As a person would write it.
    #[must_use]
    pub fn text(&self, name: &Name) -> GrainText {
        let resources =
            Resources { memory: self.memory.unwrap_or(Bytes(64 << 20)), ..Resources::default() };
        let spec = GrainSpec {
            template: self.template.clone(),
            command: vec!["serve".to_owned()],
            env: BTreeMap::new(),
            resources,
            network: self.network.clone(),
            ingress: Vec::new(),
            egress: Egress::default_rules(),
            // The simulated machines check it, and say so at once.
            health: Some(Health {
                every: Span::from_secs(1),
                grace: Span::ZERO,
                ..Health::of(Check { tcp: Some(TcpCheck { port: 80 }), ..Check::default() })
            }),
            protect: self.policy.clone(),
            place: Placement {
                prefer: self.home.clone(),
                apart_from: self.apart_from.clone(),
                ..Placement::default()
            },
            stop: Stop::default(),
            running: !self.stopped,
        };
        GrainText {
            name: name.clone(),
            labels: self.labels.clone(),
            annotations: Labels::new(),
            spec,
        }
    }
}

/// A machine that nobody has switched on yet.
#[must_use]
pub fn machine(name: &Name, setting: &NodeSetting, apply: Span) -> Machine {
    let facts = NodeFacts {
        cpu: MilliCpu(4000),
        memory: setting.memory.unwrap_or(Bytes(4 << 30)),
        disk: setting.disk.unwrap_or(Bytes(100 << 30)),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        runtimes: setting.runtimes.iter().copied().chain([RuntimeKind::Process]).collect(),
        network: setting.runtimes.contains(&RuntimeKind::Lxc).then(|| "lan0".to_owned()),
        version: "0.1.0".to_owned(),
    };
    Machine {
        id: NodeId(0),
        name: name.clone(),
        role: setting.role,
        labels: setting.labels.clone(),
        facts,
        up: true,
        daemon: true,
        boots: 1,
        boot: BootId(1),
        clock: Clock { set: 0, shown: 60_000, drift_ppm: 0 },
        cluster: Cluster::default(),
        logged: 0,
        apply_delay: apply.ms(),
        hint: None,
        tenant: Tenant::default(),
        extended: None::<BootTime>,
        next_renewal: 0,
        full: true,
        register: false,
        datasets: BTreeMap::new(),
        orphans: BTreeMap::new(),
        instances: BTreeMap::new(),
        runs: BTreeMap::new(),
        dirty: BTreeMap::new(),
        looks: BTreeMap::new(),
        discarded: BTreeSet::new(),
        copies: BTreeMap::new(),
        flights: Vec::new(),
        failed: BTreeMap::new(),
        leading: None,
        plug: setting.plug,
        changed: true,
        obeyed: 0,
        sick: BTreeSet::new(),
        ill: BTreeMap::new(),
        foreign_disk: 0,
        templates: BTreeMap::new(),
        pool: PoolState::Online,
        pauses: Pauses::default(),
        watchdog: !setting.no_watchdog,
        board: Board::default(),
        told: None,
        next_registration: 0,
        registered: None,
        life: BootId(1),
        wall_ahead: 0,
    }
}

impl World {
    /// Builds the cluster and lets it come to rest. The log begins then.
    ///
    /// # Errors
    /// The world does not come to rest as it is described.
    pub fn build(&self, seed: u64) -> Result<Sim> {
        let apply = self.apply.unwrap_or(Span::from_ms(50));
        let names = self.nodes.iter().chain(&self.later);
        let machines = names.enumerate().map(|(at, name)| {
            let mut machine =
                machine(name, &self.node.get(name).cloned().unwrap_or_default(), apply);
            // Machines were switched on at different times.
            machine.clock.shown += 1_000_000 * u64::try_from(at).unwrap();
            machine
        });
        let mut sim = Sim::new(machines.collect(), self.seed.unwrap_or(seed));
        sim.verbose = self.from_the_beginning;
        sim.rate = self.rate.map_or(sim.rate, |rate| rate.0);
        sim.stream_ms = self.stream.map_or(sim.stream_ms, Span::ms);
        sim.machines[0].id = NodeId(1);
        sim.crown(0);
        let node = sim.new_node(0);
        let cluster = ClusterId(1);
        sim.ask(Command::FormCluster { cluster, name: "home".parse()?, timing: self.timing, node })
            .context("the cluster is not formed")?;
        for at in 1..self.nodes.len() {
            sim.join(at)?;
        }
        for (name, policy) in &self.policy {
            sim.ask(Command::PutPolicy {
                name: name.clone(),
                if_index: None,
                policy: policy.clone(),
            });
        }
        for name in self.node.iter().filter(|(_, it)| it.plug.is_some()).map(|(name, _)| name) {
            let node = sim.node(name)?;
            let labels = sim.truth.nodes[&node].labels.clone();
            let spec = NodeSpec { fence: Plug::spec(), ..NodeSpec::default() };
            sim.ask(Command::UpdateNode { node, if_index: None, labels, spec });
        }
        if self.from_the_beginning {
            return Ok(sim);
        }
        for (name, network) in &self.network {
            let (name, network) = (name.clone(), network.clone());
            sim.ask(Command::PutNetwork { name, if_index: None, network });
        }
        for (name, machine) in &self.template {
            sim.import(name, machine)?;
        }
        sim.run_until(3_000);
        for (name, setting) in &self.grain {
            sim.create(name, setting);
        }
        self.come_to_rest(&mut sim)?;
        sim.begin_log();
        Ok(sim)
    }

    fn come_to_rest(&self, sim: &mut Sim) -> Result<()> {
        for _ in 0..120 * 1000 / STEP_MS {
            sim.step();
            if let Some(found) = sim.judge.found.first() {
                bail!("while the world was built: {found}");
            }
            for (name, setting) in &self.grain {
                self.force_copies(sim, name, setting)?;
            }
            if sim.quiet_for() >= Span::from_secs(20) {
                break;
            }
        }
        for (name, setting) in &self.grain {
            let grain = sim.truth.grain_named(name).context("a grain is missing")?;
            let home = grain.owner.map(|owner| sim.truth.node_name(owner));
            let is_there =
                setting.home.as_ref().is_none_or(|home_| Some(home_.to_string()) == home);
            if !is_there || grain.operation.is_some() {
                bail!("grain {name} is not at home: {grain:?}");
            }
            let text = GrainSetting { home: None, ..setting.clone() }.text(name);
            let (id, labels, annotations) = (grain.id, text.labels, text.annotations);
            sim.ask(Command::UpdateGrain {
                grain: id,
                if_index: None,
                labels,
                annotations,
                spec: text.spec,
            });
        }
        for _ in 0..20 {
            sim.step();
        }
        Ok(())
    }

    fn force_copies(&self, sim: &mut Sim, name: &Name, setting: &GrainSetting) -> Result<()> {
        let Some(replicas) = &setting.replicas else { return Ok(()) };
        let mut standbys = BTreeSet::new();
        for replica in replicas {
            standbys.insert(sim.node(replica)?);
        }
        let Some(grain) = sim.truth.grain_named(name) else { return Ok(()) };
        if grain.owner.is_some() && grain.standbys != standbys {
            let (grain, epoch) = (grain.id, grain.epoch);
            sim.ask(Command::SetStandbys { grain, epoch, standbys });
        }
        Ok(())
    }
}

impl Sim {
    fn new_node(&self, at: usize) -> NewNode {
        let machine = &self.machines[at];
        NewNode {
            name: machine.name.clone(),
            role: machine.role,
            labels: machine.labels.clone(),
            addresses: addresses(machine.name.as_str()),
            facts: machine.facts.clone(),
        }
    }

    /// Makes a machine a member.
    ///
    /// # Errors
    /// The cluster refuses it.
    pub fn join(&mut self, at: usize) -> Result<()> {
        let node = self.new_node(at);
        match self.ask(Command::AddNode { node }) {
            Some(Outcome::Node { node }) => {
                self.machines[at].id = node;
                Ok(())
            }
            other => bail!("node {} did not join: {other:?}", self.machines[at].name),
        }
    }

    /// Imports a template of 100 MiB on a machine.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn import(&mut self, name: &Name, machine: &Name) -> Result<()> {
        let node = self.node(machine)?;
        let at = self.machine_of(node).context("no such machine")?;
        let (template, guid) =
            (TemplateId(self.next_id()), Guid(1_000_000 + u64::from(self.truth.index as u32)));
        self.machines[at].templates.insert(template, guid);
        self.ask(Command::AddTemplate {
            template,
            name: name.clone(),
            guid,
            size: Bytes(100 << 20),
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            description: None,
            node,
        });
        Ok(())
    }

    /// Makes a grain.
    pub fn create(&mut self, name: &Name, setting: &GrainSetting) {
        let (grain, operation) = (GrainId(self.next_id()), OperationId(self.next_id()));
        self.sizes.insert(grain, (setting.size.0, setting.write.0));
        self.ask(Command::CreateGrain { grain, operation, text: setting.text(name) });
    }

    /// A member by name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &Name) -> Result<NodeId> {
        Ok(self.truth.node_named(name).with_context(|| format!("no node {name}"))?.id)
    }
}
