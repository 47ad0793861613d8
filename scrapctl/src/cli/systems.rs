//! Arguments of the commands that work on templates, networks, and inside of grains that are whole systems.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use scrap_schema::id::Name;

use super::{GrainArgs, ListArgs};
use crate::complete;

/// `template …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Import a system that grains can begin from
    Import(TemplateImportArgs),
    /// List templates
    Ls(ListArgs),
    /// Show a template
    #[command(visible_alias = "show")]
    Info(TemplateArgs),
    /// Remove a template that no grain began from
    Rm(TemplateArgs),
}

/// A template.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Name of the template
    #[arg(add = ArgValueCandidates::new(complete::templates))]
    pub(crate) template: Name,
}

/// `template import`.
#[derive(Debug, Args)]
#[command(
    after_help = "The archive goes to the node that is asked, which must be able to run systems; the others get it when \
                  they need it. A folder is packed on the way with owners and modes; hard links become files of their own, and \
                  extended attributes such as file capabilities are left out: pack it with `tar --xattrs` to keep them."
)]
pub(crate) struct TemplateImportArgs {
    /// Name of the template
    pub(crate) name: Name,
    /// Archive of the whole system (tar, plain or packed with zstd or xz), or its folder
    #[arg(value_name = "FILE|DIR")]
    pub(crate) from: PathBuf,
    /// One line about it
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Processor architecture as `uname -m` says it; the node's own if nobody says
    #[arg(long)]
    pub(crate) arch: Option<String>,
}

/// `network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List networks
    Ls(ListArgs),
    /// Show a network and who has its addresses
    #[command(visible_alias = "show")]
    Info(NetworkArgs),
    /// Remove a network that no grain uses
    Rm(NetworkArgs),
}

/// A network.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Name of the network
    #[arg(add = ArgValueCandidates::new(complete::networks))]
    pub(crate) network: Name,
}

/// `shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) grain: GrainArgs,
    /// User inside the grain; root if nobody says
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Another program than `/bin/sh -l`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `push`.
#[derive(Debug, Args)]
#[command(
    after_help = "Needs the program `dd` inside the grain. Owner and mode are those of a new file there; \
                        for folders: tar -c DIR | scrapctl exec NAME -- tar -x -C /path"
)]
pub(crate) struct PushArgs {
    /// A file here; `-` is stdin
    pub(crate) file: PathBuf,
    /// Where to: `NAME:/path/of/file`
    #[arg(value_name = "GRAIN:PATH", value_parser = inside)]
    pub(crate) to: Inside,
}

/// `pull`.
#[derive(Debug, Args)]
#[command(after_help = "Needs the program `dd` inside the grain. For folders: \
                        scrapctl exec NAME -- tar -c -C /path . > FILE.tar")]
pub(crate) struct PullArgs {
    /// From where: `NAME:/path/of/file`
    #[arg(value_name = "GRAIN:PATH", value_parser = inside)]
    pub(crate) from: Inside,
    /// A file or a folder here; `-` is stdout
    pub(crate) file: PathBuf,
}

/// A file inside a grain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Which grain.
    pub(crate) grain: Name,
    /// Where inside; begins with `/`.
    pub(crate) path: String,
}

/// Reads `NAME:/path`.
fn inside(text: &str) -> Result<Inside, String> {
    let Some((grain, path)) = text.split_once(':') else {
        return Err("it must be written `NAME:/path`".to_owned());
    };
    let grain = grain.parse::<Name>().map_err(|error| error.to_string())?;
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("the path begins with `/` and names a file".to_owned());
    }
    Ok(Inside { grain, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_inside_is_a_grain_and_an_absolute_path() {
        let (grain, path) = ("web".parse().unwrap(), "/etc/a:b".to_owned());
        assert_eq!(inside("web:/etc/a:b"), Ok(Inside { grain, path }));
        for wrong in ["web", "web:", "web:etc", "web:/etc/", "We b:/x", ":/x", "-rf:/x"] {
            assert!(inside(wrong).is_err(), "{wrong}");
        }
    }
}
