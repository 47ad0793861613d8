//! Policies, networks, templates and orphans, as the API shows them. Pure.

use std::collections::BTreeMap;

use scrap_decide::apply::orphan_of;
use scrap_decide::cluster::{Grain, NetworkState, Orphan, PolicyState, TemplateState};
use scrap_schema::api::{
    AddressView, MetadataView, NetworkStatus, NetworkView, OrphanView, PolicyView, TemplateStatus,
    TemplateView,
};
use scrap_schema::id::{Name, OperationId};
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

fn metadata(name: &Name, modified: u64) -> MetadataView {
    MetadataView {
        name: name.clone(),
        id: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created: None,
        modify_index: modified,
        generation: None,
    }
}

/// A network.
pub(crate) fn network(world: &World<'_>, name: &Name, state: &NetworkState) -> NetworkView {
    let uses = |grain: &&Grain| grain.spec.network.as_ref().is_some_and(|it| it.name == *name);
    let addresses = |grain: &Grain| AddressView {
        grain: grain.name.clone(),
        address: grain.address,
        address6: grain.address6,
    };
    let grains = world.cluster.grains.values().filter(uses);
    let mut grains: Vec<AddressView> = grains.map(addresses).collect();
    grains.sort_by(|one, other| one.grain.cmp(&other.grain));
    NetworkView {
        api_version: API_VERSION.to_owned(),
        kind: "Network".to_owned(),
        metadata: metadata(name, state.modified),
        spec: state.network.clone(),
        status: NetworkStatus { grains },
    }
}

/// A template.
pub(crate) fn template(world: &World<'_>, template: &TemplateState) -> TemplateView {
    let users = world.cluster.grains.values().filter(|it| it.template == Some(template.id));
    let mut grains: Vec<Name> = users.map(|grain| grain.name.clone()).collect();
    grains.sort();
    let nodes = template.holders.iter().filter_map(|node| world.node_name(*node));
    TemplateView {
        api_version: API_VERSION.to_owned(),
        kind: "Template".to_owned(),
        metadata: MetadataView {
            id: Some(template.id.to_string()),
            created: Some(template.imported),
            ..metadata(&template.name, template.modified)
        },
        status: TemplateStatus {
            guid: template.guid,
            size: template.size,
            arch: template.arch.clone(),
            os: template.os.clone(),
            description: template.description.clone(),
            origin: world.node_name(template.origin),
            nodes: nodes.collect(),
            grains,
        },
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
        operation: working_with(world, orphan),
    })
}

/// The operation that works with an orphan.
fn working_with(world: &World<'_>, orphan: &Orphan) -> Option<OperationId> {
    let mut running = world.cluster.operations.values().filter(|it| !it.state.is_final());
    running.find(|it| orphan_of(&it.work) == Some(orphan.key)).map(|operation| operation.id)
}
