//! Arguments of the verbs that work on grains.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCandidates;
use scrap_schema::id::Name;
use scrap_schema::spec::{Ports, Template};
use scrap_schema::unit::{Bytes, MilliCpu, Span};

use super::{ListArgs, WaitArgs};
use crate::complete;

/// `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only grains with these labels: `app=mail,tier!=test`
    #[arg(short = 'l', long, value_name = "K=V")]
    pub(crate) selector: Option<String>,
    /// What is in the trash, instead
    #[arg(long)]
    pub(crate) trashed: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// A grain.
#[derive(Debug, Args)]
pub(crate) struct GrainArgs {
    /// Name or id of the grain
    #[arg(add = ArgValueCandidates::new(complete::grains))]
    pub(crate) grain: Name,
}

/// One or more grains.
#[derive(Debug, Args)]
pub(crate) struct GrainsArgs {
    /// Names or ids of the grains
    #[arg(required = true, value_name = "GRAIN", add = ArgValueCandidates::new(complete::grains))]
    pub(crate) grains: Vec<Name>,
}

/// One or more grains, and whether to wait.
#[derive(Debug, Args)]
pub(crate) struct GrainsWaitArgs {
    #[command(flatten)]
    pub(crate) grains: GrainsArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `launch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: scrapctl launch debian-13 mail --network grains --expose 25/tcp\n          \
                  scrapctl launch process web --health-port 8080 --env PORT=8080 -- python3 -m http.server 8080"
)]
pub(crate) struct LaunchArgs {
    /// What it begins from: a template (`template ls`), or `process`, a program without isolation
    #[arg(value_parser = template, add = ArgValueCandidates::new(complete::kinds))]
    pub(crate) template: Template,
    /// Name of the new grain
    pub(crate) name: Name,
    /// Cores to reserve, such as `0.5`
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu: Option<MilliCpu>,
    /// Memory to reserve, such as `256MiB`
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// Quota of its data, such as `4GiB`
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<Bytes>,
    /// Network that it gets an address of
    #[arg(long, value_name = "NETWORK", add = ArgValueCandidates::new(complete::networks))]
    pub(crate) network: Option<Name>,
    /// Address that it wants, IPv4 or IPv6; the lowest free one if nobody says; may be repeated
    #[arg(long, value_name = "ADDRESS", requires = "network")]
    pub(crate) ip: Vec<IpAddr>,
    /// Port that others may reach, such as `80/tcp`, `8000-8010/udp`; may be repeated
    #[arg(long, value_name = "PORT", value_parser = exposed, requires = "network")]
    pub(crate) expose: Vec<Exposed>,
    /// Policy that protects it
    #[arg(long, value_name = "POLICY", add = ArgValueCandidates::new(complete::policies))]
    pub(crate) protect: Option<Name>,
    /// Port that must accept connections while it is healthy
    #[arg(long, value_name = "PORT")]
    pub(crate) health_port: Option<u16>,
    /// Path that must answer over HTTP on that port
    #[arg(long, value_name = "PATH", requires = "health_port")]
    pub(crate) health_path: Option<String>,
    /// Environment of the program; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Label; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Make it but do not start it
    #[arg(long)]
    pub(crate) stopped: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Program and arguments, instead of the system's own init; never given to a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// A port that others may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// One port, or several.
    pub(crate) ports: Result<u16, Ports>,
    /// `tcp`, `udp` or `any`.
    pub(crate) protocol: String,
}

fn template(text: &str) -> Result<Template, String> {
    text.parse::<Template>().map_err(|error| error.to_string())
}

/// Reads `80`, `80/tcp`, `8000-8010/udp`.
pub(crate) fn exposed(text: &str) -> Result<Exposed, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp", "any"].contains(&protocol) {
        return Err("after `/` stands tcp, udp or any".to_owned());
    }
    let ports = match ports.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) => return Err("port 0 does not exist".to_owned()),
        Err(_) => Err(ports.parse::<Ports>().map_err(|error| error.to_string())?),
    };
    Ok(Exposed { ports, protocol: protocol.to_owned() })
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) grains: GrainsArgs,
    /// Remove data, copies and snapshots at once and for good
    #[arg(long)]
    pub(crate) purge: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Go on as more is written, also after a move
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
}

/// `services`.
#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `exec`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: that of the program; 125 scrapctl or the cluster failed, \
                        126 the program cannot be run.")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// With a terminal, also if stdin or stdout is none
    #[arg(short, long, conflicts_with = "no_tty")]
    pub(crate) tty: bool,
    /// Without a terminal, also if stdin and stdout are some
    #[arg(short = 'T', long)]
    pub(crate) no_tty: bool,
    /// User inside the grain; root if nobody says
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Environment beside the grain's own; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Program and arguments; never given to a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `place`.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// A grain that exists
    #[arg(required_unless_present = "file", conflicts_with = "file",
          add = ArgValueCandidates::new(complete::grains))]
    pub(crate) grain: Option<Name>,
    /// Manifest of a grain that need not exist; `-` is stdin
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Say for every node what makes up its score, or what it lacks
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Where to; the best node if nobody says
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub(crate) to: Option<Name>,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `failover`.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Where to; the freshest copy if nobody says
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub(crate) to: Option<Name>,
    /// Accept this loss instead of the policy's limit, such as `5m`
    #[arg(long, value_name = "TIME")]
    pub(crate) accept_loss: Option<Span>,
    /// You have made sure that the old node is off; needed for grains whose policy is `manual`
    #[arg(long)]
    pub(crate) owner_is_off: bool,
    /// Only say what would happen and what would be lost
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `snapshot`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Name of the snapshot
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Name or guid of the snapshot
    pub(crate) snapshot: String,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `clone`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// Name of the new grain
    pub(crate) new: Name,
    /// Name or guid of the snapshot; the state now if nobody says
    #[arg(long)]
    pub(crate) snapshot: Option<String>,
    /// Environment to change in the new grain, such as its port; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Start it too
    #[arg(long)]
    pub(crate) start: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Reads `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("it must be written `key=value`".to_owned()),
    }
}
