//! Names and values that want to be something else: each ends as a clear error or as harmless text, and none as a deed.

use scrap_tests::platform::Spec;
use scrap_tests::platform::book::Kind;

use crate::prepared;

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
    all.push("x".repeat(300));
    all
}

/// A text as a quoted scalar that YAML and JSON both read.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[tokio::test]
async fn nothing_that_is_typed_becomes_a_command() -> anyhow::Result<()> {
    let Some(lab) = prepared(Spec::default(), Kind::Busybox, 1).await? else { return Ok(()) };
    for text in nasty() {
        let value = quoted(&text);
        let fields = [
            format!("metadata: {{name: {value}}}\nspec: {{template: busybox}}\n"),
            format!("metadata: {{name: a, labels: {{x: {value}}}}}\nspec: {{template: busybox}}\n"),
            format!("metadata: {{name: a}}\nspec: {{template: {value}}}\n"),
            format!(
                "metadata: {{name: a}}\nspec: {{template: busybox, network: {{name: {value}}}}}\n"
            ),
            format!(
                "metadata: {{name: a}}\nspec: {{template: busybox, network: {{name: lan, address: {value}}}}}\n"
            ),
            format!("metadata: {{name: a}}\nspec: {{template: busybox, protect: {value}}}\n"),
            format!("metadata: {{name: a}}\nspec: {{template: busybox, env: {{X: {value}}}}}\n"),
            format!("metadata: {{name: a}}\nspec: {{template: busybox, command: [{value}]}}\n"),
        ];
        for field in fields {
            let manifest = format!("apiVersion: scrap/v1\nkind: Grain\n{field}");
            // Accepted or refused, but never a failure of the daemon.
            if let Err(error) = lab.apply(&manifest).await {
                let said = format!("{error:#}");
                assert!(!said.contains("panic") && !said.contains("internal"), "{field}\n{said}");
            }
        }
        if !text.contains('\0') {
            for verb in
                [&["info"][..], &["rm", "--yes"], &["exec"], &["template", "rm"], &["snapshot"]]
            {
                let said = lab.ctl_said(&[verb, &["--", &text]].concat()).await?;
                assert!(!said.all().contains("panic"), "{verb:?} {text:?}: {}", said.all());
            }
        }
    }
    for node in scrap_tests::platform::NAMES {
        let owned = lab.sh(node, "ls /run/owned 2>/dev/null || echo none").await?;
        assert_eq!(owned, "none\n", "something was run on {node}");
    }
    for machine in ["client", "ada"] {
        lab.sh(machine, "test ! -e /run/owned").await?;
    }
    lab.says(&["status"], "3/3 nodes").await?;
    lab.end().await
}
