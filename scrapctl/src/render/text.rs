//! Small texts: clean words, sizes, ages, moments, colours.

use anstyle::{AnsiColor, Style};
use scrap_schema::api::WaitingView;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::{Bytes, Span};

/// How text may look where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Colours.
    pub(crate) color: bool,
    /// Letters beyond ASCII.
    pub(crate) utf8: bool,
}

/// What a word means for the reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Down or lost.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
}

impl Theme {
    /// Text in a tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => color(AnsiColor::Green),
            Tone::Warn => color(AnsiColor::Yellow),
            Tone::Bad => color(AnsiColor::Red).bold(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Between from and to.
    pub(crate) fn arrow(self) -> &'static str {
        if self.utf8 { "→" } else { "->" }
    }

    /// Where there is nothing to say.
    pub(crate) fn dash(self) -> &'static str {
        if self.utf8 { "–" } else { "-" }
    }

    /// In front of what is done.
    pub(crate) fn tick(self) -> &'static str {
        if self.utf8 { "✓" } else { "+" }
    }

    /// In front of what went wrong.
    pub(crate) fn cross(self) -> &'static str {
        if self.utf8 { "✗" } else { "x" }
    }

    /// In front of what is under way.
    pub(crate) fn dots(self) -> &'static str {
        if self.utf8 { "…" } else { "..." }
    }

    /// In front of an estimate.
    pub(crate) fn about(self) -> &'static str {
        if self.utf8 { "≈" } else { "about" }
    }
}

/// The reader's present and place.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Now.
    pub(crate) now: Timestamp,
    /// Where.
    pub(crate) zone: jiff::tz::TimeZone,
}

impl Clock {
    /// `2026-11-21 02:54:30`.
    pub(crate) fn moment(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(moment) => {
                moment.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
            }
            Err(_) => at.to_string(),
        }
    }

    /// Text from the cluster, safe as by [`clean`]; moments in it are written as all others here.
    pub(crate) fn words(&self, text: &str) -> String {
        let word = |word: &str| {
            let bare = word.trim_end_matches([',', ';', ':', '.', ')']);
            match bare.parse::<jiff::Timestamp>() {
                Ok(at) => {
                    let rest = word.strip_prefix(bare).unwrap_or_default();
                    format!("{}{rest}", self.moment(Timestamp(at.as_millisecond())))
                }
                Err(_) => word.to_owned(),
            }
        };
        let words: Vec<String> = clean(text).split(' ').map(word).collect();
        words.join(" ")
    }

    /// `3 min ago`.
    pub(crate) fn ago(&self, at: Timestamp) -> String {
        format!("{} ago", self.now.since(at).rounded())
    }

    /// `3m`.
    pub(crate) fn age(&self, at: Timestamp) -> String {
        short_span(self.now.since(at).ms())
    }
}

/// Text from the cluster, safe for a terminal and on one line: control characters, and characters that turn the
/// direction of writing or are not seen, become escapes.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => clean.push_str("\\n"),
            '\t' => clean.push_str("\\t"),
            letter if is_unsafe(letter) => clean.extend(letter.escape_unicode()),
            letter => clean.push(letter),
        }
    }
    clean
}

/// Whether a letter does something to the terminal instead of being seen.
pub(crate) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// JSON text whose strings hold no letters that do something to a terminal. JSON escapes the ones below U+0020 itself;
/// the others can only stand inside strings, where their escapes mean the same.
pub(crate) fn clean_json(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => clean.push(letter),
            letter if is_unsafe(letter) => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    clean.push_str(&format!("\\u{unit:04x}"));
                }
            }
            letter => clean.push(letter),
        }
    }
    clean
}

/// A span in a table: `<1s`, `9s`, `3m`, `2h`, `5d`.
pub(crate) fn short_span(ms: u64) -> String {
    match ms {
        0..=999 => "<1s".to_owned(),
        1_000..=119_999 => format!("{}s", ms / 1000),
        120_000..=7_199_999 => format!("{}m", ms / 60_000),
        7_200_000..=172_799_999 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// A span in a sentence: `9 s`, `3 min`.
pub(crate) fn span(ms: u64) -> String {
    Span::from_ms(ms).rounded()
}

/// A size in a table: `38M`, `1.2G`.
pub(crate) fn short_size(size: Bytes) -> String {
    let (number, unit) = short_parts(size);
    format!("{number}{unit}")
}

fn short_parts(size: Bytes) -> (String, &'static str) {
    const UNITS: [(&str, u64); 4] =
        [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    // The size at which the next smaller unit would show four digits.
    let unit = UNITS.into_iter().find(|(_, unit)| size.get() >= unit / 1024 * 1000);
    let Some((name, unit)) = unit else { return (size.get().to_string(), "B") };
    let tenths = (u128::from(size.get()) * 10 + u128::from(unit) / 2) / u128::from(unit);
    let number = match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole @ 0..=9, tenth) => format!("{whole}.{tenth}"),
        (whole, tenth) => (whole + u128::from(tenth >= 5)).to_string(),
    };
    (number, name)
}

/// What is used of what there is: `38/256M`, `410M/1G`.
pub(crate) fn used_of(used: Bytes, all: Bytes) -> String {
    let ((number, unit), (_, all_unit)) = (short_parts(used), short_parts(all));
    let unit = if unit == all_unit || number == "0" { "" } else { unit };
    format!("{number}{unit}/{}", short_size(all))
}

/// `1 grain`, `3 grains`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Labels on one line.
pub(crate) fn labels(labels: &scrap_schema::spec::Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{}={}", clean(key), clean(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// What waits, with its reason and its hint, as indented lines.
pub(crate) fn waiting(waiting: &WaitingView, theme: Theme) -> String {
    let subject = clean(&waiting.subject);
    let mut text = theme.paint(Tone::Warn, "waiting");
    text.push_str(&format!(": {subject}: {}\n", clean(&waiting.reason)));
    if let Some(hint) = &waiting.hint {
        text.push_str(&self::hint(hint, theme));
    }
    text
}

/// `  hint: …`, a line.
pub(crate) fn hint(hint: &str, theme: Theme) -> String {
    format!("  {} {}\n", theme.paint(Tone::Strong, "hint:"), clean(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_cluster_reaches_the_terminal_as_a_command() {
        assert_eq!(clean("a\x1b[31mb\x07"), "a\\u{1b}[31mb\\u{7}");
        assert_eq!(clean("two\nlines\tand\u{9b}1m"), "two\\nlines\\tand\\u{9b}1m");
        assert_eq!(clean("abc\u{202e}txt.exe"), "abc\\u{202e}txt.exe");
        assert_eq!(clean("größe → ok"), "größe → ok");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a": "x\u{9b}y\u{202e}\u{1b}"});
        let text = clean_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn moments_in_words_are_written_as_all_others() {
        let clock = Clock { now: Timestamp(0), zone: jiff::tz::TimeZone::UTC };
        let text =
            "kept until 2026-11-28T03:50:46.177Z: ada, (2026-11-28T03:50:46Z)  at 2026-11-28";
        let said = "kept until 2026-11-28 03:50:46: ada, (2026-11-28T03:50:46Z)  at 2026-11-28";
        assert_eq!(clock.words(text), said);
    }

    #[test]
    fn sizes_are_short() {
        let check = |bytes, text| assert_eq!(short_size(Bytes(bytes)), text);
        check(0, "0B");
        check(999, "999B");
        check(1 << 10, "1K");
        check(1536, "1.5K");
        check(38 << 20, "38M");
        check((1 << 30) - 1, "1G");
        check(1 << 30, "1G");
        check(1_288_490_189, "1.2G");
        check(13 << 40, "13T");
    }

    #[test]
    fn use_is_told_in_the_unit_of_the_whole() {
        assert_eq!(used_of(Bytes(38 << 20), Bytes(256 << 20)), "38/256M");
        assert_eq!(used_of(Bytes(410 << 20), Bytes(1 << 30)), "410M/1G");
        assert_eq!(used_of(Bytes(0), Bytes(1 << 30)), "0/1G");
    }

    #[test]
    fn spans_are_short() {
        let all = [0, 999, 1_000, 119_999, 120_000, 7_200_000, 172_800_000].map(short_span);
        assert_eq!(all, ["<1s", "<1s", "1s", "119s", "2m", "2h", "2d"]);
    }
}
