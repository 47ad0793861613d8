//! Commands about nodes: joining, registering, the countdown of a silent one, drain, removal.

use scrap_schema::command::{Command, NewNode};
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{BootId, ClusterId, Name, NodeId};
use scrap_schema::node::{Addresses, NodeFacts};
use scrap_schema::spec::{Labels, NodeSpec, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Span;

use super::{About, Change, unchanged_since};
use crate::cluster::{Cluster, Identity, Key, Liveness, Node, OrphanKey, Outcome, PolicyState};
use crate::mutant::{self, Mutant};
use crate::refusal::{ORPHANS, Refusal};

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the dispatcher sends only the commands about nodes here"
)]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::FormCluster { cluster, name, timing, node } => {
            form(change, *cluster, name, *timing, node)
        }
        Command::AddNode { node } => add(change, node),
        Command::RegisterNode { node, boot, addresses, facts, seal, again, seen } => {
            let start = Start { boot: *boot, seal: seal.as_ref(), again: *again, seen: *seen };
            register(change, *node, &start, addresses, facts)
        }
        Command::SuspectNode { node, boot, last_heard } => {
            suspect(change, *node, *boot, *last_heard)
        }
        Command::TickNode { node, boot, tick } => tick_on(change, *node, *boot, *tick),
        Command::FenceNode { node, boot } => fence(change, *node, *boot),
        Command::AttestNode { node, boot } => attest(change, *node, *boot),
        Command::LeaveNode { node, boot } => leave(change, *node, *boot),
        Command::AlarmNode { node, boot, what, well } => alarm(change, *node, *boot, what, *well),
        Command::SetCordon { node, cordoned } => cordon(change, *node, *cordoned),
        Command::UpdateNode { node, if_index, labels, spec } => {
            update(change, *node, *if_index, labels, spec)
        }
        Command::UndrainNode { node } => undrain(change, *node),
        Command::RemoveNode { node, if_index, leave_orphans } => {
            remove(change, *node, *if_index, *leave_orphans)
        }
        _ => Err(Refusal::out_of_date("not a command about nodes")),
    }
}

fn form(
    change: &mut Change<'_>,
    id: ClusterId,
    name: &Name,
    timing: Timing,
    first: &NewNode,
) -> Result<Outcome, Refusal> {
    if change.cluster.identity.is_some() {
        return Err(Refusal::out_of_date("the cluster is formed already"));
    }
    timing.check().map_err(|reason| Refusal::Invalid { why: reason.to_string() })?;
    change.cluster.identity = Some(Identity {
        id,
        name: name.clone(),
        timing,
        next_node: 1,
        formed: change.at,
        disarmed: None,
        generation: 0,
        leases: 0,
    });
    change.touch(Key::Identity);
    for (name, policy) in Policy::built_in() {
        change.touch(Key::Policy(name.clone()));
        change.cluster.policies.insert(name, PolicyState { policy, modified: change.index });
    }
    let message = format!("cluster {name} formed");
    change.tell(Topic::Cluster, Severity::Info, About::default(), message);
    add(change, first)
}

fn add(change: &mut Change<'_>, new: &NewNode) -> Result<Outcome, Refusal> {
    let behind = change.cluster.node_named(&new.name).filter(|it| change.cluster.left_behind(it));
    if let Some(old) = behind.map(|old| old.id) {
        make_way(change, old)?;
    }
    if let Some(node) = change.cluster.node_named(&new.name) {
        // A join whose answer was lost is asked again by the same machine.
        if node.boot.is_none() && node.addresses == new.addresses {
            return Ok(Outcome::Node { node: node.id });
        }
        return Err(Refusal::NameTaken { what: "node".to_owned(), name: new.name.clone() });
    }
    let mut free = 1_u64..u64::MAX;
    let reused = mutant::is(Mutant::ReusesIds)
        .then(|| free.find(|id| !change.cluster.nodes.contains_key(&NodeId(*id))))
        .flatten();
    let Some(identity) = change.cluster.identity.as_mut() else {
        return Err(Refusal::out_of_date("there is no cluster yet"));
    };
    let (id, generation) = (NodeId(reused.unwrap_or(identity.next_node)), identity.generation);
    identity.next_node = identity.next_node.saturating_add(1);
    change.touch(Key::Identity);
    let node = Node {
        id,
        name: new.name.clone(),
        role: new.role,
        labels: new.labels.clone(),
        spec: NodeSpec::default(),
        addresses: new.addresses.clone(),
        facts: new.facts.clone(),
        boot: None,
        seal: None,
        liveness: Liveness::Joining,
        off: None,
        disarmed: None,
        registered: 0,
        since: 0,
        awaited: None,
        drain: None,
        modified: change.index,
        created: change.at,
        generation,
    };
    change.cluster.nodes.insert(id, node);
    change.touch(Key::Node(id));
    change.tell(
        Topic::Node,
        Severity::Info,
        About::node(id),
        format!("node {} is a member", new.name),
    );
    Ok(Outcome::Node { node: id })
}

/// A machine that was left behind joins again under its old name, as another node. What is remembered of it is called by its number.
fn make_way(change: &mut Change<'_>, old: NodeId) -> Result<(), Refusal> {
    let was = change.look_node(old)?.name.clone();
    // Short enough for every name, and of a number that no other node has.
    let stem: String = was.as_str().chars().take(40).collect();
    let called = format!("{stem}-left-{old}").parse::<Name>();
    let called = called.map_err(|error| Refusal::Invalid { why: error.to_string() })?;
    if change.cluster.node_named(&called).is_some() {
        return Err(Refusal::NameTaken { what: "node".to_owned(), name: called });
    }
    change.node(old)?.name = called.clone();
    let message = format!("node {was} of an older generation is called {called} now");
    change.tell(Topic::Node, Severity::Info, About::node(old), message);
    Ok(())
}

/// What a daemon says of itself when it registers.
struct Start<'a> {
    boot: BootId,
    seal: Option<&'a String>,
    again: bool,
    seen: Option<u64>,
}

fn register(
    change: &mut Change<'_>,
    id: NodeId,
    start: &Start<'_>,
    addresses: &Addresses,
    facts: &NodeFacts,
) -> Result<Outcome, Refusal> {
    let index = change.index;
    if change.cluster.left_behind(change.look_node(id)?) {
        let why = "was left behind when the cluster was begun anew".to_owned();
        let node = change.cluster.node_name(id);
        return Err(Refusal::NodeUnfit { node, why });
    }
    let node = change.look_node(id)?;
    if node.boot == Some(start.boot) && node.liveness.is_online() {
        return Ok(Outcome::Unchanged);
    }
    // One that comes late, or for the second time, would make a start of the daemon count that is over, with what proves its end.
    if start.seen.is_some_and(|seen| seen < node.since) && !mutant::is(Mutant::OldStarts) {
        return Err(Refusal::out_of_date("it has registered again since"));
    }
    let is_new = node.boot.is_none();
    let node = change.node(id)?;
    let before = std::mem::replace(&mut node.liveness, Liveness::Online);
    node.boot = Some(start.boot);
    node.off = None;
    if !start.again {
        node.registered = index;
    }
    node.since = index;
    node.awaited = None;
    node.seal = start.seal.cloned();
    node.addresses = addresses.clone();
    node.facts = facts.clone();
    let name = node.name.clone();
    // From three members on grains need a lease.
    if is_new {
        change.other_leases();
    }
    let message = match before {
        Liveness::Joining => format!("node {name} is online"),
        Liveness::Online => format!("node {name}: its daemon started again"),
        Liveness::Suspect { ticks, .. } => {
            let (gone, timing) = (u64::from(ticks), change.cluster.timing());
            let span = Span::from_ms(timing.tick.ms().saturating_mul(gone)).rounded();
            format!("node {name} is back, {span} into its countdown")
        }
        Liveness::Fenced { .. } => format!("node {name} is back after it was fenced"),
        Liveness::Away { .. } => format!("node {name} is back"),
    };
    change.tell(Topic::Node, Severity::Info, About::node(id), message);
    Ok(Outcome::Done)
}

/// The node, if the order is about its present start.
pub(super) fn present<'a>(
    change: &'a Change<'_>,
    id: NodeId,
    boot: BootId,
) -> Result<&'a Node, Refusal> {
    let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
    if node.boot == Some(boot) {
        Ok(node)
    } else {
        Err(Refusal::out_of_date("its daemon has started again since"))
    }
}

fn suspect(
    change: &mut Change<'_>,
    id: NodeId,
    boot: BootId,
    last_heard: Timestamp,
) -> Result<Outcome, Refusal> {
    let node = present(change, id, boot)?;
    if !node.liveness.is_online() {
        return Err(Refusal::out_of_date("it is not online"));
    }
    let node = change.node(id)?;
    node.liveness = Liveness::Suspect { ticks: 0, last_heard };
    let message =
        format!("node {} is silent: its renewals are refused, the countdown runs", node.name);
    change.tell(Topic::Node, Severity::Warning, About::node(id), message);
    Ok(Outcome::Done)
}

fn tick_on(
    change: &mut Change<'_>,
    id: NodeId,
    boot: BootId,
    tick: u32,
) -> Result<Outcome, Refusal> {
    let all = change.cluster.timing().ticks;
    match present(change, id, boot)?.liveness {
        Liveness::Suspect { ticks, .. } if tick == ticks.saturating_add(1) && tick <= all => (),
        Liveness::Suspect { .. }
        | Liveness::Joining
        | Liveness::Online
        | Liveness::Fenced { .. }
        | Liveness::Away { .. } => {
            return Err(Refusal::out_of_date("not the next tick of a countdown"));
        }
    }
    if let Liveness::Suspect { ticks, .. } = &mut change.node(id)?.liveness {
        *ticks =
            if mutant::is(Mutant::CountsDouble) { all.min(tick.saturating_add(1)) } else { tick };
    }
    Ok(Outcome::Done)
}

fn fence(change: &mut Change<'_>, id: NodeId, boot: BootId) -> Result<Outcome, Refusal> {
    let all = change.cluster.timing().ticks;
    let last_heard = match present(change, id, boot)?.liveness {
        Liveness::Suspect { ticks, last_heard } if ticks >= all || mutant::is(Mutant::NoFence) => {
            last_heard
        }
        Liveness::Suspect { .. }
        | Liveness::Joining
        | Liveness::Online
        | Liveness::Fenced { .. }
        | Liveness::Away { .. } => return Err(Refusal::out_of_date("its countdown is not over")),
    };
    let node = change.node(id)?;
    node.liveness = Liveness::Fenced { last_heard };
    let message = format!("node {} is fenced: its lease has surely ended", node.name);
    change.tell(Topic::Node, Severity::Critical, About::node(id), message);
    Ok(Outcome::Done)
}

/// The node's guard has ended what needs the lease, and lets nothing begin under this registration any more.
fn attest(change: &mut Change<'_>, id: NodeId, boot: BootId) -> Result<Outcome, Refusal> {
    let node = match mutant::is(Mutant::AttestsAnyStart) {
        true => change.look_node(id)?,
        false => present(change, id, boot)?,
    };
    let last_heard = match node.liveness {
        Liveness::Suspect { last_heard, .. } => last_heard,
        Liveness::Joining | Liveness::Online | Liveness::Fenced { .. } | Liveness::Away { .. } => {
            return Err(Refusal::out_of_date("no countdown of it runs"));
        }
    };
    let node = change.node(id)?;
    node.liveness = Liveness::Fenced { last_heard };
    let message = format!("node {} is fenced: its guard has stopped its grains", node.name);
    change.tell(Topic::Node, Severity::Critical, About::node(id), message);
    Ok(Outcome::Done)
}

fn leave(change: &mut Change<'_>, id: NodeId, boot: BootId) -> Result<Outcome, Refusal> {
    let node = present(change, id, boot)?;
    if !node.liveness.is_online() {
        return Err(Refusal::out_of_date("it is not online"));
    }
    let last_heard = change.at;
    let node = change.node(id)?;
    node.liveness = Liveness::Away { last_heard };
    let message = format!("node {} said goodbye: it has stopped its grains", node.name);
    change.tell(Topic::Node, Severity::Warning, About::node(id), message);
    Ok(Outcome::Done)
}

fn alarm(
    change: &mut Change<'_>,
    id: NodeId,
    boot: BootId,
    what: &str,
    well: bool,
) -> Result<Outcome, Refusal> {
    let message = format!("node {}: {what}", present(change, id, boot)?.name);
    let severity = if well { Severity::Info } else { Severity::Warning };
    change.tell(Topic::Node, severity, About::node(id), message);
    Ok(Outcome::Done)
}

fn cordon(change: &mut Change<'_>, id: NodeId, cordoned: bool) -> Result<Outcome, Refusal> {
    let index = change.index;
    let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
    if node.spec.cordoned == cordoned {
        return Ok(Outcome::Unchanged);
    }
    let node = change.node(id)?;
    node.spec.cordoned = cordoned;
    node.modified = index;
    let message = match cordoned {
        true => format!("node {} is cordoned: nothing new comes to it", node.name),
        false => format!("node {} takes new grains and copies again", node.name),
    };
    change.tell(Topic::Node, Severity::Info, About::node(id), message);
    Ok(Outcome::Done)
}

pub(super) fn update(
    change: &mut Change<'_>,
    id: NodeId,
    if_index: Option<u64>,
    labels: &Labels,
    spec: &NodeSpec,
) -> Result<Outcome, Refusal> {
    let index = change.index;
    let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
    unchanged_since("node", &node.name, node.modified, if_index)?;
    if node.labels == *labels && node.spec == *spec {
        return Ok(Outcome::Unchanged);
    }
    let node = change.node(id)?;
    node.labels = labels.clone();
    node.spec = spec.clone();
    node.modified = index;
    let message = format!("node {} was changed", node.name);
    change.tell(Topic::Node, Severity::Info, About::node(id), message);
    Ok(Outcome::Done)
}

fn undrain(change: &mut Change<'_>, id: NodeId) -> Result<Outcome, Refusal> {
    let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
    let Some(operation) = node.drain else {
        return Ok(Outcome::Unchanged);
    };
    let running = change.cluster.operations.get(&operation);
    if let Some(operation) = running.filter(|operation| !operation.state.is_final()) {
        return Err(Refusal::Busy {
            what: "node".to_owned(),
            name: node.name.clone(),
            operation: operation.id.to_string(),
        });
    }
    let node = change.node(id)?;
    node.drain = None;
    let message = format!("node {} is back in use", node.name);
    change.tell(Topic::Node, Severity::Info, About::node(id), message);
    Ok(Outcome::Done)
}

fn remove(
    change: &mut Change<'_>,
    id: NodeId,
    if_index: Option<u64>,
    leave_orphans: bool,
) -> Result<Outcome, Refusal> {
    let node = change.cluster.nodes.get(&id).ok_or_else(|| Refusal::no_node(id))?;
    unchanged_since("node", &node.name, node.modified, if_index)?;
    let name = node.name.clone();
    if change.cluster.nodes.len() == 1 {
        return Err(Refusal::LastNode { node: name.to_string() });
    }
    let mut grains = change.cluster.grains.values();
    let user = grains.find(|grain| grain.owner == Some(id) || uses(grain, id));
    if let Some(grain) = user {
        let by = grain.called();
        return Err(Refusal::InUse { what: "node".to_owned(), name: name.to_string(), by });
    }
    let orphans: Vec<OrphanKey> =
        change.cluster.orphans.keys().copied().filter(|orphan| orphan.node == id).collect();
    if !leave_orphans && !orphans.is_empty() {
        let called = |orphan: &OrphanKey| {
            format!("{} of epoch {}", change.cluster.grain_name(orphan.grain), orphan.epoch)
        };
        let called: Vec<String> = orphans.iter().map(called).collect();
        let by = format!("{ORPHANS}: {}", called.join(", "));
        return Err(Refusal::InUse { what: "node".to_owned(), name: name.to_string(), by });
    }
    if let Some(why) = needed(change.cluster, id) {
        return Err(Refusal::NodeNeeded { node: name.to_string(), why });
    }
    let grains = change.cluster.grains.values();
    let kept = grains.filter(|grain| grain.standbys.contains(&id)).map(|grain| grain.id);
    let kept: Vec<_> = kept.collect();
    for grain in kept {
        change.grain(grain)?.standbys.remove(&id);
    }
    super::templates::forget_holder(change, id);
    for key in orphans {
        if let Some(orphan) = change.cluster.orphans.get_mut(&key) {
            orphan.left_on = Some(name.clone());
            change.touch(Key::Orphan(key));
        }
    }
    change.cluster.nodes.remove(&id);
    change.touch(Key::Node(id));
    change.other_leases();
    let message = format!("node {name} is no member any more");
    change.tell(Topic::Node, Severity::Warning, About::node(id), message);
    Ok(Outcome::Done)
}

/// Why the others cannot go on without a node.
fn needed(cluster: &Cluster, id: NodeId) -> Option<String> {
    let is_online =
        |node: NodeId| cluster.nodes.get(&node).is_some_and(|it| it.liveness.is_online());
    if !is_online(id) {
        return None;
    }
    let others = || cluster.nodes.keys().copied().filter(|node| *node != id);
    let (all, online) = (others().count(), others().filter(|node| is_online(*node)).count());
    if online * 2 <= all {
        return Some(format!("{online} of the other {all} is no majority"));
    }
    let mut templates = cluster.templates.values();
    if let Some(template) = templates.find(|template| {
        template.holders.contains(&id)
            && !template.holders.iter().any(|it| *it != id && is_online(*it))
    }) {
        return Some(format!("it has the only reachable copy of template {}", template.name));
    }
    let last = cluster.grains.values().find(|grain| {
        let mut places = grain.standbys.iter().copied().chain(grain.owner);
        grain.standbys.contains(&id) && !places.any(|place| place != id && is_online(place))
    });
    last.map(|grain| format!("it has the only reachable copy of grain {}", grain.name))
}

fn uses(grain: &crate::cluster::Grain, id: NodeId) -> bool {
    !grain.standbys.contains(&id) && grain.receivers().contains(&id)
}
