//! A text as a tree that still knows where every value stood.
//!
//! Scalars keep the way they were written: a number is not yet a float, so nothing is lost before its type is known.

use crate::problem::FieldError;

/// Line and column from 1; columns count characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it began.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What was written.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    /// In the order of the text, every key once.
    Map(Vec<Entry>),
    /// Already reported: read on as if it were not there.
    Dropped,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Tree,
}

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The JSON pointer (RFC 6901) of a path.
pub(crate) fn pointer<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in steps {
        text.push('/');
        match step {
            Step::Key(key) => text.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => text.push_str(&index.to_string()),
        }
    }
    text
}

impl Tree {
    /// The entry of a key, if this is a map that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Dropped => None,
        }
    }

    /// The value of a step and the place that a reader looks at for it: the key for a map or list, else the value.
    fn child(&self, step: &str) -> Option<(&Tree, Place)> {
        match &self.value {
            Value::Map(_) => self.entry(step).map(|entry| match entry.value.value {
                Value::List(_) | Value::Map(_) | Value::Null | Value::Dropped => {
                    (&entry.value, entry.place)
                }
                Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                    (&entry.value, entry.value.place)
                }
            }),
            Value::List(items) => step
                .parse()
                .ok()
                .and_then(|index: usize| items.get(index))
                .map(|item| (item, item.place)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Dropped => {
                None
            }
        }
    }

    /// Gives an error the place of its pointer, or of the nearest value around it that was written.
    pub(crate) fn locate(&self, error: &mut FieldError) {
        let (mut tree, mut place) = (self, self.place);
        for step in error.pointer.split('/').skip(1) {
            let Some((child, at)) = tree.child(&step.replace("~1", "/").replace("~0", "~")) else {
                break;
            };
            (tree, place) = (child, at);
        }
        (error.line, error.column) = (Some(place.line), Some(place.column));
    }

    /// Takes a value out of the further reading. False if there is none.
    pub(crate) fn drop_at(&mut self, path: &[Step]) -> bool {
        let Some((step, rest)) = path.split_first() else {
            let there = !matches!(self.value, Value::Dropped);
            self.value = Value::Dropped;
            return there;
        };
        match (&mut self.value, step) {
            (Value::Map(entries), Step::Key(key)) => {
                let entry = entries.iter_mut().find(|entry| entry.key == *key);
                entry.is_some_and(|entry| entry.value.drop_at(rest))
            }
            (Value::List(items), Step::Index(index)) => {
                items.get_mut(*index).is_some_and(|item| item.drop_at(rest))
            }
            (
                Value::Map(_)
                | Value::List(_)
                | Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Text(_)
                | Value::Dropped,
                _,
            ) => false,
        }
    }
}
