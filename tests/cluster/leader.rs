//! The leader is killed in the middle of work.

use scrap_schema::api::{ApplyView, GrainState, GrainView, OperationView};
use scrap_schema::operation::OperationState;
use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::grain::{idle_grain, policy};
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

#[tokio::test]
async fn an_apply_whose_leader_dies_is_done_once() -> anyhow::Result<()> {
    const GRAINS: usize = 24;
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let names: Vec<String> = (0..GRAINS).map(|number| format!("idle-{number:02}")).collect();
    let grains: Vec<String> = names.iter().map(|name| idle_grain(name, "test")).collect();
    let call = Call::apply(&format!("{}---\n{}", policy(1), grains.join("---\n")));
    let leader = cluster.leader().await?;
    let server = cluster.node(&leader)?.server();

    // The answer of the first attempt may or may not come.
    let (api, first) = (cluster.api.clone(), call.clone());
    let attempt = tokio::spawn(async move { api.ask(&server, &first).await });
    let seen = wait_for(SOON, "the first grain is known", async || {
        let grains: Vec<GrainView> = cluster.api.get("/v1/grains?stale=true").await?;
        Ok((!grains.is_empty()).then_some(grains.len()))
    })
    .await?;
    cluster.node_mut(&leader)?.kill9_with_grains()?;
    let answered = attempt.await?.is_ok();
    eprintln!("the leader died with {seen} grains known; answered: {answered}");

    // The same request again, with the same key: one effect.
    let again: ApplyView = cluster.api.call(&call).await?.json()?;
    assert!(!again.items.is_empty());
    cluster.node_mut(&leader)?.start()?;
    cluster.all_online().await?;
    let all = wait_for(SOON, "every grain runs", async || {
        let grains: Vec<GrainView> = cluster.api.get("/v1/grains").await?;
        let up = grains.iter().filter(|grain| grain.status.state == GrainState::Running).count();
        Ok((up == GRAINS).then_some(grains))
    })
    .await?;
    let mut there: Vec<String> = all.iter().map(|grain| grain.metadata.name.to_string()).collect();
    there.sort();
    assert_eq!(there, names);
    let operations: Vec<OperationView> = cluster.api.get("/v1/operations?limit=1000").await?;
    let creates = operations.iter().filter(|operation| operation.kind == "create").count();
    assert_eq!(creates, GRAINS, "each grain was created once");
    cluster.end().await
}

#[tokio::test]
async fn a_move_whose_leader_dies_ends_and_a_repeated_request_is_the_same_move()
-> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(5)).await?;
    let leader = cluster.leader().await?;
    // Neither source nor target dies: only who leads.
    let others: Vec<String> =
        cluster.nodes.iter().map(|node| node.name.clone()).filter(|name| *name != leader).collect();
    let [from, to, ..] = others.as_slice() else { anyhow::bail!("too few nodes") };
    let book = cluster.guestbook(from, 2).await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(50, SOON).await?;

    let call = Call::post("/v1/grains/book/migrate", &json!({"to": to}));
    let asked: OperationView = cluster.api.call(&call).await?.json()?;
    cluster.node_mut(&leader)?.kill9_with_grains()?;
    let again: OperationView = cluster.api.call(&call).await?.json()?;
    assert_eq!(again.id, asked.id, "one effect");
    let ended = cluster.api.ended(asked.id, SOON).await?;
    eprintln!("{}: {}", ended.state, ended.summary.message);
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    let entries = book.entries().await?;
    assert!(seen.missing(&entries).is_empty(), "{:?}", seen.missing(&entries));
    let epochs = crate::migrate::epochs(&entries)?;
    let now = epochs.last().map(|(_, node)| node.clone());
    let wanted = match ended.state {
        OperationState::Succeeded => to,
        OperationState::Failed | OperationState::Cancelled => from,
        OperationState::Running => anyhow::bail!("not ended"),
    };
    assert_eq!(now.as_ref(), Some(wanted));
    let operations: Vec<OperationView> = cluster.api.get("/v1/operations").await?;
    let moves = operations.iter().filter(|operation| operation.kind == "migrate").count();
    assert_eq!(moves, 1);
    watch.end()?;
    cluster.node_mut(&leader)?.start()?;
    cluster.all_online().await?;
    cluster.end().await
}
