//! Is everything all right, and if not, why: the sentences that somebody reads at 2 a.m. Pure.

use std::collections::{BTreeMap, BTreeSet};

use scrap_decide::cluster::{Grain, Liveness, Node};
use scrap_schema::api::{ClusterHealth, ClusterView, GrainState};
use scrap_schema::id::{Name, NodeId};
use scrap_schema::node::PoolState;
use scrap_schema::operation::Operation;
use scrap_schema::unit::Span;

use super::grain::state;
use super::{World, arm, conditions, count, is_stuck, ms, names};

/// A sentence and how much it matters.
struct Reason {
    health: ClusterHealth,
    text: String,
}

/// The whole cluster; `None` before it is formed.
pub(crate) fn cluster(world: &World<'_>) -> Option<ClusterView> {
    let identity = world.cluster.identity.as_ref()?;
    let grains: Vec<(&Grain, GrainState)> = world
        .cluster
        .grains
        .values()
        .filter(|grain| grain.trashed_until.is_none())
        .map(|grain| (grain, state(world, grain)))
        .collect();
    let mut reasons = reasons(world, &grains);
    // A stable sort: within one weight the order of finding stays.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.health));
    let health = reasons.first().map_or(ClusterHealth::Healthy, |reason| reason.health);
    let (worst_lag_ms, worst_lag_grain) = worst_lag(world, &grains).unzip();
    // A leader that was just elected takes nobody's word for what it has not heard itself.
    let unheard = unheard(world);
    let surely = |node: NodeId| !unheard.contains(&node);
    let online = world
        .cluster
        .nodes
        .values()
        .filter(|node| node.liveness.is_online() && surely(node.id))
        .count();
    let running = grains
        .iter()
        .filter(|(grain, state)| answers(grain, *state) && grain.owner.is_some_and(surely))
        .count();
    let known = world.raft.leader.is_some();
    Some(ClusterView {
        name: identity.name.clone(),
        health,
        reasons: reasons.into_iter().map(|reason| reason.text).collect(),
        leader: world.raft.leader.and_then(|leader| world.node_name(leader)),
        index: world.cluster.index,
        voters: world.raft.voters.iter().filter_map(|voter| world.node_name(*voter)).collect(),
        nodes_online: known.then(|| number(online)),
        nodes: number(world.cluster.nodes.len()),
        grains_running: known.then(|| number(running)),
        grains_wanted: number(grains.iter().filter(|(grain, _)| grain.wants_to_run()).count()),
        grains: number(grains.len()),
        worst_lag_ms: worst_lag_ms.map(ms),
        worst_lag_grain,
        waiting: world.held.iter().map(|held| world.waiting(held)).collect(),
        orphans: number(world.cluster.orphans.len()),
        lease: Some(identity.timing.into()),
        disarmed: arm::disarmed(world),
        disarming: arm::disarming(world),
        arming: arm::arming(world),
    })
}

/// Nodes that are online in the state and whose reports a leader that was just elected has not got yet.
fn unheard(world: &World<'_>) -> BTreeSet<NodeId> {
    let listening = world.now.boot.since(world.observed.since);
    if !world.raft.leads || listening > world.cluster.timing().suspect {
        return BTreeSet::new();
    }
    let online = world.cluster.nodes.values().filter(|node| node.liveness.is_online());
    online.map(|node| node.id).filter(|node| !world.has_heard(*node)).collect()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether a grain answers, as far as is known.
fn answers(grain: &Grain, state: GrainState) -> bool {
    match state {
        GrainState::Running => true,
        GrainState::Moving => grain.started.is_some(),
        GrainState::Pending
        | GrainState::Starting
        | GrainState::Unhealthy
        | GrainState::Stopping
        | GrainState::Stopped
        | GrainState::Lost
        | GrainState::Trashed => false,
    }
}

fn worst_lag(world: &World<'_>, grains: &[(&Grain, GrainState)]) -> Option<(Span, Name)> {
    let lags = grains.iter().filter_map(|(grain, _)| {
        let lag = world.observed.best_lag(world.cluster, grain, world.now)?;
        Some((lag, grain.name.clone()))
    });
    lags.max_by_key(|(lag, _)| *lag)
}

fn reasons(world: &World<'_>, grains: &[(&Grain, GrainState)]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |health, text| reasons.push(Reason { health, text });
    if world.raft.leader.is_none() {
        let text = "no leader is known here: nothing can be changed, nothing fails over, and what runs is unknown";
        add(ClusterHealth::Critical, text.to_owned());
    }
    let unheard: Vec<String> =
        unheard(world).into_iter().map(|node| world.node_word(node)).collect();
    if !unheard.is_empty() {
        let text = format!("the leader was just elected; waiting for reports: {}", names(&unheard));
        add(ClusterHealth::Degraded, text);
    }
    for (owner, lost) in lost_by_owner(grains) {
        add(ClusterHealth::Critical, with_node(world, owner, &lost));
    }
    for (grain, state) in grains {
        if let Some((health, text)) = not_running(world, grain, *state) {
            add(health, text);
        }
    }
    for node in world.cluster.nodes.values() {
        let empty = !grains
            .iter()
            .any(|(grain, state)| *state == GrainState::Lost && grain.owner == Some(node.id));
        if empty && let Some(text) = not_online(world, node) {
            add(ClusterHealth::Degraded, text);
        }
    }
    for node in world.cluster.nodes.values().filter(|node| node.liveness.is_online()) {
        for text in sick_host(world, node) {
            add(ClusterHealth::Degraded, text);
        }
    }
    for operation in world.cluster.operations.values() {
        if let Some(text) = stuck(world, operation) {
            add(ClusterHealth::Degraded, text);
        }
    }
    for text in grains.iter().filter_map(|(grain, _)| over_quota(world, grain)) {
        add(ClusterHealth::Degraded, text);
    }
    for text in arm::reasons(world) {
        add(ClusterHealth::Degraded, text);
    }
    if let Some(text) = thin_quorum(world) {
        add(ClusterHealth::Degraded, text);
    }
    if let Some(text) = unprotected(world, grains) {
        add(ClusterHealth::Degraded, text);
    }
    reasons
}

/// Grains that should run and whose owner is not online, by owner.
fn lost_by_owner<'a>(grains: &[(&'a Grain, GrainState)]) -> BTreeMap<NodeId, Vec<&'a Grain>> {
    let mut lost: BTreeMap<NodeId, Vec<&Grain>> = BTreeMap::new();
    for (grain, state) in grains {
        if let (GrainState::Lost, true, Some(owner)) = (state, grain.wants_to_run(), grain.owner) {
            lost.entry(owner).or_default().push(grain);
        }
    }
    lost
}

/// `node ada is fenced; 2 grains do not run: mail, web (no copy is reachable)`.
fn with_node(world: &World<'_>, owner: NodeId, lost: &[&Grain]) -> String {
    let mut all: Vec<String> = lost.iter().map(|grain| grain.name.to_string()).collect();
    all.sort();
    let why = lost.iter().find_map(|grain| world.waiting_with_grain(grain.id, grain.operation));
    let why = why.map_or_else(String::new, |waiting| format!(" ({})", waiting.reason));
    let node = world.cluster.nodes.get(&owner);
    let what = node.map_or_else(|| format!("node {owner} is gone"), |node| liveness(world, node));
    let grains = count(all.len(), "grain");
    // As long as its lease may hold, they may still run.
    let sure = node
        .is_some_and(|node| lost.iter().all(|grain| grain.has_surely_stopped_with(&node.liveness)));
    let verb = match (sure, all.len()) {
        (false, _) => "may be",
        (true, 1) => "is",
        (true, _) => "are",
    };
    format!("{what}; {grains} {verb} down with it: {}{why}", names(&all))
}

fn liveness(world: &World<'_>, node: &Node) -> String {
    let name = &node.name;
    if world.cluster.left_behind(node) {
        return format!(
            "node {name} was left behind when the cluster was begun anew; when none of its grains is needed any more: `scrapctl node rm {name}`"
        );
    }
    match &node.liveness {
        Liveness::Online => format!("node {name} is online"),
        Liveness::Joining => format!("node {name} has not registered yet"),
        Liveness::Suspect { ticks, .. } => {
            let timing = world.cluster.timing();
            let left = u64::from(timing.ticks.saturating_sub(*ticks)) * timing.tick.ms();
            let left = Span::from_ms(left).rounded_up();
            format!("node {name} is silent and counts as dead in {left}")
        }
        Liveness::Fenced { last_heard } => {
            let since = world.now.wall.since(*last_heard).rounded();
            format!("node {name} is fenced, last heard {since} ago")
        }
        Liveness::Away { last_heard } => {
            let since = world.now.wall.since(*last_heard).rounded();
            format!("node {name} said goodbye {since} ago")
        }
    }
}

fn not_online(world: &World<'_>, node: &Node) -> Option<String> {
    match node.liveness {
        Liveness::Online => None,
        // Somebody emptied it on purpose: nothing to report while it is away.
        Liveness::Away { .. } if node.drain.is_some() => None,
        Liveness::Joining
        | Liveness::Suspect { .. }
        | Liveness::Fenced { .. }
        | Liveness::Away { .. } => Some(liveness(world, node)),
    }
}

/// What is wrong with the storage and the network of a node.
fn sick_host(world: &World<'_>, node: &Node) -> Vec<String> {
    let Some(heard) = world.observed.nodes.get(&node.id) else { return Vec::new() };
    let mut reasons = Vec::new();
    if let Some(pool) = &heard.pool {
        let what = pool.what.as_ref().map_or_else(String::new, |what| format!(": {what}"));
        let state = match pool.state {
            PoolState::Online if pool.errors == 0 && pool.what.is_none() => None,
            PoolState::Online => Some("has errors".to_owned()),
            PoolState::Degraded
            | PoolState::ReadOnly
            | PoolState::Suspended
            | PoolState::Faulted => Some(format!("is {}", pool.state)),
        };
        reasons
            .extend(state.map(|state| format!("the storage of node {} {state}{what}", node.name)));
        if let Some(percent) = pool.percent().filter(|_| pool.is_full()) {
            reasons.push(format!(
                "the storage of node {} is {percent} % full: it takes nothing new",
                node.name
            ));
        }
    }
    reasons.extend(heard.network.iter().map(|what| format!("node {}: {what}", node.name)));
    reasons
}

/// A grain that should run and does not, on a node that is online. Work that is under way and not stuck is no reason.
fn not_running(
    world: &World<'_>,
    grain: &Grain,
    state: GrainState,
) -> Option<(ClusterHealth, String)> {
    if !grain.wants_to_run() {
        return None;
    }
    let name = &grain.name;
    let waits =
        world.held_of(grain.id, grain.operation).filter(|waiting| is_stuck(&waiting.reason));
    match state {
        GrainState::Unhealthy => {
            let node = grain.owner.map(|owner| world.node_word(owner)).unwrap_or_default();
            let trouble = conditions::trouble(world, grain);
            Some((ClusterHealth::Critical, format!("grain {name} on {node}: {trouble}")))
        }
        GrainState::Pending | GrainState::Starting => match waits {
            Some(held) => {
                let text = format!("grain {name} does not run: {}", held.reason);
                Some((ClusterHealth::Critical, text))
            }
            None if grain.operation.is_none() => {
                let text = format!("grain {name}: {}", conditions::starting(world, grain));
                Some((ClusterHealth::Degraded, text))
            }
            None => None,
        },
        GrainState::Moving | GrainState::Running | GrainState::Stopping => {
            // Missing copies have their own sentence.
            let held = waits.filter(|_| state == GrainState::Moving)?;
            Some((ClusterHealth::Degraded, format!("grain {name} cannot move: {}", held.reason)))
        }
        GrainState::Stopped | GrainState::Lost | GrainState::Trashed => None,
    }
}

/// An operation that has not moved on for long, and what it needs.
fn stuck(world: &World<'_>, operation: &Operation) -> Option<String> {
    let (need, last) = (operation.needs.as_ref()?, operation.phases.last()?);
    let (word, target) = (operation.work.word(), &operation.target);
    let since = world.now.wall.since(last.began).rounded();
    let mut text = format!(
        "{word} {target} has not moved on for {since}: {}; look at it: {}",
        need.what, need.look
    );
    if let Some(cancel) = &need.cancel {
        text.push_str(&format!("; give it up: {cancel}"));
    }
    Some(text)
}

/// More data than the spec grants. Not every backend can hold a grain to it.
fn over_quota(world: &World<'_>, grain: &Grain) -> Option<String> {
    let used = super::grain::owner_report(world, grain)?.data.as_ref()?.used;
    let granted = grain.spec.resources.disk;
    (granted.0 > 0 && used > granted).then(|| {
        let (used, granted) = (used.rounded(), granted.rounded());
        format!("grain {} has {used} of data, more than the {granted} that it may have", grain.name)
    })
}

/// One more dead voter and nothing can be changed.
fn thin_quorum(world: &World<'_>) -> Option<String> {
    let voters = &world.raft.voters;
    let online = voters.iter().filter(|voter| world.is_online(**voter)).count();
    let needed = voters.len() / 2 + 1;
    if voters.len() <= 2 || online > needed || online == voters.len() {
        return None;
    }
    let all = count(voters.len(), "voter");
    Some(match online < needed {
        true => format!("{online} of {all} answer, {needed} are needed: nothing can be changed"),
        false => format!("{online} of {all} answer: if one more is lost, nothing can be changed"),
    })
}

/// Grains whose copies are missing or too old, with the first one's reason.
fn unprotected(world: &World<'_>, grains: &[(&Grain, GrainState)]) -> Option<String> {
    let mut bad = Vec::new();
    let mut first = None;
    for (grain, state) in grains {
        // A lost grain has its own sentence; one without data has nothing to lose yet.
        if *state == GrainState::Lost || !grain.born {
            continue;
        }
        let conditions = conditions::conditions(world, grain, *state);
        let failed = conditions.into_iter().find(|condition| {
            matches!(condition.r#type.as_str(), "Replicated" | "Protected")
                && condition.status == Some(false)
        });
        if let Some(condition) = failed {
            bad.push(grain.name.to_string());
            first.get_or_insert(condition.message);
        }
    }
    bad.sort();
    let why = first?;
    Some(match bad.as_slice() {
        [only] => format!("grain {only} is not protected as its policy wants: {why}"),
        all => {
            let grains = count(all.len(), "grain");
            format!("{grains} are not protected as their policies want: {}", names(all))
        }
    })
}
