//! The hash of the replicated state: a sum of the rows' hashes, so that a changed row costs one subtraction and one addition
//! and the order of the rows does not matter.
//!
//! It finds nodes that have drifted apart; it is no defence against a liar (sums can be made to collide).

use std::fmt;

/// Hash of one row.
pub(crate) type RowHash = [u8; 32];

/// A sum of row hashes: four lanes of 64 bits, each wrapping by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StateHash([u64; 4]);

/// The hash of a row. The separators cannot occur in a kind or id.
pub(crate) fn row_hash(kind: &str, id: &str, body: &[u8]) -> RowHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(&[0]).update(id.as_bytes()).update(&[0]).update(body);
    *hasher.finalize().as_bytes()
}

fn lanes(row: &RowHash) -> [u64; 4] {
    let mut lanes = [0; 4];
    for (lane, bytes) in lanes.iter_mut().zip(row.chunks_exact(8)) {
        *lane = bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    lanes
}

impl StateHash {
    /// A row appeared.
    pub(crate) fn add(&mut self, row: &RowHash) {
        for (lane, more) in self.0.iter_mut().zip(lanes(row)) {
            *lane = lane.wrapping_add(more);
        }
    }

    /// A row went.
    pub(crate) fn remove(&mut self, row: &RowHash) {
        for (lane, less) in self.0.iter_mut().zip(lanes(row)) {
            *lane = lane.wrapping_sub(less);
        }
    }

    /// From its text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lanes = [0; 4];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, lane) in lanes.iter_mut().enumerate() {
            *lane = u64::from_str_radix(text.get(at * 16..at * 16 + 16)?, 16).ok()?;
        }
        Some(Self(lanes))
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[(&str, &str, &str)]) -> StateHash {
        let mut hash = StateHash::default();
        for (kind, id, body) in rows {
            hash.add(&row_hash(kind, id, body.as_bytes()));
        }
        hash
    }

    #[test]
    fn order_does_not_matter() {
        let ab = sum(&[("grain", "a", "1"), ("grain", "b", "2")]);
        assert_eq!(ab, sum(&[("grain", "b", "2"), ("grain", "a", "1")]));
    }

    #[test]
    fn a_removed_row_leaves_nothing_behind() {
        let mut hash = sum(&[("grain", "a", "1"), ("grain", "b", "2")]);
        hash.remove(&row_hash("grain", "b", b"2"));
        assert_eq!(hash, sum(&[("grain", "a", "1")]));
    }

    #[test]
    fn every_part_of_a_row_counts() {
        let rows =
            [("grain", "a", "1"), ("node", "a", "1"), ("grain", "b", "1"), ("grain", "a", "2")];
        for (at, one) in rows.iter().enumerate() {
            for other in rows.iter().skip(at + 1) {
                assert_ne!(sum(&[*one]), sum(&[*other]));
            }
        }
        assert_ne!(sum(&[("g", "ab", "c")]), sum(&[("g", "a", "bc")]));
    }

    #[test]
    fn text_and_back() {
        let hash = sum(&[("grain", "a", "1")]);
        assert_eq!(StateHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(StateHash::parse("00"), None);
        assert_eq!(StateHash::parse(&"é".repeat(32)), None);
    }
}
