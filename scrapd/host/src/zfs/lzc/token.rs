//! Tokens of receives that were cut off: what came, and where the rest begins. OpenZFS writes one as
//! `version-checksum-length-hex` of a compressed list.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::error::{Code, LzcError, Result};
use super::list::{List, Value};
use super::{Form, Outgoing};

/// Longest token, and longest list in one. Both are a few hundred bytes.
const BYTES_MAX: usize = 16 << 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Guid of the snapshot that was on its way.
    pub to: u64,
    /// Name that it had where it was sent.
    pub name: String,
    /// Guid of where its stream began; `None`: a full one.
    pub from: Option<u64>,
    /// Object and offset of the first block that did not come.
    pub at: (u64, u64),
    /// How the stream wrote blocks, and must go on to.
    pub form: Form,
}

impl Token {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| LzcError::new("go on with", "a stream", Code::NoToken))
    }

    /// The rest of the stream, by the names that its ends have where it is sent.
    pub fn rest(&self, snapshot: String, from: Option<String>) -> Outgoing {
        Outgoing { snapshot, from, form: self.form, at: Some(self.at) }
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut parts = text.splitn(4, '-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (version, sum, length) = (number()?, number()?, number()?);
        let compressed = unhex(parts.next()?)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= BYTES_MAX)?;
        if version != 1 || checksum(&compressed) != sum {
            return None;
        }
        let mut packed = Vec::with_capacity(length);
        ZlibDecoder::new(compressed.as_slice())
            .take(u64::try_from(length).ok()?)
            .read_to_end(&mut packed)
            .ok()
            .filter(|read| *read == length)?;
        let entries = List::unpack(&mut packed).ok()?.entries();
        let find = |name: &str| entries.iter().find(|(is, _)| is == name).map(|(_, value)| value);
        let number = |name| find(name).and_then(Value::number);
        let flag = |name| find(name).is_some();
        Some(Self {
            to: number("toguid")?,
            name: find("toname").and_then(Value::text)?,
            from: number("fromguid").filter(|guid| *guid != 0),
            at: (number("object")?, number("offset")?),
            form: Form {
                large: flag("largeblockok"),
                compressed: flag("compressok"),
                embedded: flag("embedok"),
                raw: flag("rawok"),
            },
        })
    }
}

/// The first word of the checksum that OpenZFS makes: the sum of all words of four bytes.
fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok());
    words.map(u32::from_le_bytes).fold(0, |sum, word| sum.wrapping_add(u64::from(word)))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks(2).map(byte).collect())?
}
