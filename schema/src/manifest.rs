//! Manifests: what an operator writes into files. YAML 1.2 with several documents, of which JSON is a part.
//!
//! This is the only door for manifests, and it is strict: what is not understood is refused, never ignored. All faults
//! of a text are told at once, each with file, line and column. No file is read here: the caller brings the text.

use std::collections::{BTreeMap, btree_map};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::id::Name;
use crate::problem::FieldError;
use crate::spec::{GrainSpec, Labels, NetworkSpec, NodeSpec, Policy, bad_key, validate_labels};
use crate::strict::{
    Flaw, Shape, Step, Stream, Tree, Validate, Value, documents, list, nearest, pointer, read,
    within,
};

mod error;
pub mod schema;

pub use error::{ManifestError, ManifestErrors};

/// The only version of the format.
pub const API_VERSION: &str = "scrap/v1";

const KINDS: [&str; 4] = ["Grain", "Policy", "Node", "Network"];
/// In the design, not in this version.
const LATER_KINDS: [&str; 1] = ["BackupTarget"];
/// An object of the API that nobody can write down: its data have to come with it.
const IMPORTED_KIND: &str = "Template";
const KEYS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
const ANNOTATION_BYTES_MAX: usize = 64 << 10;

/// One document: something that somebody wants to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name, labels, annotations.
    pub metadata: Metadata,
    /// What it is, and what is wanted.
    pub kind: ManifestKind,
    /// The line of its text where it began, from 1. Not part of the serialised form.
    pub line: u32,
}

/// What a manifest is about, with its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most manifests are grains, and few are in memory at a time"
)]
pub enum ManifestKind {
    /// A user's service.
    Grain(GrainSpec),
    /// A contract for a class of grains.
    Policy(Policy),
    /// What people say about a node.
    Node(NodeSpec),
    /// Where grains get their addresses from.
    Network(NetworkSpec),
}

/// What every manifest carries beside its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// Its name, unique among the things of its kind.
    pub name: Name,
    /// Short texts to select by, such as `app: mail`.
    #[schema(value_type = BTreeMap<String, String>)]
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Longer texts for people, such as notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ManifestKind {
    /// The kind as it is written.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grain(_) => "Grain",
            Self::Policy(_) => "Policy",
            Self::Node(_) => "Node",
            Self::Network(_) => "Network",
        }
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Manifest", KEYS.len())?;
        document.serialize_field("apiVersion", API_VERSION)?;
        document.serialize_field("kind", self.kind.name())?;
        document.serialize_field("metadata", &self.metadata)?;
        match &self.kind {
            ManifestKind::Grain(spec) => document.serialize_field("spec", spec)?,
            ManifestKind::Policy(spec) => document.serialize_field("spec", spec)?,
            ManifestKind::Node(spec) => document.serialize_field("spec", spec)?,
            ManifestKind::Network(spec) => document.serialize_field("spec", spec)?,
        }
        document.end()
    }
}

/// A manifest that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {kind} `{name}` as YAML")]
pub struct Unwritable {
    kind: &'static str,
    name: Name,
    #[source]
    source: serde_saphyr::SerializeError,
}

impl Manifest {
    /// The manifest as one YAML document, defaults written out. [`parse`] reads it back as the same manifest.
    ///
    /// # Errors
    /// None that is known; the serializer is foreign.
    pub fn to_yaml(&self) -> Result<String, Unwritable> {
        serde_saphyr::to_string(self).map_err(|source| Unwritable {
            kind: self.kind.name(),
            name: self.metadata.name.clone(),
            source,
        })
    }
}

impl Validate for Metadata {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = within("/labels", validate_labels(&self.labels));
        for (key, value) in &self.annotations {
            let at = pointer(&[Step::Key("annotations".to_owned()), Step::Key(key.clone())]);
            if let Some(reason) = bad_key(key) {
                let detail = format!("this is not a key for an annotation: {reason}");
                faults.push(FieldError::new(at.clone(), detail));
            }
            if value.contains('\0') {
                faults.push(FieldError::new(at, "the text holds a NUL character"));
            }
        }
        let size: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > ANNOTATION_BYTES_MAX {
            let detail =
                format!("{size} bytes of annotations are more than {ANNOTATION_BYTES_MAX}");
            faults.push(FieldError::new("/annotations", detail));
        }
        faults
    }
}

/// Reads all manifests of a text. `source_name` is what errors call it: a path, or `-`.
///
/// # Errors
/// Everything that is wrong with the text; then none of its manifests counts.
pub fn parse(source_name: &str, text: &str) -> Result<Vec<Manifest>, ManifestErrors> {
    let Stream { documents, flaws } = documents(text);
    let mut errors = ManifestErrors::new(source_name);
    if documents.is_empty() && flaws.is_empty() {
        let fault = FieldError::new("", "there is no manifest in it");
        errors
            .add(1, fault.with_hint(format!("a manifest begins with `apiVersion: {API_VERSION}`")));
    }
    for Flaw { document, fault } in flaws {
        errors.add(document, fault);
    }
    let mut manifests = Vec::new();
    let mut names = BTreeMap::new();
    for (number, tree) in documents {
        let (manifest, faults) = document(&tree);
        for fault in faults {
            errors.add(number, fault);
        }
        let Some(manifest) = manifest else { continue };
        match names.entry((manifest.kind.name(), manifest.metadata.name.clone())) {
            btree_map::Entry::Vacant(entry) => _ = entry.insert(manifest.line),
            btree_map::Entry::Occupied(first) => {
                let (kind, name) = first.key();
                let detail =
                    format!("{kind} `{name}` is written twice, first in line {}", first.get());
                let mut fault = FieldError::new("/metadata/name", detail);
                tree.locate(&mut fault);
                errors.add(number, fault);
            }
        }
        manifests.push(manifest);
    }
    errors.or(manifests)
}

/// Reads one document: the manifest if it is sound enough to be one, and everything that is wrong.
fn document(tree: &Tree) -> (Option<Manifest>, Vec<FieldError>) {
    let mut faults = header(tree);
    let metadata = part::<Metadata>(tree, "metadata", &mut faults);
    let kind = match tree.entry("kind").map(|entry| &entry.value.value) {
        Some(Value::Text(kind)) => match kind.as_str() {
            "Grain" => part(tree, "spec", &mut faults).map(ManifestKind::Grain),
            "Policy" => part(tree, "spec", &mut faults).map(ManifestKind::Policy),
            "Node" if tree.entry("spec").is_none() => Some(ManifestKind::Node(NodeSpec::default())),
            "Node" => part(tree, "spec", &mut faults).map(ManifestKind::Node),
            "Network" => part(tree, "spec", &mut faults).map(ManifestKind::Network),
            _ => None,
        },
        _ => None,
    };
    for fault in faults.iter_mut().filter(|fault| fault.line.is_none()) {
        tree.locate(fault);
    }
    let manifest = match (metadata, kind) {
        (Some(metadata), Some(kind)) => Some(Manifest { metadata, kind, line: tree.place.line }),
        (_, _) => None,
    };
    (manifest, faults)
}

/// What is wrong with the outermost keys.
fn header(tree: &Tree) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let Value::Map(entries) = &tree.value else {
        let fault = FieldError::new("", "a manifest is a block of keys and values");
        return vec![fault.with_hint(format!("it begins with `apiVersion: {API_VERSION}`"))];
    };
    for entry in entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        let at = pointer(&[Step::Key(entry.key.clone())]);
        let fault = if entry.key == "status" {
            let fault = FieldError::new(at, "`status` is measured by scrap and cannot be written");
            fault.with_hint("remove it; what is wanted stands in `spec`")
        } else {
            let fault = FieldError::new(at, format!("there is no key `{}` here", entry.key));
            match nearest(&entry.key, KEYS) {
                Some(near) => fault.with_hint(format!("did you mean `{near}`?")),
                None => fault.with_hint(format!("allowed keys: {}", list(KEYS))),
            }
        };
        let (line, column) = (Some(entry.place.line), Some(entry.place.column));
        faults.push(FieldError { line, column, ..fault });
    }
    faults.extend(word(tree, "apiVersion", &[API_VERSION]));
    faults.extend(word(tree, "kind", &KINDS));
    faults
}

/// What is wrong with a key whose value must be one of these words.
fn word(tree: &Tree, key: &str, allowed: &[&str]) -> Option<FieldError> {
    let (first, words) = (allowed.first().copied().unwrap_or_default(), allowed.iter().copied());
    let Some(entry) = tree.entry(key) else {
        let fault = FieldError::new("", format!("the key `{key}` is missing here"));
        return Some(match allowed {
            [_] => fault.with_hint(format!("write `{key}: {first}`")),
            _ => fault.with_hint(format!("add `{key}:` with one of {}", list(words))),
        });
    };
    let at = format!("/{key}");
    let Value::Text(written) = &entry.value.value else {
        return Some(FieldError::new(at, format!("`{key}` is a word: {}", list(words))));
    };
    if allowed.contains(&written.as_str()) {
        return None;
    }
    if key == "kind" && LATER_KINDS.contains(&written.as_str()) {
        let detail = format!("the kind `{written}` is known but not supported by this version");
        return Some(FieldError::new(at, detail).with_hint(format!("supported: {}", list(words))));
    }
    if key == "kind" && written == IMPORTED_KIND {
        let fault = FieldError::new(at, "a template is imported, it cannot be written down");
        return Some(fault.with_hint("scrapctl template import NAME FILE.tar"));
    }
    let short: String = written.chars().take(60).collect();
    let fault = FieldError::new(at, format!("`{short}` is not a known `{key}`"));
    Some(match (nearest(written, words.clone()), allowed) {
        (_, [_]) => fault.with_hint(format!("this version reads `{first}`")),
        (Some(near), _) => fault.with_hint(format!("did you mean `{near}`?")),
        (None, _) => fault.with_hint(format!("supported: {}", list(words))),
    })
}

/// Reads one of the two typed parts of a document; faults of meaning are looked for once its shape is right.
fn part<T>(tree: &Tree, key: &str, faults: &mut Vec<FieldError>) -> Option<T>
where
    T: serde::de::DeserializeOwned + Validate,
{
    let Some(entry) = tree.entry(key) else {
        let misspelt =
            |fault: &FieldError| fault.hint.as_deref() == Some(&format!("did you mean `{key}`?"));
        if !faults.iter().any(misspelt) && matches!(tree.value, Value::Map(_)) {
            let fault = FieldError::new("", format!("the key `{key}` is missing here"));
            faults.push(match key {
                "metadata" => fault.with_hint("every manifest has a name: `metadata: {name: …}`"),
                _ => fault.with_hint("`scrapctl explain` lists what stands in it"),
            });
        }
        return None;
    };
    let Shape { value, faults: mut found, unknown_only: _ } =
        read::<T>(&entry.value, &[Step::Key(key.to_owned())]);
    if let (Some(value), true) = (&value, found.is_empty()) {
        found = within(&format!("/{key}"), value.validate());
    }
    faults.extend(found);
    value
}

#[cfg(test)]
mod tests;
