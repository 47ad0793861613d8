//! OpenZFS through its library: snapshots of many datasets in one moment, streams between file descriptors, refusals that
//! are numbers instead of sentences. What the library has no call for stays with the commands.
//!
//! The only room with `unsafe`: `list` and `calls` have it, each block with its reason; nothing here decides anything.
//! Every call blocks, a stream for hours; each runs on a thread of its own, and there is a limit of them. A stream ends when
//! the other end of its pipe is closed: whoever gives up on one drops its future and leaves no thread behind.

mod calls;
mod error;
mod list;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, oneshot};

use calls::Library;
pub use error::{Code, LzcError, Result};
pub use list::Value;
pub use token::Token;

/// Calls that answer soon, at once.
const CALLS_MAX: usize = 8;
/// Streams at once, in each direction: they wait for other machines, never for each other.
const STREAMS_MAX: usize = 64;
/// What the pipe of a stream holds.
const PIPE_BYTES: usize = 1 << 20;

/// The library, opened. Every call says in its error which name was refused, and why.
#[derive(Debug, Clone)]
pub struct Lzc {
    library: Arc<Library>,
    calls: Arc<Semaphore>,
    sends: Arc<Semaphore>,
    receives: Arc<Semaphore>,
}

/// A stream to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// `pool/dataset@snapshot`.
    pub snapshot: String,
    /// Where it begins, a snapshot or a bookmark; `None`: a full one.
    pub from: Option<String>,
    /// How blocks are written.
    pub form: Form,
    /// Goes on in the middle: object and offset of a [`Token`].
    pub at: Option<(u64, u64)>,
}

/// How a stream writes blocks. The receiver must be able to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form {
    /// Blocks over 128 KiB stay whole.
    pub large: bool,
    /// Compressed blocks stay compressed.
    pub compressed: bool,
    /// Tiny blocks stay in their pointers.
    pub embedded: bool,
    /// Encrypted blocks stay encrypted.
    pub raw: bool,
}

/// A stream to take in. Never overwrites what the target has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intake {
    /// `pool/dataset@snapshot` that it becomes.
    pub snapshot: String,
    /// The snapshot that it is a clone of, if it is.
    pub origin: Option<String>,
    /// Keeps what is here when it is cut off, so that it can go on by its token.
    pub resumable: bool,
    /// The stream has encrypted blocks.
    pub raw: bool,
    /// Properties that the target gets as its own, such as `readonly` with the number 1.
    pub properties: Vec<(String, Value)>,
}

/// What becomes of a stream that was begun.
#[derive(Debug)]
pub struct Outcome(oneshot::Receiver<Result<()>>);

impl Outcome {
    /// Waits for it. With the pipe closed that is soon.
    pub async fn end(self) -> Result<()> {
        joined(self.0).await
    }
}

impl Lzc {
    /// Whether there is a kernel here that answers.
    pub fn available() -> bool {
        Library::open().is_some()
    }

    /// The library, if there is a kernel that answers it.
    pub fn open() -> Option<Self> {
        let turns = |count| Arc::new(Semaphore::new(count));
        Library::open().map(|library| Self {
            library: Arc::new(library),
            calls: turns(CALLS_MAX),
            sends: turns(STREAMS_MAX),
            receives: turns(STREAMS_MAX),
        })
    }

    /// Whether there is such a dataset or snapshot. One that cannot be looked at is none.
    pub async fn exists(&self, name: String) -> Result<bool> {
        self.call(move |library| library.exists(&name)).await
    }

    /// Snapshots of datasets of one pool, all of the same moment; all of them or none. Each gets the properties as its own.
    pub async fn snapshot(
        &self,
        names: Vec<String>,
        properties: Vec<(String, Value)>,
    ) -> Result<()> {
        self.call(move |library| library.snapshot(&names, &properties)).await
    }

    /// Destroys snapshots of one pool, all of them or none; missing ones are fine.
    pub async fn destroy_snapshots(&self, names: Vec<String>) -> Result<()> {
        self.call(move |library| library.destroy_snapshots(&names)).await
    }

    /// Makes bookmarks: pairs of the bookmark and its snapshot, all of them or none.
    pub async fn bookmark(&self, pairs: Vec<(String, String)>) -> Result<()> {
        self.call(move |library| library.bookmark(&pairs)).await
    }

    /// Destroys bookmarks of one pool, all of them or none; missing ones are fine.
    pub async fn destroy_bookmarks(&self, names: Vec<String>) -> Result<()> {
        self.call(move |library| library.destroy_bookmarks(&names)).await
    }

    /// Holds snapshots of one pool: pairs of a snapshot and a tag, all of them or none.
    pub async fn hold(&self, pairs: Vec<(String, String)>) -> Result<()> {
        self.call(move |library| library.hold(&pairs)).await
    }

    /// Releases tags of snapshots of one pool, all of them or none.
    pub async fn release(&self, pairs: Vec<(String, String)>) -> Result<()> {
        self.call(move |library| library.release(&pairs)).await
    }

    /// Tags of a snapshot and when they were set, in seconds of the epoch.
    pub async fn holds(&self, snapshot: String) -> Result<BTreeMap<String, u64>> {
        self.call(move |library| library.holds(&snapshot)).await
    }

    /// Estimated bytes of a stream; of one that goes on in the middle, as if it did not.
    pub async fn estimate(&self, outgoing: Outgoing) -> Result<u64> {
        self.call(move |library| library.send_space(&outgoing)).await
    }

    /// What a token says that a cut receive left.
    pub async fn token(&self, text: String) -> Result<Token> {
        self.call(move |_| Token::parse(&text)).await
    }

    /// Begins to write a stream, which is read from the pipe. Whoever lets go of the pipe before its end has ended it.
    pub async fn send(&self, outgoing: Outgoing) -> Result<(pipe::Receiver, Outcome)> {
        let work = "send";
        let (reader, writer) = open_pipe(work, &outgoing.snapshot)?;
        let reader = pipe::Receiver::from_owned_fd(reader);
        let reader = reader.map_err(|error| LzcError::system(work, &outgoing.snapshot, &error))?;
        let library = Arc::clone(&self.library);
        let sent = on_thread(&self.sends, move || library.send(&outgoing, &writer)).await?;
        Ok((reader, Outcome(sent)))
    }

    /// Begins to take a stream in, which is written into the pipe. It is whole when the outcome says so; whoever lets go of
    /// the pipe before that has ended it, and if it is resumable what came stays for its token. The kernel reads no
    /// further than the end of the stream, or than what it refuses: a pipe that breaks has its reason in the outcome.
    pub async fn receive(&self, intake: Intake) -> Result<(pipe::Sender, Outcome)> {
        let work = "receive";
        let (reader, writer) = open_pipe(work, &intake.snapshot)?;
        let writer = pipe::Sender::from_owned_fd(writer);
        let writer = writer.map_err(|error| LzcError::system(work, &intake.snapshot, &error))?;
        let library = Arc::clone(&self.library);
        let received = on_thread(&self.receives, move || library.receive(&intake, &reader)).await?;
        Ok((writer, Outcome(received)))
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Library) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let library = Arc::clone(&self.library);
        joined(on_thread(&self.calls, move || work(&library)).await?).await
    }
}

/// Runs blocking work on a thread of its own when it has a turn. The turn ends with the work, also if nobody waits for it.
async fn on_thread<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (done, result) = oneshot::channel();
    let turn = Arc::clone(turns).acquire_owned().await;
    let thread = std::thread::Builder::new().name("lzc".to_owned()).spawn(move || {
        // Nobody may be there any more to hear it.
        let _unheard = done.send(work());
        drop(turn);
    });
    thread.map_err(|error| LzcError::system("start a thread for", "libzfs_core", &error))?;
    Ok(result)
}

/// The result of a thread; one that ended without any had a bug.
async fn joined<T>(result: oneshot::Receiver<Result<T>>) -> Result<T> {
    let lost = |_| LzcError::new("hear of", "libzfs_core", Code::Lost);
    result.await.map_err(lost)?
}

/// A pipe whose ends both block.
fn open_pipe(work: &'static str, on: &str) -> Result<(OwnedFd, OwnedFd)> {
    let pipe = pipe_with(PipeFlags::CLOEXEC);
    let (reader, writer) = pipe.map_err(|error| LzcError::system(work, on, &error.into()))?;
    // Larger is faster; a machine may not grant it.
    let _granted = fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((reader, writer))
}
