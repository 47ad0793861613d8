//! `/v1/templates`: base systems that grains begin from. They come as archives, to the node that is asked.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scrap_decide::cluster::{Cluster, TemplateState};
use scrap_schema::api::TemplateView;
use scrap_schema::command::Command;
use scrap_schema::id::{Name, TemplateId};
use scrap_schema::problem::Code;

use super::error::{Answer, Failure};
use super::input::{Asked, Head, Named, Pairs};
use super::state::{Api, shown, tagged};
use super::view;
use crate::logging::chain;
use crate::templates::{Import, ImportError};

/// Every template, by name.
#[utoipa::path(get, path = "/v1/templates", tag = "templates",
    responses((status = 200, description = "Templates by name", body = [TemplateView])))]
pub(super) async fn list(State(api): State<Api>, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    Ok(api.look(|world| {
        let templates = world.cluster.templates.values();
        let mut views: Vec<TemplateView> =
            templates.map(|template| view::template(world, template)).collect();
        views.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        shown(world.cluster.index, views)
    }))
}

/// One template.
#[utoipa::path(get, path = "/v1/templates/{name}", tag = "templates",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The template; its ETag is its modify index", body = TemplateView)))]
pub(super) async fn get(State(api): State<Api>, Named(name): Named, head: Head) -> Answer {
    head.query(&["stale"])?.flag("stale")?;
    show(&api, &name)
}

fn show(api: &Api, name: &str) -> Answer {
    api.look(|world| {
        let template = find(world.cluster, name)?;
        Ok(tagged(world.cluster.index, template.modified, view::template(world, template)))
    })
}

fn find<'a>(cluster: &'a Cluster, text: &str) -> Answer<&'a TemplateState> {
    let by_id = text.parse::<TemplateId>().ok().and_then(|id| cluster.templates.get(&id));
    let by_name = || cluster.template_named(&text.parse().ok()?);
    let short: String = text.chars().take(80).collect();
    by_id.or_else(by_name).ok_or_else(|| Failure::not_found("template", short))
}

/// Removes a template that no grain began from, on every node.
#[utoipa::path(delete, path = "/v1/templates/{name}", tag = "templates",
    params(("name" = String, Path, description = "Name or id")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete(State(api): State<Api>, Named(name): Named, asked: Asked) -> Answer {
    let query = asked.query(&["force"])?;
    asked.nothing()?;
    let template = api.read(|cluster| find(cluster, &name).map(|template| template.id))?;
    let if_index = asked.if_match(&query)?.index();
    api.propose(&asked, Command::RemoveTemplate { template, if_index }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Imports a template on the node that is asked; other nodes get it when they need it.
#[utoipa::path(post, path = "/v1/templates", tag = "templates",
    params(
        ("name" = String, Query, description = "Name of the template"),
        ("description" = Option<String>, Query, description = "One line about it"),
        ("arch" = Option<String>, Query, description = "Processor architecture as `uname -m` says it; the node's own if nobody says"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A tar archive of the whole system, plain or packed with zstd or xz. It is read as it comes and may be of any size that there is room for"),
    responses((status = 201, description = "The template", body = TemplateView)))]
pub(super) async fn import(State(api): State<Api>, request: Request) -> Answer {
    let query = Pairs::of(request.uri(), &["name", "description", "arch"])?;
    let name = query.parsed::<Name>("name", Code::BadRequest)?;
    let name = name.ok_or_else(|| {
        let detail = "the query parameter `name` is missing";
        Failure::bad_value(Code::BadRequest, "/query/name", detail).hint("?name=debian-13")
    })?;
    // Known before a gigabyte has travelled.
    if api.read(|cluster| cluster.template_named(&name).is_some()) {
        let detail = format!("there is a template `{name}` already");
        return Err(Failure::new(Code::Conflict, detail)
            .hint(format!("choose another name, or remove it: `scrapctl template rm {name}`")));
    }
    let text = |key: &str| query.text(key).map(str::to_owned);
    let import = Import { name, description: text("description"), arch: text("arch") };
    let archive = request.into_body().into_data_stream();
    let template = crate::templates::import(&api.daemon, import, archive).await?;
    let mut response = show(&api, &template.to_string())?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(located(response, template))
}

fn located(mut response: Response, template: TemplateId) -> Response {
    let address = format!("/v1/templates/{template}");
    if let Ok(address) = axum::http::HeaderValue::from_str(&address) {
        response.headers_mut().insert(axum::http::header::LOCATION, address);
    }
    response
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let detail = chain(&error);
        match error {
            ImportError::Unsupported { .. } => Self::new(Code::Unsupported, detail)
                .hint("ask a node that runs systems: `scrapctl node ls`, then `--server`"),
            ImportError::Archive { .. } => Self::new(Code::BadRequest, detail)
                .hint("a tar archive of a whole system is wanted, plain or packed with zstd or xz"),
            ImportError::TooLarge { .. } => Self::new(Code::PayloadTooLarge, detail)
                .hint("make room, or leave out what no grain needs"),
            ImportError::Broke => Self::new(Code::BadRequest, detail),
            ImportError::Refused(refusal) => refusal.into(),
            ImportError::Failed { .. } => Self::internal(&detail),
        }
    }
}
