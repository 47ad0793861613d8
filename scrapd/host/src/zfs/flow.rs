//! A stream under way between the pool and us. It may take as long as it takes, but not stand still: one of which no byte
//! moved for the limit of a command is ended and named. How long we or the network take over a piece counts for nothing.

use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Order, Result, words};
use crate::datasets::Cause;

/// What a program may say on stderr before the rest is dropped.
const SAID_MAX: u64 = 64 << 10;
/// What goes from one stream into another at once.
const PIECE: usize = 128 << 10;
/// A receive that got everything is silent until the pool has it: for up to three groups of transactions, the one being
/// written, the one that waits, and its own. Each may take as long as a command.
const GROUPS: u32 = 3;
/// A program that was killed is gone within this, or the system holds it.
const GONE: Duration = Duration::from_secs(10);

/// What becomes of a stream of the library.
pub(super) type Outcome = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A stream under way. Dropped, it is killed.
pub(super) struct Stream {
    /// Until its end was seen.
    engine: Option<Engine>,
    /// What it is, for errors.
    program: String,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    output: Option<Box<dyn AsyncRead + Send + Unpin>>,
    limit: Duration,
    /// Of its end, once it got everything or gave everything.
    limit_at_end: Duration,
    /// Lives as long as the stream, also if that cannot be killed at once.
    registration: Option<watch::Receiver<Order>>,
}

enum Engine {
    Program {
        child: Box<Child>,
        said: tokio::task::JoinHandle<String>,
        root: String,
    },
    #[cfg_attr(not(feature = "libzfs"), expect(dead_code, reason = "made where the library is"))]
    Library(Outcome),
}

impl Engine {
    /// Waits for the end and says what came of it.
    async fn ended(&mut self, program: &str) -> Result<()> {
        let (child, said, root) = match self {
            Self::Program { child, said, root } => (child, said, root),
            Self::Library(outcome) => return outcome.await,
        };
        let status = child
            .wait()
            .await
            .map_err(|source| Cause::Io { what: format!("cannot wait for `{program}`"), source })?;
        if status.success() {
            return Ok(());
        }
        let said = said.await.unwrap_or_default();
        tracing::debug!(command = program, %said, "refused");
        Err(words::cause(program, &said, root))
    }

    /// Ends it and waits until it is gone, however long that takes.
    async fn kill(&mut self, program: &str) {
        let gone = match self {
            Self::Program { child, .. } => child.kill().await.map_err(|error| error.to_string()),
            // With its pipe closed it can only end.
            Self::Library(outcome) => outcome.await.map_err(|cause| cause.to_string()),
        };
        if let Err(error) = gone {
            tracing::debug!(command = program, error, "a stream was stopped");
        }
    }
}

impl Stream {
    fn new(engine: Engine, program: String, limit: Duration) -> Self {
        let (input, output, registration) = (None, None, None);
        let engine = Some(engine);
        Self { engine, program, input, output, limit, limit_at_end: limit, registration }
    }

    /// One of a program that was started with a pipe on one side.
    pub(super) fn of_program(
        mut child: Child,
        program: String,
        root: &str,
        limit: Duration,
    ) -> Self {
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                let (mut kept, mut rest) = (stderr.take(SAID_MAX), Vec::new());
                kept.read_to_end(&mut said).await.ok();
                kept.into_inner().read_to_end(&mut rest).await.ok();
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        let engine = Engine::Program { child: Box::new(child), said, root: root.to_owned() };
        let mut stream = Self::new(engine, program, limit);
        if let Some(input) = input {
            stream.goes_in(Box::new(input));
        }
        stream.output = output.map(|pipe| Box::new(pipe) as _);
        stream
    }

    /// One that the library writes.
    #[cfg(feature = "libzfs")]
    pub(super) fn outward_of(
        output: Box<dyn AsyncRead + Send + Unpin>,
        outcome: Outcome,
        limit: Duration,
    ) -> Self {
        let program = "libzfs_core send".to_owned();
        let mut stream = Self::new(Engine::Library(outcome), program, limit);
        stream.output = Some(output);
        stream
    }

    /// One that the library takes in.
    #[cfg(feature = "libzfs")]
    pub(super) fn inward_of(
        input: Box<dyn AsyncWrite + Send + Unpin>,
        outcome: Outcome,
        limit: Duration,
    ) -> Self {
        let program = "libzfs_core receive".to_owned();
        let mut stream = Self::new(Engine::Library(outcome), program, limit);
        stream.goes_in(input);
        stream
    }

    fn goes_in(&mut self, input: Box<dyn AsyncWrite + Send + Unpin>) {
        self.input = Some(input);
        self.limit_at_end = self.limit.saturating_mul(GROUPS);
    }

    /// Keeps a receive registered until this stream is gone.
    pub(super) fn keep(&mut self, registration: watch::Receiver<Order>) {
        self.registration = Some(registration);
    }

    fn stands_still(&self, limit: Duration) -> Cause {
        Cause::Hanging { program: self.program.clone(), seconds: limit.as_secs() }
    }

    /// Fills a buffer as far as the stream goes. Nothing: its end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let Some(output) = &mut self.output else { break };
            let Ok(read) = timeout(self.limit, output.read(rest)).await else {
                return Err(self.stands_still(self.limit));
            };
            let read = read
                .map_err(|source| Cause::Io { what: "cannot read a stream".to_owned(), source })?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    /// Writes all of this. Says whether it was taken: a stream that wants no more has its reason in its end.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(input) = &mut self.input else { return Ok(false) };
            match timeout(self.limit, input.write(rest)).await {
                Err(_) => return Err(self.stands_still(self.limit)),
                Ok(Err(_) | Ok(0)) => return Ok(false),
                Ok(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        Ok(true)
    }

    /// Closes our side, waits for its end and says what came of it. One that does not end is killed.
    pub(super) async fn end(mut self) -> Result<()> {
        (self.input, self.output) = (None, None);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if let Ok(ended) = timeout(self.limit_at_end, engine.ended(&self.program)).await {
            self.engine = None;
            return ended;
        }
        self.stop().await;
        Err(self.stands_still(self.limit_at_end))
    }

    /// Kills it and waits for a while until it is gone. One that cannot be killed is left to the system, and stays registered.
    pub(super) async fn kill(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        (self.input, self.output) = (None, None);
        let Some(engine) = &mut self.engine else { return };
        if timeout(GONE, engine.kill(&self.program)).await.is_ok() {
            self.engine = None;
        } else {
            tracing::warn!(program = self.program, "a stream that was stopped does not end");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        (self.input, self.output) = (None, None);
        let registration = self.registration.take();
        // Without a runtime there is nobody to wait, and dropping kills a program as well.
        let (Some(mut engine), Ok(runtime)) = (self.engine.take(), Handle::try_current()) else {
            return;
        };
        let program = std::mem::take(&mut self.program);
        runtime.spawn(async move {
            engine.kill(&program).await;
            drop(registration);
        });
    }
}

/// Lets what comes out of one stream go into another. Ends when either has had enough.
pub(super) async fn relay(from: &mut Stream, to: &mut Stream) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 || !to.write(piece.get(..read).unwrap_or_default()).await? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
