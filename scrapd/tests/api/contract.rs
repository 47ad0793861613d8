//! Every answer of the lab, and every body that was taken, against the document: status, headers, schema. Knows as much of JSON Schema as the
//! document uses.

use std::sync::OnceLock;

use serde_json::Value;

use super::lab::Reply;

/// Headers that a client acts by, and that an answer has only if the document says so.
const HEADERS: [&str; 3] = ["etag", "location", "retry-after"];

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::to_value(scrapd::api::openapi()).unwrap())
}

/// What the document says of a method and an address.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let mut parts = template.split('/').zip(path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts.all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
    };
    let paths = document()["paths"].as_object().unwrap();
    // `/v1/a/b` before `/v1/a/{name}`.
    let found = paths
        .get(path)
        .or_else(|| paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item));
    found?.get(method.to_lowercase())
}

/// What of a request and its answer is not as the document says.
pub(crate) fn faults(method: &str, path: &str, body: &str, reply: &Reply) -> Vec<String> {
    let Some(operation) = operation(method, path) else { return Vec::new() };
    let status = reply.status.as_u16();
    let responses = &operation["responses"];
    let response = match responses.get(status.to_string()) {
        Some(response) => response,
        None if status >= 400 => &responses["default"],
        None => return vec![format!("status {status} is not documented")],
    };
    let mut found = Vec::new();
    let wanted = &operation["requestBody"]["content"]["application/json"]["schema"];
    if let Ok(body) = serde_json::from_str(body)
        && !wanted.is_null()
        && reply.status.is_success()
    {
        check(wanted, &body, "", &mut found);
    }
    for header in HEADERS {
        if !reply.header(header).is_empty() && response["headers"].get(header).is_none() {
            found.push(format!("header {header} of {status} is not documented"));
        }
    }
    let kind = reply.header("content-type");
    let schema = &response["content"][kind]["schema"];
    if kind.ends_with("json") && schema.is_null() {
        found.push(format!("a body {kind} of {status} is not documented"));
    } else if kind.ends_with("json") {
        check(schema, &reply.json(), "", &mut found);
    }
    found
}

fn check(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.strip_prefix("#/components/schemas/").unwrap();
        return check(&document()["components"]["schemas"][name], value, at, found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(part, value, at, found);
    }
    for (word, most) in [("oneOf", 1), ("anyOf", usize::MAX)] {
        let Some(choices) = schema[word].as_array() else { continue };
        let misfits = choices.iter().map(|choice| {
            let mut found = Vec::new();
            check(choice, value, at, &mut found);
            found
        });
        let misfits: Vec<Vec<String>> = misfits.collect();
        let fitting = misfits.iter().filter(|misfit| misfit.is_empty()).count();
        if fitting == 0 || fitting > most {
            found.push(format!("{at}: {fitting} of {word} fit: {misfits:?}"));
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_type(name, value)) {
        found.push(format!("{at}: {value} is no {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            found.push(format!("{at}: `{name}` is missing"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let more = &schema["additionalProperties"];
        match schema["properties"].get(name) {
            Some(schema) => check(schema, field, &format!("{at}/{name}"), found),
            None if more.is_object() => check(more, field, &format!("{at}/{name}"), found),
            None => (),
        }
    }
    if schema["items"].is_object() {
        for (number, item) in value.as_array().into_iter().flatten().enumerate() {
            check(&schema["items"], item, &format!("{at}/{number}"), found);
        }
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the document has a type `{other}`"),
    }
}
