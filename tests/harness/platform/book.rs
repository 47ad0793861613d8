//! A service with data for platform tests: a book whose pages are numbered, in a grain from a template. Its visitor is a
//! computer on the same network, which knows the grain's address and nothing else.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use serde::Deserialize;

/// The network that grains of tests have addresses of.
pub const NETWORK: &str = "\
apiVersion: scrap/v1
kind: Network
metadata: {name: lan}
spec:
  v4: 10.99.1.0/24
  v6: fd99::1:0/112
";

/// A policy that copies every second and acts at once.
#[must_use]
pub fn policy(copies: u32) -> String {
    format!(
        "apiVersion: scrap/v1\nkind: Policy\nmetadata: {{name: test}}\nspec:\n  \
         replicate: {{every: 1s, copies: {copies}, alertAfter: 1h}}\n  \
         failover: {{mode: auto, after: 0s, maxDataLoss: 1h}}\n"
    )
}

/// What keeps the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nginx of Debian.
    Nginx,
    /// The small web server of busybox; a page that was acknowledged is on disk.
    Busybox,
}

impl Kind {
    /// What its pages and its system need at most.
    fn disk(self) -> &'static str {
        match self {
            Self::Nginx => "2GiB",
            Self::Busybox => "128MiB",
        }
    }

    /// Name of the template.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::Nginx => "debian",
            Self::Busybox => "busybox",
        }
    }
}

/// A book and its visitor.
#[derive(Debug, Clone)]
pub struct Book {
    /// Name of the grain.
    pub name: String,
    /// Its address, wherever it lives.
    pub address: Ipv4Addr,
    kind: Kind,
    prefer: Option<String>,
    memory: &'static str,
    http: Client,
}

#[derive(Deserialize)]
struct File {
    name: String,
}

impl Book {
    /// A book with the address `10.99.1.<last>`.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(name: &str, kind: Kind, last: u8) -> anyhow::Result<Self> {
        // A visitor waits for half a second, and for every visit a new connection is made.
        let http = Client::builder().no_proxy().timeout(Duration::from_millis(500));
        let http = http.pool_max_idle_per_host(0).build()?;
        let address = Ipv4Addr::new(10, 99, 1, last);
        Ok(Self { name: name.to_owned(), address, kind, prefer: None, memory: "64MiB", http })
    }

    /// The same with a node it would rather live on.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.prefer = Some(node.to_owned());
        self
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        let place = match &self.prefer {
            Some(node) => format!("  place: {{prefer: {node}}}\n"),
            None => String::new(),
        };
        format!(
            "apiVersion: scrap/v1\nkind: Grain\nmetadata:\n  name: {name}\n  labels: {{app: book}}\nspec:\n  \
             template: {template}\n  \
             network: {{name: lan, address: {address}}}\n  \
             ingress: [{{port: 80}}]\n  \
             resources: {{cpu: 0.1, memory: {memory}, disk: {disk}}}\n  \
             health:\n    http: {{port: 80, path: /}}\n    every: 200ms\n    grace: 60s\n  \
             protect: test\n  stop: {{timeout: 10s}}\n{place}",
            name = self.name,
            template = self.kind.template(),
            address = self.address,
            memory = self.memory,
            disk = self.kind.disk(),
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Writes a page; success means that it was acknowledged.
    ///
    /// # Errors
    /// If it was not. It may be written all the same.
    pub async fn write(&self, page: u64) -> anyhow::Result<()> {
        let request = match self.kind {
            Kind::Nginx => self.http.put(self.url(&format!("/book/{page:08}"))),
            Kind::Busybox => self.http.post(self.url(&format!("/cgi-bin/book?{page:08}"))),
        };
        request.body(format!("page {page}\n")).send().await?.error_for_status()?;
        Ok(())
    }

    /// Puts a large file into it, of bytes that do not compress.
    ///
    /// # Errors
    /// If it is not kept.
    pub async fn fill(&self, bytes: usize) -> anyhow::Result<()> {
        const PIECE: usize = 16 << 20;
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut left = bytes;
        while left > 0 {
            let size = left.min(PIECE);
            let mut body = Vec::with_capacity(size + 8);
            while body.len() < size {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                body.extend(seed.to_le_bytes());
            }
            body.truncate(size);
            let name = format!("filler-{left}");
            let request = match self.kind {
                Kind::Nginx => self.http.put(self.url(&format!("/book/{name}"))),
                Kind::Busybox => self.http.post(self.url(&format!("/cgi-bin/book?{name}"))),
            };
            let request = request.timeout(Duration::from_secs(120)).body(body);
            request.send().await?.error_for_status().with_context(|| format!("{left} B left"))?;
            left -= size;
        }
        Ok(())
    }

    /// Its front page.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn front(&self) -> anyhow::Result<String> {
        let response = self.http.get(self.url("/")).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// The numbers of all pages.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn pages(&self) -> anyhow::Result<BTreeSet<u64>> {
        let path = match self.kind {
            Kind::Nginx => "/book/",
            Kind::Busybox => "/cgi-bin/book",
        };
        let request = self.http.get(self.url(path)).timeout(Duration::from_secs(60));
        let text = request.send().await?.error_for_status()?.text().await?;
        let names: Vec<String> = match self.kind {
            Kind::Nginx => {
                let files: Vec<File> = serde_json::from_str(&text)?;
                files.into_iter().map(|file| file.name).collect()
            }
            Kind::Busybox => text.lines().map(ToOwned::to_owned).collect(),
        };
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}
