//! Which words belong to which room. Tests may use what they test with; the rules are for the code before them.

use crate::every_source;
use crate::source::Source;

/// A word, where it may stand, and which view of a source it is looked for in.
struct Rule {
    word: &'static str,
    allowed: &'static [&'static str],
    /// Only looked for below these folders; empty: everywhere.
    below: &'static [&'static str],
    strings: bool,
}

const fn only(word: &'static str, allowed: &'static [&'static str]) -> Rule {
    Rule { word, allowed, below: &[], strings: false }
}

const fn never(word: &'static str, below: &'static [&'static str]) -> Rule {
    Rule { word, allowed: &[], below, strings: false }
}

const fn sql(word: &'static str) -> Rule {
    Rule { word, allowed: DATABASES, below: &[], strings: true }
}

const RAFT: &[&str] = &["scrapd/src/raft.rs", "scrapd/src/raft/"];
const DATABASES: &[&str] = &["scrapd/src/store.rs", "scrapd/src/store/"];
/// Doors that speak HTTP: the API, the two doors between nodes, and the guestbook, which is a service of its own.
const DOORS: &[&str] = &[
    "scrapd/src/api.rs",
    "scrapd/src/api/",
    "scrapd/src/peer.rs",
    "scrapd/src/raft/server.rs",
    "scrapd/src/bin/scrap-guestbook/",
];
const CLOCKS: &[&str] = &["scrapd/host/src/clock.rs"];
const PURE: &[&str] = &["schema/src/", "scrapd/decide/src/"];

const RULES: &[Rule] = &[
    only("openraft::", RAFT),
    only("use openraft", RAFT),
    only("sqlx::", DATABASES),
    sql("SELECT "),
    sql("INSERT INTO "),
    sql("DELETE FROM "),
    only("StatusCode", DOORS),
    only("clock_gettime", CLOCKS),
    only("SystemTime::now", CLOCKS),
    never("Instant::now", PURE),
    never("std::fs", PURE),
    never("HashMap", &["scrapd/decide/src/"]),
    never("async ", &["scrapd/decide/src/"]),
];

fn keeps(source: &Source, rule: &Rule) -> Vec<String> {
    let inside = |folders: &[&str]| folders.iter().any(|folder| source.path.starts_with(folder));
    if inside(rule.allowed) || (!rule.below.is_empty() && !inside(rule.below)) {
        return Vec::new();
    }
    let view = source.before_tests(if rule.strings { &source.strings } else { &source.code });
    let lines = view.lines().enumerate().filter(|(_, line)| line.contains(rule.word));
    lines
        .map(|(at, _)| format!("{}:{}: `{}` is not for this room", source.path, at + 1, rule.word))
        .collect()
}

fn keeps_all(source: &Source) -> Vec<String> {
    RULES.iter().flat_map(|rule| keeps(source, rule)).collect()
}

#[test]
fn every_word_stays_in_its_room() {
    for (path, text) in [
        ("scrapd/src/leader.rs", "use openraft::Raft;"),
        ("scrapd/src/agent.rs", "sqlx::query(\"x\");"),
        ("scrapd/src/agent.rs", "let a = \"SELECT 1\";"),
        ("scrapd/src/execute.rs", "StatusCode::OK"),
        ("scrapd/decide/src/lead.rs", "let now = Instant::now();"),
        ("scrapd/src/raft/server.rs", "let now = clock_gettime(BOOT);"),
        ("schema/src/api.rs", "std::fs::read(x)"),
    ] {
        assert!(!keeps_all(&Source::new(path, text)).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("scrapd/src/raft/log.rs", "use openraft::Raft;"),
        ("scrapd/src/agent.rs", "// StatusCode\nlet a = \"openraft::x\";"),
        ("scrapd/src/agent.rs", "#[cfg(test)]\nmod tests {\n    use openraft::Raft;\n}\n"),
        ("scrapd/src/agent.rs", "let now = Instant::now();"),
    ] {
        assert_eq!(keeps_all(&Source::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
    every_source(keeps_all);
}
