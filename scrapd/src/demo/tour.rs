//! A tour of a running demo: a real web site under load is moved, its node loses power, the site comes back, and what
//! was promised is compared with what a visitor saw. Uses the API and the guestbook's own address, no inside knowledge.

mod ledger;
mod report;
mod visitor;

use std::time::Duration;

use anyhow::{Context as _, bail};
use scrap_host::clock;
use scrap_schema::api::{
    ApplyView, ClusterView, DryRun, FailoverView, GrainState, GrainView, MigrateBody, NodeState,
    NodeView, OperationView, OrphanView,
};
use scrap_schema::id::Name;
use scrap_schema::operation::OperationState;
use scrap_schema::unit::Span;
use uuid::Uuid;

use super::api::{Api, Question};
use super::layout::Layout;
use super::supervise::cut_power;
use super::{ports, verbs};
use crate::front::say;
use crate::setup::refused;
use ledger::understated;
use report::{Failover, Migration, Report};
use visitor::Visitor;

const POLICY: &str = include_str!("../../../docs/examples/policy-demo.yaml");
const GUESTBOOK: &str = include_str!("../../../docs/examples/guestbook.yaml");
const SITE: [(&str, &str); 2] = [
    ("index.html", include_str!("../../../docs/examples/guestbook/index.html")),
    ("style.css", include_str!("../../../docs/examples/guestbook/style.css")),
];
/// The guestbook's port in its manifest.
const PORT: &str = "7300";
/// Path of the grain in the API.
const GRAIN: &str = "/v1/grains/guestbook";
/// Limit for a grain's becoming ready.
const READY: Duration = Duration::from_secs(90);
/// Limit for a move.
const MOVE: Duration = Duration::from_secs(180);
/// Limit for a failover: the lease's countdown and a start.
const FAILOVER: Duration = Duration::from_secs(120);
/// Age of copies that is young enough to go on, in milliseconds.
const YOUNG_MS: u64 = 10_000;

/// Goes through the whole tour.
pub(super) async fn tour(layout: &Layout) -> anyhow::Result<()> {
    let api = Api::of(layout)?;
    let up: anyhow::Result<ClusterView> = api.get("/v1/cluster").await;
    if let Err(error) = up {
        let what = format!("there is no demo to tour in `{}`: {error:#}", layout.dir.display());
        return Err(refused(what, "start one with `scrapd demo up`"));
    }
    api.wait_for_all(layout, READY).await?;
    let url = format!("http://127.0.0.1:{}", layout.guestbook_port());

    say("1. A grain: a small web site with a guestbook.");
    apply(&api, layout).await?;
    let grain = protected(&api).await.context("the guestbook does not come up")?;
    upload(&url).await?;
    let run: String = Uuid::now_v7().simple().to_string().chars().skip(20).collect();
    let visitor = Visitor::start(url.clone(), run)?;
    visitor.answers(50, READY).await?;
    say(format!(
        "   {url} answers from node {}; a visitor signs it 50 times a second.",
        node(&grain)?
    ));

    say("2. It moves to another node while it is being signed.");
    let migration = migrate(&api, &visitor).await?;
    say(format!(
        "   {} -> {}, without answer for {} ms",
        migration.from, migration.to, migration.outside_ms
    ));

    protected(&api).await.context("the guestbook is not protected after its move")?;
    visitor.answers(100, READY).await?;
    let (failover, orphan) = power_cut(&api, layout, &visitor).await?;
    let grain =
        protected(&api).await.context("the guestbook is not protected after its failover")?;

    let ledger = visitor.ledger();
    let lost_in_all = ledger.lost(&visitor.listing().await?).entries;
    drop(visitor);
    let report = Report {
        signed: ledger.acknowledged.len(),
        lost_in_all,
        double_run: ledger.double_run(),
        now_on: node(&grain)?,
        copies: grain.status.copies.iter().map(|copy| copy.node.clone()).collect(),
        migration,
        failover,
        orphan,
        url,
    };
    say(report.text());
    let broken = report.broken();
    super::supervise::introduce(layout);
    match broken.len() {
        0 => Ok(()),
        _ => bail!("the cluster broke its word:\n  {}", broken.join("\n  ")),
    }
}

fn node(grain: &GrainView) -> anyhow::Result<Name> {
    grain.status.node.clone().context("the grain has no node")
}

/// Policy and grain, with the port of this demo.
async fn apply(api: &Api, layout: &Layout) -> anyhow::Result<()> {
    let port = layout.guestbook_port();
    if api.get::<GrainView>(GRAIN).await.is_err() {
        ports::check_one(port)?;
    }
    let manifests = format!("{POLICY}---\n{}", GUESTBOOK.replace(PORT, &port.to_string()));
    let question = Question::post("/v1/apply", "application/yaml", manifests);
    let applied: ApplyView = api.ask(&question).await?;
    for item in &applied.items {
        let (kind, action) =
            (item.kind.to_lowercase(), format!("{:?}", item.action).to_lowercase());
        say(format!("   {kind} {}: {action}", item.name));
    }
    Ok(())
}

/// Waits until the grain runs and all its copies are young.
async fn protected(api: &Api) -> anyhow::Result<GrainView> {
    api.wait_for(GRAIN, READY, |grain: GrainView| {
        let status = &grain.status;
        let young = |lag: Option<u64>| lag.is_some_and(|lag| lag <= YOUNG_MS);
        if status.state != GrainState::Running {
            return Err(format!("it is {:?}", status.state));
        }
        if status.copies.len() < 2 || !status.copies.iter().all(|copy| young(copy.lag_ms)) {
            return Err(format!(
                "{} copies, the oldest of {:?} ms",
                status.copies.len(),
                status.lag_ms
            ));
        }
        Ok(grain)
    })
    .await
}

async fn upload(url: &str) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    for (name, text) in SITE {
        let put = http.put(format!("{url}/{name}")).body(text).send().await;
        put.and_then(reqwest::Response::error_for_status)
            .with_context(|| format!("`{name}` cannot be uploaded"))?;
    }
    Ok(())
}

async fn migrate(api: &Api, visitor: &Visitor) -> anyhow::Result<Migration> {
    let path = format!("{GRAIN}/migrate");
    let body = |dry_run| serde_json::to_string(&MigrateBody { to: None, dry_run });
    let dry = Question::post(&path, "application/json", body(true)?);
    let plan: DryRun = api.ask(&dry).await?;
    plan.steps.iter().for_each(|step| say(format!("   plan: {step}")));
    if let Some(ms) = plan.expected_downtime_ms {
        say(format!("   plan: expected downtime about {}", Span::from_ms(ms).rounded()));
    }
    let from = node(&api.get(GRAIN).await?)?;
    let began = clock::boot_time();
    let begin = Question::post(&path, "application/json", body(false)?);
    let operation: OperationView = api.ask(&begin).await?;
    let done = finish(api, &operation).await?;
    let ended = visitor.answers(10, READY).await?;
    let ledger = visitor.ledger();
    let lost = ledger.lost(&visitor.listing().await?);
    Ok(Migration {
        from,
        to: node(&api.get(GRAIN).await?)?,
        expected_ms: plan.expected_downtime_ms,
        inside_ms: done.summary.downtime_ms,
        outside_ms: ledger.longest_gap(began, ended),
        lost: lost.entries,
    })
}

/// Waits for the end of an operation; a failed one is an error.
async fn finish(api: &Api, operation: &OperationView) -> anyhow::Result<OperationView> {
    let path = format!("/v1/operations/{}", operation.id);
    let done = api
        .wait_for(&path, MOVE, |view: OperationView| {
            if view.state.is_final() { Ok(view) } else { Err(format!("phase {:?}", view.phase)) }
        })
        .await?;
    if done.state != OperationState::Succeeded {
        bail!("the operation {} {}: {}", done.kind, done.state, done.summary.message);
    }
    Ok(done)
}

/// The owner loses power; the grain comes back elsewhere; the owner comes back; what it had newer is found.
async fn power_cut(
    api: &Api,
    layout: &Layout,
    visitor: &Visitor,
) -> anyhow::Result<(Failover, Option<OrphanView>)> {
    let before: GrainView = api.get(GRAIN).await?;
    let (owner, epoch) = (node(&before)?, before.status.epoch);
    say(format!(
        "3. Node {owner} loses power: its daemon and the site end in the middle of a write."
    ));
    let cut = clock::boot_time();
    cut_power(layout.node(&owner)?, false).await?;
    let promised = visitor.ledger();
    let back = visitor
        .wait_for("nobody took the guestbook over", FAILOVER, |ledger| ledger.epoch() > epoch.0)
        .await?;
    let grain: GrainView = api.get(GRAIN).await?;
    let lost = promised.lost(&visitor.listing().await?);
    let reported = failover_of(&grain)?;
    let to = node(&grain)?;
    let outside_ms = visitor.ledger().longest_gap(cut, back);
    say(format!("   {owner} -> {to}, without answer for {:.1} s", seconds(outside_ms)));

    say(format!("4. Node {owner} gets its power back."));
    verbs::restart(layout, &owner).await?;
    let path = format!("/v1/nodes/{owner}");
    api.wait_for(&path, READY, |view: NodeView| match view.status.state {
        NodeState::Online => Ok(()),
        other @ (NodeState::Suspect | NodeState::Fenced | NodeState::Away) => {
            Err(format!("node {} is {other:?}", view.metadata.name))
        }
    })
    .await?;
    let orphan = api
        .wait_for("/v1/orphans", READY, |orphans: Vec<OrphanView>| {
            let its = |orphan: &OrphanView| orphan.node == owner && orphan.epoch == epoch;
            orphans.into_iter().find(its).ok_or_else(|| "no orphan is listed".to_owned())
        })
        .await
        .ok();
    let understated = understated(&lost, reported.loss.as_ref());
    Ok((Failover { from: owner, to, outside_ms, lost, reported, understated }, orphan))
}

fn failover_of(grain: &GrainView) -> anyhow::Result<FailoverView> {
    grain.status.last_failover.clone().context("the grain moved, but no failover is told of")
}

/// For people.
fn seconds(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}
