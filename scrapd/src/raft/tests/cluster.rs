//! Clusters of nodes over real HTTP.

use std::time::Duration;

use super::lab::{
    LIMIT, Lab, change, form, ids, keyed, new_node, plain, policy_seconds, put_policy, wait_for,
};
use crate::raft::{Compaction, Members, MembersError, NotLeader, ProposeError};
use scrap_schema::command::Command;
use scrap_schema::id::{BootId, NodeId};
use scrap_schema::node::NodeFacts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster_and_becomes_three() {
    let mut lab = Lab::one().await;
    let first = &lab.nodes[&NodeId(1)].consensus;
    change(first, put_policy("gold", 1)).await;
    assert_eq!(first.members().voters, ids([1]));
    lab.start(2).await;
    lab.start(3).await;
    let first = &lab.nodes[&NodeId(1)].consensus;
    first.set_members(ids([1]), lab.book()).await.unwrap();
    let with_learners = Members { voters: ids([1]), learners: ids([2, 3]), joint: false };
    assert_eq!(first.members(), with_learners);
    first.set_members(ids([1, 2]), lab.book()).await.unwrap();
    assert_eq!(first.members().voters, ids([1, 2]));
    first.set_members(ids([1, 2, 3]), lab.book()).await.unwrap();
    assert_eq!(first.members(), Members { voters: ids([1, 2, 3]), ..Members::default() });
    let last = change(first, put_policy("gold", 2)).await;
    lab.agree_at(last.index).await;
    for node in lab.nodes.values() {
        assert_eq!(policy_seconds(&node.consensus, "gold"), Some(12));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_not_wanted_go() {
    let lab = Lab::three(Compaction::default()).await;
    let leader = &lab.nodes[&NodeId(1)].consensus;
    leader.set_members(ids([1]), [(NodeId(3), String::new())].into()).await.unwrap();
    let expected = Members { voters: ids([1]), learners: ids([3]), joint: false };
    assert_eq!(leader.members(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_sets_of_members_are_refused() {
    let lab = Lab::one().await;
    let first = &lab.nodes[&NodeId(1)].consensus;
    let none = first.set_members(ids([]), [].into()).await;
    assert!(matches!(none, Err(MembersError::Invalid(_))), "{none:?}");
    let unknown = first.set_members(ids([1, 9]), [].into()).await;
    assert!(matches!(unknown, Err(MembersError::Invalid(_))), "{unknown:?}");
    assert_eq!(first.members().voters, ids([1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_forwards_and_knows_the_leader() {
    let lab = Lab::three(Compaction::default()).await;
    let leader = lab.leader().await;
    let follower = *lab.nodes.keys().find(|node| **node != leader).unwrap();
    let done = change(&lab.nodes[&follower].consensus, put_policy("gold", 3)).await;
    lab.agree_at(done.index).await;
    let refused = lab.nodes[&follower].consensus.confirm_leadership().await;
    assert_eq!(refused, Err(NotLeader { leader: Some(leader) }));
    let confirmed = lab.nodes[&leader].consensus.confirm_leadership().await.unwrap();
    assert!(confirmed >= done.index);
    // What somebody has decided as the leader goes to no other one.
    let decided = lab.nodes[&follower].consensus.decide(plain(put_policy("gold", 4))).await;
    assert!(matches!(decided, Err(ProposeError::NoLeader { .. })), "{decided:?}");
    let decided = lab.nodes[&leader].consensus.decide(plain(put_policy("gold", 5))).await.unwrap();
    assert_eq!(decided.index, done.index + 1, "the first one is in no log");
    let not_leader = lab.nodes[&follower].consensus.set_members(ids([1]), lab.book()).await;
    assert_eq!(not_leader, Err(NotLeader { leader: Some(leader) }.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_goes_on_and_the_old_one_follows() {
    let mut lab = Lab::three(Compaction::default()).await;
    let old = lab.leader().await;
    change(&lab.nodes[&old].consensus, put_policy("gold", 1)).await;
    lab.stop(old).await;
    let any = *lab.nodes.keys().next().unwrap();
    let new = lab.leader().await;
    assert_ne!(new, old);
    let done = change(&lab.nodes[&any].consensus, put_policy("gold", 2)).await;
    lab.agree_at(done.index).await;
    lab.start(old.0).await;
    let done = change(&lab.nodes[&old].consensus, put_policy("gold", 3)).await;
    lab.agree_at(done.index).await;
    assert_eq!(policy_seconds(&lab.nodes[&old].consensus, "gold"), Some(13));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request() {
    let lab = Lab::three(Compaction::default()).await;
    let old = lab.leader().await;
    let to = *lab.nodes.keys().rfind(|node| **node != old).unwrap();
    let term = lab.nodes[&old].consensus.leadership().borrow().term;
    lab.nodes[&old].consensus.hand_over(Some(to)).await;
    let mut leadership = lab.nodes[&to].consensus.leadership();
    let taken = leadership.wait_for(|now| now.me && now.term > term);
    tokio::time::timeout(super::lab::LIMIT, taken).await.unwrap().unwrap();
    change(&lab.nodes[&old].consensus, put_policy("gold", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_has_one_effect() {
    let lab = Lab::three(Compaction::default()).await;
    let leader = lab.leader().await;
    let follower = *lab.nodes.keys().find(|node| **node != leader).unwrap();
    let request = keyed(put_policy("gold", 1), "request-1");
    let first = lab.nodes[&leader].consensus.propose(request.clone()).await.unwrap();
    change(&lab.nodes[&leader].consensus, put_policy("gold", 2)).await;
    let second = lab.nodes[&follower].consensus.propose(request).await.unwrap();
    assert!(!first.repeated && second.repeated);
    assert_eq!(first.outcome, second.outcome);
    assert_eq!(policy_seconds(&lab.nodes[&leader].consensus, "gold"), Some(12));
    lab.agree_at(second.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_promised() {
    let mut lab = Lab::three(Compaction::default()).await;
    let leader = lab.leader().await;
    let others: Vec<_> = lab.nodes.keys().copied().filter(|node| *node != leader).collect();
    for other in &others {
        lab.stop(*other).await;
    }
    let alone = &lab.nodes[&leader].consensus;
    // As long as it has heard a majority that others are bound to, it may try.
    wait_for("the leader to grow old", || alone.age().filter(|age| age.ms() > 1500)).await;
    // One that it takes in before it knows of the loss can end either way, and that is what it says; later ones are refused.
    let refused = async {
        loop {
            match alone.propose(plain(put_policy("gold", 1))).await {
                Err(ProposeError::Unknown { .. }) => (),
                answer => return answer,
            }
        }
    };
    let refused = tokio::time::timeout(LIMIT, refused).await.expect("it never knows");
    assert!(matches!(refused, Err(ProposeError::NoLeader { .. })), "{refused:?}");
    assert_eq!(alone.confirm_leadership().await.map_err(|it| it.leader), Err(None));
    // Stale reads go on.
    assert_eq!(policy_seconds(alone, "gold"), None);
    lab.start(others[0].0).await;
    let done = change(&lab.nodes[&others[0]].consensus, put_policy("gold", 2)).await;
    lab.agree_at(done.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_catches_up_by_snapshot() {
    let mut lab = Lab::three(Compaction { snapshot_every: 40, keep: 5 }).await;
    let leader = lab.leader().await;
    let behind = *lab.nodes.keys().find(|node| **node != leader).unwrap();
    change(&lab.nodes[&leader].consensus, put_policy("old", 1)).await;
    lab.stop(behind).await;
    let mut last = 0;
    for number in 0..150 {
        let name = format!("p{}", number % 7);
        last = change(&lab.nodes[&leader].consensus, put_policy(&name, number)).await.index;
    }
    let path = lab.path(leader);
    wait_for("a snapshot of the leader", || {
        crate::store::snapshot::newest_snapshot(&path).unwrap()
    })
    .await;
    lab.start(behind.0).await;
    let done = change(&lab.nodes[&leader].consensus, put_policy("p0", 999)).await;
    assert!(done.index > last);
    lab.agree_at(done.index).await;
    // The file that it came in is its own newest snapshot now, and nothing is left over.
    let path = lab.path(behind);
    assert!(crate::store::snapshot::newest_snapshot(&path).unwrap().is_some());
    let left: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("tmp"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    // It keeps what it got.
    lab.stop(behind).await;
    lab.start(behind.0).await;
    lab.agree_at(done.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let lab = Lab::one().await;
    let address = lab.nodes[&NodeId(1)].address;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (cluster, to, status) in [
        (super::lab::CLUSTER.to_string(), "1", 422),
        (super::lab::CLUSTER.to_string(), "2", 421),
        (scrap_schema::id::ClusterId(1).to_string(), "1", 421),
        (String::new(), "1", 421),
    ] {
        let answer = client
            .post(format!("http://{address}/raft/vote"))
            .header(crate::raft::wire::CLUSTER, &cluster)
            .header(crate::raft::wire::TO, to)
            .json(&serde_json::json!({}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "cluster `{cluster}`, node {to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_snapshot_is_refused_and_harms_nobody() {
    let lab = Lab::one().await;
    let node = &lab.nodes[&NodeId(1)];
    let body = |head: &[u8], bytes: &[u8]| {
        [&u32::try_from(head.len()).unwrap().to_be_bytes(), head, bytes].concat()
    };
    let head = serde_json::json!({
        "vote": {"leader_id": {"term": 99, "node_id": 9}, "committed": true},
        "meta": {
            "last_log_id": {"leader_id": {"term": 99, "node_id": 9}, "index": 1_000},
            "last_membership": {"log_id": null, "membership": {"configs": [], "nodes": {}}},
        },
        "bytes": 10,
    });
    let head = serde_json::to_vec(&head).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for bytes in [b"0123456789".as_slice(), b"too short", b"too long by far", b""] {
        let answer = client
            .post(format!("http://{}/raft/snapshot", node.address))
            .header(crate::raft::wire::CLUSTER, super::lab::CLUSTER.to_string())
            .header(crate::raft::wire::TO, "1")
            .body(body(&head, bytes))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{bytes:?}: {}", answer.text().await.unwrap());
    }
    change(&node.consensus, put_policy("gold", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_with_an_altered_row_is_refused() {
    let lab = Lab::one().await;
    let mut other = Lab::one().await;
    change(&other.nodes[&NodeId(1)].consensus, put_policy("gold", 1)).await;
    other.stop(NodeId(1)).await;
    let file = other.path(NodeId(1)).join("state.db");
    super::restart::sql(
        &file,
        "PRAGMA journal_mode = DELETE; DELETE FROM object WHERE kind = 'event'",
    )
    .await;
    let applied = super::restart::applied(&file).await;
    let bytes = std::fs::read(&file).unwrap();
    let head = serde_json::json!({
        "vote": {"leader_id": {"term": 99, "node_id": 9}, "committed": true},
        "meta": {
            "last_log_id": applied,
            "last_membership": {"log_id": null, "membership": {"configs": [], "nodes": {}}},
        },
        "bytes": bytes.len(),
    });
    let head = serde_json::to_vec(&head).unwrap();
    let body =
        [&u32::try_from(head.len()).unwrap().to_be_bytes(), head.as_slice(), &bytes].concat();
    let node = &lab.nodes[&NodeId(1)];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .post(format!("http://{}/raft/snapshot", node.address))
        .header(crate::raft::wire::CLUSTER, super::lab::CLUSTER.to_string())
        .header(crate::raft::wire::TO, "1")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("the hash of its rows"), "{text}");
    change(&node.consensus, put_policy("gold", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_elsewhere_makes_itself_known() {
    let mut lab = Lab::three(Compaction::default()).await;
    let old = lab.leader().await;
    let moved = *lab.nodes.keys().find(|node| **node != old).unwrap();
    lab.stop(moved).await;
    // It does not even know the leader of now.
    let third = *lab.nodes.keys().find(|node| **node != old).unwrap();
    lab.nodes[&old].consensus.hand_over(Some(third)).await;
    lab.forget(moved);
    lab.start(moved.0).await;
    let register = Command::RegisterNode {
        node: moved,
        boot: BootId(1),
        addresses: new_node(moved.0, lab.nodes[&moved].address).addresses,
        facts: NodeFacts::default(),
        seal: None,
        again: false,
        seen: None,
    };
    let done = change(&lab.nodes[&moved].consensus, register).await;
    lab.agree_at(done.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_rather_not_lead_does_if_the_others_cannot() {
    let mut lab = Lab::three(Compaction::default()).await;
    let first = lab.leader().await;
    let mut others = lab.nodes.keys().copied().filter(|node| *node != first);
    let (longest, shorter) = (others.next().unwrap(), others.next().unwrap());
    lab.stop(shorter).await;
    let done = change(&lab.nodes[&first].consensus, put_policy("gold", 1)).await;
    lab.agree_at(done.index).await;
    lab.nodes[&longest].consensus.may_lead(false);
    lab.stop(first).await;
    lab.start(shorter.0).await;
    // Neither of them: one lacks the last entry, the other one does not ask.
    let reluctant = lab.nodes[&longest].consensus.clone();
    let mut leadership = reluctant.leadership();
    tokio::select! {
        led = tokio::time::timeout(LIMIT, leadership.wait_for(|now| now.me)) => drop(led.unwrap()),
        never = reluctant.lead_reluctantly() => match never {},
    }
    change(&lab.nodes[&shorter].consensus, put_policy("gold", 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_changes_are_told_once_and_in_order() {
    let lab = Lab::one().await;
    let consensus = &lab.nodes[&NodeId(1)].consensus;
    let (mut events, mut changes) = (consensus.events(), consensus.changes());
    let mut indexes = Vec::new();
    for number in 0..3 {
        indexes.push(change(consensus, put_policy("gold", number)).await.index);
    }
    for index in &indexes {
        let told = tokio::time::timeout(super::lab::LIMIT, events.recv()).await.unwrap().unwrap();
        assert!(told.iter().all(|event| event.index == *index), "{told:?}");
    }
    let reached = changes.wait_for(|applied| *applied >= indexes[2]);
    tokio::time::timeout(super::lab::LIMIT, reached).await.unwrap().unwrap();
    consensus.read(|cluster| assert_eq!(cluster.index, indexes[2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_formed_once() {
    let lab = Lab::one().await;
    let node = &lab.nodes[&NodeId(1)];
    let again = node.consensus.form(node.address.to_string()).await;
    assert!(matches!(again, Err(crate::raft::FormError::AlreadyFormed)), "{again:?}");
    let refused = node.consensus.propose(form(node.address)).await.unwrap();
    assert!(refused.outcome.is_err(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_knows_how_old_its_state_is() {
    let mut lab = Lab::three(Compaction::default()).await;
    let leader = lab.leader().await;
    let follower = *lab.nodes.keys().find(|node| **node != leader).unwrap();
    for node in lab.nodes.values() {
        wait_for("a young state", || node.consensus.age().filter(|age| age.ms() < 400)).await;
    }
    let others: Vec<_> = lab.nodes.keys().copied().filter(|node| *node != follower).collect();
    for other in others {
        lab.stop(other).await;
    }
    let alone = &lab.nodes[&follower].consensus;
    wait_for("an old state", || alone.age().filter(|age| age.ms() > 500)).await;
    let refused = tokio::time::timeout(Duration::from_secs(20), alone.confirm_leadership()).await;
    assert!(refused.unwrap().is_err());
}
