//! The shape of a source: how it begins, how long it and its functions are, words that mean unfinished work.
//!
//! A function is counted from the line of its `fn` to the line of its closing brace, both included. Comments and blank
//! lines count; lines that are inside a string do not (a golden is data), nor do attributes and the doc comment above.

use crate::every_source;
use crate::source::Source;

/// The end of a file.
const FILE_MAX: usize = 800;
/// The end of a function.
const FUNCTION_MAX: usize = 70;

/// Functions that are one list: a sentence for each variant of an enum, which is matched in full.
const EXEMPT: [(&str, &str); 1] = [("schema/src/command.rs", "fn fmt(")];

fn begins_with_its_room(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let good = first.starts_with("//! ") && first.len() > 8;
    if good {
        vec![]
    } else {
        vec![format!("{}: does not begin with `//!` and its room", source.path)]
    }
}

fn is_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_MAX {
        vec![]
    } else {
        vec![format!("{}: {lines} lines, at most {FILE_MAX}", source.path)]
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the body of a function ends that is declared at `at`; `None`: it has none.
fn end_of_body(code: &str, at: usize) -> Option<usize> {
    let (mut round, mut braces) = (0_i32, 0_i32);
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                // A brace inside the arguments belongs to a const expression.
                if braces == 0 && round == 0 {
                    return Some(at + offset);
                }
            }
            _ => (),
        }
    }
    None
}

fn functions_are_short(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("fn ") {
        let before = source.code[..at].bytes().next_back();
        let after = source.code[at + 3..].bytes().next();
        let declared = before.is_none_or(|byte| byte.is_ascii_whitespace() || byte == b'(')
            && after.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let Some(end) = declared.then(|| end_of_body(&source.code, at)).flatten() else { continue };
        let (first, last) = (line_of(&source.code, at), line_of(&source.code, end));
        let inside_a_string = (first..=last).filter(|line| {
            let nth =
                |text: &str| text.lines().nth(line - 1).is_some_and(|line| !line.trim().is_empty());
            nth(&source.strings) && !nth(&source.code)
        });
        let lines = last - first + 1 - inside_a_string.count();
        let exempt = EXEMPT.iter().any(|(path, declared)| {
            *path == source.path && source.code[at..].starts_with(declared)
        });
        if lines > FUNCTION_MAX && !exempt {
            found.push(format!(
                "{}:{first}: a function of {lines} lines, at most {FUNCTION_MAX}",
                source.path
            ));
        }
    }
    found
}

fn has_no_unfinished_work(source: &Source) -> Vec<String> {
    // The words are put together here so that this file does not hold them.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let code = [
        concat!("#[ig", "nore"),
        concat!("#[should_", "panic"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    let in_text = marks.iter().filter(|mark| source.text.contains(**mark));
    let in_code = code.iter().filter(|word| source.code.contains(**word));
    in_text.chain(in_code).map(|word| format!("{}: `{word}`", source.path)).collect()
}

fn has_no_conflict(source: &Source) -> Vec<String> {
    let marks = ["<".repeat(7), ">".repeat(7)];
    let lines = source.text.lines().filter(|line| marks.iter().any(|mark| line.starts_with(mark)));
    lines.map(|line| format!("{}: `{line}`", source.path)).collect()
}

#[test]
fn no_merge_is_left_half_done() {
    let text = format!("fn a() {{}}\n{} HEAD\n", "<".repeat(7));
    assert_eq!(has_no_conflict(&Source::new("a.rs", &text)).len(), 1);
    every_source(has_no_conflict);
}

#[test]
fn every_module_says_its_room() {
    assert_eq!(begins_with_its_room(&Source::new("a.rs", "use x;\n")).len(), 1);
    assert_eq!(begins_with_its_room(&Source::new("a.rs", "//!\n")).len(), 1);
    every_source(begins_with_its_room);
}

#[test]
fn no_file_is_too_long() {
    assert_eq!(is_short(&Source::new("a.rs", &"//\n".repeat(FILE_MAX + 1))).len(), 1);
    every_source(is_short);
}

#[test]
fn no_function_is_too_long() {
    let long = |lines: usize| {
        let body = "    let a = \"}\"; // }\n".repeat(lines - 2);
        Source::new(
            "a.rs",
            &format!("pub async fn long<const N: usize>(x: [u8; 3]) -> u8\nwhere\n{{\n{body}}}\n"),
        )
    };
    assert_eq!(functions_are_short(&long(FUNCTION_MAX - 2)).len(), 0);
    assert_eq!(functions_are_short(&long(FUNCTION_MAX - 1)).len(), 1);
    assert_eq!(
        functions_are_short(&Source::new(
            "a.rs",
            &format!("trait A {{\nfn a();\n{}}}", "\n".repeat(80))
        ))
        .len(),
        0
    );
    every_source(functions_are_short);
}

#[test]
fn nothing_is_left_for_later() {
    for bad in [
        concat!("// TO", "DO later"),
        concat!("#[ig", "nore]\nfn a() {}"),
        concat!("fn a() { to", "do!() }"),
    ] {
        assert_eq!(has_no_unfinished_work(&Source::new("a.rs", bad)).len(), 1, "{bad}");
    }
    every_source(has_no_unfinished_work);
}
