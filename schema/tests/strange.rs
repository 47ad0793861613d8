//! Texts that try to be more than text: in every field of every kind they are refused, or are plain text that is shown and handed
//! on as one argument, never a name, a path, an address or a word of ours.

use scrap_schema::manifest::parse;
use serde_json::{Value, json};

/// What somebody might try.
fn strange() -> Vec<String> {
    let mut texts: Vec<String> = [
        ";$(reboot)",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        "a&b",
        "two\nlines",
        "line\r",
        "nul\0",
        "tab\t",
        "../etc/passwd",
        "/..",
        "..",
        ".",
        "-rf",
        "--help",
        "%s%n",
        "\u{1f980}",
        "na\u{ef}ve",
        "a\u{202e}b",
        "\u{1b}[31m",
        "",
        " ",
        "'",
        "\"",
        "a/b",
        "@pool",
        "a@b",
        "#",
        "*",
        "?",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x".repeat(300));
    texts.push("../".repeat(100));
    texts
}

/// One manifest of each kind with every field that takes text.
fn manifests() -> Vec<Value> {
    let grain = json!({
        "apiVersion": "scrap/v1", "kind": "Grain",
        "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"note": "x"}},
        "spec": {
            "template": "debian-13", "command": ["/bin/web", "run"], "env": {"LANG": "C"},
            "resources": {"memory": "1GiB", "disk": "2GiB", "reserve": "1GiB", "recordSize": "16KiB"},
            "network": {"name": "grains", "address": "10.0.0.7", "address6": "fd00::7"},
            "ingress": [{"ports": "80-90", "protocol": "tcp", "from": "10.0.0.0/8"}],
            "egress": [{"ports": "80-90", "protocol": "udp", "to": "internet"}],
            "health": {
                "http": {"port": 80, "path": "/ok"}, "exec": {"command": ["/bin/true", "x"]},
                "checks": [{"exec": {"command": ["/bin/true", "x"]}}, {"http": {"port": 1, "path": "/"}}],
                "every": "5s", "grace": "1m", "timeout": "2s"
            },
            "protect": "gold",
            "place": {"require": {"zone": "a"}, "prefer": "n2", "apartFrom": [{"app": "db"}]},
            "stop": {"timeout": "20s"}
        }
    });
    let policy = json!({
        "apiVersion": "scrap/v1", "kind": "Policy", "metadata": {"name": "gold"},
        "spec": {
            "replicate": {"every": "15s", "spread": "zone", "alertAfter": "2m"},
            "failover": {"mode": "auto", "after": "1m", "maxDataLoss": "1m"}
        }
    });
    let node = json!({
        "apiVersion": "scrap/v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "a"}},
        "spec": {"cordoned": false}
    });
    let network = json!({
        "apiVersion": "scrap/v1", "kind": "Network", "metadata": {"name": "grains"},
        "spec": {"v4": "10.0.0.0/24", "v6": "fd00::/64", "exclude": ["10.0.0.1"]}
    });
    vec![grain, policy, node, network]
}

/// Where free text is meant: it is shown to people, or handed to a program as one argument or variable.
const FREE: &[&str] = &[
    "/metadata/annotations/note",
    "/spec/command/0",
    "/spec/command/1",
    "/spec/env/LANG",
    "/spec/health/exec/command/0",
    "/spec/health/exec/command/1",
    "/spec/health/checks/0/exec/command/0",
    "/spec/health/checks/0/exec/command/1",
];

/// Fields that may be empty, with the one text for which that is so.
const MAY_BE_EMPTY: &[&str] = &[
    "/metadata/labels/app",
    "/metadata/labels/zone",
    "/spec/place/require/zone",
    "/spec/place/apartFrom/0/app",
];

fn texts(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, format!("{at}/{index}"), found);
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                texts(item, format!("{at}/{key}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

#[test]
fn strange_text_is_refused_in_every_field_that_is_not_free_text() {
    let mut fields = 0;
    for manifest in manifests() {
        let sound = parse("sound", &manifest.to_string());
        assert!(sound.is_ok(), "{sound:?}");
        let mut found = Vec::new();
        texts(&manifest, String::new(), &mut found);
        for at in found {
            fields += 1;
            for text in strange() {
                let mut changed = manifest.clone();
                *changed.pointer_mut(&at).unwrap() = json!(text);
                let read = parse("strange", &changed.to_string());
                // A label's value may have parts.
                let part = text == "a/b" && MAY_BE_EMPTY.contains(&at.as_str());
                let spread = text == "a/b" && at == "/spec/replicate/spread";
                let empty = text.is_empty() && MAY_BE_EMPTY.contains(&at.as_str());
                let http_path = at.ends_with("/path") && text == "/..";
                let harmless = FREE.contains(&at.as_str()) || empty || part || spread || http_path;
                assert!(read.is_err() || harmless, "{at} takes {text:?}: {read:?}");
                if text.contains('\0') {
                    assert!(read.is_err(), "{at} takes a NUL");
                }
            }
        }
    }
    assert!(fields > 50, "only {fields} fields were tried");
}

#[test]
fn strange_keys_are_refused() {
    let maps = [
        "/metadata/labels",
        "/metadata/annotations",
        "/spec/env",
        "/spec/place/require",
        "/spec/place/apartFrom/0",
        "/spec",
        "/metadata",
        "/spec/network",
        "/spec/ingress/0",
        "/spec/health",
        "/spec/resources",
    ];
    let grain = manifests().swap_remove(0);
    for at in maps {
        for text in strange() {
            let mut changed = grain.clone();
            let map = changed.pointer_mut(at).and_then(Value::as_object_mut).unwrap();
            map.insert(text.clone(), json!("x"));
            let read = parse("strange", &changed.to_string());
            let part = text == "a/b" && at != "/spec/env";
            let of_labels =
                at.contains("labels") || at.contains("annotations") || at.contains("place");
            assert!(read.is_err() || (part && of_labels), "{at} takes the key {text:?}");
        }
    }
}
