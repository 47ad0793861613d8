//! Decides for the cluster: what the leader should commit next, and for everything that it does not, why not yet.
//!
//! Planning again after the commands were applied must be empty, unless the world has moved on. Sub-deciders look at one thing
//! each, in this order: silence of nodes, operations, then every grain by itself. At most one command per grain and round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::id::{GrainId, NodeId, OperationId};
use scrap_schema::time::Now;
use scrap_schema::unit::{Bytes, Span};

use crate::apply::may_run;
use crate::cluster::{Cluster, Declined, Grain, Stage};
use crate::observed::Observed;
use crate::place::{Loads, Purpose, Wanted};
use crate::power::{self, Cut};
use crate::{arm, asides, drain, fail_over, lease, migrate, needs, operate, replicate};

/// What the leader should do now, and what it would do but does not yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be proposed, in this order.
    pub commands: Vec<Command>,
    /// Everything that waits, with its reason.
    pub waiting: Vec<Waiting>,
    /// Nodes whose power should be cut from outside.
    pub cuts: Vec<Cut>,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What.
    pub subject: Subject,
    /// Why.
    pub reason: WaitReason,
}

/// What something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Everything.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A grain.
    Grain(GrainId),
    /// An operation.
    Operation(OperationId),
}

/// Why something waits. `Display` says it as the end of a sentence; names are resolved already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// More than half of the data nodes are silent.
    Brake { silent: (usize, usize) },
    /// A silent node's countdown runs.
    Countdown { left: u32, tick: Span },
    /// A program cuts a silent node's power.
    CutsPower { program: String },
    /// A program could not cut a silent node's power.
    CannotCutPower { program: String, why: String },
    /// No node can take it.
    NoPlace { refusals: String },
    /// No node can take one of the grains that must move.
    NoPlaceFor { grain: String, refusals: String },
    /// Its owner is silent, and its lease may still hold.
    OwnerSilent { owner: String },
    /// It runs without a lease: nobody can know whether it still runs on the silent owner.
    NeedsWord { owner: String },
    /// The policy leaves it to a person.
    ManualPolicy { owner: String },
    /// The policy grants the owner more time to come back.
    GraceOfPolicy { left: Span },
    /// Everything was off, and its owner is not back yet.
    OwnerAwaited { owner: String, left: Span },
    /// People work on network or machines, and want nothing to fail over by itself.
    Disarmed { owner: String },
    /// As many others as is good are being started where it would be.
    TakesTurn { node: String },
    /// No reachable node has a copy of it.
    NoCopy { owner: String },
    /// Not every reachable copy has reported to this leader yet.
    CopiesUnheard,
    /// Its owner has not what it should go on from, and makes sure that nothing of it runs there.
    Declined { owner: String },
    /// The node is away where the data lie that were set aside.
    OrphanAway { node: String },
    /// That node removes them.
    Removing { node: String, trouble: Option<String> },
    /// A node that gave the grain away, or has to set something aside, has newer data and has not made them a copy yet.
    CopyUnsettled { node: String },
    /// The freshest copy is older than the policy allows.
    LossTooLarge { loss: Span, limit: Span, node: String },
    /// Copying while it runs.
    Warming { to: String, pending: Bytes, predicted: Span },
    /// Its owner stops it.
    Stopping { owner: String },
    /// Its last state is on the way.
    Final { to: String, pending: Bytes },
    /// Its owner starts it; it does not answer yet.
    Starting { owner: String, trouble: Option<String> },
    /// Its owner works on its data.
    Working { owner: String },
    /// Another operation works on a grain that must move.
    GrainBusy { grain: String },
    /// It did not answer where it was moved to, and was brought back.
    CameBack { grain: String },
    /// Grains are still moving.
    Moving { left: usize },
    /// Its owner gets the template that it begins from.
    Fetching { owner: String, template: String, from: String },
    /// Nobody who is reachable has the template that it begins from.
    NoTemplate { owner: String, template: String },
    /// A copy waits until its node has the template that the grain began from.
    CopyFetches { node: String, template: String },
    /// The storage of a copy's node takes nothing.
    CopyStopped { node: String, why: String },
    /// Its checks fail; its owner starts it again and again.
    Unwell { owner: String, why: String },
    /// There are fewer copies than the policy wants.
    TooFewCopies { have: usize, want: usize, refusals: String },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brake { silent: (silent, all) } => write!(
                f,
                "{silent} of {all} data nodes are silent at once: until fewer are, nothing is started elsewhere without your word"
            ),
            Self::Countdown { left, tick } => {
                let left = Span::from_ms(tick.ms().saturating_mul(u64::from(*left)));
                write!(f, "silent; in {} its lease has surely ended", left.rounded_up())
            }
            Self::NoPlace { refusals } => no_place(f, "it", refusals),
            Self::NoPlaceFor { grain, refusals } => {
                no_place(f, &format!("grain {grain}"), refusals)
            }
            Self::OwnerSilent { owner } => {
                write!(f, "node {owner} is silent; it may still run there")
            }
            Self::NeedsWord { owner } => write!(
                f,
                "it runs without a lease, so only you can know that it does not run on {owner} any more"
            ),
            Self::ManualPolicy { owner } => {
                write!(f, "node {owner} is gone, and its policy leaves the failover to you")
            }
            Self::GraceOfPolicy { left } => {
                write!(f, "its policy gives the owner {} more to come back", left.rounded_up())
            }
            Self::NoCopy { owner } => {
                write!(f, "no reachable node has a copy of it; its data are on {owner}")
            }
            Self::LossTooLarge { loss, limit, node } => write!(
                f,
                "the freshest copy, on {node}, would lose {} of writes, the limit is {limit}",
                loss.rounded_up()
            ),
            Self::Warming { to, pending, predicted } => write!(
                f,
                "copying to {to} while it runs: {} left, the switch would take {}",
                pending.rounded(),
                predicted.rounded()
            ),
            Self::Stopping { owner } => write!(f, "{owner} stops it"),
            Self::Final { to, pending } => {
                write!(f, "its last {} are on the way to {to}", pending.rounded())
            }
            Self::Starting { owner, trouble } => starts(f, owner, trouble.as_deref()),
            Self::TooFewCopies { .. }
            | Self::OwnerAwaited { .. }
            | Self::TakesTurn { .. }
            | Self::Disarmed { .. }
            | Self::CutsPower { .. }
            | Self::CannotCutPower { .. }
            | Self::Working { .. }
            | Self::GrainBusy { .. }
            | Self::Fetching { .. }
            | Self::NoTemplate { .. }
            | Self::CopyFetches { .. }
            | Self::CopyStopped { .. }
            | Self::CopiesUnheard
            | Self::CopyUnsettled { .. }
            | Self::Declined { .. }
            | Self::OrphanAway { .. }
            | Self::Removing { .. }
            | Self::CameBack { .. }
            | Self::Moving { .. }
            | Self::Unwell { .. } => self.of_what_goes_on(f),
        }
    }
}

fn starts(f: &mut fmt::Formatter<'_>, owner: &str, trouble: Option<&str>) -> fmt::Result {
    match trouble {
        Some(trouble) => write!(f, "{owner} tries to start it: {trouble}"),
        None => write!(f, "{owner} starts it; it does not answer yet"),
    }
}

fn no_place(f: &mut fmt::Formatter<'_>, what: &str, refusals: &str) -> fmt::Result {
    match refusals {
        "" => write!(f, "there is no node to take {what}"),
        refusals => write!(f, "no node can take {what}: {refusals}"),
    }
}

impl WaitReason {
    /// What has to do with copies, templates, health and power: the other half of `Display`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends only these here")]
    fn of_what_goes_on(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerAwaited { owner, left } => write!(
                f,
                "everything was off, and node {owner}, which has the newest data, is given {} more to come back",
                left.rounded_up()
            ),
            Self::CutsPower { program } => write!(f, "its power is being cut by {program}"),
            Self::CannotCutPower { program, why } => write!(
                f,
                "{program} could not cut its power, and the countdown goes on without it: {why}"
            ),
            Self::Disarmed { owner } => {
                write!(f, "node {owner} is gone, and failing over is switched off")
            }
            Self::TakesTurn { node } => {
                write!(f, "it takes its turn: others are being started on {node}")
            }
            Self::Fetching { owner, template, from } => {
                write!(f, "{owner} gets template {template} from {from}")
            }
            Self::NoTemplate { owner, template } => {
                write!(f, "{owner} needs template {template}, and no node that is online has it")
            }
            Self::CopyFetches { node, template } => {
                write!(f, "its copy on {node} waits until template {template} is there")
            }
            Self::CopyStopped { node, why } => {
                write!(f, "its copy on {node} does not move forward: {why}")
            }
            Self::CopiesUnheard => f.write_str("not every copy has reported to this leader yet"),
            Self::Declined { owner } => write!(
                f,
                "{owner} has not the state that it should go on from; once it has made sure that nothing of it runs there, another copy is chosen"
            ),
            Self::OrphanAway { node } => {
                write!(f, "node {node} is away, and what was set aside lies there")
            }
            Self::Removing { node, trouble: Some(trouble) } => {
                write!(f, "{node} tries to remove it: {trouble}")
            }
            Self::Removing { node, trouble: None } => write!(f, "{node} removes it"),
            Self::CopyUnsettled { node } => {
                write!(f, "{node} has newer data and is still making them a copy")
            }
            Self::Working { owner } => write!(f, "{owner} works on its data"),
            Self::GrainBusy { grain } => write!(f, "another operation works on grain {grain}"),
            Self::TooFewCopies { have, want, refusals } if refusals.is_empty() => {
                write!(f, "{have} of {want} copies: there is no other node")
            }
            Self::TooFewCopies { have, want, refusals } => {
                write!(f, "{have} of {want} copies: {refusals}")
            }
            Self::Unwell { owner, why } => {
                write!(f, "it is not well and {owner} starts it again: {why}")
            }
            Self::CameBack { grain } => {
                write!(f, "grain {grain} did not answer where it was moved to and came back")
            }
            Self::Moving { left: 1 } => f.write_str("1 grain is left to move"),
            Self::Moving { left } => write!(f, "{left} grains are left to move"),
            _ => f.write_str(self.kind()),
        }
    }

    /// One word for it, the same as long as only its numbers change.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Brake { .. } => "brake",
            Self::Countdown { .. } => "countdown",
            Self::CutsPower { .. } => "cuts-power",
            Self::CannotCutPower { .. } => "cannot-cut-power",
            Self::NoPlace { .. } | Self::NoPlaceFor { .. } => "no-place",
            Self::OwnerSilent { .. } => "owner-silent",
            Self::NeedsWord { .. } => "needs-word",
            Self::ManualPolicy { .. } => "manual-policy",
            Self::GraceOfPolicy { .. } => "grace-of-policy",
            Self::OwnerAwaited { .. } => "owner-awaited",
            Self::TakesTurn { .. } => "takes-turn",
            Self::Disarmed { .. } => "disarmed",
            Self::NoCopy { .. } => "no-copy",
            Self::CopiesUnheard => "copies-unheard",
            Self::CopyUnsettled { .. } => "copy-unsettled",
            Self::Declined { .. } => "declined",
            Self::OrphanAway { .. } => "orphan-away",
            Self::Removing { .. } => "removing",
            Self::LossTooLarge { .. } => "loss-too-large",
            Self::Warming { .. } => "warming",
            Self::Stopping { .. } => "stopping",
            Self::Final { .. } => "final",
            Self::Starting { .. } => "starting",
            Self::Working { .. } => "working",
            Self::GrainBusy { .. } => "grain-busy",
            Self::CameBack { .. } => "came-back",
            Self::Moving { .. } => "moving",
            Self::Fetching { .. } => "fetching",
            Self::NoTemplate { .. } => "no-template",
            Self::CopyFetches { .. } => "copy-fetches",
            Self::CopyStopped { .. } => "copy-stopped",
            Self::Unwell { .. } => "unwell",
            Self::TooFewCopies { .. } => "too-few-copies",
        }
    }
}

impl Waiting {
    /// What it is about, in words: `grain web`, `node ada`.
    #[must_use]
    pub fn subject_in_words(&self, cluster: &Cluster) -> String {
        match self.subject {
            Subject::Cluster => "the cluster".to_owned(),
            Subject::Node(node) => format!("node {}", cluster.node_name(node)),
            Subject::Grain(grain) => format!("grain {}", cluster.grain_name(grain)),
            Subject::Operation(operation) => format!("operation {operation}"),
        }
    }

    /// What a person can do about it, if anything.
    #[must_use]
    pub fn hint(&self, cluster: &Cluster) -> Option<String> {
        let name = match self.subject {
            Subject::Grain(grain) => cluster.grain_name(grain),
            Subject::Node(node) => cluster.node_name(node),
            Subject::Operation(operation) => operation.to_string(),
            Subject::Cluster => String::new(),
        };
        match &self.reason {
            WaitReason::NoPlace { .. } | WaitReason::NoPlaceFor { .. } => Some(
                "free or undrain a node, or lower `spec.resources`; `scrapctl place` explains each node"
                    .to_owned(),
            ),
            WaitReason::NeedsWord { owner } => Some(format!(
                "if you have made sure that node {owner} is off: scrapctl node confirm-off {owner}; for this grain alone: scrapctl failover {name} --owner-is-off"
            )),
            WaitReason::ManualPolicy { .. }
            | WaitReason::OwnerAwaited { .. }
            | WaitReason::Disarmed { .. }
            | WaitReason::Brake { .. } => {
                Some(format!("scrapctl failover {name} --dry-run").replace("  ", " <grain> "))
            }
            WaitReason::LossTooLarge { loss, .. } => {
                let seconds = loss.ms().div_ceil(1000);
                Some(format!("scrapctl failover {name} --accept-loss {seconds}s"))
            }
            WaitReason::NoTemplate { template, .. } => Some(format!(
                "bring back a node that has it: scrapctl template info {template}"
            )),
            WaitReason::CopyStopped { node, .. } => Some(format!(
                "make room or repair it: scrapctl node info {node}"
            )),
            WaitReason::Unwell { .. } => Some(format!("`scrapctl logs {name}` may say why")),
            WaitReason::CannotCutPower { .. } => {
                Some(format!("look at the device: scrapctl node fence-test {name}"))
            }
            WaitReason::NoCopy { owner: node } | WaitReason::OrphanAway { node } => {
                Some(format!("bring node {node} back"))
            }
            WaitReason::CameBack { grain } => Some(format!(
                "`scrapctl logs {grain}` may say why; a stopped grain moves without starting: scrapctl stop {grain}"
            )),
            WaitReason::Countdown { .. }
            | WaitReason::CutsPower { .. }
            | WaitReason::OwnerSilent { .. }
            | WaitReason::GraceOfPolicy { .. }
            | WaitReason::TakesTurn { .. }
            | WaitReason::CopiesUnheard
            | WaitReason::CopyUnsettled { .. }
            | WaitReason::Declined { .. }
            | WaitReason::Removing { .. }
            | WaitReason::Warming { .. }
            | WaitReason::Stopping { .. }
            | WaitReason::Final { .. }
            | WaitReason::Starting { .. }
            | WaitReason::Working { .. }
            | WaitReason::GrainBusy { .. }
            | WaitReason::Fetching { .. }
            | WaitReason::CopyFetches { .. }
            | WaitReason::Moving { .. }
            | WaitReason::TooFewCopies { .. } => None,
        }
    }
}

impl Plan {
    pub(crate) fn wait(&mut self, subject: Subject, reason: WaitReason) {
        self.waiting.push(Waiting { subject, reason });
    }
}

/// Everything that a sub-decider of one grain needs, read only.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Now,
}

impl View<'_> {
    pub(crate) fn is_online(self, node: NodeId) -> bool {
        self.cluster.nodes.get(&node).is_some_and(|node| node.liveness.is_online())
    }
}

/// Decides for the cluster.
#[must_use]
pub fn lead(cluster: &Cluster, observed: &Observed, now: Now) -> Plan {
    let mut plan = Plan::default();
    if cluster.identity.is_none() {
        return plan;
    }
    let view = View { cluster, observed, now };
    lease::watch(cluster, observed, now, &mut plan);
    power::decide(view, &mut plan);
    arm::decide(view, &mut plan);
    operate::finish(view, &mut plan);
    asides::discards(view, &mut plan);
    let mut loads = Loads::of(cluster, observed, None);
    drain::finish(view, &mut plan);
    let mut moving = drain::moving(cluster);
    for grain in cluster.grains.values() {
        lead_grain(view, grain, &mut loads, &mut moving, &mut plan);
    }
    needs::state(view, &mut plan);
    plan
}

fn lead_grain(
    view: View<'_>,
    grain: &Grain,
    loads: &mut Loads,
    moving: &mut BTreeMap<OperationId, BTreeSet<GrainId>>,
    plan: &mut Plan,
) {
    if grain.trashed_until.is_some_and(|until| view.now.wall >= until) {
        return empty_trash(view, grain, plan);
    }
    // In every stage: when a move is over its owner prunes at once.
    replicate::remember(view, grain, plan);
    match &grain.stage {
        Stage::Unplaced => place_new(view, grain, loads, plan),
        Stage::Warming { .. }
        | Stage::Quiescing { .. }
        | Stage::Released { .. }
        | Stage::Landing { .. } => migrate::step(view, grain, plan),
        Stage::Settled
        | Stage::Restarting { .. }
        | Stage::Restoring { .. }
        | Stage::Cloning { .. } => {
            let Some(owner) = grain.owner else { return };
            if !view.is_online(owner) || grain.declined == Declined::Sure {
                if grain.declined == Declined::Sure || !asides::begin(view, grain, plan) {
                    fail_over::decide(view, grain, owner, loads, plan);
                }
            } else if grain.declined == Declined::Said {
                let owner = view.cluster.node_name(owner);
                plan.wait(Subject::Grain(grain.id), WaitReason::Declined { owner });
            } else if arm::unarm(view, grain, plan) {
                // Its owner hears of that first.
            } else if grain.stage == Stage::Settled {
                settled(view, grain, owner, loads, moving, plan);
            }
        }
    }
}

/// A grain that is where it should be, or has to go: a move that somebody asked for, a drain, or its copies.
fn settled(
    view: View<'_>,
    grain: &Grain,
    owner: NodeId,
    loads: &mut Loads,
    moving: &mut BTreeMap<OperationId, BTreeSet<GrainId>>,
    plan: &mut Plan,
) {
    if migrate::begin(view, grain, loads, plan)
        || asides::begin(view, grain, plan)
        || drain::begin(view, grain, owner, loads, moving, plan)
    {
        return;
    }
    if let Some(ailment) = &grain.ailment {
        let (owner, why) = (view.cluster.node_name(owner), ailment.why.clone());
        plan.wait(Subject::Grain(grain.id), WaitReason::Unwell { owner, why });
    }
    replicate::protect(view, grain, loads, plan);
    replicate::held_up(view, grain, plan);
}

/// The promised time in the trash is over.
fn empty_trash(view: View<'_>, grain: &Grain, plan: &mut Plan) {
    if grain.operation.is_none() && !may_run(view.cluster, grain) {
        plan.commands.push(Command::PurgeGrain { grain: grain.id, if_index: None });
    }
}

fn place_new(view: View<'_>, grain: &Grain, loads: &mut Loads, plan: &mut Plan) {
    if grain.trashed_until.is_some() {
        return;
    }
    let wanted = Wanted::of(grain, Purpose::Run);
    let ranking = loads.rank(view.cluster, wanted);
    match ranking.best() {
        Some(to) => {
            loads.will_run(to, grain);
            plan.commands.push(Command::AssignGrain {
                grain: grain.id,
                epoch: grain.epoch,
                to,
                base: None,
                cause: AssignCause::Place,
            });
        }
        None => {
            let refusals = ranking.refusals(view.cluster);
            plan.wait(Subject::Grain(grain.id), WaitReason::NoPlace { refusals });
        }
    }
}
