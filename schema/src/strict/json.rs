//! A JSON body into a tree. `serde_json` decides what JSON is; this adds where everything stands, and duplicate keys.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::tree::{Entry, Place, Step, Tree, Value, pointer};
use crate::problem::FieldError;

/// Deepest nesting.
const DEPTH_MAX: u32 = 32;

/// A body that is JSON.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: Tree,
    /// Keys that stand twice in their object.
    pub(super) duplicates: Vec<FieldError>,
}

/// Reads a body.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, FieldError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let mut scanner = Scanner::new(std::str::from_utf8(good).unwrap_or_default());
        scanner.advance(good.len());
        scanner.fault("the body is not UTF-8")
    })?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let said = error.to_string();
        let what = said.split(" at line ").next().unwrap_or_default();
        let what = if error.is_eof() { "it ends too early" } else { what };
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        let fault = FieldError::new("", format!("this is not JSON: {what}"));
        FieldError {
            line: Some(number(error.line())),
            column: Some(number(error.column())),
            ..fault
        }
    })?;
    let mut scanner = Scanner::new(text);
    let tree = scanner.value(DEPTH_MAX)?;
    Ok(Parsed { tree, duplicates: scanner.duplicates })
}

/// Walks over a text that is known to be JSON.
struct Scanner<'t> {
    rest: &'t str,
    place: Place,
    path: Vec<Step>,
    duplicates: Vec<FieldError>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        let place = Place { line: 1, column: 1 };
        Self { rest: text, place, path: Vec::new(), duplicates: Vec::new() }
    }

    fn fault(&self, detail: impl Into<String>) -> FieldError {
        let fault = FieldError::new(pointer(&self.path), detail);
        FieldError { line: Some(self.place.line), column: Some(self.place.column), ..fault }
    }

    /// Takes so many bytes, which must end between two characters.
    fn advance(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for character in taken.chars() {
            if character == '\n' {
                self.place = Place { line: self.place.line.saturating_add(1), column: 1 };
            } else {
                self.place.column = self.place.column.saturating_add(1);
            }
        }
        self.rest = rest;
        taken
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.advance(blank);
        self.rest.chars().next()
    }

    /// Takes a sign if it comes next.
    fn take(&mut self, sign: char) -> bool {
        let next = self.peek() == Some(sign);
        if next {
            self.advance(sign.len_utf8());
        }
        next
    }

    fn value(&mut self, depth: u32) -> Result<Tree, FieldError> {
        let next = self.peek();
        let place = self.place;
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.fault(format!("more than {DEPTH_MAX} levels are nested here")));
        };
        let value = match next {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::Text(self.string()?),
            Some(_) | None => {
                let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
                let word = self.advance(self.rest.find(end).unwrap_or(self.rest.len()));
                match word {
                    "null" => Value::Null,
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    number => Value::Number(number.to_owned()),
                }
            }
        };
        Ok(Tree { place, value })
    }

    fn string(&mut self) -> Result<String, FieldError> {
        let mut escaped = true;
        let end = self.rest.bytes().position(|byte| {
            // The opening quote is stepped over as if it were escaped.
            let closing = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closing
        });
        let fault = self.fault("this text has a broken escape");
        let raw = self.advance(end.map_or(self.rest.len(), |end| end + 1));
        serde_json::from_str(raw).map_err(|_| fault)
    }

    fn array(&mut self, depth: u32) -> Result<Value, FieldError> {
        self.take('[');
        let mut items = Vec::new();
        while !self.take(']') {
            self.path.push(Step::Index(items.len()));
            items.push(self.value(depth)?);
            self.path.pop();
            self.take(',');
        }
        Ok(Value::List(items))
    }

    fn object(&mut self, depth: u32) -> Result<Value, FieldError> {
        self.take('{');
        let (mut entries, mut seen) = (Vec::new(), BTreeMap::new());
        while !self.take('}') {
            self.peek();
            let place = self.place;
            let key = self.string()?;
            self.take(':');
            self.path.push(Step::Key(key.clone()));
            let value = self.value(depth)?;
            if let Some(first) = seen.get(&key) {
                let detail = format!("the key `{key}` stands twice, first in line {first}");
                let fault =
                    FieldError::new(pointer(&self.path), detail).with_hint("keep one of the two");
                let (line, column) = (Some(place.line), Some(place.column));
                self.duplicates.push(FieldError { line, column, ..fault });
            } else {
                seen.insert(key.clone(), place.line);
                entries.push(Entry { key, place, value });
            }
            self.path.pop();
            self.take(',');
        }
        Ok(Value::Map(entries))
    }
}
