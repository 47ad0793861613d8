//! Names for the shell's completion: asks the cluster, briefly and for its own copy. Never fails: no answer, no names.

use std::time::Duration;

use clap_complete::CompletionCandidate;
use scrap_schema::api::{
    GrainView, NetworkView, NodeView, OperationView, PolicyView, TemplateView,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cli::GlobalArgs;
use crate::client::Client;
use crate::client::call::Call;
use crate::settings::{Environment, config, known, resolve};

/// A person waits for the key to do something.
const WITHIN: Duration = Duration::from_millis(700);

/// Names of grains.
pub(crate) fn grains() -> Vec<CompletionCandidate> {
    candidates(list::<GrainView>("grains").into_iter().map(|grain| grain.metadata.name.to_string()))
}

/// Names of nodes.
pub(crate) fn nodes() -> Vec<CompletionCandidate> {
    candidates(list::<NodeView>("nodes").into_iter().map(|node| node.metadata.name.to_string()))
}

/// Names of policies.
pub(crate) fn policies() -> Vec<CompletionCandidate> {
    candidates(list::<PolicyView>("policies").into_iter().map(|it| it.metadata.name.to_string()))
}

/// Names of networks.
pub(crate) fn networks() -> Vec<CompletionCandidate> {
    candidates(list::<NetworkView>("networks").into_iter().map(|it| it.metadata.name.to_string()))
}

/// Names of templates.
pub(crate) fn templates() -> Vec<CompletionCandidate> {
    candidates(list::<TemplateView>("templates").into_iter().map(|it| it.metadata.name.to_string()))
}

/// What a grain can begin from.
pub(crate) fn kinds() -> Vec<CompletionCandidate> {
    let process = candidates(["process".to_owned()].into_iter());
    [process, templates()].into_iter().flatten().collect()
}

/// Ids of operations, with what they are.
pub(crate) fn operations() -> Vec<CompletionCandidate> {
    let candidate = |operation: OperationView| {
        let help = format!("{} {} {}", operation.kind, operation.target, operation.state);
        CompletionCandidate::new(operation.id.to_string()).help(Some(help.into()))
    };
    list::<OperationView>("operations").into_iter().map(candidate).collect()
}

/// Names of everything that has a manifest.
pub(crate) fn objects() -> Vec<CompletionCandidate> {
    [grains(), nodes(), policies(), networks()].into_iter().flatten().collect()
}

/// What `wait` can wait for.
pub(crate) fn targets() -> Vec<CompletionCandidate> {
    let grains = list::<GrainView>("grains").into_iter();
    let grains = grains.map(|grain| format!("grain/{}", grain.metadata.name));
    let nodes = list::<NodeView>("nodes").into_iter();
    let nodes = nodes.map(|node| format!("node/{}", node.metadata.name));
    candidates(grains.chain(nodes).chain(["cluster".to_owned()]))
}

fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    names.map(CompletionCandidate::new).collect()
}

fn list<T: DeserializeOwned>(what: &str) -> Vec<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    runtime.block_on(async {
        let asked = tokio::time::timeout(WITHIN, ask(what)).await;
        asked.ok().flatten().unwrap_or_default()
    })
}

async fn ask<T: DeserializeOwned>(what: &str) -> Option<Vec<T>> {
    let environment = Environment::read();
    let config = config::load(environment.config.as_deref()).ok()?;
    let settings = resolve(&GlobalArgs::default(), environment, &config).ok()?;
    let remembered = known::load(settings.environment.known.as_deref(), &known::key(&settings));
    let servers = known::order(&settings.origin, &settings.servers, &remembered);
    let client = Client::new(servers, Some(Instant::now() + WITHIN), Box::new(|_| ())).ok()?;
    client.value(&Call::get(&[what]).query("stale", true)).await.ok()
}
