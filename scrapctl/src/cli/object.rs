//! Arguments of the commands that work on manifests of any kind.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use scrap_schema::id::Name;

use super::{ListArgs, WaitArgs};
use crate::cli::pair;
use crate::complete;

/// Kinds of objects that have manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One user's service.
    #[value(alias = "grains", alias = "Grain")]
    Grain,
    /// A machine.
    #[value(alias = "nodes", alias = "Node")]
    Node,
    /// The contract of a class of grains.
    #[value(alias = "policies", alias = "Policy")]
    Policy,
    /// Where grains get their addresses from.
    #[value(alias = "networks", alias = "Network")]
    Network,
}

/// Where manifests come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilesArgs {
    /// File or folder of manifests, `-` is stdin; may be repeated
    #[arg(short, long, required = true, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Folders inside folders too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Put grains with this label into the trash if no manifest names them
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) prune: Option<(String, String)>,
}

/// `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: FilesArgs,
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse if anything has changed since this index, as `diff -o json` printed it
    #[arg(long, value_name = "INDEX")]
    pub(crate) check_index: Option<u64>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) files: FilesArgs,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// grain, node, policy or network
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) kind: Kind,
    /// Which; all if nobody says
    #[arg(add = ArgValueCandidates::new(complete::objects))]
    pub(crate) name: Option<Name>,
    /// Without what is measured: what `apply` reads
    #[arg(long)]
    pub(crate) bare: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `edit`.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// grain, node, policy or network
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) kind: Kind,
    /// Which
    #[arg(add = ArgValueCandidates::new(complete::objects))]
    pub(crate) name: Name,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Such as `grain`, `grain.spec.protect`, `policy.spec.failover`
    #[arg(value_name = "FIELD")]
    pub(crate) field: String,
}
