//! Which compression an archive has is told by its first bytes, never by its name.

use std::io::{self, Cursor, Read};

/// Largest window of a compressed stream: more memory than this no archive may ask for.
const WINDOW_LOG_MAX: u32 = 27;
const MEMORY_MAX: u64 = 256 << 20;

/// The plain bytes of a stream that is not compressed, or is with zstd, xz or gzip.
///
/// # Errors
/// If its first bytes cannot be read.
pub fn plain(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(6);
    input.by_ref().take(6).read_to_end(&mut head)?;
    let kind = kind(&head);
    let whole = Cursor::new(head).chain(input);
    Ok(match kind {
        Kind::Plain => Box::new(whole),
        Kind::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Kind::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY_MAX, flags)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, stream))
        }
        Kind::Gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Zstd,
    Xz,
    Gzip,
}

fn kind(head: &[u8]) -> Kind {
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Kind::Zstd
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Kind::Xz
    } else if head.starts_with(&[0x1f, 0x8b]) {
        Kind::Gzip
    } else {
        Kind::Plain
    }
}
