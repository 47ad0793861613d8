//! The OpenAPI document: what the handlers say of themselves, and what is so for all of them.

use scrap_schema::api::{HEADER_AGE, HEADER_IDEMPOTENCY_KEY, HEADER_INDEX};
use scrap_schema::problem::Problem;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{
    Components, ContentBuilder, Header, InfoBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required,
    Response as Described, ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::{Answer, PROBLEM_JSON};
use super::input::Head;

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
    if changes_existing && !path.starts_with("/v1/operations") {
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
    let tagged = *method == HttpMethod::Get && operation_shows_one(path);
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        answer_headers(status, led, tagged, response);
    }
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
}

fn is_called(parameter: &RefOr<Parameter>, name: &str) -> bool {
    match parameter {
        RefOr::T(parameter) => parameter.name == name,
        RefOr::Ref(_) => false,
    }
}

fn operation_shows_one(path: &str) -> bool {
    matches!(path, "/v1/grains/{name}" | "/v1/nodes/{name}" | "/v1/policies/{name}")
}

fn answer_headers(status: &str, led: bool, tagged: bool, response: &mut Described) {
    let mut add = |name: &str, of: Type, text: &str| {
        let mut header = Header::new(ObjectBuilder::new().schema_type(of).build());
        header.description = Some(text.to_owned());
        response.headers.insert(name.to_owned(), RefOr::T(header));
    };
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
    if tagged && status == "200" {
        add("etag", Type::String, "Modify index in quotes; goes into If-Match");
    }
    if status == "202" {
        add("location", Type::String, "Address of the operation");
        add("retry-after", Type::Integer, "Seconds until it is worth asking again");
    }
}

fn problem() -> Described {
    let content = ContentBuilder::new()
        .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"))))
        .build();
    ResponseBuilder::new()
        .description(
            "What is wrong (RFC 9457): `code` for programs, `detail` and `hint` for people",
        )
        .content(PROBLEM_JSON, content)
        .build()
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
