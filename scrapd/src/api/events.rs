//! `/v1/events`: what happened, as a list or as a stream that can be resumed without gap and without repetition.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use scrap_decide::apply::EVENTS_MAX;
use scrap_decide::cluster::Cluster;
use scrap_schema::api::EventsView;
use scrap_schema::event::{Event, Topic};
use scrap_schema::id::GrainId;
use scrap_schema::problem::Code;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::error::{Answer, Failure};
use super::input::Head;
use super::state::{Api, Closing, find_grain_anywhere, shown};

/// Time between two signs of life of a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many events a list holds if nobody says.
const LIMIT: u64 = 100;

const TOPICS: [&str; 8] =
    ["cluster", "node", "grain", "failover", "replication", "orphan", "operation", "policy"];

/// Which events somebody wants.
#[derive(Debug, Clone, Copy, Default)]
struct Filter {
    topic: Option<Topic>,
    grain: Option<GrainId>,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        self.topic.is_none_or(|topic| event.topic == topic)
            && self.grain.is_none_or(|grain| event.grain == Some(grain))
    }
}

/// What happened.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(
        ("since" = Option<u64>, Query, description = "Only events after this log index; a list without it holds the newest"),
        ("topic" = Option<Topic>, Query, description = "Only of this kind"),
        ("grain" = Option<String>, Query, description = "Only about this grain, by name or id"),
        ("limit" = Option<u64>, Query, description = "About so many events in a list; events of one index stay together"),
        ("last-event-id" = Option<u64>, Header, description = "Where a stream goes on; wins over `since`"),
    ),
    responses(
        (status = 200, description = "Oldest first; with `Accept: text/event-stream`, a stream with `event: <topic>`, the event as JSON in `data:`, and `id: <index>` on the last event of an index",
            content((EventsView = "application/json"), (String = "text/event-stream"))),
        (status = 410, description = "`gone`: `oldest` is the first index from which nothing is missing", body = scrap_schema::problem::Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn events(State(api): State<Api>, closing: Closing, head: Head) -> Answer {
    let query = head.query(&["since", "topic", "grain", "limit", "stale"])?;
    query.flag("stale")?;
    let mut since = query.number("since")?;
    let limit = usize::try_from(query.number("limit")?.unwrap_or(LIMIT)).unwrap_or(usize::MAX);
    let topic = query.word("topic", &TOPICS)?;
    let grain = query.text("grain");
    let grain = grain
        .map(|name| api.read(|cluster| find_grain_anywhere(cluster, name).map(|grain| grain.id)));
    let filter = Filter { topic, grain: grain.transpose()? };
    let accept = head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        if let Some(last) = last_event_id(&head)? {
            since = Some(last);
        }
        return stream(&api, closing, since, filter);
    }
    api.read(|cluster| {
        if let Some(since) = since {
            still_kept(cluster, since)?;
        }
        Ok(shown(cluster.index, list(cluster, since, limit, filter)))
    })
}

fn last_event_id(head: &Head) -> Answer<Option<u64>> {
    let Some(value) = head.headers.get("last-event-id") else { return Ok(None) };
    let index = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    index.map(Some).ok_or_else(|| {
        let detail = "the header Last-Event-ID is not a log index";
        Failure::bad_value(Code::BadRequest, "/headers/last-event-id", detail)
            .hint("send the `id:` of the last event that you have got")
    })
}

/// The first index from which nothing is missing. Before the first removal that is the beginning.
fn oldest(cluster: &Cluster) -> u64 {
    match cluster.events.first_key_value() {
        Some(((index, place), _)) if cluster.events.len() >= EVENTS_MAX => {
            // Of this index the first events may be gone already.
            if *place == 0 { *index } else { index.saturating_add(1) }
        }
        Some(_) | None => 0,
    }
}

fn still_kept(cluster: &Cluster, since: u64) -> Answer<()> {
    let oldest = oldest(cluster);
    if since.saturating_add(1) >= oldest {
        return Ok(());
    }
    let detail =
        format!("events after index {since} are not all kept any more, from {oldest} on they are");
    let mut failure = Failure::new(Code::Gone, detail)
        .hint("read the present state, then follow the events from `oldest` on");
    failure.problem.oldest = Some(oldest);
    Err(failure)
}

fn list(cluster: &Cluster, since: Option<u64>, limit: usize, filter: Filter) -> EventsView {
    let from = since.map_or(0, |since| since.saturating_add(1));
    let all = cluster.events.range((from, 0)..).map(|(_, event)| event);
    let found: Vec<&Event> = all.filter(|event| filter.takes(event)).collect();
    let (events, cut) = match since {
        // Going on: the next ones. Events of one index stay together, or going on from it would lose some.
        Some(_) => {
            let next = found.get(limit).map(|event| event.index);
            let last = limit.checked_sub(1).and_then(|last| found.get(last));
            let end = match (next, last) {
                (Some(next), Some(last)) if next == last.index => {
                    found.iter().take_while(|event| event.index <= next).count()
                }
                _ => limit.min(found.len()),
            };
            let cut = found.get(end).and_then(|_| found.get(end.checked_sub(1)?));
            (found.get(..end).unwrap_or_default(), cut.map(|event| event.index))
        }
        None => (found.get(found.len().saturating_sub(limit)..).unwrap_or_default(), None),
    };
    EventsView {
        events: events.iter().map(|event| (*event).clone()).collect(),
        index: cut.unwrap_or(cluster.index),
        oldest: oldest(cluster),
    }
}

/// A stream that was begun.
struct Following {
    api: Api,
    closing: Closing,
    live: Receiver<Arc<Vec<Event>>>,
    telling: Telling,
}

/// What a stream has told and is about to tell.
#[derive(Debug, Default)]
struct Telling {
    /// Everything up to this index was told.
    last: u64,
    filter: Filter,
    ready: VecDeque<Frame>,
}

fn stream(api: &Api, closing: Closing, since: Option<u64>, filter: Filter) -> Answer<Response> {
    // First listen, then read: what is applied in between comes both ways and is skipped by its index.
    let live = api.daemon.consensus.events();
    let (last, replay) = api.read(|cluster| {
        let since = since.unwrap_or(cluster.index);
        still_kept(cluster, since)?;
        Ok::<_, Failure>((since.max(cluster.index), after(cluster, since)))
    })?;
    let mut telling = Telling { last, filter, ready: VecDeque::new() };
    telling.push(&replay);
    let following = Following { api: api.clone(), closing, live, telling };
    let frames = unfold(following, |mut following| async move {
        let frame = following.next().await?;
        Some((Ok::<_, Infallible>(frame), following))
    });
    let mut response =
        Sse::new(frames).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

fn after(cluster: &Cluster, since: u64) -> Vec<Event> {
    let from = since.saturating_add(1);
    cluster.events.range((from, 0)..).map(|(_, event)| event.clone()).collect()
}

impl Following {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.telling.ready.pop_front() {
                return Some(frame);
            }
            let received = tokio::select! {
                received = self.live.recv() => received,
                () = self.closing.0.cancelled() => return None,
            };
            match received {
                Ok(events) => self.hear(&events),
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Something was applied. A state that came as a snapshot has brought more than was announced: the state is read.
    fn hear(&mut self, events: &[Event]) {
        if events.first().is_some_and(|event| event.index > self.telling.last) {
            self.catch_up();
            self.telling.take(events);
        }
    }

    /// Reads from the state what was missed; what the state has forgotten too is told as `lagged`.
    fn catch_up(&mut self) {
        let last = self.telling.last;
        let (index, oldest, missed) =
            self.api.read(|cluster| (cluster.index, oldest(cluster), after(cluster, last)));
        if last.saturating_add(1) < oldest {
            let data = serde_json::json!({ "oldest": oldest }).to_string();
            self.telling.ready.push_back(Frame::default().event("lagged").data(data));
        }
        self.telling.last = index.max(last);
        self.telling.push(&missed);
    }
}

impl Telling {
    /// Takes the events of one entry, unless they were told already.
    fn take(&mut self, events: &[Event]) {
        let Some(index) = events.first().map(|event| event.index) else { return };
        if index > self.last {
            self.last = index;
            self.push(events);
        }
    }

    /// Frames of whole entries, in order. Only the last one of an entry carries its index: whoever breaks off in the
    /// middle of an entry gets all of it again.
    fn push(&mut self, events: &[Event]) {
        for entry in events.chunk_by(|one, other| one.index == other.index) {
            let wanted: Vec<&Event> =
                entry.iter().filter(|event| self.filter.takes(event)).collect();
            for (place, event) in wanted.iter().enumerate() {
                let Ok(frame) = Frame::default().event(topic(event.topic)).json_data(event) else {
                    continue;
                };
                let ends = place + 1 == wanted.len();
                let frame = if ends { frame.id(event.index.to_string()) } else { frame };
                self.ready.push_back(frame);
            }
        }
    }
}

fn topic(topic: Topic) -> &'static str {
    match topic {
        Topic::Cluster => "cluster",
        Topic::Node => "node",
        Topic::Grain => "grain",
        Topic::Failover => "failover",
        Topic::Replication => "replication",
        Topic::Orphan => "orphan",
        Topic::Operation => "operation",
        Topic::Policy => "policy",
        Topic::Network => "network",
        Topic::Template => "template",
    }
}

#[cfg(test)]
mod tests;
