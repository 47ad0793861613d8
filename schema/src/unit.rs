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
fn split<'a>(text: &'a str, what: &'static str) -> Result<(u64, &'a str), BadQuantity> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(bad(text, what, "it must begin with a number"));
    }
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(text, what, "at most three digits may follow the point"));
    }
    let too_large = || bad(text, what, "it is too large");
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| too_large())?;
    let value = whole.checked_mul(1000).and_then(|value| value.checked_add(thousandths));
    Ok((value.ok_or_else(too_large)?, unit.trim()))
}

fn scale(text: &str, what: &'static str, thousandths: u64, unit: u64) -> Result<u64, BadQuantity> {
    let value = u128::from(thousandths) * u128::from(unit) / 1000;
    u64::try_from(value).map_err(|_| bad(text, what, "it is too large"))
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

    /// For people: `1.2 GiB`. Rounds; the exact form is `Display`.
    #[must_use]
    pub fn rounded(self) -> String {
        for (unit, size) in SIZES {
            if self.0 >= size && size > 1 {
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
            .find(|(_, size)| self.0 >= *size && self.0 % size == 0)
            .unwrap_or(("B", 1));
        f.pad(&format!("{}{unit}", self.0 / size))
    }
}

impl FromStr for Bytes {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let (number, unit) = split(text, "a size")?;
        let known = SIZES.into_iter().find(|(name, _)| *name == unit);
        match known {
            Some((_, size)) => scale(text, "a size", number, size).map(Self),
            None if unit.is_empty() => Err(bad(
                text,
                "a size",
                format!("it has no unit; write `{}MiB` or `{}GiB`", text.trim(), text.trim()),
            )),
            None => Err(bad(
                text,
                "a size",
                format!("`{unit}` is no unit of size; use B, KiB, MiB, GiB or TiB"),
            )),
        }
    }
}

/// A span of time in milliseconds. Written `250ms`, `30s`, `5m`, `2h`, `3d`.
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
            .find(|(_, size)| self.0 >= *size && self.0 % size == 0)
            .unwrap_or(("s", 1000));
        f.pad(&format!("{}{unit}", self.0 / size))
    }
}

impl FromStr for Span {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let (number, unit) = split(text, "a duration")?;
        match SPANS.into_iter().find(|(name, _)| *name == unit) {
            Some((_, size)) => scale(text, "a duration", number, size).map(Self),
            None if unit.is_empty() => Err(bad(
                text,
                "a duration",
                format!("it has no unit; write `{}s` or `{}m`", text.trim(), text.trim()),
            )),
            None => Err(bad(
                text,
                "a duration",
                format!("`{unit}` is no unit of time; use ms, s, m, h or d"),
            )),
        }
    }
}

/// A share of processor time in thousandths of a core. Written `2`, `1.5`, `0.25`: the one quantity whose unit is its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = f64, example = 1.5)]
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
        let (thousandths, unit) = split(text, "a number of cores")?;
        if !unit.is_empty() {
            return Err(bad(
                text,
                "a number of cores",
                "write a plain number of cores such as `1.5`",
            ));
        }
        Ok(Self(thousandths))
    }
}

macro_rules! text_form {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

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
text_form!(Span, "a duration with its unit such as `30s`");
text_form!(MilliCpu, "a number of cores such as `1.5`");
