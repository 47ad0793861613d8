//! The answer of an exec: frames of kind (1 byte), length (4 bytes, big endian) and payload. Pure.

use scrap_schema::api::ExecEnd;
use thiserror::Error;

/// Longest payload that is believed.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const HEAD_BYTES: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// What the program wrote to stdout.
    Stdout(Vec<u8>),
    /// What the program wrote to stderr.
    Stderr(Vec<u8>),
    /// How it ended.
    End(ExecEnd),
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BadFrame {
    /// A kind of a later version, or no frame at all.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// Longer than a node sends.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// The end is not what it should be.
    #[error("the end of the program cannot be read: {0}")]
    End(String),
}

/// Bytes that are no whole frame yet.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// Takes the next piece; gives the frames that are complete with it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, BadFrame> {
        self.0.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some((frame, length)) = first(self.0.get(at..).unwrap_or_default())? {
            frames.push(frame);
            at += length;
        }
        self.0.drain(..at);
        Ok(frames)
    }
}

fn first(bytes: &[u8]) -> Result<Option<(Frame, usize)>, BadFrame> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(1..=3).contains(&kind) {
        return Err(BadFrame::Kind(kind));
    }
    if length > PAYLOAD_BYTES_MAX {
        return Err(BadFrame::TooLong(length));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let frame = match kind {
        1 => Frame::Stdout(payload.to_vec()),
        2 => Frame::Stderr(payload.to_vec()),
        _ => Frame::End(
            serde_json::from_slice(payload).map_err(|error| BadFrame::End(error.to_string()))?,
        ),
    };
    Ok(Some((frame, HEAD_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, payload].concat()
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let end = ExecEnd { status: Some(3), error: None };
        let stream = [
            frame(1, b"out"),
            frame(2, b""),
            frame(2, b"err"),
            frame(3, &serde_json::to_vec(&end).unwrap()),
        ]
        .concat();
        let expected = vec![
            Frame::Stdout(b"out".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Stderr(b"err".to_vec()),
            Frame::End(end),
        ];
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let got = stream.chunks(size).flat_map(|part| frames.push(part).unwrap());
            assert_eq!(got.collect::<Vec<_>>(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Frames::default().push(b"HTTP/1.1"), Err(BadFrame::Kind(b'H')));
        assert_eq!(
            Frames::default().push(&[1, 0xff, 0, 0, 0]),
            Err(BadFrame::TooLong(0xff00_0000))
        );
    }
}
