//! Commands about networks.

use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{GrainId, Name};
use scrap_schema::spec::{NetworkSpec, Range};

use super::lots::Lot;
use super::{About, Change, unchanged_since};
use crate::cluster::{Cluster, Grain, Key, NetworkState, Outcome};
use crate::refusal::Refusal;

pub(super) fn put(
    change: &mut Change<'_>,
    name: &Name,
    if_index: Option<u64>,
    network: &NetworkSpec,
) -> Result<Outcome, Refusal> {
    let before = change.cluster.networks.get(name);
    if let Some(before) = before {
        unchanged_since("network", name, before.modified, if_index)?;
        if before.network == *network {
            return Ok(Outcome::Unchanged);
        }
    }
    alone(change.cluster, name, network)?;
    for grain in users(change.cluster, name) {
        still_given(grain, name, network)?;
    }
    let state = NetworkState { network: network.clone(), modified: change.index };
    // Grains of it may get addresses of a family that it did not have; looked at on a copy, because one of them may be refused.
    let mut after = change.cluster.clone();
    after.networks.insert(name.clone(), state.clone());
    let ids: Vec<GrainId> = users(&after, name).map(|grain| grain.id).collect();
    let mut lots = Vec::new();
    for id in ids {
        let Some(grain) = after.grains.get(&id) else { continue };
        let lot = Lot::of(&after, id, Some(grain), &grain.spec)?;
        if let Some(grain) = after.grains.get_mut(&id) {
            lot.clone().give(grain);
        }
        lots.push((id, lot));
    }
    let word = if before.is_some() { "changed" } else { "made" };
    change.cluster.networks.insert(name.clone(), state);
    change.touch(Key::Network(name.clone()));
    for (id, lot) in lots {
        lot.give(change.grain(id)?);
    }
    let message = format!("network {name} was {word}");
    change.tell(Topic::Network, Severity::Info, About::default(), message);
    Ok(Outcome::Done)
}

/// Grains that have addresses of a network, in the trash too.
fn users<'a>(cluster: &'a Cluster, name: &'a Name) -> impl Iterator<Item = &'a Grain> {
    let uses = |grain: &&Grain| grain.spec.network.as_ref().is_some_and(|it| it.name == *name);
    cluster.grains.values().filter(uses)
}

/// One address is of one network, or two grains could have it.
fn alone(cluster: &Cluster, name: &Name, network: &NetworkSpec) -> Result<(), Refusal> {
    let pools = |network: &NetworkSpec| -> Vec<Range> {
        network.v4.into_iter().chain(network.v6).collect()
    };
    let mine = pools(network);
    for (other, state) in cluster.networks.iter().filter(|(other, _)| *other != name) {
        let shared =
            pools(&state.network).into_iter().find(|it| mine.iter().any(|pool| pool.overlaps(it)));
        if let Some(range) = shared {
            let (network, other, range) = (name.clone(), other.clone(), range.to_string());
            return Err(Refusal::NetworksOverlap { network, other, range });
        }
    }
    Ok(())
}

/// Whether a grain may keep the addresses that it has.
fn still_given(grain: &Grain, name: &Name, network: &NetworkSpec) -> Result<(), Refusal> {
    let kept = |address: std::net::IpAddr| {
        let pool = if address.is_ipv4() { network.v4 } else { network.v6 };
        pool.is_some_and(|pool| pool.contains(address)) && network.barred(address).is_none()
    };
    match grain.addresses().find(|address| !kept(*address)) {
        Some(address) => Err(Refusal::InUse {
            what: "network".to_owned(),
            name: name.to_string(),
            by: format!("{} with {address}", grain.called()),
        }),
        None => Ok(()),
    }
}

pub(super) fn delete(
    change: &mut Change<'_>,
    name: &Name,
    if_index: Option<u64>,
) -> Result<Outcome, Refusal> {
    let missing = || Refusal::NotFound { what: "network".to_owned(), name: name.to_string() };
    let state = change.cluster.networks.get(name).ok_or_else(missing)?;
    unchanged_since("network", name, state.modified, if_index)?;
    let users: Vec<String> = users(change.cluster, name).map(Grain::called).collect();
    if !users.is_empty() {
        let by = super::templates::several(&users);
        return Err(Refusal::InUse { what: "network".to_owned(), name: name.to_string(), by });
    }
    change.cluster.networks.remove(name);
    change.touch(Key::Network(name.clone()));
    let message = format!("network {name} was removed");
    change.tell(Topic::Network, Severity::Info, About::default(), message);
    Ok(Outcome::Done)
}
