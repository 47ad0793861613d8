//! The OpenAPI document: what the handlers say of themselves, and what is so for all of them.

use scrap_schema::api::{
    DryRun, GrainView, HEADER_AGE, HEADER_IDEMPOTENCY_KEY, HEADER_INDEX, NodeView, OperationView,
};
use scrap_schema::problem::Problem;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{
    Components, ContentBuilder, Header, InfoBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required,
    Response as Described, ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::{Answer, PROBLEM_JSON};
use super::input::Head;

/// The answer of work that can be tried first.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
pub(super) enum PlanOrOperation {
    Plan(DryRun),
    Operation(OperationView),
}

/// The answer of a change of a node that can be tried first.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
pub(super) enum NodeOrPlan {
    Node(NodeView),
    Plan(DryRun),
}

/// The answer of a removal that can be tried first.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
pub(super) enum GrainOrPlan {
    Grain(GrainView),
    Plan(DryRun),
}

/// Schemas of one object: an answer of them has its ETag.
const TAGGED: [&str; 7] = [
    "GrainView",
    "GrainOrPlan",
    "NodeView",
    "NodeOrPlan",
    "PolicyView",
    "NetworkView",
    "TemplateView",
];
/// Schemas of an operation: an answer of them has its address.
const LOCATED: [&str; 2] = ["OperationView", "PlanOrOperation"];

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "cluster",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn openapi(head: Head) -> Answer {
    head.query(&[])?;
    let mut response = axum::response::Response::new(super::openapi_json().into());
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Adds what is so for every address: how problems look, the id, waiting, preconditions, repetition, staleness.
pub(super) fn complete(mut document: OpenApi, led: &OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("SCRAP")
        .version("v1")
        .description(Some(
            "The HTTP API of every node of a SCRAP cluster. Unknown fields and query parameters of requests are \
             refused; unknown fields of answers must be ignored.",
        ))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for (path, item) in &mut document.paths.paths {
        let is_led = led.paths.paths.contains_key(path);
        let methods = [
            (HttpMethod::Get, item.get.as_mut()),
            (HttpMethod::Post, item.post.as_mut()),
            (HttpMethod::Put, item.put.as_mut()),
            (HttpMethod::Patch, item.patch.as_mut()),
            (HttpMethod::Delete, item.delete.as_mut()),
        ];
        for (method, operation) in methods {
            if let Some(operation) = operation {
                describe(path, &method, is_led, operation);
            }
        }
    }
    document
}

fn describe(path: &str, method: &HttpMethod, led: bool, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    if *method == HttpMethod::Get && led {
        let text = "Answer from the asked node's own state, without asking the leader";
        parameters.push(query("stale", Type::Boolean, text));
    }
    if *method == HttpMethod::Post {
        let text = "Makes a repeated request one effect; remembered for 24 hours";
        parameters.push(header(HEADER_IDEMPOTENCY_KEY, text));
    }
    let changes_existing =
        matches!(method, HttpMethod::Put | HttpMethod::Patch | HttpMethod::Delete);
    let of_no_version = ["/v1/operations", "/v1/orphans"];
    if changes_existing && !of_no_version.iter().any(|prefix| path.starts_with(prefix)) {
        let text = "The ETag of the last read; 428 without it, 412 if it has changed";
        parameters.push(header("if-match", text));
        parameters.push(query("force", Type::Boolean, "Change it whatever it is now"));
    }
    if operation.responses.responses.contains_key("202") {
        let text = "Longest time to wait for the operation's end: `30s`";
        if !parameters.iter().any(|parameter| is_called(parameter, "wait")) {
            parameters.push(query("wait", Type::String, text));
        }
        parameters.push(header("prefer", "`wait=30`: the same in seconds (RFC 7240)"));
    }
    already_over(operation);
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        answer_headers(method, status, led, response);
    }
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
}

fn is_called(parameter: &RefOr<Parameter>, name: &str) -> bool {
    match parameter {
        RefOr::T(parameter) => parameter.name == name,
        RefOr::Ref(_) => false,
    }
}

/// What answers 202 answers 200 when the operation is over within `wait`, with the same body.
fn already_over(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let Some(RefOr::T(accepted)) = responses.get("202") else { return };
    let over = ResponseBuilder::from(accepted.clone())
        .description("The operation, which is over already (`wait`)")
        .build();
    responses.entry("200".to_owned()).or_insert(RefOr::T(over));
}

/// Whether the body is one of these schemas.
fn is_any(response: &Described, names: &[&str]) -> bool {
    response.content.values().any(|content| {
        let RefOr::T(content) = content else { return false };
        let Some(RefOr::Ref(found)) = &content.schema else { return false };
        names.iter().any(|name| *found == Ref::from_schema_name(*name))
    })
}

fn add_header(response: &mut Described, name: &str, of: Type, text: &str) {
    let mut header = Header::new(ObjectBuilder::new().schema_type(of).build());
    header.description = Some(text.to_owned());
    response.headers.insert(name.to_owned(), RefOr::T(header));
}

fn answer_headers(method: &HttpMethod, status: &str, led: bool, response: &mut Described) {
    let tagged = status == "200" && is_any(response, &TAGGED);
    // A question for an operation is at its address already.
    let located = *method != HttpMethod::Get && is_any(response, &LOCATED);
    let mut add = |name: &str, of: Type, text: &str| add_header(response, name, of, text);
    add("x-request-id", Type::String, "What to search the logs for");
    if led {
        add(HEADER_INDEX, Type::Integer, "Log index that the answer is of");
        add(
            HEADER_AGE,
            Type::Integer,
            "Of a stale answer: milliseconds since the node was up to date",
        );
        add(
            "x-scrap-served-by",
            Type::String,
            "The node that has answered in place of the asked one",
        );
    }
    if tagged {
        add("etag", Type::String, "Modify index in quotes; goes into If-Match");
    }
    if located {
        add("location", Type::String, "Address of the operation");
    }
    if status == "201" {
        add("location", Type::String, "Address of what was made");
    }
    if status == "202" {
        add("retry-after", Type::Integer, "Seconds until it is worth asking again");
    }
}

fn problem() -> Described {
    let content = ContentBuilder::new()
        .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"))))
        .build();
    let mut problem = ResponseBuilder::new()
        .description(
            "What is wrong (RFC 9457): `code` for programs, `detail` and `hint` for people",
        )
        .content(PROBLEM_JSON, content)
        .build();
    add_header(&mut problem, "x-request-id", Type::String, "What to search the logs for");
    let text = "Seconds until it is worth asking again, where that may help";
    add_header(&mut problem, "retry-after", Type::Integer, text);
    problem
}

fn query(name: &str, of: Type, text: &str) -> RefOr<Parameter> {
    parameter(name, ParameterIn::Query, of, text)
}

fn header(name: &str, text: &str) -> RefOr<Parameter> {
    parameter(name, ParameterIn::Header, Type::String, text)
}

fn parameter(name: &str, place: ParameterIn, of: Type, text: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(text))
        .schema(Some(ObjectBuilder::new().schema_type(of).build()))
        .build();
    RefOr::T(parameter)
}
