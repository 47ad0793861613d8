//! Quantities with their units: `256MiB`, `30s`, `1.5` cpu. A bare number where a unit is meant is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A text that is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {what}: {reason}")]
pub struct BadQuantity {
    /// The text as it came.
    pub text: String,
    /// What was wanted, with its article: "a size".
    pub what: &'static str,
    /// Why it is refused, and what to write instead.
    pub reason: String,
}

fn bad(text: &str, what: &'static str, reason: impl Into<String>) -> BadQuantity {
    BadQuantity { text: text.chars().take(40).collect(), what, reason: reason.into() }
}

/// Splits `12.5MiB` into thousandths and unit. Integers only inside: 12.5 becomes 12500.
fn split<'a>(text: &'a str, what: &'static str) -> Result<(u128, &'a str), BadQuantity> {
    if text.contains(char::is_whitespace) {
        return Err(bad(text, what, "number and unit stand together, without spaces"));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() {
        return Err(bad(text, what, "it must begin with a digit"));
    }
    if number.contains('.') && fraction.is_empty() {
        return Err(bad(text, what, "a digit must follow the point"));
    }
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(text, what, "at most three digits may follow the point"));
    }
    let too_large = || bad(text, what, "it is too large");
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let thousandths: u128 = format!("{fraction:0<3}").parse().map_err(|_| too_large())?;
    let value = whole.checked_mul(1000).and_then(|value| value.checked_add(thousandths));
    Ok((value.ok_or_else(too_large)?, unit))
}

/// Reads a number with one of these units, which are ordered from the largest to the smallest.
fn measure(
    text: &str,
    what: &'static str,
    units: &[(&str, u64)],
    examples: [&str; 2],
) -> Result<u64, BadQuantity> {
    let (thousandths, unit) = split(text, what)?;
    let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(bad(text, what, no_unit(text, unit, units, examples)));
    };
    if *size == 1 && !thousandths.is_multiple_of(1000) {
        return Err(bad(text, what, format!("`{unit}` is the smallest unit and has no parts")));
    }
    let value = thousandths.checked_mul(u128::from(*size)).map(|value| value / 1000);
    let value = value.and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| bad(text, what, "it is too large"))
}

/// Why a unit is refused, and what to write instead.
fn no_unit(text: &str, unit: &str, units: &[(&str, u64)], examples: [&str; 2]) -> String {
    let number = text.strip_suffix(unit).unwrap_or_default();
    let same_letter = |name: &str| {
        let letter = |text: &str| text.chars().next().map(|letter| letter.to_ascii_lowercase());
        letter(name) == letter(unit)
    };
    if unit.is_empty() {
        let [first, second] = examples;
        return format!("it has no unit; write `{number}{first}` or `{number}{second}`");
    }
    if unit.contains(|c: char| c.is_ascii_digit()) {
        return "one number with one unit is wanted".to_owned();
    }
    match units.iter().find(|(name, _)| same_letter(name)) {
        Some((meant, _)) => format!("`{unit}` is not a unit; did you mean `{number}{meant}`?"),
        None => {
            let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
            format!("`{unit}` is not a unit; use {}", names.join(", "))
        }
    }
}

/// A size in bytes. Written `512B`, `64KiB`, `256MiB`, `4GiB`, `2TiB` (powers of 1024).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]{1,3})?(B|KiB|MiB|GiB|TiB)$", example = "256MiB")]
pub struct Bytes(pub u64);

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Bytes {
    /// The number of bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// For people: `1.2 GiB`. Rounded; the exact form is `Display`.
    #[must_use]
    pub fn rounded(self) -> String {
        for (unit, size) in SIZES {
            // What would be rounded to 1024.0 of the smaller unit is 1.0 of this one.
            if self.0 >= size - size / 1024 / 20 && size > 1 {
                let tenths = (u128::from(self.0) * 10 + u128::from(size) / 2) / u128::from(size);
                return format!("{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        format!("{} B", self.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = SIZES
            .into_iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
            .unwrap_or(("B", 1));
        f.pad(&format!("{}{unit}", self.0 / size))
    }
}

impl FromStr for Bytes {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        measure(text, "a size", &SIZES, ["MiB", "GiB"]).map(Self)
    }
}

/// A span of time, exact to the millisecond. Written `250ms`, `30s`, `5m`, `2h`, `3d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]{1,3})?(ms|s|m|h|d)$", example = "30s")]
pub struct Span(u64);

const SPANS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// For people, as an upper bound: rounded up, and in seconds up to ten minutes.
    #[must_use]
    pub fn rounded_up(self) -> String {
        match self.0 {
            0..=999 => format!("{} ms", self.0),
            1_000..=9_900 => {
                let tenths = self.0.div_ceil(100);
                format!("{}.{} s", tenths / 10, tenths % 10)
            }
            9_901..=600_000 => format!("{} s", self.0.div_ceil(1000)),
            600_001..=7_200_000 => format!("{} min", self.0.div_ceil(60_000)),
            7_200_001..=172_800_000 => format!("{} h", self.0.div_ceil(3_600_000)),
            _ => format!("{} d", self.0.div_ceil(86_400_000)),
        }
    }

    /// For people: `1.4 s`, `12 s`, `3 min`, `2 h`, `5 d`.
    #[must_use]
    pub fn rounded(self) -> String {
        match self.0 {
            0..=999 => format!("{} ms", self.0),
            1_000..=9_999 => format!("{}.{} s", self.0 / 1000, self.0 % 1000 / 100),
            10_000..=119_999 => format!("{} s", self.0 / 1000),
            120_000..=7_199_999 => format!("{} min", self.0 / 60_000),
            7_200_000..=172_799_999 => format!("{} h", self.0 / 3_600_000),
            _ => format!("{} d", self.0 / 86_400_000),
        }
    }
}

impl std::ops::Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = SPANS
            .into_iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
            .unwrap_or(("s", 1000));
        f.pad(&format!("{}{unit}", self.0 / size))
    }
}

impl FromStr for Span {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        measure(text, "a time span", &SPANS, ["s", "m"]).map(Self)
    }
}

/// A number of processor cores, exact to a thousandth. Written `2`, `1.5`, `0.25`: the one quantity without a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = f64, minimum = 0, example = 1.5)]
pub struct MilliCpu(pub u64);

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = format!("{:03}", self.0 % 1000);
        match thousandths.trim_end_matches('0') {
            "" => f.pad(&format!("{}", self.0 / 1000)),
            fraction => f.pad(&format!("{}.{fraction}", self.0 / 1000)),
        }
    }
}

impl FromStr for MilliCpu {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let what = "a number of cores";
        let (thousandths, unit) = split(text, what)?;
        let too_large = || bad(text, what, "it is too large");
        let cores = u64::try_from(thousandths).map(Self).map_err(|_| too_large())?;
        match unit {
            "" => Ok(cores),
            // Written for Kubernetes.
            "m" => {
                let meant = Self(cores.0 / 1000);
                Err(bad(text, what, format!("write cores without a unit: `{meant}`")))
            }
            _ => Err(bad(text, what, "write cores without a unit, such as `1.5`")),
        }
    }
}

/// As a number, the way people write it.
impl Serialize for MilliCpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.is_multiple_of(1000), self.to_string().parse::<f64>()) {
            // Up to here a float keeps all three digits; beyond, only text does.
            (false, Ok(cores)) if self.0 < 1_000_000_000_000 => serializer.serialize_f64(cores),
            (false, _) => serializer.collect_str(self),
            (true, _) => serializer.serialize_u64(self.0 / 1000),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! text_form {
    ($name:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

text_form!(Bytes, "a size with its unit such as `256MiB`");
text_form!(Span, "a time span with its unit such as `30s`");
text_form!(MilliCpu, "a number of cores such as `1.5`");

#[cfg(test)]
mod tests;
