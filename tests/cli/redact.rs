//! Replaces what differs from run to run by its kind: ids, times, durations, sizes. Everything else is compared as it is.

/// Units of durations and of sizes, as `scrapctl` and the API write them.
const SPANS: [&str; 7] = ["ms", "s", "min", "m", "h", "d", "us"];
const SIZES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
/// Fields of JSON and YAML whose numbers are measured.
const MEASURED: [&str; 22] = [
    "lagMs",
    "index",
    "modifyIndex",
    "createdIndex",
    "tookMs",
    "silentMs",
    "downtimeMs",
    "expectedDowntimeMs",
    "windowMs",
    "worstLagMs",
    "cpu",
    "memory",
    "disk",
    "seq",
    "score",
    "pending",
    "rounds",
    "rate",
    "oldest",
    "lag_ms",
    "used",
    "newer",
];

/// How much differs from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Nothing but the texts that were named.
    Exact,
    /// Ids, times, durations, sizes.
    Usual,
    /// Every number that stands alone too.
    Numbers,
}

/// Fields whose values are guids, which YAML quotes if they could be numbers.
const GUIDS: [&str; 2] = ["guid", "snapshot"];

/// What to replace.
#[derive(Debug, Default)]
pub(crate) struct Redact {
    texts: Vec<(String, String)>,
}

impl Redact {
    pub(crate) fn replace(&mut self, text: &str, with: &str) {
        self.texts.push((text.to_owned(), with.to_owned()));
    }

    /// Line by line.
    pub(crate) fn text(&self, text: &str, level: Level) -> String {
        text.lines().map(|line| format!("{}\n", self.line(line, level))).collect()
    }

    /// One line.
    pub(crate) fn line(&self, line: &str, level: Level) -> String {
        let mut line = line.to_owned();
        for (text, with) in &self.texts {
            line = line.replace(text, with);
        }
        if level == Level::Exact {
            return line;
        }
        // What a grain or a node uses now.
        let used = line.trim_start().starts_with("cpu ");
        let numbers = used || level == Level::Numbers;
        if let Some(field) = measured(&line) {
            return field;
        }
        squeeze(&words(&line, numbers)).replace("<[span]", "[span]")
    }
}

/// `"lagMs": 1234,` and `lagMs: 1234`: the number goes, the field stays.
fn measured(line: &str) -> Option<String> {
    let (name, value) = line.split_once(": ")?;
    let bare = name.trim_start().trim_start_matches("- ").trim_matches('"');
    let number = value.trim_end_matches(',').trim_matches(['"', '\'']);
    // Whether what a copy lacks is known depends on how long ago it was measured.
    let unknown = bare == "pending" && number == "null";
    let guid = GUIDS.contains(&bare) && number.len() == 16;
    let number = MEASURED.contains(&bare) && number.starts_with(|c: char| c.is_ascii_digit());
    let comma = if value.ends_with(',') { "," } else { "" };
    (guid || number || unknown).then(|| format!("{name}: [measured]{comma}"))
}

fn is_word(byte: char) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, '.' | '-' | ':' | '_')
}

/// Replaces words, and a number together with the unit behind it.
fn words(line: &str, numbers: bool) -> String {
    let mut pieces: Vec<&str> = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let mut text = String::new();
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        // A dot or colon that ends a sentence is not part of its last word.
        let word = piece.trim_end_matches(['.', ':']);
        let tail = piece.get(word.len()..).unwrap_or_default();
        let unit = pieces.get(at + 2).filter(|_| pieces.get(at + 1) == Some(&" "));
        let bare = unit.map(|unit| unit.trim_end_matches(['.', ':']));
        match (kind(word), bare) {
            (Some(kind), _) => text.push_str(&format!("[{kind}]{tail}")),
            (None, Some(unit)) if is_number(word) && SPANS.contains(&unit) => {
                text.push_str("[span]");
                at += 2;
            }
            (None, Some(unit)) if is_number(word) && SIZES.contains(&unit) => {
                text.push_str("[size]");
                at += 2;
            }
            // A share of a size: `3/24G` and `2.9/24G` are the same.
            (None, _) if numbers && is_number(word) && is_share(&pieces, at) => {
                text.push_str("[size]");
            }
            // How full a disk is.
            (None, _)
                if is_number(word)
                    && pieces.get(at + 1).is_some_and(|next| next.starts_with("% "))
                    && pieces.get(at + 2) == Some(&"full") =>
            {
                text.push_str("[n]");
            }
            // A number in front of everything else is an index of the log.
            (None, _) if is_number(word) && (numbers || text.trim().is_empty()) => {
                text.push_str(&format!("[n]{tail}"));
            }
            (None, _) if numbers && count(word).is_some() => {
                text.push_str(&count(word).unwrap_or_default());
            }
            (None, _) => text.push_str(piece),
        }
        at += 1;
    }
    text
}

/// Whether a slash and a size follow.
fn is_share(pieces: &[&str], at: usize) -> bool {
    let whole = pieces.get(at + 2).and_then(|whole| count(whole));
    pieces.get(at + 1) == Some(&"/") && whole.as_deref() == Some("[size]")
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// `64G`, and `bob:804` of a list in one cell.
fn count(word: &str) -> Option<String> {
    if word.strip_suffix(['K', 'M', 'G', 'T']).is_some_and(is_number) {
        return Some("[size]".to_owned());
    }
    let (name, number) = word.rsplit_once(':')?;
    is_number(number).then(|| format!("{name}:[n]"))
}

/// What kind of changing word this is.
fn kind(word: &str) -> Option<&'static str> {
    let bytes = word.as_bytes();
    let id = |c: &u8| c.is_ascii_digit() || c.is_ascii_lowercase();
    if bytes.len() == 26 && bytes.iter().all(id) && word.starts_with('0') {
        return Some("id");
    }
    if bytes.len() == 36 && word.matches('-').count() == 4 {
        return Some("request");
    }
    if bytes.len() >= 16 && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Some("hash");
    }
    if word.starts_with("20") && word.contains('T') && word.ends_with('Z') {
        return Some("time");
    }
    let digits = |c: char| c.is_ascii_digit() || c == ':' || c == '.';
    if bytes.len() >= 5 && word.find(':') == Some(2) && word.chars().all(digits) {
        return Some("time");
    }
    if bytes.len() == 10 && word.starts_with("20") && word.matches('-').count() == 2 {
        return Some("date");
    }
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if unit.len() < word.len() && SPANS.contains(&unit) {
        return Some("span");
    }
    None
}

/// Columns are as wide as their widest cell, which may have been replaced.
fn squeeze(line: &str) -> String {
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut text = indent.clone();
    let mut spaces = 0;
    for c in line.get(indent.len()..).unwrap_or_default().chars() {
        if c == ' ' {
            spaces += 1;
            continue;
        }
        text.push_str(&" ".repeat(spaces.min(2)));
        spaces = 0;
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: Level, line: &str, expected: &str) {
        assert_eq!(Redact::default().line(line, level), expected);
    }

    #[test]
    fn what_changes_is_replaced_by_its_kind() {
        let check = |line, expected| check(Level::Usual, line, expected);
        check("web   running   0.8 s  1.2 MiB", "web  running  [span]  [size]");
        check("at 2026-11-21T02:07:23.085Z: done", "at [time]: done");
        check("operation 01m7xxqgk6eqss63e6a10qg2n3 of web", "operation [id] of web");
        check("  \"lagMs\": 1234,", "  \"lagMs\": [measured],");
        check("  pending: 0B", "  pending: [measured]");
        check("  pending: null", "  pending: [measured]");
        check("  lagMs: null", "  lagMs: null");
        check("took 350ms.", "took [span].");
        check("  \"snapshot\": \"c7d368abcdef0123\",", "  \"snapshot\": [measured],");
        check("  snapshot: '0123456789012345'", "  snapshot: [measured]");
        check("     49  grain book, epoch 4", "     [n]  grain book, epoch 4");
        check("  cpu  1.05 used of 64 cores", "  cpu  [n] used of [n] cores");
    }

    #[test]
    fn what_stays_is_left_alone() {
        let check = |line| check(Level::Usual, line, line);
        check("grain web is on node ada, epoch 2");
        check("  copies: 2");
        check("at 127.0.0.1:1 nobody listens");
    }

    #[test]
    fn levels_replace_more_or_less() {
        check(Level::Exact, "every 15s  2 copies", "every 15s  2 copies");
        check(Level::Numbers, "every 15s  2 copies", "every [span]  [n] copies");
        check(Level::Numbers, "bob:804,64G", "bob:[n],[size]");
    }
}
