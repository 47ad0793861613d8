//! The keeper's side of its socket: at most a few connections, one line in, one line out, and nobody can make it wait.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::protocol::{LINE_MAX, Request};

/// More at once are turned away.
const CONNECTIONS_MAX: usize = 16;

/// One caller.
pub(super) struct Caller {
    pub(super) stream: UnixStream,
    received: Vec<u8>,
}

/// What a caller did.
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// A question.
    Asked(Request),
    /// It went away or talks nonsense.
    Gone,
}

/// Takes new callers in.
pub(super) fn accept(listener: &UnixListener, callers: &mut Vec<Caller>) {
    while let Ok((stream, _)) = listener.accept() {
        if callers.len() < CONNECTIONS_MAX && stream.set_nonblocking(true).is_ok() {
            callers.push(Caller { stream, received: Vec::new() });
        }
    }
}

impl Caller {
    /// Reads what is there.
    pub(super) fn listen(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Gone,
                Ok(length) => self.received.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return Heard::Gone,
            }
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.received.get(..end).unwrap_or_default();
                return serde_json::from_slice(line).map_or(Heard::Gone, Heard::Asked);
            }
            if self.received.len() > LINE_MAX.min(64 << 10) {
                return Heard::Gone;
            }
        }
    }

    /// Answers; a caller that does not take it has lost.
    pub(super) fn answer(&mut self, line: &[u8]) {
        // A local socket takes far more than a status at once; an order may be larger and gets a moment.
        let timeout = Some(std::time::Duration::from_millis(100));
        let blocking = self.stream.set_write_timeout(timeout);
        if blocking.and_then(|()| self.stream.set_nonblocking(false)).is_ok() {
            let _ = self.stream.write_all(line);
        }
    }
}
