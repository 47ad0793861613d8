//! Templates on this node: fetched where a grain will be made from one or copied onto one, removed when the cluster has removed
//! them, and what of that the cluster has to hear.

use std::collections::BTreeSet;

use scrap_schema::command::Command;
use scrap_schema::id::{NodeId, TemplateId};

use super::{HostAction, HostFacts, Lane};
use crate::cluster::{Cluster, TemplateState};

pub(super) fn decide(
    me: NodeId,
    cluster: &Cluster,
    host: &HostFacts,
    actions: &mut Vec<HostAction>,
) {
    let wanted = wanted(me, cluster);
    for template in cluster.templates.values() {
        let id = template.id;
        let here = host.templates.get(&id) == Some(&template.guid);
        match (here, template.holders.contains(&me)) {
            (true, false) => {
                let command = Box::new(Command::TemplateHeld { template: id, node: me });
                actions.push(HostAction::Tell { command });
            }
            (false, true) => {
                let command = Box::new(Command::TemplateLost { template: id, node: me });
                actions.push(HostAction::Tell { command });
            }
            (true, true) => (),
            (false, false) if wanted.contains(&id) && has_room(host) => {
                // Where it failed is not asked first again.
                let failed = host.failed.get(&Lane::Template(id)).map_or(0, |it| it.attempts);
                let from = source(cluster, template, me, failed);
                actions.extend(from.map(|from| HostAction::Fetch { template: id, from }));
            }
            (false, false) => (),
        }
    }
    let removed = host.templates.keys().filter(|id| cluster.removed_templates.contains(id));
    actions.extend(removed.map(|template| HostAction::DropTemplate { template: *template }));
}

/// Templates of grains that this node owns, is getting, or keeps copies of.
fn wanted(me: NodeId, cluster: &Cluster) -> BTreeSet<TemplateId> {
    let mine = cluster
        .grains
        .values()
        .filter(|grain| grain.owner == Some(me) || grain.receivers().contains(&me));
    mine.filter_map(|grain| grain.template).collect()
}

/// A full storage takes no templates either.
fn has_room(host: &HostFacts) -> bool {
    host.pool.as_ref().is_none_or(|pool| pool.state.takes_writes() && !pool.is_full())
}

/// The node that another one can get a template from, after so many failures.
pub(crate) fn source(
    cluster: &Cluster,
    template: &TemplateState,
    to: NodeId,
    failed: u32,
) -> Option<NodeId> {
    let online =
        |node: &NodeId| cluster.nodes.get(node).is_some_and(|node| node.liveness.is_online());
    let can = template.holders.iter().copied().filter(|node| *node != to && online(node));
    let can: Vec<NodeId> = can.collect();
    let turn = usize::try_from(failed).unwrap_or(0).checked_rem(can.len())?;
    can.get(turn).copied()
}
