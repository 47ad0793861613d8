//! A client of the API that tries one node after another, as every good client does. Every POST carries a key, so that a
//! repeated one has one effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use reqwest::{Client, Method};
use scrap_schema::api::{
    ApplyView, ClusterView, GrainView, HEADER_IDEMPOTENCY_KEY, NodeView, OperationView, OrphanView,
    StateHash,
};
use scrap_schema::id::OperationId;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

/// Longest time for one answer of one node.
const ONE_ANSWER: Duration = Duration::from_secs(10);
/// Longest time for an answer of any node.
const ANY_ANSWER: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    body: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Call {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, headers: Vec::new() }
    }

    /// `GET`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `POST` of JSON, with a key of its own.
    #[must_use]
    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        let call = Self::new(Method::POST, path).header(HEADER_IDEMPOTENCY_KEY, &new_key());
        Self { body: Some(body.to_string()), ..call }.header("content-type", "application/json")
    }

    /// `POST /v1/apply` of manifests, with a key of its own.
    #[must_use]
    pub fn apply(manifests: &str) -> Self {
        let call = Self::new(Method::POST, "/v1/apply").header(HEADER_IDEMPOTENCY_KEY, &new_key());
        Self { body: Some(manifests.to_owned()), ..call }.header("content-type", "application/yaml")
    }

    /// The same with a body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string());
        self.header("content-type", "application/json")
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn repeatable(&self) -> bool {
        let keyed = self.headers.iter().any(|(name, _)| *name == HEADER_IDEMPOTENCY_KEY);
        self.method == Method::GET || keyed
    }
}

/// A key that no other request has.
#[must_use]
pub fn new_key() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("test-{}-{now}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An answer, whatever it says.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The body.
    pub body: String,
    call: String,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// If it was no success or the body is something else.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("{}: {} {}", self.call, self.status, self.body);
        }
        let what = || format!("{}: a strange answer: {}", self.call, self.body);
        serde_json::from_str(&self.body).with_context(what)
    }
}

/// The API of a cluster.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client,
    servers: Arc<Vec<String>>,
}

impl Api {
    /// Through these servers, given as `http://host:port`.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(servers: Vec<String>) -> anyhow::Result<Self> {
        Self::with_patience(servers, ONE_ANSWER)
    }

    /// The same with another longest time for one answer of one node.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn with_patience(servers: Vec<String>, one_answer: Duration) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().timeout(one_answer).build()?;
        Ok(Self { http, servers: Arc::new(servers) })
    }

    /// Asks one server, once.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn ask(&self, server: &str, call: &Call) -> anyhow::Result<Answer> {
        let mut request = self.http.request(call.method.clone(), format!("{server}{}", call.path));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let what = || format!("{} {server}{}", call.method, call.path);
        let response = request.send().await.with_context(what)?;
        let status = response.status().as_u16();
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok());
        let etag = etag.map(str::to_owned);
        let body = response.text().await.with_context(what)?;
        Ok(Answer { status, etag, body, call: what() })
    }

    /// Asks one server after another until one answers something else than "not now".
    ///
    /// # Errors
    /// If none does in time, or if it is not known whether a request that must not be repeated was obeyed.
    pub async fn call(&self, call: &Call) -> anyhow::Result<Answer> {
        let end = Instant::now() + ANY_ANSWER;
        loop {
            let mut last = None;
            for server in self.servers.iter() {
                match self.ask(server, call).await {
                    Ok(answer) if answer.status < 502 => return Ok(answer),
                    Ok(answer) => last = Some(anyhow::anyhow!("{answer:?}")),
                    Err(error) if call.repeatable() || is_refused(&error) => last = Some(error),
                    Err(error) => return Err(error.context("it may have been obeyed")),
                }
            }
            if Instant::now() > end {
                let last = last.unwrap_or_else(|| anyhow::anyhow!("there are no servers"));
                return Err(last.context(format!("no node answered within {ANY_ANSWER:?}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads something.
    ///
    /// # Errors
    /// If no node answers with it.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(&Call::get(path)).await?.json()
    }

    /// Asks for something, once for all repetitions.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<T> {
        self.call(&Call::post(path, body)).await?.json()
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<ApplyView> {
        self.call(&Call::apply(manifests)).await?.json()
    }

    /// The cluster in one view.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn cluster(&self) -> anyhow::Result<ClusterView> {
        self.get("/v1/cluster").await
    }

    /// A grain.
    ///
    /// # Errors
    /// If there is none.
    pub async fn grain(&self, name: &str) -> anyhow::Result<GrainView> {
        self.get(&format!("/v1/grains/{name}")).await
    }

    /// A node.
    ///
    /// # Errors
    /// If there is none.
    pub async fn node(&self, name: &str) -> anyhow::Result<NodeView> {
        self.get(&format!("/v1/nodes/{name}")).await
    }

    /// What was set aside.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn orphans(&self) -> anyhow::Result<Vec<OrphanView>> {
        self.get("/v1/orphans").await
    }

    /// The hash of one server's own state.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn hash(&self, server: &str) -> anyhow::Result<StateHash> {
        self.ask(server, &Call::get("/v1/cluster/hash")).await?.json()
    }

    /// An operation at its end.
    ///
    /// # Errors
    /// If it does not end within the limit.
    pub async fn ended(&self, id: OperationId, limit: Duration) -> anyhow::Result<OperationView> {
        let end = Instant::now() + limit;
        loop {
            let path = format!("/v1/operations/{id}?wait=2s");
            let operation: OperationView = self.get(&path).await?;
            if operation.state.is_final() {
                return Ok(operation);
            }
            if Instant::now() > end {
                bail!("not ended within {limit:?}: {operation:#?}");
            }
        }
    }
}

/// Whether a request cannot have reached anybody.
fn is_refused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
}
