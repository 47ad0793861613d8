//! Several checks of one grain: all must hold, the one that does not is named, and the grain is begun again until it is well.

use scrap_schema::api::GrainState;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, SOON, Spec};

use crate::{launched, prepared};

/// One check of its own and two more; each looks at something else in the grain.
const CHECKS: &str = "health:
    tcp: {port: 80}
    checks:
      - http: {port: 80, path: /index.html}
      - exec: {command: [test, -e, /etc/hosts]}
    every: 200ms
    grace: 2s
    timeout: 2s
";

async fn inside(lab: &Lab, text: &str) -> anyhow::Result<String> {
    lab.ctl(&["exec", "web", "--", "sh", "-ec", text]).await
}

/// Breaks one thing in the grain, and puts it right again: what is said meanwhile, and that it was begun again.
async fn fails_and_heals(lab: &Lab, hurt: &str, heal: &str, why: &str) -> anyhow::Result<()> {
    // What lies there is gone with the next start.
    inside(lab, &format!("touch /run/of-this-start; {hurt}")).await?;
    let told = format!("grain web is not well on node ada: {why}");
    lab.says(&["events", "--grain", "web"], &told).await?;
    lab.says(&["info", "web"], why).await?;
    let status = lab.says(&["status"], why).await?;
    assert!(status.contains("CRITICAL") && status.contains("0/1 grains running"), "{status}");
    wait_for(SOON, "it is begun again", async || {
        let there = inside(lab, "ls /run").await?;
        Ok((!there.contains("of-this-start")).then_some(()))
    })
    .await?;
    // It does not stay up for long before it is begun again.
    wait_for(SOON, "it is put right", async || inside(lab, heal).await.map(Some)).await?;
    lab.grain_is("web", "is well again", |grain| {
        let healthy = grain.status.conditions.iter().find(|it| it.r#type == "Healthy");
        let passes =
            healthy.is_some_and(|it| it.status == Some(true) && it.reason == "CheckPassed");
        grain.status.state == GrainState::Running && passes
    })
    .await?;
    let said = lab.says(&["events", "--grain", "web"], "is well again on node ada").await?;
    assert!(said.find(&told) < said.rfind("is well again on node ada"), "{said}");
    Ok(())
}

#[tokio::test]
async fn every_check_must_hold_and_the_one_that_does_not_is_named() -> anyhow::Result<()> {
    let spec = Spec::default().option("--nodes", "1").option("--size", "1G");
    let Some(lab) = prepared(spec, Kind::Busybox, 0).await? else { return Ok(()) };
    let web = Book::new("web", Kind::Busybox, 75)?.on("ada");
    launched(&lab, &web, 0).await?;
    let manifest = web.manifest();
    let (before, rest) = manifest.split_once("health:").unwrap_or_default();
    let (_, after) = rest.split_once("  protect:").unwrap_or_default();
    lab.apply(&format!("{before}{CHECKS}  protect:{after}")).await?;
    let kept = lab.ctl(&["get", "grain", "web", "-o", "yaml"]).await?;
    assert!(kept.contains("/index.html") && kept.contains("/etc/hosts"), "{kept}");
    lab.says(&["status"], "1/1 grains running").await?;

    // The other two hold all the time.
    fails_and_heals(
        &lab,
        "mv /etc/hosts /etc/hosts.away",
        "mv /etc/hosts.away /etc/hosts",
        "exec test: it ended with exit status: 1",
    )
    .await?;
    fails_and_heals(
        &lab,
        "mv /srv/www/index.html /srv/index.away",
        "mv /srv/index.away /srv/www/index.html",
        "http port 80 /index.html: status 404",
    )
    .await?;
    lab.end().await
}
