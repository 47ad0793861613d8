//! One line per rule: what is changed in a sound spec, and where the fault is.

use serde_json::{Value, json};

use super::*;

/// Merges `change` into `spec` (RFC 7396 without removal).
fn merge(spec: &mut Value, change: &Value) {
    match (spec, change) {
        (Value::Object(spec), Value::Object(change)) => {
            for (key, value) in change {
                merge(spec.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (spec, change) => *spec = change.clone(),
    }
}

fn faults<T: Validate + serde::de::DeserializeOwned>(sound: Value, change: Value) -> Vec<String> {
    let mut spec = sound;
    merge(&mut spec, &change);
    let spec: T = serde_json::from_value(spec).unwrap();
    spec.validate().into_iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect()
}

fn grain(change: Value, expected: &[&str]) {
    let found = faults::<GrainSpec>(json!({"command": ["run"]}), change.clone());
    assert!(found.len() == expected.len(), "{change}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{change}: {found}");
    }
}

fn policy(change: Value, expected: &[&str]) {
    let found = faults::<Policy>(json!({}), change.clone());
    assert!(found.len() == expected.len(), "{change}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{change}: {found}");
    }
}

#[test]
fn a_power_cut_names_a_program_and_nothing_that_could_be_a_shell() {
    let node = |fence: Value| faults::<NodeSpec>(json!({}), json!({"fence": fence}));
    let none: [&str; 0] = [];
    assert_eq!(node(json!({"program": "fence_ipmilan"})), none);
    assert_eq!(node(json!({"program": "cut-power.sh", "protocol": "hook", "timeout": "5m"})), none);
    let shell = "/fence/program `sh` is no fence agent: their names begin with `fence_`";
    assert_eq!(node(json!({"program": "sh"})), [shell]);
    let limit = "/fence/timeout 999ms is no limit for a power cut";
    assert_eq!(node(json!({"program": "fence_x", "timeout": "999ms"})), [limit]);
    for path in ["/bin/sh", "../sh", "", ".x", "-x", "a b", "a\nb"] {
        let spec = serde_json::from_value::<NodeSpec>(json!({"fence": {"program": path}}));
        assert!(spec.is_err(), "{path}");
    }
}

#[test]
fn sound_specs_pass() {
    grain(json!({}), &[]);
    grain(json!({"command": ["run", "", "ä"]}), &[]);
    grain(json!({"health": {"tcp": {"port": 1}}}), &[]);
    grain(json!({"health": {"http": {"port": 65535, "path": "/a?b=%20"}}}), &[]);
    grain(json!({"resources": {"cpu": 0.01, "memory": "4MiB", "disk": "1MiB"}}), &[]);
    grain(json!({"stop": {"timeout": "10m"}}), &[]);
    grain(json!({"stop": {"timeout": "0s"}}), &[]);
    grain(
        json!({"place": {"require": {"zone": ""}, "apartFrom": [{"scrap/app": "a.b-c_d"}]}}),
        &[],
    );
    grain(json!({"env": {"_a1": "", "SCRAPBOOK": "x"}}), &[]);
    policy(json!({}), &[]);
    policy(json!({"replicate": {"copies": 8, "every": "1s"}}), &[]);
    policy(json!({"replicate": {"every": "60s"}, "failover": {"maxDataLoss": "60s"}}), &[]);
}

#[test]
fn the_policies_that_every_cluster_is_born_with_are_sound() {
    let built_in = Policy::built_in();
    let names: Vec<&str> = built_in.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["relaxed", "standard", "prompt"]);
    for (name, policy) in built_in {
        assert_eq!(policy.validate(), [], "{name}");
    }
}

#[test]
fn a_part_that_is_left_out_equals_a_part_that_is_empty() {
    let from = |value: Value| serde_json::from_value::<Policy>(value).unwrap();
    let whole = from(json!({}));
    assert_eq!(from(json!({"replicate": {}, "failover": {}, "snapshots": {}})), whole);
    assert_eq!(whole, Policy::standard());
    let from = |value: Value| serde_json::from_value::<GrainSpec>(value).unwrap();
    assert_eq!(from(json!({"resources": {}, "place": {}, "stop": {}})), from(json!({})));
}

#[test]
fn programs() {
    grain(json!({"command": []}), &["/command a grain of the template `process` needs a command"]);
    grain(json!({"command": [""]}), &["/command/0 the program is an empty text"]);
    grain(json!({"command": ["run", "a\0b"]}), &["/command/1 the text holds a NUL"]);
    grain(
        json!({"command": ["x".repeat(TEXT_BYTES_MAX + 1)]}),
        &["/command the command is longer"],
    );
}

#[test]
fn environments() {
    grain(json!({"env": {"": "x"}}), &["/env/ `` is not a name for a variable: it is empty"]);
    grain(json!({"env": {"1A": "x"}}), &["/env/1A "]);
    grain(json!({"env": {"A=B": "x"}}), &["/env/A=B "]);
    grain(json!({"env": {"A/B": "x"}}), &["/env/A~1B "]);
    grain(json!({"env": {"SCRAP_NODE": "x"}}), &["/env/SCRAP_NODE "]);
    grain(json!({"env": {"A": "\0"}}), &["/env/A the text holds a NUL"]);
    grain(json!({"env": {"A": "x".repeat(TEXT_BYTES_MAX)}}), &["/env the environment is larger"]);
    let entries = |count: usize| {
        let entries: serde_json::Map<String, Value> =
            (0..count).map(|number| (format!("A{number}"), json!("x"))).collect();
        json!({"env": entries})
    };
    grain(entries(ENV_ENTRIES_MAX), &[]);
    grain(entries(ENV_ENTRIES_MAX + 1), &["/env 257 variables are more than 256"]);
}

#[test]
fn resources() {
    grain(json!({"resources": {"cpu": 0}}), &["/resources/cpu 0 cores"]);
    grain(json!({"resources": {"cpu": 1025}}), &["/resources/cpu 1025 cores"]);
    grain(json!({"resources": {"memory": "4095KiB"}}), &["/resources/memory 4095KiB of memory"]);
    grain(json!({"resources": {"disk": "0B"}}), &["/resources/disk 0B of disk"]);
    grain(json!({"resources": {"pids": 15}}), &["/resources/pids 15 processes"]);
    grain(json!({"resources": {"pids": 16, "reserve": "1GiB", "recordSize": "4KiB"}}), &[]);
    grain(json!({"resources": {"reserve": "1025MiB"}}), &["/resources/reserve 1025MiB are more"]);
    for size in ["2KiB", "5KiB", "256KiB", "0B"] {
        grain(json!({"resources": {"recordSize": size}}), &["/resources/recordSize blocks"]);
    }
}

#[test]
fn a_system_needs_no_command_and_has_a_limit_of_processes() {
    let spec = |text: Value| serde_json::from_value::<GrainSpec>(text).unwrap();
    let system = spec(json!({"template": "debian-13"}));
    assert_eq!(system.validate(), []);
    assert_eq!(system.pids(), 4096);
    assert_eq!(spec(json!({"command": ["run"]})).pids(), 0);
    assert_eq!(spec(json!({"resources": {"pids": 100}})).pids(), 100);
}

#[test]
fn health() {
    let both = json!({"tcp": {"port": 1}, "http": {"port": 1}});
    grain(json!({"health": {}}), &["/health a health check needs"]);
    grain(json!({"health": both}), &[]);
    grain(json!({"health": {"checks": [both]}}), &["/health/checks/0 one item is one check"]);
    grain(json!({"health": {"checks": [{}]}}), &["/health/checks/0 a check is one of"]);
    let exec = |command: Value| json!({"health": {"exec": {"command": command}}});
    grain(exec(json!(["/bin/true", "$(x)"])), &[]);
    grain(exec(json!([])), &["/health/exec/command a check needs a program"]);
    grain(exec(json!([""])), &["/health/exec/command/0 the program is an empty text"]);
    grain(exec(json!(["a", "\0"])), &["/health/exec/command/1 the text holds a NUL"]);
    grain(
        json!({"health": {"tcp": {"port": 1}, "timeout": "10ms"}}),
        &["/health/timeout 10ms is not between"],
    );
    grain(json!({"health": {"tcp": {"port": 0}}}), &["/health/tcp/port port 0"]);
    grain(json!({"health": {"http": {"port": 0}}}), &["/health/http/port port 0"]);
    grain(
        json!({"health": {"http": {"port": 1, "path": "x"}}}),
        &["/health/http/path the path `x`"],
    );
    grain(
        json!({"health": {"http": {"port": 1, "path": "/a b"}}}),
        &["/health/http/path the path must"],
    );
    grain(
        json!({"health": {"http": {"port": 1, "path": "/\r\nX: y"}}}),
        &["/health/http/path the path must"],
    );
    grain(json!({"health": {"tcp": {"port": 1}, "every": "99ms"}}), &["/health/every "]);
}

#[test]
fn placement_and_stop() {
    let long = "x".repeat(64);
    grain(json!({"place": {"require": {"": "x"}}}), &["/place/require/ `` is not a key"]);
    grain(json!({"place": {"require": {&long: "x"}}}), &["/place/require/xxx"]);
    grain(json!({"place": {"require": {"zone": &long}}}), &["/place/require/zone "]);
    grain(json!({"place": {"require": {"zone": "attic|cellar"}}}), &["/place/require/zone "]);
    grain(json!({"place": {"require": {"a/b": "-x"}}}), &["/place/require/a~1b "]);
    grain(json!({"place": {"apartFrom": [{"a": "b"}, {}]}}), &["/place/apartFrom/1 a set without"]);
    let many: Vec<Value> = (0..17).map(|number| json!({"app": number.to_string()})).collect();
    grain(json!({"place": {"apartFrom": many}}), &["/place/apartFrom 17 sets"]);
    grain(json!({"stop": {"timeout": "600001ms"}}), &["/stop/timeout 600001ms is too long"]);
}

#[test]
fn labels_are_counted() {
    let labels = |count: usize| (0..count).map(|at| (format!("k{at}"), String::new())).collect();
    assert_eq!(validate_labels(&labels(LABELS_MAX)), []);
    let faults = validate_labels(&labels(LABELS_MAX + 1));
    assert_eq!(faults, [FieldError::new("", "65 labels are more than 64")]);
}

#[test]
fn policies() {
    policy(json!({"replicate": {"every": "999ms"}}), &["/replicate/every copies every 999ms"]);
    policy(json!({"replicate": {"copies": 9}}), &["/replicate/copies 9 copies"]);
    policy(json!({"replicate": {"spread": "a zone"}}), &["/replicate/spread "]);
    policy(json!({"replicate": {"alertAfter": "14s"}}), &["/replicate/alertAfter "]);
    policy(json!({"snapshots": {"keep-last": 10_001}}), &["/snapshots/keep-last 10001 snapshots"]);
}

#[test]
fn a_policy_that_would_never_promote_says_so() {
    let never = "/failover/maxDataLoss copies are made every 15s";
    policy(json!({"failover": {"maxDataLoss": "14s"}}), &[never]);
    policy(json!({"failover": {"maxDataLoss": "15s"}}), &[]);
    // Nobody promotes by itself: then the number is only a person's measure.
    policy(json!({"failover": {"maxDataLoss": "14s", "mode": "manual"}}), &[]);
    policy(json!({"failover": {"maxDataLoss": "14s"}, "replicate": {"copies": 0}}), &[]);
}
