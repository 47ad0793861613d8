//! The OpenAPI document: golden, and the same as what is served.

use super::lab::Lab;

/// The contract, as it is promised to clients.
#[rustfmt::skip]
const CONTRACT: &[(&str, &str)] = &[
    ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1"),
    ("GET", "/v1/cluster"), ("GET", "/v1/cluster/hash"), ("GET", "/v1/cluster/quorum"), ("GET", "/v1/openapi.json"),
    ("POST", "/v1/cluster/disarm"), ("POST", "/v1/cluster/arm"),
    ("GET", "/v1/grains"), ("POST", "/v1/grains"),
    ("GET", "/v1/grains/{name}"), ("PUT", "/v1/grains/{name}"), ("PATCH", "/v1/grains/{name}"), ("DELETE", "/v1/grains/{name}"),
    ("POST", "/v1/grains/{name}/undelete"),
    ("POST", "/v1/grains/{name}/start"), ("POST", "/v1/grains/{name}/stop"), ("POST", "/v1/grains/{name}/restart"),
    ("POST", "/v1/grains/{name}/migrate"), ("POST", "/v1/grains/{name}/failover"),
    ("POST", "/v1/grains/{name}/snapshots"), ("POST", "/v1/grains/{name}/restore"), ("POST", "/v1/grains/{name}/clone"),
    ("GET", "/v1/grains/{name}/placement"), ("POST", "/v1/place"),
    ("GET", "/v1/grains/{name}/logs"), ("GET", "/v1/grains/{name}/services"), ("POST", "/v1/grains/{name}/exec"), ("POST", "/v1/grains/{name}/console"),
    ("GET", "/v1/networks"), ("GET", "/v1/networks/{name}"), ("PUT", "/v1/networks/{name}"), ("DELETE", "/v1/networks/{name}"),
    ("GET", "/v1/templates"), ("POST", "/v1/templates"), ("GET", "/v1/templates/{name}"), ("DELETE", "/v1/templates/{name}"),
    ("GET", "/v1/nodes"), ("POST", "/v1/nodes"),
    ("GET", "/v1/nodes/{name}"), ("PUT", "/v1/nodes/{name}"), ("DELETE", "/v1/nodes/{name}"),
    ("POST", "/v1/nodes/{name}/drain"), ("POST", "/v1/nodes/{name}/undrain"),
    ("POST", "/v1/nodes/{name}/cordon"), ("POST", "/v1/nodes/{name}/uncordon"),
    ("POST", "/v1/nodes/{name}/confirm-off"), ("POST", "/v1/nodes/{name}/fence-test"),
    ("GET", "/v1/policies"), ("GET", "/v1/policies/{name}"), ("PUT", "/v1/policies/{name}"), ("DELETE", "/v1/policies/{name}"),
    ("GET", "/v1/operations"), ("GET", "/v1/operations/{id}"), ("DELETE", "/v1/operations/{id}"),
    ("GET", "/v1/events"), ("POST", "/v1/apply"),
    ("GET", "/v1/orphans"), ("GET", "/v1/orphans/{id}"), ("GET", "/v1/orphans/{id}/diff"),
    ("POST", "/v1/orphans/{id}/fork"), ("POST", "/v1/orphans/{id}/promote"), ("POST", "/v1/orphans/{id}/discard"),
    ("POST", "/v1/orphans/{id}/view"), ("DELETE", "/v1/orphans/{id}/view"),
];

/// Method and path of everything in the document.
pub(crate) fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(scrapd::api::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete", "head", "options", "trace"] {
            if item.get(method).is_some() {
                operations.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    operations
}

#[test]
fn the_document_is_the_golden_one() {
    let text = scrapd::api::openapi().to_pretty_json().unwrap() + "\n";
    expect_test::expect_file!["../../../schema/openapi.json"].assert_eq(&text);
}

#[test]
fn the_document_is_the_contract() {
    let mut documented = operations();
    let mut promised: Vec<(String, String)> =
        CONTRACT.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    documented.sort();
    promised.sort();
    assert_eq!(documented, promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_served_and_nothing_else() {
    let lab = Lab::one().await;
    let documented = operations();
    let mut paths: Vec<&str> = documented.iter().map(|(_, path)| path.as_str()).collect();
    paths.dedup();
    for path in paths {
        let filled = path.replace("{name}", "nobody").replace("{id}", "nobody");
        // Axum says for every address which methods it takes.
        let reply = lab.ask("TRACE", &filled, &[], "").await;
        assert_eq!(reply.status.as_u16(), 405, "{path}: {}", reply.text);
        let mut served: Vec<&str> =
            reply.header("allow").split(',').filter(|method| *method != "HEAD").collect();
        let mut promised: Vec<&str> = documented
            .iter()
            .filter(|(_, other)| other == path)
            .map(|(method, _)| method.as_str())
            .collect();
        served.sort_unstable();
        promised.sort_unstable();
        assert_eq!(served, promised, "{path}");
    }
}

#[test]
fn every_answer_with_a_body_has_a_schema_that_exists() {
    let document = serde_json::to_value(scrapd::api::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    fn references(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(|target| target.as_str()) {
                    found.push(target.to_owned());
                }
                fields.values().for_each(|field| references(field, found));
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| references(item, found))
            }
            _ => (),
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "only {} references", found.len());
    for target in found {
        let name = target.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{name} is missing");
    }
}
