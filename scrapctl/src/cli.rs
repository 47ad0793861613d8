//! The command line as clap types, and nothing else: no defaults from the environment, no I/O, no decisions.

mod cluster;
mod grain;
mod object;
mod systems;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use scrap_schema::unit::Span;

pub(crate) use cluster::*;
pub(crate) use grain::*;
pub(crate) use object::*;
pub(crate) use systems::*;

/// Run your own services on a handful of machines: place, move, protect and bring back grains.
#[derive(Debug, Parser)]
#[command(
    name = "scrapctl",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 failed (diff: differences), 2 usage, 3 not found, 4 denied, 5 conflict,\n\
                  6 unreachable or no quorum, 7 cannot be placed, 8 operation failed, 124 timeout, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// How to write the answer: table, wide, json, yaml, name or csv. Tables may change, the others stay as they are
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: Option<Output>,
    /// Context of the configuration to use [env: SCRAP_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Nodes to ask, `host:port`; repeat it or separate them by commas [env: SCRAP_SERVER]
    #[arg(long, global = true, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// Give up after this time, such as `30s` or `5m`; an operation that was accepted goes on
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) timeout: Option<Span>,
    /// Read the node's own copy of the state: works without quorum, may be old
    #[arg(long, global = true)]
    pub(crate) stale: bool,
    /// How to show the progress of operations on stderr: auto, plain, json or none
    #[arg(long, global = true, value_enum, value_name = "FORM", hide_possible_values = true)]
    pub(crate) progress: Option<ProgressForm>,
    /// When to use colour: auto, always or never [env: NO_COLOR, CLICOLOR_FORCE]
    #[arg(long, global = true, value_enum, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: Option<ColorWhen>,
    /// No progress and no remarks on stderr, only errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more about errors: request ids and nodes that were tried
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// Form of the answer on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For people with wide screens.
    Wide,
    /// The API's own form.
    Json,
    /// The API's own form, as YAML.
    Yaml,
    /// Names only, one per line.
    Name,
    /// The table with plain numbers, quoted by RFC 4180.
    Csv,
}

/// Form of progress on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// Live on a terminal, else plain.
    Auto,
    /// One line per step.
    Plain,
    /// One JSON object per change.
    Json,
    /// Nothing.
    None,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On terminals, unless the environment says otherwise.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Options of commands that begin operations.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct WaitArgs {
    /// Do not wait for the end; print the operation's id
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Options of lists.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListArgs {
    /// Columns to show, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// No line with the names of the columns
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Column to sort by; a `-` in front turns the order round
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether everything is all right, and if not, why
    Status,
    /// List grains
    #[command(visible_alias = "ps")]
    Ls(LsArgs),
    /// Show everything about a grain: state, copies, snapshots, what it waits for
    #[command(visible_alias = "show")]
    Info(GrainArgs),
    /// Make a grain and start it
    Launch(LaunchArgs),
    /// Make what the manifests say, as one change
    Apply(ApplyArgs),
    /// Show what `apply` would change; exit status 1 if there is anything
    Diff(DiffArgs),
    /// Print objects in the form of manifests
    Get(GetArgs),
    /// Change a manifest in an editor
    Edit(EditArgs),
    /// Explain a field of a manifest
    Explain(ExplainArgs),
    /// Put grains into the trash, where they stay for 7 days, or remove them for good
    Rm(RmArgs),
    /// Take grains out of the trash
    Undelete(GrainsArgs),
    /// Start grains
    Start(GrainsWaitArgs),
    /// Stop grains and keep them stopped
    Stop(GrainsWaitArgs),
    /// Stop grains and start them again where they are
    Restart(GrainsWaitArgs),
    /// Print what a grain's program wrote
    Logs(LogsArgs),
    /// List the services inside a grain, as its init tells them
    Services(ServicesArgs),
    /// Run a program inside a grain
    Exec(ExecArgs),
    /// Open a shell inside a grain
    Shell(ShellArgs),
    /// Sit down at the console of a grain; Ctrl-] leaves it
    Console(GrainArgs),
    /// Copy a file into a grain
    Push(PushArgs),
    /// Copy a file out of a grain
    Pull(PullArgs),
    /// Show which nodes could take a grain, best first
    Place(PlaceArgs),
    /// Move a grain to another node without loss
    #[command(visible_aliases = ["move", "mv"])]
    Migrate(MigrateArgs),
    /// Start a grain from a copy because its node is gone
    Failover(FailoverArgs),
    /// Take a snapshot with a name; `info` lists them
    Snapshot(SnapshotArgs),
    /// Make a grain's data equal to a snapshot; the state before is kept as a snapshot
    Restore(RestoreArgs),
    /// Make a new grain from another one's data
    Clone(CloneArgs),
    /// Show who votes and what one more loss would mean; switch failing over off and on
    Cluster(ClusterArgs),
    /// Machines of the cluster
    #[command(subcommand)]
    Node(NodeCommand),
    /// Contracts of classes of grains
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Systems that grains begin from
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Where grains get their addresses from
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Long work: list, watch, cancel
    #[command(subcommand)]
    Op(OpCommand),
    /// Diverged data that were set aside instead of being overwritten
    #[command(subcommand)]
    Orphan(OrphanCommand),
    /// What happened
    Events(EventsArgs),
    /// Wait until something is so
    Wait(WaitForArgs),
    /// Which cluster to talk to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Send a request to the API and print the answer
    Api(ApiArgs),
    /// Print the completion script of a shell
    Completion(CompletionArgs),
    /// Write manual pages into a folder
    #[command(hide = true)]
    Man(ManArgs),
}

/// `completion`.
#[derive(Debug, Args)]
#[command(after_help = "  bash: source <(scrapctl completion bash)\n  \
                        zsh:  source <(scrapctl completion zsh)\n  \
                        fish: scrapctl completion fish | source")]
pub(crate) struct CompletionArgs {
    /// bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: Shell,
}

/// Shells with completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write them
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[cfg(test)]
mod tests;
