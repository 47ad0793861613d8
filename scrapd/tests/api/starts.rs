//! When the agent tries again what has failed.

use std::time::Duration;

use scrap_decide::obey::Lane;
use scrap_host::datasets::{Datasets, Shape};
use scrap_host::runtime::{InstanceState, Runtime, Start};
use scrap_schema::id::{Epoch, GrainId};
use scrap_schema::time::BootTime;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};
use scrapd::agent;

use super::lab::{LIMIT, Lab, Node};

async fn wait_for(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never {what}"));
}

/// Something of an older epoch that survives every kill: nothing can be started until it is gone.
async fn stubborn(node: &Node, grain: GrainId) {
    let order = Start {
        grain,
        epoch: Epoch(0),
        command: vec!["sleep".to_owned()],
        env: std::collections::BTreeMap::new(),
        data: std::env::temp_dir(),
        memory: Bytes(0),
        cpu: MilliCpu(0),
        deadline: None,
        grace: Span::from_secs(1),
    };
    node.runtime().start(order).await.unwrap();
    node.runtime().set_stubborn(grain, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_does_not_wait_for_the_pause_after_a_failure() {
    let lab = Lab::one().await;
    let grain = lab.grain("web").await;
    let node = &lab.nodes[0];
    let daemon = node.daemon.clone();
    daemon.host.datasets.create(grain, Epoch(1), Shape::default()).await.unwrap();
    stubborn(node, grain).await;
    agent::gather(&daemon.host, &daemon.agent, Timing::default()).await.unwrap();
    daemon.agent.with(|state| state.registered = Some(0));
    tokio::spawn(agent::run(daemon.clone(), daemon.shutdown.clone()));
    let lane = Lane::Run(grain);
    // It has failed, and would be tried again at the end of days.
    let postponed = async || {
        daemon.agent.with(|state| {
            let busy = state.facts.busy.contains(&lane);
            let failure = state.facts.failed.get_mut(&lane).filter(|_| !busy);
            failure.map(|failure| failure.retry_at = BootTime(u64::MAX)).is_some()
        })
    };
    wait_for("it has failed", postponed).await;
    node.runtime().set_stubborn(grain, false);
    let patch = ("content-type", "application/merge-patch+json");
    let changed = r#"{"spec":{"env":{"COLOUR":"blue"}}}"#;
    lab.ask("PATCH", "/v1/grains/web?force=true", &[patch], changed).await.ok(200);
    wait_for("the grain runs in its epoch", async || {
        let listing = node.runtime().list().await.unwrap();
        let mut instances = listing.instances.iter();
        instances.any(|it| it.epoch == Epoch(1) && it.state == InstanceState::Running)
    })
    .await;
}
