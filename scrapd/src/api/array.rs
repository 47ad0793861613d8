//! A JSON array of manifests: each element goes through the same door as a single one, with its line and pointer.

use std::collections::BTreeMap;

use scrap_schema::manifest::{Manifest, parse};
use scrap_schema::problem::FieldError;
use scrap_schema::strict::within;

use super::error::{Answer, bad_manifest};
use super::input::bad_json;

/// Every manifest of an array.
pub(super) fn manifests(text: &str) -> Answer<Vec<Manifest>> {
    // Sound JSON first: then splitting needs to know nothing but strings and brackets.
    let _: Vec<serde::de::IgnoredAny> =
        serde_json::from_str(text).map_err(|error| bad_json(&error))?;
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut errors = Vec::new();
    let mut places = BTreeMap::new();
    for (place, element) in elements(text).into_iter().enumerate() {
        let parsed = match alone(text, element) {
            Some(alone) => parse("-", &alone),
            None => continue,
        };
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(found) => {
                errors.extend(within(&format!("/{place}"), found.field_errors()));
                continue;
            }
        };
        for manifest in parsed {
            let (kind, name) = (manifest.kind.name(), manifest.metadata.name.clone());
            if let Some(first) = places.get(&(kind, name.clone())) {
                let detail = format!("{kind} `{name}` is written twice, first as element {first}");
                errors.push(FieldError::new(format!("/{place}/metadata/name"), detail));
            }
            places.entry((kind, name)).or_insert(place);
            manifests.push(manifest);
        }
    }
    if manifests.is_empty() && errors.is_empty() {
        errors.push(FieldError::new("", "there is no manifest in it"));
    }
    if errors.is_empty() { Ok(manifests) } else { Err(bad_manifest(errors)) }
}

/// An element with everything before it blanked out, so that its lines and columns stay.
fn alone(text: &str, (start, end): (usize, usize)) -> Option<String> {
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut alone: String = text.get(..start)?.chars().map(blank).collect();
    alone.push_str(text.get(start..end)?);
    Some(alone)
}

/// Where the elements of the outermost array begin and end.
fn elements(text: &str) -> Vec<(usize, usize)> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let (mut elements, mut start) = (Vec::new(), 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => (),
            b'[' | b'{' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            b',' if depth == 1 => {
                elements.push((start, at));
                start = at + 1;
            }
            b']' | b'}' => {
                if depth == 1 {
                    elements.push((start, at));
                }
                depth = depth.saturating_sub(1);
            }
            _ => (),
        }
    }
    let blank = |(start, end): &(usize, usize)| {
        text.get(*start..*end).is_none_or(|element| element.trim().is_empty())
    };
    elements.retain(|element| !blank(element));
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grain(name: &str) -> String {
        format!(
            r#"{{"apiVersion":"scrap/v1","kind":"Grain","metadata":{{"name":"{name}"}},"spec":{{"command":["a,]}}\"b"]}}}}"#
        )
    }

    #[test]
    fn every_element_is_a_manifest() {
        let text = format!("[{},\n {}]", grain("one"), grain("two"));
        let manifests = manifests(&text).unwrap();
        let names: Vec<_> = manifests.iter().map(|m| m.metadata.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(manifests[1].line, 2);
    }

    #[test]
    fn a_fault_names_its_element_and_line() {
        let text = format!("[{},\n {}]", grain("one"), grain("two").replace("spec", "spce"));
        let problem = manifests(&text).unwrap_err().problem;
        assert_eq!(problem.errors[0].pointer, "/1/spce");
        assert_eq!(problem.errors[0].line, Some(2));
    }

    #[test]
    fn the_same_grain_twice_is_a_fault() {
        let text = format!("[{},{},{}]", grain("one"), grain("two"), grain("one"));
        let problem = manifests(&text).unwrap_err().problem;
        assert_eq!(problem.errors[0].pointer, "/2/metadata/name");
    }

    #[test]
    fn an_empty_array_is_a_fault() {
        assert!(manifests(" [ ] ").is_err());
    }
}
