//! The command line of `scrapd`: types for clap and nothing else. What a command does is elsewhere.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use scrap_schema::id::Name;
use scrap_schema::timing::Preset;
use scrap_schema::unit::Span;

use crate::config::DEFAULT_PATH;

/// The daemon on every node of a SCRAP cluster.
#[derive(Debug, Parser)]
#[command(name = "scrapd", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `scrapd` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster with this machine as its first node
    Init(Init),
    /// Become a node of a cluster that runs
    Join(Join),
    /// Begin the cluster anew from this node, because a majority of its voters is gone for good
    Recover(Recover),
    /// Run the daemon until SIGTERM or SIGINT; a second signal ends it at once
    Run(Run),
    /// Read a configuration and print what it means, or everything that is wrong with it
    CheckConfig(CheckConfig),
    /// Play with three nodes on this machine: without a command, start them and stay in the foreground
    #[cfg(target_os = "linux")]
    Demo(Demo),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigPath {
    /// The node's configuration
    #[arg(long, short, value_name = "FILE", env = "SCRAPD_CONFIG", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Arguments of `scrapd init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The node's configuration
    #[command(flatten)]
    pub config: ConfigPath,
    /// Name of the new cluster: a-z, 0-9 and `-`
    #[arg(long, value_name = "NAME", default_value = "home")]
    pub cluster: Name,
    /// Numbers of the lease, for good: calm, standard or swift; instead of those in the configuration
    #[arg(long, value_name = "PRESET")]
    pub timing_preset: Option<Preset>,
}

/// Arguments of `scrapd join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The node's configuration
    #[command(flatten)]
    pub config: ConfigPath,
    /// Nodes of the cluster, any of them, several with commas: http://10.99.0.1:7272
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub server: Vec<String>,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
    /// This machine was a node before: it becomes a new one, what it was is set aside, its data of grains stay
    #[arg(long)]
    pub again: bool,
}

/// Arguments of `scrapd recover`.
#[derive(Debug, Args)]
pub struct Recover {
    /// The node's configuration
    #[command(flatten)]
    pub config: ConfigPath,
    /// Only print what this node has of the log, to compare survivors
    #[arg(long, conflicts_with_all = ["other", "dry_run", "confirm"])]
    pub show: bool,
    /// What `--show` has printed on another survivor; once for each
    #[arg(long, value_name = "FILE")]
    pub other: Vec<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// The cluster's name: says that you mean it
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<Name>,
}

/// Arguments of `scrapd run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The node's configuration
    #[command(flatten)]
    pub config: ConfigPath,
}

/// Arguments of `scrapd check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The configuration to check
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    pub file: PathBuf,
}

/// Arguments of `scrapd demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where the demo keeps everything
    #[arg(long, value_name = "DIR", default_value = ".demo", global = true)]
    pub dir: PathBuf,
    /// First port of the first node: a node takes two, the next node begins ten later, and the guestbook of the tour
    /// takes the 28th. A demo that was started once keeps its ports
    #[arg(long, value_name = "PORT", global = true)]
    pub port_base: Option<u16>,
    /// What to do with it
    #[command(subcommand)]
    pub verb: Option<DemoVerb>,
}

/// What `scrapd demo` does.
#[derive(Debug, Subcommand)]
pub enum DemoVerb {
    /// Start the demo in the background, or bring back what is down, and wait until all nodes are online
    Up,
    /// Stop all nodes and their grains cleanly
    Stop(DemoStop),
    /// End a node as a power cut does: its daemon and all its grains, without a word
    Kill(DemoKill),
    /// Start a node that is down
    Restart(DemoNode),
    /// Say which processes run
    Status,
    /// Show a move and a failover of a real web site under load, and check what was promised
    Tour,
}

/// Arguments of `scrapd demo stop`.
#[derive(Debug, Args)]
pub struct DemoStop {
    /// Remove everything that the demo has written, too
    #[arg(long)]
    pub purge: bool,
}

/// Arguments of `scrapd demo kill`.
#[derive(Debug, Args)]
pub struct DemoKill {
    /// Name of the node
    pub node: Name,
    /// Only the daemon: its grains go on until their lease ends
    #[arg(long)]
    pub only_daemon: bool,
}

/// A node of the demo.
#[derive(Debug, Args)]
pub struct DemoNode {
    /// Name of the node
    pub node: Name,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn servers_come_with_commas_or_several_times() {
        let line =
            ["scrapd", "join", "--server", "http://a:1,http://b:2", "--server", "http://c:3"];
        let Command::Join(join) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a join");
        };
        assert_eq!(join.server, ["http://a:1", "http://b:2", "http://c:3"]);
        assert!(Cli::try_parse_from(["scrapd", "join"]).is_err());
    }
}
