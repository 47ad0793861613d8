//! `/v1/grains/{name}/exec`: a program inside a grain, its input and output streamed. The program never meets a shell.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::ExitStatus;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use scrap_host::runtime::{Exec, Runtime, RuntimeCause, RuntimeError};
use scrap_schema::api::{ExecBody, ExecEnd};
use scrap_schema::problem::Code;
use scrap_schema::spec::validate_program;
use scrap_schema::strict::strict_json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::error::{Answer, Failure, from_runtime};
use super::input::{Named, Pairs};
use super::owner::{Place, reach};
use super::state::{Api, Closing};
use super::terminal;
use crate::inside::Attach;

/// Media type of the frames.
pub(super) const FRAMES: &str = "application/octet-stream";
/// Largest first line.
const LINE_MAX: usize = 64 << 10;
/// Longest time until the first line is here.
const LINE_TIME: Duration = Duration::from_secs(30);
/// Largest payload of a frame.
pub(super) const PAYLOAD: usize = 32 << 10;
/// How long output is awaited after the program has ended: others may hold its pipes open.
pub(super) const DRAIN: Duration = Duration::from_millis(500);

/// Status of a program that is not there.
const NOT_FOUND: i32 = 127;
/// Status of a program that is there and cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

pub(super) const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const END: u8 = 3;

/// Runs a program inside a grain.
#[utoipa::path(post, path = "/v1/grains/{name}/exec", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content = ExecBody, description = "One line of JSON; what follows it is the program's input"),
    responses((status = 200, description = "Frames: kind (1 byte: 1 stdout, 2 stderr, 3 end), length (4 bytes, big endian), payload; the end's is an ExecEnd as JSON",
        content((ExecEnd = "application/octet-stream")))))]
pub(super) async fn exec(
    State(api): State<Api>,
    Named(name): Named,
    closing: Closing,
    request: Request,
) -> Answer {
    Pairs::of(request.uri(), &[])?;
    let (grain, name, request) = match reach(&api, &name, request).await? {
        Place::Here { grain, name, request } => (grain, name, request),
        Place::Answered(response) => return Ok(response),
    };
    let mut input = request.into_body().into_data_stream();
    let (line, rest) = first_line(&mut input).await?;
    let ExecBody { command, env, tty, window, user } = strict_json(&line)?;
    let faults = validate_program(&command, &env);
    if let Some(first) = faults.first() {
        let mut failure = Failure::new(Code::BadRequest, first.detail.clone());
        if let Some(hint) = first.hint.clone() {
            failure = failure.hint(hint);
        }
        return Err(failure.errors(faults));
    }
    if tty || user.is_some() {
        let window = tty.then(|| window.unwrap_or_default());
        let attach = Attach::Exec { command, env, user, window };
        return terminal::attach(&api, (grain, &name), attach, (rest, input), closing).await;
    }
    let order = Exec { grain, command, env, tty: None, user: None };
    let body = match api.daemon.host.runtime.exec(order).await {
        Ok(started) => {
            tracing::info!(grain = name, "exec began");
            return Ok(running(started.child, rest, input, closing));
        }
        // What a shell says of such a program, so that whoever reads the status need not know where it was read.
        Err(RuntimeError { cause: RuntimeCause::Program { program, source }, .. }) => {
            let (status, why) = match source.kind() {
                std::io::ErrorKind::NotFound => (NOT_FOUND, "is not there".to_owned()),
                _ => (NOT_EXECUTABLE, format!("cannot be executed: {source}")),
            };
            let error = format!("the program `{program}` of grain `{name}` {why}");
            Body::from(end_frame(Some(status), Some(error)))
        }
        Err(error) => return Err(from_runtime(&error, &name)),
    };
    Ok(framed(body))
}

fn framed(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAMES));
    response
}

/// The answer of a program with pipes.
pub(super) fn running(
    child: Child,
    rest: Bytes,
    input: BodyDataStream,
    closing: Closing,
) -> Response {
    let running = Running::of(child, rest, input, closing);
    framed(Body::from_stream(unfold(running, |mut running| async move {
        let frame = running.frame().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), running))
    })))
}

/// The last frame.
pub(super) fn end_frame(status: Option<i32>, error: Option<String>) -> Bytes {
    frame_of(END, &serde_json::to_vec(&ExecEnd { status, error }).unwrap_or_default())
}

pub(super) fn frame_of(kind: u8, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(payload.len().saturating_add(5));
    frame.push(kind);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

/// The first line of a body, and what of the input came with it.
pub(super) async fn first_line(input: &mut BodyDataStream) -> Answer<(Vec<u8>, Bytes)> {
    let mut line = Vec::new();
    let reading = async {
        while let Some(piece) = input.next().await {
            let piece = piece.map_err(|_| Failure::new(Code::BadRequest, "the body broke off"))?;
            if let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(piece.get(..end).unwrap_or_default());
                return Ok((std::mem::take(&mut line), piece.slice(end.saturating_add(1)..)));
            }
            line.extend_from_slice(&piece);
            if line.len() > LINE_MAX {
                let detail = format!("the first line is longer than {LINE_MAX} bytes");
                return Err(Failure::new(Code::PayloadTooLarge, detail));
            }
        }
        Ok((std::mem::take(&mut line), Bytes::new()))
    };
    tokio::time::timeout(LINE_TIME, reading).await.map_err(|_| {
        let detail = format!("the first line was not here after {} s", LINE_TIME.as_secs());
        Failure::slow_request(detail)
    })?
}

/// A program and its pipes. When this is dropped, because the caller has gone, the program is killed.
struct Running {
    child: Child,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    feed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ended: Option<std::io::Result<ExitStatus>>,
    ready: VecDeque<Bytes>,
    over: bool,
    closing: Closing,
}

/// What happened next.
enum Step {
    Out(std::io::Result<usize>),
    Err(std::io::Result<usize>),
    Fed,
    Ended(std::io::Result<ExitStatus>),
    Drained,
    Closing,
}

impl Running {
    fn of(mut child: Child, rest: Bytes, input: BodyDataStream, closing: Closing) -> Self {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let feed =
            child.stdin.take().map(|stdin| Box::pin(feed(stdin, rest, input)) as Pin<Box<_>>);
        let ready = VecDeque::new();
        Self { child, out, err, feed, ended: None, ready, over: false, closing }
    }

    /// The next frame; `None` after the end.
    async fn frame(&mut self) -> Option<Bytes> {
        let (mut out_piece, mut err_piece) = (vec![0; PAYLOAD], vec![0; PAYLOAD]);
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match self.step(&mut out_piece, &mut err_piece).await {
                Step::Out(Ok(read @ 1..)) => self.push(STDOUT, out_piece.get(..read)),
                Step::Out(_) => self.out = None,
                Step::Err(Ok(read @ 1..)) => self.push(STDERR, err_piece.get(..read)),
                Step::Err(_) => self.err = None,
                Step::Fed => self.feed = None,
                Step::Ended(status) => self.ended = Some(status),
                Step::Drained => (self.out, self.err) = (None, None),
                Step::Closing => self.end(None, Some("the node is stopping".to_owned())),
            }
            if self.out.is_none() && self.err.is_none() && self.ended.is_some() && !self.over {
                self.finish();
            }
        }
    }

    /// Waits for whatever comes first. Every part of it may be broken off and asked again.
    async fn step(&mut self, out_piece: &mut [u8], err_piece: &mut [u8]) -> Step {
        let ended = self.ended.is_some();
        let (out, err) = (self.out.is_some(), self.err.is_some());
        tokio::select! {
            read = read(&mut self.out, out_piece), if out => Step::Out(read),
            read = read(&mut self.err, err_piece), if err => Step::Err(read),
            () = fed(&mut self.feed), if self.feed.is_some() => Step::Fed,
            status = self.child.wait(), if !ended => Step::Ended(status),
            () = tokio::time::sleep(DRAIN), if ended => Step::Drained,
            () = self.closing.0.cancelled() => Step::Closing,
        }
    }

    fn finish(&mut self) {
        match self.ended.take() {
            Some(Ok(status)) => {
                let signal = status.signal().map(|signal| signal.saturating_add(128));
                self.end(status.code().or(signal), None);
            }
            Some(Err(error)) => self.end(None, Some(format!("its end is unknown: {error}"))),
            None => (),
        }
    }

    fn end(&mut self, status: Option<i32>, error: Option<String>) {
        self.ready.push_back(end_frame(status, error));
        self.over = true;
    }

    fn push(&mut self, kind: u8, payload: Option<&[u8]>) {
        self.ready.push_back(frame_of(kind, payload.unwrap_or_default()));
    }
}

async fn read<R: tokio::io::AsyncRead + Unpin>(
    pipe: &mut Option<R>,
    piece: &mut [u8],
) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(piece).await,
        None => Ok(0),
    }
}

async fn fed(feed: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    if let Some(feed) = feed {
        feed.await;
    }
}

/// Gives the program its input and closes it at its end. A program that does not want it ends this early.
async fn feed(mut stdin: ChildStdin, rest: Bytes, mut input: BodyDataStream) {
    if stdin.write_all(&rest).await.is_err() {
        return;
    }
    while let Some(Ok(piece)) = input.next().await {
        if stdin.write_all(&piece).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}
