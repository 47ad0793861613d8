//! Policies and orphans, as the API shows them. Pure.

use std::collections::BTreeMap;

use scrap_decide::cluster::{Orphan, PolicyState};
use scrap_schema::api::{MetadataView, OrphanView, PolicyView};
use scrap_schema::id::Name;
use scrap_schema::manifest::API_VERSION;

use super::World;

/// A policy.
pub(crate) fn policy(name: &Name, state: &PolicyState) -> PolicyView {
    PolicyView {
        api_version: API_VERSION.to_owned(),
        kind: "Policy".to_owned(),
        metadata: MetadataView {
            name: name.clone(),
            id: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: None,
            modify_index: state.modified,
            generation: None,
        },
        spec: state.policy.clone(),
    }
}

/// What an orphan is called: `<grain id>.<epoch>@<node>`.
pub(crate) fn orphan_id(world: &World<'_>, orphan: &Orphan) -> String {
    let key = &orphan.key;
    let node = orphan.left_on.as_ref().map(ToString::to_string);
    let node = node.unwrap_or_else(|| world.node_word(key.node));
    format!("{}.{}@{node}", key.grain, key.epoch)
}

/// An orphan.
pub(crate) fn orphan(world: &World<'_>, orphan: &Orphan) -> Option<OrphanView> {
    let key = &orphan.key;
    Some(OrphanView {
        id: orphan_id(world, orphan),
        grain: key.grain,
        grain_name: world.cluster.grains.get(&key.grain).map(|grain| grain.name.clone()),
        node: orphan.left_on.clone().or_else(|| world.node_name(key.node))?,
        epoch: key.epoch,
        head: orphan.head.clone(),
        base: orphan.base,
        newer: orphan.newer,
        used: orphan.used,
        kept: orphan.kept,
    })
}
