//! The demo's own small client of the API: asks the nodes one after the other until one answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Response};
use scrap_schema::api::{ClusterView, HEADER_IDEMPOTENCY_KEY};
use scrap_schema::problem::Problem;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::layout::Layout;

/// Limit for one question to one node.
const ASK: Duration = Duration::from_secs(5);
/// Pause before asking again while waiting for something.
const PAUSE: Duration = Duration::from_millis(100);

/// The nodes' APIs.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Client,
    servers: Vec<SocketAddr>,
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    method: Method,
    path: &'a str,
    /// Media type and text.
    body: Option<(&'static str, String)>,
    /// Makes it one effect, however many nodes are asked.
    key: Option<String>,
}

impl<'a> Question<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None, key: None }
    }

    pub(super) fn post(path: &'a str, media: &'static str, body: String) -> Self {
        let key = Some(Uuid::now_v7().to_string());
        Self { method: Method::POST, path, body: Some((media, body)), key }
    }
}

impl Api {
    /// The nodes of a demo.
    pub(super) fn of(layout: &Layout) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().connect_timeout(Duration::from_secs(1)).build()?;
        Ok(Self { http, servers: layout.nodes.iter().map(|node| node.api).collect() })
    }

    /// One node alone.
    pub(super) fn only(&self, server: SocketAddr) -> Self {
        Self { http: self.http.clone(), servers: vec![server] }
    }

    async fn send(&self, server: SocketAddr, question: &Question<'_>) -> reqwest::Result<Response> {
        let url = format!("http://{server}{}", question.path);
        let mut request = self.http.request(question.method.clone(), url).timeout(ASK);
        if let Some((media, text)) = &question.body {
            request = request.header(CONTENT_TYPE, *media).body(text.clone());
        }
        if let Some(key) = &question.key {
            request = request.header(HEADER_IDEMPOTENCY_KEY, key);
        }
        request.send().await
    }

    /// The answer of the first node that gives one. A refusal is an error with the node's own words.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        question: &Question<'_>,
    ) -> anyhow::Result<T> {
        let what = || format!("{} {}", question.method, question.path);
        let mut silent = Vec::new();
        for server in &self.servers {
            let response = match self.send(*server, question).await {
                Ok(response) => response,
                Err(error) => {
                    silent.push(format!("{server}: {error}"));
                    continue;
                }
            };
            let status = response.status();
            let text = response.text().await.with_context(what)?;
            if status.is_success() {
                return serde_json::from_str(&text).with_context(|| {
                    format!("{}: the answer makes no sense: {text:.200}", what())
                });
            }
            match serde_json::from_str::<Problem>(&text) {
                // This node cannot, another one may.
                Ok(problem) if status.is_server_error() => {
                    silent.push(format!("{server}: {}", problem.detail));
                }
                Ok(problem) => bail!("{}: {}", what(), problem.detail),
                Err(_) => silent.push(format!("{server}: {status}")),
            }
        }
        bail!("{}: no node answers: {}", what(), silent.join("; "))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(&Question::get(path)).await
    }

    /// Asks until `enough` is satisfied. When the time is over, the error says what was still missing.
    pub(super) async fn wait_for<T: DeserializeOwned, R>(
        &self,
        path: &str,
        limit: Duration,
        enough: impl Fn(T) -> Result<R, String>,
    ) -> anyhow::Result<R> {
        let end = Instant::now() + limit;
        loop {
            let missing = match self.get::<T>(path).await.map(&enough) {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(missing)) => missing,
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= end {
                bail!("not after {} s: {missing}", limit.as_secs());
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until all nodes of the demo vote and are online.
    pub(super) async fn wait_for_all(
        &self,
        layout: &Layout,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let all = layout.nodes.len();
        self.wait_for("/v1/cluster", limit, |view: ClusterView| {
            let voters = view.voters.len();
            let online = usize::try_from(view.nodes_online.unwrap_or(0)).unwrap_or(usize::MAX);
            if voters == all && online == all {
                return Ok(());
            }
            Err(format!("{online} of {all} nodes online, {voters} vote"))
        })
        .await
        .context("the demo's nodes do not come together")
    }
}
