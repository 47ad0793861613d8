//! The sending side of a stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use scrap_host::datasets::{DatasetId, Datasets};
use scrap_schema::id::{GrainId, NodeId};
use scrap_schema::snapshot::Guid;
use scrap_schema::unit::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{OfferBody, frames};
use crate::agent::Sending;
use crate::daemon::Daemon;
use crate::execute::Trouble;

/// How many of its newest snapshots a sender names.
const LINE_MAX: usize = 256;
/// Bytes between the dataset and the frames.
const PIPE: usize = 1 << 20;
/// Frames between the frames and the wire.
const FRAMES: usize = 4;

/// Sends one snapshot to a node and waits until that node has it on stable storage. Returns the length of the stream.
///
/// # Errors
/// If the other side refuses, hangs up, or takes in something else; then nothing has changed there.
pub async fn send(
    daemon: &Daemon,
    grain: GrainId,
    node: NodeId,
    from: Option<Guid>,
    to: Guid,
) -> Result<u64, Trouble> {
    let host = daemon.host.clone();
    let id = DatasetId::Grain(grain);
    let progress = Arc::new(Sending::default());
    let estimate = host.datasets.estimate(id, from, to).await?;
    progress.total.store(estimate, Ordering::Relaxed);
    let offer = offer(daemon, grain, from, to);
    daemon.agent.with(|state| {
        let stream = state.streams.entry((grain, node)).or_default();
        stream.sending = Some(progress.clone());
        stream.behind = Bytes(estimate);
    });
    let (out, wire) = mpsc::channel(FRAMES);
    let reading = async move {
        let (mut pipe, end) = tokio::io::duplex(PIPE);
        let read = async move {
            let result = host.datasets.send(id, from, to, &mut pipe).await;
            drop(pipe);
            result
        };
        let (read, wrapped) = tokio::join!(read, frames::wrap(end, &out, &progress));
        match (read, wrapped) {
            (Ok(_), Ok(trailer)) => {
                // A receiver that has hung up says why in its answer.
                let bytes = trailer.bytes;
                out.send(Ok(trailer.to_bytes())).await.ok();
                Ok(bytes)
            }
            (Err(error), _) => {
                out.send(Err(std::io::Error::other("the sender could not read its data")))
                    .await
                    .ok();
                Err(Trouble::from(error))
            }
            (Ok(_), Err(error)) => Err(Trouble::from(error)),
        }
    };
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(wire));
    let (read, received) = tokio::join!(reading, daemon.peers.stream(node, grain, &offer, body));
    daemon.agent.with(|state| {
        if let Some(stream) = state.streams.get_mut(&(grain, node)) {
            stream.sending = None;
        }
    });
    // The receiver's word comes first: if it refused, the broken pipe is only the echo.
    let received = received?;
    let bytes = read?;
    if received.guid != to || received.bytes != bytes {
        return Err(
            format!("node {node} took in {} of {} bytes", received.guid, received.bytes).into()
        );
    }
    Ok(bytes)
}

fn offer(daemon: &Daemon, grain: GrainId, from: Option<Guid>, to: Guid) -> OfferBody {
    let (index, epoch) = daemon.consensus.read(|cluster| {
        let epoch = cluster.grains.get(&grain).map(|grain| grain.epoch).unwrap_or_default();
        (cluster.index, epoch)
    });
    let line = daemon.agent.with(|state| {
        let data = state.facts.data.get(&grain);
        let snapshots = data.map(|data| data.snapshots.as_slice()).unwrap_or_default();
        let skipped = snapshots.len().saturating_sub(LINE_MAX);
        snapshots.iter().skip(skipped).map(|snapshot| snapshot.guid).collect()
    });
    OfferBody { sender: daemon.me, epoch, from, to, index, line }
}
