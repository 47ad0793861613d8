//! `/v1/grains/{name}/logs`: what a grain's program wrote, from the node where it lives.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::unfold;
use scrap_host::runtime::{LogChunk, Runtime};
use scrap_schema::id::GrainId;
use scrap_schema::problem::Code;

use super::error::{Answer, Failure, from_runtime};
use super::input::{Named, Pairs};
use super::owner::{Place, reach};
use super::state::{Api, Closing};
use crate::logging::chain;

/// Largest piece that is read at once.
const PIECE: usize = 64 << 10;
/// Pauses of somebody who follows a silent log.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a grain's program wrote.
#[utoipa::path(get, path = "/v1/grains/{name}/logs", tag = "grains",
    params(
        ("name" = String, Path, description = "Name or id"),
        ("tail" = Option<u32>, Query, description = "Only so many lines before the end"),
        ("follow" = Option<bool>, Query, description = "Go on with what it writes from now on"),
    ),
    responses((status = 200, description = "The text as it was written", body = String, content_type = "text/plain")))]
pub(super) async fn logs(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    request: Request,
) -> Answer {
    let query = Pairs::of(request.uri(), &["tail", "follow"])?;
    let tail = query.parsed::<u32>("tail", Code::BadRequest)?;
    let follow = query.flag("follow")?;
    let (grain, name) = match reach(&api, &name, request).await? {
        Place::Here { grain, name, request: _ } => (grain, name),
        Place::Answered(response) => return Ok(response),
    };
    let runtime = &api.daemon.host.runtime;
    let first = runtime.logs(grain, 0, tail, PIECE).await;
    let first = first.map_err(|error| match follow {
        false => no_log(&error, &name),
        true => from_runtime(&error, &name),
    })?;
    let reading = Reading { api, closing, grain, next: 0, follow, first: Some(first) };
    let pieces = unfold(reading, |mut reading| async move {
        let piece = reading.piece().await?;
        Some((piece, reading))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(response)
}

fn no_log(error: &scrap_host::runtime::RuntimeError, name: &str) -> Failure {
    match &error.cause {
        scrap_host::runtime::RuntimeCause::NotRunning => Failure::new(
            Code::NotRunning,
            format!("grain `{name}` has never run here: there is no log"),
        )
        .hint(format!("`scrapctl info {name}` shows what it waits for")),
        scrap_host::runtime::RuntimeCause::Stale { .. }
        | scrap_host::runtime::RuntimeCause::Program { .. }
        | scrap_host::runtime::RuntimeCause::NoUser { .. }
        | scrap_host::runtime::RuntimeCause::NotPossible { .. }
        | scrap_host::runtime::RuntimeCause::NotReady { .. }
        | scrap_host::runtime::RuntimeCause::StillAlive { .. }
        | scrap_host::runtime::RuntimeCause::Io { .. } => from_runtime(error, name),
    }
}

/// A log that is being read.
struct Reading {
    api: Api,
    closing: Closing,
    grain: GrainId,
    next: u64,
    follow: bool,
    first: Option<LogChunk>,
}

impl Reading {
    /// The next piece; `None` at the end, or when the server stops.
    async fn piece(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        let mut pause = PAUSE_MIN;
        loop {
            let chunk = match self.first.take() {
                Some(first) => first,
                None => match self.read().await {
                    Ok(chunk) => chunk,
                    Err(error) => return Some(Err(error)),
                },
            };
            self.next = chunk.next;
            if !chunk.text.is_empty() {
                return Some(Ok(Bytes::from(chunk.text)));
            }
            if !self.follow || !self.lives_here() {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = self.closing.0.cancelled() => return None,
            }
        }
    }

    async fn read(&self) -> Result<LogChunk, std::io::Error> {
        use scrap_host::runtime::RuntimeCause;
        let runtime = &self.api.daemon.host.runtime;
        match runtime.logs(self.grain, self.next, None, PIECE).await {
            Ok(chunk) => Ok(chunk),
            // Forgotten meanwhile: when it starts again its log begins anew.
            Err(error) if matches!(error.cause, RuntimeCause::NotRunning) => {
                Ok(LogChunk { text: Vec::new(), next: 0 })
            }
            Err(error) => {
                tracing::warn!(grain = %self.grain, error = %chain(&error), "log broke off");
                Err(std::io::Error::other(error))
            }
        }
    }

    /// Whether the grain still lives on this node; else the caller asks again and is sent to the new one.
    fn lives_here(&self) -> bool {
        self.api.read(|cluster| {
            let grain = cluster.grains.get(&self.grain);
            grain.is_some_and(|grain| grain.owner == Some(self.api.daemon.me))
        })
    }
}
