//! YAML 1.2 documents into trees. A document that is no YAML does not hide the faults of the others.
//!
//! Narrower than YAML where YAML surprises: no merge keys, no tags but `!!str`, only `true` and `false` are booleans,
//! and every limit is a number below, so that a small text cannot become a large tree.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};

use super::tree::{Entry, Place, Step, Tree, Value, pointer};
use crate::problem::FieldError;

/// Longest text.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// Deepest nesting.
const DEPTH_MAX: u32 = 32;
/// Most values in one text, counting what aliases repeat.
const VALUES_MAX: usize = 50_000;

/// Something that is wrong before any type is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Which document, from 1.
    pub(crate) document: u32,
    pub(crate) fault: FieldError,
}

/// What a text holds: the documents that are not empty, with their numbers, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) documents: Vec<(u32, Tree)>,
    pub(crate) flaws: Vec<Flaw>,
}

/// Reads all documents of a text.
pub(crate) fn stream(text: &str) -> Stream {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        values_left: VALUES_MAX,
        document: 0,
        path: Vec::new(),
        result: Stream::default(),
    };
    if text.len() > BYTES_MAX {
        let place = Place { line: 1, column: 1 };
        let detail =
            format!("the text has {} bytes, more than the {BYTES_MAX} that are read", text.len());
        reader.flaw(place, detail, Some("split it into several files".to_owned()));
        return reader.result;
    }
    loop {
        match reader.next_document() {
            Ok(true) => {}
            Ok(false) => break,
            Err(stop) => {
                let Stop { place, detail, hint, last } = stop;
                reader.flaw(place, detail, hint);
                if last || !reader.parser.proceed_next_document().unwrap_or(false) {
                    break;
                }
            }
        }
    }
    reader.result
}

/// Why a document cannot be read on.
struct Stop {
    place: Place,
    detail: String,
    hint: Option<String>,
    /// Whether the documents after it are not read either.
    last: bool,
}

impl Stop {
    fn at(place: Place, detail: impl Into<String>, hint: Option<&str>) -> Self {
        Self { place, detail: detail.into(), hint: hint.map(str::to_owned), last: false }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// What an alias repeats, with its number of values.
    anchors: BTreeMap<usize, (Tree, usize)>,
    values_left: usize,
    document: u32,
    /// From the document's root to the value that is being read.
    path: Vec<Step>,
    result: Stream,
}

fn place(span: &Span) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: number(span.start.line()), column: number(span.start.col()).saturating_add(1) }
}

impl<'t> Reader<'t> {
    /// The next event that is not a comment; `None` at the end of the text.
    fn event(&mut self) -> Result<Option<(Event<'t>, Span)>, Stop> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Err(error)) => return Err(syntax(&error)),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
            }
        }
    }

    /// Reads one document. False at the end of the text.
    fn next_document(&mut self) -> Result<bool, Stop> {
        loop {
            let Some((event, _)) = self.event()? else { return Ok(false) };
            match event {
                Event::DocumentStart(..) => break,
                Event::StreamEnd => return Ok(false),
                _ => {}
            }
        }
        self.document += 1;
        self.anchors.clear();
        self.path.clear();
        let Some((event, span)) = self.event()? else { return Ok(false) };
        let (tree, _) = self.value(event, &span, DEPTH_MAX)?;
        if !matches!(tree.value, Value::Null) {
            self.result.documents.push((self.document, tree));
        }
        Ok(true)
    }

    fn flaw(&mut self, place: Place, detail: String, hint: Option<String>) {
        let (line, column) = (Some(place.line), Some(place.column));
        let fault = FieldError { pointer: pointer(&self.path), line, column, detail, hint };
        self.result.flaws.push(Flaw { document: self.document.max(1), fault });
    }

    /// The value that begins with an event, and how many values are in it.
    fn value(&mut self, event: Event<'t>, span: &Span, depth: u32) -> Result<(Tree, usize), Stop> {
        let place = place(span);
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Stop::at(
                place,
                format!("more than {DEPTH_MAX} levels are nested here"),
                None,
            ));
        };
        let (value, anchor, count) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref(), place)?, anchor, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                let (items, count) = self.items(depth)?;
                (Value::List(items), anchor, count)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                let (entries, count) = self.entries(depth)?;
                (Value::Map(entries), anchor, count)
            }
            Event::Alias(id) => return self.repeat(id, place),
            _ => return Err(Stop::at(place, "a value is expected here", None)),
        };
        self.pay(1, place)?;
        let tree = Tree { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (tree.clone(), count));
        }
        Ok((tree, count))
    }

    fn repeat(&mut self, id: usize, place: Place) -> Result<(Tree, usize), Stop> {
        let Some((_, count)) = self.anchors.get(&id) else {
            return Err(Stop::at(
                place,
                "this alias stands inside the value that it repeats",
                None,
            ));
        };
        let count = *count;
        self.pay(count, place)?;
        let value = self.anchors.get(&id).map_or(Value::Null, |(tree, _)| tree.value.clone());
        Ok((Tree { place, value }, count))
    }

    /// Counts values before they are made.
    fn pay(&mut self, count: usize, place: Place) -> Result<(), Stop> {
        let Some(left) = self.values_left.checked_sub(count) else {
            let detail = format!("with its aliases the text grows beyond {VALUES_MAX} values");
            let hint = Some("write the values out, or split the file".to_owned());
            return Err(Stop { place, detail, hint, last: true });
        };
        self.values_left = left;
        Ok(())
    }

    fn items(&mut self, depth: u32) -> Result<(Vec<Tree>, usize), Stop> {
        let (mut items, mut count) = (Vec::new(), 1);
        while let Some((event, span)) = self.event()? {
            if event == Event::SequenceEnd {
                break;
            }
            self.path.push(Step::Index(items.len()));
            let (item, inside) = self.value(event, &span, depth)?;
            self.path.pop();
            items.push(item);
            count += inside;
        }
        Ok((items, count))
    }

    fn entries(&mut self, depth: u32) -> Result<(Vec<Entry>, usize), Stop> {
        let (mut entries, mut count) = (Vec::new(), 1);
        let mut seen = BTreeMap::new();
        while let Some((event, span)) = self.event()? {
            let at = place(&span);
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Stop::at(at, "a key must be a plain text", None)),
            };
            self.path.push(Step::Key(key.clone()));
            if key == "<<" {
                let hint = Some("write the keys out here");
                return Err(Stop::at(at, "merge keys (`<<`) are not supported", hint));
            }
            let Some((event, span)) = self.event()? else { break };
            let (value, inside) = self.value(event, &span, depth)?;
            count += inside;
            if let Some(first) = seen.get(&key) {
                let detail = format!("the key `{key}` stands twice, first in line {first}");
                self.flaw(at, detail, Some("keep one of the two".to_owned()));
            } else {
                seen.insert(key.clone(), at.line);
                entries.push(Entry { key, place: at, value });
            }
            self.path.pop();
        }
        Ok((entries, count))
    }
}

fn refuse_tag(tag: Option<&Tag>, place: Place) -> Result<(), Stop> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(Stop::at(
            place,
            format!("the tag `{}` is not supported", tag.original()),
            Some("remove the tag"),
        )),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<Value, Stop> {
    if tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str")) {
        return Ok(Value::Text(text.to_owned()));
    }
    refuse_tag(tag, place)?;
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    })
}

/// Whether a plain scalar is a number in YAML's core schema.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_ok = match (whole.is_empty(), fraction.is_empty()) {
        (true, true) => false,
        (true, false) => digits(fraction),
        (false, true) => digits(whole),
        (false, false) => digits(whole) && digits(fraction),
    };
    mantissa_ok && digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
}

/// The parser's errors in plain words; the rarer ones keep the parser's.
fn syntax(error: &ScanError) -> Stop {
    let marker = error.marker();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let at = Place { line: number(marker.line()), column: number(marker.col()).saturating_add(1) };
    match error.kind() {
        ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed => {
            Stop::at(at, "a tab stands where YAML wants spaces", Some("indent with spaces"))
        }
        ErrorKind::UnknownAnchor => {
            Stop::at(at, "this alias repeats an anchor that is not defined above it", None)
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            let hint = Some("keys of one block stand in the same column");
            Stop::at(at, "this line is indented unlike the lines above it", hint)
        }
        ErrorKind::InvalidColonPlacement => {
            let hint = Some("is a bracket or quote above it not closed?");
            Stop::at(at, "a key and its colon cannot stand here", hint)
        }
        ErrorKind::MappingValueNotAllowed => {
            let hint = Some("put a text that holds a colon in quotes");
            Stop::at(at, "a second colon stands where a value is expected", hint)
        }
        kind => Stop::at(at, format!("this is not YAML: {kind}"), None),
    }
}
