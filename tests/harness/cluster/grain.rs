//! Grains for tests: their manifests, and what their visitors see.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use serde::Deserialize;

use super::program;

/// A policy that copies every second and acts at once.
pub const POLICY: &str = "\
apiVersion: scrap/v1
kind: Policy
metadata:
  name: test
spec:
  replicate: {every: 1s, copies: COPIES, alertAfter: 1h}
  failover: {mode: auto, after: 0s, maxDataLoss: 1h}
";

/// The policy `test` with so many copies.
#[must_use]
pub fn policy(copies: u32) -> String {
    POLICY.replace("COPIES", &copies.to_string())
}

/// A guestbook: a service with data whose entries tell which node and epoch took them.
#[derive(Debug, Clone)]
pub struct Guestbook {
    /// Name of the grain.
    pub name: String,
    /// Its port, the same on every node: it runs on one of them at a time.
    pub port: u16,
    /// A node it would rather live on.
    pub prefer: Option<String>,
    /// Name of its policy.
    pub protect: String,
    http: Client,
}

/// An entry of a guestbook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// What the visitor wrote.
    pub text: String,
    /// The node that took it.
    pub node: String,
    /// The epoch in which it was taken.
    pub epoch: String,
}

#[derive(Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

impl Guestbook {
    /// A guestbook under the policy `test`.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(name: &str, port: u16) -> anyhow::Result<Self> {
        // A visitor waits for half a second, and for every visit a new connection is made.
        let http = Client::builder().no_proxy().timeout(Duration::from_millis(500));
        let http = http.pool_max_idle_per_host(0).build()?;
        let (name, protect) = (name.to_owned(), "test".to_owned());
        Ok(Self { name, port, prefer: None, protect, http })
    }

    /// The same with a node it would rather live on.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.prefer = Some(node.to_owned());
        self
    }

    /// Its manifest.
    ///
    /// # Errors
    /// If its program was not built.
    pub fn manifest(&self) -> anyhow::Result<String> {
        let place = match &self.prefer {
            Some(node) => format!("  place: {{prefer: {node}}}\n"),
            None => String::new(),
        };
        Ok(format!(
            "apiVersion: scrap/v1\nkind: Grain\nmetadata:\n  name: {name}\n  labels: {{app: book}}\nspec:\n  \
             command: [{program}]\n  env: {{PORT: \"{port}\"}}\n  \
             resources: {{cpu: 0.1, memory: 32MiB, disk: 16MiB}}\n  health:\n    \
             http: {{port: {port}, path: /healthz}}\n    every: 200ms\n    grace: 20s\n  \
             protect: {protect}\n  stop: {{timeout: 3s}}\n{place}",
            name = self.name,
            program = program("scrap-guestbook")?.display(),
            port = self.port,
            protect = self.protect,
        ))
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/entries", self.port)
    }

    /// Writes an entry; success means that it is on disk.
    ///
    /// # Errors
    /// If it was not acknowledged. It may be written all the same.
    pub async fn sign(&self, text: &str) -> anyhow::Result<Entry> {
        let response = self.http.post(self.url()).body(text.to_owned()).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    /// All entries, as a visitor reads them.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let request = self.http.get(self.url()).timeout(Duration::from_secs(10));
        let entries: Entries = request.send().await?.error_for_status()?.json().await?;
        Ok(entries.entries)
    }
}

/// Entries in a file of a guestbook. A torn last line counts as none.
///
/// # Errors
/// If the file cannot be read.
pub fn entries_in(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    whole.map(|line| Ok(serde_json::from_slice(line)?)).collect()
}

/// A grain that does nothing.
#[must_use]
pub fn idle_grain(name: &str, protect: &str) -> String {
    format!(
        "apiVersion: scrap/v1\nkind: Grain\nmetadata:\n  name: {name}\n  labels: {{app: idle}}\nspec:\n  \
         command: [sleep, infinity]\n  protect: {protect}\n  stop: {{timeout: 1s}}\n  \
         resources: {{cpu: 0.01, memory: 4MiB, disk: 1MiB}}\n"
    )
}
