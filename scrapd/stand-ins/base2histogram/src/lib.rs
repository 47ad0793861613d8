//! Stands in for the crate of this name, as far as openraft calls it: counts values by their magnitude.
//! The real one is finer and fills tables of 25 MB at the first call (docs/decisions/0009).

use std::fmt;
use std::marker::PhantomData;

/// How many values there were of each power of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// By the number of significant bits: 0, 1, 2–3, 4–7, …
    counts: [u64; 65],
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// One without values.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: [0; 65], slots: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value as often as it came.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = u64::BITS.saturating_sub(value.leading_zeros());
        if let Some(counted) = self.counts.get_mut(usize::try_from(bits).unwrap_or(usize::MAX)) {
            *counted = counted.saturating_add(count);
        }
    }

    /// The usual shares, each as the largest value of its power of two; zeros without values.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples(),
            p0_1: self.at(1),
            p1: self.at(10),
            p5: self.at(50),
            p10: self.at(100),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p99_9: self.at(999),
        }
    }

    fn samples(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What so many per thousand of all values do not exceed.
    fn at(&self, permille: u64) -> u64 {
        let rank = self.samples().saturating_mul(permille).div_ceil(1000);
        let mut seen = 0_u64;
        for (bits, count) in (0_u32..).zip(self.counts) {
            seen = seen.saturating_add(count);
            if rank > 0 && seen >= rank {
                return 1_u64.checked_shl(bits).map_or(u64::MAX, |next| next.saturating_sub(1));
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Below which value which share of all values lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "every name says it")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, .. } = self;
        write!(f, "{samples} samples, median {p50}, 90 % {p90}, 99 % {p99}")
    }
}

/// Histograms by name, printed as a line each.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// One without lines.
    #[must_use]
    pub fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// Adds a line.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.series {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{AsciiChart, Histogram};

    #[test]
    fn shares_are_the_largest_value_of_their_power_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(0, 10);
        histogram.record_n(5, 80);
        histogram.record_n(u64::MAX, 10);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p10, stats.p50, stats.p90), (100, 0, 7, 7));
        assert_eq!(stats.p99, u64::MAX);
        let chart = AsciiChart::new().add("sent", histogram);
        let text = "sent: 100 samples, median 7, 90 % 7, 99 % 18446744073709551615\n";
        assert_eq!(chart.to_string(), text);
    }
}
