//! The JSON Schema of manifests, for editors and for `scrapctl explain`: made of the types, so that it cannot differ.
//!
//! Descriptions are the doc comments of the types, defaults are the ones that reading fills in.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::{API_VERSION, Metadata};
use crate::spec::{Egress, GrainSpec, HttpCheck, Ingress, NetworkSpec, NodeSpec, Policy};

mod explain;

pub use explain::{Explanation, Field, NoSuchPath, explain};

/// Where the schema is published, for `# yaml-language-server: $schema=`.
pub const SCHEMA_ID: &str = "https://docs.scrap.example/schemas/manifest.schema.json";

/// The kinds with a line about each.
const KINDS: [(&str, &str, &str); 4] = [
    ("Grain", "GrainSpec", "A user's service: one program with its data, on one node at a time."),
    (
        "Policy",
        "Policy",
        "A contract for a class of grains: how copies are kept and what happens when a node dies.",
    ),
    ("Node", "NodeSpec", "What people say about a node. Its facts are measured, not written."),
    ("Network", "NetworkSpec", "Where grains get addresses from that follow them to every node."),
];

/// JSON Schema (2020-12) of one manifest document.
#[must_use]
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    for (name, mut schema) in schemas() {
        rewrite(&mut schema);
        definitions.insert(name, schema);
    }
    add_defaults(&mut definitions);
    for (kind, spec, description) in KINDS {
        let required: &[&str] = match kind {
            "Node" => &["apiVersion", "kind", "metadata"],
            _ => &["apiVersion", "kind", "metadata", "spec"],
        };
        let document = json!({
            "type": "object",
            "description": description,
            "required": required,
            "additionalProperties": false,
            "properties": {
                "apiVersion": {"const": API_VERSION, "description": "The version of this format."},
                "kind": {"const": kind, "description": "What the manifest is about."},
                "metadata": {"$ref": "#/$defs/Metadata"},
                "spec": {"$ref": format!("#/$defs/{spec}")},
            },
        });
        definitions.insert(format!("{kind}Manifest"), document);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "SCRAP manifest",
        "description": "One document of a manifest file for `scrapctl apply`.",
        "oneOf": KINDS.map(|(kind, _, _)| json!({"$ref": format!("#/$defs/{kind}Manifest")})),
        "$defs": definitions,
    })
}

/// The schemas of all types in a manifest, by name.
fn schemas() -> BTreeMap<String, Value> {
    fn add<T: ToSchema>(all: &mut Vec<(String, RefOr<Schema>)>) {
        all.push((T::name().into_owned(), T::schema()));
        T::schemas(all);
    }
    let mut all = Vec::new();
    add::<Metadata>(&mut all);
    add::<GrainSpec>(&mut all);
    add::<Policy>(&mut all);
    add::<NodeSpec>(&mut all);
    add::<NetworkSpec>(&mut all);
    let json = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
    all.iter().map(|(name, schema)| (name.clone(), json(schema))).collect()
}

/// From the dialect of OpenAPI to that of JSON Schema: other places, one other keyword, no formats of numbers.
fn rewrite(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", "#/$defs/");
            }
            if let Some(example) = object.remove("example") {
                object.insert("examples".to_owned(), json!([example]));
            }
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            object.values_mut().for_each(rewrite);
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Adds what reading fills in: read the smallest text of each type, and look what stands there.
fn add_defaults(definitions: &mut Map<String, Value>) {
    fn filled<T: Serialize + serde::de::DeserializeOwned>(smallest: Value) -> Value {
        serde_json::from_value::<T>(smallest)
            .ok()
            .and_then(|value| serde_json::to_value(value).ok())
            .unwrap_or_default()
    }
    let grain = filled::<GrainSpec>(json!({"health": {}}));
    let policy = filled::<Policy>(json!({"replicate": {}, "failover": {}, "snapshots": {}}));
    let of = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_default();
    let types = [
        ("Resources", of(&grain, "resources")),
        ("Health", of(&grain, "health")),
        ("Stop", of(&grain, "stop")),
        ("GrainSpec", grain),
        ("HttpCheck", filled::<HttpCheck>(json!({"port": 1}))),
        ("Replicate", of(&policy, "replicate")),
        ("Failover", of(&policy, "failover")),
        ("Keep", of(&policy, "snapshots")),
        ("Policy", policy),
        ("NodeSpec", filled::<NodeSpec>(json!({}))),
        ("NetworkSpec", filled::<NetworkSpec>(json!({}))),
        ("Ingress", filled::<Ingress>(json!({}))),
        ("Egress", filled::<Egress>(json!({}))),
    ];
    for (name, defaults) in types {
        let Some(definition) = definitions.get_mut(name) else { continue };
        let required = definition.get("required").cloned().unwrap_or_default();
        let needed = |key: &str| {
            required.as_array().is_some_and(|keys| keys.iter().any(|needed| needed == key))
        };
        let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
        for (key, property) in properties.into_iter().flatten() {
            let (Some(default), Some(property)) = (defaults.get(key), property.as_object_mut())
            else {
                continue;
            };
            // A default that is a block of its own is described key by key where the block is.
            if !needed(key) && !default.is_object() {
                property.insert("default".to_owned(), default.clone());
            }
        }
    }
}
