//! The door for requests: body, query and headers, read once and strictly. What is not understood is refused.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use scrap_schema::api::HEADER_IDEMPOTENCY_KEY;
use scrap_schema::command::IdempotencyKey;
use scrap_schema::manifest::{Manifest, parse};
use scrap_schema::problem::{Code, FieldError};
use scrap_schema::strict::strict_json;
use scrap_schema::unit::Span;
use serde::de::DeserializeOwned;

use super::array;
use super::error::{Answer, Failure, WHOLE_BODY};

/// Largest body of a request.
pub(super) const BODY_MAX: usize = 1 << 20;
/// Longest time until a whole body is here.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Longest key of a repeated request.
const KEY_MAX: usize = 255;
/// Longest wait for an operation.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(600);

/// A request whose body is here.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl<S: Sync> FromRequest<S> for Asked {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_MAX as u64) {
            return Err(too_large());
        }
        let body = read(body).await?;
        Ok(Self { method: parts.method, uri: parts.uri, headers: parts.headers, body })
    }
}

async fn read(body: Body) -> Answer<Bytes> {
    let whole = Limited::new(body, BODY_MAX).collect();
    match tokio::time::timeout(BODY_TIME, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(Failure::new(Code::BadRequest, "the body broke off")),
        Err(_) => {
            let detail = format!("the body was not here after {} s", BODY_TIME.as_secs());
            Err(Failure::slow_request(detail))
        }
    }
}

fn too_large() -> Failure {
    Failure::new(Code::PayloadTooLarge, format!("the body is larger than {BODY_MAX} bytes"))
        .hint("split the manifests into several files")
}

/// A part of the path.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let bad = |_| Failure::new(Code::BadRequest, "the path is not UTF-8");
        path.map(|Path(name)| Self(name)).map_err(bad)
    }
}

/// A request whose body nobody reads, or reads as a stream.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl<S: Sync> FromRequestParts<S> for Head {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        Ok(Self { uri: parts.uri.clone(), headers: parts.headers.clone() })
    }
}

impl Head {
    /// The query, which may hold only these keys.
    pub(super) fn query(&self, allowed: &[&str]) -> Answer<Pairs> {
        Pairs::of(&self.uri, allowed)
    }
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The query of an address, which may hold only these keys, each once.
    pub(super) fn of(uri: &Uri, allowed: &[&str]) -> Answer<Self> {
        let bad = |_| Failure::new(Code::BadRequest, "the query is not of the form key=value");
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(bad)?;
        for (place, (key, _)) in pairs.iter().enumerate() {
            if !allowed.contains(&key.as_str()) {
                return Err(Failure::unknown_key(at(key), key, allowed));
            }
            if pairs.iter().take(place).any(|(before, _)| before == key) {
                let detail = format!("the query parameter `{key}` is there twice");
                return Err(Failure::bad_value(Code::BadRequest, at(key), &detail));
            }
        }
        Ok(Self(pairs))
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Yes or no; the bare key means yes.
    pub(super) fn flag(&self, key: &str) -> Answer<bool> {
        match self.text(key) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => {
                let detail = format!("`{other}` is neither `true` nor `false`");
                Err(Failure::bad_value(Code::BadRequest, at(key), &detail)
                    .hint(format!("write `{key}=true`, or leave it out")))
            }
        }
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Answer<Option<u64>> {
        let number = |text: &str| {
            let detail = format!("`{text}` is not a whole number");
            text.parse().map_err(|_| {
                let hint = format!("write digits only, such as `{key}=100`");
                Failure::bad_value(Code::BadRequest, at(key), &detail).hint(hint)
            })
        };
        self.text(key).map(number).transpose()
    }

    /// Anything that reads itself from text.
    pub(super) fn parsed<T>(&self, key: &str, code: Code) -> Answer<Option<T>>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let bad = |error: T::Err| Failure::bad_value(code, at(key), &error.to_string());
        self.text(key).map(|text| text.parse().map_err(bad)).transpose()
    }

    /// A word of our own lists, as JSON carries it.
    pub(super) fn word<T: DeserializeOwned>(
        &self,
        key: &str,
        allowed: &[&str],
    ) -> Answer<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let value = serde_json::Value::String(text.to_owned());
        serde_json::from_value(value).map(Some).map_err(|_| {
            let allowed = scrap_schema::strict::list(allowed.iter().copied());
            let detail = format!("`{text}` is not one of {allowed}");
            let hint = format!("write one of them, or leave `{key}` out for all");
            Failure::bad_value(Code::BadRequest, at(key), &detail).hint(hint)
        })
    }
}

/// Where a query parameter stands, in the manner of a JSON pointer.
fn at(key: &str) -> String {
    format!("/query/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// What an `If-Match` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Only this index.
    Index(u64),
    /// Any.
    Any,
}

impl Match {
    /// The index that the state must still have.
    pub(super) fn index(self) -> Option<u64> {
        match self {
            Self::Index(index) => Some(index),
            Self::Any => None,
        }
    }
}

impl Asked {
    /// The query, which may hold only these keys.
    pub(super) fn query(&self, allowed: &[&str]) -> Answer<Pairs> {
        Pairs::of(&self.uri, allowed)
    }

    fn content_type(&self) -> Answer<Option<&str>> {
        let Some(value) = self.headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let bad = |_| Failure::new(Code::BadRequest, "the header Content-Type is not text");
        let text = value.to_str().map_err(bad)?;
        Ok(text.split(';').next().map(str::trim).filter(|text| !text.is_empty()))
    }

    fn must_be(&self, types: &[&str]) -> Answer<()> {
        let is = self.content_type()?;
        if is.is_some_and(|is| types.iter().any(|known| known.eq_ignore_ascii_case(is))) {
            return Ok(());
        }
        let wanted = scrap_schema::strict::list(types.iter().copied());
        let detail = match is {
            Some(is) => format!("a body of type `{is}` is not understood here"),
            None => "the header Content-Type is missing".to_owned(),
        };
        Err(Failure::new(Code::UnsupportedMediaType, detail).hint(format!("send {wanted}")))
    }

    /// A JSON body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Answer<T> {
        if !self.body.is_empty() {
            self.must_be(&["application/json"])?;
        }
        Ok(strict_json(&self.body)?)
    }

    /// A JSON body that may be left out.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Answer<T> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// Nothing.
    pub(super) fn nothing(&self) -> Answer<()> {
        let empty = self.body.is_empty() || self.body.trim_ascii() == b"{}";
        if empty {
            return Ok(());
        }
        Err(Failure::new(Code::BadRequest, "this address takes no body"))
    }

    /// The body as a merge patch.
    pub(super) fn patch(&self) -> Answer<serde_json::Value> {
        self.must_be(&["application/merge-patch+json", "application/json"])?;
        let patch: serde_json::Value = strict_json(&self.body)?;
        if patch.is_object() {
            return Ok(patch);
        }
        Err(Failure::new(Code::BadRequest, "a merge patch of an object is an object"))
    }

    /// Manifests, YAML or JSON; an array of them if `many`.
    pub(super) fn manifests(&self, many: bool) -> Answer<Vec<Manifest>> {
        let yaml = ["application/yaml", "application/x-yaml", "text/yaml"];
        let is = self.content_type()?;
        if is.is_some_and(|is| yaml.iter().any(|known| known.eq_ignore_ascii_case(is))) {
            return Ok(parse("-", self.text()?)?);
        }
        self.must_be(&["application/json", "application/yaml"])?;
        let text = self.text()?;
        if many && text.trim_start().starts_with('[') {
            return array::manifests(text);
        }
        // YAML is no JSON even if our YAML reader would take it.
        let _: serde::de::IgnoredAny =
            serde_json::from_slice(&self.body).map_err(|error| bad_json(&error))?;
        Ok(parse("-", text)?)
    }

    /// Exactly one manifest.
    pub(super) fn manifest(&self) -> Answer<Manifest> {
        let mut manifests = self.manifests(false)?;
        match (manifests.pop(), manifests.len()) {
            (Some(only), 0) => Ok(only),
            (_, more) => {
                let detail = format!("there are {} manifests where one is wanted", more + 1);
                Err(Failure::new(Code::BadManifest, detail).hint("send them to /v1/apply"))
            }
        }
    }

    fn text(&self) -> Answer<&str> {
        let bad = |_| Failure::new(Code::BadManifest, "the body is not UTF-8");
        std::str::from_utf8(&self.body).map_err(bad)
    }

    /// What `If-Match` or `force` allow; a change of an existing object needs one of them.
    pub(super) fn if_match(&self, query: &Pairs) -> Answer<Match> {
        let forced = query.flag("force")?;
        let Some(value) = self.headers.get(header::IF_MATCH) else {
            if forced {
                return Ok(Match::Any);
            }
            let detail = "a change of an existing object needs the header If-Match";
            return Err(Failure::new(Code::PreconditionRequired, detail)
                .hint("send the ETag of your last read as If-Match, or use ?force=true"));
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Match::Any);
        }
        let index = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match index.and_then(|index| index.parse().ok()) {
            Some(_) if forced => Ok(Match::Any),
            Some(index) => Ok(Match::Index(index)),
            None => {
                let detail = "the header If-Match is not an ETag of this API";
                Err(Failure::bad_value(Code::BadRequest, "/headers/if-match", detail)
                    .hint("it looks like \"42\", with the quotes; * means whatever is there"))
            }
        }
    }

    /// The key of a request that may be repeated, with the fingerprint of everything that makes it this request.
    pub(super) fn key(&self) -> Answer<Option<IdempotencyKey>> {
        // Only a POST needs one: the others may be repeated as they are, and a removal may take two entries of the log.
        if self.method != Method::POST {
            return Ok(None);
        }
        let Some(value) = self.headers.get(HEADER_IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = value.to_str().ok().filter(|key| {
            (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let Some(key) = key else {
            let detail = format!(
                "an idempotency key has 1 to {KEY_MAX} visible ASCII characters, no spaces"
            );
            let pointer = "/headers/idempotency-key";
            return Err(Failure::bad_value(Code::BadRequest, pointer, &detail)
                .hint("a new UUID for every request is a good key"));
        };
        let mut hasher = blake3::Hasher::new();
        let query = self.uri.query().unwrap_or_default();
        for part in [self.method.as_str(), self.uri.path(), query] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&self.body);
        let fingerprint = hasher.finalize().to_hex().to_string();
        Ok(Some(IdempotencyKey { key: key.to_owned(), fingerprint }))
    }

    /// How long the caller wants to wait: `?wait=30s` or `Prefer: wait=30`.
    pub(super) fn wait(&self, query: &Pairs) -> Answer<Option<Duration>> {
        wait(&self.headers, query)
    }
}

/// How long the caller wants to wait.
pub(super) fn wait(headers: &HeaderMap, query: &Pairs) -> Answer<Option<Duration>> {
    if let Some(span) = query.parsed::<Span>("wait", Code::BadQuantity)? {
        let wait = Duration::from_millis(span.ms());
        if wait > WAIT_MAX {
            let detail = format!("the longest wait is {}s", WAIT_MAX.as_secs());
            return Err(Failure::bad_value(Code::BadQuantity, at("wait"), &detail));
        }
        return Ok(Some(wait));
    }
    // A preference that cannot be met is not an error (RFC 7240).
    let prefer = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut words = prefer.flat_map(|value| value.split(','));
    let seconds = words.find_map(|word| word.trim().strip_prefix("wait=")?.parse::<u64>().ok());
    Ok(seconds.map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX)))
}

/// A text that is no JSON.
pub(super) fn bad_json(error: &serde_json::Error) -> Failure {
    let place = |number: usize| u32::try_from(number).ok();
    let mut fault = FieldError::new("", error.to_string());
    (fault.line, fault.column) = (place(error.line()), place(error.column()));
    Failure::new(Code::BadJson, error.to_string()).hint(WHOLE_BODY).errors(vec![fault])
}
