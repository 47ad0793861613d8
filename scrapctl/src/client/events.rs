//! Follows the events of the cluster over the death of nodes: goes on from the last index, and says what was missed.

use std::time::Duration;

use scrap_schema::event::Event;
use scrap_schema::problem::Code;

use super::call::Call;
use super::sse::{Message, Parser};
use super::{Client, retry};
use crate::failure::Failure;

/// A node sends a sign of life every 15 s; after three missing ones it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long to look for another node.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to follow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Only about this.
    pub(crate) topic: Option<String>,
    /// Only about this grain.
    pub(crate) grain: Option<String>,
}

/// Something that came.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An event, and its JSON as it came.
    Event(Box<Event>, String),
    /// Events that are no longer kept anywhere: after the first index and before the second.
    Missed(u64, u64),
}

/// A stream of events that mends itself.
pub(crate) struct Follow<'a> {
    client: &'a Client,
    filter: Filter,
    /// All events up to here were seen.
    since: Option<u64>,
    /// The last event that was given out, by index and place.
    last: Option<(u64, u32)>,
    stream: Option<(reqwest::Response, Parser)>,
    waiting: std::collections::VecDeque<Message>,
}

impl<'a> Follow<'a> {
    /// Follows from after an index, or from now on.
    pub(crate) fn new(client: &'a Client, filter: Filter, since: Option<u64>) -> Self {
        let waiting = std::collections::VecDeque::new();
        Self { client, filter, since, last: None, stream: None, waiting }
    }

    /// The next event. Ends only with a failure.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            while let Some(message) = self.waiting.pop_front() {
                if let Some(event) = self.take(&message) {
                    return Ok(event);
                }
            }
            if self.stream.is_none()
                && let Some(missed) = self.connect().await?
            {
                return Ok(missed);
            }
            self.receive().await?;
        }
    }

    fn take(&mut self, message: &Message) -> Option<Incoming> {
        // A node of a later version may know events that this program does not; they must not end the stream.
        let event = serde_json::from_str::<Event>(&message.data);
        if let Some(index) = message.id.as_ref().and_then(|id| id.parse().ok()) {
            self.since = Some(index);
        }
        let event = event.ok()?;
        let place = (event.index, event.place);
        // A stream that broke off in the middle of an index gives its first events again.
        if self.last.is_some_and(|last| place <= last) {
            return None;
        }
        self.last = Some(place);
        Some(Incoming::Event(Box::new(event), message.data.clone()))
    }

    async fn connect(&mut self) -> Result<Option<Incoming>, Failure> {
        let mut call = Call::get(&["events"])
            .header("accept", "text/event-stream")
            .query_if("topic", self.filter.topic.as_ref())
            .query_if("grain", self.filter.grain.as_ref())
            .patient(PATIENCE);
        if let Some(since) = self.since {
            call = call.header("last-event-id", since.to_string());
        }
        match self.client.open(&call).await {
            Ok(response) => {
                self.stream = Some((response, Parser::default()));
                Ok(None)
            }
            Err(Failure::Problem { problem, server, repeated }) if problem.code == Code::Gone => {
                let Some(oldest) = problem.oldest else {
                    return Err(Failure::Problem { problem, server, repeated });
                };
                let since = self.since.replace(oldest).unwrap_or(0);
                if since >= oldest {
                    // It would be refused for ever.
                    return Err(Failure::Problem { problem, server, repeated });
                }
                Ok(Some(Incoming::Missed(since, oldest)))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        let Some((response, parser)) = &mut self.stream else { return Ok(()) };
        let trouble = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
            Ok(Ok(Some(chunk))) => match parser.push(&chunk) {
                Ok(messages) => {
                    self.waiting.extend(messages);
                    return Ok(());
                }
                Err(too_long) => too_long.to_string(),
            },
            Ok(Ok(None)) => "the stream ended".to_owned(),
            Ok(Err(error)) => format!("the stream {}", retry::describe(&error)),
            Err(_) => "the stream is silent".to_owned(),
        };
        self.stream = None;
        self.client.remark(&format!("{trouble}; following another node"));
        // A node that ends every stream at once must not be asked a thousand times a second.
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(())
    }
}
