//! The sending side of a stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scrap_decide::replicate::traffic;
use scrap_host::datasets::{DatasetId, Datasets};
use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::unit::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::turns::Turn;
use super::{IDLE, OfferBody, frames, turns};
use crate::agent::Sending;
use crate::daemon::Daemon;
use crate::execute::Trouble;

/// How many of its newest snapshots a sender names at most: they are in the head of its request.
const LINE_MAX: usize = 1024;
/// Bytes between the dataset and the frames.
pub(super) const PIPE: usize = 1 << 20;
/// Frames between the frames and the wire.
pub(super) const FRAMES: usize = 4;
/// Streams that are shorter are sent again from their beginning when they were cut off.
const REST_MIN: u64 = 16 << 20;
/// Longest time in which a receiver that has everything brings it to stable storage.
const ANSWER: Duration = Duration::from_secs(300);
/// How long a receiver is heard after its stream has broken off here.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Sends one snapshot to a node and waits until that node has it on stable storage. Returns the length of the stream.
///
/// # Errors
/// If the other side refuses, hangs up, is silent for too long, or takes in something else; then nothing has changed there, but for what
/// it may have set aside.
pub async fn send(
    daemon: &Daemon,
    grain: GrainId,
    node: NodeId,
    from: Option<Guid>,
    to: Guid,
) -> Result<u64, Trouble> {
    let _turn = turn(daemon, grain, node, from).await;
    let id = DatasetId::Grain(grain);
    let progress = Arc::new(Sending::default());
    let estimate = daemon.host.datasets.estimate_cheaply(id, from, to).await?;
    progress.total.store(estimate.unwrap_or(0), Ordering::Relaxed);
    let rest = rest(daemon, grain, node, estimate).await;
    let offer = OfferBody { resumed: rest.is_some(), ..offer(daemon, grain, from, to) };
    daemon.agent.with(|state| {
        let found = state.found.get(&grain).copied().unwrap_or_default();
        let stream = state.streams.entry((grain, node)).or_default();
        stream.sending = Some(progress.clone());
        // Where only the stream itself would tell: what was found when the owner last looked for writes.
        stream.behind = estimate.map_or(found, Bytes);
    });
    let piece = Piece { id, from, to, rest: rest.clone() };
    let sent = transmit(daemon, (grain, node), &offer, piece, &progress).await;
    daemon.agent.with(|state| {
        if let Some(stream) = state.streams.get_mut(&(grain, node)) {
            stream.sending = None;
            // A rest that did not go well is not tried again: the next stream begins anew.
            stream.bad_rest = rest.filter(|_| sent.is_err());
        }
    });
    sent
}

/// What the other side has kept of an earlier stream that was cut off, if it is worth the question. Whoever does not answer it
/// gets the stream from its beginning.
async fn rest(
    daemon: &Daemon,
    grain: GrainId,
    node: NodeId,
    estimate: Option<u64>,
) -> Option<String> {
    if estimate.is_none_or(|estimate| estimate < REST_MIN) {
        return None;
    }
    let token = daemon.peers.unfinished(node, grain).await.ok().flatten()?;
    let bad = daemon.agent.with(|state| {
        let stream = state.streams.get(&(grain, node));
        stream.and_then(|stream| stream.bad_rest.clone())
    });
    (bad.as_ref() != Some(&token)).then_some(token)
}

/// A place among the streams that leave this node. Waiting is told as the trouble of the copy.
async fn turn(daemon: &Daemon, grain: GrainId, node: NodeId, from: Option<Guid>) -> Turn {
    let traffic = daemon.consensus.read(|cluster| traffic(cluster.grains.get(&grain), node, from));
    let places = daemon.agent.turns.outward();
    let waits = |why: Option<String>| {
        daemon.agent.with(|state| {
            state.streams.entry((grain, node)).or_default().waits = why;
        });
    };
    waits(places.why_wait(traffic));
    let turn = turns::turn(&daemon.consensus, &places, grain, node, from).await;
    waits(None);
    turn
}

async fn transmit(
    daemon: &Daemon,
    (grain, node): (GrainId, NodeId),
    offer: &OfferBody,
    piece: Piece,
    progress: &Arc<Sending>,
) -> Result<u64, Trouble> {
    let (out, wire) = mpsc::channel(FRAMES);
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(wire));
    let answer = daemon.peers.stream(node, grain, offer, body);
    let reading = read(daemon, piece, progress, out);
    tokio::pin!(answer, reading);
    // The receiver's word comes first: if it refused, the broken pipe is only the echo.
    let (received, read) = tokio::select! {
        received = &mut answer => (received?, reading.await),
        read = &mut reading => {
            let patience = if read.is_ok() { ANSWER } else { LAST_WORD };
            match (timeout(patience, answer).await, read) {
                (Ok(received), read) => (received?, read),
                (Err(_), Err(error)) => return Err(error),
                (Err(_), Ok(_)) => {
                    return Err(format!("node {node} does not say whether it has it").into());
                }
            }
        }
    };
    let bytes = read?;
    if received.guid != offer.to || received.bytes != bytes {
        return Err(
            format!("node {node} took in {} of {} bytes", received.guid, received.bytes).into()
        );
    }
    Ok(bytes)
}

/// What of a dataset a stream carries.
pub(super) struct Piece {
    pub(super) id: DatasetId,
    pub(super) from: Option<Guid>,
    pub(super) to: Guid,
    /// Only what comes after what this token says.
    pub(super) rest: Option<String>,
}

/// Reads the stream from the dataset into frames, with the trailer.
pub(super) async fn read(
    daemon: &Daemon,
    piece: Piece,
    progress: &Arc<Sending>,
    out: mpsc::Sender<std::io::Result<bytes::Bytes>>,
) -> Result<u64, Trouble> {
    let (mut pipe, end) = tokio::io::duplex(PIPE);
    let read = async move {
        let datasets = &daemon.host.datasets;
        let result = match &piece.rest {
            Some(token) => datasets.send_rest(piece.id, token, piece.to, &mut pipe).await,
            None => datasets.send(piece.id, piece.from, piece.to, &mut pipe).await,
        };
        drop(pipe);
        result
    };
    let (read, wrapped) = tokio::join!(read, frames::wrap(end, &out, progress, IDLE));
    match (read, wrapped) {
        (Ok(_), Ok(trailer)) => {
            // A receiver that has hung up says why in its answer.
            let bytes = trailer.bytes;
            timeout(IDLE, out.send(Ok(trailer.to_bytes()))).await?.ok();
            Ok(bytes)
        }
        (Err(error), Ok(_)) => {
            let broken = std::io::Error::other("the sender could not read its data");
            timeout(LAST_WORD, out.send(Err(broken))).await.ok();
            Err(Trouble::from(error))
        }
        // A pipe that broke because nobody takes frames is not the trouble itself.
        (_, Err(error)) => Err(Trouble::from(error)),
    }
}

/// The newest part of a line, and the base however old it is: a receiver admits nothing whose base is not named.
fn named(line: &[Snapshot], from: Option<Guid>) -> Vec<Guid> {
    let (older, newest) = line.split_at(line.len().saturating_sub(LINE_MAX));
    let base = older.iter().filter(|snapshot| Some(snapshot.guid) == from);
    base.chain(newest).map(|snapshot| snapshot.guid).collect()
}

fn offer(daemon: &Daemon, grain: GrainId, from: Option<Guid>, to: Guid) -> OfferBody {
    let (index, epoch) = daemon.consensus.read(|cluster| {
        let epoch = cluster.grains.get(&grain).map(|grain| grain.epoch).unwrap_or_default();
        (cluster.index, epoch)
    });
    let line = daemon.agent.with(|state| {
        let data = state.facts.data.get(&grain);
        let snapshots = data.map(|data| data.snapshots.as_slice()).unwrap_or_default();
        named(snapshots, from)
    });
    OfferBody { sender: daemon.me, epoch, from, to, index, line, resumed: false }
}

#[cfg(test)]
mod tests {
    use scrap_schema::id::Epoch;
    use scrap_schema::snapshot::{Purpose, SnapshotName};
    use scrap_schema::time::Timestamp;

    use super::*;

    #[test]
    fn the_base_is_named_however_old_it_is() {
        let snapshot = |seq| Snapshot {
            name: SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication },
            guid: Guid(seq),
            created: Timestamp(0),
        };
        let line: Vec<Snapshot> = (1..=2000).map(snapshot).collect();
        for (from, first) in
            [(None, 977), (Some(1900), 977), (Some(977), 977), (Some(3), 3), (Some(3000), 977)]
        {
            let named = named(&line, from.map(Guid));
            assert_eq!((named.first(), named.last()), (Some(&Guid(first)), Some(&Guid(2000))));
            assert!(named.len() <= LINE_MAX + 1, "{} are named", named.len());
        }
        assert_eq!(named(&line[..2], Some(Guid(1))), [Guid(1), Guid(2)]);
    }
}
