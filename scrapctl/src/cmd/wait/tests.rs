//! What `wait` understands, and when it is content.

use scrap_schema::api::*;

use super::*;
use crate::values::*;

fn refused(target: &str, condition: Option<&str>) -> String {
    match parse(target, condition) {
        Err(Failure::Usage { message, hint }) => {
            hint.map_or(message.clone(), |hint| format!("{message}; {hint}"))
        }
        other => panic!("{target} {condition:?}: {other:?}"),
    }
}

#[test]
fn targets_and_conditions() {
    let web = || name("web");
    let check = |target: &str, condition: &str, expected: Wanted| {
        assert_eq!(parse(target, Some(condition)).unwrap(), expected);
    };
    check("grain/web", "running", Wanted::Grain(web(), OfGrain::Running));
    check("grain/web", "moved-to=cy", Wanted::Grain(web(), OfGrain::MovedTo(name("cy"))));
    check("node/web", "drained", Wanted::Node(web(), OfNode::Drained));
    check("cluster", "quorum", Wanted::Cluster(OfCluster::Quorum));
    let id = OperationId(9);
    assert_eq!(parse(&format!("op/{id}"), None).unwrap(), Wanted::Operation(id));
}

#[test]
fn mistakes_get_hints() {
    assert_eq!(
        refused("grain/web", Some("runing")),
        "a grain cannot be waited for to be `runing`; did you mean `running`?"
    );
    assert_eq!(
        refused("node/ada", Some("happy")),
        "a node cannot be waited for to be `happy`; a node can be online, fenced, drained"
    );
    assert_eq!(refused("grain/web", None), "what should `grain/web` be? say --for=CONDITION");
    assert!(refused("web", Some("running")).starts_with("`web` is nothing to wait for"));
    assert!(refused("grain/Web", Some("running")).contains("only a-z"));
    assert!(refused("op/1", None).contains("26 characters"));
}

#[test]
fn a_grain_is_running_when_it_answers() {
    let mut grain = grain("web");
    assert_eq!(grain_lacks(&grain, &OfGrain::Running), None);
    grain.status.state = GrainState::Starting;
    assert_eq!(grain_lacks(&grain, &OfGrain::Running), Some("it is starting on ada".to_owned()));
    grain.status.waiting = Some(WaitingView {
        subject: "grain web".to_owned(),
        reason: "no node has room".to_owned(),
        hint: None,
    });
    assert_eq!(
        grain_lacks(&grain, &OfGrain::Running),
        Some("it is starting on ada: no node has room".to_owned())
    );
}

#[test]
fn a_grain_has_moved_when_it_is_settled_there() {
    let mut grain = grain("web");
    let to = OfGrain::MovedTo(name("cy"));
    assert!(grain_lacks(&grain, &to).is_some());
    grain.status.node = Some(name("cy"));
    grain.status.state = GrainState::Starting;
    assert!(grain_lacks(&grain, &to).is_some());
    grain.status.state = GrainState::Running;
    assert_eq!(grain_lacks(&grain, &to), None);
}

#[test]
fn replicated_and_healthy_are_conditions() {
    let grain = troubled_grain();
    assert_eq!(
        grain_lacks(&grain, &OfGrain::Replicated),
        Some("it is moving on ada: the copy on bob is 14 min old".to_owned())
    );
    assert!(grain_lacks(&grain, &OfGrain::Healthy).is_some());
    let grain = crate::values::grain("web");
    assert_eq!(grain_lacks(&grain, &OfGrain::Replicated), None);
    assert_eq!(grain_lacks(&grain, &OfGrain::Healthy), None);
}

#[test]
fn a_node_is_drained_when_nothing_is_left() {
    let mut node = node("ada");
    node.status.draining = true;
    assert_eq!(
        node_lacks(&node, OfNode::Drained),
        Some("it is online, draining, with 1 grain".to_owned())
    );
    node.status.grains.clear();
    assert_eq!(node_lacks(&node, OfNode::Drained), None);
    assert!(node_lacks(&node, OfNode::Fenced).is_some());
}

#[test]
fn a_cluster_without_a_leader_has_no_quorum() {
    let mut cluster = cluster();
    assert_eq!(cluster_lacks(&cluster, OfCluster::Quorum), None);
    assert_eq!(cluster_lacks(&cluster, OfCluster::Healthy), None);
    cluster.leader = None;
    cluster.health = ClusterHealth::Degraded;
    assert!(cluster_lacks(&cluster, OfCluster::Quorum).is_some());
    assert!(cluster_lacks(&cluster, OfCluster::Healthy).is_some());
}
