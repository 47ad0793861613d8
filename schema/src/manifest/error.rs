//! What is wrong with a text of manifests, in the form that people and editors read: `file:line:column: sentence`.

use std::fmt;

use crate::problem::FieldError;

/// One fault of a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The name of the text: a path, or `-`.
    pub file: String,
    /// Which document of the text, from 1.
    pub document: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the document, as a JSON pointer.
    pub pointer: String,
    /// What is wrong, in one sentence.
    pub detail: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.detail)?;
        if !self.pointer.is_empty() {
            write!(f, " (at {})", self.pointer)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a text, in its order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestErrors {
    file: String,
    /// The faults; at least one.
    pub errors: Vec<ManifestError>,
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl ManifestErrors {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), errors: Vec::new() }
    }

    pub(super) fn add(&mut self, document: u32, fault: FieldError) {
        let FieldError { pointer, line, column, detail, hint } = fault;
        let (line, column) = (line.unwrap_or(1), column.unwrap_or(1));
        let file = self.file.clone();
        self.errors.push(ManifestError { file, document, line, column, pointer, detail, hint });
    }

    /// The value if nothing is wrong.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        self.errors.sort_by_key(|error| (error.line, error.column));
        if self.errors.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The same faults as a problem's body carries them.
    #[must_use]
    pub fn field_errors(&self) -> Vec<FieldError> {
        let field_error = |error: &ManifestError| FieldError {
            pointer: error.pointer.clone(),
            line: Some(error.line),
            column: Some(error.column),
            detail: error.detail.clone(),
            hint: error.hint.clone(),
        };
        self.errors.iter().map(field_error).collect()
    }
}
