//! Who takes part: a witness as the third voter, voters that are replaced, leadership that is handed over, nodes that come again.

use reqwest::Method;
use scrap_schema::api::{GrainState, NodeState, QuorumView};
use scrap_schema::node::NodeRole;
use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::grain::idle_grain;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};

use crate::lease::long_lease;

async fn quorum(cluster: &Cluster) -> anyhow::Result<QuorumView> {
    cluster.api.get("/v1/cluster/quorum").await
}

/// Two data nodes, and a third machine that only votes.
async fn with_witness() -> anyhow::Result<Cluster> {
    Cluster::start(Spec { witness: Some("cy"), ..Spec::new(3) }).await
}

#[tokio::test]
async fn with_a_witness_each_of_two_nodes_takes_over_from_the_other() -> anyhow::Result<()> {
    let mut cluster = with_witness().await?;
    let view = quorum(&cluster).await?;
    let witness = view.members.iter().find(|member| member.role == NodeRole::Witness);
    assert_eq!(witness.map(|member| member.name.as_str()), Some("cy"), "{view:#?}");
    assert_eq!((view.voters, view.answering, view.needed), (3, Some(3), 2), "{view:#?}");
    // Nothing is opened where nothing is kept.
    assert!(!cluster.node("cy")?.data().join("pool").exists(), "a witness has no datasets");

    let book = cluster.guestbook("ada", 1).await?;
    cluster
        .grain_is("book", "is under the lease", |grain| grain.status.state == GrainState::Running)
        .await?;
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    for (victim, heir) in [("ada", "bob"), ("bob", "ada")] {
        // What is said of the loss before it happens is what happens then.
        wait_for(SOON, "the loss is foretold", async || {
            let view = quorum(&cluster).await?;
            let member = view.members.iter().find(|member| member.name.as_str() == victim);
            let words = member.and_then(|member| member.if_lost.clone()).unwrap_or_default();
            let told = words == "control goes on; book starts elsewhere by itself";
            if told { Ok(Some(())) } else { anyhow::bail!("it says: {words}") }
        })
        .await?;
        cluster.node_mut(victim)?.kill9_with_grains()?;
        cluster
            .grain_is("book", &format!("runs on {heir}"), |grain| {
                grain.status.state == GrainState::Running
                    && grain.status.node.as_ref().is_some_and(|node| node.as_str() == heir)
            })
            .await?;
        writer.more(20, SOON).await?;
        cluster.node_mut(victim)?.start()?;
        cluster.all_online().await?;
        cluster.is_protected("book", 1).await?;
    }
    let grains = cluster.node("cy")?.grain_processes();
    assert!(grains.is_empty(), "a witness runs nothing: {grains:?}");
    writer.end().await?;
    assert!(watch.end()? > 0);
    cluster.end().await
}

#[tokio::test]
async fn without_its_witness_nothing_stops_and_without_two_only_what_needs_no_lease_goes_on()
-> anyhow::Result<()> {
    let mut cluster = with_witness().await?;
    let book = cluster.guestbook("ada", 1).await?;
    let manual = "apiVersion: scrap/v1\nkind: Policy\nmetadata:\n  name: by-hand\nspec:\n  \
                  replicate: {every: 1s, copies: 0, alertAfter: 1h}\n  failover: {mode: manual}\n";
    let idle = idle_grain("tool", "by-hand").replace("spec:\n", "spec:\n  place: {prefer: ada}\n");
    cluster.api.apply(&format!("{manual}---\n{idle}")).await?;
    cluster.grain_is("tool", "runs", |grain| grain.status.state == GrainState::Running).await?;
    let writer = Writer::start(&book);
    writer.more(20, SOON).await?;
    cluster.node_mut("cy")?.kill9()?;
    cluster.node_is("cy", NodeState::Fenced).await?;
    writer.more(50, SOON).await?;
    let seen = writer.end().await?;
    assert!(seen.outages.is_empty(), "a dead witness stops nothing: {:?}", seen.outages);
    let view = quorum(&cluster).await?;
    assert_eq!((view.answering, view.needed), (Some(2), 2), "{view:#?}");
    let next = "if one more voter is lost, nothing can be changed until it is back; 1 grain that needs the lease stops, the others go on";
    assert_eq!(view.next_loss, next);

    cluster.node_mut("bob")?.kill9_with_grains()?;
    let tool = |cluster: &Cluster| -> anyhow::Result<Vec<_>> {
        let all = cluster.node("ada")?.grain_processes().into_iter();
        Ok(all.filter(|it| it.program().as_deref() == Some("sleep")).collect())
    };
    let before = tool(&cluster)?;
    assert!(!before.is_empty());
    wait_for(SOON, "what needs the lease has stopped", async || {
        let all = cluster.node("ada")?.grain_processes();
        Ok((all.len() == before.len()).then_some(()))
    })
    .await?;
    assert_eq!(tool(&cluster)?, before, "what needs no lease goes on");

    // One of two comes back, and the book with it.
    cluster.node_mut("cy")?.start()?;
    cluster
        .grain_is("book", "runs again", |grain| grain.status.state == GrainState::Running)
        .await?;
    cluster.node_mut("bob")?.start()?;
    cluster.all_online().await?;
    cluster.end().await
}

/// The terms in which nodes have said that they lead, by node.
fn terms(cluster: &Cluster) -> anyhow::Result<Vec<(String, u64)>> {
    let mut terms = Vec::new();
    for node in &cluster.nodes {
        for line in node.logged().lines().filter(|line| line.contains(": leading ")) {
            let term = line.split("term=").nth(1).and_then(|rest| rest.split_whitespace().next());
            terms.push((node.name.clone(), term.unwrap_or_default().parse()?));
        }
    }
    terms.sort_by_key(|(_, term)| *term);
    Ok(terms)
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_names_the_next_one() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let first = cluster.leader().await?;
    let before = terms(&cluster)?;
    let began = std::time::Instant::now();
    cluster.node_mut(&first)?.stop().await?;
    let mut gap = None;
    let next = wait_for(SOON, "another one leads", async || {
        let leader = cluster.api.cluster().await?.leader.map(|leader| leader.to_string());
        gap.get_or_insert_with(|| began.elapsed());
        Ok(leader.filter(|leader| *leader != first))
    })
    .await?;
    eprintln!("from the signal until the cluster answered without {first}: {gap:?}");
    let said = cluster.node(&first)?.logged();
    let line = said.lines().find(|line| line.contains("leadership is handed over"));
    let line = line.unwrap_or_else(|| panic!("{first} has handed nothing over:\n{said}"));
    let number = cluster.nodes.iter().position(|node| node.name == next).unwrap_or_default() + 1;
    assert!(line.contains(&format!("named={number} ")), "{next} should be who was named: {line}");
    let after = terms(&cluster)?;
    let (last, now) = (before.last().map_or(0, |it| it.1), after.last().map_or(0, |it| it.1));
    assert_eq!(now, last + 1, "one election: {before:?}, {after:?}");
    cluster.node_mut(&first)?.start()?;
    cluster.all_online().await?;

    // A leader that is being emptied does the same, and goes on as a voter.
    let drained: scrap_schema::api::OperationView =
        cluster.api.post(&format!("/v1/nodes/{next}/drain"), &serde_json::json!({})).await?;
    cluster.api.ended(drained.id, SOON).await?;
    wait_for(SOON, "the drained node leads no more", async || {
        let leader = cluster.api.cluster().await?.leader.map(|leader| leader.to_string());
        Ok(leader.filter(|leader| *leader != next))
    })
    .await?;
    let view = quorum(&cluster).await?;
    assert_eq!((view.voters, view.answering), (3, Some(3)), "{view:#?}");
    cluster.end().await
}

#[tokio::test]
async fn a_dead_voter_that_is_removed_is_replaced_and_a_wiped_node_comes_again_as_another()
-> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(4)).await?;
    let view = quorum(&cluster).await?;
    let part = |view: &QuorumView, name: &str| {
        let member = view.members.iter().find(|member| member.name.as_str() == name);
        member.map(|member| member.raft.clone()).unwrap_or_default()
    };
    assert_eq!(part(&view, "dan"), "learner", "{view:#?}");
    let leader = cluster.leader().await?;
    let victim = if leader == "cy" { "bob" } else { "cy" };
    let old = cluster.api.node(victim).await?.metadata.id;
    cluster.node_mut(victim)?.kill9_with_grains()?;
    cluster.node_is(victim, NodeState::Fenced).await?;
    // Wiped: its identity is there, its log is not.
    let data = cluster.node(victim)?.data();
    let empty = |name: &str| std::fs::write(data.join(name), "");
    empty("raft.db")?;
    for rest in ["raft.db-wal", "raft.db-shm"] {
        let _ = std::fs::remove_file(data.join(rest));
    }
    let (started, said) = cluster.node(victim)?.once(&["run"]).await?;
    assert!(
        !started && said.contains("without its log") && said.contains("scrapctl node rm"),
        "{said}"
    );
    // Under its name nobody joins as long as it is a member.
    let server = cluster.node(&leader)?.server();
    let again = ["join", "--again", "--server", server.as_str(), "--timeout", "30s"];
    let (joined, said) = cluster.node(victim)?.once(&again).await?;
    assert!(!joined && said.contains("scrapctl node rm"), "{said}");
    assert!(data.join("node.json").exists(), "nothing was set aside for a join that was refused");

    let removed = cluster
        .api
        .call(&Call::new(Method::DELETE, format!("/v1/nodes/{victim}?force=true")))
        .await?;
    assert!(removed.status < 300, "{removed:?}");
    let view = wait_for(SOON, "the learner votes instead", async || {
        let view = quorum(&cluster).await?;
        Ok((part(&view, "dan") != "learner" && view.voters == 3 && !view.changing).then_some(view))
    })
    .await?;
    assert!(part(&view, victim).is_empty(), "{view:#?}");

    cluster.node(victim)?.prepare(&again).await?;
    cluster.node_mut(victim)?.start()?;
    cluster.all_online().await?;
    let new = cluster.api.node(victim).await?.metadata.id;
    assert!(new.is_some() && new != old, "an id is never used again: {old:?}, {new:?}");
    cluster.end().await
}

#[tokio::test]
async fn off_and_on_again_in_any_order() -> anyhow::Result<()> {
    // Long enough for everybody to come back before somebody counts as dead.
    let mut cluster = Cluster::start(Spec::new(3).timing(long_lease())).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    let mut signed = 0;
    for order in [["ada", "bob", "cy"], ["cy", "bob", "ada"], ["bob", "cy", "ada"]] {
        wait_for(SOON, "the book takes an entry", async || Ok(Some(book.sign("x").await?))).await?;
        signed += 1;
        for name in ["ada", "bob", "cy"] {
            cluster.node_mut(name)?.kill9_with_grains()?;
        }
        for name in order {
            let ups = |text: String| text.matches(": running ").count();
            let before = ups(cluster.node(name)?.logged());
            cluster.node_mut(name)?.start()?;
            // The next one comes when this one is up.
            wait_for(SOON, "its daemon is up", async || {
                Ok((ups(cluster.node(name)?.logged()) > before).then_some(()))
            })
            .await?;
        }
        cluster.all_online().await?;
        cluster.is_protected("book", 2).await?;
    }
    let entries =
        wait_for(SOON, "the book answers", async || Ok(Some(book.entries().await?))).await?;
    assert_eq!(entries.len(), signed, "nothing is lost when its owner comes back: {entries:#?}");
    assert!(watch.end()? > 0);
    cluster.end().await
}
