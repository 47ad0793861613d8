//! One node goes on alone in a new generation, and the others of before take no part in it, whoever speaks first.

use std::time::Duration;

use scrap_schema::command::Command;
use scrap_schema::id::NodeId;

use super::lab::{
    LIMIT, Lab, Node, change, ids, plain, policy_seconds, put_policy, settings, wait_for,
};
use crate::raft::{Compaction, Consensus, alone, look};

const SURVIVOR: NodeId = NodeId(2);

/// Three nodes with ten changes, all stopped; the second has gone on alone as generation 1.
async fn recovered(compaction: Compaction) -> Lab {
    let mut lab = Lab::three(compaction).await;
    let leader = lab.leader().await;
    for number in 0..10 {
        change(&lab.nodes[&leader].consensus, put_policy("gold", number)).await;
    }
    let (index, _) = lab.nodes[&leader].consensus.hash_at(None).unwrap();
    lab.agree_at(index).await;
    for node in [1, 2, 3] {
        lab.stop(NodeId(node)).await;
    }
    let settings = settings(lab.path(SURVIVOR), SURVIVOR);
    let before = look(&settings).await.unwrap();
    assert_eq!(before.voters, ids([1, 2, 3]));
    assert!(before.last.1 >= index && before.answering.is_empty(), "{before}");
    let address = lab.book()[&SURVIVOR].clone();
    alone(&settings, &address).await.unwrap();
    let once = look(&settings).await.unwrap();
    assert_eq!((once.voters, once.last.1), (ids([2]), before.last.1 + 1));
    alone(&settings, &address).await.unwrap();
    assert_eq!(look(&settings).await.unwrap().last, once.last, "twice is once");

    let consensus = Consensus::open(settings.of_generation(1)).await.unwrap();
    wait_for("it leads", || consensus.leadership().borrow().me.then_some(())).await;
    let command = Command::RecoverCluster { generation: 1, node: SURVIVOR };
    assert!(change(&consensus, command).await.outcome.is_ok());
    assert_eq!(policy_seconds(&consensus, "gold"), Some(10 + 9));
    assert_eq!(consensus.members().voters, ids([2]));
    consensus.close().await;
    lab
}

async fn start_survivor(lab: &mut Lab) {
    let address = lab.book()[&SURVIVOR].parse().unwrap();
    let settings = settings(lab.path(SURVIVOR), SURVIVOR).of_generation(1);
    lab.nodes.insert(SURVIVOR, Node::start(settings, Some(address)).await);
}

async fn is_left_behind(lab: &Lab, node: u64) {
    let consensus = &lab.nodes[&NodeId(node)].consensus;
    let newer = tokio::time::timeout(LIMIT, consensus.left_behind()).await;
    assert_eq!(newer.ok(), Some(1), "node {node}");
    assert!(consensus.confirm_leadership().await.is_err(), "node {node} confirms");
    let proposed = consensus.propose(plain(put_policy("silver", 1))).await;
    assert!(proposed.is_err(), "node {node} takes a change");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_and_the_old_majority_is_refused_when_it_comes_back() {
    let mut lab = recovered(Compaction::default()).await;
    start_survivor(&mut lab).await;
    for node in [1, 3] {
        lab.start(node).await;
    }
    for node in [1, 3] {
        is_left_behind(&lab, node).await;
    }
    let survivor = &lab.nodes[&SURVIVOR].consensus;
    change(survivor, put_policy("gold", 77)).await;
    let newer = tokio::time::timeout(Duration::from_millis(50), survivor.left_behind()).await;
    assert!(newer.is_err(), "the survivor itself is left behind by nobody");
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_majority_that_leads_already_ends_as_soon_as_it_hears_of_the_new_one() {
    let mut lab = recovered(Compaction { snapshot_every: 8, keep: 2 }).await;
    for node in [1, 3] {
        lab.start(node).await;
    }
    let leader = lab.leader().await;
    change(&lab.nodes[&leader].consensus, put_policy("gold", 13)).await;
    start_survivor(&mut lab).await;
    // Whoever leads calls the survivor, which is a voter in its eyes.
    is_left_behind(&lab, leader.0).await;
    lab.close().await;
}
