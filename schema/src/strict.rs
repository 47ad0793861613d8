//! The strict door for texts from outside: YAML and JSON into typed values, every fault with its line and pointer.
//!
//! Nothing is guessed and nothing is ignored: unknown keys, duplicate keys and wrong types are faults, and as many of
//! them as possible are reported at once. What the values mean is checked by their types through [`Validate`].

mod json;
mod misfit;
mod shape;
mod suggest;
mod tree;
mod yaml;

use serde::de::DeserializeOwned;

use crate::problem::{Code, FieldError};

pub(crate) use shape::{Shape, read};
pub use suggest::{list, nearest};
pub(crate) use tree::{Step, Tree, Value, pointer};
pub(crate) use yaml::{Flaw, Stream};

/// A value whose fields may fit their types and still make no sense together.
pub trait Validate {
    /// Everything that is wrong with it, each at its JSON pointer inside the value; empty if it is sound.
    fn validate(&self) -> Vec<FieldError>;
}

/// Reads all documents of a text of manifests: one JSON object, or YAML. JSON goes its own way because YAML's parser
/// refuses a few characters that JSON allows.
pub(crate) fn documents(text: &str) -> Stream {
    let object = text.len() <= yaml::BYTES_MAX && text.trim_start().starts_with('{');
    match object.then(|| json::parse(text.as_bytes())) {
        Some(Ok(json::Parsed { tree, duplicates })) => {
            let flaws = duplicates.into_iter().map(|fault| Flaw { document: 1, fault }).collect();
            Stream { documents: vec![(1, tree)], flaws }
        }
        Some(Err(_)) | None => yaml::stream(text),
    }
}

/// Prepends the place of a part to the faults inside that part.
#[must_use]
pub fn within(prefix: &str, faults: Vec<FieldError>) -> Vec<FieldError> {
    let inside =
        |fault: FieldError| FieldError { pointer: format!("{prefix}{}", fault.pointer), ..fault };
    faults.into_iter().map(inside).collect()
}

/// A JSON text that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", summary(errors))]
pub struct BadBody {
    /// `bad-json` for a text that is no JSON, `unknown-field` if that is all that is wrong, else `bad-request`.
    pub code: Code,
    /// The faults, in the order of the text.
    pub errors: Vec<FieldError>,
}

fn summary(errors: &[FieldError]) -> String {
    match errors {
        [] => "the body is refused".to_owned(),
        [only] => only.detail.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.detail, rest.len()),
    }
}

/// Reads a JSON body strictly: unknown and duplicate keys are faults, each with line, column and advice.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be told at once.
pub fn strict_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadBody> {
    from_json(bytes).map(|(value, _)| value)
}

/// [`strict_json`], and then what [`Validate`] finds in the value, with lines too.
///
/// # Errors
/// As [`strict_json`]; faults of meaning have the code `bad-manifest`.
pub fn strict_json_valid<T: DeserializeOwned + Validate>(bytes: &[u8]) -> Result<T, BadBody> {
    let (value, tree) = from_json::<T>(bytes)?;
    let mut errors = value.validate();
    if errors.is_empty() {
        return Ok(value);
    }
    for error in &mut errors {
        tree.locate(error);
    }
    errors.sort_by_key(|error| (error.line, error.column));
    Err(BadBody { code: Code::BadManifest, errors })
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Tree), BadBody> {
    let syntax = |fault| BadBody { code: Code::BadJson, errors: vec![fault] };
    let json::Parsed { tree, duplicates } = json::parse(bytes).map_err(syntax)?;
    let Shape { value, faults, unknown_only } = read::<T>(&tree, &[]);
    let mut errors: Vec<FieldError> = duplicates;
    let code =
        if errors.is_empty() && unknown_only { Code::UnknownField } else { Code::BadRequest };
    errors.extend(faults);
    errors.sort_by_key(|error| (error.line, error.column));
    match value {
        Some(value) if errors.is_empty() => Ok((value, tree)),
        Some(_) | None => Err(BadBody { code, errors }),
    }
}

#[cfg(test)]
mod tests;
