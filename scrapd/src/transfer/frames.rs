//! The frames of a stream and their check. A reader gives out a frame only after the next one's header has come, so that nothing
//! of a damaged end ever looks like an end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::agent::Sending;

/// Largest frame.
pub(super) const FRAME_MAX: usize = 256 * 1024;
/// Length of the trailer after its zero.
const TRAILER: usize = 8 + blake3::OUT_LEN;

/// Cuts what is read into frames and ends with the trailer, if `whole` says that everything was read.
pub(super) async fn wrap(
    mut from: impl AsyncRead + Unpin,
    out: &mpsc::Sender<io::Result<Bytes>>,
    progress: &Arc<Sending>,
    idle: Duration,
) -> io::Result<Trailer> {
    let mut trailer = Trailer::default();
    loop {
        let mut frame = BytesMut::with_capacity(FRAME_MAX + 4);
        frame.put_u32(0);
        let mut payload = frame.split_off(4);
        while payload.len() < FRAME_MAX {
            let room = FRAME_MAX - payload.len();
            if (&mut from).take(room as u64).read_buf(&mut payload).await? == 0 {
                break;
            }
            // A slow source is passed on as it comes.
            if payload.len() >= FRAME_MAX / 4 {
                break;
            }
        }
        if payload.is_empty() {
            return Ok(trailer);
        }
        trailer.add(&payload);
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut head = BytesMut::with_capacity(4);
        head.put_u32(length);
        head.unsplit(payload);
        progress.bytes.store(trailer.bytes, Ordering::Relaxed);
        let sent = timeout(idle, out.send(Ok(head.freeze()))).await;
        sent.map_err(|_| silent("the receiver takes nothing", idle))?.map_err(|_| closed())?;
    }
}

fn silent(who: &str, idle: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{who} for {idle:?}"))
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other side has hung up")
}

/// Count and hash of a stream.
#[derive(Default)]
pub(super) struct Trailer {
    pub(super) bytes: u64,
    hash: blake3::Hasher,
}

impl Trailer {
    fn add(&mut self, payload: &[u8]) {
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
        self.hash.update(payload);
    }

    /// As it stands on the wire, with its zero.
    pub(super) fn to_bytes(&self) -> Bytes {
        let mut wire = BytesMut::with_capacity(4 + TRAILER);
        wire.put_u32(0);
        wire.put_u64(self.bytes);
        wire.put_slice(self.hash.finalize().as_bytes());
        wire.freeze()
    }
}

/// Reads frames from the wire and writes what is in them to `into`; closes it only after a good trailer. A stream that breaks off or
/// does not match, or is silent for longer than `idle`, leaves `into` without an end: the reader on its other side sees an error.
pub(super) async fn unwrap<S, E>(
    wire: S,
    into: &mut DuplexStream,
    idle: Duration,
) -> io::Result<u64>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut wire = Wire { stream: wire, buffer: BytesMut::new(), idle };
    let mut trailer = Trailer::default();
    let mut held: Option<Bytes> = None;
    loop {
        let length = wire.take(4).await?;
        let length = length.iter().fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
        if length > FRAME_MAX {
            return Err(bad(format!("a frame of {length} bytes is larger than any")));
        }
        if length == 0 {
            let end = wire.take(TRAILER).await?;
            if end.as_ref() != trailer.to_bytes().get(4..).unwrap_or_default() {
                return Err(bad("byte count or hash do not match".to_owned()));
            }
            if let Some(last) = held.take() {
                into.write_all(&last).await?;
            }
            into.shutdown().await?;
            return Ok(trailer.bytes);
        }
        let payload = wire.take(length).await?;
        trailer.add(&payload);
        if let Some(before) = held.replace(payload) {
            into.write_all(&before).await?;
        }
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Wire<S> {
    stream: S,
    buffer: BytesMut,
    idle: Duration,
}

impl<S, E> Wire<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            let next = timeout(self.idle, self.stream.next()).await;
            match next.map_err(|_| silent("the sender says nothing", self.idle))? {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream ended before its trailer",
                    ));
                }
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    async fn wire_of(data: &[u8]) -> Vec<u8> {
        let (out, mut wire) = mpsc::channel(1000);
        let trailer = wrap(data, &out, &Arc::default(), IDLE).await.unwrap();
        out.send(Ok(trailer.to_bytes())).await.unwrap();
        drop(out);
        let mut bytes = Vec::new();
        while let Some(frame) = wire.recv().await {
            bytes.extend_from_slice(&frame.unwrap());
        }
        bytes
    }

    /// What a reader gets, and whether the stream was good.
    async fn read(wire: &[u8], piece: usize) -> (Vec<u8>, io::Result<u64>) {
        let pieces: Vec<_> = wire
            .chunks(piece)
            .map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let (mut into, mut from) = tokio::io::duplex(1 << 22);
        let result = unwrap(stream::iter(pieces), &mut into, IDLE).await;
        drop(into);
        let mut got = Vec::new();
        from.read_to_end(&mut got).await.unwrap();
        (got, result)
    }

    #[tokio::test]
    async fn what_goes_in_comes_out() {
        for length in [0, 1, FRAME_MAX - 1, FRAME_MAX, FRAME_MAX + 1, 3 * FRAME_MAX + 17] {
            let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let wire = wire_of(&data).await;
            let (got, result) = read(&wire, 1000).await;
            assert_eq!(result.unwrap(), length as u64);
            assert!(got == data, "length {length}");
        }
    }

    #[tokio::test]
    async fn a_cut_stream_is_never_whole() {
        let data: Vec<u8> = (0..2 * FRAME_MAX + 5).map(|at| (at % 251) as u8).collect();
        let wire = wire_of(&data).await;
        for twentieth in 0..20 {
            let cut = wire.len() * twentieth / 20;
            let (got, result) = read(&wire[..cut], 4096).await;
            assert!(result.is_err(), "cut at {cut}");
            assert!(got.len() < data.len(), "cut at {cut}");
        }
        let (got, result) = read(&wire[..wire.len() - 1], 4096).await;
        assert!(result.is_err());
        assert!(got.len() < data.len());
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_is_found() {
        let data: Vec<u8> = (0..FRAME_MAX + 5).map(|at| (at % 251) as u8).collect();
        let wire = wire_of(&data).await;
        for at in [0, 3, 4, 1000, FRAME_MAX, wire.len() - 40, wire.len() - 33, wire.len() - 1] {
            let mut damaged = wire.clone();
            damaged[at] ^= 1;
            let (got, result) = read(&damaged, 4096).await;
            assert!(result.is_err(), "flipped at {at}");
            assert!(got.len() < data.len(), "flipped at {at}");
        }
    }

    /// A stream of which a part has come and that goes on for ever without a word.
    #[tokio::test]
    async fn a_sender_that_says_nothing_more_is_given_up() {
        let data: Vec<u8> = (0..2 * FRAME_MAX).map(|at| (at % 251) as u8).collect();
        let wire = wire_of(&data).await;
        let part = stream::iter([Ok::<_, io::Error>(Bytes::copy_from_slice(&wire[..FRAME_MAX]))]);
        let (mut into, _from) = tokio::io::duplex(1 << 22);
        let result = unwrap(part.chain(stream::pending()), &mut into, SHORT).await;
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "the sender says nothing for 20ms");
    }

    #[tokio::test]
    async fn a_receiver_that_takes_nothing_more_is_given_up() {
        let (out, _wire) = mpsc::channel(1);
        let data = vec![1; 4 * FRAME_MAX];
        let result = wrap(data.as_slice(), &out, &Arc::default(), SHORT).await;
        assert_eq!(result.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
    }
}
