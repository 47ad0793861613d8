//! The table of codes is complete and stable; the body survives older and newer peers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::{expect, expect_file};

use super::*;

/// The page that people read, made of the enum so that the two cannot differ.
fn reference() -> String {
    let mut page = String::from(
        "# Problem codes\n\n\
         Every refusal and failure of the API is an RFC 9457 body with one of these codes. `scrapctl` ends with the\n\
         exit code of the code. This page is made from `schema/src/problem.rs`; do not edit it.\n",
    );
    for code in Code::ALL {
        let (title, exit) = (code.title(), code.exit_code());
        let (meaning, remedy) = (code.meaning().trim(), code.remedy());
        write!(
            page,
            "\n## {code}\n\n**{title}** (exit code {})\n\n{meaning}\n\nWhat to do: {remedy}\n",
            exit.code()
        )
        .unwrap();
    }
    page
}

#[test]
fn the_reference_page_is_current() {
    expect_file!["../../../docs/reference/problems.md"].assert_eq(&reference());
}

#[test]
fn every_code_reads_back_and_is_unique() {
    let mut seen = BTreeSet::new();
    for code in Code::ALL {
        assert!(seen.insert(code.slug()), "{code} twice");
        assert!(code.slug().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-')), "{code}");
        assert_eq!(code.slug().parse(), Ok(*code));
        let json = serde_json::to_string(code).unwrap();
        assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
        assert!(!code.title().ends_with('.'), "{code}: a title is not a sentence");
        assert!(code.remedy().ends_with('.'), "{code}: advice is a sentence");
    }
}

#[test]
fn the_schema_lists_the_codes_as_json_carries_them() {
    let schema = serde_json::to_value(<Code as utoipa::PartialSchema>::schema()).unwrap();
    let listed: Vec<&str> =
        schema["enum"].as_array().unwrap().iter().filter_map(|code| code.as_str()).collect();
    let carried: Vec<&str> = Code::ALL.iter().map(|code| code.slug()).collect();
    assert_eq!(listed, carried);
}

#[test]
fn a_body_carries_only_what_it_has() {
    let problem = Problem::new(Code::NoLeader, 503, "no leader since 4 s").with_hint("wait");
    expect![[r#"
        {
          "type": "https://docs.scrap.example/problems/no-leader",
          "title": "The cluster has no leader",
          "status": 503,
          "code": "no-leader",
          "detail": "no leader since 4 s",
          "hint": "wait"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&problem).unwrap());
    let json = serde_json::to_string(&problem).unwrap();
    assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
}

#[test]
fn a_code_of_a_newer_node_keeps_its_words() {
    let newer = r#"{"type":"x","title":"The moon is full","status":409,"code":"full-moon",
        "detail":"it is","unheard":{"of":1}}"#;
    let problem: Problem = serde_json::from_str(newer).unwrap();
    assert_eq!((problem.code, problem.title.as_str()), (Code::Internal, "The moon is full"));
    assert_eq!(problem.code.exit_code(), Exit::Failed);
}

#[test]
fn exit_codes_are_the_documented_numbers() {
    let exits = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::Denied,
        Exit::Conflict,
        Exit::Unreachable,
        Exit::NoPlacement,
        Exit::OperationFailed,
        Exit::Timeout,
        Exit::Interrupted,
    ];
    assert_eq!(exits.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 8, 124, 130]);
}
