//! Becoming a member of a cluster that runs. Asking twice is safe: the same machine gets the same id until it has
//! started once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use scrap_schema::api::{JoinBody, Joined};
use scrap_schema::problem::{Code, Exit, Problem};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Refused, again, fresh_data_dir, new_node, refused};
use crate::config::Config;
use crate::identity::Identity;
use crate::raft::Consensus;

/// Limit for one question to one server.
const ASK: Duration = Duration::from_secs(10);
/// Pause between two rounds over all servers.
const PAUSE: Duration = Duration::from_millis(500);

/// How one server answered.
enum Answer {
    /// A member now.
    Joined(Joined),
    /// Not now; asking again may help.
    NotYet(String),
    /// Never like this.
    No(Box<Problem>),
    /// It listens, and it is no API of a node.
    Stranger(String),
}

/// Becomes a member of a cluster, through any of its nodes. Tries for as long as `limit`. `again`: this machine was a node before;
/// what it was is set aside, and its data stay.
///
/// # Errors
/// If the folder belongs to somebody, the cluster refuses, or nobody answers in time.
pub async fn join(
    config: &Config,
    servers: &[SocketAddr],
    limit: Duration,
    again: bool,
) -> anyhow::Result<()> {
    let data_dir = if again { again::used_data_dir(config)? } else { fresh_data_dir(config)? };
    let new = new_node(config)?;
    let body = JoinBody {
        name: new.name,
        role: new.role,
        labels: new.labels,
        addresses: new.addresses,
        facts: new.facts,
    };
    let joined = ask(servers, &body, limit).await?;
    if again {
        // Only now: as long as it is no new member, it is what it was.
        again::set_aside(&data_dir, joined.node)?;
    }
    let identity = Identity {
        cluster: joined.cluster,
        cluster_id: joined.cluster_id.parse().context("the server's answer makes no sense")?,
        node: joined.node,
        name: config.name.clone(),
        generation: joined.generation,
    };
    // The empty log is made now, so that a missing log is a sign of trouble from here on.
    let settings = config.raft_settings(identity.node, identity.cluster_id);
    let settings = settings.of_generation(identity.generation);
    Consensus::open(settings).await?.close().await;
    identity.write(&data_dir)?;
    tracing::info!(cluster = %identity.cluster, node = %identity.name, id = %identity.node, "member");
    Ok(())
}

async fn ask(servers: &[SocketAddr], body: &JoinBody, limit: Duration) -> anyhow::Result<Joined> {
    let client = Client::builder().no_proxy().timeout(ASK).build()?;
    let text = serde_json::to_string(body)?;
    let end = Instant::now() + limit;
    let mut last = "no server was named".to_owned();
    loop {
        let mut strangers = 0;
        for server in servers {
            // A server that hangs must not eat the time of the others beyond the limit.
            match timeout_at(end, ask_one(&client, *server, text.clone())).await {
                Ok(Answer::Joined(joined)) => return Ok(joined),
                Ok(Answer::No(problem)) => return Err(no(*server, &problem, body)),
                Ok(Answer::NotYet(why)) => {
                    let now = format!("{server}: {why}");
                    // Once for each new reason: it is asked twice a second.
                    if now != last {
                        tracing::info!(%server, why, "not yet a member, trying again");
                    }
                    last = now;
                }
                Ok(Answer::Stranger(why)) => {
                    strangers += 1;
                    last = format!("{server}: {why}");
                }
                Err(_) => last = format!("{server}: no answer"),
            }
        }
        if strangers > 0 && strangers == servers.len() {
            let what = format!("no API of a node of SCRAP listens there; {last}");
            let hint = "name the address of a node's API, the one that `scrapctl` uses; nodes listen for each other at another port";
            return Err(Refused { what, hint: hint.to_owned(), exit: Exit::Usage }.into());
        }
        if Instant::now() + PAUSE >= end {
            let what =
                format!("no server took this node in within {} s; last: {last}", limit.as_secs());
            let hint =
                "check with `curl http://ADDRESS:7272/readyz` that one runs and has a leader";
            return Err(Refused { what, hint: hint.to_owned(), exit: Exit::Unreachable }.into());
        }
        sleep(PAUSE).await;
    }
}

async fn ask_one(client: &Client, server: SocketAddr, text: String) -> Answer {
    let request = client
        .post(format!("http://{server}/v1/nodes"))
        .header(CONTENT_TYPE, "application/json")
        .body(text);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Answer::NotYet(described(&error)),
    };
    let status = response.status();
    let bytes = match response.bytes().await {
        Ok(bytes) => bytes,
        Err(error) => return Answer::NotYet(described(&error)),
    };
    if status.is_success() {
        return match serde_json::from_slice(&bytes) {
            Ok(joined) => Answer::Joined(joined),
            Err(error) => Answer::NotYet(format!("its answer is no answer to a join: {error}")),
        };
    }
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) if status.is_client_error() => Answer::No(Box::new(problem)),
        Ok(problem) => Answer::NotYet(problem.detail),
        Err(_) if status.is_client_error() => {
            Answer::Stranger(format!("it answered {status}, as nodes of SCRAP do not"))
        }
        Err(_) => Answer::NotYet(format!("it answered {status} and no reason")),
    }
}

/// Why there is no answer, in the words of the innermost cause: the others are ours.
fn described(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.is_connect() {
        true => format!("it cannot be reached: {cause}"),
        false => format!("it broke off: {cause}"),
    }
}

fn no(server: SocketAddr, problem: &Problem, body: &JoinBody) -> anyhow::Error {
    let what = format!("the cluster at {server} refuses node `{}`: {}", body.name, problem.detail);
    let taken = "names are never shared: choose another `name`, or remove the old node first with \
                 `scrapctl node rm`";
    let hint = match (&problem.hint, problem.code == Code::Conflict) {
        // What the API says of a name is for those who name things, not for machines that come again.
        (_, true) => taken.to_owned(),
        (Some(hint), false) => hint.clone(),
        (None, false) => "the server's log says more".to_owned(),
    };
    refused(what, hint)
}
