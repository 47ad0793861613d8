//! Arguments of the commands that work on nodes, policies, operations, events, contexts and the API itself.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use scrap_schema::event::Topic;
use scrap_schema::id::{Name, OperationId};
use scrap_schema::unit::Span;

use super::{ListArgs, WaitArgs};
use crate::complete;

/// A node.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Name of the node
    #[arg(add = ArgValueCandidates::new(complete::nodes))]
    pub(crate) node: Name,
}

/// `node …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes
    Ls(ListArgs),
    /// Show everything about a node
    #[command(visible_alias = "show")]
    Info(NodeArgs),
    /// Move every grain off a node and keep new ones away
    Drain(DrainArgs),
    /// Let a drained node take grains again
    Undrain(NodeArgs),
    /// Keep new grains and copies away; what is there stays
    Cordon(NodeArgs),
    /// Let a cordoned node take new grains again
    Uncordon(NodeArgs),
    /// Say that a silent node is off: its grains may start elsewhere at once, also those without a lease
    ConfirmOff(ConfirmOffArgs),
    /// Ask the device that can cut a node's power whether it answers; changes nothing
    FenceTest(NodeArgs),
    /// Remove an empty node from the cluster
    Rm(NodeRmArgs),
}

/// `node drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Only say what would move where
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `node confirm-off`.
#[derive(Debug, Args)]
pub(crate) struct ConfirmOffArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Do not ask; the name once more: you have made sure that exactly this node is off
    #[arg(long, value_name = "NODE")]
    pub(crate) yes_it_is_off: Option<Name>,
    /// Only say what would happen with each of its grains, and what would be lost
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `node rm`.
#[derive(Debug, Args)]
pub(crate) struct NodeRmArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Leave its orphans behind on its disks, data that nobody else has
    #[arg(long)]
    pub(crate) leave_orphans: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// What to do; without a command, look
    #[command(subcommand)]
    pub(crate) command: Option<ClusterCommand>,
}

/// `cluster …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Switch failing over and leases off, for work on network or machines; waits until it is safe to begin
    Disarm(DisarmArgs),
    /// Switch them on again; waits until every grain is under the lease
    Arm(ArmArgs),
}

/// `cluster disarm`.
#[derive(Debug, Args)]
pub(crate) struct DisarmArgs {
    /// Only for what is on this node
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub(crate) node: Option<Name>,
    /// Switch them on again after so long, such as `2h`
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) span: Option<Span>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `cluster arm`.
#[derive(Debug, Args)]
pub(crate) struct ArmArgs {
    /// Only for this node
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub(crate) node: Option<Name>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// A policy.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Name of the policy
    #[arg(add = ArgValueCandidates::new(complete::policies))]
    pub(crate) policy: Name,
}

/// `policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List policies
    Ls(ListArgs),
    /// Show a policy
    #[command(visible_alias = "show")]
    Info(PolicyArgs),
    /// Remove a policy that no grain uses
    Rm(PolicyArgs),
}

/// An operation.
#[derive(Debug, Args)]
pub(crate) struct OpArgs {
    /// Id of the operation
    #[arg(add = ArgValueCandidates::new(complete::operations))]
    pub(crate) id: OperationId,
}

/// `op …`.
#[derive(Debug, Subcommand)]
pub(crate) enum OpCommand {
    /// List operations, newest first
    Ls(OpLsArgs),
    /// Watch an operation until its end
    Attach(OpArgs),
    /// Undo an operation, as long as that is possible
    Cancel(OpCancelArgs),
}

/// `op ls`.
#[derive(Debug, Args)]
pub(crate) struct OpLsArgs {
    /// Only those in this state: running, succeeded, failed or cancelled
    #[arg(long, value_enum, value_name = "STATE", hide_possible_values = true)]
    pub(crate) state: Option<OpState>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `op cancel`.
#[derive(Debug, Args)]
pub(crate) struct OpCancelArgs {
    #[command(flatten)]
    pub(crate) op: OpArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// State of an operation, to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OpState {
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// Undone by a person.
    Cancelled,
}

/// `orphan …`.
#[derive(Debug, Subcommand)]
pub(crate) enum OrphanCommand {
    /// List what was set aside
    Ls(ListArgs),
    /// Show one
    #[command(visible_alias = "show")]
    Info(OrphanArgs),
    /// List what it has that its grain has not
    Diff(OrphanDiffArgs),
    /// Show it in a folder of its node, read only
    Mount(OrphanArgs),
    /// Show it no longer
    Unmount(OrphanArgs),
    /// Make a new grain of it, on its node; it stays
    Fork(OrphanForkArgs),
    /// Make it the head of its grain; what that has now is set aside
    Promote(OrphanPromoteArgs),
    /// Remove it for good
    Discard(OrphanDiscardArgs),
}

/// `orphan fork`.
#[derive(Debug, Args)]
pub(crate) struct OrphanForkArgs {
    #[command(flatten)]
    pub(crate) orphan: OrphanArgs,
    /// Name of the new grain
    pub(crate) new: Name,
    /// The grain whose spec it gets; the one that it is of if nobody says
    #[arg(long, value_name = "GRAIN", add = ArgValueCandidates::new(complete::grains))]
    pub(crate) like: Option<Name>,
    /// Environment to change in the new grain, such as its port; may be repeated
    #[arg(long, value_name = "K=V", value_parser = super::grain::pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Start it too
    #[arg(long)]
    pub(crate) start: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `orphan promote`.
#[derive(Debug, Args)]
pub(crate) struct OrphanPromoteArgs {
    #[command(flatten)]
    pub(crate) orphan: OrphanArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `orphan discard`.
#[derive(Debug, Args)]
pub(crate) struct OrphanDiscardArgs {
    #[command(flatten)]
    pub(crate) orphan: OrphanArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `orphan diff`.
#[derive(Debug, Args)]
pub(crate) struct OrphanDiffArgs {
    #[command(flatten)]
    pub(crate) orphan: OrphanArgs,
    /// At most so many changes
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// An orphan.
#[derive(Debug, Args)]
pub(crate) struct OrphanArgs {
    /// Id, as `orphan ls` prints it
    pub(crate) id: String,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as more happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what came after this index
    #[arg(long, value_name = "INDEX")]
    pub(crate) since: Option<u64>,
    /// Only about this: cluster, node, grain, failover, replication, orphan, operation, policy,
    /// network or template
    #[arg(long, value_parser = topic, value_name = "TOPIC")]
    pub(crate) topic: Option<Topic>,
    /// Only about this grain
    #[arg(long, value_name = "GRAIN", add = ArgValueCandidates::new(complete::grains))]
    pub(crate) grain: Option<Name>,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub(crate) limit: Option<u32>,
}

/// Reads a topic as the API writes it.
fn topic(text: &str) -> Result<Topic, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|_| {
        "topics are cluster, node, grain, failover, replication, orphan, operation, policy, network, template"
            .to_owned()
    })
}

/// `wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "  grain/NAME  running, stopped, replicated, healthy, gone, moved-to=NODE\n  \
                        node/NAME   online, fenced, drained\n  \
                        cluster     quorum, healthy\n  \
                        op/ID       (its end; no --for)"
)]
pub(crate) struct WaitForArgs {
    /// `grain/NAME`, `node/NAME`, `cluster` or `op/ID`
    #[arg(add = ArgValueCandidates::new(complete::targets))]
    pub(crate) target: String,
    /// What to wait for
    #[arg(long = "for", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
}

/// `context …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List contexts
    Ls,
    /// Show what is used now, and from where it is known
    Show,
    /// Use a context from now on
    Use(ContextNameArgs),
    /// Add a context, or give it other servers
    Add(ContextAddArgs),
    /// Remove a context
    Rm(ContextNameArgs),
}

/// A context.
#[derive(Debug, Args)]
pub(crate) struct ContextNameArgs {
    /// Name of the context
    pub(crate) name: Name,
}

/// `context add`.
#[derive(Debug, Args)]
pub(crate) struct ContextAddArgs {
    /// Name of the context
    pub(crate) name: Name,
    /// Nodes of the cluster, `host:port`
    #[arg(required = true, value_name = "ADDRESS")]
    pub(crate) servers: Vec<String>,
}

/// `api`.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_enum, ignore_case = true, hide_possible_values = true)]
    pub(crate) method: Method,
    /// Such as `/v1/grains?selector=app=mail`
    pub(crate) path: String,
    /// Body: JSON or YAML text, `@FILE`, or `-` for stdin
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// Value of the header `If-Match`
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<String>,
}

/// Methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Method {
    /// Read.
    Get,
    /// Make, or begin work.
    Post,
    /// Replace.
    Put,
    /// Change.
    Patch,
    /// Remove.
    Delete,
}
