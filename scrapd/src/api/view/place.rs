//! Where a grain could live, node by node. Pure.

use scrap_decide::place::{Candidate, Ranking, Unfit};
use scrap_schema::api::{CandidateView, PlacementView};
use scrap_schema::id::{Name, NodeId};
use scrap_schema::problem;

use super::World;

/// Every node: best first, then the unfit ones by name.
pub(crate) fn placement(
    world: &World<'_>,
    ranking: &Ranking,
    current: Option<NodeId>,
) -> PlacementView {
    let fit = ranking.fit.iter().filter_map(|candidate| {
        Some(CandidateView {
            node: world.node_name(candidate.node)?,
            score: Some(candidate.score),
            reasons: parts(candidate),
            current: current == Some(candidate.node),
        })
    });
    let mut unfit: Vec<_> = ranking
        .unfit
        .iter()
        .filter_map(|(node, reasons)| {
            Some(CandidateView {
                node: world.node_name(*node)?,
                score: None,
                reasons: lacks(reasons),
                current: current == Some(*node),
            })
        })
        .collect();
    unfit.sort_by(|one, other| one.node.cmp(&other.node));
    PlacementView { nodes: fit.chain(unfit).collect() }
}

/// Why each node was refused, for a problem.
pub(crate) fn candidates(world: &World<'_>, ranking: &Ranking) -> Vec<problem::Candidate> {
    let candidate = |(node, reasons): (&NodeId, &Vec<Unfit>)| {
        let node: Name = world.node_name(*node)?;
        Some(problem::Candidate { node, reasons: lacks(reasons) })
    };
    ranking.unfit.iter().filter_map(candidate).collect()
}

fn parts(candidate: &Candidate) -> Vec<String> {
    candidate.parts.iter().map(|part| format!("{:+} {}", part.points, part.what)).collect()
}

fn lacks(reasons: &[Unfit]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}
