//! Talks to the cluster: any node will do, and the one that answers may die in the middle.
//! Never prints and never decides what a command means; which failures may be tried again is said in `retry`.

pub(crate) mod call;
pub(crate) mod events;
pub(crate) mod frames;
pub(crate) mod retry;
pub(crate) mod sse;
pub(crate) mod upload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scrap_schema::api::{HEADER_AGE, NodeView};
use scrap_schema::problem::Problem;
use scrap_schema::unit::Span;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::call::{Call, Repeat};
use crate::client::retry::{Pause, Verdict};
use crate::failure::{Attempt, Failure};

/// Time to make a connection. A machine that is off does not refuse; it is silent.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Time for one request with all its repetitions, if nobody says `--timeout`.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Time that a cluster without a majority is given to find one: voters that are gone come back in minutes, not in seconds.
const MAJORITY_WITHIN: Duration = Duration::from_secs(5);
/// Largest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Trouble that lasts longer than this is worth a remark.
const REMARK_AFTER: Duration = Duration::from_secs(2);

/// What wants to be told about trouble while it is still being tried again.
type Remark = Box<dyn Fn(&str) + Send + Sync>;

/// The cluster, as seen from here.
pub(crate) struct Client {
    http: reqwest::Client,
    /// Next one to try first.
    servers: Mutex<Vec<String>>,
    /// Where the nodes of the last list listen.
    learnt: Mutex<Option<Vec<String>>>,
    /// Whether any node has answered this process: then silence is an incident and worth patience.
    answered: AtomicBool,
    /// The end of `--timeout`.
    deadline: Option<Instant>,
    remark: Remark,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Who gave it.
    pub(crate) server: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// `ETag`.
    pub(crate) etag: Option<String>,
    /// Age of a stale answer in milliseconds.
    pub(crate) age_ms: Option<u64>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as a value.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::Strange {
            server: shown(&self.server),
            reason: error.to_string(),
        })
    }
}

/// An address without its scheme, for people.
pub(crate) fn shown(server: &str) -> String {
    server.strip_prefix("http://").unwrap_or(server).to_owned()
}

impl Client {
    /// A client for these servers, in this order, until this time.
    pub(crate) fn new(
        servers: Vec<String>,
        deadline: Option<Instant>,
        remark: Remark,
    ) -> Result<Self, Failure> {
        // No proxy: nodes are near, and a proxy of the environment would send the house's traffic through somebody else.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .user_agent(concat!("scrapctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::local(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self {
            http,
            servers: Mutex::new(servers),
            learnt: Mutex::new(None),
            answered: AtomicBool::new(false),
            deadline,
            remark,
        })
    }

    /// The end of `--timeout`, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The servers in the order in which they would be tried now.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node that answered last, if any did.
    pub(crate) fn last_good(&self) -> Option<String> {
        self.answered.load(Ordering::Relaxed).then(|| self.servers().into_iter().next()).flatten()
    }

    /// Says something about trouble that is not over.
    pub(crate) fn remark(&self, text: &str) {
        (self.remark)(text);
    }

    /// Remembers where nodes listen, for the time when the ones that were named are gone.
    pub(crate) fn learn(&self, nodes: &[NodeView]) {
        let addresses = nodes.iter().map(|node| node.status.addresses.api.as_str());
        let addresses: Vec<String> =
            addresses.filter_map(|address| crate::settings::address(address).ok()).collect();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        for address in &addresses {
            if !servers.contains(address) {
                servers.push(address.clone());
            }
        }
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
    }

    /// Where the nodes listen, if they were listed.
    pub(crate) fn learnt(&self) -> Option<Vec<String>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn prefer(&self, server: &str) {
        self.answered.store(true, Ordering::Relaxed);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = servers.iter().position(|known| known == server) {
            let server = servers.remove(at);
            servers.insert(0, server);
        }
    }

    fn demote(&self, server: &str) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = servers.iter().position(|known| known == server) {
            let server = servers.remove(at);
            servers.push(server);
        }
    }

    /// Sends a request and reads the whole answer; a refusal is a failure.
    pub(crate) async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        self.until(call, async |response| self.read(response, call).await).await
    }

    /// Sends a request and reads the answer as a value.
    pub(crate) async fn value<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        self.send(call).await?.json()
    }

    /// Sends a request whose answer is a stream; the stream is read by the caller.
    pub(crate) async fn open(&self, call: &Call) -> Result<reqwest::Response, Failure> {
        self.until(call, async |response| {
            if response.status().is_success() {
                return Ok(Verdict::Done(response));
            }
            Ok(match self.read(response, call).await? {
                Verdict::Refused(problem) => Verdict::Refused(problem),
                Verdict::Again { attempt, sent } => Verdict::Again { attempt, sent },
                Verdict::Done(reply) => Verdict::Again {
                    attempt: Attempt {
                        server: reply.server,
                        outcome: format!("answered with HTTP status {}", reply.status),
                        connected: true,
                        problem: None,
                    },
                    sent: true,
                },
            })
        })
        .await
    }

    /// Tries one node after the other, until one answers, refuses, or the time is over.
    async fn until<T>(
        &self,
        call: &Call,
        judge: impl AsyncFn(reqwest::Response) -> Result<Verdict<T>, Failure>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let end = self.end_of(call, began);
        let mut pause = Pause::default();
        let mut sent = false;
        let mut remarked = false;
        // What each node did last.
        let mut tried: Vec<Attempt> = Vec::new();
        loop {
            for server in self.servers() {
                let verdict = match self.once(&server, call, end).await {
                    Ok(response) => judge(response).await?,
                    Err(verdict) => verdict,
                };
                match verdict {
                    Verdict::Done(answer) => {
                        self.prefer(&server);
                        return Ok(answer);
                    }
                    Verdict::Refused(problem) => {
                        self.prefer(&server);
                        let server = shown(&server);
                        return Err(Failure::Problem { problem, server, repeated: sent });
                    }
                    Verdict::Again { attempt, sent: maybe_done } => {
                        self.demote(&server);
                        sent |= maybe_done && call.is_write();
                        retry::note(&mut tried, attempt, Instant::now() >= end);
                    }
                }
                if (sent && call.repeat == Repeat::Never) || Instant::now() >= end {
                    return Err(Failure::Unreachable { tried, sent });
                }
            }
            let answered = self.answered.load(Ordering::Relaxed);
            let lasting = retry::has_no_majority(&tried) && began.elapsed() > MAJORITY_WITHIN;
            if lasting || !retry::is_worth_waiting(&tried, answered || sent) {
                return Err(Failure::Unreachable { tried, sent });
            }
            if !remarked && began.elapsed() > REMARK_AFTER {
                remarked = true;
                self.remark(&retry::remark(&tried));
            }
            tokio::time::sleep_until((Instant::now() + pause.next()).min(end)).await;
            if Instant::now() >= end {
                return Err(Failure::Unreachable { tried, sent });
            }
        }
    }

    fn end_of(&self, call: &Call, began: Instant) -> Instant {
        let own = began + call.patience;
        self.deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// One attempt at one node, until the headers of the answer.
    async fn once<T>(
        &self,
        server: &str,
        call: &Call,
        end: Instant,
    ) -> Result<reqwest::Response, Verdict<T>> {
        let again = |outcome: String, sent: bool| Verdict::Again {
            attempt: Attempt { server: shown(server), outcome, connected: sent, problem: None },
            sent,
        };
        let Some(request) = call.build(&self.http, server) else {
            return Err(again("its address makes no request".to_owned(), false));
        };
        let within = call.answer_within.min(end.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(within, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(again(retry::describe(&error), !error.is_connect())),
            Err(_) => {
                let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                let within = Span::from_ms(within).rounded();
                Err(again(format!("gave no answer within {within}"), true))
            }
        }
    }

    /// Reads the rest of an answer and judges it.
    async fn read(
        &self,
        response: reqwest::Response,
        call: &Call,
    ) -> Result<Verdict<Reply>, Failure> {
        let server = origin(&response);
        let status = response.status();
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (etag, age_ms) = (header("etag"), header(HEADER_AGE).and_then(|age| age.parse().ok()));
        let body = tokio::time::timeout(call.answer_within, collect(response)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(Broken::TooLarge)) => {
                return Err(Failure::Strange {
                    server: shown(&server),
                    reason: format!("it is larger than {ANSWER_BYTES_MAX} bytes"),
                });
            }
            Ok(Err(Broken::Cut(outcome))) => return Ok(lost(&server, outcome)),
            Err(_) => return Ok(lost(&server, "stopped in the middle of its answer".to_owned())),
        };
        let reply = Reply { server, status: status.as_u16(), etag, age_ms, body };
        if status.is_success() {
            return Ok(Verdict::Done(reply));
        }
        match serde_json::from_slice::<Problem>(&reply.body) {
            Ok(problem) => Ok(retry::judge(problem, call.repeat, &shown(&reply.server))),
            Err(_) => Err(Failure::Strange {
                server: shown(&reply.server),
                reason: format!("HTTP status {status}, and the body is no problem of SCRAP"),
            }),
        }
    }
}

fn lost(server: &str, outcome: String) -> Verdict<Reply> {
    let attempt = Attempt { server: shown(server), outcome, connected: true, problem: None };
    Verdict::Again { attempt, sent: true }
}

fn origin(response: &reqwest::Response) -> String {
    response.url().origin().ascii_serialization()
}

enum Broken {
    TooLarge,
    Cut(String),
}

async fn collect(mut response: reqwest::Response) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| Broken::Cut(retry::describe(&error)))?
    {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Broken::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
