//! What is disarmed, and how far owners and their grains are with it. Pure.

use scrap_decide::cluster::{Disarmed, Grain};
use scrap_schema::api::DisarmedView;
use scrap_schema::id::Name;

use super::{World, names};

/// The whole cluster first, then nodes by their numbers.
pub(super) fn disarmed(world: &World<'_>) -> Vec<DisarmedView> {
    let whole = world.cluster.identity.as_ref().and_then(|identity| identity.disarmed.as_ref());
    let nodes = world.cluster.nodes.values();
    let nodes = nodes.filter_map(|node| Some((Some(&node.name), node.disarmed.as_ref()?)));
    whole.map(|it| (None, it)).into_iter().chain(nodes).map(|(node, it)| view(node, it)).collect()
}

fn view(node: Option<&Name>, disarmed: &Disarmed) -> DisarmedView {
    let Disarmed { since, until, by } = disarmed.clone();
    DisarmedView { node: node.cloned(), since, until, by }
}

fn by_name<'a>(
    world: &'a World<'_>,
    wanted: impl Fn(&Grain) -> bool + 'a,
) -> impl Iterator<Item = Name> + 'a {
    let grains = world.cluster.grains.values().filter(move |grain| wanted(grain));
    let mut names: Vec<Name> = grains.map(|grain| grain.name.clone()).collect();
    names.sort();
    names.into_iter()
}

/// Grains on nodes that are online whose owner may still end them with the lease, although they need none.
pub(super) fn disarming(world: &World<'_>) -> Vec<Name> {
    let still = |grain: &Grain| {
        let Some(owner) = grain.owner.filter(|owner| world.is_online(*owner)) else { return false };
        let report = world.observed.report(owner, grain.id);
        let run = report.and_then(|report| report.run.as_ref());
        let heard = world.observed.nodes.get(&owner).is_some_and(|heard| heard.full);
        !world.cluster.needs_lease(grain)
            && (grain.armed || !heard || run.is_some_and(|run| run.armed))
    };
    by_name(world, still).collect()
}

/// Grains on nodes that are online which need a lease and do not count as armed yet.
pub(super) fn arming(world: &World<'_>) -> Vec<Name> {
    let not_yet = |grain: &Grain| {
        grain.owner.is_some_and(|owner| world.is_online(owner))
            && !grain.armed
            && world.cluster.needs_lease(grain)
    };
    by_name(world, not_yet).collect()
}

/// The sentence for each thing that is disarmed.
pub(super) fn reasons(world: &World<'_>) -> Vec<String> {
    let waits: Vec<String> = disarming(world).iter().map(ToString::to_string).collect();
    let disarmed = disarmed(world);
    let sentence = |it: &DisarmedView| {
        let what = it.node.as_ref().map_or("the cluster".to_owned(), |node| format!("node {node}"));
        let end = it.until.map_or("until it is armed".to_owned(), |until| format!("until {until}"));
        let wait = match waits.is_empty() {
            true => String::new(),
            false => format!("; wait: the lease still ends {}", names(&waits)),
        };
        format!("{what} is disarmed by {} {end}: nothing of it fails over by itself{wait}", it.by)
    };
    disarmed.iter().map(sentence).collect()
}
