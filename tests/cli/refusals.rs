//! What is refused, with which exit status, and that nothing was changed by it.

use scrap_schema::problem::Exit;
use scrap_tests::cluster::grain::{idle_grain, policy};
use scrap_tests::cluster::{Cluster, SOON, Spec, wait_for};

use crate::redact::Level;
use crate::terminal::Terminal;

/// Manifests with their faults, by name; each must be refused as a whole.
fn malformed() -> anyhow::Result<Vec<(String, String)>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema/tests/malformed");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            all.push((name, std::fs::read_to_string(&path)?));
        }
    }
    all.sort();
    Ok(all)
}

#[tokio::test]
async fn malformed_manifests_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::start(Spec::new(3)).await?;
    let terminal = Terminal::new(&cluster, "refusals")?;
    let before = quiet(&cluster).await?;
    let manifests = malformed()?;
    assert!(manifests.len() >= 30, "{} manifests", manifests.len());
    let good = idle_grain("good", "standard");
    for (name, text) in &manifests {
        // With a good one in front, which must not be made either.
        let both = format!("{good}---\n{text}");
        let is_json = text.starts_with('{');
        // Nothing behind something is something.
        let both = if is_json || name == "empty-text" { text } else { &both };
        for words in [["apply", "-f", "-"], ["diff", "-f", "-"]] {
            let ran = terminal.run(&words, both)?;
            assert_eq!(ran.status, i32::from(Exit::Usage as u8), "{name}: {ran:#?}");
            assert!(ran.stdout.is_empty() && ran.stderr.starts_with("error: "), "{name}: {ran:#?}");
        }
        // Past scrapctl's own door: the API says the same.
        let ran = terminal.run(&["api", "POST", "/v1/apply", "--data", "-"], both)?;
        assert_ne!(ran.status, 0, "{name}: {ran:#?}");
    }
    assert_eq!(quiet(&cluster).await?, before, "something was changed");
    cluster.end().await
}

/// The hash of the state, once nothing moves it any more.
async fn quiet(cluster: &Cluster) -> anyhow::Result<(u64, String)> {
    let mut last = cluster.hashes_agree().await?;
    wait_for(SOON, "the state rests", async || {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let now = cluster.hashes_agree().await?;
        let rests = now == last;
        last = now;
        Ok(rests.then(|| (last.index, last.hash.clone())))
    })
    .await
}

#[tokio::test]
async fn every_refusal_has_its_exit_status() -> anyhow::Result<()> {
    let cluster = Cluster::start(Spec::new(3)).await?;
    let mut t = Terminal::new(&cluster, "refusals")?;
    cluster.api.apply(&format!("{}---\n{}", policy(1), idle_grain("idle", "test"))).await?;
    cluster.is_protected("idle", 1).await?;
    // How much the log holds by now depends on who reported first.
    quiet(&cluster).await?;
    let index = cluster.api.grain("idle").await?.metadata.modify_index;
    t.replace(&format!("at index {index},"), "at index [index],");
    let huge = idle_grain("huge", "test").replace("4MiB", "900GiB");
    let other = idle_grain("idle", "standard");
    let failing = idle_grain("failing", "test").replace("[sleep, infinity]", "[/no/such/program]");
    let cases: [(&str, i32, &[&str], &str); 25] = [
        ("no-command", 2, &[], ""),
        ("unknown-command", 2, &["migrat", "idle"], ""),
        ("unknown-option", 2, &["ls", "--colour"], ""),
        ("bad-name", 2, &["info", "Idle!"], ""),
        ("bad-span", 2, &["--timeout", "5", "ls"], ""),
        ("no-file", 1, &["apply", "-f", "/no/such/file.yaml"], ""),
        ("explain-unknown", 2, &["explain", "grain.spec.protct"], ""),
        ("bad-column", 2, &["ls", "--columns", "nmae"], ""),
        ("unknown-grain", 3, &["info", "idel"], ""),
        ("unknown-node", 3, &["node", "info", "dan"], ""),
        ("unknown-policy", 3, &["policy", "info", "test-2"], ""),
        ("unknown-operation", 3, &["op", "attach", "01m7xxqgk6eqss63e6a10qg2n3"], ""),
        ("unknown-orphan", 3, &["orphan", "info", "01m7xxqgk6eqss63e6a10qg2n3.1@ada"], ""),
        ("check-index", 5, &["apply", "-f", "-", "--check-index", "1"], &other),
        ("launch-twice", 5, &["launch", "process", "idle", "--", "sleep", "1"], ""),
        ("policy-in-use", 1, &["policy", "rm", "test"], ""),
        ("node-in-use", 1, &["node", "rm", "ada", "--yes"], ""),
        ("confirm-off-alive", 5, &["node", "confirm-off", "cy", "--yes-it-is-off", "cy"], ""),
        ("confirm-off-other", 2, &["node", "confirm-off", "cy", "--yes-it-is-off", "bob"], ""),
        ("confirm-off-unasked", 1, &["node", "confirm-off", "cy"], ""),
        ("fence-test-without", 5, &["node", "fence-test", "cy"], ""),
        ("unreachable", 6, &["--server", "127.0.0.1:1", "--timeout", "2s", "ls"], ""),
        ("no-place", 7, &["place", "-f", "-"], &huge),
        ("timeout", 124, &["--timeout", "1s", "wait", "grain/idle", "--for", "stopped"], ""),
        ("rm-unasked", 2, &["rm", "idle", "--purge"], ""),
    ];
    let mut wrong = Vec::new();
    for (name, status, words, input) in cases {
        let ran = t.compare(Level::Exact, name, words, input)?;
        if ran.status != status {
            wrong.push(format!("{name}: {} instead of {status}", ran.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A program that cannot be started: the operation does not succeed, and says why.
    let words = ["apply", "-f", "-", "--progress", "none", "--timeout", "20s"];
    let ran = t.run(&words, &failing)?;
    assert!([8, 124].contains(&ran.status), "{ran:#?}");
    cluster.end().await
}
