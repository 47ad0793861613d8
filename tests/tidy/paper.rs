//! Documents, scenarios and goldens: that they are whole, found, used, and speak of the project alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::files;
use crate::{nothing, root};

/// Files that a scenario has, all of them and no others.
const SCENARIO: [&str; 4] = ["README", "expect.log", "script", "world.toml"];
/// Folders of expected outputs.
const GOLDENS: [&str; 4] = ["golden", "goldens", "malformed", "wellformed"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Modules of a crate: `mod x;` of its `lib.rs` that are not there for tests alone.
fn modules(library: &str) -> Vec<String> {
    let mut for_tests = false;
    let mut found = Vec::new();
    for line in library.lines() {
        let bare = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let name = bare.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        found.extend(name.filter(|_| !for_tests).map(ToOwned::to_owned));
        for_tests = line == "#[cfg(test)]";
    }
    found
}

/// Rooms without a paragraph of their own, and paragraphs without an invariant. A heading names rooms in backticks.
fn undescribed(document: &str, rooms: &[String]) -> Vec<String> {
    let mut sections: Vec<(&str, bool)> = Vec::new();
    for line in document.lines() {
        if line.starts_with('#') && line.contains('`') {
            sections.push((line, false));
        } else if line.starts_with("**Invariant:**")
            && let Some((_, has)) = sections.last_mut()
        {
            *has = true;
        }
    }
    let unnamed = rooms
        .iter()
        .filter(|room| !sections.iter().any(|(line, _)| line.contains(&format!("`{room}`"))));
    let unnamed = unnamed.map(|room| format!("docs/ARCHITECTURE.md has no heading with `{room}`"));
    let bare = sections.iter().filter(|(_, has)| !has);
    let bare =
        bare.map(|(line, _)| format!("docs/ARCHITECTURE.md: no **Invariant:** under `{line}`"));
    unnamed.chain(bare).collect()
}

#[test]
fn every_package_and_room_is_described_with_what_is_absent() {
    let bad = undescribed(
        "## `a`\ntext\n### `b` · `c`\n**Invariant:** no x.\n",
        &["a".into(), "c".into(), "d".into()],
    );
    assert_eq!(bad.len(), 2, "{bad:?}");
    let packages =
        ["scrap-schema", "scrap-decide", "scrap-host", "scrapd", "scrapctl", "scrap-tests"];
    let mut rooms: Vec<String> = packages.map(ToOwned::to_owned).into();
    for library in [
        "schema/src/lib.rs",
        "scrapd/decide/src/lib.rs",
        "scrapd/host/src/lib.rs",
        "scrapd/src/lib.rs",
    ] {
        let found = modules(&read(library));
        assert!(found.len() > 5, "{library}");
        rooms.extend(found);
    }
    nothing(undescribed(&read("docs/ARCHITECTURE.md"), &rooms));
}

fn incomplete_scenarios(paths: &[String]) -> Vec<String> {
    let mut scenarios: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in paths {
        if let Some((name, file)) =
            path.strip_prefix("tests/scenarios/").and_then(|rest| rest.split_once('/'))
        {
            scenarios.entry(name).or_default().push(file);
        }
    }
    let wrong = scenarios.iter().filter(|(_, files)| files.as_slice() != SCENARIO);
    wrong.map(|(name, files)| format!("scenario {name} has {files:?}, not {SCENARIO:?}")).collect()
}

#[test]
fn every_scenario_is_whole() {
    let paths = |names: &[&str]| {
        names.iter().map(|name| format!("tests/scenarios/a/{name}")).collect::<Vec<_>>()
    };
    assert_eq!(incomplete_scenarios(&paths(&SCENARIO)).len(), 0);
    assert_eq!(incomplete_scenarios(&paths(&SCENARIO[1..])).len(), 1);
    let all = files(&root());
    assert!(all.iter().any(|path| path.ends_with("/expect.log")));
    nothing(incomplete_scenarios(&all));
}

/// Tests that the rows of a table name in their last column and that are nowhere: folders of scenarios, or functions.
fn missing_tests(table: &str, scenarios: &BTreeSet<&str>, sources: &str) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with('|') && line.contains('`'));
    let mut missing = Vec::new();
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            missing.push(format!("no test: {row}"));
        }
        for name in names {
            let is_there = match name.contains('-') {
                true => scenarios.contains(name),
                false => sources.contains(&format!("fn {name}")),
            };
            if !is_there {
                missing.push(format!("`{name}` is no test: {row}"));
            }
        }
    }
    missing
}

#[test]
fn every_row_of_the_crash_tables_has_its_tests() {
    let one = BTreeSet::from(["a-b"]);
    assert_eq!(missing_tests("| x | `a-b`, `c_d` |", &one, "async fn c_d() {"), [""; 0]);
    for wrong in ["| x | `a-c` |", "| x | `c_e` |", "| `x` | none |"] {
        assert_eq!(missing_tests(wrong, &one, "fn c_d()").len(), 1, "{wrong}");
    }
    let all = files(&root());
    let scenarios = all.iter().filter_map(|path| path.strip_prefix("tests/scenarios/"));
    let scenarios: BTreeSet<&str> =
        scenarios.filter_map(|path| path.split_once('/').map(|(name, _)| name)).collect();
    let sources = all.iter().filter(|path| path.ends_with(".rs"));
    let sources: String = sources.map(|path| read(path)).collect();
    let table = read("docs/CRASHES.md");
    assert!(table.lines().filter(|line| line.starts_with('|')).count() > 40);
    nothing(missing_tests(&table, &scenarios, &sources));
}

/// Goldens that no source of their package speaks of: by their name, or by their folder when that is read as a whole.
fn unused_goldens(paths: &[String], sources: &str) -> Vec<String> {
    let golden = |path: &&String| path.split('/').any(|part| GOLDENS.contains(&part));
    let used = |path: &&String| {
        let mut parts = path.rsplit('/');
        let (name, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let stem = name.split('.').next().unwrap_or_default();
        [name, stem].iter().any(|word| sources.contains(&format!("{word}\"")))
            || sources.contains(&format!("{folder}\""))
            || sources.contains(&format!("/{name}"))
            || sources.contains(&format!("{folder}/"))
    };
    let unused = paths.iter().filter(golden).filter(|path| !used(path));
    unused.map(|path| format!("{path}: no test reads it")).collect()
}

#[test]
fn every_golden_is_used() {
    let one = ["schema/tests/golden/old.json".to_owned()];
    assert_eq!(unused_goldens(&one, "expect_file![\"golden_/new.json\"]").len(), 1);
    assert_eq!(unused_goldens(&one, "include_str!(\"golden/old.json\")").len(), 0);
    let all = files(&root());
    let sources =
        all.iter().filter(|path| path.ends_with(".rs") && !path.starts_with("tests/tidy/"));
    let sources: String = sources.map(|path| read(path)).collect();
    nothing(unused_goldens(&all, &sources));
}

/// Decisions that are not numbered once each, in their name and in their title. A number may be missing while its decision is still
/// being written.
fn misnumbered(decisions: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut numbers = BTreeSet::new();
    for (name, text) in decisions {
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 4 || number.parse::<u32>().is_err() || !numbers.insert(number) {
            found.push(format!("docs/decisions/{name} should have a number of its own"));
        } else if !text.starts_with(&format!("# {number} ")) {
            found.push(format!("docs/decisions/{name} should begin with `# {number} `"));
        }
    }
    found
}

#[test]
fn every_decision_is_numbered_once() {
    let decision = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(
        misnumbered(&[decision("0001-a.md", "# 0001 A"), decision("0001-b.md", "# 0001 B")]).len(),
        1
    );
    assert_eq!(misnumbered(&[decision("0001-a.md", "# A")]).len(), 1);
    let all = files(&root());
    let paths = all.iter().filter(|path| path.starts_with("docs/decisions/"));
    let decisions: Vec<_> = paths
        .map(|path| (path.trim_start_matches("docs/decisions/").to_owned(), read(path)))
        .collect();
    assert!(!decisions.is_empty());
    nothing(misnumbered(&decisions));
}

/// Relative links of a document that lead nowhere.
fn dead_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let links =
        text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
    let ours = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let files = ours.map(|link| link.split('#').next().unwrap_or_default());
    let dead = files.filter(|link| !exists(&format!("{folder}/{link}")));
    dead.map(|link| format!("{path}: the link `{link}` leads nowhere")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    assert_eq!(dead_links("docs/a.md", "[b](b.md) [c](https://c) [d](#d)", |_| false).len(), 1);
    let documents = files(&root()).into_iter().filter(|path| path.ends_with(".md"));
    nothing(
        documents
            .flat_map(|path| {
                dead_links(&path, &read(&path), |link| {
                    root().join(link.trim_start_matches('/')).exists()
                })
            })
            .collect(),
    );
}

/// Marks of papers that are not in the tree: a section sign, and codes such as an `R`, a hyphen, a letter and a number, or
/// an `I` and a number. What decides something stands in `docs/decisions/`.
fn foreign_marks(path: &str, text: &str) -> Vec<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_code = |word: &&str| {
        let rule = word.strip_prefix("R-").and_then(|rest| {
            rest.strip_prefix(|first: char| first.is_ascii_uppercase()).map(is_number)
        });
        rule.unwrap_or_else(|| word.strip_prefix('I').is_some_and(is_number))
    };
    let of_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let codes = line.split(|letter| !of_word(letter)).filter(is_code);
        let marks = codes.chain(line.contains(SECTION).then_some(SECTION));
        found.extend(marks.map(|mark| {
            format!("{path}:{}: `{mark}` is of a paper that is not in the tree", at + 1)
        }));
    }
    found
}

/// The section sign. Written so that this file does not have it.
const SECTION: &str = "\u{a7}";

#[test]
fn no_text_leans_on_a_paper_that_is_not_here() {
    let line = |words: &str| foreign_marks("a.rs", &format!("/// It is so ({words}).")).len();
    assert_eq!(line(concat!("R", "-Q4")), 1);
    assert_eq!(line(concat!("R", "-Q4, I", "15")), 2);
    assert_eq!(line(&format!("DESIGN {SECTION}5")), 1);
    assert_eq!(line("R-tree, I, RFC 9457, docs/decisions/0005"), 0);
    let all = files(&root()).into_iter().filter(|path| path != "Cargo.lock");
    nothing(all.flat_map(|path| foreign_marks(&path, &read(&path))).collect());
}

/// Places of a build machine. Put together here so that this file does not name them.
const PRIVATE: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/tmp/", "brief"),
    concat!("/tmp/", "bash_jobs"),
    concat!("shared/", "design"),
    concat!("/ro", "ot/."),
];

fn private_places(path: &str, text: &str) -> Vec<String> {
    let found = PRIVATE.iter().filter(|place| text.contains(**place));
    found.map(|place| format!("{path}: speaks of `{place}`")).collect()
}

#[test]
fn the_project_speaks_of_itself_alone() {
    assert_eq!(private_places("a.md", &format!("see {}x", PRIVATE[0])).len(), 1);
    let all = files(&root()).into_iter().filter(|path| path != "Cargo.lock");
    nothing(all.flat_map(|path| private_places(&path, &read(&path))).collect());
}
