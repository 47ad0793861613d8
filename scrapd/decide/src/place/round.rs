//! What many placements of one round share: every node with its load, who keeps apart from whom, and what the round has placed
//! already. Decides nothing by itself.

use std::collections::BTreeMap;

use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::spec::Labels;
use scrap_schema::unit::Bytes;

use super::{Load, Part, Purpose, Ranking, View, Wanted, loads, rank_with};
use crate::cluster::{Cluster, Grain, Node};
use crate::observed::{Heard, Observed};

/// A node as a place to be, with everything about it that a round needs again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(super) node: &'a Node,
    pub(super) heard: Option<&'a Heard>,
    pub(super) load: Load,
}

impl Spot<'_> {
    pub(super) fn has_data(&self, wanted: Wanted<'_>) -> bool {
        let Some(grain) = wanted.grain else { return false };
        let reported = || self.heard.and_then(|heard| heard.grains.get(&grain.id));
        grain.owner == Some(self.node.id) || reported().is_some_and(|report| report.data.is_some())
    }
}

pub(super) fn spots<'a>(
    cluster: &'a Cluster,
    observed: &'a Observed,
    loads: &BTreeMap<NodeId, Load>,
) -> Vec<Spot<'a>> {
    let spot = |node: &'a Node| Spot {
        node,
        heard: observed.nodes.get(&node.id),
        load: loads.get(&node.id).copied().unwrap_or_default(),
    };
    cluster.nodes.values().map(spot).collect()
}

/// The nodes and what is taken of them, kept through a round so that many placements see each other.
pub(crate) struct Loads<'a> {
    /// In order of id.
    spots: Vec<Spot<'a>>,
    /// Grains that want to be kept apart from others.
    wary: Vec<GrainId>,
    /// Where grains will run that this round has placed.
    placed: BTreeMap<GrainId, NodeId>,
}

impl<'a> Loads<'a> {
    pub(crate) fn of(
        cluster: &'a Cluster,
        observed: &'a Observed,
        without: Option<GrainId>,
    ) -> Self {
        let spots = spots(cluster, observed, &loads(cluster, without));
        Self { spots, wary: wary(cluster), placed: BTreeMap::new() }
    }

    /// Ranks every node for a grain, without words for the parts of the scores.
    pub(crate) fn rank(&self, cluster: &Cluster, wanted: Wanted<'_>) -> Ranking {
        self.rank_these(cluster, wanted, self.spots.iter())
    }

    /// Ranks some nodes only.
    pub(crate) fn rank_among(
        &self,
        cluster: &Cluster,
        wanted: Wanted<'_>,
        nodes: impl Iterator<Item = NodeId>,
    ) -> Ranking {
        let spots = nodes.filter_map(|node| self.spots.get(self.position(node)?));
        self.rank_these(cluster, wanted, spots)
    }

    fn rank_these<'b>(
        &self,
        cluster: &Cluster,
        wanted: Wanted<'_>,
        spots: impl Iterator<Item = &'b Spot<'b>>,
    ) -> Ranking {
        let hostile = hostile(cluster, wanted, &self.wary, &self.placed);
        let mut silent = |_: &mut Vec<Part>, _: i64, _: &dyn Fn() -> String| ();
        rank_with(View::of(cluster, wanted, &hostile), spots, &mut silent)
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.spots.binary_search_by_key(&node, |spot| spot.node.id).ok()
    }

    /// A grain will run there.
    pub(crate) fn will_run(&mut self, node: NodeId, grain: &Grain) {
        self.placed.insert(grain.id, node);
        let position = self.position(node);
        let Some(spot) = position.and_then(|position| self.spots.get_mut(position)) else { return };
        let (load, resources) = (&mut spot.load, &grain.spec.resources);
        load.memory = Bytes(load.memory.0.saturating_add(resources.memory.0));
        load.cpu.0 = load.cpu.0.saturating_add(resources.cpu.0);
        load.disk = Bytes(load.disk.0.saturating_add(resources.disk.0));
        load.grains = load.grains.saturating_add(1);
    }

    /// A copy will be kept there.
    pub(crate) fn will_keep(&mut self, node: NodeId, grain: &Grain) {
        let position = self.position(node);
        let Some(spot) = position.and_then(|position| self.spots.get_mut(position)) else { return };
        let disk = spot.load.disk.0.saturating_add(grain.spec.resources.disk.0);
        spot.load.disk = Bytes(disk);
    }
}

/// Grains that want to be kept apart from others: few of many.
pub(super) fn wary(cluster: &Cluster) -> Vec<GrainId> {
    let wary = cluster.grains.values().filter(|grain| !grain.spec.place.apart_from.is_empty());
    wary.map(|grain| grain.id).collect()
}

/// Nodes with a grain that this one must keep apart from, in either one's words; and which grain that is.
pub(super) fn hostile(
    cluster: &Cluster,
    wanted: Wanted<'_>,
    wary: &[GrainId],
    placed: &BTreeMap<GrainId, NodeId>,
) -> BTreeMap<NodeId, String> {
    if wanted.purpose == Purpose::Copy {
        return BTreeMap::new();
    }
    let matches = |sets: &[Labels], labels: &Labels| {
        sets.iter().any(|set| {
            !set.is_empty() && set.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    };
    let mut hostile = BTreeMap::new();
    let mut look = |other: &Grain| {
        let itself = wanted.grain.is_some_and(|grain| grain.id == other.id);
        let node = placed.get(&other.id).copied().or(other.owner);
        let Some(node) = node.filter(|_| !itself && other.trashed_until.is_none()) else { return };
        if matches(&wanted.spec.place.apart_from, &other.labels)
            || matches(&other.spec.place.apart_from, wanted.labels)
        {
            hostile.entry(node).or_insert_with(|| other.name.to_string());
        }
    };
    if wanted.spec.place.apart_from.is_empty() {
        wary.iter().filter_map(|id| cluster.grains.get(id)).for_each(&mut look);
    } else {
        cluster.grains.values().for_each(&mut look);
    }
    hostile
}
