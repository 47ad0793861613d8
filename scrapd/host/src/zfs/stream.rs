//! The envelope around a ZFS stream: a header that says what it is, pieces with a checksum each, and an end. What is damaged
//! is found before a byte of it reaches the pool, and the last piece is given out only once the end was seen.

use scrap_schema::snapshot::{Guid, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::datasets::Cause;

/// The first bytes of every stream; the number is the version.
const MAGIC: &[u8; 10] = b"SCRAPZFS1\n";
/// Bytes of a piece, at most.
pub(super) const PIECE: usize = 128 << 10;
const HEADER_MAX: u32 = 16 << 10;
const HASH: usize = 32;
/// What the envelope of a piece takes.
const PIECE_HEAD: u64 = 4 + HASH as u64;

/// What a stream says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Where it begins; nothing for a full one.
    pub(super) from: Option<Guid>,
    pub(super) snapshot: Snapshot,
    /// It begins at another dataset's snapshot, and can only become a new dataset.
    pub(super) clone: bool,
    /// It is the rest of one that was cut off.
    pub(super) rest: bool,
}

pub(super) fn bad(why: impl Into<String>) -> Cause {
    Cause::BadStream(why.into())
}

/// Length of the whole, of what is inside.
pub(super) fn length(inside: u64) -> u64 {
    let pieces = inside.div_ceil(PIECE as u64);
    inside + pieces * PIECE_HEAD + 2 * PIECE_HEAD + MAGIC.len() as u64 + 300
}

fn broken(error: &std::io::Error) -> Cause {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => bad("it ends too early"),
        _ => bad(error.to_string()),
    }
}

/// Writes an envelope.
pub(super) struct Writer<'a> {
    out: &'a mut (dyn AsyncWrite + Send + Unpin),
    written: u64,
    pieces: blake3::Hasher,
}

impl<'a> Writer<'a> {
    /// Begins with the header.
    pub(super) async fn begin(
        out: &'a mut (dyn AsyncWrite + Send + Unpin),
        header: &Header,
    ) -> Result<Self, Cause> {
        let mut writer = Self { out, written: 0, pieces: blake3::Hasher::new() };
        let text = serde_json::to_vec(header).map_err(|error| bad(error.to_string()))?;
        writer.write(MAGIC).await?;
        writer.framed(&text).await?;
        Ok(writer)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let written = self.out.write_all(bytes).await;
        written.map_err(|source| Cause::Io {
            what: "the stream cannot be written".to_owned(),
            source,
        })?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    async fn framed(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let hash = hash_of(&self.pieces, length, bytes);
        self.pieces.update(&hash);
        self.write(&length).await?;
        self.write(&hash).await?;
        self.write(bytes).await
    }

    /// One piece, which is not empty and at most [`PIECE`] bytes.
    pub(super) async fn piece(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.framed(bytes).await
    }

    /// The end. Returns the length of everything.
    pub(super) async fn end(mut self) -> Result<u64, Cause> {
        self.framed(&[]).await?;
        self.out.flush().await.map_err(|source| Cause::Io {
            what: "the stream cannot be written".to_owned(),
            source,
        })?;
        Ok(self.written)
    }
}

/// Depends on all pieces before, so that none can be left out or moved.
fn hash_of(before: &blake3::Hasher, length: [u8; 4], bytes: &[u8]) -> [u8; HASH] {
    let mut hasher = before.clone();
    hasher.update(&length).update(bytes);
    *hasher.finalize().as_bytes()
}

/// Reads an envelope.
pub(super) struct Reader<'a> {
    input: &'a mut (dyn AsyncRead + Send + Unpin),
    pieces: blake3::Hasher,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    pub(super) async fn begin(
        input: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(Self, Header), Cause> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).await.map_err(|error| broken(&error))?;
        if magic != *MAGIC {
            return Err(bad("it does not begin as a stream of ZFS of this version"));
        }
        let mut reader = Self { input, pieces: blake3::Hasher::new() };
        let text = reader.framed(HEADER_MAX).await?;
        let header = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        Ok((reader, header))
    }

    async fn framed(&mut self, limit: u32) -> Result<Vec<u8>, Cause> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length).await.map_err(|error| broken(&error))?;
        if u32::from_be_bytes(length) > limit {
            return Err(bad("a part of it is too long"));
        }
        let mut hash = [0; HASH];
        self.input.read_exact(&mut hash).await.map_err(|error| broken(&error))?;
        let mut bytes = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(0)];
        self.input.read_exact(&mut bytes).await.map_err(|error| broken(&error))?;
        if hash_of(&self.pieces, length, &bytes) != hash {
            return Err(bad("it does not match its checksum"));
        }
        self.pieces.update(&hash);
        Ok(bytes)
    }

    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Vec<u8>>, Cause> {
        let limit = u32::try_from(PIECE).unwrap_or(u32::MAX);
        let piece = self.framed(limit).await?;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use scrap_schema::id::Epoch;
    use scrap_schema::snapshot::{Purpose, SnapshotName};
    use scrap_schema::time::Timestamp;

    use super::*;

    fn header() -> Header {
        let name = SnapshotName { epoch: Epoch(1), seq: 2, purpose: Purpose::Replication };
        let snapshot = Snapshot { name, guid: Guid(7), created: Timestamp(5) };
        Header { from: Some(Guid(3)), snapshot, clone: false, rest: false }
    }

    async fn written(pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, &header()).await.unwrap();
        for piece in pieces {
            writer.piece(piece).await.unwrap();
        }
        let length = writer.end().await.unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    async fn read(mut bytes: &[u8]) -> Result<(Header, Vec<Vec<u8>>), Cause> {
        let (mut reader, header) = Reader::begin(&mut bytes).await?;
        let mut pieces = Vec::new();
        while let Some(piece) = reader.piece().await? {
            pieces.push(piece);
        }
        Ok((header, pieces))
    }

    #[tokio::test]
    async fn pieces_come_out_as_they_went_in() {
        let large = vec![7; PIECE];
        let bytes = written(&[b"one", &large, b"three"]).await;
        let inside = 8 + PIECE as u64;
        assert!(length(inside).abs_diff(bytes.len() as u64) < 300, "{}", bytes.len());
        let (read_header, pieces) = read(&bytes).await.unwrap();
        assert_eq!(read_header, header());
        assert_eq!(pieces, [b"one".to_vec(), large, b"three".to_vec()]);
    }

    #[tokio::test]
    async fn what_is_damaged_cut_or_moved_is_found() {
        let good = written(&[b"first", b"other"]).await;
        for at in 0..good.len() {
            assert!(read(&good[..at]).await.is_err(), "cut at {at}");
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).await.is_err(), "flipped at {at}");
        }
        let piece = 4 + HASH + 5;
        let end = good.len() - 4 - HASH;
        let mut swapped = good[..end - 2 * piece].to_vec();
        swapped.extend(&good[end - piece..end]);
        swapped.extend(&good[end - 2 * piece..end - piece]);
        swapped.extend(&good[end..]);
        assert!(read(&swapped).await.is_err());
        let mut left_out = good[..end - 2 * piece].to_vec();
        left_out.extend(&good[end - piece..]);
        assert!(read(&left_out).await.is_err());
    }
}
