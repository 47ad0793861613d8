//! Streams whose other side goes silent, over real connections.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use scrap_decide::obey::Lane;
use scrap_decide::replicate::Traffic;
use scrap_host::datasets::{DatasetId, Datasets, Shape};
use scrap_schema::command::Command;
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Purpose, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use scrapd::execute::Trouble;
use scrapd::transfer::{FULL_MAX, HEADER_OFFER, OfferBody, Turn};
use scrapd::{api, peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::lab::{LIMIT, Lab, Node};

/// A grain of the first node with a copy on the second one.
async fn copied(lab: &Lab) -> GrainId {
    let grain = lab.grain("web").await;
    let standbys = [NodeId(2)].into();
    lab.propose(Command::SetStandbys { grain, epoch: Epoch(1), standbys }).await;
    grain
}

fn offer(lab: &Lab, to: u64) -> OfferBody {
    let (sender, epoch, line) = (NodeId(1), Epoch(1), vec![Guid(to)]);
    OfferBody { sender, epoch, from: None, to: Guid(to), index: lab.index(), line, resumed: false }
}

/// A sender that says how long its first frame is, and nothing more.
async fn silent_sender(node: &Node, grain: GrainId, offer: &OfferBody) -> TcpStream {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let router = peer::routes(node.daemon.clone());
    tokio::spawn(api::serve(listener, router, node.daemon.shutdown.clone()));
    let offer = serde_json::to_string(offer).unwrap();
    let cluster = node.daemon.cluster_id;
    let head = format!(
        "POST /peer/streams/{grain} HTTP/1.1\r\nhost: x\r\nx-scrap-cluster: {cluster}\r\n{HEADER_OFFER}: {offer}\r\n\
         transfer-encoding: chunked\r\n\r\n4\r\n\0\0\0\x09\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// A whole stream as it stands on the wire: its one frame, and the trailer.
async fn whole(node: &Node, grain: GrainId) -> (Guid, Vec<u8>) {
    let datasets = &node.daemon.host.datasets;
    datasets.create(grain, Epoch(1), Shape::of(Bytes(1 << 20))).await.unwrap();
    let name = SnapshotName { epoch: Epoch(1), seq: 1, purpose: Purpose::Replication };
    let state = datasets.snapshot(grain, &name, Timestamp(1)).await.unwrap();
    let mut payload = Vec::new();
    datasets.send(DatasetId::Grain(grain), None, state.guid, &mut payload).await.unwrap();
    let mut wire = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    wire.extend(&payload);
    wire.extend([0; 4]);
    wire.extend((payload.len() as u64).to_be_bytes());
    wire.extend(blake3::hash(&payload).as_bytes());
    (state.guid, wire)
}

#[tokio::test]
async fn what_a_sender_sent_is_known_although_it_died_before_it_heard_so() {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let (to, wire) = whole(&lab.nodes[0], grain).await;
    let daemon = &lab.nodes[1].daemon;
    let (taken, all_taken) = tokio::sync::oneshot::channel();
    // Nothing comes after what was sent, not even the end of the request, until that is taken.
    let body = futures_util::stream::unfold((Some(wire), Some(taken)), |(wire, taken)| async {
        match (wire, taken) {
            (Some(wire), taken) => Some((Ok::<_, std::io::Error>(wire), (None, taken))),
            (None, Some(taken)) => {
                let _ = taken.send(());
                None
            }
            (None, None) => None,
        }
    });
    let offer = serde_json::to_string(&offer(&lab, to.0)).unwrap();
    let request = Request::post(format!("/peer/streams/{grain}"))
        .header("x-scrap-cluster", daemon.cluster_id.to_string())
        .header(HEADER_OFFER, offer)
        .body(Body::from_stream(body))
        .unwrap();
    let answer = peer::routes(daemon.clone()).oneshot(request);
    tokio::select! {
        biased;
        _ = all_taken => (),
        answer = answer => panic!("the sender heard: {answer:?}"),
    }
    let has = || {
        daemon.agent.with(|state| state.facts.newest(grain).is_some_and(|newest| newest.guid == to))
    };
    wait_for("the agent knows what has come", has).await;
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_ends_as_soon_as_the_cluster_does_not_want_it_any_more() {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let node = &lab.nodes[1];
    let mut sender = silent_sender(node, grain, &offer(&lab, 77)).await;
    let lane = Lane::Shape(grain);
    let busy = || node.daemon.agent.with(|state| state.facts.busy.contains(&lane));
    wait_for("a stream comes in", busy).await;
    let standbys = [NodeId(3)].into();
    lab.propose(Command::SetStandbys { grain, epoch: Epoch(1), standbys }).await;
    wait_for("the lane is free", || !busy()).await;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(LIMIT, sender.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("409") && !answer.contains("says nothing"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_silent_for_too_long_frees_the_lane() {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let daemon = &lab.nodes[1].daemon;
    let wire = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let (offer, idle) = (offer(&lab, 77), Duration::from_millis(50));
    let received = scrapd::transfer::receive(daemon, grain, &offer, wire, idle);
    let error = tokio::time::timeout(LIMIT, received).await.expect("it waits for ever");
    let text = scrapd::logging::chain(&error.unwrap_err());
    assert!(text.contains("the sender says nothing for 50ms"), "{text}");
    assert!(!daemon.agent.with(|state| state.facts.busy.contains(&Lane::Shape(grain))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_has_had_enough_ends_the_stream_and_is_the_reason() {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let daemon = &lab.nodes[1].daemon;
    // More than fits between the wire and the dataset, and no end.
    let frame = [&4096_u32.to_be_bytes()[..], &[7; 4096]].concat();
    let frame = bytes::Bytes::from(frame);
    let frames = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(frame.clone()));
    let (offer, idle) = (offer(&lab, 77), Duration::from_secs(3600));
    let received = scrapd::transfer::receive(daemon, grain, &offer, frames, idle);
    let error = tokio::time::timeout(LIMIT, received).await.expect("it hangs").unwrap_err();
    let text = scrapd::logging::chain(&error);
    assert!(text.contains("cannot receive into"), "the dataset's reason is not told: {text}");
    assert!(!daemon.agent.with(|state| state.facts.busy.contains(&Lane::Shape(grain))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_in_so_many_streams_at_once_and_says_why_not_more() {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let daemon = &lab.nodes[1].daemon;
    let mut turns = Vec::new();
    for _ in 0..FULL_MAX {
        turns.push(daemon.agent.turns.inward().take(Traffic::Full).await);
    }
    let wire = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>;
    let (offer, idle) = (offer(&lab, 77), Duration::from_millis(50));
    let receive = || scrapd::transfer::receive(daemon, grain, &offer, wire(), idle);
    let text = scrapd::logging::chain(&receive().await.unwrap_err());
    assert!(text.contains("2 full streams are under way already"), "{text}");
    turns.pop();
    let text = scrapd::logging::chain(&receive().await.unwrap_err());
    assert!(text.contains("the sender says nothing"), "it has begun: {text}");
}

/// Why the copy of the grain on the second node does not move on.
fn waits(lab: &Lab, grain: GrainId) -> Option<String> {
    let copy = (grain, NodeId(2));
    lab.nodes[0].daemon.agent.with(|state| state.streams.get(&copy)?.waits.clone())
}

/// As many streams as there may be, and one more of this grain that waits for them.
async fn all_places_taken() -> (Lab, Vec<Turn>, JoinHandle<Option<Trouble>>, GrainId) {
    let lab = Lab::three().await;
    let grain = copied(&lab).await;
    let daemon = lab.nodes[0].daemon.clone();
    let mut turns = Vec::new();
    for _ in 0..FULL_MAX {
        turns.push(daemon.agent.turns.outward().take(Traffic::Full).await);
    }
    let sending = tokio::spawn(async move {
        scrapd::transfer::send(&daemon, grain, NodeId(2), None, Guid(1)).await.err()
    });
    wait_for("it waits", || waits(&lab, grain).is_some()).await;
    (lab, turns, sending, grain)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_for_others_to_leave_says_so() {
    let (lab, turns, sending, grain) = all_places_taken().await;
    let waits = || waits(&lab, grain);
    assert!(!sending.is_finished());
    drop(turns);
    let ended = tokio::time::timeout(LIMIT, sending).await.expect("it waits for ever").unwrap();
    assert!(ended.is_some(), "there are no data in this lab");
    assert_eq!(waits(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_state_of_a_grain_that_stands_still_waits_behind_no_copy() {
    let (lab, turns, sending, grain) = all_places_taken().await;
    let waits = || waits(&lab, grain);
    let (epoch, to, operation) = (Epoch(1), NodeId(2), OperationId(77));
    let work = Work::Drain { node: NodeId(1) };
    lab.propose(Command::StartOperation { operation, work, text: None }).await;
    lab.propose(Command::BeginMigration { grain, epoch, operation, to }).await;
    assert!(waits().is_some(), "it runs still");
    lab.propose(Command::QuiesceGrain { grain, epoch, operation }).await;
    let ended = tokio::time::timeout(LIMIT, sending).await.expect("it waits for ever").unwrap();
    assert!(ended.is_some(), "there are no data in this lab");
    drop(turns);
}
