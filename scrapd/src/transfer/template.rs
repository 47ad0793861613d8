//! Templates between nodes: whoever needs one asks for it, and the answer is the same frames and trailer as of a grain's stream.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use scrap_decide::replicate::Traffic;
use scrap_host::datasets::{Cause, DatasetError, DatasetId, Datasets};
use scrap_schema::id::TemplateId;
use scrap_schema::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::frames;
use super::receive::cause_of;
use super::send::{FRAMES, PIPE, Piece, read};
use crate::agent::Sending;
use crate::daemon::Daemon;
use crate::execute::Trouble;
use crate::logging::chain;
use crate::templates::sealed;

/// Longest time that somebody who asks for a template waits for a place among the streams.
const TURN: Duration = Duration::from_secs(30);

/// The stream of a template of this node, as the body of an answer.
///
/// # Errors
/// If it is not here, or too many streams leave this node now.
pub async fn offer_template(daemon: Arc<Daemon>, template: TemplateId) -> Result<Body, Trouble> {
    let to = sealed(&daemon, template).await?;
    let places = daemon.agent.turns.outward();
    let turn = tokio::time::timeout(TURN, places.take(Traffic::Full)).await;
    let turn = turn.map_err(|_| places.why_wait(Traffic::Full).unwrap_or_default())?;
    let (out, wire) = mpsc::channel(FRAMES);
    let piece = Piece { id: DatasetId::Template(template), from: None, to, rest: None };
    // Ends with its reader: whoever hangs up takes no more frames.
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(error) = read(&daemon, piece, &Arc::new(Sending::default()), out).await {
            tracing::debug!(%template, error = chain(error.as_ref()), "template not sent");
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(wire)))
}

/// Takes a template in. When this returns `Ok`, it is here, sealed and on stable storage.
///
/// # Errors
/// If the stream breaks off or is damaged; then nothing of it is here.
pub async fn receive_template<S, E>(
    daemon: &Daemon,
    template: TemplateId,
    wire: S,
    idle: Duration,
) -> Result<Snapshot, Trouble>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    let _turn = daemon.agent.turns.inward().take(Traffic::Full).await;
    let (mut pipe, mut end) = tokio::io::duplex(PIPE);
    let unwrapped = async move {
        let result = frames::unwrap(wire, &mut pipe, idle).await;
        drop(pipe);
        result
    };
    let datasets = &daemon.host.datasets;
    let taken = async move {
        let taken = datasets.receive_template(template, &mut end).await;
        drop(end);
        taken
    };
    match tokio::join!(unwrapped, taken) {
        (Ok(_), Ok(snapshot)) => Ok(snapshot),
        // An earlier stream arrived, and the daemon ended before it was told.
        (_, Err(DatasetError { cause: Cause::Exists, .. })) => {
            let here = datasets.get(DatasetId::Template(template)).await?;
            let sealed = here.and_then(|dataset| dataset.snapshots.last().cloned());
            sealed.ok_or_else(|| format!("template {template} is here and not sealed").into())
        }
        (Err(error), Ok(_)) => Err(error.into()),
        (Err(error), Err(taken)) => Err(cause_of(error, taken)),
        (Ok(_), Err(error)) => Err(error.into()),
    }
}
