//! A terminal inside a grain: our keys go there as they are, what comes back is shown as it is, and our own terminal is put
//! back as it was, however it ends.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use scrap_schema::api::{Window, terminal};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Ctx;
use super::exec::carry;
use crate::client::call::Call;
use crate::client::upload;
use crate::failure::Failure;

/// Frames that may wait.
const QUEUE: usize = 64;
/// How much is read from the keyboard at once.
const PIECE: usize = 4 << 10;
/// Ctrl-D: the end of what is typed.
const END_OF_INPUT: u8 = 4;
/// Ctrl-]: leaves a console that does not end by itself.
const LEAVE: u8 = 0x1d;

/// The size of our own terminal.
pub(crate) fn window() -> Window {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Window { rows: size.ws_row, columns: size.ws_col }
        }
        Ok(_) | Err(_) => Window::default(),
    }
}

/// Our terminal without any meaning of keys; as it was before when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn of(ctx: &Ctx) -> Self {
        if !ctx.settings.environment.stdin_tty {
            return Self(None);
        }
        let Ok(before) = tcgetattr(rustix::stdio::stdin()) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // There is nobody left to tell.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Sits down at a terminal; returns the program's status. `leaves`: Ctrl-] ends it from this side.
pub(crate) async fn sit(
    ctx: &Ctx,
    call: Call,
    first: Vec<u8>,
    leaves: bool,
) -> Result<u8, Failure> {
    let (frames, queue) = mpsc::channel(QUEUE);
    let call = call.streamed(upload::queue(first, queue)).once();
    let response = ctx.client.open(&call).await?;
    let raw = Raw::of(ctx);
    let typing = type_frames(frames, leaves, ctx.settings.environment.stdin_tty);
    let status = tokio::select! {
        status = carry(ctx, response) => status,
        () = typing => Ok(0),
    };
    drop(raw);
    status
}

fn frame(kind: u8, payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    Ok([&[kind][..], &length, payload].concat())
}

/// Sends what is typed and how large the window is, for as long as somebody listens. Ends when the person leaves.
async fn type_frames(
    frames: mpsc::Sender<std::io::Result<Vec<u8>>>,
    leaves: bool,
    is_terminal: bool,
) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE];
    let mut resized = signal(SignalKind::window_change()).ok();
    loop {
        let resize = async {
            match &mut resized {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            read = stdin.read(&mut piece) => match read.map(|length| piece.get(..length)) {
                Ok(Some([])) | Ok(None) | Err(_) => break,
                Ok(Some(typed)) if leaves && typed.contains(&LEAVE) => return,
                Ok(Some(typed)) => frame(terminal::INPUT, typed),
            },
            _ = resize => {
                let Window { rows, columns } = window();
                let size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
                frame(terminal::RESIZE, &size)
            }
        };
        if frames.send(next).await.is_err() {
            break;
        }
    }
    // Input that ends in a file is the end of input; a terminal that is gone is the end of everything.
    let last = match is_terminal {
        true => frame(terminal::END, &[]),
        false => frame(terminal::INPUT, &[END_OF_INPUT]),
    };
    drop(frames.send(last).await);
    // The queue stays open: its end would be taken for ours.
    std::future::pending::<()>().await;
    drop(frames);
}
