//! What does not fit its type, and how that is said: in the words of whoever wrote the text, never in Rust's.

use std::fmt;

use serde::de::{self, Unexpected};

use super::suggest::{list, nearest};
use super::tree::{Place, Step, pointer};
use crate::problem::FieldError;

/// A value that does not fit its type. Outside this room it is a [`FieldError`].
#[derive(Debug)]
pub(crate) struct Misfit {
    /// From the value outwards.
    pub(super) steps: Vec<Step>,
    place: Option<Place>,
    pub(super) what: What,
}

/// What does not fit.
#[derive(Debug)]
pub(crate) enum What {
    UnknownKey { key: String, allowed: &'static [&'static str] },
    UnknownWord { word: String, allowed: &'static [&'static str] },
    MissingKey(&'static str),
    Type { found: String, number: bool, expected: String },
    Said(String),
}

impl Misfit {
    pub(super) fn at(what: What) -> Self {
        Self { steps: Vec::new(), place: None, what }
    }

    /// The innermost place wins.
    pub(super) fn placed(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    pub(super) fn inside(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn into_fault(self, prefix: &[Step], path: &[Step], root: Place) -> FieldError {
        let (detail, hint) = self.what.words();
        let place = self.place.unwrap_or(root);
        FieldError {
            pointer: pointer(prefix.iter().chain(path)),
            line: Some(place.line),
            column: Some(place.column),
            detail,
            hint,
        }
    }
}

impl What {
    /// The key that a misspelt one stands for.
    pub(super) fn meant(&self) -> Option<&'static str> {
        match self {
            Self::UnknownKey { key, allowed } => nearest(key, allowed.iter().copied()),
            Self::UnknownWord { .. } | Self::MissingKey(_) | Self::Type { .. } | Self::Said(_) => {
                None
            }
        }
    }

    fn words(self) -> (String, Option<String>) {
        match self {
            Self::UnknownKey { key, allowed } => {
                (format!("there is no key `{key}` here"), Some(meant(&key, allowed, "keys")))
            }
            Self::UnknownWord { word, allowed } => {
                (format!("`{word}` is not known here"), Some(meant(&word, allowed, "values")))
            }
            Self::MissingKey(key) => (format!("the key `{key}` is missing here"), None),
            Self::Type { found, number, expected } => {
                let expected = plain(&expected);
                let hint = advice(&found, number, expected);
                (format!("{found} stands where {expected} is expected"), hint)
            }
            Self::Said(text) => (text, None),
        }
    }
}

/// Advice for a value of the wrong type; `found` in quotes is a text.
fn advice(found: &str, number: bool, expected: &str) -> Option<String> {
    if number && expected == "a text" {
        return Some("put it in quotes".to_owned());
    }
    let text = found.strip_prefix('"').and_then(|found| found.strip_suffix('"'))?;
    if expected.starts_with("a whole number") && text.parse::<i64>().is_ok() {
        return Some("remove the quotes".to_owned());
    }
    if expected == "a list" && !text.is_empty() {
        let items: Vec<&str> = text.split_whitespace().collect();
        return Some(format!("write it as a list: [{}]", items.join(", ")));
    }
    let colon = expected == "a block of keys and values" && text.contains(':');
    colon.then(|| "a space must follow the colon after a key".to_owned())
}

/// Advice for a word that is not among the allowed ones.
fn meant(word: &str, allowed: &[&str], what: &str) -> String {
    match (nearest(word, allowed.iter().copied()), allowed) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => format!("no {what} are allowed here"),
        (None, _) => format!("allowed {what}: {}", list(allowed.iter().copied())),
    }
}

/// Serde's words for a type in the reader's words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "i8" | "i16" | "i32" | "i64" => "a whole number, which may be negative",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a string" | "str" | "a borrowed string" => "a text",
        "a sequence" => "a list",
        "a map" => "a block of keys and values",
        other if other.starts_with("struct ") => "a block of keys and values",
        other => other,
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.what, pointer(self.steps.iter().rev()))
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::at(What::Said(text.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let number = matches!(
            found,
            Unexpected::Unsigned(_)
                | Unexpected::Signed(_)
                | Unexpected::Float(_)
                | Unexpected::Bool(_)
        );
        Self::at(What::Type { found: say(found), number, expected: expected.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, allowed: &'static [&'static str]) -> Self {
        Self::at(What::UnknownWord { word: short(word), allowed })
    }

    fn unknown_field(key: &str, allowed: &'static [&'static str]) -> Self {
        Self::at(What::UnknownKey { key: short(key), allowed })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::at(What::MissingKey(key))
    }
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What was found, in the reader's words.
fn say(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("{:?}", short(text)),
        Unexpected::Unit | Unexpected::Option => "nothing (null)".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a block of keys and values".to_owned(),
        other => other.to_string(),
    }
}
