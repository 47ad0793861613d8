//! What is certain of the power of a node: a program that cuts it, one that cannot, and a person's word.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use scrap_schema::api::{DryRun, EventsView, FenceTest, GrainState, NodeState, NodeView};
use scrap_schema::fence::Power;
use scrap_schema::timing::Timing;
use scrap_schema::unit::Span;
use scrap_tests::cluster::api::Call;
use scrap_tests::cluster::writer::Writer;
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};
use serde_json::json;

/// Numbers by which a silent node would be fenced after nearly an hour: what happens earlier needed no countdown.
fn patient() -> Timing {
    let ms = Span::from_ms;
    Timing {
        renew: ms(200),
        suspect: ms(3000),
        stop: ms(900_000),
        lease: ms(1_800_000),
        kill: ms(2000),
        tick: ms(300_000),
        ticks: 10,
    }
}

/// A plug for tests: whoever asks it to cut waits until the test has done it.
struct Plug {
    folder: PathBuf,
}

impl Plug {
    /// Puts a hook where every node looks for it. It leaves a note, waits for the answer, and ends with that.
    fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let folder = cluster.root().join("hooks");
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let script = "#!/bin/sh\n\
             case \"$1\" in\n\
             status) exit 0 ;;\n\
             off) echo \"$2\" > \"$0.asked\"; while ! [ -e \"$0.answer\" ]; do sleep 0.05; done; exit \"$(cat \"$0.answer\")\" ;;\n\
             esac\n\
             exit 9\n";
        let hook = folder.join("cut-power");
        fs::write(&hook, script)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        Ok(Self { folder })
    }

    /// Waits until somebody is to be cut off, and says who.
    async fn asked(&self) -> anyhow::Result<String> {
        let path = self.folder.join("cut-power.asked");
        wait_for(SOON, "the plug is asked to cut", async || read(&path)).await
    }

    fn answer(&self, status: u8) -> anyhow::Result<()> {
        let new = self.folder.join("cut-power.new");
        fs::write(&new, status.to_string())?;
        Ok(fs::rename(new, self.folder.join("cut-power.answer"))?)
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    Ok(text.strip_suffix('\n').map(str::to_owned))
}

const WITH_PLUG: &str = "apiVersion: scrap/v1\nkind: Node\nmetadata: {name: bob, labels: {zone: bob}}\n\
    spec: {fence: {program: cut-power, protocol: hook, timeout: 60s}}\n";

async fn told(cluster: &Cluster, words: &str) -> anyhow::Result<bool> {
    let answer: EventsView = cluster.api.get("/v1/events?limit=1000").await?;
    Ok(answer.events.iter().any(|event| event.message.contains(words)))
}

async fn runs_elsewhere(cluster: &Cluster) -> anyhow::Result<()> {
    let elsewhere = cluster.grain_is("book", "runs elsewhere", |grain| {
        grain.status.state == GrainState::Running
            && grain.status.node.as_ref().is_some_and(|node| node.as_str() != "bob")
    });
    elsewhere.await.map(|_| ())
}

#[tokio::test]
async fn a_node_whose_power_is_cut_needs_no_countdown() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).timing(patient())).await?;
    let plug = Plug::new(&cluster)?;
    cluster.api.apply(WITH_PLUG).await?;
    let book = cluster.guestbook("bob", 2).await?;
    let test: FenceTest = cluster.api.post("/v1/nodes/bob/fence-test", &json!({})).await?;
    assert_eq!((test.node.as_str(), test.power), ("bob", Power::On));
    let watch = cluster.watch();
    let writer = Writer::start(&book);
    writer.more(50, SOON).await?;

    // Its daemon hangs; its grain goes on, and will for half an hour.
    cluster.node("bob")?.signal(Signal::STOP);
    assert_eq!(plug.asked().await?, "bob");
    assert!(!cluster.node("bob")?.grain_processes().is_empty());
    assert_eq!(cluster.api.grain("book").await?.status.epoch.0, 1, "nothing before it is off");
    cluster.node_mut("bob")?.kill9_with_grains()?;
    plug.answer(0)?;
    runs_elsewhere(&cluster).await?;
    writer.more(50, SOON).await?;
    assert!(told(&cluster, "node bob is confirmed off by cut-power, run on").await?);
    assert!(!told(&cluster, "its lease has surely ended").await?, "no countdown");
    writer.end().await?;

    cluster.node_mut("bob")?.start()?;
    cluster.node_is("bob", NodeState::Online).await?;
    assert_eq!(cluster.api.node("bob").await?.status.off, None);
    cluster.is_protected("book", 2).await?;
    watch.end()?;
    cluster.end().await
}

#[tokio::test]
async fn a_plug_that_cannot_cut_leaves_the_countdown() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3)).await?;
    let plug = Plug::new(&cluster)?;
    plug.answer(1)?;
    cluster.api.apply(WITH_PLUG).await?;
    cluster.guestbook("bob", 2).await?;
    let watch = cluster.watch();
    cluster.node_mut("bob")?.kill9_with_grains()?;
    runs_elsewhere(&cluster).await?;
    assert_eq!(plug.asked().await?, "bob");
    assert!(
        told(
            &cluster,
            "the power of node bob could not be cut: `cut-power off` ended with status 1"
        )
        .await?
    );
    assert!(told(&cluster, "node bob is fenced: its lease has surely ended").await?);
    assert!(!told(&cluster, "confirmed off").await?);
    watch.end()?;
    cluster.end().await
}

#[tokio::test]
async fn a_persons_word_needs_no_countdown_and_is_refused_while_the_node_lives()
-> anyhow::Result<()> {
    let mut cluster = Cluster::start(Spec::new(3).timing(patient())).await?;
    cluster.guestbook("bob", 2).await?;
    let path = "/v1/nodes/bob/confirm-off";
    let alive = cluster.api.call(&Call::post(path, &json!({"by": "kim"}))).await?;
    assert_eq!(alive.status, 409, "{}", alive.body);
    assert!(alive.body.contains("its lease is renewed"), "{}", alive.body);

    cluster.node_mut("bob")?.kill9_with_grains()?;
    cluster.node_is("bob", NodeState::Suspect).await?;
    // A leader that was just elected hears of all copies first.
    wait_for(SOON, "a dry run says where the grain would start", async || {
        let dry: DryRun = cluster.api.post(path, &json!({"by": "kim", "dryRun": true})).await?;
        let says = |step: &String| step.starts_with("start grain book on node ");
        Ok(dry.steps.iter().any(says).then_some(()))
    })
    .await?;
    assert_eq!(cluster.api.node("bob").await?.status.state, NodeState::Suspect);
    let node: NodeView = cluster.api.post(path, &json!({"by": "kim"})).await?;
    assert_eq!(node.status.state, NodeState::Fenced);
    runs_elsewhere(&cluster).await?;
    assert!(told(&cluster, "node bob is confirmed off by kim").await?);
    cluster.end().await
}
