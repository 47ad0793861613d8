//! How a machine becomes a node: it makes a new cluster, becomes a member of one, or begins one anew that has lost its majority. All
//! end with writing the identity; until then they can be begun again. Never touches a folder that is not empty and not theirs.

mod again;
mod join;
mod recover;

use scrap_decide::cluster::Outcome;
use scrap_host::clock;
use scrap_schema::command::{Command, NewNode, Proposal};
use scrap_schema::id::{ClusterId, Name, NodeId};
use scrap_schema::problem::Exit;
use thiserror::Error;
use uuid::Uuid;

use anyhow::{Context as _, bail};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::facts;
use crate::identity::Identity;
use crate::raft::Consensus;

pub use join::join;
pub use recover::{Wish, recover};

/// Marks a folder that `init` works in. What is in such a folder was never used by anybody.
const UNFINISHED: &str = "init.unfinished";

/// A refusal with advice.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Refused {
    /// What is refused and why.
    pub what: String,
    /// What to do now.
    pub hint: String,
    /// The number that the shell sees.
    pub exit: Exit,
}

pub(crate) fn refused(what: String, hint: impl Into<String>) -> anyhow::Error {
    Refused { what, hint: hint.into(), exit: Exit::Failed }.into()
}

/// Takes the data folder for becoming a node: it must be empty, or left by an interrupted `init`.
fn fresh_data_dir(config: &Config) -> anyhow::Result<DataDir> {
    let data_dir = DataDir::take(&config.data_dir)?;
    if let Some(identity) = Identity::find(data_dir.path())? {
        let what = format!(
            "`{}` is node `{}` of cluster `{}` already",
            data_dir.path().display(),
            identity.name,
            identity.cluster
        );
        return Err(refused(what, "start it with `scrapd run`, or use another `data_dir`"));
    }
    let entries = data_dir.entries()?;
    if entries.iter().any(|name| name == UNFINISHED) {
        tracing::info!(data_dir = %data_dir.path().display(), "an interrupted init is begun anew");
        clear(&data_dir, &entries)?;
        return Ok(data_dir);
    }
    // The first half of an atomic write may be left of a power cut; it is ours and means nothing.
    let foreign: Vec<&str> =
        entries.iter().map(String::as_str).filter(|name| *name != "node.json.new").collect();
    match foreign.first() {
        None => Ok(data_dir),
        Some(first) => {
            let what = format!("`{}` is not empty: `{first}`", data_dir.path().display());
            Err(refused(
                what,
                "a node begins in an empty folder: use another `data_dir`, or move this aside",
            ))
        }
    }
}

/// Removes what an interrupted `init` has made; the mark goes last.
fn clear(data_dir: &DataDir, entries: &[String]) -> anyhow::Result<()> {
    let (mark, rest): (Vec<_>, Vec<_>) = entries.iter().partition(|name| *name == UNFINISHED);
    for name in rest.into_iter().chain(mark) {
        let path = data_dir.path().join(name);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    Ok(())
}

/// This machine as a member to be.
fn new_node(config: &Config) -> anyhow::Result<NewNode> {
    Ok(NewNode {
        name: config.name.clone(),
        role: config.role,
        labels: config.labels.clone(),
        addresses: config.advertise.clone(),
        facts: facts::measure(config)?,
    })
}

/// Makes a new cluster with this machine as its first node. The daemon must not run.
///
/// # Errors
/// If the folder belongs to somebody, or the first entry of the log cannot be written.
pub async fn init(config: &Config, cluster_name: Name) -> anyhow::Result<()> {
    let data_dir = fresh_data_dir(config)?;
    data_dir.write(UNFINISHED, "scrapd init works here; it may be begun again\n")?;
    let identity = Identity {
        cluster: cluster_name.clone(),
        cluster_id: ClusterId(Uuid::now_v7().as_u128()),
        // The first node of every cluster; the answer of the log is compared with it below.
        node: NodeId(1),
        name: config.name.clone(),
        generation: 0,
    };
    let settings = config.raft_settings(identity.node, identity.cluster_id);
    let consensus = Consensus::open(settings).await?;
    let formed = form(&consensus, config, &identity).await;
    consensus.close().await;
    formed?;
    identity.write(&data_dir)?;
    let mark = data_dir.path().join(UNFINISHED);
    std::fs::remove_file(&mark).with_context(|| format!("cannot remove `{}`", mark.display()))?;
    tracing::info!(cluster = %cluster_name, id = %identity.cluster_id, node = %identity.name, "cluster formed");
    Ok(())
}

/// The first entry of the log.
async fn form(consensus: &Consensus, config: &Config, identity: &Identity) -> anyhow::Result<()> {
    consensus.form(config.advertise.peer.clone()).await?;
    let command = Command::FormCluster {
        cluster: identity.cluster_id,
        name: identity.cluster.clone(),
        timing: config.timing,
        node: new_node(config)?,
    };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let committed = consensus.propose(proposal).await.context("the cluster cannot be formed")?;
    match committed.outcome.context("the cluster cannot be formed")? {
        Outcome::Node { node } if node == identity.node => Ok(()),
        other => bail!("the cluster cannot be formed: its first node should be 1, is {other:?}"),
    }
}

#[cfg(test)]
mod tests;
