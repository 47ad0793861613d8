//! Figures of a run: times with their middle, their ninety-ninth percent and their worst, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Times by what they are of, in the order of their first one.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    rows: BTreeMap<String, Vec<u64>>,
}

/// The value below or at which so many percent of these lie; `None` of nothing.
#[must_use]
pub fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied()
}

impl Figures {
    /// Adds a time in milliseconds.
    pub fn add(&mut self, what: &str, ms: u64) {
        self.rows.entry(what.to_owned()).or_default().push(ms);
    }

    /// All times of a kind.
    #[must_use]
    pub fn of(&self, what: &str) -> &[u64] {
        self.rows.get(what).map_or(&[], Vec::as_slice)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{:<44} {:>4} {:>9} {:>9} {:>9}\n", "ms", "n", "p50", "p99", "max");
        for (what, values) in &self.rows {
            let of = |percent| percentile(values, percent).unwrap_or_default();
            let (middle, late, worst) = (of(50), of(99), of(100));
            let count = values.len();
            let _ = writeln!(text, "{what:<44} {count:>4} {middle:>9} {late:>9} {worst:>9}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&values, 100), Some(100));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[3, 9], 99), Some(9));
        assert_eq!(percentile(&[], 50), None);
    }
}
