//! Terminals inside grains: `/v1/grains/{name}/console`, and `exec` with a terminal or another user. Frames both ways.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use scrap_schema::api::{ConsoleBody, ExecEnd, Window, terminal};
use scrap_schema::id::GrainId;
use scrap_schema::problem::Code;
use scrap_schema::strict::strict_json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::error::{Answer, Failure, NO_PROGRAM, NO_USER};
use super::exec::{DRAIN, FRAMES, PAYLOAD, STDOUT, end_frame, first_line, frame_of};
use super::input::{Named, Pairs};
use super::owner::{Place, reach};
use super::state::{Api, Closing};
use crate::inside::{self, Attach, InsideError, Session, Terminal};
use crate::logging::chain;

/// Sits down at the console of a grain's system.
#[utoipa::path(post, path = "/v1/grains/{name}/console", tag = "grains",
    params(("name" = String, Path, description = "Name or id")),
    request_body(content = ConsoleBody, description = "One line of JSON; frames follow it: kind (1 byte: 1 input, 2 rows and columns of the window in 2 bytes each, 3 end of input), length (4 bytes, big endian), payload"),
    responses((status = 200, description = "Frames: kind (1 byte: 1 output, 3 end), length (4 bytes, big endian), payload; the end's is an ExecEnd as JSON",
        content((ExecEnd = "application/octet-stream")))))]
pub(super) async fn console(
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
    let ConsoleBody { window } =
        if line.is_empty() { ConsoleBody::default() } else { strict_json(&line)? };
    attach(&api, (grain, &name), Attach::Console { window }, (rest, input), closing).await
}

/// Begins a session and carries it.
pub(super) async fn attach(
    api: &Api,
    (grain, name): (GrainId, &str),
    attach: Attach,
    (rest, input): (Bytes, BodyDataStream),
    closing: Closing,
) -> Answer {
    let Session { child, terminal } = inside::attach(&api.daemon, (grain, name), attach).await?;
    tracing::info!(grain = name, "session began");
    let Some(terminal) = terminal else {
        return Ok(super::exec::running(child, rest, input, closing));
    };
    let typed = Typed { rest: rest.to_vec(), input };
    let (ready, out) = (VecDeque::new(), vec![0; PAYLOAD]);
    let sitting = Sitting {
        child,
        terminal: Some(terminal),
        typed: Some(typed),
        ended: None,
        ready,
        out,
        over: false,
        closing,
    };
    let frames = unfold(sitting, |mut sitting| async move {
        let frame = sitting.frame().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), sitting))
    });
    let mut response = Response::new(Body::from_stream(frames));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAMES));
    Ok(response)
}

/// What somebody does at a terminal.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    Input(Vec<u8>),
    Resize(Window),
    End,
}

/// Frames that come in.
struct Typed {
    rest: Vec<u8>,
    input: BodyDataStream,
}

impl Typed {
    /// The next one. May be broken off and asked again: nothing is lost.
    async fn next(&mut self) -> Deed {
        loop {
            match first(&self.rest) {
                Ok(Some((deed, length))) => {
                    self.rest.drain(..length);
                    return deed;
                }
                Ok(None) => match self.input.next().await {
                    Some(Ok(piece)) => self.rest.extend_from_slice(&piece),
                    // The caller has gone: as if the line had been cut.
                    Some(Err(_)) | None => return Deed::End,
                },
                Err(()) => return Deed::End,
            }
        }
    }
}

/// The first whole frame and its length; `Err`: it is none.
fn first(bytes: &[u8]) -> Result<Option<(Deed, usize)>, ()> {
    let Some((head, rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > terminal::PAYLOAD_MAX {
        return Err(());
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let deed = match (kind, payload) {
        (terminal::INPUT, typed) => Deed::Input(typed.to_vec()),
        (terminal::RESIZE, [r0, r1, c0, c1]) => Deed::Resize(Window {
            rows: u16::from_be_bytes([*r0, *r1]),
            columns: u16::from_be_bytes([*c0, *c1]),
        }),
        (terminal::END, []) => Deed::End,
        (_, _) => return Err(()),
    };
    Ok(Some((deed, length.saturating_add(5))))
}

/// Somebody at a terminal. When this is dropped, because the caller has gone, the program ends.
struct Sitting {
    child: Child,
    terminal: Option<Box<dyn Terminal>>,
    typed: Option<Typed>,
    ended: Option<std::io::Result<ExitStatus>>,
    ready: VecDeque<Bytes>,
    out: Vec<u8>,
    over: bool,
    closing: Closing,
}

enum Step {
    Out(std::io::Result<usize>),
    Deed(Deed),
    Ended(std::io::Result<ExitStatus>),
    Drained,
    Closing,
}

impl Sitting {
    /// The next frame; `None` after the end.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match self.step().await {
                Step::Out(Ok(read @ 1..)) => {
                    let piece = self.out.get(..read).unwrap_or_default();
                    return Some(frame_of(STDOUT, piece));
                }
                // A terminal whose other side is gone says so with an error.
                Step::Out(_) | Step::Drained => self.terminal = None,
                Step::Deed(deed) => self.carry(deed).await,
                Step::Ended(status) => self.ended = Some(status),
                Step::Closing => self.end(None, Some("the node is stopping".to_owned())),
            }
            if self.terminal.is_none() && self.ended.is_some() && !self.over {
                self.finish();
            }
        }
    }

    async fn step(&mut self) -> Step {
        let ended = self.ended.is_some();
        let (terminal, out, typed) = (&mut self.terminal, &mut self.out, &mut self.typed);
        let (reads, types) = (terminal.is_some(), typed.is_some() && !ended);
        let read = async {
            match terminal {
                Some(terminal) => terminal.read(out).await,
                None => Ok(0),
            }
        };
        let next = async {
            match typed {
                Some(typed) => typed.next().await,
                None => Deed::End,
            }
        };
        tokio::select! {
            read = read, if reads => Step::Out(read),
            deed = next, if types => Step::Deed(deed),
            status = self.child.wait(), if !ended => Step::Ended(status),
            () = tokio::time::sleep(DRAIN), if ended => Step::Drained,
            () = self.closing.0.cancelled() => Step::Closing,
        }
    }

    async fn carry(&mut self, deed: Deed) {
        let Some(terminal) = &mut self.terminal else { return };
        match deed {
            // A program that takes no input any more has ended or is about to.
            Deed::Input(typed) => drop(terminal.write_all(&typed).await),
            Deed::Resize(window) => drop(terminal.resize(window)),
            Deed::End => {
                self.typed = None;
                self.end(None, Some("the caller has gone".to_owned()));
            }
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
}

impl From<InsideError> for Failure {
    fn from(error: InsideError) -> Self {
        let detail = chain(&error);
        match error {
            InsideError::Unsupported { .. } => {
                Self::new(Code::Unsupported, detail).hint("without a terminal: `scrapctl exec -T`")
            }
            InsideError::NotRunning { name } => Self::new(Code::NotRunning, detail)
                .hint(format!("start it: `scrapctl start {name}`")),
            InsideError::Program { .. } => Self::new(Code::BadRequest, detail).hint(NO_PROGRAM),
            InsideError::NoUser { .. } => Self::new(Code::BadRequest, detail).hint(NO_USER),
            InsideError::Failed { .. } => Self::internal(&detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_whole_and_strictly() {
        let input = [&[1, 0, 0, 0, 2][..], b"ls", &[9]].concat();
        assert_eq!(first(&input), Ok(Some((Deed::Input(b"ls".to_vec()), 7))));
        assert_eq!(first(&input[..6]), Ok(None));
        let window = Window { rows: 50, columns: 300 };
        assert_eq!(first(&[2, 0, 0, 0, 4, 0, 50, 1, 44]), Ok(Some((Deed::Resize(window), 9))));
        assert_eq!(first(&[2, 0, 0, 0, 1, 0]), Err(()));
        assert_eq!(first(&[3, 0, 0, 0, 0]), Ok(Some((Deed::End, 5))));
        assert_eq!(first(&[4, 0, 0, 0, 0]), Err(()));
        assert_eq!(first(&[1, 255, 255, 255, 255]), Err(()));
    }
}
