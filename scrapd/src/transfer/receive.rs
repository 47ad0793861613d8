//! The receiving side of a stream: asks whether it may come in, takes it, holds it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use scrap_decide::obey::{Lane, SetAside};
use scrap_decide::replicate::{Admitted, NotAdmitted, Traffic, admit, still_wanted, traffic};
use scrap_host::datasets::{Cause, Dataset, DatasetError, DatasetId, Datasets, Incoming, Role};
use scrap_schema::id::GrainId;

use super::turns::Turn;
use super::{OfferBody, ReceiveError, Received, frames, turns};
use crate::agent::{By, Update, look_again};
use crate::daemon::Daemon;
use crate::execute::{self, Trouble};

/// Bytes between the wire and the dataset.
const PIPE: usize = 1 << 20;
/// How long a receiver waits until it knows what the sender knows.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Takes a stream in. When this returns `Ok`, the snapshot is here on stable storage and known to the agent; held too, unless its
/// grain answers nowhere until it is here: then the agent holds it when there is time. Breaks off a stream whose sender is silent
/// for longer than `idle`, or that the cluster does not want here any more.
///
/// # Errors
/// If it may not come in, breaks off or is damaged; then what was here before is untouched, or set aside where it does not continue
/// the sender's line.
pub async fn receive<S, E>(
    daemon: &Daemon,
    grain: GrainId,
    offer: &OfferBody,
    wire: S,
    idle: Duration,
) -> Result<Received, ReceiveError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut changes = daemon.consensus.changes();
    let caught_up = changes.wait_for(|applied| *applied >= offer.index);
    // Behind the sender: judged on what is known here; a wrong epoch is refused below.
    tokio::time::timeout(CATCH_UP, caught_up).await.ok();
    let kind =
        daemon.consensus.read(|cluster| traffic(cluster.grains.get(&grain), daemon.me, offer.from));
    let _turn = turn(daemon, grain, offer, kind, idle / 2).await?;
    let lane = daemon.agent.reserve(Lane::Shape(grain)).ok_or(ReceiveError::Busy(grain))?;
    let failed = |source: Trouble| ReceiveError::Failed { grain, source };
    let mut wire = wire;
    let mut first = None;
    match admitted(daemon, grain, offer)? {
        Admitted::Receive => (),
        Admitted::SetAsideFirst(plan) => {
            // What is here is not made older for a sender that cannot even begin.
            let piece = tokio::time::timeout(idle, wire.next()).await;
            let piece = piece.ok().flatten().and_then(Result::ok);
            first = Some(Ok(piece.ok_or_else(|| failed("nothing has come of the stream".into()))?));
            set_aside(daemon, grain, plan).await.map_err(failed)?;
        }
    }
    let wire = stream::iter(first).chain(wire);
    let (received, dataset) = match take_in(daemon, grain, offer, kind, wire, idle).await {
        Ok(taken) => taken,
        Err(error) => {
            // Somebody may have moved or destroyed what was believed to be here: the sender asks again what is.
            // A whole one may have been about to take the place of another.
            let by = if offer.from.is_some() { By::Somebody } else { By::Us };
            look_again(daemon, grain, by).await;
            return Err(failed(error));
        }
    };
    if received.guid != offer.to {
        return Err(ReceiveError::OtherSnapshot { came: received.guid, announced: offer.to });
    }
    finish(daemon, grain, offer, kind, dataset).await.map_err(failed)?;
    drop(lane);
    Ok(received)
}

/// A place among the streams that come in. Waits less long than the sender waits for us, and then says why.
async fn turn(
    daemon: &Daemon,
    grain: GrainId,
    offer: &OfferBody,
    kind: Traffic,
    patience: Duration,
) -> Result<Turn, ReceiveError> {
    let places = daemon.agent.turns.inward();
    let why = places.why_wait(kind).unwrap_or_default();
    let turn = turns::turn(&daemon.consensus, &places, grain, daemon.me, offer.from);
    let taken = tokio::time::timeout(patience, turn).await;
    taken.map_err(|_| ReceiveError::NoTurn { grain, why })
}

fn admitted(daemon: &Daemon, grain: GrainId, offer: &OfferBody) -> Result<Admitted, ReceiveError> {
    daemon.consensus.read(|cluster| {
        daemon.agent.with(|state| {
            let known = cluster.grains.get(&grain);
            admit(daemon.me, known, &offer.to_offer(), &state.facts)
                .map_err(|why| ReceiveError::NotAdmitted { grain, why })
        })
    })
}

/// Waits until the cluster does not want the stream here any more: it has a new owner or epoch, or keeps no copy here.
async fn unwanted(daemon: &Daemon, grain: GrainId, offer: &OfferBody) -> NotAdmitted {
    let mut changes = daemon.consensus.changes();
    let offer = offer.to_offer();
    loop {
        changes.mark_unchanged();
        let wanted = daemon.consensus.read(|cluster| {
            still_wanted(daemon.me, cluster.grains.get(&grain), &offer).map(|_| ())
        });
        if let Err(why) = wanted {
            return why;
        }
        if changes.changed().await.is_err() {
            // The daemon ends, and the connection with it.
            std::future::pending::<()>().await;
        }
    }
}

/// What it takes is measured later: the sender waits for this.
async fn set_aside(daemon: &Daemon, grain: GrainId, plan: SetAside) -> Result<(), Trouble> {
    let host = &*daemon.host;
    let done = async {
        if let Some(epoch) = plan.epoch {
            let seen = execute::set_role(host, grain, Role::Standby, epoch).await?;
            daemon.agent.update(seen);
        }
        execute::put_aside(host, grain, plan.base, &plan.name).await
    };
    let done = done.await;
    // Also after a failure: it may have gone half its way.
    daemon.agent.update(execute::look_at(host, grain).await?);
    done.map(|_| ())
}

async fn take_in<S, E>(
    daemon: &Daemon,
    grain: GrainId,
    offer: &OfferBody,
    kind: Traffic,
    wire: S,
    idle: Duration,
) -> Result<(Received, Option<Dataset>), Trouble>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    let (mut pipe, mut end) = tokio::io::duplex(PIPE);
    let unwrapped = async move {
        // A pipe without its end makes the dataset give up too: its work is over when this returns, and nothing of it goes on
        // beside a promotion.
        let result = tokio::select! {
            result = frames::unwrap(wire, &mut pipe, idle) => result,
            why = unwanted(daemon, grain, offer) => Err(std::io::Error::other(why)),
        };
        drop(pipe);
        result
    };
    let (resumed, hurried) = (offer.resumed, !kind.is_held_at_once());
    let incoming = Incoming { resumed, hurried, ..Incoming::new(offer.epoch, offer.from) };
    let taken = async move {
        let taken = daemon.host.datasets.receive(grain, incoming, &mut end).await;
        // Whoever still writes into the pipe hears that nobody reads it any more.
        drop(end);
        taken
    };
    let (unwrapped, taken) = tokio::join!(unwrapped, taken);
    match (unwrapped, taken) {
        (Ok(bytes), Ok(dataset)) => {
            let newest = dataset.snapshots.last().ok_or("nothing has come of the stream")?;
            Ok((Received { guid: newest.guid, bytes }, Some(dataset)))
        }
        // It is here already: an earlier stream arrived whose answer was lost.
        (unwrapped, Err(DatasetError { cause: Cause::Exists, .. })) => {
            Ok((Received { guid: offer.to, bytes: unwrapped.unwrap_or(0) }, None))
        }
        // A stream that broke off makes the dataset fail too, and a dataset that fails breaks the stream: the cause is told.
        (Err(error), Ok(_)) => Err(error.into()),
        (Err(error), Err(taken)) => Err(cause_of(error, taken)),
        (Ok(_), Err(error)) => Err(error.into()),
    }
}

/// Which of two failures made the other. The pipe breaks when the dataset has had enough.
pub(super) fn cause_of(stream: std::io::Error, dataset: DatasetError) -> Trouble {
    match stream.kind() {
        std::io::ErrorKind::BrokenPipe => dataset.into(),
        _ => stream.into(),
    }
}

async fn finish(
    daemon: &Daemon,
    grain: GrainId,
    offer: &OfferBody,
    kind: Traffic,
    dataset: Option<Dataset>,
) -> Result<(), Trouble> {
    let host = &*daemon.host;
    let updates = match (kind.is_held_at_once(), dataset) {
        (false, Some(dataset)) => vec![Update::Data(grain, Some(dataset))],
        // It is said to be here already: that is seen, not believed.
        (false, None) => {
            let found = host.datasets.must(DatasetId::Grain(grain)).await?;
            if !found.snapshots.iter().any(|snapshot| snapshot.guid == offer.to) {
                let cause = Cause::NoSnapshot(offer.to);
                return Err(DatasetError { work: "receive into", dataset: found.id, cause }.into());
            }
            vec![Update::Data(grain, Some(found))]
        }
        (true, _) => execute::hold(host, grain, offer.sender, offer.to).await?,
    };
    daemon.agent.update(updates);
    Ok(())
}
