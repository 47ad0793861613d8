//! Names and values that want to be something else: each ends as a clear error or as harmless text, and none as a deed.

use std::path::Path;

use scrap_schema::api::GrainState;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, NAMES, SOON, Said, Spec};

use crate::{launched, prepared};

/// What a shell would touch if one of the texts reached it.
const OWNED: &str = "/run/owned";
/// A text that would change the title of a terminal and ring its bell.
const TERMINAL: &str = "\u{1b}]0;owned\u{7}";

/// What somebody may type or send.
fn nasty() -> Vec<String> {
    let mut all: Vec<String> = [
        "a;touch /run/owned",
        "$(touch /run/owned)",
        "`touch /run/owned`",
        "a\nb",
        "../../../run/owned",
    ]
    .map(ToOwned::to_owned)
    .into();
    all.extend(
        ["-rf", "--help", "a|touch /run/owned", "a\0b", "\u{1f980}", "a b", "@", "a@b", "a/b", ""]
            .map(ToOwned::to_owned),
    );
    all.push(TERMINAL.to_owned());
    all.push("x".repeat(300));
    all
}

/// A text as a quoted scalar that YAML and JSON both read.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn object(kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: scrap/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n")
}

/// Manifests with the text in every field that takes one.
fn manifests(text: &str) -> Vec<String> {
    let value = quoted(text);
    let grain = |metadata: &str, spec: &str| {
        // What is refused is refused whether it should run or not; what is taken is looked at below.
        object("Grain", metadata, &format!("template: busybox, running: false{spec}"))
    };
    let spec = |spec: String| grain("name: a", &format!(", {spec}"));
    let lan = |more: String| spec(format!("network: {{name: lan}}, {more}"));
    let path = quoted(&format!("/{text}"));
    vec![
        grain(&format!("name: {value}"), ""),
        grain(&format!("name: a, labels: {{x: {value}}}"), ""),
        grain(&format!("name: a, labels: {{{value}: x}}"), ""),
        object("Grain", "name: a", &format!("template: {value}, running: false")),
        spec(format!("network: {{name: {value}}}")),
        spec(format!("network: {{name: lan, address: {value}}}")),
        spec(format!("protect: {value}")),
        spec(format!("env: {{X: {value}}}")),
        spec(format!("env: {{{value}: x}}")),
        spec(format!("command: [{value}]")),
        spec(format!("command: [/bin/sleep, {value}]")),
        lan(format!("egress: [{{to: {value}}}]")),
        lan(format!("egress: [{{to: internet, ports: {value}}}]")),
        lan(format!("ingress: [{{port: 80, from: {value}}}]")),
        lan(format!("ingress: [{{port: {value}}}]")),
        lan(format!("ingress: [{{port: 80, protocol: {value}}}]")),
        spec(format!("health: {{exec: {{command: [{value}]}}}}")),
        spec(format!("health: {{checks: [{{exec: {{command: [/bin/true, {value}]}}}}]}}")),
        lan(format!("health: {{http: {{port: 80, path: {value}}}}}")),
        lan(format!("health: {{http: {{port: 80, path: {path}}}}}")),
        spec(format!("place: {{prefer: {value}}}")),
        spec(format!("place: {{require: {{zone: {value}}}}}")),
        spec(format!("{value}: 1")),
        object("Policy", &format!("name: {value}"), ""),
        object("Policy", "name: b", &format!("replicate: {{spread: {value}}}")),
        object("Policy", "name: b", &format!("failover: {{mode: {value}}}")),
        object("Network", &format!("name: {value}"), "v4: 10.98.1.0/24"),
        object("Network", "name: c", &format!("v4: {value}")),
        object("Network", "name: c", &format!("v6: {value}")),
        object("Node", &format!("name: {value}"), ""),
        object("Node", &format!("name: ada, labels: {{x: {value}}}"), ""),
        object(&value, "name: a", ""),
    ]
}

/// Command lines with the text in every place that takes one, and how each may end.
fn lines(text: &str, archive: &str) -> Vec<(Vec<String>, &'static [i32])> {
    let refused: &[i32] = &[1, 2, 3];
    // It may be a sound name of a file in the grain, a word for a program, or a value.
    let harmless: &[i32] = &[0, 1, 2, 3];
    // As shells do: the program ran, or scrapctl could not run it (125, 126), or there is none (127).
    let program: &[i32] = &[0, 2, 125, 126, 127];
    let inside = format!("web:/tmp/{text}");
    let (set, key) = (format!("X={text}"), format!("--env={text}=x"));
    let (user, snapshot) = (format!("--user={text}"), format!("--snapshot={text}"));
    let to = format!("--to={text}");
    let all: [(&[&str], &'static [i32]); 28] = [
        (&["info", "--", text], refused),
        (&["rm", "--yes", "--", text], refused),
        (&["logs", "--", text], refused),
        (&["template", "rm", "--", text], refused),
        (&["template", "import", "--", text, archive], refused),
        (&["template", "import", "--", "t", text], refused),
        (&["policy", "rm", "--", text], refused),
        (&["network", "rm", "--", text], refused),
        (&["node", "info", "--", text], refused),
        (&["op", "attach", "--", text], refused),
        (&["orphan", "info", "--", text], refused),
        (&["launch", "busybox", "--", text], refused),
        (&["snapshot", "--", text, "s"], refused),
        (&["snapshot", "web", "--", text], refused),
        (&["restore", "web", "--", text], refused),
        (&["clone", "web", "--", text], refused),
        (&["clone", "web", "d", &snapshot], refused),
        (&["migrate", "web", &to], refused),
        (&["push", "--", text, "web:/tmp/x"], refused),
        (&["push", "--", "/etc/hostname", text], refused),
        (&["push", "--", "/etc/hostname", &inside], harmless),
        (&["pull", "--", text, "-"], refused),
        (&["pull", "--", &inside, "-"], harmless),
        (&["exec", "web", "--", text], program),
        (&["exec", "web", "--", "true", text], program),
        (&["exec", "web", "--env", &set, "--", "true"], program),
        (&["exec", "web", &key, "--", "true"], program),
        (&["exec", "web", &user, "--", "true"], program),
    ];
    all.into_iter()
        .map(|(line, ends)| (line.iter().map(|word| (*word).to_owned()).collect(), ends))
        .collect()
}

/// Nothing in it moves a terminal, turns the direction of a line round, or speaks of our inside.
fn is_plain(what: &str, text: &str) {
    let turns = |letter| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let moves = |letter: char| (letter.is_control() && letter != '\n') || turns(letter);
    assert!(!text.chars().any(moves), "{what}: it reaches the terminal raw: {text:?}");
    for word in ["panic", "internal error", "thread '", "src/"] {
        assert!(!text.contains(word), "{what}: {text}");
    }
}

/// Done, or refused with one of these statuses, a first line that says what, and more that says what to do.
fn is_clear(what: &str, said: &Said, ends: &[i32]) {
    let all = said.all();
    is_plain(what, &all);
    let status = said.status.code().unwrap_or(-1);
    assert!(ends.contains(&status), "{what}: {status}: {all}");
    if status != 0 {
        assert!(said.stderr.starts_with("error: "), "{what}: {all}");
        let rest = said.stderr.trim_start_matches("error: ");
        // A hint, the help of the command line, or the reason behind the text that is refused.
        let helps = ["hint: ", "try '--help'", ": ", " is not there", " is empty"];
        assert!(helps.iter().any(|word| rest.contains(word)), "{what}: no hint: {all}");
    }
}

/// Nothing was run on any node, at the computer of the person, or in the grain, and no dataset has a strange name.
async fn nothing_was_made(lab: &Lab) -> anyhow::Result<()> {
    assert!(!Path::new(OWNED).exists(), "something was run by scrapctl");
    for node in NAMES {
        let owned = lab.sh(node, &format!("ls {OWNED} 2>/dev/null || echo none")).await?;
        assert_eq!(owned, "none\n", "something was run on {node}");
        let names = lab.sh(node, "zfs list -H -o name").await?;
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "-_./\n".contains(letter));
        assert!(!names.contains(odd) && !names.contains("owned"), "{names}");
    }
    lab.sh("client", &format!("test ! -e {OWNED}")).await?;
    let inside = format!("ls {OWNED} 2>/dev/null || echo none");
    // It may be starting again, because the check that it was given has failed.
    let said = wait_for(SOON, "what runs in the grain is heard", async || {
        lab.ctl(&["exec", "web", "--", "sh", "-c", &inside]).await.map(Some)
    });
    assert_eq!(said.await?, "none\n");
    Ok(())
}

/// What was taken is shown everywhere as plain text: a check that is such a program, and a line about a template.
async fn what_is_kept_is_shown_plain(
    lab: &Lab,
    web: &Book,
    import: [&str; 3],
) -> anyhow::Result<()> {
    let health = format!("health:\n    exec: {{command: [{}]}}", quoted(TERMINAL));
    let manifest = web.manifest().replace("health:\n    http: {port: 80, path: /}", &health);
    assert!(manifest.contains("exec: "), "{manifest}");
    lab.ctl_fed(&["apply", "--no-wait", "-f", "-"], &manifest.replace("60s", "0s"))
        .await?
        .good()?;
    let [verb, name, file] = import;
    lab.ctl_fed(&["template", verb, name, file, "--description", TERMINAL], "").await?;
    lab.says(&["info", "web"], "exec ").await?;
    for line in [
        &["info", "web"][..],
        &["status"],
        &["ls"],
        &["events"],
        &["get", "grain", "web", "-o", "yaml"],
        &["template", "ls", "-o", "wide"],
        &["op", "ls"],
    ] {
        is_plain(&format!("{line:?}"), &lab.ctl_fed(line, "").await?.all());
    }
    lab.apply(&web.manifest()).await?;
    lab.grain_is("web", "runs again", |grain| grain.status.state == GrainState::Running).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_that_is_typed_becomes_a_command() -> anyhow::Result<()> {
    let Some(lab) = prepared(Spec::default(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = Book::new("web", Kind::Busybox, 69)?.on("ada");
    launched(&lab, &web, 1).await?;
    let archive = scrap_tests::platform::template::cook(Kind::Busybox, &[]).await?;
    let archive = archive.display().to_string();
    for text in nasty() {
        for manifest in manifests(&text) {
            let said = lab.ctl_fed(&["apply", "--no-wait", "-f", "-"], &manifest).await?;
            is_clear(&manifest, &said, &[0, 1, 2, 3]);
        }
        // No command line can hold it.
        if text.contains('\0') {
            continue;
        }
        for (line, ends) in lines(&text, &archive) {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            is_clear(&format!("{line:?}"), &lab.ctl_fed(&line, "").await?, ends);
        }
    }
    what_is_kept_is_shown_plain(&lab, &web, ["import", "shown", &archive]).await?;
    nothing_was_made(&lab).await?;
    lab.says(&["status"], "3/3 nodes").await?;
    lab.end().await
}
