//! One request, described: what is asked, and whether it may be asked twice. No I/O.

use std::time::Duration;

use scrap_schema::api::HEADER_IDEMPOTENCY_KEY;
use serde::Serialize;

use super::REQUEST_LIMIT;
use super::upload::Source;

/// Time for a node to answer a request that does not wait for anything.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How much of stdin is sent at once.
const STDIN_BYTES: usize = 16 << 10;

/// Whether a request that may have been carried out may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or carries a key that makes all repetitions one effect, or is the same when done twice.
    Safe,
    /// It has an effect each time.
    Never,
}

/// A body and what it is.
#[derive(Debug, Clone)]
enum Body {
    Bytes {
        content_type: &'static str,
        bytes: Vec<u8>,
    },
    /// These bytes, and then our stdin.
    Stdin {
        first: Vec<u8>,
    },
    /// What this makes.
    Streamed(Source),
    Nothing,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: reqwest::Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// Whether it may be sent twice.
    pub(crate) repeat: Repeat,
    /// Time for one node to answer.
    pub(crate) answer_within: Duration,
    /// Time for all nodes together.
    pub(crate) patience: Duration,
}

impl Call {
    /// A request with this method for `/v1/` and these segments.
    pub(crate) fn new(method: reqwest::Method, segments: &[&str]) -> Self {
        let path = ["v1"].iter().chain(segments).map(|segment| (*segment).to_owned()).collect();
        Self {
            method,
            path,
            query: Vec::new(),
            headers: vec![("accept", "application/json".to_owned())],
            body: Body::Nothing,
            repeat: Repeat::Safe,
            answer_within: ANSWER_WITHIN,
            patience: REQUEST_LIMIT,
        }
    }

    /// A request outside `/v1`.
    pub(crate) fn at_root(method: reqwest::Method, segments: &[&str]) -> Self {
        let path = segments.iter().map(|segment| (*segment).to_owned()).collect();
        Self { path, ..Self::new(method, &[]) }
    }

    /// A read.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(reqwest::Method::GET, segments)
    }

    /// A write that is made or begun; it carries a key, so that it has one effect however often it is sent.
    pub(crate) fn post(segments: &[&str]) -> Self {
        let key = uuid::Uuid::now_v7().to_string();
        Self::new(reqwest::Method::POST, segments).header(HEADER_IDEMPOTENCY_KEY, key)
    }

    /// A replacement of an object in a known state.
    pub(crate) fn put(segments: &[&str], etag: &str) -> Self {
        Self::new(reqwest::Method::PUT, segments).header("if-match", etag)
    }

    /// A removal of an object in a known state.
    pub(crate) fn delete(segments: &[&str], etag: Option<&str>) -> Self {
        let call = Self::new(reqwest::Method::DELETE, segments);
        match etag {
            Some(etag) => call.header("if-match", etag),
            None => call,
        }
    }

    /// Whether it changes anything.
    pub(crate) fn is_write(&self) -> bool {
        self.method != reqwest::Method::GET
    }

    /// With a query parameter.
    pub(crate) fn query(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    /// With a query parameter, if there is a value.
    pub(crate) fn query_if(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// With a header; replaces one of the same name.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// With a JSON body.
    pub(crate) fn json(self, value: &impl Serialize) -> Self {
        // The bodies are our own types with text keys: their serialisation cannot fail.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.bytes("application/json", bytes)
    }

    /// With a body of some kind.
    pub(crate) fn bytes(mut self, content_type: &'static str, bytes: Vec<u8>) -> Self {
        self.body = Body::Bytes { content_type, bytes };
        self
    }

    /// With one line of JSON, and then our stdin as it is.
    pub(crate) fn stdin_after(mut self, value: &impl Serialize) -> Self {
        // As in `json`.
        let mut first = serde_json::to_vec(value).unwrap_or_default();
        first.push(b'\n');
        self.body = Body::Stdin { first };
        self
    }

    /// With a body that is made for each attempt and read as it is sent.
    pub(crate) fn streamed(mut self, source: Source) -> Self {
        self.body = Body::Streamed(source);
        self
    }

    /// With one line of JSON and nothing after it.
    pub(crate) fn json_line(self, value: &impl Serialize) -> Self {
        // As in `json`.
        let mut line = serde_json::to_vec(value).unwrap_or_default();
        line.push(b'\n');
        self.bytes("application/octet-stream", line)
    }

    /// Answered only after up to this time.
    pub(crate) fn waits(mut self, wait: Duration) -> Self {
        self.answer_within = ANSWER_WITHIN + wait;
        self
    }

    /// Answered by each node within this time, or else the next one is asked.
    pub(crate) fn answered_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Tried for so long.
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sent once at most. Nobody else can be asked instead, so a slow answer is waited for as long as there is patience:
    /// to give up early would only leave open what has happened.
    pub(crate) fn once(mut self) -> Self {
        self.repeat = Repeat::Never;
        self.answer_within = self.patience;
        self
    }

    /// The request for one server; `None` if its address is none.
    pub(super) fn build(
        &self,
        http: &reqwest::Client,
        server: &str,
    ) -> Option<reqwest::RequestBuilder> {
        let mut url = reqwest::Url::parse(server).ok()?;
        url.path_segments_mut().ok()?.clear().extend(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let mut request = http.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Some(match &self.body {
            Body::Nothing => request,
            Body::Bytes { content_type, bytes } => {
                request.header("content-type", *content_type).body(bytes.clone())
            }
            Body::Streamed(source) => {
                request.header("content-type", "application/octet-stream").body(source.body())
            }
            Body::Stdin { first } => request
                .header("content-type", "application/octet-stream")
                .body(stdin(first.clone())),
        })
    }
}

/// A body that goes on until stdin ends. Nothing is read from stdin before a node takes the first bytes, so that a
/// node that cannot be reached costs no input.
fn stdin(first: Vec<u8>) -> reqwest::Body {
    use tokio::io::AsyncReadExt as _;
    let stdin = tokio::io::stdin();
    let pieces = futures_util::stream::unfold((Some(first), stdin), |(first, mut stdin)| async {
        if let Some(first) = first {
            return Some((Ok(first), (None, stdin)));
        }
        let mut piece = vec![0; STDIN_BYTES];
        match stdin.read(&mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(piece), (None, stdin)))
            }
            Err(error) => Some((Err(error), (None, stdin))),
        }
    });
    reqwest::Body::wrap_stream(pieces)
}
