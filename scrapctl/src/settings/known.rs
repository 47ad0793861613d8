//! What earlier runs learnt about where nodes are: the last one that answered, and the addresses that the API listed.
//! A help, never a need: a file that is missing, broken or not writable changes nothing but speed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Origin, Settings, config};

/// Addresses kept per cluster.
const ADDRESSES_MAX: usize = 16;
/// Clusters remembered.
const CLUSTERS_MAX: usize = 32;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// By context, or by the servers that were named.
    clusters: BTreeMap<String, Cluster>,
}

/// What is known of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    /// The one that answered last.
    pub(crate) last: Option<String>,
    /// Where its nodes listen.
    pub(crate) nodes: Vec<String>,
    /// When its nodes were listed, in seconds since 1970.
    pub(crate) listed: i64,
}

/// Under which key a cluster is remembered: the same servers written twice are the same cluster.
pub(crate) fn key(settings: &Settings) -> String {
    match &settings.origin {
        Origin::Context(name) => format!("context {name}"),
        Origin::Flag | Origin::Environment | Origin::Default => {
            let mut servers = settings.servers.clone();
            servers.sort();
            servers.join(",")
        }
    }
}

/// Reads what is known.
pub(crate) fn load(path: Option<&Path>, key: &str) -> Cluster {
    read(path).clusters.remove(key).unwrap_or_default()
}

fn read(path: Option<&Path>) -> Known {
    let text = path.and_then(|path| std::fs::read_to_string(path).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Remembers; does nothing if nothing is new or it cannot be written.
pub(crate) fn save(path: Option<&Path>, key: &str, cluster: &Cluster) {
    let Some(path) = path else { return };
    let mut known = read(Some(path));
    let mut cluster = cluster.clone();
    cluster.nodes.truncate(ADDRESSES_MAX);
    if known.clusters.get(key) == Some(&cluster) {
        return;
    }
    known.clusters.insert(key.to_owned(), cluster);
    while known.clusters.len() > CLUSTERS_MAX {
        let oldest = known.clusters.iter().min_by_key(|(_, cluster)| cluster.listed);
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
        known.clusters.remove(&oldest);
    }
    if let Ok(text) = serde_json::to_string_pretty(&known) {
        // A state file that cannot be written must not fail a command that was carried out.
        drop(config::replace(path, &text));
    }
}

/// The order in which to try: the last good one, the ones that were named, the ones that were learnt. Who names
/// servers on the command line or in the environment means these: others are tried only when none of them answers,
/// and who names them on the command line means this order too.
pub(crate) fn order(origin: &Origin, named: &[String], cluster: &Cluster) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let last = cluster.last.iter().filter(|last| match origin {
        Origin::Flag => false,
        Origin::Environment => named.contains(last),
        // Only if it is still one of the cluster's.
        Origin::Context(_) | Origin::Default => {
            named.contains(last) || cluster.nodes.contains(last)
        }
    });
    for server in last.chain(named).chain(&cluster.nodes) {
        if !order.contains(server) {
            order.push(server.clone());
        }
    }
    order
}
