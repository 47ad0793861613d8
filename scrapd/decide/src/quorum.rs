//! Who has to answer so that anything can be changed, and what the loss of one more node would mean, in words.
//!
//! What becomes of grains is asked of the function that decides it when a node is really gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use scrap_schema::id::{Name, NodeId};
use scrap_schema::time::Now;
use scrap_schema::unit::Span;

use crate::cluster::{Cluster, Grain, Liveness};
use crate::fail_over;
use crate::lead::{View, WaitReason};
use crate::observed::Observed;
use crate::place::Loads;

/// Names in one sentence.
const NAMES_SHOWN: usize = 3;

/// The votes of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// All voters.
    pub voters: usize,
    /// Those that answer.
    pub answering: usize,
}

impl Quorum {
    /// Counts the votes. A voter answers while its lease is renewed.
    #[must_use]
    pub fn of(cluster: &Cluster, voters: &BTreeSet<NodeId>) -> Self {
        let answers = |node: &&NodeId| answers(cluster, **node);
        Self { voters: voters.len(), answering: voters.iter().filter(answers).count() }
    }

    /// So many have to answer.
    #[must_use]
    pub fn needed(self) -> usize {
        (self.voters / 2).saturating_add(1)
    }

    /// Whether anything can be changed.
    #[must_use]
    pub fn holds(self) -> bool {
        self.answering >= self.needed()
    }

    /// So many more may be lost.
    #[must_use]
    pub fn spare(self) -> usize {
        self.answering.saturating_sub(self.needed())
    }

    /// What the loss of one more voter would mean for everybody. `leased`: grains that need the lease.
    #[must_use]
    pub fn next_loss(self, leased: usize) -> String {
        if !self.holds() {
            let missing = self.needed().saturating_sub(self.answering);
            let (more, verb) = match missing {
                1 => ("one more voter".to_owned(), "comes"),
                _ => (format!("{missing} more voters"), "come"),
            };
            let now = stops(leased, true);
            return format!("nothing can be changed until {more} {verb} back{now}");
        }
        match (self.spare(), self.voters) {
            (0, 1) => format!(
                "the one voter is all there is: if it is lost, nothing can be changed until it is back{}",
                stops(leased, false)
            ),
            (0, _) => format!(
                "if one more voter is lost, nothing can be changed until it is back{}",
                stops(leased, false)
            ),
            (1, _) => "one more voter may be lost; then no other".to_owned(),
            (spare, _) => format!("{spare} more voters may be lost"),
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answering, needed) = (self.answering, self.needed());
        let voters = counted(self.voters, "voter");
        let verb = if answering == 1 { "answers" } else { "answer" };
        let are = if needed == 1 { "is" } else { "are" };
        write!(f, "{answering} of {voters} {verb}, {needed} {are} needed")
    }
}

/// What becomes of grains without a majority.
fn stops(leased: usize, now: bool) -> String {
    let grains = match leased {
        0 => return "; what runs goes on".to_owned(),
        1 => "1 grain that needs the lease".to_owned(),
        _ => format!("{leased} grains that need the lease"),
    };
    let (one, many) = if now { ("stands", "stand") } else { ("stops", "stop") };
    let verb = if leased == 1 { one } else { many };
    let still = if now { " still" } else { "" };
    format!("; {grains} {verb}{still}, the others go on")
}

/// What would be so if a node were lost now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfLost {
    /// Whether the others could still change anything.
    pub control: bool,
    /// Its grains that would start elsewhere by themselves.
    pub follow: Vec<Name>,
    /// Its grains that somebody else has a copy of, and that wait for a person's word.
    pub wait: Vec<Name>,
    /// Its grains that would be down until it is back.
    pub down: Vec<Name>,
    /// Grains of other nodes that would stop, because nobody could renew their lease.
    pub stop: Vec<Name>,
}

/// What the loss of each node would mean that answers now.
#[must_use]
pub fn if_lost(
    cluster: &Cluster,
    observed: &Observed,
    voters: &BTreeSet<NodeId>,
    now: Now,
) -> BTreeMap<NodeId, IfLost> {
    let quorum = Quorum::of(cluster, voters);
    let mut loads = Loads::of(cluster, observed, None);
    let mut without = cluster.clone();
    // That it may take a while does not change what becomes of it.
    without.policies.values_mut().for_each(|policy| policy.policy.failover.after = Span::ZERO);
    let mut found = BTreeMap::new();
    for node in cluster.nodes.values().filter(|node| node.liveness.is_online()) {
        let votes = usize::from(voters.contains(&node.id));
        let left = Quorum { answering: quorum.answering.saturating_sub(votes), ..quorum };
        let mut lost = IfLost { control: left.holds(), ..IfLost::default() };
        set_liveness(&mut without, node.id, Liveness::Fenced { last_heard: now.wall });
        let view = View { cluster: &without, observed, now };
        for grain in without.grains.values().filter(|grain| grain.wants_to_run()) {
            judge(view, grain, node.id, &mut loads, &mut lost);
        }
        set_liveness(&mut without, node.id, node.liveness.clone());
        found.insert(node.id, lost);
    }
    found
}

/// Puts one grain where it belongs.
fn judge(view: View<'_>, grain: &Grain, lost: NodeId, loads: &mut Loads, into: &mut IfLost) {
    let Some(owner) = grain.owner else { return };
    if owner != lost {
        let leased = grain.armed || view.cluster.needs_lease(grain);
        if !into.control && leased && view.is_online(owner) {
            into.stop.push(grain.name.clone());
        }
        return;
    }
    let place = match fail_over::choose(view, grain, owner, loads) {
        Ok(_) if into.control => &mut into.follow,
        Ok(_) => &mut into.down,
        Err(reason) if into.control && waits_for_a_person(&reason) && has_copy(view, grain) => {
            &mut into.wait
        }
        Err(_) => &mut into.down,
    };
    place.push(grain.name.clone());
}

fn has_copy(view: View<'_>, grain: &Grain) -> bool {
    grain.standbys.iter().any(|standby| view.is_online(*standby))
}

fn waits_for_a_person(reason: &WaitReason) -> bool {
    matches!(
        reason,
        WaitReason::NeedsWord { .. }
            | WaitReason::ManualPolicy { .. }
            | WaitReason::LossTooLarge { .. }
            | WaitReason::Brake { .. }
    )
}

fn set_liveness(cluster: &mut Cluster, node: NodeId, liveness: Liveness) {
    if let Some(node) = cluster.nodes.get_mut(&node) {
        node.liveness = liveness;
    }
}

impl fmt::Display for IfLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.control {
            true => "control goes on",
            false => "nothing can be changed until it is back",
        })?;
        let parts = [
            (&self.follow, "starts elsewhere by itself", "start elsewhere by themselves"),
            (&self.wait, "waits for your word", "wait for your word"),
            (&self.down, "is down until it is back", "are down until it is back"),
            (
                &self.stop,
                "stops too: nobody renews its lease",
                "stop too: nobody renews their lease",
            ),
        ];
        for (names, one, many) in parts {
            match names.as_slice() {
                [] => (),
                [only] => write!(f, "; {only} {one}")?,
                all => write!(f, "; {} {many}", listed(all))?,
            }
        }
        Ok(())
    }
}

fn listed(names: &[Name]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(Name::as_str).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What a person could do to lose less, if anything.
#[must_use]
pub fn advice(cluster: &Cluster, voters: &BTreeSet<NodeId>) -> Option<String> {
    let silent = voters.iter().filter(|voter| !answers(cluster, **voter));
    let silent: Vec<String> = silent.map(|voter| cluster.node_name(*voter)).collect();
    if !Quorum::of(cluster, voters).holds() {
        let silent = silent.join(", ");
        return Some(format!(
            "bring back {silent}; if they are lost for good, `scrapd recover` makes a new beginning from a node that is left"
        ));
    }
    if let Some(name) = silent.first() {
        let others = cluster.members().filter(|node| !voters.contains(&node.id));
        return Some(match others.filter(|node| node.liveness.is_online()).count() {
            0 => format!(
                "bring {name} back; if it never comes back: `scrapctl node rm {name}`, and let another machine join"
            ),
            _ => format!(
                "bring {name} back; another node gets its vote after 10 min, or at once after `scrapctl node rm {name}`"
            ),
        });
    }
    (cluster.members().count() == 2).then(|| {
        "a third voter lets grains start elsewhere by themselves; a small machine that runs nothing is enough: `role = \"witness\"` in its configuration, then `scrapd join`"
            .to_owned()
    })
}

fn answers(cluster: &Cluster, node: NodeId) -> bool {
    cluster.nodes.get(&node).is_some_and(|node| node.liveness.is_online())
}

/// `1 voter`, `2 voters`.
fn counted(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

#[cfg(test)]
mod tests;
