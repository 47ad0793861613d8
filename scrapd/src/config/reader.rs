//! A TOML text as sections that remember which keys were asked for: what nobody asked for is unknown.
//! Knows nothing about what the keys mean.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use scrap_schema::strict::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// What is found while a text is read.
pub(super) struct Findings<'t> {
    text: &'t str,
    faults: RefCell<Vec<Fault>>,
    /// Every key that was asked for, with its section.
    known: RefCell<Vec<String>>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, faults: RefCell::default(), known: RefCell::default() }
    }

    /// The line of a place in the text, from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    /// Notes a problem.
    pub(super) fn fault(&self, line: Option<usize>, key: &str, what: String, hint: Option<String>) {
        self.faults.borrow_mut().push(Fault { line, key: key.to_owned(), what, hint });
    }

    /// Notes what the TOML parser did not understand.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let line = error.span().map(|span| self.line(&span));
        self.fault(line, "", format!("this is not TOML: {}", error.message().trim()), None);
    }

    /// The problems in the order of the text, and every key that was asked for.
    pub(super) fn end(self) -> (Vec<Fault>, Vec<String>) {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line.unwrap_or(0));
        (faults, self.known.into_inner())
    }
}

/// A value with the line it stands on.
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// A table of the text; asking an absent one gives absent values.
pub(super) struct Section<'a, 't> {
    name: &'static str,
    table: Option<&'a DeTable<'t>>,
    findings: &'a Findings<'t>,
    asked: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn root(table: &'a DeTable<'t>, findings: &'a Findings<'t>) -> Self {
        Self { name: "", table: Some(table), findings, asked: Vec::new() }
    }

    /// A key with its section, as people write it.
    pub(super) fn path(&self, key: &str) -> String {
        match self.name {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }

    fn get(&mut self, key: &'static str) -> Option<(usize, &'a Spanned<DeValue<'t>>)> {
        self.asked.push(key);
        self.findings.known.borrow_mut().push(self.path(key));
        let (name, value) = self.table?.get_key_value(key)?;
        Some((self.findings.line(&name.span()), value))
    }

    /// Notes a problem of a key of this section.
    pub(super) fn fault(&self, line: usize, key: &str, what: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.findings.fault(Some(line), &self.path(key), what.into(), hint);
    }

    /// A table inside this one.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'a, 't> {
        let table = self.get(name).and_then(|(line, value)| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let what = format!("it must be a section, written `[{name}]`");
                self.fault(line, name, what, "");
            }
            table
        });
        Section { name, table, findings: self.findings, asked: Vec::new() }
    }

    /// A text, or a number as it was written.
    pub(super) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let (line, value) = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { line, value: text.to_string() }),
            DeValue::Integer(number) => Some(At { line, value: number.to_string() }),
            DeValue::Float(number) => Some(At { line, value: number.to_string() }),
            other @ (DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => {
                let what = format!("it must be a text in quotes, not {}", kind(other));
                self.fault(line, key, what, "");
                None
            }
        }
    }

    /// A text that has a form of its own.
    pub(super) fn parse<T>(&mut self, key: &'static str) -> Option<At<T>>
    where
        T: FromStr<Err: Display>,
    {
        let At { line, value } = self.text(key)?;
        match value.parse() {
            Ok(value) => Some(At { line, value }),
            Err(error) => {
                self.fault(line, key, T::Err::to_string(&error), "");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let At { line, value } = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let meant = nearest(&value, words.iter().map(|(word, _)| *word));
            let hint = meant.map(|word| format!("did you mean `{word}`?")).unwrap_or_default();
            self.fault(line, key, format!("`{value}` is not one of {}", all.join(", ")), &hint);
        }
        found
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<At<String>> {
        let Some((line, value)) = self.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.fault(line, key, "it must be a list, written `[\"…\", \"…\"]`", "");
            return Vec::new();
        };
        let text = |item: &Spanned<DeValue<'t>>| {
            let line = self.findings.line(&item.span());
            let text = item.get_ref().as_str();
            if text.is_none() {
                let what = format!("it must hold texts in quotes, not {}", kind(item.get_ref()));
                self.fault(line, key, what, "");
            }
            text.map(|text| At { line, value: text.to_owned() })
        };
        items.iter().filter_map(text).collect()
    }

    /// Every key of this section with its text: for sections whose keys are free.
    pub(super) fn all_texts(&mut self) -> Vec<(String, At<String>)> {
        let Some(table) = self.table else { return Vec::new() };
        let mut texts = Vec::new();
        for (key, value) in table {
            let line = self.findings.line(&key.span());
            match value.get_ref().as_str() {
                Some(text) => {
                    texts.push((key.get_ref().to_string(), At { line, value: text.to_owned() }));
                }
                None => {
                    let what =
                        format!("it must be a text in quotes, not {}", kind(value.get_ref()));
                    self.fault(line, key.get_ref(), what, "");
                }
            }
        }
        texts
    }

    /// Notes a required key that is absent.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>, hint: &str) -> Option<T> {
        let written = self.table.is_some_and(|table| table.contains_key(key));
        if value.is_none() && !written {
            let (path, hint) = (self.path(key), Some(hint.to_owned()));
            self.findings.fault(None, &path, "it is missing".to_owned(), hint);
        }
        value
    }

    /// Ends the section: every key that nobody asked for is a problem.
    pub(super) fn end(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let written: &str = key.get_ref();
            if self.asked.contains(&written) {
                continue;
            }
            let hint = match nearest(written, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean `{}`?", self.path(meant)),
                None => format!("known here are {}", quoted(&self.asked)),
            };
            self.fault(self.findings.line(&key.span()), written, "there is no such key", &hint);
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
