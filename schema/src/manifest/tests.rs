//! The published schema is current and agrees with the reader; every manifest that can exist can be written and read.

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::schema::{explain, json_schema};
use super::*;
use crate::unit::{Bytes, MilliCpu, Span};

#[test]
fn the_published_schema_is_current() {
    let json = serde_json::to_string_pretty(&json_schema()).unwrap();
    expect_file!["../../manifest.schema.json"].assert_eq(&format!("{json}\n"));
}

#[test]
fn every_reference_of_the_schema_leads_somewhere() {
    fn references(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => {
                found.extend(
                    object.get("$ref").and_then(|target| target.as_str()).map(str::to_owned),
                );
                object.values().for_each(|value| references(value, found));
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| references(item, found))
            }
            _ => {}
        }
    }
    let schema = json_schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for target in found {
        assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
    }
}

fn check_explain(path: &str, expected: Expect) {
    let text = match explain(path) {
        Ok(explanation) => explanation.to_string(),
        Err(error) => format!("{error}\n  hint: {}", error.hint),
    };
    expected.assert_eq(&text);
}

#[test]
fn explains_what_may_be_written() {
    check_explain(
        "grain",
        expect![[r#"
        grain: a block
          A user's service: one program with its data, on one node at a time.

          apiVersion  `scrap/v1`, required
                        The version of this format.

          kind        `Grain`, required
                        What the manifest is about.

          metadata    a block, required
                        What every manifest carries beside its spec.

          spec        a block, required
                        What a grain should be."#]],
    );
    check_explain(
        "grain.spec.protect",
        expect![[r#"
        grain.spec.protect: a name
          Name of the policy that protects it.
          A name that people give and read: of a node, grain, policy, label value. Display text and look-up key, never a path.
          1 to 63 characters of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit (a DNS label, RFC 1123).
          default: standard"#]],
    );
    check_explain(
        "grain.spec.resources.memory",
        expect![[r#"
        grain.spec.resources.memory: a size
          Main memory.
          A size in bytes. Written `512B`, `64KiB`, `256MiB`, `4GiB`, `2TiB` (powers of 1024).
          example: 256MiB
          default: 64MiB"#]],
    );
    check_explain(
        "Grain.spec.health",
        expect![[r#"
            grain.spec.health: a block
              How its owner finds out whether it answers.
              Checks that the owner's agent makes. The grain is well while all of them hold.

              checks   a list; each item is a block
                         More of them, each with one of `tcp`, `http`, `exec`.

              every    a time span
                         Time between two checks.

              exec     a block
                         A program that must end with status 0.

              grace    a time span
                         Time after a start in which a failing check does not count.

              http     a block
                         An HTTP resource that must answer with a status below 400.

              tcp      a block
                         A port on the grain's address that must accept a connection.

              timeout  a time span
                         Time after which a check that has not answered counts as failed."#]],
    );
}

#[test]
fn explains_lists_words_and_free_keys() {
    check_explain(
        "grain.spec.health.http.port",
        expect![[r#"
        grain.spec.health.http.port: a whole number
          The port."#]],
    );
    check_explain(
        "grain.spec.place.apartFrom",
        expect![[r#"
            grain.spec.place.apartFrom: a list; each item is a block of texts with any keys
              Grains with all labels of one of these sets must live on other nodes.
              default: []"#]],
    );
    check_explain("grain.metadata.labels.app", expect!["grain.metadata.labels.app: a text"]);
    check_explain(
        "policy.spec.failover.mode",
        expect![[r#"
        policy.spec.failover.mode: one of `auto`, `manual`
          Whether the cluster may act by itself.
          Who decides about a failover.
          default: auto"#]],
    );
    check_explain(
        "policy.spec.snapshots.keep-last",
        expect![[r#"
        policy.spec.snapshots.keep-last: a whole number
          The newest so many.
          default: 12"#]],
    );
    check_explain(
        "node.spec",
        expect![[r#"
            node.spec: a block
              What people say about a node. Its facts are measured, not written.

              cordoned  `true` or `false`
                          No new grains or copies come here; what is here stays.

              fence     a block
                          How its power is cut when it falls silent; nobody does if nothing is said."#]],
    );
}

#[test]
fn explains_what_does_not_exist() {
    check_explain(
        "grain.spec.protcet",
        expect![[r#"
        `grain.spec` has no key `protcet`
          hint: did you mean `protect`?"#]],
    );
    check_explain(
        "grain.spec.replicas",
        expect![[r#"
            `grain.spec` has no key `replicas`
              hint: there is `command`, `egress`, `env`, `health`, `ingress`, `network`, `place`, `protect`, `resources`, `running`, `stop`, `template`"#]],
    );
    check_explain(
        "grain.spec.running.always",
        expect![[r#"
        `grain.spec.running` has no key `always`
          hint: it is a value without keys"#]],
    );
    check_explain(
        "grian.spec",
        expect![[r#"
            there is no kind `grian`
              hint: did you mean `grain`?"#]],
    );
    check_explain(
        "",
        expect![[r#"
            there is no kind ``
              hint: there is `grain`, `policy`, `node`, `network`"#]],
    );
}

#[test]
fn a_problem_body_gets_the_same_faults() {
    let errors =
        parse("x.yaml", "apiVersion: scrap/v1\nkind: Grian\nmetadata: {name: a}\n").unwrap_err();
    let faults = errors.field_errors();
    assert_eq!(faults.len(), 1);
    assert_eq!(
        (faults[0].pointer.as_str(), faults[0].line, faults[0].column),
        ("/kind", Some(2), Some(7))
    );
    assert_eq!(faults[0].hint.as_deref(), Some("did you mean `Grain`?"));
}

#[test]
fn lines_count_through_the_documents() {
    let text = "\n# a comment\napiVersion: scrap/v1\nkind: Node\nmetadata: {name: ada}\n---\n\n---\n\
                apiVersion: scrap/v1\nkind: Node\nmetadata: {name: bob}\n...\n";
    let lines: Vec<u32> = parse("-", text).unwrap().iter().map(|manifest| manifest.line).collect();
    assert_eq!(lines, [3, 9]);
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    // Each level repeats the one before nine times: 9^12 values if it were expanded.
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(", ")));
    }
    let errors = parse("bomb", &text).unwrap_err();
    assert!(errors.errors[0].detail.contains("aliases"), "{errors}");
}

#[test]
fn a_text_that_is_too_long_is_not_read() {
    for text in ["# x\n".repeat(300_000), format!("{{{}}}", " ".repeat(1_199_998))] {
        let errors = parse("long", &text).unwrap_err();
        assert!(errors.errors[0].detail.contains("1200000 bytes"), "{errors}");
    }
}

fn text() -> impl Strategy<Value = String> {
    // Texts that YAML could take for something else, and any text without NUL.
    prop_oneof![
        Just("yes".to_owned()),
        Just("null".to_owned()),
        Just("~".to_owned()),
        Just("1.10".to_owned()),
        Just("0x1F".to_owned()),
        Just("<<".to_owned()),
        Just("- a: b # c".to_owned()),
        Just("*a &b !c".to_owned()),
        Just(" spaces ".to_owned()),
        Just("line\nline\n\n".to_owned()),
        "[ -~]{0,120}",
        "[^\\x00]{0,20}",
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|name| name.parse().unwrap())
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(
        "[A-Za-z0-9]([A-Za-z0-9._/-]{0,8}[A-Za-z0-9])?",
        "[A-Za-z0-9]{0,8}",
        0..3,
    )
}

prop_compose! {
    fn grain()(
        arguments in prop::collection::vec(text(), 0..4),
        env in prop::collection::btree_map("[A-RT-Z][A-Z0-9_]{0,5}", text(), 0..4),
        cpu in 10_u64..1_000_000,
        memory in (4_u64 << 20)..u64::MAX,
        protect in name(),
        require in labels(),
        timeout in 0_u64..600_000,
        running: bool,
    ) -> GrainSpec {
        let mut spec: GrainSpec = serde_json::from_str("{}").unwrap();
        spec.command = [vec!["run".to_owned()], arguments].concat();
        (spec.env, spec.protect, spec.running, spec.place.require) = (env, protect, running, require);
        (spec.resources.cpu, spec.resources.memory) = (MilliCpu(cpu), Bytes(memory));
        spec.stop.timeout = Span::from_ms(timeout);
        spec
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        spec in grain(),
        name in name(),
        labels in labels(),
        note in text(),
    ) {
        let annotations = BTreeMap::from([("note".to_owned(), note)]);
        let metadata = Metadata { name, labels, annotations };
        let manifest = Manifest { metadata, kind: ManifestKind::Grain(spec), line: 1 };
        let yaml = manifest.to_yaml().unwrap();
        let read = parse("yaml", &yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
        prop_assert_eq!(read, vec![manifest.clone()], "{}", yaml);
        // JSON is a part of YAML.
        let json = serde_json::to_string(&manifest).unwrap();
        let read = parse("json", &json).map_err(|error| TestCaseError::fail(format!("{error}\n{json}")))?;
        prop_assert_eq!(read, vec![manifest], "{}", json);
    }

    #[test]
    fn no_text_panics(text in "[-a-z0-9:{}\\[\\],&*!|>'\"# \n\t~<%@]{0,60}", any: String) {
        for text in [text, any] {
            let _ = (parse("x", &text), crate::strict::strict_json::<GrainSpec>(text.as_bytes()));
        }
    }
}

#[test]
fn every_key_that_is_written_can_be_explained() {
    fn paths(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = format!("{at}.{key}");
            paths(&path, value, found);
            found.push(path);
        }
    }
    let text = include_str!("../../tests/wellformed/everything.yaml").to_owned()
        + "---\n"
        + include_str!("../../tests/wellformed/policies.yaml");
    let mut found = Vec::new();
    for manifest in parse("everything", &text).unwrap() {
        let kind = manifest.kind.name().to_lowercase();
        paths(&kind, &serde_json::to_value(&manifest).unwrap(), &mut found);
    }
    assert!(found.len() > 60, "{found:?}");
    // Keys of labels may hold points, which separate the segments of a path.
    for path in found.iter().filter(|path| !path.contains("pool.redundant")) {
        let explanation = explain(path).unwrap();
        assert!(!explanation.type_name.is_empty(), "{path}");
    }
}
