//! `scrapctl explain grain.spec.protect`: what may be written at a place, in words, from the same schema as editors use.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::{KINDS, json_schema};
use crate::strict::{list, nearest};

/// What may be written at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The place, as it was asked for.
    pub path: String,
    /// What kind of value: "a size", "a list of texts".
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it means, then what its type means.
    pub description: Vec<String>,
    /// What is read if nothing is written, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// How it may look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// The keys inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A key inside a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The key.
    pub name: String,
    /// What kind of value.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether it must be written.
    pub required: bool,
    /// What it means, in one line.
    pub description: String,
}

/// There is nothing at this place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct NoSuchPath {
    /// Which part of the path does not exist.
    pub detail: String,
    /// What was probably meant, or what exists.
    pub hint: String,
}

/// Explains a place, such as `grain.spec.protect`. Numbers of list items are left out: `grain.spec.place.apartFrom`.
///
/// # Errors
/// The first segment that does not exist, with the nearest that does.
pub fn explain(path: &str) -> Result<Explanation, NoSuchPath> {
    let schema = json_schema();
    let mut segments = path.split('.').filter(|segment| !segment.is_empty());
    let kind = segments.next().unwrap_or_default();
    let known = KINDS.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(kind));
    let Some((name, _, _)) = known else {
        let kinds: Vec<String> = KINDS.iter().map(|(name, _, _)| name.to_lowercase()).collect();
        let kinds = kinds.iter().map(String::as_str);
        return Err(missing(format!("there is no kind `{kind}`"), kind, kinds));
    };
    let mut node = Node::new(&schema, at(&schema, &["$defs", &format!("{name}Manifest")]));
    let mut walked = name.to_lowercase();
    for segment in segments {
        node = match node.child(segment) {
            Some(child) => child,
            None => {
                let detail = format!("`{walked}` has no key `{segment}`");
                return Err(missing(detail, segment, node.keys()));
            }
        };
        walked = format!("{walked}.{segment}");
    }
    Ok(Explanation {
        path: walked,
        type_name: node.type_name(),
        description: node.descriptions(),
        default: node.word("default").map(ToString::to_string),
        example: node.examples(),
        fields: node.fields(),
    })
}

fn missing<'a>(
    detail: String,
    segment: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> NoSuchPath {
    let hint = match (nearest(segment, known.clone()), known.clone().next()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(_)) => format!("there is {}", list(known)),
        (None, None) => "it is a value without keys".to_owned(),
    };
    NoSuchPath { detail, hint }
}

const NOTHING: Value = Value::Null;

fn at<'s>(value: &'s Value, path: &[&str]) -> &'s Value {
    path.iter().try_fold(value, |value, key| value.get(*key)).unwrap_or(&NOTHING)
}

/// A place in the schema: what its key says, and what its type says.
#[derive(Clone, Copy)]
struct Node<'s> {
    schema: &'s Value,
    /// The description that stands beside a reference belongs to the key.
    key: &'s Value,
    kind: &'s Value,
}

impl<'s> Node<'s> {
    fn new(schema: &'s Value, key: &'s Value) -> Self {
        // An optional value is one of itself and null.
        let some = at(key, &["oneOf"]).as_array().and_then(|options| options.first());
        let holder = some.unwrap_or(key);
        let target = holder.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| target.strip_prefix("#/$defs/"));
        let kind = target.map_or(holder, |name| at(schema, &["$defs", name]));
        let key = if key.get("description").is_some() { key } else { holder };
        Self { schema, key, kind }
    }

    fn word(self, key: &str) -> Option<&'s Value> {
        self.key.get(key).or_else(|| self.kind.get(key))
    }

    fn keys(self) -> impl Iterator<Item = &'s str> + Clone {
        let inside = self.item().unwrap_or(self);
        let properties = at(inside.kind, &["properties"]).as_object();
        properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// What is in a list.
    fn item(self) -> Option<Self> {
        self.kind.get("items").map(|items| Self::new(self.schema, items))
    }

    /// What stands at any key of a map.
    fn entry(self) -> Option<Self> {
        let values = self.kind.get("additionalProperties").filter(|values| values.is_object());
        values.map(|values| Self::new(self.schema, values))
    }

    fn child(self, segment: &str) -> Option<Self> {
        let inside = self.item().unwrap_or(self);
        let property = inside.kind.get("properties").and_then(|properties| properties.get(segment));
        property.map(|property| Self::new(self.schema, property)).or_else(|| inside.entry())
    }

    fn type_name(self) -> String {
        let defined = |name: &str| std::ptr::eq(self.kind, at(self.schema, &["$defs", name]));
        let named = [
            ("Bytes", "a size"),
            ("Span", "a time span"),
            ("MilliCpu", "a number of cores"),
            ("Name", "a name"),
        ];
        if let Some((_, words)) = named.into_iter().find(|(name, _)| defined(name)) {
            return words.to_owned();
        }
        if let Some(words) = self.kind.get("enum").and_then(Value::as_array) {
            return format!("one of {}", list(words.iter().filter_map(Value::as_str)));
        }
        if let Some(word) = self.kind.get("const").and_then(Value::as_str) {
            return format!("`{word}`");
        }
        let first = self.kind.get("type").and_then(|kind| kind.get(0).or(Some(kind)));
        match first.and_then(Value::as_str) {
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("integer") => "a whole number".to_owned(),
            Some("array") => match self.item().map(Self::type_name).as_deref() {
                Some("a text") => "a list of texts".to_owned(),
                Some(other) => format!("a list; each item is {other}"),
                None => "a list".to_owned(),
            },
            Some("object") if self.entry().is_some() => "a block of texts with any keys".to_owned(),
            Some("object") => "a block".to_owned(),
            _ => "a text".to_owned(),
        }
    }

    fn descriptions(self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for text in [self.key, self.kind]
            .into_iter()
            .filter_map(|holder| at(holder, &["description"]).as_str())
        {
            if !texts.iter().any(|known| known == text) {
                texts.push(text.to_owned());
            }
        }
        texts
    }

    fn examples(self) -> Option<String> {
        let example = self.word("examples").and_then(|examples| examples.get(0))?;
        Some(example.as_str().map_or_else(|| example.to_string(), str::to_owned))
    }

    fn fields(self) -> Vec<Field> {
        let inside = self.item().unwrap_or(self);
        let required = at(inside.kind, &["required"]).as_array();
        let required =
            |key: &str| required.is_some_and(|keys| keys.iter().any(|needed| needed == key));
        let properties = at(inside.kind, &["properties"]).as_object().into_iter().flatten();
        let field = |(name, property): (&String, &'s Value)| {
            let node = Self::new(self.schema, property);
            let description = node.descriptions().into_iter().next().unwrap_or_default();
            let description = description.lines().next().unwrap_or_default().to_owned();
            Field {
                name: name.clone(),
                type_name: node.type_name(),
                required: required(name),
                description,
            }
        };
        properties.map(field).collect()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.type_name)?;
        for line in
            self.description.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty())
        {
            write!(f, "\n  {line}")?;
        }
        if let Some(example) = &self.example {
            write!(f, "\n  example: {example}")?;
        }
        if let Some(default) = &self.default {
            write!(f, "\n  default: {}", default.trim_matches('"'))?;
        }
        let width = self.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
        for field in &self.fields {
            let needed = if field.required { ", required" } else { "" };
            write!(f, "\n\n  {:width$}  {}{needed}\n", field.name, field.type_name)?;
            write!(f, "  {:width$}    {}", "", field.description)?;
        }
        Ok(())
    }
}
