//! `wait`: until something is so. What "so" means is pure; only the asking is not.

use std::time::Duration;

use scrap_schema::api::{
    ClusterHealth, ClusterView, Condition, GrainState, GrainView, NodeState, NodeView,
    OperationView,
};
use scrap_schema::id::{Name, OperationId};
use scrap_schema::problem::Code;
use scrap_schema::unit::Span;

use super::names::Noun;
use super::{Ctx, operation};
use crate::cli::{WaitArgs, WaitForArgs};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::nearest::nearest;
use crate::render;

/// Time between two questions.
const POLL: Duration = Duration::from_millis(500);
/// How long nobody need answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Grain(Name, OfGrain),
    Node(Name, OfNode),
    Cluster(OfCluster),
    Operation(OperationId),
}

/// What can be so of a grain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OfGrain {
    Running,
    Stopped,
    Replicated,
    Healthy,
    Gone,
    MovedTo(Name),
}

/// What can be so of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfNode {
    Online,
    Fenced,
    Drained,
}

/// What can be so of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfCluster {
    Quorum,
    Healthy,
}

impl Wanted {
    /// That it is not so, after the name of what was waited for.
    fn missing(&self) -> String {
        let words = match self {
            Self::Grain(_, OfGrain::Running) => "is not running",
            Self::Grain(_, OfGrain::Stopped) => "is not stopped",
            Self::Grain(_, OfGrain::Replicated) => "is not replicated",
            Self::Grain(_, OfGrain::Healthy) | Self::Cluster(OfCluster::Healthy) => {
                "is not healthy"
            }
            Self::Grain(_, OfGrain::Gone) => "is not gone",
            Self::Grain(_, OfGrain::MovedTo(node)) => return format!("has not moved to {node}"),
            Self::Node(_, OfNode::Online) => "is not online",
            Self::Node(_, OfNode::Fenced) => "is not fenced",
            Self::Node(_, OfNode::Drained) => "is not drained",
            Self::Cluster(OfCluster::Quorum) => "has no quorum",
            Self::Operation(_) => "is not over",
        };
        words.to_owned()
    }
}

/// Waits.
pub(crate) async fn wait(ctx: &Ctx, args: &WaitForArgs) -> Result<(), Failure> {
    let wanted = parse(&args.target, args.condition.as_deref())?;
    if let Wanted::Operation(id) = wanted {
        let call = Call::get(&["operations", &id.to_string()]);
        let operation: OperationView = ctx.client.value(&call).await?;
        return operation::finish(ctx, vec![operation], WaitArgs::default()).await;
    }
    operation::learn(ctx).await;
    let mut last = "nothing is known yet".to_owned();
    let until = async {
        loop {
            match look(ctx, &wanted).await? {
                None => return Ok(()),
                Some(state) => last = state,
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let result = tokio::select! {
        result = until => result,
        () = operation::interrupted() => Err(Failure::Interrupted { operations: Vec::new() }),
        () = operation::deadline(ctx.client.deadline()) => Err(Failure::Timeout {
            what: String::new(),
            operations: Vec::new(),
        }),
    };
    let over = operation::is_over(ctx.client.deadline());
    let too_late = || {
        let ms = ctx.settings.timeout.unwrap_or_default().as_millis();
        let limit = Span::from_ms(u64::try_from(ms).unwrap_or(u64::MAX));
        let what = format!("{} {} after {limit}: {last}", args.target, wanted.missing());
        Err(Failure::Timeout { what, operations: Vec::new() })
    };
    match result {
        Err(Failure::Timeout { .. }) => too_late(),
        // The last question was given up with the time; before it the cluster answered.
        Err(Failure::Unreachable { .. }) if over && !last.is_empty() => too_late(),
        other => other,
    }
}

/// Asks once: `None` when it is so, else how it is.
async fn look(ctx: &Ctx, wanted: &Wanted) -> Result<Option<String>, Failure> {
    match wanted {
        Wanted::Grain(name, condition) => {
            let call = Call::get(&["grains", name.as_str()]).patient(PATIENCE);
            match ctx.client.value::<GrainView>(&call).await {
                Ok(grain) => Ok(grain_lacks(&grain, condition)),
                Err(Failure::Problem { problem, .. })
                    if problem.code == Code::NotFound && *condition == OfGrain::Gone =>
                {
                    Ok(None)
                }
                Err(failure) => ctx.named(Err(failure), &[(Noun::Grain, name)]).await,
            }
        }
        Wanted::Node(name, condition) => {
            let call = Call::get(&["nodes", name.as_str()]).patient(PATIENCE);
            let node = ctx.client.value::<NodeView>(&call).await;
            let node = ctx.named(node, &[(Noun::Node, name)]).await?;
            Ok(node_lacks(&node, *condition))
        }
        Wanted::Cluster(condition) => {
            let call = Call::get(&["cluster"]).patient(Duration::from_secs(2));
            match ctx.client.value::<ClusterView>(&call).await {
                Ok(cluster) => Ok(cluster_lacks(&cluster, *condition)),
                // No answer is what is being waited out.
                Err(Failure::Unreachable { tried, .. }) => {
                    let said = tried.into_iter().next();
                    let said =
                        said.map(|attempt| format!("{}: {}", attempt.server, attempt.outcome));
                    Ok(Some(said.unwrap_or_else(|| "no node answers".to_owned())))
                }
                Err(failure) => Err(failure),
            }
        }
        Wanted::Operation(_) => Ok(None),
    }
}

fn grain_lacks(grain: &GrainView, wanted: &OfGrain) -> Option<String> {
    let status = &grain.status;
    let is_running = status.state == GrainState::Running;
    let condition = |name: &str| -> Option<&Condition> {
        status.conditions.iter().find(|condition| condition.r#type == name)
    };
    let holds = |name: &str| condition(name).and_then(|condition| condition.status);
    let done = match wanted {
        OfGrain::Running => is_running,
        OfGrain::Stopped => status.state == GrainState::Stopped,
        OfGrain::Replicated => holds("Replicated") == Some(true),
        // A grain without a check of its health is healthy when it runs.
        OfGrain::Healthy => is_running && holds("Healthy") != Some(false),
        OfGrain::Gone => status.state == GrainState::Trashed,
        OfGrain::MovedTo(node) => {
            let settled = match status.state {
                GrainState::Running | GrainState::Stopped => true,
                GrainState::Pending
                | GrainState::Starting
                | GrainState::Unhealthy
                | GrainState::Stopping
                | GrainState::Moving
                | GrainState::Lost
                | GrainState::Trashed => false,
            };
            settled && status.node.as_ref() == Some(node)
        }
    };
    if done {
        return None;
    }
    let (word, _) = render::grains::state(status.state);
    let place = status.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let why = match wanted {
        OfGrain::Replicated => condition("Replicated").map(|it| it.message.clone()),
        OfGrain::Healthy => condition("Healthy").map(|it| it.message.clone()),
        OfGrain::Running | OfGrain::Stopped | OfGrain::Gone | OfGrain::MovedTo(_) => {
            status.waiting.as_ref().map(|waiting| waiting.reason.clone())
        }
    };
    let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("it is {word}{place}{why}"))
}

fn node_lacks(node: &NodeView, wanted: OfNode) -> Option<String> {
    let status = &node.status;
    let done = match wanted {
        OfNode::Online => status.state == NodeState::Online,
        OfNode::Fenced => status.state == NodeState::Fenced,
        OfNode::Drained => status.draining && status.grains.is_empty(),
    };
    let word = match status.state {
        NodeState::Online => "online",
        NodeState::Suspect => "suspect",
        NodeState::Fenced => "fenced",
        NodeState::Away => "away",
    };
    let grains = render::text::count(status.grains.len(), "grain");
    let draining = if status.draining { "" } else { "not " };
    (!done).then(|| format!("it is {word}, {draining}draining, with {grains}"))
}

fn cluster_lacks(cluster: &ClusterView, wanted: OfCluster) -> Option<String> {
    let done = match wanted {
        OfCluster::Quorum => cluster.leader.is_some(),
        OfCluster::Healthy => cluster.health == ClusterHealth::Healthy,
    };
    let (word, _) = render::status::health(cluster.health);
    let reasons = cluster.reasons.join("; ");
    (!done).then(|| format!("it is {}: {reasons}", word.to_lowercase()))
}

/// Reads `grain/web` and `running`.
pub(super) fn parse(target: &str, condition: Option<&str>) -> Result<Wanted, Failure> {
    let (kind, name) = target.split_once('/').unwrap_or((target, ""));
    let name_of = || name.parse::<Name>().map_err(|error| Failure::usage(error.to_string()));
    match (kind, condition) {
        ("op", None) => {
            let id = name
                .parse()
                .map_err(|error: scrap_schema::id::BadId| Failure::usage(error.to_string()))?;
            Ok(Wanted::Operation(id))
        }
        ("op", Some(_)) => {
            Err(Failure::usage("an operation is waited for until its end; no --for"))
        }
        ("grain", Some(condition)) => Ok(Wanted::Grain(name_of()?, of_grain(condition)?)),
        ("node", Some(condition)) => {
            let known = [
                ("online", OfNode::Online),
                ("fenced", OfNode::Fenced),
                ("drained", OfNode::Drained),
            ];
            Ok(Wanted::Node(name_of()?, pick("node", condition, &known)?))
        }
        ("cluster", Some(condition)) if name.is_empty() => {
            let known = [("quorum", OfCluster::Quorum), ("healthy", OfCluster::Healthy)];
            Ok(Wanted::Cluster(pick("cluster", condition, &known)?))
        }
        ("grain" | "node" | "cluster", None) => {
            Err(Failure::usage(format!("what should `{target}` be? say --for=CONDITION")))
        }
        _ => Err(Failure::Usage {
            message: format!("`{target}` is nothing to wait for"),
            hint: Some("write `grain/NAME`, `node/NAME`, `cluster` or `op/ID`".to_owned()),
        }),
    }
}

fn of_grain(condition: &str) -> Result<OfGrain, Failure> {
    if let Some(node) = condition.strip_prefix("moved-to=") {
        let node = node.parse::<Name>().map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(OfGrain::MovedTo(node));
    }
    let known = [
        ("running", OfGrain::Running),
        ("stopped", OfGrain::Stopped),
        ("replicated", OfGrain::Replicated),
        ("healthy", OfGrain::Healthy),
        ("gone", OfGrain::Gone),
    ];
    pick("grain", condition, &known)
}

fn pick<T: Clone>(kind: &str, condition: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == condition) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(condition, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a {kind} can be {}", names.join(", ")),
    };
    let message = format!("a {kind} cannot be waited for to be `{condition}`");
    Err(Failure::Usage { message, hint: Some(hint) })
}

#[cfg(test)]
mod tests;
