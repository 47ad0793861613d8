//! Paths inside a dataset. The type is the proof that a path stays inside: relative, no `.`, no `..`, no empty part.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longer ones cannot be made by a program that says its whole path, and would only fill memory.
const LENGTH_MAX: usize = 32 * 1024;
const PART_MAX: usize = 255;

/// A path below a head; the empty one is the head itself. A parent sorts before everything in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RelPath(Vec<u8>);

impl RelPath {
    /// The head itself.
    pub(super) const ROOT: Self = Self(Vec::new());

    /// A checked path. `None` if it does not stay inside.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Self> {
        let part = |part: &[u8]| {
            !part.is_empty() && part != b"." && part != b".." && part.len() <= PART_MAX
        };
        let parts = bytes.is_empty() || bytes.split(|byte| *byte == b'/').all(part);
        (parts && bytes.len() <= LENGTH_MAX && !bytes.contains(&0)).then_some(Self(bytes))
    }

    /// Something in this folder. `None` if it is no proper name or the path becomes too long.
    pub(super) fn child(&self, name: &[u8]) -> Option<Self> {
        if name.contains(&b'/') {
            return None;
        }
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.is_empty() { None } else { Self::new(bytes) }
    }

    /// The folder that this is in, and its name there. `None` for the head itself.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => {
                let (parent, name) = self.0.split_at(at);
                Some((Self(parent.to_vec()), name.get(1..).unwrap_or_default()))
            }
            None => Some((Self::ROOT, &self.0)),
        }
    }

    /// From the head down.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// As the file system has it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Upper bound of its length as text in JSON.
    pub(super) fn text_length(&self) -> u64 {
        self.0.len() as u64 * 3 + 8
    }
}

/// Bytes as text: what is not printable UTF-8, and `%` itself, as `%` and two hex digits.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    let hex = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().map(|byte| format!("%{byte:02x}")));
    };
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '%' || char == '"' || char == '\\' || char.is_control() {
                hex(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(char);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// The bytes of an escaped text. `None` if a `%` is not followed by two hex digits.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str(".") } else { f.write_str(&escape(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A path that does not stay inside.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path inside a dataset")]
pub(super) struct BadPath(String);

impl FromStr for RelPath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        if text == "." {
            return Ok(Self::ROOT);
        }
        let path = unescape(text).filter(|bytes| !bytes.is_empty()).and_then(Self::new);
        path.ok_or_else(|| BadPath(text.chars().take(80).collect()))
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_refused() {
        let long = "x".repeat(256);
        let bad = [
            "", "/", "/etc", "a/", "a//b", "..", "../a", "a/../b", "a/..", "./a", "a/.", "a%00b",
            "a%2", "a%zz", "%2e%2e", "a%2f..", &long,
        ];
        for text in bad {
            assert!(text.parse::<RelPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_name_survives_as_text() {
        for name in [
            &b"a"[..],
            b"a b",
            b"100%",
            b"\xff\xfe",
            "gr\u{fc}n".as_bytes(),
            b"a\nb",
            b"...",
            b"\"q\"",
        ] {
            let path = RelPath::ROOT.child(b"dir").unwrap().child(name).unwrap();
            let text = path.to_string();
            assert_eq!(text.parse(), Ok(path.clone()), "{text}");
            assert_eq!(path.split().unwrap().1, name);
            let json = serde_json::to_string(&path).unwrap();
            assert!(json.len() as u64 <= path.text_length(), "{json}");
        }
        assert_eq!(".".parse(), Ok(RelPath::ROOT));
    }

    #[test]
    fn a_parent_sorts_before_its_children() {
        let texts = [".", "a", "a!b", "a/b", "a/b/c", "a0"];
        let mut paths: Vec<RelPath> =
            texts.iter().rev().map(|text| text.parse().unwrap()).collect();
        paths.sort();
        assert_eq!(paths.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }
}
