//! A Rust source as three texts of the same shape: as it is, its code alone, and its strings alone. A scanner for this
//! purpose, not a parser: it knows comments, strings, raw strings and characters, and nothing of grammar.

use std::path::Path;

/// A source file.
pub(crate) struct Source {
    /// Path from the root of the repository.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Comments and the inside of strings and characters are spaces; lines stay where they are.
    pub(crate) code: String,
    /// Everything but the inside of strings is spaces.
    pub(crate) strings: String,
}

/// What holds no sources of ours; in a linked worktree `.git` is a file.
const FOREIGN: [&str; 4] = ["target", ".git", ".demo", "node_modules"];

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, strings) = split(text);
        Self { path: path.to_owned(), text: text.to_owned(), code, strings }
    }

    /// Every `.rs` file below a folder.
    pub(crate) fn all(root: &Path) -> Vec<Self> {
        files(root)
            .into_iter()
            .filter(|path| path.ends_with(".rs"))
            .map(|path| Self::new(&path, &std::fs::read_to_string(root.join(&path)).unwrap()))
            .collect()
    }

    /// Whether the whole file is a test.
    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        parts.contains(&"tests") || parts.contains(&"tests.rs")
    }

    /// Code and strings without the tests at its end: everything before a `#[cfg(test)]` that is followed by a module.
    pub(crate) fn before_tests<'a>(&self, text: &'a str) -> &'a str {
        let starts = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at);
        let mut modules = starts.filter(|at| {
            let rest = self.code[*at..].trim_start_matches("#[cfg(test)]").trim_start();
            rest.starts_with("mod ")
                && rest.split_once('\n').is_some_and(|(line, _)| line.ends_with('{'))
        });
        if self.is_test() { "" } else { &text[..modules.next().unwrap_or(text.len())] }
    }
}

/// Paths of all files below a folder, from that folder, in order.
pub(crate) fn files(root: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if FOREIGN.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Where the scanner is.
enum Within {
    Code,
    Line,
    Block { depth: u32 },
    Text { raw: Option<usize> },
}

/// Code alone and strings alone.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut strings) = (vec![b' '; bytes.len()], vec![b' '; bytes.len()]);
    let mut within = Within::Code;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] == b'\n' {
            (code[at], strings[at]) = (b'\n', b'\n');
        }
        let step = match &mut within {
            Within::Code => {
                let (step, next) = in_code(bytes, at);
                if next.is_none() || rest[0] == b'"' || rest[0] == b'r' || rest[0] == b'b' {
                    code[at..at + step].copy_from_slice(&bytes[at..at + step]);
                }
                if let Some(next) = next {
                    within = next;
                }
                step
            }
            Within::Line => {
                if rest[0] == b'\n' {
                    within = Within::Code;
                }
                1
            }
            Within::Block { depth } => match rest {
                [b'*', b'/', ..] if *depth == 1 => {
                    within = Within::Code;
                    2
                }
                [b'*', b'/', ..] => {
                    *depth -= 1;
                    2
                }
                [b'/', b'*', ..] => {
                    *depth += 1;
                    2
                }
                _ => 1,
            },
            Within::Text { raw } => match ends(rest, *raw) {
                Some(step) => {
                    code[at..at + step].copy_from_slice(&bytes[at..at + step]);
                    within = Within::Code;
                    step
                }
                None => {
                    let step = if raw.is_none() && rest[0] == b'\\' { 2 } else { 1 };
                    strings[at] = bytes[at];
                    step
                }
            },
        };
        at += step;
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&code), text(&strings))
}

/// How far the next piece of code goes, and what begins after it.
fn in_code(bytes: &[u8], at: usize) -> (usize, Option<Within>) {
    let rest = &bytes[at..];
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fresh = at == 0 || !word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => (2, Some(Within::Line)),
        [b'/', b'*', ..] => (2, Some(Within::Block { depth: 1 })),
        [b'"', ..] => (1, Some(Within::Text { raw: None })),
        [b'b', b'"', ..] if fresh => (2, Some(Within::Text { raw: None })),
        [b'r', ..] | [b'b', b'r', ..] if fresh => {
            let letters = if rest[0] == b'b' { 2 } else { 1 };
            let marks = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
            match rest.get(letters + marks) {
                Some(b'"') => (letters + marks + 1, Some(Within::Text { raw: Some(marks) })),
                _ => (1, None),
            }
        }
        [b'\'', b'\\', ..] => {
            let end = rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(2, |end| end + 4);
            (end, None)
        }
        // A character, not a lifetime: the quote closes after one character of at most four bytes.
        [b'\'', ..] => {
            let close = (2..=5).find(|close| rest.get(*close) == Some(&b'\''));
            let one = close.filter(|close| {
                std::str::from_utf8(&rest[1..*close]).is_ok_and(|c| c.chars().count() == 1)
            });
            (one.map_or(1, |close| close + 1), None)
        }
        _ => (1, None),
    }
}

/// Length of the end of a string, if it ends here.
fn ends(rest: &[u8], raw: Option<usize>) -> Option<usize> {
    let marks = raw.unwrap_or(0);
    let closed = rest[0] == b'"'
        && rest[1..].iter().take(marks).filter(|byte| **byte == b'#').count() == marks;
    closed.then_some(1 + marks)
}

#[test]
fn code_and_strings_are_told_apart() {
    let source = Source::new(
        "a.rs",
        "let a = \"x // { \\\" y\"; // \" {\nlet b = r#\"q\" {\"#; /* { /* */ { */ let c: &'a str = '{';",
    );
    assert!(
        !source.code.contains("x //")
            && source.code.contains("let b")
            && source.code.contains("let c")
    );
    assert_eq!(source.code.matches('\n').count(), 1);
    assert!(source.strings.contains("x // {") && source.strings.contains("q\" {"));
    assert!(!source.strings.contains("let"));
    let braces = Source::new("a.rs", "fn f() { let x = b\"{\"; let y = '\\''; let z = \"}\"; }");
    assert_eq!(braces.code.matches('}').count(), 1);
}

#[test]
fn tests_at_the_end_are_left_out() {
    let source = Source::new(
        "a.rs",
        "fn a() {}\n#[cfg(test)]\nuse x;\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n",
    );
    assert!(source.before_tests(&source.code).contains("use x"));
    assert!(!source.before_tests(&source.code).contains("fn b"));
    assert_eq!(Source::new("a/tests.rs", "fn a() {}").before_tests("fn a() {}"), "");
}
